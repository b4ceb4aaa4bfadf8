//! How pools and runtimes end: everybody is answered, what is in flight may finish, what is held is flushed.

#![allow(clippy::unwrap_used, reason = "what a test cannot unwrap has failed it")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use futures::future::join_all;
use support::{Clerk, Order, clerks, until, with_runtime, within};
use tokio::sync::oneshot;
use tracker_actors::{Activity, AskError, Error, Fault, Phase, Pool, PoolOptions, Runtime, Turn, Worker};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn shutdown_answers_the_queue_finishes_what_is_in_flight_and_flushes_once() {
    let flushed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&flushed);
    with_runtime(async move |runtime| {
        let options = PoolOptions { capacity: 16, ..PoolOptions::cpu("stops", 2) };
        let pool =
            Pool::start(runtime, options, move |_| Ok(Clerk { flushed: Arc::clone(&counter), ..Clerk::default() }))
                .unwrap();
        let (signals, slow): (Vec<_>, Vec<_>) = join_all((0..2).map(|_| async {
            let (finish, signal) = oneshot::channel();
            (finish, pool.admit().await.unwrap().ask(Order::Await(signal)))
        }))
        .await
        .into_iter()
        .unzip();
        until(|| pool.observe().counts.in_flight == 2).await;
        let admissions = join_all((0..14).map(|_| pool.admit())).await;
        let queued: Vec<_> = admissions.into_iter().map(|admission| admission.unwrap().ask(Order::Echo(1))).collect();
        let waiting = pool.ask(Order::Echo(99));

        let shutdown = async {
            let ends = runtime.shutdown().await;
            assert_eq!(ends.len(), 1);
            assert_eq!((ends[0].joined_threads, ends[0].stuck_threads), (2, 0));
        };
        let askers = async {
            for outcome in join_all(queued).await {
                assert!(matches!(outcome, Err(AskError::Stopped)), "{outcome:?}");
            }
            assert!(matches!(waiting.await, Err(AskError::Stopped)));
            for finish in signals {
                finish.send(()).unwrap();
            }
            for outcome in join_all(slow).await {
                assert_eq!(outcome.unwrap(), 0);
            }
        };
        within(SOON, async { futures::join!(shutdown, askers) }).await;
        assert_eq!(flushed.load(Ordering::SeqCst), 2);
        assert_eq!(pool.observe().phase, Phase::Stopped);
        assert!(matches!(pool.ask(Order::Echo(1)).await, Err(AskError::Stopped)));
        let late = Pool::start(runtime, PoolOptions::cpu("late", 1), |_| Ok(Clerk::default()));
        assert!(matches!(late, Err(Error::Stopped { .. })));
    });
}

#[test]
fn past_its_grace_a_pool_cancels_what_awaits_and_leaves_what_blocks() {
    with_runtime(async |runtime| {
        let flushed = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&flushed);
        let options = PoolOptions { grace: Duration::from_millis(30), ..PoolOptions::cpu("impatient", 2) };
        let pool =
            Pool::start(runtime, options, move |_| Ok(Clerk { flushed: Arc::clone(&counter), ..Clerk::default() }))
                .unwrap();
        let (_keep, never) = oneshot::channel();
        let (unblock, blocked) = mpsc::sync_channel(1);
        let awaiting = pool.admit().await.unwrap().ask(Order::Await(never));
        let blocking = pool.admit().await.unwrap().ask(Order::Block(blocked));
        until(|| pool.observe().counts.in_flight == 2).await;
        let end = within(SOON, pool.stop()).await;
        assert_eq!((end.joined_threads, end.stuck_threads), (1, 1));
        assert_eq!(flushed.load(Ordering::SeqCst), 1, "the worker that let go flushes");
        for outcome in [awaiting.await, blocking.await] {
            assert!(matches!(outcome, Err(AskError::Stopped)), "{outcome:?}");
        }
        drop(unblock);
    });
}

#[test]
fn a_pool_without_handles_stops_by_itself_and_flushes() {
    with_runtime(async |runtime| {
        let flushed = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&flushed);
        let pool = Pool::start(runtime, PoolOptions::cpu("dropped", 2), move |_| {
            Ok(Clerk { flushed: Arc::clone(&counter), ..Clerk::default() })
        })
        .unwrap();
        until(|| pool.observe().workers.iter().all(|worker| worker.activity == Activity::Idle)).await;
        drop(pool);
        until(|| runtime.observe().is_empty()).await;
        assert_eq!(flushed.load(Ordering::SeqCst), 2);
    });
}

/// Flushes by asking another pool, as a recorder's client would.
struct Upstream {
    downstream: Pool<Clerk>,
}

impl Worker for Upstream {
    type Message = u64;
    type Reply = u64;
    type State = ();

    async fn handle(&mut self, number: u64, _: &mut Turn<'_, ()>) -> Result<u64, Fault> {
        let answer = self.downstream.ask(Order::Echo(number + 1)).await;
        answer.map_err(|error| Fault::infra("downstream").because(error))
    }
}

#[test]
fn shutdown_stops_the_last_started_first_so_it_may_still_ask_the_others() {
    with_runtime(async |runtime| {
        let downstream = clerks(runtime, PoolOptions::cpu("downstream", 1));
        let inner = downstream.clone();
        let upstream =
            Pool::start(runtime, PoolOptions::io("upstream", 4), move |_| Ok(Upstream { downstream: inner.clone() }))
                .unwrap();
        let (finish, signal) = oneshot::channel();
        let blocked = downstream.admit().await.unwrap().ask(Order::Await(signal));
        let asked = upstream.admit().await.unwrap().ask(41);
        until(|| {
            let counts = downstream.observe().counts;
            (counts.in_flight, counts.queued) == (1, 1)
        })
        .await;
        let finishing = async {
            until(|| upstream.observe().phase == Phase::Stopping).await;
            assert_eq!(downstream.observe().phase, Phase::Running);
            finish.send(()).unwrap();
        };
        let (ends, (), answer, _) = futures::join!(runtime.shutdown(), finishing, asked, blocked);
        assert_eq!(answer.unwrap(), 42);
        let names: Vec<_> = ends.iter().map(|end| end.name.as_str()).collect();
        assert_eq!(names, ["upstream", "downstream"]);
    });
}

#[test]
fn a_runtime_dropped_without_shutdown_answers_whoever_waits() {
    for _ in 0..20 {
        let runtime = Runtime::new().unwrap();
        let pool = clerks(&runtime, PoolOptions::cpu("orphan", 1));
        let (_keep, never) = oneshot::channel();
        let admission = runtime.block_on(pool.admit()).unwrap();
        let asked = admission.ask(Order::Await(never));
        drop(runtime);
        let other = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let outcome = other.block_on(async { within(SOON, asked).await });
        assert!(matches!(outcome, Err(AskError::Stopped)), "{outcome:?}");
    }
}

#[test]
fn a_runtime_within_a_runtime_is_refused() {
    with_runtime(async |_| {
        assert!(matches!(Runtime::new(), Err(Error::Nested)));
    });
}
