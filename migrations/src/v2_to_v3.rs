//! Format 2 to 3: runs of an experiment by when they began.
//!
//! Format 3 has, for each run (`10 01 · run 16`), an empty entry `22 06 · experiment 16 · start 8 · run 16`, so that the latest runs of an
//! experiment are read first. The start is milliseconds since 1970, mapped so that later ones sort before earlier ones. Format 3 also
//! knows second forms of runs and experiments, and tables 15, 16, 47 and 50 to 58; a store of format 2 has none of these.
//!
//! Frozen: this file reads and writes bytes of its own, and is not edited after its release.

use tracker_engine::{Batch, Direction, KeyRange, Read, Result};

use crate::{Migration, Step};

const RUN: [u8; 2] = [0x10, 0x01];
const BY_START: [u8; 2] = [0x22, 0x06];
const ID_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;

pub(crate) const MIGRATION: Migration = Migration { from: 2, about: "runs are found by when they began", step };

fn step(store: &dyn Read, after: &[u8], limit: usize) -> Result<Step> {
    let start = if after.is_empty() { RUN.to_vec() } else { [after, &[0]].concat() };
    let runs = KeyRange::prefix(&RUN).starting_at(&start);
    let entries = store.collect(runs, Direction::Ascending, limit)?;
    let mut batch = Batch::new();
    for (key, record) in &entries {
        // One that cannot be read has no entry; `tracker fsck` tells of it then.
        if let Some(entry) = entry(key, record) {
            batch.put(&entry, &[]);
        }
    }
    let next = entries.last().filter(|_| entries.len() == limit).map(|(key, _)| key.clone());
    Ok(Step { batch, n_read: entries.len() as u64, next })
}

/// The entry of a run: `01 01`, then id, name, experiment, study, plan (text, digest), seed, device, host, versions, status, message, start.
fn entry(key: &[u8], record: &[u8]) -> Option<Vec<u8>> {
    let run = key.get(RUN.len()..).filter(|run| run.len() == ID_BYTES)?;
    let mut rest = record.strip_prefix(&[1, 1])?;
    skip(&mut rest, ID_BYTES as u64)?;
    text(&mut rest)?;
    let experiment = skip(&mut rest, ID_BYTES as u64)?;
    for _ in ["study", "plan"] {
        text(&mut rest)?;
    }
    skip(&mut rest, DIGEST_BYTES as u64)?;
    number(&mut rest)?;
    for _ in ["device", "host"] {
        text(&mut rest)?;
    }
    for _ in 0..number(&mut rest)? {
        text(&mut rest)?;
        text(&mut rest)?;
    }
    number(&mut rest)?;
    text(&mut rest)?;
    let zigzag = number(&mut rest)?;
    let millis = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
    let latest_first = !(millis ^ (1 << 63));
    Some([&BY_START[..], experiment, &latest_first.to_be_bytes(), run].concat())
}

/// A number as bincode 2 writes it: one byte below 251, or 251, 252, 253 and 2, 4, 8 bytes, little-endian.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let n_bytes = match skip(rest, 1)?[0] {
        small @ 0..=250 => return Some(u64::from(small)),
        251 => 2,
        252 => 4,
        253 => 8,
        _ => return None,
    };
    let mut bytes = [0; 8];
    bytes[..n_bytes].copy_from_slice(skip(rest, n_bytes as u64)?);
    Some(u64::from_le_bytes(bytes))
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let n_bytes = number(rest)?;
    skip(rest, n_bytes)
}

fn skip<'a>(rest: &mut &'a [u8], n_bytes: u64) -> Option<&'a [u8]> {
    let (skipped, after) = rest.split_at_checked(usize::try_from(n_bytes).ok()?)?;
    *rest = after;
    Some(skipped)
}
