//! Who looks after one pool from a thread of its own: hires hosts, ends what is overdue, replaces threads, and closes up.
//!
//! The guardian runs no code of workers, so nothing a worker does can stop it. What it cannot do is kill a thread: one
//! that hangs in a handler is cut off, its hosts dismissed and replaced, and it ends whenever its handler returns. If the
//! guardian itself goes, every ask is answered `Stopped`.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Arbiter, ArbiterHandle};
use futures::StreamExt;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::time::{sleep_until, timeout};

use crate::books::{Books, LETTING_GO};
use crate::error::{AskError, Fault};
use crate::host::{Host, Retire};
use crate::ledger::Ledger;
use crate::status::Stopped;
use crate::worker::Worker;

/// An Arbiter and the news of its end. Dropped, it stops when its handlers let it, and nobody joins it.
struct Thread {
    arbiter: Arbiter,
    stop: StopOnDrop,
    /// Fails once the Arbiter's event loop is gone, however it went.
    ended: oneshot::Receiver<()>,
}

/// Stops an Arbiter's event loop.
struct StopOnDrop(ArbiterHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Thread {
    fn start() -> io::Result<Self> {
        let arbiter = Arbiter::try_new()?;
        let stop = StopOnDrop(arbiter.handle());
        let (alive, ended) = oneshot::channel::<()>();
        arbiter.spawn(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        Ok(Self { arbiter, stop, ended })
    }

    /// Stops the event loop and joins the thread, which takes as long as a handler hangs in it.
    fn leave(self) -> BoxFuture<'static, ()> {
        drop(self.stop);
        Box::pin(async move {
            // only its failing matters: nothing is ever sent
            drop(self.ended.await);
            // the event loop is gone; what remains of the thread is a few instructions, or the panic that ended it
            drop(tokio::task::spawn_blocking(|| self.arbiter.join()).await);
        })
    }
}

/// A pool without a guardian yet; dropped unguarded, it answers everybody, as it does when its guardian goes.
pub(crate) struct Ward<W: Worker>(pub(crate) Arc<Ledger<W>>);

impl<W: Worker> Drop for Ward<W> {
    fn drop(&mut self) {
        let ledger = &self.0;
        ledger.close(AskError::Stopped);
        let rest = ledger.with(|books| books.cancel_all(Instant::now()));
        Ledger::carry_out(rest);
        // stands only if the guardian has not said better
        ledger.finish(Stopped {
            name: ledger.options.name.clone(),
            joined_threads: 0,
            stuck_threads: ledger.options.threads,
        });
    }
}

/// Looks after a pool until it has closed.
pub(crate) async fn guard<W: Worker>(ward: Ward<W>) {
    let ledger = Arc::clone(&ward.0);
    let mut crew =
        Crew { _ward: ward, ledger: Arc::clone(&ledger), threads: Vec::new(), leaving: FuturesUnordered::new() };
    for thread in 0..ledger.options.threads {
        crew.threads.push(None);
        crew.hire(thread);
    }
    while ledger.is_open() {
        let look_again = crew.look_around();
        crew.wait(look_again).await;
    }
    let end = crew.close_up().await;
    ledger.finish(end);
}

struct Crew<W: Worker> {
    /// The first field, so that everybody is answered before the threads stop.
    _ward: Ward<W>,
    ledger: Arc<Ledger<W>>,
    threads: Vec<Option<Thread>>,
    /// Threads cut off, until they have ended.
    leaving: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl<W: Worker> Crew<W> {
    /// Starts a thread and its hosts.
    fn hire(&mut self, thread: usize) {
        let fresh = match Thread::start() {
            Ok(fresh) => fresh,
            Err(error) => {
                let fault = Fault::infra(format!("no thread for worker {thread}")).because(error);
                return self.ledger.cannot_start(fault);
            }
        };
        let arbiter = fresh.arbiter.handle();
        self.ledger.with(|books| {
            for seat in books.seats_of(thread) {
                books.appoint(seat, |post, desk| Host::start(&arbiter, Arc::clone(&self.ledger), desk, post));
            }
        });
        self.threads[thread] = Some(fresh);
    }

    /// Ends what is overdue; returns the threads that are broken, and when to look again.
    fn end_overdue(&self) -> (Vec<(usize, Fault)>, Option<Instant>) {
        Ledger::carry_out(self.ledger.with(|books| books.inspect(Instant::now())))
    }

    /// Ends what is overdue and replaces what is broken; returns when to look again.
    fn look_around(&mut self) -> Option<Instant> {
        let (broken, look_again) = self.end_overdue();
        for (thread, why) in broken {
            if let Some(old) = self.threads[thread].take() {
                self.leaving.push(old.leave());
                self.note_stuck();
            }
            if self.ledger.dismiss(thread, &why, self.leaving.len()) {
                self.hire(thread);
            }
        }
        look_again
    }

    /// Waits for the bell, for the time to look again, or for a thread that was cut off to end.
    async fn wait(&mut self, until: Option<Instant>) {
        let alarm: OptionFuture<_> = until.map(|until| sleep_until(until.into())).into();
        tokio::select! {
            () = self.ledger.bell.notified() => {}
            Some(()) = alarm => {}
            Some(()) = self.leaving.next() => self.note_stuck(),
        }
    }

    fn note_stuck(&self) {
        self.ledger.with(|books| books.counts.stuck_threads = self.leaving.len());
    }

    /// Lets what is in flight finish, flushes, and joins.
    async fn close_up(&mut self) -> Stopped {
        let grace = self.ledger.options.grace;
        self.wait_for(grace, |crew| crew.is_each(Books::is_quiet)).await;
        let rest = self.ledger.with(|books| books.cancel_all(Instant::now()));
        Ledger::carry_out(rest);
        self.wait_for(LETTING_GO, |crew| crew.is_each(Books::is_quiet)).await;

        for thread in 0..self.threads.len() {
            for host in self.ledger.with(|books| books.hosts(thread)) {
                host.do_send(Retire);
            }
        }
        self.wait_for(grace, |crew| {
            // a thread that was not quiet by now hangs, and is not waited for
            crew.is_each(|books, thread| books.is_deserted(thread) || !books.is_quiet(thread))
        })
        .await;

        let threads: Vec<_> = self.threads.drain(..).flatten().collect();
        let n_threads = threads.len();
        let n_left_before = self.leaving.len();
        self.leaving.extend(threads.into_iter().map(Thread::leave));
        let all_left = async { while self.leaving.next().await.is_some() {} };
        // what has not ended by then hangs
        drop(timeout(LETTING_GO, all_left).await);
        self.note_stuck();
        Stopped {
            name: self.ledger.options.name.clone(),
            joined_threads: (n_threads + n_left_before).saturating_sub(self.leaving.len()),
            stuck_threads: self.leaving.len(),
        }
    }

    fn is_each(&self, holds: impl Fn(&Books<W>, usize) -> bool) -> bool {
        self.ledger.with(|books| (0..self.threads.len()).all(|thread| holds(books, thread)))
    }

    /// Waits until `done`, `at_most` so long; what is overdue still ends in time, but nothing is replaced any more.
    async fn wait_for(&mut self, at_most: Duration, done: impl Fn(&Self) -> bool) {
        let until = Instant::now() + at_most;
        while !done(self) && Instant::now() < until {
            let (_broken, look_again) = self.end_overdue();
            self.wait(Some(look_again.map_or(until, |again| again.min(until)))).await;
        }
    }
}
