//! The language model: Llama-architecture decoders that are sampled, scored, trained, and read by reward heads.
//!
//! A [`Lm`] is a configuration, a [`Tokenizer`], weights and a device. [`sample()`] continues prompts, [`log_probs`] scores
//! continuations, [`sft`], [`kd`], [`dpo`], [`least`] and [`grpo`] return trained models, [`Parents`] interpolate. Checkpoints are Hugging Face folders, read and
//! written. Training moves all weights, or those of a low-rank adapter ([`Lora`]).
//! A [`Clip`] embeds images and texts to compare them.
//! A [`RewardModel`] adds a head: [`scores`] and [`tag_scores`] read it, [`fit`] and [`ppo`] train it.
//!
//! # Invariants
//! - On the CPU every result is a function of its arguments alone: not of the number of threads, not of what else is in
//!   the call, not of the machine's vector width.
//! - A tensor is read from a file or drawn from the seed, never left as it happened to be.
//! - A head is loaded beside the trunk it was trained with, or not at all.
//! - No more logits exist at once than of a block of the vocabulary, but where a token is drawn or logits are asked for.
//! - Bad input is an [`Error`] that names the list, the position and the limit; a device's panic is an [`Error`] too.
//!
//! # Not here
//! Chat templates, stores, runs, what scores are used for: callers bring token ids and keep what they get.
#![allow(
    clippy::inline_always,
    reason = "what is not inlined into a vectorised function is compiled without its vectors"
)]

mod checkpoint;
mod clip;
mod config;
mod cpu;
mod error;
mod lm;
mod mix;
mod net;
mod reward;
mod sample;
mod score;
mod tokenizer;
mod train;
mod weights;

pub use clip::{Clip, ClipConfig};
pub use config::{Architecture, Config, RopeScaling};
pub use error::{Error, Result};
pub use lm::Lm;
pub use mix::{Parents, Ratios, Slopes, slopes};
pub use reward::{HeadKind, RewardModel, Tagged, scores, tag_scores};
pub use sample::{Completion, Finish, Prompt, Sampling, sample};
pub use score::{Continuation, log_probs, logits};
pub use tokenizer::{BOS, EOS, PAD, Tokenizer, UNK};
pub use train::{
    Anchor, Batch, Dpo, Example, FitObjective, Grpo, Kd, Length, Lora, OnStep, Pair, PairLoss, Ppo, Projection,
    RatedPair, RatedText, Regulariser, Rollout, ScoredRollout, Step, TaggedExample, Training, Trunk, advantages, dpo,
    fit, gae, grpo, kd, least, ppo, sft, whiten,
};
