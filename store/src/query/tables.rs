//! The tables that can be asked: their columns, and what each row says in them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::value::Value;
use crate::error::{Error, Result};
use crate::id::{Kind, NodeId};
use crate::keys;
use crate::model::{
    Checkpoint, Claim, Dataset, Figure, Front, Goal, Objective, Problem, Program, Recipe, Reward, Run, Sample,
    Selection, Statement, Tally, Verdict, Verifier,
};
use crate::records::Stored as _;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// Runs, newest first.
    Runs,
    /// Samples, by run, stage, item, k.
    Samples,
    /// Verdicts with the texts they are about, by run, stage, item, k.
    Proofs,
    /// Rewards, by run, stage, item, k.
    Rewards,
    /// Selections, by run, stage, item, k.
    Selections,
    /// Figures, by run, stage, item, k.
    Figures,
    /// Claims, by run, stage, item, k.
    Claims,
    /// Checkpoints, by digest.
    Checkpoints,
    /// Datasets, by digest.
    Datasets,
    /// Statements, by digest.
    Statements,
    /// Problems, by digest.
    Problems,
    /// Builds of verifiers, by digest.
    Verifiers,
    /// Fronts, by digest.
    Fronts,
    /// Recipes of merges, by digest.
    Recipes,
    /// Programs: definitions of labels, graders, maps, by digest.
    Programs,
}

const PLACE: [&str; 5] = ["id", "run", "stage", "item", "k"];

impl Table {
    /// Every table.
    pub const ALL: [Self; 15] = [
        Self::Runs,
        Self::Samples,
        Self::Proofs,
        Self::Rewards,
        Self::Selections,
        Self::Figures,
        Self::Claims,
        Self::Checkpoints,
        Self::Datasets,
        Self::Statements,
        Self::Problems,
        Self::Verifiers,
        Self::Fronts,
        Self::Recipes,
        Self::Programs,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Samples => "samples",
            Self::Proofs => "proofs",
            Self::Rewards => "rewards",
            Self::Selections => "selections",
            Self::Figures => "figures",
            Self::Claims => "claims",
            Self::Checkpoints => "checkpoints",
            Self::Datasets => "datasets",
            Self::Statements => "statements",
            Self::Problems => "problems",
            Self::Verifiers => "verifiers",
            Self::Fronts => "fronts",
            Self::Recipes => "recipes",
            Self::Programs => "programs",
        }
    }

    /// The kind of its rows.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Runs => Kind::Run,
            Self::Samples => Kind::Sample,
            Self::Proofs => Kind::Verdict,
            Self::Rewards => Kind::Reward,
            Self::Selections => Kind::Selection,
            Self::Figures => Kind::Figure,
            Self::Claims => Kind::Claim,
            Self::Checkpoints => Kind::Checkpoint,
            Self::Datasets => Kind::Dataset,
            Self::Statements => Kind::Statement,
            Self::Problems => Kind::Problem,
            Self::Verifiers => Kind::Verifier,
            Self::Fronts => Kind::Front,
            Self::Recipes => Kind::Recipe,
            Self::Programs => Kind::Program,
        }
    }

    /// The table whose rows are nodes of this kind, if there is one.
    pub(super) fn of(kind: Kind) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.kind() == kind)
    }

    /// Its columns that name another node, whose columns are then fields too: `winner.text`.
    pub(super) fn links(self) -> &'static [&'static str] {
        match self {
            Self::Samples => &["subject", "policy"],
            Self::Proofs => &["sample", "verifier"],
            Self::Rewards => &["scorer", "sample"],
            Self::Selections => &["winner", "scorer"],
            Self::Statements => &["formalizer"],
            _ => &[],
        }
    }

    /// Its own columns, in order.
    #[must_use]
    pub fn columns(self) -> Vec<&'static str> {
        let own: &[&str] = match self {
            Self::Runs => {
                return vec![
                    "id",
                    "name",
                    "study",
                    "status",
                    "seed",
                    "device",
                    "host",
                    "started",
                    "ended",
                    "record_digest",
                ];
            }
            Self::Samples => &["subject", "policy", "sampling", "seed", "n_tokens", "sum_logprob", "finish", "text"],
            Self::Proofs => {
                &["outcome", "verifier", "message", "axioms", "sandboxed", "wall_micros", "cpu_micros", "text"]
            }
            Self::Rewards => &["scorer", "kind", "value", "values", "tallies"],
            Self::Selections => &["rule", "ties", "chosen", "winner", "n_candidates", "score", "margin", "scorer"],
            Self::Figures => &["name", "value", "low", "high", "n", "unit", "split"],
            Self::Claims => &["claim", "statement", "holds", "value", "low", "high", "bound"],
            Self::Checkpoints => return vec!["id", "label", "n_params", "step", "config", "manifest"],
            Self::Datasets => return vec!["id", "name", "purpose", "n_rows", "content", "rows"],
            Self::Statements => {
                return vec![
                    "id",
                    "name",
                    "style",
                    "text",
                    "canonical",
                    "problem",
                    "formalizer",
                    "compiles",
                    "faithful",
                    "header",
                ];
            }
            Self::Problems => return vec!["id", "name", "source", "text"],
            Self::Verifiers => return vec!["id", "name", "version", "commit", "binary", "flags"],
            Self::Fronts => return vec!["id", "name", "objectives", "n_points", "n_front", "hypervolume", "reference"],
            Self::Recipes => return vec!["id", "method", "parents", "others", "seed", "text"],
            Self::Programs => return vec!["id", "name", "version", "settings"],
        };
        PLACE.iter().chain(own).copied().collect()
    }

    /// Whether it has a column of this name, under that name or another it goes by.
    pub(super) fn column(self, name: &str) -> Option<&'static str> {
        // Answered, but not shown unless asked for.
        const MORE: [&str; 8] =
            ["start_time", "end_time", "experiment", "experiment_id", "message", "plan_digest", "user", "deleted"];
        let name = match (self, name) {
            (Self::Runs, "run_id") => "id",
            (Self::Runs, "run_name") => "name",
            (Self::Runs, "created") => "start_time",
            (Self::Runs, "user_id") => "user",
            (_, name) => name,
        };
        let more = MORE.into_iter().filter(|_| self == Self::Runs);
        self.columns().into_iter().chain(more).find(|column| *column == name)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Table {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|table| table.name() == text).ok_or_else(|| {
            let hint = crate::resolve::nearest(text, Self::ALL.iter().map(|table| table.name()));
            Error::NotFound { what: "table", name: text.to_owned(), hint }
        })
    }
}

/// A row's record, decoded.
pub(super) enum Record {
    Run(Run),
    Sample(Sample),
    Verdict(Verdict),
    Reward(Reward),
    Selection(Selection),
    Figure(Figure),
    Claim(Claim),
    Checkpoint(Checkpoint),
    Dataset(Dataset),
    Statement(Statement),
    Problem(Problem),
    Verifier(Verifier),
    Front(Front),
    Recipe(Recipe),
    Program(Program),
}

impl Record {
    pub(super) fn decode(table: Table, node: &NodeId, bytes: &[u8]) -> Result<Self> {
        let key = keys::node(node);
        Ok(match table {
            Table::Runs => Self::Run(Run::decode(&key, bytes)?),
            Table::Samples => Self::Sample(Sample::decode(&key, bytes)?),
            Table::Proofs => Self::Verdict(Verdict::decode(&key, bytes)?),
            Table::Rewards => Self::Reward(Reward::decode(&key, bytes)?),
            Table::Selections => Self::Selection(Selection::decode(&key, bytes)?),
            Table::Figures => Self::Figure(Figure::decode(&key, bytes)?),
            Table::Claims => Self::Claim(Claim::decode(&key, bytes)?),
            Table::Checkpoints => Self::Checkpoint(Checkpoint::decode(&key, bytes)?),
            Table::Datasets => Self::Dataset(Dataset::decode(&key, bytes)?),
            Table::Statements => Self::Statement(Statement::decode(&key, bytes)?),
            Table::Problems => Self::Problem(Problem::decode(&key, bytes)?),
            Table::Verifiers => Self::Verifier(Verifier::decode(&key, bytes)?),
            Table::Fronts => Self::Front(Front::decode(&key, bytes)?),
            Table::Recipes => Self::Recipe(Recipe::decode(&key, bytes)?),
            Table::Programs => Self::Program(Program::decode(&key, bytes)?),
        })
    }

    /// What it says in one of its own columns; null for columns that are looked up elsewhere.
    pub(super) fn value(&self, column: &str) -> Value {
        match self {
            Self::Run(run) => of_run(run, column),
            Self::Sample(sample) => of_sample(sample, column),
            Self::Verdict(verdict) => of_verdict(verdict, column),
            Self::Reward(reward) => match column {
                "scorer" => text(reward.scorer),
                "kind" => Value::Text(reward.kind.clone()),
                "value" => reward.values.first().copied().into(),
                "values" => Value::Text(joined(&reward.values)),
                "tallies" => Value::Text(tallied(&reward.tallies)),
                _ => Value::Null,
            },
            Self::Selection(selection) => of_selection(selection, column),
            Self::Figure(figure) => match column {
                "name" => Value::Text(figure.name.clone()),
                "value" => Value::Real(figure.value),
                "low" => figure.low.into(),
                "high" => figure.high.into(),
                "n" => count(figure.n),
                "unit" => Value::Text(figure.unit.clone()),
                "split" => Value::Text(figure.split.clone()),
                _ => Value::Null,
            },
            Self::Claim(claim) => match column {
                "claim" => Value::Text(claim.id.clone()),
                "statement" => Value::Text(claim.statement.clone()),
                "holds" => Value::Bool(claim.holds),
                "value" => Value::Real(claim.value),
                "low" => claim.low.into(),
                "high" => claim.high.into(),
                "bound" => claim.bound.into(),
                _ => Value::Null,
            },
            Self::Front(front) => of_front(front, column),
            Self::Recipe(recipe) => of_recipe(recipe, column),
            Self::Checkpoint(_)
            | Self::Dataset(_)
            | Self::Statement(_)
            | Self::Problem(_)
            | Self::Verifier(_)
            | Self::Program(_) => self.content_value(column),
        }
    }

    fn content_value(&self, column: &str) -> Value {
        match (self, column) {
            (Self::Checkpoint(checkpoint), "label") => Value::Text(checkpoint.label.clone()),
            (Self::Checkpoint(checkpoint), "n_params") => count(checkpoint.n_params),
            (Self::Checkpoint(checkpoint), "step") => count(checkpoint.step),
            (Self::Checkpoint(checkpoint), "config") => text(checkpoint.config),
            (Self::Checkpoint(checkpoint), "manifest") => text(checkpoint.manifest),
            (Self::Dataset(dataset), "name") => Value::Text(dataset.name.clone()),
            (Self::Dataset(dataset), "purpose") => Value::Text(dataset.purpose.clone()),
            (Self::Dataset(dataset), "n_rows") => count(dataset.n_rows),
            (Self::Dataset(dataset), "content") => text(dataset.content),
            (Self::Dataset(dataset), "rows") => dataset.rows.map_or(Value::Null, text),
            (Self::Statement(statement), "name") => Value::Text(statement.name.clone()),
            (Self::Statement(statement), "style") => Value::Text(statement.style.clone()),
            (Self::Statement(statement), "header") => Value::Text(statement.header.clone()),
            (Self::Statement(statement), "text") => Value::Text(statement.text.clone()),
            (Self::Statement(statement), "canonical") => text(statement.canonical),
            (Self::Statement(statement), "problem") => statement.problem.map_or(Value::Null, text),
            (Self::Statement(statement), "formalizer") => statement.formalizer.map_or(Value::Null, text),
            (Self::Statement(statement), "compiles") => statement.compiles.map_or(Value::Null, Value::Bool),
            (Self::Statement(statement), "faithful") => statement
                .faithful
                .filter(|votes| votes.of > 0)
                .map_or(Value::Null, |votes| Value::Real(f64::from(votes.yes) / f64::from(votes.of))),
            (Self::Problem(problem), "name") => Value::Text(problem.name.clone()),
            (Self::Problem(problem), "source") => Value::Text(problem.source.clone()),
            (Self::Problem(problem), "text") => Value::Text(problem.text.clone()),
            (Self::Program(program), "name") => Value::Text(program.name.clone()),
            (Self::Program(program), "version") => Value::Text(program.version.clone()),
            (Self::Program(program), "settings") => Value::Text(program.settings.clone()),
            (Self::Verifier(build), "name") => Value::Text(build.name.clone()),
            (Self::Verifier(build), "version") => Value::Text(build.version.clone()),
            (Self::Verifier(build), "commit") => Value::Text(build.commit.clone()),
            (Self::Verifier(build), "binary") => text(build.binary),
            (Self::Verifier(build), "flags") => Value::Text(build.flags.join(" ")),
            _ => Value::Null,
        }
    }
}

pub(super) fn of_run(run: &Run, column: &str) -> Value {
    match column {
        "id" => text(run.id),
        "name" => Value::Text(run.name.clone()),
        "study" => Value::Text(run.study.clone()),
        "status" => run.status.name().into(),
        "seed" => count(run.seed),
        "device" => Value::Text(run.device.clone()),
        "host" => Value::Text(run.host.clone()),
        "message" => Value::Text(run.message.clone()),
        "started" => text(run.started),
        "ended" => run.ended.map_or(Value::Null, text),
        "start_time" => Value::Int(run.started.millis()),
        "end_time" => run.ended.map_or(Value::Null, |time| Value::Int(time.millis())),
        "experiment_id" => text(run.experiment),
        "plan_digest" => text(run.plan.digest),
        "user" if !run.user.is_empty() => Value::Text(run.user.clone()),
        "deleted" => run.deleted.map_or(Value::Null, text),
        "record_digest" => run.record_digest.map_or(Value::Null, text),
        _ => Value::Null,
    }
}

pub(super) fn of_sample(sample: &Sample, column: &str) -> Value {
    match column {
        "subject" => text(sample.subject),
        "policy" => text(sample.policy),
        "sampling" => text(sample.sampling),
        "seed" => count(sample.seed),
        "n_tokens" => count(u64::from(sample.n_tokens)),
        "sum_logprob" => sample.sum_logprob.into(),
        "finish" => text(sample.finish),
        "text" => Value::Text(sample.text.clone()),
        _ => Value::Null,
    }
}

fn of_selection(selection: &Selection, column: &str) -> Value {
    match column {
        "rule" => Value::Text(selection.rule.clone()),
        "ties" => Value::Text(selection.ties.clone()),
        "chosen" => count(u64::from(selection.chosen)),
        "winner" => selection.winner().map_or(Value::Null, text),
        "n_candidates" => count(selection.candidates.len() as u64),
        "score" => selection.scores.get(selection.chosen as usize).copied().into(),
        "margin" => selection.margin().into(),
        "scorer" => selection.scorer.map_or(Value::Null, text),
        _ => Value::Null,
    }
}

/// Hits of trials: `3/16 0/1`.
fn tallied(tallies: &[Tally]) -> String {
    tallies.iter().map(|tally| format!("{}/{}", tally.hits, tally.of)).collect::<Vec<_>>().join(" ")
}

fn of_front(front: &Front, column: &str) -> Value {
    let objective = |o: &Objective| {
        let goal = if o.goal == Goal::Maximize { "max" } else { "min" };
        format!("{}:{goal}", o.name)
    };
    match column {
        "name" => Value::Text(front.name.clone()),
        "objectives" => Value::Text(front.objectives.iter().map(objective).collect::<Vec<_>>().join(" ")),
        "n_points" => count(front.points.len() as u64),
        "n_front" => count(front.points.iter().filter(|point| point.is_pareto).count() as u64),
        "hypervolume" => front.hypervolume.into(),
        "reference" => Value::Text(joined(&front.reference)),
        _ => Value::Null,
    }
}

fn of_recipe(recipe: &Recipe, column: &str) -> Value {
    match column {
        "method" => Value::Text(recipe.method.clone()),
        "parents" => Value::Text(recipe.parents.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
        "others" => Value::Text(recipe.others.clone()),
        "seed" => count(recipe.seed),
        "text" => Value::Text(recipe.text.clone()),
        _ => Value::Null,
    }
}

fn of_verdict(verdict: &Verdict, column: &str) -> Value {
    match column {
        "outcome" => verdict.outcome.name().into(),
        "verifier" => text(verdict.verifier),
        "message" => Value::Text(verdict.message.clone()),
        "axioms" => Value::Text(verdict.axioms.join(" ")),
        "sandboxed" => Value::Bool(verdict.sandboxed),
        "wall_micros" => count(verdict.cost.wall_micros),
        "cpu_micros" => count(verdict.cost.cpu_micros),
        _ => Value::Null,
    }
}

fn text(value: impl fmt::Display) -> Value {
    Value::Text(value.to_string())
}

/// A count; those past the range of signed numbers as text, so that no digit is lost.
fn count(number: u64) -> Value {
    i64::try_from(number).map_or_else(|_| text(number), Value::Int)
}

fn joined(values: &[f64]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
