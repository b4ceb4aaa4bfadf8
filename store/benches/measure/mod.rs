//! Wall time, processor time and memory of this process, and how figures are printed.
#![allow(dead_code, clippy::print_stdout, reason = "each bench uses a part of it, and figures go to the terminal")]

use std::time::Instant;

use tracker_store::{
    Checkpoint, Cost, Digest, Durability, Finish, NewRun, NodeId, Outcome, Plan, Recording, RowKey, RunId, Sample,
    Stage, Statement, Store, Verdict, Verifier,
};

pub(crate) const STAGE: &str = "attempt";

/// Processor seconds of this process so far, user and system.
pub(crate) fn cpu_secs() -> f64 {
    cpu_secs_of(std::process::id())
}

/// Those of another process.
pub(crate) fn cpu_secs_of(process: u32) -> f64 {
    const TICKS_PER_SEC: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / TICKS_PER_SEC
}

/// The most memory this process held, in MB.
pub(crate) fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1000.0
}

/// Bytes of the files right in a folder.
pub(crate) fn size_of(dir: &std::path::Path) -> f64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|data| data.len() as f64)
        .sum()
}

/// Runs `work` once; prints wall and processor seconds.
pub(crate) fn once<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (cpu, wall) = (cpu_secs(), Instant::now());
    let result = work();
    println!(
        "{what}: {:.2} s wall, {:.2} s CPU, peak {:.0} MB",
        wall.elapsed().as_secs_f64(),
        cpu_secs() - cpu,
        peak_rss_mb()
    );
    result
}

/// Runs `work` nine times; prints the median in milliseconds.
pub(crate) fn median_millis<T>(what: &str, mut work: impl FnMut() -> T) -> T {
    let mut millis = Vec::new();
    let mut last = None;
    for _ in 0..9 {
        let wall = Instant::now();
        last = Some(work());
        millis.push(wall.elapsed().as_secs_f64() * 1000.0);
    }
    millis.sort_by(f64::total_cmp);
    println!("{what}: {:.2} ms (median of 9)", millis[4]);
    last.unwrap_or_else(|| unreachable!("nine is more than none"))
}

pub(crate) fn new_run(name: &str) -> NewRun {
    NewRun {
        name: name.to_owned(),
        experiment: "bench".to_owned(),
        study: "bench".to_owned(),
        plan: Plan::new("study = \"bench\"\n"),
        seed: 1,
        device: "cpu".to_owned(),
        host: "here".to_owned(),
        versions: std::collections::BTreeMap::new(),
    }
}

/// A run to record samples in.
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) run: RunId,
    pub(crate) policy: NodeId,
    pub(crate) verifier: Digest,
    pub(crate) statements: Vec<NodeId>,
}

impl Bench {
    pub(crate) fn new(store: Store, n_statements: u32) -> tracker_store::Result<Self> {
        let run = store.create_run(&new_run("bench"))?.id;
        let mut recording = Recording::new();
        recording.put_stage(run, &Stage { name: STAGE.to_owned(), ordinal: 0 })?;
        let policy = recording.put(run, &checkpoint(0))?;
        let verifier = Verifier {
            name: "kernel".to_owned(),
            version: "1".to_owned(),
            commit: String::new(),
            binary: Digest::of(b"binary"),
            flags: Vec::new(),
        };
        let verifier = recording.put(run, &verifier)?.digest().unwrap_or(Digest::of(b""));
        let statements = (0..n_statements).map(|nth| recording.put(run, &statement(nth))).collect::<Result<_, _>>()?;
        store.commit(&recording, Durability::Os)?;
        Ok(Self { store, run, policy, verifier, statements })
    }

    pub(crate) fn row(&self, item: u32, k: u32) -> RowKey {
        RowKey::new(self.run, STAGE, item, k)
    }

    pub(crate) fn sample(&self, item: u32, k: u32) -> Sample {
        Sample {
            subject: self.statements[item as usize % self.statements.len()],
            policy: self.policy,
            sampling: Digest::of(b"sampling"),
            seed: u64::from(item) << 32 | u64::from(k),
            text: format!("fun h1 => And.intro ( And.right h1 ) ( And.left h1 ) -- {item} {k}"),
            n_tokens: 14,
            sum_logprob: Some(-3.25),
            finish: Finish::Stop,
        }
    }

    pub(crate) fn verdict(&self, nth: u32) -> Verdict {
        Verdict {
            outcome: if nth.is_multiple_of(4) { Outcome::Proved } else { Outcome::Failed },
            verifier: self.verifier,
            statement: Digest::of(b"statement"),
            message: if nth.is_multiple_of(4) { String::new() } else { "expected `And p q`, got `p`".to_owned() },
            axioms: Vec::new(),
            sandboxed: false,
            cost: Cost { wall_micros: 12, cpu_micros: 10, peak_rss_bytes: None },
        }
    }
}

pub(crate) fn checkpoint(nth: u64) -> Checkpoint {
    Checkpoint {
        label: format!("round {nth}"),
        config: Digest::of(b"config"),
        manifest: Digest::of(&nth.to_be_bytes()),
        n_params: 1_000_000,
        step: nth,
    }
}

pub(crate) fn statement(nth: u32) -> Statement {
    Statement {
        name: format!("t{nth}"),
        header: String::new(),
        text: format!("theorem t{nth} (p q : Prop) (h : And p q) : And q p"),
        canonical: Digest::of(&nth.to_be_bytes()),
        style: String::new(),
        problem: None,
        formalizer: None,
        compiles: Some(true),
        faithful: None,
    }
}
