//! `tracker gc` and `tracker du`.

use std::path::Path;
use std::time::Duration;

use tracker_store::{Collect, Group, Store};

use crate::args::Grouping;
use crate::failure::Answer;
use crate::printer::Printer;

/// Removes what nothing names, or says what that would free.
pub fn gc(
    dir: &Path,
    dry_run: bool,
    grace_minutes: u64,
    rewrite_below: u8,
    printer: &Printer,
) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let grace = Duration::from_secs(grace_minutes.saturating_mul(60));
    let done = store.collect(&Collect { grace, dry_run, rewrite_below })?;
    if printer.is_json() {
        printer.json(&done)?;
    } else {
        let verb = if dry_run { "would free" } else { "freed" };
        printer.line(&format!("{verb} {}; {} are kept", bytes(done.freed_bytes), bytes(done.kept_bytes)))?;
        printer.line(&format!(
            "{} packs, {} files, {} pieces; {} moved",
            done.n_packs,
            done.n_files,
            done.n_pieces,
            bytes(done.moved_bytes)
        ))?;
    }
    if done.n_young > 0 {
        printer.say(&format!("{} packs that nothing names are younger than {grace_minutes} minutes", done.n_young));
    }
    for damage in &done.damaged {
        printer.say(&format!("damaged: {damage}"));
    }
    Ok(if done.damaged.is_empty() { Answer::Yes } else { Answer::No })
}

/// Says what takes how much room.
pub fn du(dir: &Path, by: Grouping, limit: usize, printer: &Printer) -> anyhow::Result<Answer> {
    let group = match by {
        Grouping::Artifact => Group::Artifact,
        Grouping::Version => Group::Version,
        Grouping::Run => Group::Run,
    };
    let mut usage = Store::open(dir)?.usage(group)?;
    let n_all = usage.shares.len();
    usage.shares.truncate(limit);
    if printer.is_json() {
        printer.json(&usage)?;
        return Ok(Answer::Yes);
    }
    let rows = usage.shares.iter().map(|share| {
        let name = if share.name.is_empty() { "(no run)" } else { &share.name };
        let sizes = [share.raw_bytes, share.stored_bytes, share.shared_bytes, share.freed_bytes].map(bytes);
        [name.to_owned(), share.n_versions.to_string()].into_iter().chain(sizes).collect()
    });
    printer.table(&["NAME", "VERSIONS", "RAW", "STORED", "SHARED", "FREED WITHOUT IT"], rows)?;
    printer.line(&format!(
        "{} of files are stored in {}; {} are named by nothing",
        bytes(usage.raw_bytes),
        bytes(usage.stored_bytes),
        bytes(usage.dead_bytes)
    ))?;
    if n_all > limit {
        printer.say(&format!("the first {limit} of {n_all}; --limit shows more"));
    }
    Ok(Answer::Yes)
}

/// A size, with a unit.
pub fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}
