//! The published dataset: rows of an image, its path, a category, a question and its right answer.
//!
//! Whether an image shows the right answer is said nowhere but in its path. A row whose path does not say is refused: without it
//! there is no drop. Which wrong answer is shown is not said at all, so that there is no instinct rate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tracker_store::{Digest, Draft, Edge, Kind as NodeKind, NodeId, Problem, Program, Recording, Relation};

use super::CorrelationQa;
use super::images::{IMAGE, alone};
use super::question::{Asked, Question};
use super::settings::PublishedSettings;
use super::trial::{Kind, Made, Role, Shown, Trial, put};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::endpoint::Picture;
use crate::parts::evaluate::Estimate;
use crate::parts::rows::{Fault, Fields, Format, Ids, Mapped, Options, Reader};

/// Rows as they were published: `{image, image_path, category, question, true_answer}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CorrelationRows;

/// A published row.
#[derive(Clone, Debug, PartialEq)]
pub struct CorrelationRow {
    /// The image's file, if the row has it.
    pub image: Option<Vec<u8>>,
    /// Its path.
    pub path: String,
    /// The category.
    pub category: String,
    /// The question.
    pub question: String,
    /// The right answer; may have more than one line.
    pub answer: String,
}

impl Format for CorrelationRows {
    const NAME: &'static str = "CorrelationQA";
    type Row = CorrelationRow;

    fn read(&self, _: String, fields: &Fields<'_>) -> std::result::Result<CorrelationRow, Fault> {
        Ok(CorrelationRow {
            image: image(fields)?,
            path: fields.text("image_path")?,
            category: fields.text("category")?,
            question: fields.text("question")?,
            answer: fields.text("true_answer")?,
        })
    }
}

/// The bytes of `image`: base64 (as Parquet's bytes are read), a `data:` URL, or an object with `bytes`.
fn image(fields: &Fields<'_>) -> std::result::Result<Option<Vec<u8>>, Fault> {
    let text = match fields.find("image") {
        None => return Ok(None),
        Some(value) if value.is_object() => match fields.object("image")?.optional_text("bytes")? {
            None => return Ok(None),
            Some(text) => text,
        },
        Some(_) => fields.text("image")?,
    };
    let coded = text.split_once(";base64,").map_or(text.as_str(), |(_, coded)| coded);
    let bytes = STANDARD.decode(coded).map_err(|error| fields.fault("image", format!("expected base64: {error}")))?;
    Picture::media_type(&bytes).map_err(|error| fields.fault("image", error.to_string()))?;
    Ok(Some(bytes))
}

/// What a path says: the kind of image and what it shows.
///
/// # Errors
/// What was expected, if it says neither or both.
fn derived(settings: &PublishedSettings, path: &str) -> std::result::Result<(Kind, Role), String> {
    let parts: BTreeSet<String> =
        path.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).filter(|part| !part.is_empty()).collect();
    let has = |words: &[String]| words.iter().any(|word| parts.contains(&word.to_lowercase()));
    let role = match (has(&settings.factual), has(&settings.spurious)) {
        (true, false) => Role::Factual,
        (false, true) => Role::Spurious,
        (is_both, _) => {
            return Err(format!(
                "expected a path with one of {:?} or one of {:?}, got `{path}` with {}",
                settings.factual,
                settings.spurious,
                if is_both { "both" } else { "neither" }
            ));
        }
    };
    Ok((if has(&settings.typography) { Kind::Typography } else { Kind::Natural }, role))
}

/// What every row is made: what it shows, and its image's bytes.
type Read = (CorrelationRow, Kind, Role);

impl CorrelationQa {
    /// The published questions and trials, recorded; images go into the store as they are read.
    ///
    /// # Errors
    /// `Input` for rows that cannot be used, with file, row and field; those of recording.
    pub(super) async fn published(&self, lab: &Lab) -> Result<(Vec<Asked>, Vec<Trial>)> {
        let settings = &self.published;
        let map = |row: CorrelationRow| -> std::result::Result<Read, Fault> {
            let (kind, role) = derived(settings, &row.path).map_err(|what| Fault::new("image_path", what))?;
            let row = match row.image {
                Some(_) => row,
                None => CorrelationRow { image: Some(from_folder(&settings.folder, &row.path)?), ..row },
            };
            Ok((row, kind, role))
        };
        let files: Vec<_> = settings.files.iter().map(std::path::PathBuf::from).collect();
        let options = Options { ids: Ids::Content, n_rows: None, skip_bad: settings.skip_bad };
        let mut reader = Reader::open(Mapped { format: CorrelationRows, map }, &files, options)?;
        let mut album = Album::new(lab)?;
        let mut asked: Vec<Asked> = Vec::new();
        let mut places: BTreeMap<(String, String, String), usize> = BTreeMap::new();
        let mut shown: Vec<(Shown, usize)> = Vec::new();
        let mut n_of: BTreeMap<(usize, Kind), u32> = BTreeMap::new();
        let mut recording = Recording::new();
        for row in reader.by_ref() {
            lab.check()?;
            let (row, kind, role) = row?;
            let key = (row.category.clone(), row.question.clone(), row.answer.clone());
            let next = asked.len();
            let question = *places.entry(key).or_insert(next);
            if question == next {
                asked.push(of_row(lab, &mut recording, &row, next)?);
            }
            let k = n_of.entry((question, kind)).or_default();
            let bytes = row.image.unwrap_or_default();
            let (digest, volume) = album.add(&format!("{question}/{}/{k}", kind.name()), &bytes)?;
            let pictured = (role == Role::Factual).then_some(row.answer);
            let made = Made { prompt: String::new(), seed: None, note: row.path };
            let of = Shown { question, k: *k, kind, role: Some(role), pictured, image: Some(digest), made };
            shown.push((of, volume));
            *k += 1;
        }
        let volumes = album.close()?;
        let publisher =
            Program { name: "published images".into(), version: "1".into(), settings: format!("{:?}", settings.files) };
        let publisher = recording.put(lab.run(), &publisher)?;
        let mut trials = Vec::with_capacity(shown.len());
        for (shown, volume) in shown {
            let of = asked[shown.question].clone();
            let images = volumes.get(volume).copied().flatten();
            trials.push(put(lab, &mut recording, &of, shown, Some(publisher), images)?);
        }
        if self.models.text_only {
            for (question, of) in asked.iter().enumerate() {
                trials.push(put(lab, &mut recording, of, alone(question), None, None)?);
            }
        }
        let report = reader.report();
        report.record(&mut recording, lab.run(), "published")?;
        let dataset = recording.put(lab.run(), &report.dataset("CorrelationQA", "benchmark"))?;
        for (order, trial) in (0..).zip(trials.iter().filter(|trial| trial.kind != Kind::Text)) {
            recording.put_edge(lab.run(), &Edge::new(dataset, Relation::Includes, trial.node).at(order))?;
        }
        lab.record(recording).await?;
        self.tell_rows(lab, report.n_read, report.n_kept, dataset).await?;
        Ok((asked, trials))
    }

    /// Says and records how many rows there are, and how many there ought to be.
    async fn tell_rows(&self, lab: &Lab, n_read: u64, n_kept: u64, dataset: NodeId) -> Result<()> {
        let declared = self.published.n_rows;
        let stage = lab.stage("published", 3).await?;
        let numbers = [
            ("rows read", n_read as f64),
            ("rows used", n_kept as f64),
            ("rows read less declared", n_read as f64 - declared as f64),
        ];
        for (item, (name, value)) in (0..).zip(numbers) {
            if declared > 0 || item < 2 {
                stage.figure(item, name, Estimate::exactly(value), n_read as usize, &[dataset]).await?;
            }
        }
        if declared > 0 && declared != n_read {
            lab.note(format!(
                "expected {declared} rows (`published.n_rows`), got {n_read}: this is another revision, or a part of it"
            ));
        }
        Ok(())
    }
}

/// The question of a row, recorded.
fn of_row(lab: &Lab, recording: &mut Recording, row: &CorrelationRow, nth: usize) -> Result<Asked> {
    let question = Question {
        id: format!("{} {nth}", row.category),
        category: row.category.clone(),
        text: row.question.clone(),
        right: row.answer.clone(),
        wrong: vec![],
        aliases: BTreeMap::new(),
    };
    let source = "CorrelationQA".to_owned();
    let problem = Problem { name: question.id.clone(), source, text: question.text.clone() };
    Ok(Asked { node: recording.put(lab.run(), &problem)?, question })
}

/// Images on their way into the store, so many an artifact: some ten thousand of a megabyte each are too many for one.
struct Album<'a> {
    lab: &'a Lab,
    draft: Draft<'a>,
    n_files: usize,
    volumes: Vec<Option<NodeId>>,
}

impl<'a> Album<'a> {
    /// Images of one artifact.
    const AT_ONCE: usize = 500;

    fn new(lab: &'a Lab) -> Result<Self> {
        Ok(Self { lab, draft: lab.store().draft(IMAGE)?, n_files: 0, volumes: vec![] })
    }

    /// Adds an image; its digest, and the place of the artifact that will have it.
    fn add(&mut self, path: &str, bytes: &[u8]) -> Result<(Digest, usize)> {
        if self.n_files == Self::AT_ONCE {
            self.turn()?;
        }
        self.n_files += 1;
        let entry = self.draft.add(path, &mut &*bytes)?;
        Ok((entry.digest, self.volumes.len()))
    }

    /// Names what was added so far, and begins another artifact.
    fn turn(&mut self) -> Result<()> {
        let full = std::mem::replace(&mut self.draft, self.lab.store().draft(IMAGE)?);
        let name = format!("{}/published images {}", self.lab.plan().study, self.volumes.len());
        let manifest = full.save(&name, &[], Some(self.lab.run()))?.manifest;
        self.volumes.push(NodeId::content(NodeKind::Artifact, manifest));
        self.n_files = 0;
        Ok(())
    }

    fn close(mut self) -> Result<Vec<Option<NodeId>>> {
        if self.n_files > 0 {
            self.turn()?;
        }
        Ok(self.volumes)
    }
}

/// The bytes of an image that lies in a folder.
fn from_folder(folder: &str, path: &str) -> std::result::Result<Vec<u8>, Fault> {
    let is_plain = Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if folder.is_empty() || !is_plain {
        let what = format!("expected an `image`, or a path within `published.folder` (`{folder}`), got `{path}`");
        return Err(Fault::new("image_path", what));
    }
    let whole = Path::new(folder).join(path);
    let bytes = std::fs::read(&whole)
        .map_err(|error| Fault::new("image_path", format!("{} cannot be read: {error}", whole.display())))?;
    Picture::media_type(&bytes).map_err(|error: Error| Fault::new("image_path", error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_shows_is_in_its_path_or_the_row_is_refused() {
        let settings = PublishedSettings::default();
        for (path, expected) in [
            ("Animal/natural/factual/3.png", Ok((Kind::Natural, Role::Factual))),
            ("animal_typography_spurious_3_2.PNG", Ok((Kind::Typography, Role::Spurious))),
            ("Typo\\Wrong\\3-2.jpg", Ok((Kind::Typography, Role::Spurious))),
            ("incorrect/3.png", Ok((Kind::Natural, Role::Spurious))),
            ("animal/3.png", Err("neither")),
            ("factual/spurious/3.png", Err("both")),
            ("incorrectly/3.png", Err("neither")),
        ] {
            let found = derived(&settings, path);
            match expected {
                Ok(expected) => assert_eq!(found, Ok(expected), "{path}"),
                Err(word) => assert!(found.unwrap_err().ends_with(word), "{path}"),
            }
        }
    }

    #[test]
    fn a_path_leads_nowhere_but_into_its_folder() {
        for path in ["../secret.png", "/etc/passwd"] {
            assert!(from_folder("images", path).unwrap_err().what.contains("published.folder"), "{path}");
        }
        assert!(from_folder("", "a.png").is_err());
        assert!(from_folder("images", "a.png").unwrap_err().what.contains("cannot be read"));
    }
}
