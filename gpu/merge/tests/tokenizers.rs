//! Models whose tokenizers differ, against a table of what each token's embedding must be.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};
use tracker_merge::{Error, Merge, Recipe};

/// Wide enough that tiles end inside rows.
const WIDTH: usize = 3000;

/// The first number of a token's embedding: 100 for the model, 1 for the row.
fn first(model: usize, row: usize) -> f64 {
    (100 * (model + 1) + row) as f64
}

/// Writes a model with a vocabulary, `n_rows` rows of embeddings and a matrix; row r begins with [`first`], and goes on in
/// steps of 1/8.
fn model(folder: &Path, idx: usize, name: &str, vocab: &[(&str, usize)], added: &[Value], n_rows: usize) {
    let dir = folder.join(name);
    fs::create_dir(&dir).unwrap();
    let table: Vec<u8> = (0..n_rows * WIDTH)
        .flat_map(|i| ((first(idx, i / WIDTH) + (i % WIDTH) as f64 / 8.0) as f32).to_le_bytes())
        .collect();
    let matrix = [idx as f32 + 1.0; 4].map(f32::to_le_bytes).concat();
    let views = [
        ("model.embed_tokens.weight", TensorView::new(Dtype::F32, vec![n_rows, WIDTH], &table).unwrap()),
        ("model.layers.0.mlp.weight", TensorView::new(Dtype::F32, vec![2, 2], &matrix).unwrap()),
        ("lm_head.weight", TensorView::new(Dtype::F32, vec![n_rows, WIDTH], &table).unwrap()),
    ];
    serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
    let vocab: serde_json::Map<String, Value> =
        vocab.iter().map(|(token, id)| ((*token).to_owned(), json!(id))).collect();
    let tokenizer = json!({"model": {"type": "BPE", "vocab": vocab, "merges": []}, "added_tokens": added});
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(dir.join("merges.txt"), "").unwrap();
    fs::write(dir.join("config.json"), json!({"num_hidden_layers": 1, "vocab_size": n_rows}).to_string()).unwrap();
}

fn special(token: &str, id: usize) -> Value {
    json!({"id": id, "content": token, "single_word": false, "lstrip": true, "rstrip": false, "normalized": false, "special": true})
}

/// base: x y <s>. a: y x z <s> (and one row that is no token's). b: x z w <t>.
fn family() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at, 0, "base", &[("x", 0), ("y", 1)], &[special("<s>", 2)], 3);
    model(at, 1, "a", &[("y", 0), ("x", 1), ("z", 2)], &[special("<s>", 3)], 5);
    model(at, 2, "b", &[("x", 0), ("z", 1), ("w", 2)], &[special("<t>", 3)], 4);
    folder
}

fn plan(folder: &Path, recipe: &str) -> Result<Merge, Error> {
    Merge::plan(Recipe::parse("r.yml", recipe)?, recipe, folder)
}

/// The output's tables, row by row, and its vocabulary.
fn merge(folder: &Path, recipe: &str) -> (Vec<Vec<f32>>, BTreeMap<String, usize>) {
    let out = folder.join("out");
    drop(fs::remove_dir_all(&out));
    let plan = plan(folder, recipe).unwrap();
    assert_eq!(plan.summary().problems, Vec::<String>::new());
    plan.run(&out, 2, &|_, _| {}).unwrap();
    let bytes = fs::read(out.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let table = |name: &str| -> Vec<Vec<f32>> {
        let view = tensors.tensor(name).unwrap();
        let numbers: Vec<f32> =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(view.shape(), [numbers.len() / WIDTH, WIDTH]);
        numbers.chunks(WIDTH).map(<[f32]>::to_vec).collect()
    };
    let tokenizer: Value = serde_json::from_slice(&fs::read(out.join("tokenizer.json")).unwrap()).unwrap();
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    for (token, id) in tokenizer["model"]["vocab"].as_object().unwrap() {
        ids.insert(token.clone(), id.as_u64().unwrap() as usize);
    }
    for token in tokenizer["added_tokens"].as_array().unwrap() {
        let known = ids.insert(token["content"].as_str().unwrap().to_owned(), token["id"].as_u64().unwrap() as usize);
        assert_eq!(known, None);
    }
    let rows = table("model.embed_tokens.weight");
    assert_eq!(rows, table("lm_head.weight"));
    let config: Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["vocab_size"], json!(rows.len()));
    (rows, ids)
}

fn check(rows: &[Vec<f32>], at: usize, want: f64) {
    for (column, got) in rows[at].iter().enumerate() {
        let want = want + column as f64 / 8.0;
        assert!((f64::from(*got) - want).abs() < 1e-3, "row {at}, column {column}: {got} and {want}");
    }
}

const BASE: usize = 0;
const A: usize = 1;
const B: usize = 2;

#[test]
fn a_union_gives_each_model_what_it_lacks() {
    let folder = family();
    // Differences to the base are taken once all tables have the same rows: base + 0.5 (a − base) + 0.25 (b − base).
    let recipe = "
merge_method: task_arithmetic
base_model: base
models: [{model: a, parameters: {weight: 0.5}}, {model: b, parameters: {weight: 0.25}}]
tokenizer: {source: union, pad_to_multiple_of: 4}
";
    let (rows, ids) = merge(folder.path(), recipe);
    // The base's own, then plain tokens of a and b, then their added ones.
    let order = ["x", "y", "<s>", "z", "w", "<t>"];
    assert_eq!(ids, order.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id)).collect());
    let sum = |base: f64, a: f64, b: f64| base + 0.5 * (a - base) + 0.25 * (b - base);
    let mean = first(A, 2).midpoint(first(B, 1));
    let wants = [
        sum(first(BASE, 0), first(A, 1), first(B, 0)),
        // b lacks it and gets the base's.
        sum(first(BASE, 1), first(A, 0), first(BASE, 1)),
        sum(first(BASE, 2), first(A, 3), first(BASE, 2)),
        // The base lacks it and gets the mean of its owners.
        sum(mean, first(A, 2), first(B, 1)),
        // One has it.
        first(B, 2),
        first(B, 3),
    ];
    for (at, want) in wants.into_iter().enumerate() {
        check(&rows, at, want);
    }
    // Rows that fill up are the mean of the others.
    assert_eq!(rows.len(), 8);
    let mean = wants.iter().sum::<f64>() / 6.0;
    check(&rows, 6, mean);
    check(&rows, 7, mean);
    let out: Value = serde_json::from_slice(&fs::read(folder.path().join("out/tokenizer.json")).unwrap()).unwrap();
    assert_eq!(out["added_tokens"][3], special("<t>", 5));
    assert!(!folder.path().join("out/merges.txt").exists());
    // The same by its other name, without filling up.
    let (same, _) = merge(
        folder.path(),
        &recipe.replace("tokenizer: {source: union, pad_to_multiple_of: 4}", "tokenizer_source: union"),
    );
    assert_eq!(same, rows[..6]);
}

#[test]
fn a_vocabulary_may_be_that_of_one_model() {
    let folder = family();
    let recipe = |source: &str| {
        format!("merge_method: linear\nmodels: [{{model: a}}, {{model: b}}]\nparameters: {{weight: 1}}\n{source}\n")
    };
    for source in ["tokenizer_source: b", "tokenizer: {source: b}"] {
        let (rows, ids) = merge(folder.path(), &recipe(source));
        assert_eq!((rows.len(), ids["w"], ids["<t>"]), (4, 2, 3));
        check(&rows, 0, first(A, 1).midpoint(first(B, 0)));
        check(&rows, 1, first(A, 2).midpoint(first(B, 1)));
        check(&rows, 2, first(B, 2));
        check(&rows, 3, first(B, 3));
        assert!(folder.path().join("out/merges.txt").exists());
    }
    // One that no model of the sum has: what it alone knows is zero.
    let (rows, _) = merge(
        folder.path(),
        &recipe("tokenizer: {source: base}\nbase_model: base")
            .replace("linear", "karcher")
            .replace("parameters: {weight: 1}\n", ""),
    );
    assert_eq!(rows.len(), 3);
    // Equal vocabularies leave tables as they are, rows of no token included.
    let alone = "merge_method: passthrough\nmodels: [{model: a}]\ntokenizer_source: a\n";
    assert_eq!(merge(folder.path(), alone).0.len(), 5);
    assert_eq!(merge(folder.path(), &alone.replace("tokenizer_source: a", "tokenizer: {source: a}")).0.len(), 4);
}

#[test]
fn tokens_get_the_embedding_that_is_asked_for() {
    let folder = family();
    let recipe = "
merge_method: linear
models: [{model: a}, {model: b}]
parameters: {weight: 1}
tokenizer:
  source: union
  tokens:
    x: {source: b, force: true}
    w: {source: {kind: zero}}
    <s>: {source: {kind: model_token, model: b, token: z}}
    <new>: {source: {kind: model_token, model: a, token_id: 4}}
";
    let (rows, ids) = merge(folder.path(), recipe);
    check(&rows, ids["x"], first(B, 0));
    check(&rows, ids["<s>"], first(A, 3).midpoint(first(B, 1)));
    check(&rows, ids["<new>"], first(A, 4));
    assert_eq!(ids["<new>"], 6);
    for (column, got) in rows[ids["w"]].iter().enumerate() {
        assert!((f64::from(*got) - 0.5 * (first(B, 2) + column as f64 / 8.0)).abs() < 1e-3);
    }
    for (from, to, part) in [
        ("model: a, token_id: 4", "model: a, token_id: 5", "expected a token below 5, got 5"),
        ("model: b, token: z", "model: b, token: q", "`b` has no token `q`"),
        ("{kind: zero}", "{kind: none}", "`kind: zero`"),
        ("{source: b, force: true}", "{source: c}", "`c` is none of the models"),
        ("{source: {kind: zero}}", "{force: false}", "does not say"),
    ] {
        assert!(recipe.contains(from));
        let problems = plan(folder.path(), &recipe.replace(from, to)).unwrap().summary().problems.join("; ");
        assert!(problems.contains(part), "{part}: {problems}");
    }
    for (text, part) in
        [("tokenizer: {pad_to_multiple_of: 0}", "got 0"), ("tokenizer: {}\ntokenizer_source: a", "both")]
    {
        let text = format!("merge_method: linear\nmodels: [{{model: a}}]\n{text}\n");
        let error = plan(folder.path(), &text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    fs::write(folder.path().join("b/tokenizer.json"), r#"{"model": {"vocab": {"x": 0, "y": 0}}}"#).unwrap();
    assert!(plan(folder.path(), recipe).unwrap_err().to_string().contains("numbers of their own"));
    fs::write(folder.path().join("b/tokenizer.json"), r#"{"model": {}}"#).unwrap();
    assert!(plan(folder.path(), recipe).unwrap_err().to_string().contains("model.vocab"));
}
