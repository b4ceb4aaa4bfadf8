//! An engine that fails or stops where it is told to, over any other; for tests.
//!
//! A fault is planned for the nth read, write or sync, counted from the last plan. A read is one `get` or one `range`, of
//! the engine or of a snapshot; a write is one commit of something; a sync belongs to each commit with
//! [`Durability::Sync`], after its write. A read that fails answers nothing.
//!
//! - [`Fault::Fail`]: that one fails, and nothing of it is written. What comes after goes well.
//! - [`Fault::Stop`]: as if the process had died there: it fails, and everything after it. A commit that stops at its
//!   write is not there; one that stops at its sync is, though its committer is told `Unavailable`. What became of it is
//!   seen in the engine below.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::group::lock;
use crate::{Batch, Direction, Durability, Engine, Error, KeyRange, Read, Result, Visitor};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// One `get` or `range`.
    Read,
    /// One commit of something.
    Write,
    /// The sync of one commit that asks for it.
    Sync,
}

/// How it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Once.
    Fail,
    /// From there on.
    Stop,
}

/// A fault to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where.
    pub action: Action,
    /// At which of them, counted from 1.
    pub nth: u64,
    /// How.
    pub fault: Fault,
}

/// How many of each were begun since the last plan, those that failed included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// Reads.
    pub n_reads: u64,
    /// Writes.
    pub n_writes: u64,
    /// Syncs.
    pub n_syncs: u64,
}

/// An engine with faults.
pub struct Faulty {
    below: Arc<dyn Engine>,
    fate: Arc<Fate>,
}

#[derive(Default)]
struct Fate(Mutex<State>);

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    begun: Begun,
    is_stopped: bool,
}

impl Faulty {
    /// Passes everything on to `below`, save what `plan` says.
    #[must_use]
    pub fn new(below: Arc<dyn Engine>, plan: Option<Plan>) -> Self {
        let faulty = Self { below, fate: Arc::default() };
        faulty.plan(plan);
        faulty
    }

    /// Plans another fault, or none; counts begin anew, and a stopped engine goes on.
    pub fn plan(&self, plan: Option<Plan>) {
        *lock(&self.fate.0) = State { plan, ..State::default() };
    }

    /// What was begun since the last plan.
    #[must_use]
    pub fn begun(&self) -> Begun {
        lock(&self.fate.0).begun
    }

    /// Whether it has stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        lock(&self.fate.0).is_stopped
    }
}

impl Fate {
    /// Counts `action`; the fault that is planned for it.
    fn begin(&self, action: Action) -> Result<Option<Fault>> {
        let mut state = lock(&self.0);
        if state.is_stopped {
            return Err(failed("reach"));
        }
        let State { plan, begun, is_stopped } = &mut *state;
        let n_begun = match action {
            Action::Read => &mut begun.n_reads,
            Action::Write => &mut begun.n_writes,
            Action::Sync => &mut begun.n_syncs,
        };
        *n_begun += 1;
        let fault = plan.filter(|plan| plan.action == action && plan.nth == *n_begun).map(|plan| plan.fault);
        *is_stopped = fault == Some(Fault::Stop);
        Ok(fault)
    }

    fn read(&self) -> Result<()> {
        self.begin(Action::Read)?.map_or(Ok(()), |_| Err(failed("read")))
    }
}

impl Read for Faulty {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.fate.read()?;
        self.below.get(key)
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        self.fate.read()?;
        self.below.range(range, direction, visit)
    }
}

impl Engine for Faulty {
    fn commit(&self, batch: &Batch, durability: Durability) -> Result<()> {
        if batch.is_empty() {
            return self.below.commit(batch, durability);
        }
        if self.fate.begin(Action::Write)?.is_some() {
            return Err(failed("write"));
        }
        let fault = if durability == Durability::Sync { self.fate.begin(Action::Sync)? } else { None };
        match fault {
            None => self.below.commit(batch, durability),
            Some(Fault::Fail) => Err(failed("sync")),
            Some(Fault::Stop) => {
                self.below.commit(batch, Durability::Os)?;
                Err(Error::Unavailable { dir: place(), pid: None, stopped: false, waited: Duration::ZERO })
            }
        }
    }

    fn snapshot(&self) -> Result<Arc<dyn Read>> {
        if self.is_stopped() {
            return Err(failed("reach"));
        }
        Ok(Arc::new(View { below: self.below.snapshot()?, fate: Arc::clone(&self.fate) }))
    }

    fn name(&self) -> &'static str {
        "faulty"
    }
}

struct View {
    below: Arc<dyn Read>,
    fate: Arc<Fate>,
}

impl Read for View {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.fate.read()?;
        self.below.get(key)
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        self.fate.read()?;
        self.below.range(range, direction, visit)
    }
}

fn failed(action: &'static str) -> Error {
    Error::io(action, &place(), io::Error::other("a fault was planned"))
}

fn place() -> PathBuf {
    PathBuf::from("(faulty)")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::Memory;

    /// Writes `i` under `i`, every other one synced, and reads it back; the keys that were acknowledged.
    fn work(engine: &Faulty) -> Vec<u8> {
        let mut acknowledged = Vec::new();
        for i in 0..6_u8 {
            let mut batch = Batch::new();
            batch.put(&[i], &[i]);
            let durability = if i % 2 == 0 { Durability::Os } else { Durability::Sync };
            if engine.commit(&batch, durability).is_ok() {
                acknowledged.push(i);
            }
            if let Ok(found) = engine.get(&[i]) {
                assert_eq!(found.is_some(), acknowledged.contains(&i), "what was refused is there");
            }
        }
        acknowledged
    }

    fn keys(engine: &dyn Read) -> Vec<u8> {
        let entries = engine.collect(KeyRange::all(), Direction::Ascending, 99).unwrap();
        entries.into_iter().map(|entry| entry.0[0]).collect()
    }

    #[test]
    fn one_that_fails_is_refused_alone_and_the_rest_goes_well() {
        for action in [Action::Write, Action::Sync] {
            for nth in 1..=3 {
                let below: Arc<Memory> = Arc::default();
                let engine = Faulty::new(below.clone(), Some(Plan { action, nth, fault: Fault::Fail }));
                let acknowledged = work(&engine);
                assert_eq!(acknowledged.len(), 5, "{action:?} {nth}");
                assert_eq!(keys(&*below), acknowledged);
                assert!(!engine.is_stopped());
            }
        }
        let engine =
            Faulty::new(Arc::<Memory>::default(), Some(Plan { action: Action::Read, nth: 2, fault: Fault::Fail }));
        let snapshot = engine.snapshot().unwrap();
        assert!(engine.get(b"x").is_ok());
        assert!(snapshot.get(b"x").unwrap_err().to_string().contains("could not read `(faulty)`"));
        assert!(snapshot.get(b"x").is_ok());
        assert_eq!(engine.begun(), Begun { n_reads: 3, ..Begun::default() });
    }

    #[test]
    fn one_that_stopped_answers_nothing_more_and_what_lies_below_tells_what_became() {
        for (action, nth, expected) in [
            (Action::Write, 1, vec![]),
            (Action::Write, 4, vec![0, 1, 2]),
            (Action::Sync, 1, vec![0, 1]),
            (Action::Sync, 2, vec![0, 1, 2, 3]),
            (Action::Read, 3, vec![0, 1, 2]),
        ] {
            let below: Arc<Memory> = Arc::default();
            let engine = Faulty::new(below.clone(), Some(Plan { action, nth, fault: Fault::Stop }));
            let acknowledged = work(&engine);
            assert_eq!(keys(&*below), expected, "{action:?} {nth}");
            let n_unknown = usize::from(action == Action::Sync);
            assert_eq!(acknowledged.len() + n_unknown, expected.len(), "{action:?} {nth}");
            assert!(engine.is_stopped() && engine.get(b"x").is_err() && engine.snapshot().is_err());
            engine.plan(None);
            assert_eq!(keys(&engine), expected);
        }
    }
}
