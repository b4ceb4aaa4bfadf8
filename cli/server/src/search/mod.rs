//! Searching as clients write it: filters of conditions joined by AND, orders, views, and pages that name the row they ended with.
//!
//! Runs are searched by the store's own query, which has indexes; what is few (experiments, registered models) or lies in order already
//! (logged models, traces) is held against the filter here.

mod filter;
mod grammar;
mod sorted;

pub(crate) use filter::{Fact, Filter};
pub(crate) use grammar::{Condition, Operand, Operator};
pub(crate) use sorted::{By, Sorted, order};

use crate::error::{Answer, Refusal};

/// Which of what can be deleted is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Active,
    Deleted,
    All,
}

impl View {
    pub(crate) fn shows(self, is_deleted: bool) -> bool {
        match self {
            Self::Active => !is_deleted,
            Self::Deleted => is_deleted,
            Self::All => true,
        }
    }
}

/// The view that a client names, or gives the number of.
pub(crate) fn view(text: Option<&str>) -> Answer<View> {
    match text {
        None | Some("ACTIVE_ONLY" | "1") => Ok(View::Active),
        Some("DELETED_ONLY" | "2") => Ok(View::Deleted),
        Some("ALL" | "3") => Ok(View::All),
        Some(other) => Err(Refusal::invalid(format!(
            "Invalid value \"{other}\" for parameter 'view_type' supplied: ACTIVE_ONLY, DELETED_ONLY or ALL is expected."
        ))),
    }
}
