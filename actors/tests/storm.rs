//! Ten thousand messages of 64 KiB through a pool that may hold sixteen of them: 1 MiB, not 640.

#![allow(clippy::unwrap_used, reason = "what a test cannot unwrap has failed it")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use support::{with_runtime, within};
use tracker_actors::{Fault, Pool, PoolOptions, Turn, Worker};

const N_MESSAGES: usize = 10_000;
const N_HANDLES: usize = 64;
const CAPACITY: usize = 16;
const MESSAGE_BYTES: usize = 64 * 1024;

/// Messages alive now, and most alive at once.
#[derive(Default)]
struct Census {
    living: AtomicUsize,
    most: AtomicUsize,
}

struct Load {
    bytes: Vec<u8>,
    census: Arc<Census>,
}

impl Load {
    fn new(fill: u8, census: &Arc<Census>) -> Self {
        let living = census.living.fetch_add(1, Ordering::SeqCst) + 1;
        census.most.fetch_max(living, Ordering::SeqCst);
        Self { bytes: vec![fill; MESSAGE_BYTES], census: Arc::clone(census) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.census.living.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Adder;

impl Worker for Adder {
    type Message = Load;
    type Reply = u64;
    type State = u64;

    async fn handle(&mut self, load: Load, turn: &mut Turn<'_, u64>) -> Result<u64, Fault> {
        turn.update(|handled| *handled += 1);
        Ok(load.bytes.iter().map(|&byte| u64::from(byte)).sum())
    }
}

/// A figure of `/proc/self/status`, in bytes.
fn memory(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn a_storm_of_large_messages_from_many_handles_stays_within_its_bound() {
    with_runtime(async |runtime| {
        let options = PoolOptions { capacity: CAPACITY, ..PoolOptions::cpu("adders", 2) };
        let pool = Pool::start(runtime, options, |_| Ok(Adder)).unwrap();
        let census = Arc::new(Census::default());
        let first = pool.ask(Load::new(1, &census)).await.unwrap();
        assert_eq!(first, MESSAGE_BYTES as u64);

        // all of them wait at once, so that nothing but the pool holds them back
        let handles: Vec<_> = (0..N_HANDLES).map(|_| pool.clone()).collect();
        let askers: Vec<_> = (0..N_MESSAGES)
            .map(|k| {
                let census = &census;
                handles[k % N_HANDLES].ask_with(move || Load::new((k % 251) as u8, census))
            })
            .collect();
        let before = memory("VmRSS:");
        let sums = within(Duration::from_mins(5), join_all(askers)).await;
        let grown = memory("VmHWM:").saturating_sub(before);

        for (k, sum) in sums.into_iter().enumerate() {
            assert_eq!(sum.unwrap(), (k % 251 * MESSAGE_BYTES) as u64);
        }
        assert!(census.most.load(Ordering::SeqCst) <= CAPACITY, "{:?} messages at once", census.most);
        assert_eq!(census.living.load(Ordering::SeqCst), 0);
        let status = pool.observe();
        assert!(status.counts.peak <= CAPACITY, "{} queued and in flight", status.counts.peak);
        assert_eq!(status.counts.done, 1 + N_MESSAGES as u64);
        assert_eq!(status.workers.iter().map(|worker| worker.state).sum::<u64>(), 1 + N_MESSAGES as u64);
        // capacity times size, and what allocators and 10,000 waiting askers add
        let bound = CAPACITY * MESSAGE_BYTES + 8 * 1024 * 1024;
        assert!(grown <= bound, "resident memory grew by {grown} bytes, expected at most {bound}");
        assert!(bound * 50 < N_MESSAGES * MESSAGE_BYTES, "an unbounded queue would show");
    });
}
