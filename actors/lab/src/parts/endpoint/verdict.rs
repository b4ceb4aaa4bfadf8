//! Verdicts of a model behind an endpoint: of two tokens that may come after a text, how likely the good one is.
//!
//! p(+) / (p(+) + p(−)) is what process reward models with a two-token head say at the end of a step (Math-Shepherd,
//! arXiv 2312.08935; ER-PRM, arXiv 2412.11006). A token that the server did not report is an error, never a guess.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_store::NodeId;

use super::logprobs::{after, echo, read_after, read_echo};
use super::{Endpoint, EndpointSettings, Need, Told, failed};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::plan::require;

/// How the log-probabilities of the two tokens are come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// From the likeliest tokens after the text: one request a text.
    Top,
    /// From the text echoed with each token at its end: two requests a text, and no token can be missing. Completions only.
    Echo,
}

/// The two tokens, and how they are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tags {
    /// The token that says yes, exactly as the server spells it, blanks included.
    pub plus: String,
    /// The token that says no.
    pub minus: String,
    /// `top` (from the likeliest tokens) or `echo` (completions only).
    pub route: Route,
    /// How many of the likeliest tokens are asked for; servers have limits of their own, 5 and 20 are common.
    pub top: u32,
}

impl Default for Tags {
    fn default() -> Self {
        Self { plus: "+".into(), minus: "-".into(), route: Route::Top, top: 20 }
    }
}

impl Tags {
    /// Refuses values that cannot work; `section` is where they stand in the plan.
    ///
    /// # Errors
    /// `Value` naming the key.
    pub fn check(&self, section: &str) -> Result<()> {
        let Self { plus, minus, top, .. } = self;
        require(!plus.is_empty(), &format!("{section}.plus"), "a token", plus)?;
        let differs = !minus.is_empty() && minus != plus;
        require(differs, &format!("{section}.minus"), "another token than `plus`", minus)?;
        require((2..=1000).contains(top), &format!("{section}.top"), "2 to 1000", top)
    }
}

/// What was said after one text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// p(+) / (p(+) + p(−)), in [0, 1].
    pub share: f64,
    /// Log-probabilities of both tokens, in nats.
    pub logprobs: [f64; 2],
}

impl Verdict {
    fn new(logprobs: [f64; 2]) -> Self {
        let [plus, minus] = logprobs;
        Self { share: 1.0 / (1.0 + libm::exp(minus - plus)), logprobs }
    }
}

/// A model behind an endpoint that gives verdicts.
pub struct Verdicts {
    endpoint: Arc<Endpoint>,
    node: NodeId,
    tags: Tags,
}

impl Verdicts {
    /// Connects to an endpoint, which must give log-probabilities of tokens. `section` is where its settings stand in the plan,
    /// `key` what needs it.
    ///
    /// # Errors
    /// `Value` for settings that cannot work, `Unable` if it gives no log-probabilities, `Endpoint` if it does not answer.
    pub async fn start(lab: &Lab, section: &str, key: &str, settings: &EndpointSettings, tags: Tags) -> Result<Self> {
        let (endpoint, node) = Endpoint::of_run(lab, section, settings).await?;
        endpoint.demand(key, Need::Verdict(&tags)).await?;
        Ok(Self { endpoint, node, tags })
    }

    /// The endpoint's record, who scores.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The verdict after each text, in order; equal texts are asked once, as many at a time as the endpoint may have in flight.
    /// What was asked before in this run is answered from its tape.
    ///
    /// # Errors
    /// `Unable` naming a token that the server did not report after one of the texts; `Endpoint` if it does not answer;
    /// `Input` if only recorded answers may be given and there is none; `Interrupted`.
    pub async fn score<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<Verdict>> {
        let (mut places, mut distinct) = (HashMap::new(), Vec::new());
        let mut which = Vec::with_capacity(texts.len());
        for text in texts.iter().map(AsRef::as_ref) {
            which.push(*places.entry(text).or_insert_with(|| {
                distinct.push(text);
                distinct.len() - 1
            }));
        }
        let asked = futures::stream::iter(distinct.into_iter().map(|text| self.one(text)));
        let said: Vec<Verdict> = asked.buffered(self.endpoint.settings.concurrency).try_collect().await?;
        Ok(which.into_iter().map(|place| said[place]).collect())
    }

    async fn one(&self, text: &str) -> Result<Verdict> {
        let Tags { plus, minus, route, top } = &self.tags;
        let tokens = [plus, minus];
        if *route == Route::Echo {
            let [plus, minus] = [self.ending(text, plus).await?, self.ending(text, minus).await?];
            return Ok(Verdict::new([plus, minus]));
        }
        let body = after(&self.endpoint.settings, text, *top);
        let given = match self.endpoint.exchange(&body, read_after).await? {
            Told::Answer(given) => given.unwrap_or_default(),
            Told::Refused(said) => return Err(failed(&self.endpoint.route(), said)),
        };
        let mut found = [0.0; 2];
        for (found, token) in found.iter_mut().zip(tokens) {
            let mut all = given.iter().filter(|(other, _)| other == token);
            *found = match (all.next(), all.next()) {
                (Some((_, logprob)), None) => *logprob,
                (None, _) => return Err(self.missing(token, text, &given)),
                // Two tokens of one spelling: which of them is meant, nobody said.
                _ => {
                    let lacks = format!("one log-probability of token `{token}` after {}: it gave two", shown(text));
                    return Err(self.unable(lacks, "give another token in `plus` and `minus`".into()));
                }
            };
        }
        Ok(Verdict::new(found))
    }

    /// The log-probability of `token` at the end of a text that is echoed with it.
    async fn ending(&self, text: &str, token: &str) -> Result<f64> {
        let body = echo(&self.endpoint.settings, &format!("{text}{token}"));
        let given = match self.endpoint.exchange(&body, read_echo).await? {
            Told::Answer(given) => given.unwrap_or_default(),
            Told::Refused(said) => return Err(failed(&self.endpoint.route(), said)),
        };
        match given.last() {
            Some((last, Some(logprob))) if last == token => Ok(*logprob),
            last => {
                let got = last.map_or("nothing", |(last, _)| last.as_str());
                let lacks =
                    format!("the log-probability of token `{token}` after {}: the echo ends in `{got}`", shown(text));
                let todo = "give the token as the server cuts it, blanks included, in `plus` or `minus`";
                Err(self.unable(lacks, todo.into()))
            }
        }
    }

    fn missing(&self, token: &str, text: &str, given: &[(String, f64)]) -> Error {
        let got: Vec<String> = given.iter().take(8).map(|(token, _)| format!("`{token}`")).collect();
        let lacks = format!(
            "the log-probability of token `{token}` after {}: of the {} likeliest asked for it gave {}: {}{}",
            shown(text),
            self.tags.top,
            given.len(),
            got.join(", "),
            if given.len() > got.len() { ", …" } else { "" }
        );
        let todo =
            "spell the token as the server does, ask for more of the likeliest (`top`), or take `route = \"echo\"`";
        self.unable(lacks, todo.into())
    }

    fn unable(&self, lacks: String, todo: String) -> Error {
        let (section, url) = (self.endpoint.section.clone(), self.endpoint.settings.url.clone());
        Error::Unable { key: section.clone(), section, url, lacks, todo }
    }
}

/// The end of a text, in an error.
fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let start = text.char_indices().rev().nth(LONGEST - 1).map_or(0, |(at, _)| at);
    let end = super::printable(&text[start..], LONGEST);
    if start == 0 { format!("`{end}`") } else { format!("`…{end}`") }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{open, server, settings};
    use super::super::{Api, Recorded, Tape};
    use super::*;
    use serde_json::{Value as Json, json};
    use std::sync::atomic::Ordering;
    use tracker_actors::Cancel;
    use tracker_store::RunId;

    fn of(endpoint: Endpoint, tags: Tags) -> Verdicts {
        let node = NodeId::run(RunId::from_bytes([1; 16]));
        Verdicts { endpoint: Arc::new(endpoint), node, tags }
    }

    fn top(of: &Json) -> String {
        json!({"choices": [{"text": "x", "logprobs": {"tokens": [], "token_logprobs": [], "top_logprobs": [of]}}]})
            .to_string()
    }

    #[tokio::test]
    async fn the_share_is_that_of_the_two_tokens_alone_and_a_replay_asks_nobody() {
        let (low, high) = (0.1_f64, 0.3_f64);
        let said = [top(&json!({"+": high.ln(), "-": low.ln(), "other": -0.5})), top(&json!({"+": -800.0, "-": -0.0}))];
        let (url, calls, bodies) = server(said.map(|body| (200, body)).to_vec()).await;
        let one_by_one = EndpointSettings { concurrency: 1, ..settings(&url, Api::Completions) };
        let endpoint = Endpoint::new("judge", one_by_one.clone(), Arc::default(), Cancel::new()).unwrap();
        let verdicts = of(endpoint, Tags::default());
        let texts = ["step one", "step two", "step one"];
        let scored = verdicts.score(&texts).await.unwrap();
        assert!((scored[0].share - high / (high + low)).abs() < 1e-12, "{scored:?}");
        assert_eq!((scored[1].share, scored[2]), (0.0, scored[0]));
        assert_eq!(calls.load(Ordering::SeqCst), 2, "equal texts are asked once");
        let asked = bodies.lock().unwrap()[0].clone();
        assert_eq!(
            (&asked["prompt"], &asked["logprobs"], &asked["max_tokens"]),
            (&json!("step one"), &json!(20), &json!(1))
        );

        let recorded = Recorded::parse("recording", &verdicts.endpoint.tape.text().unwrap().unwrap()).unwrap();
        let tape = Arc::new(Tape::open(None, Some(recorded)).unwrap());
        let replayed = of(Endpoint::new("judge", one_by_one, tape, Cancel::new()).unwrap(), Tags::default());
        assert_eq!(replayed.score(&texts).await.unwrap(), scored);
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        assert!(replayed.score(&["another"]).await.unwrap_err().to_string().contains("never recorded"));
    }

    #[tokio::test]
    async fn a_token_that_is_not_among_the_likeliest_is_named_with_the_limit() {
        let (url, ..) = server(vec![(200, top(&json!({"+": -0.5, " -": -1.5})))]).await;
        let error = of(open(&url, Api::Completions), Tags { top: 5, ..Tags::default() }).score(&["2+2=4\n"]).await;
        let error = error.unwrap_err();
        for part in ["token `-`", "`2+2=4 `", "5 likeliest", "gave 2: `+`, ` -`", &url] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        assert!(error.hint().unwrap().contains("echo"));
        let twice =
            json!([{"token": "+", "logprob": -1.0}, {"token": "+", "logprob": -2.0}, {"token": "-", "logprob": -1.0}]);
        let body =
            json!({"choices": [{"message": {"content": "+"}, "logprobs": {"content": [{"top_logprobs": twice}]}}]});
        let (url, ..) = server(vec![(200, body.to_string())]).await;
        let error = of(open(&url, Api::Chat), Tags::default()).score(&["x"]).await.unwrap_err().to_string();
        assert!(error.contains("it gave two"), "{error}");
    }

    #[tokio::test]
    async fn an_echo_says_both_tokens_and_only_if_it_ends_in_them() {
        let echoed = |last: &str, logprob: f64| {
            let logprobs = json!({"tokens": ["x", last, "y"], "token_logprobs": [null, logprob, -1.0]});
            (200, json!({"choices": [{"text": "x", "logprobs": logprobs}]}).to_string())
        };
        let tags = || Tags { route: Route::Echo, ..Tags::default() };
        let (url, calls, bodies) = server(vec![echoed("+", -1.0), echoed("-", -3.0)]).await;
        let scored = of(open(&url, Api::Completions), tags()).score(&["x"]).await.unwrap();
        assert_eq!(scored[0].logprobs, [-1.0, -3.0]);
        assert!((scored[0].share - 1.0 / (1.0 + (-2.0_f64).exp())).abs() < 1e-12);
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        let prompts: Vec<Json> = bodies.lock().unwrap().iter().map(|body| body["prompt"].clone()).collect();
        assert_eq!(prompts, ["x+", "x-"]);
        let (url, ..) = server(vec![echoed("x+", -1.0)]).await;
        let error = of(open(&url, Api::Completions), tags()).score(&["x"]).await.unwrap_err().to_string();
        assert!(error.contains("token `+` after `x`: the echo ends in `x+`"), "{error}");
    }

    #[test]
    fn tokens_that_cannot_be_told_apart_are_refused() {
        let with = |change: fn(&mut Tags)| {
            let mut tags = Tags::default();
            change(&mut tags);
            tags.check("prm.tags").unwrap_err().to_string()
        };
        assert!(with(|tags| tags.minus = "+".into()).contains("prm.tags.minus"));
        assert!(with(|tags| tags.plus = String::new()).contains("prm.tags.plus"));
        assert!(with(|tags| tags.top = 1).contains("prm.tags.top"));
        Tags::default().check("prm.tags").unwrap();
    }
}
