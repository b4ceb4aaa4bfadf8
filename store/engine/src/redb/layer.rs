//! What readers see: the file as of one transaction, and the overlay over it.

use std::iter::Peekable;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::vec;

use ::redb::{AccessGuard, Range, ReadOnlyTable};

use super::Bytes;
use super::file::{guarded, storage_error};
use super::overlay::{Moment, Overlay, Said};
use crate::{Direction, Error, KeyRange, Read, Result, Visitor};

/// How many keys of the overlay are copied at a time; nobody can write to it meanwhile.
const PART: usize = 256;

/// The file as of one transaction, and what was acknowledged since.
pub(super) struct Layer {
    pub(super) base: View,
    overlay: Arc<RwLock<Overlay>>,
}

impl Layer {
    pub(super) fn new(base: View, overlay: Overlay) -> Self {
        Self { base, overlay: Arc::new(RwLock::new(overlay)) }
    }

    /// The same overlay over the file as it was opened anew.
    pub(super) fn over(&self, base: View) -> Self {
        Self { base, overlay: Arc::clone(&self.overlay) }
    }

    pub(super) fn overlay(&self) -> RwLockReadGuard<'_, Overlay> {
        self.overlay.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn overlay_mut(&self) -> RwLockWriteGuard<'_, Overlay> {
        self.overlay.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &[u8], at: Option<Moment>) -> Result<Option<Vec<u8>>> {
        if let Some(said) = self.overlay().get(key, at) {
            return Ok(said.value().map(<[u8]>::to_vec));
        }
        self.base.get(key)
    }

    /// Whether `key` has this value now.
    pub(super) fn holds(&self, key: &[u8], expected: Option<&[u8]>) -> Result<bool> {
        if let Some(said) = self.overlay().get(key, None) {
            return Ok(said.value() == expected);
        }
        self.base.holds(key, expected)
    }

    fn range(&self, range: &KeyRange<'_>, direction: Direction, at: Moment, visit: &mut Visitor<'_>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let over = Over { layer: self, range, direction, at, last: None, part: Vec::new().into_iter().peekable() };
        let mut base = self.base.entries(range)?;
        let mut next_base = self.base.next(&mut base, direction)?;
        for (key, said) in over {
            // What the file has before it.
            while let Some(entry) = &next_base {
                let (base_key, base_value) = self.base.bytes(entry)?;
                let is_before = match direction {
                    Direction::Ascending => base_key < &*key,
                    Direction::Descending => base_key > &*key,
                };
                if !is_before {
                    break;
                }
                if visit(base_key, base_value).is_break() {
                    return Ok(());
                }
                next_base = self.base.next(&mut base, direction)?;
            }
            let is_over = match &next_base {
                Some(entry) => self.base.bytes(entry)?.0 == &*key,
                None => false,
            };
            if is_over {
                next_base = self.base.next(&mut base, direction)?;
            }
            if let Some(value) = said
                && visit(&key, &value).is_break()
            {
                return Ok(());
            }
        }
        while let Some(entry) = &next_base {
            let (key, value) = self.base.bytes(entry)?;
            if visit(key, value).is_break() {
                return Ok(());
            }
            next_base = self.base.next(&mut base, direction)?;
        }
        Ok(())
    }
}

/// What the overlay says of a range at a moment, copied part by part.
struct Over<'a> {
    layer: &'a Layer,
    range: &'a KeyRange<'a>,
    direction: Direction,
    at: Moment,
    last: Option<Box<[u8]>>,
    part: Peekable<vec::IntoIter<Said>>,
}

impl Iterator for Over<'_> {
    type Item = Said;

    fn next(&mut self) -> Option<Said> {
        if self.part.peek().is_none() {
            let overlay = self.layer.overlay();
            let part = overlay.part(self.range, self.direction, self.last.as_deref(), self.at, PART);
            drop(overlay);
            self.last = part.last().map(|(key, _)| key.clone());
            self.part = part.into_iter().peekable();
        }
        self.part.next()
    }
}

/// A layer at a moment.
pub(super) struct Snapshot {
    layer: Arc<Layer>,
    at: Moment,
}

impl Snapshot {
    /// # Errors
    /// `SnapshotLost` of a layer whose file was opened anew.
    pub(super) fn take(layer: Arc<Layer>) -> Result<Self> {
        layer.base.check_kept()?;
        let at = layer.overlay_mut().pin();
        Ok(Self { layer, at })
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.layer.overlay_mut().unpin(self.at);
    }
}

impl Read for Snapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.layer.get(key, Some(self.at))
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        self.layer.range(&range, direction, self.at, visit)
    }
}

/// The table as of one transaction.
pub(super) struct View {
    pub(super) path: PathBuf,
    pub(super) table: ReadOnlyTable<Bytes, Bytes>,
    /// Set once the file was opened to be written; what redb still has in memory of it is then not given any more.
    pub(super) is_lost: Option<Arc<AtomicBool>>,
}

/// An entry of the file, as it lies there.
type Guards<'a> = (AccessGuard<'a, Bytes>, AccessGuard<'a, Bytes>);

impl View {
    fn check_kept(&self) -> Result<()> {
        match &self.is_lost {
            Some(is_lost) if is_lost.load(Ordering::Acquire) => Err(Error::SnapshotLost),
            _ => Ok(()),
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.check_kept()?;
        guarded(&self.path, || {
            let value = self.table.get(key).map_err(|error| storage_error(&self.path, error))?;
            Ok(value.map(|value| value.value().to_vec()))
        })
    }

    pub(super) fn holds(&self, key: &[u8], expected: Option<&[u8]>) -> Result<bool> {
        self.check_kept()?;
        guarded(&self.path, || {
            let value = self.table.get(key).map_err(|error| storage_error(&self.path, error))?;
            Ok(value.as_ref().map(AccessGuard::value) == expected)
        })
    }

    fn entries(&self, range: &KeyRange<'_>) -> Result<Range<'static, Bytes, Bytes>> {
        self.check_kept()?;
        guarded(&self.path, || {
            self.table.range::<&[u8]>(range.bounds()).map_err(|error| storage_error(&self.path, error))
        })
    }

    fn bytes<'a>(&self, (key, value): &'a Guards<'_>) -> Result<(&'a [u8], &'a [u8])> {
        guarded(&self.path, || Ok((key.value(), value.value())))
    }

    /// Only redb runs under the guard: a panic of the visitor is the caller's own.
    fn next(
        &self,
        entries: &mut Range<'static, Bytes, Bytes>,
        direction: Direction,
    ) -> Result<Option<Guards<'static>>> {
        guarded(&self.path, || {
            let entry = match direction {
                Direction::Ascending => entries.next(),
                Direction::Descending => entries.next_back(),
            };
            entry.transpose().map_err(|error| storage_error(&self.path, error))
        })
    }
}
