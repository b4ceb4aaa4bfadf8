//! A model that judges what a reply says: its words are samples of the run, and the verdict is read from them.

use std::collections::BTreeMap;

use tracker_store::{NodeId, Program, Recording};

use super::Said;
use crate::error::Result;
use crate::lab::{Lab, Stage};
use crate::parts::endpoint::EndpointSettings;
use crate::parts::generate::Policy;
use crate::parts::rate::{Case, Question, Said as From};
use crate::plan::require;

/// What a judge is asked unless a plan says otherwise.
pub const TEMPLATE: &str = "Question:\n{question}\n\nRight answer: {right}\nWrong answer: {pictured}\n\nReply:\n{reply}\n\n\
    Which of the two does the reply give as its answer? End with one line: `Verdict: right`, `Verdict: wrong`, `Verdict: both` or \
    `Verdict: neither`.\n";
/// What stands for a wrong answer where none is pictured.
const NOBODY: &str = "any other";

/// Refuses a template that leaves out what is to be judged; `key` is where it stands in the plan.
///
/// # Errors
/// `Value` naming the key.
pub fn check(key: &str, template: &str) -> Result<()> {
    let has_all = PLACES.iter().all(|place| template.contains(place));
    require(has_all, key, "a text with `{question}`, `{right}`, `{pictured}` and `{reply}`", template)
}

const PLACES: [&str; 4] = ["{question}", "{right}", "{pictured}", "{reply}"];

/// A reply to judge.
#[derive(Clone, Debug)]
pub struct Reply<'a> {
    /// What it answers, as it is recorded.
    pub subject: NodeId,
    /// The question.
    pub question: &'a str,
    /// The right answer.
    pub right: &'a str,
    /// The wrong answer that is pictured, if one is.
    pub pictured: Option<&'a str>,
    /// The reply.
    pub text: &'a str,
}

/// A model that judges.
pub struct LlmJudge {
    judge: Policy,
    template: String,
    /// The record of template and model, which verdicts are given by.
    pub node: NodeId,
}

impl LlmJudge {
    /// A judge behind an endpoint, which must answer; what it is asked is recorded. `section` is where its settings stand.
    ///
    /// # Errors
    /// As [`Policy::endpoint`]; those of recording.
    pub async fn start(lab: &Lab, section: &str, settings: &EndpointSettings, template: &str) -> Result<Self> {
        let judge = Policy::endpoint(lab, section, settings).await?;
        let program = Program {
            name: "llm judge".into(),
            version: "1".into(),
            settings: format!("model = {:?}\ntemplate = {template:?}\n", settings.model),
        };
        let mut recording = Recording::new();
        let node = recording.put(lab.run(), &program)?;
        let asks = tracker_store::Edge::new(node, tracker_store::Relation::Used, judge.node());
        recording.put_edge(lab.run(), &asks)?;
        lab.record(recording).await?;
        Ok(Self { judge, template: template.to_owned(), node })
    }

    /// How many replies keep it busy at once.
    #[must_use]
    pub fn n_at_once(&self) -> usize {
        self.judge.n_prompts(1)
    }

    /// What it says of each reply, with the sample it was read from; `first` is the place of the first among all of the stage's.
    ///
    /// # Errors
    /// `Endpoint` if no answer of the judge has a verdict; those of the judge and of the store.
    pub async fn judge(
        &self,
        lab: &Lab,
        stage: &Stage<'_>,
        first: usize,
        replies: &[Reply<'_>],
    ) -> Result<Vec<From<Said>>> {
        let cases: Vec<Case<'_>> = replies
            .iter()
            .zip(first..)
            .map(|(reply, item)| Case {
                subject: reply.subject,
                prompt: reply.question,
                answer: reply.text,
                item: item as u32,
            })
            .collect();
        let question = Question {
            template: "mention".into(),
            expected: "a line `Verdict: right`, `wrong`, `both` or `neither` at the end".into(),
        };
        let prompt = |case: &Case<'_>| match replies.get((case.item as usize).saturating_sub(first)) {
            Some(reply) => self.prompt(reply),
            None => String::new(),
        };
        let is_pictured: BTreeMap<NodeId, bool> =
            replies.iter().map(|reply| (reply.subject, reply.pictured.is_some())).collect();
        let mut said = question.put(lab, stage, &self.judge, &cases, prompt, read).await?;
        for (said, case) in said.iter_mut().zip(&cases) {
            said.value.pictured &= is_pictured.get(&case.subject).copied().unwrap_or(false);
        }
        Ok(said)
    }

    fn prompt(&self, reply: &Reply<'_>) -> String {
        let of = |place: &str| match place {
            "{question}" => reply.question,
            "{right}" => reply.right,
            "{pictured}" => reply.pictured.unwrap_or(NOBODY),
            _ => reply.text,
        };
        // What is put in is not looked into: it may hold a place itself.
        let mut prompt = String::new();
        let mut rest = self.template.as_str();
        loop {
            let next = PLACES.iter().filter_map(|place| Some((rest.find(place)?, *place))).min();
            let Some((at, place)) = next else { break };
            prompt.push_str(&rest[..at]);
            prompt.push_str(of(place));
            rest = &rest[at + place.len()..];
        }
        prompt + rest
    }
}

/// The verdict on the last line that has one.
fn read(text: &str) -> Option<Said> {
    let mut lines = text.lines().rev().filter_map(|line| {
        let (name, verdict) = line.rsplit_once(':')?;
        let plain = |text: &str| text.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        (plain(name) == "verdict").then(|| plain(verdict))
    });
    Some(match lines.next()?.as_str() {
        "right" => Said { right: true, ..Said::default() },
        "wrong" => Said { pictured: true, ..Said::default() },
        "both" => Said { right: false, pictured: true, hedge: true },
        "neither" => Said::default(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_verdict_counts_and_anything_else_is_none() {
        let right = Said { right: true, ..Said::default() };
        for (text, verdict) in [
            ("Verdict: right", Some(right)),
            ("It says red.\n**Verdict**: `wrong`.", Some(Said { pictured: true, ..Said::default() })),
            ("Verdict: neither\nVerdict: Right", Some(right)),
            ("verdict: both", Some(Said { pictured: true, hedge: true, ..Said::default() })),
            ("Verdict: neither", Some(Said::default())),
            ("right", None),
            ("Verdict: maybe", None),
            ("", None),
        ] {
            assert_eq!(read(text), verdict, "{text:?}");
        }
    }

    #[test]
    fn templates_need_all_their_places() {
        check("k", TEMPLATE).unwrap();
        assert!(check("k", &TEMPLATE.replace("{reply}", "")).unwrap_err().to_string().contains("{reply}"));
    }
}
