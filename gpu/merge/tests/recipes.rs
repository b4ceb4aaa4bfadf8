//! Recipes with modules and chat templates, and what a disk lacks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tracker_merge::{Error, Merge, Recipe};

/// Writes an f32 checkpoint whose tensors hold one number each.
fn model(folder: &Path, name: &str, tensors: &[&str], value: f32) {
    let dir = folder.join(name);
    fs::create_dir(&dir).unwrap();
    let bytes = [value; 6].map(f32::to_le_bytes).concat();
    let views =
        tensors.iter().map(|name| ((*name).to_owned(), TensorView::new(Dtype::F32, vec![2, 3], &bytes).unwrap()));
    serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
    fs::write(dir.join("config.json"), r#"{"text_config": {"num_hidden_layers": 2}}"#).unwrap();
}

fn plan(folder: &Path, recipe: &str) -> Result<Merge, Error> {
    Merge::plan(Recipe::parse("r.yml", recipe)?, recipe, folder)
}

/// The number each tensor of the output holds.
fn merge(folder: &Path, recipe: &str) -> BTreeMap<String, f32> {
    let out = folder.join("out");
    drop(fs::remove_dir_all(&out));
    plan(folder, recipe).unwrap().run(&out, 2, &|_, _| {}).unwrap();
    let bytes = fs::read(out.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let first = |data: &[u8]| f32::from_le_bytes(data[..4].try_into().unwrap());
    tensors.iter().map(|(name, view)| (name.to_owned(), first(view.data()))).collect()
}

const SEEING: [&str; 8] = [
    "language_model.lm_head.weight",
    "language_model.model.embed_tokens.weight",
    "language_model.model.layers.0.mlp.weight",
    "language_model.model.layers.1.mlp.weight",
    "multi_modal_projector.weight",
    "vision_tower.layers.0.mlp.weight",
    "vision_tower.layers.1.mlp.weight",
    "vision_tower.layers.2.mlp.weight",
];

#[test]
fn modules_are_merged_each_in_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (name, value) in [("a", 1.0), ("b", 3.0)] {
        model(folder, name, &SEEING, value);
    }
    let recipe = "
merge_method: linear
modules:
  text_decoder:
    slices:
      - {sources: [{model: a, layer_range: [0, 2]}]}
      - sources:
          - {model: a, layer_range: [1, 2], parameters: {weight: 0.5}}
          - {model: b, layer_range: [0, 1]}
    parameters: {weight: 1}
  vision_tower:
    models: [{model: a}, {model: b, parameters: {weight: [0, 1]}}]
  multi_modal_projector:
    models: [{model: b}]
parameters: {weight: 1}
";
    let got = merge(folder, recipe);
    let third = (0.5 + 3.0) / 1.5;
    for (name, want) in [
        ("language_model.model.embed_tokens.weight", 1.0),
        ("language_model.model.layers.0.mlp.weight", 1.0),
        ("language_model.model.layers.1.mlp.weight", 1.0),
        ("language_model.model.layers.2.mlp.weight", third),
        ("language_model.lm_head.weight", third),
        ("multi_modal_projector.weight", 3.0),
        ("vision_tower.layers.0.mlp.weight", 1.0),
        ("vision_tower.layers.1.mlp.weight", (1.0 + 0.5 * 3.0) / 1.5),
        ("vision_tower.layers.2.mlp.weight", 2.0),
    ] {
        assert!((got[name] - want).abs() < 1e-6, "{name}: {} and {want}", got[name]);
    }
    assert_eq!(got.len(), 9);
    let config = fs::read_to_string(folder.join("out/config.json")).unwrap();
    assert!(config.contains("\"num_hidden_layers\": 3"), "{config}");

    let lost = recipe.replace("  multi_modal_projector:\n    models: [{model: b}]\n", "");
    let problems = plan(folder, &lost).unwrap().summary().problems.join("; ");
    assert!(problems.contains("`modules` lack `multi_modal_projector`"), "{problems}");
    // The rest of a model whose parts have no names of their own.
    let named = "
merge_method: passthrough
modules: {default: {models: [{model: a}]}, vision_tower.layers: {models: [{model: b}]}}
";
    let got = merge(folder, named);
    assert!(got.iter().all(|(name, value)| *value == if name.starts_with("vision") { 3.0 } else { 1.0 }), "{got:?}");
}

#[test]
fn the_module_of_a_plain_model_is_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let tensors = ["encoder.x", "lm_head.weight", "model.layers.0.mlp.weight"];
    for (name, value) in [("a", 1.0), ("b", 3.0)] {
        model(folder, name, &tensors, value);
    }
    let models = "models: [{model: a}, {model: b}]";
    let want = merge(folder, &format!("merge_method: linear\n{models}\nparameters: {{weight: 1}}\n"));
    let whole = format!("merge_method: linear\nmodules:\n  default:\n    {models}\n    parameters: {{weight: 1}}\n");
    assert_eq!(merge(folder, &whole), want);
    let stray = whole.replace("weight: 1", "wieght: 1");
    let problems = plan(folder, &stray).unwrap().summary().problems.join("; ");
    assert!(problems.contains("`wieght`") && problems.contains("did you mean `weight`"), "{problems}");
    let strange = whole.replace("model: b", "model: c");
    assert!(plan(folder, &strange).is_err());
}

#[test]
fn a_chat_template_is_stated_or_that_of_most_models() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (name, value) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
        model(folder, name, &["w"], value);
    }
    let config = |name: &str, text: &str| fs::write(folder.join(name).join("tokenizer_config.json"), text).unwrap();
    config("a", r#"{"chat_template": "{{ one }}", "eos_token": "</s>"}"#);
    config(
        "b",
        r#"{"chat_template": [{"name": "tool", "template": "x"}, {"name": "default", "template": " {{ two }}\n"}]}"#,
    );
    fs::write(folder.join("c/chat_template.jinja"), "{{ two }}").unwrap();
    let recipe = |template: &str| {
        format!(
            "merge_method: linear\nmodels: [{{model: a}}, {{model: b}}, {{model: c}}]\nparameters: {{weight: 1}}\n{template}\n"
        )
    };
    let written = || {
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.join("out/tokenizer_config.json")).unwrap()).unwrap();
        let jinja = fs::read_to_string(folder.join("out/chat_template.jinja")).ok();
        (config["chat_template"].as_str().unwrap().to_owned(), jinja, config["eos_token"].as_str().map(str::to_owned))
    };
    let eos = Some("</s>".to_owned());
    merge(folder, &recipe(""));
    assert_eq!(written(), ("{{ one }}".to_owned(), None, eos.clone()));
    merge(folder, &recipe("chat_template: auto"));
    assert_eq!(written(), ("{{ two }}".to_owned(), Some("{{ two }}".to_owned()), eos.clone()));
    let own = "{% for message in messages %}{{ message }}{% endfor %}";
    merge(folder, &recipe(&format!("chat_template: '{own}'")));
    assert_eq!(written(), (own.to_owned(), Some(own.to_owned()), eos));
    for (template, part) in [("chatml", "mergekit comes with"), ("short {", "expected `auto` or Jinja")] {
        let error = Recipe::parse("r.yml", &recipe(&format!("chat_template: '{template}'"))).unwrap_err().to_string();
        assert!(error.contains(template) && error.contains(part), "{error}");
    }
}

#[test]
fn a_disk_that_is_too_small_is_one_more_problem() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let stat = rustix::fs::statvfs(folder).unwrap();
    // A file with a hole of more bytes than are free.
    let n = (stat.f_bavail * stat.f_frsize + (1 << 32)) / 4;
    let header = format!(r#"{{"w":{{"dtype":"F32","shape":[{n}],"data_offsets":[0,{}]}}}}"#, 4 * n);
    fs::create_dir(folder.join("a")).unwrap();
    let path = folder.join("a/model.safetensors");
    fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(8 + header.len() as u64 + 4 * n).unwrap();
    let mut merge = plan(folder, "merge_method: passthrough\nmodels: [{model: a}]\n").unwrap();
    assert!(merge.summary().problems.is_empty());
    merge.check_space(&folder.join("not/yet/there"));
    let problems = merge.summary().problems;
    assert!(problems.len() == 1 && problems[0].contains(&(4 * n).to_string()), "{problems:?}");
    assert!(matches!(merge.run(&folder.join("out"), 1, &|_, _| {}), Err(Error::Unfit(_))));
    model(folder, "b", &["w"], 1.0);
    let mut small = plan(folder, "merge_method: passthrough\nmodels: [{model: b}]\n").unwrap();
    small.check_space(&folder.join("out"));
    small.check_space(Path::new("out"));
    assert!(small.summary().problems.is_empty());
}
