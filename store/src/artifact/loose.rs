//! Loose files: the files of an owner, each replaced or removed by itself, where a version is a set that never changes.
//!
//! Clients of the tracking protocol write files of a run one by one, whenever they like. A loose file costs its own bytes, whatever else
//! the owner has, and shares its pieces with every version and every other loose file. An owner is a path such as `runs/ID`.
//!
//! Invariant: a loose file keeps its pieces from collection, from the commit that names it to the one that removes it.

use std::collections::BTreeMap;
use std::io::Read;

use serde::{Deserialize, Serialize};
use tracker_engine::{Batch, Direction, Durability, KeyRange};

use super::versions::{check_name, put_version};
use super::{FileEntry, Manifest, Version, check_path, gate};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{Digest, RunId};
use crate::keys::{self, Parsed};
use crate::reader::Entries;
use crate::records::Stored as _;
use crate::store::Store;

/// The most files of one owner that become a version at once.
const MAX_FILES: usize = 100_000;

/// A file that may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LooseFile {
    /// Its size, in bytes.
    pub n_bytes: u64,
    /// Its digest, as of any file of an artifact.
    pub digest: Digest,
    /// When it was written.
    pub modified: Timestamp,
}

/// What lies in a folder of loose files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LooseFolder {
    /// Names of folders, and of files with what they are, by name.
    pub entries: Vec<(String, Option<LooseFile>)>,
}

/// Refuses a path that cannot be the key of a loose file.
fn check(owner: &str, path: &str) -> Result<()> {
    keys::check_text("the owner of a file", owner)?;
    check_path(path)?;
    keys::check_text("the path of a file", path)
}

impl Store {
    /// Writes a file of `owner`, in place of what was at `path`. Holds a few MiB at a time. It is there whole, or what was there is.
    ///
    /// # Errors
    /// `Invalid` if the path is not plain, or a file is where a folder would be or the other way round; `Io` if `source` fails; `Contended`;
    /// the store's.
    pub fn put_loose(&self, owner: &str, path: &str, source: &mut dyn Read) -> Result<LooseFile> {
        check(owner, path)?;
        let mut draft = self.draft("files")?;
        let FileEntry { n_bytes, digest, .. } = draft.add(path, source)?;
        draft.seal()?;
        let file = LooseFile { n_bytes, digest, modified: Timestamp::now() };
        let record = file.encode()?;
        self.write("file", &path, Durability::Os, |batch| {
            self.check_place(owner, path)?;
            gate::name(self, batch, &draft.seen, draft.sealed, draft.used.iter())?;
            draft.plan(batch)?;
            batch.put(&keys::loose(owner, path), &record);
            Ok(())
        })?;
        Ok(file)
    }

    /// No part of a path is a file and a folder at once.
    fn check_place(&self, owner: &str, path: &str) -> Result<()> {
        let above = path.char_indices().filter(|(_, letter)| *letter == '/').map(|(at, _)| &path[..at]);
        for folder in above {
            if self.get(&keys::loose(owner, folder))?.is_some() {
                return Err(Error::invalid("the path of a file", format!("one where `{folder}` is no file"), path));
            }
        }
        let below = keys::loose(owner, &format!("{path}/"));
        if self.entries(&below).next().transpose()?.is_some() {
            return Err(Error::invalid("the path of a file", "one that is no folder", path));
        }
        Ok(())
    }

    /// A file of `owner`, if it has one at `path`.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn loose(&self, owner: &str, path: &str) -> Result<Option<LooseFile>> {
        self.get_value(&keys::loose(owner, path))
    }

    /// What lies in a folder of `owner`; the empty path is the whole. Reads one entry for each folder in it, however many files that has.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn loose_folder(&self, owner: &str, folder: &str) -> Result<LooseFolder> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let start = keys::loose(owner, &prefix);
        let (range, mut from) = (KeyRange::prefix(&start), start.clone());
        let mut found = LooseFolder::default();
        'folders: loop {
            for entry in Entries::new(self.read(), &range.clone().starting_at(&from), Direction::Ascending) {
                let (key, record) = entry?;
                let rest = key.get(start.len()..).and_then(|rest| std::str::from_utf8(rest).ok());
                let rest = rest.ok_or_else(|| Error::corrupt(&key, "expected a path in the key"))?;
                if let Some((name, _)) = rest.split_once('/') {
                    found.entries.push((name.to_owned(), None));
                    // `0` follows `/`: what is in the folder is passed over.
                    from = [start.as_slice(), name.as_bytes(), b"0"].concat();
                    continue 'folders;
                }
                found.entries.push((rest.to_owned(), Some(LooseFile::decode(&key, &record)?)));
            }
            break;
        }
        found.entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Removes a file of `owner`, or all files in a folder; an empty path removes all. Returns how many went.
    ///
    /// # Errors
    /// The engine's.
    pub fn remove_loose(&self, owner: &str, path: &str) -> Result<u64> {
        let mut batch = Batch::new();
        let own = keys::loose(owner, path);
        if !path.is_empty() && self.get(&own)?.is_some() {
            batch.delete(&own);
        }
        let below = if path.is_empty() { own } else { keys::loose(owner, &format!("{path}/")) };
        for entry in self.entries(&below) {
            batch.delete(&entry?.0);
        }
        let n_removed = batch.n_ops() as u64;
        self.commit_batch(&batch, Durability::Os)?;
        Ok(n_removed)
    }

    /// Names the files of `owner` in a folder as a version of the artifact `name`, in `batch`, which holds only if they are still what was
    /// read. None if there are no files.
    pub(crate) fn plan_version_of_loose(
        &self,
        owner: &str,
        folder: &str,
        name: &str,
        run: Option<RunId>,
        batch: &mut Batch,
    ) -> Result<Option<Version>> {
        check_name(name)?;
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let start = keys::loose(owner, &prefix);
        let mut files = Vec::new();
        for entry in self.entries(&start) {
            let (key, record) = entry?;
            let file = LooseFile::decode(&key, &record)?;
            let Some(Parsed::Loose { path, .. }) = keys::parse(&key) else {
                return Err(Error::corrupt(&key, "expected a path in the key"));
            };
            let path = path.get(prefix.len()..).unwrap_or_default().to_owned();
            batch.require_equals(&key, &record);
            files.push(FileEntry { path, n_bytes: file.n_bytes, digest: file.digest });
            if files.len() > MAX_FILES {
                return Err(Error::invalid("a version", format!("a set of at most `{MAX_FILES}` files"), "more"));
            }
        }
        if files.is_empty() {
            return Ok(None);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        gate::name(self, batch, &gate::collected(self)?, None, std::iter::empty())?;
        put_version(self, name, &Manifest { kind: "model".to_owned(), files }, run, &[], batch).map(Some)
    }
}

impl Store {
    /// Lets `batch` name the files of the loose ones among `entries`, which must be here.
    pub(crate) fn plan_files_of(&self, entries: &BTreeMap<Vec<u8>, Vec<u8>>, batch: &mut Batch) -> Result<()> {
        let mut is_named = false;
        for (key, record) in entries.iter().filter(|(key, _)| key.first() == Some(&keys::tag::LOOSE)) {
            let file = LooseFile::decode(key, record)?;
            if self.get(&keys::file(&file.digest))?.is_none() {
                return Err(Error::corrupt(key, "its file is not there"));
            }
            is_named = true;
        }
        if is_named {
            gate::name(self, batch, &gate::collected(self)?, None, std::iter::empty())?;
        }
        Ok(())
    }
}

/// Every loose file that can be read, with owner and path.
pub(crate) fn every(store: &Store) -> impl Iterator<Item = Result<(String, String, LooseFile)>> {
    store.entries(&keys::every_loose()).map(|entry| {
        let (key, record) = entry?;
        let file = LooseFile::decode(&key, &record)?;
        match keys::parse(&key) {
            Some(Parsed::Loose { owner, path }) => Ok((owner.to_owned(), path.to_owned(), file)),
            _ => Err(Error::corrupt(&key, "expected an owner and a path in the key")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &Store, path: &str, text: &str) -> Result<LooseFile> {
        store.put_loose("runs/a", path, &mut text.as_bytes())
    }

    #[test]
    fn a_file_replaces_the_one_before_it_and_folders_are_listed_without_what_is_below() {
        let store = Store::memory().unwrap();
        for path in ["a.txt", "dir/b.txt", "dir/deep/c.txt", "dir.txt", "dir0"] {
            put(&store, path, path).unwrap();
        }
        put(&store, "a.txt", "again").unwrap();
        let file = store.loose("runs/a", "a.txt").unwrap().unwrap();
        assert_eq!(store.read_file(file.digest).unwrap(), b"again");
        let names = |folder: &str| -> Vec<(String, bool)> {
            let folder = store.loose_folder("runs/a", folder).unwrap();
            folder.entries.into_iter().map(|(name, file)| (name, file.is_none())).collect()
        };
        let expected = [("a.txt", false), ("dir", true), ("dir.txt", false), ("dir0", false)];
        assert_eq!(names(""), expected.map(|(name, is_dir)| (name.to_owned(), is_dir)));
        assert_eq!(names("dir"), [("b.txt".to_owned(), false), ("deep".to_owned(), true)]);
        assert!(names("di").is_empty() && names("none").is_empty());
        assert_eq!(store.remove_loose("runs/a", "dir").unwrap(), 2);
        assert_eq!(names("").len(), 3);
        assert_eq!(store.remove_loose("runs/a", "").unwrap(), 3);
        assert!(names("").is_empty());
    }

    #[test]
    fn nothing_is_a_file_and_a_folder_at_once_and_no_path_leads_out() {
        let store = Store::memory().unwrap();
        put(&store, "a/b", "1").unwrap();
        for path in ["a", "a/b/c", "../x", "/x", "x//y", "", "a\0b", &"x".repeat(600)] {
            assert!(put(&store, path, "2").is_err(), "{path:?}");
        }
    }

    #[test]
    fn loose_files_outlive_a_collection_and_removed_ones_do_not() {
        let store = Store::memory().unwrap();
        let large = "x".repeat(100_000);
        let kept = put(&store, "kept", &large).unwrap();
        let gone = put(&store, "gone", &format!("{large}y")).unwrap();
        store.remove_loose("runs/a", "gone").unwrap();
        let how = super::super::Collect { grace: std::time::Duration::ZERO, ..Default::default() };
        store.collect(&how).unwrap();
        assert_eq!(store.read_file(kept.digest).unwrap(), large.as_bytes());
        assert!(store.read_file(gone.digest).is_err());
    }
}
