//! Files of statements with proofs, one JSON object a line, as Goedel-Prover and DeepSeek-Prover publish them.
//!
//! A row has `name` (or `problem_id`), `formal_statement`, `header`, and a proof: `proof` (or `formal_proof`), what
//! follows `:=`; or `full_code` (or `full_proof`, `code`), a whole file, or a list of whole files. Other fields are
//! skipped.
//!
//! Invariants: a file is read line by line, in memory bounded by its longest line; a bad row is an error that names line,
//! column and field, and costs the other rows nothing. What a row *asks* comes from `formal_statement` and `header`
//! where it has them; a whole file that changes either is not an error of the row but an answer to another question: it
//! is settled as `statement_mismatch` and stays in n.
//! Not here: who checks ([`Verifier`]).

mod line;
mod whole;

use std::io::BufRead;

use self::{
    line::{Lines, Proofs, Value},
    whole::{Asked, Written},
};
use crate::{Candidate, Error, Outcome, Result, Verdict, Verifier, statement};

pub use self::line::MAX_LINE_BYTES;

/// One proof of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it stands in the file: lines from 1.
    pub line: u64,
    /// Its name; names may occur twice, so nothing is grouped by them.
    pub name: String,
    /// Which of the row's proofs it is, from 0.
    pub attempt: u32,
    /// What is to be checked.
    pub candidate: Candidate,
    /// What is known without checking: the outcome and why. [`check`] gives it as the verdict.
    pub settled: Option<(Outcome, String)>,
}

/// The rows of a file, in order.
#[derive(Debug)]
pub struct Rows<R> {
    lines: Lines<R>,
    waiting: std::vec::IntoIter<Row>,
}

/// Reads rows from `reader`. Blank lines, a byte order mark and `\r\n` are no trouble.
pub fn read<R: BufRead>(reader: R) -> Rows<R> {
    Rows { lines: Lines::new(reader), waiting: Vec::new().into_iter() }
}

impl<R: BufRead> Iterator for Rows<R> {
    /// `Row` for a bad row, after which the next one follows; `Io` where the file cannot be read on, once.
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.waiting.next() {
                return Some(Ok(row));
            }
            let rows = match self.lines.next()? {
                Ok((line, text)) => rows_of(line, &text),
                Err(error) => Err(error),
            };
            match rows {
                Ok(rows) => self.waiting = rows.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Verdicts on rows, in order: what is settled as it is settled, all others by `verifier`.
pub fn check(verifier: &mut dyn Verifier, rows: &[Row]) -> Vec<Verdict> {
    let open: Vec<Candidate> =
        rows.iter().filter(|row| row.settled.is_none()).map(|row| row.candidate.clone()).collect();
    let mut checked = verifier.check(&open).into_iter();
    let verdict = |row: &Row| match &row.settled {
        Some((outcome, message)) => Verdict::unchecked(&row.candidate, *outcome, message.clone()),
        None => checked.next().unwrap_or_else(|| {
            Verdict::unchecked(&row.candidate, Outcome::Infra, "the verifier gave no verdict".to_owned())
        }),
    };
    rows.iter().map(verdict).collect()
}

/// All proofs of one line.
fn rows_of(line: u64, text: &str) -> Result<Vec<Row>> {
    let fields = line::fields(line, text)?;
    let bad = |field: &Value, reason: &str| Error::Row {
        line,
        column: field.column,
        field: field.name.clone(),
        reason: reason.to_owned(),
    };
    let end = |field: &str| Value { name: field.to_owned(), column: text.chars().count() as u64, text: String::new() };
    let asked = match &fields.formal_statement {
        Some(formal) => Some(Asked::of(fields.header.as_ref(), formal).map_err(|reason| bad(formal, &reason))?),
        None => None,
    };
    let name = fields.name.map_or_else(String::new, |name| name.text);
    let row = |attempt: usize, written: Written| Row {
        line,
        name: name.clone(),
        attempt: attempt as u32,
        candidate: written.candidate,
        settled: written.settled,
    };
    let given = match (&fields.proof, &asked) {
        (Some(proof), Some(asked)) => Some(asked.with_proof(&proof.text).map_err(|reason| bad(proof, &reason))?),
        (Some(proof), None) => return Err(bad(proof, "expected `formal_statement` beside it")),
        (None, Some(asked)) if fields.codes.is_none() => asked.with_own_proof(),
        (None, _) => None,
    };
    let Some(Proofs { at, texts }) = fields.codes else {
        return match given {
            Some(candidate) => Ok(vec![row(0, Written { candidate, settled: None })]),
            None => Err(bad(&end("proof"), "expected a proof, in `proof` or in `full_code`")),
        };
    };
    let header = fields.header.as_ref().map(|header| header.text.as_str());
    let written: Vec<Written> = texts.iter().map(|code| whole::read(code, asked.as_ref(), header)).collect();
    if let Some(given) = given {
        let same = |written: &Written| written.settled.is_none() && agree(&written.candidate, &given);
        if written.len() != 1 || !written.iter().all(same) {
            return Err(bad(&at, "expected the proof that the field `proof` gives, got another"));
        }
    }
    if written.is_empty() {
        return Err(bad(&at, "expected at least one file"));
    }
    Ok(written.into_iter().enumerate().map(|(attempt, written)| row(attempt, written)).collect())
}

/// Whether two candidates ask and say the same, white space aside.
fn agree(a: &Candidate, b: &Candidate) -> bool {
    statement::digest(&a.header, &a.statement) == statement::digest(&b.header, &b.statement)
        && a.proof.split_whitespace().eq(b.proof.split_whitespace())
}

#[cfg(test)]
mod tests;
