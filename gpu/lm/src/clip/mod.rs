//! CLIP: an image tower and a text tower that embed into one space, from a Hugging Face folder of a `CLIPModel`.
//!
//! Invariant: an embedding is a function of its image or text alone, bit for bit: not of what else is asked, nor of the machine's vector width.
//! Not here: how an image file becomes pixels, prompts, graphics processors.

mod config;

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use crate::checkpoint::{CONFIG, TOKENIZER, TOKENIZER_CONFIG, read_file, tensors};
use crate::cpu::{Panels, Tower, TowerAt, TowerWork, apply, layer_norm, norm_at};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::weights::{Init, Slots};

pub use config::ClipConfig;

/// Both towers with the tokenizer.
pub struct Clip {
    config: ClipConfig,
    tokenizer: Tokenizer,
    at: Places,
    data: Vec<f32>,
    text: Tower,
    vision: Tower,
    patches: Panels,
    text_projection: Panels,
    visual_projection: Panels,
}

impl std::fmt::Debug for Clip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clip").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Where what is not within a tower's blocks lies.
struct Places {
    tokens: Range<usize>,
    text_positions: Range<usize>,
    text_norm: [Range<usize>; 2],
    class: Range<usize>,
    image_positions: Range<usize>,
    before: [Range<usize>; 2],
    after: [Range<usize>; 2],
    scale: Range<usize>,
}

impl Clip {
    /// Reads a folder: `config.json`, `tokenizer.json`, and `model.safetensors` or its shards and index, in f32, f16 or bf16.
    ///
    /// # Errors
    /// `NoFile`, `Io` or `Malformed` for a file; `Config` for a network that is not built; `Tensors` or `Tensor` if the weights are not those of
    /// the configuration; `Vocabulary` if the tokenizer does not fit.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        Self::read(|name| read_file(dir, name))
    }

    fn read<'a>(file: impl Fn(&str) -> Result<Option<Cow<'a, [u8]>>>) -> Result<Self> {
        let need = |name: &str| file(name)?.ok_or_else(|| Error::NoFile { name: name.to_owned() });
        let config = ClipConfig::from_json(&need(CONFIG)?)?;
        let tokenizer = Tokenizer::from_json(&need(TOKENIZER)?, file(TOKENIZER_CONFIG)?.as_deref())?;
        tokenizer.check_fits(config.vocab_size)?;
        let ClipConfig { text, vision, vocab_size, max_positions, patch_size, image_size, projection, .. } = config;
        let (mut slots, side) = (Slots::default(), image_size / patch_size);
        let name = |of: &str| of.to_owned();
        let tokens =
            slots.push(name("text_model.embeddings.token_embedding.weight"), &[vocab_size, text.hidden], Init::Normal);
        let text_positions = slots.push(
            name("text_model.embeddings.position_embedding.weight"),
            &[max_positions, text.hidden],
            Init::Normal,
        );
        let text_at = TowerAt::new(&mut slots, "text_model", &text);
        let text_norm = norm_at(&mut slots, "text_model.final_layer_norm", text.hidden);
        let class = slots.push(name("vision_model.embeddings.class_embedding"), &[vision.hidden], Init::Normal);
        let patches = slots.push(
            name("vision_model.embeddings.patch_embedding.weight"),
            &[vision.hidden, 3, patch_size, patch_size],
            Init::Normal,
        );
        let image_positions = slots.push(
            name("vision_model.embeddings.position_embedding.weight"),
            &[side * side + 1, vision.hidden],
            Init::Normal,
        );
        let before = norm_at(&mut slots, "vision_model.pre_layrnorm", vision.hidden);
        let vision_at = TowerAt::new(&mut slots, "vision_model", &vision);
        let after = norm_at(&mut slots, "vision_model.post_layernorm", vision.hidden);
        let visual_projection =
            slots.push(name("visual_projection.weight"), &[projection, vision.hidden], Init::Normal);
        let text_projection = slots.push(name("text_projection.weight"), &[projection, text.hidden], Init::Normal);
        let scale = slots.push(name("logit_scale"), &[], Init::One);
        let data = tensors(file, &slots.slots, None)?;
        let pack = |k: usize, n: usize, at: &Range<usize>| Panels::transposed(k, n, &data[at.clone()]);
        Ok(Self {
            text: Tower::new(&data, &text_at, text),
            vision: Tower::new(&data, &vision_at, vision),
            patches: pack(3 * patch_size * patch_size, vision.hidden, &patches),
            text_projection: pack(text.hidden, projection, &text_projection),
            visual_projection: pack(vision.hidden, projection, &visual_projection),
            at: Places { tokens, text_positions, text_norm, class, image_positions, before, after, scale },
            config,
            tokenizer,
            data,
        })
    }

    /// What the model is made of.
    #[must_use]
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// Its tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How many numbers its weights are.
    #[must_use]
    pub fn n_params(&self) -> usize {
        self.data.len()
    }

    /// What cosines are multiplied by to be logits.
    #[must_use]
    pub fn logit_scale(&self) -> f32 {
        libm::expf(self.data[self.at.scale.start])
    }

    fn norm(&self, x: &[f32], [weight, bias]: &[Range<usize>; 2], eps: f32) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        layer_norm(x, &self.data[weight.clone()], &self.data[bias.clone()], eps, &mut out);
        out
    }

    /// The embedding of a text, f32 `[projection]`, of no particular length. Special tokens are put around it as its tokenizer does.
    ///
    /// # Errors
    /// `Tokenizer`; `TooLong` for a text longer than the model's context: nothing is cut off; `Empty` if there is no token to read at.
    pub fn text_features(&self, text: &str) -> Result<Vec<f32>> {
        self.id_features(&self.tokenizer.encode_with_special(text)?)
    }

    /// The same of token ids, with those around them.
    ///
    /// # Errors
    /// As [`Clip::text_features`]; `Token` for an id the model has no row for.
    pub fn id_features(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let ClipConfig { vocab_size, max_positions, eos, projection, .. } = self.config;
        if ids.len() > max_positions {
            return Err(Error::TooLong { what: "text", idx: 0, limit: max_positions, got: ids.len() });
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab_size) {
            return Err(Error::Token { what: "text", idx: 0, vocab_size, id: *id });
        }
        let end = match eos {
            Some(eos) => ids.iter().position(|id| *id == eos),
            None => ids.iter().max().and_then(|most| ids.iter().position(|id| id == most)),
        };
        let end = end.ok_or(Error::Empty { what: "text", idx: 0, expected: "a token that ends it" })?;
        let (hidden, eps) = (self.config.text.hidden, self.config.text.eps);
        // What comes after is not seen by what is read.
        let mut x = Vec::with_capacity((end + 1) * hidden);
        let positions = &self.data[self.at.text_positions.clone()];
        for (id, position) in ids[..=end].iter().zip(positions.chunks_exact(hidden)) {
            let token = &self.data[self.at.tokens.start + *id as usize * hidden..][..hidden];
            x.extend(token.iter().zip(position).map(|(token, position)| token + position));
        }
        let mut work = TowerWork::default();
        self.text.forward(&mut x, true, &mut work);
        let pooled = self.norm(&x[end * hidden..], &self.at.text_norm, eps);
        Ok(apply(&pooled, hidden, &self.text_projection, projection, &mut work.pack))
    }

    /// The embedding of an image, f32 `[projection]`, of no particular length. `pixels`: normalised, f32 `[3, image_size, image_size]`.
    ///
    /// # Errors
    /// `Range` for another number of pixels, or one that is not finite.
    pub fn image_features(&self, pixels: &[f32]) -> Result<Vec<f32>> {
        let ClipConfig { image_size, patch_size, projection, vision, .. } = self.config;
        if pixels.len() != self.config.n_pixels() || pixels.iter().any(|pixel| !pixel.is_finite()) {
            let expected =
                format!("{} finite numbers, three channels of {image_size} × {image_size}", self.config.n_pixels());
            return Err(Error::Range { what: "pixels", expected, got: format!("{} numbers", pixels.len()) });
        }
        let (hidden, side, k) = (vision.hidden, image_size / patch_size, 3 * patch_size * patch_size);
        let mut patches = Vec::with_capacity(side * side * k);
        for row in 0..side {
            for column in 0..side {
                for line in (0..3).flat_map(|channel| (0..patch_size).map(move |line| (channel, line))) {
                    let (channel, line) = line;
                    let start = (channel * image_size + row * patch_size + line) * image_size + column * patch_size;
                    patches.extend_from_slice(&pixels[start..start + patch_size]);
                }
            }
        }
        let mut work = TowerWork::default();
        let embedded = apply(&patches, k, &self.patches, hidden, &mut work.pack);
        let mut x = [&self.data[self.at.class.clone()], &embedded].concat();
        for (x, position) in x.iter_mut().zip(&self.data[self.at.image_positions.clone()]) {
            *x += position;
        }
        let mut x = self.norm(&x, &self.at.before, vision.eps);
        self.vision.forward(&mut x, false, &mut work);
        let pooled = self.norm(&x[..hidden], &self.at.after, vision.eps);
        Ok(apply(&pooled, hidden, &self.visual_projection, projection, &mut work.pack))
    }
}
