//! Large batches under kill -9: each is there whole or not at all, and what was acknowledged is there.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking; children talk over stdout")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use tracker_engine::{Batch, Direction, Durability, KeyRange, Kind, Options, open};

const ROLE_DIR: &str = "TRACKER_ENGINE_TEST_BATCHES";
const N_KEYS: u32 = 400;

/// Writes every key anew in each batch, of two megabytes in all, some cut into pieces; says each that was acknowledged.
fn write(dir: &Path) {
    let engine = open(dir, &Options::default()).unwrap();
    let first = engine.get(b"round").unwrap().map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
    for round in first + 1.. {
        let mut batch = Batch::new();
        batch.put(b"round", &round.to_be_bytes());
        for i in 0..N_KEYS {
            let n_words = if i % 50 == 0 { 10_000 } else { 1_000 };
            batch.put(&[b"k", &i.to_be_bytes()[..]].concat(), &round.to_be_bytes().repeat(n_words));
        }
        let durability = if round % 2 == 0 { Durability::Os } else { Durability::Sync };
        // The line is begun before the batch, so that a parent may kill in the middle of it.
        println!("\nbegin {round}");
        engine.commit(&batch, durability).unwrap();
        println!("\nacknowledged {round}");
    }
}

#[test]
fn a_large_batch_that_is_cut_off_by_a_kill_is_there_whole_or_not_at_all() {
    const TEST: &str = "a_large_batch_that_is_cut_off_by_a_kill_is_there_whole_or_not_at_all";
    if let Some(dir) = std::env::var_os(ROLE_DIR) {
        return write(Path::new(&dir));
    }
    for engine in Kind::ALL.into_iter().filter(|kind| kind.is_built()) {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), &Options { engine, ..Options::default() }).unwrap());
        let mut n_cut = 0;
        for nth in 1..10 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", TEST, "--nocapture"])
                .env(ROLE_DIR, dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut last = 0;
            let mut take = |line: &str| {
                if let Some(round) = line.strip_prefix("acknowledged ") {
                    last = round.parse().unwrap();
                }
            };
            // Killed a line later each time: just begun, or just acknowledged and on to the next.
            for line in lines.by_ref().map(Result::unwrap).filter(|line| line.contains(' ')).take(1 + nth) {
                take(&line);
            }
            child.kill().unwrap();
            child.wait().unwrap();
            lines.map_while(Result::ok).for_each(|line| take(&line));
            let store = open(dir.path(), &Options::default()).unwrap();
            let found = store.collect(KeyRange::all(), Direction::Ascending, usize::MAX).unwrap();
            let Some((_, round)) = found.last().filter(|entry| entry.0 == b"round") else {
                assert_eq!((found.len(), last), (0, 0), "{engine}");
                continue;
            };
            assert_eq!(found.len() as u32, N_KEYS + 1, "{engine}: a batch is there in part");
            for (key, value) in &found {
                assert!(value.chunks(4).all(|word| word == round), "{engine}: `{}` is mixed", key.escape_ascii());
            }
            let round = u32::from_be_bytes(round.as_slice().try_into().unwrap());
            assert!(round >= last, "{engine}: {last} was acknowledged, {round} is there");
            n_cut += usize::from(round == last);
        }
        assert!(n_cut > 0, "{engine}: no batch was cut off");
    }
}
