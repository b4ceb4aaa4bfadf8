//! Any key, read back to what it says. A key that was not laid out here is none.

use super::{MAX_TEXT_BYTES, RunIndex, check_text, tag};
use crate::id::{Digest, ExperimentId, NodeId, RunId, StageId};
use crate::model::{Relation, Status};

/// What a key says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parsed<'a> {
    Meta(&'a str),
    Experiment(ExperimentId),
    ExperimentName(&'a str),
    Node(NodeId),
    EdgeUp { from: NodeId, run: RunId, relation: Relation, order: u32, to: NodeId },
    EdgeDown { to: NodeId, run: RunId, relation: Relation, qualifier: u8, from: NodeId, order: u32 },
    Recorded { run: RunId, node: NodeId },
    Stage { run: RunId, stage: StageId },
    Param { run: RunId, key: &'a str },
    Tag { run: RunId, key: &'a str },
    RunIndex { index: RunIndex<'a>, run: RunId },
    ParamIndex { key: &'a str, value: &'a [u8], run: RunId },
    ParamNumber { key: &'a str, value: [u8; 8], run: RunId },
    Series { run: RunId, key: &'a str },
    Tail { run: RunId, key: &'a str, chunk: u64 },
    Block { run: RunId, key: &'a str, first: [u8; 24] },
    Summary { run: RunId, key: &'a str, level: u8, first: [u8; 24] },
    Latest { key: &'a str, value: [u8; 8], run: RunId },
    Version { name: &'a str, number: u32 },
    Alias { name: &'a str, alias: &'a str },
    VersionOf { name: &'a str, digest: Digest },
    File(Digest),
    Piece(Digest),
    NextVersion(&'a str),
    Weights(Digest),
    Input { run: RunId, dataset: Digest },
    ModelLink { run: RunId, way: u8, model: &'a str },
    Loose { owner: &'a str, path: &'a str },
    Logged(&'a str),
    LoggedIn { experiment: ExperimentId, model: &'a str },
    Measured { model: &'a str, key: &'a str, point: [u8; 24], run: RunId },
    Registered(&'a str),
    ModelVersion { name: &'a str, number: u32 },
    Trace(&'a str),
    TraceAt { experiment: ExperimentId, millis: i64, trace: &'a str },
    Span { trace: &'a str, span: u64 },
    Assessment { trace: &'a str, id: &'a str },
}

/// What `key` says; `None` if it is no key of the store, or not written as the store writes it.
pub(crate) fn parse(key: &[u8]) -> Option<Parsed<'_>> {
    let (tag, rest) = key.split_first()?;
    let parsed = match *tag {
        tag::META => Parsed::Meta(whole_text(rest)?),
        tag::EXPERIMENT => Parsed::Experiment(ExperimentId::from_bytes(rest.try_into().ok()?)),
        tag::EXPERIMENT_NAME => Parsed::ExperimentName(whole_text(rest)?),
        tag::NODE => Parsed::Node(last_node(NodeId::read(rest)?)?),
        tag::EDGE_UP => edge_up(rest)?,
        tag::EDGE_DOWN => edge_down(rest)?,
        tag::RECORDED => recorded(rest)?,
        tag::STAGE => stage(rest)?,
        tag::PARAM => run_text(rest).map(|(run, key)| Parsed::Param { run, key })?,
        tag::TAG => run_text(rest).map(|(run, key)| Parsed::Tag { run, key })?,
        tag::RUN_INDEX => run_index(rest)?,
        tag::PARAM_INDEX => param_index(rest)?,
        tag::SERIES => run_text(rest).map(|(run, key)| Parsed::Series { run, key })?,
        tag::TAIL => series(rest, |run, key, rest| {
            Some(Parsed::Tail { run, key, chunk: u64::from_be_bytes(rest.try_into().ok()?) })
        })?,
        tag::BLOCK => series(rest, |run, key, rest| Some(Parsed::Block { run, key, first: rest.try_into().ok()? }))?,
        tag::SUMMARY => series(rest, |run, key, rest| {
            let (level, first) = rest.split_first()?;
            matches!(level, 1 | 2).then_some(())?;
            Some(Parsed::Summary { run, key, level: *level, first: first.try_into().ok()? })
        })?,
        tag::PARAM_NUMBER => {
            let (key, value, run) = number_index(rest)?;
            Parsed::ParamNumber { key, value, run }
        }
        tag::LATEST => {
            let (key, value, run) = number_index(rest)?;
            Parsed::Latest { key, value, run }
        }
        tag::VERSION => {
            let (name, number) = text(rest)?;
            Parsed::Version { name, number: u32::from_be_bytes(number.try_into().ok()?) }
        }
        tag::ALIAS => {
            let (name, alias) = text(rest)?;
            Parsed::Alias { name, alias: whole_text(alias)? }
        }
        tag::VERSION_OF => {
            let (name, digest) = text(rest)?;
            Parsed::VersionOf { name, digest: Digest::from_bytes(digest.try_into().ok()?) }
        }
        tag::FILE => Parsed::File(Digest::from_bytes(rest.try_into().ok()?)),
        tag::PIECE => Parsed::Piece(Digest::from_bytes(rest.try_into().ok()?)),
        tag::NEXT_VERSION => Parsed::NextVersion(whole_text(rest)?),
        tag::WEIGHTS => Parsed::Weights(Digest::from_bytes(rest.try_into().ok()?)),
        tag::INPUT => {
            let (run, dataset) = run(rest)?;
            Parsed::Input { run, dataset: Digest::from_bytes(dataset.try_into().ok()?) }
        }
        tag::MODEL_LINK => {
            let (run, rest) = run(rest)?;
            let (way, model) = rest.split_first()?;
            matches!(way, 1 | 2).then_some(())?;
            Parsed::ModelLink { run, way: *way, model: whole_text(model)? }
        }
        tag::LOOSE => {
            let (owner, path) = text(rest)?;
            Parsed::Loose { owner, path: whole_text(path)? }
        }
        tag::LOGGED => Parsed::Logged(whole_text(rest)?),
        tag::LOGGED_IN => {
            let (experiment, model) = rest.split_first_chunk()?;
            Parsed::LoggedIn { experiment: ExperimentId::from_bytes(*experiment), model: whole_text(model)? }
        }
        tag::MEASURED => {
            let (model, rest) = text(rest)?;
            let (key, rest) = text(rest)?;
            let (point, run) = rest.split_first_chunk()?;
            Parsed::Measured { model, key, point: *point, run: RunId::from_bytes(run.try_into().ok()?) }
        }
        tag::REGISTERED => Parsed::Registered(whole_text(rest)?),
        tag::MODEL_VERSION => {
            let (name, number) = text(rest)?;
            Parsed::ModelVersion { name, number: u32::from_be_bytes(number.try_into().ok()?) }
        }
        tag::TRACE => Parsed::Trace(whole_text(rest)?),
        tag::TRACE_AT => {
            let (experiment, rest) = rest.split_first_chunk()?;
            let (millis, trace) = rest.split_first_chunk()?;
            let (experiment, millis) = (ExperimentId::from_bytes(*experiment), super::latest_first_at(*millis));
            Parsed::TraceAt { experiment, millis, trace: whole_text(trace)? }
        }
        tag::SPAN => {
            let (trace, span) = text(rest)?;
            Parsed::Span { trace, span: u64::from_be_bytes(span.try_into().ok()?) }
        }
        tag::ASSESSMENT => {
            let (trace, id) = text(rest)?;
            Parsed::Assessment { trace, id: whole_text(id)? }
        }
        _ => return None,
    };
    (parsed.encode() == key).then_some(parsed)
}

impl Parsed<'_> {
    /// The key that says it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Meta(name) => super::meta(name),
            Self::Experiment(id) => super::experiment(*id),
            Self::ExperimentName(name) => super::experiment_name(name),
            Self::Node(node) => super::node(node),
            Self::EdgeUp { from, run, relation, order, to } => super::edge_up(from, *run, *relation, *order, to),
            Self::EdgeDown { to, run, relation, qualifier, from, order } => {
                super::edge_down(to, *run, *relation, *qualifier, from, *order)
            }
            Self::Recorded { run, node } => super::recorded(*run, node),
            Self::Stage { run, stage } => super::stage(*run, *stage),
            Self::Param { run, key } => super::param(*run, key),
            Self::Tag { run, key } => super::run_tag(*run, key),
            Self::RunIndex { index, run } => super::run_index_entry(*index, *run),
            Self::ParamIndex { key, value, run } => {
                let head = super::Key::new(tag::PARAM_INDEX).text(key).bytes(value).bytes(&[0]);
                head.bytes(run.as_bytes()).end()
            }
            Self::ParamNumber { key, value, run } => {
                super::Key::new(tag::PARAM_NUMBER).text(key).bytes(value).bytes(run.as_bytes()).end()
            }
            Self::Series { run, key } => super::series(*run, key),
            Self::Tail { run, key, chunk } => super::tail_chunk(*run, key, *chunk),
            Self::Block { run, key, first } => super::block(*run, key, first),
            Self::Summary { run, key, level, first } => super::summary(*run, key, *level, first),
            Self::Latest { key, value, run } => {
                super::Key::new(tag::LATEST).text(key).bytes(value).bytes(run.as_bytes()).end()
            }
            Self::Version { name, number } => super::version(name, *number),
            Self::Alias { name, alias } => super::alias(name, alias),
            Self::VersionOf { name, digest } => super::version_of(name, digest),
            Self::File(digest) => super::file(digest),
            Self::Piece(digest) => super::piece(digest),
            Self::NextVersion(name) => super::next_version(name),
            Self::Weights(holder) => super::weights(holder),
            Self::Input { run, dataset } => super::input(*run, dataset),
            Self::ModelLink { run, way, model } => super::model_link(*run, *way, model),
            Self::Loose { owner, path } => super::loose(owner, path),
            Self::Logged(model) => super::logged(model),
            Self::LoggedIn { experiment, model } => super::logged_in(*experiment, model),
            Self::Measured { model, key, point, run } => super::measured(model, key, point, *run),
            Self::Registered(name) => super::registered(name),
            Self::ModelVersion { name, number } => super::model_version(name, *number),
            Self::Trace(id) => super::trace(id),
            Self::TraceAt { experiment, millis, trace } => super::trace_at(*experiment, *millis, trace),
            Self::Span { trace, span } => super::span(trace, *span),
            Self::Assessment { trace, id } => super::assessment(trace, id),
        }
    }
}

/// A text that is allowed in a key.
fn whole_text(bytes: &[u8]) -> Option<&str> {
    if bytes.len() > MAX_TEXT_BYTES {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    check_text("key", text).is_ok().then_some(text)
}

/// A text up to its zero byte, and what follows.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().take(MAX_TEXT_BYTES + 1).position(|byte| *byte == 0)?;
    Some((whole_text(&bytes[..end])?, &bytes[end + 1..]))
}

fn run(bytes: &[u8]) -> Option<(RunId, &[u8])> {
    let (run, rest) = bytes.split_first_chunk()?;
    Some((RunId::from_bytes(*run), rest))
}

fn run_text(bytes: &[u8]) -> Option<(RunId, &str)> {
    let (run, rest) = run(bytes)?;
    Some((run, whole_text(rest)?))
}

fn series<'a>(bytes: &'a [u8], end: impl FnOnce(RunId, &'a str, &'a [u8]) -> Option<Parsed<'a>>) -> Option<Parsed<'a>> {
    let (run, rest) = run(bytes)?;
    let (key, rest) = text(rest)?;
    end(run, key, rest)
}

fn last_node((node, rest): (NodeId, &[u8])) -> Option<NodeId> {
    rest.is_empty().then_some(node)
}

fn edge_up(bytes: &[u8]) -> Option<Parsed<'_>> {
    let (from, rest) = NodeId::read(bytes)?;
    let (run, rest) = run(rest)?;
    let (relation, rest) = rest.split_first()?;
    let (order, rest) = rest.split_first_chunk()?;
    let (relation, order) = (Relation::from_number(*relation)?, u32::from_be_bytes(*order));
    Some(Parsed::EdgeUp { from, run, relation, order, to: last_node(NodeId::read(rest)?)? })
}

fn edge_down(bytes: &[u8]) -> Option<Parsed<'_>> {
    let (to, rest) = NodeId::read(bytes)?;
    let (run, rest) = run(rest)?;
    let ([relation, qualifier], rest) = rest.split_first_chunk()?;
    let (from, order) = NodeId::read_local(run, rest)?;
    let order = if order.is_empty() { 0 } else { u32::from_be_bytes(order.try_into().ok()?) };
    Some(Parsed::EdgeDown { to, run, relation: Relation::from_number(*relation)?, qualifier: *qualifier, from, order })
}

fn recorded(bytes: &[u8]) -> Option<Parsed<'_>> {
    let (run, rest) = run(bytes)?;
    let node = last_node(NodeId::read(rest)?)?;
    node.kind().is_content().then_some(Parsed::Recorded { run, node })
}

fn stage(bytes: &[u8]) -> Option<Parsed<'_>> {
    let (run, rest) = run(bytes)?;
    Some(Parsed::Stage { run, stage: StageId::from_number(u32::from_be_bytes(rest.try_into().ok()?)) })
}

fn run_index(bytes: &[u8]) -> Option<Parsed<'_>> {
    let (column, rest) = bytes.split_first()?;
    let (value, run) = rest.split_last_chunk()?;
    let run = RunId::from_bytes(*run);
    let ended = |value: &'_ [u8]| value.split_last().is_some_and(|(end, _)| *end == 0);
    let index = match column {
        1 => RunIndex::Status(Status::ALL.into_iter().find(|status| [*status as u8] == *value)?),
        2 => RunIndex::Experiment(ExperimentId::from_bytes(value.try_into().ok()?)),
        3 if ended(value) => RunIndex::Study(whole_text(&value[..value.len() - 1])?),
        4 if ended(value) => RunIndex::Name(whole_text(&value[..value.len() - 1])?),
        5 => RunIndex::Short(value.try_into().ok()?),
        6 => {
            let (id, start) = value.split_first_chunk()?;
            RunIndex::Started(ExperimentId::from_bytes(*id), super::latest_first_at(start.try_into().ok()?))
        }
        _ => return None,
    };
    Some(Parsed::RunIndex { index, run })
}

fn number_index(bytes: &[u8]) -> Option<(&str, [u8; 8], RunId)> {
    let (key, rest) = text(bytes)?;
    let (value, run) = rest.split_first_chunk()?;
    Some((key, *value, RunId::from_bytes(run.try_into().ok()?)))
}

fn param_index(bytes: &[u8]) -> Option<Parsed<'_>> {
    let (key, rest) = text(bytes)?;
    let (value, run) = rest.split_last_chunk()?;
    let (end, value) = value.split_last()?;
    let is_value = *end == 0 && value.len() <= MAX_TEXT_BYTES && !value.contains(&0);
    is_value.then_some(Parsed::ParamIndex { key, value, run: RunId::from_bytes(*run) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: &str = concat!(
        include_str!("../../tests/golden/format-1.txt"),
        include_str!("../../tests/golden/format-2.txt"),
        include_str!("../../tests/golden/format-3.txt")
    );

    fn golden_keys() -> Vec<Vec<u8>> {
        let digits = GOLDEN.lines().filter_map(|line| line.strip_prefix("key ")?.split_once(' '));
        digits.map(|(_, digits)| crate::error::unhex(digits).unwrap()).collect()
    }

    #[test]
    fn every_key_of_the_format_reads_back_and_says_itself() {
        let keys = golden_keys();
        assert!(keys.len() > 30);
        for key in keys {
            let parsed = parse(&key).unwrap_or_else(|| panic!("{}", crate::error::hex(&key)));
            assert_eq!(parsed.encode(), key);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_what_reads_says_itself(
            key in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                (prop_oneof![1_u8..4, 0x10_u8..0x17, 0x20_u8..0x25, 0x30_u8..0x35, 0x40_u8..0x48, 0x50_u8..0x59],
                    proptest::collection::vec(any::<u8>(), 0..200)).prop_map(|(tag, rest)| [vec![tag], rest].concat()),
            ],
        ) {
            crate::fuzz::key(&key);
        }

        #[test]
        fn a_key_with_flipped_bytes_never_panics_and_never_says_another(
            nth in any::<prop::sample::Index>(),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..3),
            end in any::<prop::sample::Index>(),
        ) {
            let keys = golden_keys();
            let mut key = keys[nth.index(keys.len())].clone();
            for (at, flip) in flips {
                let at = at.index(key.len());
                key[at] ^= flip;
            }
            for key in [key.clone(), key[..end.index(key.len())].to_vec()] {
                crate::fuzz::key(&key);
            }
        }
    }
}
