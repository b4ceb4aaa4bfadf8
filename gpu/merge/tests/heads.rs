//! Models of which some tie their head to their embeddings, and tensors that only some models have.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tracker_merge::{Merge, Merged, Recipe};

const EMBED: &str = "model.embed_tokens.weight";
const UP: &str = "model.layers.0.mlp.up_proj.weight";
const BIAS: &str = "model.layers.0.self_attn.q_proj.bias";
const HEAD: &str = "lm_head.weight";

struct Models(tempfile::TempDir);

impl Models {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes f32 tensors of 2 × 3, each of one number, and a configuration.
    fn model(&self, name: &str, tensors: &[(&str, f32)], config: &str) {
        let dir = self.0.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let bytes: Vec<(&str, Vec<u8>)> =
            tensors.iter().map(|(name, value)| (*name, value.to_le_bytes().repeat(6))).collect();
        let views = bytes.iter().map(|(name, bytes)| (*name, TensorView::new(Dtype::F32, vec![2, 3], bytes).unwrap()));
        serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
        std::fs::write(dir.join("config.json"), config).unwrap();
    }

    fn plan(&self, recipe: &str) -> Merge {
        Merge::plan(Recipe::parse("r.yml", recipe).unwrap(), recipe, self.0.path()).unwrap()
    }

    /// The one number of every tensor of the output, and its configuration.
    fn merge(&self, recipe: &str) -> (BTreeMap<String, f32>, String, Merged) {
        let out = self.0.path().join("out");
        let merged = self.plan(recipe).run(&out, 2, &|_, _| {}).unwrap();
        let numbers = numbers(&out);
        let config = std::fs::read_to_string(out.join("config.json")).unwrap();
        std::fs::remove_dir_all(out).unwrap();
        (numbers, config, merged)
    }
}

fn numbers(dir: &Path) -> BTreeMap<String, f32> {
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let first = |data: &[u8]| f32::from_le_bytes(*data.first_chunk().unwrap());
    tensors.iter().map(|(name, view)| (name.to_owned(), first(view.data()))).collect()
}

const TIED: &str = r#"{"tie_word_embeddings": true}"#;
const UNTIED: &str = r#"{"tie_word_embeddings": false}"#;

fn half_and_half(a: &str, b: &str) -> String {
    format!(
        "merge_method: linear\nmodels: [{{model: {a}, parameters: {{weight: 0.5}}}}, {{model: {b}, parameters: {{weight: 0.5}}}}]\n"
    )
}

#[test]
fn a_tied_model_lends_its_embeddings_for_the_head_it_lacks() {
    let models = Models::new();
    models.model("untied", &[(EMBED, 1.0), (UP, 2.0), (HEAD, 8.0)], UNTIED);
    models.model("tied", &[(EMBED, 3.0), (UP, 4.0)], TIED);
    let want = BTreeMap::from([(EMBED.to_owned(), 2.0), (UP.to_owned(), 3.0), (HEAD.to_owned(), 5.5)]);
    let (numbers, config, _) = models.merge(&half_and_half("untied", "tied"));
    assert_eq!(numbers, want);
    assert!(config.contains("\"tie_word_embeddings\": false"), "{config}");
    // The model that lends the configuration is the tied one: the output has a head all the same, and says so.
    let (numbers, config, _) = models.merge(&half_and_half("tied", "untied"));
    assert_eq!(numbers, want);
    assert!(config.contains("\"tie_word_embeddings\": false"), "{config}");
    let warnings = models.plan(&half_and_half("tied", "untied")).summary().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("head of its own")), "{warnings:?}");
    // As slices, and with a base to take differences from.
    let slices = "merge_method: linear\nslices:\n- sources:\n  - {model: tied, layer_range: [0, 1], parameters: {weight: 0.5}}\n  \
                  - {model: untied, layer_range: [0, 1], parameters: {weight: 0.5}}\n";
    assert_eq!(models.merge(slices).0, want);
    let task = "merge_method: task_arithmetic\nbase_model: tied\nmodels: [{model: untied, parameters: {weight: 1}}]\n";
    assert_eq!(models.merge(task).0[HEAD], 8.0);
}

#[test]
fn models_without_heads_merge_without_one() {
    let models = Models::new();
    models.model("a", &[(EMBED, 1.0), (UP, 2.0)], TIED);
    models.model("b", &[(EMBED, 3.0), (UP, 4.0)], TIED);
    // It keeps a copy that its configuration hides: nothing is lost with it.
    models.model("copy", &[(EMBED, 3.0), (UP, 4.0), (HEAD, 3.0)], TIED);
    for other in ["b", "copy"] {
        let (numbers, config, _) = models.merge(&half_and_half("a", other));
        assert_eq!(numbers, BTreeMap::from([(EMBED.to_owned(), 2.0), (UP.to_owned(), 3.0)]));
        assert!(config.contains("\"tie_word_embeddings\": true"), "{config}");
    }
}

#[test]
fn what_only_some_models_have_and_nothing_stands_for_is_refused() {
    let models = Models::new();
    models.model("whole", &[(EMBED, 1.0), (UP, 2.0), (BIAS, 0.5), (HEAD, 8.0)], UNTIED);
    models.model("headless", &[(EMBED, 1.0), (UP, 2.0), (BIAS, 0.5)], UNTIED);
    models.model("silent", &[(EMBED, 1.0), (UP, 2.0), (BIAS, 0.5)], "{}");
    models.model("unbiased", &[(EMBED, 1.0), (UP, 2.0), (HEAD, 8.0)], UNTIED);
    models.model("odd", &[("wte", 1.0), (UP, 2.0), (BIAS, 0.5)], TIED);
    let problems = |a: &str, b: &str| models.plan(&half_and_half(a, b)).summary().problems.join("\n");
    for other in ["headless", "silent"] {
        let what = problems("whole", other);
        assert!(what.contains(&format!("`{other}` has no tensor `{HEAD}`")) && what.contains("tie_word"), "{what}");
        let what = problems(other, "whole");
        assert!(what.contains(&format!("`whole` has tensor `{HEAD}`, `{other}` does not")), "{what}");
    }
    let what = problems("whole", "unbiased");
    assert!(what.contains(&format!("`unbiased` has no tensor `{BIAS}`")) && what.contains("zeros"), "{what}");
    assert!(problems("whole", "odd").contains("no table of embeddings"));
}
