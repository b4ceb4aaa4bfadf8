//! `tracker backup` and `tracker restore`.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use tracker_store::{Bundle, Counts, Damage, Error, Store, Target};

use super::room::bytes;
use crate::failure::{Answer, InputError};
use crate::printer::Printer;
use crate::progress;

/// What stands for stdin and stdout.
const STREAM: &str = "-";

/// Writes a backup.
pub fn backup(dir: &Path, target: &Path, printer: &Printer) -> anyhow::Result<Answer> {
    // One that is to be migrated can be saved too.
    let store = Store::open_older(dir)?;
    let saved = to_target(target, printer, |target| store.back_up(target, &mut progress::of_bytes(printer)))?;
    let text = format!(
        "{}; wrote {}, {} were there already",
        in_words(&saved.counts),
        bytes(saved.written_bytes),
        bytes(saved.kept_bytes)
    );
    tell(target, &json!({"target": target, "backup": saved}), &text, printer)
}

/// Checks a bundle to the last byte.
pub fn verify(target: &Path, printer: &Printer) -> anyhow::Result<Answer> {
    let checked = open(target, &std::env::temp_dir()).and_then(|bundle| {
        let damaged = bundle.verify(&mut progress::of_bytes(printer))?;
        Ok((Some(bundle), damaged))
    });
    let (bundle, damaged) = match checked {
        // A damaged manifest or index is an answer too.
        Err(Error::CorruptFile { path, offset, reason }) => (None, vec![Damage { file: path, offset, reason }]),
        checked => checked?,
    };
    if printer.is_json() {
        printer.json(&json!({"bundle": bundle.as_ref().map(Bundle::facts), "damaged": damaged}))?;
    } else if let Some(bundle) = bundle.as_ref().filter(|_| damaged.is_empty()) {
        printer.line(&format!("{} is sound: {}", bundle.purpose().name(), in_words(bundle.counts())))?;
    }
    for damage in &damaged {
        printer.say(&damage.to_string());
    }
    Ok(if damaged.is_empty() { Answer::Yes } else { Answer::No })
}

/// Makes a store of a backup.
pub fn restore(dir: &Path, backup: &Path, printer: &Printer) -> anyhow::Result<Answer> {
    let beside = dir.parent().filter(|parent| parent.is_dir()).map_or_else(std::env::temp_dir, Path::to_path_buf);
    let bundle = open(backup, &beside)?;
    let restored = bundle.restore(dir, &mut progress::of_bytes(printer))?;
    if printer.is_json() {
        printer.json(&json!({"store": dir, "restored": restored}))?;
    } else {
        printer.line(&format!("restored {} to {}", in_words(&restored.counts), dir.display()))?;
        let facts = bundle.facts();
        if let Some(was) = facts["store"]["engine"].as_str().filter(|was| *was != restored.engine) {
            printer.say(&format!(
                "note: it was kept by {was}, which this build lacks, and is kept by {} now",
                restored.engine
            ));
        }
    }
    Ok(Answer::Yes)
}

/// Opens a bundle by its path, or the one on stdin.
pub fn open(path: &Path, beside: &Path) -> tracker_store::Result<Bundle> {
    if path == Path::new(STREAM) { Bundle::from_stream(&mut io::stdin().lock(), beside) } else { Bundle::open(path) }
}

/// Hands a target to who writes to it: a tar on stdout, a tar file, or a folder.
pub fn to_target<T>(
    target: &Path,
    printer: &Printer,
    write: impl FnOnce(Target<'_>) -> tracker_store::Result<T>,
) -> anyhow::Result<T> {
    if target == Path::new(STREAM) {
        let mut stdout = printer.bytes().ok_or_else(|| InputError {
            what: "the tar would go to a terminal".into(),
            hint: Some("name a file, or send it on: `tracker … - | …`".into()),
        })?;
        return Ok(write(Target::Stream(&mut stdout))?);
    }
    // A slash that completion puts after a folder makes no other name of it.
    let plain: PathBuf = target.components().collect();
    let is_tar = plain.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar")) && !plain.is_dir();
    Ok(write(if is_tar { Target::File(&plain) } else { Target::Folder(&plain) })?)
}

/// Answers on stdout, unless that has the tar: then on stderr.
pub fn tell(target: &Path, json: &serde_json::Value, text: &str, printer: &Printer) -> anyhow::Result<Answer> {
    match (target == Path::new(STREAM), printer.is_json()) {
        (true, true) => printer.say(&json.to_string()),
        (true, false) => printer.say(text),
        (false, true) => printer.json(json)?,
        (false, false) => printer.line(text)?,
    }
    Ok(Answer::Yes)
}

/// How much there is.
pub fn in_words(counts: &Counts) -> String {
    let n = |n: u64, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    format!(
        "{}, {}, {} of records in {}, {} of artifacts in {}",
        n(counts.runs, "run"),
        n(counts.versions, "version"),
        bytes(counts.record_bytes),
        bytes(counts.stored_bytes),
        bytes(counts.pack_bytes),
        n(counts.packs, "pack")
    )
}
