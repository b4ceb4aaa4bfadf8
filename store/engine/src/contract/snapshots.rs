//! What a snapshot must show while others write.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Leaving, commit, entries, get, keys, put};
use crate::Direction::{Ascending, Descending};
use crate::{Batch, Engine, KeyRange, Read};

pub(super) fn snapshot(engine: &dyn Engine) -> Arc<dyn Read> {
    match engine.snapshot() {
        Ok(snapshot) => snapshot,
        Err(error) => panic!("taking a snapshot failed: {error}"),
    }
}

pub(super) fn snapshots_do_not_move(engine: &dyn Engine) {
    let empty = snapshot(engine);
    put(engine, b"a", b"1");
    let one = snapshot(engine);
    put(engine, b"a", b"2");
    put(engine, b"b", b"1");
    assert_eq!(entries(&*empty, KeyRange::all(), Ascending), []);
    assert_eq!(get(&*one, b"a").as_deref(), Some(b"1".as_slice()));
    assert_eq!(get(&*one, b"b"), None);
    assert_eq!(keys(&*one, KeyRange::all(), Descending), [b"a"]);
    drop(empty);
    assert_eq!(get(&*one, b"a").as_deref(), Some(b"1".as_slice()), "a snapshot ends with its own handle only");
    assert_eq!(keys(engine, KeyRange::all(), Ascending), [b"a", b"b"]);
    let mut n_seen = 0;
    let visited = one.range(KeyRange::all(), Ascending, &mut |key, value| {
        assert_eq!(get(&*one, key).as_deref(), Some(value));
        n_seen += 1;
        ControlFlow::Continue(())
    });
    assert!(visited.is_ok() && n_seen == 1);
}

/// Snapshots of every state of a store that grows, shrinks and changes, all alive at once.
pub(super) fn snapshots_of_many_states_live_together(engine: &dyn Engine) {
    let mut states = Vec::new();
    for round in 0..24_u32 {
        let mut batch = Batch::new();
        for i in 0..300_u32 {
            match (i + round) % 5 {
                0 => batch.delete(&i.to_be_bytes()),
                1 | 2 => batch.put(&i.to_be_bytes(), &round.to_be_bytes()),
                _ => {}
            }
        }
        let n_bytes = 50_000 + 1_000 * round as usize;
        batch.put(b"large", &vec![round as u8; n_bytes]);
        commit(engine, &batch);
        states.push((snapshot(engine), entries(engine, KeyRange::all(), Ascending)));
    }
    // Those in the middle go first.
    while !states.is_empty() {
        for (snapshot, expected) in &states {
            assert!(entries(&**snapshot, KeyRange::all(), Ascending) == *expected, "a snapshot moved");
            let backward = entries(&**snapshot, KeyRange::all(), Descending);
            assert!(backward.iter().rev().eq(expected), "a snapshot is not the same backward");
            let (start, end) = (50_u32.to_be_bytes(), 250_u32.to_be_bytes());
            let part = entries(&**snapshot, KeyRange::new(&start, &end), Ascending);
            let range = KeyRange::new(&start, &end);
            assert!(part.iter().eq(expected.iter().filter(|entry| range.contains(&entry.0))));
            for i in [0_u32, 77, 149, 299] {
                let expected = expected.iter().find(|entry| entry.0 == i.to_be_bytes()).map(|entry| entry.1.clone());
                assert_eq!(get(&**snapshot, &i.to_be_bytes()), expected);
            }
        }
        states.swap_remove(states.len() / 2);
        states.truncate(states.len().saturating_sub(3));
    }
}

/// Readers hold snapshots while a writer changes everything, large values too.
pub(super) fn snapshots_hold_while_a_writer_goes_on(engine: &Arc<dyn Engine>) {
    const N_READERS: usize = 2;
    const N_SNAPSHOTS: usize = 12;
    let n_left = AtomicUsize::new(N_READERS);
    let write = |round: u8| {
        let mut batch = Batch::new();
        for i in 0..40_u8 {
            // Present in turn, so that the keys change as well.
            if i % 4 == round % 4 { batch.delete(&[i]) } else { batch.put(&[i], &[round; 100]) }
        }
        batch.put(b"large", &vec![round; 70_000 + 100 * usize::from(round)]);
        commit(&**engine, &batch);
    };
    write(0);
    thread::scope(|scope| {
        for _ in 0..N_READERS {
            scope.spawn(|| {
                let _leaving = Leaving(&n_left);
                for _ in 0..N_SNAPSHOTS {
                    let held = snapshot(&**engine);
                    let first = entries(&*held, KeyRange::all(), Ascending);
                    let round = first[0].1[0];
                    assert_eq!(first.len(), 31, "a batch was seen in part");
                    assert!(first.iter().all(|entry| entry.1.iter().all(|&byte| byte == round)), "two batches mixed");
                    for (key, value) in &first {
                        assert!(get(&*held, key).as_ref() == Some(value), "a get differs from the range");
                    }
                    let backward = entries(&*held, KeyRange::all(), Descending);
                    assert!(backward.iter().rev().eq(&first), "the snapshot moved");
                }
            });
        }
        let mut round = 0_u8;
        while n_left.load(Ordering::Relaxed) > 0 {
            round = round.wrapping_add(1);
            write(round);
        }
    });
}
