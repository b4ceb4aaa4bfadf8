//! The smallest and the largest of everything, and the sizes between at which engines change how they keep it.

use std::collections::BTreeMap;

use super::{commit, compare, entries, get, keys, put};
use crate::Direction::{Ascending, Descending};
use crate::{Batch, Durability, Engine, Error, KeyRange, MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};

pub(super) fn empty_and_largest_keys_and_values_are_kept(engine: &dyn Engine) {
    let long_key = vec![b'k'; MAX_KEY_BYTES];
    let long_value: Vec<u8> = (0..MAX_VALUE_BYTES).map(|i| (i % 251) as u8).collect();
    put(engine, b"", b"");
    put(engine, &long_key, &long_value);
    assert_eq!(get(engine, b"").as_deref(), Some(b"".as_slice()));
    assert!(get(engine, &long_key).as_deref() == Some(long_value.as_slice()), "the largest value came back changed");
    let all = entries(engine, KeyRange::all(), Descending);
    assert_eq!(all.len(), 2);
    assert!(all[0] == (long_key, long_value), "the largest entry came back changed from a range");
}

/// Around the sizes at which engines change how they keep a value.
pub(super) fn values_of_every_size_are_kept(engine: &dyn Engine) {
    let mut model = BTreeMap::new();
    let mut sizes: Vec<usize> = (0..22).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]).collect();
    for around in [6, 24, 48, 100, 1_000] {
        sizes.extend([around * 1024 - 1, around * 1024, around * 1024 + 1]);
    }
    // Each is written over by the next larger, and the largest by the smallest.
    for shift in [0, 1] {
        let mut batch = Batch::new();
        for (i, _) in sizes.iter().enumerate() {
            let (key, value) = ((i as u32).to_be_bytes(), vec![i as u8; sizes[(i + shift) % sizes.len()]]);
            batch.put(&key, &value);
            model.insert(key.to_vec(), value);
        }
        commit(engine, &batch);
        compare(engine, &model, &KeyRange::all());
        for (key, value) in &model {
            assert!(get(engine, key).as_ref() == Some(value), "{} bytes came back changed", value.len());
        }
    }
}

/// More long keys than a node of a tree has room for.
pub(super) fn long_keys_are_kept(engine: &dyn Engine) {
    let mut model = BTreeMap::new();
    for round in 0..4_u8 {
        let mut batch = Batch::new();
        for i in 0..20_u8 {
            let key = [vec![i / 3; MAX_KEY_BYTES - 2 - usize::from(round)], vec![i, round]].concat();
            batch.put(&key, &[i]);
            model.insert(key, vec![i]);
        }
        commit(engine, &batch);
    }
    compare(engine, &model, &KeyRange::all());
    let gone: Vec<Vec<u8>> = model.keys().step_by(2).cloned().collect();
    let mut batch = Batch::new();
    for key in gone {
        batch.delete(&key);
        model.remove(&key);
    }
    commit(engine, &batch);
    compare(engine, &model, &KeyRange::all());
}

pub(super) fn the_largest_batch_is_written(engine: &dyn Engine) {
    let values = [MAX_VALUE_BYTES, MAX_VALUE_BYTES, MAX_VALUE_BYTES, MAX_VALUE_BYTES - 100];
    for round in [1_u8, 2] {
        let mut batch = Batch::new();
        for (i, n_bytes) in values.into_iter().enumerate() {
            batch.put(&[i as u8], &vec![round + i as u8; n_bytes]);
        }
        assert!(batch.n_bytes() > MAX_BATCH_BYTES - 100);
        commit(engine, &batch);
        for (i, n_bytes) in values.into_iter().enumerate() {
            let value = get(engine, &[i as u8]).unwrap_or_default();
            assert!(
                value.len() == n_bytes && value.iter().all(|&byte| byte == round + i as u8),
                "{i} came back changed"
            );
        }
    }
}

pub(super) fn what_is_too_large_is_refused(engine: &dyn Engine) {
    let mut key = Batch::new();
    key.put(&vec![0; MAX_KEY_BYTES + 1], b"");
    let mut value = Batch::new();
    value.put(b"k", &vec![0; MAX_VALUE_BYTES + 1]);
    let mut whole = Batch::new();
    for i in 0..=(MAX_BATCH_BYTES / MAX_VALUE_BYTES) {
        whole.put(&[i as u8], &vec![0; MAX_VALUE_BYTES]);
    }
    for (batch, expected) in [(key, "key"), (value, "value"), (whole, "batch")] {
        match engine.commit(&batch, Durability::Os) {
            Err(Error::TooLarge { what, .. }) => assert_eq!(what, expected),
            other => panic!("expected a {expected} to be too large, got {other:?}"),
        }
    }
    assert_eq!(keys(engine, KeyRange::all(), Ascending).len(), 0);
}
