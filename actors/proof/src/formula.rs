//! Formulas of intuitionistic propositional logic, as values: read from Lean, printed as Lean, evaluated, and named by
//! their canonical form.
//!
//! Invariants: at most [`MAX_ATOMS`] atoms; nesting at most 256 levels where a formula was read from text, so the
//! recursive functions here and the destructor cannot overflow. Not here: English ([`english`](crate::english)), proofs.

use std::{fmt, str::FromStr};

use crate::{
    Error, Result,
    syntax::{Node, NodeId, Parser, Tree},
};

/// Most atoms a formula may have.
pub const MAX_ATOMS: usize = 16;

/// Names given to atoms where nobody chose any.
pub const ATOM_NAMES: [&str; MAX_ATOMS] =
    ["p", "q", "r", "s", "t", "u", "v", "w", "p1", "q1", "r1", "s1", "t1", "u1", "v1", "w1"];

/// A propositional formula. Atoms are numbered from 0; their names belong to whoever prints.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Formula {
    /// `True`
    True,
    /// `False`
    False,
    /// A propositional variable, below [`MAX_ATOMS`].
    Atom(u8),
    /// `Not a`
    Not(Box<Formula>),
    /// `And a b`
    And(Box<Formula>, Box<Formula>),
    /// `Or a b`
    Or(Box<Formula>, Box<Formula>),
    /// `a → b`
    Implies(Box<Formula>, Box<Formula>),
    /// `Iff a b`
    Iff(Box<Formula>, Box<Formula>),
}

/// How a formula is spelt. Lean reads all three to the same proposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// `And p (Not q) → r`: reads the same with and without Lean's library.
    Constructor,
    /// `And p ( Not q ) → r`: the same with one space between tokens, for a language model that splits at spaces.
    Spaced,
    /// `p ∧ ¬q → r`: needs Lean's notation.
    Notation,
}

use Formula::{And, Atom, False, Iff, Implies, Not, Or, True};

impl Formula {
    /// `a → b`
    #[must_use]
    pub fn implies(self, b: Self) -> Self {
        Implies(Box::new(self), Box::new(b))
    }

    /// Parses Lean text in constructor form, notation, or a mixture; `atoms` are the names in scope, at most
    /// [`MAX_ATOMS`].
    ///
    /// # Errors
    /// `Syntax` where the text is not a proposition of the fragment; `UnknownAtom` for a name not in `atoms`.
    pub fn parse(text: &str, atoms: &[&str]) -> Result<Self> {
        let mut parser = Parser::default();
        let root = parser.term(text).map_err(|stop| stop.into_error(text))?;
        from_tree(&parser.tree, text, root, &|name| atoms.iter().position(|atom| *atom == name))
    }

    /// Prints the formula; `names[i]` is atom i. Missing names are taken from [`ATOM_NAMES`].
    #[must_use]
    pub fn print<S: AsRef<str>>(&self, style: Style, names: &[S]) -> String {
        let mut out = String::new();
        let name = |atom: u8| match names.get(usize::from(atom)) {
            Some(name) => name.as_ref(),
            None => ATOM_NAMES[usize::from(atom) % MAX_ATOMS],
        };
        self.write(&mut out, style, 0, &name);
        out
    }

    /// Writes the formula where the context needs an operator of at least `power` (100: an argument).
    fn write<'n>(&self, out: &mut String, style: Style, power: u8, name: &impl Fn(u8) -> &'n str) {
        let own = match (self, style) {
            (True | False | Atom(_), _) => 255,
            (Not(_), Style::Notation) => 100,
            (Implies(..), _) => 25,
            (And(..), Style::Notation) => 35,
            (Or(..), Style::Notation) => 30,
            (Iff(..), Style::Notation) => 20,
            (Not(_) | And(..) | Or(..) | Iff(..), _) => 99,
        };
        let bracket = own < power;
        let space = if style == Style::Spaced { " " } else { "" };
        if bracket {
            out.push('(');
            out.push_str(space);
        }
        match (self, style) {
            (True, _) => out.push_str("True"),
            (False, _) => out.push_str("False"),
            (Atom(atom), _) => out.push_str(name(*atom)),
            (Not(a), Style::Notation) => {
                out.push('¬');
                // Lean's ¬ takes all that binds at 40 or more; an operand in brackets or a name is read the same by people
                a.write(out, style, 100, name);
            }
            (Implies(a, b), _) => infix(out, (a, 26), " → ", (b, 25), style, name),
            (And(a, b), Style::Notation) => infix(out, (a, 36), " ∧ ", (b, 35), style, name),
            (Or(a, b), Style::Notation) => infix(out, (a, 31), " ∨ ", (b, 30), style, name),
            (Iff(a, b), Style::Notation) => infix(out, (a, 21), " ↔ ", (b, 21), style, name),
            (Not(a), _) => prefix(out, "Not", &[a], style, name),
            (And(a, b), _) => prefix(out, "And", &[a, b], style, name),
            (Or(a, b), _) => prefix(out, "Or", &[a, b], style, name),
            (Iff(a, b), _) => prefix(out, "Iff", &[a, b], style, name),
        }
        if bracket {
            out.push_str(space);
            out.push(')');
        }
    }

    /// Truth under an assignment: bit i of `assignment` is atom i.
    #[must_use]
    pub fn eval(&self, assignment: u32) -> bool {
        match self {
            True => true,
            False => false,
            Atom(atom) => assignment >> atom & 1 == 1,
            Not(a) => !a.eval(assignment),
            And(a, b) => a.eval(assignment) && b.eval(assignment),
            Or(a, b) => a.eval(assignment) || b.eval(assignment),
            Implies(a, b) => !a.eval(assignment) || b.eval(assignment),
            Iff(a, b) => a.eval(assignment) == b.eval(assignment),
        }
    }

    /// Whether classical logic proves it: true under all assignments (2 to the number of atoms of them).
    #[must_use]
    pub fn is_tautology(&self) -> bool {
        (0..1_u32 << self.n_atoms()).all(|assignment| self.eval(assignment))
    }

    /// Whether classical logic proves the two equivalent.
    #[must_use]
    pub fn is_equivalent(&self, other: &Self) -> bool {
        let n = self.n_atoms().max(other.n_atoms());
        (0..1_u32 << n).all(|assignment| self.eval(assignment) == other.eval(assignment))
    }

    fn children(&self) -> [Option<&Self>; 2] {
        match self {
            True | False | Atom(_) => [None, None],
            Not(a) => [Some(a), None],
            And(a, b) | Or(a, b) | Implies(a, b) | Iff(a, b) => [Some(a), Some(b)],
        }
    }

    /// Number of connectives, constants and atoms.
    #[must_use]
    pub fn size(&self) -> usize {
        1 + self.children().into_iter().flatten().map(Self::size).sum::<usize>()
    }

    /// Connectives on the longest way down; 0 for an atom or a constant.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.children().into_iter().flatten().map(|child| 1 + child.depth()).max().unwrap_or(0)
    }

    /// One more than the greatest atom; 0 if there is none.
    #[must_use]
    pub fn n_atoms(&self) -> usize {
        match self {
            Atom(atom) => usize::from(*atom) + 1,
            _ => self.children().into_iter().flatten().map(Self::n_atoms).max().unwrap_or(0),
        }
    }

    /// The atoms in order of their first appearance.
    #[must_use]
    pub fn atoms(&self) -> Vec<u8> {
        fn walk(formula: &Formula, seen: &mut Vec<u8>) {
            if let Atom(atom) = formula
                && !seen.contains(atom)
            {
                seen.push(*atom);
            }
            formula.children().into_iter().flatten().for_each(|child| walk(child, seen));
        }
        let mut seen = Vec::new();
        walk(self, &mut seen);
        seen
    }

    /// The formula with atom i replaced by `f(i)`.
    #[must_use]
    pub fn map_atoms(&self, f: &impl Fn(u8) -> u8) -> Self {
        let map = |a: &Self| Box::new(a.map_atoms(f));
        match self {
            True => True,
            False => False,
            Atom(atom) => Atom(f(*atom)),
            Not(a) => Not(map(a)),
            And(a, b) => And(map(a), map(b)),
            Or(a, b) => Or(map(a), map(b)),
            Implies(a, b) => Implies(map(a), map(b)),
            Iff(a, b) => Iff(map(a), map(b)),
        }
    }

    /// The formula with its atoms renumbered 0, 1, … by first appearance, so that names do not matter.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let order = self.atoms();
        self.map_atoms(&|atom| order.iter().position(|other| *other == atom).unwrap_or(0) as u8)
    }

    /// The name of the formula up to the names of its atoms: BLAKE3 of its canonical form.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let text = self.canonical().print::<&str>(Style::Constructor, &[]);
        blake3::derive_key("tracker propositional formula 1", text.as_bytes())
    }
}

fn infix<'n>(
    out: &mut String,
    left: (&Formula, u8),
    operator: &str,
    right: (&Formula, u8),
    style: Style,
    name: &impl Fn(u8) -> &'n str,
) {
    left.0.write(out, style, left.1, name);
    out.push_str(operator);
    right.0.write(out, style, right.1, name);
}

fn prefix<'n>(out: &mut String, head: &str, args: &[&Formula], style: Style, name: &impl Fn(u8) -> &'n str) {
    out.push_str(head);
    for arg in args {
        out.push(' ');
        arg.write(out, style, 100, name);
    }
}

/// Reads a tree as a formula; `atom` gives the number of a name in scope.
pub(crate) fn from_tree(
    tree: &Tree,
    text: &str,
    node: NodeId,
    atom: &dyn Fn(&str) -> Option<usize>,
) -> Result<Formula> {
    let read = |node: NodeId| from_tree(tree, text, node, atom).map(Box::new);
    let outside = |reason| Err(crate::syntax::Stop::unparsed(tree.span(node).start, reason).into_error(text));
    Ok(match tree.node(node) {
        Node::Ident => match tree.span(node).of(text) {
            "True" => True,
            "False" => False,
            name => match atom(name) {
                Some(index) if index < MAX_ATOMS => Atom(index as u8),
                _ => return Err(Error::UnknownAtom { name: name.to_owned() }),
            },
        },
        Node::App { fun, args } => {
            let name = if matches!(tree.node(fun), Node::Ident) { tree.span(fun).of(text) } else { "" };
            match (name, tree.list(args)) {
                ("Not", [a]) => Not(read(*a)?),
                ("And", [a, b]) => And(read(*a)?, read(*b)?),
                ("Or", [a, b]) => Or(read(*a)?, read(*b)?),
                ("Iff", [a, b]) => Iff(read(*a)?, read(*b)?),
                _ => return outside("expected a connective with its arguments"),
            }
        }
        Node::Not(a) => Not(read(a)?),
        Node::Arrow(a, b) => Implies(read(a)?, read(b)?),
        Node::And(a, b) => And(read(a)?, read(b)?),
        Node::Or(a, b) => Or(read(a)?, read(b)?),
        Node::Iff(a, b) => Iff(read(a)?, read(b)?),
        _ => return outside("expected a proposition"),
    })
}

/// Constructor form with the atoms named by [`ATOM_NAMES`].
impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print::<&str>(Style::Constructor, &[]))
    }
}

/// Reads what `Display` writes, and every other Lean spelling with the same names.
impl FromStr for Formula {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text, &ATOM_NAMES)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn formulas() -> impl Strategy<Value = Formula> {
        let leaf = prop_oneof![Just(True), Just(False), (0..16_u8).prop_map(Atom)];
        leaf.prop_recursive(6, 40, 2, |inner| {
            let pair = (inner.clone().prop_map(Box::new), inner.clone().prop_map(Box::new));
            prop_oneof![
                inner.prop_map(|a| Not(Box::new(a))),
                pair.clone().prop_map(|(a, b)| And(a, b)),
                pair.clone().prop_map(|(a, b)| Or(a, b)),
                pair.clone().prop_map(|(a, b)| Implies(a, b)),
                pair.prop_map(|(a, b)| Iff(a, b)),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_style_reads_back(formula in formulas()) {
            for style in [Style::Constructor, Style::Spaced, Style::Notation] {
                let text = formula.print::<&str>(style, &[]);
                prop_assert_eq!(text.parse::<Formula>().unwrap(), formula.clone(), "{}", text);
            }
        }

        #[test]
        fn the_digest_ignores_names_and_nothing_else(formula in formulas(), shift in 0..16_u8) {
            let renamed = formula.map_atoms(&|atom| (atom + shift) % 16);
            prop_assert_eq!(renamed.digest(), formula.digest());
            prop_assert_ne!(Not(Box::new(formula.clone())).digest(), formula.digest());
            prop_assert_eq!(formula.canonical().canonical(), formula.canonical());
        }
    }

    #[test]
    fn lean_precedences_are_kept() {
        for (text, meaning) in [
            ("p ∧ q ∧ r", "And p (And q r)"),
            ("p → q → r", "p → (q → r)"),
            ("¬p ∧ q ∨ r → s ↔ t", "Iff ((Or (And (Not p) q) r) → s) t"),
            ("¬ And p q", "Not (And p q)"),
            ("p ↔ q → r", "Iff p (q → r)"),
            ("p -> q \\/ r /\\ s <-> t", "Iff (p → Or q (And r s)) t"),
        ] {
            assert_eq!(text.parse::<Formula>().unwrap(), meaning.parse::<Formula>().unwrap(), "{text}");
        }
        assert!("p ↔ q ↔ r".parse::<Formula>().is_err(), "↔ does not associate");
        assert!("And ¬p q".parse::<Formula>().is_err(), "¬ swallows the application `p q`");
    }

    #[test]
    fn bad_text_is_an_error_that_says_where() {
        for text in ["", "And p", "p q", "p →", "(p", "p)", "x", "And p q r", "fun h => h", "p\t→ q", "□ p"] {
            assert!(text.parse::<Formula>().is_err(), "{text}");
        }
        let error = "p →\n  (q ∧".parse::<Formula>().unwrap_err().to_string();
        assert_eq!(error, "line 2, column 6: expected a term");
    }

    #[test]
    fn a_hundred_thousand_brackets_are_an_error_and_not_an_overflow() {
        for text in ["(".repeat(100_000), "¬".repeat(100_000), "p → ".repeat(100_000) + "p", "And ".repeat(100_000)]
        {
            assert!(text.parse::<Formula>().is_err());
        }
    }

    #[test]
    fn truth_tables_are_classical() {
        let formula = |text: &str| text.parse::<Formula>().unwrap();
        assert!(formula("((p → q) → p) → p").is_tautology());
        assert!(!formula("Or p q → And p q").is_tautology());
        assert!(formula("Not (And p q)").is_equivalent(&formula("Or (Not p) (Not q)")));
        assert_eq!(formula("And p (q → False)").size(), 5);
        assert_eq!(formula("And p (q → False)").depth(), 2);
    }
}
