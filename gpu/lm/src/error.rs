//! What can go wrong with a model, its files, what it is asked for, or its device.

use std::path::PathBuf;

/// A failure of this crate, named by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint is of an architecture this crate does not build: use another checkpoint.
    #[error("architecture: expected `LlamaForCausalLM` or `Qwen2ForCausalLM`, got `{got}`")]
    Architecture {
        /// The first name under `architectures`, or the model type.
        got: String,
    },
    /// A key of the configuration is missing, malformed, or asks for what is not built.
    #[error("config key `{key}`: expected {expected}, got `{got}`")]
    Config {
        /// The key in `config.json`.
        key: String,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A file of the checkpoint is absent.
    #[error("checkpoint: expected a file `{name}`, found none")]
    NoFile {
        /// Its name inside the folder.
        name: String,
    },
    /// A file cannot be parsed as what its name says.
    #[error("file `{name}` is malformed: {detail}")]
    Malformed {
        /// Its name inside the folder.
        name: String,
        /// The parser's words.
        detail: String,
    },
    /// The checkpoint's tensors are not those its configuration implies.
    #[error("tensors do not match the config: missing {}, unexpected {}", list(.missing), list(.unexpected))]
    Tensors {
        /// Names that should be there and are not.
        missing: Vec<String>,
        /// Names that are there and should not be.
        unexpected: Vec<String>,
    },
    /// A tensor has another shape or type than its configuration implies.
    #[error("tensor `{name}`: expected {expected}, got {got}")]
    Tensor {
        /// Its name in the file.
        name: String,
        /// Shape or types it may have.
        expected: String,
        /// What it has.
        got: String,
    },
    /// The folder holds a low-rank adapter that was not merged, so its weights are not those of the model.
    #[error(
        "`{name}`: expected merged weights, got an adapter beside or in place of them; merge it into its base first \
         (peft: `model.merge_and_unload().save_pretrained(FOLDER)`), in a folder without the adapter's files"
    )]
    Adapter {
        /// The file that says so.
        name: String,
    },
    /// The tokenizer has ids the model has no row for.
    #[error("tokenizer does not fit the model: expected ids below {vocab_size}, got `{token}` with id {id}")]
    Vocabulary {
        /// Rows of the model's embedding.
        vocab_size: usize,
        /// The token with the largest id.
        token: String,
        /// Its id.
        id: u32,
    },
    /// Text could not be turned into ids, or back.
    #[error("tokenizer: {detail}")]
    Tokenizer {
        /// The tokenizer's words.
        detail: String,
    },
    /// A sequence leaves no room in the model's context.
    #[error("{what} {idx}: expected at most {limit} tokens, got {got}")]
    TooLong {
        /// The list it stands in, such as `prompt`.
        what: &'static str,
        /// Its position there.
        idx: usize,
        /// The most tokens it may have.
        limit: usize,
        /// The tokens it has.
        got: usize,
    },
    /// A sequence is empty, or has nothing to predict.
    #[error("{what} {idx}: expected {expected}, got none")]
    Empty {
        /// The list it stands in, such as `prompt`.
        what: &'static str,
        /// Its position there.
        idx: usize,
        /// What it must have.
        expected: &'static str,
    },
    /// A token id the model has no row for.
    #[error("{what} {idx}: expected ids below {vocab_size}, got {id}")]
    Token {
        /// The list it stands in, such as `prompt`.
        what: &'static str,
        /// Its position there.
        idx: usize,
        /// Rows of the model's embedding.
        vocab_size: usize,
        /// The id.
        id: u32,
    },
    /// A setting outside the range it is defined on.
    #[error("`{what}`: expected {expected}, got `{got}`")]
    Range {
        /// The setting.
        what: &'static str,
        /// Its range.
        expected: String,
        /// Its value.
        got: String,
    },
    /// Training diverged: lower the learning rate, or look at the data.
    #[error("step {step}: expected a finite {what}, got `{got}`")]
    NonFinite {
        /// The step, from 1.
        step: usize,
        /// What is not finite.
        what: &'static str,
        /// Its value.
        got: f64,
    },
    /// The model's own outputs are not finite: its weights are damaged.
    #[error("the model's logits are not finite after token {position} of {what} {idx}")]
    Logits {
        /// The list the sequence stands in, such as `prompt`.
        what: &'static str,
        /// Its position there.
        idx: usize,
        /// Tokens read before.
        position: usize,
    },
    /// What a head reads out is not finite: its weights or the model's are damaged.
    #[error("the head's output is not finite at position {position} of {what} {idx}")]
    Output {
        /// The list the sequence stands in, such as `continuation`.
        what: &'static str,
        /// Its position there.
        idx: usize,
        /// The position in the sequence, from 0.
        position: usize,
    },
    /// The head lies beside another model than the one it was trained with: bring the two that belong together.
    #[error("head: expected a trunk whose weights have the digest `{expected}`, found `{got}`")]
    Trunk {
        /// Digest of the weights the head was trained with.
        expected: String,
        /// Digest of the weights that are there.
        got: String,
    },
    /// An entry of a list, at a position of its sequence, is outside what is defined.
    #[error("{what} {idx}, position {position}: expected {expected}, got `{got}`")]
    At {
        /// The list, such as `tagged example`.
        what: &'static str,
        /// Its position there.
        idx: usize,
        /// The position in the sequence, or of the output, from 0.
        position: usize,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// The device failed while working.
    #[error("device `{device}` failed: {detail}")]
    Device {
        /// The device's id.
        device: String,
        /// The driver layer's own words.
        detail: String,
    },
    /// A folder to be written exists already.
    #[error("`{}`: expected no such folder, or an empty one", .path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was attempted: `read` or `write`.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A file-system failure on `path`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// Names in backticks, the first few of many.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 4;
    if names.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}
