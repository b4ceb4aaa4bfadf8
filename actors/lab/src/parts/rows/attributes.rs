//! Rows of answers rated by several attributes, any of which may be missing.

use super::{Fault, Fields, Format, Message};

/// `HelpSteer`'s attributes, in the order of its values.
pub const HELP_STEER: [&str; 5] = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"];
/// `UltraFeedback`'s, after the overall score.
pub const ULTRA_FEEDBACK: [&str; 5] = ["overall", "instruction_following", "truthfulness", "honesty", "helpfulness"];

/// An answer with a value for each attribute of its format.
#[derive(Clone, Debug, PartialEq)]
pub struct Attributed {
    /// Its id.
    pub id: String,
    /// What is answered.
    pub prompt: Vec<Message>,
    /// The answer.
    pub response: String,
    /// A value for each attribute; `None` where it is missing.
    pub values: Vec<Option<f64>>,
}

/// `HelpSteer`'s rows: `{prompt, response, helpfulness, correctness, coherence, complexity, verbosity}`, ratings 0 to 4.
#[derive(Clone, Copy, Debug, Default)]
pub struct HelpSteer;

/// A `HelpSteer` rating of 0 to 4 on the scale of 0 to 100 that DPA's reward model has: `10 + 20 · rating`.
#[must_use]
pub fn help_steer_score(rating: f64) -> f64 {
    10.0 + 20.0 * rating
}

impl Format for HelpSteer {
    const NAME: &'static str = "HelpSteer";
    type Row = Attributed;

    fn read(&self, id: String, fields: &Fields<'_>) -> Result<Attributed, Fault> {
        let rating = |attribute: &&str| fields.optional_number(attribute, 0.0, 4.0);
        let values = HELP_STEER.iter().map(rating).collect::<Result<Vec<_>, Fault>>()?;
        let prompt = vec![Message { role: "user".into(), content: fields.text("prompt")? }];
        rated(Attributed { id, prompt, response: fields.text("response")?, values }, &HELP_STEER)
    }
}

/// Rows of a multi-objective reward model: `{messages, ATTRIBUTE, …}` or `{prompt, response, ATTRIBUTE, …}`, null where an
/// attribute is missing. Every other field is refused: a misspelled attribute would be missing everywhere.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// The attributes, in the order of values.
    pub names: Vec<String>,
    /// The least and the greatest value.
    pub range: (f64, f64),
}

impl Format for Attributes {
    const NAME: &'static str = "attribute";
    type Row = Attributed;

    fn read(&self, id: String, fields: &Fields<'_>) -> Result<Attributed, Fault> {
        const OTHERS: [&str; 5] = ["id", "messages", "prompt", "response", "source"];
        let is_known = |key: &str| OTHERS.contains(&key) || self.names.iter().any(|name| name == key);
        if let Some(key) = fields.keys().find(|key| !is_known(key)) {
            let what = format!("expected one of the attributes {}, got another", self.names.join(", "));
            return Err(fields.fault(key, what));
        }
        let value = |name: &String| fields.optional_number(name, self.range.0, self.range.1);
        let values = self.names.iter().map(value).collect::<Result<Vec<_>, Fault>>()?;
        let (prompt, response) = if fields.find("messages").is_some() {
            fields.answered("messages")?
        } else {
            (vec![Message { role: "user".into(), content: fields.text("prompt")? }], fields.text("response")?)
        };
        rated(Attributed { id, prompt, response, values }, &self.names)
    }
}

/// `UltraFeedback`'s rows: an instruction with completions, each annotated: `{instruction, completions: [{model, response,
/// overall_score, annotations: {honesty: {Rating}, …}}]}`. Ratings are 1 to 5 or `N/A`, overall scores 1 to 10.
#[derive(Clone, Copy, Debug, Default)]
pub struct UltraFeedback;

/// An `UltraFeedback` value on the scale of 0 to 100: as with [`help_steer_score`] the least is 10 and the greatest 90, of
/// `overall` (1 to 10) and of aspects (1 to 5). The paper does not say its own.
#[must_use]
pub fn ultra_feedback_score(attribute: &str, value: f64) -> f64 {
    let most = if attribute == ULTRA_FEEDBACK[0] { 10.0 } else { 5.0 };
    10.0 + 80.0 * (value - 1.0) / (most - 1.0)
}

/// An instruction with its completions.
#[derive(Clone, Debug, PartialEq)]
pub struct Feedback {
    /// Its id.
    pub id: String,
    /// The data set the instruction was taken from.
    pub source: String,
    /// The models that completed it, in the order of completions.
    pub models: Vec<String>,
    /// The completions, named `ID/0`, `ID/1`, …, with values in the order of [`ULTRA_FEEDBACK`].
    pub completions: Vec<Attributed>,
}

impl Format for UltraFeedback {
    const NAME: &'static str = "UltraFeedback";
    type Row = Feedback;

    fn read(&self, id: String, fields: &Fields<'_>) -> Result<Feedback, Fault> {
        let prompt = vec![Message { role: "user".into(), content: fields.text("instruction")? }];
        let (mut models, mut completions) = (Vec::new(), Vec::new());
        for (nth, completion) in fields.objects("completions")?.into_iter().enumerate() {
            let mut values = vec![completion.optional_number("overall_score", 1.0, 10.0)?];
            let annotations = completion.object("annotations")?;
            if let Some(aspect) = annotations.keys().find(|key| !ULTRA_FEEDBACK[1..].contains(key)) {
                let what = format!("expected one of {}, got another", ULTRA_FEEDBACK[1..].join(", "));
                return Err(annotations.fault(aspect, what));
            }
            for aspect in &ULTRA_FEEDBACK[1..] {
                values.push(match annotations.find(aspect) {
                    None => None,
                    Some(_) => annotations.object(aspect)?.optional_number("Rating", 1.0, 5.0)?,
                });
            }
            models.push(completion.text("model")?);
            let response = completion.text("response")?;
            completions.push(Attributed { id: format!("{id}/{nth}"), prompt: prompt.clone(), response, values });
        }
        Ok(Feedback { id, source: fields.text("source")?, models, completions })
    }
}

/// A row of which no attribute is known teaches nothing.
fn rated(row: Attributed, names: &[impl AsRef<str>]) -> Result<Attributed, Fault> {
    if row.values.iter().all(Option::is_none) {
        let first = names.first().map_or("", AsRef::as_ref);
        return Err(Fault::new(first, "expected a value for at least one attribute, got none"));
    }
    Ok(row)
}
