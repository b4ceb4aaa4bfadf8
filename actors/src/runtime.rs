//! The house of all pools: an actix `System` on the caller's thread, and one Arbiter that guards the others.

use std::future::Future;
use std::ops::Deref;
use std::sync::{Arc, Mutex, Weak};

use actix::{Arbiter, ArbiterHandle, System, SystemRunner};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::ledger::Pooled;
use crate::shield::lock;
use crate::status::{Phase, Status, Stopped};

/// Tells everybody who holds a clone that work is to end; see [`tokio_util::sync::CancellationToken`].
pub type Cancel = CancellationToken;

/// Runs pools. Lives on the thread that made it; a [`Handle`] goes anywhere.
///
/// Dropping it without [`Handle::shutdown`] answers every ask `Stopped` but waits for no handler.
#[derive(Debug)]
pub struct Runtime {
    handle: Handle,
    guardian: Option<Arbiter>,
    system: SystemRunner,
}

impl Runtime {
    /// Starts the system of this thread and the guardian's thread.
    /// # Errors
    /// `Nested` on a thread that already runs an event loop, `Runtime` if the operating system refuses one.
    pub fn new() -> Result<Self> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(Error::Nested);
        }
        let event_loop = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
        let system = System::with_tokio_rt(|| event_loop);
        let guardian = Arbiter::try_new().map_err(Error::Runtime)?;
        let handle = Handle { guardian: guardian.handle(), pools: Arc::default() };
        Ok(Self { handle, guardian: Some(guardian), system })
    }

    /// Runs `future` on this thread to its end. A handler that blocks does not hold it up.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.system.block_on(future)
    }
}

impl Deref for Runtime {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        lock(&self.handle.pools).closed = true;
        if let Some(guardian) = self.guardian.take() {
            guardian.stop();
            // the guardian runs our own code only; a panic in it was printed by the panic hook
            drop(guardian.join());
        }
    }
}

#[derive(Default)]
struct Pools {
    closed: bool,
    known: Vec<Weak<dyn Pooled>>,
}

/// A runtime as everybody but its owner knows it; what pools are started on.
#[derive(Clone)]
pub struct Handle {
    guardian: ArbiterHandle,
    pools: Arc<Mutex<Pools>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    /// All pools that have not been dropped, in the order they were started, with worker states as JSON.
    #[must_use]
    pub fn observe(&self) -> Vec<Status> {
        self.known().iter().map(|pool| pool.status()).collect()
    }

    /// Stops every pool, the last started first, so that a pool may still ask those started before it.
    ///
    /// Each stops intake, answers what is queued with `Stopped`, lets what is in flight finish within its grace, calls
    /// [`Worker::stopping`](crate::Worker::stopping) and joins its threads. No pool can be started afterwards.
    pub async fn shutdown(&self) -> Vec<Stopped> {
        lock(&self.pools).closed = true;
        let mut ends = Vec::new();
        for pool in self.known().into_iter().rev() {
            if pool.status().phase != Phase::Stopped {
                ends.push(pool.stop().await);
            }
        }
        ends
    }

    /// Listens for SIGINT and SIGTERM: the first cancels the token, the second calls `exit`, which should end the process
    /// with 130. Both are heard on the guardian's thread, however busy the others are.
    /// # Errors
    /// `Runtime` if the handlers cannot be installed.
    pub async fn interrupts(&self, exit: impl FnOnce() + Send + 'static) -> Result<Cancel> {
        let cancel = Cancel::new();
        let heard = cancel.clone();
        let (ready, is_ready) = oneshot::channel();
        self.guardian.spawn(async move {
            let signals = signal(SignalKind::interrupt())
                .and_then(|interrupt| signal(SignalKind::terminate()).map(|terminate| (interrupt, terminate)));
            let (mut interrupt, mut terminate) = match signals {
                Ok(signals) => signals,
                Err(error) => return drop(ready.send(Err(Error::Runtime(error)))),
            };
            drop(ready.send(Ok(())));
            for once in [Some(heard), None] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if let Some(heard) = once {
                    heard.cancel();
                }
            }
            exit();
        });
        let gone = || Err(Error::Runtime(std::io::Error::other("the guardian has stopped")));
        is_ready.await.unwrap_or_else(|_| gone()).map(|()| cancel)
    }

    /// Takes a new pool in and starts its guardian.
    pub(crate) fn adopt(
        &self,
        name: &str,
        pool: Weak<dyn Pooled>,
        guard: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let mut pools = lock(&self.pools);
        if pools.closed || !self.guardian.spawn(guard) {
            return Err(Error::Stopped { pool: name.to_owned() });
        }
        pools.known.retain(|pool| pool.strong_count() > 0);
        pools.known.push(pool);
        Ok(())
    }

    fn known(&self) -> Vec<Arc<dyn Pooled>> {
        lock(&self.pools).known.iter().filter_map(Weak::upgrade).collect()
    }
}
