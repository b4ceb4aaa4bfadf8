//! What a merge knows of its parents: digests, stamps that no change escapes, and the recipe in canonical form.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tracker_merge::{Error, Folder, Hash, Merge, Recipe};

const N_LAYERS: usize = 3;

fn names() -> Vec<String> {
    let layers = (0..N_LAYERS).flat_map(|l| ["up", "q"].map(|part| format!("model.layers.{l}.{part}.weight")));
    ["model.embed_tokens.weight".to_owned()].into_iter().chain(layers).chain(["lm_head.weight".to_owned()]).collect()
}

struct Models(tempfile::TempDir);

impl Models {
    /// Two f32 models, `a` and `b`.
    fn new() -> Self {
        let models = Self(tempfile::tempdir().unwrap());
        for (seed, name) in [(1.0, "a"), (2.0, "b")] {
            models.model(name, seed);
        }
        models
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn model(&self, name: &str, seed: f32) {
        std::fs::create_dir(self.at(name)).unwrap();
        let number = |t: usize, i: u16| (seed + t as f32) * (f32::from(i) - 30.0);
        let bytes: Vec<(String, Vec<u8>)> = (names().into_iter().enumerate())
            .map(|(t, name)| (name, (0..60).flat_map(|i| number(t, i).to_le_bytes()).collect()))
            .collect();
        let views = bytes.iter().map(|(name, bytes)| (name, TensorView::new(Dtype::F32, vec![6, 10], bytes).unwrap()));
        serialize_to_file(views, None, &self.at(name).join("model.safetensors")).unwrap();
        std::fs::write(self.at(name).join("config.json"), "{\"num_hidden_layers\": 3}").unwrap();
    }

    fn plan(&self, recipe: &str) -> Merge {
        Merge::plan(Recipe::parse("r.yml", recipe).unwrap(), recipe, self.0.path()).unwrap()
    }
}

/// The digest of a folder's weights, from its definition.
fn weights_of(dir: &Path) -> Hash {
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let all: BTreeMap<String, Vec<u8>> =
        tensors.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect();
    let mut whole = Vec::new();
    for (name, bytes) in all {
        whole.extend([name.as_bytes(), &[0], blake3::hash(&bytes).as_bytes()].concat());
    }
    blake3::hash(&whole)
}

const LINEAR: &str =
    "merge_method: linear\nmodels: [{model: a, parameters: {weight: 0.6}}, {model: b, parameters: {weight: 0.4}}]\n";
const FIRST_LAYERS: &str = "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, 1]}]}, {sources: [{model: b, layer_range: [1, 2]}]}]\n";

#[test]
fn a_digest_is_what_a_merge_would_have_and_writes_nothing() {
    let models = Models::new();
    for recipe in [LINEAR, FIRST_LAYERS] {
        let before = std::fs::read_dir(models.0.path()).unwrap().count();
        let digest = models.plan(recipe).digest(2, &|_, _| {}).unwrap();
        assert_eq!(std::fs::read_dir(models.0.path()).unwrap().count(), before);
        let merged = models.plan(recipe).run(&models.at("out"), 1, &|_, _| {}).unwrap();
        assert_eq!(digest.output, merged.output);
        assert_eq!(digest.output, weights_of(&models.at("out")).to_hex().as_str());
        assert_eq!(
            digest.config,
            blake3::hash(&std::fs::read(models.at("out/config.json")).unwrap()).to_hex().as_str()
        );
        assert_eq!((digest.n_params, digest.n_bytes), (merged.n_params, 4 * merged.n_params));
        assert_eq!(merged.n_params, Folder::open(&models.at("out")).unwrap().n_params());
        std::fs::remove_dir_all(models.at("out")).unwrap();
    }
    let wrong = format!("{LINEAR}output: {}\n", "0".repeat(64));
    assert!(matches!(models.plan(&wrong).digest(2, &|_, _| {}), Err(Error::Differs { .. })));
}

#[test]
fn parents_are_named_by_all_their_weights_also_if_some_are_not_read() {
    let models = Models::new();
    for recipe in [LINEAR, FIRST_LAYERS] {
        let merged = models.plan(recipe).digest(2, &|_, _| {}).unwrap();
        for name in ["a", "b"] {
            let want = weights_of(&models.at(name));
            assert_eq!(merged.parents[name], want.to_hex().as_str(), "{name}");
            assert_eq!(Folder::open(&models.at(name)).unwrap().weights(2).unwrap(), want);
        }
    }
}

#[test]
fn a_digest_that_is_known_is_taken_and_not_computed() {
    let models = Models::new();
    let without = models.plan(LINEAR).digest(2, &|_, _| {}).unwrap();
    // No weights have this digest: it can only have been taken.
    let told = blake3::hash(b"told");
    let mut plan = models.plan(LINEAR);
    plan.know("a", told);
    plan.know("nobody", told);
    let merged = plan.digest(2, &|_, _| {}).unwrap();
    assert_eq!(merged.parents["a"], told.to_hex().as_str());
    assert_eq!((&merged.parents["b"], &merged.output), (&without.parents["b"], &without.output));
    // A merge that is killed while it knows, and goes on while it does not, has all digests in the end.
    let out = models.at("out");
    let mut plan = models.plan(LINEAR);
    plan.know("a", told);
    let stopped = std::panic::catch_unwind(|| plan.run(&out, 1, &|done, _| assert!(done < 5, "stop")));
    assert!(stopped.is_err());
    let merged = models.plan(LINEAR).run(&out, 2, &|_, _| {}).unwrap();
    assert!(merged.n_kept >= 4, "{merged:?}");
    assert_eq!(merged.parents, without.parents);
}

#[test]
fn a_stamp_stays_with_the_files_and_goes_with_any_change_of_them() {
    let models = Models::new();
    let stamp = || Folder::open(&models.at("a")).unwrap().stamp();
    let file = models.at("a/model.safetensors");
    let was = stamp();
    assert_eq!(stamp(), was);
    let mut last = vec![was.digest];
    let mut changed = |what: &str| {
        assert!(!last.contains(&stamp().digest), "{what} was not seen");
        last.push(stamp().digest);
    };
    let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
    let size = std::fs::metadata(&file).unwrap().len();
    // A byte of the same size, and the old time put back.
    let writer = File::options().write(true).open(&file).unwrap();
    writer.write_all_at(&[1], size - 1).unwrap();
    writer.set_modified(modified).unwrap();
    changed("a byte under an old time");
    // Another file of the same size and time in its place.
    let copy = models.at("copy");
    std::fs::copy(&file, &copy).unwrap();
    File::options().write(true).open(&copy).unwrap().set_modified(modified).unwrap();
    std::fs::rename(&copy, &file).unwrap();
    changed("another file in its place");
    // Part of the tensors left out by an index.
    let map: BTreeMap<String, &str> = names().into_iter().skip(1).map(|name| (name, "model.safetensors")).collect();
    let index = serde_json::json!({"weight_map": map}).to_string();
    std::fs::write(models.at("a/model.safetensors.index.json"), index).unwrap();
    changed("an index");
}

#[test]
fn a_parent_that_is_written_to_while_it_is_merged_is_refused() {
    let models = Models::new();
    let file = models.at("b/model.safetensors");
    let write = |done: usize, _: usize| {
        if done == 2 {
            let mut file = File::options().write(true).open(&file).unwrap();
            file.seek(SeekFrom::End(-1)).unwrap();
            file.write_all(&[7]).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
    };
    let error = models.plan(LINEAR).run(&models.at("out"), 1, &write).unwrap_err();
    assert!(matches!(&error, Error::Damaged { file, .. } if file.ends_with("b/model.safetensors")), "{error}");
    assert!(!models.at("out").exists());
    // Under its old time too, if its digest was taken on trust.
    let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
    let write = |done: usize, _: usize| {
        if done == 2 {
            let file = File::options().write(true).open(&file).unwrap();
            file.write_all_at(&[9], 700).unwrap();
            file.set_modified(modified).unwrap();
        }
    };
    let mut plan = models.plan(LINEAR);
    plan.know("b", blake3::hash(b"told"));
    assert!(matches!(plan.digest(1, &write), Err(Error::Damaged { .. })));
}

#[test]
fn a_recipe_in_canonical_form_is_read_back_as_the_same_merge() {
    let models = Models::new();
    let spelled = [
        LINEAR.to_owned(),
        "# the same\nmodels:\n  - {parameters: {weight: 6.0e-1}, model: {model: {path: a}}}\n  - model: b\n    parameters:\n      weight: 0.4\nmerge_method: linear\nseed: 0\n"
            .to_owned(),
    ];
    let name = |name: &str| format!("checkpoint:{name}");
    let digest = "1".repeat(64);
    let texts = spelled.map(|text| Recipe::parse("r", &text).unwrap().renamed(name, Some(&digest)).text());
    assert_eq!(texts[0], texts[1]);
    let back = Recipe::parse("r", &texts[0]).unwrap();
    assert_eq!(back.models(), ["checkpoint:a", "checkpoint:b"]);
    assert_eq!(back.output, Some(digest));
    let everything = "
modules:
  default:
    slices:
      - sources:
          - {model: a, layer_range: [0, 3], parameters: {weight: [0, 1.5e-7, {filter: x, value: 1}]}}
          - {model: b, layer_range: [0, 3]}
        parameters: {weight: [{filter: mlp, value: [0, 0.1]}, {value: true}]}
    parameters: {normalize: false}
base_model: c
tokenizer:
  source: union
  tokens:
    x: {source: d, force: true}
    y: {source: {kind: model_token, model: {model: {path: e}}, token_id: 3}}
    z: {source: {kind: zero}}
  pad_to_multiple_of: 8
chat_template: auto
seed: 18446744073709551615
merge_method: linear
dtype: bfloat16
"
    .replace(", {filter: x, value: 1}", "");
    let one = Recipe::parse("r", &everything).unwrap().renamed(name, None);
    let text = one.text();
    for model in ["checkpoint:a", "checkpoint:b", "checkpoint:c", "checkpoint:d", "checkpoint:e", "\"union\""] {
        assert!(text.contains(model), "{model}: {text}");
    }
    let again = Recipe::parse("r", &text).unwrap();
    assert_eq!(again.text(), text);
    assert_eq!(again.seed, u64::MAX);
    let blocks = "merge_method: linear\nmodels: [{model: a}, {model: b}]\n\
                  blocks: [{layers: [0, 3], weights: {a: 0.1, b: 0.9}}]\nrest: {b: 1}\noutput: x\n";
    let text = Recipe::parse("r", blocks).unwrap().renamed(name, None).text();
    assert!(text.contains("\"checkpoint:a\": 0.1") && text.contains("\"checkpoint:b\": 1.0"), "{text}");
    assert!(!text.contains("output"), "{text}");
    // The renamed recipe, with folders where its names say, makes the same weights.
    let whole = models.plan(LINEAR).digest(1, &|_, _| {}).unwrap();
    let place = |name: &str| models.at(name.strip_prefix("checkpoint:").unwrap());
    let recipe = Recipe::parse("r", LINEAR).unwrap().renamed(name, Some(&whole.output));
    let text = recipe.text();
    let merged = Merge::plan_at(Recipe::parse("r", &text).unwrap(), &text, place).unwrap().digest(1, &|_, _| {});
    assert_eq!(merged.unwrap().output, whole.output);
}

#[test]
fn shares_say_what_each_model_counts_for_block_by_block() {
    let models = Models::new();
    let shares = |recipe: &str| -> Vec<(String, String, f64)> {
        let shares = models.plan(recipe).shares();
        shares.into_iter().map(|share| (share.model, share.block, share.weight)).collect()
    };
    let share = |model: &str, block: &str, weight: f64| (model.to_owned(), block.to_owned(), weight);
    // Normalised: what is stated is not what counts.
    let halves = LINEAR.replace("0.6", "3").replace("0.4", "1");
    assert_eq!(shares(&halves), [share("a", "", 0.75), share("b", "", 0.25)]);
    let blocks = "merge_method: linear\nmodels: [{model: a}, {model: b}]\n\
                  blocks: [{layers: [0, 2], weights: {a: 0.5, b: 0.5}}, {layers: [2, 3], weights: {b: 1}}]\nrest: {a: 1}\n";
    let want = [
        share("a", "rest", 1.0),
        share("a", "layers 0..2", 0.5),
        share("a", "layers 2..3", 0.0),
        share("b", "rest", 0.0),
        share("b", "layers 0..2", 0.5),
        share("b", "layers 2..3", 1.0),
    ];
    assert_eq!(shares(blocks), want);
    let filters = "merge_method: task_arithmetic\nbase_model: a\n\
                   models: [{model: b, parameters: {weight: [{filter: layers.1.q, value: 2}, {value: 1}]}}]\n";
    let want = [
        share("b", "rest", 1.0),
        share("b", "layers 0..1", 1.0),
        share("b", "model.layers.1.q.weight", 2.0),
        share("b", "model.layers.1.up.weight", 1.0),
        share("b", "layers 2..3", 1.0),
    ];
    let mut got = shares(filters);
    got.sort_by_key(|(_, block, _)| (block != "rest", block.clone()));
    let mut want = want.to_vec();
    want.sort_by_key(|(_, block, _)| (block != "rest", block.clone()));
    assert_eq!(got, want);
    let arc = "merge_method: slerp\nbase_model: a\nmodels: [{model: b}]\nparameters: {t: 0.5}\n";
    assert!(shares(arc).is_empty(), "an arc has no weights");
}
