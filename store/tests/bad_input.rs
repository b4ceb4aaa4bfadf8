//! Every file of a small store damaged in turn, seeded: flipped bytes, cut short, swapped, replaced by noise. Either nothing
//! that can be asked is changed by it, or a check names it. Nothing panics, nothing hangs, and no reader writes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod scene;
mod whole;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracker_store::{Error, Level, Store};
use whole::{Files, ask, check, copy, files, fill};

/// Far above what one case takes.
const PATIENCE: Duration = Duration::from_mins(1);

struct Noise(blake3::OutputReader);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new_derive_key("damage").update(&seed.to_le_bytes()).finalize_xof())
    }

    fn below(&mut self, n: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % n.max(1) as u64) as usize
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.0.fill(&mut bytes);
        bytes
    }
}

struct Scene {
    source: tempfile::TempDir,
    whole: Files,
    answers: Vec<(String, Result<String, String>)>,
}

impl Scene {
    fn new() -> Self {
        let source = tempfile::tempdir().unwrap();
        fill(source.path());
        let whole = files(source.path());
        let answers = ask(source.path());
        assert!(answers.iter().all(|(_, answer)| answer.is_ok()), "{answers:?}");
        Self { source, whole, answers }
    }

    /// Puts `damaged` in the places of whole files, asks, checks, and holds both to their word. Whether it was named.
    fn case(&self, what: &str, damaged: &[(&Path, Vec<u8>)]) -> bool {
        let started = Instant::now();
        let [asked, checked] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        for dir in [asked.path(), checked.path()] {
            copy(&self.whole, self.source.path(), dir);
            for (path, bytes) in damaged {
                fs::write(dir.join(path.strip_prefix(self.source.path()).unwrap()), bytes).unwrap();
            }
        }
        let before = files(asked.path());
        let answers = catch_unwind(AssertUnwindSafe(|| ask(asked.path())));
        let answers = answers.unwrap_or_else(|_| panic!("{what}: asking panicked"));
        for (path, bytes) in files(asked.path()) {
            // A file that says it was not closed is repaired by redb when it is opened, in its own file.
            let may_change = path.ends_with("data.redb") && was_left_open(&before[&path]);
            assert!(may_change || before.get(&path) == Some(&bytes), "{what}: asking wrote `{}`", path.display());
        }
        let before = files(checked.path());
        let (result, findings) = catch_unwind(AssertUnwindSafe(|| check(checked.path())))
            .unwrap_or_else(|_| panic!("{what}: a check panicked"));
        assert_eq!(files(checked.path()), before, "{what}: a check wrote");
        assert!(started.elapsed() < PATIENCE, "{what}: {:?}", started.elapsed());
        let damage: Vec<_> = findings.iter().filter(|finding| finding.level == Level::Damage).collect();
        match &result {
            Ok(checked) => assert_eq!(checked.n_damages, damage.len() as u64),
            // A refusal names the file, or the folder.
            Err(error) => {
                let dir = checked.path().display().to_string();
                assert!(error.to_string().contains(&dir), "{what}: {error}");
                assert!(
                    error.hint().is_some() || error.to_string().contains("; "),
                    "{what}: {error} says not what to do"
                );
            }
        }
        if result.is_ok() && damage.is_empty() {
            assert_eq!(answers, self.answers, "{what}: answers changed, and nobody says so");
            return false;
        }
        for finding in &damage {
            assert!(finding.file.is_some() || finding.key.is_some(), "{what}: {finding} names no place");
        }
        true
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.whole.keys().cloned().collect()
    }
}

/// Whether a file of the engine says that it was not closed, or is longer or shorter than it says.
fn was_left_open(data: &[u8]) -> bool {
    let number = |at: usize| data.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
    let n_pages = 1 + u64::from(number(24)) * u64::from(number(20)) + u64::from(number(28));
    data.get(9).is_some_and(|flags| flags & 2 != 0) || n_pages * 4096 != data.len() as u64
}

#[test]
fn flipped_bytes_anywhere_are_named_or_change_nothing() {
    let scene = Scene::new();
    let mut noise = Noise::new(1);
    let (mut n_named, mut n_harmless) = (0, 0);
    for path in scene.paths() {
        let n_cases = if path.ends_with("data.redb") { 48 } else { 6 };
        for nth in 0..n_cases {
            let mut bytes = scene.whole[&path].clone();
            for _ in 0..=(nth % 3) {
                let at = if nth % 4 == 0 { noise.below(bytes.len().min(400)) } else { noise.below(bytes.len()) };
                bytes[at] ^= 1 << noise.below(8);
            }
            let what = format!("flips {nth} of {}", path.display());
            if scene.case(&what, &[(&path, bytes)]) {
                n_named += 1;
            } else {
                n_harmless += 1;
            }
        }
    }
    assert!(n_named > 30 && n_harmless > 0, "{n_named} named, {n_harmless} harmless");
}

#[test]
fn files_cut_short_or_replaced_by_noise_are_named() {
    let scene = Scene::new();
    let mut noise = Noise::new(2);
    for path in scene.paths() {
        let whole = &scene.whole[&path];
        let is_data = path.ends_with("data.redb");
        for nth in 0..if is_data { 8 } else { 3 } {
            let end = if nth == 0 { 0 } else { noise.below(whole.len()) };
            scene.case(&format!("{} cut at {end}", path.display()), &[(&path, whole[..end].to_vec())]);
        }
        let n_bytes = noise.below(2 * whole.len());
        let mut half = whole.clone();
        let from = half.len() / 2;
        half.truncate(from);
        half.extend(noise.bytes(from));
        for (what, bytes) in
            [("noise", noise.bytes(whole.len())), ("other noise", noise.bytes(n_bytes)), ("half", half)]
        {
            let is_named = scene.case(&format!("{} replaced by {what}", path.display()), &[(&path, bytes)]);
            assert!(is_named, "{} replaced by {what} is not named", path.display());
        }
    }
}

#[test]
fn swapped_files_are_named() {
    let scene = Scene::new();
    let paths = scene.paths();
    for (nth, one) in paths.iter().enumerate() {
        for other in &paths[nth + 1..] {
            let swapped = [(one.as_path(), scene.whole[other].clone()), (other.as_path(), scene.whole[one].clone())];
            let what = format!("{} and {} swapped", one.display(), other.display());
            assert!(scene.case(&what, &swapped), "{what}");
        }
    }
}

#[test]
fn a_file_that_is_gone_is_named() {
    let scene = Scene::new();
    for path in scene.paths() {
        let dir = tempfile::tempdir().unwrap();
        copy(&scene.whole, scene.source.path(), dir.path());
        let gone = dir.path().join(path.strip_prefix(scene.source.path()).unwrap());
        fs::remove_file(&gone).unwrap();
        let (result, findings) = check(dir.path());
        let is_named = findings.iter().any(|finding| finding.level == Level::Damage);
        assert!(is_named || result.is_err(), "{}: {findings:?}", path.display());
        assert!(!gone.exists() || !path.ends_with("data.redb"), "it was made anew");
    }
}

#[test]
fn a_folder_of_another_program_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("blobs")).unwrap();
    fs::write(dir.path().join("blobs/00.pack"), "x").unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let before = files(dir.path());
    for error in [Store::open(dir.path()).unwrap_err(), check(dir.path()).0.unwrap_err()] {
        assert!(error.is_input() && error.to_string().contains("name an empty or a new folder"), "{error}");
    }
    let empty = tempfile::tempdir().unwrap();
    for path in [empty.path(), &empty.path().join("none")] {
        assert!(matches!(check(path).0, Err(Error::NotFound { .. })), "{}", path.display());
    }
    assert_eq!(files(dir.path()), before);
    assert!(files(empty.path()).is_empty());
}
