//! Known answers in first-order logic, and the table of constants held against Lean.

use std::{fmt::Write as _, io::Write as _, process::Command};

use proptest::prelude::*;

use super::constants::{Library, TABLE};
use crate::{Candidate, Outcome, Verifier as _, kernel::Kernel, prelude};

const SIGNATURE: &str = "(α β : Type) (P Q : α → Prop) (R : α → α → Prop) (S : α → β → Prop) (f : α → α) (g : α → β) \
                         (a b c : α) (p q : Prop)";

fn ask(header: &str, statement: &str, proof: &str) -> crate::Verdict {
    let statement = format!("theorem t {SIGNATURE} {statement}");
    Kernel::new().check_one(&Candidate { header: header.into(), statement, proof: proof.into() })
}

fn check(statement: &str, proof: &str, expected: Outcome) {
    let verdict = ask("", statement, proof);
    assert_eq!(verdict.outcome, expected, "{statement} := {proof}\n{}", verdict.message);
}

#[test]
fn the_table_of_constants_is_well_formed() {
    super::FirstOrder::new().unwrap();
}

#[test]
fn right_proofs_are_proved() {
    for (statement, proof) in [
        ("(h : ∀ x, P x → R x a) (k : P b) : Exists (fun x => R x a)", "Exists.intro b (h b k)"),
        ("(h : ∀ x, P x → R x a) (k : P b) : ∃ x, R x a", "⟨b, h _ k⟩"),
        ("(h : ∀ x, P x ∧ Q x) : (∀ x, P x) ∧ (∀ x, Q x)", "⟨fun x => (h x).1, fun x => (h x).right⟩"),
        ("(h : ∃ x, P x) : ∃ y : α, P y", "h.elim fun w hw => ⟨w, hw⟩"),
        ("(h : Exists P) : Exists (fun y => P y)", "Exists.elim h (fun w hw => Exists.intro w hw)"),
        ("(h : ∃ x y : α, R x y) : ∃ y x, R x y", "h.elim (fun x k => k.elim (fun y r => ⟨y, x, r⟩))"),
        ("(h : a = b) (k : P a) : P b", "Eq.subst h k"),
        ("(h : a = b) (k : P a) : P b", "h.subst k"),
        ("(h : a = b) (k : R a a) : R a b", "Eq.subst (motive := fun x => R a x) h k"),
        ("(h : a = b) (k : b = c) : c = a", "(h.trans k).symm"),
        ("(h : a = b) : f a = f b", "congrArg f h"),
        (": f a = f a", "rfl"),
        (": a = a", "Eq.refl a"),
        (": a = a", "Eq.refl _"),
        ("(h : a ≠ b) : b ≠ a", "fun e => h e.symm"),
        ("(h : a ≠ b) : Ne b a", "h.symm"),
        ("(h : Ne a b) (k : Eq a b) : p", "absurd k h"),
        ("(h : ¬ ∃ x, P x) : ∀ x, ¬ P x", "fun x k => h ⟨x, k⟩"),
        ("(h : ∀ x, ¬ P x) : ¬ ∃ x, P x", "fun e => e.elim h"),
        (": ∀ x : α, x = x", "fun _ => rfl"),
        (": (∀ x y, R x y) → ∀ y x, R x y", "fun h y x => h x y"),
        (": (∀ x, p → P x) → p → ∀ x, P x", "fun h k x => h x k"),
        (": (x : α) → P x → P x", "fun x h => h"),
        ("(h : p ∧ q) : q ∧ p", "@And.intro q p h.2 h.1"),
        ("(h : p ∧ q) : q ∧ p", "@And.intro _ _ (And.right h) (And.left h)"),
        ("(h : P a) : ∃ x, P x", "@Exists.intro α (fun x => P x) a h"),
        ("(h : P a) : ∃ x, P x", "@Exists.intro _ _ _ h"),
        ("(h : ∀ x, S x (g x)) : ∀ x, ∃ y, S x y", "fun x => ⟨g x, h x⟩"),
        ("(h : ∃ x, P x ∧ Q x) : ∃ x, Q x ∧ P x", "Exists.elim h (fun w k => Exists.intro w (And.intro k.2 k.1))"),
        (
            "(h : ∃ x, P x ∨ Q x) : (∃ x, P x) ∨ ∃ x, Q x",
            "h.elim (fun w k => k.elim (fun l => Or.inl ⟨w, l⟩) (fun r => Or.inr ⟨w, r⟩))",
        ),
        ("(h : ∀ x, P x → p) : (∃ x, P x) → p", "fun e => Exists.elim e h"),
        ("(h : ∀ X : Prop, X → p) (k : q) : p", "h _ k"),
        ("(h : P a ↔ Q a) : Q a ↔ P a", "h.symm"),
        (
            "(h : Exists P) (k : ∀ x y, R x y) : q → q",
            "Exists.elim (Exists.elim h (fun w l => Exists.intro w (k w))) (fun w l x => x)",
        ),
        ("(h : P a) : P a", "have k : P a := h; show P a from k"),
    ] {
        check(statement, proof, Outcome::Proved);
    }
}

#[test]
fn wrong_proofs_are_failed() {
    for (statement, proof) in [
        ("(h : ∀ x, P x) : ∀ x, Q x", "fun x => h x"),
        ("(h : ∀ x, ∃ y, R x y) : ∃ y, ∀ x, R x y", "(h a).elim (fun y k => ⟨y, fun x => k⟩)"),
        ("(h : ∃ x, P x) : P a", "h.elim (fun w k => k)"),
        ("(h : P a) : ∃ x, Q x", "⟨a, h⟩"),
        ("(h : P a) : ∃ x, P x", "⟨b, h⟩"),
        ("(h : R a b) : R b a", "h"),
        (": a = b", "rfl"),
        (": f a = a", "Eq.refl a"),
        ("(h : ∀ x, P x) : P a", "h p"),
        ("(h : ∀ x, P x) : P a", "h"),
        ("(h : ∃ x, P x) : ∃ x, P x", "⟨h.1, h.2⟩"),
        ("(h : P a) : p", "h.1"),
        (": P a", "_"),
        (": ∃ x : α, x = x", "⟨_, rfl⟩"),
        ("(h : a = b) (k : R a a) : R b a", "Eq.subst h k"),
        // Lean takes `R b` for the motive
        ("(h : a = b) (k : R a a) : R b b", "Eq.subst h k"),
    ] {
        check(statement, proof, Outcome::Failed);
    }
}

#[test]
fn lean_gives_the_constants_the_types_of_the_table() {
    let Some(lean) = crate::lean::find() else {
        std::io::stderr().write_all(b"SKIP constants: no lean (set TRACKER_LEAN or run tests/lean.sh)\n").unwrap();
        return;
    };
    for (header, library) in [(prelude::TEXT, Library::Prelude), (prelude::FIRST_ORDER, Library::FirstOrder)] {
        let mut text = header.to_owned();
        for (at, (_, entry)) in TABLE.iter().enumerate().filter(|(_, (_, entry))| entry.library <= library) {
            writeln!(text, "noncomputable def table{at} : {} := @{}", entry.ty, entry.name).unwrap();
            // as many implicit parameters, of these names
            let named: Vec<String> = entry.implicit.iter().map(|name| format!("({name} := _)")).collect();
            writeln!(text, "#check {} {}", entry.name, named.join(" ")).unwrap();
            writeln!(text, "#print axioms {}", entry.name).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("Table.lean");
        std::fs::write(&file, text).unwrap();
        let output = Command::new(&lean).arg(&file).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors: Vec<&str> = said.lines().filter(|line| line.contains("error")).collect();
        assert!(errors.iter().all(|line| line.contains("placeholder")), "{said}");
        for (_, entry) in TABLE.iter().filter(|(_, entry)| entry.library <= library) {
            let axioms = match entry.axioms {
                [] => format!("'{}' does not depend on any axioms", entry.name),
                [one] => format!("'{}' depends on axioms: [{one}]", entry.name),
                _ => format!("'{}' depends on axioms: [propext, Classical.choice, Quot.sound]", entry.name),
            };
            assert!(said.contains(&axioms), "{axioms}\n{said}");
        }
    }
}

#[test]
fn a_constant_that_the_header_lacks_is_left_to_lean() {
    let symm = |header| ask(header, "(h : Eq a b) : Eq b a", "Eq.symm h").outcome;
    assert_eq!(symm(""), Outcome::Proved);
    assert_eq!(symm(prelude::FIRST_ORDER), Outcome::Proved);
    assert_eq!(symm(prelude::TEXT), Outcome::Unparsed);
    assert_eq!(ask(prelude::TEXT, "(h : Eq a b) : Eq b a", "h.symm").outcome, Outcome::Unparsed);
    assert_eq!(ask(prelude::FIRST_ORDER, "(h : a = b) : Eq b a", "h.symm").outcome, Outcome::Unparsed);
}

#[test]
fn classical_proofs_need_their_axioms_and_list_them() {
    let candidate = |statement: &str, proof: &str| Candidate {
        header: String::new(),
        statement: format!("theorem t {SIGNATURE} {statement}"),
        proof: proof.into(),
    };
    let by_contradiction = candidate(
        "(h : ¬ ∀ x, P x) : ∃ x, ¬ P x",
        "Classical.byContradiction fun n => h fun x => Classical.byContradiction fun k => n ⟨x, k⟩",
    );
    let propositional = Candidate {
        statement: "theorem t (p : Prop) : p ∨ ¬ p".into(),
        proof: "Classical.em p".into(),
        ..Candidate::default()
    };
    let extensional = candidate("(h : p ↔ q) : p = q", "propext h");
    let three = ["Classical.choice", "Quot.sound", "propext"];
    let mut plain = Kernel::new();
    for (candidate, axioms) in [(&by_contradiction, &three[..]), (&propositional, &three), (&extensional, &["propext"])]
    {
        let refused = plain.check_one(candidate);
        assert_eq!((refused.outcome, &refused.axioms[..]), (Outcome::BadAxiom, &owned(axioms)[..]), "{refused:?}");
        let allowed = Kernel::with_axioms(&["propext", "Classical.choice", "Quot.sound"]).check_one(candidate);
        assert_eq!((allowed.outcome, allowed.axioms), (Outcome::Proved, owned(axioms)));
    }
    let mut some = Kernel::with_axioms(&["propext"]);
    assert_eq!(some.check_one(&extensional).outcome, Outcome::Proved);
    assert_eq!(some.check_one(&propositional).outcome, Outcome::BadAxiom);
    assert_ne!(some.build().digest(), plain.build().digest());
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn deep_and_large_texts_fit_a_small_stack() {
    let work = || {
        let n = 240;
        for (statement, proof) in [
            (": True", format!("{}trivial{}", "(And.intro trivial ".repeat(n), ").1".repeat(n))),
            ("(h : P a) : P a", format!("{}h{}", "(@And.intro (P a) (P a) h ".repeat(n), ").2".repeat(n))),
            ("(h : P a) : P a", format!("{}h{}", "(id ".repeat(n), ")".repeat(n))),
            (
                ": ∀ x : α, x = x",
                format!(
                    "fun x => (rfl : {}x{} = {}x{})",
                    "f (".repeat(n),
                    ")".repeat(n),
                    "f (".repeat(n),
                    ")".repeat(n)
                ),
            ),
            (&*format!("(h : {}P a) : p", "q → ".repeat(n)), "h".to_owned()),
            (&*format!("(h : {}p) : {}p", "∀ x : α, ".repeat(n), "∀ x : α, ".repeat(n)), "h".to_owned()),
            (
                &*format!("(h : P ({}a{})) : {}p", "f (".repeat(n), ")".repeat(n), "Not (".repeat(n)),
                "fun k => h".to_owned(),
            ),
            (": p", "h ".repeat(100_000)),
            (": p", format!("fun {} => h", "x ".repeat(100_000))),
            (": ∃ x, P x", format!("⟨{} a⟩", "a, ".repeat(200))),
            (": p", "∀ x, ".repeat(100_000)),
            (": p", "@".repeat(100_000)),
            (": p", "∃ ".repeat(100_000)),
            (": p", "(x : α) → ".repeat(100_000)),
            (": p", "= ".repeat(100_000)),
        ] {
            // whatever the answer, there is one
            ask("", statement, &proof);
            ask("", &proof, statement);
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn memory_does_not_grow_with_the_number_of_candidates() {
    let mut kernel = Kernel::new();
    let mut most = 0;
    for index in 0..20_000_u32 {
        // another term each time
        let calls: String = (0..15).map(|bit| if index >> bit & 1 == 0 { "(f " } else { "(j " }).collect();
        let term = calls + "a" + &")".repeat(15);
        let candidate = Candidate {
            header: String::new(),
            statement: format!("theorem t {SIGNATURE} (j : α → α) : ∃ x : α, x = x"),
            proof: format!("⟨{term}, rfl⟩"),
        };
        assert_eq!(kernel.check_one(&candidate).outcome, Outcome::Proved);
        most = most.max(kernel.first_order.as_ref().unwrap().unifier.terms.len());
    }
    assert!(most < 40_000, "{most} terms");
}

#[test]
fn work_on_one_text_is_bounded() {
    let steps: Vec<String> = (1..200).map(|i| format!("have x{i} := And.intro x{} x{};", i - 1, i - 1)).collect();
    let doubled = format!("fun (x0 : P a) => {} x0", steps.join(" "));
    let start = std::time::Instant::now();
    let verdict = ask("", ": P a → P a", &doubled);
    assert!(matches!(verdict.outcome, Outcome::Proved | Outcome::Unparsed), "{verdict:?}");
    let nested = "(fun z => And.intro z z) (".repeat(60) + "h" + &")".repeat(60);
    let verdict = ask("", "(h : P a) : p", &nested);
    assert!(matches!(verdict.outcome, Outcome::Failed | Outcome::Unparsed), "{verdict:?}");
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

proptest! {
    #[test]
    fn no_text_proves_what_is_not_so(
        soup in proptest::collection::vec(
            prop::sample::select(vec![
                "fun", "x", "y", "=>", "(", ")", "⟨", "⟩", ",", "⟨x,", "x.1", ".2", "have", ":", ":=", ";", "show",
                "from", "P", "a", "b", "α", "→", "∀", "∃", "=", "≠", "_", "@", "@rfl", "rfl", "Eq.subst", "Eq.symm",
                "congrArg", "f", "Exists.intro", "Exists.elim", "(motive := ", "h", "h.elim", "Not", "Eq", "id",
                "absurd", "Ne", "Prop", "Type", "Iff.refl", "And.intro", "fun x =>", "fun x y =>", "h.symm",
            ]),
            0..24,
        ),
    ) {
        for text in [soup.join(" "), soup.concat()] {
            for statement in [
                ": False", ": a = b", "(h : ∃ x, P x) : P a", "(h : P a) : ∀ x, P x", "(h : f a = f b) : a = b",
                "(h : ∀ x, ∃ y, R x y) : ∃ y, ∀ x, R x y", "(h : p → ∃ x, P x) : ∃ x, p → P x",
            ] {
                let verdict = ask("", statement, &text);
                prop_assert_ne!(verdict.outcome, Outcome::Proved, "{} := {}", statement, text);
            }
            ask("", &text, "fun x => x");
        }
    }
}
