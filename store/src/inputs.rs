//! Datasets that runs used, as clients say them, and logged models that runs took or gave.

use crate::error::{Error, Result};
use crate::id::{NodeId, RunId};
use crate::keys::{self, Parsed};
use crate::model::{Content as _, Edge, Measured, Relation, RunInput};
use crate::recording::Recording;
use crate::records::Stored as _;
use crate::series::Point;
use crate::store::Store;

/// Whether a run took a logged model or gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The run took it.
    In,
    /// The run gave it.
    Out,
}

impl Way {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::In => 1,
            Self::Out => 2,
        }
    }
}

impl Recording {
    /// Records that a run used a dataset: what the client said of it, the dataset, and the edge. Said again, the last word stays.
    ///
    /// # Errors
    /// `Invalid` if a field cannot be encoded.
    pub fn put_input(&mut self, run: RunId, input: &RunInput) -> Result<NodeId> {
        let dataset = input.dataset();
        let node = self.put(run, &dataset)?;
        self.put_edge(run, &Edge::new(NodeId::run(run), Relation::Used, node))?;
        self.put_entry(keys::input(run, &dataset.digest()?), input.encode()?);
        Ok(node)
    }

    /// Records that a run took or gave a logged model, at a step.
    ///
    /// # Errors
    /// `Invalid` if the model's id cannot be one.
    pub fn put_model_link(&mut self, run: RunId, way: Way, model: &str, step: i64) -> Result<()> {
        keys::check_text("model id", model)?;
        self.put_entry(keys::model_link(run, way.number(), model), step.to_be_bytes().to_vec());
        Ok(())
    }

    /// Records that a point of a series of `run` measures a logged model on a dataset.
    ///
    /// # Errors
    /// `Invalid` if a key cannot be one.
    pub fn put_measured(&mut self, run: RunId, key: &str, point: &Point, model: &str, on: &Measured) -> Result<()> {
        keys::check_text("model id", model)?;
        keys::check_text("metric key", key)?;
        self.put_entry(keys::measured(model, key, &point.sortable(), run), on.encode()?);
        Ok(())
    }
}

impl Store {
    /// The datasets that a run used, as clients said.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn inputs(&self, run: RunId) -> Result<Vec<RunInput>> {
        let entries = self.entries(&keys::inputs(run));
        entries.map(|entry| entry.and_then(|(key, record)| RunInput::decode(&key, &record))).collect()
    }

    /// The logged models that a run took and gave, each with its step.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn model_links(&self, run: RunId) -> Result<Vec<(Way, String, i64)>> {
        let entries = self.entries(&keys::model_links(run));
        entries
            .map(|entry| {
                let (key, value) = entry?;
                let step = value
                    .try_into()
                    .map(i64::from_be_bytes)
                    .map_err(|_| Error::corrupt(&key, "expected eight bytes"))?;
                match keys::parse(&key) {
                    Some(Parsed::ModelLink { way, model, .. }) => {
                        Ok((if way == 1 { Way::In } else { Way::Out }, model.to_owned(), step))
                    }
                    _ => Err(Error::corrupt(&key, "expected a run and a model in the key")),
                }
            })
            .collect()
    }
}
