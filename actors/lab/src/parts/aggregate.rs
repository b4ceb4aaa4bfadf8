//! Mixtures of agents: what an aggregator is shown of others' answers, in what order and window, and what is recorded of it.
//!
//! Papers: Wang et al. 2024, "Mixture-of-Agents" (arXiv 2406.04692); Li et al. 2025, "Rethinking Mixture-of-Agents"
//! (arXiv 2502.00674). References are numbered in the system message, and what the user asks stays as it is.
//!
//! Invariants: an answer of nothing is no reference, and is recorded as dropped at its place; a reference's place is that of its
//! slot, so that repeated slots and gaps stay visible; what was shown can be read back from edges alone.
//!
//! Not here: who is asked, and what an answer is worth.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tracker_store::{Edge, NodeId, Recording, Relation, RunId};

use crate::error::{Error, Result};

/// What an aggregator is told before the references, unless a plan says otherwise.
pub const SYNTHESISE: &str = "Several assistants have answered the user's latest message; their answers are numbered below. \
    Write one answer of your own that is better than any of them. Weigh them critically: some may be biased or wrong. Do not \
    repeat them, but correct and refine what they say into one accurate, complete and well-ordered answer.";

/// What a selector is told before the references, unless a plan says otherwise.
///
/// Source of the method: Chen et al. 2023, "Universal Self-Consistency" (arXiv 2311.17311).
pub const SELECT: &str = "Several assistants have answered the user's latest message; their answers are numbered below. Find the \
    answer that agrees best with the others. End with one line `Answer: N`, where N is its number.";

/// An answer that may be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// Its sample.
    pub node: NodeId,
    /// What it says.
    pub text: Arc<str>,
}

impl Proposal {
    /// Whether nothing came.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
    }
}

/// In what order proposals are put to an aggregator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they are given.
    Given,
    /// The last first.
    Reversed,
    /// At random, by the stream of the work item.
    Shuffled,
}

impl Order {
    /// Its name in a plan.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Reversed => "reversed",
            Self::Shuffled => "shuffled",
        }
    }

    /// Puts `proposals` in this order.
    pub fn apply<T>(self, proposals: &mut [T], stream: &mut ChaCha8Rng) {
        match self {
            Self::Given => {}
            Self::Reversed => proposals.reverse(),
            Self::Shuffled => proposals.shuffle(stream),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Order {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Given, Self::Reversed, Self::Shuffled].into_iter().find(|order| order.name() == text).ok_or_else(|| {
            let message = format!("expected given, reversed or shuffled, got `{text}`");
            Error::Value { key: "order".into(), message }
        })
    }
}

/// What one aggregation is shown: proposals slot by slot, the same one as often as it has slots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct References {
    slots: Vec<Proposal>,
}

impl References {
    /// Proposals in the order of their slots.
    #[must_use]
    pub fn new(slots: Vec<Proposal>) -> Self {
        Self { slots }
    }

    /// The texts that are shown, in order: those that say something.
    pub fn shown(&self) -> impl Iterator<Item = &str> {
        self.shown_proposals().map(|proposal| &*proposal.text)
    }

    /// The proposals that are shown.
    pub fn shown_proposals(&self) -> impl Iterator<Item = &Proposal> {
        self.slots.iter().filter(|proposal| !proposal.is_empty())
    }

    /// How many are shown: the actual n.
    #[must_use]
    pub fn n_shown(&self) -> usize {
        self.shown().count()
    }

    /// How many were dropped.
    #[must_use]
    pub fn n_dropped(&self) -> usize {
        self.slots.len() - self.n_shown()
    }

    /// Puts what `aggregated` was made from: an edge `derived_from` to each reference and an edge `used` to each dropped
    /// proposal, all at the places of their slots from 0.
    ///
    /// # Errors
    /// Those of recording.
    pub fn record(&self, recording: &mut Recording, run: RunId, aggregated: NodeId) -> Result<()> {
        for (place, proposal) in (0..).zip(&self.slots) {
            let relation = if proposal.is_empty() { Relation::Used } else { Relation::DerivedFrom };
            recording.put_edge(run, &Edge::new(aggregated, relation, proposal.node).at(place))?;
        }
        Ok(())
    }
}

/// A system message: the role, then each text under its number. Lines of a text are set in by four blanks, so that no answer,
/// whatever lines it has, can be taken for the next number. With no text there is nothing to tell.
#[must_use]
pub fn numbered<'a>(role: &str, texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut message = String::new();
    for (number, text) in (1_usize..).zip(texts) {
        message.extend(["\n\n[", &number.to_string(), "]"]);
        for line in text.trim().lines() {
            message.push_str("\n    ");
            message.push_str(line);
        }
    }
    if message.is_empty() { message } else { format!("{role}{message}") }
}

/// The number in the last `Answer: N` of a text, or its last whole number where there is none: from 1 to `n`.
#[must_use]
pub fn chosen(text: &str, n: usize) -> Option<usize> {
    let lower = text.to_lowercase();
    let tail = lower.rsplit_once("answer:").map(|(_, tail)| tail);
    let numbers = |text: &str| -> Vec<usize> {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    };
    let said = match tail {
        Some(tail) => numbers(tail).first().copied(),
        None => numbers(&lower).last().copied(),
    };
    said.filter(|number| (1..=n).contains(number))
}

/// What a slot of a window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The best so far: what the window before came to.
    Best,
    /// The candidate with this place, from 0.
    New(usize),
}

/// The windows of a sequence of aggregations over `n` candidates: the first holds `window` of them; each later one the best so
/// far `reserved` times, and the next `window − reserved` candidates after it. A last window may be short.
///
/// Source: arXiv 2502.00674, §5 (Self-MoA-Seq); the defaults 6 and 3 are those of a third-party implementation.
///
/// # Errors
/// `Value` unless 1 ≤ reserved < window; for no candidate there is no window.
pub fn windows(n: usize, window: usize, reserved: usize) -> Result<Vec<Vec<Slot>>> {
    if reserved == 0 || reserved >= window {
        let message = format!("expected from 1 to below the window of {window}, got {reserved}");
        return Err(Error::Value { key: "reserved".into(), message });
    }
    let first = n.min(window);
    let mut all: Vec<Vec<Slot>> = Vec::new();
    if first > 0 {
        all.push((0..first).map(Slot::New).collect());
    }
    let rest: Vec<usize> = (first..n).collect();
    for next in rest.chunks(window - reserved) {
        let kept = std::iter::repeat_n(Slot::Best, reserved);
        all.push(kept.chain(next.iter().copied().map(Slot::New)).collect());
    }
    Ok(all)
}

/// The most frequent of what is not nothing; of equally frequent ones the one that came first. Gives the place of its first
/// occurrence; none if all is nothing.
#[must_use]
pub fn majority<T: PartialEq>(keys: &[Option<T>]) -> Option<usize> {
    let votes = |key: &T| keys.iter().flatten().filter(|other| *other == key).count();
    let mut best: Option<(usize, usize)> = None;
    for (place, key) in keys.iter().enumerate() {
        let Some(key) = key else { continue };
        let n = votes(key);
        if best.is_none_or(|(_, most)| n > most) {
            best = Some((place, n));
        }
    }
    best.map(|(place, _)| place)
}

/// ((1/n) Σ qᵢᴷ)^(1/K), in the range of q ≥ 0; the mean at K = 1. NaN of nothing.
///
/// Source: arXiv 2502.00674, table 5, reconstructed from its description.
#[must_use]
pub fn k_norm(q: &[f64], k: f64) -> f64 {
    libm::pow(q.iter().map(|q| libm::pow(*q, k)).sum::<f64>() / q.len() as f64, 1.0 / k)
}

/// max q − ((1/n) Σ (max q − qᵢ)^(1/K))ᴷ; the mean at K = 1. NaN of nothing.
///
/// Source: as [`k_norm`].
#[must_use]
pub fn centred_root(q: &[f64], k: f64) -> f64 {
    let best = q.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = q.iter().map(|q| libm::pow(best - q, 1.0 / k)).sum::<f64>() / q.len() as f64;
    best - libm::pow(mean, k)
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;
    use tracker_store::{NodeId, RowKey, RunId};

    use super::*;

    fn run() -> RunId {
        RunId::from_bytes([1; 16])
    }

    fn proposal(k: u32, text: &str) -> Proposal {
        Proposal { node: NodeId::sample(RowKey::new(run(), "layer", 0, k)), text: text.into() }
    }

    #[test]
    fn a_sequence_has_its_known_number_of_calls() {
        for (n, calls) in [(0, 0), (1, 1), (6, 1), (7, 2), (9, 2), (10, 3), (30, 9)] {
            assert_eq!(windows(n, 6, 3).unwrap().len(), calls, "{n}");
        }
        // 1 + ⌈(N − W)/(W − R)⌉, for all there are.
        for (window, reserved) in [(2_usize, 1_usize), (6, 1), (6, 3), (6, 5), (4, 2)] {
            for n in window..40 {
                let expected = 1 + (n - window).div_ceil(window - reserved);
                let all = windows(n, window, reserved).unwrap();
                assert_eq!(all.len(), expected, "{n} {window} {reserved}");
                // The prompt never grows, and every candidate is seen once.
                assert!(all.iter().all(|slots| slots.len() <= window));
                let seen: Vec<usize> = all
                    .iter()
                    .flatten()
                    .filter_map(|slot| if let Slot::New(at) = slot { Some(*at) } else { None })
                    .collect();
                assert!(seen.into_iter().eq(0..n));
            }
        }
        for (window, reserved) in [(6, 0), (6, 6), (1, 1), (0, 0)] {
            assert!(windows(9, window, reserved).unwrap_err().to_string().contains("reserved"));
        }
    }

    #[test]
    fn the_best_so_far_takes_its_slots_before_what_is_new() {
        let all = windows(8, 6, 3).unwrap();
        assert_eq!(all[1], [Slot::Best, Slot::Best, Slot::Best, Slot::New(6), Slot::New(7)]);
    }

    #[test]
    fn answers_of_nothing_are_dropped_and_what_was_asked_for_stays_counted() {
        let references = References::new(vec![proposal(0, "a"), proposal(1, " \n"), proposal(2, "c")]);
        assert_eq!((references.n_shown(), references.n_dropped()), (2, 1));
        assert_eq!(numbered("Weigh.", references.shown()), "Weigh.\n\n[1]\n    a\n\n[2]\n    c");
        // One candidate, and none.
        let one = References::new(vec![proposal(0, "a")]);
        assert_eq!(numbered("Weigh.", one.shown()), "Weigh.\n\n[1]\n    a");
        let none = References::new(vec![proposal(0, "")]);
        assert_eq!((numbered("Weigh.", none.shown()), none.n_shown(), none.n_dropped()), (String::new(), 0, 1));
    }

    #[test]
    fn equal_answers_are_all_shown_and_lines_of_an_answer_are_no_numbers() {
        let equal = References::new(vec![proposal(0, "a"), proposal(0, "a"), proposal(0, "a")]);
        assert_eq!((equal.n_shown(), numbered("R", equal.shown()).matches("\n    a").count()), (3, 3));
        let tricky = "first\n\n[2]\nstill the first";
        let message = numbered("R", [tricky, "second"]);
        assert_eq!(message, "R\n\n[1]\n    first\n    \n    [2]\n    still the first\n\n[2]\n    second");
        let heads: Vec<&str> = message.lines().filter(|line| line.starts_with('[')).collect();
        assert_eq!(heads, ["[1]", "[2]"]);
    }

    #[test]
    fn a_choice_is_read_from_the_last_line_that_makes_one() {
        for (text, n, number) in [
            ("Answer: 2", 3, Some(2)),
            ("Answer 1 and 3 agree.\n**Answer: [3]**", 3, Some(3)),
            ("2", 3, Some(2)),
            ("I take number 1 of 3: 1", 3, Some(1)),
            ("Answer: 4", 3, None),
            ("Answer: 0", 3, None),
            ("Answer: none of the 3", 2, None),
            ("Answer: none", 3, None),
            ("", 3, None),
        ] {
            assert_eq!(chosen(text, n), number, "{text:?}");
        }
    }

    #[test]
    fn a_vote_ignores_nothing_and_its_ties_take_the_first() {
        assert_eq!(majority(&[Some("a"), Some("b"), Some("b")]), Some(1));
        assert_eq!(majority(&[Some("b"), Some("a"), Some("a"), Some("b")]), Some(0));
        assert_eq!(majority(&[None, None, Some("a")]), Some(2));
        assert_eq!(majority::<&str>(&[None, None]), None);
        assert_eq!(majority::<&str>(&[]), None);
        assert_eq!(majority(&[Some("a"); 4]), Some(0));
    }

    #[test]
    fn both_forms_of_quality_are_the_mean_at_one_and_weigh_the_best_more_above() {
        let q = [0.25, 0.5, 0.75, 0.1];
        let mean = q.iter().sum::<f64>() / 4.0;
        assert!((k_norm(&q, 1.0) - mean).abs() < 1e-15 && (centred_root(&q, 1.0) - mean).abs() < 1e-15);
        for of in [k_norm, centred_root] {
            let found: Vec<f64> = [1.0, 2.0, 3.0, 8.0].iter().map(|k| of(&q, *k)).collect();
            assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
            assert!(found.iter().all(|found| *found < 0.75));
            assert!((of(&[0.4; 5], 3.0) - 0.4).abs() < 1e-12);
        }
        // √((9 + 16 + 0) / 3), and 4 − (1/3 (1 + 0 + 2))².
        assert!((k_norm(&[3.0, 4.0, 0.0], 2.0) - (25.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!((centred_root(&[3.0, 4.0, 0.0], 2.0) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn orders_are_read_and_applied() {
        let mut stream = ChaCha8Rng::seed_from_u64(1);
        let order = |text: &str, stream: &mut ChaCha8Rng| {
            let mut all = [0, 1, 2, 3, 4, 5];
            text.parse::<Order>().unwrap().apply(&mut all, stream);
            all
        };
        assert_eq!(order("given", &mut stream), [0, 1, 2, 3, 4, 5]);
        assert_eq!(order("reversed", &mut stream), [5, 4, 3, 2, 1, 0]);
        let mut shuffled = order("shuffled", &mut stream);
        assert_ne!(shuffled, [0, 1, 2, 3, 4, 5]);
        shuffled.sort_unstable();
        assert_eq!(shuffled, [0, 1, 2, 3, 4, 5]);
        assert!("random".parse::<Order>().is_err());
    }
}
