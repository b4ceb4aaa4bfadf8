//! Each kernel on each device of this machine beside a plain loop: `cargo bench -p tracker-gpu [-- FILTER]`.
//!
//! Figures are the median of seven runs after one to warm up. "plain" is the obvious one-threaded loop over std's
//! functions, and for the kernels bound by memory also what `copy_from_slice` moves.
#![allow(clippy::print_stdout, reason = "a bench reports on stdout")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tracker_gpu::{Choice, Device, MAX_ATOMS, Op, Piece, Program, devices, normals};

const N_RUNS: usize = 7;

/// CPU seconds of this process so far; zero where there is no procfs.
fn cpu_secs() -> f64 {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return 0.0;
    };
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: f64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Runs `work` and prints one row: what, on what, elements a second, wall time of the median, CPU time a run.
fn measure(kernel: &str, device: &str, n_elements: usize, mut work: impl FnMut()) {
    work();
    let cpu_start = cpu_secs();
    let mut walls: Vec<f64> = (0..N_RUNS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    let cpu = (cpu_secs() - cpu_start) / N_RUNS as f64;
    walls.sort_by(f64::total_cmp);
    let wall = walls[N_RUNS / 2];
    println!(
        "{kernel:<30} {device:<38} {:>9}/s {:>9.2} ms wall {:>9.2} ms cpu",
        scaled(n_elements as f64 / wall),
        wall * 1e3,
        cpu * 1e3
    );
}

fn scaled(rate: f64) -> String {
    match rate {
        1e9.. => format!("{:.2} G", rate / 1e9),
        1e6.. => format!("{:.1} M", rate / 1e6),
        1e3.. => format!("{:.1} k", rate / 1e3),
        _ => format!("{rate:.1}"),
    }
}

/// A device's name for a column.
fn label(device: &Device) -> String {
    device.adapter().map_or_else(|| "cpu".to_owned(), |adapter| format!("wgpu:{} {}", adapter.idx, adapter.name))
}

fn uniform(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn log_softmax_gather(opened: &[Device], rng: &mut ChaCha8Rng) {
    for (n_rows, n_cols) in [(512, 32_000), (65_536, 128)] {
        let kernel = format!("log_softmax_gather {n_rows}×{n_cols}");
        let (logits, labels) = (uniform(rng, n_rows * n_cols), vec![7_u32; n_rows]);
        measure(&kernel, "plain", logits.len(), || {
            let row = |row: &[f32]| {
                let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                row[7] - max - row.iter().map(|x| (x - max).exp()).sum::<f32>().ln()
            };
            black_box(logits.chunks(n_cols).map(row).collect::<Vec<f32>>());
        });
        for device in opened {
            measure(&kernel, &label(device), logits.len(), || {
                black_box(device.kernels().log_softmax_gather(&logits, n_cols, &labels).unwrap());
            });
        }
    }
}

fn log_mean_exp(opened: &[Device], rng: &mut ChaCha8Rng) {
    let (n_rows, n_cols, eta) = (1 << 20, 16, 2.0);
    let kernel = format!("log_mean_exp {n_rows}×{n_cols}");
    let x = uniform(rng, n_rows * n_cols);
    measure(&kernel, "plain", x.len(), || {
        let row = |row: &[f32]| {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mean = row.iter().map(|x| (eta * (x - max)).exp()).sum::<f32>() / n_cols as f32;
            max + mean.ln() / eta
        };
        black_box(x.chunks(n_cols).map(row).collect::<Vec<f32>>());
    });
    for device in opened {
        measure(&kernel, &label(device), x.len(), || {
            black_box(device.kernels().log_mean_exp(&x, n_cols, eta).unwrap());
        });
    }
}

/// Two arrays held, eight mixtures made of them; numbers of the output are counted.
fn mix(opened: &[Device], rng: &mut ChaCha8Rng) {
    let n = 1 << 22;
    let arrays = vec![Arc::new(uniform(rng, n)), Arc::new(uniform(rng, n))];
    let weights: Vec<Vec<f32>> = (0..8).map(|k| vec![1.0 - k as f32 / 7.0, k as f32 / 7.0]).collect();
    let pieces = [Piece { at: 0..n, weights: weights.clone() }];
    measure("mix", "plain", weights.len() * n, || {
        let mixture = |weights: &Vec<f32>| -> Vec<f32> {
            arrays[0].iter().zip(&*arrays[1]).map(|(a, b)| weights[0] * a + weights[1] * b).collect()
        };
        black_box(weights.iter().map(mixture).collect::<Vec<_>>());
    });
    for device in opened {
        let held = device.kernels().hold(arrays.clone()).unwrap();
        measure("mix", &label(device), weights.len() * n, || {
            black_box(held.mix(&pieces).unwrap());
        });
    }
}

/// Groups of candidates in many directions, scores counted: a wide sweep, and what a study of directions asks in a round.
fn direction_argmax(opened: &[Device], rng: &mut ChaCha8Rng) {
    for (n_groups, size, n_dims, n_directions) in [(4096, 256, 10, 100), (60_000, 16, 2, 10), (1000, 16, 2, 1)] {
        let kernel = format!("argmax {n_groups}×{size}×{n_dims}·{n_directions}");
        let rewards = uniform(rng, n_groups * size * n_dims);
        let directions = uniform(rng, n_directions * n_dims);
        let ends: Vec<u32> = (1..=n_groups as u32).map(|group| group * size as u32).collect();
        let n_scores = n_groups * size * n_directions;
        measure(&kernel, "plain", n_scores, || {
            for group in rewards.chunks(size * n_dims) {
                for direction in directions.chunks(n_dims) {
                    let score = |row: &[f32]| row.iter().zip(direction).map(|(r, v)| r * v).sum::<f32>();
                    let better = |best: (usize, f32), (at, row)| {
                        let score = score(row);
                        if score > best.1 { (at, score) } else { best }
                    };
                    black_box(group.chunks(n_dims).enumerate().fold((0, f32::NEG_INFINITY), better));
                }
            }
        });
        for device in opened {
            measure(&kernel, &label(device), n_scores, || {
                black_box(device.kernels().direction_argmax(&rewards, n_dims, &ends, &directions).unwrap());
            });
        }
    }
}

/// Hidden states of step tags, elements counted.
fn two_token(opened: &[Device], rng: &mut ChaCha8Rng) {
    for (n_rows, n_cols) in [(16_384, 128), (2048, 4096)] {
        let kernel = format!("two_token {n_rows}×{n_cols}");
        let hidden = uniform(rng, n_rows * n_cols);
        let [plus, minus] = [(); 2].map(|()| uniform(rng, n_cols));
        measure(&kernel, "plain", hidden.len(), || {
            let logit = |row: &[f32], head: &[f32]| row.iter().zip(head).map(|(h, w)| h * w).sum::<f32>();
            let p = |row: &[f32]| 1.0 / (1.0 + (logit(row, &minus) - logit(row, &plus)).exp());
            black_box(hidden.chunks(n_cols).map(p).collect::<Vec<f32>>());
        });
        for device in opened {
            measure(&kernel, &label(device), hidden.len(), || {
                black_box(device.kernels().two_token(&hidden, n_cols, [&plus, &minus]).unwrap());
            });
        }
    }
}

/// Rows times units that are made on the way, multiplications counted; the plain loop has its units made before.
fn random_features(opened: &[Device], rng: &mut ChaCha8Rng) {
    let (n_rows, n_cols, n_units) = (1000, 8000, 3200);
    let x = uniform(rng, n_rows * n_cols);
    let n = n_rows * n_cols * n_units;
    measure("random_features, plain (one unit in 100)", "plain", n / 100, || {
        for unit in 0..n_units as u32 / 100 {
            let weights = normals(1, unit, n_cols);
            let feature = |row: &[f32]| row.iter().zip(&weights).map(|(x, w)| x * w).sum::<f32>().max(0.0);
            black_box(x.chunks(n_cols).map(feature).collect::<Vec<f32>>());
        }
    });
    for device in opened.iter().filter(|device| device.adapter().is_none()) {
        measure("random_features 1000×8000·3200", &label(device), n, || {
            black_box(device.kernels().random_features(&x, n_cols, 1, n_units).unwrap());
        });
    }
    // Software Vulkan takes minutes for the whole.
    let (few, units) = (&x[..100 * n_cols], 320);
    for device in opened.iter().filter(|device| device.adapter().is_some()) {
        measure("random_features 100×8000·320", &label(device), 100 * n_cols * units, || {
            black_box(device.kernels().random_features(few, n_cols, 1, units).unwrap());
        });
    }
}

/// Inner products of all pairs of rows, multiplications of one half counted.
fn gram(opened: &[Device], rng: &mut ChaCha8Rng) {
    let (n_rows, n_cols) = (200, 9600);
    let x = uniform(rng, n_rows * n_cols);
    let n = n_rows * (n_rows + 1) / 2 * n_cols;
    measure("gram 200×9600", "plain", n, || {
        for (at, a) in x.chunks(n_cols).enumerate() {
            let product = |b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            black_box(x.chunks(n_cols).take(at + 1).map(product).collect::<Vec<f32>>());
        }
    });
    for device in opened {
        measure("gram 200×9600", &label(device), n, || {
            black_box(device.kernels().gram(&x, n_cols).unwrap());
        });
    }
}

/// A right-leaning statement of 12 leaves over all atoms.
fn statement(rng: &mut ChaCha8Rng) -> Program {
    let mut ops: Vec<Op> = (0..12).map(|_| Op::Atom(rng.random_range(0..MAX_ATOMS as u8))).collect();
    ops.extend((0..11).map(|_| [Op::And, Op::Or, Op::Implies, Op::Iff][rng.random_range(0..4)]));
    Program::new(ops).unwrap()
}

fn plain_table(program: &Program) -> Vec<bool> {
    let value = |assignment: u32| {
        let mut stack: Vec<bool> = Vec::new();
        for op in program.ops() {
            let mut pop = || stack.pop().unwrap();
            let value = match op {
                Op::Atom(atom) => assignment >> atom & 1 == 1,
                Op::True => true,
                Op::False => false,
                Op::Not => !pop(),
                Op::And => pop() & pop(),
                Op::Or => pop() | pop(),
                Op::Implies => pop() | !pop(),
                Op::Iff => pop() == pop(),
            };
            stack.push(value);
        }
        stack.pop().unwrap()
    };
    (0..1 << MAX_ATOMS).map(value).collect()
}

fn truth_tables(opened: &[Device], rng: &mut ChaCha8Rng) {
    let programs: Vec<Program> = (0..50_000).map(|_| statement(rng)).collect();
    let kernel = "truth_tables 23 ops, 10 atoms";
    measure(kernel, "plain (one program in 100)", programs.len() / 100, || {
        let plain: Vec<Vec<bool>> = programs.iter().step_by(100).map(plain_table).collect();
        black_box(plain);
    });
    for device in opened {
        measure(kernel, &label(device), programs.len(), || {
            black_box(device.kernels().truth_tables(&programs, MAX_ATOMS).unwrap());
        });
    }
}

fn start_up(opened: &[Device]) {
    for device in opened {
        let choice = device.adapter().map_or(Choice::Auto, |adapter| Choice::Wgpu(Some(adapter.idx)));
        let what = if choice == Choice::Auto { "open auto" } else { "open with self-test" };
        measure(what, &label(device), 1, || {
            black_box(Device::open(&choice).unwrap());
        });
    }
}

/// Prints the rows of one kernel for all devices.
type Bench = fn(&[Device], &mut ChaCha8Rng);

fn main() {
    // cargo passes `--bench`; anything else narrows what runs
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let mut opened = vec![Device::cpu()];
    opened.extend(devices().iter().map(|adapter| Device::open(&Choice::Wgpu(Some(adapter.idx))).unwrap()));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let benches: [(&str, Bench); 9] = [
        ("log_softmax_gather", log_softmax_gather),
        ("log_mean_exp", log_mean_exp),
        ("mix", mix),
        ("direction_argmax", direction_argmax),
        ("two_token", two_token),
        ("random_features", random_features),
        ("gram", gram),
        ("truth_tables", truth_tables),
        ("start_up", |opened, _| start_up(opened)),
    ];
    for (name, bench) in benches {
        if name.contains(&filter) {
            bench(&opened, &mut rng);
        }
    }
}
