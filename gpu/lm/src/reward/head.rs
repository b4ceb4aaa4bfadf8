//! What a head is: its kind, its parameters and where they lie.
//!
//! Invariant: the array holds exactly the tensors its kind and the trunk's width imply, f32, row-major, `[out, in]`. Not
//! here: files (`files`), and what devices make of the numbers (`cpu`, `net`).

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::lm::digest_tensors;
use crate::weights::{Init, Slot, fill_normal};

/// First random stream of a head, beyond those of any trunk: equal seeds give a head of its own.
const FIRST_STREAM: u64 = 1 << 32;

/// How the hidden state f after the final norm, `[d]`, becomes the outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadKind {
    /// W f + b.
    Linear {
        /// A name for each output; at least one.
        outputs: Vec<String>,
    },
    /// W₂ relu(W₁ f + b₁) + b₂.
    Mlp {
        /// Rows of W₁, ≥ 1; GRM takes 1024.
        hidden: usize,
        /// A name for each output; at least one.
        outputs: Vec<String>,
    },
    /// The logits of two tokens of the trunk's language head, and of no others. It has no parameters of its own; its one
    /// output, `plus`, is the probability of the first against the second, and what losses see is their difference.
    TwoToken {
        /// The token that says yes.
        plus: u32,
        /// The token that says no.
        minus: u32,
    },
}

impl HeadKind {
    /// A linear head with one output, `reward`.
    #[must_use]
    pub fn reward() -> Self {
        Self::Linear { outputs: vec!["reward".to_owned()] }
    }

    /// A linear head with one output, `value`.
    #[must_use]
    pub fn value() -> Self {
        Self::Linear { outputs: vec!["value".to_owned()] }
    }

    /// Names of the outputs.
    #[must_use]
    pub fn outputs(&self) -> Vec<&str> {
        match self {
            Self::Linear { outputs } | Self::Mlp { outputs, .. } => outputs.iter().map(String::as_str).collect(),
            Self::TwoToken { .. } => vec!["plus"],
        }
    }

    fn n_outputs(&self) -> usize {
        match self {
            Self::Linear { outputs } | Self::Mlp { outputs, .. } => outputs.len(),
            Self::TwoToken { .. } => 1,
        }
    }

    fn check(&self, config: &Config) -> Result<()> {
        let wrong = |what, expected: String, got: String| Err(Error::Range { what, expected, got });
        let names = self.outputs();
        let doubled = names.iter().enumerate().any(|(at, name)| name.is_empty() || names[..at].contains(name));
        if names.is_empty() || doubled {
            return wrong("outputs", "at least one name, none empty or twice".to_owned(), format!("{names:?}"));
        }
        match self {
            Self::Mlp { hidden: 0, .. } => wrong("hidden", "at least 1".to_owned(), "0".to_owned()),
            Self::TwoToken { plus, minus } => {
                let vocab_size = config.vocab_size;
                if plus == minus || [plus, minus].iter().any(|id| **id as usize >= vocab_size) {
                    let expected = format!("two different ids below {vocab_size}");
                    return wrong("plus and minus", expected, format!("{plus} and {minus}"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What is written of the kind.
    pub(super) fn to_json(&self) -> Map<String, Value> {
        let value = match self {
            Self::Linear { outputs } => json!({"kind": "linear", "outputs": outputs}),
            Self::Mlp { hidden, outputs } => json!({"kind": "mlp", "hidden": hidden, "outputs": outputs}),
            Self::TwoToken { plus, minus } => json!({"kind": "two_token", "plus": plus, "minus": minus}),
        };
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// One linear map: `[outputs, inputs]` and a bias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerAt {
    pub(crate) shape: [usize; 2],
    pub(crate) weight: Range<usize>,
    pub(crate) bias: Range<usize>,
}

/// A head with its parameters. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) kind: HeadKind,
    pub(crate) slots: Arc<Vec<Slot>>,
    pub(crate) data: Arc<Vec<f32>>,
}

impl Head {
    /// A head with random weights: matrices N(0, 1 / (inputs + 1)) (Stiennon et al. 2020), biases zero.
    pub(crate) fn init(kind: HeadKind, config: &Config, seed: u64) -> Result<Self> {
        kind.check(config)?;
        let slots = slots(&kind, config.hidden_size);
        let mut data = vec![0.0; slots.last().map_or(0, |slot| slot.at.end)];
        for (stream, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.init == Init::Normal) {
            let std = 1.0 / libm::sqrt((slot.shape[1] + 1) as f64);
            fill_normal(&mut data[slot.at.clone()], std, seed, FIRST_STREAM + stream as u64);
        }
        Ok(Self { kind, slots: Arc::new(slots), data: Arc::new(data) })
    }

    /// A head of zeros, to be filled.
    pub(crate) fn empty(kind: HeadKind, config: &Config) -> Result<Self> {
        kind.check(config)?;
        let slots = slots(&kind, config.hidden_size);
        let data = vec![0.0; slots.last().map_or(0, |slot| slot.at.end)];
        Ok(Self { kind, slots: Arc::new(slots), data: Arc::new(data) })
    }

    /// The same head with other parameters of the same layout.
    pub(crate) fn with_data(&self, data: Vec<f32>) -> Self {
        debug_assert_eq!(self.data.len(), data.len());
        Self { data: Arc::new(data), ..self.clone() }
    }

    pub(crate) fn n_outputs(&self) -> usize {
        self.kind.n_outputs()
    }

    /// Its linear maps, first to last; none for two tokens.
    pub(crate) fn layers(&self) -> Vec<LayerAt> {
        let (pairs, _) = self.slots.as_chunks::<2>();
        let layer = |[weight, bias]: &[Slot; 2]| LayerAt {
            shape: [weight.shape[0], weight.shape[1]],
            weight: weight.at.clone(),
            bias: bias.at.clone(),
        };
        pairs.iter().map(layer).collect()
    }

    /// The two tokens, plus first.
    pub(crate) fn tokens(&self) -> Option<[u32; 2]> {
        match self.kind {
            HeadKind::TwoToken { plus, minus } => Some([plus, minus]),
            _ => None,
        }
    }

    /// What is reported of an output that losses see.
    pub(crate) fn score(&self, output: f32) -> f64 {
        let output = f64::from(output);
        if self.tokens().is_some() { 1.0 / (1.0 + libm::exp(-output)) } else { output }
    }

    /// BLAKE3 over the kind as JSON and, for each tensor by name, its name, a zero byte and the BLAKE3 of its bytes.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut whole = blake3::Hasher::new();
        whole.update(Value::Object(self.kind.to_json()).to_string().as_bytes());
        digest_tensors(&mut whole, self.slots.iter(), &self.data);
        whole.finalize().into()
    }
}

/// The tensors of a kind on a trunk of width `d`: weight and bias of each linear map.
fn slots(kind: &HeadKind, d: usize) -> Vec<Slot> {
    let maps: Vec<(&str, usize, usize)> = match kind {
        HeadKind::Linear { outputs } => vec![("score", outputs.len(), d)],
        HeadKind::Mlp { hidden, outputs } => vec![("dense", *hidden, d), ("score", outputs.len(), *hidden)],
        HeadKind::TwoToken { .. } => Vec::new(),
    };
    let mut slots: Vec<Slot> = Vec::new();
    for (name, outputs, inputs) in maps {
        let mut push = |name: String, shape: Vec<usize>, init| {
            let start = slots.last().map_or(0, |slot| slot.at.end);
            let at = start..start + shape.iter().product::<usize>();
            slots.push(Slot { name, shape, at, init });
        };
        push(format!("{name}.weight"), vec![outputs, inputs], Init::Normal);
        push(format!("{name}.bias"), vec![outputs], Init::Zero);
    }
    slots
}
