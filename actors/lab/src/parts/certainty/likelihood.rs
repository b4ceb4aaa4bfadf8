//! How likely a model finds given texts, and what follows from that: how sure it is, which letter it would choose.

use std::sync::Arc;

use tracker_actors::{Fault, Handle, Pool, PoolOptions, Turn, Worker};
use tracker_lm::{Continuation, Lm};

use super::template::split;
use crate::error::Result;

/// Prompts and what is said to follow each, for one model.
pub struct Given {
    model: Arc<Lm>,
    /// Tokens of prompts and of what follows them.
    rows: Vec<[Vec<u32>; 2]>,
}

impl Given {
    /// Texts that follow others.
    ///
    /// # Errors
    /// Of the tokenizer.
    pub fn new<'a>(model: &Arc<Lm>, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let rows = pairs.into_iter().map(|(before, after)| split(model, before, after));
        Ok(Self { model: Arc::clone(model), rows: rows.collect::<Result<_>>()? })
    }
}

/// Says how likely given texts are, on all threads of one worker.
pub struct Likelihood {
    n_threads: usize,
}

impl Likelihood {
    /// Starts one.
    ///
    /// # Errors
    /// Those of starting a pool.
    pub fn start(actors: &Handle, n_threads: usize) -> Result<Pool<Self>> {
        Ok(Pool::start(actors, PoolOptions::cpu("likelihood", 1), move |_| Ok(Self { n_threads }))?)
    }
}

impl Worker for Likelihood {
    type Message = Given;
    /// Of every text, the natural logarithm of each token's probability; none of an empty one.
    type Reply = Vec<Vec<f64>>;
    type State = u64;

    async fn handle(&mut self, given: Given, turn: &mut Turn<'_, u64>) -> std::result::Result<Self::Reply, Fault> {
        let Given { model, rows } = given;
        let is_asked = |row: &&[Vec<u32>; 2]| row.iter().all(|ids| !ids.is_empty());
        let asked: Vec<Continuation<'_>> =
            rows.iter().filter(is_asked).map(|[prompt, completion]| Continuation { prompt, completion }).collect();
        let scored = tracker_lm::log_probs(&model, &asked, self.n_threads)
            .map_err(|error| Fault::input("could not score").because(error))?;
        turn.update(|n_texts| *n_texts += rows.len() as u64);
        let mut scored = scored.into_iter();
        let of = |row: &[Vec<u32>; 2]| match is_asked(&row).then(|| scored.next()).flatten() {
            Some(log_probs) => log_probs.into_iter().map(f64::from).collect(),
            None => vec![],
        };
        Ok(rows.iter().map(of).collect())
    }
}

/// s = p(sure) / (p(sure) + p(unsure)), in [0, 1], from the log-probabilities of both words, all tokens of each; `None` where
/// neither is possible.
#[must_use]
pub fn sureness([sure, unsure]: [f64; 2]) -> Option<f64> {
    let s = 1.0 / (1.0 + libm::exp(unsure - sure));
    (!s.is_nan()).then_some(s)
}

/// The likeliest of several answers, the first of equals, and its share of their probability, in (0, 1]; `None` of none, and
/// where none is possible.
#[must_use]
pub fn letters(log_probs: &[f64]) -> Option<(usize, f64)> {
    let most = log_probs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let at = log_probs.iter().position(|log_prob| *log_prob == most && most.is_finite())?;
    Some((at, 1.0 / log_probs.iter().map(|log_prob| libm::exp(log_prob - most)).sum::<f64>()))
}

#[cfg(test)]
mod tests {
    use tracker_gpu::Device;
    use tracker_lm::{Config, EOS, Tokenizer};

    use super::super::{Template, token_texts};
    use super::*;

    #[test]
    fn sureness_is_the_share_of_two_words() {
        assert_eq!(sureness([-1.0, -1.0]), Some(0.5));
        assert!((sureness([0.3f64.ln(), 0.1f64.ln()]).unwrap() - 0.75).abs() < 1e-15);
        assert_eq!(sureness([-0.5, f64::NEG_INFINITY]), Some(1.0));
        assert_eq!(sureness([f64::NEG_INFINITY, -800.0]), Some(0.0));
        assert_eq!(sureness([f64::NEG_INFINITY; 2]), None);
    }

    #[test]
    fn the_likeliest_letter_wins_and_ties_take_the_first() {
        assert_eq!(letters(&[-2.0, -2.0, -2.0, -2.0]), Some((0, 0.25)));
        assert_eq!(letters(&[-7.0]), Some((0, 1.0)));
        let (at, share) = letters(&[0.1f64.ln(), 0.3f64.ln()]).unwrap();
        assert!(at == 1 && (share - 0.75).abs() < 1e-15);
        assert_eq!((letters(&[]), letters(&[f64::NEG_INFINITY])), (None, None));
    }

    /// A tokenizer in which `unsure` is two tokens and a word's first letters are shared.
    fn pieces() -> Lm {
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true},
            "post_processor": null,
            "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true},
            "model": {"type": "BPE", "vocab": {"<unk>": 0, "▁": 1, "s": 2, "u": 3, "r": 4, "e": 5, "n": 6, "q": 7, ".": 8, "su": 9,
                "re": 10, "sure": 11, "▁sure": 12, "un": 13, "▁un": 14},
                "merges": ["s u", "r e", "su re", "▁ sure", "u n", "▁ un"], "unk_token": "<unk>"},
        });
        let tokenizer = Tokenizer::from_json(json.to_string().as_bytes(), None).unwrap();
        let config = Config { eos: vec![EOS], ..Config::tiny(15, 64) };
        Lm::init(config, tokenizer, 1, &Device::cpu()).unwrap()
    }

    #[test]
    fn a_word_of_several_tokens_counts_with_all_of_them() {
        let model = Arc::new(pieces());
        let given = Given::new(&model, [("q", " sure"), ("q", " unsure"), ("q", "")]).unwrap();
        assert_eq!(given.rows.iter().map(|row| row[1].len()).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(token_texts(&model, &given.rows[1][1]).unwrap(), ["un", "sure"]);
        let rows: Vec<[Vec<u32>; 2]> = given.rows.clone();
        let asked: Vec<Continuation<'_>> =
            rows[..2].iter().map(|[prompt, completion]| Continuation { prompt, completion }).collect();
        let expected = tracker_lm::log_probs(&model, &asked, 1).unwrap();
        let runtime = tracker_actors::Runtime::new().unwrap();
        let pool = Likelihood::start(&runtime, 1).unwrap();
        let got = runtime.block_on(async { pool.ask(given).await.unwrap() });
        assert_eq!(got[1].len(), 2);
        let whole: f64 = expected[1].iter().map(|x| f64::from(*x)).sum();
        assert!((got[1].iter().sum::<f64>() - whole).abs() < 1e-12 && got[2].is_empty());
        // The first token alone would have told another story.
        assert!(whole < f64::from(expected[1][0]) - 0.1);
    }

    #[test]
    fn what_is_trained_on_has_the_tokens_a_model_meets_when_it_is_asked() {
        let model = pieces();
        let template =
            Template { question: "q {question} ?".into(), end: " .".into(), check: "un".into(), ..Template::default() };
        let template = Template { check: "un".into(), ..template };
        for is_sure in [true, false] {
            let example = template.example(&model, &template.padded("e", "sure", is_sure)).unwrap();
            // Asked: the prompt, the answer, the question after certainty, then the word, each as it goes on from the text before.
            let text = format!("{}{}{}", template.prompt("e"), template.answer("sure"), template.checked());
            let [given, word] = split(&model, &text, &template.word(is_sure)).unwrap();
            assert_eq!(&example.ids[..given.len()], given);
            assert_eq!(&example.ids[given.len()..given.len() + word.len()], word);
            let [prompt, answer] = split(&model, &template.prompt("e"), &template.answer("sure")).unwrap();
            // Learnt are the answer and the word with what ends them, not the questions.
            let learnt: Vec<usize> = (0..example.ids.len()).filter(|at| example.mask[*at]).collect();
            let (a, w) = (prompt.len(), given.len());
            let expected: Vec<usize> = (a..a + answer.len()).chain(w..example.ids.len()).collect();
            assert_eq!(learnt, expected);
            assert_eq!(example.ids.last(), Some(&EOS));
        }
    }

    #[test]
    fn templates_that_would_mislead_are_refused_by_key() {
        let refused = |change: fn(&mut Template), key: &str| {
            let mut template = Template::default();
            change(&mut template);
            let error = template.check("template").unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        };
        refused(|t| t.question = "none".into(), "template.question");
        refused(|t| t.question = "{question} ".into(), "template.question");
        refused(|t| t.question = "{question}{question}".into(), "template.question");
        refused(|t| t.end = "!".into(), "template.end");
        refused(|t| t.check = " I am".into(), "template.check");
        refused(|t| t.sure = "very sure".into(), "template.sure");
        refused(|t| t.unsure = "surely not".into(), "template.unsure");
        refused(|t| t.unsure = "surely".into(), "template.unsure");
        Template::default().check("template").unwrap();
    }
}
