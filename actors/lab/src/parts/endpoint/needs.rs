//! What methods need of an endpoint, and whether this one can give it: said before any work.
//!
//! [`refuse`] knows what no server behind a route can give, from the plan alone. [`Endpoint::demand`] asks the server, once, for
//! what only it can tell; that exchange is on the tape like any other.

use super::logprobs::{after, echo, read_after, read_echo};
use super::verdict::{Route, Tags};
use super::{Api, Endpoint, EndpointSettings, Told};
use crate::error::{Error, Result};

/// What is asked to find out: anything will do.
const ANYTHING: &str = "1 + 1";

/// Something a method needs of a model.
#[derive(Clone, Copy, Debug)]
pub enum Need<'a> {
    /// Weights: to train it (SFT, DPO, PPO), to mix it, or to read its hidden states.
    Weights,
    /// Answers that go on from a given beginning.
    Prefix,
    /// The log-probability of what it writes.
    Logprobs,
    /// The log-probability of a given text: the divergence of another model from it.
    GivenLogprobs,
    /// The log-probabilities of two given tokens after a text.
    Verdict(&'a Tags),
}

/// Refuses what no server behind this route can give. `section` is where the endpoint's settings stand in the plan, `key` what
/// brings the need about.
///
/// # Errors
/// `Unable` naming both, what is lacking and what to do.
pub fn refuse(section: &str, settings: &EndpointSettings, key: &str, need: Need<'_>) -> Result<()> {
    let api = settings.api.name();
    let (lacks, todo) = match (need, settings.api) {
        (Need::Weights, _) => (
            "weights: it can be sampled, not trained".to_owned(),
            format!("turn `{key}` off (`0` or `[]`), or take a checkpoint from a folder in place of the endpoint"),
        ),
        (Need::Prefix, Api::Chat) => (
            format!("answers that go on from a given beginning: `{api}` begins each answer anew"),
            format!("set `{section}.api = \"completions\"`"),
        ),
        (Need::GivenLogprobs, Api::Chat) => (
            format!("the log-probability of a given text: `{api}` has those of its own answers only"),
            format!("set `{section}.api = \"completions\"`, or leave `{key}` out"),
        ),
        (Need::Verdict(Tags { route: Route::Echo, .. }), Api::Chat) => (
            format!("the log-probability of given tokens: `{api}` echoes nothing"),
            format!("read them from the likeliest tokens (`top`), or set `{section}.api = \"completions\"`"),
        ),
        _ => return Ok(()),
    };
    Err(unable(key, section, settings, lacks, todo))
}

fn unable(key: &str, section: &str, settings: &EndpointSettings, lacks: String, todo: String) -> Error {
    let (key, section, url) = (key.to_owned(), section.to_owned(), settings.url.clone());
    Error::Unable { key, section, url, lacks, todo }
}

impl Endpoint {
    /// Refuses to go on unless this server gives what `key` needs; asked of it where only it can tell.
    ///
    /// # Errors
    /// `Unable` as [`refuse`], also for a server that gives no log-probabilities or refuses the request, with what it said;
    /// `Endpoint` if it does not answer.
    pub async fn demand(&self, key: &str, need: Need<'_>) -> Result<()> {
        refuse(&self.section, &self.settings, key, need)?;
        let settings = &self.settings;
        let (body, what) = match need {
            Need::Weights | Need::Prefix => return Ok(()),
            Need::Logprobs => (after(settings, ANYTHING, 1), "log-probabilities of what it writes"),
            Need::GivenLogprobs => (echo(settings, ANYTHING), "the log-probability of a given text"),
            Need::Verdict(tags) => match tags.route {
                Route::Top => {
                    (after(settings, ANYTHING, tags.top), "the likeliest tokens with their log-probabilities")
                }
                Route::Echo => (echo(settings, ANYTHING), "the log-probabilities of given tokens"),
            },
        };
        let is_echo = !body["echo"].is_null();
        // Two tokens are to be found among the likeliest, so one is not enough.
        let least = if matches!(need, Need::Verdict(Tags { route: Route::Top, .. })) { 2 } else { 1 };
        let n_given = |response: &serde_json::Value| {
            let n = if is_echo {
                read_echo(response)?.map(|all| all.len())
            } else {
                read_after(response)?.map(|all| all.len())
            };
            Ok(n.unwrap_or(0))
        };
        let lacks = match self.exchange(&body, n_given).await? {
            Told::Answer(n) if n >= least => return Ok(()),
            Told::Answer(n) => format!("{what}: asked for, its answer had {n}, expected at least {least}"),
            Told::Refused(said) => format!("{what}: asked for, it said {said}"),
        };
        let todo = if is_echo {
            "serve the model with `echo` and `logprobs` (vLLM does), or leave what needs them out".to_owned()
        } else {
            format!("serve the model with log-probabilities, as vLLM and llama.cpp do, or leave `{key}` out")
        };
        Err(unable(key, &self.section, settings, lacks, todo))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{open, server, settings};
    use super::*;
    use serde_json::{Value as Json, json};
    use std::sync::atomic::Ordering;

    fn refused(result: Result<()>) -> (String, String) {
        let error = result.unwrap_err();
        assert!(error.is_input());
        (error.to_string(), error.hint().unwrap())
    }

    #[test]
    fn what_no_server_can_give_is_refused_from_the_plan() {
        let (tags, chat) = (Tags { route: Route::Echo, ..Tags::default() }, settings("http://h/v1", Api::Chat));
        for (need, said) in [
            (Need::Weights, "weights"),
            (Need::Prefix, "given beginning"),
            (Need::GivenLogprobs, "given text"),
            (Need::Verdict(&tags), "given tokens"),
        ] {
            let (error, hint) = refused(refuse("judge", &chat, "a.key", need));
            for part in ["`a.key`", "`judge`", "http://h/v1", said] {
                assert!(error.contains(part), "{part}: {error}");
            }
            assert!(hint.contains("a.key") || hint.contains("judge.api"), "{hint}");
        }
        let completions = settings("http://h/v1", Api::Completions);
        for need in [Need::Prefix, Need::GivenLogprobs, Need::Verdict(&tags), Need::Logprobs] {
            refuse("judge", &completions, "a.key", need).unwrap();
        }
        refuse("judge", &completions, "a.key", Need::Weights).unwrap_err();
        refuse("judge", &chat, "a.key", Need::Verdict(&Tags::default())).unwrap();
    }

    #[tokio::test]
    async fn what_only_the_server_can_tell_is_asked_once() {
        let without = json!({"choices": [{"text": "2", "logprobs": null}]}).to_string();
        let one =
            json!({"choices": [{"text": "2", "logprobs": {"tokens": ["2"], "token_logprobs": [-1.0]}}]}).to_string();
        let tags = Tags::default();
        for (status, body, need, said) in [
            (200, &without, Need::Logprobs, Some("had 0, expected at least 1")),
            (200, &without, Need::Verdict(&tags), Some("had 0, expected at least 2")),
            (200, &one, Need::Verdict(&tags), Some("had 1, expected at least 2")),
            (200, &one, Need::GivenLogprobs, Some("given text")),
            (400, &"logprobs must be at most 5".to_owned(), Need::Verdict(&tags), Some("logprobs must be at most 5")),
            (200, &one, Need::Logprobs, None),
        ] {
            let (url, calls, bodies) = server(vec![(status, body.clone())]).await;
            let endpoint = open(&url, Api::Completions);
            match said {
                Some(said) => {
                    let (error, _) = refused(endpoint.demand("a.key", need).await);
                    assert!(error.contains(said) && error.contains("`a.key`") && error.contains(&url), "{error}");
                }
                None => endpoint.demand("a.key", need).await.unwrap(),
            }
            assert_eq!(calls.load(Ordering::SeqCst), 1);
            assert_eq!(bodies.lock().unwrap()[0]["max_tokens"], Json::from(1));
            assert_eq!(endpoint.tape.text().unwrap().is_some(), status == 200);
        }
        // Nobody there is no refusal.
        let (url, ..) = server(vec![(401, "who are you".into())]).await;
        let error = open(&url, Api::Chat).demand("a.key", Need::Logprobs).await.unwrap_err();
        assert!(matches!(error, Error::Endpoint { .. }) && !error.is_input(), "{error}");
    }
}
