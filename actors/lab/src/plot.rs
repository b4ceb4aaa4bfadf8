//! What a study draws of its figures: which of them, over what.
//!
//! A report reads this; nothing is recorded of it.

use std::collections::BTreeMap;

/// Charts over figures whose names say where they stand.
///
/// Names of figures are patterns, `STAGE: NAME`, in which names in braces stand for any text; `{x}` is the number across. Texts are filled with
/// what was found, and `{split}` is what a figure was measured on.
#[derive(Clone, Copy, Debug)]
pub struct Plot {
    /// What it shows.
    pub title: &'static str,
    /// What tells charts apart: `{split}`; one chart for an empty text.
    pub chart: &'static str,
    /// The figures up.
    pub points: &'static [Points],
    /// What is across, with its unit.
    pub across: &'static str,
    /// What is up, with its unit.
    pub up: &'static str,
    /// Whether numbers are spaced by their ratios: across, and up.
    pub is_log: [bool; 2],
    /// The figures across, of the same split, where these and not their names say it; names in braces are what they are up.
    pub by: Option<&'static str>,
    /// Lines fitted to the points.
    pub fit: Option<Fit>,
}

/// Points of a plot.
#[derive(Clone, Copy, Debug)]
pub struct Points {
    /// The figures.
    pub figures: &'static str,
    /// Only those measured on one of these; any without one.
    pub splits: &'static [&'static str],
    /// What tells series apart: `n {n}, {M} members`.
    pub series: &'static str,
}

impl Plot {
    /// A plot that leaves everything to the others.
    pub const NEW: Self =
        Self { title: "", chart: "", points: &[], across: "", up: "", is_log: [false, false], by: None, fit: None };
}

/// Lines whose coefficients are figures too.
#[derive(Clone, Copy, Debug)]
pub struct Fit {
    /// The figures that are slopes; a name in braces tells lines apart.
    pub slope: &'static str,
    /// Those that are intercepts; names in braces are what they are of the slope.
    pub intercept: &'static str,
    /// What a line is called.
    pub series: &'static str,
    /// The height at `x` of the line with this intercept and slope, by the params of the run.
    pub at: fn(&BTreeMap<String, String>, [f64; 2], f64) -> f64,
}

/// What stood in place of names in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found(BTreeMap<&'static str, String>);

impl Found {
    /// What the figure `name` of `stage` has in place of the names in braces of a pattern; none if it is not of it. These are the
    /// shortest texts for which the rest agrees.
    #[must_use]
    pub fn of(pattern: &'static str, stage: &str, name: &str, split: &str) -> Option<Self> {
        let whole = format!("{stage}: {name}");
        let mut found = BTreeMap::from([("split", split.to_owned())]);
        let (mut pattern, mut text) = (pattern, whole.as_str());
        while let Some((before, rest)) = pattern.split_once('{') {
            text = text.strip_prefix(before)?;
            let (key, after) = rest.split_once('}')?;
            let literal = after.split('{').next().unwrap_or("");
            let end = if after.is_empty() { text.len() } else { text.find(literal)? };
            found.insert(key, text[..end].to_owned());
            (pattern, text) = (after, &text[end..]);
        }
        (pattern == text).then_some(Self(found))
    }

    /// What stood in place of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A text with what was found in place of its names in braces.
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_where_figures_stand() {
        let found = |stage, name| Found::of("mean n {n} p {p} m {x} M {M}: L_OOD", stage, name, "seed 1");
        let place = found("mean n 50 p 1000 m 100 M 4", "L_OOD").unwrap();
        assert_eq!((place.get("x"), place.get("split"), place.get("tau")), (Some("100"), Some("seed 1"), None));
        assert_eq!(place.fill("n = {n}, {M} members"), "n = 50, 4 members");
        assert!(found("mean n 50 p 1000 m 100 M 4", "L_ID").is_none());
        assert!(found("n 50 p 1000 m 100 M 4", "L_OOD").is_none());
        assert_eq!(Found::of("a{b}", "a", "", "").unwrap().get("b"), Some(": "));
        assert!(Found::of("a{b}c", "a", "", "").is_none());
    }
}
