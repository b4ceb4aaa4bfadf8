//! Making good what follows from what can be read, and setting aside what cannot be read.
//!
//! First the engine's file, if pages of it are damaged: it is written anew. Then entry by entry, in batches, alone in the store: what
//! cannot be read goes to a file in `quarantine/`, synced, before it is removed; what follows from records is put or
//! removed; heads and summaries of series are made anew. Setting one thing aside may leave others without what they
//! follow from, so the store is checked again until nothing more can be done.
//!
//! Invariants: nothing that can be read is removed; every batch holds only if what it rests on is still there; a kill
//! at any moment leaves a store that the next repair goes on with.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tracker_engine::{Batch, Durability, Memory, Options, PageDamage};

use super::entry::{Books, Worker};
use super::finding::{Fix, Tell};
use super::tally::Tally;
use super::words::named;
use super::{CheckProgress, Checked, Finding, Level, Trouble, lock, series};
use crate::error::{Error, Result, hex};
use crate::id::RunId;
use crate::keys::{self, Parsed};
use crate::store::Store;

/// The folder of what was set aside, within the store's.
const QUARANTINE: &str = "quarantine";
/// Fixes of one round; what is beyond waits for the next.
const MAX_FIXES: usize = 200_000;
/// Bytes of one batch.
const BATCH_BYTES: usize = 4 << 20;
/// Rounds that may pass without less damage: setting aside one thing shows others. More would mean that they undo each other.
const MAX_IDLE_ROUNDS: usize = 8;

/// What a repair did, and what it could not do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// What was found before.
    pub before: Checked,
    /// What is found now; its damage cannot be repaired.
    pub left: Checked,
    /// Whether the file `FORMAT` was written anew.
    pub is_format_mended: bool,
    /// Whether the engine's file was written anew.
    pub is_file_salvaged: bool,
    /// Entries put that follow from records.
    pub n_put: u64,
    /// Entries removed that follow from nothing.
    pub n_removed: u64,
    /// Series whose head and summaries were made anew.
    pub n_series: u64,
    /// Entries set aside because they cannot be read.
    pub n_quarantined: u64,
    /// Where what was set aside is, if anything was: a line of JSON each, with key and value in hex; and the damaged file of the
    /// engine, if there was one.
    pub quarantine: Vec<PathBuf>,
}

type Found<'a> = dyn FnMut(Finding) + Send + 'a;

pub(super) fn repair(dir: &Path, found: &mut Found<'_>, progress: &(dyn Fn(CheckProgress) + Sync)) -> Result<Repaired> {
    let mut repair = Repair { dir, done: Repaired::default(), aside: None };
    if tracker_engine::has_lost_format(dir) {
        repair.mend_format(found)?;
    }
    let (checked, mut fixes) = repair.look(found, u64::MAX, progress)?;
    repair.done.before = checked;
    if checked.n_damages == 0 {
        repair.done.left = checked;
        return Ok(repair.done);
    }
    match repair.salvage(found) {
        Ok(true) => (_, fixes) = repair.look(&mut |_| {}, MAX_FIXES as u64, progress)?,
        Ok(false) => {}
        Err(Error::Engine(tracker_engine::Error::Corrupt { path, reason })) => {
            let what = format!("cannot be repaired, a backup may have it: {reason}");
            found(Finding { file: Some(path), ..Finding::damage(Trouble::Repair, what) });
            repair.done.left = checked;
            return Ok(repair.done);
        }
        Err(error) => return Err(error),
    }
    let (mut n_idle, mut n_least) = (0, checked.n_damages);
    loop {
        let n_done = repair.apply(&fixes)?;
        // Told once more is what is left when nothing more can be done.
        let mut left = Vec::new();
        let mut note = |finding| left.push(finding);
        let (checked, next) = repair.look(&mut note, MAX_FIXES as u64, progress)?;
        repair.done.left = checked;
        let is_better = checked.n_damages < n_least || checked.n_damages >= MAX_FIXES as u64;
        n_idle = if is_better { 0 } else { n_idle + 1 };
        n_least = n_least.min(checked.n_damages);
        if n_done == 0 || next.is_empty() || n_idle == MAX_IDLE_ROUNDS {
            for finding in left.into_iter().filter(|finding| finding.level == Level::Damage) {
                let what = format!("cannot be repaired, a backup may have it: {}", finding.what);
                found(Finding { trouble: Trouble::Repair, what, ..finding });
            }
            break;
        }
        fixes = next;
    }
    Ok(repair.done)
}

/// One line of a file in `quarantine/`.
#[derive(Serialize)]
struct Line<'a> {
    what: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

struct Repair<'a> {
    dir: &'a Path,
    done: Repaired,
    aside: Option<(File, PathBuf)>,
}

impl Repair<'_> {
    /// Checks the store. Returns what was found and what would make it good.
    fn look(
        &self,
        found: &mut Found<'_>,
        enough: u64,
        progress: &(dyn Fn(CheckProgress) + Sync),
    ) -> Result<(Checked, Vec<Fix>)> {
        let mut fixes = Vec::new();
        let checked = super::check(
            self.dir,
            &mut |finding, fix| {
                fixes.extend(fix.filter(|_| finding.level == Level::Damage));
                fixes.truncate(MAX_FIXES);
                found(finding);
            },
            enough,
            progress,
        )?;
        Ok((checked, fixes))
    }

    fn mend_format(&mut self, found: &mut Found<'_>) -> Result<()> {
        let path = self.dir.join("FORMAT");
        let bytes = std::fs::read(&path).ok().map(|bytes| hex(&bytes));
        self.set_aside(&Line { what: "the file FORMAT", key: None, value: None, offset: Some(0), bytes })?;
        self.sync()?;
        tracker_engine::mend_format(self.dir)?;
        self.done.is_format_mended = true;
        let finding =
            Finding::note(Trouble::Repair, "`FORMAT` was written anew; the engine's file says what it must be");
        found(Finding { file: Some(path), ..finding });
        Ok(())
    }

    /// Writes the engine's file anew if pages of it are damaged.
    fn salvage(&mut self, found: &mut Found<'_>) -> Result<bool> {
        let (dir, aside) = (self.dir, self.dir.join(QUARANTINE));
        let mut kept = Vec::new();
        let mut keep = |key: &[u8], value: &[u8]| {
            let is_kept = is_truth(key) && is_readable(key, value);
            if is_kept {
                kept.push(key.to_vec());
            }
            is_kept
        };
        let mut failed = None;
        let mut lost = |damage: &PageDamage, bytes: Option<Vec<u8>>| {
            let (offset, bytes) = (Some(damage.offset), bytes.map(|bytes| hex(&bytes)));
            let line = Line { what: &damage.reason, key: None, value: None, offset, bytes };
            match self.set_aside(&line).and_then(|()| self.sync()) {
                Ok(()) => true,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        };
        let salvaged = tracker_engine::salvage(dir, &aside, &mut keep, &mut lost)?;
        if let Some(error) = failed {
            return Err(error);
        }
        let Some(salvaged) = salvaged else { return Ok(false) };
        for key in kept {
            let what = format!("{} was kept from a damaged page; nothing vouches for it", named(&key));
            found(Finding::note(Trouble::Repair, what).at_key(&key));
        }
        let what = format!(
            "the engine's file was written anew with `{}` entries; the damaged one is kept",
            salvaged.n_entries
        );
        found(Finding { file: Some(salvaged.kept.clone()), ..Finding::note(Trouble::Repair, what) });
        self.done.quarantine.push(salvaged.kept);
        self.done.is_file_salvaged = true;
        Ok(true)
    }

    /// Applies what can be done now. Returns how many fixes held.
    fn apply(&mut self, fixes: &[Fix]) -> Result<u64> {
        if fixes.is_empty() {
            return Ok(0);
        }
        let engine = tracker_engine::open_alone(self.dir, &Options::default())?;
        let store = Store::over(engine, Some(self.dir.to_path_buf()))?;
        let mut n_done = 0;
        let mut batch: Vec<&Fix> = Vec::new();
        let mut n_bytes = 0;
        let mut anew: BTreeSet<(RunId, &str)> = BTreeSet::new();
        for fix in fixes {
            if let Fix::Series { run, key } = fix {
                anew.insert((*run, key));
                continue;
            }
            n_bytes += size(fix);
            batch.push(fix);
            if n_bytes >= BATCH_BYTES {
                n_done += self.commit(&store, &batch)?;
                batch.clear();
                n_bytes = 0;
            }
        }
        n_done += self.commit(&store, &batch)?;
        for (run, key) in anew {
            let mut changes = Batch::new();
            // Points that cannot be read were set aside above; a series with one left waits for the next round.
            match series::rebuild(&store, run, key, &mut changes) {
                Ok(()) => {
                    store.commit_batch(&changes, Durability::Sync)?;
                    self.done.n_series += 1;
                    n_done += 1;
                }
                Err(Error::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(n_done)
    }

    /// Commits fixes together; if one of them no longer holds, each by itself.
    fn commit(&mut self, store: &Store, fixes: &[&Fix]) -> Result<u64> {
        for fix in fixes {
            if let Fix::Quarantine { key, value } = fix {
                let (what, key, value) = (named(key), Some(hex(key)), Some(hex(value)));
                self.set_aside(&Line { what: &what, key, value, offset: None, bytes: None })?;
            }
        }
        self.sync()?;
        let mut whole = Batch::new();
        for fix in fixes {
            whole.append(changes(fix));
        }
        let n_done = match store.commit_batch(&whole, Durability::Sync) {
            Ok(()) => {
                for fix in fixes {
                    self.count(fix);
                }
                fixes.len() as u64
            }
            Err(Error::Engine(tracker_engine::Error::Conflict { .. })) if fixes.len() > 1 => {
                let mut n_done = 0;
                for fix in fixes {
                    n_done += self.commit_one(store, fix)?;
                }
                n_done
            }
            Err(Error::Engine(tracker_engine::Error::Conflict { .. })) => 0,
            Err(error) => return Err(error),
        };
        Ok(n_done)
    }

    fn commit_one(&mut self, store: &Store, fix: &Fix) -> Result<u64> {
        match store.commit_batch(&changes(fix), Durability::Sync) {
            Ok(()) => {
                self.count(fix);
                Ok(1)
            }
            Err(Error::Engine(tracker_engine::Error::Conflict { .. })) => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn count(&mut self, fix: &Fix) {
        match fix {
            Fix::Put { .. } => self.done.n_put += 1,
            Fix::Remove { .. } => self.done.n_removed += 1,
            Fix::Quarantine { .. } => self.done.n_quarantined += 1,
            Fix::Series { .. } => {}
        }
    }

    /// Appends a line to this repair's file in `quarantine/`.
    fn set_aside(&mut self, line: &Line<'_>) -> Result<()> {
        let (file, path) = match &mut self.aside {
            Some(aside) => aside,
            none => {
                let folder = self.dir.join(QUARANTINE);
                std::fs::create_dir_all(&folder).map_err(|error| Error::io("make the folder", &folder, error))?;
                let path = folder.join(format!("{}.jsonl", crate::clock::new_uuid()));
                let file = OpenOptions::new().create(true).append(true).open(&path);
                let file = file.map_err(|error| Error::io("create", &path, error))?;
                self.done.quarantine.push(path.clone());
                none.insert((file, path))
            }
        };
        let mut text = serde_json::to_vec(line).map_err(|error| Error::io("write", &*path, error.into()))?;
        text.push(b'\n');
        file.write_all(&text).map_err(|error| Error::io("write", &*path, error))
    }

    fn sync(&self) -> Result<()> {
        let Some((file, path)) = &self.aside else { return Ok(()) };
        let folder = self.dir.join(QUARANTINE);
        let synced = file.sync_all().and_then(|()| File::open(folder)?.sync_all());
        synced.map_err(|error| Error::io("sync", path, error))
    }
}

fn size(fix: &Fix) -> usize {
    match fix {
        Fix::Put { key, value, basis } => key.len() + value.len() + basis.0.len() + basis.1.len(),
        Fix::Remove { key, value } | Fix::Quarantine { key, value } => key.len() + value.len(),
        Fix::Series { .. } => 0,
    }
}

fn changes(fix: &Fix) -> Batch {
    let mut batch = Batch::new();
    match fix {
        Fix::Put { key, value, basis } => {
            batch.require_equals(&basis.0, &basis.1);
            batch.put(key, value);
        }
        Fix::Remove { key, value } | Fix::Quarantine { key, value } => {
            batch.require_equals(key, value);
            batch.delete(key);
        }
        Fix::Series { .. } => {}
    }
    batch
}

/// Whether an entry says something that no other does.
fn is_truth(key: &[u8]) -> bool {
    match keys::parse(key) {
        None
        | Some(
            Parsed::ExperimentName(_)
            | Parsed::EdgeDown { .. }
            | Parsed::RunIndex { .. }
            | Parsed::ParamIndex { .. }
            | Parsed::ParamNumber { .. }
            | Parsed::Series { .. }
            | Parsed::Summary { .. }
            | Parsed::Latest { .. }
            | Parsed::VersionOf { .. }
            | Parsed::LoggedIn { .. }
            | Parsed::TraceAt { .. }
            | Parsed::Weights(_),
        ) => false,
        Some(_) => true,
    }
}

/// Whether an entry can be read, by itself.
fn is_readable(key: &[u8], value: &[u8]) -> bool {
    // With nothing beside it, it is judged by itself.
    let store = Store::frozen(Arc::new(Memory::new()), None);
    let judge = Judge::default();
    Worker::new(&store, &judge, Books::Sums(Tally::new())).entry(key, value);
    !*lock(&judge.is_unreadable)
}

/// Hears whether something would have to be set aside.
#[derive(Default)]
struct Judge {
    is_unreadable: Mutex<bool>,
}

impl Tell for Judge {
    fn tell(&self, _finding: Finding, fix: Option<Fix>) {
        if matches!(fix, Some(Fix::Quarantine { .. })) {
            *lock(&self.is_unreadable) = true;
        }
    }
}
