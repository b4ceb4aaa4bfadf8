//! Plans: what a study will do, resolved once and stored with the run.
//!
//! A study's settings are one serde struct. It is at the same time the TOML schema, the defaults and, through its doc
//! comments, the help text. Layers are laid over each other: defaults of the preset, then a file, then `--set`.
//! The result is written back as canonical TOML; its digest (with the seed) names every work item of the run.
//!
//! What must not change results (number of workers, progress, the store folder) is not part of a plan.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;
use toml::{Table, Value};

use crate::error::{Error, Result};

/// Settings of one study: what its TOML may say, with defaults for everything.
pub trait Settings: Serialize + DeserializeOwned + JsonSchema + Default {
    /// Keys and sections that plans did not have at first. They are left out of a plan's text where they have their default, so
    /// that a plan which does not use them keeps its digest, and with it every seed and figure; their defaults never change.
    const LATER: &[&str] = &[];

    /// The preset that ends in seconds, for tests and first looks.
    fn smoke() -> Self;

    /// Refuses values that have the right kind and make no sense.
    ///
    /// # Errors
    /// `Value` naming the key, as [`require`] makes it.
    fn check(&self) -> Result<()>;
}

/// Fails unless a key's value is what is `expected`.
///
/// # Errors
/// `Value` naming the key, what was expected and what was got.
pub fn require(holds: bool, key: &str, expected: &str, got: impl std::fmt::Display) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Value { key: key.to_owned(), message: format!("expected {expected}, got `{got}`") })
}

/// Which defaults a plan starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// About two minutes on two cores, without GPU, network or Lean.
    #[default]
    Standard,
    /// Seconds.
    Smoke,
}

/// What the user laid over a preset.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// The defaults to start from.
    pub preset: Preset,
    /// A plan file: its path (for messages) and its text.
    pub file: Option<(PathBuf, String)>,
    /// `key=value` settings, later ones win.
    pub sets: Vec<String>,
    /// The seed, over that of the file.
    pub seed: Option<u64>,
}

/// A resolved plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Name of the study.
    pub study: String,
    /// Seed of the run.
    pub seed: u64,
    /// Canonical TOML of the settings, with study and seed.
    pub text: String,
}

impl Plan {
    /// BLAKE3 of the canonical text: the first part of every work item's name.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        *blake3::hash(self.text.as_bytes()).as_bytes()
    }

    /// Every key with its value as text, dotted, in order.
    ///
    /// # Errors
    /// `Plan` if the text is no TOML, which a stored plan of another version might be.
    pub fn settings(&self) -> Result<Vec<(String, String)>> {
        fn flatten(prefix: &str, table: &Table, out: &mut Vec<(String, String)>) {
            for (key, value) in table {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                match value {
                    Value::Table(inner) => flatten(&path, inner, out),
                    Value::String(text) => out.push((path, text.clone())),
                    other => out.push((path, other.to_string())),
                }
            }
        }
        let mut out = Vec::new();
        flatten("", &parse(Path::new("stored plan"), &self.text)?, &mut out);
        Ok(out)
    }
}

/// One key of a plan, for help texts.
#[derive(Clone, Debug, Serialize)]
pub struct Key {
    /// Dotted path, as `--set` takes it.
    pub path: String,
    /// What it means.
    pub about: String,
    /// Its default in the standard preset, as TOML.
    pub default: String,
}

/// Reads `study = "…"` from a plan file.
///
/// # Errors
/// `Plan` if the file is no TOML or names no study.
pub fn study_of(path: &Path, text: &str) -> Result<String> {
    match parse(path, text)?.get("study") {
        Some(Value::String(name)) => Ok(name.clone()),
        _ => {
            Err(Error::Plan { path: path.display().to_string(), message: "expected a line `study = \"NAME\"`".into() })
        }
    }
}

/// Lays `overlay` over the settings of study `name`.
///
/// # Errors
/// `Plan` for malformed TOML (with line and column), `UnknownKey` with the nearest key, `Value` for a value of the
/// wrong kind.
pub fn resolve<S: Settings>(name: &str, overlay: &Overlay) -> Result<(Plan, S)> {
    let base = match overlay.preset {
        Preset::Standard => S::default(),
        Preset::Smoke => S::smoke(),
    };
    let mut table = to_table(&base)?;
    let known = key_paths::<S>();
    let mut seed = overlay.seed;
    if let Some((path, text)) = &overlay.file {
        let mut file = parse(path, text)?;
        file.remove("study");
        if let Some(value) = file.remove("seed") {
            let from_file = value.as_integer().and_then(|n| u64::try_from(n).ok());
            let from_file = from_file.ok_or_else(|| Error::Value {
                key: "seed".into(),
                message: format!("expected a whole number of at least 0, got `{value}`"),
            })?;
            seed = seed.or(Some(from_file));
        }
        lay(name, &known, "", file, &mut table)?;
    }
    for set in &overlay.sets {
        let (key, value) = set
            .split_once('=')
            .ok_or_else(|| Error::Value { key: set.clone(), message: "expected `key=value`".into() })?;
        let mut nested = scalar(value.trim());
        for part in key.trim().rsplit('.') {
            nested = Value::Table(Table::from_iter([(part.to_owned(), nested)]));
        }
        if let Value::Table(nested) = nested {
            lay(name, &known, "", nested, &mut table)?;
        }
    }
    let settings: S = Value::Table(table.clone()).try_into().map_err(|e: toml::de::Error| Error::Value {
        key: key_of(&e, &table, &overlay.sets),
        message: with_nearest(e.message()),
    })?;
    settings.check()?;
    let seed = seed.unwrap_or(1);
    let text = canonical(name, seed, &settings)?;
    Ok((Plan { study: name.to_owned(), seed, text }, settings))
}

/// Reads a stored plan back, for `--resume` and `replay`.
///
/// # Errors
/// As [`resolve`].
pub fn restore<S: Settings>(name: &str, text: &str) -> Result<(Plan, S)> {
    let file = Some((PathBuf::from("stored plan"), text.to_owned()));
    resolve(name, &Overlay { file, ..Overlay::default() })
}

/// All keys of a study with their meaning and default.
#[must_use]
pub fn keys<S: Settings>() -> Vec<Key> {
    let defaults = to_table(&S::default()).unwrap_or_default();
    let mut out = Vec::new();
    walk(&schema::<S>(), "", &mut |path, about| {
        let default = lookup(&defaults, path).map_or_else(|| "none".to_owned(), ToString::to_string);
        out.push(Key { path: path.to_owned(), about: about.to_owned(), default });
    });
    out
}

fn canonical<S: Settings>(name: &str, seed: u64, settings: &S) -> Result<String> {
    let mut table = Table::new();
    table.insert("study".into(), Value::String(name.to_owned()));
    let seed = i64::try_from(seed).map_err(|_| Error::Value {
        key: "seed".into(),
        message: format!("expected at most {}, got `{seed}`", i64::MAX),
    })?;
    table.insert("seed".into(), Value::Integer(seed));
    let (mut own, defaults) = (to_table(settings)?, to_table(&S::default())?);
    for key in S::LATER {
        if lookup(&own, key) == lookup(&defaults, key) {
            remove(&mut own, key);
        }
    }
    table.extend(own);
    toml::to_string(&table).map_err(|e| Error::Internal(format!("plan not writable: {e}")))
}

fn parse(path: &Path, text: &str) -> Result<Table> {
    text.parse::<Table>()
        .map_err(|e| Error::Plan { path: path.display().to_string(), message: e.to_string().trim_end().to_owned() })
}

fn to_table<S: Serialize>(settings: &S) -> Result<Table> {
    Table::try_from(settings).map_err(|e| Error::Internal(format!("settings not writable: {e}")))
}

/// A TOML value if it reads as one, else the text itself, so that `--set verifier=lean` needs no quotes.
fn scalar(text: &str) -> Value {
    format!("v = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn lay(study: &str, known: &[String], prefix: &str, over: Table, under: &mut Table) -> Result<()> {
    for (key, value) in over {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let section = known.iter().any(|k| k.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.')));
        match value {
            Value::Table(inner) if section => {
                let slot = under.entry(key).or_insert_with(|| Value::Table(Table::new()));
                if let Value::Table(slot) = slot {
                    lay(study, known, &path, inner, slot)?;
                }
            }
            _ if section => {
                return Err(Error::Value {
                    key: path.clone(),
                    message: format!("expected a section with keys such as `{}`", first_under(known, &path)),
                });
            }
            value if known.contains(&path) => {
                under.insert(key, value);
            }
            value => return Err(unknown_key(study, known, typed(path, &value))),
        }
    }
    Ok(())
}

/// The whole key as it was typed: down to the first value of a section that is not known.
fn typed(path: String, value: &Value) -> String {
    match value.as_table().and_then(|table| table.iter().next()) {
        Some((key, inner)) => typed(format!("{path}.{key}"), inner),
        None => path,
    }
}

fn first_under<'a>(known: &'a [String], path: &str) -> &'a str {
    known.iter().find(|k| k.starts_with(path)).map_or("", String::as_str)
}

fn unknown_key(study: &str, known: &[String], key: String) -> Error {
    let nearest = nearest(&key, known.iter().map(String::as_str)).map(str::to_owned);
    Error::UnknownKey { study: study.to_owned(), key, nearest }
}

/// The candidate most like `word`, if any is like it at all.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|c| {
            let last = c.rsplit('.').next().unwrap_or(c);
            let last_word = word.rsplit('.').next().unwrap_or(word);
            (strsim::jaro_winkler(word, c).max(strsim::jaro_winkler(last_word, last)), c)
        })
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

/// serde's error for a table does not name the key: find the one whose value it quotes.
fn key_of(error: &toml::de::Error, table: &Table, sets: &[String]) -> String {
    let said = error.to_string();
    sets.iter()
        .filter_map(|s| s.split_once('='))
        .find(|(_, value)| said.contains(value.trim()))
        .map(|(key, _)| key.trim().to_owned())
        .or_else(|| {
            said.lines().find_map(|l| l.trim().strip_prefix("in `")).map(|l| l.trim_end_matches(['`', '\n']).to_owned())
        })
        .unwrap_or_else(|| table.keys().next().cloned().unwrap_or_default())
}

/// A message about an unknown variant, with the known one most like it: serde quotes the unknown one first.
fn with_nearest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let found = match quoted.next().filter(|_| message.starts_with("unknown variant")) {
        Some(unknown) => nearest(unknown, quoted),
        None => None,
    };
    found.map_or_else(|| message.to_owned(), |known| format!("{message}; did you mean `{known}`?"))
}

fn schema<S: JsonSchema>() -> Json {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<S>().to_value()
}

fn key_paths<S: JsonSchema>() -> Vec<String> {
    let mut out = Vec::new();
    walk(&schema::<S>(), "", &mut |path, _| out.push(path.to_owned()));
    out
}

fn walk(schema: &Json, prefix: &str, visit: &mut dyn FnMut(&str, &str)) {
    let Some(Json::Object(properties)) = schema.get("properties") else { return };
    for (name, inner) in properties {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if inner.get("properties").is_some() {
            walk(inner, &path, visit);
        } else {
            visit(&path, inner.get("description").and_then(Json::as_str).unwrap_or_default());
        }
    }
}

fn lookup<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let mut at = table.get(parts.next()?)?;
    for part in parts {
        at = at.as_table()?.get(part)?;
    }
    Some(at)
}

/// Takes a key out of its section.
fn remove(table: &mut Table, path: &str) {
    match path.split_once('.') {
        None => drop(table.remove(path)),
        Some((section, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(section) {
                remove(inner, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    /// Settings of a made-up study.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Toy {
        /// How many rounds.
        rounds: u32,
        /// Which checker.
        verifier: String,
        /// Where weights come from.
        checkpoint: Option<String>,
        inner: Inner,
        later: Later,
    }
    /// A section that came later.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Later {
        /// A place.
        place: u32,
    }
    /// A section.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        /// Learning rate.
        lr: f64,
        /// A key that came later.
        warmup: u32,
    }
    impl Default for Inner {
        fn default() -> Self {
            Self { lr: 0.5, warmup: 3 }
        }
    }
    impl Default for Toy {
        fn default() -> Self {
            let (inner, later) = (Inner::default(), Later::default());
            Self { rounds: 3, verifier: "kernel".into(), checkpoint: None, inner, later }
        }
    }
    impl Settings for Toy {
        const LATER: &[&str] = &["inner.warmup", "later"];

        fn smoke() -> Self {
            Self { rounds: 1, ..Self::default() }
        }

        fn check(&self) -> Result<()> {
            require(self.rounds > 0, "rounds", "at least 1", self.rounds)
        }
    }

    fn with(sets: &[&str]) -> Result<(Plan, Toy)> {
        let sets = sets.iter().map(|s| (*s).to_owned()).collect();
        resolve("toy", &Overlay { sets, ..Overlay::default() })
    }

    #[test]
    fn settings_are_laid_over_the_file_and_the_file_over_defaults() {
        let overlay = Overlay {
            file: Some(("f.toml".into(), "study = 'toy'\nseed = 9\nrounds = 5\n[inner]\nlr = 2.0".into())),
            sets: vec!["rounds=7".into(), "verifier=lean".into(), "checkpoint=a/b".into()],
            ..Overlay::default()
        };
        let (plan, toy): (_, Toy) = resolve("toy", &overlay).unwrap();
        assert_eq!((plan.seed, toy.rounds, toy.inner.lr), (9, 7, 2.0));
        assert_eq!((toy.verifier.as_str(), toy.checkpoint.as_deref()), ("lean", Some("a/b")));
    }

    #[test]
    fn a_stored_plan_resolves_to_itself() {
        let (plan, toy) = with(&["inner.lr=0.25", "checkpoint=x"]).unwrap();
        assert_eq!(restore::<Toy>("toy", &plan.text).unwrap(), (plan, toy));
    }

    #[test]
    fn what_came_later_changes_no_plan_that_does_not_use_it() {
        let (plan, toy) = with(&["inner.lr=0.25"]).unwrap();
        assert_eq!(plan.text, "rounds = 3\nseed = 1\nstudy = \"toy\"\nverifier = \"kernel\"\n\n[inner]\nlr = 0.25\n");
        assert_eq!(restore::<Toy>("toy", &plan.text).unwrap(), (plan, toy));
        let (plan, toy) = with(&["later.place=2", "inner.warmup=4"]).unwrap();
        assert!(plan.text.contains("warmup = 4") && plan.text.contains("[later]\nplace = 2"), "{}", plan.text);
        assert_eq!(restore::<Toy>("toy", &plan.text).unwrap(), (plan, toy));
        assert!(keys::<Toy>().iter().any(|k| k.path == "inner.warmup" && k.default == "3"));
    }

    #[test]
    fn seeds_and_settings_change_the_digest() {
        let digest = |sets: &[&str]| with(sets).unwrap().0.digest();
        assert_eq!(digest(&[]), digest(&["rounds=3"]));
        assert_ne!(digest(&[]), digest(&["rounds=4"]));
        let seeded = resolve::<Toy>("toy", &Overlay { seed: Some(2), ..Overlay::default() }).unwrap().0;
        assert_ne!(seeded.digest(), digest(&[]));
    }

    #[test]
    fn an_unknown_key_names_the_nearest_one() {
        for (set, expected) in [("round=1", "rounds"), ("inner.rl=1", "inner.lr"), ("lr=1", "inner.lr")] {
            match with(&[set]) {
                Err(Error::UnknownKey { nearest, .. }) => assert_eq!(nearest.as_deref(), Some(expected), "{set}"),
                other => panic!("expected an unknown key for {set}, got {other:?}"),
            }
        }
    }

    #[test]
    fn a_value_of_the_wrong_kind_names_its_key() {
        let Err(e) = with(&["rounds=many"]) else { panic!("expected an error") };
        assert!(e.to_string().contains("rounds") && e.to_string().contains("many"), "{e}");
        let Err(e) = with(&["rounds=0"]) else { panic!("expected an error") };
        assert_eq!(e.to_string(), "key `rounds`: expected at least 1, got `0`");
        let Err(e) = with(&["inner=3"]) else { panic!("expected an error") };
        assert!(e.to_string().contains("inner.lr"), "{e}");
    }

    #[test]
    fn malformed_toml_tells_line_and_column() {
        let overlay =
            Overlay { file: Some(("f.toml".into(), "rounds = 1\nverifier = = 2".into())), ..Overlay::default() };
        let Err(e) = resolve::<Toy>("toy", &overlay) else { panic!("expected an error") };
        assert!(e.to_string().contains("line 2, column 12"), "{e}");
    }

    #[test]
    fn every_key_has_a_meaning_and_a_default() {
        let keys = keys::<Toy>();
        let lr = keys.iter().find(|k| k.path == "inner.lr").unwrap();
        assert_eq!((lr.about.as_str(), lr.default.as_str()), ("Learning rate.", "0.5"));
        assert!(keys.iter().any(|k| k.path == "checkpoint" && k.default == "none"));
    }
}
