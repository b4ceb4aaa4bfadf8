//! What lies at a key, and what is wrong with it, in words.

use crate::error::Error;
use crate::keys::{self, Parsed};

/// What is wrong, without the key, which is told beside it.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::Corrupt { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

/// What lies at a key, in words.
pub(super) fn named(key: &[u8]) -> String {
    match keys::parse(key) {
        None => "an entry".to_owned(),
        Some(Parsed::Node(node)) => format!("the record of `{node}`"),
        Some(Parsed::EdgeUp { from, relation, to, .. }) => format!("the edge `{from}` {relation} `{to}`"),
        Some(Parsed::EdgeDown { from, relation, to, .. }) => {
            format!("the reverse of the edge `{from}` {relation} `{to}`")
        }
        Some(Parsed::Recorded { run, node }) => format!("the note that run `{run}` recorded `{node}`"),
        Some(Parsed::Stage { run, stage }) => format!("the stage `{stage}` of run `{run}`"),
        Some(Parsed::Param { run, key }) => format!("the param `{key}` of run `{run}`"),
        Some(Parsed::Tag { run, key }) => format!("the tag `{key}` of run `{run}`"),
        Some(Parsed::Experiment(id)) => format!("the experiment `{id}`"),
        Some(Parsed::ExperimentName(name)) => format!("the name `{name}` of an experiment"),
        Some(Parsed::RunIndex { run, .. }) => format!("the entry by which run `{run}` is found"),
        Some(Parsed::ParamIndex { key, run, .. } | Parsed::ParamNumber { key, run, .. }) => {
            format!("the entry by which run `{run}` is found by param `{key}`")
        }
        Some(Parsed::Latest { key, run, .. }) => format!("the entry by which run `{run}` is found by metric `{key}`"),
        Some(
            Parsed::Series { run, key }
            | Parsed::Tail { run, key, .. }
            | Parsed::Block { run, key, .. }
            | Parsed::Summary { run, key, .. },
        ) => format!("a part of the series `{key}` of run `{run}`"),
        Some(Parsed::Version { name, number }) => format!("the version `{name}:v{number}`"),
        Some(Parsed::Alias { name, alias }) => format!("the alias `{name}:{alias}`"),
        Some(Parsed::VersionOf { name, digest }) => {
            format!("the number of the version of `{name}` with manifest `{digest}`")
        }
        Some(Parsed::File(digest)) => format!("the file `{digest}`"),
        Some(Parsed::Piece(digest)) => format!("the piece `{digest}`"),
        Some(Parsed::NextVersion(name)) => format!("the next number of `{name}`"),
        Some(Parsed::Weights(holder)) => format!("the note on the weights of `{holder}`"),
        Some(Parsed::Input { run, dataset }) => format!("what run `{run}` said of dataset `{dataset}`"),
        Some(Parsed::ModelLink { run, model, .. }) => format!("the link of run `{run}` to model `{model}`"),
        Some(Parsed::Loose { owner, path }) => format!("the file `{path}` of `{owner}`"),
        Some(Parsed::Logged(model)) => format!("the logged model `{model}`"),
        Some(Parsed::LoggedIn { model, .. }) => format!("the entry by which model `{model}` is found"),
        Some(Parsed::Measured { model, key, .. }) => format!("a measurement of `{key}` of model `{model}`"),
        Some(Parsed::Registered(name)) => format!("the registered model `{name}`"),
        Some(Parsed::ModelVersion { name, number }) => format!("version `{number}` of the registered model `{name}`"),
        Some(Parsed::Trace(id)) => format!("the trace `{id}`"),
        Some(Parsed::TraceAt { trace, .. }) => format!("the entry by which trace `{trace}` is found"),
        Some(Parsed::Span { trace, span }) => format!("span `{span:016x}` of trace `{trace}`"),
        Some(Parsed::Assessment { trace, id }) => format!("assessment `{id}` of trace `{trace}`"),
        Some(Parsed::Meta(name)) => format!("the setting `{name}`"),
    }
}
