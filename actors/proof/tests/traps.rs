//! The ways in which published checkers were fooled, staged under real Lean where there is one, and otherwise under a
//! scripted stand-in that reproduces the reply. None may yield `proved`; none may turn trouble into a failed proof.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tracker_proof::{
    Candidate, Compiled, Outcome, Verdict, Verifier as _,
    lean::{Lean, Options, find},
    prelude,
};

fn real_lean(what: &str) -> Option<Lean> {
    let Some(binary) = find() else {
        let skip = format!("SKIP {what}: no lean (set TRACKER_LEAN or run tests/lean.sh)\n");
        std::io::stderr().write_all(skip.as_bytes()).unwrap();
        return None;
    };
    Some(Lean::open(Options { binary: Some(binary), ..Options::default() }).unwrap())
}

fn candidate(statement: &str, proof: &str) -> Candidate {
    Candidate { header: prelude::TEXT.to_owned(), statement: statement.to_owned(), proof: proof.to_owned() }
}

const GOOD: (&str, &str) = ("theorem good (p q : Prop) (h : And p q) : And q p", "⟨h.2, h.1⟩");
const BAD: (&str, &str) = ("theorem bad (p q : Prop) (h : p) : q", "h");

fn good() -> Candidate {
    candidate(GOOD.0, GOOD.1)
}

fn bad() -> Candidate {
    candidate(BAD.0, BAD.1)
}

fn outcomes(verdicts: &[Verdict]) -> Vec<Outcome> {
    verdicts.iter().map(|verdict| verdict.outcome).collect()
}

#[test]
fn traps_seen_with_real_lean_do_not_prove() {
    let Some(mut lean) = real_lean("traps") else { return };
    let with_axiom = format!("{}\naxiom cheat : (p : Prop) → p\n", prelude::TEXT);
    let cases = [
        (good(), Outcome::Proved),
        // added to the environment though it failed, with a cheerful axiom line
        (bad(), Outcome::Failed),
        (candidate(BAD.0, "sorry"), Outcome::Sorry),
        (candidate(BAD.0, "set_option warn.sorry false in sorry"), Outcome::Forbidden),
        // without the notation the statement is cut, and a different theorem is left behind
        (candidate("theorem cut (p q : Prop) : p ∧ q", "h"), Outcome::Failed),
        (candidate("theorem cut (p q : Prop) (h : p) : p ∧ q", "h"), Outcome::Failed),
        (Candidate { header: with_axiom, ..candidate(BAD.0, "cheat q") }, Outcome::BadAxiom),
        (candidate(BAD.0, "cheat q\naxiom cheat : (p : Prop) → p"), Outcome::Forbidden),
        (candidate(BAD.0, "h\nnamespace X"), Outcome::Forbidden),
        (candidate(BAD.0, "h\nend"), Outcome::Forbidden),
        (candidate(BAD.0, "h\n#exit"), Outcome::Forbidden),
        (candidate(BAD.0, "h /- never closed"), Outcome::Forbidden),
        (candidate(BAD.0, "h \"never closed"), Outcome::Forbidden),
        (candidate(BAD.0, "h\ntheorem bad2 (p : Prop) (h : p) : p := h"), Outcome::Forbidden),
        (candidate("theorem bad (p : Prop) : p := h\ntheorem good (p : Prop) (h : p) : p", "h"), Outcome::Forbidden),
        // nothing after `:=`, or nothing that ends
        (candidate(BAD.0, ""), Outcome::Unparsed),
        (candidate(BAD.0, "fun x =>"), Outcome::Failed),
        (candidate(BAD.0, "(h"), Outcome::Failed),
        // self-application
        (candidate("theorem loop (p : Prop) : p", "loop p"), Outcome::Failed),
        (candidate("axiom bad (p : Prop) : p", "h"), Outcome::Unparsed),
        (candidate("theorem bad (p q : Prop) (h : p) : q := h", "h"), Outcome::Unparsed),
        (good(), Outcome::Proved),
    ];
    let all: Vec<Candidate> = cases.iter().map(|(candidate, _)| candidate.clone()).collect();
    let verdicts = lean.check(&all);
    for ((candidate, expected), verdict) in cases.iter().zip(&verdicts) {
        assert_eq!(verdict.outcome, *expected, "{} := {}: {}", candidate.statement, candidate.proof, verdict.message);
        assert_eq!(verdict.sandboxed, lean.warning().is_none() || verdict.peak_rss_bytes.is_none());
    }
    assert_eq!(verdicts[6].axioms, ["cheat"]);
    assert!(verdicts[0].cpu_micros > 0 && verdicts[0].peak_rss_bytes.is_some());
}

#[test]
fn errors_past_the_hundredth_are_still_errors() {
    let Some(mut lean) = real_lean("maxErrors") else { return };
    let mut all = vec![bad(); 150];
    all.push(good());
    all.extend(vec![bad(); 20]);
    let found = outcomes(&lean.check(&all));
    let expected: Vec<Outcome> =
        (0..171).map(|index| if index == 150 { Outcome::Proved } else { Outcome::Failed }).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_library_that_is_missing_is_said_before_any_work_and_never_scored() {
    let Some(mut lean) = real_lean("probe") else { return };
    assert_eq!(lean.probe(prelude::TEXT), Ok(()));
    let reason = lean.probe("import NoSuchLibrary\n").unwrap_err();
    assert!(reason.contains("unknown module prefix") && reason.contains("hint: "), "{reason}");
    let foreign = Candidate { header: "import NoSuchLibrary\n".into(), ..good() };
    assert_eq!(outcomes(&lean.check(&[good(), foreign, good()])), [Outcome::Proved, Outcome::Infra, Outcome::Proved]);
}

#[test]
fn statements_compile_or_say_why_not() {
    let Some(mut lean) = real_lean("compile") else { return };
    let compiled = lean.compile(&[
        candidate("theorem a (p : Prop) {q : Prop} : p → q", ""),
        candidate("theorem a (p : Prop) : p ∧ p", ""),
        candidate("theorem a (p : Prop) : undefined", ""),
        candidate("nonsense", ""),
    ]);
    assert!(matches!(compiled[0], Compiled::Yes(_)), "{compiled:?}");
    assert!(compiled[1..].iter().all(|compiled| matches!(compiled, Compiled::No(_))), "{compiled:?}");
}

#[test]
fn binders_of_every_kind_can_be_pinned() {
    let Some(mut lean) = real_lean("pins") else { return };
    let verdicts = lean.check(&[
        candidate("theorem a {p q : Prop} (h : p) : Or p q", "Or.inl h"),
        candidate("theorem a.{w} {α : Sort w} (h : α → False) (x : α) : False", "h x"),
        candidate("lemma_like (p : Prop) : p → p", "id"),
        candidate("theorem a (p : Prop) -- binders\n : p → p -- a type", "fun x => x -- a proof"),
        candidate("theorem a {{p : Prop}} (h : p) : p", "h"),
    ]);
    let expected = [Outcome::Proved, Outcome::Proved, Outcome::Unparsed, Outcome::Proved, Outcome::Proved];
    assert_eq!(outcomes(&verdicts), expected, "{verdicts:?}");
}

/// A program that answers like Lean, and misbehaves where a proof tells it to.
fn stand_in(folder: &Path) -> PathBuf {
    let script = r#"#!/bin/sh
case "$1" in
--print-prefix) echo /; exit ;;
--version) echo 'Lean (version 4.0.0, stand-in, commit 0, Release)'; exit ;;
esac
for file; do :; done
exec awk '
function say(severity, data) {
    printf "{\"severity\":\"%s\",\"pos\":{\"line\":%d,\"column\":0},\"data\":\"%s\"}\n", severity, NR, data
}
/SLOW/ { system("sleep 1") }
/HANG/ { fflush(); system("exec sleep 1000") }
/CRASH/ { fflush(); system("kill -SEGV $PPID") }
/MEMORY/ { print "out of memory" > "/dev/stderr"; exit 134 }
/FLOOD/ { while (1) say("information", "flood") }
/OBJECT/ { print "{\"message\": \"unknown environment\"}"; exit 0 }
/SILENT/ { exit 0 }
/HOLE/ { say("warning", "declaration uses `sorry`") }
/WRONG/ { say("error", "type mismatch") }
/SLOWLY/ { say("error", "(deterministic) timeout at `whnf`, maximum number of heartbeats (200000) has been reached") }
/NATIVE/ { native = 1 }
/SWAP/ && /_use/ { say("error", "type mismatch") }
/^#print axioms/ {
    if (native) say("information", "'\''" $3 "'\'' depends on axioms: [Lean.ofReduceBool, propext]")
    else say("information", "'\''" $3 "'\'' does not depend on any axioms")
    native = 0
}' "$file"
"#;
    let path = folder.join("lean");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn scripted(proofs: &[&str], header: &str) -> Vec<Outcome> {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        binary: Some(stand_in(folder.path())),
        timeout: Duration::from_millis(700),
        header_timeout: Duration::from_secs(5),
        jobs: 2,
        ..Options::default()
    };
    let mut lean = Lean::open(options).unwrap();
    let candidate = |proof: &&str| Candidate {
        header: header.to_owned(),
        statement: "theorem t (p : Prop) : p".to_owned(),
        proof: (*proof).to_owned(),
    };
    let all: Vec<Candidate> = proofs.iter().map(candidate).collect();
    let verdicts = lean.check(&all);
    assert_eq!(verdicts.len(), proofs.len(), "the denominator shrank");
    outcomes(&verdicts)
}

#[test]
fn replies_that_fooled_others_do_not_prove() {
    let proofs = ["fine", "HOLE", "WRONG", "SLOWLY", "NATIVE", "fine"];
    let expected =
        [Outcome::Proved, Outcome::Sorry, Outcome::Failed, Outcome::Timeout, Outcome::BadAxiom, Outcome::Proved];
    assert_eq!(scripted(&proofs, ""), expected);
    // a reply that is an error object, or none at all, is nobody's proof
    assert_eq!(scripted(&["OBJECT"], ""), [Outcome::Infra]);
    assert_eq!(scripted(&["SILENT"], ""), [Outcome::Unparsed]);
    assert_eq!(scripted(&["fine", "SILENT", "fine"], "")[1], Outcome::Unparsed);
}

#[test]
fn one_poisonous_candidate_costs_its_neighbours_nothing() {
    for (poison, outcome) in [
        ("HANG", Outcome::Timeout),
        ("CRASH", Outcome::Infra),
        ("MEMORY", Outcome::Oom),
        ("FLOOD", Outcome::Oom),
        ("OBJECT", Outcome::Infra),
    ] {
        let mut proofs = vec!["fine"; 9];
        proofs[4] = poison;
        let mut expected = vec![Outcome::Proved; 9];
        expected[4] = outcome;
        assert_eq!(scripted(&proofs, ""), expected, "{poison}");
    }
}

#[test]
fn a_header_slower_than_the_timeout_is_not_a_failed_proof() {
    assert_eq!(scripted(&["fine", "fine"], "-- SLOW\n"), [Outcome::Proved; 2]);
}
