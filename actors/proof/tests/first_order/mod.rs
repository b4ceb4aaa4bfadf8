//! First-order statements with proofs, made by proving a random goal backwards: what cannot be proved is added to the
//! statement as a hypothesis. So every proof is right, whatever rules were drawn, if not always to Lean's elaborator.
#![allow(clippy::unwrap_used, reason = "the lists chosen from are not empty")]

mod form;

use rand::{RngExt as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

pub(crate) use self::form::Style;
use self::form::{Form, Sort, Term};

const SIGNATURE: &str = "(α β : Type) (P Q : α → Prop) (R : α → α → Prop) (S : α → β → Prop) (f : α → α) (g : α → β) \
                         (a b c : α) (d e : β) (p q : Prop)";

/// A statement under construction.
pub(crate) struct Maker<'r> {
    rng: &'r mut ChaCha8Rng,
    style: Style,
    hypotheses: Vec<(String, Form)>,
    /// Proofs in scope.
    facts: Vec<(String, Form)>,
    /// Variables in scope beyond the signature's.
    variables: Vec<(String, Sort)>,
    n_names: usize,
}

/// A statement and a proof of it; in constructor form, both are for [`prelude::FIRST_ORDER`](tracker_proof::prelude::FIRST_ORDER)
/// too. The style changes the spelling and nothing else.
pub(crate) fn problem(rng: &mut ChaCha8Rng, style: Style, depth: u32) -> (String, String) {
    let mut maker = Maker { rng, style, hypotheses: Vec::new(), facts: Vec::new(), variables: Vec::new(), n_names: 0 };
    let goal = maker.form(depth);
    let proof = maker.prove(&goal, depth + 1);
    let rng = maker.rng;
    let hypotheses: Vec<String> =
        maker.hypotheses.iter().map(|(name, form)| format!(" ({name} : {})", form.text(rng, style))).collect();
    (format!("theorem t {SIGNATURE}{} : {}", hypotheses.concat(), goal.text(rng, style)), proof)
}

impl Maker<'_> {
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_range(0..n) == 0
    }

    fn name(&mut self, stem: &str) -> String {
        self.n_names += 1;
        format!("{stem}{}", self.n_names)
    }

    fn term(&mut self, sort: Sort) -> Term {
        let constants: &[&str] = if sort == Sort::Alpha { &["a", "b", "c"] } else { &["d", "e"] };
        let mut names: Vec<String> = constants.iter().map(ToString::to_string).collect();
        // those in scope more often than those of the signature
        for (name, _) in self.variables.iter().filter(|(_, other)| *other == sort) {
            names.extend([name.clone(), name.clone(), name.clone()]);
        }
        match self.rng.random_range(0..8) {
            0 => Term::Call(if sort == Sort::Alpha { "f" } else { "g" }, Box::new(self.term(Sort::Alpha))),
            _ => Term::Name(names.choose(self.rng).unwrap().clone()),
        }
    }

    fn sort(&mut self) -> Sort {
        if self.one_in(4) { Sort::Beta } else { Sort::Alpha }
    }

    fn form(&mut self, depth: u32) -> Form {
        if depth == 0 || self.one_in(6) {
            return match self.rng.random_range(0..20) {
                0 => Form::True,
                1 => Form::False,
                2..=4 => Form::Atom(["p", "q"].choose(self.rng).unwrap(), Vec::new()),
                5..=9 => Form::Atom(["P", "Q"].choose(self.rng).unwrap(), vec![self.term(Sort::Alpha)]),
                10..=13 => Form::Atom("R", vec![self.term(Sort::Alpha), self.term(Sort::Alpha)]),
                14..=15 => Form::Atom("S", vec![self.term(Sort::Alpha), self.term(Sort::Beta)]),
                _ => {
                    let sort = self.sort();
                    Form::Eq(sort, self.term(sort), self.term(sort))
                }
            };
        }
        let depth = depth - 1;
        match self.rng.random_range(0..14) {
            0 => Form::Not(Box::new(self.form(depth))),
            1 | 2 => Form::Pair("And", Box::new(self.form(depth)), Box::new(self.form(depth))),
            3 | 4 => Form::Pair("Or", Box::new(self.form(depth)), Box::new(self.form(depth))),
            5 => Form::Pair("Iff", Box::new(self.form(depth)), Box::new(self.form(depth))),
            6 | 7 => Form::Imp(Box::new(self.form(depth)), Box::new(self.form(depth))),
            n => {
                let (x, sort) = (self.name("x"), self.sort());
                self.variables.push((x.clone(), sort));
                let body = Box::new(self.form(depth));
                self.variables.pop();
                if n < 11 { Form::All(x, sort, body) } else { Form::Some(x, sort, body) }
            }
        }
    }

    /// A proof of `goal`.
    fn prove(&mut self, goal: &Form, depth: u32) -> String {
        let known = self.facts.iter().rev().chain(&self.hypotheses).find(|(_, form)| form == goal);
        if let Some((name, _)) = known.cloned()
            && !self.one_in(8)
        {
            return name;
        }
        if depth > 0 && self.one_in(3) {
            return self.roundabout(goal, depth - 1);
        }
        if depth == 0 && self.one_in(2) {
            return self.suppose(goal);
        }
        self.introduce(goal, depth.saturating_sub(1))
    }

    /// A proof as an argument.
    fn part(&mut self, goal: &Form, depth: u32) -> String {
        let text = self.prove(goal, depth);
        if text.chars().all(char::is_alphanumeric) { text } else { format!("({text})") }
    }

    fn under_fact(&mut self, fact: &Form, goal: &Form, depth: u32) -> (String, String) {
        let name = self.name("k");
        self.facts.push((name.clone(), fact.clone()));
        let body = self.prove(goal, depth);
        self.facts.pop();
        (name, body)
    }

    /// `fun k => …` in one of its spellings.
    fn function(&mut self, fact: &Form, goal: &Form, depth: u32) -> String {
        let (name, body) = self.under_fact(fact, goal, depth);
        match self.rng.random_range(0..6) {
            0 => format!("fun ({name} : {}) => {body}", fact.text(self.rng, self.style)),
            1 => format!("fun {name} : {} => {body}", fact.text(self.rng, self.style)),
            2 => format!("λ {name} ↦ {body}"),
            _ => format!("fun {name} => {body}"),
        }
    }

    /// The hypothesis that says `goal` for all variables in scope that it mentions, sometimes under a known premise.
    fn suppose(&mut self, goal: &Form) -> String {
        let premise = if self.one_in(3) { self.facts.choose(self.rng).cloned() } else { None };
        let mut form = goal.clone();
        if let Some((_, fact)) = &premise {
            form = Form::Imp(Box::new(fact.clone()), Box::new(form));
        }
        let mut used: Vec<(String, Sort)> =
            self.variables.iter().filter(|(name, _)| form.mentions(name)).cloned().collect();
        let mut args: Vec<String> = used.iter().map(|(name, _)| name.clone()).collect();
        while let Some((name, sort)) = used.pop() {
            form = Form::All(name, sort, Box::new(form));
        }
        if let Some((name, fact)) = premise {
            // what the premise mentions can be inferred from it
            for arg in &mut args {
                if fact.mentions(arg) && self.one_in(2) {
                    "_".clone_into(arg);
                }
            }
            args.push(name);
        }
        let known = self.hypotheses.iter().find(|(_, other)| *other == form).map(|(name, _)| name.clone());
        let name = known.unwrap_or_else(|| {
            let name = format!("h{}", self.hypotheses.len() + 1);
            self.hypotheses.push((name.clone(), form));
            name
        });
        args.into_iter().fold(name, |text, arg| text + " " + &arg)
    }

    fn introduce(&mut self, goal: &Form, depth: u32) -> String {
        match goal {
            Form::True => ["trivial", "True.intro", "⟨⟩"].choose(self.rng).unwrap().to_string(),
            Form::False | Form::Atom(..) => self.suppose(goal),
            Form::Eq(sort, s, t) => self.equation(*sort, s, t, depth),
            Form::Not(a) => self.function(a, &Form::False, depth),
            Form::Imp(a, b) => self.function(a, b, depth),
            Form::Pair("Or", a, b) => {
                let (word, side, other) = if self.one_in(2) { ("inl", a, b) } else { ("inr", b, a) };
                let part = self.part(side, depth);
                match self.rng.random_range(0..6) {
                    0 => format!("Or.{word} ({part})"),
                    1 => {
                        let (left, right) = if word == "inl" { (side, other) } else { (other, side) };
                        format!(
                            "@Or.{word} {} {} {part}",
                            left.arg(self.rng, self.style),
                            right.arg(self.rng, self.style)
                        )
                    }
                    _ => format!("Or.{word} {part}"),
                }
            }
            Form::Pair(name, a, b) => {
                let (x, y) = if *name == "And" {
                    (self.part(a, depth), self.part(b, depth))
                } else {
                    (format!("({})", self.function(a, b, depth)), format!("({})", self.function(b, a, depth)))
                };
                match self.rng.random_range(0..6) {
                    0 => {
                        format!("@{name}.intro {} {} {x} {y}", a.arg(self.rng, self.style), b.arg(self.rng, self.style))
                    }
                    1 => format!("@{name}.intro _ _ {x} {y}"),
                    2 | 3 => format!("⟨{x}, {y}⟩"),
                    _ => format!("{name}.intro {x} {y}"),
                }
            }
            Form::All(x, sort, a) => {
                let name = if self.one_in(3) { x.clone() } else { self.name("y") };
                let a = a.put(&Term::Name(x.clone()), &Term::Name(name.clone()));
                self.variables.push((name.clone(), *sort));
                let body = self.prove(&a, depth);
                self.variables.pop();
                match self.rng.random_range(0..4) {
                    0 => format!("fun ({name} : {}) => {body}", sort.text()),
                    1 => format!("λ {name} => {body}"),
                    _ => format!("fun {name} => {body}"),
                }
            }
            Form::Some(x, sort, a) => {
                let w = self.term(*sort);
                let body = a.put(&Term::Name(x.clone()), &w);
                let part = self.part(&body, depth);
                let predicate = format!("(fun {x} => {})", a.text(self.rng, self.style));
                match self.rng.random_range(0..8) {
                    0 => format!("@Exists.intro {} {predicate} {} {part}", sort.text(), w.text()),
                    1 => format!("@Exists.intro _ _ {} {part}", w.text()),
                    2 => format!("Exists.intro _ {part}"),
                    3 => format!("Exists.intro (p := {predicate}) {} {part}", w.text()),
                    4 | 5 => format!("⟨{}, {part}⟩", w.text()),
                    _ => format!("Exists.intro {} {part}", w.text()),
                }
            }
        }
    }

    fn equation(&mut self, sort: Sort, s: &Term, t: &Term, depth: u32) -> String {
        let goal = Form::Eq(sort, s.clone(), t.clone());
        if s == t {
            let refl = format!("Eq.refl {}", s.text());
            return [refl.as_str(), "rfl", "Eq.refl _", "@rfl _ _"].choose(self.rng).unwrap().to_string();
        }
        match (self.rng.random_range(0..5), s, t) {
            (0, _, _) => {
                let part = self.part(&Form::Eq(sort, t.clone(), s.clone()), depth);
                if self.one_in(2) { format!("Eq.symm {part}") } else { format!("({part}).symm") }
            }
            (1, _, _) => {
                let middle = self.term(sort);
                let first = self.part(&Form::Eq(sort, s.clone(), middle.clone()), depth);
                let second = self.part(&Form::Eq(sort, middle, t.clone()), depth);
                if self.one_in(2) { format!("Eq.trans {first} {second}") } else { format!("({first}).trans {second}") }
            }
            (2..=4, Term::Call(f, x), Term::Call(g, y)) if f == g => {
                let part = self.part(&Form::Eq(Sort::Alpha, (**x).clone(), (**y).clone()), depth);
                format!("congrArg {f} {part}")
            }
            _ => self.suppose(&goal),
        }
    }

    /// A proof that takes a way around.
    fn roundabout(&mut self, goal: &Form, depth: u32) -> String {
        match self.rng.random_range(0..15) {
            0 => {
                let (a, b) = (self.form(1), self.form(1));
                let either = self.part(&Form::Pair("Or", Box::new(a.clone()), Box::new(b.clone())), depth);
                let (l, r) = (self.function(&a, goal, depth), self.function(&b, goal, depth));
                if self.one_in(2) {
                    format!("Or.elim {either} ({l}) ({r})")
                } else {
                    format!("({either}).elim ({l}) ({r})")
                }
            }
            1 | 2 => self.exists_elim(goal, depth),
            3 => {
                let other = self.form(1);
                let pair = Form::Pair("And", Box::new(goal.clone()), Box::new(other));
                let part = self.part(&pair, depth);
                [format!("({part}).1"), format!("And.left {part}"), format!("({part}).left")]
                    .choose(self.rng)
                    .unwrap()
                    .clone()
            }
            4 => {
                let other = self.form(1);
                let pair = Form::Pair("And", Box::new(other), Box::new(goal.clone()));
                let part = self.part(&pair, depth);
                [format!("({part}).2"), format!("And.right {part}")].choose(self.rng).unwrap().clone()
            }
            5 => {
                let premise = self.form(1);
                let f = self.suppose(&Form::Imp(Box::new(premise.clone()), Box::new(goal.clone())));
                let x = self.part(&premise, depth);
                format!("{f} {x}")
            }
            6 => {
                let fact = self.form(1);
                let value = self.prove(&fact, depth);
                let (name, body) = self.under_fact(&fact, goal, depth);
                match self.rng.random_range(0..3) {
                    0 => format!("have {name} := ({value} : {}); {body}", fact.text(self.rng, self.style)),
                    1 => format!("have {name} : {} := {value}\n{body}", fact.text(self.rng, self.style)),
                    _ => format!("have {name} : {} := {value}; {body}", fact.text(self.rng, self.style)),
                }
            }
            7 => {
                let text = self.prove(goal, depth);
                if self.one_in(2) {
                    format!("show {} from {text}", goal.text(self.rng, self.style))
                } else {
                    format!("({text} : {})", goal.text(self.rng, self.style))
                }
            }
            8 => {
                let part = self.part(&Form::False, depth);
                if self.one_in(2) { format!("False.elim {part}") } else { format!("({part}).elim") }
            }
            9 => {
                let fact = self.form(1);
                let (yes, no) = (self.part(&fact, depth), self.part(&Form::Not(Box::new(fact)), depth));
                format!("absurd {yes} {no}")
            }
            10 => {
                let sort = self.sort();
                let (t, x) = (self.term(sort), self.name("z"));
                let general = Form::All(x.clone(), sort, Box::new(goal.put(&t, &Term::Name(x))));
                let part = self.part(&general, depth);
                format!("{part} {}", t.text())
            }
            11 => self.classical(goal, depth),
            _ => self.substitute(goal, depth),
        }
    }

    fn classical(&mut self, goal: &Form, depth: u32) -> String {
        if self.one_in(2) {
            let denied = Form::Not(Box::new(goal.clone()));
            let absurd = self.function(&denied, &Form::False, depth);
            return format!("Classical.byContradiction ({absurd})");
        }
        let fact = self.form(1);
        let (yes, no) =
            (self.function(&fact, goal, depth), self.function(&Form::Not(Box::new(fact.clone())), goal, depth));
        format!("(Classical.em {}).elim ({yes}) ({no})", fact.arg(self.rng, self.style))
    }

    fn exists_elim(&mut self, goal: &Form, depth: u32) -> String {
        let (x, sort) = (self.name("x"), self.sort());
        self.variables.push((x.clone(), sort));
        let body = self.form(1);
        self.variables.pop();
        let exists = Form::Some(x.clone(), sort, Box::new(body.clone()));
        let part = self.part(&exists, depth);
        let w = self.name("w");
        self.variables.push((w.clone(), sort));
        let fact = body.put(&Term::Name(x), &Term::Name(w.clone()));
        let (name, inner) = self.under_fact(&fact, goal, depth);
        self.variables.pop();
        let binders = match self.rng.random_range(0..3) {
            0 => format!("({w} : {}) {name}", sort.text()),
            1 => format!("{w} ({name} : {})", fact.text(self.rng, self.style)),
            _ => format!("{w} {name}"),
        };
        match self.rng.random_range(0..4) {
            0 => format!("({part}).elim (fun {binders} => {inner})"),
            1 => format!("@Exists.elim _ _ _ {part} (fun {binders} => {inner})"),
            _ => format!("Exists.elim {part} (fun {binders} => {inner})"),
        }
    }

    fn substitute(&mut self, goal: &Form, depth: u32) -> String {
        let sort = self.sort();
        let (s, t, x) = (self.term(sort), self.term(sort), self.name("z"));
        let motive = goal.put(&t, &Term::Name(x.clone()));
        let from = motive.put(&Term::Name(x.clone()), &s);
        let equal = self.part(&Form::Eq(sort, s, t), depth);
        let part = self.part(&from, depth);
        let motive = format!("(motive := fun {x} => {})", motive.text(self.rng, self.style));
        match self.rng.random_range(0..5) {
            0 => format!("Eq.subst {equal} {part}"),
            1 => format!("({equal}).subst {part}"),
            2 => format!("@Eq.subst _ {} _ _ {equal} {part}", motive.replacen("motive := ", "", 1)),
            _ => format!("Eq.subst {motive} {equal} {part}"),
        }
    }
}
