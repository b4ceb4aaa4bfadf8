//! What a worker is: one message in, one reply out, one message at a time.
//!
//! A worker is built on the thread it lives on and never leaves it, so it need not be `Send`. It never sees two messages
//! at once; several requests in flight are several workers, which may share a thread (see [`PoolOptions`](crate::PoolOptions)).

use std::sync::Mutex;
use std::time::Instant;

use serde::Serialize;

use crate::error::Fault;
use crate::shield::lock;

/// One member of a [`Pool`](crate::Pool), written by whoever has work to be done.
///
/// A handler may compute for minutes or await sockets. It may borrow itself across awaits. A panic, a timeout or a
/// cancelled shutdown drops the handler's future where it stands and then the worker; a fresh one comes from the factory.
pub trait Worker: 'static {
    /// What it is asked.
    type Message: Send + 'static;
    /// What it answers.
    type Reply: Send + 'static;
    /// What an observer sees of this worker; default when the worker is built. Use `()` for nothing.
    type State: Clone + Default + Send + Sync + Serialize + 'static;

    /// Handles one message.
    /// # Errors
    /// A [`Fault`] reaches the asker as it is, costs the pool nothing, and leaves the worker in place.
    fn handle(
        &mut self,
        message: Self::Message,
        turn: &mut Turn<'_, Self::State>,
    ) -> impl Future<Output = Result<Self::Reply, Fault>>;

    /// Flushes what is still held, when the pool stops. Not called on a worker that panicked, timed out or hangs.
    fn stopping(&mut self) {}
}

/// What a handler may know and show while it handles one message.
#[derive(Debug)]
pub struct Turn<'a, S> {
    worker: usize,
    deadline: Option<Instant>,
    state: &'a Mutex<S>,
}

impl<'a, S> Turn<'a, S> {
    pub(crate) fn new(worker: usize, deadline: Option<Instant>, state: &'a Mutex<S>) -> Self {
        Self { worker, deadline, state }
    }

    /// Index of this worker in its pool, from 0.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// When the asker will be told that time is up; a handler that waits on a process should end before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Changes what observers see. They read between changes, never in the middle of one; keep `change` short.
    pub fn update<R>(&mut self, change: impl FnOnce(&mut S) -> R) -> R {
        change(&mut lock(self.state))
    }
}
