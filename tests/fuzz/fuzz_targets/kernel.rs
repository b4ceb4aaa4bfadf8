//! Any bytes as a proof, and as a statement: no panic, no overflow, and nothing that is not so is proved.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz kernel -- -dict=tests/fuzz/kernel.dict`
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use tracker_proof::{Candidate, Formula, Statement, english, kernel::Kernel, prelude, statement};

/// No intuitionistic proof of these exists; the last two hold classically.
const UNPROVABLE: [&str; 9] = [
    "theorem t : False",
    "theorem t (p : Prop) : p",
    "theorem t (p q : Prop) (h : Or p q) : And p q",
    "theorem t (α : Type) (P : α → Prop) (a : α) (h : Exists (fun x => P x)) : P a",
    "theorem t (α : Type) (f : α → α) (a b : α) (h : Eq (f a) (f b)) : Eq a b",
    "theorem t (α : Type) (R : α → α → Prop) (h : ∀ x, ∃ y, R x y) : ∃ y, ∀ x, R x y",
    "theorem t (α : Type) (P Q : α → Prop) (a b : α) (h : P a) (k : Eq a b) : And (P b) (Q b)",
    "theorem t (p : Prop) : Or p (Not p)",
    "theorem t (α : Type) (P : α → Prop) (h : ¬ ∀ x, P x) : ∃ x, ¬ P x",
];
/// Whether a proof of these is found is up to the bytes.
const PROVABLE: [&str; 4] = [
    "theorem t (p q : Prop) (h : And p q) : And q p",
    "theorem t (α : Type) (P Q : α → Prop) (h : ∀ x, P x ∧ Q x) : ∀ x, Q x",
    "theorem t (α β : Type) (S : α → β → Prop) (g : α → β) (h : ∀ x, S x (g x)) : ∀ x, ∃ y, S x y",
    "theorem t (α : Type) (P : α → Prop) (a b : α) (h : a = b) (k : P a) : P b",
];

thread_local! {
    static KERNEL: RefCell<Kernel> = RefCell::new(Kernel::new());
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(rest).into_owned();
    let (first, second) = text.split_once('\0').unwrap_or((&text, ""));
    let header = if choice % 3 == 0 { prelude::FIRST_ORDER } else { "" };
    let check = |statement: &str, proof: &str| {
        let candidate =
            Candidate { header: header.to_owned(), statement: statement.to_owned(), proof: proof.to_owned() };
        KERNEL.with_borrow_mut(|kernel| kernel.check_one(&candidate))
    };
    // the first byte says which statements are tried
    let choice = usize::from(*choice);
    let statement = UNPROVABLE[choice % UNPROVABLE.len()];
    assert!(!check(statement, first).is_proved(), "{statement} := {first}");
    let statement = PROVABLE[choice % PROVABLE.len()];
    let kept = check(statement, first);
    if choice < 16 {
        let candidate = Candidate { header: header.to_owned(), statement: statement.into(), proof: first.into() };
        let fresh = Kernel::new().check_one(&candidate);
        assert_eq!(kept.outcome, fresh.outcome, "the answer depends on what came before");
    }
    check(first, second);
    statement::split(first).ok();
    Statement::parse(first).ok();
    Formula::parse(first, &["p", "q"]).ok();
    english::parse_problem(first, &["p", "q"]).ok();
});
