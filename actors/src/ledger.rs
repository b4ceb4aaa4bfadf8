//! The books of a pool as its three parties use them: askers submit, hosts advance, the guardian inspects.
//!
//! Each call takes the lock once, for a handful of moves, and does what may run code of others (sending outcomes,
//! waking actors, dropping messages) after it is released.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::future::BoxFuture;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::books::{Answer, Books, Inspection, Job, Next, Outcome, Post, Settled, View};
use crate::error::{AskError, Fault};
use crate::host::Wake;
use crate::pool::PoolOptions;
use crate::shield::{discard, lock, shielded};
use crate::status::{Counts, Phase, Status, Stopped, WorkerStatus};
use crate::worker::Worker;

type Factory<W> = Box<dyn Fn(usize) -> Result<W, Fault> + Send + Sync>;

/// One pool, shared by its handles, its hosts and its guardian.
pub(crate) struct Ledger<W: Worker> {
    pub(crate) options: PoolOptions,
    factory: Factory<W>,
    /// One permit for each message that may exist at once.
    intake: Arc<Semaphore>,
    /// Rung when the guardian is to look around.
    pub(crate) bell: Notify,
    books: Mutex<Books<W>>,
    /// How the pool ended, once it has.
    end: watch::Sender<Option<Stopped>>,
}

impl<W: Worker> Ledger<W> {
    pub(crate) fn new(options: PoolOptions, factory: Factory<W>) -> Self {
        Self {
            factory,
            intake: Arc::new(Semaphore::new(options.capacity)),
            bell: Notify::new(),
            books: Mutex::new(Books::new(options.clone())),
            end: watch::Sender::new(None),
            options,
        }
    }

    // --- askers ---

    /// Waits until one more message may exist.
    pub(crate) async fn admit(&self) -> Result<OwnedSemaphorePermit, AskError> {
        let permit = Arc::clone(&self.intake).acquire_owned().await;
        permit.map_err(|_| self.refusal())
    }

    /// Queues a message and wakes a host for it.
    pub(crate) fn submit(&self, permit: OwnedSemaphorePermit, message: W::Message) -> oneshot::Receiver<Outcome<W>> {
        let (reply, receiver) = oneshot::channel();
        let answer = Answer { reply, permit };
        let submitted = lock(&self.books).submit(Job { message, answer });
        match submitted {
            // a host that died meanwhile does not hear this; its successor looks into the queue first
            Ok(Some(host)) => host.do_send(Wake),
            Ok(None) => {}
            Err((job, refusal)) => job.refuse(refusal),
        }
        receiver
    }

    /// Drops queued messages whose askers have left, and frees their permits.
    pub(crate) fn withdraw(&self) {
        let withdrawn = lock(&self.books).withdraw();
        discard(withdrawn);
    }

    fn refusal(&self) -> AskError {
        lock(&self.books).refusal.clone().unwrap_or(AskError::Stopped)
    }

    // --- hosts ---

    /// Builds the worker of `seat`; a panic of the factory is a bug.
    pub(crate) fn build(&self, seat: usize) -> Result<W, Fault> {
        shielded(|| (self.factory)(seat))
            .unwrap_or_else(|panic| Err(Fault::bug(format!("the factory of worker {seat} panicked: {panic}"))))
    }

    /// Ends one message, if any, and takes the next. `able`: whether there is a worker to handle it.
    pub(crate) fn advance(&self, post: Post, ended: Option<Outcome<W>>, able: bool) -> Next<W> {
        let now = Instant::now();
        let (settled, next, call) = {
            let mut books = lock(&self.books);
            let settled = ended.and_then(|outcome| books.settle(post, outcome));
            let next = books.next(post, able, now);
            let call = match &next {
                Next::Handle(work) => work.deadline.is_some_and(|deadline| books.calls_for(deadline)),
                // whoever closes up waits for hosts to rest
                Next::Rest | Next::Leave => books.phase != Phase::Running,
            };
            (settled, next, call)
        };
        if let Some(settled) = settled {
            settled.send();
        }
        if call {
            self.bell.notify_one();
        }
        next
    }

    /// A host lost its worker: answers the message it handled, and says whether it may build another.
    pub(crate) fn lost(&self, post: Post, outcome: Outcome<W>, loss: Option<&Fault>) -> bool {
        let (settled, closed, may_build) = {
            let mut books = lock(&self.books);
            if !books.holds(post) {
                return false;
            }
            let settled = books.settle(post, outcome);
            let unnamed = Fault::infra("a handler took too long");
            let verdict = books.restart(Instant::now(), loss.is_some(), loss.unwrap_or(&unnamed));
            let closed = verdict.err().map(|why| books.close(why));
            (settled, closed, books.phase == Phase::Running)
        };
        if let Some(settled) = settled {
            settled.send();
        }
        self.announce(closed);
        may_build
    }

    /// A factory met a fault of the surroundings; says whether to try again. Out of tries, the pool closes with that fault.
    pub(crate) fn failed_to_build(&self, post: Post, fault: Fault) -> bool {
        let verdict = {
            let mut books = lock(&self.books);
            if !books.holds(post) {
                return false;
            }
            books.restart(Instant::now(), true, &fault)
        };
        if verdict.is_err() {
            self.cannot_start(fault);
        }
        verdict.is_ok()
    }

    /// The host of `post` is gone.
    pub(crate) fn leave(&self, post: Post) {
        let settled = lock(&self.books).leave(post);
        if let Some(settled) = settled {
            settled.send();
        }
        self.bell.notify_one();
    }

    // --- the guardian, and whoever ends the pool ---

    /// Stops intake for good; the first reason given stays.
    pub(crate) fn close(&self, why: AskError) {
        let closed = lock(&self.books).close(why);
        self.announce(Some(closed));
    }

    /// Lets everybody know that the pool has closed, if it has.
    fn announce(&self, closed: Option<(VecDeque<Job<W>>, AskError)>) {
        let Some((refused, why)) = closed else { return };
        self.intake.close();
        for job in refused {
            job.refuse(why.clone());
        }
        self.bell.notify_one();
    }

    /// Closes the pool because a worker cannot be built.
    pub(crate) fn cannot_start(&self, fault: Fault) {
        let pool = self.options.name.clone();
        self.close(AskError::Start { pool, fault });
    }

    pub(crate) fn is_open(&self) -> bool {
        lock(&self.books).phase == Phase::Running
    }

    /// Looks at the books, or changes them, under the lock.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut Books<W>) -> R) -> R {
        look(&mut lock(&self.books))
    }

    /// Tells askers that time is up and handlers to let go.
    pub(crate) fn carry_out(found: Inspection<W>) -> (Vec<(usize, Fault)>, Option<Instant>) {
        for (desk, ticket) in found.overdue {
            desk.cancel(ticket);
        }
        found.settled.into_iter().for_each(Settled::send);
        (found.broken, found.look_again)
    }

    /// Takes the hosts of a broken thread off their seats; says whether new ones may follow.
    pub(crate) fn dismiss(&self, thread: usize, why: &Fault, stuck_threads: usize) -> bool {
        let (settled, closed, may_hire) = {
            let mut books = lock(&self.books);
            let settled = books.dismiss(thread, why);
            let mut verdict = books.restart(Instant::now(), true, why);
            if stuck_threads > self.options.restarts.max {
                verdict = verdict.and(Err(books.gave_up(why)));
            }
            let closed = verdict.err().map(|why| books.close(why));
            (settled, closed, books.phase == Phase::Running)
        };
        settled.into_iter().for_each(Settled::send);
        self.announce(closed);
        may_hire
    }

    /// Publishes how the pool ended.
    pub(crate) fn finish(&self, end: Stopped) {
        lock(&self.books).phase = Phase::Stopped;
        self.end.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert(end);
            first
        });
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> Stopped {
        let mut end = self.end.subscribe();
        let seen = end.wait_for(Option::is_some).await;
        // the sender lives in `self`, so the wait cannot fail; an empty report says the same as none
        seen.ok().and_then(|end| end.clone()).unwrap_or_else(|| Stopped {
            name: self.options.name.clone(),
            joined_threads: 0,
            stuck_threads: 0,
        })
    }

    pub(crate) fn observe(&self) -> Status<W::State> {
        let now = Instant::now();
        let (mut status, seats) = {
            let books = lock(&self.books);
            let status = Status {
                name: self.options.name.clone(),
                phase: books.phase,
                failure: books.refusal.as_ref().and_then(failure),
                capacity: self.options.capacity,
                counts: Counts { queued: books.queue.len(), ..books.counts },
                workers: Vec::new(),
            };
            (status, books.observe(now))
        };
        let workers = seats.into_iter().map(|View { activity, busy_secs, desk }| WorkerStatus {
            activity,
            busy_secs,
            state: desk.observe(),
        });
        status.workers = workers.collect();
        status
    }
}

/// Why a pool closed by itself, with the chain of reasons.
fn failure(refusal: &AskError) -> Option<String> {
    if matches!(refusal, AskError::Stopped) {
        return None;
    }
    let chain = std::iter::successors(Some(refusal as &dyn std::error::Error), |error| error.source());
    Some(chain.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

/// A pool as its runtime knows it, whatever its workers are.
pub(crate) trait Pooled: Send + Sync {
    /// The pool with worker states as JSON.
    fn status(&self) -> Status;
    /// Stops intake and waits for the end.
    fn stop(self: Arc<Self>) -> BoxFuture<'static, Stopped>;
}

impl<W: Worker> Pooled for Ledger<W> {
    fn status(&self) -> Status {
        let status = self.observe();
        let as_json = |worker: WorkerStatus<W::State>| WorkerStatus {
            activity: worker.activity,
            busy_secs: worker.busy_secs,
            state: serde_json::to_value(worker.state)
                .unwrap_or_else(|error| serde_json::Value::String(format!("a state that is not JSON: {error}"))),
        };
        Status {
            workers: status.workers.into_iter().map(as_json).collect(),
            name: status.name,
            phase: status.phase,
            failure: status.failure,
            capacity: status.capacity,
            counts: status.counts,
        }
    }

    fn stop(self: Arc<Self>) -> BoxFuture<'static, Stopped> {
        Box::pin(async move {
            self.close(AskError::Stopped);
            self.ended().await
        })
    }
}
