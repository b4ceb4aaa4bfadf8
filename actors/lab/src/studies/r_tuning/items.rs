//! What is asked: tasks with questions to train on and to measure on, and questions with and without an answer.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tracker_lm::Lm;
use tracker_store::{NodeId, Problem, Recording};

use super::settings::{RTuning, TaskFiles};
use super::world::{Facts, LETTERS, Role, asked, said, with_options};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::certainty::Template;
use crate::parts::record::record_members;
use crate::parts::rows::{Fault, Gold, Mapped, Options, Queries, Query, QueryFormat, read};

/// A question with its record.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) node: NodeId,
    /// What a model reads before it answers.
    pub(super) prompt: String,
    /// The question as the template takes it.
    pub(super) question: String,
    pub(super) gold: Gold,
    pub(super) domain: String,
    /// How often the small model met it; nothing of a question from a file.
    pub(super) exposure: Option<u32>,
}

impl Item {
    /// The right answer as it is said.
    pub(super) fn said(&self) -> String {
        said(&self.gold)
    }

    /// How many letters there are to choose from; none where there are none.
    pub(super) fn letters(&self) -> &'static [&'static str] {
        match &self.gold {
            Gold::Choice { options, .. } => &LETTERS[..options.len().min(LETTERS.len())],
            _ => &[],
        }
    }
}

/// Questions that belong together, as a dataset.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) node: NodeId,
    pub(super) items: Vec<Item>,
}

/// A task.
pub(super) struct Task {
    pub(super) name: String,
    pub(super) max_tokens: u32,
    pub(super) train: Set,
    pub(super) inside: Set,
    pub(super) outside: Set,
}

/// All that is asked.
pub(super) struct Asked {
    pub(super) tasks: Vec<Task>,
    pub(super) unanswerable: Set,
    pub(super) control: Set,
}

/// Longest answer of the small language, in tokens: a refusal with its end.
const LONGEST: u32 = 12;

/// Records questions as a dataset.
async fn set(lab: &Lab, name: &str, purpose: &str, found: Vec<Found>) -> Result<Set> {
    let mut items = Vec::with_capacity(found.len());
    for some in found.chunks(1024) {
        let mut recording = Recording::new();
        for Found { prompt, question, gold, domain, exposure, task } in some.iter().cloned() {
            let problem = Problem { name: question.clone(), source: format!("{task}/{domain}"), text: prompt.clone() };
            items.push(Item { node: recording.put(lab.run(), &problem)?, prompt, question, gold, domain, exposure });
        }
        lab.record(recording).await?;
    }
    let content: Vec<String> = items.iter().map(|item| format!("{} {:?}", item.prompt, item.gold)).collect();
    let nodes = items.iter().map(|item| item.node);
    Ok(Set { node: record_members(lab, name, purpose, &content.join("\n"), nodes).await?, items })
}

/// A question before it is recorded.
#[derive(Clone, Debug)]
struct Found {
    task: String,
    prompt: String,
    question: String,
    gold: Gold,
    domain: String,
    exposure: Option<u32>,
}

/// At most `n` of them, at random; all for 0.
fn some<T>(mut all: Vec<T>, n: u32, stream: &mut ChaCha8Rng) -> Vec<T> {
    all.shuffle(stream);
    if n > 0 {
        all.truncate(n as usize);
    }
    all
}

/// Questions of the small language: as questions, and as choices of other facts of the same entities.
///
/// # Errors
/// Those of recording.
pub(super) async fn small(lab: &Lab, plan: &RTuning, template: &Template, facts: &Facts) -> Result<Asked> {
    let found = |task: &str, is_choice: bool, of: &dyn Fn(&super::world::Fact) -> bool, stream: &mut ChaCha8Rng| {
        let one = |fact: &super::world::Fact| {
            let (question, gold) = if is_choice { facts.choice(fact, stream) } else { asked(fact) };
            let domain = super::world::RELATIONS[fact.relation].to_owned();
            let prompt = template.prompt(&question);
            Found { task: task.to_owned(), prompt, question, gold, domain, exposure: Some(fact.exposure) }
        };
        facts.all.iter().filter(|fact| of(fact)).map(one).collect::<Vec<_>>()
    };
    let data = &plan.data;
    let mut tasks = Vec::new();
    for (name, is_choice) in [("facts", false), ("choices", true)] {
        let mut stream = lab.seeds().stream(&format!("items/{name}"), 0, 0);
        let train = found(name, is_choice, &|f| f.role == Role::Train && !facts.is_outside(f), &mut stream);
        let inside = found(name, is_choice, &|f| f.role == Role::Test && !facts.is_outside(f), &mut stream);
        let outside = found(name, is_choice, &|f| f.role == Role::Test && facts.is_outside(f), &mut stream);
        let train = some(train, data.n_train, &mut stream);
        let [inside, outside] = [inside, outside].map(|all| some(all, data.n_test, &mut stream));
        tasks.push(Task {
            name: name.to_owned(),
            max_tokens: LONGEST,
            train: set(lab, &format!("{name}/train"), "questions", train).await?,
            inside: set(lab, &format!("{name}/in domain"), "benchmark", inside).await?,
            outside: set(lab, &format!("{name}/out of domain"), "benchmark", outside).await?,
        });
    }
    let mut stream = lab.seeds().stream("items/refusal", 0, 0);
    let invented = found("facts", false, &|f| f.role == Role::Invented && !facts.is_outside(f), &mut stream);
    let invented = invented.into_iter().map(|found| Found { gold: Gold::Unsaid, ..found }).collect();
    let is_control = |f: &super::world::Fact| f.role == Role::Control && facts.is_best_known(f);
    let control = found("facts", false, &|f| is_control(f) && !facts.is_outside(f), &mut stream);
    let [invented, control] = [invented, control].map(|all| some(all, data.n_refusal, &mut stream));
    let unanswerable = set(lab, "unanswerable", "benchmark", invented).await?;
    let control = set(lab, "control", "benchmark", control).await?;
    Ok(Asked { tasks, unanswerable, control })
}

/// Questions of files. What leaves no room for an answer in the context of `model` is a wrong row.
///
/// # Errors
/// `Input` naming file, row and field.
pub(super) async fn files(lab: &Lab, plan: &RTuning, model: Option<&Lm>) -> Result<Asked> {
    let mut tasks = Vec::new();
    for files in &plan.tasks {
        tasks.push(task(lab, plan, files, model).await?);
    }
    let longest = plan.tasks.iter().map(|task| task.max_tokens).max().unwrap_or(LONGEST);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for (at, files) in plan.refusal.iter().enumerate() {
        let reading = Reading { lab, plan, model, task: "refusal", shots: BTreeMap::new(), max_tokens: longest };
        for (query, found) in reading.read(&format!("refusal {at}"), files.format, &files.files).await? {
            if query.is_answerable { with.push(found) } else { without.push(found) }
        }
    }
    let mut stream = lab.seeds().stream("items/refusal", 0, 0);
    let [without, with] = [without, with].map(|all| some(all, plan.data.n_refusal, &mut stream));
    let unanswerable = set(lab, "unanswerable", "benchmark", without).await?;
    Ok(Asked { tasks, unanswerable, control: set(lab, "control", "benchmark", with).await? })
}

async fn task(lab: &Lab, plan: &RTuning, files: &TaskFiles, model: Option<&Lm>) -> Result<Task> {
    let name = &files.name;
    let mut shots: BTreeMap<String, String> = BTreeMap::new();
    if !files.shots.is_empty() {
        let options = Options::new("", plan.data.skip_bad);
        for query in read(lab, &format!("{name} shots"), Queries(files.format), &files.shots, options).await? {
            let question = question(&query);
            let shot = format!("{} {}\n\n", plan.template.prompt(&question), said(&query.gold));
            shots.entry(query.domain).or_default().push_str(&shot);
        }
    }
    let reading = Reading { lab, plan, model, task: name, shots, max_tokens: files.max_tokens };
    let of = async |part: &str, paths: &[String]| -> Result<Vec<Found>> {
        let all = reading.read(&format!("{name} {part}"), files.format, paths).await?;
        Ok(all.into_iter().map(|(_, found)| found).collect())
    };
    let [train, inside, outside] = if files.all.is_empty() {
        [of("train", &files.train).await?, of("test", &files.test).await?, of("ood", &files.ood).await?]
    } else {
        by_domain(of("rows", &files.all).await?, files)
    };
    let mut stream = lab.seeds().stream(&format!("items/{name}"), 0, 0);
    let train = some(train, plan.data.n_train, &mut stream);
    let [inside, outside] = [inside, outside].map(|all| some(all, plan.data.n_test, &mut stream));
    Ok(Task {
        name: name.clone(),
        max_tokens: files.max_tokens,
        train: set(lab, &format!("{name}/train"), "questions", train).await?,
        inside: set(lab, &format!("{name}/in domain"), "benchmark", inside).await?,
        outside: set(lab, &format!("{name}/out of domain"), "benchmark", outside).await?,
    })
}

/// Rows of all domains as the paper splits them: of the first domains every other row is to train on and the rest to measure on.
fn by_domain(all: Vec<Found>, files: &TaskFiles) -> [Vec<Found>; 3] {
    let mut domains: Vec<String> = Vec::new();
    for found in &all {
        if !domains.contains(&found.domain) {
            domains.push(found.domain.clone());
        }
    }
    let n_first = match (files.n_domains, files.format) {
        (0, QueryFormat::Pararel) => 15,
        (0, _) => domains.len().div_ceil(2),
        (n, _) => n as usize,
    };
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut split = [vec![], vec![], vec![]];
    for found in all {
        let nth = seen.entry(found.domain.clone()).or_default();
        let is_first = domains.iter().take(n_first).any(|domain| *domain == found.domain);
        split[if is_first { *nth % 2 } else { 2 }].push(found);
        *nth += 1;
    }
    split
}

fn question(query: &Query) -> String {
    match &query.gold {
        Gold::Choice { options, .. } => with_options(&query.question, options, false),
        _ => query.question.clone(),
    }
}

/// How questions of files are read.
struct Reading<'a> {
    lab: &'a Lab,
    plan: &'a RTuning,
    model: Option<&'a Lm>,
    task: &'a str,
    /// What stands before every question of a domain.
    shots: BTreeMap<String, String>,
    max_tokens: u32,
}

impl Reading<'_> {
    async fn read(&self, name: &str, format: QueryFormat, paths: &[String]) -> Result<Vec<(Query, Found)>> {
        if paths.is_empty() {
            return Ok(vec![]);
        }
        let template = &self.plan.template;
        let map = |query: Query| {
            let question = question(&query);
            let shots = match self.shots.get(&query.domain) {
                Some(shots) => shots.as_str(),
                None if self.shots.is_empty() => "",
                None => {
                    return Err(Fault::new("", format!("expected shots of `{}`, got none in `shots`", query.domain)));
                }
            };
            let prompt = format!("{shots}{}", template.prompt(&question));
            if let Some(model) = self.model {
                let [after, longest] = [template.checked() + &template.word(false), template.end.clone()];
                let n = |text: &str| model.tokenizer().encode(text).map(|ids| ids.len());
                let n_tokens = n(&prompt).and_then(|a| Ok(a + n(&after)? + n(&longest)? + self.max_tokens as usize));
                let n_tokens = n_tokens.map_err(|error| Fault::new("question", error.to_string()))?;
                let room = model.config().max_positions;
                if n_tokens > room {
                    let what =
                        format!("expected at most {room} tokens with an answer and what follows, got {n_tokens}");
                    return Err(Fault::new("question", what));
                }
            }
            let (gold, domain) = (query.gold.clone(), query.domain.clone());
            let found = Found { task: self.task.to_owned(), prompt, question, gold, domain, exposure: None };
            Ok((query, found))
        };
        let options = Options::new("", self.plan.data.skip_bad);
        read(self.lab, name, Mapped { format: Queries(format), map }, paths, options).await
    }
}

impl Asked {
    /// Refuses tasks of which nothing is left to train on or to measure on.
    ///
    /// # Errors
    /// `Input` naming the task.
    pub(super) fn check(&self) -> Result<()> {
        for task in &self.tasks {
            for (part, set) in [("train on", &task.train), ("measure on", &task.inside)] {
                if set.items.is_empty() {
                    let what = format!("task `{}`: expected questions to {part}, got none", task.name);
                    return Err(Error::Input { what, hint: Some("give more rows, or more domains".into()) });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(domain: &str) -> Found {
        let text = || String::new();
        Found {
            task: text(),
            prompt: text(),
            question: text(),
            gold: Gold::Unsaid,
            domain: domain.into(),
            exposure: None,
        }
    }

    #[test]
    fn domains_are_split_as_in_the_paper() {
        let rows = |n_domains: usize| -> Vec<Found> {
            (0..n_domains).flat_map(|domain| (0..5).map(move |_| found(&format!("{domain}")))).collect()
        };
        let sizes = |split: [Vec<Found>; 3]| split.map(|part| part.len());
        let pararel = TaskFiles { format: QueryFormat::Pararel, ..TaskFiles::default() };
        // The first 15 of 31 domains, three of five rows of each to train on.
        assert_eq!(sizes(by_domain(rows(31), &pararel)), [45, 30, 80]);
        let mmlu = TaskFiles { format: QueryFormat::Mmlu, ..TaskFiles::default() };
        assert_eq!(sizes(by_domain(rows(57), &mmlu)), [29 * 3, 29 * 2, 28 * 5]);
        let two = TaskFiles { n_domains: 2, ..mmlu };
        let split = by_domain(rows(4), &two);
        assert!(split[2].iter().all(|found| found.domain == "2" || found.domain == "3"));
    }

    #[test]
    fn a_choice_of_a_file_has_its_options_on_lines_of_their_own() {
        let gold = Gold::Choice { options: vec!["x".into(), "y".into()], right: 1 };
        let query =
            Query { id: String::new(), domain: "law".into(), question: "Which?".into(), gold, is_answerable: true };
        assert_eq!(question(&query), "Which?\nA. x\nB. y");
    }
}
