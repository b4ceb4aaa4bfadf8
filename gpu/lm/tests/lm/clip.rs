//! A CLIP made by transformers computes here what it computes there. `tests/golden/make_clip.py` made the folder.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use tracker_lm::{Clip, ClipConfig, Error};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clip")
}

fn expected(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(folder().join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    match tensor.dtype() {
        safetensors::Dtype::I64 => {
            tensor.data().chunks_exact(8).map(|id| i64::from_le_bytes(id.try_into().unwrap()) as f32).collect()
        }
        safetensors::Dtype::F16 => {
            tensor.data().chunks_exact(2).map(|x| half::f16::from_le_bytes(x.try_into().unwrap()).to_f32()).collect()
        }
        _ => tensor.data().chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect(),
    }
}

fn unit(x: &[f32]) -> Vec<f32> {
    let length = x.iter().map(|x| x * x).sum::<f32>().sqrt();
    x.iter().map(|x| x / length).collect()
}

const TEXTS: [&str; 3] = ["w7 w4", "w9 w12 w30 w31 w8", "w63"];

/// The folder with another activation in its configuration.
fn with_activation(activation: &str) -> Clip {
    let copy = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "tokenizer.json"] {
        std::fs::copy(folder().join(name), copy.path().join(name)).unwrap();
    }
    let config = std::fs::read_to_string(folder().join("config.json")).unwrap();
    std::fs::write(copy.path().join("config.json"), config.replace("quick_gelu", activation)).unwrap();
    Clip::load(copy.path()).unwrap()
}

#[test]
fn logits_are_those_of_transformers_under_either_activation() {
    let waves: Vec<f32> = (0..3 * 32 * 32).map(|at| (0.37 * f64::from(at)).sin() as f32).collect();
    for activation in ["quick_gelu", "gelu"] {
        let clip = with_activation(activation);
        // Pixels were kept in half precision, which the second image shows to be the rest of the gap.
        for (name, pixels, near) in [("photo", expected("pixels"), 5e-3), ("waves", waves.clone(), 2e-5)] {
            let image = unit(&clip.image_features(&pixels).unwrap());
            for (text, want) in TEXTS.iter().zip(expected(&format!("{activation}.{name}"))) {
                let text = unit(&clip.text_features(text).unwrap());
                let got = clip.logit_scale() * image.iter().zip(text).map(|(a, b)| a * b).sum::<f32>();
                assert!((got - want).abs() < near, "{activation}, {name}: {got} for {want}");
            }
        }
    }
}

#[test]
fn texts_are_tokenised_with_what_stands_around_them_and_read_at_their_end() {
    let clip = Clip::load(folder()).unwrap();
    for (at, text) in TEXTS.iter().enumerate() {
        let ids: Vec<u32> = expected(&format!("ids{at}")).iter().map(|id| *id as u32).collect();
        assert_eq!(clip.tokenizer().encode_with_special(text).unwrap(), ids);
        // What follows the end is not seen.
        let padded = [ids.as_slice(), &[0, 0, 5]].concat();
        assert_eq!(clip.id_features(&ids).unwrap(), clip.id_features(&padded).unwrap());
    }
    // 2 stands for the largest id, which in this vocabulary is the end as well.
    let config = String::from_utf8(std::fs::read(folder().join("config.json")).unwrap()).unwrap();
    let legacy =
        ClipConfig::from_json(config.replace("\"eos_token_id\": 63", "\"eos_token_id\": 2").as_bytes()).unwrap();
    assert_eq!((legacy.eos, clip.config().eos), (None, Some(63)));
}

#[test]
fn what_cannot_be_embedded_or_read_is_refused() {
    let clip = Clip::load(folder()).unwrap();
    let long = vec!["w5"; 15].join(" ");
    assert!(matches!(clip.text_features(&long), Err(Error::TooLong { limit: 16, got: 17, .. })));
    assert!(matches!(clip.id_features(&[62, 7]), Err(Error::Empty { .. })));
    assert!(matches!(clip.id_features(&[64]), Err(Error::Token { id: 64, .. })));
    assert!(matches!(clip.image_features(&[0.0; 7]), Err(Error::Range { .. })));
    assert!(clip.image_features(&vec![f32::NAN; 3 * 32 * 32]).is_err());
    let config = String::from_utf8(std::fs::read(folder().join("config.json")).unwrap()).unwrap();
    for (from, to, key) in [
        ("\"model_type\": \"clip\"", "\"model_type\": \"siglip\"", "model_type"),
        ("quick_gelu", "relu", "text_config.hidden_act"),
        ("\"patch_size\": 8", "\"patch_size\": 7", "vision_config.patch_size"),
        ("\"num_attention_heads\": 4", "\"num_attention_heads\": 5", "text_config.num_attention_heads"),
        ("\"hidden_size\": 32", "\"hidden_size\": 0", "text_config.hidden_size"),
    ] {
        match ClipConfig::from_json(config.replace(from, to).as_bytes()) {
            Err(Error::Config { key: got, .. }) => assert_eq!(got, key),
            other => panic!("expected `{key}` to be refused, got {other:?}"),
        }
    }
    // A tower of three layers is not what the file has.
    let copy = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "tokenizer.json"] {
        std::fs::copy(folder().join(name), copy.path().join(name)).unwrap();
    }
    std::fs::write(
        copy.path().join("config.json"),
        config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
    )
    .unwrap();
    assert!(matches!(Clip::load(copy.path()), Err(Error::Tensors { missing, .. }) if missing.len() == 32));
}
