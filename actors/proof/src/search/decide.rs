//! The decision procedure: Dyckhoff's contraction-free sequent calculus, with interned contexts and a memory.

use crate::kernel::core::{FoldMap, Prop, PropId, Props};

/// A set of propositions, interned; 0 is the empty one.
pub(super) type ContextId = u32;

/// Propositions, contexts, and which sequents are known to be provable.
#[derive(Debug)]
pub(super) struct Sequents {
    pub(super) props: Props,
    /// Each sorted and free of duplicates.
    contexts: Vec<Box<[PropId]>>,
    index: FoldMap<Box<[PropId]>, ContextId>,
    extended: FoldMap<(ContextId, PropId), ContextId>,
    known: FoldMap<(ContextId, PropId), bool>,
    /// Sequents that may still be visited.
    left: u32,
}

impl Sequents {
    pub(super) fn new(max_decisions: u32) -> Self {
        let empty: Box<[PropId]> = Box::default();
        let mut index = FoldMap::default();
        index.insert(empty.clone(), 0);
        Self {
            props: Props::default(),
            contexts: vec![empty],
            index,
            extended: FoldMap::default(),
            known: FoldMap::default(),
            left: max_decisions,
        }
    }

    pub(super) fn context(&self, id: ContextId) -> &[PropId] {
        &self.contexts[id as usize]
    }

    /// The context with one more proposition.
    pub(super) fn extend(&mut self, context: ContextId, prop: PropId) -> ContextId {
        if let Some(id) = self.extended.get(&(context, prop)) {
            return *id;
        }
        let mut items = self.contexts[context as usize].to_vec();
        if let Err(at) = items.binary_search(&prop) {
            items.insert(at, prop);
        }
        let id = self.set(items);
        self.extended.insert((context, prop), id);
        id
    }

    /// Interns a sorted set.
    fn set(&mut self, items: Vec<PropId>) -> ContextId {
        let items = items.into_boxed_slice();
        if let Some(id) = self.index.get(&items) {
            return *id;
        }
        let id = self.contexts.len() as ContextId;
        self.contexts.push(items.clone());
        self.index.insert(items, id);
        id
    }

    fn imp(&mut self, a: PropId, b: PropId) -> PropId {
        self.props.intern(Prop::Imp(a, b))
    }

    /// Whether `context` proves `goal`; `None` once the allowance is spent.
    pub(super) fn is_provable(&mut self, context: ContextId, goal: PropId) -> Option<bool> {
        if let Some(known) = self.known.get(&(context, goal)) {
            return Some(*known);
        }
        self.left = self.left.checked_sub(1)?;
        let answer = self.right(context, goal)?;
        self.known.insert((context, goal), answer);
        Some(answer)
    }

    /// Right rules that lose nothing, then the left ones.
    fn right(&mut self, context: ContextId, goal: PropId) -> Option<bool> {
        match self.props.get(goal) {
            Prop::True => Some(true),
            Prop::And(a, b) => Some(self.is_provable(context, a)? && self.is_provable(context, b)?),
            Prop::Imp(a, b) => {
                let context = self.extend(context, a);
                self.is_provable(context, b)
            }
            Prop::Iff(a, b) => {
                let (forth, back) = (self.imp(a, b), self.imp(b, a));
                Some(self.is_provable(context, forth)? && self.is_provable(context, back)?)
            }
            Prop::False | Prop::Atom(_) | Prop::Or(..) | Prop::Meta(_) => self.left(context, goal),
        }
    }

    /// Left rules that lose nothing, one at a time; then the choices.
    fn left(&mut self, context: ContextId, goal: PropId) -> Option<bool> {
        if self.context(context).binary_search(&goal).is_ok() {
            return Some(true);
        }
        for at in 0..self.context(context).len() {
            let prop = self.context(context)[at];
            match self.props.get(prop) {
                Prop::False => return Some(true),
                Prop::True => return self.replaced(context, prop, &[], goal),
                Prop::And(a, b) => return self.replaced(context, prop, &[a, b], goal),
                Prop::Iff(a, b) => {
                    let both = [self.imp(a, b), self.imp(b, a)];
                    return self.replaced(context, prop, &both, goal);
                }
                Prop::Or(a, b) => {
                    return Some(
                        self.replaced(context, prop, &[a], goal)? && self.replaced(context, prop, &[b], goal)?,
                    );
                }
                Prop::Imp(a, c) => {
                    if let Some(instead) = self.simpler(context, a, c) {
                        return self.replaced(context, prop, &instead, goal);
                    }
                }
                Prop::Atom(_) | Prop::Meta(_) => {}
            }
        }
        self.choices(context, goal)
    }

    /// What may stand for `a → c` without loss, if anything simpler may.
    fn simpler(&mut self, context: ContextId, a: PropId, c: PropId) -> Option<Vec<PropId>> {
        match self.props.get(a) {
            Prop::True => Some(vec![c]),
            Prop::False => Some(Vec::new()),
            Prop::And(x, y) => {
                let inner = self.imp(y, c);
                Some(vec![self.imp(x, inner)])
            }
            Prop::Or(x, y) => Some(vec![self.imp(x, c), self.imp(y, c)]),
            Prop::Iff(x, y) => {
                let (forth, back) = (self.imp(x, y), self.imp(y, x));
                let inner = self.imp(back, c);
                Some(vec![self.imp(forth, inner)])
            }
            Prop::Atom(_) => self.context(context).binary_search(&a).is_ok().then(|| vec![c]),
            Prop::Imp(..) | Prop::Meta(_) => None,
        }
    }

    /// The rules that may lose something: a side of a disjunction, or an implication from an implication.
    fn choices(&mut self, context: ContextId, goal: PropId) -> Option<bool> {
        if let Prop::Or(a, b) = self.props.get(goal)
            && (self.is_provable(context, a)? || self.is_provable(context, b)?)
        {
            return Some(true);
        }
        for at in 0..self.context(context).len() {
            let prop = self.context(context)[at];
            if let Prop::Imp(premise, c) = self.props.get(prop)
                && let Prop::Imp(_, b) = self.props.get(premise)
            {
                let weaker = self.imp(b, c);
                if self.replaced(context, prop, &[weaker], premise)? && self.replaced(context, prop, &[c], goal)? {
                    return Some(true);
                }
            }
        }
        Some(false)
    }

    /// Provability with `prop` replaced by `instead`.
    fn replaced(&mut self, context: ContextId, prop: PropId, instead: &[PropId], goal: PropId) -> Option<bool> {
        let mut items: Vec<PropId> = self.context(context).iter().copied().filter(|other| *other != prop).collect();
        items.extend_from_slice(instead);
        items.sort_unstable();
        items.dedup();
        let context = self.set(items);
        self.is_provable(context, goal)
    }
}
