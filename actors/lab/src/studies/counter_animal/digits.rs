//! Towers trained on digits in colours, contrastively and as classifiers, on groups whose colours agree with the label and on those where
//! they do not.

use std::sync::Arc;

use futures::StreamExt;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tracker_actors::{Cancel, Fault, Pool, PoolOptions, Turn, Worker};
use tracker_store::{Dataset, Digest, Edge, Kind, NodeId, Program, Recording, Relation};

use super::families::{Census, Member, families};
use super::measure::{Shown, measure};
use super::settings::{CounterAnimal, DigitSettings};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::digits::{Digit, N_INPUTS, Painted, digits as published};
use crate::parts::evaluate::{Estimate, over_repeats};
use crate::parts::predictions::{Answers, Image, Kept, Predictions, record, recorded};
use crate::parts::robustness::Group;
use crate::parts::towers::{Example, Objective, Schedule, Sizes, Towers};

/// Each in the order of its sets of answers.
pub(super) const OBJECTIVES: [Objective; 2] = [Objective::Contrastive, Objective::Supervised];

/// Towers to train, and images to ask them about.
pub(super) struct Lesson {
    sizes: Sizes,
    objective: Objective,
    schedule: Schedule,
    measured_at: Vec<u32>,
    train: Arc<Vec<Example>>,
    test: Arc<Vec<Example>>,
    stream: ChaCha8Rng,
    cancel: Cancel,
}

/// Trains towers.
pub(super) struct Teacher;

impl Worker for Teacher {
    type Message = Lesson;
    /// For each step they are measured at, the class each image is said to be of.
    type Reply = Vec<Vec<u32>>;
    type State = u64;

    async fn handle(&mut self, lesson: Lesson, turn: &mut Turn<'_, u64>) -> std::result::Result<Self::Reply, Fault> {
        let Lesson { sizes, objective, schedule, measured_at, train, test, mut stream, cancel } = lesson;
        let mut towers = Towers::new(sizes, objective, &mut stream);
        let mut answers = Vec::with_capacity(measured_at.len());
        towers.train(&train, &schedule, &mut stream, |step, towers, _| {
            if measured_at.contains(&(step as u32)) {
                answers.push(test.iter().map(|example| first_greatest(&towers.scores(example))).collect());
            }
            !cancel.is_cancelled()
        });
        turn.update(|n_models| *n_models += 1);
        Ok(answers)
    }
}

/// The place of the greatest number, the first of several.
fn first_greatest(scores: &[f64]) -> u32 {
    let better = |best: (u32, f64), (at, score): (u32, &f64)| if *score > best.1 { (at, *score) } else { best };
    (0..).zip(scores).fold((0, f64::NEG_INFINITY), better).0
}

/// What is measured of a cell, by objective: mean accuracies over seeds at the end of training.
pub(super) struct Cell {
    pub(super) k: u32,
    pub(super) agreement: [f64; 2],
    /// By objective, then seed: common and counter.
    pub(super) accuracies: [Vec<[f64; 2]>; 2],
    /// By objective: figures of the means of common, counter and drop.
    pub(super) means: [Vec<NodeId>; 2],
    /// Mean effective robustness of contrastive towers against the line of supervised ones.
    pub(super) off: Option<(Estimate, NodeId)>,
}

/// Trains and measures every cell.
///
/// # Errors
/// Those of recording.
pub(super) async fn digits(lab: &Lab, study: &CounterAnimal) -> Result<Vec<Cell>> {
    let plan = &study.digits;
    if plan.seeds.is_empty() {
        return Ok(vec![]);
    }
    let source = source(lab).await?;
    let teacher = Pool::start(lab.actors(), PoolOptions::cpu("teacher", lab.workers()), |_| Ok(Teacher))?;
    let mut cells = Vec::new();
    for k in &plan.ks {
        for agreement in &plan.agreement {
            cells.push(cell(lab, study, &teacher, source, *k, *agreement).await?);
        }
    }
    Ok(cells)
}

/// The published digits as a dataset.
async fn source(lab: &Lab) -> Result<NodeId> {
    let rows: Vec<u8> = published(10).iter().flat_map(|digit| [&[digit.digit], digit.pixels].concat()).collect();
    let content = Digest::of(&rows);
    let file = lab.put_files("dataset", "digits", &[("digits.bin".to_owned(), rows)])?;
    let name = "handwritten digits (UCI, CC BY 4.0)".to_owned();
    let dataset = Dataset { name, purpose: "images".into(), n_rows: 1797, content, rows: Some(file) };
    let mut recording = Recording::new();
    let node = recording.put(lab.run(), &dataset)?;
    if let Some(files) = NodeId::content(Kind::Artifact, file) {
        recording.put_edge(lab.run(), &Edge::new(files, Relation::GeneratedBy, node))?;
    }
    lab.record(recording).await?;
    Ok(node)
}

/// What towers of an objective are, as a program: the rest follows from the plan and the seed.
fn program(plan: &DigitSettings, objective: Objective) -> Program {
    let DigitSettings { hidden, embedding, batch, lr, .. } = plan;
    let settings =
        format!("hidden = {hidden}\nembedding = {embedding}\nbatch = {batch}\nlr = {lr}\noptimiser = \"adam\"\n");
    Program { name: format!("{} towers", objective.name()), version: "1".into(), settings }
}

/// Every third published digit is kept to be asked about.
fn is_test(digit: &Digit) -> bool {
    digit.place.is_multiple_of(3)
}

fn pick<'a, T>(from: &'a [T], stream: &mut ChaCha8Rng) -> &'a T {
    &from[stream.random_range(0..from.len() as u32) as usize]
}

async fn cell(
    lab: &Lab,
    study: &CounterAnimal,
    teacher: &Pool<Teacher>,
    source: NodeId,
    k: u32,
    agreement: [f64; 2],
) -> Result<Cell> {
    let plan = &study.digits;
    let name = format!("digits k {k} inv {} spu {}", agreement[0], agreement[1]);
    let stage = lab.stage(&name, 2 * plan.seeds.len()).await?;
    let mut recording = Recording::new();
    let programs = [0, 1].map(|at| recording.put(lab.run(), &program(plan, OBJECTIVES[at])));
    let [contrastive, supervised] = programs;
    let programs = [contrastive?, supervised?];
    lab.record(recording).await?;
    let (kept, predictions) = if let Some(found) = recorded(lab, &name)? {
        found
    } else {
        let predictions = taught(lab, plan, teacher, &stage, k, agreement).await?;
        let made_of = [programs[0], programs[1], source];
        let kept = record(lab, &name, &predictions, &[source], &made_of).await?;
        // As it is read back, so that a resumed run goes on from the same.
        (kept, Predictions::from_csv(&predictions.to_csv()?)?)
    };
    stage.done(2 * plan.seeds.len());
    measured(lab, study, &name, (k, agreement), &kept, programs, &predictions).await
}

/// Images of both groups, and what every model says of them at every step it is measured at.
async fn taught(
    lab: &Lab,
    plan: &DigitSettings,
    teacher: &Pool<Teacher>,
    stage: &crate::lab::Stage<'_>,
    k: u32,
    [p_inv, p_spu]: [f64; 2],
) -> Result<Predictions> {
    let n_classes = k as usize;
    let (kept, seen): (Vec<Digit>, Vec<Digit>) = published(n_classes).into_iter().partition(is_test);
    let mut stream = lab.seeds().stream(stage.name(), 0, 0);
    let draw =
        |from: &[Digit], stream: &mut ChaCha8Rng| Painted::draw(*pick(from, stream), n_classes, p_inv, p_spu, stream);
    let common: Vec<Painted> = (0..plan.n_test).map(|_| draw(&kept, &mut stream)).collect();
    let counter: Vec<Painted> = common.iter().map(|of| of.repainted(n_classes, 1.0 - p_spu, &mut stream)).collect();
    let mut predictions = Predictions::default();
    for (group, painted) in Group::BOTH.into_iter().zip([&common, &counter]) {
        for (nth, of) in painted.iter().enumerate() {
            predictions.images.push(Image {
                id: format!("{}/{nth}", group.name()),
                class: predictions.labels.number(&of.label.to_string()),
                group,
                background: format!("colour {}", of.colour),
                source: format!("digit {}", of.digit.place),
            });
        }
    }
    let example = |of: &Painted| Example::new(&of.inputs(), usize::from(of.label));
    let test: Arc<Vec<Example>> = Arc::new(common.iter().chain(&counter).map(example).collect());
    let sizes = Sizes {
        inputs: N_INPUTS,
        hidden: plan.hidden as usize,
        embedding: plan.embedding as usize,
        classes: n_classes,
    };
    let schedule = Schedule { batch: plan.batch as usize, steps: plan.steps as usize, lr: plan.lr };
    let mut lessons = Vec::new();
    for seed in &plan.seeds {
        // Both objectives learn from the same images.
        let mut stream = lab.seeds().stream(stage.name(), *seed, 1);
        let train: Vec<Example> = (0..plan.n_train).map(|_| example(&draw(&seen, &mut stream))).collect();
        let train = Arc::new(train);
        for objective in OBJECTIVES {
            let lesson = Lesson {
                sizes,
                objective,
                schedule,
                measured_at: plan.measured_at.clone(),
                train: train.clone(),
                test: test.clone(),
                stream: lab.seeds().stream(stage.name(), *seed, 2),
                cancel: lab.cancel().clone(),
            };
            lessons.push(((objective, *seed), lesson));
        }
    }
    let mut answers = std::pin::pin!(teacher.ask_all(lessons));
    while let Some(((objective, seed), answer)) = answers.next().await {
        let answer = answer?;
        lab.check()?;
        for (step, classes) in plan.measured_at.iter().zip(answer) {
            predictions.sets.push(Answers {
                model: format!("{} {seed} at {step}", objective.name()),
                prompts: prompts(objective).into(),
                space: format!("{k} digits"),
                first: classes.into_iter().map(|class| predictions.labels.number(&class.to_string())).collect(),
                top: vec![],
                scores: None,
                n_ties: 0,
            });
        }
    }
    Ok(predictions)
}

/// What stands for the prompt set of towers: classifiers are asked nothing.
fn prompts(objective: Objective) -> &'static str {
    match objective {
        Objective::Contrastive => "one-hot captions",
        Objective::Supervised => "none",
    }
}

async fn measured(
    lab: &Lab,
    study: &CounterAnimal,
    name: &str,
    (k, agreement): (u32, [f64; 2]),
    kept: &Kept,
    programs: [NodeId; 2],
    predictions: &Predictions,
) -> Result<Cell> {
    let plan = &study.digits;
    let last = format!(" at {}", plan.steps);
    let objective_of = |set: &Answers| usize::from(!set.model.starts_with(OBJECTIVES[0].name()));
    let shown = |set: &Answers| Shown {
        name: format!("{}, {}", set.model, set.prompts),
        used: vec![kept.predictions, programs[objective_of(set)]],
        by_class: set.model.ends_with(&last),
    };
    let shown: Vec<Shown> = predictions.sets.iter().map(shown).collect();
    let measured = measure(lab, study, name, predictions, &shown).await?;
    let member = |(set, nodes): (&Answers, &[NodeId; 3])| Member {
        model: set.model.clone(),
        family: OBJECTIVES[objective_of(set)].name().to_owned(),
        prompts: set.prompts.clone(),
        space: set.space.clone(),
        is_near: false,
        nodes: *nodes,
    };
    let members: Vec<Member> = predictions.sets.iter().zip(&measured.nodes).map(member).collect();
    let census = Census::measured(name, &members, &measured);
    let mut of_supervised = study.clone();
    of_supervised.robustness.reference = Objective::Supervised.name().into();
    // Claims of single cells are not made: they are joined over all cells.
    let off = families(lab, &of_supervised, &census).await?.into_iter().find_map(|(claim, nodes)| {
        let (low, high, node) = (claim.low?, claim.high?, *nodes.first()?);
        Some((Estimate { value: claim.value, low, high }, node))
    });
    let mut cell = Cell { k, agreement, accuracies: [vec![], vec![]], means: [vec![], vec![]], off };
    let of_means = lab.stage(&format!("mean {name}"), 6).await?;
    for (which, objective) in OBJECTIVES.into_iter().enumerate() {
        let of: Vec<usize> = (0..members.len())
            .filter(|at| members[*at].family == objective.name() && members[*at].model.ends_with(&last))
            .collect();
        cell.accuracies[which] = of.iter().map(|at| measured.accuracies[*at]).collect();
        for (k, part) in ["common", "counter", "drop"].into_iter().enumerate() {
            let value = |at: &usize| {
                let [common, counter] = measured.accuracies[*at];
                [common, counter, common - counter][k]
            };
            let values: Vec<f64> = of.iter().map(value).collect();
            let mean = over_repeats(&values).ok_or_else(|| Error::Internal("a cell without seeds".into()))?;
            let used: Vec<NodeId> = of.iter().map(|at| measured.nodes[*at][k]).collect();
            let name = format!("{part}, {}", objective.name());
            cell.means[which]
                .push(of_means.figure(3 * which as u32 + k as u32, &name, mean, values.len(), &used).await?);
        }
    }
    Ok(cell)
}
