//! Truth tables of postfix programs, 32 assignments a word.
//!
//! Assignment `a` gives atom `i` the value of bit `i` of `a`, and is bit `a % 32` of word `a / 32`. So the first five
//! atoms are fixed patterns within a word and the others are constant in it. With fewer than five atoms the one word's
//! upper bits are zero, so equal tables are equal words.

use rayon::prelude::*;

use super::vector::wide;
use crate::error::{Error, Result};
use crate::gpu::{CHUNK_BYTES, Gpu, Pass, Source};

const SOURCE: Source = Source { name: "truth_table", wgsl: include_str!("truth_table.wgsl"), entry: "main" };

/// The most atoms a table ranges over: 1,024 assignments.
pub const MAX_ATOMS: usize = 10;
/// The deepest stack a program may need.
pub const MAX_DEPTH: usize = 64;
/// The longest program: a graphics driver may cut off loops of 65,535 iterations.
pub const MAX_OPS: usize = 1 << 15;

const MAX_WORDS: usize = (1 << MAX_ATOMS) / 32;
/// Atoms that vary within a word.
const PATTERNS: [u32; 5] = [0xaaaa_aaaa, 0xcccc_cccc, 0xf0f0_f0f0, 0xff00_ff00, 0xffff_0000];
/// Operations × words below which one thread does it all.
const PARALLEL: usize = 1 << 14;
/// Operations × words of one dispatch: milliseconds even on software Vulkan.
const MAX_WORK: usize = 1 << 24;

/// One step of a postfix program. Binary operations take the two topmost values, the right one on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Pushes an atom's value.
    Atom(u8),
    /// Pushes true.
    True,
    /// Pushes false.
    False,
    /// Negates the topmost value.
    Not,
    /// Conjunction.
    And,
    /// Disjunction.
    Or,
    /// Implication, from the lower value to the topmost.
    Implies,
    /// Equivalence.
    Iff,
}

impl Op {
    fn n_operands(self) -> usize {
        match self {
            Self::Atom(_) | Self::True | Self::False => 0,
            Self::Not => 1,
            Self::And | Self::Or | Self::Implies | Self::Iff => 2,
        }
    }

    /// The shader's code of this operation.
    fn code(self) -> u32 {
        match self {
            Self::Atom(atom) => u32::from(atom) << 8,
            Self::True => 1,
            Self::False => 2,
            Self::Not => 3,
            Self::And => 4,
            Self::Or => 5,
            Self::Implies => 6,
            Self::Iff => 7,
        }
    }
}

/// A statement in postfix form that is known to evaluate: the stack never runs dry, never exceeds [`MAX_DEPTH`], and ends
/// with one value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Program {
    ops: Vec<Op>,
    n_atoms: usize,
}

impl Program {
    /// Checks `ops`.
    ///
    /// # Errors
    /// `Program` naming the rule and the operation that breaks it.
    pub fn new(ops: Vec<Op>) -> Result<Self> {
        let broken = |expected: String, got: String| Err(Error::Program { expected, got });
        if ops.len() > MAX_OPS {
            return broken(format!("at most {MAX_OPS} operations"), ops.len().to_string());
        }
        let (mut depth, mut n_atoms) = (0_usize, 0_usize);
        for (i, &op) in ops.iter().enumerate() {
            if let Op::Atom(atom) = op {
                let atom = usize::from(atom);
                if atom >= MAX_ATOMS {
                    return broken(format!("atoms below {MAX_ATOMS}"), format!("`{op:?}` at {i}"));
                }
                n_atoms = n_atoms.max(atom + 1);
            }
            if depth < op.n_operands() {
                return broken(format!("{} values under `{op:?}` at {i}", op.n_operands()), depth.to_string());
            }
            depth = depth - op.n_operands() + 1;
            if depth > MAX_DEPTH {
                return broken(format!("a stack of at most {MAX_DEPTH}"), format!("{depth} at {i}"));
            }
        }
        if depth != 1 {
            return broken("one value at the end".to_owned(), depth.to_string());
        }
        Ok(Self { ops, n_atoms })
    }

    /// The operations.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// One more than the greatest atom used; zero without atoms.
    #[must_use]
    pub fn n_atoms(&self) -> usize {
        self.n_atoms
    }
}

/// The truth tables of a batch of programs, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    n_atoms: usize,
    n_programs: usize,
    words: Vec<u32>,
}

impl Tables {
    /// How many tables there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n_programs
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_programs == 0
    }

    /// The table of program `i`: bit `a % 32` of word `a / 32` is its value under assignment `a`, in which atom `j` is
    /// bit `j` of `a`. Unused upper bits are zero. None past the end.
    #[must_use]
    pub fn words(&self, i: usize) -> Option<&[u32]> {
        self.words.chunks_exact(n_words(self.n_atoms)).nth(i)
    }

    /// Whether program `i` is true under every assignment; false past the end.
    #[must_use]
    pub fn is_tautology(&self, i: usize) -> bool {
        let full = used_bits(self.n_atoms);
        self.words(i).is_some_and(|words| words.iter().all(|&word| word == full))
    }

    /// Whether program `i` is true under some assignment; false past the end.
    #[must_use]
    pub fn is_satisfiable(&self, i: usize) -> bool {
        self.words(i).is_some_and(|words| words.iter().any(|&word| word != 0))
    }

    /// Whether programs `i` and `j` agree under every assignment: classical equivalence; false past the end.
    #[must_use]
    pub fn equivalent(&self, i: usize, j: usize) -> bool {
        self.words(i).is_some() && self.words(i) == self.words(j)
    }

    /// The least assignment under which program `i` is false; none for a tautology and past the end.
    #[must_use]
    pub fn counterexample(&self, i: usize) -> Option<u32> {
        let full = used_bits(self.n_atoms);
        (0..).zip(self.words(i)?).find_map(|(idx, &word)| {
            let missing = !word & full;
            (missing != 0).then(|| 32 * idx + missing.trailing_zeros())
        })
    }
}

fn n_words(n_atoms: usize) -> usize {
    ((1 << n_atoms) / 32).max(1)
}

/// The bits of a word that stand for assignments.
fn used_bits(n_atoms: usize) -> u32 {
    if n_atoms >= 5 { u32::MAX } else { (1 << (1 << n_atoms)) - 1 }
}

pub(crate) fn check(programs: &[Program], n_atoms: usize) -> Result<()> {
    if n_atoms > MAX_ATOMS {
        return Err(Error::Range {
            what: "n_atoms".to_owned(),
            expected: format!("at most {MAX_ATOMS}"),
            got: n_atoms.to_string(),
        });
    }
    match programs.iter().position(|program| program.n_atoms > n_atoms) {
        None => Ok(()),
        Some(i) => Err(Error::Range {
            what: format!("atoms of programs[{i}]"),
            expected: format!("at most {n_atoms}"),
            got: programs[i].n_atoms.to_string(),
        }),
    }
}

/// Evaluates one program for `W` words at once.
#[inline(always)]
fn evaluate<const W: usize>(ops: &[Op], stack: &mut [[u32; W]; MAX_DEPTH], out: &mut [u32]) {
    let mut top = 0;
    for &op in ops {
        let fresh = match op {
            Op::Atom(atom) => atom_words(usize::from(atom)),
            Op::True => [u32::MAX; W],
            Op::False => [0; W],
            Op::Not => {
                let operand = &mut stack[top - 1];
                *operand = operand.map(|a| !a);
                continue;
            }
            Op::And => {
                combine(stack, &mut top, |a, b| a & b);
                continue;
            }
            Op::Or => {
                combine(stack, &mut top, |a, b| a | b);
                continue;
            }
            Op::Implies => {
                combine(stack, &mut top, |a, b| !a | b);
                continue;
            }
            Op::Iff => {
                combine(stack, &mut top, |a, b| !(a ^ b));
                continue;
            }
        };
        stack[top] = fresh;
        top += 1;
    }
    out.copy_from_slice(&stack[0]);
}

#[inline(always)]
fn combine<const W: usize>(stack: &mut [[u32; W]; MAX_DEPTH], top: &mut usize, f: impl Fn(u32, u32) -> u32) {
    *top -= 1;
    let right = stack[*top];
    for (left, right) in stack[*top - 1].iter_mut().zip(right) {
        *left = f(*left, right);
    }
}

#[inline(always)]
fn atom_words<const W: usize>(atom: usize) -> [u32; W] {
    if let Some(&pattern) = PATTERNS.get(atom) {
        return [pattern; W];
    }
    let mut words = [0; W];
    for (idx, word) in words.iter_mut().enumerate() {
        *word = if idx >> (atom - PATTERNS.len()) & 1 == 1 { u32::MAX } else { 0 };
    }
    words
}

/// Some programs and their tables of `W` words each.
struct Evaluate<'a, const W: usize> {
    programs: &'a [Program],
    words: &'a mut [u32],
}

impl<const W: usize> pulp::NullaryFnOnce for Evaluate<'_, W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let mut stack = [[0; W]; MAX_DEPTH];
        for (program, words) in self.programs.iter().zip(self.words.chunks_exact_mut(W)) {
            evaluate(&program.ops, &mut stack, words);
        }
    }
}

fn evaluate_all<const W: usize>(programs: &[Program]) -> Vec<u32> {
    let mut words = vec![0; programs.len() * W];
    let n_steps: usize = programs.iter().map(|program| program.ops.len() * W).sum();
    if n_steps < PARALLEL {
        wide(Evaluate::<W> { programs, words: &mut words });
    } else {
        let chunk = (PARALLEL * programs.len() / n_steps).max(1);
        words
            .par_chunks_mut(chunk * W)
            .zip(programs.par_chunks(chunk))
            .for_each(|(words, programs)| wide(Evaluate::<W> { programs, words }));
    }
    words
}

pub(crate) fn on_cpu(programs: &[Program], n_atoms: usize) -> Tables {
    let words = match n_words(n_atoms) {
        1 => evaluate_all::<1>(programs),
        2 => evaluate_all::<2>(programs),
        4 => evaluate_all::<4>(programs),
        8 => evaluate_all::<8>(programs),
        16 => evaluate_all::<16>(programs),
        _ => evaluate_all::<MAX_WORDS>(programs),
    };
    masked(programs.len(), n_atoms, words)
}

fn masked(n_programs: usize, n_atoms: usize, mut words: Vec<u32>) -> Tables {
    let used = used_bits(n_atoms);
    if used != u32::MAX {
        for word in &mut words {
            *word &= used;
        }
    }
    Tables { n_atoms, n_programs, words }
}

/// A run of programs for one dispatch: their operations, and where each starts, with the end last.
struct Batch {
    code: Vec<u32>,
    starts: Vec<u32>,
}

/// Splits `programs` so that neither the code, the tables nor the work of a dispatch grows too large.
fn batches(programs: &[Program], n_words: usize) -> impl Iterator<Item = Batch> {
    let mut rest = programs;
    std::iter::from_fn(move || {
        let mut n_ops = 0;
        let n = rest
            .iter()
            .enumerate()
            .take_while(|(i, program)| {
                n_ops += program.ops.len();
                // the first one is taken whatever it costs
                *i == 0
                    || n_ops * 4 <= CHUNK_BYTES && (i + 1) * n_words * 4 <= CHUNK_BYTES && n_ops * n_words <= MAX_WORK
            })
            .count();
        if n == 0 {
            return None;
        }
        let (now, later) = rest.split_at(n);
        rest = later;
        let mut batch = Batch { code: Vec::new(), starts: vec![0] };
        for program in now {
            batch.code.extend(program.ops.iter().map(|op| op.code()));
            batch.starts.push(batch.code.len() as u32);
        }
        Some(batch)
    })
}

pub(crate) fn on_gpu(gpu: &Gpu, programs: &[Program], n_atoms: usize) -> Result<Tables> {
    let n_words = n_words(n_atoms);
    let mut words = Vec::with_capacity(programs.len() * n_words);
    let passes = batches(programs, n_words).map(|batch| {
        let n_tables = batch.starts.len() - 1;
        Pass {
            params: [(n_tables * n_words) as u32, n_words.trailing_zeros(), 0, 0, 0, 0, 0, 0],
            output_bytes: n_tables * n_words * 4,
            n_groups: (n_tables * n_words).div_ceil(64) as u32,
            inputs: [batch.code, batch.starts].map(|words| bytemuck::cast_slice(&words).to_vec().into()).into(),
        }
    });
    gpu.run(&SOURCE, passes, |_, bytes| {
        words.extend_from_slice(bytemuck::cast_slice(bytes));
        Ok(())
    })?;
    Ok(masked(programs.len(), n_atoms, words))
}
