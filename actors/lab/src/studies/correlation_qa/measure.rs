//! From verdicts to figures: accuracies, their drop, instinct and flips, by category and kind of image, with intervals in which
//! questions are drawn anew with everything that was said to them.

use std::collections::{BTreeMap, BTreeSet};

use tracker_store::{Figure, NodeId, Recording, RowKey};

use super::CorrelationQa;
use super::judging::{Case, Judge};
use super::outputs::Output;
use super::trial::{Kind, Role};
use crate::error::Result;
use crate::event::Event;
use crate::lab::{Lab, Stage};
use crate::parts::bootstrap::{CurveSet, Resampler};
use crate::parts::evaluate::Estimate;
use crate::parts::kappa;
use crate::parts::mention::{Said as Verdict, is_foreign};
use crate::parts::record::record_members;

/// What is measured, in this order.
pub(super) const NAMES: [&str; 6] =
    ["accuracy, factual", "accuracy, spurious", "drop", "instinct rate", "flip rate", "text-only accuracy"];
/// Place of the drop among them.
pub(super) const DROP: usize = 2;

/// Sums over what was said of one question: numerators and denominators.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) factual: [f64; 2],
    pub(super) spurious: [f64; 2],
    pub(super) instinct: [f64; 2],
    /// Wrong on a spurious image, of those whose factual image was answered rightly.
    pub(super) flips: [f64; 2],
    pub(super) text: [f64; 2],
}

impl Counts {
    fn add(&mut self, other: &Self) {
        let add = |sum: &mut [f64; 2], other: [f64; 2]| sum.iter_mut().zip(other).for_each(|(sum, own)| *sum += own);
        add(&mut self.factual, other.factual);
        add(&mut self.spurious, other.spurious);
        add(&mut self.instinct, other.instinct);
        add(&mut self.flips, other.flips);
        add(&mut self.text, other.text);
    }

    fn curve(&self) -> Vec<f64> {
        [self.factual, self.spurious, self.instinct, self.flips, self.text].concat()
    }

    /// What is measured of sums (or means) like these; none where nothing was counted.
    fn measures(curve: &[f64]) -> [Option<f64>; 6] {
        let share = |at: usize| match curve.get(2 * at..2 * at + 2) {
            Some([hits, of]) if *of > 0.0 => Some(hits / of),
            _ => None,
        };
        let (factual, spurious) = (share(0), share(1));
        let drop = factual.zip(spurious).map(|(factual, spurious)| factual - spurious);
        [factual, spurious, drop, share(2), share(3), share(4)]
    }
}

/// What was said to one question by one model about images of one kind.
#[derive(Default)]
struct Told {
    factual: Vec<Verdict>,
    spurious: Vec<(Verdict, bool)>,
    text: Vec<Verdict>,
}

impl Told {
    fn counts(&self) -> Counts {
        let yes = |is: bool| f64::from(u8::from(is));
        let mut counts = Counts::default();
        let mut count = |of: fn(&mut Counts) -> &mut [f64; 2], is: bool| {
            let [hits, n] = of(&mut counts);
            *hits += yes(is);
            *n += 1.0;
        };
        for verdict in &self.factual {
            count(|counts| &mut counts.factual, verdict.right);
        }
        for verdict in &self.text {
            count(|counts| &mut counts.text, verdict.right);
        }
        for (verdict, is_known) in &self.spurious {
            count(|counts| &mut counts.spurious, verdict.right);
            if *is_known {
                count(|counts| &mut counts.instinct, verdict.pictured);
            }
            for factual in self.factual.iter().filter(|factual| factual.right) {
                count(|counts| &mut counts.flips, factual.right && !verdict.right);
            }
        }
        counts
    }
}

/// What is measured together: a part of the questions, and one kind of image or all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Split {
    /// None for all.
    pub(super) category: Option<String>,
    /// None for all.
    pub(super) kind: Option<Kind>,
}

impl Split {
    fn name(&self) -> String {
        let kind = self.kind.map_or("all", Kind::name);
        self.category.as_ref().map_or_else(|| kind.to_owned(), |category| format!("{category}, {kind}"))
    }

    /// Whether an output on images of `kind` counts. What is said without an image is the floor of every kind.
    fn has(&self, category: &str, kind: Kind) -> bool {
        let is_kind = self.kind.is_none_or(|own| own == kind) || kind == Kind::Text;
        is_kind && self.category.as_ref().is_none_or(|own| own == category)
    }
}

/// Sums by question and kind of image of the outputs of some models, by one judge.
fn cells(case: Case<'_>, judge: &Judge, models: &[usize]) -> BTreeMap<(usize, Kind), Counts> {
    let mut told: BTreeMap<(usize, Kind, usize), Told> = BTreeMap::new();
    for (output, verdict) in case.said.outputs.iter().zip(&judge.verdicts) {
        if !models.contains(&output.model) {
            continue;
        }
        let trial = &case.trials[output.trial];
        let told = told.entry((trial.question, trial.kind, output.model)).or_default();
        match trial.role {
            Some(Role::Factual) => told.factual.push(*verdict),
            Some(Role::Spurious) => told.spurious.push((*verdict, trial.pictured.is_some())),
            None => told.text.push(*verdict),
        }
    }
    let mut cells: BTreeMap<(usize, Kind), Counts> = BTreeMap::new();
    for ((question, kind, _), told) in told {
        cells.entry((question, kind)).or_default().add(&told.counts());
    }
    cells
}

/// The sums by question of a split.
fn by_question(case: Case<'_>, cells: &BTreeMap<(usize, Kind), Counts>, split: &Split) -> Vec<Counts> {
    let mut by_question: BTreeMap<usize, Counts> = BTreeMap::new();
    for ((question, kind), counts) in cells {
        if split.has(&case.asked[*question].question.category, *kind) {
            by_question.entry(*question).or_default().add(counts);
        }
    }
    by_question.into_values().collect()
}

/// The measures of sums by question, each with its interval; none where nothing was counted.
pub(super) fn estimates(counts: &[Counts], resampler: &Resampler) -> Result<[Option<Estimate>; 6]> {
    if counts.is_empty() {
        return Ok([None; 6]);
    }
    let curves = CurveSet::new(counts.iter().map(Counts::curve))?;
    let there = Counts::measures(&curves.mean()).map(|measure| measure.is_some());
    // A resample that drew none of what a share is of says nothing of it; the share is then taken as none.
    let found = |mean: Vec<f64>| Counts::measures(&mean).map(Option::unwrap_or_default).to_vec();
    let mut all = [None; 6];
    for ((slot, estimate), there) in all.iter_mut().zip(resampler.statistics(&curves, found)).zip(there) {
        *slot = there.then_some(estimate);
    }
    Ok(all)
}

/// Models that are measured together.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) rho: Option<f64>,
    pub(super) models: Vec<usize>,
    /// The datasets of its outputs, by category and kind.
    pub(super) datasets: BTreeMap<(String, Kind), NodeId>,
}

impl Group {
    /// The datasets that a split is measured on.
    fn used(&self, split: &Split) -> Vec<NodeId> {
        self.datasets.iter().filter(|((category, kind), _)| split.has(category, *kind)).map(|(_, node)| *node).collect()
    }
}

/// The figures of one group and judge that claims rest on.
pub(super) struct Measured {
    pub(super) group: String,
    pub(super) rho: Option<f64>,
    pub(super) judge: String,
    /// All kinds and categories: sums by question.
    pub(super) counts: Vec<Counts>,
    /// And what they come to, with the figures.
    pub(super) all: [Option<(Estimate, NodeId)>; 6],
}

impl CorrelationQa {
    /// Groups of models, with the datasets of what they said.
    pub(super) async fn groups(&self, lab: &Lab, case: Case<'_>) -> Result<Vec<Group>> {
        let mut groups: Vec<Group> = Vec::new();
        for (at, model) in case.said.models.iter().enumerate() {
            match groups.iter_mut().find(|group| group.name == model.group) {
                Some(group) => group.models.push(at),
                None => groups.push(Group {
                    name: model.group.clone(),
                    rho: model.rho,
                    models: vec![at],
                    datasets: BTreeMap::new(),
                }),
            }
        }
        for group in &mut groups {
            let mut members: BTreeMap<(String, Kind), Vec<&Output>> = BTreeMap::new();
            for output in case.said.outputs.iter().filter(|output| group.models.contains(&output.model)) {
                let trial = &case.trials[output.trial];
                let category = case.asked[trial.question].question.category.clone();
                members.entry((category, trial.kind)).or_default().push(output);
            }
            for ((category, kind), outputs) in members {
                let name = format!("outputs of {}, {category}, {}", group.name, kind.name());
                let content: String = outputs.iter().flat_map(|output| [output.text.as_str(), "\u{0}"]).collect();
                let nodes = outputs.iter().map(|output| NodeId::sample(output.row));
                let node = record_members(lab, &name, "outputs", &content, nodes).await?;
                group.datasets.insert((category, kind), node);
            }
        }
        Ok(groups)
    }

    /// Every figure of every group and judge.
    pub(super) async fn measure(
        &self,
        lab: &Lab,
        case: Case<'_>,
        groups: &[Group],
        judges: &[Judge],
    ) -> Result<Vec<Measured>> {
        let resampler = Resampler::of(lab, "figures", self.measure.n_resamples)?;
        let splits = splits(case);
        tell_incomplete(lab, case);
        let mut all = Vec::new();
        for group in groups {
            for judge in judges {
                let stage = lab.stage(&format!("figures/{}/{}", group.name, judge.name), splits.len()).await?;
                let mut sheet = Sheet::new(lab, &stage, judge.name == self.judges.primary);
                let cells = cells(case, judge, &group.models);
                let mut measured = None;
                for split in &splits {
                    lab.check()?;
                    let counts = by_question(case, &cells, split);
                    let estimates = estimates(&counts, &resampler)?;
                    let used: Vec<NodeId> = group.used(split).into_iter().chain([judge.node]).collect();
                    let mut nodes = [None; 6];
                    for ((slot, name), estimate) in nodes.iter_mut().zip(NAMES).zip(estimates) {
                        // What is said without an image does not differ by kind.
                        if let Some(estimate) = estimate.filter(|_| name != NAMES[5] || split.kind.is_none()) {
                            *slot = Some((estimate, sheet.put(name, &split.name(), estimate, counts.len(), &used)?));
                        }
                    }
                    if measured.is_none() {
                        measured = Some((counts, nodes));
                    }
                }
                sheet.record().await?;
                if let Some((counts, nodes)) = measured {
                    let (group, rho, judge) = (group.name.clone(), group.rho, judge.name.clone());
                    all.push(Measured { group, rho, judge, counts, all: nodes });
                }
            }
            self.agreement(lab, case, group, judges).await?;
            self.outputs_as_such(lab, case, group).await?;
        }
        Ok(all)
    }

    /// κ of every two judges, and how often they disagree.
    async fn agreement(&self, lab: &Lab, case: Case<'_>, group: &Group, judges: &[Judge]) -> Result<()> {
        let stage = lab.stage(&format!("agreement/{}", group.name), judges.len()).await?;
        let resampler = Resampler::of(lab, "agreement", self.measure.n_resamples)?;
        let mut sheet = Sheet::new(lab, &stage, true);
        let whole = group.used(&Split { category: None, kind: None });
        let of_group: Vec<usize> =
            (0..case.said.outputs.len()).filter(|at| group.models.contains(&case.said.outputs[*at].model)).collect();
        for (at, first) in judges.iter().enumerate() {
            for second in judges.iter().skip(at + 1) {
                let said = |of: &Judge, at: usize| of.verdicts.get(at).is_some_and(|verdict| verdict.right);
                let pairs: Vec<(usize, bool, bool)> = of_group
                    .iter()
                    .map(|at| (case.trials[case.said.outputs[*at].trial].question, said(first, *at), said(second, *at)))
                    .collect();
                let used: Vec<NodeId> = whole.iter().copied().chain([first.node, second.node]).collect();
                let names = format!("{} and {}", first.name, second.name);
                let n_apart = pairs.iter().filter(|(_, first, second)| first != second).count();
                let n = pairs.len();
                if let Some(kappa) = kappa::estimate(pairs, case.asked.len(), &resampler)? {
                    sheet.put(&format!("kappa, {names}"), "all", kappa, n, &used)?;
                }
                let apart = Estimate::exactly(n_apart as f64);
                sheet.put(&format!("disagreements, {names}"), "all", apart, n, &used)?;
            }
        }
        sheet.record().await
    }

    /// Shares of outputs that were cut off, say nothing, or are in another script than the right answer.
    async fn outputs_as_such(&self, lab: &Lab, case: Case<'_>, group: &Group) -> Result<()> {
        let stage = lab.stage(&format!("said/{}", group.name), 3).await?;
        let mut sheet = Sheet::new(lab, &stage, true);
        let used = group.used(&Split { category: None, kind: None });
        let outputs: Vec<&Output> =
            case.said.outputs.iter().filter(|output| group.models.contains(&output.model)).collect();
        let right = |output: &Output| case.asked[case.trials[output.trial].question].question.right.as_str();
        let measures: [(&str, &Is<'_>); 3] = [
            ("cut off", &|output| output.finish == tracker_store::Finish::Length),
            ("empty", &|output| output.text.trim().is_empty()),
            ("in another script", &|output| is_foreign(&output.text, right(output))),
        ];
        for (name, is) in measures {
            let n = outputs.iter().filter(|output| is(output)).count();
            let share = n as f64 / outputs.len().max(1) as f64;
            sheet.put(name, "all", Estimate::exactly(share), outputs.len(), &used)?;
        }
        sheet.record().await
    }
}

/// Says of which categories no drop can be computed.
fn tell_incomplete(lab: &Lab, case: Case<'_>) {
    for (category, kind, lacks) in incomplete(case) {
        lab.note(format!("{category}, {}: no {lacks} image; no drop is computed of it", kind.name()));
    }
}

/// What an output may be.
type Is<'a> = dyn Fn(&Output) -> bool + 'a;

/// What figures are of: everything first, then each kind, then each category with each kind.
fn splits(case: Case<'_>) -> Vec<Split> {
    let kinds: BTreeSet<Kind> = case.trials.iter().map(|trial| trial.kind).filter(|kind| *kind != Kind::Text).collect();
    let categories: BTreeSet<&String> = case.asked.iter().map(|asked| &asked.question.category).collect();
    let parts = std::iter::once(None).chain(categories.into_iter().map(|category| Some(category.clone())));
    parts
        .flat_map(|category| {
            let all = std::iter::once(None).chain(kinds.iter().copied().map(Some));
            all.map(move |kind| Split { category: category.clone(), kind }).collect::<Vec<_>>()
        })
        .collect()
}

/// Categories and kinds that lack factual or spurious images.
fn incomplete(case: Case<'_>) -> Vec<(String, Kind, &'static str)> {
    let mut there: BTreeMap<(String, Kind), [bool; 2]> = BTreeMap::new();
    for trial in case.trials.iter().filter(|trial| trial.kind != Kind::Text) {
        let category = case.asked[trial.question].question.category.clone();
        let [factual, spurious] = there.entry((category, trial.kind)).or_default();
        *factual |= trial.role == Some(Role::Factual);
        *spurious |= trial.role == Some(Role::Spurious);
    }
    let lacks = |[factual, spurious]: [bool; 2]| match (factual, spurious) {
        (false, _) => Some("factual"),
        (_, false) => Some("spurious"),
        _ => None,
    };
    there.into_iter().filter_map(|((category, kind), there)| Some((category, kind, lacks(there)?))).collect()
}

/// Figures of a stage that are recorded together.
struct Sheet<'a> {
    lab: &'a Lab,
    stage: &'a Stage<'a>,
    recording: Recording,
    n: u32,
    is_told: bool,
}

impl<'a> Sheet<'a> {
    /// `is_told`: whether figures of everything are shown as they come.
    fn new(lab: &'a Lab, stage: &'a Stage<'a>, is_told: bool) -> Self {
        Self { lab, stage, recording: Recording::new(), n: 0, is_told }
    }

    fn put(&mut self, name: &str, split: &str, estimate: Estimate, n: usize, used: &[NodeId]) -> Result<NodeId> {
        let Estimate { value, low, high } = estimate;
        let (name, split) = (name.to_owned(), split.to_owned());
        let is_whole = split == "all";
        let told = format!("{}: {name}", self.stage.name());
        let (low, high, unit) = (Some(low), Some(high), String::new());
        let figure = Figure { name, value, low, high, n: n as u64, unit, split };
        let row: RowKey = self.stage.row(self.n, 0);
        let node = self.recording.put_figure(row, &figure)?;
        for (order, used) in (0..).zip(used) {
            let edge = tracker_store::Edge::new(node, tracker_store::Relation::Used, *used).at(order);
            self.recording.put_edge(self.lab.run(), &edge)?;
        }
        self.n += 1;
        if self.is_told && is_whole {
            self.lab.events.tell(Event::Figure { name: told, value, low, high });
        }
        Ok(node)
    }

    async fn record(self) -> Result<()> {
        self.stage.done(self.n as usize);
        self.lab.record(self.recording).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(right: bool, pictured: bool) -> Verdict {
        Verdict { right, pictured, hedge: false }
    }

    #[test]
    fn shares_have_their_values_by_hand() {
        let told = Told {
            factual: vec![verdict(true, false)],
            spurious: vec![
                (verdict(true, false), true),
                (verdict(false, true), true),
                (verdict(false, true), true),
                (verdict(false, false), true),
                (verdict(false, false), false),
            ],
            text: vec![verdict(false, false)],
        };
        let wrong = Told {
            factual: vec![verdict(false, false)],
            spurious: vec![(verdict(false, false), true)],
            ..Told::default()
        };
        let counts = [told.counts(), wrong.counts()];
        assert_eq!(counts[0].spurious, [1.0, 5.0]);
        assert_eq!(counts[0].flips, [4.0, 5.0]);
        assert_eq!(counts[1].flips, [0.0, 0.0]);
        let resampler = Resampler::new([1; 32], 40).unwrap();
        let found = estimates(&counts, &resampler).unwrap().map(|estimate| estimate.map(|estimate| estimate.value));
        let expected = [0.5, 1.0 / 6.0, 1.0 / 3.0, 2.0 / 5.0, 4.0 / 5.0, 0.0];
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?}, expected {expected}");
        }
    }

    #[test]
    fn what_was_not_counted_has_no_figure_and_questions_are_drawn_whole() {
        let resampler = Resampler::new([1; 32], 200).unwrap();
        let only = Counts { factual: [1.0, 1.0], ..Counts::default() };
        let found = estimates(&[only], &resampler).unwrap();
        assert!(found[0].is_some() && found[1..].iter().all(Option::is_none), "{found:?}");
        assert!(estimates(&[], &resampler).unwrap().iter().all(Option::is_none));
        // Five images of a question that say one thing are no more than one.
        let of = |n: f64| -> Vec<Counts> {
            (0..40).map(|i| Counts { spurious: [f64::from(i % 2) * n, n], ..Counts::default() }).collect()
        };
        assert_eq!(estimates(&of(1.0), &resampler).unwrap()[1], estimates(&of(5.0), &resampler).unwrap()[1]);
    }

    #[test]
    fn splits_take_what_belongs_to_them_and_the_floor() {
        let split = |category: Option<&str>, kind| Split { category: category.map(str::to_owned), kind };
        let animals = split(Some("animal"), Some(Kind::Natural));
        assert!(animals.has("animal", Kind::Natural) && animals.has("animal", Kind::Text));
        assert!(!animals.has("animal", Kind::Typography) && !animals.has("city", Kind::Natural));
        assert!(split(None, None).has("city", Kind::Typography));
        assert_eq!((animals.name().as_str(), split(None, None).name().as_str()), ("animal, natural", "all"));
    }
}
