//! Problems and where they come from: a seeded generator, or a JSONL file of Goedel-Prover's format.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use tracker_proof::corpus::{self, Level};
use tracker_proof::english;
use tracker_proof::formula::{ATOM_NAMES, Formula};
use tracker_store::{Digest, Problem};

use crate::error::{Error, Result};

/// A problem in words, with what is known about it.
#[derive(Clone, Debug)]
pub struct Posed {
    /// As recorded.
    pub problem: Problem,
    /// What it means, if it was generated.
    pub meaning: Option<Formula>,
    /// Its level of difficulty, 1 to 5, if it was generated.
    pub level: Option<u8>,
    /// Its header and statement, if it came with them.
    pub formal: Option<(String, String)>,
}

/// The fields of a row of Goedel-Prover's, DeepSeek-Prover's and their kin's files, and of files of problems in words
/// (Numina's `problem`, GSM8K's `question`); others are left alone.
#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    name: String,
    #[serde(default)]
    split: String,
    #[serde(default)]
    header: String,
    formal_statement: Option<String>,
    informal_prefix: Option<String>,
    informal_statement: Option<String>,
    problem: Option<String>,
    question: Option<String>,
}

/// Makes `n` problems of propositional logic, spread evenly over `levels`, none of whose canonical forms is in `exclude`.
///
/// # Errors
/// `Value` for a level that is none, `Proof` if so many distinct problems cannot be made.
pub fn generate(seed: u64, n: usize, levels: &[u8], exclude: &BTreeSet<Digest>) -> Result<Vec<Posed>> {
    let level =
        |number: &u8| Level::new(*number).map_err(|e| Error::Value { key: "levels".into(), message: e.to_string() });
    let levels: Vec<Level> = levels.iter().map(level).collect::<Result<_>>()?;
    let spare = exclude.len().min(n);
    let made = corpus::statements(seed, n + spare, &levels)?;
    let is_new = |p: &corpus::Problem| !exclude.contains(&Digest::from_bytes(p.statement.digest()));
    let mut posed = Vec::with_capacity(n);
    for (i, made) in made.into_iter().filter(is_new).take(n).enumerate() {
        let text = english::problem(&made.statement.proposition(), &ATOM_NAMES, seed.wrapping_add(i as u64));
        posed.push(Posed {
            meaning: Some(english::parse_problem(&text, &ATOM_NAMES)?),
            problem: Problem { name: format!("p{i}"), source: format!("corpus {seed:016x}"), text },
            level: Some(made.level.number()),
            formal: None,
        });
    }
    Ok(posed)
}

/// Reads up to `limit` rows of `split` (all rows if it is empty). Rows are told apart by their place, since published
/// files repeat names. A row has a formal statement, or words, or both.
///
/// # Errors
/// `Input` naming file, line and field; also if nothing is left of the file.
pub fn read_jsonl(path: &Path, split: &str, limit: usize) -> Result<Vec<Posed>> {
    let bad = |what: String| {
        Error::Input {
        what: format!("{}: {what}", path.display()),
        hint: Some(
            "expected JSON lines with `name`, `formal_statement` and `header`, as Goedel-Prover publishes them, or with \
             words in `informal_statement`, `problem` or `question`"
                .into(),
        ),
    }
    };
    let text = std::fs::read_to_string(path).map_err(|e| bad(format!("cannot be read: {e}")))?;
    let source = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut posed = Vec::new();
    for (idx, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Row = serde_json::from_str(line).map_err(|e| bad(format!("line {}: {e}", idx + 1)))?;
        if !split.is_empty() && row.split != split {
            continue;
        }
        let cut = row.formal_statement.as_deref().map(tracker_proof::statement::split).transpose();
        let cut = cut.map_err(|e| bad(format!("line {}: `formal_statement`: {e}", idx + 1)))?;
        let words = [row.informal_prefix, row.informal_statement, row.problem, row.question];
        let words = words.into_iter().flatten().find(|words| !words.trim().is_empty()).unwrap_or_default();
        if cut.is_none() && words.trim().is_empty() {
            return Err(bad(format!("line {}: expected `formal_statement` or a problem in words", idx + 1)));
        }
        posed.push(Posed {
            problem: Problem { name: format!("{}#{}", row.name, idx + 1), source: source.clone(), text: words },
            meaning: None,
            level: None,
            formal: cut.map(|cut| (row.header, cut.statement)),
        });
        if posed.len() == limit {
            break;
        }
    }
    if posed.is_empty() {
        return Err(bad(format!("expected rows of split `{split}`, found none")));
    }
    Ok(posed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn rows_of_one_name_stay_apart() {
        let row = r#"{"name": "a", "split": "test", "header": "import Mathlib\n", "formal_statement": "theorem a : 1 = 1 := by\n"}"#;
        let (_dir, path) = file(&format!("{row}\n\n{row}\n"));
        let posed = read_jsonl(&path, "test", 10).unwrap();
        assert_eq!(posed.iter().map(|p| p.problem.name.as_str()).collect::<Vec<_>>(), ["a#1", "a#3"]);
        assert_eq!(posed[0].formal, Some(("import Mathlib\n".into(), "theorem a : 1 = 1".into())));
    }

    #[test]
    fn a_row_of_words_alone_is_a_problem() {
        let (_dir, path) =
            file("{\"problem\": \"Show that 1 = 1.\", \"solution\": \"Clear.\"}\n{\"question\": \"Why?\"}\n");
        let posed = read_jsonl(&path, "", 10).unwrap();
        assert_eq!(posed.iter().map(|p| p.problem.text.as_str()).collect::<Vec<_>>(), ["Show that 1 = 1.", "Why?"]);
        assert!(posed.iter().all(|p| p.formal.is_none()));
    }

    #[test]
    fn a_bad_row_is_named_by_its_line() {
        let (_dir, path) = file(
            "{\"name\": \"a\", \"formal_statement\": \"theorem a : 1 = 1 := by\"}\n{\"name\": \"b\"}\n{\"name\": 3}\n",
        );
        let error = read_jsonl(&path, "", 10).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("formal_statement"), "{error}");
        let (_dir, path) = file("{\"name\": \"a\", \"formal_statement\": \"theorem a : 1 = 1 := by\"}\n");
        let error = read_jsonl(&path, "valid", 1).unwrap_err().to_string();
        assert!(error.contains("split `valid`"), "{error}");
    }
}
