//! Workers and helpers that several tests use.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses some of these; what a test cannot unwrap has failed it"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once, mpsc};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::oneshot;
use tracker_actors::{Fault, Handle, Pool, PoolOptions, Runtime, Turn, Worker};

/// What a [`Clerk`] is told to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Answer the number.
    Echo(u64),
    /// Panic with the text.
    Panic(String),
    /// Answer with this fault.
    Fail(Fault),
    /// Await the signal, then answer 0.
    Await(oneshot::Receiver<()>),
    /// Block the thread until the signal, then answer 0.
    Block(mpsc::Receiver<()>),
    /// End the Arbiter this runs on, then await forever.
    KillThread,
    /// Panic while the handler's future is dropped.
    PanicInDrop,
    /// Answer how many messages this very worker has handled, this one included.
    Age,
}

/// What observers see of a clerk.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Desk {
    pub(crate) handled: u64,
}

/// A worker that does as it is told.
#[derive(Default)]
pub(crate) struct Clerk {
    pub(crate) age: u64,
    pub(crate) flushed: Arc<AtomicUsize>,
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "panic in a drop");
    }
}

impl Worker for Clerk {
    type Message = Order;
    type Reply = u64;
    type State = Desk;

    async fn handle(&mut self, order: Order, turn: &mut Turn<'_, Desk>) -> Result<u64, Fault> {
        turn.update(|desk| desk.handled += 1);
        self.age += 1;
        match order {
            Order::Echo(number) => Ok(number),
            Order::Panic(text) => panic!("{text}"),
            Order::Fail(fault) => Err(fault),
            Order::Await(signal) => {
                signal.await.ok();
                Ok(0)
            }
            Order::Block(signal) => {
                signal.recv().ok();
                Ok(0)
            }
            Order::KillThread => {
                actix::Arbiter::current().stop();
                std::future::pending().await
            }
            Order::PanicInDrop => {
                let _panics = PanicsInDrop;
                std::future::pending().await
            }
            Order::Age => Ok(self.age),
        }
    }

    fn stopping(&mut self) {
        self.flushed.fetch_add(1, Ordering::SeqCst);
    }
}

/// Starts a pool of clerks.
pub(crate) fn clerks(runtime: &Handle, options: PoolOptions) -> Pool<Clerk> {
    Pool::start(runtime, options, |_| Ok(Clerk::default())).unwrap()
}

/// Keeps panics of workers, which tests cause by the hundred, from printing a backtrace each.
fn hush_workers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !std::thread::current().name().is_some_and(|name| name.starts_with("actix-rt")) {
                print(panic);
            }
        }));
    });
}

/// Runs `test` in a runtime of its own and shuts that down; fails rather than hang.
pub(crate) fn with_runtime<T>(test: impl AsyncFnOnce(&Handle) -> T) -> T {
    hush_workers();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let outcome = within(Duration::from_mins(1), test(&runtime)).await;
        within(Duration::from_mins(1), runtime.shutdown()).await;
        outcome
    })
}

/// Awaits `future`, which must not take longer than `limit`.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> F::Output {
    let begun = Instant::now();
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("nothing after {:?}", begun.elapsed()))
}

/// Lets others run until `holds`, for a minute at most.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    within(Duration::from_mins(1), async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
