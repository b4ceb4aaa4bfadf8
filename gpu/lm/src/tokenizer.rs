//! Text to token ids and back.
//!
//! A wrapper of Hugging Face's `tokenizers` that keeps the bytes it was read from, so that a checkpoint's tokenizer is
//! written back unchanged; and a builder of whole-word tokenizers for small made-up languages.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// `<pad>`, the first id of [`Tokenizer::words`].
pub const PAD: u32 = 0;
/// `<bos>`, the second.
pub const BOS: u32 = 1;
/// `<eos>`, the third.
pub const EOS: u32 = 2;
/// `<unk>`, the fourth: what a word outside the vocabulary becomes.
pub const UNK: u32 = 3;

const SPECIAL: [&str; 4] = ["<pad>", "<bos>", "<eos>", "<unk>"];

/// Turns text into token ids and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    json: Vec<u8>,
    config_json: Option<Vec<u8>>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json`, and keeps `tokenizer_config.json` to be written back.
    ///
    /// # Errors
    /// `Malformed` if it is not a tokenizer this version of `tokenizers` reads.
    pub fn from_json(json: &[u8], config_json: Option<&[u8]>) -> Result<Self> {
        let malformed = |detail: String| Error::Malformed { name: "tokenizer.json".to_owned(), detail };
        let text = std::str::from_utf8(json).map_err(|error| malformed(error.to_string()))?;
        let inner = tokenizers::Tokenizer::from_str(text).map_err(|error| malformed(error.to_string()))?;
        Ok(Self { inner, json: json.to_vec(), config_json: config_json.map(<[u8]>::to_vec) })
    }

    /// A tokenizer of whole words: text is split at white space, and each word is one token.
    ///
    /// Ids 0 to 3 are `<pad>`, `<bos>`, `<eos>` and `<unk>`, then come `words` in their order. Decoding joins with one
    /// space. transformers loads it as a `PreTrainedTokenizerFast`.
    ///
    /// # Errors
    /// `Tokenizer` if a word is empty, contains white space, or occurs twice.
    pub fn words(words: &[&str]) -> Result<Self> {
        let all: Vec<&str> = SPECIAL.iter().chain(words).copied().collect();
        let mut seen = BTreeSet::new();
        for word in &all {
            let fault = if word.is_empty() || word.contains(char::is_whitespace) {
                "is empty or contains white space"
            } else if seen.insert(*word) {
                continue;
            } else {
                "occurs twice"
            };
            return Err(Error::Tokenizer { detail: format!("word `{word}` {fault}") });
        }
        let vocab: serde_json::Map<String, Value> =
            all.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
        let added: Vec<Value> = SPECIAL
            .iter()
            .enumerate()
            .map(|(id, token)| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true})
            })
            .collect();
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": null,
            "decoder": null,
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
        });
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "<pad>",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "unk_token": "<unk>",
            "clean_up_tokenization_spaces": false,
        });
        Self::from_json(format!("{tokenizer:#}\n").as_bytes(), Some(format!("{config:#}\n").as_bytes()))
    }

    /// The ids of `text`, without special tokens around it.
    ///
    /// # Errors
    /// `Tokenizer` if the tokenizer's model has no token for a part of it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, false)
    }

    /// The ids of `text`, with the special tokens its post-processor puts around it.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, true)
    }

    fn encode_as(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, special).map_err(|error| detail(error.as_ref()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`, special tokens left out. Ids without a token are left out too.
    ///
    /// # Errors
    /// `Tokenizer` if the tokens do not decode.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(|error| detail(error.as_ref()))
    }

    /// The id of a token.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// One more than the largest id.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.largest().map_or(0, |(_, id)| id as usize + 1)
    }

    /// Checks that a model with `vocab_size` rows has one for every id.
    ///
    /// # Errors
    /// `Vocabulary`, naming the largest id.
    pub fn check_fits(&self, vocab_size: usize) -> Result<()> {
        match self.largest() {
            Some((token, id)) if id as usize >= vocab_size => Err(Error::Vocabulary { vocab_size, token, id }),
            _ => Ok(()),
        }
    }

    /// The bytes of `tokenizer.json`.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The bytes of `tokenizer_config.json`, if there is one.
    #[must_use]
    pub fn config_json(&self) -> Option<&[u8]> {
        self.config_json.as_deref()
    }

    fn largest(&self) -> Option<(String, u32)> {
        self.inner.get_vocab(true).into_iter().max_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)))
    }
}

fn detail(error: &(dyn std::error::Error + Send + Sync)) -> Error {
    Error::Tokenizer { detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_encode_to_their_position_and_decode_with_one_space() {
        let tokenizer = Tokenizer::words(&["fun", "x", "=>", "(", ")"]).expect("builds");
        let ids = tokenizer.encode("fun  x\n=> ( x )").expect("encodes");
        assert_eq!(ids, [4, 5, 6, 7, 5, 8]);
        assert_eq!(tokenizer.decode(&ids).expect("decodes"), "fun x => ( x )");
        assert_eq!(tokenizer.encode("fun y").expect("encodes"), [4, UNK]);
        assert_eq!(tokenizer.decode(&[BOS, 4, EOS, PAD]).expect("decodes"), "fun");
        assert_eq!((tokenizer.id("<eos>"), tokenizer.token(5).as_deref()), (Some(EOS), Some("x")));
        assert_eq!(tokenizer.vocab_size(), 9);
    }

    #[test]
    fn a_special_token_inside_text_is_that_token() {
        let tokenizer = Tokenizer::words(&["a"]).expect("builds");
        assert_eq!(tokenizer.encode("<bos> a <eos>").expect("encodes"), [BOS, 4, EOS]);
    }

    #[test]
    fn a_tokenizer_reads_back_from_its_own_bytes() {
        let built = Tokenizer::words(&["a", "b"]).expect("builds");
        let read = Tokenizer::from_json(built.json(), built.config_json()).expect("reads");
        assert_eq!(read.encode("b a").expect("encodes"), [5, 4]);
        assert_eq!(read.json(), built.json());
    }

    #[test]
    fn unusable_words_and_files_are_refused() {
        for words in [&["a", "a"][..], &["a b"], &[""], &["<eos>"]] {
            assert!(matches!(Tokenizer::words(words), Err(Error::Tokenizer { .. })), "{words:?}");
        }
        assert!(matches!(Tokenizer::from_json(b"{}", None), Err(Error::Malformed { .. })));
        assert!(matches!(Tokenizer::from_json(&[0xff], None), Err(Error::Malformed { .. })));
    }

    #[test]
    fn a_vocabulary_larger_than_the_model_is_refused_by_its_largest_token() {
        let tokenizer = Tokenizer::words(&["a", "b"]).expect("builds");
        assert!(tokenizer.check_fits(6).is_ok());
        let error = tokenizer.check_fits(5).expect_err("5 rows for ids to 5");
        assert!(matches!(error, Error::Vocabulary { vocab_size: 5, ref token, id: 5 } if token == "b"), "{error}");
    }
}
