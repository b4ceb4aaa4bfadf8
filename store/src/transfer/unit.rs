//! An entry of a logged model or a trace in an export, judged.
//!
//! Invariant: no store is asked, so entries are judged before anything is written as they are while it is.

use std::collections::BTreeMap;

use super::import::{NOT_FINISHED, UNFINISHED};
use crate::artifact::{LooseFile, check_path};
use crate::error::{Error, Result};
use crate::id::{ExperimentId, RunId};
use crate::keys::{self, Parsed, tag};
use crate::model::{Assessment, LoggedModel, Measured, Span, Trace};
use crate::records::Stored as _;

/// Whether an entry of a run's part is of a unit, and not of the run.
pub(super) fn is_of_unit(key: &[u8]) -> bool {
    match key.first() {
        Some(&(tag::LOGGED | tag::MEASURED | tag::MODEL_LINK | tag::TRACE | tag::SPAN | tag::ASSESSMENT)) => true,
        Some(&tag::LOOSE) => key.get(1..).is_some_and(|owner| !owner.starts_with(b"runs/")),
        _ => false,
    }
}

/// The record that a unit is there by.
pub(super) enum Head {
    Model(LoggedModel),
    Trace(Trace),
}

impl Head {
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Model(_) => "logged model",
            Self::Trace(_) => "trace",
        }
    }

    pub(super) fn id(&self) -> &str {
        match self {
            Self::Model(model) => &model.id,
            Self::Trace(trace) => &trace.id,
        }
    }

    pub(super) fn key(&self) -> Vec<u8> {
        match self {
            Self::Model(model) => keys::logged(&model.id),
            Self::Trace(trace) => keys::trace(&trace.id),
        }
    }

    pub(super) fn owner(&self) -> String {
        match self {
            Self::Model(model) => model.owner(),
            Self::Trace(trace) => trace.owner(),
        }
    }

    pub(super) fn experiment(&self) -> ExperimentId {
        match self {
            Self::Model(model) => model.experiment,
            Self::Trace(trace) => trace.experiment,
        }
    }

    /// What it says, but for what may be changed later, and for what did not come along.
    pub(super) fn identity(&self) -> Result<Vec<u8>> {
        let experiment = ExperimentId::from_bytes([0; 16]);
        let tags = BTreeMap::new();
        match self {
            Self::Model(model) => {
                let (updated, deleted, manifest, takers) = (model.created, None, None, Vec::new());
                LoggedModel { experiment, updated, tags, deleted, manifest, takers, ..model.clone() }.encode()
            }
            Self::Trace(trace) => Trace { experiment, tags, ..trace.clone() }.encode(),
        }
    }

    /// Another of its kind, by its record.
    pub(super) fn decode(&self, record: &[u8]) -> Result<Self> {
        match self {
            Self::Model(_) => LoggedModel::decode(&self.key(), record).map(Self::Model),
            Self::Trace(_) => Trace::decode(&self.key(), record).map(Self::Trace),
        }
    }

    pub(super) fn tags(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Model(model) => &model.tags,
            Self::Trace(trace) => &trace.tags,
        }
    }

    /// It, as one that is not finished.
    pub(super) fn unfinished(&self) -> Self {
        let mut tags = self.tags().clone();
        tags.insert(UNFINISHED.to_owned(), NOT_FINISHED.to_owned());
        match self {
            Self::Model(model) => Self::Model(LoggedModel { tags, ..model.clone() }),
            Self::Trace(trace) => Self::Trace(Trace { tags, ..trace.clone() }),
        }
    }

    /// The key by which it is found in an experiment.
    pub(super) fn index(&self, experiment: ExperimentId) -> Vec<u8> {
        match self {
            Self::Model(model) => keys::logged_in(experiment, &model.id),
            Self::Trace(trace) => keys::trace_at(experiment, trace.requested.millis(), &trace.id),
        }
    }

    /// Its record in an experiment.
    pub(super) fn record(&self, experiment: ExperimentId) -> Result<Vec<u8>> {
        match self {
            Self::Model(model) => LoggedModel { experiment, ..model.clone() }.encode(),
            Self::Trace(trace) => Trace { experiment, ..trace.clone() }.encode(),
        }
    }

    /// What the keys of all that lies under it begin with.
    pub(super) fn prefixes(&self) -> Vec<Vec<u8>> {
        let loose = keys::loose(&self.owner(), "");
        match self {
            Self::Model(_) => vec![loose],
            Self::Trace(trace) => vec![keys::spans(&trace.id), keys::assessments(&trace.id), loose],
        }
    }
}

/// What an entry is, in the part of a run.
pub(super) enum Entry {
    /// A unit begins. The mark of an import that was not finished does not come along.
    Head(Box<Head>),
    /// That the run took or gave a model. No unit goes on after it.
    Link,
    /// What a run measured of the model that began last, as a record.
    Measured { run: RunId, record: Vec<u8> },
    /// A span, an assessment or a loose file of the unit that began last, as a record.
    Under(Vec<u8>),
}

impl Entry {
    /// Judges an entry in the part of the run `of`, after the unit of `head`.
    ///
    /// # Errors
    /// `Corrupt` if it is not what its key says, or not of what came before it; `Invalid` if an id or a path in it cannot be one.
    pub(super) fn judge(of: RunId, head: Option<&Head>, key: &[u8], value: &[u8]) -> Result<Self> {
        let foreign = || Error::corrupt(key, format!("it does not belong there in the part of run `{of}`"));
        let parsed = keys::parse(key).ok_or_else(foreign)?;
        match parsed {
            Parsed::Logged(id) => {
                let mut model = LoggedModel::decode(key, value)?;
                if model.id != id || model.run.is_some_and(|run| run != of) {
                    return Err(foreign());
                }
                keys::check_text("model id", id)?;
                model.tags.remove(UNFINISHED);
                return Ok(Self::Head(Box::new(Head::Model(model))));
            }
            Parsed::Trace(id) => {
                let mut trace = Trace::decode(key, value)?;
                if trace.id != id || trace.run() != Some(of) {
                    return Err(foreign());
                }
                keys::check_text("trace id", id)?;
                trace.tags.remove(UNFINISHED);
                return Ok(Self::Head(Box::new(Head::Trace(trace))));
            }
            Parsed::ModelLink { run, .. } if run == of && value.len() == 8 => return Ok(Self::Link),
            _ => {}
        }
        let head = head.ok_or_else(foreign)?;
        let (is_model, id) = (matches!(head, Head::Model(_)), head.id());
        match parsed {
            Parsed::Measured { model, run, .. } if is_model && model == id => {
                Ok(Self::Measured { run, record: Measured::decode(key, value)?.encode()? })
            }
            Parsed::Span { trace, .. } if !is_model && trace == id => {
                Span::decode(key, value)?.encode().map(Self::Under)
            }
            Parsed::Assessment { trace, id: assessment } if !is_model && trace == id => {
                let found = Assessment::decode(key, value)?;
                if found.id != assessment {
                    return Err(foreign());
                }
                keys::check_text("assessment id", assessment)?;
                found.encode().map(Self::Under)
            }
            Parsed::Loose { owner, path } if owner == head.owner() => {
                check_path(path)?;
                LooseFile::decode(key, value)?.encode().map(Self::Under)
            }
            _ => Err(foreign()),
        }
    }
}
