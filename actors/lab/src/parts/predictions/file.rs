//! Predictions as a file of a run: a line an image, a column a set of answers.
//!
//! A cell is the label, or a JSON list of labels (each by itself or with its score) where more than the best is known.

use serde_json::{Value, json};

use super::{Answers, Image, Predictions, Ranked};
use crate::error::{Error, Result};
use crate::parts::robustness::Group;

/// Columns that say what an image is.
const IMAGE: [&str; 5] = ["image", "class", "group", "background", "source"];

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::Internal(format!("a file of predictions: {error}"))
}

impl Predictions {
    /// The images alone: `image,class,group,background,source`.
    ///
    /// # Errors
    /// None that is known.
    pub fn images_csv(&self) -> Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(IMAGE).map_err(|error| failed(&error))?;
        for image in &self.images {
            writer.write_record(self.cells(image)).map_err(|error| failed(&error))?;
        }
        writer.into_inner().map_err(|error| failed(&error))
    }

    /// Images and answers, scores but of the best left out.
    ///
    /// # Errors
    /// None that is known.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let names = self.sets.iter().map(|set| json!([set.model, set.prompts, set.space]).to_string());
        let header: Vec<String> = IMAGE.into_iter().map(str::to_owned).chain(names).collect();
        writer.write_record(&header).map_err(|error| failed(&error))?;
        for (at, image) in self.images.iter().enumerate() {
            for cell in self.cells(image) {
                writer.write_field(cell).map_err(|error| failed(&error))?;
            }
            for set in &self.sets {
                match set.top.get(at).filter(|top| !top.is_empty()) {
                    Some(top) => writer.write_field(self.list(top)),
                    None => match self.labels.name(set.first[at]) {
                        // Not to be taken for a list.
                        name if name.starts_with('[') => writer.write_field(json!([name]).to_string()),
                        name => writer.write_field(name),
                    },
                }
                .map_err(|error| failed(&error))?;
            }
            writer.write_record(None::<&[u8]>).map_err(|error| failed(&error))?;
        }
        writer.into_inner().map_err(|error| failed(&error))
    }

    fn cells<'a>(&'a self, image: &'a Image) -> [&'a str; 5] {
        [&image.id, self.labels.name(image.class), image.group.name(), &image.background, &image.source]
    }

    fn list(&self, top: &[Ranked]) -> String {
        let one = |ranked: &Ranked| match ranked.score {
            None => json!(self.labels.name(ranked.label)),
            // By its shortest decimal.
            Some(score) => {
                json!([self.labels.name(ranked.label), score.to_string().parse().unwrap_or(f64::from(score))])
            }
        };
        Value::Array(top.iter().map(one).collect()).to_string()
    }

    /// Reads what [`Predictions::to_csv`] wrote.
    ///
    /// # Errors
    /// `Internal` for anything else.
    pub fn from_csv(bytes: &[u8]) -> Result<Self> {
        let mut reader = csv::Reader::from_reader(bytes);
        let mut found = Self::default();
        for name in reader.headers().map_err(|error| failed(&error))?.iter().skip(IMAGE.len()) {
            let [model, prompts, space]: [String; 3] = serde_json::from_str(name).map_err(|error| failed(&error))?;
            found.sets.push(Answers { model, prompts, space, first: vec![], top: vec![], scores: None, n_ties: 0 });
        }
        for record in reader.records() {
            let record = record.map_err(|error| failed(&error))?;
            let cell = |at: usize| record.get(at).unwrap_or_default();
            let group = Group::of(cell(2)).ok_or_else(|| failed(&format!("no group `{}`", cell(2))))?;
            let [id, background, source] = [0, 3, 4].map(|at| cell(at).to_owned());
            let class = found.labels.number(cell(1));
            found.images.push(Image { id, class, group, background, source });
            for (at, set) in found.sets.iter_mut().enumerate() {
                let cell = cell(IMAGE.len() + at);
                if !cell.starts_with('[') {
                    set.first.push(found.labels.number(cell));
                    continue;
                }
                let list: Vec<Value> = serde_json::from_str(cell).map_err(|error| failed(&error))?;
                let mut one = |entry: &Value| {
                    let name = entry.as_str().or_else(|| entry.get(0)?.as_str()).unwrap_or_default();
                    let score = entry.get(1).and_then(Value::as_f64).map(|score| score as f32);
                    Ranked { label: found.labels.number(name), score }
                };
                let top: Vec<Ranked> = list.iter().map(&mut one).collect();
                set.first.push(top.first().map_or(0, |ranked| ranked.label));
                if top.len() > 1 || top.iter().any(|ranked| ranked.score.is_some()) {
                    set.top.resize(set.first.len() - 1, vec![]);
                    set.top.push(top);
                }
            }
        }
        Ok(found)
    }
}
