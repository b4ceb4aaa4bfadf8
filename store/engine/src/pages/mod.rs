//! The engine's file read page by page, without the engine: every page is checked against its sum before a byte of it counts.
//!
//! redb trusts what it reads: it sums pages when it writes them and looks at the sums only when it repairs. [`Pages`]
//! looks each time. It never writes, never panics over what it reads, names damage by its offset in the file, and gives all that can
//! still be read: what lies beside a damaged page, and what lies below one where the page's own references still lead to
//! pages whose sums are right.
//!
//! Invariants: what it reads is one commit, unmoved while it lives: no process holds the store but this one, or the one that
//! does keeps a snapshot for it; no buffer is longer than the file.
//!
//! Not here: what keys and values mean; how the file is written.

mod format;
mod walk;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use self::format::{Child, HEADER_BYTES, Header, PAGE_BYTES, Page, Slot, Table, Tree, Widths};
use crate::group::lock;
use crate::layout;
use crate::redb::{DONE, NOTES_NAME, journal, journal_of};
use crate::shared::{self, Alone};
use crate::{Direction, Error, KeyRange, Kind, Options, Read, Result, Visitor};

/// The name of the table that holds all keys.
const TABLE: &[u8] = b"ordered bytes";
/// Pages kept for reads of single keys, 4 KiB each and more.
const N_CACHED: usize = 4096;
/// A file up to this size is read without letting others open the store meanwhile, who wait so long with patience.
const LONG_BYTES: u64 = 1 << 30;
/// How often it is begun again because a commit came between the snapshot and the header.
const N_SHARED_ATTEMPTS: usize = 256;
/// How often the header is read again because it was written meanwhile.
const N_ATTEMPTS: usize = 8;

/// Damage of the engine's file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageDamage {
    /// The file: the engine's, or its journal.
    pub file: PathBuf,
    /// Where the page or the field begins, in bytes.
    pub offset: u64,
    /// What was found.
    pub reason: String,
}

/// The engine's file as of one commit, and what of it is damaged.
pub struct Pages {
    path: PathBuf,
    file: File,
    n_bytes: u64,
    header: Option<Header>,
    slot: Option<Slot>,
    /// The header as it was read.
    seen: Vec<u8>,
    table: Option<Tree>,
    /// What the journal lays over the table, by key; none for one that is deleted.
    over: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The generation of the journal, and what is wrong with it.
    journal: (u64, Option<PageDamage>),
    cache: Vec<Mutex<Option<Cached>>>,
    damaged: Mutex<BTreeMap<u64, Lost>>,
    kept: Kept,
}

/// A page that has its sum, by its number.
type Cached = (u64, Arc<Vec<u8>>);

/// What is shown a doubtful entry: where its page is, key and value.
pub type DoubtfulVisitor<'a> = dyn FnMut(u64, &[u8], &[u8]) + 'a;

/// A damaged page: why, and whether it is one of the table's.
#[derive(Clone, Debug)]
struct Lost {
    reason: String,
    leaf: Option<Child>,
}

/// What keeps the commit from being overwritten.
enum Kept {
    /// Nobody else may open the store.
    Alone(#[allow(dead_code, reason = "held, not used")] Alone),
    /// The process that holds the store keeps it.
    Snapshot(Arc<dyn Read>),
}

impl Pages {
    /// Reads the engine's file of the store in `dir`, which is not written to. Other processes that hold the store may write
    /// meanwhile; if none does, none can open it while this lives, unless the file is large.
    ///
    /// # Errors
    /// `Foreign`, `Newer`, or `Corrupt` if `dir` is no store; `Unavailable` if a process holds it and does not answer; `Io`.
    /// A damaged file is no error: see [`Pages::damage`].
    pub fn open(dir: &Path, options: &Options) -> Result<Self> {
        Self::open_in_time(dir, options, LONG_BYTES)
    }

    fn open_in_time(dir: &Path, options: &Options, long_bytes: u64) -> Result<Self> {
        require_redb(dir)?;
        let Some(alone) = Alone::take(dir)? else { return Self::open_shared(dir, options) };
        let pages = Self::kept(dir, Kept::Alone(alone))?;
        if pages.n_bytes <= long_bytes || !pages.damage().is_empty() {
            return Ok(pages);
        }
        // Reading it takes long, and nothing is wrong with its beginning: others are served meanwhile.
        drop(pages);
        match Self::open_shared(dir, options) {
            Ok(pages) => Ok(pages),
            // What the engine cannot open is read without it, while the others wait.
            Err(Error::Corrupt { .. }) => Self::open_alone(dir),
            Err(error) => Err(error),
        }
    }

    /// Reads the file while another process, or this one, holds the store and keeps the commit that is read.
    fn open_shared(dir: &Path, options: &Options) -> Result<Self> {
        let engine = shared::open(dir, options)?;
        for _ in 0..N_SHARED_ATTEMPTS {
            // The commit that the snapshot keeps is the one the header names, if no commit came between.
            let before = Self::file_of(dir)?.1;
            match Self::kept(dir, Kept::Snapshot(engine.snapshot()?)) {
                Ok(pages) if pages.seen == before => return Ok(pages),
                Ok(_) | Err(Error::SnapshotLost) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::SnapshotLost)
    }

    /// The file, and the bytes of its header.
    fn file_of(dir: &Path) -> Result<(File, Vec<u8>)> {
        let path = layout::data_path(dir, Kind::Redb);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::corrupt(&path, "it is missing"));
            }
            Err(error) => return Err(Error::io("open", &path, error)),
        };
        let bytes = header_of(&file, &path)?;
        Ok((file, bytes))
    }

    /// As [`Pages::open`], and no other process can open the store while this lives.
    ///
    /// # Errors
    /// `Unavailable` if another process holds the store.
    pub(crate) fn open_alone(dir: &Path) -> Result<Self> {
        require_redb(dir)?;
        Self::of_file(dir)
    }

    /// As [`Pages::open_alone`], whatever else is in the folder.
    pub(crate) fn of_file(dir: &Path) -> Result<Self> {
        let alone = Alone::take(dir)?.ok_or_else(|| shared::unavailable(dir, std::time::Duration::ZERO))?;
        Self::kept(dir, Kept::Alone(alone))
    }

    fn kept(dir: &Path, kept: Kept) -> Result<Self> {
        let path = layout::data_path(dir, Kind::Redb);
        let (file, _) = Self::file_of(dir)?;
        let n_bytes = file.metadata().map_err(|error| Error::io("look at", &path, error))?.len();
        let is_alone = matches!(kept, Kept::Alone(_));
        let mut pages = Self {
            path,
            file,
            n_bytes,
            header: None,
            slot: None,
            seen: Vec::new(),
            table: None,
            over: BTreeMap::new(),
            journal: (0, None),
            cache: (0..N_CACHED).map(|_| Mutex::new(None)).collect(),
            damaged: Mutex::default(),
            kept,
        };
        for _ in 0..N_ATTEMPTS {
            pages.choose(is_alone)?;
            pages.read_journal()?;
            if is_alone || pages.header_bytes()? == pages.seen {
                return Ok(pages);
            }
            // Written meanwhile: file and journal may not belong together.
            lock(&pages.damaged).clear();
            pages.cache.iter().for_each(|slot| *lock(slot) = None);
        }
        Err(Error::SnapshotLost)
    }

    fn header_bytes(&self) -> Result<Vec<u8>> {
        header_of(&self.file, &self.path)
    }

    /// Lays what was acknowledged and is not in the file yet over it.
    fn read_journal(&mut self) -> Result<()> {
        let path = journal_of(&self.path);
        let looked = journal::look(&path, self.done())?;
        self.over.clear();
        for batch in &looked.batches {
            for (key, value) in batch.writes() {
                self.over.insert(key.to_vec(), value.map(<[u8]>::to_vec));
            }
        }
        let damage = looked.damage.map(|error| {
            let reason = if let Error::Corrupt { reason, .. } = error { reason } else { error.to_string() };
            PageDamage { file: path, offset: 0, reason }
        });
        self.journal = (looked.generation, damage);
        Ok(())
    }

    /// The generation of the journal that is in the file.
    fn done(&self) -> u64 {
        let Some(notes) = self.slot.and_then(|slot| slot.data).and_then(|tables| self.table_named(&tables, NOTES_NAME))
        else {
            return 0;
        };
        let done = self.find(&notes, DONE.as_bytes()).ok().flatten();
        done.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    fn table_named(&self, tables: &Tree, wanted: &str) -> Option<Tree> {
        let definition = self.find(tables, wanted.as_bytes()).ok().flatten()?;
        match format::table(&definition)? {
            Table::Filled(tree) => Some(tree),
            Table::Empty => None,
        }
    }

    /// The generation of the journal; 0 if there is none.
    pub(crate) fn journal_generation(&self) -> u64 {
        self.journal.0
    }

    /// Whether a journal lies over the file, so that it has other entries than the file says.
    #[must_use]
    pub fn has_journal(&self) -> bool {
        !self.over.is_empty()
    }

    /// Whether another process holds the store, so that what was read counts only if [`Pages::is_kept`] in the end.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.kept, Kept::Snapshot(_))
    }

    /// Whether nothing that was read so far can have been overwritten: false once the process that kept it is gone.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        match &self.kept {
            Kept::Alone(_) => true,
            Kept::Snapshot(snapshot) => snapshot.get(&[]).is_ok(),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size, in bytes.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// The damage seen so far, by offset. What was not read yet was not looked at.
    #[must_use]
    pub fn damage(&self) -> Vec<PageDamage> {
        let damaged = lock(&self.damaged);
        let of_page = |(offset, lost): (&u64, &Lost)| PageDamage {
            file: self.path.clone(),
            offset: *offset,
            reason: lost.reason.clone(),
        };
        damaged.iter().map(of_page).chain(self.journal.1.clone()).collect()
    }

    /// Reads the header and decides which commit the file holds.
    fn choose(&mut self, is_alone: bool) -> Result<()> {
        let mut seen = Err((0, String::new()));
        for _ in 0..N_ATTEMPTS {
            self.seen = self.header_bytes()?;
            // Only now: what the header names is in the file by then, if it grew meanwhile.
            self.n_bytes = self.file.metadata().map_err(|error| Error::io("look at", &self.path, error))?.len();
            seen = Header::parse(&self.seen);
            if seen.as_ref().is_ok_and(|header| header.primary().is_whole) {
                break;
            }
        }
        let header = match seen {
            Ok(header) => header,
            Err((offset, reason)) => {
                self.lose(offset, reason, None);
                return Ok(());
            }
        };
        if is_alone {
            self.check_header(&header);
        }
        let (primary, secondary) = (*header.primary(), *header.secondary());
        let is_open = header.is_open && !header.is_two_phase;
        self.header = Some(header);
        // After a crash the newer commit counts if all of it reached the disk, as redb has it.
        let newer_first = if is_alone && is_open && secondary.is_whole && secondary.transaction > primary.transaction {
            [secondary, primary]
        } else {
            [primary, secondary]
        };
        for slot in newer_first {
            if is_alone && is_open && slot.is_whole && !self.is_whole(&slot) {
                continue;
            }
            if slot.is_whole || slot.data.is_some_and(|tree| self.page(tree.root, tree.widths).is_ok()) {
                if slot.offset != primary.offset && !is_open {
                    let reason = "the last commit cannot be read; what follows is the one before it";
                    self.lose(primary.offset, reason.to_owned(), None);
                }
                self.take(slot);
                return Ok(());
            }
        }
        // Neither is whole; what can be read of the newest is read.
        self.take(newer_first[0]);
        Ok(())
    }

    fn take(&mut self, slot: Slot) {
        self.slot = Some(slot);
        if !slot.is_whole {
            self.lose(slot.offset, "the commit there has another sum".to_owned(), None);
        }
        let mut found = None;
        if let Some(tables) = slot.data {
            self.walk(&tables, &KeyRange::all(), Direction::Ascending, false, &mut |name, definition| {
                if name == TABLE {
                    found = Some(definition.to_vec());
                }
                std::ops::ControlFlow::Continue(())
            });
            found = found.or_else(|| self.doubtful_table(&tables));
        }
        match found.as_deref().map(format::table) {
            Some(Some(Table::Filled(table))) => self.table = Some(table),
            Some(Some(Table::Empty)) => {}
            _ => self.lose(slot.offset, "the table `ordered bytes` cannot be found".to_owned(), None),
        }
    }

    /// The definition of the table in a damaged list of tables, if the page it leads to has the sum it says.
    fn doubtful_table(&self, tables: &Tree) -> Option<Vec<u8>> {
        let bytes = self.bytes(tables.root).ok()?;
        let Some(Page::Leaf(leaf)) = Page::parse(&bytes, tables.widths) else { return None };
        let nth = (0..leaf.len()).find(|nth| leaf.key(*nth) == Some(TABLE))?;
        let definition = leaf.value(nth)?;
        match format::table(definition)? {
            Table::Filled(tree) if self.page(tree.root, tree.widths).is_ok() => Some(definition.to_vec()),
            _ => None,
        }
    }

    /// Whether every page of a commit has its sum. Notes no damage.
    fn is_whole(&self, slot: &Slot) -> bool {
        let before = lock(&self.damaged).clone();
        let mut trees: Vec<Tree> = Vec::new();
        for tables in [slot.data, slot.system].into_iter().flatten() {
            trees.extend(self.tables(&tables));
        }
        for tree in &trees {
            self.walk(tree, &KeyRange::all(), Direction::Ascending, false, &mut |_, _| {
                std::ops::ControlFlow::Continue(())
            });
        }
        let mut damaged = lock(&self.damaged);
        let is_whole = damaged.len() == before.len();
        *damaged = before;
        is_whole
    }

    /// The trees of the tables that a tree of tables lists.
    fn tables(&self, tables: &Tree) -> Vec<Tree> {
        let mut trees = Vec::new();
        let mut n_unknown = 0;
        self.walk(tables, &KeyRange::all(), Direction::Ascending, false, &mut |_, definition| {
            match format::table(definition) {
                Some(Table::Filled(tree)) => trees.push(tree),
                Some(Table::Empty) => {}
                None => n_unknown += 1,
            }
            std::ops::ControlFlow::Continue(())
        });
        if n_unknown > 0 {
            let offset = self.header.as_ref().and_then(|header| header.place(tables.root.number));
            self.lose(
                offset.map_or(0, |place| place.start),
                format!("`{n_unknown}` tables are of no known kind"),
                None,
            );
        }
        trees
    }

    fn check_header(&self, header: &Header) {
        let (primary, secondary) = (header.primary(), header.secondary());
        if !header.is_open && header.n_bytes() != self.n_bytes {
            let reason = format!("expected a file of `{}` bytes, got `{}`", header.n_bytes(), self.n_bytes);
            self.lose(24, reason, None);
        }
        if !header.is_open && secondary.is_whole && secondary.transaction > primary.transaction {
            self.lose(9, "it names a commit that is not its last".to_owned(), None);
        }
        if !header.is_open && !secondary.is_whole && secondary.transaction > 0 {
            self.lose(secondary.offset, "the commit before the last has another sum".to_owned(), None);
        }
    }

    /// Reads what is not the table itself: redb's own tables. Their damage is then in [`Pages::damage`]. Beside a process that
    /// holds the store they are left out: it uses their pages again at once, whoever reads an earlier state.
    pub fn check_rest(&self) {
        let Some(slot) = self.slot.filter(|_| !self.is_shared()) else { return };
        for tree in slot.system.map(|tables| self.tables(&tables)).unwrap_or_default() {
            self.walk(&tree, &KeyRange::all(), Direction::Ascending, false, &mut |_, _| {
                std::ops::ControlFlow::Continue(())
            });
        }
    }

    /// How many entries the table should have; none if the file does not say.
    #[must_use]
    pub fn n_entries(&self) -> Option<u64> {
        // What a journal changes is not counted.
        self.slot?;
        Some(self.table.map_or(0, |table| table.n_entries))
    }

    /// Up to about `n` keys that cut the table into parts of like size.
    #[must_use]
    pub fn cuts(&self, n: usize) -> Vec<Vec<u8>> {
        let Some(table) = self.table else { return Vec::new() };
        let mut level = vec![table.root];
        let mut cuts: Vec<Vec<u8>> = Vec::new();
        while !level.is_empty() && cuts.len() < n {
            let mut below = Vec::new();
            let mut keys = Vec::new();
            for child in level {
                let Ok(page) = self.page(child, table.widths) else { continue };
                let Some(Page::Branch(branch)) = Page::parse(&page, table.widths) else { continue };
                keys.extend((0..branch.n_children()).filter_map(|nth| branch.key(nth)).map(<[u8]>::to_vec));
                below.extend((0..branch.n_children()).filter_map(|nth| branch.child(nth)));
            }
            cuts.extend(keys);
            level = below;
        }
        cuts.sort_unstable();
        let step = cuts.len().div_ceil(n.max(1)).max(1);
        cuts.into_iter().step_by(step).collect()
    }

    /// What lies in damaged pages of the table, as far as it can still be told apart: nothing vouches for it.
    pub fn doubtful(&self, visit: &mut DoubtfulVisitor<'_>) {
        let lost: Vec<(u64, Child)> =
            lock(&self.damaged).iter().filter_map(|(offset, lost)| Some((*offset, lost.leaf?))).collect();
        for (offset, child) in lost {
            let Ok(bytes) = self.bytes(child) else { continue };
            let Some(Page::Leaf(leaf)) = Page::parse(&bytes, Widths::default()) else { continue };
            for nth in 0..leaf.len() {
                if let (Some(key), Some(value)) = (leaf.key(nth), leaf.value(nth)) {
                    visit(offset, key, value);
                }
            }
        }
    }

    /// The bytes of a damaged page of the table, as they lie.
    #[must_use]
    pub fn lost_bytes(&self, offset: u64) -> Option<Vec<u8>> {
        let child = lock(&self.damaged).get(&offset)?.leaf?;
        self.bytes(child).ok()
    }

    fn lose(&self, offset: u64, reason: String, leaf: Option<Child>) {
        lock(&self.damaged).entry(offset).or_insert(Lost { reason, leaf });
    }

    /// The bytes of a page, unchecked.
    fn bytes(&self, child: Child) -> Result<Vec<u8>, (u64, String)> {
        let place = self.header.as_ref().and_then(|header| header.place(child.number));
        let Some(place) = place else {
            return Err((0, format!("there is no page `{:x}`, which another names", child.number)));
        };
        if place.end > self.n_bytes {
            return Err((place.start, format!("it ends at byte `{}`, before a page that is named", self.n_bytes)));
        }
        let mut bytes = vec![0; (place.end - place.start) as usize];
        let read = self.file.read_exact_at(&mut bytes, place.start);
        read.map_err(|error| (place.start, format!("it cannot be read: {error}")))?;
        Ok(bytes)
    }

    /// A page that has its sum.
    fn page(&self, child: Child, widths: Widths) -> Result<Arc<Vec<u8>>, (u64, String)> {
        let slot = &self.cache[(child.number ^ child.number >> 20) as usize % N_CACHED];
        if let Some((number, page)) = lock(slot).as_ref()
            && *number == child.number
        {
            return Ok(Arc::clone(page));
        }
        let bytes = self.bytes(child)?;
        let offset = self.header.as_ref().and_then(|header| header.place(child.number)).map_or(0, |place| place.start);
        match Page::parse(&bytes, widths).and_then(|page| page.sum()) {
            Some(sum) if sum == child.sum => {}
            Some(_) => return Err((offset, "the page there has another sum".to_owned())),
            None => return Err((offset, "there is no page of the engine's".to_owned())),
        }
        let page = Arc::new(bytes);
        if page.len() as u64 <= 4 * PAGE_BYTES {
            *lock(slot) = Some((child.number, Arc::clone(&page)));
        }
        Ok(page)
    }
}

/// Gives what can be read; what a damaged page held is left out of ranges and noted.
impl Read for Pages {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(value) = self.over.get(key) {
            return Ok(value.clone());
        }
        let Some(table) = self.table else { return Ok(None) };
        self.find(&table, key)
            .map_err(|(offset, reason)| Error::corrupt(&self.path, format!("{reason}, at byte `{offset}`")))
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let over = self.over.range::<[u8], _>(range.bounds()).map(|(key, value)| (key.as_slice(), value.as_deref()));
        match direction {
            Direction::Ascending => self.merged(&range, direction, &mut over.peekable(), visit),
            Direction::Descending => self.merged(&range, direction, &mut over.rev().peekable(), visit),
        }
        Ok(())
    }
}

impl Pages {
    /// Shows the entries of the table with those of the journal in their places.
    fn merged<'a>(
        &self,
        range: &KeyRange<'_>,
        direction: Direction,
        over: &mut std::iter::Peekable<impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>>,
        visit: &mut Visitor<'_>,
    ) {
        let is_before = |one: &[u8], other: &[u8]| match direction {
            Direction::Ascending => one < other,
            Direction::Descending => one > other,
        };
        let went_on = self.table.is_none_or(|table| {
            self.walk(&table, range, direction, true, &mut |key, value| {
                while let Some((newer, word)) = over.next_if(|(newer, _)| is_before(newer, key)) {
                    if let Some(value) = word {
                        visit(newer, value)?;
                    }
                }
                match over.next_if(|(newer, _)| *newer == key) {
                    Some((_, Some(value))) => visit(key, value),
                    Some((_, None)) => ControlFlow::Continue(()),
                    None => visit(key, value),
                }
            })
        });
        while went_on && let Some((newer, word)) = over.next() {
            if word.is_some_and(|value| visit(newer, value).is_break()) {
                return;
            }
        }
    }
}

/// The first bytes of a file.
fn header_of(file: &File, path: &Path) -> Result<Vec<u8>> {
    let n_bytes = file.metadata().map_err(|error| Error::io("look at", path, error))?.len();
    let mut bytes = vec![0; HEADER_BYTES.min(n_bytes as usize)];
    file.read_exact_at(&mut bytes, 0).map_err(|error| Error::io("read", path, error))?;
    Ok(bytes)
}

/// Refuses what is no store, or one that redb does not keep.
fn require_redb(dir: &Path) -> Result<()> {
    match layout::check(dir)? {
        layout::State::Store(Kind::Redb) => Ok(()),
        layout::State::Store(kind) => {
            Err(Error::foreign(dir, format!("it is kept by `{kind}`, whose files are read through it alone")))
        }
        layout::State::Empty => Err(Error::corrupt(&dir.join(layout::FORMAT), "it is missing")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{Batch, Durability};

    #[test]
    fn others_are_served_while_a_large_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let puts = |value: &[u8]| {
            let mut batch = Batch::new();
            batch.put(b"key", value);
            batch
        };
        let open = || crate::open(dir.path(), &Options::default()).unwrap();
        open().commit(&puts(b"1"), Durability::Sync).unwrap();
        let small = Pages::open(dir.path(), &Options::default()).unwrap();
        assert!(!small.is_shared());
        drop(small);
        let large = Pages::open_in_time(dir.path(), &Options::default(), 0).unwrap();
        assert!(large.is_shared() && large.is_kept());
        // What another commits meanwhile is not seen, and the check is told to begin again.
        open().commit(&puts(b"2"), Durability::Sync).unwrap();
        assert!(!large.is_kept());
        let again = Pages::open_in_time(dir.path(), &Options::default(), 0).unwrap();
        open().commit(&puts(b"3"), Durability::Sync).unwrap();
        assert!(again.get(b"key").unwrap().is_some());
    }
}
