//! Predictions and fits at the size of the paper: `cargo bench -p tracker-lab --bench robustness`. Bars: 5 s CPU for 1 M prediction rows read, 2 s
//! for probit fits of 43 models with 10,000 resamples of images and models. `robustness.py` does the same with pandas and `NumPy`.
#![allow(clippy::print_stdout, reason = "figures go to the terminal")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod clock;

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tracker_lab::parts::bootstrap::Resampler;
use tracker_lab::parts::predictions::{Collector, Predictions};
use tracker_lab::parts::robustness::{Comparison, Grid, Group, Scale};
use tracker_lab::parts::rows::{Options, Reader};

use clock::once;

const N_CLASSES: usize = 45;
const N_MODELS: usize = 43;
/// Images of the common and the counter group.
const N_IMAGES: [usize; 2] = [7_174, 5_926];
const N_ROWS: usize = 1_000_000;

/// Rows of models one after the other, as CSV and as JSON lines; a million.
fn write(dir: &Path) -> [PathBuf; 2] {
    let mut stream = ChaCha8Rng::seed_from_u64(1);
    let (mut csv, mut lines) = ("image,class,group,model,prompts,prediction\n".to_owned(), String::new());
    let n_images = N_ROWS / N_MODELS;
    for row in 0..n_images * N_MODELS {
        let (model, image) = (row / n_images, row % n_images);
        let class = image % N_CLASSES;
        let group = if (image / N_CLASSES).is_multiple_of(2) { "common" } else { "counter" };
        let said = if stream.random_bool(0.7) { class } else { stream.random_range(0..1000) };
        writeln!(csv, "image {image},class {class},{group},model {model},single,class {said}").unwrap();
        writeln!(
            lines,
            r#"{{"image":"image {image}","class":"class {class}","group":"{group}","model":"model {model}","prompts":"single","prediction":"class {said}"}}"#
        )
        .unwrap();
    }
    let paths = [dir.join("predictions.csv"), dir.join("predictions.jsonl")];
    std::fs::write(&paths[0], csv).unwrap();
    std::fs::write(&paths[1], lines).unwrap();
    paths
}

fn read(path: &Path) -> Predictions {
    let collector = Collector::new(&[], 5).unwrap();
    Reader::open(&collector, &[path.to_owned()], Options::new("", false)).unwrap().collect_all().unwrap();
    collector.finish().unwrap()
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let paths = std::env::args().nth(1).filter(|arg| !arg.starts_with('-')).map_or_else(
        || write(dir.path()),
        |kept| {
            // For the Python beside it, which reads the same files.
            std::fs::create_dir_all(&kept).unwrap();
            write(Path::new(&kept))
        },
    );
    for path in &paths {
        let name = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        let found = once(&format!("1,000,000 prediction rows of {name}"), || read(path));
        assert_eq!(found.sets.len(), N_MODELS);
        let text = once("  kept as a file of the run", || found.to_csv().unwrap());
        println!("  ({} bytes)", text.len());
    }
    fits();
}

fn fits() {
    let mut stream = ChaCha8Rng::seed_from_u64(2);
    let images: Vec<(u32, Group)> = Group::BOTH
        .into_iter()
        .zip(N_IMAGES)
        .flat_map(|(group, n)| (0..n).map(move |at| ((at % N_CLASSES) as u32, group)))
        .collect();
    let model = |nth: usize, stream: &mut ChaCha8Rng| {
        let p = 0.6 + 0.3 * nth as f64 / N_MODELS as f64;
        let right = |(_, group): &(u32, Group)| stream.random_bool(if *group == Group::Common { p } else { p - 0.15 });
        images.iter().map(right).collect::<Vec<bool>>()
    };
    let models: Vec<Vec<bool>> = (0..N_MODELS).map(|nth| model(nth, &mut stream)).collect();
    let grid = once("43 models on 13,100 images laid out", || Grid::new(&images, &models).unwrap());
    let accuracies = grid.balanced();
    let comparison = Comparison {
        scale: Scale::Probit,
        least: grid.least(),
        reference: (0..15).collect(),
        against: (15..N_MODELS).collect(),
        draws_models: true,
    };
    let resampler = Resampler::new([3; 32], 10_000).unwrap();
    once("probit fits, 10,000 resamples of 43 models", || {
        black_box(comparison.compare(&accuracies, &resampler, |_| accuracies.clone()).unwrap())
    });
    once("the same of 13,100 images and 43 models", || {
        black_box(comparison.compare(&accuracies, &resampler, |stream| grid.resampled(stream)).unwrap())
    });
}
