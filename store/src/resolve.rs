//! From what people type to the node they mean.

use tracker_engine::Direction;

use crate::artifact::Manifest;
use crate::error::{Error, Result, unhex};
use crate::id::{Kind, NodeId, RowKey, RunId, StageId};
use crate::keys::{self, RunIndex};
use crate::model::{Checkpoint, Content, Dataset, Endpoint, Front, Problem, Program, Statement, Verifier};
use crate::reader::{Entries, Span};
use crate::store::Store;

/// The most things an error about an ambiguous name lists.
const MAX_CANDIDATES: usize = 5;
/// The fewest digits a short form has.
const MIN_DIGITS: usize = 4;

impl Store {
    /// The node that `text` names: a run by its id, a unique start or the last eight digits of it, or its unique name; a content by
    /// a unique start of its digest; `kind:name` by any of these; an artifact by `name:alias`; a row by
    /// `RUN/STAGE/ITEM/K`, as `verdict:RUN/STAGE/ITEM/K` for the one verdict on that sample.
    ///
    /// # Errors
    /// `NotFound` with the nearest names, `Ambiguous` with some of the candidates, `Invalid`.
    pub fn resolve(&self, text: &str) -> Result<NodeId> {
        let text = text.trim();
        if let Ok(node) = text.parse::<NodeId>() {
            return if self.has(&node)? { Ok(node) } else { Err(Error::missing(node.kind().name(), text)) };
        }
        if let Some((kind, name)) = text.split_once(':')
            && let Ok(kind) = kind.parse::<Kind>()
        {
            return self.resolve_kind(kind, name);
        }
        if text.contains('/')
            && let Some(node) = self.find_row(Kind::Sample, text)?
        {
            return Ok(node);
        }
        let mut found = self.find_runs(text)?;
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_content()) {
            found.extend(self.find_digests(kind, text)?);
        }
        if found.is_empty()
            && let Some(node) = self.find_artifact(text)?
        {
            return Ok(node);
        }
        self.only(text, "node", found)
    }

    /// The run that `text` names: by its id, a unique start or the last eight digits of it, or its unique name.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub fn resolve_run(&self, text: &str) -> Result<RunId> {
        let text = text.trim();
        let text = text.strip_prefix("run:").unwrap_or(text);
        let node = self.only(text, "run", self.find_runs(text)?)?;
        node.owner().ok_or_else(|| Error::missing("run", text))
    }

    fn resolve_kind(&self, kind: Kind, name: &str) -> Result<NodeId> {
        if kind == Kind::Run {
            return self.resolve_run(name).map(NodeId::run);
        }
        if kind.is_row() {
            let found = self.find_row(kind, name)?;
            return found.ok_or_else(|| Error::NotFound {
                what: kind.name(),
                name: name.to_owned(),
                hint: "rows are named `RUN/STAGE/ITEM/K`".to_owned(),
            });
        }
        if kind == Kind::Artifact
            && let Some(node) = self.find_artifact(name)?
        {
            return Ok(node);
        }
        let mut found = self.find_digests(kind, name)?;
        if found.is_empty() {
            found = self.find_names(kind, name)?;
        }
        self.only(name, kind.name(), found)
    }

    /// The one node in `found`, or the error that says why there is not one.
    fn only(&self, text: &str, what: &'static str, mut found: Vec<NodeId>) -> Result<NodeId> {
        found.sort_unstable();
        found.dedup();
        match found.as_slice() {
            [node] => Ok(*node),
            [] => {
                let names: Vec<String> = self.names(what)?;
                let hint = nearest(text, names.iter().map(String::as_str));
                Err(Error::NotFound { what, name: text.to_owned(), hint })
            }
            several => {
                let candidates = several.iter().take(MAX_CANDIDATES).map(ToString::to_string).collect();
                Err(Error::Ambiguous { name: text.to_owned(), candidates })
            }
        }
    }

    fn find_runs(&self, text: &str) -> Result<Vec<NodeId>> {
        if let Ok(id) = text.parse::<RunId>() {
            return Ok(if self.has(&NodeId::run(id))? { vec![NodeId::run(id)] } else { Vec::new() });
        }
        let digits = text.replace('-', "");
        let mut found = self.find_names_from(Kind::Run, &digits, 32)?;
        if let Ok(number) = u32::from_str_radix(&digits, 16)
            && digits.len() == 8
        {
            found.extend(self.runs_by(RunIndex::Short(&number.to_be_bytes()))?);
        }
        if found.is_empty() { self.runs_by(RunIndex::Name(text)) } else { Ok(found) }
    }

    fn runs_by(&self, index: RunIndex<'_>) -> Result<Vec<NodeId>> {
        let runs = self.entries(&keys::run_index(index)).take(MAX_CANDIDATES + 1);
        runs.map(|entry| keys::run_at_end(&entry?.0).map(NodeId::run)).collect()
    }

    fn find_digests(&self, kind: Kind, text: &str) -> Result<Vec<NodeId>> {
        self.find_names_from(kind, text, 64)
    }

    /// The nodes of a kind whose name, which has `n_digits` hexadecimal digits, starts with `digits`.
    fn find_names_from(&self, kind: Kind, digits: &str, n_digits: usize) -> Result<Vec<NodeId>> {
        if digits.len() < MIN_DIGITS || digits.len() > n_digits {
            return Ok(Vec::new());
        }
        let padded = |digit: &str| unhex(&format!("{digits}{}", digit.repeat(n_digits - digits.len())));
        let (Some(low), Some(high)) = (padded("0"), padded("f")) else {
            return Ok(Vec::new());
        };
        let span = Span::inclusive(&keys::nodes_from(kind, &low), &keys::nodes_from(kind, &high));
        Entries::over(self.read(), span, Direction::Ascending)
            .take(MAX_CANDIDATES + 1)
            .map(|entry| keys::node_at(&entry?.0))
            .collect()
    }

    fn find_names(&self, kind: Kind, name: &str) -> Result<Vec<NodeId>> {
        fn named<C: Content>(store: &Store, is_it: impl Fn(&C) -> bool) -> Result<Vec<NodeId>> {
            let mut found = Vec::new();
            for row in store.contents::<C>() {
                let (node, content) = row?;
                if is_it(&content) {
                    found.push(node);
                }
            }
            Ok(found)
        }
        match kind {
            Kind::Problem => named(self, |problem: &Problem| problem.name == name),
            Kind::Statement => named(self, |statement: &Statement| statement.name == name),
            Kind::Dataset => named(self, |dataset: &Dataset| dataset.name == name),
            Kind::Checkpoint => named(self, |checkpoint: &Checkpoint| checkpoint.label == name),
            Kind::Verifier => named(self, |build: &Verifier| {
                build.name == name || format!("{} {}", build.name, build.version) == name
            }),
            Kind::Program => named(self, |program: &Program| program.name == name),
            Kind::Endpoint => named(self, |endpoint: &Endpoint| endpoint.model == name),
            Kind::Front => named(self, |front: &Front| front.name == name),
            _ => Ok(Vec::new()),
        }
    }

    fn find_artifact(&self, text: &str) -> Result<Option<NodeId>> {
        match self.artifact(text) {
            Ok(version) => Ok(Some(NodeId::content_of(Manifest::KIND, version.manifest))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The row of `kind` at `RUN/STAGE/ITEM/K`, where the run may be short; of verdicts and rewards the only one there.
    fn find_row(&self, kind: Kind, text: &str) -> Result<Option<NodeId>> {
        let Some((run, rest)) = text.split_once('/') else {
            return Ok(None);
        };
        let parts: Vec<&str> = rest.rsplitn(3, '/').collect();
        let [k, item, stage] = parts.as_slice() else {
            return Ok(None);
        };
        let (Ok(k), Ok(item)) = (k.parse(), item.parse()) else {
            return Ok(None);
        };
        let stage: StageId = stage.parse()?;
        let row = RowKey { run: self.resolve_run(run)?, stage, item, k };
        let mut found = self.entries(&keys::place_rows(kind, &row)).map(|entry| keys::node_at(&entry?.0));
        let first = found.next().transpose()?;
        match (first, found.next().transpose()?) {
            (Some(first), Some(second)) => {
                Err(Error::Ambiguous { name: text.to_owned(), candidates: vec![first.to_string(), second.to_string()] })
            }
            (Some(first), None) => Ok(Some(first)),
            (None, _) => Err(Error::missing(kind.name(), text)),
        }
    }

    /// Names that `text` may have been meant for.
    fn names(&self, what: &str) -> Result<Vec<String>> {
        fn each<C: Content>(store: &Store, name: impl Fn(C) -> String) -> Result<Vec<String>> {
            store.contents::<C>().map(|row| row.map(|(_, content)| name(content))).collect()
        }
        match what {
            "dataset" => each(self, |dataset: Dataset| dataset.name),
            "checkpoint" => each(self, |checkpoint: Checkpoint| checkpoint.label),
            "verifier" => each(self, |build: Verifier| build.name),
            "front" => each(self, |front: Front| front.name),
            "artifact" => Ok(self.artifacts()?.into_iter().map(|version| version.name).collect()),
            _ => self
                .runs()
                .take(1000)
                .map(|run| run.map(|run| if run.name.is_empty() { run.id.short() } else { run.name }))
                .collect(),
        }
    }
}

/// `did you mean …`, with the nearest of `names`; empty if none is near.
pub(crate) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> String {
    let best = names
        .map(|name| (strsim::jaro_winkler(text, name), name))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    best.map_or_else(String::new, |(_, name)| format!("did you mean `{name}`?"))
}
