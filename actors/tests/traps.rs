//! The six traps of actix 0.13.5: each staged in actix itself, then closed here. If a staging fails, actix has changed
//! and the runtime may be able to do less.

#![allow(clippy::unwrap_used, reason = "what a test cannot unwrap has failed it")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, Arbiter, Context, Handler, MailboxError, Message, Supervised, Supervisor, SyncArbiter,
    SyncContext, System,
};
use futures::future::join_all;
use support::{Order, clerks, until, with_runtime, within};
use tokio::sync::oneshot;
use tracker_actors::{AskError, Fault, Pool, PoolOptions, Turn, Worker};

const SOON: Duration = Duration::from_secs(20);
/// Long enough for an answer to come if one were to come.
const A_WHILE: Duration = Duration::from_millis(100);

/// A message that knows how many of its kind exist.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(living: &Arc<AtomicUsize>) -> Self {
        living.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(living))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Message for Counted {
    type Result = ();
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Echo(u64);

#[derive(Message)]
#[rtype(result = "()")]
struct Block {
    entered: oneshot::Sender<()>,
    signal: mpsc::Receiver<()>,
}

impl Block {
    fn here(self) {
        self.entered.send(()).ok();
        self.signal.recv().ok();
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Boom;

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

/// A plain actix actor.
struct Raw {
    capacity: usize,
}

impl Actor for Raw {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.capacity);
    }
}

impl Supervised for Raw {}

impl Handler<Counted> for Raw {
    type Result = ();

    fn handle(&mut self, _: Counted, _: &mut Self::Context) {}
}

impl Handler<Echo> for Raw {
    type Result = u64;

    fn handle(&mut self, Echo(number): Echo, _: &mut Self::Context) -> u64 {
        number
    }
}

impl Handler<Block> for Raw {
    type Result = ();

    fn handle(&mut self, block: Block, _: &mut Self::Context) {
        block.here();
    }
}

impl Handler<Boom> for Raw {
    type Result = ();

    fn handle(&mut self, _: Boom, _: &mut Self::Context) {
        panic!("boom");
    }
}

impl Handler<Stop> for Raw {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// A plain actix actor for a `SyncArbiter`.
struct RawSync;

impl Actor for RawSync {
    type Context = SyncContext<Self>;
}

impl Handler<Counted> for RawSync {
    type Result = ();

    fn handle(&mut self, _: Counted, _: &mut Self::Context) {}
}

impl Handler<Echo> for RawSync {
    type Result = u64;

    fn handle(&mut self, Echo(number): Echo, _: &mut Self::Context) -> u64 {
        number
    }
}

impl Handler<Block> for RawSync {
    type Result = ();

    fn handle(&mut self, block: Block, _: &mut Self::Context) {
        block.here();
    }
}

impl Handler<Boom> for RawSync {
    type Result = ();

    fn handle(&mut self, _: Boom, _: &mut Self::Context) {
        panic!("boom");
    }
}

/// Starts a raw actor of capacity 4 on an Arbiter of its own and blocks it; it goes on when the sender is dropped.
async fn blocked_actor() -> (Arbiter, actix::Addr<Raw>, mpsc::SyncSender<()>) {
    let arbiter = Arbiter::new();
    let actor = Raw::start_in_arbiter(&arbiter.handle(), |_| Raw { capacity: 4 });
    actor.send(Echo(0)).await.unwrap();
    let ((unblock, signal), (entered, is_blocked)) = (mpsc::sync_channel(1), oneshot::channel());
    actor.do_send(Block { entered, signal });
    is_blocked.await.unwrap();
    (arbiter, actor, unblock)
}

/// Ours, for the same messages.
struct Ours;

enum Told {
    Count(Counted),
    Block(mpsc::Receiver<()>),
}

impl Worker for Ours {
    type Message = Told;
    type Reply = ();
    type State = ();

    async fn handle(&mut self, told: Told, _: &mut Turn<'_, ()>) -> Result<(), Fault> {
        match told {
            Told::Count(counted) => drop(counted),
            Told::Block(signal) => drop(signal.recv().ok()),
        }
        Ok(())
    }
}

/// Asks a blocked pool of capacity 4 a thousand questions at once, through so many handles; how many came to exist.
fn most_that_exist(n_handles: usize) -> usize {
    with_runtime(async |runtime| {
        let options = PoolOptions { capacity: 4, ..PoolOptions::cpu("bounded", 1) };
        let pool = Pool::start(runtime, options, |_| Ok(Ours)).unwrap();
        let (unblock, signal) = mpsc::sync_channel(1);
        let blocked = pool.admit().await.unwrap().ask(Told::Block(signal));

        let handles: Vec<_> = (0..n_handles).map(|_| pool.clone()).collect();
        let (made, living) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let mut asked = std::pin::pin!(join_all((0..1000).map(|k| {
            handles[k % n_handles].ask_with(|| {
                made.fetch_add(1, Ordering::SeqCst);
                Told::Count(Counted::new(&living))
            })
        })));
        assert!(tokio::time::timeout(A_WHILE, &mut asked).await.is_err());
        let most = living.load(Ordering::SeqCst);
        drop(unblock);
        for outcome in within(SOON, asked).await {
            outcome.unwrap();
        }
        blocked.await.unwrap();
        assert_eq!((made.load(Ordering::SeqCst), living.load(Ordering::SeqCst)), (1000, 0));
        most
    })
}

#[test]
fn trap_1_do_send_ignores_the_bound_and_our_bound_is_hard() {
    System::new().block_on(async {
        let (_arbiter, actor, unblock) = blocked_actor().await;
        let living = Arc::new(AtomicUsize::new(0));
        for _ in 0..1000 {
            actor.do_send(Counted::new(&living));
        }
        assert_eq!(living.load(Ordering::SeqCst), 1000, "actix: 1,000 messages in a mailbox of 4");
        drop(unblock);
    });
    // the message that blocks holds one of the four permits
    assert_eq!(most_that_exist(1), 3);
}

#[test]
fn trap_2_every_clone_of_an_address_has_a_slot_and_our_handles_share_one_bound() {
    System::new().block_on(async {
        let (_arbiter, actor, unblock) = blocked_actor().await;
        let living = Arc::new(AtomicUsize::new(0));
        let clones: Vec<_> = (0..1000).map(|_| actor.clone()).collect();
        let accepted = clones.iter().filter(|clone| clone.try_send(Counted::new(&living)).is_ok()).count();
        assert_eq!((accepted, living.load(Ordering::SeqCst)), (1000, 1000), "actix: a slot for each clone");
        drop(unblock);
    });
    assert_eq!(most_that_exist(1000), 3);
}

#[test]
fn trap_3_a_supervisor_does_not_catch_a_panic_and_ours_does() {
    System::new().block_on(async {
        let arbiter = Arbiter::new();
        let actor = Supervisor::start_in_arbiter(&arbiter.handle(), |_| Raw { capacity: 4 });
        let neighbour = Raw::start_in_arbiter(&arbiter.handle(), |_| Raw { capacity: 4 });
        actor.send(Echo(0)).await.unwrap();
        neighbour.send(Echo(0)).await.unwrap();
        assert_eq!(actor.send(Boom).await, Err(MailboxError::Closed));
        until(|| !actor.connected()).await;
        assert_eq!(actor.send(Echo(0)).await, Err(MailboxError::Closed), "actix: no restart after a panic");
        // its Arbiter and its neighbours live on, so nobody notices
        assert_eq!(within(SOON, neighbour.send(Echo(5))).await, Ok(5));
        assert!(arbiter.alive());
    });
    with_runtime(async |runtime| {
        let pool = clerks(runtime, PoolOptions::cpu("supervised", 1));
        let lost = pool.ask(Order::Panic("boom".into())).await.unwrap_err();
        assert!(matches!(&lost, AskError::Panicked { message, .. } if message == "boom"), "{lost}");
        assert_eq!(pool.ask(Order::Echo(1)).await.unwrap(), 1);
    });
}

#[test]
fn trap_4_a_sync_arbiter_has_no_bound_and_loses_its_workers_and_a_pool_of_threads_neither() {
    System::new().block_on(async {
        let actors = SyncArbiter::start(1, || RawSync);
        let ((unblock, signal), (entered, is_blocked)) = (mpsc::sync_channel(1), oneshot::channel());
        actors.do_send(Block { entered, signal });
        is_blocked.await.unwrap();
        let living = Arc::new(AtomicUsize::new(0));
        let flood = async {
            for _ in 0..1000 {
                while actors.try_send(Counted::new(&living)).is_err() {
                    tokio::task::yield_now().await;
                }
            }
        };
        within(SOON, flood).await;
        assert_eq!(living.load(Ordering::SeqCst), 1000, "actix: the queue behind the mailbox has no bound");
        drop(unblock);
        until(|| living.load(Ordering::SeqCst) == 0).await;

        assert!(actors.send(Boom).await.is_err());
        let unanswered = tokio::time::timeout(A_WHILE, actors.send(Echo(1))).await;
        assert!(!matches!(unanswered, Ok(Ok(_))), "actix: the only worker is gone for good");
    });
    with_runtime(async |runtime| {
        let pool = clerks(runtime, PoolOptions::cpu("threads", 1));
        for number in 0..10 {
            pool.ask(Order::Panic("boom".into())).await.unwrap_err();
            assert_eq!(within(SOON, pool.ask(Order::Echo(number))).await.unwrap(), number);
        }
    });
}

#[test]
fn trap_5_a_blocking_handler_stalls_its_arbiter_and_ours_neither_other_pools_nor_the_caller() {
    System::new().block_on(async {
        let (arbiter, _actor, unblock) = blocked_actor().await;
        let neighbour = Raw::start_in_arbiter(&arbiter.handle(), |_| Raw { capacity: 4 });
        let stalled = tokio::time::timeout(A_WHILE, neighbour.send(Echo(1))).await;
        assert!(stalled.is_err(), "actix: the neighbour waits for the blocked handler");
        drop(unblock);
    });
    with_runtime(async |runtime| {
        let pool = clerks(runtime, PoolOptions::cpu("blocking", 1));
        let neighbour = clerks(runtime, PoolOptions::cpu("neighbour", 1));
        let (unblock, signal) = mpsc::sync_channel(1);
        let blocked = pool.admit().await.unwrap().ask(Order::Block(signal));
        until(|| pool.observe().counts.in_flight == 1).await;
        assert_eq!(within(SOON, neighbour.ask(Order::Echo(1))).await.unwrap(), 1);
        assert_eq!(pool.observe().counts.in_flight, 1);
        drop(unblock);
        within(SOON, blocked).await.unwrap();
    });
}

#[test]
fn trap_6_messages_behind_a_stop_are_dropped_and_ours_are_answered() {
    System::new().block_on(async {
        let (_arbiter, actor, unblock) = blocked_actor().await;
        actor.do_send(Stop);
        let living = Arc::new(AtomicUsize::new(0));
        for _ in 0..10 {
            actor.do_send(Counted::new(&living));
        }
        drop(unblock);
        // nobody ever hears that these were not handled
        until(|| living.load(Ordering::SeqCst) == 0).await;
        assert_eq!(actor.send(Echo(1)).await, Err(MailboxError::Closed));
    });
    with_runtime(async |runtime| {
        let pool = clerks(runtime, PoolOptions { capacity: 11, ..PoolOptions::cpu("stopped", 1) });
        let (unblock, signal) = mpsc::sync_channel(1);
        let blocked = pool.admit().await.unwrap().ask(Order::Block(signal));
        until(|| pool.observe().counts.in_flight == 1).await;
        let admissions = join_all((0..10).map(|_| pool.admit())).await;
        let queued: Vec<_> = admissions.into_iter().map(|admission| admission.unwrap().ask(Order::Echo(1))).collect();
        let stop = pool.stop();
        let askers = async {
            for outcome in join_all(queued).await {
                assert!(matches!(outcome, Err(AskError::Stopped)), "{outcome:?}");
            }
            drop(unblock);
            assert_eq!(blocked.await.unwrap(), 0, "what is in flight finishes");
        };
        within(SOON, async { futures::join!(stop, askers) }).await;
        assert_eq!(pool.observe().counts.stopped, 10);
    });
}
