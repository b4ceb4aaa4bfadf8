//! What can go wrong in a merge, by what the user can do about it.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of recipes, checkpoints and merges.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no recipe.
    #[error("{recipe}: {what}")]
    Recipe {
        /// Where it was read from.
        recipe: String,
        /// What is wrong, and where.
        what: String,
    },
    /// The recipe cannot be followed with these checkpoints; everything that stands in its way.
    #[error("the recipe cannot be followed: {}", .0.join("; "))]
    Unfit(Vec<String>),
    /// A file of a checkpoint is not what it should be.
    #[error("{}: {what}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was expected and found.
        what: String,
    },
    /// A tensor came out with numbers that are none.
    #[error(
        "tensor `{tensor}`: expected finite numbers, got {got} at element {element}; a parent holds it or the output's type cannot"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// What came out.
        got: f32,
        /// Where, counted row by row.
        element: u64,
    },
    /// A method has no answer for a tensor.
    #[error("tensor `{tensor}`: {what}")]
    Undefined {
        /// The tensor.
        tensor: String,
        /// Why not, and what to do.
        what: String,
    },
    /// The recipe says which weights must come out, and others did.
    #[error("expected weights with the digest {expected}, as the recipe says, got {got}")]
    Differs {
        /// As the recipe says.
        expected: String,
        /// What came out.
        got: String,
    },
    /// The output's name is taken.
    #[error("`{}` is there already", .0.display())]
    Exists(PathBuf),
    /// The disk is full.
    #[error("no space left for `{}`", .0.display())]
    Full(PathBuf),
    /// The operating system refused.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full(path),
            _ => Self::Io { action, path, source },
        }
    }

    pub(crate) fn damaged(file: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_path_buf(), what: what.into() }
    }

    /// Whether what the user gave is at fault.
    #[must_use]
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Full(_) | Self::Io { .. })
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Exists(_) => Some("name another folder, or remove it first"),
            Self::Full(_) => Some("make room and run the same command again: it goes on where it stopped"),
            Self::Differs { .. } => Some("the parents are not those the recipe was made with; nothing was kept"),
            Self::Unfit(_) => Some("`tracker merge --dry-run` shows all of it without reading weights"),
            _ => None,
        }
    }
}
