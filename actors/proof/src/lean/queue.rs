//! Work that may bring more work, done by several threads until none is left.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, PoisonError},
};

/// What waits, how many threads are at work that may bring more, and what came of it.
struct State<W, A> {
    waiting: VecDeque<W>,
    busy: usize,
    answers: Vec<A>,
}

/// Does all of `work` and what it brings, `n_threads` at a time; answers come in the order in which they are ready.
pub(super) fn drain<W: Send, A: Send>(
    n_threads: usize,
    work: impl IntoIterator<Item = W>,
    step: impl Fn(W) -> (Vec<A>, Vec<W>) + Sync,
) -> Vec<A> {
    let state = State { waiting: work.into_iter().collect(), busy: 0, answers: Vec::new() };
    let n_threads = n_threads.min(state.waiting.len().max(1));
    let (queue, changed) = (Mutex::new(state), Condvar::new());
    let run = || {
        let mut state = queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(work) = state.waiting.pop_front() {
                state.busy += 1;
                drop(state);
                let (answers, more) = step(work);
                state = queue.lock().unwrap_or_else(PoisonError::into_inner);
                state.busy -= 1;
                state.answers.extend(answers);
                state.waiting.extend(more);
                changed.notify_all();
            } else if state.busy == 0 {
                return;
            } else {
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    };
    std::thread::scope(|scope| {
        // one of the threads is this one
        for _ in 1..n_threads {
            scope.spawn(run);
        }
        run();
    });
    queue.into_inner().unwrap_or_else(PoisonError::into_inner).answers
}
