//! Known answers of the kernel; agreement with Lean itself is tested in `tests/agreement.rs`.

use proptest::prelude::*;

use super::*;

fn outcome(statement: &str, proof: &str) -> Outcome {
    let candidate = Candidate {
        header: String::new(),
        statement: format!("theorem t (p q r : Prop) {statement}"),
        proof: proof.to_owned(),
    };
    Kernel::new().check_one(&candidate).outcome
}

fn check(statement: &str, proof: &str, expected: Outcome) {
    assert_eq!(outcome(statement, proof), expected, "{statement} := {proof}");
}

#[test]
fn right_proofs_are_proved() {
    for (statement, proof) in [
        (": p → p", "fun x => x"),
        (": p → p", "id"),
        ("(h : And p q) : And q p", "⟨h.2, h.1⟩"),
        ("(h : p ∧ q) : q ∧ p", "And.intro (And.right h) (And.left h)"),
        (": And p q → q", "fun h => show q from h.right"),
        (": And p q → q", "fun h =>\n  have k : q := h.right\n  k"),
        (": And p q → q", "fun h => have k := h.right; k"),
        (": And p q → q", "fun h => have : q := h.right; this"),
        (": And p (Not p) → q", "fun h => absurd h.left h.2"),
        (": p ∧ ¬p → q", "fun (h : And p (p → False)) => (h.2 h.1).elim"),
        (": Or p q → Or q p", "fun h => Or.elim h (fun x => Or.inr x) (fun y => Or.inl y)"),
        (": Or p q → Or q p", "fun h => h.elim Or.inr Or.inl"),
        (": Not (Not (Or p (Not p)))", "fun h => h (Or.inr (fun x => h (Or.inl x)))"),
        (": Iff p p", "⟨id, id⟩"),
        (": Iff p q → p → q", "fun h x => h.mp x"),
        (": Iff p q → q → p", "Iff.mpr"),
        (": p → q → r → And p (And q r)", "λ x y z ↦ ⟨x, y, z⟩"),
        (": False → p", "False.elim"),
        (": False → p", "fun h => h.elim"),
        (": True", "⟨⟩"),
        (": True", "trivial -- done"),
        (": p → q → p", "fun (x : p) (_ : q) => (x : p)"),
        (": (p → q) → p → q", "fun f x => id f x"),
        (": (p → q) → p → q", "fun f => f"),
    ] {
        check(statement, proof, Outcome::Proved);
    }
}

#[test]
fn wrong_proofs_are_failed() {
    for (statement, proof) in [
        (": p → q", "fun x => x"),
        (": p → q → p", "fun x y => y"),
        (": p → p", "fun x => y"),
        (": p → p", "p"),
        (": p → p", "fun x => x x"),
        (": Or p q → p", "fun h => h.1"),
        (": And p q → p", "fun h => h.3"),
        (": And p q", "⟨⟩"),
        (": p → Or p q", "fun h => ⟨h, h⟩"),
        (": p → p", "fun p => (p : p)"),
        (": Or p (Not p)", "Or.inl (fun x => x)"),
        (": And p p → p", "fun h => And.left h h"),
        (": p → p", "fun x y => x"),
    ] {
        check(statement, proof, Outcome::Failed);
    }
}

#[test]
fn what_is_outside_the_fragment_is_unparsed_and_holes_are_sorry() {
    for proof in ["by simp", "fun ⟨x⟩ => x", "fun x => x |> id", "nofun", "", "fun x => x)", "id(id)", "fun\tx => x"]
    {
        check(": p → p", proof, Outcome::Unparsed);
    }
    check(": p → p", "fun x => _", Outcome::Failed);
    check(": p → p", "@id p", Outcome::Proved);
    check(": p → p", "sorry", Outcome::Sorry);
    check(": p → p", "fun x => admit", Outcome::Sorry);
    check("(n : Nat) : p → p", "fun x => x", Outcome::Unparsed);
    let candidate = Candidate {
        header: "def And := Or".into(),
        statement: "theorem t (p : Prop) : p → p".into(),
        proof: "fun x => x".into(),
    };
    assert_eq!(Kernel::new().check_one(&candidate).outcome, Outcome::Unparsed);
}

#[test]
fn application_needs_space_and_after_have_indentation() {
    check(": (p → p) → p → p", "fun f x => f(x)", Outcome::Unparsed);
    check(": p → p", "fun x =>\nhave k : p := x\nk", Outcome::Proved);
    check(": p → p", "fun x =>\nhave k : p := x\n k", Outcome::Unparsed);
    check(": (p → p) → p → p", "fun f x => f\nx", Outcome::Unparsed);
    check(": (p → p) → p → p", "fun f x => f\n x", Outcome::Proved);
    check(": (p → p) → p → p", "fun f x => (f\nx)", Outcome::Proved);
    check(": p → p", "fun (x) : p => x", Outcome::Unparsed);
    check(": p → p", "fun x => have k : p := (x) have l := k; l", Outcome::Unparsed);
}

#[test]
fn hostile_text_gets_an_outcome() {
    let deep = 100_000;
    for proof in [
        "(".repeat(deep),
        "fun x => ".repeat(deep),
        "⟨".repeat(deep),
        "have h : p := ".repeat(deep),
        "id ".repeat(deep),
        format!("x{}", ".1".repeat(deep)),
        "\0".repeat(deep),
        "¬".repeat(deep),
        "x".repeat(50_000_000),
        format!("fun {} => h", "h ".repeat(deep)),
        format!("fun x => ⟨{} x⟩", "x, ".repeat(deep / 10)),
        format!("have k : p := {} ; k", "h ".repeat(deep)),
        format!("have k : p := {} ; k", "h\n ".repeat(deep)),
        format!("have k : p := h {} ; k", "(h h) ".repeat(deep / 4)),
    ] {
        let found = outcome(": p → p", &proof);
        assert!(matches!(found, Outcome::Unparsed | Outcome::Failed), "{found} for {proof:.20}…");
    }
}

#[test]
fn types_that_double_at_every_step_stop_at_a_bound() {
    // x1 : p ∧ p, x2 : (p ∧ p) ∧ (p ∧ p), …: small as shared terms, exponential as trees
    let steps: Vec<String> = (1..200).map(|i| format!("have x{i} := And.intro x{} x{};", i - 1, i - 1)).collect();
    let steps = steps.join(" ");
    let found = outcome(": p → p", &format!("fun x0 => {steps} x0"));
    assert!(matches!(found, Outcome::Proved | Outcome::Unparsed), "{found}");
}

#[test]
fn one_kernel_gives_the_same_answers_as_fresh_ones() {
    let candidate = |statement: &str, proof: &str| Candidate {
        header: String::new(),
        statement: statement.to_owned(),
        proof: proof.to_owned(),
    };
    let candidates = [
        candidate("theorem a (p q : Prop) : p → q → p", "fun x y => x"),
        candidate("theorem a (p q : Prop) : p → q → p", "fun x y => y"),
        candidate("theorem b (p q : Prop) (h : p) : Or q p", "Or.inr h"),
        candidate("theorem b (p q : Prop) (h : p) : Or q p", "Or.inl h"),
        candidate("theorem a (p q : Prop) : p → q → p", "fun x y => x"),
        candidate("nonsense", "fun x y => x"),
    ];
    let mut kernel = Kernel::new();
    let together: Vec<Outcome> = kernel.check(&candidates).iter().map(|verdict| verdict.outcome).collect();
    let alone: Vec<Outcome> = candidates.iter().map(|one| Kernel::new().check_one(one).outcome).collect();
    assert_eq!(together, alone);
    assert_eq!(together[0], Outcome::Proved);
    assert!(matches!(kernel.compile(&candidates)[5], Compiled::No(_)));
}

proptest! {
    #[test]
    fn any_text_gets_an_outcome_and_none_proves_absurdity(
        bytes in ".{0,200}",
        soup in proptest::collection::vec(
            prop::sample::select(vec![
                "fun", "λ", "x", "y", "=>", "(", ")", "⟨", "⟩", ",", "⟨x,", "x.1", ".2", "have", ":", ":=", ";", "show",
                "from", "p", "→", "¬", "∧", "False", "And", "Not", "id", "absurd", "And.intro", "Or.elim", "Iff.mp",
                "False.elim", "trivial", "x.elim", "\n", "_", "this", "--", "/-", "-/", "\"",
            ]),
            0..40,
        ),
    ) {
        for text in [bytes, soup.join(" "), soup.concat()] {
            prop_assert_ne!(outcome(": False", &text), Outcome::Proved, "{}", text);
            prop_assert_ne!(outcome(": Or p (Not p)", &text), Outcome::Proved, "{}", text);
            outcome(&text, "fun x => x");
            crate::statement::split(&text).ok();
            crate::Formula::parse(&text, &["p"]).ok();
            crate::english::parse_problem(&text, &["p"]).ok();
        }
    }
}
