//! What a pool promises whoever asks: an outcome, in order, within bounds.

#![allow(clippy::unwrap_used, reason = "what a test cannot unwrap has failed it")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use support::{Clerk, Order, clerks, until, with_runtime};
use tokio::sync::oneshot;
use tracker_actors::{Error, Fault, Pool, PoolOptions};

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
