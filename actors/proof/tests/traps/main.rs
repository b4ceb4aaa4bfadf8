//! The ways in which published checkers were fooled, one row each in [`table`], staged under real Lean where they can be
//! staged there, and otherwise under a scripted stand-in that reproduces the reply. None may yield `proved`; none may turn
//! trouble of the checker's into a failed proof; none may cost its neighbours anything. `TRAPS.md` says where each is
//! held.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod stand_in;
mod table;

use std::{collections::BTreeSet, fs, io::Write as _, path::Path, time::Duration};

use table::{LONG, Stage, TRAPS};
use tracker_proof::{
    Candidate, Compiled, Outcome, Verdict, Verifier as _,
    kernel::Kernel,
    lean::{Lean, Options, find},
    prelude, rows,
};

fn real_lean(what: &str, timeout: Duration) -> Option<Lean> {
    let Some(binary) = find() else {
        let skip = format!("SKIP {what}: no lean (set TRACKER_LEAN or run tests/lean.sh)\n");
        std::io::stderr().write_all(skip.as_bytes()).unwrap();
        return None;
    };
    Some(Lean::open(Options { binary: Some(binary), timeout, ..Options::default() }).unwrap())
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
fn real_lean_falls_for_no_trap() {
    // one trap takes all the time it is given
    let Some(mut lean) = real_lean("traps", Duration::from_secs(1)) else { return };
    for trap in TRAPS {
        for stage in trap.stages {
            let Stage::Real(header, cases) = stage else { continue };
            let header = format!("{}\n{}", prelude::TEXT, header());
            let under =
                |statement: &str, proof: &str| Candidate { header: header.clone(), ..candidate(statement, proof) };
            let mut all = vec![under(GOOD.0, GOOD.1)];
            let long = "x ".repeat(1 << 20);
            all.extend(
                cases.iter().map(|(statement, proof, _)| under(statement, if *proof == LONG { &long } else { proof })),
            );
            all.push(under(GOOD.0, GOOD.1));
            let verdicts = lean.check(&all);
            let mut expected = vec![Outcome::Proved];
            expected.extend(cases.iter().map(|(.., outcome)| *outcome));
            expected.push(Outcome::Proved);
            assert_eq!(outcomes(&verdicts), expected, "trap {}: {verdicts:?}", trap.number);
            for verdict in &verdicts {
                assert_eq!(verdict.sandboxed, lean.warning().is_none() || verdict.peak_rss_bytes.is_none());
                assert_eq!(verdict.limits.time_millis, Some(1000), "a verdict by the clock says by which");
                if verdict.is_proved() {
                    assert!(verdict.cpu_micros > 0 && verdict.peak_rss_bytes.is_some());
                }
            }
        }
    }
}

#[test]
fn no_reply_is_taken_for_more_than_it_says() {
    for trap in TRAPS {
        for stage in trap.stages {
            let Stage::Reply(header, cases) = stage else { continue };
            let mut proofs = vec!["fine"];
            proofs.extend(cases.iter().map(|(word, _)| *word));
            proofs.push("fine");
            let mut expected = vec![Outcome::Proved];
            expected.extend(cases.iter().map(|(_, outcome)| *outcome));
            expected.push(Outcome::Proved);
            assert_eq!(scripted(&proofs, header), expected, "trap {}", trap.number);
        }
    }
}

#[test]
fn no_file_answers_another_question() {
    for trap in TRAPS {
        for stage in trap.stages {
            let Stage::File(cases) = stage else { continue };
            for (header, asked, code, outcome) in *cases {
                let row = serde_json::json!({"header": header, "formal_statement": asked, "full_code": code});
                let rows: Vec<rows::Row> = rows::read(row.to_string().as_bytes()).map(Result::unwrap).collect();
                assert_eq!(outcomes(&rows::check(&mut Kernel::new(), &rows)), [*outcome], "trap {}", trap.number);
            }
        }
    }
}

#[test]
fn the_table_is_whole() {
    let numbers: Vec<u8> = TRAPS.iter().map(|trap| trap.number).collect();
    assert_eq!(numbers, (1..=26).collect::<Vec<u8>>());
    for trap in TRAPS {
        let all = expected(trap);
        assert!(!all.is_empty() && !all.contains("proved"), "trap {}: {all:?}", trap.number);
        if [16, 19, 20].contains(&trap.number) {
            assert!(all.iter().all(|outcome| ["infra", "timeout", "oom"].contains(outcome)), "{all:?}");
        }
    }
}

/// Every outcome that the table expects of a trap.
fn expected(trap: &table::Trap) -> BTreeSet<&'static str> {
    let of = |stage: &Stage| -> Vec<Outcome> {
        match stage {
            Stage::Real(_, cases) => cases.iter().map(|(.., outcome)| *outcome).collect(),
            Stage::Reply(_, cases) => cases.iter().map(|(.., outcome)| *outcome).collect(),
            Stage::File(cases) => cases.iter().map(|(.., outcome)| *outcome).collect(),
        }
    };
    trap.stages.iter().flat_map(of).map(Outcome::as_str).collect()
}

/// `TRAPS.md`: `| number | trap | tests | outcomes |`, a test as `` `file.rs`: `name` ``.
#[test]
fn the_page_names_tests_and_outcomes_that_exist() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(crate_folder.join("TRAPS.md")).unwrap();
    let quoted = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut numbers = Vec::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, _, tests, found, _] = cells[..] else { continue };
        let Ok(number) = number.parse::<u8>() else { continue };
        numbers.push(number);
        let tests = quoted(tests);
        assert!(!tests.is_empty() && tests.len() % 2 == 0, "trap {number}: {tests:?}");
        for pair in tests.chunks(2) {
            let text =
                fs::read_to_string(crate_folder.join(&pair[0])).unwrap_or_else(|_| panic!("no file {}", pair[0]));
            assert!(
                text.contains(&format!("#[test]\nfn {}()", pair[1]))
                    || text.contains(&format!("#[test]\n    fn {}()", pair[1])),
                "trap {number}: no test {}",
                pair[1]
            );
        }
        let told: BTreeSet<String> = quoted(found).into_iter().collect();
        let held: BTreeSet<String> = expected(&TRAPS[usize::from(number) - 1]).into_iter().map(str::to_owned).collect();
        assert_eq!(told, held, "trap {number}");
    }
    assert_eq!(numbers, (1..=26).collect::<Vec<u8>>());
}

#[test]
fn errors_past_the_hundredth_are_still_errors() {
    let Some(mut lean) = real_lean("maxErrors", Duration::from_mins(1)) else { return };
    let mut all = vec![bad(); 150];
    all.push(good());
    all.extend(vec![bad(); 20]);
    let found = outcomes(&lean.check(&all));
    let expected: Vec<Outcome> =
        (0..171).map(|index| if index == 150 { Outcome::Proved } else { Outcome::Failed }).collect();
    assert_eq!(found, expected);
}

#[test]
fn text_of_any_size_gets_an_outcome() {
    let Some(mut lean) = real_lean("hostile text", Duration::from_mins(1)) else { return };
    let nested = format!("{}h{}", "(".repeat(100_000), ")".repeat(100_000));
    let cases = [
        ("x ".repeat(25 << 20), Outcome::Unparsed),
        ("h\0".to_owned(), Outcome::Unparsed),
        ("\u{feff}\u{202e}h\u{fffd}".to_owned(), Outcome::Failed),
        ("fun ".repeat(50_000), Outcome::Failed),
        ("-- only a comment".to_owned(), Outcome::Failed),
    ];
    let mut all = vec![good()];
    all.extend(cases.iter().map(|(proof, _)| candidate(BAD.0, proof)));
    all.push(good());
    // deep enough to exhaust the stack: what dies of it costs its neighbours nothing
    all.push(candidate(BAD.0, &nested));
    all.push(candidate(&format!("theorem t (p q : Prop) (h : p) : {}", "Not (".repeat(50_000)), "h"));
    all.push(good());
    let found = outcomes(&lean.check(&all));
    let mut expected = vec![Outcome::Proved];
    expected.extend(cases.iter().map(|(_, outcome)| *outcome));
    assert_eq!(found[..=cases.len()], expected);
    assert_eq!([found[cases.len() + 1], found[cases.len() + 4]], [Outcome::Proved; 2]);
    for outcome in &found[cases.len() + 2..cases.len() + 4] {
        assert!(matches!(outcome, Outcome::Failed | Outcome::Oom | Outcome::Unparsed), "{outcome}");
    }
}

#[test]
fn a_library_that_is_missing_is_said_before_any_work_and_never_scored() {
    let Some(mut lean) = real_lean("probe", Duration::from_mins(1)) else { return };
    assert_eq!(lean.probe(prelude::TEXT), Ok(()));
    let reason = lean.probe("import NoSuchLibrary\n").unwrap_err();
    assert!(reason.contains("unknown module prefix") && reason.contains("hint: "), "{reason}");
    let foreign = Candidate { header: "import NoSuchLibrary\n".into(), ..good() };
    assert_eq!(outcomes(&lean.check(&[good(), foreign, good()])), [Outcome::Proved, Outcome::Infra, Outcome::Proved]);
}

#[test]
fn statements_compile_or_say_why_not() {
    let Some(mut lean) = real_lean("compile", Duration::from_mins(1)) else { return };
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
    let Some(mut lean) = real_lean("pins", Duration::from_mins(1)) else { return };
    let verdicts = lean.check(&[
        candidate("theorem a {p q : Prop} (h : p) : Or p q", "Or.inl h"),
        candidate("theorem a.{w} {α : Sort w} (h : α → False) (x : α) : False", "h x"),
        candidate("lemma_like (p : Prop) : p → p", "id"),
        candidate("theorem a (p : Prop) -- binders\n : p → p -- a type", "fun x => x -- a proof"),
        candidate("theorem a {{p : Prop}} (h : p) : p", "h"),
        candidate("theorem a {α : Type _} (p : Prop) (h : α → p) (x : α) : p", "h x"),
    ]);
    let mut expected = [Outcome::Proved; 6];
    (expected[2], expected[5]) = (Outcome::Unparsed, Outcome::Unparsed);
    assert_eq!(outcomes(&verdicts), expected, "{verdicts:?}");
}

fn scripted(proofs: &[&str], header: &str) -> Vec<Outcome> {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        binary: Some(stand_in::stand_in(folder.path())),
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
