//! What a model is made of, as Hugging Face's `config.json` says it.
//!
//! Invariant: a [`Config`] that passed [`Config::validate`] describes a network this crate computes exactly; a file that
//! asks for anything else (a sliding window, biases on the output projection, an unknown rope scaling) is refused by key.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// A family of decoders, by the name transformers gives its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `LlamaForCausalLM`: no biases.
    Llama,
    /// `Qwen2ForCausalLM`: biases on the query, key and value projections.
    Qwen2,
}

impl Architecture {
    fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
        }
    }

    fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
        }
    }
}

/// How rotary frequencies are stretched past the context a model was first trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// As computed from `rope_theta`.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// The divisor, ≥ 1.
        factor: f64,
    },
    /// Long wavelengths divided by `factor`, short ones kept, the rest blended (Llama 3.1).
    Llama3 {
        /// The divisor of long wavelengths, ≥ 1.
        factor: f64,
        /// `original_positions / low_freq` is the wavelength from which the divisor applies in full.
        low_freq: f64,
        /// `original_positions / high_freq` is the wavelength up to which nothing is divided.
        high_freq: f64,
        /// Positions of the first training.
        original_positions: usize,
    },
}

/// The shape and constants of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The family.
    pub architecture: Architecture,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Blocks.
    pub n_layers: usize,
    /// Query heads of a block.
    pub n_heads: usize,
    /// Key and value heads of a block; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Their stretching.
    pub rope_scaling: RopeScaling,
    /// Added to the mean square before its root.
    pub rms_norm_eps: f64,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Tokens a sequence may have, prompt and completion together.
    pub max_positions: usize,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// The token that fills up rows; never predicted.
    pub pad: Option<u32>,
}

impl Config {
    /// A Llama decoder of about 1.07 million parameters plus 256 a token: 5 blocks of width 128, 4 heads, feed-forward 344.
    #[must_use]
    pub fn tiny(vocab_size: usize, max_positions: usize) -> Self {
        Self {
            architecture: Architecture::Llama,
            vocab_size,
            hidden_size: 128,
            intermediate_size: 344,
            n_layers: 5,
            n_heads: 4,
            n_kv_heads: 4,
            head_dim: 32,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: false,
            max_positions,
            bos: None,
            eos: Vec::new(),
            pad: None,
        }
    }

    /// Whether query, key and value projections add a bias.
    #[must_use]
    pub fn qkv_bias(&self) -> bool {
        self.architecture == Architecture::Qwen2
    }

    /// Reads `config.json`.
    ///
    /// Both spellings of rotary settings are read: `rope_theta` with `rope_scaling`, and `rope_parameters`.
    ///
    /// # Errors
    /// `Architecture` for an unknown family; `Config` for a key that is missing, malformed or asks for what is not built;
    /// `Malformed` if it is not a JSON object.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let malformed = |detail: String| Error::Malformed { name: "config.json".to_owned(), detail };
        let value: Value = serde_json::from_slice(json).map_err(|error| malformed(error.to_string()))?;
        let Value::Object(map) = value else {
            return Err(malformed("expected an object".to_owned()));
        };
        let keys = Keys(&map);
        let architecture = keys.architecture()?;
        keys.refuse_unbuilt()?;
        let hidden_size = keys.size("hidden_size")?;
        let n_heads = keys.size("num_attention_heads")?;
        let max_positions = keys.size("max_position_embeddings")?;
        let (rope_theta, rope_scaling) = keys.rope(max_positions)?;
        let config = Self {
            architecture,
            vocab_size: keys.size("vocab_size")?,
            hidden_size,
            intermediate_size: keys.size("intermediate_size")?,
            n_layers: keys.size("num_hidden_layers")?,
            n_heads,
            n_kv_heads: keys.size_or("num_key_value_heads", n_heads)?,
            head_dim: keys.size_or("head_dim", hidden_size / n_heads.max(1))?,
            rope_theta,
            rope_scaling,
            rms_norm_eps: keys.number_or("rms_norm_eps", 1e-6)?,
            tie_word_embeddings: keys.flag("tie_word_embeddings")?,
            max_positions,
            bos: keys.ids("bos_token_id")?.first().copied(),
            eos: keys.ids("eos_token_id")?,
            pad: keys.ids("pad_token_id")?.first().copied(),
        };
        config.validate()?;
        Ok(config)
    }

    /// Writes `config.json`, in the spelling of transformers 4 and 5, keys sorted.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let (kind, factor) = match self.rope_scaling {
            RopeScaling::None => ("default", None),
            RopeScaling::Linear { factor } => ("linear", Some(factor)),
            RopeScaling::Llama3 { factor, .. } => ("llama3", Some(factor)),
        };
        let mut rope = Map::new();
        rope.insert("rope_type".to_owned(), json!(kind));
        if let Some(factor) = factor {
            rope.insert("factor".to_owned(), json!(factor));
        }
        if let RopeScaling::Llama3 { low_freq, high_freq, original_positions, .. } = self.rope_scaling {
            rope.insert("low_freq_factor".to_owned(), json!(low_freq));
            rope.insert("high_freq_factor".to_owned(), json!(high_freq));
            rope.insert("original_max_position_embeddings".to_owned(), json!(original_positions));
        }
        let scaling = factor.map(|_| Value::Object(rope.clone()));
        rope.insert("rope_theta".to_owned(), json!(self.rope_theta));
        let value = json!({
            "architectures": [self.architecture.class()],
            "model_type": self.architecture.model_type(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rope_theta": self.rope_theta,
            "rope_scaling": scaling,
            "rope_parameters": rope,
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "max_position_embeddings": self.max_positions,
            "bos_token_id": self.bos,
            "eos_token_id": self.eos_json(),
            "pad_token_id": self.pad,
            "initializer_range": 0.02,
            "dtype": "float32",
            "torch_dtype": "float32",
            "use_cache": true,
        });
        pretty(&value)
    }

    /// Writes `generation_config.json`.
    #[must_use]
    pub fn generation_json(&self) -> Vec<u8> {
        pretty(&json!({
            "bos_token_id": self.bos,
            "eos_token_id": self.eos_json(),
            "pad_token_id": self.pad,
            "do_sample": true,
        }))
    }

    fn eos_json(&self) -> Value {
        match self.eos.as_slice() {
            [] => Value::Null,
            [id] => json!(id),
            ids => json!(ids),
        }
    }

    /// Checks that sizes are positive and divide one another as a decoder needs.
    ///
    /// # Errors
    /// `Config`, naming the first key that does not fit.
    pub fn validate(&self) -> Result<()> {
        // Far above any model there is, and far below what would exhaust memory before a file is looked at.
        let bounded = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 17),
            ("intermediate_size", self.intermediate_size, 1 << 19),
            ("num_hidden_layers", self.n_layers, 1 << 12),
            ("num_attention_heads", self.n_heads, 1 << 12),
            ("num_key_value_heads", self.n_kv_heads, 1 << 12),
            ("head_dim", self.head_dim, 1 << 12),
            ("max_position_embeddings", self.max_positions, 1 << 22),
        ];
        for (key, size, most) in bounded {
            if !(1..=most).contains(&size) {
                return Err(wrong(key, &format!("from 1 to {most}"), &size));
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(wrong("num_key_value_heads", &format!("a divisor of {}", self.n_heads), &self.n_kv_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(wrong("head_dim", "an even number", &self.head_dim));
        }
        for (key, value) in [("rope_theta", self.rope_theta), ("rms_norm_eps", self.rms_norm_eps)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(wrong(key, "a positive number", &value));
            }
        }
        let special = self.bos.iter().chain(&self.eos).chain(&self.pad);
        if let Some(id) = special.into_iter().find(|id| **id as usize >= self.vocab_size) {
            return Err(wrong("bos_token_id, eos_token_id, pad_token_id", &format!("below {}", self.vocab_size), id));
        }
        Ok(())
    }

    /// Rotary frequencies, radians a position, one for each pair of a head's dimensions: `[head_dim / 2]`, rounded to
    /// f32 as transformers does.
    pub(crate) fn frequencies(&self) -> Vec<f32> {
        (0..self.head_dim / 2)
            .map(|pair| {
                let exponent = 2.0 * pair as f64 / self.head_dim as f64;
                let frequency = (1.0 / libm::pow(self.rope_theta, exponent)) as f32;
                self.stretched(frequency)
            })
            .collect()
    }

    fn stretched(&self, frequency: f32) -> f32 {
        match self.rope_scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / factor as f32,
            RopeScaling::Llama3 { factor, low_freq, high_freq, original_positions } => {
                let original = original_positions as f64;
                let wavelength = std::f64::consts::TAU / f64::from(frequency);
                if wavelength < original / high_freq {
                    frequency
                } else if wavelength > original / low_freq {
                    frequency / factor as f32
                } else {
                    let smooth = (original / wavelength - low_freq) / (high_freq - low_freq);
                    let frequency = f64::from(frequency);
                    ((1.0 - smooth) * frequency / factor + smooth * frequency) as f32
                }
            }
        }
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = format!("{value:#}");
    text.push('\n');
    text.into_bytes()
}

fn wrong(key: &str, expected: &str, got: &dyn std::fmt::Display) -> Error {
    Error::Config { key: key.to_owned(), expected: expected.to_owned(), got: got.to_string() }
}

/// Typed reads of a configuration's keys; `null` is the same as absent.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn architecture(&self) -> Result<Architecture> {
        let class = self.get("architectures").and_then(|names| names.get(0)).and_then(Value::as_str);
        let kind = self.get("model_type").and_then(Value::as_str);
        match (class, kind) {
            (Some("LlamaForCausalLM"), _) | (None, Some("llama")) => Ok(Architecture::Llama),
            (Some("Qwen2ForCausalLM"), _) | (None, Some("qwen2")) => Ok(Architecture::Qwen2),
            (class, kind) => Err(Error::Architecture {
                got: class.or(kind).unwrap_or("no architecture and no model type").to_owned(),
            }),
        }
    }

    /// Refuses keys that would change the network into one that is not built.
    fn refuse_unbuilt(&self) -> Result<()> {
        for key in ["attention_bias", "mlp_bias", "use_sliding_window"] {
            if self.flag(key)? {
                return Err(wrong(key, "`false`", &true));
            }
        }
        if let Some(act) = self.get("hidden_act").filter(|act| act.as_str() != Some("silu")) {
            return Err(wrong("hidden_act", "`silu`", act));
        }
        if let Some(value) = self.get("quantization_config") {
            return Err(wrong("quantization_config", "no quantisation", value));
        }
        if let Some(value) = self.get("partial_rotary_factor").filter(|value| value.as_f64() != Some(1.0)) {
            return Err(wrong("partial_rotary_factor", "`1.0`", value));
        }
        let layers = self.get("layer_types").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        match layers.iter().find(|kind| kind.as_str() != Some("full_attention")) {
            Some(kind) => Err(wrong("layer_types", "`full_attention` only", kind)),
            None => Ok(()),
        }
    }

    fn size(&self, key: &str) -> Result<usize> {
        let value = self.get(key).ok_or_else(|| wrong(key, "a whole number", &"nothing"))?;
        value.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| wrong(key, "a whole number", value))
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.get(key).is_some() { self.size(key) } else { Ok(default) }
    }

    fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        self.get(key).map_or(Ok(default), |value| value.as_f64().ok_or_else(|| wrong(key, "a number", value)))
    }

    fn flag(&self, key: &str) -> Result<bool> {
        self.get(key).map_or(Ok(false), |value| value.as_bool().ok_or_else(|| wrong(key, "`true` or `false`", value)))
    }

    /// A token id or a list of them.
    fn ids(&self, key: &str) -> Result<Vec<u32>> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        values
            .iter()
            .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
            .collect::<Option<_>>()
            .ok_or_else(|| wrong(key, "a token id or a list of them", value))
    }

    fn rope(&self, max_positions: usize) -> Result<(f64, RopeScaling)> {
        let nested = |key| self.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        let parameters = nested("rope_parameters");
        let theta = if parameters.contains_key("rope_theta") {
            Keys(&parameters).number_or("rope_theta", 0.0)?
        } else {
            self.number_or("rope_theta", 10_000.0)?
        };
        let older = nested("rope_scaling");
        let says = |map: &serde_json::Map<String, Value>| {
            let kind = map.get("rope_type").or_else(|| map.get("type")).cloned();
            (kind, map.get("factor").cloned())
        };
        if !parameters.is_empty() && !older.is_empty() && says(&parameters) != says(&older) {
            let expected = "what `rope_parameters` says, or none";
            return Err(wrong("rope_scaling", expected, &Value::Object(older)));
        }
        let scaling = if parameters.is_empty() { older } else { parameters };
        let keys = Keys(&scaling);
        let kind = keys.get("rope_type").or_else(|| keys.get("type")).and_then(Value::as_str);
        let need = |key| {
            let number = keys.number_or(key, f64::NAN)?;
            if number > 0.0 { Ok(number) } else { Err(wrong(key, "a positive number", &number)) }
        };
        let scaling = match kind {
            None | Some("default") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear { factor: need("factor")? },
            Some("llama3") => RopeScaling::Llama3 {
                factor: need("factor")?,
                low_freq: need("low_freq_factor")?,
                high_freq: need("high_freq_factor")?,
                original_positions: keys.size_or("original_max_position_embeddings", max_positions)?,
            },
            Some(other) => return Err(wrong("rope_type", "`default`, `linear` or `llama3`", &other)),
        };
        Ok((theta, scaling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(key: &str, value: Value) -> Result<Config> {
        let mut json: Value = serde_json::from_slice(&Config::tiny(64, 32).to_json()).expect("own output parses");
        json[key] = value;
        Config::from_json(json.to_string().as_bytes())
    }

    #[test]
    fn a_written_config_reads_back_equal() {
        let mut config = Config::tiny(64, 32);
        config.eos = vec![2, 5];
        config.pad = Some(0);
        for scaling in [
            RopeScaling::None,
            RopeScaling::Linear { factor: 4.0 },
            RopeScaling::Llama3 { factor: 8.0, low_freq: 1.0, high_freq: 4.0, original_positions: 8192 },
        ] {
            config.rope_scaling = scaling;
            assert_eq!(Config::from_json(&config.to_json()).expect("reads"), config);
        }
    }

    #[test]
    fn both_spellings_of_rope_settings_mean_the_same() {
        let old = br#"{"model_type":"llama","vocab_size":8,"hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,
            "num_attention_heads":2,"max_position_embeddings":16,"rope_theta":500000.0,
            "rope_scaling":{"type":"linear","factor":2.0}}"#;
        let new = br#"{"model_type":"llama","vocab_size":8,"hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,
            "num_attention_heads":2,"max_position_embeddings":16,
            "rope_parameters":{"rope_type":"linear","factor":2.0,"rope_theta":500000.0}}"#;
        let old = Config::from_json(old).expect("old spelling");
        assert_eq!(old, Config::from_json(new).expect("new spelling"));
        assert_eq!((old.rope_theta, old.n_kv_heads, old.head_dim), (500_000.0, 2, 4));
    }

    #[test]
    fn what_is_not_built_is_refused_by_key() {
        let cases = [
            ("attention_bias", json!(true)),
            ("hidden_act", json!("gelu")),
            ("use_sliding_window", json!(true)),
            ("layer_types", json!(["full_attention", "sliding_attention"])),
            ("vocab_size", json!("many")),
            ("hidden_size", json!(null)),
            ("num_key_value_heads", json!(3)),
            ("head_dim", json!(3)),
            ("rms_norm_eps", json!(-1.0)),
        ];
        for (key, value) in cases {
            match edited(key, value) {
                Err(Error::Config { key: named, .. }) => assert_eq!(named, key),
                other => panic!("`{key}`: expected a refusal, got {other:?}"),
            }
        }
        let yarn = edited("rope_parameters", json!({"rope_type": "yarn", "factor": 4.0}));
        assert!(yarn.is_err_and(|error| error.to_string().contains("`yarn`")));
        let gpt = edited("architectures", json!(["GPT2LMHeadModel"]));
        assert!(gpt.is_err_and(|error| error.to_string().contains("`GPT2LMHeadModel`")));
        assert!(matches!(Config::from_json(b"[1]"), Err(Error::Malformed { .. })));
        assert!(edited("eos_token_id", json!(64)).is_err());
    }

    #[test]
    fn llama3_keeps_short_wavelengths_and_divides_long_ones() {
        let mut config = Config::tiny(64, 32);
        config.rope_theta = 500_000.0;
        let plain = config.frequencies();
        config.rope_scaling =
            RopeScaling::Llama3 { factor: 8.0, low_freq: 1.0, high_freq: 4.0, original_positions: 8192 };
        let scaled = config.frequencies();
        assert_eq!(plain[0], scaled[0]);
        assert_eq!(plain[15] / 8.0, scaled[15]);
        assert!(plain.iter().zip(&scaled).all(|(p, s)| *s <= *p && *s >= *p / 8.0));
    }
}
