//! What becomes of commits when files may not grow.
//!
//! A child works under a limit on the size of files, of which writes are told as of a full disk; so each test begins by
//! asking whether it is the child.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking; children talk over stdout")]

use std::path::Path;
use std::process::Command;

use tracker_engine::{Batch, Direction, Durability, Error, KeyRange, Kind, Options, open};

const ROLE_DIR: &str = "TRACKER_ENGINE_TEST_FULL";
/// The most a file may have, in blocks of 512 bytes or of a kibibyte, as shells differ.
const LIMIT_BLOCKS: u32 = 6_000;

/// Fills the store until it is full, then says how many batches were acknowledged and what the refusal was.
fn fill(dir: &Path) {
    let engine = open(dir, &Options::default()).unwrap();
    let mut n_acknowledged = 0_u32;
    let error = loop {
        let mut batch = Batch::new();
        for i in 0..100_u32 {
            batch.put(&[n_acknowledged.to_be_bytes(), i.to_be_bytes()].concat(), &[n_acknowledged as u8; 1_000]);
        }
        match engine.commit(&batch, Durability::Sync) {
            Ok(()) => n_acknowledged += 1,
            Err(error) => break error,
        }
        assert!(n_acknowledged < 1_000, "the limit on files is not felt");
    };
    // What was refused is not there, and what was acknowledged can still be read, if the engine needs no room to be opened.
    let found = match engine.collect(KeyRange::all(), Direction::Ascending, usize::MAX) {
        Ok(entries) => entries.len().to_string(),
        Err(Error::Full { .. }) => "closed".to_owned(),
        Err(error) => format!("{error:?}"),
    };
    println!("\nfull {n_acknowledged} {} {found}", matches!(error, Error::Full { .. }));
}

#[test]
fn a_full_disk_refuses_whole_batches_and_keeps_what_was_written() {
    const TEST: &str = "a_full_disk_refuses_whole_batches_and_keeps_what_was_written";
    if let Some(dir) = std::env::var_os(ROLE_DIR) {
        return fill(Path::new(&dir));
    }
    for engine in Kind::ALL.into_iter().filter(|kind| kind.is_built()) {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), &Options { engine, ..Options::default() }).unwrap());
        // The signal that goes with the limit is ignored, so that writes fail instead.
        let script = format!("trap '' XFSZ; ulimit -f {LIMIT_BLOCKS}; exec \"$0\" --exact {TEST} --nocapture");
        let me = std::env::current_exe().unwrap();
        let child = Command::new("sh").args(["-c", &script]).arg(me).env(ROLE_DIR, dir.path()).output().unwrap();
        let said = String::from_utf8(child.stdout).unwrap();
        let line = said.lines().find_map(|line| line.strip_prefix("full ")).unwrap_or_else(|| {
            panic!("{engine}: the child failed: {said}\n{}", String::from_utf8_lossy(&child.stderr))
        });
        let words: Vec<&str> = line.split(' ').collect();
        let n_acknowledged: u32 = words[0].parse().unwrap();
        assert!(n_acknowledged > 5, "{engine}: {said}");
        assert_eq!(words[1], "true", "{engine}: a full disk is to be told as such: {said}");
        let is_closed = words[2] == "closed";
        assert!(is_closed || words[2] == (n_acknowledged * 100).to_string(), "{engine}: {said}");
        let store = open(dir.path(), &Options::default()).unwrap();
        let n_found = store.collect(KeyRange::all(), Direction::Ascending, usize::MAX).unwrap().len() as u32;
        // An engine that could not be opened again could not look what became of the batch it refused.
        let is_unknown = is_closed && n_found == (n_acknowledged + 1) * 100;
        assert!(is_unknown || n_found == n_acknowledged * 100, "{engine}: {n_acknowledged} batches, {n_found} keys");
        let mut batch = Batch::new();
        batch.put(b"room again", b"");
        store.commit(&batch, Durability::Sync).unwrap();
    }
}
