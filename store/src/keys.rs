//! The layout of every key. The only place that knows it; FORMAT.md draws it.
//!
//! Invariants: the first byte of a key is the tag of its table; numbers are big-endian, signed numbers and floats are
//! mapped so that bytes sort as values do; texts inside a key end in a zero byte and never hold one ([`check_text`]);
//! entries that are read together are neighbours.

mod parse;

pub(crate) use parse::{Parsed, parse};

use crate::error::{Error, Result};
use crate::id::{Digest, ExperimentId, Kind, NodeId, RunId, StageId};
use crate::model::{Relation, Status};

/// Tables, by their tag byte.
pub(crate) mod tag {
    /// `name` → setting of the store.
    pub(crate) const META: u8 = 0x01;
    /// `experiment 16` → experiment.
    pub(crate) const EXPERIMENT: u8 = 0x02;
    /// `name` → experiment id.
    pub(crate) const EXPERIMENT_NAME: u8 = 0x03;
    /// `node` → record of its kind.
    pub(crate) const NODE: u8 = 0x10;
    /// `from node, run 16, relation 1, order 4, to node` → edge attributes.
    pub(crate) const EDGE_UP: u8 = 0x11;
    /// `to node, run 16, relation 1, qualifier 1, from node inside run[, order 4]` → edge attributes.
    pub(crate) const EDGE_DOWN: u8 = 0x12;
    /// `run 16, content node` → nothing: contents the run recorded.
    pub(crate) const RECORDED: u8 = 0x13;
    /// `run 16, stage 4` → stage.
    pub(crate) const STAGE: u8 = 0x14;
    /// `run 16, dataset 32` → what a client said of a dataset that the run used.
    pub(crate) const INPUT: u8 = 0x15;
    /// `run 16, way 1, model id` → step at which a run took or gave a logged model.
    pub(crate) const MODEL_LINK: u8 = 0x16;
    /// `run 16, key` → value.
    pub(crate) const PARAM: u8 = 0x20;
    /// `run 16, key` → value.
    pub(crate) const TAG: u8 = 0x21;
    /// `column 1, value, run 16` → nothing: runs by status, experiment, study, name, end of id, start.
    pub(crate) const RUN_INDEX: u8 = 0x22;
    /// `key 0, value 0, run 16` → nothing: runs by param.
    pub(crate) const PARAM_INDEX: u8 = 0x23;
    /// `key 0, number 8, run 16` → nothing: runs by a param that is a number.
    pub(crate) const PARAM_NUMBER: u8 = 0x24;
    /// `run 16, key` → head of a series.
    pub(crate) const SERIES: u8 = 0x30;
    /// `run 16, key 0, chunk 8` → points not yet sealed.
    pub(crate) const TAIL: u8 = 0x31;
    /// `run 16, key 0, first point 24` → sealed block.
    pub(crate) const BLOCK: u8 = 0x32;
    /// `run 16, key 0, level 1, first point 24` → summary of blocks.
    pub(crate) const SUMMARY: u8 = 0x33;
    /// `key 0, value 8, run 16` → nothing: runs by the latest value of a series.
    pub(crate) const LATEST: u8 = 0x34;
    /// `name 0, version 4` → version of an artifact.
    pub(crate) const VERSION: u8 = 0x40;
    /// `name 0, alias` → version number.
    pub(crate) const ALIAS: u8 = 0x41;
    /// `name 0, digest 32` → version number.
    pub(crate) const VERSION_OF: u8 = 0x42;
    /// `digest 32` → the pieces of a file.
    pub(crate) const FILE: u8 = 0x43;
    /// `digest 32` → where a piece lies.
    pub(crate) const PIECE: u8 = 0x44;
    /// `name` → the lowest number of a new version.
    pub(crate) const NEXT_VERSION: u8 = 0x45;
    /// `holder 32` → what the weights in it are known to be.
    pub(crate) const WEIGHTS: u8 = 0x46;
    /// `owner 0, path` → a file that may be replaced.
    pub(crate) const LOOSE: u8 = 0x47;
    /// `model id` → logged model.
    pub(crate) const LOGGED: u8 = 0x50;
    /// `experiment 16, model id` → nothing: logged models by experiment.
    pub(crate) const LOGGED_IN: u8 = 0x51;
    /// `model id 0, key 0, point 24, run 16` → on which dataset a logged model was measured.
    pub(crate) const MEASURED: u8 = 0x52;
    /// `name` → registered model.
    pub(crate) const REGISTERED: u8 = 0x53;
    /// `name 0, number 4` → version of a registered model.
    pub(crate) const MODEL_VERSION: u8 = 0x54;
    /// `trace id` → trace.
    pub(crate) const TRACE: u8 = 0x55;
    /// `experiment 16, time 8 inverted, trace id` → nothing: traces by experiment, newest first.
    pub(crate) const TRACE_AT: u8 = 0x56;
    /// `trace id 0, span 8` → span.
    pub(crate) const SPAN: u8 = 0x57;
    /// `trace id 0, assessment id` → assessment.
    pub(crate) const ASSESSMENT: u8 = 0x58;
}

/// The longest text in a key, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 512;

/// Refuses a text that cannot stand in a key: empty, too long, or with a control character in it.
pub(crate) fn check_text(what: &str, text: &str) -> Result<()> {
    let rule = |expected: String| Err(Error::invalid(what, expected, text.escape_default()));
    if text.is_empty() {
        return rule("a text of at least one character".to_owned());
    }
    if text.len() > MAX_TEXT_BYTES {
        return rule(format!("at most `{MAX_TEXT_BYTES}` bytes long"));
    }
    if text.chars().any(char::is_control) {
        return rule("a text without control characters".to_owned());
    }
    Ok(())
}

/// A key under construction.
pub(crate) struct Key(Vec<u8>);

impl Key {
    fn new(tag: u8) -> Self {
        let mut bytes = Vec::with_capacity(96);
        bytes.push(tag);
        Self(bytes)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes()).bytes(&[0])
    }

    fn node(mut self, node: &NodeId) -> Self {
        node.write(&mut self.0);
        self
    }

    fn local(mut self, node: &NodeId) -> Self {
        node.write_local(&mut self.0);
        self
    }

    fn end(self) -> Vec<u8> {
        self.0
    }
}

/// A setting of the store.
pub(crate) fn meta(name: &str) -> Vec<u8> {
    Key::new(tag::META).bytes(name.as_bytes()).end()
}

pub(crate) fn experiment(id: ExperimentId) -> Vec<u8> {
    Key::new(tag::EXPERIMENT).bytes(id.as_bytes()).end()
}

pub(crate) fn experiments() -> Vec<u8> {
    vec![tag::EXPERIMENT]
}

pub(crate) fn experiment_name(name: &str) -> Vec<u8> {
    Key::new(tag::EXPERIMENT_NAME).bytes(name.as_bytes()).end()
}

/// The record of a node.
pub(crate) fn node(node: &NodeId) -> Vec<u8> {
    Key::new(tag::NODE).node(node).end()
}

/// The node whose record lies at `key`.
pub(crate) fn node_at(key: &[u8]) -> Result<NodeId> {
    match key.split_first().and_then(|(_, rest)| NodeId::read(rest)) {
        Some((node, [])) => Ok(node),
        _ => Err(Error::corrupt(key, "expected a node in the key")),
    }
}

/// Every node of a kind; for rows, of every run.
pub(crate) fn nodes(kind: Kind) -> Vec<u8> {
    vec![tag::NODE, kind as u8]
}

/// Nodes of a kind from the one whose name starts with `name` on: contents by digest, runs by id.
pub(crate) fn nodes_from(kind: Kind, name: &[u8]) -> Vec<u8> {
    Key::new(tag::NODE).bytes(&[kind as u8]).bytes(name).end()
}

/// Every row of a kind in a run.
pub(crate) fn rows(kind: Kind, run: RunId) -> Vec<u8> {
    Key::new(tag::NODE).bytes(&[kind as u8]).bytes(run.as_bytes()).end()
}

/// Every row of a kind in a stage.
pub(crate) fn stage_rows(kind: Kind, run: RunId, stage: StageId) -> Vec<u8> {
    Key::new(tag::NODE).bytes(&[kind as u8]).bytes(run.as_bytes()).bytes(&stage.number().to_be_bytes()).end()
}

/// Every row of a kind at one place: verdicts and rewards of one sample.
pub(crate) fn place_rows(kind: Kind, row: &crate::id::RowKey) -> Vec<u8> {
    Key::new(tag::NODE).bytes(&[kind as u8]).bytes(row.run.as_bytes()).bytes(&row.place()).end()
}

/// One edge, from the dependent node's side.
pub(crate) fn edge_up(from: &NodeId, run: RunId, relation: Relation, order: u32, to: &NodeId) -> Vec<u8> {
    Key::new(tag::EDGE_UP)
        .node(from)
        .bytes(run.as_bytes())
        .bytes(&[relation as u8])
        .bytes(&order.to_be_bytes())
        .node(to)
        .end()
}

/// The edges `run` recorded up from `from`.
pub(crate) fn edges_up_in(from: &NodeId, run: RunId) -> Vec<u8> {
    Key::new(tag::EDGE_UP).node(from).bytes(run.as_bytes()).end()
}

/// All edges up from `from`.
pub(crate) fn edges_up(from: &NodeId) -> Vec<u8> {
    Key::new(tag::EDGE_UP).node(from).end()
}

/// All edges up from the rows of a kind in a run.
pub(crate) fn row_edges_up(kind: Kind, run: RunId) -> Vec<u8> {
    Key::new(tag::EDGE_UP).bytes(&[kind as u8]).bytes(run.as_bytes()).end()
}

/// The run, relation, order and target in the key of an edge up from `from`.
pub(crate) fn edge_up_at(from: &NodeId, key: &[u8]) -> Result<(RunId, Relation, u32, NodeId)> {
    let parse = || {
        let rest = key.get(edges_up(from).len()..)?;
        let (run, rest) = rest.split_first_chunk()?;
        let (relation, rest) = rest.split_first()?;
        let (order, rest) = rest.split_first_chunk()?;
        match NodeId::read(rest)? {
            (to, []) => {
                Some((RunId::from_bytes(*run), Relation::from_number(*relation)?, u32::from_be_bytes(*order), to))
            }
            _ => None,
        }
    };
    parse().ok_or_else(|| Error::corrupt(key, "expected run, relation, order and node in the key of an edge"))
}

/// The dependent node in the key of an edge up.
pub(crate) fn edge_up_from(key: &[u8]) -> Result<NodeId> {
    let node = key.split_first().and_then(|(_, rest)| NodeId::read(rest));
    node.map(|(node, _)| node).ok_or_else(|| Error::corrupt(key, "expected a node in the key of an edge"))
}

/// One edge, from the side of what is depended on. `qualifier` sorts edges of one relation: outcomes of verdicts. Order
/// 0 is left out.
pub(crate) fn edge_down(
    to: &NodeId,
    run: RunId,
    relation: Relation,
    qualifier: u8,
    from: &NodeId,
    order: u32,
) -> Vec<u8> {
    let key = Key::new(tag::EDGE_DOWN).node(to).bytes(run.as_bytes()).bytes(&[relation as u8, qualifier]).local(from);
    if order == 0 { key.end() } else { key.bytes(&order.to_be_bytes()).end() }
}

/// All edges down from `to`.
pub(crate) fn edges_down(to: &NodeId) -> Vec<u8> {
    Key::new(tag::EDGE_DOWN).node(to).end()
}

/// The edges `run` recorded down from `to`.
pub(crate) fn edges_down_in(to: &NodeId, run: RunId) -> Vec<u8> {
    Key::new(tag::EDGE_DOWN).node(to).bytes(run.as_bytes()).end()
}

/// The edges of one relation and qualifier `run` recorded down from `to`.
pub(crate) fn edges_down_by(to: &NodeId, run: RunId, relation: Relation, qualifier: u8) -> Vec<u8> {
    Key::new(tag::EDGE_DOWN).node(to).bytes(run.as_bytes()).bytes(&[relation as u8, qualifier]).end()
}

/// The run, relation, dependent node and order in the key of an edge down from `to`.
pub(crate) fn edge_down_at(to: &NodeId, key: &[u8]) -> Result<(RunId, Relation, NodeId, u32)> {
    let parse = || {
        let rest = key.get(edges_down(to).len()..)?;
        let (run, rest) = rest.split_first_chunk()?;
        let run = RunId::from_bytes(*run);
        let (relation, rest) = rest.split_first()?;
        let (_qualifier, rest) = rest.split_first()?;
        match NodeId::read_local(run, rest)? {
            (from, []) => Some((run, Relation::from_number(*relation)?, from, 0)),
            (from, order) => {
                Some((run, Relation::from_number(*relation)?, from, u32::from_be_bytes(order.try_into().ok()?)))
            }
        }
    };
    parse().ok_or_else(|| Error::corrupt(key, "expected run, relation and node in the key of an edge"))
}

pub(crate) fn recorded(run: RunId, node: &NodeId) -> Vec<u8> {
    Key::new(tag::RECORDED).bytes(run.as_bytes()).node(node).end()
}

/// Every content that a run recorded, of every run.
pub(crate) fn every_recorded() -> Vec<u8> {
    vec![tag::RECORDED]
}

pub(crate) fn recorded_by(run: RunId) -> Vec<u8> {
    Key::new(tag::RECORDED).bytes(run.as_bytes()).end()
}

pub(crate) fn recorded_kind(run: RunId, kind: Kind) -> Vec<u8> {
    Key::new(tag::RECORDED).bytes(run.as_bytes()).bytes(&[kind as u8]).end()
}

pub(crate) fn recorded_at(key: &[u8]) -> Result<NodeId> {
    match key.get(17..).and_then(NodeId::read) {
        Some((node, [])) => Ok(node),
        _ => Err(Error::corrupt(key, "expected a run and a node in the key")),
    }
}

pub(crate) fn stage(run: RunId, stage: StageId) -> Vec<u8> {
    Key::new(tag::STAGE).bytes(run.as_bytes()).bytes(&stage.number().to_be_bytes()).end()
}

pub(crate) fn stages(run: RunId) -> Vec<u8> {
    Key::new(tag::STAGE).bytes(run.as_bytes()).end()
}

pub(crate) fn param(run: RunId, key: &str) -> Vec<u8> {
    Key::new(tag::PARAM).bytes(run.as_bytes()).bytes(key.as_bytes()).end()
}

pub(crate) fn params(run: RunId) -> Vec<u8> {
    Key::new(tag::PARAM).bytes(run.as_bytes()).end()
}

pub(crate) fn run_tag(run: RunId, key: &str) -> Vec<u8> {
    Key::new(tag::TAG).bytes(run.as_bytes()).bytes(key.as_bytes()).end()
}

pub(crate) fn run_tags(run: RunId) -> Vec<u8> {
    Key::new(tag::TAG).bytes(run.as_bytes()).end()
}

/// The text that ends the key of a param, a tag or a series: all past tag and run.
pub(crate) fn name_at(key: &[u8]) -> Result<String> {
    let name = key.get(17..).and_then(|name| std::str::from_utf8(name).ok());
    name.map(str::to_owned).ok_or_else(|| Error::corrupt(key, "expected a run and a text in the key"))
}

/// Runs by one of their fields.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RunIndex<'a> {
    Status(Status),
    Experiment(ExperimentId),
    Study(&'a str),
    Name(&'a str),
    /// The last four bytes of its id, by which people call it.
    Short(&'a [u8; 4]),
    /// Its experiment and when it began, in milliseconds since 1970: the latest first.
    Started(ExperimentId, i64),
}

/// Every run with this field, by run id.
pub(crate) fn run_index(index: RunIndex<'_>) -> Vec<u8> {
    let key = Key::new(tag::RUN_INDEX);
    match index {
        RunIndex::Status(status) => key.bytes(&[1, status as u8]).end(),
        RunIndex::Experiment(id) => key.bytes(&[2]).bytes(id.as_bytes()).end(),
        RunIndex::Study(study) => key.bytes(&[3]).text(study).end(),
        RunIndex::Name(name) => key.bytes(&[4]).text(name).end(),
        RunIndex::Short(last) => key.bytes(&[5]).bytes(last).end(),
        RunIndex::Started(id, millis) => key.bytes(&[6]).bytes(id.as_bytes()).bytes(&latest_first(millis)).end(),
    }
}

/// Every run of an experiment, the latest first.
pub(crate) fn runs_by_start(id: ExperimentId) -> Vec<u8> {
    Key::new(tag::RUN_INDEX).bytes(&[6]).bytes(id.as_bytes()).end()
}

/// When the run of an entry of [`runs_by_start`] began, and which it is.
pub(crate) fn run_start_at(key: &[u8]) -> Result<(i64, RunId)> {
    let start = key.get(18..26).and_then(|bytes| bytes.try_into().ok()).map(latest_first_at);
    start
        .zip(key.last_chunk())
        .map(|(start, run)| (start, RunId::from_bytes(*run)))
        .ok_or_else(|| Error::corrupt(key, "expected a start and a run in the key"))
}

pub(crate) fn run_index_entry(index: RunIndex<'_>, run: RunId) -> Vec<u8> {
    let mut key = run_index(index);
    key.extend_from_slice(run.as_bytes());
    key
}

/// The run id that ends an index key.
pub(crate) fn run_at_end(key: &[u8]) -> Result<RunId> {
    key.last_chunk().map(|run| RunId::from_bytes(*run)).ok_or_else(|| Error::corrupt(key, "expected a run in the key"))
}

/// Runs by the value of a param; values past [`MAX_TEXT_BYTES`] or with a zero byte are cut there.
pub(crate) fn param_index(key: &str, value: &str) -> Vec<u8> {
    let n_bytes = value.bytes().take(MAX_TEXT_BYTES).take_while(|byte| *byte != 0).count();
    Key::new(tag::PARAM_INDEX).text(key).bytes(&value.as_bytes()[..n_bytes]).bytes(&[0]).end()
}

pub(crate) fn param_index_entry(key: &str, value: &str, run: RunId) -> Vec<u8> {
    let mut entry = param_index(key, value);
    entry.extend_from_slice(run.as_bytes());
    entry
}

/// Runs whose param is this number; 0 stands for -0.
pub(crate) fn param_number(key: &str, number: f64) -> Vec<u8> {
    Key::new(tag::PARAM_NUMBER).text(key).bytes(&sortable_f64(number + 0.0)).end()
}

/// None of a param that is no number; blanks around one are left out.
pub(crate) fn param_number_entry(key: &str, value: &str, run: RunId) -> Option<Vec<u8>> {
    let number: f64 = value.trim().parse().ok().filter(|number: &f64| !number.is_nan())?;
    Some(Key(param_number(key, number)).bytes(run.as_bytes()).end())
}

pub(crate) fn series(run: RunId, key: &str) -> Vec<u8> {
    Key::new(tag::SERIES).bytes(run.as_bytes()).bytes(key.as_bytes()).end()
}

pub(crate) fn all_series(run: RunId) -> Vec<u8> {
    Key::new(tag::SERIES).bytes(run.as_bytes()).end()
}

/// Every series of every run.
pub(crate) fn every_series() -> Vec<u8> {
    vec![tag::SERIES]
}

pub(crate) fn tail(run: RunId, key: &str) -> Vec<u8> {
    Key::new(tag::TAIL).bytes(run.as_bytes()).text(key).end()
}

pub(crate) fn tail_chunk(run: RunId, key: &str, chunk: u64) -> Vec<u8> {
    Key(tail(run, key)).bytes(&chunk.to_be_bytes()).end()
}

pub(crate) fn blocks(run: RunId, key: &str) -> Vec<u8> {
    Key::new(tag::BLOCK).bytes(run.as_bytes()).text(key).end()
}

/// A block, by the sortable bytes of its first point.
pub(crate) fn block(run: RunId, key: &str, first: &[u8; 24]) -> Vec<u8> {
    Key(blocks(run, key)).bytes(first).end()
}

pub(crate) fn summaries(run: RunId, key: &str, level: u8) -> Vec<u8> {
    Key::new(tag::SUMMARY).bytes(run.as_bytes()).text(key).bytes(&[level]).end()
}

pub(crate) fn summary(run: RunId, key: &str, level: u8, first: &[u8; 24]) -> Vec<u8> {
    Key(summaries(run, key, level)).bytes(first).end()
}

/// Runs whose series has this latest value. One NaN stands for all, and 0 for -0, as comparisons have it.
pub(crate) fn latest_value(key: &str, value: f64) -> Vec<u8> {
    let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
    Key::new(tag::LATEST).text(key).bytes(&sortable_f64(value)).end()
}

pub(crate) fn latest_entry(key: &str, value: f64, run: RunId) -> Vec<u8> {
    Key(latest_value(key, value)).bytes(run.as_bytes()).end()
}

pub(crate) fn versions(name: &str) -> Vec<u8> {
    Key::new(tag::VERSION).text(name).end()
}

pub(crate) fn all_versions() -> Vec<u8> {
    vec![tag::VERSION]
}

pub(crate) fn version(name: &str, number: u32) -> Vec<u8> {
    Key(versions(name)).bytes(&number.to_be_bytes()).end()
}

pub(crate) fn aliases(name: &str) -> Vec<u8> {
    Key::new(tag::ALIAS).text(name).end()
}

/// Every alias of every artifact.
pub(crate) fn every_alias() -> Vec<u8> {
    vec![tag::ALIAS]
}

pub(crate) fn alias(name: &str, alias: &str) -> Vec<u8> {
    Key(aliases(name)).bytes(alias.as_bytes()).end()
}

pub(crate) fn version_of(name: &str, digest: &Digest) -> Vec<u8> {
    Key::new(tag::VERSION_OF).text(name).bytes(digest.as_bytes()).end()
}

/// The lowest number a new version of `name` may have, since a later one was removed.
pub(crate) fn next_version(name: &str) -> Vec<u8> {
    Key::new(tag::NEXT_VERSION).bytes(name.as_bytes()).end()
}

/// What the weights of a holder are known to be.
pub(crate) fn weights(holder: &Digest) -> Vec<u8> {
    Key::new(tag::WEIGHTS).bytes(holder.as_bytes()).end()
}

pub(crate) fn files() -> Vec<u8> {
    vec![tag::FILE]
}

pub(crate) fn pieces() -> Vec<u8> {
    vec![tag::PIECE]
}

/// The digest in the key of a file or a piece.
pub(crate) fn digest_at(key: &[u8]) -> Result<Digest> {
    let digest = key.get(1..).and_then(|digest| digest.try_into().ok()).map(Digest::from_bytes);
    digest.ok_or_else(|| Error::corrupt(key, "expected a digest in the key"))
}

pub(crate) fn file(digest: &Digest) -> Vec<u8> {
    Key::new(tag::FILE).bytes(digest.as_bytes()).end()
}

pub(crate) fn piece(digest: &Digest) -> Vec<u8> {
    Key::new(tag::PIECE).bytes(digest.as_bytes()).end()
}

/// What a client said of a dataset that a run used.
pub(crate) fn input(run: RunId, dataset: &Digest) -> Vec<u8> {
    Key::new(tag::INPUT).bytes(run.as_bytes()).bytes(dataset.as_bytes()).end()
}

pub(crate) fn inputs(run: RunId) -> Vec<u8> {
    Key::new(tag::INPUT).bytes(run.as_bytes()).end()
}

/// A logged model that a run took (`way` 1) or gave (`way` 2).
pub(crate) fn model_link(run: RunId, way: u8, model: &str) -> Vec<u8> {
    Key::new(tag::MODEL_LINK).bytes(run.as_bytes()).bytes(&[way]).bytes(model.as_bytes()).end()
}

pub(crate) fn model_links(run: RunId) -> Vec<u8> {
    Key::new(tag::MODEL_LINK).bytes(run.as_bytes()).end()
}

/// A file that may be replaced.
pub(crate) fn loose(owner: &str, path: &str) -> Vec<u8> {
    Key::new(tag::LOOSE).text(owner).bytes(path.as_bytes()).end()
}

/// Every file of every owner that may be replaced.
pub(crate) fn every_loose() -> Vec<u8> {
    vec![tag::LOOSE]
}

pub(crate) fn logged(model: &str) -> Vec<u8> {
    Key::new(tag::LOGGED).bytes(model.as_bytes()).end()
}

/// Every logged model.
pub(crate) fn every_logged() -> Vec<u8> {
    vec![tag::LOGGED]
}

pub(crate) fn logged_in(experiment: ExperimentId, model: &str) -> Vec<u8> {
    Key::new(tag::LOGGED_IN).bytes(experiment.as_bytes()).bytes(model.as_bytes()).end()
}

/// A measurement of a logged model, by the sortable bytes of its point.
pub(crate) fn measured(model: &str, key: &str, point: &[u8; 24], run: RunId) -> Vec<u8> {
    Key::new(tag::MEASURED).text(model).text(key).bytes(point).bytes(run.as_bytes()).end()
}

pub(crate) fn measured_of(model: &str) -> Vec<u8> {
    Key::new(tag::MEASURED).text(model).end()
}

pub(crate) fn registered(name: &str) -> Vec<u8> {
    Key::new(tag::REGISTERED).bytes(name.as_bytes()).end()
}

pub(crate) fn model_version(name: &str, number: u32) -> Vec<u8> {
    Key(model_versions(name)).bytes(&number.to_be_bytes()).end()
}

pub(crate) fn model_versions(name: &str) -> Vec<u8> {
    Key::new(tag::MODEL_VERSION).text(name).end()
}

/// Every version of every registered model.
pub(crate) fn every_model_version() -> Vec<u8> {
    vec![tag::MODEL_VERSION]
}

pub(crate) fn trace(id: &str) -> Vec<u8> {
    Key::new(tag::TRACE).bytes(id.as_bytes()).end()
}

/// Every trace.
pub(crate) fn every_trace() -> Vec<u8> {
    vec![tag::TRACE]
}

/// A trace by experiment and time, in milliseconds since 1970.
pub(crate) fn trace_at(experiment: ExperimentId, millis: i64, id: &str) -> Vec<u8> {
    Key(traces_at(experiment)).bytes(&latest_first(millis)).bytes(id.as_bytes()).end()
}

/// Every trace of an experiment, the latest first.
pub(crate) fn traces_at(experiment: ExperimentId) -> Vec<u8> {
    Key::new(tag::TRACE_AT).bytes(experiment.as_bytes()).end()
}

pub(crate) fn span(trace: &str, span: u64) -> Vec<u8> {
    Key(spans(trace)).bytes(&span.to_be_bytes()).end()
}

pub(crate) fn spans(trace: &str) -> Vec<u8> {
    Key::new(tag::SPAN).text(trace).end()
}

pub(crate) fn assessment(trace: &str, id: &str) -> Vec<u8> {
    Key(assessments(trace)).bytes(id.as_bytes()).end()
}

pub(crate) fn assessments(trace: &str) -> Vec<u8> {
    Key::new(tag::ASSESSMENT).text(trace).end()
}

/// Eight bytes that sort the other way round than the signed number does.
fn latest_first(number: i64) -> [u8; 8] {
    (!(number as u64 ^ (1 << 63))).to_be_bytes()
}

fn latest_first_at(bytes: [u8; 8]) -> i64 {
    (!u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

/// Eight bytes that sort as the signed number does.
pub(crate) fn sortable_i64(number: i64) -> [u8; 8] {
    (number as u64 ^ (1 << 63)).to_be_bytes()
}

/// Eight bytes that sort as [`f64::total_cmp`] does: -NaN, -∞, …, -0, +0, …, ∞, NaN.
pub(crate) fn sortable_f64(number: f64) -> [u8; 8] {
    let bits = number.to_bits();
    let flip = if bits >> 63 == 1 { u64::MAX } else { 1 << 63 };
    (bits ^ flip).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn floats_sort_as_total_order(a in any::<f64>(), b in any::<f64>()) {
            prop_assert_eq!(sortable_f64(a).cmp(&sortable_f64(b)), a.total_cmp(&b));
        }

        #[test]
        fn integers_sort_as_themselves(a in any::<i64>(), b in any::<i64>()) {
            prop_assert_eq!(sortable_i64(a).cmp(&sortable_i64(b)), a.cmp(&b));
        }

        #[test]
        fn parsing_any_key_never_panics(key in proptest::collection::vec(any::<u8>(), 0..120)) {
            let node = NodeId::run(RunId::from_bytes([1; 16]));
            if let Ok(read) = node_at(&key) {
                prop_assert_eq!(&super::node(&read)[1..], &key[1..]);
            }
            if let Ok((run, relation, order, to)) = edge_up_at(&node, &key) {
                prop_assert_eq!(edge_up(&node, run, relation, order, &to).len(), key.len());
            }
            if let Ok((_, _, from, _)) = edge_down_at(&node, &key) {
                prop_assert!(key.len() > from.to_string().len() / 4);
            }
            if let Ok(read) = recorded_at(&key) {
                prop_assert_eq!(&recorded(RunId::from_bytes([0; 16]), &read)[17..], &key[17..]);
            }
        }
    }

    #[test]
    fn an_edge_reads_back_from_both_sides() {
        let run = RunId::from_bytes([3; 16]);
        let row = crate::id::RowKey::new(run, "sample", 4, 5);
        let (sample, statement) = (NodeId::sample(row), NodeId::content_of(Kind::Statement, Digest::of(b"x")));
        let up = edge_up(&sample, run, Relation::Answers, 7, &statement);
        assert_eq!(edge_up_at(&sample, &up).unwrap(), (run, Relation::Answers, 7, statement));
        assert_eq!(edge_up_from(&up).unwrap(), sample);
        for order in [0, 7] {
            let down = edge_down(&statement, run, Relation::Answers, 0, &sample, order);
            assert_eq!(edge_down_at(&statement, &down).unwrap(), (run, Relation::Answers, sample, order));
        }
    }

    #[test]
    fn texts_that_would_break_a_key_are_refused() {
        for text in ["", "a\0b", "a\nb", &"x".repeat(MAX_TEXT_BYTES + 1)] {
            assert!(check_text("key", text).is_err(), "{text:?}");
        }
        check_text("key", "train/loss @ ünïcode").unwrap();
    }
}
