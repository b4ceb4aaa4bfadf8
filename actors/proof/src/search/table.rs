//! The smallest normal proof: iterative deepening over sequents, with a memory of what each costs.
//!
//! A proof of a goal is an introduction, or a way down from a hypothesis by eliminations ([`Path`]) that ends in the
//! goal, in a disjunction to split on, or in False. What each way needs (its premises) is again a goal under a context,
//! and since a context is a set, the smallest size depends on that pair alone.

use std::rc::Rc;

use super::{
    Found, Limits, Proof,
    decide::{ContextId, Sequents},
};
use crate::{
    Formula,
    kernel::{
        core::{FoldMap, Prop, PropId},
        intern,
    },
};

/// One elimination on the way down from a hypothesis.
#[derive(Clone, Copy, Debug)]
enum Move {
    Left,
    Right,
    Mp,
    Mpr,
    /// Application to a proof of this.
    To(PropId),
}

/// A way down from a hypothesis to one of its parts.
#[derive(Clone, Debug)]
struct Path {
    moves: Rc<[Move]>,
    end: PropId,
}

/// A last step of a proof.
#[derive(Clone, Debug)]
enum Step {
    Trivial,
    Fun,
    Both,
    Inl,
    Inr,
    Equiv,
    /// Down from a hypothesis to the goal itself.
    Use(PropId, Path),
    /// Down to a disjunction, then both cases.
    Split(PropId, Path),
    /// Down to False.
    Explode(PropId, Path),
}

type Sequent = (ContextId, PropId);

/// What is known of the smallest proof of a sequent.
#[derive(Clone, Debug)]
enum Known {
    /// This size, by this step.
    Size(u32, Rc<Step>),
    /// More than this.
    Above(u32),
}

/// All that one search knows.
pub(super) struct Table {
    sequents: Sequents,
    known: FoldMap<Sequent, Known>,
    paths: FoldMap<PropId, Rc<[Path]>>,
    limits: Limits,
    steps_left: u32,
}

/// The allowance is spent.
struct Spent;

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            sequents: Sequents::new(limits.max_decisions),
            known: FoldMap::default(),
            paths: FoldMap::default(),
            limits,
            steps_left: limits.max_steps,
        }
    }

    pub(super) fn intern(&mut self, formula: &Formula) -> PropId {
        intern(&mut self.sequents.props, formula)
    }

    pub(super) fn prove(mut self, hypotheses: &[PropId], goal: PropId) -> Found {
        let context = hypotheses.iter().fold(0, |context, prop| self.sequents.extend(context, *prop));
        match self.sequents.is_provable(context, goal) {
            None => return Found::GaveUp,
            Some(false) => return Found::Unprovable,
            Some(true) => {}
        }
        let sequent = (context, goal);
        if !self.deepen(sequent) {
            self.steps_left = self.limits.max_steps;
            if !matches!(self.first(sequent, &mut Vec::new()), Ok(true)) {
                return Found::GaveUp;
            }
        }
        let mut levels = hypotheses.to_vec();
        self.build(sequent, &mut levels).map_or(Found::GaveUp, Found::Proof)
    }

    /// Looks for the smallest proof, allowing one more node each time. False where the limits were reached.
    fn deepen(&mut self, sequent: Sequent) -> bool {
        for size in 1..=self.limits.max_size {
            match self.smallest(sequent, size) {
                Ok(Some(_)) => return true,
                Ok(None) => {}
                Err(Spent) => return false,
            }
        }
        false
    }

    /// The size of the smallest proof, if it is at most `limit`.
    fn smallest(&mut self, sequent: Sequent, limit: u32) -> Result<Option<u32>, Spent> {
        match self.known.get(&sequent) {
            Some(Known::Size(size, _)) => return Ok((*size <= limit).then_some(*size)),
            Some(Known::Above(bound)) if *bound >= limit => return Ok(None),
            _ => {}
        }
        self.steps_left = self.steps_left.checked_sub(1).ok_or(Spent)?;
        if !self.sequents.is_provable(sequent.0, sequent.1).ok_or(Spent)? {
            self.known.insert(sequent, Known::Above(u32::MAX));
            return Ok(None);
        }
        let mut best: Option<(u32, Step)> = None;
        let mut limit_now = limit;
        for step in self.steps(sequent) {
            if let Some(size) = self.size_of(&step, sequent, limit_now)? {
                best = Some((size, step));
                limit_now = size - 1;
            }
        }
        let size = best.as_ref().map(|(size, _)| *size);
        let known = best.map_or(Known::Above(limit), |(size, step)| Known::Size(size, Rc::new(step)));
        self.known.insert(sequent, known);
        Ok(size)
    }

    /// The size of the smallest proof that ends in `step`, if it is at most `limit`.
    fn size_of(&mut self, step: &Step, sequent: Sequent, limit: u32) -> Result<Option<u32>, Spent> {
        let premises = self.premises(step, sequent);
        let mut size = own_size(step);
        for (done, premise) in premises.iter().enumerate() {
            // every premise still to come takes one node at least
            let rest = (premises.len() - done - 1) as u32;
            let Some(allowed) = limit.checked_sub(size + rest).filter(|allowed| *allowed > 0) else {
                return Ok(None);
            };
            match self.smallest(*premise, allowed)? {
                Some(more) => size += more,
                None => return Ok(None),
            }
        }
        Ok((size <= limit).then_some(size))
    }

    /// Finds some proof, the steps in order, never asking within a sequent for that sequent again.
    fn first(&mut self, sequent: Sequent, open: &mut Vec<Sequent>) -> Result<bool, Spent> {
        if let Some(Known::Size(..)) = self.known.get(&sequent) {
            return Ok(true);
        }
        if open.contains(&sequent) || !self.sequents.is_provable(sequent.0, sequent.1).ok_or(Spent)? {
            return Ok(false);
        }
        self.steps_left = self.steps_left.checked_sub(1).ok_or(Spent)?;
        open.push(sequent);
        let mut found = None;
        'steps: for step in self.steps(sequent) {
            let mut size = own_size(&step);
            for premise in self.premises(&step, sequent) {
                if !self.first(premise, open)? {
                    continue 'steps;
                }
                if let Some(Known::Size(more, _)) = self.known.get(&premise) {
                    size = size.saturating_add(*more);
                }
            }
            found = Some((size, step));
            break;
        }
        open.pop();
        let proved = found.is_some();
        if let Some((size, step)) = found {
            self.known.insert(sequent, Known::Size(size, Rc::new(step)));
        }
        Ok(proved)
    }

    /// The last steps that a proof of `sequent` may have.
    fn steps(&mut self, (context, goal): Sequent) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut later = Vec::new();
        for at in 0..self.sequents.context(context).len() {
            let hypothesis = self.sequents.context(context)[at];
            for path in self.paths(hypothesis).iter() {
                if path.end == goal {
                    steps.push(Step::Use(hypothesis, path.clone()));
                }
                match self.sequents.props.get(path.end) {
                    Prop::False => later.push(Step::Explode(hypothesis, path.clone())),
                    Prop::Or(a, b) if self.is_worth_splitting(context, goal, a, b) => {
                        later.push(Step::Split(hypothesis, path.clone()));
                    }
                    _ => {}
                }
            }
        }
        match self.sequents.props.get(goal) {
            Prop::True => steps.push(Step::Trivial),
            Prop::And(..) => steps.push(Step::Both),
            Prop::Or(..) => steps.extend([Step::Inl, Step::Inr]),
            Prop::Iff(..) => steps.push(Step::Equiv),
            Prop::Imp(..) => steps.push(Step::Fun),
            Prop::False | Prop::Atom(_) | Prop::Meta(_) => {}
        }
        steps.append(&mut later);
        steps
    }

    /// Splitting before `fun` never makes a proof shorter, and a case that adds nothing is no case.
    fn is_worth_splitting(&self, context: ContextId, goal: PropId, a: PropId, b: PropId) -> bool {
        let here = self.sequents.context(context);
        !matches!(self.sequents.props.get(goal), Prop::Imp(..) | Prop::True)
            && here.binary_search(&a).is_err()
            && here.binary_search(&b).is_err()
    }

    /// All ways down from a hypothesis, the shortest first.
    fn paths(&mut self, hypothesis: PropId) -> Rc<[Path]> {
        if let Some(paths) = self.paths.get(&hypothesis) {
            return paths.clone();
        }
        let mut found: Vec<(Vec<Move>, PropId)> = vec![(Vec::new(), hypothesis)];
        let mut at = 0;
        while let Some((moves, end)) = found.get(at).cloned() {
            at += 1;
            let mut go = |step: Move, end: PropId| {
                let mut moves = moves.clone();
                moves.push(step);
                found.push((moves, end));
            };
            match self.sequents.props.get(end) {
                Prop::And(a, b) => {
                    go(Move::Left, a);
                    go(Move::Right, b);
                }
                Prop::Iff(a, b) => {
                    let (forth, back) = (self.sequents.props.intern(Prop::Imp(a, b)), Prop::Imp(b, a));
                    go(Move::Mp, forth);
                    go(Move::Mpr, self.sequents.props.intern(back));
                }
                Prop::Imp(a, b) => go(Move::To(a), b),
                Prop::False | Prop::True | Prop::Atom(_) | Prop::Meta(_) | Prop::Or(..) => {}
            }
        }
        let paths: Rc<[Path]> = found.into_iter().map(|(moves, end)| Path { moves: moves.into(), end }).collect();
        self.paths.insert(hypothesis, paths.clone());
        paths
    }

    /// What a step needs, in the order of its parts.
    fn premises(&mut self, step: &Step, (context, goal): Sequent) -> Vec<Sequent> {
        let props = &self.sequents.props;
        match (step, props.get(goal)) {
            (Step::Fun, Prop::Imp(a, b)) => vec![(self.sequents.extend(context, a), b)],
            (Step::Both, Prop::And(a, b)) => vec![(context, a), (context, b)],
            (Step::Inl, Prop::Or(a, _)) => vec![(context, a)],
            (Step::Inr, Prop::Or(_, b)) => vec![(context, b)],
            (Step::Equiv, Prop::Iff(a, b)) => {
                let forth = self.sequents.props.intern(Prop::Imp(a, b));
                vec![(context, forth), (context, self.sequents.props.intern(Prop::Imp(b, a)))]
            }
            (Step::Use(_, path) | Step::Explode(_, path), _) => arguments(path, context),
            (Step::Split(_, path), _) => {
                let mut premises = arguments(path, context);
                if let Prop::Or(a, b) = props.get(path.end) {
                    let (left, right) = (self.sequents.extend(context, a), self.sequents.extend(context, b));
                    premises.extend([(left, goal), (right, goal)]);
                }
                premises
            }
            _ => Vec::new(),
        }
    }

    /// Writes out the proof that the table knows. `levels` are the types of the variables in scope, outermost first.
    fn build(&mut self, sequent: Sequent, levels: &mut Vec<PropId>) -> Option<Proof> {
        let Some(Known::Size(_, step)) = self.known.get(&sequent).cloned() else { return None };
        let premises = self.premises(&step, sequent);
        let variable = |levels: &[PropId], hypothesis: PropId| {
            levels.iter().position(|ty| *ty == hypothesis).map(|level| Proof::Var(level as u32))
        };
        Some(match &*step {
            Step::Trivial => Proof::Trivial,
            Step::Fun => {
                let Prop::Imp(a, _) = self.sequents.props.get(sequent.1) else { return None };
                self.build_under(premises[0], a, levels)?
            }
            Step::Both => Proof::Both(self.boxed(premises[0], levels)?, self.boxed(premises[1], levels)?),
            Step::Inl => Proof::Inl(self.boxed(premises[0], levels)?),
            Step::Inr => Proof::Inr(self.boxed(premises[0], levels)?),
            Step::Equiv => Proof::Equiv(self.boxed(premises[0], levels)?, self.boxed(premises[1], levels)?),
            Step::Use(hypothesis, path) => {
                let head = variable(levels, *hypothesis)?;
                self.descend(head, path, &premises, levels)?
            }
            Step::Explode(hypothesis, path) => {
                let head = variable(levels, *hypothesis)?;
                Proof::Explode(Box::new(self.descend(head, path, &premises, levels)?))
            }
            Step::Split(hypothesis, path) => {
                let head = variable(levels, *hypothesis)?;
                let scrutinee = self.descend(head, path, &premises, levels)?;
                let Prop::Or(a, b) = self.sequents.props.get(path.end) else { return None };
                let [.., left, right] = premises[..] else { return None };
                let left = self.build_under(left, a, levels)?;
                let right = self.build_under(right, b, levels)?;
                Proof::Cases(Box::new(scrutinee), Box::new(left), Box::new(right))
            }
        })
    }

    fn boxed(&mut self, sequent: Sequent, levels: &mut Vec<PropId>) -> Option<Box<Proof>> {
        self.build(sequent, levels).map(Box::new)
    }

    fn build_under(&mut self, sequent: Sequent, ty: PropId, levels: &mut Vec<PropId>) -> Option<Proof> {
        levels.push(ty);
        let body = self.boxed(sequent, levels);
        levels.pop();
        body.map(Proof::Fun)
    }

    /// Applies the moves of `path` to `head`, taking its arguments from the first of `premises`.
    fn descend(&mut self, head: Proof, path: &Path, premises: &[Sequent], levels: &mut Vec<PropId>) -> Option<Proof> {
        let mut premises = premises.iter();
        let mut proof = head;
        for step in path.moves.iter() {
            let inner = Box::new(proof);
            proof = match step {
                Move::Left => Proof::Left(inner),
                Move::Right => Proof::Right(inner),
                Move::Mp => Proof::Mp(inner),
                Move::Mpr => Proof::Mpr(inner),
                Move::To(_) => Proof::App(inner, self.boxed(*premises.next()?, levels)?),
            };
        }
        Some(proof)
    }
}

fn arguments(path: &Path, context: ContextId) -> Vec<Sequent> {
    let argument = |step: &Move| if let Move::To(a) = step { Some((context, *a)) } else { None };
    path.moves.iter().filter_map(argument).collect()
}

/// Nodes of a step without its premises: see [`Proof::size`].
fn own_size(step: &Step) -> u32 {
    match step {
        Step::Trivial | Step::Fun | Step::Both | Step::Inl | Step::Inr | Step::Equiv => 1,
        Step::Use(_, path) => 1 + path.moves.len() as u32,
        Step::Explode(_, path) => 2 + path.moves.len() as u32,
        // the split, its two functions, and the way down
        Step::Split(_, path) => 4 + path.moves.len() as u32,
    }
}
