//! How questions, answers and the question after one's certainty are put together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_lm::{Example, Lm};

use crate::error::Result;
use crate::plan::require;

const PLACE: &str = "{question}";

/// Texts around questions and answers. An answer follows its question after one blank, and so does each part after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Template {
    /// A question as a model reads it, with `{question}`; no blank at its end.
    pub question: String,
    /// What stands right after an answer, and ends a sentence.
    pub end: String,
    /// What is asked after an answer; the next word says whether the model is sure.
    pub check: String,
    /// The word of who is sure.
    pub sure: String,
    /// The word of who is not.
    pub unsure: String,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            question: "Question: {question}\nAnswer:".into(),
            end: ".".into(),
            check: "Did you know this answer, or did you guess it? I am".into(),
            sure: "sure".into(),
            unsure: "unsure".into(),
        }
    }
}

impl Template {
    /// Refuses texts that cannot work; `section` is where they stand in the plan.
    ///
    /// # Errors
    /// `Value` naming the key.
    pub fn check(&self, section: &str) -> Result<()> {
        let Self { question, end, check, sure, unsure } = self;
        let key = |name: &str| format!("{section}.{name}");
        require(question.matches(PLACE).count() == 1, &key("question"), "a text with one `{question}`", question)?;
        // The blank before the answer is put there: another would make other tokens than training has.
        let is_bare = !question.ends_with(char::is_whitespace);
        require(is_bare, &key("question"), "a text without a blank at its end", question)?;
        require(end.contains(super::answer::is_end), &key("end"), "a text that ends a sentence, such as `.`", end)?;
        require(check.trim() == check && !check.is_empty(), &key("check"), "a text without blanks around it", check)?;
        for (name, word) in [("sure", sure), ("unsure", unsure)] {
            let is_word = !word.is_empty() && !word.contains(char::is_whitespace);
            require(is_word, &key(name), "one word", word)?;
        }
        // One that goes on as the other does would have part of its probability.
        let differ = !sure.starts_with(unsure.as_str()) && !unsure.starts_with(sure.as_str());
        require(differ, &key("unsure"), "a word that does not begin as `sure` does", unsure)
    }

    /// What a model reads before it answers.
    #[must_use]
    pub fn prompt(&self, question: &str) -> String {
        self.question.replacen(PLACE, question, 1)
    }

    /// The same, cut where the question begins and where it ends.
    #[must_use]
    pub fn parts<'a>(&'a self, question: &'a str) -> [&'a str; 3] {
        let (before, after) = self.question.split_once(PLACE).unwrap_or((&self.question, ""));
        [before, question, after]
    }

    /// An answer as it follows a prompt.
    #[must_use]
    pub fn answer(&self, answer: &str) -> String {
        format!(" {answer}{}", self.end)
    }

    /// The question after one's certainty as it follows an answer.
    #[must_use]
    pub fn checked(&self) -> String {
        format!(" {}", self.check)
    }

    /// The word as it follows that question.
    #[must_use]
    pub fn word(&self, is_sure: bool) -> String {
        format!(" {}", if is_sure { &self.sure } else { &self.unsure })
    }

    /// What is to be learnt of an answer and whether it was known: two parts after the prompt, of which the first is the answer, and
    /// between them the question, which is read.
    #[must_use]
    pub fn padded(&self, question: &str, answer: &str, is_sure: bool) -> [(String, bool); 4] {
        [
            (self.prompt(question), false),
            (self.answer(answer), true),
            (self.checked(), false),
            (format!("{}{}", self.word(is_sure), self.end), true),
        ]
    }

    /// What is to be learnt of an answer alone.
    #[must_use]
    pub fn plain(&self, question: &str, answer: &str) -> [(String, bool); 2] {
        [(self.prompt(question), false), (self.answer(answer), true)]
    }
}

/// The tokens of `before` and those that `after` adds to them: the text is cut into tokens whole, so that a tokenizer which treats
/// the start of a text otherwise gives the tokens a model meets when it goes on.
///
/// # Errors
/// Of the tokenizer.
pub(super) fn split(model: &Lm, before: &str, after: &str) -> Result<[Vec<u32>; 2]> {
    let whole = model.tokenizer().encode(&format!("{before}{after}"))?;
    let given = model.tokenizer().encode(before)?;
    let n = whole.iter().zip(&given).take_while(|(a, b)| a == b).count();
    let (given, added) = whole.split_at(n);
    Ok([given.to_vec(), added.to_vec()])
}

impl Template {
    /// Parts of a text, each read or learnt, as an example with the model's end token at its end.
    ///
    /// # Errors
    /// Of the tokenizer.
    pub fn example(&self, model: &Lm, parts: &[(String, bool)]) -> Result<Example> {
        let mut text = String::new();
        let (mut ids, mut mask): (Vec<u32>, Vec<bool>) = (Vec::new(), Vec::new());
        for (part, is_learnt) in parts {
            let [given, added] = split(model, &text, part)?;
            // What a part changes of the tokens before it is its own.
            mask.truncate(given.len());
            mask.resize(given.len(), *is_learnt);
            mask.resize(given.len() + added.len(), *is_learnt);
            ids = [given, added].concat();
            text.push_str(part);
        }
        if parts.last().is_some_and(|(_, is_learnt)| *is_learnt) {
            ids.extend(model.config().eos.first());
            mask.resize(ids.len(), true);
        }
        // Nothing predicts the first token.
        mask.iter_mut().take(1).for_each(|learnt| *learnt = false);
        Ok(Example { ids, mask })
    }
}
