//! First-order formulas over one fixed signature, in constructor form.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Alpha,
    Beta,
}

impl Sort {
    pub(crate) fn text(self) -> &'static str {
        if self == Self::Alpha { "α" } else { "β" }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Term {
    Name(String),
    Call(&'static str, Box<Term>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    True,
    False,
    Atom(&'static str, Vec<Term>),
    Eq(Sort, Term, Term),
    Not(Box<Form>),
    /// `And`, `Or` or `Iff`
    Pair(&'static str, Box<Form>, Box<Form>),
    Imp(Box<Form>, Box<Form>),
    All(String, Sort, Box<Form>),
    Some(String, Sort, Box<Form>),
}

impl Term {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Call(f, x) => format!("({f} {})", x.text()),
        }
    }

    pub(crate) fn put(&self, old: &Self, new: &Self) -> Self {
        match self {
            _ if self == old => new.clone(),
            Self::Name(_) => self.clone(),
            Self::Call(f, x) => Self::Call(f, Box::new(x.put(old, new))),
        }
    }

    pub(crate) fn mentions(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Call(_, x) => x.mentions(name),
        }
    }
}

impl Form {
    pub(crate) fn put(&self, old: &Term, new: &Term) -> Self {
        let sub = |form: &Self| Box::new(form.put(old, new));
        match self {
            Self::True | Self::False => self.clone(),
            Self::Atom(name, args) => Self::Atom(name, args.iter().map(|arg| arg.put(old, new)).collect()),
            Self::Eq(sort, s, t) => Self::Eq(*sort, s.put(old, new), t.put(old, new)),
            Self::Not(a) => Self::Not(sub(a)),
            Self::Pair(name, a, b) => Self::Pair(name, sub(a), sub(b)),
            Self::Imp(a, b) => Self::Imp(sub(a), sub(b)),
            Self::All(x, sort, a) => Self::All(x.clone(), *sort, sub(a)),
            Self::Some(x, sort, a) => Self::Some(x.clone(), *sort, sub(a)),
        }
    }

    pub(crate) fn mentions(&self, name: &str) -> bool {
        match self {
            Self::True | Self::False => false,
            Self::Atom(_, args) => args.iter().any(|arg| arg.mentions(name)),
            Self::Eq(_, s, t) => s.mentions(name) || t.mentions(name),
            Self::Not(a) | Self::All(_, _, a) | Self::Some(_, _, a) => a.mentions(name),
            Self::Pair(_, a, b) | Self::Imp(a, b) => a.mentions(name) || b.mentions(name),
        }
    }

    /// As an argument.
    pub(crate) fn arg(&self, rng: &mut ChaCha8Rng, style: Style) -> String {
        match self {
            Self::True | Self::False => self.text(rng, style),
            Self::Atom(name, args) if args.is_empty() => (*name).to_owned(),
            _ => format!("({})", self.text(rng, style)),
        }
    }

    pub(crate) fn text(&self, rng: &mut ChaCha8Rng, style: Style) -> String {
        let notation = style == Style::Notation;
        match self {
            Self::True => "True".to_owned(),
            Self::False => "False".to_owned(),
            Self::Atom(name, args) => args.iter().fold((*name).to_owned(), |text, arg| text + " " + &arg.text()),
            Self::Eq(_, s, t) if notation => format!("{} = {}", s.text(), t.text()),
            Self::Eq(_, s, t) => format!("Eq {} {}", s.text(), t.text()),
            Self::Not(a) if notation => format!("¬{}", a.arg(rng, style)),
            Self::Not(a) => format!("Not {}", a.arg(rng, style)),
            Self::Pair(name, a, b) => {
                let (a, b) = (a.arg(rng, style), b.arg(rng, style));
                match *name {
                    "And" if notation => format!("{a} ∧ {b}"),
                    "Or" if notation => format!("{a} ∨ {b}"),
                    "Iff" if notation => format!("{a} ↔ {b}"),
                    _ => format!("{name} {a} {b}"),
                }
            }
            Self::Imp(a, b) => format!("{} → {}", a.arg(rng, style), b.arg(rng, style)),
            Self::All(x, sort, a) => {
                let (sort, body) = (sort.text(), a.text(rng, style));
                match rng.random_range(0..4) {
                    0 if a.mentions(x) => format!("∀ {x}, {body}"),
                    1 => format!("∀ ({x} : {sort}), {body}"),
                    2 => format!("({x} : {sort}) → ({body})"),
                    _ => format!("∀ {x} : {sort}, {body}"),
                }
            }
            Self::Some(x, sort, a) => {
                let (sort, body) = (sort.text(), a.text(rng, style));
                match (rng.random_range(0..3), &**a) {
                    (0, Self::Atom(name, args)) if args.len() == 1 && args[0] == Term::Name(x.clone()) => {
                        format!("Exists {name}")
                    }
                    (1, _) if a.mentions(x) && notation => format!("∃ {x}, {body}"),
                    (1, _) if a.mentions(x) => format!("Exists (fun {x} => {body})"),
                    _ if notation => format!("∃ {x} : {sort}, {body}"),
                    _ => format!("Exists (fun ({x} : {sort}) => {body})"),
                }
            }
        }
    }
}

/// How a formula is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `And a (Eq s t)`: needs no notation.
    Constructor,
    /// `a ∧ (s = t)`
    Notation,
}
