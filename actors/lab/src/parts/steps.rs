//! Steps of a solution, and the prefixes that end at them.
//!
//! Invariants: the steps of a text put end to end are the text; no step is blank; a trajectory always has an id of its own
//! and that of its problem, and is joined to anything by these, never by its place or by what its text contains.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a text is taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Splitter {
    /// What ends a step, and stays with it: `"\n"`, `"ки\n"`.
    pub separator: String,
    /// A step that adds this many characters or fewer merges into the next; the first and the last are kept. 0 merges none.
    pub merge_up_to: usize,
}

impl Splitter {
    /// ER-PRM's of Mistral's texts: `ки` at the end of a line, and what adds at most 30 characters merges.
    #[must_use]
    pub fn er_prm() -> Self {
        Self { separator: "ки\n".into(), merge_up_to: 30 }
    }

    /// A step a line, none merged.
    #[must_use]
    pub fn lines() -> Self {
        Self { separator: "\n".into(), merge_up_to: 0 }
    }

    /// What makes it another splitter, in a line.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{:?}, merging up to {} characters", self.separator, self.merge_up_to)
    }

    /// Where the steps of `text` end, in bytes, ascending; the last is the length of the text.
    ///
    /// # Errors
    /// `Value` for a separator that is empty; `Input` for a text that is blank.
    pub fn ends(&self, text: &str) -> Result<Vec<usize>> {
        if self.separator.is_empty() {
            return Err(Error::Value { key: "separator".into(), message: "expected some text, got none".into() });
        }
        if text.trim().is_empty() {
            return Err(Error::Input { what: "expected a text with a step, got a blank one".into(), hint: None });
        }
        let mut ends: Vec<usize> =
            text.match_indices(&self.separator).map(|(at, _)| at + self.separator.len()).collect();
        if ends.last() != Some(&text.len()) {
            ends.push(text.len());
        }
        Ok(self.merged(text, ends))
    }

    /// The text as a trajectory.
    ///
    /// # Errors
    /// As [`Splitter::ends`]; `Input` for an id that is empty.
    pub fn split(&self, id: &str, problem: &str, text: &str) -> Result<Trajectory> {
        for (what, id) in [("trajectory", id), ("problem", problem)] {
            if id.trim().is_empty() {
                let what = format!("expected the id of a {what}, got an empty one");
                return Err(Error::Input { what, hint: None });
            }
        }
        let ends = self.ends(text)?;
        Ok(Trajectory { id: id.to_owned(), problem: problem.to_owned(), text: text.to_owned(), ends })
    }

    /// Joins blank steps to the one before (the first ones to the one after), then short ones to the next.
    fn merged(&self, text: &str, ends: Vec<usize>) -> Vec<usize> {
        let mut solid: Vec<usize> = Vec::with_capacity(ends.len());
        let mut start = 0;
        for end in ends {
            let is_blank = self.body(&text[start..end]).trim().is_empty();
            start = end;
            match solid.last_mut() {
                Some(last) if is_blank => *last = end,
                _ if is_blank => {}
                _ => solid.push(end),
            }
        }
        let last = solid.len().saturating_sub(1);
        let mut kept = Vec::with_capacity(solid.len());
        let mut start = 0;
        for (nth, end) in solid.into_iter().enumerate() {
            if nth == 0 || nth == last || text[start..end].chars().count() > self.merge_up_to {
                kept.push(end);
                start = end;
            }
        }
        kept
    }

    fn body<'a>(&self, step: &'a str) -> &'a str {
        step.strip_suffix(self.separator.as_str()).unwrap_or(step)
    }
}

/// A solution in steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trajectory {
    id: String,
    problem: String,
    text: String,
    ends: Vec<usize>,
}

impl Trajectory {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The id of the problem it is an answer to.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// All of its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many steps it has, at least one.
    #[must_use]
    pub fn n_steps(&self) -> usize {
        self.ends.len()
    }

    /// Its steps.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }

    /// Its prefixes: what stands up to the end of each step; the last is the whole text.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.ends.iter().map(|end| &self.text[..*end])
    }
}

/// Trajectories with the truth of their problems, joined by id.
///
/// # Errors
/// `Input` naming the trajectory, if two have one id, or its problem has no truth.
pub fn join<'a, T>(
    trajectories: &'a [Trajectory],
    truths: &'a BTreeMap<String, T>,
) -> Result<Vec<(&'a Trajectory, &'a T)>> {
    let mut seen = BTreeSet::new();
    let join = |trajectory: &'a Trajectory| {
        if !seen.insert(trajectory.id()) {
            return Err(Error::Input {
                what: format!("two trajectories have the id `{}`", trajectory.id()),
                hint: None,
            });
        }
        let truth = truths.get(trajectory.problem()).ok_or_else(|| Error::Input {
            what: format!("trajectory `{}`: no problem has the id `{}`", trajectory.id(), trajectory.problem()),
            hint: Some("trajectories are joined to problems by id, never by text".into()),
        })?;
        Ok((trajectory, truth))
    };
    trajectories.iter().map(join).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(splitter: &Splitter, text: &str) -> Vec<String> {
        splitter.split("t", "p", text).unwrap().steps().map(str::to_owned).collect()
    }

    #[test]
    fn separators_stay_with_the_steps_they_end() {
        let er_prm = Splitter { merge_up_to: 0, ..Splitter::er_prm() };
        assert_eq!(steps(&er_prm, "Step 1: 2 ки\nStep 2: 4 ки"), ["Step 1: 2 ки\n", "Step 2: 4 ки"]);
        assert_eq!(steps(&Splitter::lines(), "a\nb\n"), ["a\n", "b\n"]);
        assert_eq!(steps(&Splitter::lines(), "a\n\n\nb"), ["a\n\n\n", "b"]);
        assert_eq!(steps(&Splitter::lines(), "\n \na"), ["\n \na"]);
        assert_eq!(steps(&Splitter::lines(), "one"), ["one"]);
    }

    #[test]
    fn a_step_that_adds_thirty_characters_merges_into_the_next_but_the_first_and_last_are_kept() {
        let splitter = Splitter { separator: "\n".into(), merge_up_to: 30 };
        let long = format!("{}\n", "x".repeat(30));
        let short = format!("{}\n", "й".repeat(29));
        assert_eq!(steps(&splitter, &format!("a\n{long}{long}b")), ["a\n", &long, &long, "b"]);
        assert_eq!(steps(&splitter, &format!("a\n{short}{long}b")), ["a\n", &format!("{short}{long}"), "b"]);
        // What is merged counts: two short steps make one long enough.
        assert_eq!(steps(&splitter, &format!("a\n{short}{short}b")), ["a\n", &format!("{short}{short}"), "b"]);
        assert_eq!(steps(&splitter, &format!("a\n{short}b")), ["a\n", &format!("{short}b")]);
        assert_eq!(steps(&splitter, "a\nb"), ["a\n", "b"]);
    }

    #[test]
    fn texts_and_ids_that_are_none_are_refused() {
        let splitter = Splitter::lines();
        assert!(splitter.split("t", "p", " \n").is_err() && splitter.split("t", "p", "").is_err());
        assert!(splitter.split("", "p", "a").is_err() && splitter.split("t", " ", "a").is_err());
        assert!(Splitter { separator: String::new(), merge_up_to: 0 }.split("t", "p", "a").is_err());
    }

    #[test]
    fn trajectories_are_joined_by_id_alone() {
        let splitter = Splitter::lines();
        let truths = BTreeMap::from([("p1".to_owned(), 7), ("p2".to_owned(), 8)]);
        let of = |ids: &[(&str, &str)]| -> Vec<Trajectory> {
            ids.iter().map(|(id, problem)| splitter.split(id, problem, "7\n8").unwrap()).collect()
        };
        let two = of(&[("a", "p2"), ("b", "p1")]);
        let joined: Vec<i32> = join(&two, &truths).unwrap().into_iter().map(|(_, truth)| *truth).collect();
        assert_eq!(joined, [8, 7]);
        let error = join(&of(&[("a", "p1"), ("a", "p2")]), &truths).unwrap_err().to_string();
        assert_eq!(error, "two trajectories have the id `a`");
        assert!(join(&of(&[("a", "p3")]), &truths).unwrap_err().to_string().contains("`p3`"));
    }

    proptest! {
        #[test]
        fn steps_put_end_to_end_are_the_text(text in "[aй \n]{0,60}", merge_up_to in 0..8_usize) {
            let splitter = Splitter { separator: "\n".into(), merge_up_to };
            let Ok(trajectory) = splitter.split("t", "p", &text) else {
                prop_assert!(text.trim().is_empty());
                return Ok(());
            };
            let steps: Vec<&str> = trajectory.steps().collect();
            prop_assert_eq!(steps.concat(), text.clone());
            prop_assert!(steps.iter().all(|step| !step.trim().is_empty()));
            let n = steps.len();
            prop_assert!(steps.iter().take(n - 1).skip(1).all(|step| step.chars().count() > merge_up_to));
            for (nth, prefix) in trajectory.prefixes().enumerate() {
                prop_assert_eq!(prefix, steps[..=nth].concat());
            }
            prop_assert_eq!(trajectory.prefixes().count(), trajectory.n_steps());
        }
    }
}
