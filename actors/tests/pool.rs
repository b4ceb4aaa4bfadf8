//! What a pool promises: bounds, order, one message lost at most, an end to every ask.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use support::{Clerk, Desk, Order, clerks, until, with_runtime, within};
use tokio::sync::oneshot;
use tracker_actors::{
    Activity, AskError, Error, Fault, FaultKind, Phase, Pool, PoolOptions, Restarts, Retry, Runtime, Turn, Worker,
    retry,
};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_pool_answers_and_shows_what_its_workers_did() {
    with_runtime(async |runtime| {
        let pool = clerks(runtime, PoolOptions::cpu("clerks", 2));
        assert_eq!(pool.ask(Order::Echo(7)).await.unwrap(), 7);
        let failed = pool.ask(Order::Fail(Fault::input("no such thing"))).await.unwrap_err();
        assert_eq!(failed.to_string(), "no such thing");

        let status = pool.observe();
        assert_eq!((status.counts.done, status.counts.failed), (1, 1));
        let handled: u64 = status.workers.iter().map(|worker| worker.state.handled).sum();
        assert_eq!(handled, 2);

        let all = runtime.observe();
        assert_eq!(all.len(), 1);
        let json = serde_json::to_value(&all[0]).unwrap();
        assert_eq!((json["name"].as_str(), json["done"].as_u64()), (Some("clerks"), Some(1)));
        assert_eq!(json["workers"].as_array().unwrap().len(), 2);
    });
}

#[test]
fn options_that_describe_no_pool_are_refused_by_name() {
    with_runtime(async |runtime| {
        for (option, options) in [
            ("workers", PoolOptions::cpu("none", 0)),
            ("threads", PoolOptions { threads: 0, ..PoolOptions::cpu("none", 1) }),
            ("capacity", PoolOptions { capacity: 0, ..PoolOptions::cpu("none", 1) }),
        ] {
            let refused = Pool::start(runtime, options, |_| Ok(Clerk::default())).unwrap_err();
            assert!(matches!(&refused, Error::Options { option: named, .. } if *named == option), "{refused}");
        }
    });
}

#[test]
fn outcomes_come_in_the_order_of_the_questions_for_any_number_of_workers() {
    let answers = |workers, threads| {
        with_runtime(async |runtime| {
            let options = PoolOptions { threads, ..PoolOptions::cpu("ordered", workers) };
            let pool = clerks(runtime, options);
            let questions =
                (0..500_u64).map(|k| (k, if k % 50 == 49 { Order::Fail(Fault::input(k)) } else { Order::Echo(k * k) }));
            let answers: Vec<_> = pool.ask_all(questions).collect().await;
            answers.into_iter().map(|(k, answer)| (k, answer.map_err(|e| e.to_string()))).collect::<Vec<_>>()
        })
    };
    let expected: Vec<_> =
        (0..500_u64).map(|k| (k, if k % 50 == 49 { Err(k.to_string()) } else { Ok(k * k) })).collect();
    for (workers, threads) in [(1, 1), (2, 2), (8, 8), (8, 1), (5, 2)] {
        assert_eq!(answers(workers, threads), expected, "{workers} workers on {threads} threads");
    }
}

#[test]
fn asking_many_draws_no_more_items_than_the_capacity_owes() {
    with_runtime(async |runtime| {
        let pool = clerks(runtime, PoolOptions { capacity: 3, ..PoolOptions::cpu("lazy", 1) });
        let drawn = AtomicUsize::new(0);
        let questions = (0..100).map(|k| {
            drawn.fetch_add(1, Ordering::SeqCst);
            (k, Order::Echo(k))
        });
        let mut outcomes = std::pin::pin!(pool.ask_all(questions));
        for taken in 1..=100_usize {
            // the body of a loop over outcomes may ask the same pool
            assert_eq!(pool.ask(Order::Echo(1)).await.unwrap(), 1);
            let (k, outcome) = outcomes.next().await.unwrap();
            assert_eq!((k, outcome.unwrap()), (taken as u64 - 1, k));
            assert!(drawn.load(Ordering::SeqCst) <= taken + 3);
        }
        assert!(outcomes.next().await.is_none());
    });
}

#[test]
fn one_panicking_message_costs_itself_alone() {
    for workers in [1, 8] {
        with_runtime(async |runtime| {
            let pool = clerks(runtime, PoolOptions::cpu("panics", workers));
            let questions =
                (0..200_u64).map(|k| (k, if k == 57 { Order::Panic("at 57".into()) } else { Order::Echo(k) }));
            let outcomes: Vec<_> = pool.ask_all(questions).collect().await;
            for (k, outcome) in outcomes {
                match outcome {
                    Ok(answer) => assert_eq!(answer, k),
                    Err(AskError::Panicked { message, worker }) => {
                        assert_eq!((k, message.as_str()), (57, "at 57"));
                        assert!(worker < workers);
                    }
                    Err(other) => panic!("message {k}: {other}"),
                }
            }
            let counts = pool.observe().counts;
            assert_eq!((counts.done, counts.panicked, counts.restarts), (199, 1, 1));
        });
    }
}

#[test]
fn a_worker_that_panicked_is_a_fresh_one_afterwards() {
    with_runtime(async |runtime| {
        let pool = clerks(runtime, PoolOptions::cpu("fresh", 1));
        for expected in 1..=3 {
            assert_eq!(pool.ask(Order::Age).await.unwrap(), expected);
        }
        pool.ask(Order::Panic("bye".into())).await.unwrap_err();
        assert_eq!(pool.ask(Order::Age).await.unwrap(), 1);
        assert_eq!(pool.observe().workers[0].state, Desk { handled: 1 });
    });
}

#[test]
fn a_panic_while_a_cancelled_handler_is_dropped_costs_nothing_more() {
    with_runtime(async |runtime| {
        let options = PoolOptions { timeout: Some(Duration::from_millis(20)), ..PoolOptions::io("drops", 2) };
        let pool = clerks(runtime, options);
        let timed_out = within(SOON, pool.ask(Order::PanicInDrop)).await.unwrap_err();
        assert!(matches!(timed_out, AskError::TimedOut { .. }), "{timed_out}");
        assert_eq!(within(SOON, pool.ask(Order::Echo(3))).await.unwrap(), 3);
    });
}

#[test]
fn a_factory_that_fails_or_panics_tells_every_asker() {
    fn check(factory: impl Fn(usize) -> Result<Clerk, Fault> + Send + Sync + 'static, expected: &str) {
        with_runtime(async |runtime| {
            let pool = Pool::start(runtime, PoolOptions::cpu("stillborn", 1), factory).unwrap();
            let asked = join_all((0..20).map(|k| pool.ask(Order::Echo(k))));
            for refused in within(SOON, asked).await {
                let Err(AskError::Start { pool, fault }) = refused else {
                    panic!("expected a start error, got {refused:?}");
                };
                assert_eq!((pool.as_str(), fault.to_string().as_str()), ("stillborn", expected));
            }
            let failure = pool.observe().failure.unwrap();
            assert!(failure.contains("stillborn") && failure.contains(expected), "{failure}");
        });
    }
    check(|_| Err(Fault::input("no model there")), "no model there");
    check(|_| panic!("no memory"), "the factory of worker 0 panicked: no memory");
}

#[test]
fn a_factory_fault_of_the_surroundings_is_tried_again_and_not_forever() {
    with_runtime(async |runtime| {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let flaky =
            Pool::start(runtime, PoolOptions::cpu("flaky", 1), move |_| match counted.fetch_add(1, Ordering::SeqCst) {
                0..3 => Err(Fault::infra("not up yet")),
                _ => Ok(Clerk::default()),
            });
        assert_eq!(within(SOON, flaky.unwrap().ask(Order::Echo(5))).await.unwrap(), 5);
        assert_eq!(tries.load(Ordering::SeqCst), 4);

        let restarts = Restarts { max: 3, window: Duration::ZERO };
        let options = PoolOptions { restarts, ..PoolOptions::cpu("down", 1) };
        let down = Pool::start(runtime, options, |_| Err::<Clerk, _>(Fault::infra("never up"))).unwrap();
        let refused = within(SOON, down.ask(Order::Echo(5))).await.unwrap_err();
        assert!(matches!(&refused, AskError::Start { fault, .. } if fault.kind() == FaultKind::Infra), "{refused}");
    });
}

#[test]
fn a_pool_that_keeps_losing_workers_gives_up_with_the_reason() {
    with_runtime(async |runtime| {
        let restarts = Restarts { max: 3, window: Duration::from_secs(3600) };
        let pool = clerks(runtime, PoolOptions { restarts, ..PoolOptions::cpu("doomed", 2) });
        let mut panics = 0;
        let refusal = loop {
            match within(SOON, pool.ask(Order::Panic("again".into()))).await.unwrap_err() {
                AskError::Panicked { .. } => panics += 1,
                refusal => break refusal,
            }
        };
        assert_eq!(panics, 4);
        let AskError::GaveUp { pool: name, limit: 3, last, .. } = &refusal else {
            panic!("expected to give up, got {refusal}");
        };
        assert_eq!(name, "doomed");
        assert!(last.to_string().ends_with("panicked: again"), "{last}");
        assert_eq!(within(SOON, pool.stop()).await.stuck_threads, 0);
    });
}

#[test]
fn losses_outside_the_window_are_forgotten() {
    with_runtime(async |runtime| {
        let restarts = Restarts { max: 1, window: Duration::ZERO };
        let pool = clerks(runtime, PoolOptions { restarts, ..PoolOptions::cpu("forgiving", 1) });
        for _ in 0..10 {
            let lost = pool.ask(Order::Panic("again".into())).await.unwrap_err();
            assert!(matches!(lost, AskError::Panicked { .. }), "{lost}");
        }
        assert_eq!(pool.ask(Order::Echo(1)).await.unwrap(), 1);
    });
}

#[test]
fn a_thread_that_dies_under_a_message_costs_that_message_and_is_replaced() {
    with_runtime(async |runtime| {
        let pool = clerks(runtime, PoolOptions::cpu("mortal", 1));
        for _ in 0..3 {
            let (killed, echoed) = futures::join!(pool.ask(Order::KillThread), pool.ask(Order::Echo(9)));
            let killed = killed.unwrap_err();
            assert!(killed.to_string().contains("thread of worker 0 was lost"), "{killed}");
            assert_eq!(within(SOON, async { echoed }).await.unwrap(), 9);
        }
        assert_eq!(pool.observe().counts.restarts, 3);
    });
}

#[test]
fn a_handler_that_awaits_too_long_is_dropped_and_no_thread_is_lost() {
    with_runtime(async |runtime| {
        let options = PoolOptions { timeout: Some(Duration::from_millis(30)), ..PoolOptions::io("awaits", 4) };
        let pool = clerks(runtime, options);
        let (_keep, never) = oneshot::channel();
        let late = within(SOON, pool.ask(Order::Await(never))).await.unwrap_err();
        let AskError::TimedOut { limit, .. } = late else { panic!("{late}") };
        assert_eq!(limit, Duration::from_millis(30));
        until(|| pool.observe().workers.iter().all(|worker| worker.activity == Activity::Idle)).await;
        let counts = pool.observe().counts;
        assert_eq!((counts.timed_out, counts.stuck_threads, counts.in_flight), (1, 0, 0));
        assert_eq!(pool.ask(Order::Echo(2)).await.unwrap(), 2);
    });
}

#[test]
fn a_handler_that_blocks_too_long_is_answered_for_and_its_thread_replaced() {
    with_runtime(async |runtime| {
        let options =
            PoolOptions { timeout: Some(Duration::from_millis(30)), capacity: 1, ..PoolOptions::cpu("blocks", 1) };
        let pool = clerks(runtime, options);
        let (unblock, blocked) = mpsc::channel();
        let late = within(SOON, pool.ask(Order::Block(blocked))).await.unwrap_err();
        assert!(matches!(late, AskError::TimedOut { worker: 0, .. }), "{late}");
        // the permit came back although the thread still hangs, and a fresh thread serves
        assert_eq!(within(SOON, pool.ask(Order::Age)).await.unwrap(), 1);
        assert_eq!(pool.observe().counts.stuck_threads, 1);
        unblock.send(()).unwrap();
        until(|| pool.observe().counts.stuck_threads == 0).await;
        // what the old thread did after it was given up on left no trace
        assert_eq!(pool.ask(Order::Age).await.unwrap(), 2);
        let counts = pool.observe().counts;
        assert_eq!((counts.done, counts.timed_out, counts.in_flight), (2, 1, 0));
    });
}

#[test]
fn a_message_that_shares_a_stuck_thread_fails_as_infrastructure() {
    with_runtime(async |runtime| {
        let options = PoolOptions { timeout: Some(Duration::from_millis(200)), ..PoolOptions::io("shared", 2) };
        let pool = clerks(runtime, options);
        let (_keep, never) = oneshot::channel();
        let (_unblock, blocked) = mpsc::channel();
        let (innocent, guilty) = futures::join!(pool.ask(Order::Await(never)), pool.ask(Order::Block(blocked)));
        assert!(matches!(guilty, Err(AskError::TimedOut { .. })), "{guilty:?}");
        // it was waited for as long as its own limit, or lost with the thread, whichever came first
        match innocent.unwrap_err() {
            AskError::TimedOut { .. } => {}
            AskError::Failed(fault) => assert_eq!(fault.kind(), FaultKind::Infra),
            other => panic!("{other}"),
        }
        assert_eq!(within(SOON, pool.ask(Order::Echo(4))).await.unwrap(), 4);
    });
}

#[test]
fn threads_that_hang_are_replaced_only_so_often() {
    with_runtime(async |runtime| {
        let restarts = Restarts { max: 2, window: Duration::ZERO };
        let options = PoolOptions {
            timeout: Some(Duration::from_millis(10)),
            restarts,
            grace: Duration::from_millis(50),
            ..PoolOptions::cpu("hangs", 1)
        };
        let pool = clerks(runtime, options);
        let mut keep = Vec::new();
        let refusal = loop {
            let (unblock, blocked) = mpsc::channel();
            keep.push(unblock);
            match within(SOON, pool.ask(Order::Block(blocked))).await.unwrap_err() {
                AskError::TimedOut { .. } => {}
                refusal => break refusal,
            }
        };
        assert!(matches!(refusal, AskError::GaveUp { limit: 2, .. }), "{refusal}");
        let end = within(SOON, pool.stop()).await;
        assert_eq!(end.stuck_threads, 3);
        drop(keep);
    });
}

#[test]
fn a_caller_that_leaves_frees_its_permit_and_its_message_is_not_handled() {
    with_runtime(async |runtime| {
        let pool = clerks(runtime, PoolOptions { capacity: 2, ..PoolOptions::cpu("left", 1) });
        let (finish, signal) = oneshot::channel();
        let slow = pool.admit().await.unwrap().ask(Order::Await(signal));
        until(|| pool.observe().counts.in_flight == 1).await;
        for _ in 0..100 {
            // queued, then abandoned
            let queued = pool.admit().await.unwrap().ask(Order::Panic("never handled".into()));
            assert_eq!(pool.observe().counts.queued, 1);
            drop(queued);
            // admitted, then given back
            drop(pool.admit().await.unwrap());
        }
        let counts = pool.observe().counts;
        assert_eq!((counts.queued, counts.withdrawn), (0, 100));
        // abandoned while waiting for admission: the second permit is free again afterwards
        let held = pool.admit().await.unwrap();
        assert!(tokio::time::timeout(Duration::ZERO, pool.admit()).await.is_err());
        drop(held);
        drop(pool.admit().await.unwrap());
        // abandoned in flight: the handler runs on, and its permit comes back at its end
        drop(slow);
        finish.send(()).unwrap();
        let both = (pool.admit().await.unwrap(), pool.admit().await.unwrap());
        assert_eq!(pool.observe().counts.done, 1);
        drop(both);
    });
}

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
        let queued = join_all((0..14).map(async |k| pool.admit().await.unwrap().ask(Order::Echo(k)))).await;
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
        let (unblock, blocked) = mpsc::channel();
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
fn a_lost_worker_is_infrastructure_and_a_retry_finds_the_next_one() {
    with_runtime(async |runtime| {
        let pool = clerks(runtime, PoolOptions::cpu("retried", 1));
        let policy = Retry { attempts: 3, base: Duration::ZERO, cap: Duration::ZERO, seed: 1 };
        let answer = retry(policy, |attempt| pool.ask(if attempt == 1 { Order::KillThread } else { Order::Echo(8) }));
        assert_eq!(within(SOON, answer).await.unwrap(), 8);
        pool.stop().await;
        let mut tries = 0;
        let refused = retry(policy, |attempt| {
            tries = attempt;
            pool.ask(Order::Echo(8))
        });
        assert!(matches!(refused.await, Err(AskError::Stopped)));
        assert_eq!(tries, 1, "a closed pool is not asked again");
    });
}

#[test]
fn a_runtime_dropped_without_shutdown_answers_whoever_waits() {
    for _ in 0..20 {
        let runtime = Runtime::new().unwrap();
        let pool = clerks(&runtime, PoolOptions::cpu("orphan", 1));
        let (_keep, never) = oneshot::channel();
        let asked = runtime.block_on(async { pool.admit().await.unwrap().ask(Order::Await(never)) });
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
