//! Prompts, how they are asked under a preference, answers, and what those are worth.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::lock::Mutex;
use tracker_actors::Pool;
use tracker_lm::Lm;
use tracker_store::{Edge, Finish, NodeId, Problem, Program, Recording, Relation, Reward, RowKey, Sampling, Selection};

use super::settings::Dpa;
use crate::error::{Error, Result};
use crate::lab::{Lab, Stage};
use crate::parts::direction::Direction;
use crate::parts::facts::{Facts, MAX_WORDS, spell};
use crate::parts::generate::{Ask, LocalGenerator, Policy, draw};
use crate::parts::prompts::read_prompts;
use crate::parts::record::record_members;
use crate::parts::reward::{Judge, Scorer, Scoring, Steps};
use crate::parts::train::{TrainRow, Trained};

/// Words of the small language that say what is wanted.
pub(super) const WORDS: [&str; 3] = ["help", "words", "reach"];
/// What a reward is of.
const KIND: &str = "attributes";

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

/// What an answer should be like.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// Nothing is said of it.
    None,
    /// As good as can be in this direction.
    Along(Direction),
    /// Of this helpfulness and verbosity.
    Reach([u32; 2]),
}

impl Wish {
    /// Its name in labels: the angle, the target.
    pub(super) fn name(&self) -> String {
        match self {
            Self::None => "any".into(),
            Self::Along(direction) => format!("{:.2}°", degrees(direction)),
            Self::Reach([help, words]) => format!("reach {help} {words}"),
        }
    }
}

/// The angle of a direction, in degrees.
pub(super) fn degrees(direction: &Direction) -> f64 {
    match direction.values() {
        [help, words] => libm::atan2(*words, *help).to_degrees(),
        _ => f64::NAN,
    }
}

/// An answer, and what it is worth.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) row: RowKey,
    pub(super) text: String,
    pub(super) finish: Finish,
    /// The attributes as they are, if that is known.
    pub(super) truth: Option<Vec<f64>>,
    /// What it is truly worth, if that is known.
    pub(super) gold: Option<Objectives>,
    /// The attributes the reward model gives it; nothing while there is none.
    pub(super) rated: Option<Vec<f64>>,
    /// What it is worth by them.
    pub(super) said: Option<Objectives>,
    /// The node of what it was given.
    pub(super) reward: NodeId,
}

/// A question as it is put: which, under which wish, and the record of that.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) question: Question,
    node: NodeId,
    pub(super) prompt: String,
}

/// Who is asked, how often, and where it is recorded.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) stage: &'a Stage<'a>,
    pub(super) policy: &'a Trained,
    pub(super) n: u32,
    pub(super) temperature: f64,
}

/// A reward model of attributes, asked once for equal answers.
pub(super) struct Ruler {
    pub(super) judge: Judge,
    scorer: Pool<Scorer>,
    known: RefCell<HashMap<Steps, Vec<f64>>>,
}

impl Ruler {
    pub(super) fn new(lab: &Lab, judge: Judge) -> Result<Self> {
        let scorer = Scorer::start(lab.actors(), lab.workers())?;
        Ok(Self { judge, scorer, known: RefCell::default() })
    }

    /// The attributes of each answer to its prompt, from 0 to 100 about.
    async fn attributes(&self, answers: &[(String, &str)]) -> Result<Vec<Vec<f64>>> {
        let steps = |(prompt, text): &(String, &str)| read(self.judge.model.trunk(), prompt, text);
        let all = answers.iter().map(steps).collect::<Result<Vec<Steps>>>()?;
        let asked: Arc<[Steps]> = {
            let known = self.known.borrow();
            all.iter().filter(|steps| !known.contains_key(*steps)).cloned().collect()
        };
        if !asked.is_empty() {
            let scoring = Scoring { model: Arc::clone(&self.judge.model), asked: Arc::clone(&asked) };
            let scored = self.scorer.ask(scoring).await?;
            let whole = scored.into_iter().map(|steps| steps.into_iter().flatten().map(|x| 100.0 * x).collect());
            self.known.borrow_mut().extend(asked.iter().cloned().zip(whole));
        }
        let known = self.known.borrow();
        let of =
            |steps: &Steps| known.get(steps).cloned().ok_or_else(|| Error::Internal("an answer was not scored".into()));
        all.iter().map(of).collect()
    }
}

/// A prompt and an answer as a reward model reads them: whole, however the answer ended.
pub(super) fn read(model: &Lm, prompt: &str, text: &str) -> Result<Steps> {
    let prompt = model.tokenizer().encode(prompt)?;
    let mut completion = model.tokenizer().encode(text)?;
    completion.extend(model.config().eos.first());
    let at = vec![prompt.len() + completion.len() - 1];
    Ok(Steps { prompt, completion, at })
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
    /// The reward model, once there is one.
    pub(super) ruler: Option<Ruler>,
}

impl<'a> World<'a> {
    /// Draws or reads held-out prompts, and records them with the programs that grade.
    pub(super) async fn open(lab: &'a Lab, plan: &'a Dpa) -> Result<Self> {
        let weights = plan.objectives();
        let program = |name: &str, settings: String| Program { name: name.into(), version: "1".into(), settings };
        let mut recording = Recording::new();
        let grader = recording.put(lab.run(), &program("facts", plan.reward.attributes.join(" ")))?;
        let matrix = serde_json::json!({
            "attributes": plan.reward.attributes, "helpfulness": weights[0], "verbosity": weights[1],
        });
        let map = recording.put(lab.run(), &program("objectives", matrix.to_string()))?;
        lab.record(recording).await?;
        let mut others = match plan.models.policy.as_str() {
            "" => vec![],
            _ => read_prompts(&plan.data.prompts, usize::MAX)?,
        };
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
        self.plan.models.policy.is_empty()
    }

    /// What a policy reads.
    pub(super) fn prompt(&self, question: &str, wish: &Wish) -> String {
        if !self.plan.models.policy.is_empty() {
            return self.plan.models.template.replace("{system}", &told(wish)).replace("{prompt}", question);
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
            let prompt = self.prompt(&question.text, &wish);
            let mut node = question.node;
            if !matches!(wish, Wish::None) {
                let name = match &wish {
                    // The angle that was drawn, which the rounded weights do not say.
                    Wish::Along(direction) => format!("{}: {}", degrees(direction), question.text),
                    _ => prompt.clone(),
                };
                let problem = Problem { name, source: "dpa".into(), text: prompt.clone() };
                node = recording.put(self.lab.run(), &problem)?;
                recording.put_edge(self.lab.run(), &Edge::new(node, Relation::DerivedFrom, question.node))?;
            }
            all.push(Asked { question, node, prompt });
        }
        self.lab.record(recording).await?;
        Ok(all)
    }

    fn objectives(&self, attributes: &[f64]) -> Objectives {
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

    /// Answers to each question, graded by what is true and by the reward model, as far as there is either.
    pub(super) async fn answers(&self, asking: Asking<'_>, asked: &[Asked]) -> Result<Vec<Vec<Answer>>> {
        let Asking { stage, policy, n, temperature } = asking;
        let model = Arc::new(policy.model.clone());
        let policy = Policy::Local { node: policy.node, model, generator: self.generator.clone() };
        let is_small = self.plan.models.policy.is_empty();
        let max_tokens = if is_small { MAX_WORDS as u32 + 1 } else { self.plan.models.max_tokens };
        let sampling = Sampling { temperature, top_p: 1.0, max_tokens, stop: vec![], template: String::new() };
        let mut answered: Vec<Vec<Answer>> = Vec::with_capacity(asked.len());
        let size = policy.n_prompts(n);
        for (nth, batch) in asked.chunks(size).enumerate() {
            self.lab.check()?;
            let rows = |at: usize| (0..n).map(|k| stage.row((nth * size + at) as u32, k)).collect();
            let ask = |(at, asked): (usize, &Asked)| Ask {
                subject: asked.node,
                prompt: asked.prompt.clone(),
                rows: rows(at),
            };
            let asks: Vec<Ask> = batch.iter().enumerate().map(ask).collect();
            let samples = draw(self.lab, stage, &policy, &asks, &sampling).await?;
            let of = |at: usize| &batch[at / n as usize];
            let said = match &self.ruler {
                None => vec![],
                Some(ruler) => {
                    let texts: Vec<(String, &str)> = samples
                        .iter()
                        .enumerate()
                        .map(|(at, sample)| (self.prompt(&of(at).question.text, &Wish::None), sample.text.as_str()))
                        .collect();
                    ruler.attributes(&texts).await?
                }
            };
            let mut recording = Recording::new();
            let mut all = Vec::with_capacity(samples.len());
            let rows = asks.iter().flat_map(|ask| &ask.rows);
            for ((at, sample), row) in samples.into_iter().enumerate().zip(rows) {
                let mut give = |scorer: NodeId, values: Vec<f64>| {
                    recording.put_reward(*row, &Reward { scorer, kind: KIND.into(), values, tallies: vec![] })
                };
                let truth = of(at).question.facts.as_ref().map(|facts| self.truth(facts, &sample.text));
                let mut reward = NodeId::sample(*row);
                if let Some(truth) = &truth {
                    reward = give(self.grader, truth.clone())?;
                }
                let gold = truth.as_ref().map(|truth| self.gold(truth));
                let mut of_model = None;
                if let (Some(ruler), Some(said)) = (&self.ruler, said.get(at)) {
                    reward = give(ruler.judge.node, said.clone())?;
                    of_model = Some(self.objectives(said));
                }
                let (text, finish) = (sample.text, sample.finish);
                all.push(Answer {
                    row: *row,
                    text,
                    finish,
                    truth,
                    gold,
                    rated: said.get(at).cloned(),
                    said: of_model,
                    reward,
                });
            }
            self.lab.record(recording).await?;
            answered.extend(all.chunks(n as usize).map(<[Answer]>::to_vec));
            stage.done(answered.len());
        }
        Ok(answered)
    }

    /// Of the answers the one that the reward model gives most along a direction, the first of equals; recorded at `row`.
    pub(super) fn select(
        &self,
        recording: &mut Recording,
        row: RowKey,
        direction: &Direction,
        answers: &[Answer],
    ) -> Result<Chosen> {
        let rewards: Vec<Vec<f64>> = answers.iter().filter_map(|answer| Some(answer.said?.to_vec())).collect();
        let (chosen, margin) = direction.choose(&rewards)?;
        let selection = Selection {
            candidates: answers.iter().map(|answer| NodeId::sample(answer.row)).collect(),
            scores: rewards.iter().map(|rewards| direction.reward(rewards)).collect::<Result<Vec<f64>>>()?,
            rule: format!("best of {} along {}° {:?}", answers.len(), degrees(direction), direction.weights()),
            ties: "first".into(),
            chosen: chosen as u32,
            scorer: self.ruler.as_ref().map(|ruler| ruler.judge.node),
        };
        Ok(Chosen { at: chosen, margin, node: recording.put_selection(row, &selection)? })
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
    if plan.models.policy.is_empty() {
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

/// Which answer was chosen.
pub(super) struct Chosen {
    pub(super) at: usize,
    /// By how much it beats the runner-up.
    pub(super) margin: Option<f64>,
    pub(super) node: NodeId,
}

/// What a large model is told; the second form is the one the paper's checkpoints were trained on.
fn told(wish: &Wish) -> String {
    match wish {
        Wish::None => "You are a helpful, respectful and honest assistant.".to_owned(),
        Wish::Along(direction) => {
            let weights = direction.weights();
            let [help, words] = [weights.first(), weights.get(1)].map(|x| x.copied().unwrap_or_default());
            format!(
                "You are a helpful, respectful, and honest assistant who always responds to the user in a harmless way. \
                 Your response should maximize weighted rating = helpfulness*{help} + verbosity*{words}"
            )
        }
        Wish::Reach([help, words]) => {
            format!("Your response should have helpfulness {help} and verbosity {words}, out of 100.")
        }
    }
}
