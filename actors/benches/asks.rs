//! Asks per second and CPU per ask, beside a plain actix `send().await` in the same process.
//!
//! One actor or worker on a thread of its own, asked from the main thread: one after another, and by 64 tasks at once.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter, Context, Handler, Message};
use futures::future::join_all;
use tracker_actors::{Fault, Pool, PoolOptions, Runtime, Turn, Worker};

const N_ROUNDS: usize = 5;
const N_ASKERS: u64 = 64;
const N_SEQUENTIAL: u64 = 100_000;
const N_CONCURRENT: u64 = 1_000_000;

#[derive(Message)]
#[rtype(result = "u64")]
struct Add(u64);

#[derive(Default)]
struct Sum(u64);

impl Actor for Sum {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1024);
    }
}

impl Handler<Add> for Sum {
    type Result = u64;

    fn handle(&mut self, Add(number): Add, _: &mut Self::Context) -> u64 {
        self.0 += number;
        self.0
    }
}

impl Worker for Sum {
    type Message = Add;
    type Reply = u64;
    type State = ();

    async fn handle(&mut self, Add(number): Add, _: &mut Turn<'_, ()>) -> Result<u64, Fault> {
        self.0 += number;
        Ok(self.0)
    }
}

/// User and system time of this process so far; `/proc` counts it in ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Runs `work` several times; median CPU microseconds and wall microseconds per ask.
async fn measure(name: &str, n_asks: u64, mut work: impl AsyncFnMut()) -> f64 {
    let mut rounds = Vec::new();
    for _ in 0..N_ROUNDS {
        let (wall, busy) = (Instant::now(), cpu());
        work().await;
        let per_ask = |time: Duration| time.as_secs_f64() * 1e6 / n_asks as f64;
        rounds.push((per_ask(cpu().saturating_sub(busy)), per_ask(wall.elapsed())));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (cpu_micros, wall_micros) = rounds[N_ROUNDS / 2];
    println!(
        "{name:<34} {:>9.0} asks/s   {cpu_micros:>6.2} CPU µs/ask   {wall_micros:>6.2} wall µs/ask",
        1e6 / wall_micros
    );
    cpu_micros
}

async fn raw_sequential(actor: &Addr<Sum>) {
    for _ in 0..N_SEQUENTIAL {
        actor.send(Add(1)).await.unwrap_or_default();
    }
}

async fn raw_concurrent(actor: &Addr<Sum>) {
    let tasks = (0..N_ASKERS).map(|_| {
        let actor = actor.clone();
        actix::spawn(async move {
            for _ in 0..N_CONCURRENT / N_ASKERS {
                actor.send(Add(1)).await.unwrap_or_default();
            }
        })
    });
    join_all(tasks).await;
}

async fn our_sequential(pool: &Pool<Sum>) {
    for _ in 0..N_SEQUENTIAL {
        pool.ask(Add(1)).await.unwrap_or_default();
    }
}

async fn our_concurrent(pool: &Pool<Sum>) {
    let tasks = (0..N_ASKERS).map(|_| {
        let pool = pool.clone();
        actix::spawn(async move {
            for _ in 0..N_CONCURRENT / N_ASKERS {
                pool.ask(Add(1)).await.unwrap_or_default();
            }
        })
    });
    join_all(tasks).await;
}

/// Adds up the bytes it is sent.
struct Bytes;

impl Worker for Bytes {
    type Message = Vec<u8>;
    type Reply = u64;
    type State = ();

    async fn handle(&mut self, bytes: Vec<u8>, _: &mut Turn<'_, ()>) -> Result<u64, Fault> {
        Ok(bytes.iter().map(|&byte| u64::from(byte)).sum())
    }
}

/// A figure of `/proc/self/status`, in KiB.
fn memory_kib(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default()
}

/// 10,000 askers at once, each with 64 KiB to send, through a pool that admits 16.
async fn storm(runtime: &Runtime) -> Result<(), tracker_actors::Error> {
    const N_MESSAGES: usize = 10_000;
    let options = PoolOptions { capacity: 16, ..PoolOptions::cpu("bytes", 2) };
    let pool = Pool::start(runtime, options, |_| Ok(Bytes))?;
    let handles: Vec<_> = (0..N_ASKERS).map(|_| pool.clone()).collect();
    let asks = (0..N_MESSAGES).map(|k| handles[k % handles.len()].ask_with(|| vec![1; 64 * 1024]));
    let asks: Vec<_> = asks.collect();
    let (resident, wall, busy) = (memory_kib("VmRSS:"), Instant::now(), cpu());
    let n_answered = join_all(asks).await.into_iter().flatten().count();
    println!(
        "storm: {n_answered} of {N_MESSAGES} answered in {:.2} s ({:.2} CPU s), at most {} at once, memory grew by {} KiB",
        wall.elapsed().as_secs_f64(),
        cpu().saturating_sub(busy).as_secs_f64(),
        pool.observe().counts.peak,
        memory_kib("VmHWM:").saturating_sub(resident),
    );
    Ok(())
}

fn main() -> Result<(), tracker_actors::Error> {
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let arbiter = Arbiter::new();
        let actor = Sum::start_in_arbiter(&arbiter.handle(), |_| Sum::default());
        let options = PoolOptions { capacity: 1024, ..PoolOptions::cpu("sum", 1) };
        let pool = Pool::start(&runtime, options.clone(), |_| Ok(Sum::default()))?;
        let timed = PoolOptions { timeout: Some(Duration::from_mins(1)), ..options };
        let timed = Pool::start(&runtime, timed, |_| Ok(Sum::default()))?;

        let raw = measure("actix send, one after another", N_SEQUENTIAL, async || raw_sequential(&actor).await).await;
        let ours = measure("ask, one after another", N_SEQUENTIAL, async || our_sequential(&pool).await).await;
        println!("  ours / actix: {:.2}", ours / raw);
        let raw = measure("actix send, 64 tasks", N_CONCURRENT, async || raw_concurrent(&actor).await).await;
        let ours = measure("ask, 64 tasks", N_CONCURRENT, async || our_concurrent(&pool).await).await;
        println!("  ours / actix: {:.2}", ours / raw);
        let ours = measure("ask with a timeout, 64 tasks", N_CONCURRENT, async || our_concurrent(&timed).await).await;
        println!("  ours / actix: {:.2}", ours / raw);
        storm(&runtime).await?;
        runtime.shutdown().await;
        arbiter.stop();
        Ok(())
    })
}
