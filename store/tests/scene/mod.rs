//! A small store to stand tests in: one run with one stage, a statement of a problem, a policy and a verifier.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;

use tracker_store::{
    Checkpoint, Cost, Digest, Durability, Finish, NewRun, NodeId, Outcome, Plan, Problem, Recording, RowKey, RunId,
    Sample, Sampling, Stage, Statement, Store, Verdict, Verifier,
};

pub(crate) const STAGE: &str = "round 1/attempt";

pub(crate) struct Scene {
    pub(crate) store: Store,
    pub(crate) run: RunId,
    pub(crate) problem: NodeId,
    pub(crate) statement: NodeId,
    pub(crate) policy: NodeId,
    pub(crate) verifier: Digest,
    pub(crate) sampling: Digest,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::over(Store::memory().unwrap())
    }

    pub(crate) fn over(store: Store) -> Self {
        let run = store.create_run(&new_run("scene")).unwrap().id;
        let mut recording = Recording::new();
        recording.put_stage(run, &stage()).unwrap();
        let problem = recording.put(run, &problem()).unwrap();
        let policy = recording.put(run, &checkpoint("base")).unwrap();
        let statement = recording.put(run, &statement(problem.digest().unwrap(), policy, "p → p")).unwrap();
        let verifier = recording.put(run, &verifier()).unwrap().digest().unwrap();
        let sampling = recording.put(run, &sampling()).unwrap().digest().unwrap();
        store.commit(&recording, Durability::Os).unwrap();
        Self { store, run, problem, statement, policy, verifier, sampling }
    }

    pub(crate) fn row(&self, item: u32, k: u32) -> RowKey {
        RowKey::new(self.run, STAGE, item, k)
    }

    pub(crate) fn sample_and_verdict(&self, item: u32, k: u32, outcome: Outcome) {
        let mut recording = Recording::new();
        recording.put_sample(self.row(item, k), &sample(self, item, k)).unwrap();
        recording.put_verdict(self.row(item, k), &verdict(self, outcome)).unwrap();
        self.store.commit(&recording, Durability::Os).unwrap();
    }
}

pub(crate) fn new_run(name: &str) -> NewRun {
    NewRun {
        name: name.to_owned(),
        experiment: "proofs".to_owned(),
        study: "goedel".to_owned(),
        plan: Plan::new("study = \"goedel\"\n"),
        seed: 1,
        device: "cpu".to_owned(),
        host: "here".to_owned(),
        versions: BTreeMap::from([("tracker".to_owned(), "0.1.0".to_owned())]),
    }
}

pub(crate) fn stage() -> Stage {
    Stage { name: STAGE.to_owned(), ordinal: 0 }
}

pub(crate) fn problem() -> Problem {
    Problem { name: "p1".to_owned(), source: "made".to_owned(), text: "If p then p.".to_owned() }
}

pub(crate) fn statement(problem: Digest, formalizer: NodeId, text: &str) -> Statement {
    Statement {
        name: "t1".to_owned(),
        header: String::new(),
        text: format!("theorem t (p : Prop) : {text}"),
        canonical: Digest::of(text.as_bytes()),
        style: "arrows".to_owned(),
        problem: Some(problem),
        formalizer: Some(formalizer),
        compiles: Some(true),
        faithful: None,
    }
}

pub(crate) fn checkpoint(label: &str) -> Checkpoint {
    Checkpoint {
        label: label.to_owned(),
        config: Digest::of(b"config"),
        manifest: Digest::of(label.as_bytes()),
        n_params: 1000,
        step: 0,
    }
}

pub(crate) fn verifier() -> Verifier {
    Verifier {
        name: "kernel".to_owned(),
        version: "1".to_owned(),
        commit: String::new(),
        binary: Digest::of(b"binary"),
        flags: Vec::new(),
    }
}

pub(crate) fn sampling() -> Sampling {
    Sampling { temperature: 1.0, top_p: 0.95, max_tokens: 64, stop: Vec::new(), template: String::new() }
}

pub(crate) fn sample(scene: &Scene, item: u32, k: u32) -> Sample {
    Sample {
        subject: scene.statement,
        policy: scene.policy,
        sampling: scene.sampling,
        seed: u64::from(item) << 32 | u64::from(k),
        text: format!("fun h => h -- {item} {k}"),
        n_tokens: 4,
        sum_logprob: Some(-1.5),
        finish: Finish::Stop,
    }
}

pub(crate) fn verdict(scene: &Scene, outcome: Outcome) -> Verdict {
    Verdict {
        outcome,
        verifier: scene.verifier,
        statement: scene.statement.digest().unwrap(),
        message: String::new(),
        axioms: Vec::new(),
        sandboxed: false,
        cost: Cost { wall_micros: 12, cpu_micros: 10, peak_rss_bytes: Some(1 << 20) },
    }
}
