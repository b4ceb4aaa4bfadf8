//! What Lean answered about each candidate.
//!
//! `proved` needs all of: no error within the candidate's own lines, exactly one axiom line for its own name at its own
//! place, and every axiom allowed. An answer that is missing, doubled or out of shape is never a positive one.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::source::Placed;
use crate::{Candidate, Compiled, Outcome, statement};

/// One line of `lean --json`, or one message of the REPL.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Message {
    severity: Severity,
    pos: Position,
    data: String,
}

/// How bad a message is. Any other word makes the whole message one of unknown shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Error,
    Warning,
    #[serde(alias = "info")]
    Information,
    Trace,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Position {
    line: u32,
}

/// All that one process said, by line of the file.
#[derive(Debug, Default)]
pub(super) struct Reply {
    by_line: BTreeMap<u32, Vec<Message>>,
    /// A line that is not a message of the known shape; no reply with one is complete.
    pub(super) garbage: Option<String>,
}

/// What the reply says of one candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) outcome: Outcome,
    pub(super) message: String,
    pub(super) axioms: Vec<String>,
}

impl Judgement {
    pub(super) fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self { outcome, message: short(&message.into()), axioms: Vec::new() }
    }

    /// What it means for a statement of which the definition alone was checked.
    pub(super) fn compiled(self, candidate: &Candidate) -> Compiled {
        match self.outcome {
            Outcome::Proved | Outcome::BadAxiom => {
                Compiled::Yes(statement::digest(&candidate.header, &candidate.statement))
            }
            Outcome::Infra => Compiled::Infra(self.message),
            _ => Compiled::No(self.message),
        }
    }
}

impl Message {
    /// The text of a string that `#eval` showed.
    pub(super) fn quoted(&self) -> Option<String> {
        let text = self.data.trim().strip_prefix('"')?.strip_suffix('"')?;
        (self.severity == Severity::Information).then(|| text.to_owned())
    }
}

impl Reply {
    /// Reads the output of a process; where it was cut short, so is the reply.
    pub(super) fn read(stdout: &[u8]) -> Self {
        let mut reply = Self::default();
        for line in stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Message>(line) {
                Ok(message) => reply.by_line.entry(message.pos.line).or_default().push(message),
                Err(_) => reply.garbage = Some(short(&String::from_utf8_lossy(line))),
            }
        }
        reply
    }

    /// The reply to a file of one candidate whose lines may be counted from wherever the server cut off the imports: the
    /// axiom line tells from where. Without one, everything counts as said of the theorem.
    pub(super) fn of_one(messages: Vec<Message>, placed: &Placed) -> Self {
        let said = messages.iter().find(|message| axioms(&message.data, &placed.name).is_some());
        let cut_off = said.and_then(|message| placed.last.checked_sub(message.pos.line));
        let mut reply = Self::default();
        for message in messages {
            let line = cut_off.map_or(placed.theorem, |lines| message.pos.line.saturating_add(lines));
            // nothing else stands after it
            reply.by_line.entry(line.min(placed.last)).or_default().push(message);
        }
        reply
    }

    fn within(&self, first: u32, last: u32) -> impl Iterator<Item = &Message> {
        self.by_line.range(first..=last).flat_map(|(_, messages)| messages)
    }

    fn error_within(&self, first: u32, last: u32) -> Option<&Message> {
        self.within(first, last).find(|message| message.severity == Severity::Error)
    }

    /// The first error before line `line`: it concerns the header.
    pub(super) fn header_error(&self, line: u32) -> Option<String> {
        self.error_within(0, line.saturating_sub(1)).map(|message| short(&message.data))
    }

    /// Whether Lean came to the end of this candidate: it always says something about its last line.
    pub(super) fn is_complete(&self, placed: &Placed) -> bool {
        self.by_line.contains_key(&placed.last)
    }

    /// The outcome of one candidate.
    pub(super) fn judge(&self, placed: &Placed, allowed: &[String]) -> Judgement {
        let Placed { first, theorem, again, last, .. } = *placed;
        if let Some(error) = self.error_within(theorem, again.max(theorem + 1) - 1) {
            return Judgement::new(error_outcome(&error.data), &error.data);
        }
        if let Some(error) = self.error_within(first, theorem.max(first + 1) - 1).filter(|_| theorem > first) {
            // the theorem itself is well-formed, so this is what is written for pinning it
            return Judgement::new(Outcome::Unparsed, format!("the statement cannot be pinned: {}", error.data));
        }
        if let Some(error) = self.error_within(again, last.max(again + 1) - 1).filter(|_| last > again) {
            return Judgement::new(Outcome::StatementMismatch, &error.data);
        }
        if let Some(error) = self.error_within(first, last) {
            return Judgement::new(error_outcome(&error.data), &error.data);
        }
        let is_hole = |message: &&Message| message.severity == Severity::Warning && says_sorry(&message.data);
        if let Some(warning) = self.within(first, last).find(is_hole) {
            return Judgement::new(Outcome::Sorry, &warning.data);
        }
        let mut lists = self.within(last, last).filter_map(|message| axioms(&message.data, &placed.name));
        let (Some(axioms), None) = (lists.next(), lists.next()) else {
            return Judgement::new(Outcome::Unparsed, "lean did not list the axioms of this theorem exactly once");
        };
        let outcome = if axioms.iter().any(|axiom| axiom == "sorryAx") {
            Outcome::Sorry
        } else if axioms.iter().all(|axiom| allowed.contains(axiom)) {
            Outcome::Proved
        } else {
            Outcome::BadAxiom
        };
        let foreign = axioms.iter().find(|axiom| !allowed.contains(axiom));
        let message = foreign.map_or(String::new(), |axiom| format!("the proof rests on the axiom `{axiom}`"));
        Judgement { outcome, message: short(&message), axioms }
    }
}

fn says_sorry(data: &str) -> bool {
    data.contains("sorry") && data.contains("declaration uses")
}

fn error_outcome(data: &str) -> Outcome {
    if data.contains("(deterministic) timeout") || data.contains("maximum number of heartbeats") {
        Outcome::Timeout
    } else if data.contains("excessive memory consumption") || data.contains("out of memory") {
        Outcome::Oom
    } else {
        Outcome::Failed
    }
}

/// The axioms that an answer to `#print axioms name` lists, sorted; `None` if `data` is no such answer.
fn axioms(data: &str, name: &str) -> Option<Vec<String>> {
    let rest = data.strip_prefix('\'')?;
    let (found, rest) = rest.split_once('\'')?;
    // a header may have opened a namespace
    if found != name && !found.ends_with(&format!(".{name}")) {
        return None;
    }
    if rest.trim() == "does not depend on any axioms" {
        return Some(Vec::new());
    }
    let list = rest.trim().strip_prefix("depends on axioms:")?.trim().strip_prefix('[')?.strip_suffix(']')?;
    let mut axioms: Vec<String> = list.split(',').map(|axiom| axiom.trim().to_owned()).collect();
    axioms.sort_unstable();
    if axioms.iter().any(String::is_empty) { None } else { Some(axioms) }
}

/// At most 200 characters on one line.
pub(super) fn short(text: &str) -> String {
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = line.char_indices().nth(200) {
        line.truncate(at);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACED: (u32, u32, u32, u32) = (3, 5, 8, 10);

    fn judge(lines: &[(u32, &str, &str)]) -> Judgement {
        let text: Vec<String> = lines
            .iter()
            .map(|(line, severity, data)| {
                serde_json::json!({"severity": severity, "pos": {"line": line, "column": 0}, "data": data}).to_string()
            })
            .collect();
        let (first, theorem, again, last) = PLACED;
        let placed = Placed { name: "n".into(), first, theorem, again, last };
        let allowed = ["propext".to_owned(), "Quot.sound".to_owned()];
        Reply::read(text.join("\n").as_bytes()).judge(&placed, &allowed)
    }

    #[test]
    fn only_the_whole_positive_answer_is_proved() {
        let fine = (10, "information", "'n' does not depend on any axioms");
        assert_eq!(judge(&[fine]).outcome, Outcome::Proved);
        let some = judge(&[(10, "information", "'X.n' depends on axioms: [propext,\n Quot.sound]")]);
        assert_eq!((some.outcome, some.axioms.len()), (Outcome::Proved, 2));
        for (lines, outcome) in [
            (vec![], Outcome::Unparsed),
            (vec![fine, fine], Outcome::Unparsed),
            (vec![(9, fine.1, fine.2)], Outcome::Unparsed),
            (vec![(10, "information", "'m' does not depend on any axioms")], Outcome::Unparsed),
            (vec![(10, "information", "'n' depends on axioms: [propext, cheat]")], Outcome::BadAxiom),
            (vec![(10, "information", "'n' depends on axioms: []")], Outcome::Unparsed),
            (vec![(10, "information", "'n' depends on axioms: [sorryAx]")], Outcome::Sorry),
            (vec![(5, "warning", "declaration uses 'sorry'"), fine], Outcome::Sorry),
            (vec![(5, "warning", "declaration uses `sorry`"), fine], Outcome::Sorry),
            (vec![(6, "error", "type mismatch"), fine], Outcome::Failed),
            (vec![(6, "error", "(deterministic) timeout at `whnf`"), fine], Outcome::Timeout),
            (vec![(8, "error", "type mismatch"), fine], Outcome::StatementMismatch),
            (vec![(3, "error", "unexpected token"), fine], Outcome::Unparsed),
            (vec![(10, "error", "unknown constant"), fine], Outcome::Failed),
        ] {
            assert_eq!(judge(&lines).outcome, outcome, "{lines:?}");
        }
        assert_eq!(judge(&[(11, "error", "someone else's"), fine]).outcome, Outcome::Proved);
    }

    #[test]
    fn what_is_not_a_message_is_garbage() {
        for text in ["oops", "{\"message\":\"unknown environment\"}", "[1]", "{\"severity\":3}", "\u{fffd}"] {
            assert!(Reply::read(text.as_bytes()).garbage.is_some(), "{text}");
        }
        assert!(Reply::read(&[0xff, 0xfe, b'\n']).garbage.is_some());
    }
}
