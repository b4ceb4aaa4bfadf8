//! The recorder, which is the one writer of a run, and what datasets are recorded as.
//!
//! It is a pool of a few workers, each committing one recording at a time, durably; the engine joins commits that arrive
//! together into one sync, so that many small recordings cost as few as one.

use tracker_actors::{Fault, Handle, Pool, PoolOptions, Turn, Worker};
use tracker_store::{
    Content as _, Dataset, Digest, Durability, Edge, Figure, Finish, Kind, NodeId, Point, Program, Recording, Relation,
    RowKey, Sample, Sampling, Store, Timestamp,
};

use crate::error::Result;
use crate::lab::Lab;

/// Records a dataset whose members, in order, are `members`; `content` is what tells it from others. Returns its node.
///
/// # Errors
/// Those of recording.
pub async fn record_members(
    lab: &Lab,
    name: &str,
    purpose: &str,
    content: &str,
    members: impl IntoIterator<Item = NodeId>,
) -> Result<NodeId> {
    let members: Vec<NodeId> = members.into_iter().collect();
    let dataset = Dataset {
        name: name.to_owned(),
        purpose: purpose.to_owned(),
        n_rows: members.len() as u64,
        content: Digest::of(content.as_bytes()),
        rows: None,
    };
    let mut recording = Recording::new();
    let node = recording.put(lab.run(), &dataset)?;
    for (order, member) in members.into_iter().enumerate() {
        recording.put_edge(lab.run(), &Edge::new(node, Relation::Includes, member).at(order as u32))?;
    }
    lab.record(recording).await?;
    Ok(node)
}

/// Puts a series of a run, `[step, value]` each, all at the present time.
///
/// # Errors
/// Those of recording.
pub fn put_series(
    lab: &Lab,
    recording: &mut Recording,
    key: &str,
    values: impl IntoIterator<Item = (i64, f64)>,
) -> Result<()> {
    let now = Timestamp::now().millis();
    let points: Vec<Point> = values.into_iter().map(|(step, value)| Point::new(step, now, value)).collect();
    Ok(recording.put_points(lab.run(), key, &points)?)
}

/// Records a series of a run by itself; see [`put_series`].
///
/// # Errors
/// Those of recording.
pub async fn record_series(lab: &Lab, key: &str, values: impl IntoIterator<Item = (i64, f64)>) -> Result<()> {
    let mut recording = Recording::new();
    put_series(lab, &mut recording, key, values)?;
    lab.record(recording).await
}

/// Puts a figure at `row` that was computed from `used`. Returns its node.
///
/// # Errors
/// Those of recording.
pub fn put_figure(
    lab: &Lab,
    recording: &mut Recording,
    row: RowKey,
    figure: &Figure,
    used: &[NodeId],
) -> Result<NodeId> {
    let node = recording.put_figure(row, figure)?;
    for (order, used) in (0..).zip(used) {
        recording.put_edge(lab.run(), &Edge::new(node, Relation::Used, *used).at(order))?;
    }
    Ok(node)
}

/// Puts an answer somebody published at `row`, as the sample of a writer of its own.
///
/// # Errors
/// Those of recording.
pub fn put_published(
    lab: &Lab,
    recording: &mut Recording,
    row: RowKey,
    subject: NodeId,
    text: &str,
    n_tokens: u32,
) -> Result<()> {
    let writer = Program { name: "published answers".into(), version: "1".into(), settings: String::new() };
    let sampling = Sampling { temperature: 1.0, top_p: 1.0, max_tokens: 0, stop: vec![], template: String::new() };
    recording.put(lab.run(), &sampling)?;
    let sample = Sample {
        subject,
        policy: recording.put(lab.run(), &writer)?,
        sampling: sampling.digest()?,
        seed: 0,
        text: text.to_owned(),
        n_tokens,
        sum_logprob: None,
        finish: Finish::Stop,
    };
    recording.put_sample(row, &sample)?;
    Ok(())
}

/// A row of a dataset that is written to a file.
#[derive(Clone, Debug)]
pub struct FileRow {
    /// A line of JSON.
    pub line: String,
    /// What it was taken from, if that is recorded.
    pub source: Option<NodeId>,
}

/// Puts a dataset to train on, with its rows as a JSONL file. `drawn_from` are whole datasets some of the rows were drawn from.
///
/// # Errors
/// Those of storing the file.
pub fn put_file_rows(
    lab: &Lab,
    recording: &mut Recording,
    name: &str,
    rows: &[FileRow],
    drawn_from: &[NodeId],
) -> Result<NodeId> {
    let lines: String = rows.iter().flat_map(|row| [row.line.as_str(), "\n"]).collect();
    let file = lab.put_files("dataset", name, &[("rows.jsonl".to_owned(), lines.clone().into_bytes())])?;
    let dataset = Dataset {
        name: name.to_owned(),
        purpose: "train".into(),
        n_rows: rows.len() as u64,
        content: Digest::of(lines.as_bytes()),
        rows: Some(file),
    };
    let node = recording.put(lab.run(), &dataset)?;
    if let Some(files) = NodeId::content(Kind::Artifact, file) {
        recording.put_edge(lab.run(), &Edge::new(files, Relation::GeneratedBy, node))?;
    }
    for (order, row) in rows.iter().enumerate() {
        if let Some(source) = row.source {
            recording.put_edge(lab.run(), &Edge::new(node, Relation::Includes, source).at(order as u32))?;
        }
    }
    for whole in drawn_from {
        recording.put_edge(lab.run(), &Edge::new(node, Relation::DerivedFrom, *whole))?;
    }
    Ok(node)
}

/// Commits recordings to the store.
pub struct Recorder {
    store: Store,
}

/// What a recorder has written so far.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Written {
    /// Recordings committed.
    pub n_recordings: u64,
    /// Their bytes, about.
    pub n_bytes: u64,
}

impl Recorder {
    /// Starts the recorder of a store.
    ///
    /// # Errors
    /// Those of starting a pool.
    pub fn start(actors: &Handle, store: &Store) -> Result<Pool<Self>> {
        let store = store.clone();
        let options = PoolOptions { capacity: 16, ..PoolOptions::cpu("recorder", 4) };
        Ok(Pool::start(actors, options, move |_| Ok(Self { store: store.clone() }))?)
    }
}

impl Worker for Recorder {
    type Message = Recording;
    type Reply = ();
    type State = Written;

    async fn handle(&mut self, recording: Recording, turn: &mut Turn<'_, Written>) -> std::result::Result<(), Fault> {
        let n_bytes = recording.n_bytes() as u64;
        self.store.commit(&recording, Durability::Sync).map_err(|error| {
            let fault = if error.is_input() { Fault::input } else { Fault::infra };
            fault("could not record").because(error)
        })?;
        turn.update(|written| {
            written.n_recordings += 1;
            written.n_bytes += n_bytes;
        });
        Ok(())
    }
}
