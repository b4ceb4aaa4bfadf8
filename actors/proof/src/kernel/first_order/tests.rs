//! Known answers in first-order logic, and the table of constants held against Lean.

use crate::{Candidate, Outcome, kernel::Kernel, prelude};

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
        ("(h : ∃ x, P x ∨ Q x) : (∃ x, P x) ∨ ∃ x, Q x",
         "h.elim (fun w k => k.elim (fun l => Or.inl ⟨w, l⟩) (fun r => Or.inr ⟨w, r⟩))"),
        ("(h : ∀ x, P x → p) : (∃ x, P x) → p", "fun e => Exists.elim e h"),
        ("(h : ∀ X : Prop, X → p) (k : q) : p", "h _ k"),
        ("(h : P a ↔ Q a) : Q a ↔ P a", "h.symm"),
        ("(h : Exists P) (k : ∀ x y, R x y) : q → q",
         "Exists.elim (Exists.elim h (fun w l => Exists.intro w (k w))) (fun w l x => x)"),
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
