//! Holds the house to its plan: who may import whom, and which files must be there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn manifest(path: &Path) -> toml::Table {
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

/// The import table as ARCHITECTURE.md states it: lines `    crate → crate, crate` under its heading.
fn table() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("## Import table").nth(1).expect("a heading `## Import table`");
    section
        .split("\n## ")
        .next()
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once('→'))
        .map(|(who, whom)| {
            let whom = whom.split(',').map(str::trim).filter(|w| *w != "nothing").map(str::to_owned).collect();
            (who.trim().to_owned(), whom)
        })
        .collect()
}

#[test]
fn the_import_table_is_law() {
    let table = table();
    let workspace = manifest(&root().join("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let mut seen = Vec::new();
    for member in members {
        let crate_manifest = manifest(&root().join(member.as_str().unwrap()).join("Cargo.toml"));
        let name = crate_manifest["package"]["name"].as_str().unwrap().to_owned();
        if name == "tracker-tests" {
            continue;
        }
        let allowed = table.get(&name).unwrap_or_else(|| panic!("`{name}` is not in the import table"));
        let dependencies = crate_manifest.get("dependencies").and_then(toml::Value::as_table);
        for dependency in dependencies.into_iter().flat_map(|d| d.keys()) {
            if dependency.starts_with("tracker-") {
                assert!(allowed.contains(dependency), "`{name}` may not import `{dependency}`");
            }
        }
        seen.push(name);
    }
    for name in table.keys() {
        assert!(seen.contains(name), "the import table names `{name}`, which is not in the workspace");
    }
}

#[test]
fn every_dependency_is_pinned_with_a_reason_or_speaks_for_itself() {
    let workspace = manifest(&root().join("Cargo.toml"));
    for (name, spec) in workspace["workspace"]["dependencies"].as_table().unwrap() {
        if spec.get("path").is_some() {
            continue;
        }
        let version = spec.as_str().or_else(|| spec.get("version")?.as_str()).unwrap();
        assert!(version.starts_with('='), "`{name}` is not pinned: `{version}`");
    }
}

#[test]
fn every_crate_has_a_readme() {
    let workspace = manifest(&root().join("Cargo.toml"));
    for member in workspace["workspace"]["members"].as_array().unwrap() {
        let folder = root().join(member.as_str().unwrap());
        assert!(folder.join("README.md").is_file(), "{} has no README.md", folder.display());
    }
}

/// The source of every test.
fn tests() -> String {
    fn sources(folder: &Path, all: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                sources(&path, all);
            } else if path.extension().is_some_and(|end| end == "rs") {
                all.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut all = String::new();
    for folder in ["actors", "cli", "gpu", "migrations", "store", "tests"] {
        sources(&root().join(folder), &mut all);
    }
    all
}

/// Asserts that every test named in a table of `page` is there; at least `n_least` are named.
fn assert_named_tests_are_there(page: &str, n_least: usize) {
    let all = tests();
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let is_test =
        |name: &&str| name.len() > 12 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let rows = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let mut n_named = 0;
    for name in rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter(is_test) {
        assert!(all.contains(&format!("fn {name}(")), "{page} names `{name}`, and there is no such test");
        n_named += 1;
    }
    assert!(n_named >= n_least, "{page}: {n_named}");
}

#[test]
fn every_test_that_is_said_to_hold_a_known_answer_is_there() {
    assert_named_tests_are_there("actors/lab/KNOWN_ANSWERS.md", 51);
}

#[test]
fn every_test_that_is_said_to_hold_the_store_safe_is_there() {
    assert_named_tests_are_there("store/SAFETY.md", 40);
}
