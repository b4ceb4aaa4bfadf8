//! How likely given words are after a text, all tokens of each: what a server does not report is missing, never guessed.

use super::logprobs::{after, echo, read_after, read_echo};
use super::verdict::Route;
use super::{Endpoint, Told, failed};
use crate::error::Result;

/// Signs that servers write in place of the blank before a word.
const BLANKS: [char; 4] = [' ', '▁', 'Ġ', '\u{a0}'];

impl Endpoint {
    /// The log-probability of each of `words` after a text, in nats, each with the blank before it; `None` of one that the server
    /// did not report whole.
    ///
    /// `Route::Top` finds words that are one token among the `top` likeliest; written with a blank and without, both count.
    /// `Route::Echo` sums over all tokens of a word and asks once a word; it needs `/completions`.
    ///
    /// # Errors
    /// `Endpoint` if it does not answer or refuses the request; `Input` if only recorded answers may be given and there is none.
    pub async fn words(&self, text: &str, words: &[String], route: Route, top: u32) -> Result<Vec<Option<f64>>> {
        let mut found = Vec::with_capacity(words.len());
        if route == Route::Echo {
            for word in words {
                let body = echo(self.settings(), &format!("{text}{word}"));
                let tokens = match self.exchange(&body, read_echo).await? {
                    Told::Answer(tokens) => tokens.unwrap_or_default(),
                    Told::Refused(said) => return Err(failed(&self.route(), said)),
                };
                found.push(ending(&tokens, word));
            }
            return Ok(found);
        }
        let body = after(self.settings(), text, top);
        let given = match self.exchange(&body, read_after).await? {
            Told::Answer(given) => given.unwrap_or_default(),
            Told::Refused(said) => return Err(failed(&self.route(), said)),
        };
        Ok(words.iter().map(|word| among(&given, word)).collect())
    }
}

/// The sum over the last tokens that together are the word.
fn ending(tokens: &[(String, Option<f64>)], word: &str) -> Option<f64> {
    let (mut text, mut sum) = (String::new(), 0.0);
    for (token, log_prob) in tokens.iter().rev() {
        text.insert_str(0, token);
        sum += (*log_prob)?;
        if text == word {
            return Some(sum);
        }
        if text.len() >= word.len() {
            return None;
        }
    }
    None
}

/// The probability of the tokens that are the word, but for blanks around it.
fn among(given: &[(String, f64)], word: &str) -> Option<f64> {
    let bare = |text: &str| text.trim_matches(BLANKS).to_owned();
    let all = given.iter().filter(|(token, _)| bare(token) == bare(word)).map(|(_, log_prob)| libm::exp(*log_prob));
    let sum: f64 = all.sum();
    (sum > 0.0).then(|| libm::log(sum))
}

#[cfg(test)]
mod tests {
    use super::super::Api;
    use super::super::tests::{open, server};
    use super::*;
    use serde_json::json;

    fn words() -> Vec<String> {
        vec![" sure".into(), " unsure".into()]
    }

    #[tokio::test]
    async fn an_echo_sums_over_all_tokens_of_a_word() {
        let echoed = |tokens: &[(&str, f64)]| {
            let texts: Vec<&str> = ["am"].into_iter().chain(tokens.iter().map(|token| token.0)).chain(["x"]).collect();
            let of: Vec<Option<f64>> =
                [None].into_iter().chain(tokens.iter().map(|token| Some(token.1))).chain([Some(-1.0)]).collect();
            (200, json!({"choices": [{"text": "x", "logprobs": {"tokens": texts, "token_logprobs": of}}]}).to_string())
        };
        let (url, _, bodies) = server(vec![echoed(&[(" sure", -0.5)]), echoed(&[(" un", -1.0), ("sure", -2.0)])]).await;
        let found = open(&url, Api::Completions).words("am", &words(), Route::Echo, 5).await.unwrap();
        assert_eq!(found, [Some(-0.5), Some(-3.0)]);
        let asked: Vec<serde_json::Value> = bodies.lock().unwrap().iter().map(|body| body["prompt"].clone()).collect();
        assert_eq!(asked, ["am sure", "am unsure"]);
        // A token that begins before the word says nothing of the word.
        let (url, ..) = server(vec![echoed(&[("am sure", -0.5)])]).await;
        let found = open(&url, Api::Completions).words("am", &words(), Route::Echo, 5).await.unwrap();
        assert_eq!(found, [None, None]);
    }

    #[tokio::test]
    async fn the_likeliest_tokens_say_words_that_are_one_token_and_nothing_of_the_rest() {
        let top = |of: serde_json::Value| {
            (200, json!({"choices": [{"text": "x", "logprobs": {"top_logprobs": [of]}}]}).to_string())
        };
        let half = 0.5f64.ln();
        let (url, ..) = server(vec![top(json!({" sure": half, "sure": half, " un": -1.5}))]).await;
        let found = open(&url, Api::Completions).words("am", &words(), Route::Top, 5).await.unwrap();
        assert!((found[0].unwrap()).abs() < 1e-12 && found[1].is_none(), "{found:?}");
        let (url, ..) = server(vec![(200, json!({"choices": [{"text": "x", "logprobs": null}]}).to_string())]).await;
        assert_eq!(open(&url, Api::Chat).words("am", &words(), Route::Top, 5).await.unwrap(), [None, None]);
    }
}
