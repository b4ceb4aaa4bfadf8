//! The models a recipe names: folders, or what the store has, written to a folder while it is needed.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use tracker_merge::{Folder, Merge, Merged};
use tracker_store::{Checkpoint, Digest, Holder, Kind, Manifest, NodeId, Recipe, Store, Timestamp, Weights};

use crate::failure::InputError;

/// Mixtures of mixtures are made one after the other down to this depth.
const MAX_DEPTH: usize = 16;
/// How old a change must be, when files are opened, for a later one to leave a trace: file systems count time in steps of up to
/// two seconds.
const SETTLED_MILLIS: i64 = 2_000;
/// The longest header of a file of weights.
const MAX_HEADER: u64 = 100 << 20;

/// Where the weights of a model come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder that the recipe names.
    Folder(PathBuf),
    /// The files of an artifact, known by their manifest, and what the recipe calls it.
    Files(Digest, String),
    /// A checkpoint of the store.
    Checkpoint(NodeId),
}

impl Source {
    /// What the recipe in `folder` means by `name`: a folder if there is one, else an artifact or a checkpoint of the store.
    pub fn find(name: &str, folder: &Path, store: Option<&Store>) -> anyhow::Result<Self> {
        let path = folder.join(name);
        if path.exists() {
            return Ok(Self::Folder(path));
        }
        let unknown = |hint: String| InputError {
            what: format!("model `{name}` is neither a folder at `{}` nor in the store", path.display()),
            hint: Some(hint),
        };
        let Some(store) = store else {
            let hint = "there is no store here; --store DIR names one".to_owned();
            return Err(unknown(hint).into());
        };
        if let Ok(version) = store.artifact(name.strip_prefix("artifact:").unwrap_or(name)) {
            return Ok(Self::Files(version.manifest, version.name));
        }
        let node = store.resolve(name).map_err(|error| match error {
            tracker_store::Error::NotFound { .. } => {
                let hint = "`tracker query checkpoints` and `tracker artifact ls` list what the store has";
                anyhow::Error::from(unknown(hint.to_owned()))
            }
            error => error.into(),
        })?;
        match (node.kind(), node.digest()) {
            (Kind::Checkpoint, _) => Ok(Self::Checkpoint(node)),
            (Kind::Artifact, Some(manifest)) => Ok(Self::Files(manifest, name.to_owned())),
            (kind, _) => {
                let what = format!("expected model `{name}` to be a checkpoint, got a {}", kind.name());
                Err(InputError { what, hint: None }.into())
            }
        }
    }

    /// What the store may know the weights by. `folder` is where they lie now.
    pub fn holder(&self, store: &Store, folder: &Folder) -> anyhow::Result<Holder> {
        Ok(match self {
            Self::Folder(_) => holder(folder)?,
            Self::Files(manifest, _) => Holder::Content(*manifest),
            Self::Checkpoint(node) => Holder::Content(checkpoint(store, *node)?.manifest),
        })
    }

    /// The digest of the weights, if the store knows it.
    pub fn known(&self, store: &Store, folder: &Folder) -> anyhow::Result<Option<Digest>> {
        if let Self::Checkpoint(node) = self
            && let Weights::Elsewhere(weights) = store.weights(*node)?
        {
            return Ok(Some(weights));
        }
        Ok(store.known_weights(self.holder(store, folder)?)?)
    }
}

/// What the store knows a folder outside it by.
pub fn holder(folder: &Folder) -> anyhow::Result<Holder> {
    let path = std::fs::canonicalize(folder.dir())?;
    Ok(Holder::folder(&path, folder.stamp().digest.into()))
}

/// Whether what is known of a folder that was opened at `opened`, or later, can be believed as long as its stamp stays.
pub fn is_settled(folder: &Folder, opened: Timestamp) -> bool {
    folder.stamp().changed_millis.saturating_add(SETTLED_MILLIS) <= opened.millis()
}

/// The record of a checkpoint.
pub fn checkpoint(store: &Store, node: NodeId) -> anyhow::Result<Checkpoint> {
    let digest = node.digest().ok_or_else(|| InputError { what: format!("`{node}` is no checkpoint"), hint: None })?;
    Ok(store.content(digest)?)
}

/// Writes weights of the store to a folder of its own, which goes when this does.
pub struct Parents<'a> {
    store: &'a Store,
    scratch: Scratch,
    n_threads: usize,
}

impl<'a> Parents<'a> {
    /// Parents for what will be at `out`: they lie beside it, under a name that is nobody's.
    pub fn beside(store: &'a Store, out: &Path, n_threads: usize) -> Self {
        let name = out.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        Self { store, scratch: Scratch::new(dir, &name), n_threads }
    }

    /// Parents of what is written nowhere: they lie in the store's folder `dir`, where there is room for their like.
    pub fn within(store: &'a Store, dir: &Path, n_threads: usize) -> Self {
        Self { store, scratch: Scratch::new(dir, "merge"), n_threads }
    }

    /// The folder with the weights of a source, which are written now unless it is a folder or was asked for before.
    pub fn folder(&self, source: &Source) -> anyhow::Result<PathBuf> {
        match source {
            Source::Folder(path) => Ok(path.clone()),
            Source::Files(manifest, _) => {
                let place = self.scratch.dir()?.join(format!("artifact:{manifest}"));
                if !place.exists() {
                    self.store.export_artifact(*manifest, &place)?;
                }
                Ok(place)
            }
            Source::Checkpoint(node) => self.parent(*node, MAX_DEPTH),
        }
    }

    /// As [`Parents::folder`], with the headers of weights alone and holes for the numbers: enough for a plan.
    pub fn sketch(&self, name: &str, source: &Source) -> anyhow::Result<PathBuf> {
        let manifest = match source {
            Source::Folder(path) => return Ok(path.clone()),
            Source::Files(manifest, _) => *manifest,
            Source::Checkpoint(node) => match self.store.weights(*node)? {
                Weights::Files(manifest) => manifest,
                Weights::Elsewhere(weights) => elsewhere(self.store, *node, weights)?,
                Weights::Virtual { .. } => {
                    let what =
                        format!("model `{name}` is stored as its recipe: it has no headers to read before it is made");
                    let hint = format!("tracker materialize {node} FOLDER, and name that folder for the dry run");
                    return Err(InputError { what, hint: Some(hint) }.into());
                }
            },
        };
        let place = self.scratch.dir()?.join(format!("artifact:{manifest}"));
        if place.exists() {
            return Ok(place);
        }
        let manifest: Manifest = self.store.content(manifest)?;
        // Paths of a manifest are plain: they cannot lead out of the folder.
        for file in &manifest.files {
            let path = place.join(&file.path);
            std::fs::create_dir_all(path.parent().unwrap_or(&place))?;
            let mut reader = self.store.open_file(file.digest, 0)?;
            let mut out = File::create(&path)?;
            if path.extension().is_some_and(|ending| ending == "safetensors") {
                let mut length = [0; 8];
                reader.by_ref().read_exact(&mut length)?;
                let header = u64::from_le_bytes(length).min(MAX_HEADER);
                std::io::copy(&mut length.chain(reader.take(header)), &mut out)?;
                out.set_len(file.n_bytes)?;
            } else {
                std::io::copy(&mut reader, &mut out)?;
            }
        }
        Ok(place)
    }

    /// Makes a checkpoint by its recipe in `out`.
    pub fn make(&self, recipe: &Recipe, out: &Path) -> anyhow::Result<Merged> {
        self.make_at(recipe, out, MAX_DEPTH)
    }

    fn make_at(&self, recipe: &Recipe, out: &Path, depth: usize) -> anyhow::Result<Merged> {
        let name = format!("recipe of `{}`", out.display());
        if depth == 0 {
            let what = format!("{name}: it rests on recipes more than {MAX_DEPTH} deep");
            return Err(InputError { what, hint: None }.into());
        }
        for parent in &recipe.parents {
            self.parent(*parent, depth)?;
        }
        let parsed = tracker_merge::Recipe::parse(&name, &recipe.text)?;
        Ok(Merge::plan(parsed, &recipe.text, self.scratch.dir()?)?.run(out, self.n_threads, &|_, _| ())?)
    }

    fn parent(&self, node: NodeId, depth: usize) -> anyhow::Result<PathBuf> {
        // A recipe calls a parent by its node, and so is its folder called.
        let place = self.scratch.dir()?.join(node.to_string());
        if place.exists() {
            return Ok(place);
        }
        let files = match self.store.weights(node).map_err(|_| gone(node))? {
            Weights::Virtual { recipe, .. } => {
                self.make_at(&recipe, &place, depth - 1)?;
                return Ok(place);
            }
            Weights::Elsewhere(weights) => elsewhere(self.store, node, weights)?,
            Weights::Files(files) => files,
        };
        match self.store.export_artifact(files, &place) {
            Err(tracker_store::Error::NotFound { .. }) => return Err(gone(node).into()),
            written => drop(written?),
        }
        Ok(place)
    }
}

/// The files that a checkpoint recorded from a folder is known to have here.
pub fn elsewhere(store: &Store, node: NodeId, weights: Digest) -> anyhow::Result<Digest> {
    Ok(store.version_with_weights(weights)?.ok_or_else(|| not_put(store, node))?.manifest)
}

fn gone(parent: NodeId) -> InputError {
    InputError {
        what: format!("the recipe is made of `{parent}`, whose files this store does not have"),
        hint: Some("they were removed and collected, or the recipe comes from another store".into()),
    }
}

fn not_put(store: &Store, node: NodeId) -> InputError {
    let label = checkpoint(store, node).map_or_else(|_| "NAME".to_owned(), |checkpoint| checkpoint.label);
    InputError {
        what: format!("`{node}` was read from a folder, `{label}`, whose files were never put in this store"),
        hint: Some(format!(
            "`tracker artifact put \"{label}\" FOLDER` puts them there, if FOLDER still has those weights"
        )),
    }
}

/// Refuses folders whose weights the store could not find again.
pub fn refuse_folder(name: &str, path: &Path) -> InputError {
    let artifact = path.file_name().map_or_else(|| "NAME".into(), |name| name.to_string_lossy().replace(':', "-"));
    InputError {
        what: format!(
            "model `{name}` is a folder, and a virtual checkpoint can only be made again of what is in the store"
        ),
        hint: Some(format!("tracker artifact put \"{artifact}\" \"{}\"", path.display())),
    }
}

/// Names that are spelled each in its own way although some mean the same node.
pub fn spelled(nodes: &BTreeMap<String, NodeId>) -> BTreeMap<String, String> {
    let mut seen: BTreeMap<NodeId, usize> = BTreeMap::new();
    let spell = |(name, node): (&String, &NodeId)| {
        let nth = seen.entry(*node).or_default();
        let spelled = format!("{}{node}", "./".repeat(*nth));
        *nth += 1;
        (name.clone(), spelled)
    };
    nodes.iter().map(spell).collect()
}

/// A folder that goes with its guard, or with the next one of its kind if its process was killed. Made when it is needed.
struct Scratch {
    place: PathBuf,
    /// Locked as long as the folder is in use.
    lock: OnceCell<File>,
}

const SCRATCH: &str = ".parents";
const LOCK: &str = "lock";

impl Scratch {
    /// One in `dir` for what is called `name`.
    fn new(dir: &Path, name: &str) -> Self {
        let begin = format!(".{name}.");
        for entry in dir.read_dir().into_iter().flatten().flatten() {
            let is_one = entry.file_name().to_str().is_some_and(|n| n.starts_with(&begin) && n.ends_with(SCRATCH));
            let is_left = || File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
            if is_one && is_left() {
                // What cannot be removed now is tried again by the next.
                drop(std::fs::remove_dir_all(entry.path()));
            }
        }
        Self { place: dir.join(format!("{begin}{}{SCRATCH}", std::process::id())), lock: OnceCell::new() }
    }

    fn dir(&self) -> std::io::Result<&Path> {
        if self.lock.get().is_none() {
            std::fs::create_dir_all(&self.place)?;
            let lock = File::create(self.place.join(LOCK))?;
            lock.lock()?;
            drop(self.lock.set(lock));
        }
        Ok(&self.place)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.place));
    }
}
