//! What a model says it knows: how it is asked, where its answer ends, whether that is right, and how sure it is of it.
//!
//! Invariants: one [`Template`] makes every text that is identified, trained on and measured, so that a blank is where it was; one
//! [`Answered`] says what of an output is the answer, whoever wrote it and whatever for.
//! Source: Zhang et al. 2024 (arXiv 2311.09677).

mod answer;
mod likelihood;
mod matcher;
mod refusal;
mod template;

pub use answer::{Answered, geometric_mean, token_texts};
pub use likelihood::{Given, Likelihood, letters, sureness};
pub use matcher::Matcher;
pub use refusal::Refusals;
pub use template::Template;
