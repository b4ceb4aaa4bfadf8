//! Questions over 10,000 runs, or as many as are named (`-- 1000000`), and opening. Bars: filter and top-10 over 10,000 runs 5 ms; a first
//! page over 1,000,000 runs 50 ms; `tracker ls` on 100,000 runs (`TRACKER_BIN=…/tracker`) 30 ms.
#![allow(clippy::print_stdout, reason = "figures go to the terminal")]

mod measure;

use std::process::Command;

use measure::{median_millis, new_run, once};
use tracker_store::{Durability, Point, Query, Recording, Result, Store, Table};

fn main() -> Result<()> {
    let n_runs = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(10_000);
    let dir = std::env::temp_dir().join(format!("tracker-query-{}", std::process::id()));
    let result = bench(&dir, n_runs);
    drop(std::fs::remove_dir_all(&dir));
    result
}

fn bench(dir: &std::path::Path, n_runs: u32) -> Result<()> {
    let store = Store::create(dir)?;
    once(&format!("{n_runs} runs with 5 params and 5 metrics"), || fill(&store, n_runs))?;
    let ask = |what: &str, query: Query| -> Result<()> {
        let page = median_millis(what, || store.query(&query))?;
        println!("  {} rows", page.rows.len());
        Ok(())
    };
    let runs = || Query::new(Table::Runs);
    ask("newest 20", runs().limit(20))?;
    ask("top 10 by a metric", runs().order_by("metrics.m0 DESC")?.limit(10))?;
    ask("filter by param, top 10 by a metric", runs().filter("params.p0 = '7'")?.order_by("metrics.m0")?.limit(10))?;
    let lr = |filter: &str| {
        runs().filter(filter).and_then(|query| query.order_by("metrics.m0")).map(|query| query.limit(10))
    };
    ask("filter by a narrow range of a param, top 10 by a metric", lr("params.lr < 0.001 AND status = 'running'")?)?;
    ask("filter by a wide range of a param, top 10 by a metric", lr("params.lr < 0.9 AND params.p1 != '7'")?)?;
    ask("filter by a metric range, first 10", runs().filter("metrics.m1 > 9990")?.limit(10))?;
    ask("filter without an index, first 10", runs().filter("name LIKE '%999%'")?.limit(10))?;
    ask("filter without an index, all", runs().filter("name LIKE '%99%' OR seed = 3")?)?;
    drop(store);
    median_millis("opening and listing the newest 20", || {
        let store = Store::open(dir)?;
        store.query(&Query::new(Table::Runs).limit(20)).map(drop)
    })?;
    if let Some(binary) = std::env::var_os("TRACKER_BIN") {
        median_millis("`tracker ls`, the whole process", || {
            let listed = Command::new(&binary).arg("ls").env("TRACKER_STORE", dir).output();
            let listed = listed.unwrap_or_else(|error| panic!("{} did not start: {error}", binary.display()));
            assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
            Ok::<_, tracker_store::Error>(())
        })?;
    }
    Ok(())
}

fn fill(store: &Store, n_runs: u32) -> Result<()> {
    let mut ids = Vec::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..16)
            .map(|writer| {
                scope.spawn(move || {
                    let names = (0..n_runs).filter(|nth| nth % 16 == writer).map(|nth| (nth, format!("run {nth}")));
                    names
                        .map(|(nth, name)| store.create_run(&new_run(&name)).map(|run| (nth, run.id)))
                        .collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        for writer in writers {
            ids.extend(writer.join().unwrap_or_else(|_| Ok(Vec::new()))?);
        }
        Ok::<_, tracker_store::Error>(())
    })?;
    for part in ids.chunks(500) {
        let mut recording = Recording::new();
        for (nth, run) in part {
            recording.put_param(
                *run,
                "lr",
                &(f64::from(nth.wrapping_mul(7919) % n_runs) / f64::from(n_runs)).to_string(),
            )?;
            for key in 0..5 {
                recording.put_param(*run, &format!("p{key}"), &(nth % 50).to_string())?;
                recording.put_points(*run, &format!("m{key}"), &[Point::new(0, 0, f64::from(*nth))])?;
            }
        }
        store.commit(&recording, Durability::Os)?;
    }
    Ok(())
}
