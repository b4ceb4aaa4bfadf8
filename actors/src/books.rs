//! The state of one pool: who waits, who works on what, who is gone, and what each outcome means for the rest.
//!
//! Plain data behind one lock, without threads, timers or actix, so that every transition is one short function.
//! Invariants:
//! - a message is in the queue or in a handler, never in a mailbox, so losing an actor loses no message;
//! - every message leaves through [`Settled`] exactly once, with its permit, or is withdrawn after its asker left;
//! - a host whose [`Post`] is of an older generation changes nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::desk::Desk;
use crate::error::{AskError, Fault};
use crate::host::Host;
use crate::pool::PoolOptions;
use crate::shield::discard;
use crate::status::{Activity, Counts, Phase};
use crate::worker::Worker;

/// How long a cancelled handler may take to let go before its thread counts as stuck; long enough for a crowded machine
/// to give that thread a turn.
pub(crate) const LETTING_GO: Duration = Duration::from_secs(1);

/// The reply or the reason for none.
pub(crate) type Outcome<W> = Result<<W as Worker>::Reply, AskError>;

/// Where a host hears that there is work; shared, because a clone of an `Addr` is three allocations.
pub(crate) type Doorbell<W> = Arc<Addr<Host<W>>>;

/// A seat as one host knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Post {
    pub(crate) seat: usize,
    pub(crate) generation: u64,
}

/// Where the outcome of one message goes, and the permit that message holds.
pub(crate) struct Answer<W: Worker> {
    pub(crate) reply: oneshot::Sender<Outcome<W>>,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// An admitted message.
pub(crate) struct Job<W: Worker> {
    pub(crate) message: W::Message,
    pub(crate) answer: Answer<W>,
}

impl<W: Worker> Job<W> {
    /// Drops the message and tells its asker why.
    pub(crate) fn refuse(self, why: AskError) {
        discard(self.message);
        Settled(self.answer, Err(why)).send();
    }
}

/// An outcome on its way out; sent once the lock is released.
#[must_use = "an outcome that is not sent leaves its asker waiting"]
pub(crate) struct Settled<W: Worker>(Answer<W>, Outcome<W>);

impl<W: Worker> Settled<W> {
    pub(crate) fn send(self) {
        let Self(Answer { reply, permit }, outcome) = self;
        drop(permit);
        // an asker that left meanwhile wants no answer
        drop(reply.send(outcome));
    }
}

/// What a host does next.
pub(crate) enum Next<W: Worker> {
    /// Handle this message, known by its ticket.
    Handle(Work<W>),
    /// Nothing to do until woken.
    Rest,
    /// The seat belongs to another host now.
    Leave,
}

/// A message handed to a host.
pub(crate) struct Work<W: Worker> {
    pub(crate) ticket: u64,
    pub(crate) deadline: Option<Instant>,
    pub(crate) message: W::Message,
}

struct Task<W: Worker> {
    ticket: u64,
    started: Instant,
    /// Gone once the asker has been told that time is up.
    answer: Option<Answer<W>>,
    /// When the handler was cancelled.
    cancelled: Option<Instant>,
}

enum Place<W: Worker> {
    Building,
    Idle,
    Woken,
    Busy(Task<W>),
    Gone,
}

struct Seat<W: Worker> {
    addr: Option<Doorbell<W>>,
    desk: Arc<Desk<W::State>>,
    generation: u64,
    place: Place<W>,
}

/// What the guardian has to do after looking around.
pub(crate) struct Inspection<W: Worker> {
    pub(crate) settled: Vec<Settled<W>>,
    /// Handlers to cancel.
    pub(crate) overdue: Vec<(Arc<Desk<W::State>>, u64)>,
    /// Threads to replace, and why.
    pub(crate) broken: Vec<(usize, Fault)>,
    /// When to look again, if nothing happens before.
    pub(crate) look_again: Option<Instant>,
}

/// A seat as observers see it.
pub(crate) struct View<S> {
    pub(crate) activity: Activity,
    pub(crate) busy_secs: Option<f64>,
    pub(crate) desk: Arc<Desk<S>>,
}

/// The whole state of one pool.
pub(crate) struct Books<W: Worker> {
    options: PoolOptions,
    pub(crate) phase: Phase,
    /// What is said to whoever asks once the pool has closed.
    pub(crate) refusal: Option<AskError>,
    pub(crate) queue: VecDeque<Job<W>>,
    idle: Vec<usize>,
    seats: Vec<Seat<W>>,
    losses: VecDeque<Instant>,
    last_ticket: u64,
    /// When the guardian looks again by itself, so that starting a message need not call it.
    looks_again: Option<Instant>,
    pub(crate) counts: Counts,
}

impl<W: Worker> Books<W> {
    pub(crate) fn new(options: PoolOptions) -> Self {
        let seat = |_| Seat { addr: None, desk: Arc::default(), generation: 0, place: Place::Gone };
        Self {
            seats: (0..options.workers).map(seat).collect(),
            options,
            phase: Phase::Running,
            refusal: None,
            queue: VecDeque::new(),
            idle: Vec::new(),
            losses: VecDeque::new(),
            last_ticket: 0,
            looks_again: None,
            counts: Counts::default(),
        }
    }

    /// Takes an admitted message; the host in the answer, if any, is to be woken.
    /// # Errors
    /// The job comes back if the pool has closed.
    pub(crate) fn submit(&mut self, job: Job<W>) -> Result<Option<Doorbell<W>>, (Job<W>, AskError)> {
        if let Some(refusal) = &self.refusal {
            return Err((job, refusal.clone()));
        }
        self.queue.push_back(job);
        self.counts.peak = self.counts.peak.max(self.queue.len() + self.counts.in_flight);
        Ok(self.idle.pop().and_then(|seat| {
            self.seats[seat].place = Place::Woken;
            self.seats[seat].addr.clone()
        }))
    }

    /// Takes the queued messages nobody waits for any more.
    pub(crate) fn withdraw(&mut self) -> Vec<Job<W>> {
        let mut kept = VecDeque::with_capacity(self.queue.len());
        let mut withdrawn = Vec::new();
        for job in self.queue.drain(..) {
            if job.answer.reply.is_closed() {
                withdrawn.push(job);
            } else {
                kept.push_back(job);
            }
        }
        self.queue = kept;
        self.counts.withdrawn += withdrawn.len() as u64;
        withdrawn
    }

    /// The next message for `post`, or rest. A worker that is not there (`able` false) always rests.
    pub(crate) fn next(&mut self, post: Post, able: bool, now: Instant) -> Next<W> {
        if !self.holds(post) {
            return Next::Leave;
        }
        let seat = &mut self.seats[post.seat];
        let Some(job) = (if able { self.queue.pop_front() } else { None }) else {
            seat.place = Place::Idle;
            if able {
                self.idle.push(post.seat);
            }
            return Next::Rest;
        };
        self.last_ticket += 1;
        self.counts.in_flight += 1;
        seat.place =
            Place::Busy(Task { ticket: self.last_ticket, started: now, answer: Some(job.answer), cancelled: None });
        Next::Handle(Work {
            ticket: self.last_ticket,
            deadline: self.options.timeout.map(|timeout| now + timeout),
            message: job.message,
        })
    }

    /// Whether the guardian has to be called for a deadline: it would look too late by itself.
    pub(crate) fn calls_for(&mut self, deadline: Instant) -> bool {
        let calls = self.looks_again.is_none_or(|again| again > deadline);
        if calls {
            self.looks_again = Some(deadline);
        }
        calls
    }

    /// Ends the message `post` works on; nothing to send if its asker has been answered already.
    pub(crate) fn settle(&mut self, post: Post, outcome: Outcome<W>) -> Option<Settled<W>> {
        if !self.holds(post) {
            return None;
        }
        self.vacate(post.seat, Place::Building, outcome)
    }

    /// Counts a worker rebuilt. `counts`: whether it is a loss that the pool survives only so often.
    /// # Errors
    /// What to close the pool with, when there were too many.
    pub(crate) fn restart(&mut self, now: Instant, counts: bool, why: &Fault) -> Result<(), AskError> {
        self.counts.restarts += 1;
        if !counts {
            return Ok(());
        }
        let limits = self.options.restarts;
        while self.losses.front().is_some_and(|&then| now.duration_since(then) > limits.window) {
            self.losses.pop_front();
        }
        self.losses.push_back(now);
        if self.losses.len() <= limits.max {
            return Ok(());
        }
        Err(self.gave_up(why))
    }

    /// What is said once too many workers were lost, the last of them for `why`.
    pub(crate) fn gave_up(&self, why: &Fault) -> AskError {
        AskError::GaveUp {
            pool: self.options.name.clone(),
            limit: self.options.restarts.max,
            window: self.options.restarts.window,
            last: why.clone(),
        }
    }

    /// Closes the pool; the first reason stays. The queued messages come back, to be refused with it.
    pub(crate) fn close(&mut self, why: AskError) -> (VecDeque<Job<W>>, AskError) {
        if self.phase == Phase::Running {
            self.phase = Phase::Stopping;
        }
        let why = self.refusal.get_or_insert(why).clone();
        self.counts.stopped += self.queue.len() as u64;
        (std::mem::take(&mut self.queue), why)
    }

    /// Puts a new host on a seat; `hire` gets its post and desk and starts it while nobody else can look.
    pub(crate) fn appoint(&mut self, seat: usize, hire: impl FnOnce(Post, Arc<Desk<W::State>>) -> Addr<Host<W>>) {
        let seat_idx = seat;
        let seat = &mut self.seats[seat_idx];
        seat.generation += 1;
        seat.desk = Arc::default();
        seat.place = Place::Building;
        let post = Post { seat: seat_idx, generation: seat.generation };
        seat.addr = Some(Arc::new(hire(post, Arc::clone(&seat.desk))));
    }

    /// The host of `post` is gone, for whatever reason.
    pub(crate) fn leave(&mut self, post: Post) -> Option<Settled<W>> {
        if !self.holds(post) {
            return None;
        }
        let fault = Fault::infra(format!("the thread of worker {} was lost", post.seat));
        let settled = self.vacate(post.seat, Place::Gone, Err(fault.into()));
        self.seats[post.seat].addr = None;
        settled
    }

    /// Takes a thread's hosts off their seats; whatever they still do changes nothing from here on.
    pub(crate) fn dismiss(&mut self, thread: usize, why: &Fault) -> Vec<Settled<W>> {
        let seats = self.seats_of(thread);
        let settled = seats.filter_map(|seat| {
            let settled = self.vacate(seat, Place::Gone, Err(why.clone().into()));
            self.seats[seat].generation += 1;
            self.seats[seat].addr = None;
            settled
        });
        settled.collect()
    }

    /// Finds messages that are overdue, threads that hang or are gone, and when to look again.
    pub(crate) fn inspect(&mut self, now: Instant) -> Inspection<W> {
        let mut found = Inspection { settled: Vec::new(), overdue: Vec::new(), broken: Vec::new(), look_again: None };
        for idx in 0..self.seats.len() {
            let gone = matches!(self.seats[idx].place, Place::Gone);
            let thread = idx % self.options.threads;
            let Some(due) = self.due(idx) else {
                if gone && self.phase == Phase::Running {
                    found.report(thread, || format!("the thread of worker {idx} was lost"));
                }
                continue;
            };
            if due > now {
                found.look_again = Some(found.look_again.map_or(due, |again| again.min(due)));
            } else if let Some(limit) = self.options.timeout.filter(|_| self.is_waited_for(idx)) {
                let timed_out = AskError::TimedOut { worker: idx, limit };
                found.settled.extend(self.cancel(idx, timed_out, now, &mut found.overdue));
                let due = now + LETTING_GO;
                found.look_again = Some(found.look_again.map_or(due, |again| again.min(due)));
            } else {
                found.report(thread, || format!("worker {idx} hangs in a handler"));
            }
        }
        self.looks_again = found.look_again;
        found
    }

    /// Cancels whatever is in flight, answering with the reason the pool closed.
    pub(crate) fn cancel_all(&mut self, now: Instant) -> Inspection<W> {
        let mut found = Inspection { settled: Vec::new(), overdue: Vec::new(), broken: Vec::new(), look_again: None };
        let why = self.refusal.clone().unwrap_or(AskError::Stopped);
        for idx in 0..self.seats.len() {
            found.settled.extend(self.cancel(idx, why.clone(), now, &mut found.overdue));
        }
        found
    }

    /// Whether no host of `thread` builds, handles or is about to.
    pub(crate) fn is_quiet(&self, thread: usize) -> bool {
        self.seats_of(thread).all(|seat| matches!(self.seats[seat].place, Place::Idle | Place::Gone))
    }

    /// Whether all hosts of `thread` are gone.
    pub(crate) fn is_deserted(&self, thread: usize) -> bool {
        self.seats_of(thread).all(|seat| matches!(self.seats[seat].place, Place::Gone))
    }

    /// Addresses of the hosts of `thread`.
    pub(crate) fn hosts(&self, thread: usize) -> Vec<Doorbell<W>> {
        self.seats_of(thread).filter_map(|seat| self.seats[seat].addr.clone()).collect()
    }

    /// Seats of `thread`: every `threads`-th.
    pub(crate) fn seats_of(&self, thread: usize) -> impl Iterator<Item = usize> + use<W> {
        (thread..self.options.workers).step_by(self.options.threads)
    }

    /// Each seat as observers see it.
    pub(crate) fn observe(&self, now: Instant) -> Vec<View<W::State>> {
        let seats = self.seats.iter().map(|seat| {
            let (activity, since) = match &seat.place {
                Place::Building => (Activity::Building, None),
                Place::Idle | Place::Woken => (Activity::Idle, None),
                Place::Busy(task) => (Activity::Busy, Some(task.started)),
                Place::Gone => (Activity::Gone, None),
            };
            let busy_secs = since.map(|since| now.duration_since(since).as_secs_f64());
            View { activity, busy_secs, desk: Arc::clone(&seat.desk) }
        });
        seats.collect()
    }

    /// Whether `post` is the present one of its seat.
    pub(crate) fn holds(&self, post: Post) -> bool {
        self.seats[post.seat].generation == post.generation
    }

    /// When something is to be done about what `seat` handles.
    fn due(&self, seat: usize) -> Option<Instant> {
        match &self.seats[seat].place {
            Place::Busy(Task { cancelled: Some(then), .. }) => Some(*then + LETTING_GO),
            Place::Busy(Task { started, .. }) => self.options.timeout.map(|timeout| *started + timeout),
            _ => None,
        }
    }

    fn is_waited_for(&self, seat: usize) -> bool {
        matches!(&self.seats[seat].place, Place::Busy(Task { cancelled: None, .. }))
    }

    /// Answers what `seat` handles and notes that its handler is to let go.
    fn cancel(
        &mut self,
        seat: usize,
        why: AskError,
        now: Instant,
        overdue: &mut Vec<(Arc<Desk<W::State>>, u64)>,
    ) -> Option<Settled<W>> {
        let seat = &mut self.seats[seat];
        let Place::Busy(task) = &mut seat.place else {
            return None;
        };
        let answer = task.answer.take()?;
        task.cancelled = Some(now);
        overdue.push((Arc::clone(&seat.desk), task.ticket));
        self.counts.in_flight -= 1;
        let outcome = Err(why);
        self.counts.count(&outcome);
        Some(Settled(answer, outcome))
    }

    /// Moves `seat` to another place; what it handled ends with `outcome`.
    fn vacate(&mut self, seat: usize, place: Place<W>, outcome: Outcome<W>) -> Option<Settled<W>> {
        let task = match std::mem::replace(&mut self.seats[seat].place, place) {
            Place::Busy(task) => task,
            Place::Idle => {
                self.idle.retain(|&idle| idle != seat);
                return None;
            }
            Place::Building | Place::Woken | Place::Gone => return None,
        };
        let answer = task.answer?;
        self.counts.in_flight -= 1;
        self.counts.count(&outcome);
        Some(Settled(answer, outcome))
    }
}

impl<W: Worker> Inspection<W> {
    fn report(&mut self, thread: usize, text: impl FnOnce() -> String) {
        if self.broken.iter().all(|&(known, _)| known != thread) {
            self.broken.push((thread, Fault::infra(text())));
        }
    }
}
