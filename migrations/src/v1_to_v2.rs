//! Format 1 to 2: runs by params that are numbers.
//!
//! Format 2 has, for each param (`20 · run 16 · key`) whose value is a number when blanks around it are left out, an empty entry
//! `24 · key 0 · number 8 · run 16`, so that `params.lr < 0.1` reads the runs it asks for. The number is a float whose bytes
//! sort as floats do, with one zero; a NaN has no entry. Nothing else changes.
//!
//! Frozen: this file reads and writes bytes of its own, and is not edited after its release.

use tracker_engine::{Batch, Direction, KeyRange, Read, Result};

use crate::{Migration, Step};

const PARAM: u8 = 0x20;
const BY_NUMBER: u8 = 0x24;
const RUN_BYTES: usize = 16;

pub(crate) const MIGRATION: Migration = Migration { from: 1, about: "runs are found by params that are numbers", step };

fn step(store: &dyn Read, after: &[u8], limit: usize) -> Result<Step> {
    let start = if after.is_empty() { vec![PARAM] } else { [after, &[0]].concat() };
    let params = KeyRange::prefix(&[PARAM]).starting_at(&start);
    let entries = store.collect(params, Direction::Ascending, limit)?;
    let mut batch = Batch::new();
    for (key, value) in &entries {
        if let Some(entry) = entry(key, value) {
            batch.put(&entry, &[]);
        }
    }
    let next = entries.last().filter(|_| entries.len() == limit).map(|(key, _)| key.clone());
    Ok(Step { batch, n_read: entries.len() as u64, next })
}

/// The entry of a param; none if it is no number.
fn entry(param: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let (run, key) = param.get(1..)?.split_at_checked(RUN_BYTES)?;
    let number: f64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
    if number.is_nan() {
        return None;
    }
    let bits = (number + 0.0).to_bits();
    let sortable = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    Some([&[BY_NUMBER], key, &[0], &sortable.to_be_bytes(), run].concat())
}
