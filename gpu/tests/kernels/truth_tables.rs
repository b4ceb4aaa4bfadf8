//! Truth tables against one assignment at a time.

use super::*;

/// A random program over `n_atoms`, of about `size` operations.
fn random_program(rng: &mut impl Rng, n_atoms: usize, size: usize) -> Program {
    fn grow(rng: &mut impl Rng, n_atoms: usize, size: usize, ops: &mut Vec<Op>) {
        if size <= 1 {
            let leaf = rng.random_range(0..n_atoms + 2);
            ops.push(match leaf.checked_sub(n_atoms) {
                None => Op::Atom(leaf as u8),
                Some(0) => Op::True,
                Some(_) => Op::False,
            });
        } else if rng.random_range(0..5) == 0 {
            grow(rng, n_atoms, size - 1, ops);
            ops.push(Op::Not);
        } else {
            let left = rng.random_range(1..size);
            grow(rng, n_atoms, left, ops);
            grow(rng, n_atoms, size - left, ops);
            ops.push([Op::And, Op::Or, Op::Implies, Op::Iff][rng.random_range(0..4)]);
        }
    }
    loop {
        let mut ops = Vec::new();
        grow(rng, n_atoms, size, &mut ops);
        // a random shape may lean too far to the right for the stack
        if let Ok(program) = Program::new(ops) {
            return program;
        }
    }
}

/// The value under one assignment, by a stack of bools.
fn naive(program: &Program, assignment: u32) -> bool {
    let mut stack: Vec<bool> = Vec::new();
    for op in program.ops() {
        let value = match op {
            Op::Atom(atom) => assignment >> atom & 1 == 1,
            Op::True => true,
            Op::False => false,
            Op::Not => !stack.pop().unwrap(),
            binary => {
                let (right, left) = (stack.pop().unwrap(), stack.pop().unwrap());
                match binary {
                    Op::And => left && right,
                    Op::Or => left || right,
                    Op::Implies => !left || right,
                    _ => left == right,
                }
            }
        };
        stack.push(value);
    }
    assert_eq!(stack.len(), 1);
    stack[0]
}

fn check(programs: &[Program], n_atoms: usize) {
    on_every_device(|kernels, device| {
        let tables = kernels.truth_tables(programs, n_atoms).unwrap();
        assert_eq!(tables.len(), programs.len());
        for (i, program) in programs.iter().enumerate() {
            let words = tables.words(i).unwrap();
            assert_eq!(words.len(), ((1 << n_atoms) / 32).max(1));
            let values: Vec<bool> = (0..1 << n_atoms).map(|a| naive(program, a)).collect();
            for (a, &want) in values.iter().enumerate() {
                let got = words[a / 32] >> (a % 32) & 1 == 1;
                assert_eq!(got, want, "{program:?} under {a:b} on {device}");
            }
            assert_eq!(tables.is_tautology(i), values.iter().all(|&v| v), "{program:?} on {device}");
            assert_eq!(tables.is_satisfiable(i), values.iter().any(|&v| v), "{program:?} on {device}");
            let refuted = values.iter().position(|&v| !v).map(|a| a as u32);
            assert_eq!(tables.counterexample(i), refuted, "{program:?} on {device}");
            if n_atoms < 5 {
                assert_eq!(words[0] >> (1 << n_atoms), 0, "unused bits on {device}");
            }
        }
        assert_eq!(tables.words(programs.len()), None);
    });
}

#[test]
fn random_programs_agree_with_one_assignment_at_a_time() {
    let mut rng = rng(12);
    for n_atoms in 0..=MAX_ATOMS {
        let programs: Vec<Program> = (0..60).map(|i| random_program(&mut rng, n_atoms, 1 + i)).collect();
        check(&programs, n_atoms);
    }
}

#[test]
fn a_table_may_range_over_more_atoms_than_a_program_uses() {
    let mut rng = rng(13);
    let programs: Vec<Program> = (0..10).map(|_| random_program(&mut rng, 2, 9)).collect();
    check(&programs, 7);
}

#[test]
fn a_batch_of_many_dispatches_agrees_on_every_device() {
    let mut rng = rng(14);
    let programs: Vec<Program> = (0..40_000).map(|_| random_program(&mut rng, MAX_ATOMS, 24)).collect();
    let want = Device::cpu().kernels().truth_tables(&programs, MAX_ATOMS).unwrap();
    on_every_device(|kernels, device| {
        assert!(kernels.truth_tables(&programs, MAX_ATOMS).unwrap() == want, "{device}");
    });
}

#[test]
fn classical_laws_are_tautologies_and_equivalences() {
    use Op::{And, Atom, Iff, Implies, Not, Or};
    let (p, q, r) = (Atom(0), Atom(1), Atom(9));
    let program = |ops: &[Op]| Program::new(ops.to_vec()).unwrap();
    let programs = [
        program(&[p, p, Not, Or]),
        program(&[p, q, Implies, p, Implies, p, Implies]),
        program(&[p, q, And, Not]),
        program(&[p, Not, q, Not, Or]),
        program(&[p, q, Implies]),
        program(&[q, p, Implies]),
        program(&[p, q, r, And, Iff]),
        program(&[p, p, Not, And]),
    ];
    on_every_device(|kernels, device| {
        let tables = kernels.truth_tables(&programs, MAX_ATOMS).unwrap();
        let tautologies: Vec<usize> = (0..programs.len()).filter(|&i| tables.is_tautology(i)).collect();
        assert_eq!(tautologies, [0, 1], "{device}");
        assert!(tables.equivalent(2, 3), "De Morgan on {device}");
        assert!(tables.equivalent(0, 1), "two tautologies on {device}");
        assert!(!tables.equivalent(4, 5), "implication is not symmetric on {device}");
        assert!(!tables.is_satisfiable(7), "contradiction on {device}");
        assert_eq!(tables.counterexample(4), Some(0b01), "p and not q on {device}");
        assert!(!tables.equivalent(0, programs.len()) && !tables.is_tautology(programs.len()));
    });
}

#[test]
fn the_deepest_stack_is_evaluated_and_a_deeper_one_refused() {
    let deep = |depth: usize| {
        let mut ops = vec![Op::Atom(0); depth];
        ops.resize(2 * depth - 1, Op::Implies);
        Program::new(ops)
    };
    check(&[deep(MAX_DEPTH).unwrap()], 1);
    assert_eq!(deep(MAX_DEPTH + 1).unwrap_err().to_string(), "program: expected a stack of at most 64, got 65 at 64");
}

#[test]
fn the_longest_program_is_evaluated_and_a_longer_one_refused() {
    let negations = |n: usize| {
        let mut ops = vec![Op::Not; n];
        ops[0] = Op::Atom(2);
        Program::new(ops)
    };
    check(&[negations(MAX_OPS - 1).unwrap(), negations(MAX_OPS).unwrap()], 3);
    assert_eq!(
        negations(MAX_OPS + 1).unwrap_err().to_string(),
        "program: expected at most 32768 operations, got 32769"
    );
}

#[test]
fn programs_that_do_not_evaluate_are_refused() {
    let text = |ops: &[Op]| Program::new(ops.to_vec()).unwrap_err().to_string();
    assert_eq!(text(&[]), "program: expected one value at the end, got 0");
    assert_eq!(text(&[Op::True, Op::True]), "program: expected one value at the end, got 2");
    assert_eq!(text(&[Op::Not]), "program: expected 1 values under `Not` at 0, got 0");
    assert_eq!(text(&[Op::True, Op::Or]), "program: expected 2 values under `Or` at 1, got 1");
    assert_eq!(text(&[Op::Atom(10)]), "program: expected atoms below 10, got `Atom(10)` at 0");
}

#[test]
fn tables_over_too_many_or_too_few_atoms_are_refused() {
    let program = Program::new(vec![Op::Atom(3)]).unwrap();
    on_every_device(|kernels, _| {
        let text = |n_atoms| kernels.truth_tables(std::slice::from_ref(&program), n_atoms).unwrap_err().to_string();
        assert_eq!(text(11), "`n_atoms`: expected at most 10, got `11`");
        assert_eq!(text(3), "`atoms of programs[0]`: expected at most 3, got `4`");
        assert!(kernels.truth_tables(&[], 10).unwrap().is_empty());
    });
}
