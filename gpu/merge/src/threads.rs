//! Work on numbered things by several threads.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::Result;

/// What `work` says of each number below `n`, in order; numbers are taken in order by up to `n_threads` threads, and none after
/// a failure.
///
/// # Errors
/// The first that is told.
pub(crate) fn on_threads<T: Send>(
    n_threads: usize,
    n: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let per_thread = |_| Ok(());
    with_threads(n_threads, n, per_thread, |(), idx| work(idx))
}

/// As [`on_threads`], with something of its own for each thread.
pub(crate) fn with_threads<S, T: Send>(
    n_threads: usize,
    n: usize,
    start: impl Fn(usize) -> Result<S> + Sync,
    work: impl Fn(&mut S, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done = Mutex::new(Vec::with_capacity(n));
    let thread = |nth: usize| {
        let mut own = start(nth)?;
        while !is_over.load(Ordering::Relaxed) {
            let idx = next.fetch_add(1, Ordering::Relaxed);
            if idx >= n {
                break;
            }
            let said = work(&mut own, idx).inspect_err(|_| is_over.store(true, Ordering::Relaxed))?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push((idx, said));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let thread = &thread;
        let threads: Vec<_> = (0..n_threads.clamp(1, n.max(1))).map(|nth| scope.spawn(move || thread(nth))).collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        // Every thread is waited for before the first failure is told.
        ended.collect::<Vec<Result<()>>>().into_iter().collect::<Result<()>>()
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(idx, _)| *idx);
    Ok(done.into_iter().map(|(_, said)| said).collect())
}
