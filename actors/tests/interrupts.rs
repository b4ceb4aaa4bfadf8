//! Ctrl-C: the first asks, the second insists. Alone in this file, because signals are the whole process's.

#![allow(clippy::unwrap_used, reason = "what a test cannot unwrap has failed it")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use support::{until, with_runtime, within};

#[test]
fn the_first_signal_cancels_and_the_second_exits() {
    with_runtime(async |runtime| {
        let exited = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&exited);
        let cancel = runtime.interrupts(move || seen.store(true, Ordering::SeqCst)).await.unwrap();
        let branch = cancel.child_token();
        assert!(!cancel.is_cancelled());

        kill_process(getpid(), Signal::INT).unwrap();
        within(Duration::from_secs(20), branch.cancelled()).await;
        assert!(cancel.is_cancelled());
        assert!(!exited.load(Ordering::SeqCst), "the first signal lets work end");

        kill_process(getpid(), Signal::TERM).unwrap();
        until(|| exited.load(Ordering::SeqCst)).await;
    });
}
