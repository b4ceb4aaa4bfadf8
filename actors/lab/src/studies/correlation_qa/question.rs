//! Questions with a right answer and five plausible wrong ones: from tables of ours, from a file, or written by an endpoint.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tracker_store::{NodeId, Problem, Recording, Sampling};

use super::CorrelationQa;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::generate::{Ask, Policy, draw};
use crate::parts::mention::Answers;
use crate::parts::record::record_members;
use crate::parts::rows::{Fault, Fields, Format, Options, read};
use crate::plan::require;

/// Wrong answers of a question.
pub(super) const N_WRONG: usize = 5;

/// A question, and what may be answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) id: String,
    pub(super) category: String,
    pub(super) text: String,
    pub(super) right: String,
    pub(super) wrong: Vec<String>,
    /// Other names of answers, by answer.
    pub(super) aliases: BTreeMap<String, Vec<String>>,
}

/// A question with its record.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) node: NodeId,
}

impl Question {
    /// The answers, the right one first.
    pub(super) fn answers(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.right.as_str()).chain(self.wrong.iter().map(String::as_str))
    }

    /// What a judge is to look for.
    pub(super) fn judged<'a>(&'a self, pictured: Option<&'a str>) -> Answers<'a> {
        Answers { right: &self.right, wrong: &self.wrong, pictured, aliases: &self.aliases }
    }

    /// What is wrong with it, if anything is: a field and what was expected.
    fn fault(&self) -> Option<(&'static str, String)> {
        let blank = |text: &String| text.trim().is_empty();
        for (field, text) in [("category", &self.category), ("question", &self.text), ("answer", &self.right)] {
            if blank(text) {
                return Some((field, "expected a text that is not blank, got a blank one".into()));
            }
        }
        if self.wrong.len() != N_WRONG || self.wrong.iter().any(blank) {
            return Some(("wrong", format!("expected {N_WRONG} answers, none blank, got {:?}", self.wrong)));
        }
        let distinct: BTreeSet<String> = self.answers().map(str::to_lowercase).collect();
        (distinct.len() != N_WRONG + 1).then(|| {
            let all: Vec<&str> = self.answers().collect();
            ("wrong", format!("expected answers that differ from each other and the right one, got {all:?}"))
        })
    }
}

/// A table of questions of one kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    category: String,
    ask: String,
    rows: Vec<[String; 2]>,
    #[serde(default)]
    others: Vec<String>,
    #[serde(default)]
    aliases: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Tables {
    table: Vec<Table>,
}

impl Table {
    /// The questions; wrong answers are the next ones of the table, round about.
    fn questions(&self, nth: usize) -> Vec<Question> {
        let mut pool: Vec<&String> = Vec::new();
        for answer in self.rows.iter().map(|[_, answer]| answer).chain(&self.others) {
            if !pool.contains(&answer) {
                pool.push(answer);
            }
        }
        let question = |(at, [thing, right]): (usize, &[String; 2])| {
            let place = pool.iter().position(|answer| *answer == right).unwrap_or(0);
            let wrong: Vec<String> =
                pool.iter().cycle().skip(place + 1).take(N_WRONG).map(|wrong| (*wrong).clone()).collect();
            let known = |(answer, names): (&String, &Vec<String>)| {
                (answer == right || wrong.contains(answer)).then(|| (answer.clone(), names.clone()))
            };
            let aliases = self.aliases.iter().filter_map(known).collect();
            let (category, text) = (self.category.clone(), self.ask.replace("{}", thing));
            Question { id: format!("{category} {nth}.{at}"), category, text, right: right.clone(), wrong, aliases }
        };
        self.rows.iter().enumerate().map(question).collect()
    }
}

/// The questions that come with the program.
///
/// # Errors
/// `Internal` if the tables are damaged.
pub(super) fn of_ours() -> Result<Vec<Question>> {
    let tables: Tables = toml::from_str(include_str!("questions.toml"))
        .map_err(|error| Error::Internal(format!("the tables of questions are damaged: {error}")))?;
    Ok(tables.table.iter().enumerate().flat_map(|(nth, table)| table.questions(nth)).collect())
}

/// Rows of a file of questions.
struct QuestionRows;

impl Format for QuestionRows {
    const NAME: &'static str = "question";
    type Row = Question;

    fn read(&self, id: String, fields: &Fields<'_>) -> std::result::Result<Question, Fault> {
        let mut aliases = BTreeMap::new();
        if fields.find("aliases").is_some() {
            let given = fields.object("aliases")?;
            for answer in given.keys() {
                aliases.insert(answer.to_owned(), given.texts(answer)?);
            }
        }
        let question = Question {
            id,
            category: fields.text("category")?,
            text: fields.text("question")?,
            right: fields.text("answer")?,
            wrong: fields.texts("wrong")?,
            aliases,
        };
        match question.fault() {
            None => Ok(question),
            Some((field, what)) => Err(fields.fault(field, what)),
        }
    }
}

impl CorrelationQa {
    /// The questions of the plan, recorded.
    ///
    /// # Errors
    /// `Value` for a category that is not there; those of reading, the writer and recording.
    pub(super) async fn questions(&self, lab: &Lab) -> Result<Vec<Asked>> {
        let settings = &self.questions;
        let (mut questions, source, sources) = if settings.n_written > 0 {
            let (questions, samples) = self.written(lab).await?;
            (questions, self.writer.model.clone(), samples)
        } else if settings.file.is_empty() {
            (of_ours()?, "correlation_qa".to_owned(), vec![])
        } else {
            let options = Options::new(&settings.id, settings.skip_bad);
            let rows = read(lab, "questions", QuestionRows, &[&settings.file], options).await?;
            (rows, settings.file.clone(), vec![])
        };
        for category in &settings.categories {
            let known: BTreeSet<&str> = questions.iter().map(|question| question.category.as_str()).collect();
            let expected = format!("one of {}", known.iter().copied().collect::<Vec<_>>().join(", "));
            require(known.contains(category.as_str()), "questions.categories", &expected, category)?;
        }
        let mut n_taken: BTreeMap<String, u32> = BTreeMap::new();
        questions.retain(|question| {
            let n = n_taken.entry(question.category.clone()).or_default();
            *n += 1;
            let is_wanted = settings.categories.is_empty() || settings.categories.contains(&question.category);
            is_wanted && (settings.most == 0 || *n <= settings.most)
        });
        let mut recording = Recording::new();
        let mut all = Vec::with_capacity(questions.len());
        for question in questions {
            let problem = Problem { name: question.id.clone(), source: source.clone(), text: question.text.clone() };
            let node = recording.put(lab.run(), &problem)?;
            if let Some((_, sample)) = sources.iter().find(|(category, _)| *category == question.category) {
                let edge = tracker_store::Edge::new(node, tracker_store::Relation::DerivedFrom, *sample);
                recording.put_edge(lab.run(), &edge)?;
            }
            all.push(Asked { question, node });
        }
        lab.record(recording).await?;
        let content: Vec<String> = all.iter().map(|asked| serde_json::json!(asked.question).to_string()).collect();
        let nodes = all.iter().map(|asked| asked.node);
        record_members(lab, "questions", "benchmark", &content.join("\n"), nodes).await?;
        Ok(all)
    }

    /// Questions written by an endpoint, and for each category the sample they were read from.
    async fn written(&self, lab: &Lab) -> Result<(Vec<Question>, Vec<(String, NodeId)>)> {
        let writer = Policy::endpoint(lab, "writer", &self.writer).await?;
        let categories = &self.questions.categories;
        let stage = lab.stage("written questions", categories.len()).await?;
        let mut recording = Recording::new();
        let mut asks = Vec::new();
        for (item, category) in (0..).zip(categories) {
            let text = prompt(category, self.questions.n_written);
            let problem = Problem { name: category.clone(), source: "writer".into(), text: text.clone() };
            let subject = recording.put(lab.run(), &problem)?;
            asks.push(Ask { subject, prompt: text, rows: vec![stage.row(item, 0)] });
        }
        lab.record(recording).await?;
        let max_tokens = 160 * self.questions.n_written;
        let template = "questions".to_owned();
        let sampling = Sampling { temperature: 0.7, top_p: 1.0, max_tokens, stop: vec![], template };
        let samples = draw(lab, &stage, &writer, &asks, &sampling).await?;
        let (mut questions, mut sources) = (Vec::new(), Vec::new());
        for ((category, ask), sample) in categories.iter().zip(&asks).zip(samples) {
            let (found, wrong) = read_written(category, &sample.text);
            if found.is_empty() {
                return Err(Error::Endpoint {
                    url: self.writer.url.clone(),
                    what: format!(
                        "expected questions of `{category}` as lines of JSON, got none: {}",
                        wrong.first().map_or("an empty answer", String::as_str)
                    ),
                });
            }
            lab.note(format!("{category}: {} questions written, {} lines of no use", found.len(), wrong.len()));
            sources.extend(ask.rows.first().map(|row| (category.clone(), NodeId::sample(*row))));
            questions.extend(found.into_iter().take(self.questions.n_written as usize));
        }
        Ok((questions, sources))
    }
}

fn prompt(category: &str, n: u32) -> String {
    format!(
        "Write {n} short questions of the category `{category}`, each with one answer that is certain and {N_WRONG} plausible answers that \
         are wrong, all answers things that can be pictured. Give one line of JSON for each and nothing else: \
         {{\"question\": \"…\", \"answer\": \"…\", \"wrong\": [\"…\", \"…\", \"…\", \"…\", \"…\"]}}\n"
    )
}

/// The questions of what a writer wrote, each once, and what is wrong with the other lines that look like one.
fn read_written(category: &str, text: &str) -> (Vec<Question>, Vec<String>) {
    #[derive(Deserialize)]
    struct Line {
        question: String,
        answer: String,
        wrong: Vec<String>,
    }
    let (mut found, mut wrong): (Vec<Question>, Vec<String>) = (Vec::new(), Vec::new());
    for line in text.lines().map(|line| line.trim().trim_end_matches(',')).filter(|line| line.starts_with('{')) {
        match serde_json::from_str::<Line>(line) {
            Err(error) => wrong.push(format!("`{line}`: {error}")),
            Ok(line) => {
                let question = Question {
                    id: format!("{category} {}", found.len()),
                    category: category.to_owned(),
                    text: line.question,
                    right: line.answer,
                    wrong: line.wrong,
                    aliases: BTreeMap::new(),
                };
                match question.fault() {
                    Some((field, what)) => wrong.push(format!("`{field}`: {what}")),
                    None if found.iter().any(|other| other.text == question.text) => {
                        wrong.push(format!("`{}` twice", question.text));
                    }
                    None => found.push(question),
                }
            }
        }
    }
    (found, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_give_sound_questions_in_thirteen_categories() {
        let all = of_ours().unwrap();
        assert!(all.len() >= 300, "{}", all.len());
        let categories: BTreeSet<&str> = all.iter().map(|question| question.category.as_str()).collect();
        assert_eq!(categories.len(), 13, "{categories:?}");
        for question in &all {
            assert_eq!(question.fault(), None, "{question:?}");
            crate::parts::typography::draw(&question.right, 96).unwrap();
            for (answer, names) in &question.aliases {
                assert!(question.answers().any(|known| known == answer) && !names.is_empty(), "{question:?}");
            }
            // Every answer is known by its own name, and by no other's.
            for (at, answer) in question.answers().enumerate() {
                let said = crate::parts::mention::Rule::Words.judge(answer, &question.judged(None));
                assert_eq!((said.right, said.hedge), (at == 0, false), "{answer}: {question:?}");
            }
        }
        let (ids, texts): (BTreeSet<&str>, BTreeSet<&str>) =
            all.iter().map(|question| (question.id.as_str(), question.text.as_str())).unzip();
        assert_eq!((ids.len(), texts.len()), (all.len(), all.len()));
    }

    #[test]
    fn what_a_writer_wrote_is_read_line_by_line() {
        let text = "Certainly!\n{\"question\": \"Q?\", \"answer\": \"a\", \"wrong\": [\"b\", \"c\", \"d\", \"e\", \"f\"]},\n\
            {\"question\": \"Q?\", \"answer\": \"a\", \"wrong\": [\"b\", \"c\", \"d\", \"e\", \"f\"]}\n\
            {\"question\": \"R?\", \"answer\": \"a\", \"wrong\": [\"A\", \"c\", \"d\", \"e\", \"f\"]}\n\
            {\"question\": \"S?\", \"answer\": \"a\", \"wrong\": [\"b\"]}\n{\"question\": \"T?\"\n\
            {\"question\": \" \", \"answer\": \"a\", \"wrong\": [\"b\", \"c\", \"d\", \"e\", \"f\"]}\n";
        let (found, wrong) = read_written("c", text);
        assert_eq!((found.len(), wrong.len()), (1, 5), "{wrong:?}");
        assert_eq!((found[0].id.as_str(), found[0].right.as_str()), ("c 0", "a"));
        assert!(prompt("animal", 7).contains("7 short questions of the category `animal`"));
    }
}
