//! Normal proofs, and how they are written for people, for Lean and for a language model.

/// A normal natural deduction. A variable is the number of binders outside its own, hypotheses of the statement first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// A hypothesis.
    Var(u32),
    /// `fun h => body`
    Fun(Box<Proof>),
    /// `f a`
    App(Box<Proof>, Box<Proof>),
    /// `True.intro`
    Trivial,
    /// `And.intro a b`
    Both(Box<Proof>, Box<Proof>),
    /// `And.left a`
    Left(Box<Proof>),
    /// `And.right a`
    Right(Box<Proof>),
    /// `Or.inl a`
    Inl(Box<Proof>),
    /// `Or.inr b`
    Inr(Box<Proof>),
    /// `Or.elim a ( fun h => … ) ( fun h => … )`
    Cases(Box<Proof>, Box<Proof>, Box<Proof>),
    /// `Iff.intro f g`
    Equiv(Box<Proof>, Box<Proof>),
    /// `Iff.mp a`
    Mp(Box<Proof>),
    /// `Iff.mpr a`
    Mpr(Box<Proof>),
    /// `False.elim a`, or `absurd x f` where a is `f x`
    Explode(Box<Proof>),
}

use Proof::{App, Both, Cases, Equiv, Explode, Fun, Inl, Inr, Left, Mp, Mpr, Right, Trivial, Var};

impl Proof {
    /// Number of nodes: variables, constants, functions and applications.
    #[must_use]
    pub fn size(&self) -> u32 {
        1 + match self {
            Var(_) | Trivial => 0,
            Fun(a) | Left(a) | Right(a) | Inl(a) | Inr(a) | Mp(a) | Mpr(a) | Explode(a) => a.size(),
            App(a, b) | Both(a, b) | Equiv(a, b) => a.size() + b.size(),
            Cases(a, b, c) => a.size() + b.size() + c.size(),
        }
    }

    /// Whether the proof only picks one of its hypotheses.
    #[must_use]
    pub fn is_projection(&self) -> bool {
        match self {
            Var(_) => true,
            Fun(body) => body.is_projection(),
            _ => false,
        }
    }

    /// Lean text, its tokens separated by single spaces. `hypotheses` are the names of the statement's hypotheses;
    /// bound variables go on from there: `h1`, `h2`, … by depth where there are none.
    #[must_use]
    pub fn render(&self, hypotheses: &[&str]) -> String {
        let numbered = |name: &&str| name.strip_prefix('h').and_then(|digits| digits.parse::<u32>().ok());
        let taken = hypotheses.iter().filter_map(numbered).max().unwrap_or(0).max(hypotheses.len() as u32);
        let mut writer = Writer { out: String::new(), hypotheses, first: taken + 1 };
        writer.write(self, hypotheses.len() as u32);
        writer.out
    }
}

struct Writer<'a> {
    out: String,
    hypotheses: &'a [&'a str],
    /// Number of the outermost bound variable.
    first: u32,
}

impl Writer<'_> {
    fn word(&mut self, word: &str) {
        if !self.out.is_empty() {
            self.out.push(' ');
        }
        self.out.push_str(word);
    }

    fn variable(&mut self, level: u32) {
        if let Some(name) = self.hypotheses.get(level as usize) {
            return self.word(name);
        }
        let number = self.first + level - self.hypotheses.len() as u32;
        self.word(&format!("h{number}"));
    }

    /// Writes a proof that stands under `depth` binders.
    fn write(&mut self, proof: &Proof, depth: u32) {
        match proof {
            Var(level) => self.variable(*level),
            Trivial => self.word("True.intro"),
            Fun(body) => {
                self.word("fun");
                self.variable(depth);
                self.word("=>");
                self.write(body, depth + 1);
            }
            App(f, a) => {
                // heads are variables, projections or `Iff.mp h`: `f a b` needs no brackets
                self.write(f, depth);
                self.argument(a, depth);
            }
            Both(a, b) => self.constant("And.intro", &[a, b], depth),
            Left(a) => self.constant("And.left", &[a], depth),
            Right(a) => self.constant("And.right", &[a], depth),
            Inl(a) => self.constant("Or.inl", &[a], depth),
            Inr(a) => self.constant("Or.inr", &[a], depth),
            Cases(a, l, r) => self.constant("Or.elim", &[a, l, r], depth),
            Equiv(f, g) => self.constant("Iff.intro", &[f, g], depth),
            Mp(a) => self.constant("Iff.mp", &[a], depth),
            Mpr(a) => self.constant("Iff.mpr", &[a], depth),
            Explode(a) => match &**a {
                // `absurd x f` must infer the type of x first, which Lean can where x is an elimination
                App(f, x) if is_neutral(x) => self.constant("absurd", &[x, f], depth),
                _ => self.constant("False.elim", &[a], depth),
            },
        }
    }

    fn constant(&mut self, name: &str, args: &[&Proof], depth: u32) {
        self.word(name);
        for arg in args {
            self.argument(arg, depth);
        }
    }

    fn argument(&mut self, proof: &Proof, depth: u32) {
        if matches!(proof, Var(_) | Trivial) {
            return self.write(proof, depth);
        }
        self.word("(");
        self.write(proof, depth);
        self.word(")");
    }
}

/// Whether the proof is a variable under eliminations, so that its type can be read off.
fn is_neutral(proof: &Proof) -> bool {
    match proof {
        Var(_) => true,
        App(a, _) | Left(a) | Right(a) | Mp(a) | Mpr(a) => is_neutral(a),
        _ => false,
    }
}
