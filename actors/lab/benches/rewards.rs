//! The mathematics and records of reward studies at the size of their papers: `cargo bench -p tracker-lab --bench rewards`. Bars: 1 s CPU
//! for labels of 1.4 M prefixes, 3 s for 1,000 resamples of a 405-point curve over 1,000 prompts on two cores.
#![allow(clippy::print_stdout, reason = "figures go to the terminal")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod clock;

use std::hint::black_box;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tracker_lab::Relabel;
use tracker_lab::parts::best_of::{Aggregator, Curves, first_greatest};
use tracker_lab::parts::bootstrap::{CurveSet, Resampler};
use tracker_lab::parts::correlate::{kendall, spearman};
use tracker_lab::parts::labels::{Definition, Estimator, Table};
use tracker_lab::parts::rows::{ErPrm, Ids, Options, Reader};
use tracker_store::{Durability, NewRun, Plan, Recording, RowKey, RunId, Stage, Store, Tally};

use clock::once;

const N_PROMPTS: usize = 1000;
const N_SAMPLES: usize = 405;

fn main() {
    let mut stream = ChaCha8Rng::seed_from_u64(1);
    labels(&mut stream);
    let curves = once("best-of-405 curves of 1,000 prompts, two sets, weights included", || {
        let weights = Curves::new(N_SAMPLES).unwrap();
        let mut set = || {
            let curve = |_| {
                let scores: Vec<f64> = (0..N_SAMPLES).map(|_| stream.random_range(-1.0..1.0)).collect();
                let gold: Vec<f64> = scores.iter().map(|score| 0.5 * score + stream.random_range(-1.0..1.0)).collect();
                weights.curve(&scores, &gold).unwrap()
            };
            CurveSet::new((0..N_PROMPTS).map(curve)).unwrap()
        };
        [set(), set()]
    });
    let resampler = Resampler::new([7; 32], 1000).unwrap();
    once("1,000 resamples of a 405-point curve over 1,000 prompts", || black_box(resampler.bands(&curves[0])));
    once("the same of two methods, paired", || black_box(resampler.paired(&curves[0], &curves[1]).unwrap()));
    let xs: Vec<f64> = (0..1_000_000).map(|_| f64::from(stream.random_range(0..1000_u32))).collect();
    let ys: Vec<f64> = xs.iter().map(|x| x + stream.random_range(0.0..500.0)).collect();
    once("Spearman of 1,000,000", || black_box(spearman(&xs, &ys).unwrap()));
    once("Kendall of 1,000,000", || black_box(kendall(&xs, &ys).unwrap()));
    rows(&mut stream);
    relabel(&mut stream);
}

/// A stored run of 273,000 trajectories: read, labelled anew, recorded with an edge to each old label.
fn relabel(stream: &mut ChaCha8Rng) {
    let dir = std::env::temp_dir().join(format!("tracker-relabel-{}", std::process::id()));
    let store = Store::create(&dir).unwrap();
    let run = stored(&store, stream);
    let ask = |dry_run| Relabel { run, estimator: Estimator::Entropic(5.0), from: None, dry_run };
    let done = once("a stored run of 273,000 trajectories: read and labelled anew", || ask(true).run(&store).unwrap());
    once("the same, recorded with an edge to each old label", || ask(false).run(&store).unwrap());
    println!("  ({} of {} labels changed)", done.labels.n_changed, done.labels.n);
    drop(store);
    std::fs::remove_dir_all(&dir).unwrap();
}

fn stored(store: &Store, stream: &mut ChaCha8Rng) -> RunId {
    const N_PROMPTS: u32 = 18_200;
    let new = NewRun {
        name: "labels".into(),
        experiment: "bench".into(),
        study: String::new(),
        plan: Plan::new(""),
        seed: 1,
        device: "cpu".into(),
        host: "here".into(),
        versions: std::collections::BTreeMap::new(),
    };
    let run = store.create_run(&new).unwrap().id;
    let soft = Definition::new(Estimator::Soft);
    for start in (0..N_PROMPTS).step_by(1300) {
        let mut recording = Recording::new();
        recording.put_stage(run, &Stage { name: "rollouts".into(), ordinal: 0 }).unwrap();
        let scorer = recording.put(run, &soft.program()).unwrap();
        for (item, k) in (start..start + 1300).flat_map(|item| (0..15).map(move |k| (item, k))) {
            let n_steps = 5 + item % 2;
            let tallies: Vec<Tally> =
                (0..n_steps).map(|_| Tally { hits: stream.random_range(0..=16), of: 16 }).collect();
            recording
                .put_reward(RowKey::new(run, "rollouts", item, k), &soft.reward(scorer, &tallies).unwrap())
                .unwrap();
        }
        store.commit(&recording, Durability::Os).unwrap();
    }
    run
}

/// 1.4 M prefixes of 273,000 trajectories, 15 a prompt, with winners by four aggregators.
fn labels(stream: &mut ChaCha8Rng) {
    const N_TRAJECTORIES: usize = 273_000;
    let tallies: Vec<Vec<Tally>> = (0..N_TRAJECTORIES)
        .map(|nth| (0..5 + nth % 2).map(|_| Tally { hits: stream.random_range(0..=16), of: 16 }).collect())
        .collect();
    let n: usize = tallies.iter().map(Vec::len).sum();
    let labels = once(&format!("labels of {n} prefixes at η = 5"), || {
        let mut table = Table::new(Estimator::Entropic(5.0));
        let mut label = |tallies: &Vec<Tally>| tallies.iter().map(|tally| table.label(*tally).unwrap()).collect();
        tallies.iter().map(&mut label).collect::<Vec<Vec<f64>>>()
    });
    once("the same without a table", || {
        let label = |tally: &Tally| Estimator::Entropic(5.0).label(*tally).unwrap();
        black_box(tallies.iter().flatten().map(label).sum::<f64>())
    });
    once("winners of 18,200 prompts by four aggregators", || {
        for aggregator in Aggregator::ALL {
            for group in labels.chunks(15) {
                let scores: Vec<f64> = group.iter().map(|labels| aggregator.score(labels).unwrap()).collect();
                black_box(first_greatest(&scores).unwrap());
            }
        }
    });
}

fn rows(stream: &mut ChaCha8Rng) {
    const N_ROWS: usize = 100_000;
    let path = std::env::temp_dir().join(format!("tracker-rows-{}.jsonl", std::process::id()));
    let step = "We add two and two and get four, which we multiply by three to get twelve. ки\\n".repeat(5);
    let row = |nth: usize| {
        let values: Vec<String> = (0..5).map(|_| format!("{:.3}", stream.random_range(0.0..1.0))).collect();
        format!("{{\"text\": \"{nth} {step}\", \"value\": [{}]}}\n", values.join(", "))
    };
    let text: String = (0..N_ROWS).map(row).collect();
    std::fs::write(&path, &text).unwrap();
    let options = Options { ids: Ids::Content, n_rows: Some(N_ROWS as u64), skip_bad: false };
    let what = format!("{N_ROWS} ER-PRM rows, {:.0} MB of JSON lines", text.len() as f64 / 1e6);
    once(&what, || {
        let reader = Reader::open(ErPrm::default(), std::slice::from_ref(&path), options).unwrap();
        assert_eq!(reader.map(Result::unwrap).count(), N_ROWS);
    });
    std::fs::remove_file(&path).unwrap();
}
