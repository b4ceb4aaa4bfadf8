//! Merges of small random checkpoints against oracles written from the formulas, in f64.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tracker_merge::{Error, Merge, Merged, Recipe};

/// Layers of the checkpoints.
const N_LAYERS: usize = 4;

fn names() -> Vec<String> {
    let layers = (0..N_LAYERS).flat_map(|l| {
        [format!("model.layers.{l}.mlp.up_proj.weight"), format!("model.layers.{l}.self_attn.q_proj.weight")]
    });
    ["model.embed_tokens.weight".to_owned()].into_iter().chain(layers).chain(["lm_head.weight".to_owned()]).collect()
}

/// A number of a stream, in [-1, 1).
fn noise(seed: u64, i: u64) -> f32 {
    let hash = mixed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ i);
    (hash >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn mixed(mut x: u64) -> u64 {
    for _ in 0..3 {
        x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    x ^ (x >> 29)
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a bf16 checkpoint `name`; tensor t has elements `value(t, i)`.
    fn model(&self, name: &str, value: impl Fn(usize, u64) -> f32) {
        let dir = self.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let shape = vec![30, 37];
        let tensors: Vec<(String, Vec<u8>)> = names()
            .into_iter()
            .enumerate()
            .map(|(t, name)| {
                let bytes = (0..30 * 37).flat_map(|i| half(value(t, i)).to_le_bytes()).collect();
                (name, bytes)
            })
            .collect();
        let views = tensors
            .iter()
            .map(|(name, bytes)| (name.clone(), TensorView::new(Dtype::BF16, shape.clone(), bytes).unwrap()));
        serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
        std::fs::write(dir.join("config.json"), format!("{{\"num_hidden_layers\": {N_LAYERS}}}")).unwrap();
        std::fs::write(dir.join("tokenizer.json"), "{}").unwrap();
    }

    fn plan(&self, recipe: &str) -> Result<Merge, Error> {
        Merge::plan(Recipe::parse("r.yml", recipe)?, recipe, self.path())
    }

    fn merge(&self, recipe: &str, out: &str) -> (Merged, BTreeMap<String, Vec<f32>>) {
        let dir = self.path().join(out);
        let merged = self.plan(recipe).unwrap().run(&dir, 2, &|_, _| {}).unwrap();
        (merged, read(&dir))
    }
}

/// Three models near a base.
fn family() -> Folder {
    let folder = Folder::new();
    let base = |t: usize, i: u64| 0.05 * noise(t as u64, i);
    folder.model("base", base);
    for (m, name) in ["a", "b", "c"].into_iter().enumerate() {
        folder.model(name, |t, i| base(t, i) + 0.01 * noise(1000 + 100 * m as u64 + t as u64, i));
    }
    folder
}

fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

fn read(dir: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |data: &[u8]| {
        data.chunks_exact(2).map(|b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16)).collect()
    };
    tensors.iter().map(|(name, view)| (name.to_owned(), numbers(view.data()))).collect()
}

/// Whether every element is within one unit in the last place of bf16 of what `want` says.
fn within_one_ulp(folder: &Folder, got: &BTreeMap<String, Vec<f32>>, want: impl Fn(&str, [&[f32]; 4]) -> Vec<f64>) {
    let [base, a, b, c] = ["base", "a", "b", "c"].map(|name| read(&folder.path().join(name)));
    for (name, got) in got {
        let want = want(name, [&base[name], &a[name], &b[name], &c[name]]);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let ulp =
                f64::from(f32::from_bits(((*want as f32).abs().to_bits() & 0x7f80_0000).max(0x0100_0000))) / 128.0;
            assert!((f64::from(*got) - want).abs() <= ulp, "{name}[{i}]: {got} and {want}");
        }
    }
}

#[test]
fn linear_has_the_bits_of_its_definition_on_any_number_of_threads() {
    let folder = family();
    let recipe = "
merge_method: linear
models:
  - {model: a, parameters: {weight: 0.3}}
  - {model: b, parameters: {weight: [0, 0.5, 1.5]}}
";
    let (_, got) = folder.merge(recipe, "out");
    let (a, b) = (read(&folder.path().join("a")), read(&folder.path().join("b")));
    for (name, got) in &got {
        let layer = name.split('.').find_map(|part| part.parse::<usize>().ok());
        let t = layer.map_or(0.0, |layer| layer as f64 / (N_LAYERS - 1) as f64);
        let weight = if t <= 0.5 { t } else { 0.5 + 2.0 * (t - 0.5) } as f32;
        for (i, got) in got.iter().enumerate() {
            let sum = b[name][i].mul_add(weight, a[name][i].mul_add(0.3_f32, 0.0));
            assert_eq!(half(*got), half(sum / (0.3_f32 + weight)), "{name}[{i}]");
        }
    }
    let one = folder.path().join("one");
    folder.plan(recipe).unwrap().run(&one, 1, &|_, _| {}).unwrap();
    let bytes = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
    assert_eq!(bytes(&one), bytes(&folder.path().join("out")));
    assert!(folder.path().join("out/tokenizer.json").is_file() && !folder.path().join("out.part").exists());
}

#[test]
fn blocks_weigh_ranges_of_layers_and_say_what_becomes_of_the_rest() {
    let folder = family();
    let recipe = "
merge_method: linear
models: [{model: a}, {model: b}]
blocks:
  - {layers: [0, 1], weights: {a: 0.9, b: 0.1}}
  - {layers: [1, 4], weights: {a: 0.25, b: 0.75}}
rest: {a: 1}
";
    let (_, got) = folder.merge(recipe, "out");
    within_one_ulp(&folder, &got, |name, [_, a, b, _]| {
        let weight = match name.split('.').find_map(|part| part.parse::<usize>().ok()) {
            None => 1.0,
            Some(0) => 0.9,
            Some(_) => 0.25,
        };
        a.iter().zip(b).map(|(a, b)| weight * f64::from(*a) + (1.0 - weight) * f64::from(*b)).collect()
    });
    for (blocks, part) in [
        ("[{layers: [0, 1], weights: {a: 1}}, {layers: [2, 4], weights: {a: 1}}]", "begins at layer 1"),
        ("[{layers: [0, 3], weights: {a: 1}}]", "all 4 layers"),
        ("[{layers: [0, 4], weights: {z: 1}}]", "`z`"),
    ] {
        let recipe =
            format!("merge_method: linear\nmodels: [{{model: a}}, {{model: b}}]\nrest: {{a: 1}}\nblocks: {blocks}\n");
        let problems = folder.plan(&recipe).unwrap().summary().problems;
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
    }
}

#[test]
fn slerp_is_the_arc_on_tensors_as_they_are() {
    let folder = family();
    // Far enough apart that the arc is no line.
    folder.model("far", |t, i| 0.05 * noise(t as u64 + 77, i));
    let (_, got) =
        folder.merge("merge_method: slerp\nbase_model: base\nmodels: [{model: far}]\nparameters: {t: 0.3}\n", "out");
    let far = read(&folder.path().join("far"));
    within_one_ulp(&folder, &got, |name, [base, ..]| {
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let far = &far[name];
        let angle = (dot(base, far) / (dot(base, base) * dot(far, far)).sqrt()).acos();
        let (u, v) = ((0.7 * angle).sin() / angle.sin(), (0.3 * angle).sin() / angle.sin());
        base.iter().zip(far).map(|(x, y)| u * f64::from(*x) + v * f64::from(*y)).collect()
    });
    let (_, got) =
        folder.merge("merge_method: slerp\nbase_model: base\nmodels: [{model: a}]\nparameters: {t: 0}\n", "zero");
    assert_eq!(got, read(&folder.path().join("base")));
}

/// What a model's difference keeps: the places from `first` to `last` in the order of falling magnitude, equal ones by place.
fn trimmed(base: &[f32], x: &[f32], first: usize, last: usize) -> Vec<f64> {
    let delta: Vec<f32> = x.iter().zip(base).map(|(x, base)| x - base).collect();
    let mut order: Vec<usize> = (0..delta.len()).collect();
    order.sort_by(|i, j| delta[*j].abs().total_cmp(&delta[*i].abs()));
    let mut kept = vec![0.0; delta.len()];
    for i in &order[first..last] {
        kept[*i] = f64::from(delta[*i]);
    }
    kept
}

#[test]
fn ties_keeps_the_largest_elects_signs_and_divides_by_those_who_agree() {
    let folder = family();
    let recipe = "
merge_method: ties
base_model: base
models:
  - {model: a, parameters: {weight: 1.0, density: 0.5}}
  - {model: b, parameters: {weight: 0.5, density: 0.3}}
  - {model: c, parameters: {weight: 0.7, density: 0.8}}
parameters: {lambda: 0.9}
";
    let (_, got) = folder.merge(recipe, "out");
    within_one_ulp(&folder, &got, |_, [base, a, b, c]| {
        let n = base.len() as f64;
        let models = [(a, 1.0, 0.5), (b, 0.5, 0.3), (c, 0.7, 0.8)];
        let deltas = models.map(|(x, weight, density)| (trimmed(base, x, 0, (density * n) as usize), weight));
        (0..base.len())
            .map(|i| {
                let all: f64 = deltas.iter().map(|(delta, weight)| delta[i] * weight).sum();
                let agree = || deltas.iter().filter(|(delta, _)| delta[i] != 0.0 && (delta[i] > 0.0) == (all >= 0.0));
                let divisor: f64 = agree().map(|(_, weight)| weight).sum();
                let mixed: f64 = agree().map(|(delta, weight)| delta[i] * weight).sum();
                f64::from(base[i]) + 0.9 * if divisor == 0.0 { mixed } else { mixed / divisor }
            })
            .collect()
    });
}

#[test]
fn breadcrumbs_drops_outliers_and_the_smallest() {
    let folder = family();
    let recipe = "
merge_method: breadcrumbs
base_model: base
models: [{model: a, parameters: {weight: 1.0, density: 0.6, gamma: 0.05}}, {model: b, parameters: {weight: -0.5, density: 0.9, gamma: 0.0}}]
";
    let (_, got) = folder.merge(recipe, "out");
    within_one_ulp(&folder, &got, |_, [base, a, b, _]| {
        let n = base.len() as f64;
        let first = (0.05 * n) as usize;
        let a = trimmed(base, a, first, first + (0.6 * n) as usize);
        let b = trimmed(base, b, 0, (0.9 * n) as usize);
        (0..base.len()).map(|i| f64::from(base[i]) + a[i] - 0.5 * b[i]).collect()
    });
}

#[test]
fn dare_masks_by_seed_and_keeps_the_l1_norm() {
    let folder = family();
    let recipe = |seed: u64| {
        format!(
            "merge_method: dare_linear\nbase_model: base\nseed: {seed}\nmodels: [{{model: a, parameters: {{weight: 1.0, density: 0.4}}}}]\n"
        )
    };
    let (_, got) = folder.merge(&recipe(1), "one");
    let (base, a) = (read(&folder.path().join("base")), read(&folder.path().join("a")));
    for (name, got) in &got {
        let delta = |x: &[f32]| x.iter().zip(&base[name]).map(|(x, base)| f64::from(x - base)).collect::<Vec<_>>();
        let (before, after) = (delta(&a[name]), delta(got));
        let l1 = |x: &[f64]| x.iter().map(|x| x.abs()).sum::<f64>();
        assert!((l1(&after) / l1(&before) - 1.0).abs() < 0.02, "{name}: {} and {}", l1(&before), l1(&after));
        let kept = after.iter().filter(|x| **x != 0.0).count() as f64 / after.len() as f64;
        assert!((kept - 0.4).abs() < 0.06, "{name}: kept {kept}");
    }
    assert_eq!(folder.merge(&recipe(1), "again").1, got);
    assert_ne!(folder.merge(&recipe(2), "two").1, got);
    let whole = "merge_method: dare_ties\nbase_model: base\nmodels: [{model: a, parameters: {weight: 1.0}}]\n";
    within_one_ulp(&folder, &folder.merge(whole, "whole").1, |_, [_, a, ..]| a.iter().map(|x| f64::from(*x)).collect());
}

#[test]
fn slices_put_layers_of_models_one_after_the_other() {
    let folder = family();
    let recipe = "
merge_method: passthrough
slices:
  - {sources: [{model: a, layer_range: [0, 3]}]}
  - {sources: [{model: b, layer_range: [1, 4]}]}
";
    let (merged, got) = folder.merge(recipe, "out");
    let (a, b) = (read(&folder.path().join("a")), read(&folder.path().join("b")));
    assert_eq!(merged.n_tensors, 2 + 6 * 2);
    assert_eq!(got["model.layers.2.mlp.up_proj.weight"], a["model.layers.2.mlp.up_proj.weight"]);
    assert_eq!(got["model.layers.3.mlp.up_proj.weight"], b["model.layers.1.mlp.up_proj.weight"]);
    // The head goes with the last slice, as in mergekit, and the embedding with the first.
    assert_eq!(got["model.embed_tokens.weight"], a["model.embed_tokens.weight"]);
    assert_eq!(got["lm_head.weight"], b["lm_head.weight"]);
    let config = std::fs::read_to_string(folder.path().join("out/config.json")).unwrap();
    assert!(config.contains("\"num_hidden_layers\": 6"), "{config}");
}

#[test]
fn a_plan_lists_every_problem_and_reads_no_weights() {
    let folder = family();
    let recipe = "
merge_method: ties
models:
  - {model: a, parameters: {density: 1.5}}
  - {model: b, parameters: {wieght: 1}}
dtype: int8
";
    let problems = folder.plan(recipe).unwrap().summary().problems;
    for part in ["`base_model`", "`wieght`", "`int8`"] {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
    }
    let recipe = recipe.replace("wieght", "weight").replace("dtype: int8", "base_model: base");
    let problems = folder.plan(&recipe).unwrap().summary().problems;
    for part in ["1.5", "`a` needs a value of `weight`"] {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
    }
    assert!(folder.plan(&recipe).unwrap().run(&folder.path().join("out"), 1, &|_, _| {}).is_err());
    assert!(!folder.path().join("out").exists() && !folder.path().join("out.part").exists());
    let unknown = folder.plan("merge_method: tise\nmodels: []\n").unwrap_err().to_string();
    assert!(unknown.contains("`tise`") && unknown.contains("ties"), "{unknown}");
}

#[test]
fn a_number_that_is_none_is_named_and_leaves_nothing_under_the_name() {
    let folder = family();
    folder.model("sick", |t, i| if (t, i) == (3, 70) { f32::NAN } else { 0.1 });
    let plan = folder.plan(
        "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}, {model: sick, parameters: {weight: 1}}]\n",
    );
    let out = folder.path().join("out");
    let error = plan.unwrap().run(&out, 2, &|_, _| {}).unwrap_err();
    let Error::NotFinite { tensor, element, .. } = &error else { panic!("{error}") };
    assert_eq!((tensor.as_str(), *element), (names()[3].as_str(), 70));
    assert!(!out.exists());
}

#[test]
fn a_killed_merge_goes_on_to_the_same_bytes() {
    let folder = family();
    let recipe = "merge_method: linear\nmodels: [{model: a, parameters: {weight: 0.6}}, {model: b, parameters: {weight: 0.4}}]\n";
    folder.merge(recipe, "whole");
    let whole = std::fs::read(folder.path().join("whole/model.safetensors")).unwrap();
    let plan = || folder.plan(recipe).unwrap();
    let out = folder.path().join("out");
    let part = folder.path().join("out.part");
    // A merge that stops at its fifth tensor, as a killed one does: by a panic in whoever listens.
    let stopped = std::panic::catch_unwind(|| plan().run(&out, 1, &|done, _| assert!(done < 5, "stop")));
    assert!(stopped.is_err() && !out.exists() && part.exists());
    // Half a line of the journal, and a flipped bit in a tensor that was finished.
    let journal = part.join("merge.journal");
    let mut text = std::fs::read(&journal).unwrap();
    text.extend_from_slice(b"0123");
    std::fs::write(&journal, text).unwrap();
    let weights = part.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let at = bytes.len() - 2 * 30 * 37 * 2 * (names().len() / 2);
    bytes[at.min(6000)] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let merged = plan().run(&out, 2, &|_, _| {}).unwrap();
    assert!(merged.n_kept >= 3 && merged.n_kept <= 5, "{merged:?}");
    assert_eq!(std::fs::read(out.join("model.safetensors")).unwrap(), whole);

    // Another recipe begins anew.
    let other: PathBuf = folder.path().join("other");
    let stopped = std::panic::catch_unwind(|| plan().run(&other, 1, &|done, _| assert!(done < 3, "stop")));
    assert!(stopped.is_err());
    let changed = recipe.replace("0.6", "0.5");
    let merged = folder.plan(&changed).unwrap().run(&other, 1, &|_, _| {}).unwrap();
    assert_eq!(merged.n_kept, 0);
    assert!(matches!(plan().run(&other, 1, &|_, _| {}), Err(Error::Exists(_))));
}

#[test]
fn the_file_says_what_it_was_made_of() {
    let folder = family();
    let recipe =
        "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 1}}]\n";
    let (merged, _) = folder.merge(recipe, "out");
    let bytes = std::fs::read(folder.path().join("out/model.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    assert_eq!(metadata["tracker.output"], merged.output);
    let parents: BTreeMap<String, String> = serde_json::from_str(&metadata["tracker.parents"]).unwrap();
    assert_eq!(parents, merged.parents);
    assert_eq!(parents.keys().collect::<Vec<_>>(), ["a", "b"]);
    let swapped =
        recipe.replace("model: a", "model: x").replace("model: b", "model: a").replace("model: x", "model: b");
    assert_ne!(folder.merge(&swapped, "swapped").0.output, "");
}
