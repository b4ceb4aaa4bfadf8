//! Judging: what each judge makes of the same outputs, as rewards of its own beside each other.
//!
//! A verdict is a reward of the output at its row, by the judge's program. Where outputs are those of another run, verdicts stand at the
//! same rows of this one and lead to the outputs through the verdicts recorded there.

use rayon::prelude::*;
use tracker_store::{Edge, NodeId, Program, Recording, Relation, Reward, RowKey};

use super::CorrelationQa;
use super::outputs::{Output, Said};
use super::question::Asked;
use super::trial::Trial;
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::mention::llm::{LlmJudge, Reply};
use crate::parts::mention::{Rule, Said as Verdict};

/// What a verdict is: right, names the pictured wrong answer, hedges.
pub(super) const VERDICT: &str = "verdict";
/// Verdicts recorded together.
const AT_ONCE: usize = 4096;

/// A judge with its verdicts, output by output.
pub(super) struct Judge {
    pub(super) name: String,
    pub(super) node: NodeId,
    pub(super) verdicts: Vec<Verdict>,
}

/// What is judged.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) asked: &'a [Asked],
    pub(super) trials: &'a [Trial],
    pub(super) said: &'a Said,
}

impl Case<'_> {
    fn of(&self, output: &Output) -> (&Asked, &Trial) {
        let trial = &self.trials[output.trial];
        (&self.asked[trial.question], trial)
    }
}

impl CorrelationQa {
    /// The verdicts of every judge of the plan, recorded; of small networks also what they chose, which is the truth about them.
    ///
    /// # Errors
    /// Of the judge behind an endpoint and of recording.
    pub(super) async fn judge(&self, lab: &Lab, case: Case<'_>) -> Result<Vec<Judge>> {
        let mut judges = Vec::new();
        for rule in &self.judges.rules {
            let verdicts = by_rule(*rule, case);
            judges.push(record(lab, case, rule.name(), &rule.program(), verdicts).await?);
        }
        if let Some(verdicts) = case.said.outputs.iter().map(|output| chosen(case, output)).collect::<Option<Vec<_>>>()
        {
            let program = Program {
                name: "what the network chose".into(),
                version: "1".into(),
                settings: "the answer it drew, before it was put into words".into(),
            };
            judges.push(record(lab, case, CHOSEN, &program, verdicts).await?);
        }
        if self.judge.is_given() {
            judges.push(self.ask_judge(lab, case).await?);
        }
        Ok(judges)
    }

    /// The verdicts of a model, each with the sample it was read from.
    async fn ask_judge(&self, lab: &Lab, case: Case<'_>) -> Result<Judge> {
        let judge = LlmJudge::start(lab, "judge", &self.judge, &self.judges.template).await?;
        let outputs = &case.said.outputs;
        let stage = lab.stage("judged by llm", outputs.len()).await?;
        let mut verdicts = Vec::with_capacity(outputs.len());
        let reply = |output: &Output| {
            let (asked, trial) = case.of(output);
            Asking {
                subject: trial.node,
                question: asked,
                pictured: trial.wrong_pictured().map(str::to_owned),
                text: output.text.clone(),
            }
        };
        for batch in outputs.chunks(judge.n_at_once().max(1) * 4) {
            lab.check()?;
            let asking: Vec<Asking<'_>> = batch.iter().map(reply).collect();
            let replies: Vec<Reply<'_>> = asking.iter().map(Asking::reply).collect();
            let said = judge.judge(lab, &stage, verdicts.len(), &replies).await?;
            let mut recording = Recording::new();
            for (output, said) in batch.iter().zip(said) {
                let reward = put(lab, &mut recording, output, judge.node, said.value)?;
                recording.put_edge(lab.run(), &Edge::new(reward, Relation::Used, said.from))?;
                verdicts.push(said.value);
            }
            lab.record(recording).await?;
            stage.done(verdicts.len());
        }
        Ok(Judge { name: "llm".into(), node: judge.node, verdicts })
    }
}

/// Name of the judge that knows what a network chose.
pub(super) const CHOSEN: &str = "chosen";

/// A reply on its way to a judge.
struct Asking<'a> {
    subject: NodeId,
    question: &'a Asked,
    pictured: Option<String>,
    text: String,
}

impl Asking<'_> {
    fn reply(&self) -> Reply<'_> {
        Reply {
            subject: self.subject,
            question: &self.question.question.text,
            right: &self.question.question.right,
            pictured: self.pictured.as_deref(),
            text: &self.text,
        }
    }
}

/// What a rule says of every output.
pub(super) fn by_rule(rule: Rule, case: Case<'_>) -> Vec<Verdict> {
    let judge = |output: &Output| {
        let (asked, trial) = case.of(output);
        rule.judge(&output.text, &asked.question.judged(trial.wrong_pictured()))
    };
    case.said.outputs.par_iter().map(judge).collect()
}

/// What is true of an output whose choice is known.
fn chosen(case: Case<'_>, output: &Output) -> Option<Verdict> {
    let (asked, trial) = case.of(output);
    let chosen = asked.question.answers().nth(output.chosen?)?;
    let pictured = trial.wrong_pictured() == Some(chosen);
    Some(Verdict { right: output.chosen == Some(0), pictured, hedge: false })
}

/// Records the verdicts of a program.
async fn record(lab: &Lab, case: Case<'_>, name: &str, program: &Program, verdicts: Vec<Verdict>) -> Result<Judge> {
    let mut recording = Recording::new();
    let node = recording.put(lab.run(), program)?;
    lab.record(recording).await?;
    for (outputs, verdicts) in case.said.outputs.chunks(AT_ONCE).zip(verdicts.chunks(AT_ONCE)) {
        lab.check()?;
        let mut recording = Recording::new();
        for (output, verdict) in outputs.iter().zip(verdicts) {
            put(lab, &mut recording, output, node, *verdict)?;
        }
        lab.record(recording).await?;
    }
    Ok(Judge { name: name.to_owned(), node, verdicts })
}

/// Puts a verdict at the output's row of this run.
fn put(lab: &Lab, recording: &mut Recording, output: &Output, scorer: NodeId, verdict: Verdict) -> Result<NodeId> {
    let row = RowKey { run: lab.run(), ..output.row };
    let reward = Reward { scorer, kind: VERDICT.into(), values: verdict.values(), tallies: vec![] };
    let node = recording.put_reward(row, &reward)?;
    if output.row.run != lab.run() {
        // Through a verdict recorded there to the output it is about.
        let mut before = lab.store().rewards_on(output.row);
        let edge = match before.next().transpose()? {
            Some((reward, _)) => Edge::new(node, Relation::DerivedFrom, reward),
            None => Edge::new(node, Relation::DerivedFrom, NodeId::sample(output.row)),
        };
        recording.put_edge(lab.run(), &edge)?;
    }
    Ok(node)
}
