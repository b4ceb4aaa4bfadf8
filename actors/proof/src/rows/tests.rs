use std::io::{BufReader, Cursor};

use serde_json::json;

use super::*;
use crate::kernel::Kernel;

fn all(text: &[u8]) -> Vec<Result<Row>> {
    // a small buffer, so that lines are met in pieces
    read(BufReader::with_capacity(7, Cursor::new(text.to_vec()))).collect()
}

fn one(row: &serde_json::Value) -> Result<Row> {
    let mut rows = all(row.to_string().as_bytes());
    assert_eq!(rows.len(), 1, "{row}");
    rows.pop().unwrap()
}

const FORMAL: &str = "theorem t (p q : Prop) (h : And p q) : q := by\n";

#[test]
fn published_fields_are_read_as_they_are() {
    let row = one(&json!({"name": "t", "split": "test", "informal_prefix": "/-- q. -/", "goal": "⊢ q",
        "header": "import Mathlib\n", "formal_statement": FORMAL, "proof": "  exact h.2"}))
    .unwrap();
    assert_eq!((row.line, row.name.as_str(), row.attempt), (1, "t", 0));
    let expected = Candidate {
        header: "import Mathlib\n".into(),
        statement: "theorem t (p q : Prop) (h : And p q) : q".into(),
        proof: "by\n  exact h.2".into(),
    };
    assert_eq!(row.candidate, expected);
    // version 2: the header and the documentation stand in the statement
    let formal = format!("import Mathlib\n\nopen Nat\n\n/-- q := - /- really -/\n-/\n{FORMAL}");
    let row = one(&json!({"problem_id": "t", "formal_statement": formal, "formal_proof": "by exact h.2"})).unwrap();
    assert_eq!(row.candidate.header, "import Mathlib\n\nopen Nat");
    assert_eq!((row.name.as_str(), row.candidate.proof.as_str()), ("t", "by exact h.2"));
    // a placeholder is no proof
    let row = one(&json!({"formal_statement": "theorem t : True := by sorry", "proof": "trivial"})).unwrap();
    assert_eq!((row.candidate.proof.as_str(), row.settled), ("trivial", None));
}

#[test]
fn a_whole_file_is_cut_and_its_statement_pinned() {
    let code = format!("import Mathlib\nopen Nat\n/-- q -/\n{FORMAL}  exact h.2\n");
    let row = one(&json!({"name": "t", "full_code": code})).unwrap();
    assert_eq!(row.candidate.header, "import Mathlib\nopen Nat");
    assert_eq!((row.candidate.proof.as_str(), row.settled), ("by\n  exact h.2", None));
    let code_of_lean = format!("import Lean.Meta\n{FORMAL} exact h.2");
    assert_eq!(one(&json!({"code": code_of_lean})).unwrap().candidate.header, "import Lean.Meta");
    let asked = |code: &str| {
        one(&json!({"header": "import Mathlib\n\nopen Nat", "formal_statement": FORMAL, "code": code})).unwrap()
    };
    assert_eq!(asked(&code).settled, None);
    assert_eq!(asked(&code).candidate.header, "import Mathlib\n\nopen Nat");
    assert_eq!(asked(FORMAL).settled, None, "a file may leave the header out");
    for (code, outcome) in [
        // the statement is another, the header is another, a declaration is smuggled in, there is no theorem
        (code.replace(": q :=", ": p :="), Outcome::StatementMismatch),
        (code.replace("open Nat", "open Real"), Outcome::StatementMismatch),
        (code.replace("/-- q -/", "axiom cheat : False"), Outcome::Unparsed),
        (code.replace("/-- q -/", "theorem help : True := trivial\n"), Outcome::Unparsed),
        (code.replace("/-- q -/", "set_option debug.skipKernelTC true"), Outcome::Unparsed),
        ("I do not know.".to_owned(), Outcome::Unparsed),
    ] {
        let row = asked(&code);
        assert_eq!(row.settled.as_ref().map(|(outcome, _)| *outcome), Some(outcome), "{code}");
        assert_eq!(row.candidate.statement, "theorem t (p q : Prop) (h : And p q) : q");
    }
}

#[test]
fn a_list_of_files_is_a_list_of_attempts() {
    let codes = [FORMAL.to_owned() + " exact h.2", "nothing".to_owned()];
    let text = json!({"name": "t", "formal_statement": FORMAL, "full_code": codes}).to_string();
    let rows: Vec<Row> = all(text.as_bytes()).into_iter().map(Result::unwrap).collect();
    assert_eq!(rows.iter().map(|row| row.attempt).collect::<Vec<_>>(), [0, 1]);
    assert!(rows[0].settled.is_none() && rows[1].settled.is_some());
}

#[test]
fn fields_that_disagree_are_an_error_of_the_row() {
    let row = |proof: &str| {
        one(&json!({"formal_statement": FORMAL, "proof": proof, "full_code": format!("{FORMAL}  exact h.2")}))
    };
    assert_eq!(row(" exact   h.2").unwrap().settled, None);
    let error = row("exact h.1").unwrap_err().to_string();
    assert!(error.starts_with("line 1, column ") && error.contains("field `full_code`"), "{error}");
}

#[test]
fn bad_rows_name_their_place_and_cost_the_others_nothing() {
    let good =
        json!({"name": "good", "formal_statement": "theorem t (p : Prop) : p → p", "proof": "fun h => h"}).to_string();
    let bad = [
        ("{\"name\": 3}", "line 2, column 10, field `name`: "),
        ("{\"name\": \"x\"}", "line 2, column 13, field `proof`: expected a proof"),
        ("[1]", "line 2, column 1: "),
        ("{\"proof\": \"h\"}", "line 2, column 11, field `proof`: expected `formal_statement`"),
        ("{\"formal_statement\": \"def x\", \"proof\": \"h\"}", "line 2, column 22, field `formal_statement`: "),
        ("{\"proof\": \"h\", \"formal_proof\": \"h\"}", "line 2, column "),
        ("{\"name\": \"proof\", \"proof\" : \"h\"}", "line 2, column 29, field `proof`: expected `formal_statement`"),
        ("{\"full_code\": []}", "line 2, column 15, field `full_code`: "),
        ("{\"name\": \"x\", ", "line 2, column "),
        ("{} trailing", "line 2, column 4: "),
        ("nonsense", "line 2, column 2: "),
    ];
    for (text, expected) in bad {
        let file = format!("\u{feff}{good}\r\n{text}\n\n  \r\n{good}");
        let rows = all(file.as_bytes());
        assert_eq!(rows.len(), 3, "{text}");
        let error = rows[1].as_ref().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
        assert!(matches!(&rows[2], Ok(row) if row.name == "good" && row.line == 5), "{text}");
    }
    let rows = all(&[good.as_bytes(), b"\n\"\xff\"\n", good.as_bytes()].concat());
    assert!(rows[1].as_ref().unwrap_err().to_string().starts_with("line 2, column 2: expected UTF-8"));
    assert!(rows[2].is_ok());
}

#[test]
fn long_lines_are_read_up_to_the_cap() {
    let row = |n: usize| json!({"formal_statement": FORMAL, "proof": "x".repeat(n)}).to_string();
    let file = [row(50 << 20), row(MAX_LINE_BYTES), row(1)].join("\n");
    let rows: Vec<Result<Row>> = read(file.as_bytes()).collect();
    assert!(matches!(&rows[0], Ok(row) if row.candidate.proof.len() > 50 << 20));
    let error = rows[1].as_ref().unwrap_err().to_string();
    assert!(error.contains("expected at most 67108864 bytes"), "{error}");
    assert!(matches!(&rows[2], Ok(row) if row.line == 3));
}

#[test]
fn settled_rows_keep_their_place_among_the_verdicts() {
    let row = |formal: &str, code: &str| one(&json!({"formal_statement": formal, "full_code": code})).unwrap();
    let formal = "theorem t (p : Prop) : p → p";
    let rows = [
        row(formal, "theorem t (p : Prop) : p → p := fun h => h"),
        row(formal, "theorem t (p : Prop) : p := fun h => h"),
        row(formal, "theorem t (p : Prop) : p → p := fun h => p"),
    ];
    let outcomes: Vec<Outcome> = check(&mut Kernel::new(), &rows).iter().map(|verdict| verdict.outcome).collect();
    assert_eq!(outcomes, [Outcome::Proved, Outcome::StatementMismatch, Outcome::Failed]);
}
