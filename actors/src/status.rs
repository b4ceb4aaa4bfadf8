//! What an observer sees of a pool. A reading is consistent in its counts; worker states are read one after another.

use serde::Serialize;

use crate::error::AskError;

/// A pool at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status<S = serde_json::Value> {
    /// Name of the pool.
    pub name: String,
    /// Whether it takes messages.
    pub phase: Phase,
    /// Why it closed by itself, if it did.
    pub failure: Option<String>,
    /// Messages admitted at once, at most: queued and in flight together.
    pub capacity: usize,
    /// Messages and losses since it started.
    #[serde(flatten)]
    pub counts: Counts,
    /// The workers, by index.
    pub workers: Vec<WorkerStatus<S>>,
}

/// Messages and losses of a pool since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Messages waiting for a worker.
    pub queued: usize,
    /// Messages in a handler.
    pub in_flight: usize,
    /// Most messages ever queued and in flight together.
    pub peak: usize,
    /// Messages answered with a reply.
    pub done: u64,
    /// Messages answered with a fault.
    pub failed: u64,
    /// Messages whose handler panicked.
    pub panicked: u64,
    /// Messages whose handler took too long.
    pub timed_out: u64,
    /// Messages answered with `Stopped`, or with the reason the pool closed, before they were done.
    pub stopped: u64,
    /// Messages withdrawn from the queue because nobody waited for them any more.
    pub withdrawn: u64,
    /// Workers rebuilt after a panic, a timeout, a failed factory or a lost thread.
    pub restarts: u64,
    /// Threads given up on that still hang in a handler.
    pub stuck_threads: usize,
}

impl Counts {
    pub(crate) fn count<T>(&mut self, outcome: &Result<T, AskError>) {
        *match outcome {
            Ok(_) => &mut self.done,
            Err(AskError::Failed(_)) => &mut self.failed,
            Err(AskError::Panicked { .. }) => &mut self.panicked,
            Err(AskError::TimedOut { .. }) => &mut self.timed_out,
            Err(AskError::Stopped | AskError::Start { .. } | AskError::GaveUp { .. }) => &mut self.stopped,
        } += 1;
    }
}

/// Whether a pool takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Messages are admitted.
    Running,
    /// Nothing is admitted; what is in flight may finish.
    Stopping,
    /// All workers are gone.
    Stopped,
}

/// One worker at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerStatus<S = serde_json::Value> {
    /// What it is doing.
    pub activity: Activity,
    /// Seconds spent on the present message so far.
    pub busy_secs: Option<f64>,
    /// What the worker shows of itself.
    pub state: S,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// Its factory is building it.
    Building,
    /// Waiting for a message.
    Idle,
    /// Handling a message.
    Busy,
    /// Not there: its thread is lost or stopped.
    Gone,
}

/// How a pool ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Name of the pool.
    pub name: String,
    /// Threads that ended and were joined.
    pub joined_threads: usize,
    /// Threads that still hang in a handler and cannot be killed; they end with the process.
    pub stuck_threads: usize,
}
