//! Checkpoints: what is written reads back, and what does not fit is refused by name.

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tracker_gpu::Device;
use tracker_lm::{Error, Lm, Tokenizer, logits};

use crate::{ids, init, llama, qwen};

type Files = Vec<(String, Vec<u8>)>;

fn read(files: &Files) -> Result<Lm, Error> {
    Lm::from_files(files, &Device::cpu())
}

fn file<'a>(files: &'a mut Files, name: &str) -> &'a mut Vec<u8> {
    &mut files.iter_mut().find(|(file, _)| file == name).unwrap().1
}

/// Tensors as name, type, shape and bytes, to be changed and written again.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn edit(files: &mut Files, change: impl FnOnce(&mut Tensors)) {
    let weights = file(files, "model.safetensors");
    let parsed = SafeTensors::deserialize(weights).unwrap();
    let mut tensors: Tensors = parsed
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut tensors);
    *weights = write(&tensors);
}

fn write(tensors: &Tensors) -> Vec<u8> {
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()))
        .collect();
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn a_saved_model_loads_bit_equal_and_saves_to_equal_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for (name, config) in [("llama", llama()), ("qwen", qwen())] {
        let lm = init(config, 3);
        let path = dir.path().join("new").join(name);
        lm.save(&path).unwrap();
        let loaded = Lm::load(&path, &Device::cpu()).unwrap();
        assert_eq!(loaded.config(), lm.config());
        assert!(loaded.tensors().eq(lm.tensors()));
        assert_eq!(loaded.to_files().unwrap(), lm.to_files().unwrap());
        let mut names: Vec<String> =
            std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let written: Vec<String> = lm.to_files().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, written);
        assert!(names.is_sorted());
    }
    let left: Vec<_> = std::fs::read_dir(dir.path().join("new")).unwrap().collect();
    assert_eq!(left.len(), 2, "no partial folder stays");
}

#[test]
fn saving_over_something_is_refused_and_leaves_it() {
    let dir = tempfile::tempdir().unwrap();
    let lm = init(llama(), 3);
    std::fs::write(dir.path().join("mine"), "kept").unwrap();
    assert!(matches!(lm.save(dir.path()), Err(Error::Exists { .. })));
    assert_eq!(std::fs::read_to_string(dir.path().join("mine")).unwrap(), "kept");
    let blocked = dir.path().join("mine").join("below");
    assert!(matches!(lm.save(blocked), Err(Error::Io { .. })));
}

#[test]
fn an_adapter_that_was_not_merged_is_refused() {
    for name in ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"] {
        // Beside whole weights, and in place of them.
        let mut files = init(llama(), 3).to_files().unwrap();
        files.push((name.to_owned(), b"{}".to_vec()));
        for n_left in [files.len(), 1] {
            let error = read(&files.split_off(files.len() - n_left)).unwrap_err();
            assert!(matches!(&error, Error::Adapter { name: got } if got == name), "{error}");
            assert!(error.to_string().contains("merge_and_unload"), "{error}");
            files = vec![(name.to_owned(), b"{}".to_vec())];
        }
    }
}

#[test]
fn missing_and_unexpected_tensors_are_named() {
    let mut files = init(llama(), 3).to_files().unwrap();
    edit(&mut files, |tensors| {
        let taken = tensors.remove("model.layers.1.mlp.up_proj.weight").unwrap();
        tensors.insert("model.layers.2.mlp.up_proj.weight".to_owned(), taken);
    });
    match read(&files) {
        Err(Error::Tensors { missing, unexpected }) => {
            assert_eq!(missing, ["model.layers.1.mlp.up_proj.weight"]);
            assert_eq!(unexpected, ["model.layers.2.mlp.up_proj.weight"]);
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_tensor_of_another_shape_or_type_is_named() {
    let name = "model.norm.weight";
    for change in [(Dtype::F32, vec![16, 2]), (Dtype::I32, vec![32])] {
        let mut files = init(llama(), 3).to_files().unwrap();
        edit(&mut files, |tensors| {
            let tensor = tensors.get_mut(name).unwrap();
            (tensor.0, tensor.1) = change;
        });
        assert!(matches!(read(&files), Err(Error::Tensor { name: named, .. }) if named == name));
    }
}

#[test]
fn half_precision_files_read_as_the_nearest_numbers() {
    let lm = init(llama(), 3);
    for dtype in [Dtype::F16, Dtype::BF16] {
        let mut files = lm.to_files().unwrap();
        edit(&mut files, |tensors| {
            for (ty, _, bytes) in tensors.values_mut() {
                let halves = bytes.chunks_exact(4).flat_map(|value| {
                    let value = f32::from_le_bytes(value.try_into().unwrap());
                    match dtype {
                        Dtype::F16 => half::f16::from_f32(value).to_le_bytes(),
                        _ => half::bf16::from_f32(value).to_le_bytes(),
                    }
                });
                (*ty, *bytes) = (dtype, halves.collect());
            }
        });
        let halved = read(&files).unwrap();
        for ((_, _, a), (_, _, b)) in halved.tensors().zip(lm.tensors()) {
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= b.abs() / 256.0 + 1e-7));
        }
        assert!(!halved.tensors().eq(lm.tensors()));
    }
}

#[test]
fn a_tied_head_may_be_in_the_file_if_it_is_the_embedding() {
    let lm = init(qwen(), 3);
    let mut files = lm.to_files().unwrap();
    edit(&mut files, |tensors| {
        let embedding = tensors["model.embed_tokens.weight"].clone();
        tensors.insert("lm_head.weight".to_owned(), embedding);
    });
    assert!(read(&files).unwrap().tensors().eq(lm.tensors()));
    edit(&mut files, |tensors| tensors.get_mut("lm_head.weight").unwrap().2[0] ^= 1);
    assert!(matches!(read(&files), Err(Error::Tensors { unexpected, .. }) if unexpected == ["lm_head.weight"]));
}

#[test]
fn shards_read_by_their_index_and_must_hold_what_it_says() {
    let lm = init(llama(), 3);
    let mut files = lm.to_files().unwrap();
    let whole = std::mem::take(file(&mut files, "model.safetensors"));
    files.retain(|(name, _)| name != "model.safetensors");
    let parsed = SafeTensors::deserialize(&whole).unwrap();
    let mut shards = [Tensors::new(), Tensors::new()];
    let mut map = serde_json::Map::new();
    for (at, (name, view)) in parsed.tensors().into_iter().enumerate() {
        map.insert(name.clone(), format!("part-{}.safetensors", at % 2).into());
        shards[at % 2].insert(name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
    }
    let first = shards[0].keys().next().unwrap().clone();
    for (at, shard) in shards.iter().enumerate() {
        files.push((format!("part-{at}.safetensors"), write(shard)));
    }
    let index = |map: &serde_json::Map<String, serde_json::Value>| serde_json::json!({"weight_map": map}).to_string();
    let mut with_index = files.clone();
    with_index.push(("model.safetensors.index.json".to_owned(), index(&map).into_bytes()));
    assert!(read(&with_index).unwrap().tensors().eq(lm.tensors()));

    map.insert(first, "part-1.safetensors".into());
    let mut wrong = files.clone();
    wrong.push(("model.safetensors.index.json".to_owned(), index(&map).into_bytes()));
    assert!(matches!(read(&wrong), Err(Error::Malformed { .. })));

    map.values_mut().for_each(|shard| *shard = "../part-1.safetensors".into());
    let mut outside = files;
    outside.push(("model.safetensors.index.json".to_owned(), index(&map).into_bytes()));
    assert!(matches!(read(&outside), Err(Error::Malformed { name, .. }) if name == "model.safetensors.index.json"));
}

#[test]
fn truncated_and_absent_files_are_named() {
    let files = init(llama(), 3).to_files().unwrap();
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        for keep in [0, 7, 100] {
            let mut cut = files.clone();
            file(&mut cut, name).truncate(keep);
            assert!(matches!(read(&cut), Err(Error::Malformed { name: named, .. }) if named == name), "{name} {keep}");
        }
        let absent: Files = files.iter().filter(|(file, _)| file != name).cloned().collect();
        assert!(matches!(read(&absent), Err(Error::NoFile { name: named }) if named == name));
    }
    let mut cut = files;
    let weights = file(&mut cut, "model.safetensors");
    weights.truncate(weights.len() - 1);
    assert!(matches!(read(&cut), Err(Error::Malformed { .. })));
    let nowhere = Lm::load("/no/such/folder", &Device::cpu());
    assert!(matches!(nowhere, Err(Error::NoFile { name }) if name == "config.json"));
}

#[test]
fn a_tokenizer_with_more_ids_than_the_model_is_refused() {
    let words: Vec<String> = (0..60).map(|at| format!("x{at}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let large = Tokenizer::words(&words).unwrap();
    let mut files = init(llama(), 3).to_files().unwrap();
    *file(&mut files, "tokenizer.json") = large.json().to_vec();
    assert!(matches!(read(&files), Err(Error::Vocabulary { vocab_size: 40, id: 63, .. })));
    assert!(matches!(Lm::init(llama(), large, 1, &Device::cpu()), Err(Error::Vocabulary { .. })));
}

#[test]
fn logits_refuse_texts_they_cannot_read() {
    let lm = init(llama(), 3);
    assert!(matches!(logits(&lm, &[]), Err(Error::Empty { .. })));
    assert!(matches!(logits(&lm, &[40]), Err(Error::Token { id: 40, .. })));
    assert!(matches!(logits(&lm, &ids(65, 0)), Err(Error::TooLong { limit: 64, got: 65, .. })));
    assert_eq!(logits(&lm, &ids(64, 0)).unwrap().len(), 64 * 40);
}
