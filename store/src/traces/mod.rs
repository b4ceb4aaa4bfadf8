//! Traces with their spans and assessments.
//!
//! Invariant: spans and assessments lie under a trace that is there; a trace goes with all it has, in one batch.

use tracker_engine::{Batch, Direction, Durability};

use crate::error::{Error, Result};
use crate::id::ExperimentId;
use crate::keys::{self, Parsed};
use crate::model::{Assessment, Span, Trace};
use crate::reader;
use crate::records::Stored as _;
use crate::store::Store;

impl Store {
    /// Puts a trace, or changes it: `make` is given what is there, and returns what shall be.
    ///
    /// # Errors
    /// `NotFound` if there is no such experiment; `Invalid` if the id cannot be one; those of `make`.
    pub fn put_trace(&self, id: &str, make: impl Fn(Option<Trace>) -> Result<Trace>) -> Result<Trace> {
        keys::check_text("trace id", id)?;
        self.write("trace", &id, Durability::Os, |batch| self.plan_trace(id, &make, batch))
    }

    fn plan_trace(&self, id: &str, make: &dyn Fn(Option<Trace>) -> Result<Trace>, batch: &mut Batch) -> Result<Trace> {
        let key = keys::trace(id);
        let record = self.get(&key)?;
        let before = record.as_ref().map(|record| Trace::decode(&key, record)).transpose()?;
        let after = Trace { id: id.to_owned(), ..make(before.clone())? };
        match &record {
            Some(record) => batch.require_equals(&key, record),
            None => batch.require_absent(&key),
        }
        let index = |trace: &Trace| keys::trace_at(trace.experiment, trace.requested.millis(), id);
        if before.as_ref().is_none_or(|before| before.experiment != after.experiment) {
            self.experiment_by_id(after.experiment)?;
        }
        if let Some(before) = &before {
            batch.delete(&index(before));
        }
        batch.put(&key, &after.encode()?);
        batch.put(&index(&after), &[]);
        Ok(after)
    }

    /// Puts a trace as [`Store::put_trace`] does, and spans of it, by their ids. A span that is there is replaced.
    ///
    /// # Errors
    /// As [`Store::put_trace`].
    pub fn put_spans(
        &self,
        id: &str,
        make: impl Fn(Option<Trace>) -> Result<Trace>,
        spans: &[(u64, Span)],
    ) -> Result<Trace> {
        keys::check_text("trace id", id)?;
        let records = spans.iter().map(|(number, span)| Ok((keys::span(id, *number), span.encode()?)));
        let records = records.collect::<Result<Vec<_>>>()?;
        self.write("trace", &id, Durability::Os, |batch| {
            let trace = self.plan_trace(id, &make, batch)?;
            for (key, record) in &records {
                batch.put(key, record);
            }
            Ok(trace)
        })
    }

    /// The trace with this id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn trace(&self, id: &str) -> Result<Trace> {
        self.get_value(&keys::trace(id))?.ok_or_else(|| Error::missing("trace", id))
    }

    /// The spans of a trace by when they began.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn spans(&self, trace: &str) -> Result<Vec<Span>> {
        let entries = self.entries(&keys::spans(trace));
        let mut spans: Vec<Span> =
            entries.map(|entry| entry.and_then(|(key, record)| Span::decode(&key, &record))).collect::<Result<_>>()?;
        spans.sort_by_key(|span| span.start_nanos);
        Ok(spans)
    }

    /// The traces of an experiment, newest first, after the one at `after` (time in milliseconds, id) if given.
    pub fn traces(
        &self,
        experiment: ExperimentId,
        after: Option<(i64, &str)>,
    ) -> impl Iterator<Item = Result<Trace>> + use<> {
        let span = reader::Span::prefix(&keys::traces_at(experiment));
        let span = match after {
            Some((millis, id)) => span.past(&keys::trace_at(experiment, millis, id), Direction::Ascending),
            None => span,
        };
        let store = self.clone();
        reader::Entries::over(self.read(), span, Direction::Ascending).map(move |entry| {
            let (key, _) = entry?;
            match keys::parse(&key) {
                Some(Parsed::TraceAt { trace, .. }) => store.trace(trace),
                _ => Err(Error::corrupt(&key, "expected an experiment, a time and a trace in the key")),
            }
        })
    }

    /// Removes traces with all they have, those that are there. Returns how many went.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn remove_traces(&self, ids: &[String]) -> Result<u64> {
        let mut n_removed = 0;
        for id in ids {
            let is_there = self.write("trace", id, Durability::Os, |batch| {
                let key = keys::trace(id);
                let Some(record) = self.get(&key)? else { return Ok(false) };
                let trace = Trace::decode(&key, &record)?;
                batch.require_equals(&key, &record);
                batch.delete(&key);
                batch.delete(&keys::trace_at(trace.experiment, trace.requested.millis(), id));
                let parts = [keys::spans(id), keys::assessments(id), keys::loose(&trace.owner(), "")];
                for entry in parts.iter().flat_map(|prefix| self.entries(prefix)) {
                    batch.delete(&entry?.0);
                }
                Ok(true)
            })?;
            n_removed += u64::from(is_there);
        }
        Ok(n_removed)
    }

    /// Puts an assessment of a trace, or changes it: `make` is given what is there, and returns what shall be.
    ///
    /// # Errors
    /// `NotFound` if there is no such trace; `Invalid` if the id cannot be one; those of `make`.
    pub fn put_assessment(
        &self,
        trace: &str,
        id: &str,
        make: impl Fn(Option<Assessment>) -> Result<Assessment>,
    ) -> Result<Assessment> {
        keys::check_text("assessment id", id)?;
        self.write("assessment", &id, Durability::Os, |batch| {
            let whole = self.get(&keys::trace(trace))?.ok_or_else(|| Error::missing("trace", trace))?;
            batch.require_equals(&keys::trace(trace), &whole);
            let key = keys::assessment(trace, id);
            let before: Option<Assessment> = self.get_value(&key)?;
            let after = Assessment { id: id.to_owned(), ..make(before)? };
            batch.put(&key, &after.encode()?);
            Ok(after)
        })
    }

    /// The assessments of a trace by when they were made.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn assessments(&self, trace: &str) -> Result<Vec<Assessment>> {
        let entries = self.entries(&keys::assessments(trace));
        let mut assessments: Vec<Assessment> = entries
            .map(|entry| entry.and_then(|(key, record)| Assessment::decode(&key, &record)))
            .collect::<Result<_>>()?;
        assessments.sort_by_key(|assessment| assessment.created);
        Ok(assessments)
    }

    /// Removes an assessment. Says whether it was there.
    ///
    /// # Errors
    /// The engine's.
    pub fn remove_assessment(&self, trace: &str, id: &str) -> Result<bool> {
        self.remove(&keys::assessment(trace, id))
    }
}
