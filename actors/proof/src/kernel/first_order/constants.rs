//! The constants: names, types and axioms, as Lean's `Init` has them.
//!
//! Trusted: a wrong line here is a wrong axiom. Types are Lean text with all parameters in order; the first `implicit`
//! of them are implicit in Lean. A test offers each type to Lean itself.

use crate::prelude;

/// What is known of a constant.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// Parameters that Lean infers, all of them first.
    pub(crate) implicit: &'static [&'static str],
    /// Parameters up to the last one whose sort is any: a use has at least so many arguments, which fix the level.
    pub(crate) n_poly: usize,
    pub(crate) ty: &'static str,
    /// Which header has it.
    pub(crate) library: Library,
    /// Axioms it rests on in Lean, sorted.
    pub(crate) axioms: &'static [&'static str],
}

/// What a header brings; each has all that those before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Library {
    /// [`prelude::TEXT`](crate::prelude::TEXT)
    Prelude,
    /// [`prelude::FIRST_ORDER`](crate::prelude::FIRST_ORDER)
    FirstOrder,
    /// Lean's `Init`, with its notation.
    Init,
}

impl Library {
    /// What `header` brings, if it is neutral.
    pub(crate) fn of(header: &str) -> Option<Self> {
        match header.trim() {
            header if header == prelude::TEXT.trim() => Some(Self::Prelude),
            header if header == prelude::FIRST_ORDER.trim() => Some(Self::FirstOrder),
            header => prelude::is_neutral(header).then_some(Self::Init),
        }
    }
}

const fn entry(name: &'static str, implicit: &'static [&'static str], n_poly: usize, ty: &'static str) -> Entry {
    Entry { name, implicit, n_poly, ty, library: Library::Prelude, axioms: &[] }
}

/// As [`entry`], for what the first prelude does not have.
const fn later(name: &'static str, implicit: &'static [&'static str], n_poly: usize, ty: &'static str) -> Entry {
    Entry { library: Library::FirstOrder, ..entry(name, implicit, n_poly, ty) }
}

/// What `Classical.em` rests on, as `#print axioms` says.
const CLASSICAL: &[&str] = &["Classical.choice", "Quot.sound", "propext"];

macro_rules! constants {
    ($($id:ident = $entry:expr;)*) => {
        /// A constant; its number is its place in [`TABLE`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Const { $($id),* }

        /// All constants; a type mentions only those before it.
        pub(crate) static TABLE: &[(Const, Entry)] = &[$((Const::$id, $entry)),*];
    };
}

constants! {
    True = entry("True", &[], 0, "Prop");
    TrueIntro = entry("True.intro", &[], 0, "True");
    Trivial = entry("trivial", &[], 0, "True");
    False = entry("False", &[], 0, "Prop");
    FalseElim = entry("False.elim", &["C"], 1, "∀ C : Sort u, False → C");
    Not = entry("Not", &[], 0, "Prop → Prop");
    Absurd = entry("absurd", &["a", "b"], 2, "∀ (a : Prop) (b : Sort u), a → Not a → b");
    Id = entry("id", &["α"], 1, "∀ α : Sort u, α → α");
    And = entry("And", &[], 0, "Prop → Prop → Prop");
    AndIntro = entry("And.intro", &["a", "b"], 0, "∀ a b : Prop, a → b → And a b");
    AndLeft = entry("And.left", &["a", "b"], 0, "∀ a b : Prop, And a b → a");
    AndRight = entry("And.right", &["a", "b"], 0, "∀ a b : Prop, And a b → b");
    Or = entry("Or", &[], 0, "Prop → Prop → Prop");
    OrInl = entry("Or.inl", &["a", "b"], 0, "∀ a b : Prop, a → Or a b");
    OrInr = entry("Or.inr", &["a", "b"], 0, "∀ a b : Prop, b → Or a b");
    OrElim = entry("Or.elim", &["a", "b", "c"], 0, "∀ a b c : Prop, Or a b → (a → c) → (b → c) → c");
    Iff = entry("Iff", &[], 0, "Prop → Prop → Prop");
    IffIntro = entry("Iff.intro", &["a", "b"], 0, "∀ a b : Prop, (a → b) → (b → a) → Iff a b");
    IffMp = entry("Iff.mp", &["a", "b"], 0, "∀ a b : Prop, Iff a b → a → b");
    IffMpr = entry("Iff.mpr", &["a", "b"], 0, "∀ a b : Prop, Iff a b → b → a");
    IffRefl = later("Iff.refl", &[], 0, "∀ a : Prop, Iff a a");
    IffRfl = later("Iff.rfl", &["a"], 0, "∀ a : Prop, Iff a a");
    IffSymm = later("Iff.symm", &["a", "b"], 0, "∀ a b : Prop, Iff a b → Iff b a");
    IffTrans = later("Iff.trans", &["a", "b", "c"], 0, "∀ a b c : Prop, Iff a b → Iff b c → Iff a c");
    Eq = entry("Eq", &["α"], 1, "∀ α : Sort u, α → α → Prop");
    EqRefl = entry("Eq.refl", &["α"], 1, "∀ (α : Sort u) (a : α), Eq a a");
    Rfl = later("rfl", &["α", "a"], 1, "∀ (α : Sort u) (a : α), Eq a a");
    EqSymm = later("Eq.symm", &["α", "a", "b"], 1, "∀ (α : Sort u) (a b : α), Eq a b → Eq b a");
    EqTrans = later("Eq.trans", &["α", "a", "b", "c"], 1, "∀ (α : Sort u) (a b c : α), Eq a b → Eq b c → Eq a c");
    EqSubst = later("Eq.subst", &["α", "motive", "a", "b"], 1,
        "∀ (α : Sort u) (motive : α → Prop) (a b : α), Eq a b → motive a → motive b");
    CongrArg = later("congrArg", &["α", "β", "a₁", "a₂"], 2,
        "∀ (α : Sort u) (β : Sort v) (a₁ a₂ : α) (f : α → β), Eq a₁ a₂ → Eq (f a₁) (f a₂)");
    Ne = later("Ne", &["α"], 1, "∀ α : Sort u, α → α → Prop");
    NeSymm = later("Ne.symm", &["α", "a", "b"], 1, "∀ (α : Sort u) (a b : α), Ne a b → Ne b a");
    Exists = entry("Exists", &["α"], 1, "∀ α : Sort u, (α → Prop) → Prop");
    ExistsIntro = entry("Exists.intro", &["α", "p"], 1, "∀ (α : Sort u) (p : α → Prop) (w : α), p w → Exists p");
    ExistsElim = entry("Exists.elim", &["α", "p", "b"], 1,
        "∀ (α : Sort u) (p : α → Prop) (b : Prop), Exists (fun x => p x) → (∀ a : α, p a → b) → b");
    Propext = Entry { axioms: &["propext"], ..later("propext", &["a", "b"], 0, "∀ a b : Prop, Iff a b → Eq a b") };
    Em = Entry { axioms: CLASSICAL, ..later("Classical.em", &[], 0, "∀ p : Prop, Or p (Not p)") };
    ByContradiction = Entry { axioms: CLASSICAL,
        ..later("Classical.byContradiction", &["p"], 0, "∀ p : Prop, (Not p → False) → p") };
}

impl Const {
    /// The constant of this name, where `library` has it.
    pub(crate) fn named(name: &str, library: Library) -> Option<Self> {
        TABLE.iter().find(|(_, entry)| entry.name == name && entry.library <= library).map(|(constant, _)| *constant)
    }

    pub(crate) fn entry(self) -> &'static Entry {
        &TABLE[self as usize].1
    }
}
