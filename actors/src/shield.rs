//! Where code of others is kept from taking our threads down: panics caught, locks that outlive a panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, poisoned or not: what these locks guard is only ever changed in whole steps.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs code of others; a panic becomes its text.
pub(crate) fn shielded<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| text(panic.as_ref()))
}

/// Drops a value of others. A second panic while cleaning up after a first tells nothing new, so it ends here.
pub(crate) fn discard<T>(value: T) {
    drop(shielded(|| drop(value)));
}

/// What a panic said.
pub(crate) fn text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
