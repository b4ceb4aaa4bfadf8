//! Metavariables get their values here: by pattern, by choice, and only what they may mention.

use super::{Clash, Meta, Unifier, unfold};
use crate::kernel::first_order::terms::{Expr, Id};

/// A variable that there is not.
const NEVER_OPEN: u32 = u32::MAX;

impl Unifier {
    /// Solves `lhs`, whose head is the metavariable `index`, against `rhs`.
    pub(super) fn solve(&mut self, index: u32, lhs: Id, rhs: Id, depth: u32) -> Result<(), Clash> {
        let args = self.terms.args(lhs);
        if args.is_empty() {
            return self.assign(index, rhs, depth);
        }
        let birth = self.metas[index as usize].birth;
        let mut pattern = Vec::with_capacity(args.len());
        for arg in &args {
            let arg = self.resolve(*arg);
            match self.terms.get(arg) {
                // a variable that the solution could mention anyway makes no pattern
                Expr::Free(variable) if variable >= birth && !pattern.contains(&variable) => pattern.push(variable),
                _ => return self.approximate(lhs, rhs, depth),
            }
        }
        let mark = self.trail.len();
        let mut value = self.resolve(rhs);
        self.entangle(value, birth);
        for variable in pattern.iter().rev() {
            let ty = self.variables[*variable as usize].ty;
            let ty = self.resolve(ty);
            let body = self.terms.abstraction(value, *variable);
            value = match self.terms.get(body) {
                // η: `fun x => f x` is f
                Expr::App(f, x) if self.terms.get(x) == Expr::Bound(0) && !self.terms.is_loose(f) => f,
                _ => self.terms.intern(Expr::Lam(ty, body)),
            };
        }
        self.assign(index, value, depth).or_else(|_| {
            self.undo(mark);
            self.approximate(lhs, rhs, depth)
        })
    }

    /// Marks the unknowns in `value` that may mention variables which are about to be abstracted: Lean gives them those
    /// variables as arguments, and what is inferred of them from then on is not followed here.
    fn entangle(&mut self, value: Id, birth: u32) {
        if !self.terms.has_meta(value) || !self.terms.step() {
            return;
        }
        match self.terms.get(value) {
            Expr::Meta(index) => {
                let before = self.metas[index as usize];
                if before.birth > birth {
                    self.trail.push((index, before));
                    self.metas[index as usize].individual = Some(NEVER_OPEN);
                }
            }
            Expr::App(a, b) | Expr::Lam(a, b) | Expr::Pi(a, b) => {
                self.entangle(a, birth);
                self.entangle(b, birth);
            }
            _ => {}
        }
    }

    /// `?f a` against `g b`: a with b, then ?f with g; definitions of the right side are unfolded until that fits.
    fn approximate(&mut self, lhs: Id, rhs: Id, depth: u32) -> Result<(), Clash> {
        let (Expr::App(f, a), mut rhs) = (self.terms.get(lhs), rhs) else { return Err(Clash::Stuck) };
        let mark = self.trail.len();
        while self.terms.step() {
            rhs = self.whnf_core(rhs);
            if let Expr::App(g, b) = self.terms.get(rhs) {
                if self.unify_at(a, b, depth).is_ok() && self.unify_at(f, g, depth).is_ok() {
                    self.chose = true;
                    return Ok(());
                }
                self.undo(mark);
            }
            match unfold(&mut self.terms, rhs) {
                Some(next) => rhs = next,
                None => break,
            }
        }
        Err(Clash::Stuck)
    }

    /// Assigns a metavariable, if its value may be that and has its type.
    pub(super) fn assign(&mut self, index: u32, value: Id, depth: u32) -> Result<(), Clash> {
        let meta = self.metas[index as usize];
        if self.outlived(meta.individual) {
            // in Lean its value may depend on a variable that is gone here
            return Err(Clash::Stuck);
        }
        let value = self.resolve(value);
        self.fits(index, value)?;
        let ty = self.type_of(value).ok_or(Clash::Stuck)?;
        self.trail.push((index, self.metas[index as usize]));
        self.metas[index as usize].value = Some(value);
        self.unify_at(ty, meta.ty, depth)
    }

    /// Whether `value` mentions only what the metavariable may mention.
    fn fits(&mut self, index: u32, value: Id) -> Result<(), Clash> {
        if !self.terms.step() {
            return Err(Clash::Stuck);
        }
        if self.terms.n_free(value) == 0 && !self.terms.has_meta(value) {
            return Ok(());
        }
        let meta = self.metas[index as usize];
        match self.terms.get(value) {
            Expr::Free(variable) if !self.is_open(variable) => Err(Clash::Stuck),
            Expr::Free(variable) if variable >= meta.birth => Err(Clash::Different),
            Expr::Meta(other) if other == index => Err(Clash::Different),
            Expr::Meta(other) => {
                let before = self.metas[other as usize];
                if before.birth > meta.birth {
                    self.trail.push((other, before));
                    let individual = if self.outlived(before.individual) { before.individual } else { meta.individual };
                    self.metas[other as usize] = Meta { birth: meta.birth, individual, ..before };
                }
                Ok(())
            }
            Expr::App(a, b) | Expr::Lam(a, b) | Expr::Pi(a, b) => {
                self.fits(index, a)?;
                self.fits(index, b)
            }
            _ => Ok(()),
        }
    }
}
