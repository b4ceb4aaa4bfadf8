//! One suite for every device: the CPU and each adapter of this machine against naive f64, or against the definition bit
//! for bit where that is promised.
//!
//! Tolerances are those stated on `Kernels`. A machine without an adapter, and an adapter whose arithmetic is refused,
//! print `SKIP`.
#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test fails by panicking, and the exact cases are meant exactly"
)]

mod direction_argmax;
mod log_mean_exp;
mod log_softmax_gather;
mod mix;
mod random_features;
mod truth_tables;
mod two_token;

use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tracker_gpu::{Choice, Device, Error, Kernels, MAX_ATOMS, MAX_DEPTH, MAX_OPS, Op, Piece, Program, devices};

/// The CPU and every adapter, software ones included.
fn all_devices() -> &'static [Device] {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let mut opened = vec![Device::cpu()];
        let listed = devices();
        if listed.is_empty() {
            announce("SKIP wgpu: no adapter on this machine");
        }
        for adapter in listed {
            match Device::open(&Choice::Wgpu(Some(adapter.idx))) {
                // What software renders is known to be right: were it refused, the kernel would be wrong.
                Err(refused @ Error::Refused { .. }) if adapter.kind.is_hardware() => {
                    announce(&format!("SKIP wgpu:{}: {refused}", adapter.idx));
                }
                other => opened.push(other.unwrap()),
            }
        }
        opened
    })
}

#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
fn announce(text: &str) {
    eprintln!("{text}");
}

/// Runs `check` on every device; the device's id is in the panic message of whichever fails.
fn on_every_device(check: impl Fn(&dyn Kernels, &str)) {
    for device in all_devices() {
        check(device.kernels(), device.id());
    }
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn uniform(rng: &mut impl Rng, n: usize, low: f32, high: f32) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(low..high)).collect()
}

#[test]
fn one_device_serves_many_threads_at_once() {
    let mut rng = rng(15);
    let logits = uniform(&mut rng, 200 * 333, -9.0, 9.0);
    let labels: Vec<u32> = (0..200).map(|i| i % 333).collect();
    let arrays = vec![Arc::new(uniform(&mut rng, 10_001, -1.0, 1.0)), Arc::new(uniform(&mut rng, 10_001, -1.0, 1.0))];
    let pieces = [Piece { at: 0..10_001, weights: vec![vec![0.2, 0.8]; 3] }];
    on_every_device(|kernels, device| {
        let logs = kernels.log_softmax_gather(&logits, 333, &labels).unwrap();
        let held = kernels.hold(arrays.clone()).unwrap();
        let mixed = held.mix(&pieces).unwrap();
        std::thread::scope(|scope| {
            for worker in 0..6 {
                let (logits, labels, held, pieces, logs, mixed) = (&logits, &labels, &held, &pieces, &logs, &mixed);
                scope.spawn(move || {
                    for _ in 0..20 {
                        if worker % 2 == 0 {
                            let got = kernels.log_softmax_gather(logits, 333, labels).unwrap();
                            assert!(got == *logs, "{device}");
                        } else {
                            assert!(held.mix(pieces).unwrap() == *mixed, "{device}");
                        }
                    }
                });
            }
        });
    });
}
