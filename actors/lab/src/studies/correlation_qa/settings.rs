//! What a plan of `correlation_qa` may say.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::trial::Kind;
use crate::error::Result;
use crate::parts::endpoint::{Api, EndpointSettings};
use crate::parts::mention::{Rule, llm};
use crate::plan::{Settings, require};

/// Settings of the study `correlation_qa`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CorrelationQa {
    /// Where questions come from.
    pub questions: QuestionSettings,
    /// Who writes questions, if they are to be written (chat).
    pub writer: EndpointSettings,
    /// What images there are.
    pub images: ImageSettings,
    /// Who makes the natural images; without one a pattern stands for each answer.
    pub painter: EndpointSettings,
    /// Who is asked.
    pub models: ModelSettings,
    /// The small networks that are asked where no endpoint is given.
    pub toy: ToySettings,
    /// Who judges.
    pub judges: JudgeSettings,
    /// A model that judges as well (chat).
    pub judge: EndpointSettings,
    /// Rows of the published dataset, in place of questions and images of ours.
    pub published: PublishedSettings,
    /// Outputs of a recorded run, judged anew in place of asking anybody.
    pub outputs: OutputSettings,
    /// How it is measured.
    pub measure: MeasureSettings,
}

/// Where questions come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuestionSettings {
    /// JSON lines `{"id", "category", "question", "answer", "wrong": [five], "aliases": {answer: [names]}}`; empty for the questions
    /// that come with the program.
    pub file: String,
    /// The field that names a row; empty to name rows by what they say.
    pub id: String,
    /// Whether rows that cannot be used are left out and counted.
    pub skip_bad: bool,
    /// Categories to take; empty for all.
    pub categories: Vec<String>,
    /// Most questions of a category; 0 for all.
    pub most: u32,
    /// Questions of each of `categories` to have written by `writer`.
    pub n_written: u32,
}

/// What images there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSettings {
    /// Kinds: `natural`, `typography`.
    pub kinds: Vec<Kind>,
    /// Wrong answers that are pictured, of each question: 1 to 5.
    pub spurious: u32,
    /// Width and height of what programs draw, in pixels.
    pub side: u32,
    /// What a painter is asked for; `{answer}` stands for the answer.
    pub prompt: String,
    /// Width and height that a painter is asked for.
    pub size: String,
    /// Whether a painter is told a seed, which some servers take and some refuse.
    pub send_seed: bool,
    /// Whether a painter is asked for bytes by `response_format`, which some servers insist on and some refuse.
    pub ask_b64: bool,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// Vision models behind endpoints (chat), one a table: `[[models.endpoints]]` with `url` and `model`.
    pub endpoints: Vec<EndpointSettings>,
    /// Longest answer, in tokens.
    pub max_tokens: u32,
    /// Temperature of endpoints.
    pub temperature: f64,
    /// Whether questions are asked without an image as well.
    pub text_only: bool,
}

/// The small networks that are asked where no endpoint is given: one stream knows the question, one sees the image's pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ToySettings {
    /// Shares of the training examples whose image shows the stated answer; one in six is chance.
    pub rho: Vec<f64>,
    /// Networks of each.
    pub repeats: u32,
    /// Share of the training examples that state the right answer; the others state each wrong one alike.
    pub knowledge: f64,
    /// Training examples of each question.
    pub draws: u32,
    /// Share of the training examples without an image.
    pub blank: f64,
    /// Passes over them.
    pub epochs: u32,
    /// Step size of the stream that knows questions; it falls to nothing.
    pub lr_question: f64,
    /// Step size of the stream that sees.
    pub lr_image: f64,
    /// Pixels along each side of what a network sees.
    pub eye: u32,
    /// Share of replies that name another answer besides, only to deny it.
    pub hedges: f64,
    /// Share of replies that talk past `models.max_tokens`, a word a token, before they come to the answer.
    pub long: f64,
    /// Share of replies in another script, which do not answer.
    pub foreign: f64,
}

/// Who judges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JudgeSettings {
    /// Rules: `substring` as released, `words`.
    pub rules: Vec<Rule>,
    /// Whose verdicts claims rest on: a rule's name, or `llm`.
    pub primary: String,
    /// What a model that judges is asked: `{question}`, `{right}`, `{pictured}`, `{reply}`.
    pub template: String,
}

/// Rows of the published dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PublishedSettings {
    /// Files with rows `{image, image_path, category, question, true_answer}`: Parquet, JSON lines or a JSON array.
    pub files: Vec<String>,
    /// The folder that `image_path` starts from, for rows without an `image`.
    pub folder: String,
    /// Whether rows that cannot be used are left out and counted.
    pub skip_bad: bool,
    /// How many rows there ought to be; another number is said, and recorded. 7,308 in the paper; 0 for any.
    pub n_rows: u64,
    /// Parts of `image_path` that say an image shows the right answer.
    pub factual: Vec<String>,
    /// Parts of `image_path` that say it shows a wrong one.
    pub spurious: Vec<String>,
    /// Parts of `image_path` that say it is a word; all others are natural.
    pub typography: Vec<String>,
}

/// Outputs of a recorded run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutputSettings {
    /// A run of this study in the same store: id, unique prefix or name. Nobody is asked again but the judge.
    pub run: String,
    /// Other names of answers, a JSON object `{answer: [names]}` in a file, beside those recorded; empty for none.
    pub aliases: String,
}

/// How it is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MeasureSettings {
    /// Resamples behind every interval; questions are drawn anew, with all their images.
    pub n_resamples: u32,
}

impl Default for CorrelationQa {
    fn default() -> Self {
        let chat = EndpointSettings { api: Api::Chat, ..EndpointSettings::default() };
        Self {
            questions: QuestionSettings::default(),
            writer: chat.clone(),
            images: ImageSettings::default(),
            painter: chat.clone(),
            models: ModelSettings::default(),
            toy: ToySettings::default(),
            judges: JudgeSettings::default(),
            judge: chat,
            published: PublishedSettings::default(),
            outputs: OutputSettings::default(),
            measure: MeasureSettings::default(),
        }
    }
}

impl Default for QuestionSettings {
    fn default() -> Self {
        let (file, id) = (String::new(), "id".into());
        Self { file, id, skip_bad: false, categories: vec![], most: 0, n_written: 0 }
    }
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self {
            kinds: vec![Kind::Natural, Kind::Typography],
            spurious: 5,
            side: 96,
            prompt: "A photo of {answer}.".into(),
            size: "512x512".into(),
            send_seed: false,
            ask_b64: true,
        }
    }
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self { endpoints: vec![], max_tokens: 30, temperature: 0.0, text_only: true }
    }
}

impl Default for ToySettings {
    fn default() -> Self {
        Self {
            rho: vec![1.0 / 6.0, 0.35, 0.55, 0.75, 0.95],
            repeats: 3,
            knowledge: 0.75,
            draws: 120,
            blank: 0.15,
            epochs: 6,
            lr_question: 0.3,
            lr_image: 2.0,
            eye: 24,
            hedges: 0.05,
            long: 0.03,
            foreign: 0.01,
        }
    }
}

impl Default for JudgeSettings {
    fn default() -> Self {
        Self { rules: vec![Rule::Substring, Rule::Words], primary: "words".into(), template: llm::TEMPLATE.into() }
    }
}

impl Default for PublishedSettings {
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            files: vec![],
            folder: String::new(),
            skip_bad: false,
            n_rows: 7308,
            factual: words(&["factual", "correct", "right", "true"]),
            spurious: words(&["spurious", "incorrect", "wrong", "false"]),
            typography: words(&["typography", "typo", "ocr"]),
        }
    }
}

impl Default for MeasureSettings {
    fn default() -> Self {
        Self { n_resamples: 1000 }
    }
}

/// Where what is judged comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Questions and images of ours, or painted.
    Built,
    /// Published rows.
    Published,
    /// A recorded run.
    Recorded,
}

impl CorrelationQa {
    pub(super) fn source(&self) -> Source {
        if !self.outputs.run.is_empty() {
            Source::Recorded
        } else if self.published.files.is_empty() {
            Source::Built
        } else {
            Source::Published
        }
    }

    /// Whether the small networks are asked.
    pub(super) fn is_toy(&self) -> bool {
        self.source() == Source::Built && self.models.endpoints.is_empty()
    }

    fn check_questions(&self) -> Result<()> {
        let QuestionSettings { file, categories, n_written, .. } = &self.questions;
        let distinct: BTreeSet<&String> = categories.iter().collect();
        let got = format!("{categories:?}");
        require(distinct.len() == categories.len(), "questions.categories", "distinct categories", &got)?;
        if *n_written > 0 {
            self.writer.check("writer")?;
            require(file.is_empty(), "questions.n_written", "0 beside `questions.file`", n_written)?;
            require(!categories.is_empty(), "questions.categories", "the categories to write questions of", &got)?;
        } else {
            require(!self.writer.is_given(), "questions.n_written", "at least 1 where there is a `writer`", n_written)?;
        }
        let ImageSettings { kinds, spurious, side, prompt, .. } = &self.images;
        let distinct: BTreeSet<&Kind> = kinds.iter().collect();
        let got = format!("{kinds:?}");
        let fit = distinct.len() == kinds.len() && !kinds.is_empty() && !kinds.contains(&Kind::Text);
        require(fit, "images.kinds", "`natural`, `typography` or both", got)?;
        require((1..=5).contains(spurious), "images.spurious", "from 1 to 5", spurious)?;
        require((16..=2048).contains(side), "images.side", "from 16 to 2048 pixels", side)?;
        require(prompt.contains("{answer}"), "images.prompt", "a text with `{answer}`", prompt)?;
        if self.painter.is_given() {
            self.painter.check("painter")?;
            require(
                kinds.contains(&Kind::Natural),
                "painter.url",
                "none, or `natural` among `images.kinds`",
                &self.painter.url,
            )?;
        }
        Ok(())
    }

    fn check_models(&self) -> Result<()> {
        let ModelSettings { endpoints, max_tokens, temperature, .. } = &self.models;
        require(*max_tokens > 0, "models.max_tokens", "at least 1", max_tokens)?;
        require(
            temperature.is_finite() && *temperature >= 0.0,
            "models.temperature",
            "a number of at least 0",
            temperature,
        )?;
        for (at, endpoint) in endpoints.iter().enumerate() {
            let section = format!("models.endpoints[{at}]");
            endpoint.check(&section)?;
            require(
                endpoint.api == Api::Chat,
                &format!("{section}.api"),
                "`chat`, which takes images",
                endpoint.api.name(),
            )?;
            let is_new = endpoints.iter().take(at).all(|other| other.model != endpoint.model);
            require(is_new, &format!("{section}.model"), "a model that is not asked already", &endpoint.model)?;
            require(!endpoint.model.is_empty(), &format!("{section}.model"), "the name of a model", "")?;
        }
        if self.source() == Source::Published {
            let expected = "a vision model at least: the small networks answer questions of ours only";
            require(!endpoints.is_empty(), "models.endpoints", expected, "[]")?;
        }
        Ok(())
    }

    fn check_toy(&self) -> Result<()> {
        let ToySettings { rho, repeats, knowledge, draws, blank, epochs, lr_question, lr_image, eye, .. } = &self.toy;
        require(!rho.is_empty(), "toy.rho", "a share at least", "[]")?;
        for rho in rho {
            require((0.0..1.0).contains(rho), "toy.rho", "shares in [0, 1)", rho)?;
        }
        // Networks are named by them, to three places.
        let is_apart = rho.is_sorted_by(|a, b| b - a >= 1e-3);
        require(is_apart, "toy.rho", "ascending shares, a thousandth apart at least", format!("{rho:?}"))?;
        require((0.0..1.0).contains(knowledge), "toy.knowledge", "a share in [0, 1)", knowledge)?;
        require((0.0..1.0).contains(blank), "toy.blank", "a share in [0, 1)", blank)?;
        for (key, n) in [("toy.repeats", repeats), ("toy.draws", draws), ("toy.epochs", epochs)] {
            require(*n > 0, key, "at least 1", n)?;
        }
        for (key, lr) in [("toy.lr_question", lr_question), ("toy.lr_image", lr_image)] {
            require(lr.is_finite() && *lr > 0.0, key, "a number above 0", lr)?;
        }
        require((2..=self.images.side).contains(eye), "toy.eye", "from 2 to `images.side`", eye)?;
        let ToySettings { hedges, long, foreign, .. } = &self.toy;
        let shares = [("toy.hedges", hedges), ("toy.long", long), ("toy.foreign", foreign)];
        for (key, share) in shares {
            require((0.0..=1.0).contains(share), key, "a share", share)?;
        }
        let sum = hedges + long + foreign;
        require(sum <= 1.0, "toy.foreign", "shares of replies that sum to at most 1", sum)?;
        // The factual image and five wrong ones are what the expected drop is computed of.
        require(
            !self.is_toy() || self.images.spurious == 5,
            "images.spurious",
            "5 for the small networks",
            self.images.spurious,
        )
    }

    fn check_judges(&self) -> Result<()> {
        let JudgeSettings { rules, primary, template } = &self.judges;
        let distinct: BTreeSet<&Rule> = rules.iter().collect();
        require(distinct.len() == rules.len(), "judges.rules", "distinct rules", format!("{rules:?}"))?;
        let mut names: Vec<&str> = rules.iter().map(|rule| rule.name()).collect();
        if self.judge.is_given() {
            self.judge.check("judge")?;
            names.push("llm");
        }
        let expected = format!("one of `{}`", names.join("`, `"));
        require(names.contains(&primary.as_str()), "judges.primary", &expected, primary)?;
        llm::check("judges.template", template)
    }

    fn check_source(&self) -> Result<()> {
        let PublishedSettings { files, factual, spurious, .. } = &self.published;
        let OutputSettings { run, aliases } = &self.outputs;
        require(run.is_empty() || files.is_empty(), "outputs.run", "none beside `published.files`", run)?;
        require(!run.is_empty() || aliases.is_empty(), "outputs.aliases", "none without `outputs.run`", aliases)?;
        let n_asked = self.models.endpoints.len();
        require(
            run.is_empty() || n_asked == 0,
            "models.endpoints",
            "none beside `outputs.run`, where nobody is asked",
            n_asked,
        )?;
        let overlap = factual.iter().find(|word| spurious.contains(word));
        require(overlap.is_none(), "published.factual", "other words than `published.spurious`", format!("{overlap:?}"))
    }
}

impl Settings for CorrelationQa {
    fn smoke() -> Self {
        Self {
            questions: QuestionSettings {
                categories: ["animal", "colour", "mathematics"].map(str::to_owned).to_vec(),
                most: 6,
                ..QuestionSettings::default()
            },
            images: ImageSettings { side: 48, ..ImageSettings::default() },
            toy: ToySettings {
                rho: vec![1.0 / 6.0, 0.9],
                repeats: 1,
                draws: 60,
                epochs: 3,
                hedges: 0.1,
                long: 0.1,
                foreign: 0.05,
                ..ToySettings::default()
            },
            measure: MeasureSettings { n_resamples: 60 },
            ..Self::default()
        }
    }

    fn check(&self) -> Result<()> {
        self.check_questions()?;
        self.check_models()?;
        self.check_toy()?;
        self.check_judges()?;
        self.check_source()?;
        require(self.measure.n_resamples >= 40, "measure.n_resamples", "at least 40", self.measure.n_resamples)
    }
}
