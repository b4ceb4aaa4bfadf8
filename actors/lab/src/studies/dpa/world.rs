//! Prompts, how they are asked under a preference, answers, and what those are worth.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::lock::Mutex;
use tracker_actors::Pool;
use tracker_lm::Lm;
use tracker_store::{Edge, NodeId, Problem, Program, Recording, Relation};

use super::answers::Answer;
use super::ruler::Ruler;
use super::settings::Dpa;
use super::wish::{Wish, degrees, told};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::direction::Direction;
use crate::parts::endpoint::Api;
use crate::parts::facts::{Facts, spell};
use crate::parts::generate::{LocalGenerator, Policy};
use crate::parts::prompts::read_prompts_checked;
use crate::parts::record::record_members;
use crate::parts::train::{TrainRow, Trained};

/// Words of the small language that say what is wanted.
pub(super) const WORDS: [&str; 3] = ["help", "words", "reach"];
/// [helpfulness, verbosity].
pub(super) type Objectives = [f64; 2];

/// A prompt with its record.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) node: NodeId,
    pub(super) text: String,
    /// What is known of it; nothing of a prompt from a file.
    pub(super) facts: Option<Facts>,
}

/// A question as it is put: which, under which wish, and the record of that.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) node: NodeId,
    pub(super) prompt: String,
    /// What a policy that chats is told before; the others read it in the prompt.
    pub(super) told: String,
}

/// What prompts there are, who draws and who grades.
pub(super) struct World<'a> {
    pub(super) lab: &'a Lab,
    pub(super) plan: &'a Dpa,
    /// The held-out prompts.
    pub(super) test: Vec<Question>,
    /// As a dataset.
    pub(super) benchmark: NodeId,
    /// The program that says what answers are truly worth.
    pub(super) grader: NodeId,
    /// The map from attributes to objectives.
    pub(super) map: NodeId,
    weights: [Vec<f64>; 2],
    /// Prompts of files past those held out.
    others: Mutex<Vec<String>>,
    generator: Pool<LocalGenerator>,
    /// Who rates, once there is somebody.
    pub(super) ruler: Option<Ruler>,
}

impl<'a> World<'a> {
    /// Draws or reads held-out prompts, and records them with the programs that grade.
    ///
    /// # Errors
    /// `Input` naming file and line of a prompt that leaves no room for an answer in the context of `model`.
    pub(super) async fn open(lab: &'a Lab, plan: &'a Dpa, model: Option<&Lm>) -> Result<Self> {
        let weights = plan.objectives();
        let program = |name: &str, settings: String| Program { name: name.into(), version: "1".into(), settings };
        let mut recording = Recording::new();
        let grader = recording.put(lab.run(), &program("facts", plan.reward.attributes.join(" ")))?;
        let matrix = serde_json::json!({
            "attributes": plan.reward.attributes, "helpfulness": weights[0], "verbosity": weights[1],
        });
        let map = recording.put(lab.run(), &program("objectives", matrix.to_string()))?;
        lab.record(recording).await?;
        let room = |prompt: &str| model.map_or(Ok(Ok(())), |model| fits(plan, model, prompt));
        let mut others =
            if plan.is_small() { vec![] } else { read_prompts_checked(&plan.data.prompts, usize::MAX, room)? };
        let test = questions(lab, plan, &mut others, &[], "test", plan.measure.n_prompts).await?;
        let texts: Vec<&str> = test.iter().map(|question| question.text.as_str()).collect();
        let nodes = test.iter().map(|question| question.node);
        let benchmark = record_members(lab, "held-out prompts", "benchmark", &texts.join("\n"), nodes).await?;
        let generator = LocalGenerator::start(lab.actors(), lab.workers())?;
        let others = Mutex::new(others);
        Ok(Self { lab, plan, test, benchmark, grader, map, weights, others, generator, ruler: None })
    }

    /// Prompts that are not held out: of the small language, distinct; of a file, the next ones.
    pub(super) async fn fresh(&self, name: &str, n: u32) -> Result<Vec<Question>> {
        let mut others = self.others.lock().await;
        questions(self.lab, self.plan, &mut others, &self.test, name, n).await
    }

    /// Whether it is known what answers are truly worth.
    pub(super) fn has_gold(&self) -> bool {
        self.plan.is_small()
    }

    /// A model as somebody who can be asked.
    pub(super) fn policy(&self, of: &Trained) -> Policy {
        Policy::Local { node: of.node, model: Arc::new(of.model.clone()), generator: self.generator.clone() }
    }

    /// Whether policies are told what is wanted beside the prompt, not in it.
    fn is_chat(&self) -> bool {
        self.plan.endpoint.is_given() && self.plan.endpoint.api == Api::Chat
    }

    /// What a policy reads.
    pub(super) fn prompt(&self, question: &str, wish: &Wish) -> String {
        if !self.plan.is_small() {
            return templated(self.plan, question, wish);
        }
        match wish {
            Wish::None => question.to_owned(),
            Wish::Along(direction) => {
                let weights = direction.weights();
                let [help, words] = [weights.first(), weights.get(1)].map(|x| x.copied().unwrap_or_default());
                format!("help {} words {} {question}", spell(help, false), spell(words, true))
            }
            Wish::Reach([help, words]) => {
                format!("reach {} words {} {question}", spell(*help as i32, false), spell(*words as i32, false))
            }
        }
    }

    /// Questions under wishes, recorded: what is asked under a wish comes from what is asked.
    pub(super) async fn put(&self, wanted: Vec<(Question, Wish)>) -> Result<Vec<Asked>> {
        let mut recording = Recording::new();
        let mut all = Vec::with_capacity(wanted.len());
        for (question, wish) in wanted {
            let told = if self.is_chat() { told(&wish) } else { String::new() };
            let prompt = if self.is_chat() { question.text.clone() } else { self.prompt(&question.text, &wish) };
            let mut node = question.node;
            if !matches!(wish, Wish::None) {
                let name = match &wish {
                    // The angle that was drawn, which the rounded weights do not say.
                    Wish::Along(direction) => format!("{}: {}", degrees(direction), question.text),
                    _ => prompt.clone(),
                };
                let text = if told.is_empty() { prompt.clone() } else { format!("{told}\n\n{prompt}") };
                let problem = Problem { name, source: "dpa".into(), text };
                node = recording.put(self.lab.run(), &problem)?;
                recording.put_edge(self.lab.run(), &Edge::new(node, Relation::DerivedFrom, question.node))?;
            }
            all.push(Asked { question, node, prompt, told });
        }
        self.lab.record(recording).await?;
        Ok(all)
    }

    pub(super) fn objectives(&self, attributes: &[f64]) -> Objectives {
        let dot = |weights: &Vec<f64>| weights.iter().zip(attributes).map(|(w, x)| w * x).sum();
        [dot(&self.weights[0]), dot(&self.weights[1])]
    }

    /// What an answer is truly worth: its objectives, held within 0 and 100.
    pub(super) fn gold(&self, attributes: &[f64]) -> Objectives {
        self.objectives(attributes).map(|x| x.clamp(0.0, 100.0))
    }

    /// The attributes of an answer as they are, in the order of the plan.
    pub(super) fn truth(&self, facts: &Facts, text: &str) -> Vec<f64> {
        self.ordered(&facts.measure(text))
    }

    /// The best answers there are, by their length; none if that is not known.
    pub(super) fn possible(&self) -> Vec<Objectives> {
        let facts = self.test.iter().find_map(|question| question.facts.as_ref());
        let all = facts.map(Facts::possible).unwrap_or_default();
        all.iter().map(|measures| self.gold(&self.ordered(measures))).collect()
    }

    /// Measures of the small language in the order of the plan's attributes.
    pub(super) fn ordered(&self, measures: &[f64; 4]) -> Vec<f64> {
        let place = |name: &String| crate::parts::facts::MEASURES.iter().position(|measure| measure == name);
        self.plan.reward.attributes.iter().filter_map(|name| Some(measures[place(name)?])).collect()
    }

    /// A row to train on: what to say under a wish.
    pub(super) fn row(&self, question: &Question, wish: &Wish, answer: &Answer, source: NodeId) -> TrainRow {
        TrainRow {
            prompt: self.prompt(&question.text, wish),
            completion: answer.text.clone(),
            finish: answer.finish,
            source: Some(source),
        }
    }
}

/// Prompts that are not held out.
async fn questions(
    lab: &Lab,
    plan: &Dpa,
    others: &mut Vec<String>,
    held_out: &[Question],
    name: &str,
    n: u32,
) -> Result<Vec<Question>> {
    let mut found: Vec<(String, Option<Facts>)> = Vec::with_capacity(n as usize);
    if plan.is_small() {
        let mut taken: BTreeSet<String> = held_out.iter().map(|question| question.text.clone()).collect();
        let mut stream = lab.seeds().stream(&format!("prompts/{name}"), 0, 0);
        for _ in 0..100 * n {
            if found.len() == n as usize {
                break;
            }
            let facts = Facts::random(&mut stream, plan.language.n_facts, plan.language.n_asked);
            if taken.insert(facts.prompt()) {
                found.push((facts.prompt(), Some(facts)));
            }
        }
    } else {
        if others.len() < n as usize {
            let (path, left) = (&plan.data.prompts, others.len());
            return Err(Error::Input {
                what: format!("prompts `{path}`: {name} needs {n} more, {left} are left"),
                hint: Some("give more prompts, or ask for fewer".into()),
            });
        }
        found.extend(others.drain(..n as usize).map(|text| (text, None)));
    }
    let mut recording = Recording::new();
    let question = |(text, facts): (String, Option<Facts>)| {
        let problem = Problem { name: text.clone(), source: "dpa".into(), text: text.clone() };
        Ok(Question { node: recording.put(lab.run(), &problem)?, text, facts })
    };
    let questions = found.into_iter().map(question).collect::<Result<Vec<_>>>()?;
    lab.record(recording).await?;
    Ok(questions)
}

fn templated(plan: &Dpa, question: &str, wish: &Wish) -> String {
    plan.models.template.replace("{system}", &told(wish)).replace("{prompt}", question)
}

/// Whether a prompt of a file and an answer fit into a model's context, whatever is wished; else what is wrong.
fn fits(plan: &Dpa, model: &Lm, prompt: &str) -> Result<std::result::Result<(), String>> {
    let wishes = [Wish::None, Wish::Along(Direction::of_degrees(-45.0)?), Wish::Reach([100, 100])];
    let mut longest = 0;
    for wish in wishes {
        longest = longest.max(model.tokenizer().encode(&templated(plan, prompt, &wish))?.len());
    }
    let (room, most) = (model.config().max_positions, plan.models.max_tokens as usize);
    if longest + most <= room {
        return Ok(Ok(()));
    }
    let what = format!(
        "expected at most {} tokens (a context of {room}, less {most} of an answer), got {longest}",
        room.saturating_sub(most)
    );
    Ok(Err(what))
}
