//! Runs that are said to be running, and that no process works on.

use std::fs::{File, TryLockError};

use super::finding::{Finding, Tell, Trouble};
use crate::error::Result;
use crate::keys::{self, RunIndex};
use crate::model::Status;
use crate::store::Store;

/// The folder of the locks that processes hold on the runs they work on.
const RUNNING: &str = "running";

/// Notes the runs of studies whose process is gone. A run that was logged from outside has no lock to go by.
pub(super) fn check(store: &Store, sink: &dyn Tell) -> Result<()> {
    let Some(dir) = store.dir().map(|dir| dir.join(RUNNING)) else { return Ok(()) };
    for entry in store.entries(&keys::run_index(RunIndex::Status(Status::Running))) {
        let (key, _) = entry?;
        let run = keys::run_at_end(&key)?;
        let is_held = match File::open(dir.join(format!("{run}.lock"))) {
            Ok(file) => matches!(file.try_lock(), Err(TryLockError::WouldBlock)),
            Err(_) => false,
        };
        // A record that cannot be read is told elsewhere.
        if !is_held && store.run(run).is_ok_and(|run| !run.study.is_empty()) {
            let what = format!(
                "run `{run}` is said to be running, and no process here works on it; `tracker run --resume {run}` goes on"
            );
            sink.tell(Finding::note(Trouble::Run, what), None);
        }
    }
    Ok(())
}
