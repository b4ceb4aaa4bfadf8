//! Photos and CLIP models: what each says of each photo under each prompt set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use tracker_actors::{Fault, Pool, PoolOptions, Turn, Worker};
use tracker_store::{Claim, Dataset, Digest, NodeId, Program, Recording};

use super::files::{Nodes, analyse, lines, put_lines};
use super::settings::CounterAnimal;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::model::{Seer, load_clip};
use crate::parts::predictions::{Answers, Image, Predictions, ranked};
use crate::parts::robustness::Group;
use crate::parts::zero_shot::{check_templates, cosines, ensemble, prompts};

type Found = (Claim, Vec<NodeId>);

/// What is to be embedded.
enum Look {
    Photo(PathBuf),
    /// Prompts of one class.
    Prompts(Vec<String>),
}

/// Embeds photos and prompts.
struct Looker(Seer);

impl Worker for Looker {
    type Message = Look;
    type Reply = Vec<f32>;
    type State = u64;

    async fn handle(&mut self, look: Look, turn: &mut Turn<'_, u64>) -> std::result::Result<Vec<f32>, Fault> {
        let Seer { clip, preprocessing, .. } = &self.0;
        turn.update(|n_looks| *n_looks += 1);
        match look {
            Look::Photo(path) => {
                let failed = || Fault::input(format!("photo `{}` cannot be read", path.display()));
                let photo = image::open(&path).map_err(|error| failed().because(error))?;
                let pixels = preprocessing.pixels(&photo).map_err(|error| failed().because(error))?;
                clip.image_features(&pixels).map_err(|error| failed().because(error))
            }
            Look::Prompts(prompts) => {
                let embed = |prompt: &String| {
                    let failed = |error| Fault::input(format!("prompt `{prompt}` cannot be embedded")).because(error);
                    clip.text_features(prompt).map_err(failed)
                };
                let embeddings = prompts.iter().map(embed).collect::<std::result::Result<Vec<_>, Fault>>()?;
                Ok(ensemble(&embeddings))
            }
        }
    }
}

/// A photo and where it lies.
struct Photo {
    path: PathBuf,
    image: Image,
}

/// Embeds, classifies, and says what was found.
///
/// # Errors
/// `Input` for a folder, file or model that is not what it should be, by its path; those of recording.
pub(super) async fn images(lab: &Lab, study: &CounterAnimal, discovery: NodeId) -> Result<Vec<Found>> {
    let plan = &study.images;
    if plan.folder.is_empty() {
        return Ok(vec![]);
    }
    let mut predictions = Predictions::default();
    let folders = names(&plan.names, &mut predictions)?;
    let photos = photos(Path::new(&plan.folder), &folders)?;
    predictions.images = photos.iter().map(|photo| photo.image.clone()).collect();
    let mut templates = BTreeMap::new();
    for (name, path) in &plan.prompts {
        let of_file = lines(path, "templates")?;
        check_templates(path, &of_file)?;
        templates.insert(name.as_str(), of_file);
    }

    let mut nodes = Nodes::default();
    let mut recording = Recording::new();
    let labels: Vec<String> =
        predictions.columns.iter().map(|label| predictions.labels.name(*label).to_owned()).collect();
    nodes.space = Some(put_lines(lab, &mut recording, &format!("label space {}", plan.space), "labels", &labels)?);
    for (name, of_file) in &templates {
        let node = put_lines(lab, &mut recording, &format!("prompt set {name}"), "prompts", of_file)?;
        nodes.prompts.insert((*name).to_owned(), node);
    }
    lab.record(recording).await?;

    for (model, folder) in &plan.models {
        let seer = load_clip(lab, model, folder).await?;
        nodes.models.insert(model.clone(), seer.node);
        let mut recording = Recording::new();
        let settings = seer.preprocessing.settings();
        let preprocessing =
            recording.put(lab.run(), &Program { name: "preprocessing".into(), version: "1".into(), settings })?;
        if !nodes.rest.contains(&preprocessing) {
            nodes.rest.push(preprocessing);
        }
        lab.record(recording).await?;
        let size = seer.clip.config().projection;
        let lookers =
            Pool::start(lab.actors(), PoolOptions::cpu("looker", lab.workers()), move |_| Ok(Looker(seer.clone())))?;
        let looks = photos.iter().map(|photo| Look::Photo(photo.path.clone())).collect();
        let seen = embedded(lab, &lookers, &format!("photos {model}"), looks, size).await?;
        for (name, templates) in &templates {
            let looks = labels.iter().map(|label| Look::Prompts(prompts(templates, label).collect())).collect();
            let classes = embedded(lab, &lookers, &format!("classes {model}, {name}"), looks, size).await?;
            let set = answers(study, &predictions.columns, &seen, &classes);
            predictions.sets.push(Answers {
                model: model.clone(),
                prompts: (*name).to_owned(),
                space: plan.space.clone(),
                ..set
            });
        }
    }
    analyse(lab, study, "photos", predictions, discovery, nodes).await
}

/// What photos are said to be, by their cosines with every class.
fn answers(study: &CounterAnimal, columns: &[u32], photos: &[Vec<f32>], classes: &[Vec<f32>]) -> Answers {
    let mut set = Answers {
        model: String::new(),
        prompts: String::new(),
        space: String::new(),
        first: vec![],
        top: vec![],
        scores: None,
        n_ties: 0,
    };
    let mut all = Vec::with_capacity(photos.len() * classes.len());
    for photo in photos {
        let scores = cosines(photo, classes);
        let (top, is_tied) = ranked(&scores, columns, study.data.n_top as usize);
        set.n_ties += usize::from(is_tied);
        set.first.extend(top.first().map(|ranked| ranked.label));
        set.top.push(top);
        all.extend(scores);
    }
    set.scores = Some(all);
    set
}

/// Embeddings of all, in order; those of a run that was killed are read back where all were made.
async fn embedded(
    lab: &Lab,
    lookers: &Pool<Looker>,
    name: &str,
    looks: Vec<Look>,
    size: usize,
) -> Result<Vec<Vec<f32>>> {
    let (stage, n) = (lab.stage(name, looks.len()).await?, looks.len());
    let name = format!("embeddings of {name}");
    let before = lab.store().contents_of::<Dataset>(lab.run())?;
    if let Some(rows) = before.into_iter().find(|(_, of)| of.name == name).and_then(|(_, of)| of.rows) {
        let bytes = lab.get_files(rows)?.into_iter().next().map(|(_, bytes)| bytes).unwrap_or_default();
        let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        stage.done(n);
        return Ok(numbers.chunks_exact(size).map(<[f32]>::to_vec).collect());
    }
    let mut found = Vec::with_capacity(n);
    let mut answers = std::pin::pin!(lookers.ask_all(looks.into_iter().enumerate()));
    while let Some((_, answer)) = answers.next().await {
        found.push(answer?);
        lab.check()?;
        stage.done(found.len());
    }
    let bytes: Vec<u8> = found.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
    let content = Digest::of(&bytes);
    let rows = Some(lab.put_files("dataset", &name, &[("f32.bin".to_owned(), bytes)])?);
    let mut recording = Recording::new();
    let (purpose, n_rows) = ("embeddings".to_owned(), n as u64);
    recording.put(lab.run(), &Dataset { name, purpose, n_rows, content, rows })?;
    lab.record(recording).await?;
    Ok(found)
}

/// The label space: what folders are called, and by which label prompts know each.
fn names(path: &str, predictions: &mut Predictions) -> Result<BTreeMap<String, u32>> {
    let mut folders = BTreeMap::new();
    for (at, line) in lines(path, "class names")?.iter().enumerate() {
        let (folder, label) = line.split_once('\t').unwrap_or((line, line));
        let wrong = |what: String| Error::Input { what: format!("{path}, name {}: {what}", at + 1), hint: None };
        if label.trim().is_empty() || folder.trim().is_empty() {
            return Err(wrong("expected a name that is not blank, got a blank one".into()));
        }
        if predictions.labels.find(label).is_some() {
            return Err(wrong(format!("expected each name once, got `{label}` again")));
        }
        let number = predictions.labels.number(label);
        predictions.columns.push(number);
        if folders.insert(folder.to_owned(), number).is_some() {
            return Err(wrong(format!("expected each folder once, got `{folder}` again")));
        }
    }
    Ok(folders)
}

/// What lies in a folder, by name; hidden files are none.
fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let wrong = |error: std::io::Error| Error::Input {
        what: format!("{}: cannot be read: {error}", folder.display()),
        hint: None,
    };
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')) {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

fn last(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// All photos of `CLASS/GROUP-BACKGROUND/*`.
fn photos(folder: &Path, folders: &BTreeMap<String, u32>) -> Result<Vec<Photo>> {
    let wrong = |path: &Path, what: &str| Error::Input {
        what: format!("{}: {what}", path.display()),
        hint: Some("photos lie as CLASS/common-BACKGROUND/*.jpg and CLASS/counter-BACKGROUND/*.jpg".into()),
    };
    let mut all = Vec::new();
    for class_folder in listed(folder)? {
        let name = last(&class_folder);
        let class = *folders.get(&name).ok_or_else(|| {
            wrong(&class_folder, &format!("expected a folder of a class in `images.names`, got `{name}`"))
        })?;
        for group_folder in listed(&class_folder)? {
            let name = last(&group_folder);
            let parts = name.split_once('-').and_then(|(group, background)| Some((Group::of(group)?, background)));
            let (group, background) =
                parts.ok_or_else(|| wrong(&group_folder, "expected `common-BACKGROUND` or `counter-BACKGROUND`"))?;
            for path in listed(&group_folder)? {
                let end = path.extension().map(|end| end.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
                if !["jpg", "jpeg", "png"].contains(&end.as_str()) {
                    return Err(wrong(&path, "expected a photo, .jpg, .jpeg or .png"));
                }
                let id = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
                let source = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
                let image = Image { id, class, group, background: background.to_owned(), source };
                all.push(Photo { path, image });
            }
        }
    }
    if all.is_empty() {
        return Err(wrong(folder, "expected photos, got none"));
    }
    Ok(all)
}
