//! What keys were before recent commits, so that readers of an engine without snapshots see one state.
//!
//! Before a commit changes anything, it puts down what each of its keys was, under the version it will be. A reader of an
//! earlier version looks into the engine first and here second: where a later version changed the key, what is put down
//! counts. So readers wait for no commit's sync, and no commit for a reader.
//!
//! Invariants:
//! - What a version changed is put down before the engine shows any of it, and kept while a reader of an earlier version
//!   lives. Readers see a version when it is published, whole.
//! - One commit at a time.
//!
//! Memory grows with what is changed while the oldest reader lives: its keys, and what they were.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A key or a value: shared, not copied.
pub(super) type Bytes = ::sled::IVec;
/// A key and what it was: `None` if it was absent.
pub(super) type Before = (Bytes, Option<Bytes>);

/// What keys were.
#[derive(Default)]
pub(super) struct Overlay {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    /// What readers see.
    version: u64,
    n_readers: BTreeMap<u64, usize>,
    /// By key: the versions that changed it, oldest first, each with what the key was before.
    before: BTreeMap<Bytes, VecDeque<(u64, Option<Bytes>)>>,
    /// Versions, oldest first, with the keys they changed.
    changes: VecDeque<(u64, Vec<Bytes>)>,
}

impl Overlay {
    /// Takes the present version; it is to be given to [`Overlay::leave`].
    pub(super) fn enter(&self) -> u64 {
        let mut state = self.write();
        let version = state.version;
        *state.n_readers.entry(version).or_default() += 1;
        version
    }

    pub(super) fn leave(&self, version: u64) {
        let mut state = self.write();
        if let Some(n_readers) = state.n_readers.get_mut(&version) {
            *n_readers -= 1;
            if *n_readers == 0 {
                state.n_readers.remove(&version);
                state.trim();
            }
        }
    }

    /// Puts down what the next version is about to change.
    pub(super) fn begin(&self, befores: Vec<Before>) {
        let mut state = self.write();
        let version = state.version + 1;
        let mut keys = Vec::with_capacity(befores.len());
        for (key, before) in befores {
            state.before.entry(key.clone()).or_default().push_back((version, before));
            keys.push(key);
        }
        state.changes.push_back((version, keys));
    }

    /// Shows the version that was begun to readers from now on.
    pub(super) fn publish(&self) {
        let mut state = self.write();
        state.version += 1;
        state.trim();
    }

    /// Forgets everything: no reader may ask again under a version it has.
    pub(super) fn clear(&self) {
        let mut state = self.write();
        state.before.clear();
        state.changes.clear();
    }

    /// What `key` is in `version`, or at present without one, where `found` is what the engine had for it.
    pub(super) fn correct(&self, version: Option<u64>, key: &[u8], found: Option<Bytes>) -> Option<Bytes> {
        let state = self.read();
        let version = version.unwrap_or(state.version);
        match state.before.get(key).and_then(|befores| before(befores, version)) {
            Some(before) => before.clone(),
            None => found,
        }
    }

    /// The same for every key from `start` to `end`; `found` and the answer are in key order.
    pub(super) fn correct_range(
        &self,
        version: u64,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        found: Vec<(Bytes, Bytes)>,
    ) -> Vec<(Bytes, Bytes)> {
        let corrections: Vec<Before> = self
            .read()
            .before
            .range::<[u8], _>((start, end))
            .filter_map(|(key, befores)| Some((key.clone(), before(befores, version)?.clone())))
            .collect();
        if corrections.is_empty() {
            return found;
        }
        let mut corrected = Vec::with_capacity(found.len() + corrections.len());
        let mut found = found.into_iter().peekable();
        for (key, before) in corrections {
            while let Some(entry) = found.next_if(|entry| entry.0 < key) {
                corrected.push(entry);
            }
            found.next_if(|entry| entry.0 == key);
            corrected.extend(before.map(|value| (key, value)));
        }
        corrected.extend(found);
        corrected
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the first version after `version` found, if a later one changed the key.
fn before(befores: &VecDeque<(u64, Option<Bytes>)>, version: u64) -> Option<&Option<Bytes>> {
    befores.iter().find(|before| before.0 > version).map(|before| &before.1)
}

impl State {
    /// Lets go of what no reader can ask for any more.
    fn trim(&mut self) {
        let oldest = self.n_readers.keys().next().copied().unwrap_or(self.version);
        while self.changes.front().is_some_and(|change| change.0 <= oldest) {
            for key in self.changes.pop_front().map(|change| change.1).unwrap_or_default() {
                let Some(befores) = self.before.get_mut(&key) else { continue };
                befores.pop_front();
                if befores.is_empty() {
                    self.before.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Bytes {
        Bytes::from(text)
    }

    #[test]
    fn each_reader_sees_its_version_and_nothing_is_kept_without_readers() {
        let overlay = Overlay::default();
        let zero = overlay.enter();
        overlay.begin(vec![(Bytes::from("a"), None)]);
        assert_eq!(overlay.correct(None, b"a", Some(value("1"))), None, "not published yet");
        overlay.publish();
        assert_eq!(overlay.correct(None, b"a", Some(value("1"))), Some(value("1")));
        let one = overlay.enter();
        overlay.begin(vec![(Bytes::from("a"), Some(value("1"))), (Bytes::from("b"), None)]);
        overlay.publish();
        assert_eq!(overlay.correct(Some(zero), b"a", Some(value("2"))), None);
        assert_eq!(overlay.correct(Some(one), b"a", Some(value("2"))), Some(value("1")));
        assert_eq!(overlay.correct(Some(one), b"b", Some(value("2"))), None);
        assert_eq!(overlay.correct(None, b"a", Some(value("2"))), Some(value("2")));
        overlay.leave(zero);
        assert_eq!(
            overlay.correct(Some(one), b"a", Some(value("2"))),
            Some(value("1")),
            "the other reader is still there"
        );
        overlay.leave(one);
        assert!(overlay.read().before.is_empty() && overlay.read().changes.is_empty());
    }

    #[test]
    fn a_range_is_corrected_in_its_bounds() {
        let overlay = Overlay::default();
        let version = overlay.enter();
        let changed = [("a", Some("0")), ("b", None), ("c", Some("2")), ("d", Some("3")), ("x", Some("9"))];
        overlay.begin(changed.map(|(key, was)| (Bytes::from(key), was.map(Bytes::from))).to_vec());
        overlay.publish();
        // Now: a, c are deleted, b is new, d has changed, e was left alone.
        let found = [("b", "new"), ("d", "new"), ("e", "4")].map(|(key, value)| (key.into(), value.into())).to_vec();
        let seen = overlay.correct_range(version, Bound::Excluded(b"a"), Bound::Included(b"e"), found);
        assert_eq!(
            seen,
            [("c", "2"), ("d", "3"), ("e", "4")].map(|(key, value)| (Bytes::from(key), Bytes::from(value)))
        );
    }
}
