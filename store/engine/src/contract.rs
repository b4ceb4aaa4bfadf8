//! What every engine must do, as one suite that each of them passes.
//!
//! For tests: it panics where an engine falls short. [`check`] is given a way to make an empty engine, [`check_files`] a
//! way to open one over files; nothing here knows which engine it is.

mod durability;
mod sizes;
mod snapshots;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

pub use self::durability::check_files;
use self::sizes::{
    empty_and_largest_keys_and_values_are_kept, long_keys_are_kept, the_largest_batch_is_written,
    values_of_every_size_are_kept, what_is_too_large_is_refused,
};
use self::snapshots::{
    snapshots_do_not_move, snapshots_hold_while_a_writer_goes_on, snapshots_of_many_states_live_together,
};
use crate::{Batch, Direction, Durability, Engine, Entry, Error, KeyRange, Read};

use Direction::{Ascending, Descending};

/// Runs the whole suite; `make` returns a new, empty engine each time.
///
/// # Panics
/// Where the engine breaks the contract, saying how.
pub fn check(make: impl Fn() -> Arc<dyn Engine>) {
    keys_are_ordered_as_bytes(&*make());
    ranges_include_their_start_and_not_their_end(&*make());
    visits_stop_when_told(&*make());
    visitors_may_use_the_engine(&*make());
    the_last_write_to_a_key_wins(&*make());
    batches_are_whole_or_absent(&*make());
    preconditions_judge_the_state_before_the_batch(&*make());
    snapshots_do_not_move(&*make());
    snapshots_of_many_states_live_together(&*make());
    snapshots_hold_while_a_writer_goes_on(&make());
    empty_and_largest_keys_and_values_are_kept(&*make());
    values_of_every_size_are_kept(&*make());
    long_keys_are_kept(&*make());
    the_largest_batch_is_written(&*make());
    what_is_too_large_is_refused(&*make());
    large_batches_are_written(&*make());
    counters_lose_no_increment(&make());
    readers_see_whole_batches(&make());
    for seed in 1..=6 {
        random_operations_agree_with_a_map(&*make(), seed);
    }
}

fn put(engine: &dyn Engine, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key, value);
    commit(engine, &batch);
}

fn commit(engine: &dyn Engine, batch: &Batch) {
    if let Err(error) = engine.commit(batch, Durability::Os) {
        panic!("a commit without cause to fail failed: {error}");
    }
}

fn get(reader: &(impl Read + ?Sized), key: &[u8]) -> Option<Vec<u8>> {
    match reader.get(key) {
        Ok(value) => value,
        Err(error) => panic!("reading `{}` failed: {error}", key.escape_ascii()),
    }
}

fn entries(reader: &(impl Read + ?Sized), range: KeyRange<'_>, direction: Direction) -> Vec<Entry> {
    match reader.collect(range, direction, usize::MAX) {
        Ok(entries) => entries,
        Err(error) => panic!("a range failed: {error}"),
    }
}

fn keys(reader: &(impl Read + ?Sized), range: KeyRange<'_>, direction: Direction) -> Vec<Vec<u8>> {
    entries(reader, range, direction).into_iter().map(|entry| entry.0).collect()
}

fn keys_are_ordered_as_bytes(engine: &dyn Engine) {
    let sorted: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"\x01", b"a", b"a\0", b"b", b"\xff\xff"];
    let mut batch = Batch::new();
    for key in sorted.iter().rev() {
        batch.put(key, key);
    }
    commit(engine, &batch);
    assert_eq!(keys(engine, KeyRange::all(), Ascending), sorted);
    let reversed: Vec<_> = sorted.into_iter().rev().collect();
    assert_eq!(keys(engine, KeyRange::all(), Descending), reversed);
}

fn ranges_include_their_start_and_not_their_end(engine: &dyn Engine) {
    for key in [b"a", b"b", b"c", b"d"] {
        put(engine, key, b"");
    }
    assert_eq!(keys(engine, KeyRange::new(b"b", b"d"), Ascending), [b"b", b"c"]);
    assert_eq!(keys(engine, KeyRange::new(b"b", b"d"), Descending), [b"c", b"b"]);
    assert_eq!(keys(engine, KeyRange::new(b"aa", b"cc"), Ascending), [b"b", b"c"]);
    assert_eq!(keys(engine, KeyRange::from(b"c"), Descending), [b"d", b"c"]);
    assert_eq!(keys(engine, KeyRange::prefix(b"b"), Ascending), [b"b"]);
    for empty in [KeyRange::new(b"b", b"b"), KeyRange::new(b"d", b"a"), KeyRange::prefix(b"x"), KeyRange::from(b"e")] {
        assert!(keys(engine, empty.clone(), Ascending).is_empty(), "{empty:?}");
        assert!(keys(engine, empty, Descending).is_empty());
    }
    put(engine, b"\xff\xff", b"");
    put(engine, b"\xff", b"");
    assert_eq!(keys(engine, KeyRange::prefix(b"\xff"), Ascending), [b"\xff".as_slice(), b"\xff\xff"]);
}

fn visits_stop_when_told(engine: &dyn Engine) {
    let mut batch = Batch::new();
    for i in 0..10_000_u32 {
        batch.put(&i.to_be_bytes(), &[7; 100]);
    }
    commit(engine, &batch);
    for (direction, first) in [(Ascending, 0_u32), (Descending, 9_999)] {
        for n in [1, 2, 39, 5_000] {
            let mut seen = Vec::new();
            let visited = engine.range(KeyRange::all(), direction, &mut |key, _| {
                seen.push(key.to_vec());
                if seen.len() < n { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            assert!(visited.is_ok());
            assert_eq!((seen.len(), seen[0].as_slice()), (n, first.to_be_bytes().as_slice()));
        }
    }
    assert_eq!(get(engine, &5_u32.to_be_bytes()), Some(vec![7; 100]), "a stopped visit must leave the engine usable");
}

fn visitors_may_use_the_engine(engine: &dyn Engine) {
    let mut batch = Batch::new();
    for i in 0..2_000_u32 {
        batch.put(&i.to_be_bytes(), &[1; 50]);
    }
    commit(engine, &batch);
    let mut n_seen = 0;
    let visited = engine.range(KeyRange::all(), Ascending, &mut |key, value| {
        if n_seen % 100 == 0 {
            assert_eq!(get(engine, key).as_deref(), Some(value));
            assert_eq!(keys(engine, KeyRange::new(key, b"\xff"), Ascending)[0], key);
            // Written ahead of the visit, which must not meet it: a range sees one state.
            put(engine, &[key, b"+"].concat(), b"");
        }
        n_seen += 1;
        ControlFlow::Continue(())
    });
    assert!(visited.is_ok());
    assert_eq!(n_seen, 2_000);
    assert_eq!(keys(engine, KeyRange::all(), Ascending).len(), 2_020);
}

fn the_last_write_to_a_key_wins(engine: &dyn Engine) {
    let mut batch = Batch::new();
    batch.put(b"a", b"1");
    batch.put(b"a", b"2");
    batch.put(b"b", b"1");
    batch.delete(b"b");
    batch.delete(b"c");
    batch.put(b"c", b"3");
    batch.delete(b"absent");
    commit(engine, &batch);
    assert_eq!(get(engine, b"a").as_deref(), Some(b"2".as_slice()));
    assert_eq!(get(engine, b"b"), None);
    assert_eq!(get(engine, b"c").as_deref(), Some(b"3".as_slice()));
    commit(engine, &Batch::new());
    assert_eq!(keys(engine, KeyRange::all(), Ascending), [b"a", b"c"]);
}

fn batches_are_whole_or_absent(engine: &dyn Engine) {
    put(engine, b"taken", b"1");
    let mut batch = Batch::new();
    batch.put(b"a", b"");
    batch.delete(b"taken");
    batch.require_absent(b"taken");
    expect_conflict(engine, &batch, b"taken");
    assert_eq!(keys(engine, KeyRange::all(), Ascending), [b"taken"]);
}

fn expect_conflict(engine: &dyn Engine, batch: &Batch, expected: &[u8]) {
    match engine.commit(batch, Durability::Sync) {
        Err(Error::Conflict { key }) => assert_eq!(key, expected, "the conflict must name the key"),
        other => panic!("expected a conflict on `{}`, got {other:?}", expected.escape_ascii()),
    }
}

fn preconditions_judge_the_state_before_the_batch(engine: &dyn Engine) {
    let mut create = Batch::new();
    create.put(b"k", b"1");
    create.require_absent(b"k");
    commit(engine, &create);
    expect_conflict(engine, &create, b"k");

    let mut swap = Batch::new();
    swap.require_equals(b"k", b"1");
    swap.put(b"k", b"2");
    swap.require_equals(b"k", b"1");
    commit(engine, &swap);
    expect_conflict(engine, &swap, b"k");

    let mut absent = Batch::new();
    absent.require_equals(b"missing", b"");
    expect_conflict(engine, &absent, b"missing");
    put(engine, b"empty", b"");
    let mut present = Batch::new();
    present.require_absent(b"empty");
    expect_conflict(engine, &present, b"empty");

    let mut merged = Batch::new();
    merged.put(b"new", b"1");
    let mut second = Batch::new();
    second.require_absent(b"new");
    second.put(b"new", b"2");
    merged.append(second);
    commit(engine, &merged);
    assert_eq!(get(engine, b"new").as_deref(), Some(b"2".as_slice()));

    let mut only_asks = Batch::new();
    only_asks.require_equals(b"k", b"2");
    commit(engine, &only_asks);
}

/// Unsorted, sorted, overlapping and interleaved: every path by which many keys may be written.
fn large_batches_are_written(engine: &dyn Engine) {
    let mut model = BTreeMap::new();
    for (round, n) in [(1_u64, 3_000_u64), (2, 5_000), (3, 5_000), (4, 3_000)] {
        let mut batch = Batch::new();
        for i in 0..n {
            let i = if round % 2 == 1 { i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (4 * n) } else { i * round };
            let key = i.to_be_bytes().to_vec();
            let value = [round.to_be_bytes(), i.to_be_bytes()].concat();
            if i % 17 == round {
                batch.delete(&key);
                model.remove(&key);
            } else {
                batch.put(&key, &value);
                model.insert(key, value);
            }
        }
        commit(engine, &batch);
        assert!(entries(engine, KeyRange::all(), Ascending).into_iter().eq(model.clone()), "round {round}");
    }
}

fn counters_lose_no_increment(engine: &Arc<dyn Engine>) {
    const N_THREADS: u32 = 8;
    const N_EACH: u32 = 20;
    let number = |value: Option<&[u8]>| value.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    thread::scope(|scope| {
        for thread in 0..N_THREADS {
            scope.spawn(move || {
                for i in 0..N_EACH {
                    loop {
                        let old = get(&**engine, b"n");
                        let mut batch = Batch::new();
                        match &old {
                            Some(old) => batch.require_equals(b"n", old),
                            None => batch.require_absent(b"n"),
                        }
                        batch.put(b"n", &(number(old.as_deref()) + 1).to_be_bytes());
                        batch.put(&[b'x', thread as u8, i as u8], b"");
                        match engine.commit(&batch, Durability::Os) {
                            Ok(()) => break,
                            Err(Error::Conflict { key }) => assert_eq!(key, b"n"),
                            Err(error) => panic!("an increment failed: {error}"),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(number(get(&**engine, b"n").as_deref()), N_THREADS * N_EACH);
    assert_eq!(keys(&**engine, KeyRange::prefix(b"x"), Ascending).len(), (N_THREADS * N_EACH) as usize);
}

fn readers_see_whole_batches(engine: &Arc<dyn Engine>) {
    const N_READERS: usize = 2;
    const N_VISITS: usize = 20;
    let n_left = AtomicUsize::new(N_READERS);
    thread::scope(|scope| {
        for _ in 0..N_READERS {
            scope.spawn(|| {
                let _leaving = Leaving(&n_left);
                for _ in 0..N_VISITS {
                    let seen = entries(&**engine, KeyRange::all(), Ascending);
                    assert!(seen.is_empty() || seen.len() == 50, "a batch was seen in part");
                    assert!(seen.iter().all(|entry| entry.1 == seen[0].1), "two batches were seen mixed");
                }
            });
        }
        let mut round = 0_u8;
        while n_left.load(Ordering::Relaxed) > 0 {
            round = round.wrapping_add(1);
            let mut batch = Batch::new();
            for i in 0..50_u8 {
                batch.put(&[i], &[round; 200]);
            }
            commit(&**engine, &batch);
        }
    });
}

/// Counts a reader out, by panic too, so that the writer ends.
struct Leaving<'a>(&'a AtomicUsize);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Many batches of random operations, some with preconditions that hold and some with ones that do not, beside a map.
fn random_operations_agree_with_a_map(engine: &dyn Engine, seed: u64) {
    let mut random = Random(seed);
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for _ in 0..60 {
        let mut batch = Batch::new();
        let mut after = model.clone();
        let mut first_unmet = None;
        for _ in 0..random.below(60) {
            let key = random.key();
            match random.below(12) {
                0 => {
                    batch.require_absent(&key);
                    if model.contains_key(&key) {
                        first_unmet.get_or_insert(key);
                    }
                }
                1 => {
                    let expected = if random.below(20) == 0 { Some(vec![1]) } else { model.get(&key).cloned() };
                    let Some(expected) = expected else { continue };
                    batch.require_equals(&key, &expected);
                    if model.get(&key) != Some(&expected) {
                        first_unmet.get_or_insert(key);
                    }
                }
                2..5 => {
                    batch.delete(&key);
                    after.remove(&key);
                }
                _ => {
                    let n_bytes = if random.below(10) == 0 { random.below(9_000) } else { random.below(30) };
                    let value: Vec<u8> = (0..n_bytes).map(|_| random.below(256) as u8).collect();
                    batch.put(&key, &value);
                    after.insert(key, value);
                }
            }
        }
        if let Some(key) = first_unmet {
            expect_conflict(engine, &batch, &key);
        } else {
            let durability = if random.below(2) == 0 { Durability::Os } else { Durability::Sync };
            if let Err(error) = engine.commit(&batch, durability) {
                panic!("a commit without cause to fail failed: {error}");
            }
            model = after;
        }
        let (start, end) = (random.key(), random.key());
        compare(engine, &model, &KeyRange::new(&start, &end));
        compare(engine, &model, &KeyRange::prefix(&start));
        assert_eq!(get(engine, &end), model.get(&end).cloned());
    }
    compare(engine, &model, &KeyRange::all());
}

fn compare(engine: &dyn Engine, model: &BTreeMap<Vec<u8>, Vec<u8>>, range: &KeyRange<'_>) {
    let mut expected: Vec<Entry> =
        model.iter().filter(|entry| range.contains(entry.0)).map(|(key, value)| (key.clone(), value.clone())).collect();
    assert!(entries(engine, range.clone(), Ascending) == expected, "ascending, {range:?}");
    expected.reverse();
    assert!(entries(engine, range.clone(), Descending) == expected, "descending, {range:?}");
}

/// `SplitMix64`: the same operations on every machine. Source: Steele, Lea and Flood 2014.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Few and short, so that operations meet.
    fn key(&mut self) -> Vec<u8> {
        let n_bytes = self.below(4);
        (0..n_bytes).map(|_| [0, b'a', b'b', 0xfe, 0xff][self.below(5) as usize]).collect()
    }
}
