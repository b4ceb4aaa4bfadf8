//! What a worker and its observers share outside the books: the worker's visible state, and the signal to drop what it does.
//!
//! Invariant: every host gets a desk of its own, so a thread that was given up on can neither touch its successor's state
//! nor steal its wake-up.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use crate::shield::lock;

/// Place of one host.
#[derive(Debug, Default)]
pub(crate) struct Desk<S> {
    pub(crate) state: Mutex<S>,
    /// Ticket of the message to drop; 0 for none.
    cancelled: AtomicU64,
    waker: AtomicWaker,
}

impl<S: Clone + Default> Desk<S> {
    pub(crate) fn observe(&self) -> S {
        lock(&self.state).clone()
    }

    /// Forgets what the last worker showed.
    pub(crate) fn clear(&self) {
        *lock(&self.state) = S::default();
    }

    /// Asks the host to drop the handler of message `ticket`; it does so at the handler's next await.
    pub(crate) fn cancel(&self, ticket: u64) {
        self.cancelled.store(ticket, Ordering::Release);
        self.waker.wake();
    }

    /// Ready once message `ticket` is cancelled.
    pub(crate) fn poll_cancelled(&self, ticket: u64, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.cancelled.load(Ordering::Acquire) == ticket { Poll::Ready(()) } else { Poll::Pending }
    }
}
