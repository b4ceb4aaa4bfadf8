//! What is spelt in notation means what it means in constructor form: the kernel answers both alike.
//!
//! Lean is put the constructor form alone (`agreement.rs`): without its library it has no notation.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod first_order;

use first_order::Style;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tracker_proof::{Candidate, Outcome, kernel::Kernel};

#[test]
fn notation_and_constructor_form_get_the_same_answers() {
    let mut kernel = Kernel::with_axioms(&["propext", "Quot.sound", "Classical.choice"]);
    let mut n_proved = 0;
    for seed in 0..3_000_u64 {
        let mut answer = |style| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (statement, proof) = first_order::problem(&mut rng, style, 1 + seed as u32 % 4);
            let candidate = Candidate { header: String::new(), statement, proof };
            (kernel.check_one(&candidate), candidate)
        };
        let (constructor, notation) = (answer(Style::Constructor), answer(Style::Notation));
        assert_eq!(constructor.0.outcome, notation.0.outcome, "{constructor:?}\n{notation:?}");
        n_proved += usize::from(constructor.0.outcome == Outcome::Proved);
    }
    assert!(n_proved > 2_000, "{n_proved}");
}
