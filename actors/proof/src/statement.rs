//! Theorem statements: those of the fragment, understood; all others, as text cut in the right places.
//!
//! Invariants: a [`Statement`] has distinct, printable names, and its proposition is closed over its atoms. What is
//! asked is named by [`digest`], which depends on the header wherever the header could change the meaning.

use std::fmt;

use crate::{
    Error, Result,
    formula::{ATOM_NAMES, Formula, MAX_ATOMS, Style, from_tree},
    prelude,
    syntax::Parser,
};

/// `theorem NAME (p q r : Prop) (h : And p q) … : GOAL` of the propositional fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Statement {
    /// Name of the theorem.
    pub name: String,
    /// Names of the atoms; atom i of the formulas is `atoms[i]`.
    pub atoms: Vec<String>,
    /// Named hypotheses, in order.
    pub hypotheses: Vec<(String, Formula)>,
    /// What is to be proved.
    pub goal: Formula,
}

impl Statement {
    /// A statement without named hypotheses, its atoms named by [`ATOM_NAMES`].
    #[must_use]
    pub fn of(name: &str, proposition: Formula) -> Self {
        let atoms = ATOM_NAMES.iter().take(proposition.n_atoms()).map(ToString::to_string).collect();
        Self { name: name.to_owned(), atoms, hypotheses: Vec::new(), goal: proposition }
    }

    /// Parses a whole statement, without `:=`.
    ///
    /// # Errors
    /// `Syntax` or `UnknownAtom` where the text is not in the fragment.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(&mut Parser::default(), text)
    }

    pub(crate) fn parse_with(parser: &mut Parser, text: &str) -> Result<Self> {
        let (name, groups, goal) = parser.statement(text).map_err(|stop| stop.into_error(text))?;
        let outside = |at, reason| crate::syntax::Stop::unparsed(at, reason).into_error(text);
        let mut atoms: Vec<&str> = Vec::new();
        let mut hypotheses: Vec<(String, Formula)> = Vec::new();
        for group in &groups {
            let ty = parser.tree.span(group.ty);
            let is_prop = ty.of(text) == "Prop";
            for span in &group.names {
                let name = span.of(text);
                if !is_plain(name) {
                    return Err(outside(span.start, "expected a name that begins with a small Latin letter"));
                }
                if name == "_" || atoms.contains(&name) || hypotheses.iter().any(|(other, _)| other == name) {
                    return Err(outside(span.start, "expected a name that is not yet taken"));
                }
                if is_prop && atoms.len() < MAX_ATOMS {
                    atoms.push(name);
                } else if is_prop {
                    return Err(outside(span.start, "expected at most 16 propositional variables"));
                } else {
                    let find = |name: &str| atoms.iter().position(|atom| *atom == name);
                    hypotheses.push((name.to_owned(), from_tree(&parser.tree, text, group.ty, &find)?));
                }
            }
        }
        let goal = from_tree(&parser.tree, text, goal, &|name| atoms.iter().position(|atom| *atom == name))?;
        if !name.of(text).chars().all(is_old_letter) {
            return Err(outside(name.start, "expected a name of Latin letters"));
        }
        let atoms = atoms.into_iter().map(str::to_owned).collect();
        Ok(Self { name: name.of(text).to_owned(), atoms, hypotheses, goal })
    }

    /// Prints the statement, without `:=`.
    #[must_use]
    pub fn print(&self, style: Style) -> String {
        let (open, close) = if style == Style::Spaced { ("( ", " )") } else { ("(", ")") };
        let mut out = format!("theorem {}", self.name);
        if !self.atoms.is_empty() {
            out.extend([" ", open, &self.atoms.join(" "), " : Prop", close]);
        }
        for (name, formula) in &self.hypotheses {
            out.extend([" ", open, name, " : ", &formula.print(style, &self.atoms), close]);
        }
        out + " : " + &self.goal.print(style, &self.atoms)
    }

    /// The proposition with the hypotheses as arrows.
    #[must_use]
    pub fn proposition(&self) -> Formula {
        let hypotheses = self.hypotheses.iter().rev();
        hypotheses.fold(self.goal.clone(), |goal, (_, hypothesis)| hypothesis.clone().implies(goal))
    }

    /// The proposition, with its atoms renumbered by first appearance: equal for statements that ask the same.
    #[must_use]
    pub fn canonical(&self) -> Formula {
        self.proposition().canonical()
    }

    /// The name of what is asked: [`Formula::digest`] of the proposition.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.proposition().digest()
    }
}

/// Names of variables as this fragment has always had them: what is in it has a digest of its own, so it may not grow.
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && name.chars().all(is_old_letter)
}

fn is_old_letter(c: char) -> bool {
    c.is_ascii() || ('₀'..='₉').contains(&c)
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print(Style::Constructor))
    }
}

/// The name of what `statement` asks under `header`, whether or not it is in the fragment.
///
/// A propositional statement under a header that cannot change its meaning is named by its canonical form, however it is
/// spelt; any other by its header and its text, with runs of white space taken as one space.
#[must_use]
pub fn digest(header: &str, statement: &str) -> [u8; 32] {
    if prelude::is_neutral(header)
        && let Ok(statement) = Statement::parse(statement.trim())
    {
        return statement.digest();
    }
    let mut hasher = blake3::Hasher::new_derive_key("tracker lean statement 1");
    for text in [header, statement] {
        for word in text.split_whitespace() {
            hasher.update(word.as_bytes());
            hasher.update(b" ");
        }
        hasher.update(b"\0");
    }
    *hasher.finalize().as_bytes()
}

/// A `formal_statement` of Goedel-Prover's or DeepSeek-Prover's JSONL, cut in two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Documentation and attributes before `theorem`, trimmed; often empty.
    pub prefix: String,
    /// `theorem NAME … : TYPE`, trimmed, without `:=`: a [`Candidate`](crate::Candidate)'s `statement`.
    pub statement: String,
    /// What follows `:=`, trimmed: `by`, `by sorry`, a proof, or nothing.
    pub tail: String,
}

/// Cuts `theorem foo (x : ℝ) : x = x := by …` at the `:=` of the theorem; the type is not understood, only its
/// brackets, strings and comments. Default values of binders, `(x : Nat := 0)`, stay in the statement.
///
/// # Errors
/// `Syntax` where there is no `theorem` or `lemma`, or where a bracket, comment or string does not end.
pub fn split(text: &str) -> Result<Split> {
    let error = |reason| Error::Syntax { line: 1, column: 0, reason };
    let code = crate::lean::scan::Code::read(text).map_err(error)?;
    let start = code
        .words()
        .find(|word| matches!(word.text, "theorem" | "lemma"))
        .ok_or_else(|| error("expected `theorem` or `lemma`"))?
        .start;
    let end = code.top_level(start, ":=").unwrap_or(text.len());
    let tail = text[end..].strip_prefix(":=").unwrap_or("");
    Ok(Split {
        prefix: text[..start].trim().to_owned(),
        statement: text[start..end].trim().to_owned(),
        tail: tail.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_reads_back_in_every_style() {
        let text = "theorem foo (p q : Prop) (h1 h2 : And p (Not q)) {r : Prop} : q → r";
        let statement = Statement::parse(text).unwrap();
        assert_eq!(statement.hypotheses.len(), 2);
        assert_eq!(statement.atoms, ["p", "q", "r"]);
        for style in [Style::Constructor, Style::Spaced, Style::Notation] {
            assert_eq!(Statement::parse(&statement.print(style)).unwrap(), statement);
        }
        assert_eq!(
            statement.to_string(),
            "theorem foo (p q r : Prop) (h1 : And p (Not q)) (h2 : And p (Not q)) : q → r"
        );
    }

    #[test]
    fn spelling_does_not_change_the_digest_but_meaning_does() {
        let base = digest("", "theorem a (p q : Prop) (h : And p q) : q");
        assert_eq!(digest("", "theorem b (x y : Prop) : x ∧ y → y"), base);
        assert_eq!(digest(prelude::TEXT, "theorem b (q p : Prop) : And q p -> p"), base);
        assert_ne!(digest("", "theorem a (p q : Prop) (h : And p q) : p"), base);
        assert_ne!(digest("open Nat", "theorem a (p q : Prop) (h : And p q) : q"), base);
        // traps 13 and 15: a repaired statement and a rewritten header are other questions
        let lean = digest("import Mathlib\nopen Real", "theorem a (x : ℝ) : x = x");
        assert_eq!(digest("import Mathlib\n\nopen Real\n", "theorem a (x : ℝ) :\n  x = x"), lean);
        assert_ne!(digest("import Mathlib", "theorem a (x : ℝ) : x = x"), lean);
        assert_ne!(digest("import Mathlib\nopen Real", "theorem a (x : ℕ) : x = x"), lean);
    }

    #[test]
    fn bad_statements_are_errors() {
        for text in [
            "",
            "theorem",
            "theorem foo : ",
            "theorem foo (p : Prop) : q",
            "theorem foo (p p : Prop) : p",
            "theorem foo (fun : Prop) : p",
            "theorem foo (p : Prop) (h : h) : p",
            "theorem foo (p : Prop) : p := by",
            "example (p : Prop) : p",
            "theorem foo (n : Nat) : True",
            "theorem foo (And : Prop) : And",
        ] {
            assert!(Statement::parse(text).is_err(), "{text}");
        }
        let many: Vec<String> = (0..17).map(|i| format!("p{i}")).collect();
        assert!(Statement::parse(&format!("theorem foo ({} : Prop) : p0", many.join(" "))).is_err());
    }

    #[test]
    fn a_formal_statement_is_cut_at_its_own_assignment() {
        let cut =
            split("/-- a := b -/\ntheorem foo (x : Nat := 0) (s : String) -- theorem\n  : s = \":=\" := by\n").unwrap();
        assert_eq!(cut.prefix, "/-- a := b -/");
        assert_eq!(cut.statement, "theorem foo (x : Nat := 0) (s : String) -- theorem\n  : s = \":=\"");
        assert_eq!(cut.tail, "by");
        assert_eq!(split("theorem foo : True").unwrap().tail, "");
        assert!(split("lemmas : x := y").is_err());
        assert!(split("theorem foo : /- open").is_err());
    }
}
