//! Handles of a pool: admission before a message exists, one ask, many asks in order.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::future::Either;
use futures::stream::{FuturesOrdered, Stream, unfold};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::books::Outcome;
use crate::error::{AskError, Error, Fault, Result};
use crate::guardian::{Ward, guard};
use crate::ledger::{Ledger, Pooled};
use crate::runtime::Handle;
use crate::status::{Status, Stopped};
use crate::worker::Worker;

/// What a pool looks like. Start from [`PoolOptions::cpu`] or [`PoolOptions::io`] and change what differs.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolOptions {
    /// What the pool is called in statuses and errors.
    pub name: String,
    /// Workers, each with one message at a time; at least 1.
    pub workers: usize,
    /// Threads the workers share, each an Arbiter; at least 1, at most `workers`.
    pub threads: usize,
    /// Messages that may exist at once, queued and in flight together; at least 1.
    pub capacity: usize,
    /// Longest time in a handler; none for as long as it takes.
    pub timeout: Option<Duration>,
    /// Lost workers the pool survives.
    pub restarts: Restarts,
    /// At shutdown: longest wait for what is in flight, and then again for the last flush.
    pub grace: Duration,
}

/// How many workers a pool may lose (by a panic, a hanging or dead thread, a factory's fault of the surroundings) before it
/// gives up: more than `max` within `window`. A handler that lets go when its time is up is no loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restarts {
    /// Losses allowed within the window; also threads that may hang at once.
    pub max: usize,
    /// The window.
    pub window: Duration,
}

impl PoolOptions {
    fn new(name: impl Into<String>, workers: usize, threads: usize) -> Self {
        Self {
            name: name.into(),
            workers,
            threads,
            capacity: workers.saturating_mul(2),
            timeout: None,
            restarts: Restarts { max: 16, window: Duration::from_mins(1) },
            grace: Duration::from_secs(5),
        }
    }

    /// For handlers that compute or block: a thread for each worker, and as many messages waiting as in work.
    #[must_use]
    pub fn cpu(name: impl Into<String>, workers: usize) -> Self {
        Self::new(name, workers, workers)
    }

    /// For handlers that await: `in_flight` workers on one thread, and as many messages waiting as in work.
    #[must_use]
    pub fn io(name: impl Into<String>, in_flight: usize) -> Self {
        Self::new(name, in_flight, 1)
    }

    fn checked(mut self) -> Result<Self> {
        for (option, value) in [("workers", self.workers), ("threads", self.threads), ("capacity", self.capacity)] {
            if value == 0 {
                let pool = self.name;
                return Err(Error::Options { pool, option });
            }
        }
        self.threads = self.threads.min(self.workers);
        self.capacity = self.capacity.min(Semaphore::MAX_PERMITS);
        Ok(self)
    }
}

/// Workers behind one bounded queue. Clones share everything; when the last one goes, the pool stops by itself.
///
/// A worker that asks its own pool may wait for itself forever; ask pools started earlier instead.
pub struct Pool<W: Worker> {
    handles: Arc<Handles<W>>,
}

/// Closes the pool when nobody can ask any more.
struct Handles<W: Worker>(Arc<Ledger<W>>);

impl<W: Worker> Drop for Handles<W> {
    fn drop(&mut self) {
        self.0.close(AskError::Stopped);
    }
}

impl<W: Worker> Clone for Pool<W> {
    fn clone(&self) -> Self {
        Self { handles: Arc::clone(&self.handles) }
    }
}

impl<W: Worker> std::fmt::Debug for Pool<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = &self.ledger().options.name;
        f.debug_struct("Pool").field("name", name).finish_non_exhaustive()
    }
}

impl<W: Worker> Pool<W> {
    /// Starts a pool; its workers are built in the background, each on its own thread, by `factory(worker_idx)`.
    ///
    /// A factory that fails closes the pool, and whoever asks is told [`AskError::Start`]; a fault of the surroundings is
    /// tried again first. The same factory rebuilds a worker that was lost.
    /// # Errors
    /// `Options` for a pool of nothing, `Stopped` after the runtime's shutdown.
    pub fn start(
        runtime: &Handle,
        options: PoolOptions,
        factory: impl Fn(usize) -> Result<W, Fault> + Send + Sync + 'static,
    ) -> Result<Self> {
        let options = options.checked()?;
        let name = options.name.clone();
        let ledger = Arc::new(Ledger::new(options, Box::new(factory)));
        let pool: Arc<dyn Pooled> = ledger.clone();
        runtime.adopt(&name, Arc::downgrade(&pool), guard(Ward(Arc::clone(&ledger))))?;
        Ok(Self { handles: Arc::new(Handles(ledger)) })
    }

    /// Asks one question: waits for admission, then for the reply.
    ///
    /// Dropping the future withdraws a message that no worker has taken yet; a handler that has it runs on unheard.
    /// # Errors
    /// Why there is no reply.
    pub async fn ask(&self, message: W::Message) -> Result<W::Reply, AskError> {
        self.admit().await?.ask(message).await
    }

    /// As [`Pool::ask`], but makes the message only once it is admitted: many waiting askers hold no messages.
    /// # Errors
    /// Why there is no reply.
    pub async fn ask_with(&self, message: impl FnOnce() -> W::Message) -> Result<W::Reply, AskError> {
        self.admit().await?.ask(message()).await
    }

    /// Waits until one more message may exist. Admissions are granted in the order they are asked for.
    /// # Errors
    /// Why the pool has closed.
    pub async fn admit(&self) -> Result<Admission<W>, AskError> {
        let permit = self.ledger().admit().await?;
        Ok(Admission { permit, ledger: Arc::clone(self.ledger()) })
    }

    /// Asks many questions and yields `(key, outcome)` in the order of `items`, whatever the number of workers.
    ///
    /// `items` is drawn from only as messages are admitted, and never more than `capacity` outcomes are owed or held. Every
    /// item drawn yields an outcome, also after the pool has closed. Nothing is asked before the stream is polled.
    pub fn ask_all<K, I>(&self, items: I) -> impl Stream<Item = (K, Outcome<W>)> + use<W, K, I>
    where
        I: IntoIterator<Item = (K, W::Message)>,
    {
        let asking = AskAll { pool: self.clone(), items: Some(items.into_iter()), owed: FuturesOrdered::new() };
        unfold(asking, |mut asking| async move {
            let outcome = asking.next().await?;
            Some((outcome, asking))
        })
    }

    /// The pool at this moment.
    #[must_use]
    pub fn observe(&self) -> Status<W::State> {
        self.ledger().observe()
    }

    /// Stops this pool, for all its handles, as [`Handle::shutdown`] does; waits for the end.
    pub async fn stop(&self) -> Stopped {
        Arc::clone(self.ledger()).stop().await
    }

    fn ledger(&self) -> &Arc<Ledger<W>> {
        &self.handles.0
    }
}

/// The right to have one message in the pool; given back when dropped unused.
pub struct Admission<W: Worker> {
    permit: OwnedSemaphorePermit,
    ledger: Arc<Ledger<W>>,
}

impl<W: Worker> std::fmt::Debug for Admission<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}

impl<W: Worker> Admission<W> {
    /// Queues the message at once; await what is returned for the outcome.
    pub fn ask(self, message: W::Message) -> Asked<W> {
        let reply = self.ledger.submit(self.permit, message);
        Asked { reply, answered: false, ledger: self.ledger }
    }
}

/// A question asked; resolves to its outcome. Dropped before, it withdraws a message that no worker has taken yet.
#[must_use = "dropping it withdraws the question"]
pub struct Asked<W: Worker> {
    reply: oneshot::Receiver<Outcome<W>>,
    answered: bool,
    ledger: Arc<Ledger<W>>,
}

impl<W: Worker> std::fmt::Debug for Asked<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("answered", &self.answered).finish_non_exhaustive()
    }
}

impl<W: Worker> Future for Asked<W> {
    type Output = Outcome<W>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = Pin::new(&mut self.reply).poll(cx);
        reply.map(|outcome| {
            self.answered = true;
            // the books answer every message; were one lost, its asker must not wait for it
            outcome.unwrap_or(Err(AskError::Stopped))
        })
    }
}

impl<W: Worker> Drop for Asked<W> {
    fn drop(&mut self) {
        if !self.answered {
            self.reply.close();
            self.ledger.withdraw();
        }
    }
}

type Owed<W, K> = Either<Keyed<W, K>, std::future::Ready<(K, Outcome<W>)>>;

/// An ask that remembers what it was for.
struct Keyed<W: Worker, K> {
    key: Option<K>,
    asked: Asked<W>,
}

impl<W: Worker, K> Unpin for Keyed<W, K> {}

impl<W: Worker, K> Future for Keyed<W, K> {
    type Output = (K, Outcome<W>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = std::task::ready!(Pin::new(&mut self.asked).poll(cx));
        self.key.take().map_or(Poll::Pending, |key| Poll::Ready((key, outcome)))
    }
}

struct AskAll<W: Worker, K, I> {
    pool: Pool<W>,
    /// Gone once drawn to its end.
    items: Option<I>,
    owed: FuturesOrdered<Owed<W, K>>,
}

impl<W: Worker, K, I: Iterator<Item = (K, W::Message)>> AskAll<W, K, I> {
    async fn next(&mut self) -> Option<(K, Outcome<W>)> {
        let window = self.pool.ledger().options.capacity;
        loop {
            if self.items.is_none() || self.owed.len() >= window {
                return self.owed.next().await;
            }
            // an admission is never held across a yield: the consumer may ask this pool too
            tokio::select! {
                biased;
                admission = self.pool.admit() => self.draw(admission),
                Some(outcome) = self.owed.next(), if !self.owed.is_empty() => return Some(outcome),
            }
        }
    }

    fn draw(&mut self, admission: Result<Admission<W>, AskError>) {
        let Some((key, message)) = self.items.as_mut().and_then(Iterator::next) else {
            self.items = None;
            return;
        };
        self.owed.push_back(match admission {
            Ok(admission) => Either::Left(Keyed { key: Some(key), asked: admission.ask(message) }),
            Err(refusal) => Either::Right(std::future::ready((key, Err(refusal)))),
        });
    }
}
