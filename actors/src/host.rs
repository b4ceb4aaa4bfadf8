//! The actix actor that houses one worker: builds it, runs its handlers one after another, rebuilds it when it is lost.
//!
//! The mailbox carries only [`Wake`] and [`Retire`]. Messages stay in the books until a handler takes them, so what actix
//! drops with an actor (everything queued behind a stop, everything on a dying Arbiter) is never a message of ours.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, WrapFuture,
};
use futures::FutureExt;

use crate::books::{Next, Outcome, Post, Work};
use crate::desk::Desk;
use crate::error::{AskError, Fault, FaultKind};
use crate::ledger::Ledger;
use crate::shield::{discard, shielded, text};
use crate::worker::{Turn, Worker};

/// Wait after the first failure of a factory; doubles with each further one in a row.
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// Longest wait between two tries of a factory.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// There may be something in the queue.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Wake;

/// Flush and stop.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Retire;

/// What the handlers of one host need.
struct Shop<W: Worker> {
    ledger: Arc<Ledger<W>>,
    desk: Arc<Desk<W::State>>,
    post: Post,
}

impl<W: Worker> Clone for Shop<W> {
    fn clone(&self) -> Self {
        Self { ledger: Arc::clone(&self.ledger), desk: Arc::clone(&self.desk), post: self.post }
    }
}

/// Tells the ledger when a host is no more, however that came about.
struct Presence<W: Worker>(Shop<W>);

impl<W: Worker> Drop for Presence<W> {
    fn drop(&mut self) {
        self.0.ledger.leave(self.0.post);
    }
}

/// One worker's actor.
pub(crate) struct Host<W: Worker> {
    /// At home while it rests; with the shift while it works.
    worker: Option<Box<W>>,
    presence: Presence<W>,
}

impl<W: Worker> Host<W> {
    /// Starts a host on an Arbiter; a dead Arbiter shows as a host that left at once.
    pub(crate) fn start(
        arbiter: &ArbiterHandle,
        ledger: Arc<Ledger<W>>,
        desk: Arc<Desk<W::State>>,
        post: Post,
    ) -> Addr<Self> {
        let presence = Presence(Shop { ledger, desk, post });
        Self::start_in_arbiter(arbiter, |_| Self { worker: None, presence })
    }

    fn work(&mut self, ctx: &mut Context<Self>) {
        let shift = shift(self.presence.0.clone(), self.worker.take());
        ctx.spawn(shift.into_actor(self).map(|worker, host, _| host.worker = worker));
    }
}

impl<W: Worker> Drop for Host<W> {
    fn drop(&mut self) {
        discard(self.worker.take());
    }
}

impl<W: Worker> Actor for Host<W> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.work(ctx);
    }
}

impl<W: Worker> Handler<Wake> for Host<W> {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        self.work(ctx);
    }
}

impl<W: Worker> Handler<Retire> for Host<W> {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        if let Some(mut worker) = self.worker.take() {
            // a panic in the last flush has no asker to tell; the worker's own state is where it reports
            drop(shielded(|| worker.stopping()));
            discard(worker);
        }
        ctx.stop();
    }
}

/// Handles messages until the queue is empty, then hands the worker back.
async fn shift<W: Worker>(shop: Shop<W>, worker: Option<Box<W>>) -> Option<Box<W>> {
    let mut home = match worker {
        Some(worker) => Some(worker),
        None => build(&shop).await,
    };
    let mut ended = None;
    loop {
        let work = match shop.ledger.advance(shop.post, ended.take(), home.is_some()) {
            Next::Handle(work) => work,
            Next::Rest => return home,
            Next::Leave => {
                discard(home);
                return None;
            }
        };
        let worker = home.as_mut()?;
        match handle(&shop, worker.as_mut(), work).await {
            Ended::Answered(outcome) => ended = Some(outcome),
            Ended::Panicked(message) => {
                let worker = shop.post.seat;
                let loss = Fault::bug(format!("worker {worker} panicked: {message}"));
                home = rebuild(&shop, home, Err(AskError::Panicked { worker, message }), Some(&loss)).await;
            }
            // told already; the outcome given here goes nowhere
            Ended::Cancelled if shop.ledger.is_open() => {
                home = rebuild(&shop, home, Err(AskError::Stopped), None).await;
            }
            Ended::Cancelled => ended = Some(Err(AskError::Stopped)),
        }
        // others may live on this thread
        tokio::task::consume_budget().await;
    }
}

enum Ended<W: Worker> {
    Answered(Outcome<W>),
    Panicked(String),
    Cancelled,
}

/// Runs one handler to its end, its panic, or its cancellation.
async fn handle<W: Worker>(shop: &Shop<W>, worker: &mut W, work: Work<W>) -> Ended<W> {
    let Work { ticket, deadline, message } = work;
    let mut turn = Turn::new(shop.post.seat, deadline, &shop.desk.state);
    let handling = AssertUnwindSafe(async move { worker.handle(message, &mut turn).await }).catch_unwind();
    let mut handling = pin!(Some(handling));
    let ended = poll_fn(|cx| {
        if let Some(handling) = handling.as_mut().as_pin_mut()
            && let Poll::Ready(outcome) = handling.poll(cx)
        {
            return Poll::Ready(match outcome {
                Ok(outcome) => Ended::Answered(outcome.map_err(AskError::Failed)),
                Err(panic) => Ended::Panicked(text(panic.as_ref())),
            });
        }
        shop.desk.poll_cancelled(ticket, cx).map(|()| Ended::Cancelled)
    })
    .await;
    match shielded(|| handling.set(None)) {
        Ok(()) => ended,
        Err(panic) => Ended::Panicked(panic),
    }
}

/// Replaces a worker that was lost, unless the pool has closed or gives up over it.
async fn rebuild<W: Worker>(
    shop: &Shop<W>,
    old: Option<Box<W>>,
    outcome: Outcome<W>,
    loss: Option<&Fault>,
) -> Option<Box<W>> {
    let may_build = shop.ledger.lost(shop.post, outcome, loss);
    discard(old);
    shop.desk.clear();
    if may_build { build(shop).await } else { None }
}

/// Builds the worker; a fault of the surroundings is tried again as often as the pool may lose workers.
async fn build<W: Worker>(shop: &Shop<W>) -> Option<Box<W>> {
    let mut wait = FIRST_WAIT;
    for attempt in 0.. {
        if !shop.ledger.is_open() {
            break;
        }
        let fault = match shop.ledger.build(shop.post.seat) {
            Ok(worker) => return Some(Box::new(worker)),
            Err(fault) => fault,
        };
        if fault.kind() != FaultKind::Infra || attempt >= shop.ledger.options.restarts.max {
            shop.ledger.cannot_start(fault);
            return None;
        }
        if !shop.ledger.failed_to_build(shop.post, fault) {
            return None;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    None
}
