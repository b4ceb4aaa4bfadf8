//! Rows of predictions files: `{image, class, group, model, prompts, [space], [background], [source], prediction | top | scores}`.
//!
//! What a row says has to agree with the rows before it, so that rows are taken in as they are read, and a wrong one is named by its place.

use std::cell::RefCell;
use std::collections::HashMap;

use serde_json::Value;

use super::{Answers, Image, Names, Predictions, Ranked, ranked};
use crate::error::{Error, Result};
use crate::parts::robustness::Group;
use crate::parts::rows::{Fault, Fields, Format};

type Read<T> = std::result::Result<T, Fault>;

/// No answer yet.
const MISSING: u32 = u32::MAX;
const COLUMNS: [&str; 10] =
    ["image", "class", "group", "model", "prompts", "space", "background", "source", "prediction", "top"];
/// The label space of rows that do not say theirs.
const WHOLE: &str = "all";

/// Takes in rows of predictions.
pub struct Collector {
    n_top: usize,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    found: Predictions,
    images: Names,
    /// Models, prompt sets and spaces.
    keys: Names,
    sets: HashMap<[u32; 3], usize>,
}

/// What a row says of an image.
enum Said {
    One(u32),
    Top(Vec<Ranked>),
    Scores(Vec<f32>),
}

impl Collector {
    /// A collector of rows whose `scores` are of these labels, in this order; of scores the best `n_top` are kept by name.
    ///
    /// # Errors
    /// `Input` if a label is there twice.
    pub fn new(labels: &[String], n_top: usize) -> Result<Self> {
        let mut inner = Inner::default();
        for label in labels {
            if inner.found.labels.find(label).is_some() {
                return Err(Error::Input {
                    what: format!("labels: expected each once, got `{label}` twice"),
                    hint: None,
                });
            }
            let number = inner.found.labels.number(label);
            inner.found.columns.push(number);
        }
        Ok(Self { n_top: n_top.max(1), inner: RefCell::new(inner) })
    }

    /// All that was read.
    ///
    /// # Errors
    /// `Input` if a set has no answer for an image, naming both: its file was cut off, or is of other images.
    pub fn finish(self) -> Result<Predictions> {
        let Inner { mut found, .. } = self.inner.into_inner();
        let n_images = found.images.len();
        for set in &mut found.sets {
            set.first.resize(n_images, MISSING);
            let n_missing = set.first.iter().filter(|first| **first == MISSING).count();
            if let Some(at) = set.first.iter().position(|first| *first == MISSING) {
                let what = format!(
                    "{}: expected an answer for each of {n_images} images, got none for {n_missing}, the first of them `{}`",
                    set.name(),
                    found.images[at].id
                );
                return Err(Error::Input { what, hint: Some("was a file cut off, or is it of other images?".into()) });
            }
            if set.top.iter().any(|top| !top.is_empty()) {
                set.top.resize(n_images, vec![]);
            } else {
                set.top.clear();
            }
            // Whole only if every row had them.
            let n_scores = n_images * found.columns.len();
            if let Some(scores) = set.scores.take_if(|scores| scores.len() != n_scores) {
                let what = format!(
                    "{}: expected scores for each of {n_images} images or for none, got {} numbers of {n_scores}",
                    set.name(),
                    scores.len()
                );
                return Err(Error::Input { what, hint: None });
            }
        }
        Ok(found)
    }
}

impl Format for &Collector {
    const NAME: &'static str = "prediction";
    type Row = ();

    fn read(&self, _id: String, fields: &Fields<'_>) -> Read<()> {
        if let Some(other) = fields.keys().find(|key| !COLUMNS.contains(key) && *key != "scores") {
            return Err(
                fields.fault(other, format!("expected one of {}, scores, got another column", COLUMNS.join(", ")))
            );
        }
        let inner = &mut *self.inner.borrow_mut();
        let said = inner.said(fields, self.n_top)?;
        let set = inner.set(fields)?;
        let image = inner.image(fields)?;
        inner.answer(image, set, said, self.n_top, fields)
    }
}

/// A text that is not blank, as it lies in the row.
fn text<'a>(fields: &Fields<'a>, field: &str) -> Read<&'a str> {
    match fields.find(field) {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
        Some(Value::String(_)) => Err(fields.fault(field, "expected a text that is not blank, got a blank one")),
        None => Err(fields.fault(field, "expected a text, got nothing")),
        Some(_) => fields.text(field).map(|_| ""),
    }
}

fn optional<'a>(fields: &Fields<'a>, field: &str) -> Read<&'a str> {
    if fields.find(field).is_none() { Ok("") } else { text(fields, field) }
}

impl Inner {
    /// The image of a row, which is as it was in the rows before.
    fn image(&mut self, fields: &Fields<'_>) -> Read<usize> {
        let (id, class) = (text(fields, "image")?, text(fields, "class")?);
        let name = text(fields, "group")?;
        let group = Group::of(name)
            .ok_or_else(|| fields.fault("group", format!("expected `common` or `counter`, got `{name}`")))?;
        let (background, source) = (optional(fields, "background")?, optional(fields, "source")?);
        let class = self.found.labels.number(class);
        let at = self.images.number(id) as usize;
        let Some(image) = self.found.images.get(at) else {
            let (id, background, source) = (id.to_owned(), background.to_owned(), source.to_owned());
            self.found.images.push(Image { id, class, group, background, source });
            return Ok(at);
        };
        let was = |field: &str, was: &str, is: &str| {
            Err(fields.fault(field, format!("expected `{was}`, as image `{id}` had before, got `{is}`")))
        };
        if image.class != class {
            return was("class", self.found.labels.name(image.class), self.found.labels.name(class));
        }
        if image.group != group {
            return was("group", image.group.name(), name);
        }
        if image.background != background {
            return was("background", &image.background, background);
        }
        if image.source != source {
            return was("source", &image.source, source);
        }
        Ok(at)
    }

    fn set(&mut self, fields: &Fields<'_>) -> Read<usize> {
        let (model, prompts) = (text(fields, "model")?, text(fields, "prompts")?);
        let space = match optional(fields, "space")? {
            "" => WHOLE,
            space => space,
        };
        let key = [model, prompts, space].map(|name| self.keys.number(name));
        let sets = &mut self.found.sets;
        Ok(*self.sets.entry(key).or_insert_with(|| {
            let [model, prompts, space] = [model, prompts, space].map(str::to_owned);
            sets.push(Answers { model, prompts, space, first: vec![], top: vec![], scores: None, n_ties: 0 });
            sets.len() - 1
        }))
    }

    fn said(&mut self, fields: &Fields<'_>, n_top: usize) -> Read<Said> {
        let given = ["prediction", "top", "scores"].map(|field| fields.find(field));
        match given {
            [Some(_), None, None] => Ok(Said::One(self.found.labels.number(text(fields, "prediction")?))),
            [None, Some(top), None] => self.top(top, n_top).map_err(|what| fields.fault("top", what)).map(Said::Top),
            [None, None, Some(scores)] => scores_of(scores, self.found.columns.len())
                .map_err(|what| fields.fault("scores", what))
                .map(Said::Scores),
            _ => {
                Err(fields.fault("prediction", "expected one of `prediction`, `top` and `scores`, got none or several"))
            }
        }
    }

    /// Labels, best first, each by itself or with its score.
    fn top(&mut self, value: &Value, n_top: usize) -> std::result::Result<Vec<Ranked>, String> {
        let parsed;
        let list = match value {
            Value::String(text) => {
                parsed =
                    serde_json::from_str(text).map_err(|error| format!("expected a JSON list of labels: {error}"))?;
                &parsed
            }
            other => other,
        };
        let Some(list) = list.as_array().filter(|list| !list.is_empty()) else {
            return Err("expected a list of at least one label".into());
        };
        let mut top = Vec::with_capacity(list.len().min(n_top));
        for entry in list.iter().take(n_top) {
            let (label, score) = match entry {
                Value::String(label) => (label, None),
                Value::Array(pair) => match pair.as_slice() {
                    [Value::String(label), Value::Number(score)] => (label, score.as_f64().map(|score| score as f32)),
                    _ => return Err(format!("expected `[label, score]`, got {entry}")),
                },
                other => return Err(format!("expected a label, got {other}")),
            };
            if label.trim().is_empty() {
                return Err("expected labels that are not blank, got a blank one".into());
            }
            top.push(Ranked { label: self.found.labels.number(label), score });
        }
        Ok(top)
    }

    fn answer(&mut self, image: usize, set: usize, said: Said, n_top: usize, fields: &Fields<'_>) -> Read<()> {
        let Inner { found: Predictions { sets, columns, images, .. }, .. } = self;
        let set = &mut sets[set];
        if set.first.len() <= image {
            set.first.resize(images.len(), MISSING);
        }
        if set.first[image] != MISSING {
            let what = format!("an earlier row has the answer of {} for it", set.name());
            return Err(fields.fault("image", what));
        }
        let top = match said {
            Said::One(label) => {
                set.first[image] = label;
                return Ok(());
            }
            Said::Top(top) => top,
            Said::Scores(scores) => {
                let (top, is_tied) = ranked(&scores, columns, n_top);
                set.n_ties += usize::from(is_tied);
                let all = set.scores.get_or_insert_default();
                // Scores lie in the order of images, which rows mostly come in.
                if all.len() < image * columns.len() {
                    all.resize(image * columns.len(), f32::NAN);
                }
                if all.len() == image * columns.len() {
                    all.extend(scores);
                } else {
                    all[image * columns.len()..][..columns.len()].copy_from_slice(&scores);
                }
                top
            }
        };
        set.first[image] = top[0].label;
        if set.top.len() <= image {
            set.top.resize(image + 1, vec![]);
        }
        set.top[image] = top;
        Ok(())
    }
}

fn scores_of(value: &Value, n: usize) -> std::result::Result<Vec<f32>, String> {
    let parsed;
    let list = match value {
        Value::String(text) => {
            parsed = serde_json::from_str(text).map_err(|error| format!("expected a JSON list of numbers: {error}"))?;
            &parsed
        }
        other => other,
    };
    let list = list.as_array().ok_or("expected a list of numbers")?;
    if n == 0 {
        return Err("expected the labels of scores in `data.labels`, got none".into());
    }
    if list.len() != n {
        return Err(format!("expected {n} scores, one for each of `data.labels`, got {}", list.len()));
    }
    let number = |value: &Value| value.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
    let scores: Option<Vec<f32>> = list.iter().map(number).collect();
    scores.ok_or_else(|| "expected finite numbers".into())
}
