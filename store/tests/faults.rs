//! An engine that fails or stops at any read, write or sync: nothing half is recorded, and what goes on ends the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;

use std::sync::Arc;

use scene::{STAGE, checkpoint, new_run, problem, sampling, stage, verifier};
use tracker_engine::faulty::{Action, Begun, Fault, Faulty, Plan};
use tracker_engine::{Engine, Memory};
use tracker_store::{Digest, Durability, Ending, Finish, Point, Recording, Result, RowKey, Sample, Status, Store};

const N_ITEMS: u32 = 4;

/// Records a run, or goes on with the one that was begun; its record digest.
fn record(engine: &Arc<dyn Engine>) -> Result<Digest> {
    let store = Store::over(Arc::clone(engine), None)?;
    let begun = store.runs().next().transpose()?;
    let run = match begun {
        Some(run) => store.resume_run(run.id)?.id,
        None => store.create_run(&new_run("faults"))?.id,
    };
    let mut recording = Recording::new();
    recording.put_stage(run, &stage())?;
    recording.put_param(run, "lr", "0.1")?;
    let subject = recording.put(run, &problem())?;
    let policy = recording.put(run, &checkpoint("base"))?;
    recording.put(run, &verifier())?;
    let sampling = recording.put(run, &sampling())?.digest().unwrap();
    store.commit(&recording, Durability::Sync)?;
    for item in 0..N_ITEMS {
        let mut recording = Recording::new();
        let sample = Sample {
            subject,
            policy,
            sampling,
            seed: u64::from(item),
            text: format!("answer {item}"),
            n_tokens: 2,
            sum_logprob: None,
            finish: Finish::Stop,
        };
        recording.put_sample(RowKey::new(run, STAGE, item, 0), &sample)?;
        recording.put_points(run, "loss", &[Point::new(i64::from(item), 1_000, 0.5)])?;
        store.commit(&recording, if item % 2 == 0 { Durability::Os } else { Durability::Sync })?;
    }
    let mut draft = store.draft("file")?;
    draft.add("weights", &mut [7_u8; 5_000].as_slice())?;
    draft.save("model", &["best"], Some(run))?;
    let digest = store.record_digest(run)?;
    store.end_run(run, &Ending { status: Status::Finished, message: String::new(), record_digest: Some(digest) })?;
    Ok(digest)
}

/// What a reader finds is whole: every row has its run, every sample its point, an alias its version.
fn assert_whole(engine: &Arc<dyn Engine>) {
    let store = Store::over(Arc::clone(engine), None).unwrap();
    let runs: Vec<_> = store.runs().map(Result::unwrap).collect();
    assert!(runs.len() <= 1, "a run was begun twice");
    for run in runs {
        let n_samples = store.samples(run.id, None).map(Result::unwrap).count();
        assert_eq!(store.history(run.id, "loss", None).unwrap().map(Result::unwrap).count(), n_samples);
        assert!(n_samples == 0 || store.params(run.id).unwrap().contains_key("lr"));
    }
    if let Ok(version) = store.artifact("model:best") {
        let manifest = store.manifest(&version).unwrap();
        assert_eq!(store.read_file(manifest.file("weights").unwrap().digest).unwrap(), [7; 5_000]);
    }
}

#[test]
fn a_store_over_an_engine_that_fails_or_stops_anywhere_is_whole_and_goes_on_to_the_same_records() {
    let undisturbed: Arc<dyn Engine> = Arc::new(Memory::new());
    let expected = record(&undisturbed).unwrap();
    for action in [Action::Write, Action::Sync, Action::Read] {
        for fault in [Fault::Fail, Fault::Stop] {
            let mut n_disturbed = 0;
            for nth in 1.. {
                let below: Arc<dyn Engine> = Arc::new(Memory::new());
                let faulty = Arc::new(Faulty::new(Arc::clone(&below), Some(Plan { action, nth, fault })));
                let engine: Arc<dyn Engine> = faulty.clone();
                let recorded = record(&engine);
                let Begun { n_reads, n_writes, n_syncs } = faulty.begun();
                let n_begun = match action {
                    Action::Read => n_reads,
                    Action::Write => n_writes,
                    Action::Sync => n_syncs,
                };
                if n_begun < nth {
                    assert_eq!(recorded.unwrap(), expected);
                    break;
                }
                assert!(recorded.is_err(), "{fault:?} at {action:?} {nth} was passed over");
                n_disturbed += 1;
                assert_whole(&below);
                // The next process goes on where this one was.
                faulty.plan(None);
                assert_eq!(record(&engine).unwrap(), expected, "{fault:?} at {action:?} {nth}");
                assert_whole(&below);
            }
            assert!(n_disturbed > 3, "{fault:?} at {action:?} was met {n_disturbed} times");
        }
    }
}

#[test]
fn a_verdict_of_a_stopped_engine_is_told_as_unknown_and_never_as_done() {
    let below: Arc<dyn Engine> = Arc::new(Memory::new());
    let plan = Plan { action: Action::Sync, nth: 2, fault: Fault::Stop };
    let store = Store::over(Arc::new(Faulty::new(below, Some(plan))), None).unwrap();
    let run = store.create_run(&new_run("x")).unwrap().id;
    let mut recording = Recording::new();
    recording.put_param(run, "lr", "0.1").unwrap();
    let error = store.commit(&recording, Durability::Sync).unwrap_err();
    assert!(error.to_string().contains("did not answer"), "{error}");
    assert!(store.runs().next().unwrap().is_err());
}
