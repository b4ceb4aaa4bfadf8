//! Traces with their spans and assessments.
//!
//! Invariant: spans and assessments lie under a trace that is there; a trace goes with all it has, in one batch.

use std::collections::BTreeMap;

use tracker_engine::{Batch, Direction, Durability, MAX_BATCH_BYTES};

use crate::error::{Error, Result};
use crate::id::ExperimentId;
use crate::keys::{self, Parsed};
use crate::model::{Assessment, Span, Trace};
use crate::reader;
use crate::records::Stored as _;
use crate::store::Store;
use crate::transfer::check_mark;

impl Store {
    /// Puts a trace, or changes it: `make` is given what is there, and returns what shall be.
    ///
    /// # Errors
    /// `NotFound` if there is no such experiment; `Invalid` if the id cannot be one, or an import's mark changes; those of `make`.
    pub fn put_trace(&self, id: &str, make: impl Fn(Option<Trace>) -> Result<Trace>) -> Result<Trace> {
        keys::check_text("trace id", id)?;
        self.write("trace", &id, Durability::Os, |batch| self.plan_trace(id, &make, batch))
    }

    /// Puts a trace as [`Store::put_trace`] does, and what is said of it as [`Store::assess`] does, in one batch.
    ///
    /// # Errors
    /// As [`Store::put_trace`] and [`Store::assess`].
    pub fn put_assessed_trace(
        &self,
        id: &str,
        make: impl Fn(Option<Trace>) -> Result<Trace>,
        said: &[Assessment],
    ) -> Result<Trace> {
        keys::check_text("trace id", id)?;
        self.write("trace", &id, Durability::Os, |batch| {
            let trace = self.plan_trace(id, &make, batch)?;
            self.plan_assessments(id, said, batch)?;
            Ok(trace)
        })
    }

    /// Says several things of a trace, in one batch. What one takes the place of is no longer valid.
    ///
    /// # Errors
    /// `NotFound` if there is no such trace, or nothing to take the place of; `Invalid` if an id cannot be one.
    pub fn assess(&self, trace: &str, said: &[Assessment]) -> Result<()> {
        self.write("trace", &trace, Durability::Os, |batch| {
            let whole = self.get(&keys::trace(trace))?.ok_or_else(|| Error::missing("trace", trace))?;
            batch.require_equals(&keys::trace(trace), &whole);
            self.plan_assessments(trace, said, batch)
        })
    }

    fn plan_assessments(&self, trace: &str, said: &[Assessment], batch: &mut Batch) -> Result<()> {
        let mut after: BTreeMap<&str, Assessment> = BTreeMap::new();
        for assessment in said {
            keys::check_text("assessment id", &assessment.id)?;
            let overrides = assessment.overrides.as_str();
            if !overrides.is_empty() {
                let before = match after.remove(overrides) {
                    Some(before) => before,
                    None => self.overridden(trace, overrides, batch)?,
                };
                after.insert(overrides, Assessment { is_valid: false, ..before });
            }
            after.insert(&assessment.id, assessment.clone());
        }
        for (id, assessment) in &after {
            batch.put(&keys::assessment(trace, id), &assessment.encode()?);
        }
        Ok(())
    }

    /// An assessment that another takes the place of: nobody else may change it meanwhile.
    fn overridden(&self, trace: &str, id: &str, batch: &mut Batch) -> Result<Assessment> {
        keys::check_text("assessment id", id)?;
        let key = keys::assessment(trace, id);
        let record = self.get(&key)?.ok_or_else(|| Error::missing("assessment", id))?;
        batch.require_equals(&key, &record);
        Assessment::decode(&key, &record)
    }

    fn plan_trace(&self, id: &str, make: &dyn Fn(Option<Trace>) -> Result<Trace>, batch: &mut Batch) -> Result<Trace> {
        let key = keys::trace(id);
        let record = self.get(&key)?;
        let before = record.as_ref().map(|record| Trace::decode(&key, record)).transpose()?;
        let after = Trace { id: id.to_owned(), ..make(before.clone())? };
        check_mark(before.as_ref().map(|before| &before.tags), &after.tags)?;
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

    /// Puts traces as [`Store::put_trace`] does, `make` given the id too, and spans of each, by their ids; all in one batch. A span that is there
    /// is replaced.
    ///
    /// # Errors
    /// As [`Store::put_trace`]; `Invalid` if a batch cannot hold it all.
    pub fn put_spans(
        &self,
        traces: &BTreeMap<String, Vec<(u64, Span)>>,
        make: impl Fn(&str, Option<Trace>) -> Result<Trace>,
    ) -> Result<()> {
        let mut records = Vec::new();
        for (id, spans) in traces {
            keys::check_text("trace id", id)?;
            for (number, span) in spans {
                records.push((keys::span(id, *number), span.encode()?));
            }
        }
        let Some(first) = traces.keys().next() else { return Ok(()) };
        self.write("trace", first, Durability::Os, |batch| {
            for (key, record) in &records {
                batch.put(key, record);
            }
            for id in traces.keys() {
                self.plan_trace(id, &|before| make(id, before), batch)?;
                // Traces that are there may be large, whatever is said of them now.
                check_fits(batch)?;
            }
            Ok(())
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

    /// The ids of a trace's spans by when they began, for [`Store::span`]: a trace may have more spans than memory should hold.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn span_ids(&self, trace: &str) -> Result<Vec<u64>> {
        let mut ids = Vec::new();
        for entry in self.entries(&keys::spans(trace)) {
            let (key, record) = entry?;
            let Some(Parsed::Span { span, .. }) = keys::parse(&key) else {
                return Err(Error::corrupt(&key, "expected a trace and a span in the key"));
            };
            ids.push((Span::decode(&key, &record)?.start_nanos, span));
        }
        ids.sort_by_key(|(start_nanos, _)| *start_nanos);
        Ok(ids.into_iter().map(|(_, span)| span).collect())
    }

    /// A span of a trace, if it is there.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn span(&self, trace: &str, id: u64) -> Result<Option<Span>> {
        self.get_value(&keys::span(trace, id))
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

/// Refuses what one batch cannot hold, before more is added to it.
fn check_fits(batch: &Batch) -> Result<()> {
    let n_bytes = batch.n_bytes();
    if n_bytes <= MAX_BATCH_BYTES {
        return Ok(());
    }
    let expected = format!("at most {MAX_BATCH_BYTES} bytes with the records of their traces; write fewer at a time");
    Err(Error::invalid("spans of one write", expected, format!("{n_bytes} or more")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    #[test]
    fn spans_of_traces_that_are_too_large_together_are_refused() {
        let store = Store::memory().unwrap();
        let experiment = store.default_experiment().unwrap().id;
        let large = |_: &str, _| {
            Ok(Trace {
                id: String::new(),
                experiment,
                requested: Timestamp::now(),
                duration_millis: None,
                state: "OK".to_owned(),
                // Noise: what repeats is compressed in records.
                request: (0..7_u64 << 17)
                    .map(|n| format!("{:08x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32))
                    .collect::<Vec<_>>()
                    .concat(),
                response: String::new(),
                client_id: String::new(),
                metadata: BTreeMap::new(),
                tags: BTreeMap::new(),
            })
        };
        let ids: Vec<String> = (0..5).map(|nth| format!("tr-{nth}")).collect();
        for id in &ids {
            store.put_spans(&[(id.clone(), Vec::new())].into(), large).unwrap();
        }
        let span = Span { start_nanos: 1, otlp: vec![1] };
        let spans = |ids: &[String]| ids.iter().map(|id| (id.clone(), vec![(1, span.clone())])).collect();
        let same = |_: &str, trace: Option<Trace>| Ok(trace.unwrap());
        let error = store.put_spans(&spans(&ids), same).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        assert!(ids.iter().all(|id| store.spans(id).unwrap().is_empty()));
        store.put_spans(&spans(&ids[..3]), same).unwrap();
    }
}
