//! Seeded chaos: whatever is asked, however askers and workers leave, every message is accounted for exactly once.

#![allow(clippy::unwrap_used, reason = "what a test cannot unwrap has failed it")]

mod support;

use std::time::Duration;

use futures::future::join_all;
use futures::join;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{Order, clerks, until, with_runtime, within};
use tokio::sync::oneshot;
use tracker_actors::{AskError, Counts, Fault, PoolOptions, Restarts};

const N_MESSAGES: usize = 300;
const CAPACITY: usize = 7;

/// How the asks of one round ended, as their askers saw it.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    answered: u64,
    left: u64,
    refused: u64,
}

/// One round; returns what askers saw and what the pool counted.
fn round(seed: u64, stops: bool) -> (Seen, Counts) {
    with_runtime(async |runtime| {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let workers = dice.random_range(1..=4);
        let options = PoolOptions {
            capacity: CAPACITY,
            threads: dice.random_range(1..=workers),
            timeout: Some(Duration::from_millis(20)),
            restarts: Restarts { max: usize::MAX, window: Duration::ZERO },
            ..PoolOptions::cpu("chaos", workers)
        };
        let pool = clerks(runtime, options);
        let mut keep = Vec::new();
        let asks: Vec<_> = (0..N_MESSAGES)
            .map(|k| {
                let order = match dice.random_range(0..100) {
                    0..4 => Order::Panic("chaos".into()),
                    4..6 => Order::KillThread,
                    6..12 => Order::Fail(Fault::input("chaos")),
                    12..14 => {
                        let (sender, never) = oneshot::channel();
                        keep.push(sender);
                        Order::Await(never)
                    }
                    14 => Order::PanicInDrop,
                    _ => Order::Echo(k as u64),
                };
                let patience = dice.random_bool(0.2).then(|| dice.random_range(0..4_usize));
                (order, patience)
            })
            .collect();
        let done_before_stop = dice.random_range(0..N_MESSAGES as u64 / 2);
        let stopping = async {
            if stops {
                until(|| pool.observe().counts.done >= done_before_stop).await;
                pool.stop().await;
            }
        };
        let asked = asks.into_iter().map(|(order, patience)| {
            let pool = &pool;
            async move {
                let Ok(admission) = pool.admit().await else { return None };
                let asked = admission.ask(order);
                match patience {
                    None => Some(Some(asked.await)),
                    Some(turns) => {
                        for _ in 0..turns {
                            tokio::task::yield_now().await;
                        }
                        drop(asked);
                        Some(None)
                    }
                }
            }
        });
        let mut seen = Seen::default();
        let (outcomes, ()) = within(Duration::from_secs(50), async { join!(join_all(asked), stopping) }).await;
        for outcome in outcomes {
            match outcome {
                None => seen.refused += 1,
                Some(None) => seen.left += 1,
                Some(Some(Err(AskError::GaveUp { .. } | AskError::Start { .. }))) => panic!("it may lose any number"),
                Some(Some(_)) => seen.answered += 1,
            }
        }
        if !stops {
            // every permit is back, also those of askers who left
            let all = within(Duration::from_secs(20), join_all((0..CAPACITY).map(|_| pool.admit()))).await;
            assert!(all.into_iter().all(|admission| admission.is_ok()));
        }
        pool.stop().await;
        (seen, pool.observe().counts)
    })
}

fn assert_accounted(seed: u64, stops: bool) {
    let (seen, counts) = round(seed, stops);
    let ended = counts.done + counts.failed + counts.panicked + counts.timed_out + counts.stopped + counts.withdrawn;
    assert_eq!(seen.answered + seen.left, ended, "seed {seed}: {seen:?} {counts:?}");
    assert_eq!(seen.answered + seen.left + seen.refused, N_MESSAGES as u64, "seed {seed}: {seen:?}");
    assert_eq!((counts.queued, counts.in_flight), (0, 0), "seed {seed}: {counts:?}");
    assert!(counts.peak <= CAPACITY, "seed {seed}: {counts:?}");
    assert_eq!(stops, seen.refused > 0, "seed {seed}: {seen:?}");
}

#[test]
fn every_message_of_a_running_pool_is_accounted_for_once() {
    for seed in 0..12 {
        assert_accounted(seed, false);
    }
}

#[test]
fn every_message_of_a_pool_that_stops_midway_is_accounted_for_once() {
    for seed in 100..112 {
        assert_accounted(seed, true);
    }
}
