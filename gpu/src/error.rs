//! What can go wrong on a device or with the arrays given to it.

/// A failure of this crate, named by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device name that does not parse: correct the spelling.
    #[error("device: expected `auto`, `cpu`, `wgpu` or `wgpu:N`, got `{got}`")]
    Choice {
        /// What was given.
        got: String,
    },
    /// The adapter asked for is not on this machine: pick one that is, or the CPU.
    #[error("adapter `{wanted}`: expected one of this machine's, which are {found}")]
    NotFound {
        /// What was asked for: `wgpu` or `wgpu:N`.
        wanted: String,
        /// The adapters present, or the word that there are none.
        found: String,
    },
    /// The adapter is present but its arithmetic fails the start-up self-test: use another device.
    #[error("device `{device}` is refused: {reason}")]
    Refused {
        /// The device's id.
        device: String,
        /// What differed from the CPU.
        reason: String,
    },
    /// The device failed while working: validation, out of memory, a lost device, a panic of the driver layer.
    #[error("device `{device}` failed in `{operation}`: {detail}")]
    Device {
        /// The device's id.
        device: String,
        /// The kernel or step that was running.
        operation: String,
        /// The driver layer's own words.
        detail: String,
    },
    /// One indivisible piece of work exceeds what the device takes in one dispatch: use the CPU.
    #[error("`{what}`: expected at most {limit_bytes} bytes at once on device `{device}`, got {got_bytes}")]
    TooLarge {
        /// The device's id.
        device: String,
        /// The piece, such as a row.
        what: &'static str,
        /// What one dispatch takes at most.
        limit_bytes: u64,
        /// What the piece takes.
        got_bytes: u64,
    },
    /// Array lengths that do not belong together.
    #[error("`{what}`: expected {expected} elements, got {got}")]
    Shape {
        /// The array.
        what: &'static str,
        /// Its length by the other arguments.
        expected: usize,
        /// Its length.
        got: usize,
    },
    /// A value outside the range a kernel is defined on.
    #[error("`{what}`: expected {expected}, got `{got}`")]
    Range {
        /// The argument, with its position where it has one.
        what: String,
        /// The range.
        expected: String,
        /// The value.
        got: String,
    },
    /// A row on which the kernel's result is undefined.
    #[error("`{what}` row {row}: expected {expected}")]
    Undefined {
        /// The array.
        what: &'static str,
        /// The first offending row.
        row: usize,
        /// What a row must hold.
        expected: &'static str,
    },
    /// A postfix program that does not evaluate to one value.
    #[error("program: expected {expected}, got {got}")]
    Program {
        /// The rule.
        expected: String,
        /// What broke it, with the position of the operation where there is one.
        got: String,
    },
}

/// The result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Checks that array `what` has the length its companions imply.
pub(crate) fn same_len(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::Shape { what, expected, got }) }
}

/// Checks that `what` is a row-major `[n_rows, n_cols]` matrix with at least one column.
pub(crate) fn matrix(what: &'static str, n_rows: usize, n_cols: usize, len: usize) -> Result<()> {
    if n_cols == 0 && n_rows > 0 {
        return Err(Error::Range {
            what: format!("columns of {what}"),
            expected: "at least 1".to_owned(),
            got: "0".to_owned(),
        });
    }
    // A product past `usize::MAX` cannot be the length of a slice either.
    same_len(what, n_rows.saturating_mul(n_cols), len)
}
