//! What a fuzzer may throw bytes at; `tests/fuzz` does, and so do this crate's own properties.

use crate::artifact::{FilePieces, Manifest, Piece, Version};
use crate::error::Error;
use crate::keys;
use crate::query::{Query, Table};
use crate::records::{EdgeRecord, Stored};
use crate::series::{Block, Chunk, Head, Summary};
use crate::store::Store;
use crate::{
    Checkpoint, Claim, Dataset, Endpoint, Experiment, Figure, Front, Problem, Program, Recipe, Reward, Run, Sample,
    Sampling, Selection, Stage, Statement, Verdict, Verifier,
};

/// Bytes as every kind of record there is: each is one, or is refused.
pub fn record(bytes: &[u8]) {
    fn one<T: Stored>(bytes: &[u8]) {
        if let Ok(value) = T::decode(b"k", bytes) {
            drop(value.encode());
        }
    }
    one::<Experiment>(bytes);
    one::<Run>(bytes);
    one::<Stage>(bytes);
    one::<Problem>(bytes);
    one::<Statement>(bytes);
    one::<Dataset>(bytes);
    one::<Checkpoint>(bytes);
    one::<Verifier>(bytes);
    one::<Manifest>(bytes);
    one::<Endpoint>(bytes);
    one::<Sampling>(bytes);
    one::<Recipe>(bytes);
    one::<Front>(bytes);
    one::<Program>(bytes);
    one::<Sample>(bytes);
    one::<Verdict>(bytes);
    one::<Reward>(bytes);
    one::<Figure>(bytes);
    one::<Claim>(bytes);
    one::<Selection>(bytes);
    one::<EdgeRecord>(bytes);
    one::<Head>(bytes);
    one::<Chunk>(bytes);
    one::<Summary>(bytes);
    one::<Version>(bytes);
    one::<FilePieces>(bytes);
    one::<Piece>(bytes);
    if let Ok(block) = Block::decode(b"k", bytes) {
        drop(block.points(b"k"));
    }
}

/// Bytes as a key.
///
/// # Panics
/// If what the key is said to say is another key.
pub fn key(bytes: &[u8]) {
    if let Some(parsed) = keys::parse(bytes) {
        assert_eq!(parsed.encode(), bytes);
    }
}

/// A text as a filter and as an order, and the question they make of an empty store.
///
/// # Panics
/// If it is refused otherwise than with a place in it.
pub fn filter(text: &str) {
    let in_place = |error: Error| match error {
        Error::Syntax { column, .. } => assert!(column <= text.chars().count() + 1, "{text:?}: column {column}"),
        error => assert!(matches!(error, Error::Invalid { .. }), "{text:?}: {error}"),
    };
    let Ok(store) = Store::memory() else { return };
    let questions = [Query::new(Table::Runs).filter(text), Query::new(Table::Samples).order_by(text)];
    for question in questions {
        match question {
            Ok(query) => drop(store.query(&query).map_err(in_place)),
            Err(error) => in_place(error),
        }
    }
}
