//! What an answer is to be like, and how that is said.

use crate::parts::direction::Direction;

/// What an answer should be like.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// Nothing is said of it.
    None,
    /// As good as can be in this direction.
    Along(Direction),
    /// Of this helpfulness and verbosity.
    Reach([u32; 2]),
}

impl Wish {
    /// Its name in labels: the angle, the target.
    pub(super) fn name(&self) -> String {
        match self {
            Self::None => "any".into(),
            Self::Along(direction) => format!("{:.2}°", degrees(direction)),
            Self::Reach([help, words]) => format!("reach {help} {words}"),
        }
    }
}

/// The angle of a direction, in degrees.
pub(super) fn degrees(direction: &Direction) -> f64 {
    match direction.values() {
        [help, words] => libm::atan2(*words, *help).to_degrees(),
        _ => f64::NAN,
    }
}

/// What a large model is told; the second form is the one the paper's checkpoints were trained on.
pub(super) fn told(wish: &Wish) -> String {
    match wish {
        Wish::None => "You are a helpful, respectful and honest assistant.".to_owned(),
        Wish::Along(direction) => {
            let weights = direction.weights();
            let [help, words] = [weights.first(), weights.get(1)].map(|x| x.copied().unwrap_or_default());
            format!(
                "You are a helpful, respectful, and honest assistant who always responds to the user in a harmless way. \
                 Your response should maximize weighted rating = helpfulness*{help} + verbosity*{words}"
            )
        }
        Wish::Reach([help, words]) => {
            format!("Your response should have helpfulness {help} and verbosity {words}, out of 100.")
        }
    }
}
