//! One entry: whether its key and its record are whole, what follows from it, and whether what it names is there.

use super::finding::{Finding, Fix, Tell, Trouble};
use super::tally::{Remembered, Tally};
use super::words::{named, reason};
use crate::artifact::{FilePieces, LooseFile, Manifest, Piece, Version};
use crate::id::{Kind, NodeId, RunId, StageId};
use crate::keys::{self, Parsed};
use crate::model::{
    Assessment, Checkpoint, Claim, Content, Dataset, Endpoint, Experiment, Figure, Front, LoggedModel, Measured,
    ModelVersion, Problem, Program, Recipe, RegisteredModel, Relation, Reward, Run, RunInput, Sample, Sampling,
    Selection, Span, Stage, Statement, Trace, Verdict, Verifier,
};
use crate::recording::RowValue;
use crate::records::{EdgeRecord, Stored};
use crate::series::{Block, Chunk, Head, Summary};
use crate::store::{FORMAT, FORMAT_KEY, Store};

/// Where what records call for is held against what is there.
pub(super) enum Books<'a> {
    /// In sums. Everything else is checked as well.
    Sums(Tally),
    /// By remembering what falls into some of the sums.
    Remembered(Remembered<'a>),
}

/// Checks entries of one stretch of keys, in order.
pub(super) struct Worker<'a> {
    pub(super) store: &'a Store,
    pub(super) sink: &'a dyn Tell,
    pub(super) books: Books<'a>,
    pub(super) n_entries: u64,
    last_node: Option<(NodeId, bool)>,
    last_run: Option<(RunId, bool)>,
    last_stage: Option<(RunId, StageId, bool)>,
    last_series: Option<(RunId, String, bool)>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(store: &'a Store, sink: &'a dyn Tell, books: Books<'a>) -> Self {
        Self { store, sink, books, n_entries: 0, last_node: None, last_run: None, last_stage: None, last_series: None }
    }

    pub(super) fn entry(&mut self, key: &[u8], value: &[u8]) {
        self.n_entries += 1;
        match keys::parse(key) {
            None => self.unreadable(Trouble::Key, key, value, "it is no key of the store"),
            Some(parsed) => self.parsed(&parsed, key, value),
        }
    }

    fn parsed(&mut self, parsed: &Parsed<'_>, key: &[u8], value: &[u8]) {
        match *parsed {
            Parsed::Meta(name) => self.setting(name, key, value),
            Parsed::Experiment(id) => {
                let record = self.record::<Experiment>(key, value, |found| found.id == id);
                if let Some(experiment) = record {
                    self.expect(&keys::experiment_name(&experiment.name), id.as_bytes(), key, value);
                }
            }
            Parsed::Node(node) => self.node(&node, key, value),
            Parsed::EdgeUp { from, run, relation, order, to } => {
                self.edge(from, run, relation, order, to, key, value);
            }
            Parsed::EdgeDown { to, .. } => {
                self.meet(key, value);
                self.needs_node(&to, key);
            }
            Parsed::Recorded { run, node } => self.recorded(run, &node, key, value),
            Parsed::Stage { run, stage } => {
                self.record::<Stage>(key, value, |found| found.id() == stage);
                self.needs_run(run, key);
            }
            Parsed::Param { run, key: name } => {
                if let Some(text) = self.text(key, value) {
                    self.expect(&keys::param_index_entry(name, text, run), &[], key, value);
                    if let Some(entry) = keys::param_number_entry(name, text, run) {
                        self.expect(&entry, &[], key, value);
                    }
                }
                self.needs_run(run, key);
            }
            Parsed::Tag { run, .. } => {
                self.text(key, value);
                self.needs_run(run, key);
            }
            Parsed::ExperimentName(_)
            | Parsed::RunIndex { .. }
            | Parsed::ParamIndex { .. }
            | Parsed::ParamNumber { .. }
            | Parsed::Latest { .. }
            | Parsed::VersionOf { .. }
            | Parsed::LoggedIn { .. }
            | Parsed::TraceAt { .. } => self.meet(key, value),
            Parsed::Series { .. } | Parsed::Tail { .. } | Parsed::Block { .. } | Parsed::Summary { .. } => {
                self.series(parsed, key, value);
            }
            Parsed::Version { name, number } => {
                let record = self.record::<Version>(key, value, |found| found.name == name && found.number == number);
                if let Some(version) = record {
                    self.expect(&keys::version_of(name, &version.manifest), &number.to_be_bytes(), key, value);
                }
            }
            Parsed::File(digest) => drop(self.record::<FilePieces>(key, value, |found| found.digest() == digest)),
            Parsed::Piece(_) => drop(self.record::<Piece>(key, value, |_| true)),
            Parsed::Alias { .. } | Parsed::NextVersion(_) => self.has_length(key, value, 4),
            Parsed::Weights(_) => self.has_length(key, value, 64),
            Parsed::Input { .. }
            | Parsed::ModelLink { .. }
            | Parsed::Loose { .. }
            | Parsed::Logged(_)
            | Parsed::Measured { .. }
            | Parsed::Registered(_)
            | Parsed::ModelVersion { .. }
            | Parsed::Trace(_)
            | Parsed::Span { .. }
            | Parsed::Assessment { .. } => self.logged(parsed, key, value),
        }
    }

    /// What clients logged: each lies under what it is of.
    fn logged(&mut self, parsed: &Parsed<'_>, key: &[u8], value: &[u8]) {
        match *parsed {
            Parsed::Input { run, dataset } => {
                self.record::<RunInput>(key, value, |_| true);
                self.needs_run(run, key);
                self.needs_node(&NodeId::content_of(Kind::Dataset, dataset), key);
            }
            Parsed::ModelLink { run, .. } => {
                self.has_length(key, value, 8);
                self.needs_run(run, key);
            }
            Parsed::Loose { .. } => drop(self.record::<LooseFile>(key, value, |_| true)),
            Parsed::Logged(id) => {
                if let Some(model) = self.record::<LoggedModel>(key, value, |found| found.id == id) {
                    self.expect(&keys::logged_in(model.experiment, id), &[], key, value);
                }
            }
            Parsed::Measured { model, run, .. } => {
                self.record::<Measured>(key, value, |_| true);
                self.needs_run(run, key);
                self.needs(&keys::logged(model), key);
            }
            Parsed::Registered(name) => drop(self.record::<RegisteredModel>(key, value, |found| found.name == name)),
            Parsed::ModelVersion { name, number } => {
                self.record::<ModelVersion>(key, value, |found| found.name == name && found.number == number);
                self.needs(&keys::registered(name), key);
            }
            Parsed::Trace(id) => {
                if let Some(trace) = self.record::<Trace>(key, value, |found| found.id == id) {
                    self.expect(&keys::trace_at(trace.experiment, trace.requested.millis(), id), &[], key, value);
                }
            }
            Parsed::Span { trace, .. } => {
                self.record::<Span>(key, value, |_| true);
                self.needs(&keys::trace(trace), key);
            }
            Parsed::Assessment { trace, id } => {
                self.record::<Assessment>(key, value, |found| found.id == id);
                self.needs(&keys::trace(trace), key);
            }
            _ => {}
        }
    }

    /// The entry at `key` is part of what lies at `whole`.
    fn needs(&self, whole: &[u8], key: &[u8]) {
        if self.is_first_reading() && !self.is_there(whole) {
            let what = format!("{} is there, {} is not", named(key), named(whole));
            self.tell(Finding::damage(Trouble::Edge, what).at_key(key));
        }
    }

    fn setting(&self, name: &str, key: &[u8], value: &[u8]) {
        let is_known = match name {
            FORMAT_KEY => value == FORMAT.to_be_bytes(),
            "saved" | "collected" => value.len() == 16,
            "migrating" => !value.is_empty(),
            _ => {
                self.tell(Finding::note(Trouble::Setting, format!("this build knows no setting `{name}`")).at_key(key));
                return;
            }
        };
        if !is_known {
            let what = format!("the setting `{name}` has a value of `{}` bytes that it cannot have", value.len());
            self.tell(Finding::damage(Trouble::Setting, what).at_key(key));
        }
    }

    fn node(&mut self, node: &NodeId, key: &[u8], value: &[u8]) {
        match node.kind() {
            Kind::Run => {
                if let Some(run) = self.record::<Run>(key, value, |found| Some(found.id) == node.owner()) {
                    for index in crate::runs::indexes(&run) {
                        self.expect(&keys::run_index_entry(index, run.id), &[], key, value);
                    }
                }
            }
            Kind::Problem => self.content::<Problem>(node, key, value),
            Kind::Statement => self.content::<Statement>(node, key, value),
            Kind::Dataset => self.content::<Dataset>(node, key, value),
            Kind::Checkpoint => self.content::<Checkpoint>(node, key, value),
            Kind::Verifier => self.content::<Verifier>(node, key, value),
            Kind::Artifact => self.content::<Manifest>(node, key, value),
            Kind::Endpoint => self.content::<Endpoint>(node, key, value),
            Kind::Sampling => self.content::<Sampling>(node, key, value),
            Kind::Recipe => self.content::<Recipe>(node, key, value),
            Kind::Front => self.content::<Front>(node, key, value),
            Kind::Program => self.content::<Program>(node, key, value),
            Kind::Sample => self.row::<Sample>(node, key, value, |_| true),
            Kind::Verdict => self.row::<Verdict>(node, key, value, |found| Some(found.slot()) == node.slot()),
            Kind::Reward => self.row::<Reward>(node, key, value, |found| Some(found.slot()) == node.slot()),
            Kind::Figure => self.row::<Figure>(node, key, value, |_| true),
            Kind::Claim => self.row::<Claim>(node, key, value, |_| true),
            Kind::Selection => self.row::<Selection>(node, key, value, |_| true),
        }
    }

    fn content<C: Content>(&self, node: &NodeId, key: &[u8], value: &[u8]) {
        self.record::<C>(key, value, |found| found.digest().is_ok_and(|digest| Some(digest) == node.digest()));
    }

    fn row<T: RowValue>(&mut self, node: &NodeId, key: &[u8], value: &[u8], is_right: impl FnOnce(&T) -> bool) {
        let (Some(found), Some(row)) = (self.record::<T>(key, value, is_right), node.row()) else { return };
        for (relation, qualifier, to) in found.row_ups().into_iter().flatten() {
            self.expect(&keys::edge_down(&to, row.run, relation, qualifier, node, 0), &[], key, value);
        }
        self.needs_stage(row.run, row.stage, key);
    }

    #[allow(clippy::too_many_arguments, reason = "an edge has five parts, and lies at a key with a value")]
    fn edge(&mut self, from: NodeId, run: RunId, relation: Relation, order: u32, to: NodeId, key: &[u8], value: &[u8]) {
        if !value.is_empty() && self.record::<EdgeRecord>(key, value, |_| true).is_none() {
            return;
        }
        self.expect(&keys::edge_down(&to, run, relation, 0, &from, order), value, key, value);
        if !self.is_first_reading() {
            return;
        }
        self.needs_run(run, key);
        if from.owner().is_some() {
            self.needs_node(&from, key);
        }
        if !self.is_there(&keys::node(&to)) {
            self.tell(Finding::damage(Trouble::Edge, format!("an edge names `{to}`, which is not there")).at_key(key));
        }
        let recorded = keys::recorded(run, &from);
        if from.kind().is_content() && !self.is_there(&recorded) {
            let what = format!("run `{run}` has an edge from `{from}` and does not say that it recorded it");
            let fix = Fix::Put { key: recorded.clone(), value: Vec::new(), basis: (key.to_vec(), value.to_vec()) };
            self.sink.tell(Finding::damage(Trouble::Index, what).at_key(&recorded), Some(fix));
        }
    }

    /// A run recorded a content: the content is there, and so are the edges that its fields say, for this run.
    fn recorded(&mut self, run: RunId, node: &NodeId, key: &[u8], value: &[u8]) {
        if !value.is_empty() {
            self.unreadable(Trouble::Record, key, value, "expected an empty value");
            return;
        }
        if self.is_first_reading() {
            self.needs_run(run, key);
            if !self.is_there(&keys::node(node)) {
                let what = format!("run `{run}` recorded `{node}`, which is not there");
                // An edge may be recorded from what never was.
                let is_bare = !self.has_none(&keys::edges_up_in(node, run));
                let finding =
                    if is_bare { Finding::note(Trouble::Edge, what) } else { Finding::damage(Trouble::Edge, what) };
                self.tell(finding.at_key(key));
                return;
            }
        }
        let ups = match node.kind() {
            Kind::Statement => self.ups::<Statement>(node),
            Kind::Recipe => self.ups::<Recipe>(node),
            Kind::Front => self.ups::<Front>(node),
            _ => return,
        };
        let downs: Vec<_> =
            ups.into_iter().map(|(relation, to)| keys::edge_down(&to, run, relation, 0, node, 0)).collect();
        // A run that only has an edge from it recorded none of them.
        let has_edges = !self.has_none(&keys::edges_up_in(node, run));
        if has_edges && !downs.iter().any(|down| self.is_there(down)) {
            return;
        }
        for down in &downs {
            // An edge of the same run may say the same, and more.
            let is_said = has_edges && self.is_said(node, run, down);
            if !is_said {
                self.expect(down, &[], key, value);
            }
        }
    }

    fn ups<C: Content>(&self, node: &NodeId) -> Vec<(Relation, NodeId)> {
        let key = keys::node(node);
        let record = self.store.get(&key).ok().flatten();
        record.and_then(|record| C::decode(&key, &record).ok()).map(|content| content.ups()).unwrap_or_default()
    }

    /// Whether an edge that the run recorded calls for the same entry.
    fn is_said(&self, from: &NodeId, run: RunId, down: &[u8]) -> bool {
        let edges = self.store.entries(&keys::edges_up_in(from, run));
        edges.filter_map(Result::ok).any(|(key, _)| match keys::parse(&key) {
            Some(Parsed::EdgeUp { from, run, relation, order, to }) => {
                keys::edge_down(&to, run, relation, 0, &from, order) == down
            }
            _ => false,
        })
    }

    fn series(&mut self, parsed: &Parsed<'_>, key: &[u8], value: &[u8]) {
        match *parsed {
            Parsed::Series { run, key: name } => {
                if let Some(head) = self.series_record::<Head>(run, name, key, value) {
                    self.expect(&keys::latest_entry(name, head.latest.value, run), &[], key, value);
                }
                self.needs_run(run, key);
            }
            Parsed::Tail { run, key: name, .. } => {
                self.record::<Chunk>(key, value, |_| true);
                self.needs_head(run, name, key);
            }
            Parsed::Block { run, key: name, first } => {
                let points = self.record::<Block>(key, value, |_| true).map(|block| block.points(key));
                match points {
                    Some(Ok(points)) if is_block(&points, &first) => {
                        if let Some(record) = Summary::of(&points).and_then(|summary| summary.encode().ok()) {
                            self.expect(&keys::summary(run, name, 1, &first), &record, key, value);
                        }
                    }
                    Some(Ok(_)) => {
                        self.unreadable(Trouble::Series, key, value, "its points are not those its key says, in order");
                    }
                    Some(Err(error)) => self.unreadable(Trouble::Series, key, value, &error.to_string()),
                    None => {}
                }
                self.needs_head(run, name, key);
            }
            Parsed::Summary { run, key: name, level, .. } => {
                if level == 1 {
                    self.meet(key, value);
                } else {
                    self.series_record::<Summary>(run, name, key, value);
                }
                self.needs_head(run, name, key);
            }
            _ => {}
        }
    }

    /// A record of a series that follows from its points.
    fn series_record<T: Stored>(&self, run: RunId, name: &str, key: &[u8], value: &[u8]) -> Option<T> {
        let found = T::decode(key, value).and_then(|found| Ok((found.encode()? == value).then_some(found)));
        if let Ok(Some(found)) = found {
            return Some(found);
        }
        let reason = found.err().map_or_else(|| NOT_ITSELF.to_owned(), |error| reason(&error));
        let finding =
            Finding::damage(Trouble::Series, format!("{reason} (series `{name}` of run `{run}`)")).at_key(key);
        self.tell_with(finding, Fix::Series { run, key: name.to_owned() });
        None
    }

    /// The value of a record that is whole and is what its key says.
    fn record<T: Stored>(&self, key: &[u8], value: &[u8], is_right: impl FnOnce(&T) -> bool) -> Option<T> {
        let found = match T::decode(key, value) {
            Ok(found) => found,
            Err(error) => {
                self.unreadable(Trouble::Record, key, value, &reason(&error));
                return None;
            }
        };
        if found.encode().is_ok_and(|again| again == value) {
            if is_right(&found) {
                return Some(found);
            }
            self.unreadable(Trouble::Record, key, value, "it is not the record its key names");
        } else {
            self.unreadable(Trouble::Record, key, value, NOT_ITSELF);
        }
        None
    }

    fn text<'v>(&self, key: &[u8], value: &'v [u8]) -> Option<&'v str> {
        let text = std::str::from_utf8(value).ok();
        if text.is_none() {
            self.unreadable(Trouble::Record, key, value, "expected UTF-8");
        }
        text
    }

    fn has_length(&self, key: &[u8], value: &[u8], n_bytes: usize) {
        if value.len() != n_bytes {
            let what = format!("expected a value of `{n_bytes}` bytes, got `{}`", value.len());
            self.unreadable(Trouble::Record, key, value, &what);
        }
    }

    fn unreadable(&self, trouble: Trouble, key: &[u8], value: &[u8], reason: &str) {
        let what = format!("{}: {reason}", named(key));
        let fix = Fix::Quarantine { key: key.to_vec(), value: value.to_vec() };
        self.tell_with(Finding::damage(trouble, what).at_key(key), fix);
    }

    fn needs_run(&mut self, run: RunId, key: &[u8]) {
        if !self.is_first_reading() {
            return;
        }
        let is_there = match self.last_run {
            Some((last, is_there)) if last == run => is_there,
            _ => self.is_there(&keys::node(&NodeId::run(run))),
        };
        self.last_run = Some((run, is_there));
        if !is_there {
            self.tell(
                Finding::damage(Trouble::Edge, format!("{} is of run `{run}`, which is not there", named(key)))
                    .at_key(key),
            );
        }
    }

    fn needs_stage(&mut self, run: RunId, stage: StageId, key: &[u8]) {
        if !self.is_first_reading() {
            return;
        }
        let is_there = match self.last_stage {
            Some((last, last_stage, is_there)) if (last, last_stage) == (run, stage) => is_there,
            _ => self.is_there(&keys::stage(run, stage)),
        };
        self.last_stage = Some((run, stage, is_there));
        if !is_there {
            let what = format!("{} stands in stage `{stage}`, which is not there", named(key));
            self.tell(Finding::damage(Trouble::Edge, what).at_key(key));
        }
        self.needs_run(run, key);
    }

    fn needs_node(&mut self, node: &NodeId, key: &[u8]) {
        if !self.is_first_reading() {
            return;
        }
        let is_there = match self.last_node {
            Some((last, is_there)) if last == *node => is_there,
            _ => self.is_there(&keys::node(node)),
        };
        self.last_node = Some((*node, is_there));
        if !is_there {
            self.tell(
                Finding::damage(Trouble::Edge, format!("an edge names `{node}`, which is not there")).at_key(key),
            );
        }
    }

    fn needs_head(&mut self, run: RunId, name: &str, key: &[u8]) {
        if !self.is_first_reading() {
            return;
        }
        if let Some((last, last_name, is_there)) = &self.last_series
            && (*last, last_name.as_str(), *is_there) == (run, name, true)
        {
            return;
        }
        let is_there = self.is_there(&keys::series(run, name));
        let was_told = self
            .last_series
            .replace((run, name.to_owned(), is_there))
            .is_some_and(|(last, last_name, _)| last == run && last_name == name);
        if !is_there && !was_told {
            let what = format!("the series `{name}` of run `{run}` has no head");
            let fix = Fix::Series { run, key: name.to_owned() };
            self.tell_with(Finding::damage(Trouble::Series, what).at_key(key), fix);
        }
    }

    /// Whether a key is there; one behind damage that is told elsewhere counts as there.
    fn is_there(&self, key: &[u8]) -> bool {
        self.store.get(key).map_or(true, |value| value.is_some())
    }

    fn has_none(&self, prefix: &[u8]) -> bool {
        self.store.entries(prefix).next().is_none()
    }

    fn is_first_reading(&self) -> bool {
        matches!(self.books, Books::Sums(_))
    }

    fn tell(&self, finding: Finding) {
        if self.is_first_reading() {
            self.sink.tell(finding, None);
        }
    }

    fn tell_with(&self, finding: Finding, fix: Fix) {
        if self.is_first_reading() {
            self.sink.tell(finding, Some(fix));
        }
    }

    /// The entry at `basis` calls for another.
    fn expect(&mut self, key: &[u8], value: &[u8], basis_key: &[u8], basis_value: &[u8]) {
        match &mut self.books {
            Books::Sums(tally) => tally.expect(key, value),
            Books::Remembered(remembered) => remembered.expect(key, value, (basis_key, basis_value)),
        }
    }

    /// An entry that another calls for is there.
    fn meet(&mut self, key: &[u8], value: &[u8]) {
        match &mut self.books {
            Books::Sums(tally) => tally.meet(key, value),
            Books::Remembered(remembered) => remembered.meet(key, value),
        }
    }
}

const NOT_ITSELF: &str = "written again it would be other bytes";

fn is_block(points: &[crate::series::Point], first: &[u8; 24]) -> bool {
    points.first().is_some_and(|point| point.sortable() == *first) && points.windows(2).all(|pair| pair[0] < pair[1])
}
