//! First-order proofs: many-sorted intuitionistic logic with equality, in Lean's own calculus.
//!
//! Slower than the propositional kernel, and asked only where that one has no answer. Text is elaborated
//! ([`elaborate`], [`apply`], [`unify`]) to a term of Lean's calculus ([`terms`]), which the trusted [`core`] checks over
//! the [`constants`]. Propositions and types share one grammar, so what a statement may say is what the calculus can:
//! sorts, predicates, functions, quantifiers over all of them, equality.

mod apply;
mod constants;
mod core;
mod elaborate;
mod terms;
mod unify;

pub(crate) use self::constants::Library;

use std::collections::BTreeSet;

use self::{
    constants::TABLE,
    core::Core,
    elaborate::{Elaborator, Local},
    terms::{Expr, Id},
    unify::Unifier,
};
use crate::{
    Outcome,
    kernel::core::FoldMap,
    syntax::{NodeId, Parser, Stop, Tree},
};

/// Most variables of a statement.
const MAX_VARIABLES: usize = 256;

/// The checker, with the statement last asked.
#[derive(Debug)]
pub(crate) struct FirstOrder {
    unifier: Unifier,
    /// The core's, kept for its memory.
    known: FoldMap<Id, Id>,
    /// Terms of the constants' types.
    n_constants: usize,
    question: Option<Question>,
}

#[derive(Debug)]
struct Question {
    library: Library,
    /// Names and types of the binders, outermost first; variable i is the i-th.
    binders: Vec<(String, Id)>,
    goal: Id,
    /// Terms of the statement itself; the rest go with each proof.
    n_terms: usize,
}

impl FirstOrder {
    /// Reads the table of constants.
    ///
    /// # Errors
    /// Where a line of the table is not well-formed; a test holds that none is.
    pub(crate) fn new() -> Result<Self, Stop> {
        let mut unifier = Unifier::default();
        let mut parser = Parser::default();
        for (_, entry) in TABLE {
            let root = parser.term(entry.ty)?;
            let mut elaborator = elaborator(&mut unifier, &parser.tree, entry.ty, Vec::new(), Library::Init);
            elaborator.polymorphic = true;
            let ty = elaborator.closed_type(root)?;
            unifier.constants.push(ty);
            let n_terms = unifier.terms.len();
            unifier.forget(0);
            unifier.terms.truncate(n_terms);
        }
        let n_constants = unifier.terms.len();
        Ok(Self { unifier, known: FoldMap::default(), n_constants, question: None })
    }

    /// Makes this statement the one that proofs are checked against.
    pub(crate) fn ask(&mut self, parser: &mut Parser, library: Library, text: &str) -> Result<(), Stop> {
        self.question = None;
        self.unifier.forget(0);
        self.unifier.terms.truncate(self.n_constants);
        let (_, groups, goal) = parser.statement(text)?;
        let mut elaborator = elaborator(&mut self.unifier, &parser.tree, text, Vec::new(), library);
        for group in &groups {
            for name in &group.names {
                if elaborator.scope.len() >= MAX_VARIABLES {
                    return Err(Stop::unparsed(name.start, "expected at most 256 variables"));
                }
                let ty = elaborator.closed_type(group.ty)?;
                // variables of quantifiers inside the type are gone: binder i is variable i
                elaborator.unifier.forget(elaborator.scope.len());
                let (_, term) = elaborator.unifier.open(ty);
                elaborator.scope.push(Local { name: name.of(text), term, ty });
            }
        }
        let goal = elaborator.closed_type(goal)?;
        let binders: Vec<(String, Id)> =
            elaborator.scope.iter().map(|local| (local.name.to_owned(), local.ty)).collect();
        let types: Vec<Id> = binders.iter().map(|(_, ty)| *ty).collect();
        if !self.core(Vec::new()).is_statement(&types, goal) {
            return Err(Stop::unparsed(0, "this does not say a proposition"));
        }
        let n_terms = self.unifier.terms.len();
        self.question = Some(Question { library, binders, goal, n_terms });
        Ok(())
    }

    /// Checks a proof, with its tree, of the statement last asked; gives the axioms that it rests on in Lean.
    pub(crate) fn prove(&mut self, tree: &Tree, root: NodeId, proof: &str) -> Result<BTreeSet<&'static str>, Stop> {
        let Some(question) = &self.question else {
            return Err(Stop { outcome: Outcome::Infra, at: 0, reason: "the statement was lost" });
        };
        let n = question.binders.len();
        self.unifier.forget(n);
        self.unifier.terms.restart(question.n_terms);
        let scope: Vec<Local<'_>> = question
            .binders
            .iter()
            .zip(0..)
            .map(|((name, ty), variable)| {
                let term = self.unifier.terms.intern(Expr::Free(variable));
                Local { name, term, ty: *ty }
            })
            .collect();
        let mut elaborator = elaborator(&mut self.unifier, tree, proof, scope, question.library);
        let term = elaborator.proof(root, question.goal)?;
        let (goal, context) = (question.goal, question.binders.iter().map(|(_, ty)| *ty).collect());
        let mut core = self.core(context);
        if !core.has_type(term, goal) {
            return Err(Stop::unparsed(0, "the core does not accept what was elaborated"));
        }
        Ok(core.axioms)
    }

    /// The core, knowing nothing yet.
    fn core(&mut self, context: Vec<Id>) -> Core<'_> {
        self.known.clear();
        if self.known.capacity() > 1 << 15 {
            self.known.shrink_to(1 << 12);
        }
        let Unifier { terms, constants, .. } = &mut self.unifier;
        Core { terms, constants, context, known: &mut self.known, axioms: BTreeSet::new() }
    }
}

fn elaborator<'a, 't>(
    unifier: &'a mut Unifier,
    tree: &'a Tree,
    text: &'t str,
    scope: Vec<Local<'t>>,
    library: Library,
) -> Elaborator<'a, 't> {
    Elaborator { unifier, tree, text, scope, library, polymorphic: false, unsure: false }
}

#[cfg(test)]
mod tests;
