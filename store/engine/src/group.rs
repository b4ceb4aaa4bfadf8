//! Group commit: many committing threads, one transaction, one sync.
//!
//! There is no thread of its own and no tick. The first committer leads: it writes alone and at once. Those who come
//! while it syncs wait in line; when it is done it passes the lead to the first of them, who writes the whole line in one
//! transaction. So a lone writer is never delayed, and the more writers there are, the more of them share a sync.
//!
//! Invariant: every waiter is answered exactly once, by its own lead or by the leader that took it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Batch, Durability, Error, Result};

/// The most bytes of waiting batches one leader takes, so that a transaction stays in memory.
const MAX_GROUP_BYTES: usize = 16 << 20;

/// One commit of a group.
pub(crate) struct Member<'a> {
    pub(crate) batch: &'a Batch,
    /// What it must survive; a group is written with the strongest of its members.
    pub(crate) durability: Durability,
    /// Whether it was sent before and not answered, so that it may be applied already.
    pub(crate) resent: bool,
    /// What its committer is told; the writer of the group sets it.
    pub(crate) outcome: Result<()>,
}

impl<'a> Member<'a> {
    pub(crate) fn new(batch: &'a Batch, durability: Durability, resent: bool) -> Self {
        Self { batch, durability, resent, outcome: Ok(()) }
    }
}

/// Answers all members with an error that undid the whole group: a conflict, too, was judged against what is now undone.
pub(crate) fn refuse_all(members: &mut [Member<'_>], error: &Error) {
    for member in members {
        member.outcome = Err(error.clone());
    }
}

/// The line of committers.
#[derive(Default)]
pub(crate) struct Group {
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    has_leader: bool,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    batch: Batch,
    durability: Durability,
    resent: bool,
    turn: Arc<Turn>,
}

#[derive(Default)]
struct Turn {
    fate: Mutex<Option<Fate>>,
    decided: Condvar,
}

enum Fate {
    Done(Result<()>),
    /// Write your own batch and these.
    Lead(Vec<Waiter>),
}

impl Group {
    /// Commits `batch` through `write`, which writes a whole group in one transaction and sets each member's outcome.
    /// `write` must not panic: the rest of the group would wait for ever.
    pub(crate) fn commit(
        &self,
        batch: &Batch,
        durability: Durability,
        resent: bool,
        write: impl FnOnce(&mut [Member<'_>]),
    ) -> Result<()> {
        let turn = {
            let mut line = lock(&self.line);
            if line.has_leader {
                let turn = Arc::new(Turn::default());
                line.waiting.push_back(Waiter { batch: batch.clone(), durability, resent, turn: Arc::clone(&turn) });
                Some(turn)
            } else {
                line.has_leader = true;
                None
            }
        };
        let others = match turn.map(|turn| turn.wait()) {
            None => Vec::new(),
            Some(Fate::Lead(others)) => others,
            Some(Fate::Done(result)) => return result,
        };
        let _handover = Handover { group: self };
        let mut members = Vec::with_capacity(1 + others.len());
        members.push(Member::new(batch, durability, resent));
        members.extend(others.iter().map(|other| Member::new(&other.batch, other.durability, other.resent)));
        write(&mut members);
        let mut outcomes = members.into_iter().map(|member| member.outcome);
        let own = outcomes.next().unwrap_or(Ok(()));
        for (other, outcome) in others.iter().zip(outcomes) {
            other.turn.decide(Fate::Done(outcome));
        }
        own
    }
}

/// Passes the lead on when a leader is done.
struct Handover<'a> {
    group: &'a Group,
}

impl Drop for Handover<'_> {
    fn drop(&mut self) {
        let mut line = lock(&self.group.line);
        let Some(next) = line.waiting.pop_front() else {
            line.has_leader = false;
            return;
        };
        let mut n_bytes = next.batch.n_bytes();
        let n_others = line
            .waiting
            .iter()
            .take_while(|waiter| {
                n_bytes += waiter.batch.n_bytes();
                n_bytes <= MAX_GROUP_BYTES
            })
            .count();
        let others = line.waiting.drain(..n_others).collect();
        drop(line);
        next.turn.decide(Fate::Lead(others));
    }
}

impl Turn {
    fn wait(&self) -> Fate {
        let mut fate = lock(&self.fate);
        loop {
            if let Some(fate) = fate.take() {
                return fate;
            }
            fate = self.decided.wait(fate).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn decide(&self, fate: Fate) {
        *lock(&self.fate) = Some(fate);
        self.decided.notify_one();
    }
}

/// Takes a lock. What it guards is only ever changed in whole steps, so a panic elsewhere does not spoil it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
