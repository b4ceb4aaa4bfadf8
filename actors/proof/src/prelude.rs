//! The header for machines where Lean has no library: a `prelude` that defines the logical constants as Lean's own
//! `Init` does, so that statements in constructor form mean the same with and without it.

/// The text of the prelude, a whole Lean file.
pub const TEXT: &str = include_str!("prelude.lean");

/// The text of the prelude for first-order logic: that of [`TEXT`], the lemmas on equality and existence, and classical
/// logic from Lean's three axioms. Statements in constructor form mean the same with it and with Lean's library.
pub const FIRST_ORDER: &str = concat!(include_str!("prelude.lean"), include_str!("first_order.lean"));

/// Whether the connectives mean under `header` what they mean to the exact kernel: nothing, a prelude of this crate,
/// imports of Lean's own and Mathlib's libraries, comments, and the options of Goedel-Prover's header.
#[must_use]
pub fn is_neutral(header: &str) -> bool {
    const LIBRARIES: [&str; 6] = ["Init", "Lean", "Std", "Batteries", "Mathlib", "Aesop"];
    let neutral_line = |line: &str| {
        let mut words = line.split_whitespace();
        match words.next() {
            None => true,
            Some("import") => words.all(|module| LIBRARIES.contains(&module.split('.').next().unwrap_or(module))),
            Some("set_option") => {
                matches!(words.next(), Some("maxHeartbeats" | "autoImplicit" | "relaxedAutoImplicit"))
                    && words.next().is_some()
                    && words.next().is_none()
            }
            Some(word) => word.starts_with("--"),
        }
    };
    [TEXT, FIRST_ORDER].iter().any(|text| header.trim() == text.trim()) || header.lines().all(neutral_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_could_change_a_meaning_is_not_neutral() {
        for header in
            ["", TEXT, FIRST_ORDER, "import Mathlib\nimport Aesop\n\nset_option maxHeartbeats 400000\n", "-- nothing\n"]
        {
            assert!(is_neutral(header), "{header}");
        }
        for header in ["open Real", "def And := Or", "import Mine", "set_option maxHeartbeats 0 open X", "prelude"] {
            assert!(!is_neutral(header), "{header}");
        }
    }
}
