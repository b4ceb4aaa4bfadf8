//! Whole Lean files cut into header, statement and proof, and held against what was asked.

use super::line::Value;
use crate::{
    Candidate, Outcome,
    lean::{self, declares, scan::Code},
    statement::{self, Split},
};

/// What a row asks.
#[derive(Debug)]
pub(super) struct Asked {
    header: Option<String>,
    statement: String,
    /// What stands after `:=`.
    tail: String,
}

/// A candidate, and what is known of it without checking.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) candidate: Candidate,
    pub(super) settled: Option<(Outcome, String)>,
}

impl Asked {
    /// Reads `formal_statement`, which may hold a header of its own before the theorem.
    pub(super) fn of(header: Option<&Value>, formal: &Value) -> Result<Self, String> {
        let Split { prefix, statement, tail } = statement::split(&formal.text).map_err(|error| error.to_string())?;
        let own = without_comment(&prefix);
        let header = match (header, own.is_empty()) {
            (Some(header), true) => Some(header.text.clone()),
            (Some(header), false) => Some(format!("{}\n{own}", header.text)),
            (None, true) => None,
            (None, false) => Some(own.to_owned()),
        };
        Ok(Self { header, statement, tail })
    }

    /// The candidate of a proof that follows `:=`, or `:= by` where the statement ends in it.
    pub(super) fn with_proof(&self, proof: &str) -> Result<Candidate, String> {
        let proof = match self.tail.as_str() {
            "by" if !begins_with_by(proof) => format!("by\n{}", proof.trim_start_matches(['\n', '\r'])),
            tail if tail.is_empty() || tail == "by" || is_hole(tail) => proof.to_owned(),
            _ => return Err("expected no proof in `formal_statement` as well".to_owned()),
        };
        Ok(self.candidate(proof))
    }

    /// The candidate of the proof that stands in the statement's own field; `None` where there is none.
    pub(super) fn with_own_proof(&self) -> Option<Candidate> {
        let is_open = self.tail.is_empty() || self.tail == "by" || is_hole(&self.tail);
        (!is_open).then(|| self.candidate(self.tail.clone()))
    }

    fn candidate(&self, proof: String) -> Candidate {
        Candidate { header: self.header.clone().unwrap_or_default(), statement: self.statement.clone(), proof }
    }
}

/// Cuts a whole file. `header` is the row's own, which the file may repeat or leave out.
pub(super) fn read(code: &str, asked: Option<&Asked>, header: Option<&str>) -> Written {
    let pinned = asked.and_then(|asked| asked.header.as_deref()).or(header);
    // what is asked counts, whatever comes of reading the answer
    let settle = |outcome, why: &str| Written {
        candidate: Candidate {
            header: pinned.unwrap_or_default().to_owned(),
            statement: asked.map_or_else(String::new, |asked| asked.statement.clone()),
            proof: code.to_owned(),
        },
        settled: Some((outcome, why.to_owned())),
    };
    let body = pinned.and_then(|header| strip(code, header)).unwrap_or(code);
    let Ok(Split { prefix, statement, tail }) = statement::split(body) else {
        return settle(Outcome::Unparsed, "expected a file with a theorem that ends");
    };
    let own = without_comment(&prefix);
    match Code::read(own).map(|read| declares(&read, own)) {
        Ok(None) => {}
        Ok(Some(word)) => {
            return settle(
                Outcome::Unparsed,
                &format!("`{word}` stands before the theorem, which must be the first declaration"),
            );
        }
        Err(reason) => return settle(Outcome::Unparsed, reason),
    }
    if pinned.is_some() && !own.is_empty() {
        return settle(Outcome::StatementMismatch, "the file has another header than the one asked");
    }
    if let Some(asked) = asked.filter(|asked| !asked.statement.split_whitespace().eq(statement.split_whitespace())) {
        return if states_later(body, &asked.statement) {
            settle(Outcome::Unparsed, "the theorem asked stands behind lemmas, and must be the first declaration")
        } else {
            settle(Outcome::StatementMismatch, "the file states another theorem than the one asked")
        };
    }
    let header = pinned.unwrap_or(own).to_owned();
    Written { candidate: Candidate { header, statement, proof: tail }, settled: None }
}

/// Whether `statement` stands anywhere in `body`, white space aside.
fn states_later(body: &str, statement: &str) -> bool {
    let begins = |word: lean::scan::Word| {
        let mut found = body[word.start..].split_whitespace();
        statement.split_whitespace().all(|word| found.next() == Some(word))
    };
    let starts = |word: &lean::scan::Word| matches!(word.text, "theorem" | "lemma");
    Code::read(body).is_ok_and(|code| code.words().filter(starts).any(begins))
}

/// `code` without `header` at its beginning, white space aside.
fn strip<'t>(code: &'t str, header: &str) -> Option<&'t str> {
    let mut rest = code;
    for word in header.split_whitespace() {
        rest = rest.trim_start().strip_prefix(word)?;
        if !(rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            return None;
        }
    }
    Some(rest)
}

/// `prefix` without the documentation of the theorem at its end.
fn without_comment(prefix: &str) -> &str {
    // what cannot be read is left as it is, and read by whoever is next
    Code::read(prefix).map_or(prefix, |code| code.without_last_comments())
}

fn begins_with_by(proof: &str) -> bool {
    let rest = proof.trim_start().strip_prefix("by");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || c == '{'))
}

fn is_hole(tail: &str) -> bool {
    let words: Vec<&str> = tail.split_whitespace().collect();
    matches!(words.as_slice(), ["sorry"] | ["by", "sorry"])
}
