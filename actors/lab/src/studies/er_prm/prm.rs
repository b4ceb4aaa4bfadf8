//! From counts to labels, from labels to process reward models, and what those say of solutions.

use std::collections::HashMap;
use std::sync::Arc;

use tracker_actors::Pool;
use tracker_lm::{HeadKind, RewardModel, TaggedExample, Trunk};
use tracker_store::{Edge, NodeId, Program, Recording, Relation, Reward};

use super::settings::ErPrm;
use super::world::{Counted, Solution, Task, World, tagged};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::endpoint::Verdicts;
use crate::parts::grade::Grader;
use crate::parts::labels::{Definition, Estimator};
use crate::parts::record::FileRow;
use crate::parts::reward::{Fit, Fitter, Judge, Objective, Scorer, Scoring, fit};
use crate::parts::steps::Trajectory;
use crate::parts::train::Trained;

/// Labels of all solutions by one estimator.
pub(super) struct LabelSet {
    pub(super) estimator: Estimator,
    /// For each problem and solution the label of each step that has one.
    pub(super) labels: Vec<Vec<Vec<Option<f64>>>>,
    /// The records of the labels, a solution each; none of published ones.
    pub(super) nodes: Vec<NodeId>,
    pub(super) rows: Vec<FileRow>,
    pub(super) examples: Vec<TaggedExample>,
}

/// A grader in a line.
fn describe(grader: Grader) -> String {
    let Program { name, version, settings } = grader.program();
    format!("{name} {version}, {settings}")
}

/// Makes and records the labels of every estimator; counts are recorded once, with the completions they are of.
pub(super) async fn label(
    world: &World<'_>,
    policy: NodeId,
    solutions: &[Vec<Solution>],
    counted: &[Vec<Counted>],
) -> Result<Vec<LabelSet>> {
    let World { lab, plan, train, .. } = world;
    let counts = Definition::new(Estimator::Soft)
        .with("splitter", world.splitter.describe())
        .with("grader", describe(world.grader))
        .with("policy", policy.to_string())
        .with("n_completions", plan.rollouts.n_completions.to_string());
    let mut sets = Vec::new();
    // The shares themselves come first: they hold the counts, and other labels follow from them.
    let mut shares: HashMap<NodeId, NodeId> = HashMap::new();
    let estimators = plan.estimators()?;
    let order = std::iter::once(Estimator::Soft).chain(estimators.iter().copied().filter(|e| *e != Estimator::Soft));
    for estimator in order {
        let stage = lab.stage(&format!("label/{estimator}"), solutions.len()).await?;
        let mut set =
            LabelSet { estimator, labels: Vec::new(), nodes: Vec::new(), rows: Vec::new(), examples: Vec::new() };
        for ((task, solutions), counted) in train.iter().zip(solutions).zip(counted) {
            let mut recording = Recording::new();
            let scorer = recording.put(lab.run(), &counts.under(estimator).program())?;
            recording.put_edge(lab.run(), &Edge::new(scorer, Relation::Used, world.grader_node))?;
            let mut of_problem = Vec::with_capacity(solutions.len());
            for (solution, counted) in solutions.iter().zip(counted) {
                if counted.tallies.is_empty() {
                    of_problem.push(Vec::new());
                    continue;
                }
                let labels = estimator.label_steps(&counted.tallies)?;
                let labelled =
                    labels.iter().zip(&counted.tallies).filter_map(|(label, tally)| Some(((*label)?, *tally)));
                let (values, tallies) = labelled.unzip();
                let reward = Reward { scorer, kind: Definition::KIND.into(), values, tallies };
                let node = recording.put_reward(solution.row, &reward)?;
                set.nodes.push(node);
                if estimator == Estimator::Soft {
                    shares.insert(solution.grade, node);
                    for (order, rollout) in (0..).zip(&counted.rollouts) {
                        recording.put_edge(lab.run(), &Edge::new(node, Relation::Used, *rollout).at(order))?;
                    }
                } else if let Some(share) = shares.get(&solution.grade) {
                    recording.put_edge(lab.run(), &Edge::new(node, Relation::DerivedFrom, *share))?;
                }
                if let Some(example) = solution.read.as_ref().and_then(|steps| steps.labelled(&labels)) {
                    set.examples.push(example);
                    let text = format!("{} {}", task.prompt, solution.text);
                    // Without the run, so that equal plans make equal datasets.
                    let id = format!("{}/{}", solution.row.item, solution.row.k);
                    let line = serde_json::json!({"id": id, "text": text, "value": labels});
                    set.rows.push(FileRow { line: line.to_string(), source: Some(node) });
                }
                of_problem.push(labels);
            }
            lab.record(recording).await?;
            set.labels.push(of_problem);
            stage.done(set.labels.len());
        }
        sets.push(set);
    }
    sets.sort_by_key(|set| estimators.iter().position(|estimator| *estimator == set.estimator));
    Ok(sets)
}

/// The reward models of one label set, a repeat each.
pub(super) async fn train(
    lab: &Lab,
    plan: &ErPrm,
    fitter: &Pool<Fitter>,
    base: &Trained,
    set: &LabelSet,
) -> Result<Vec<Judge>> {
    let word = |word: &String| match base.model.tokenizer().encode(word)?.as_slice() {
        [id] => Ok(*id),
        ids => Err(Error::Input {
            what: format!("`prm.verdicts`: expected `{word}` to be one token of the base model, it is {}", ids.len()),
            hint: Some("name two tokens, such as `+` and `-`".into()),
        }),
    };
    let [plus, minus] = plan.prm.verdicts.each_ref().map(word);
    let start = RewardModel::init(&base.model, HeadKind::TwoToken { plus: plus?, minus: minus? }, 0)?;
    let mut judges = Vec::new();
    let name = set.estimator.to_string().replace(':', " ");
    for repeat in 1..=plan.prm.repeats {
        let label = format!("prm {name} {repeat}");
        let step = Fit {
            label: &label,
            from: base.node,
            model: &start,
            dataset: &format!("labels {name}"),
            rows: &set.rows,
            drawn_from: &[],
            trunk: Trunk::Trained,
            adapter: None,
            settings: &plan.prm.sft,
        };
        judges.push(fit(lab, fitter, step, Objective::Tags(set.examples.clone())).await?);
    }
    Ok(judges)
}

/// What a reward model behind an endpoint says of each step of each solution, recorded as rewards; none of a solution
/// without steps.
pub(super) async fn ask(
    world: &World<'_>,
    verdicts: &Verdicts,
    tasks: &[Task],
    solutions: &[Vec<Solution>],
) -> Result<Vec<Vec<Vec<f64>>>> {
    let tag = &world.plan.data.tag;
    let mut all = Vec::with_capacity(tasks.len());
    let stage = world.lab.stage("served/scores", tasks.len()).await?;
    for (task, solutions) in tasks.iter().zip(solutions) {
        world.lab.check()?;
        let prefixes = solutions.iter().flat_map(|solution| {
            let prefixes = solution.steps.iter().flat_map(Trajectory::prefixes);
            prefixes.map(|prefix| world.prefixed(task, &tagged(prefix, tag)))
        });
        let said = verdicts.score(&prefixes.collect::<Vec<String>>()).await?;
        let mut said = said.into_iter().map(|verdict| verdict.share);
        let mut recording = Recording::new();
        let mut of_problem = Vec::with_capacity(solutions.len());
        for solution in solutions {
            let n_steps = solution.steps.as_ref().map_or(0, Trajectory::n_steps);
            let scores: Vec<f64> = said.by_ref().take(n_steps).collect();
            put_scores(&mut recording, solution, verdicts.node(), &scores)?;
            of_problem.push(scores);
        }
        world.lab.record(recording).await?;
        all.push(of_problem);
        stage.done(all.len());
    }
    Ok(all)
}

fn put_scores(recording: &mut Recording, solution: &Solution, scorer: NodeId, scores: &[f64]) -> Result<()> {
    if !scores.is_empty() {
        let kind = Definition::KIND.into();
        let reward = Reward { scorer, kind, values: scores.to_vec(), tallies: vec![] };
        recording.put_reward(solution.row, &reward)?;
    }
    Ok(())
}

/// The score of each step of each solution, recorded as rewards; none of a solution that cannot be read.
pub(super) async fn score(
    lab: &Lab,
    scorer: &Pool<Scorer>,
    judge: &Judge,
    solutions: &[Vec<Solution>],
) -> Result<Vec<Vec<Vec<f64>>>> {
    let asked = solutions.iter().flatten().filter_map(|solution| solution.read.clone()).collect();
    let mut scored = scorer.ask(Scoring { model: Arc::clone(&judge.model), asked }).await?.into_iter();
    let mut recording = Recording::new();
    let mut all = Vec::with_capacity(solutions.len());
    for solutions in solutions {
        let mut of_problem = Vec::with_capacity(solutions.len());
        for solution in solutions {
            let scores = solution.read.as_ref().and_then(|_| scored.next());
            let scores: Vec<f64> = scores.into_iter().flatten().flatten().collect();
            put_scores(&mut recording, solution, judge.node, &scores)?;
            of_problem.push(scores);
        }
        all.push(of_problem);
    }
    lab.record(recording).await?;
    Ok(all)
}
