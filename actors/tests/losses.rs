//! What a pool loses when a handler panics, hangs or takes its thread along: that message, and nothing else.

#![allow(clippy::unwrap_used, reason = "what a test cannot unwrap has failed it")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use support::{Clerk, Desk, Order, clerks, until, with_runtime, within};
use tokio::sync::oneshot;
use tracker_actors::{Activity, AskError, Fault, FaultKind, Pool, PoolOptions, Restarts, Retry, Retryable, retry};

const SOON: Duration = Duration::from_secs(20);

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
        let restarts = Restarts { max: 3, window: Duration::from_hours(1) };
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
fn one_timeout_does_not_delay_the_next() {
    with_runtime(async |runtime| {
        let options = PoolOptions { timeout: Some(Duration::from_millis(10)), ..PoolOptions::io("prompt", 1) };
        let pool = clerks(runtime, options);
        let mut keep = Vec::new();
        let late = async {
            for _ in 0..20 {
                let (sender, never) = oneshot::channel();
                keep.push(sender);
                let late = pool.ask(Order::Await(never)).await.unwrap_err();
                assert!(matches!(late, AskError::TimedOut { .. }), "{late}");
            }
        };
        // a guardian that only looked again once the last handler must have let go would take 20 s
        within(Duration::from_secs(10), late).await;
    });
}

#[test]
fn a_handler_that_blocks_too_long_is_answered_for_and_its_thread_replaced() {
    with_runtime(async |runtime| {
        let options =
            PoolOptions { timeout: Some(Duration::from_millis(30)), capacity: 1, ..PoolOptions::cpu("blocks", 1) };
        let pool = clerks(runtime, options);
        let (unblock, blocked) = mpsc::sync_channel(1);
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
fn messages_that_share_a_stuck_thread_all_end_and_a_fresh_thread_serves() {
    with_runtime(async |runtime| {
        let options = PoolOptions { timeout: Some(Duration::from_millis(200)), ..PoolOptions::io("shared", 2) };
        let pool = clerks(runtime, options);
        let (_keep, never) = oneshot::channel();
        let (_unblock, blocked) = mpsc::sync_channel(1);
        let (innocent, guilty) = futures::join!(pool.ask(Order::Await(never)), pool.ask(Order::Block(blocked)));
        assert!(matches!(guilty, Err(AskError::TimedOut { .. })), "{guilty:?}");
        // it has as long as its own limit, or is lost with the thread, whichever comes first; never scored either way
        let innocent = innocent.unwrap_err();
        assert!(innocent.is_retryable(), "{innocent}");
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
            let (unblock, blocked) = mpsc::sync_channel(1);
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
