//! All entries in stretches of ordered keys, a stretch a thread at a time.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Mutex;

use rayon::prelude::*;
use tracker_engine::{Direction, KeyRange};

use super::entry::{Books, Worker};
use super::finding::{Finding, Fix, Tell, Trouble};
use super::tally::{Both, Remembered, Tally};
use super::words::named;
use super::{Meter, lock};
use crate::error::Result;
use crate::store::Store;

/// Entries between two reports of progress.
const N_BETWEEN: u64 = 1 << 14;

/// Stretches of keys that are all keys together.
pub(super) struct Stretches(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Stretches {
    /// Cut at these keys.
    pub(super) fn at(cuts: &[Vec<u8>]) -> Self {
        let starts = std::iter::once(Vec::new()).chain(cuts.iter().cloned());
        let ends = cuts.iter().cloned().map(Some).chain([None]);
        Self(starts.zip(ends).collect())
    }
}

/// Checks every entry. Returns how many there are.
pub(super) fn scan(store: &Store, stretches: &Stretches, sink: &dyn Tell, meter: &Meter<'_>) -> Result<u64> {
    let sums = Mutex::new((Tally::new(), 0));
    stretches.0.par_iter().try_for_each(|stretch| -> Result<()> {
        let mut worker = Worker::new(store, sink, Books::Sums(Tally::new()));
        read(&mut worker, stretch, Some(meter))?;
        let mut sums = lock(&sums);
        sums.1 += worker.n_entries;
        if let Books::Sums(tally) = &worker.books {
            sums.0.add(tally);
        }
        Ok(())
    })?;
    let (tally, n_entries) = sums.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for group in tally.unsettled() {
        if sink.has_enough() {
            break;
        }
        settle(store, stretches, &group, sink)?;
    }
    Ok(n_entries)
}

fn read(worker: &mut Worker<'_>, stretch: &(Vec<u8>, Option<Vec<u8>>), meter: Option<&Meter<'_>>) -> Result<()> {
    let range = match &stretch.1 {
        Some(end) => KeyRange::new(&stretch.0, end),
        None => KeyRange::from(&stretch.0),
    };
    let engine = worker.store.read();
    let mut n_told = 0;
    engine.range(range, Direction::Ascending, &mut |key, value| {
        worker.entry(key, value);
        if worker.n_entries - n_told == N_BETWEEN {
            n_told = worker.n_entries;
            if let Some(meter) = meter {
                meter.entries(N_BETWEEN);
            }
        }
        ControlFlow::Continue(())
    })?;
    if let Some(meter) = meter {
        meter.entries(worker.n_entries - n_told);
    }
    Ok(())
}

/// Says what does not agree among the entries that fall into some of the sums.
fn settle(store: &Store, stretches: &Stretches, group: &BTreeSet<usize>, sink: &dyn Tell) -> Result<()> {
    let all = Mutex::new(Remembered::new(group));
    stretches.0.par_iter().try_for_each(|stretch| -> Result<()> {
        let mut worker = Worker::new(store, sink, Books::Remembered(Remembered::new(group)));
        read(&mut worker, stretch, None)?;
        if let Books::Remembered(remembered) = worker.books {
            lock(&all).add(remembered);
        }
        Ok(())
    })?;
    let all = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (key, both) in all.keys {
        judge(&key, both, sink);
    }
    Ok(())
}

fn judge(key: &[u8], both: Both, sink: &dyn Tell) {
    let Both { mut called, there } = both;
    if there.as_ref().is_some_and(|there| called.iter().any(|called| called.value == *there)) {
        return;
    }
    match (called.pop(), there) {
        (Some(called), there) => {
            let state = if there.is_some() { "says something else than its record" } else { "is missing" };
            let finding = Finding::damage(Trouble::Index, format!("{} {state}", named(key))).at_key(key);
            sink.tell(finding, Some(Fix::Put { key: key.to_vec(), value: called.value, basis: called.basis }));
        }
        (None, Some(value)) => {
            let finding = Finding::damage(Trouble::Index, format!("{} follows from no record", named(key)));
            sink.tell(finding.at_key(key), Some(Fix::Remove { key: key.to_vec(), value }));
        }
        (None, None) => {}
    }
}
