//! A series is a set of points, whatever the order, the batches and the repeats it came in.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;

use std::collections::BTreeSet;

use proptest::prelude::*;
use scene::Scene;
use tracker_store::{Durability, Error, Point, Recording, RunId, Store};

fn log(store: &Store, run: RunId, key: &str, points: &[Point]) {
    let mut recording = Recording::new();
    recording.put_points(run, key, points).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
}

fn history(store: &Store, run: RunId, key: &str) -> Vec<Point> {
    store.history(run, key, None).unwrap().map(Result::unwrap).collect()
}

fn points() -> impl Strategy<Value = Point> {
    let value = prop_oneof![
        any::<f64>(),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(0.0),
        Just(-0.0),
        (0..4_i32).prop_map(f64::from)
    ];
    (prop_oneof![-3..3_i64, any::<i64>()], 0..3_i64, value)
        .prop_map(|(step, time, value)| Point::new(step, time, value))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_series_is_the_set_of_its_points(
        batches in proptest::collection::vec(
            (0..3000_i64, 1..1500_i64, 1..4_i64, proptest::collection::vec(points(), 0..20)),
            1..8,
        ),
    ) {
        let scene = Scene::new();
        let mut model = BTreeSet::new();
        for (start, n_points, stride, odd) in batches {
            let mut batch: Vec<Point> =
                (0..n_points).map(|nth| Point::new(start + nth * stride, nth, nth as f64 / 7.0)).collect();
            batch.extend(odd);
            model.extend(batch.iter().copied());
            log(&scene.store, scene.run, "x", &batch);
        }
        let model: Vec<Point> = model.into_iter().collect();
        prop_assert_eq!(&history(&scene.store, scene.run, "x"), &model);
        let series = scene.store.series(scene.run, "x").unwrap().unwrap();
        prop_assert_eq!(series.latest, *model.last().unwrap());
        let after = model[model.len() / 2];
        let rest: Vec<Point> = scene.store.history(scene.run, "x", Some(after)).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(&rest, &model[model.len() / 2 + 1..]);
    }
}

#[test]
fn a_resent_batch_changes_nothing() {
    let scene = Scene::new();
    let batch: Vec<Point> = (0..700).map(|step| Point::new(step, 10 * step, 1.0 / (step + 1) as f64)).collect();
    for _ in 0..5 {
        log(&scene.store, scene.run, "loss", &batch);
    }
    assert_eq!(history(&scene.store, scene.run, "loss"), batch);
}

#[test]
fn points_one_by_one_are_sealed_as_they_come() {
    let scene = Scene::new();
    let all: Vec<Point> = (0..3000).map(|step| Point::new(step, 1000 * step, f64::from(step as i32).sin())).collect();
    for point in &all {
        log(&scene.store, scene.run, "wave", &[*point]);
    }
    assert_eq!(history(&scene.store, scene.run, "wave"), all);
}

#[test]
fn nan_and_infinities_are_kept_and_the_latest_is_the_greatest() {
    let scene = Scene::new();
    let odd = [Point::new(2, 0, f64::NAN), Point::new(1, 9, f64::NEG_INFINITY), Point::new(2, 0, 1.0)];
    log(&scene.store, scene.run, "odd", &odd);
    assert_eq!(history(&scene.store, scene.run, "odd"), [odd[1], odd[2], odd[0]]);
    let series = scene.store.series(scene.run, "odd").unwrap().unwrap();
    assert!(series.latest.value.is_nan());
    assert_eq!((series.min, series.max), (Some(f64::NEG_INFINITY), Some(1.0)));
    assert_eq!(scene.store.all_series(scene.run).unwrap().len(), 1);
    assert_eq!(scene.store.series(scene.run, "none").unwrap(), None);
}

#[test]
fn a_plot_of_any_length_has_the_right_extremes_counts_and_mean() {
    let scene = Scene::new();
    let n_points = 200_000_i64;
    let value = |step: i64| if step == 123_456 { -5.0 } else { (step % 10) as f64 };
    for start in (0..n_points).step_by(20_000) {
        let batch: Vec<Point> = (start..start + 20_000).map(|step| Point::new(step, step, value(step))).collect();
        log(&scene.store, scene.run, "long", &batch);
    }
    let plot = scene.store.plot(scene.run, "long", 100).unwrap();
    assert!((50..=100).contains(&plot.len()), "{}", plot.len());
    assert_eq!(plot.iter().map(|bucket| bucket.n_points).sum::<u64>(), n_points as u64);
    assert!(plot.is_sorted_by_key(|bucket| bucket.first_step));
    let mean = plot.iter().map(|bucket| bucket.mean.unwrap() * bucket.n_points as f64).sum::<f64>() / n_points as f64;
    assert!((mean - 4.5).abs() < 0.01, "{mean}");
    let outlier = plot.iter().find(|bucket| bucket.min == Some(-5.0)).unwrap();
    assert!(outlier.first_step <= 123_456 && outlier.last_step >= 123_456);
}

#[test]
fn a_plot_of_few_points_is_exact_and_of_none_is_empty() {
    let scene = Scene::new();
    let wide = [Point::new(i64::MIN, 0, 1.0), Point::new(0, 0, 2.0), Point::new(i64::MAX, 0, f64::NAN)];
    log(&scene.store, scene.run, "wide", &wide);
    let plot = scene.store.plot(scene.run, "wide", 3).unwrap();
    let means: Vec<Option<f64>> = plot.iter().map(|bucket| bucket.mean).collect();
    assert_eq!(means, [Some(1.0), Some(2.0), None]);
    assert!(scene.store.plot(scene.run, "none", 3).unwrap().is_empty());
    assert!(scene.store.plot(scene.run, "wide", 0).unwrap().is_empty());
}

#[test]
fn series_of_one_run_and_of_like_names_are_apart() {
    let scene = Scene::new();
    let other = scene.store.create_run(&scene::new_run("other")).unwrap().id;
    log(&scene.store, scene.run, "loss", &[Point::new(0, 0, 1.0)]);
    log(&scene.store, scene.run, "loss/train", &[Point::new(0, 0, 2.0)]);
    log(&scene.store, other, "loss", &[Point::new(0, 0, 3.0)]);
    assert_eq!(history(&scene.store, scene.run, "loss"), [Point::new(0, 0, 1.0)]);
    assert_eq!(history(&scene.store, other, "loss"), [Point::new(0, 0, 3.0)]);
    let missing = RunId::from_bytes([0; 16]);
    let mut recording = Recording::new();
    recording.put_points(missing, "loss", &[Point::new(0, 0, 1.0)]).unwrap();
    assert!(matches!(scene.store.commit(&recording, Durability::Os), Err(Error::NotFound { what: "run", .. })));
}

#[test]
fn writers_of_one_series_do_not_lose_each_others_points() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::over(Store::create(&dir.path().join("s")).unwrap());
    std::thread::scope(|scope| {
        for writer in 0..4_i64 {
            let store = scene.store.clone();
            scope.spawn(move || {
                for nth in 0..40 {
                    let batch: Vec<Point> = (0..20).map(|i| Point::new(nth * 20 + i, writer, i as f64)).collect();
                    log(&store, scene.run, "shared", &batch);
                }
            });
        }
    });
    assert_eq!(history(&scene.store, scene.run, "shared").len(), 4 * 40 * 20);
}

#[test]
fn clock_times_and_machine_series_stay_out_of_the_record_digest() {
    let store = Store::memory().unwrap();
    let digest = |offset: i64, system: f64, loss: f64| {
        let run = store.create_run(&scene::new_run("x")).unwrap().id;
        log(&store, run, "loss", &[Point::new(1, offset, loss), Point::new(2, offset + 1, 0.5)]);
        log(&store, run, "loss", &[Point::new(1, offset + 7, loss)]);
        log(&store, run, "system/rss", &[Point::new(1, offset, system)]);
        store.record_digest(run).unwrap()
    };
    assert_eq!(digest(0, 1.0, 0.9), digest(5000, 2.0, 0.9));
    assert_ne!(digest(0, 1.0, 0.9), digest(0, 1.0, 0.8));
}
