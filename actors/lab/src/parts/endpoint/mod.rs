//! A policy behind an OpenAI-compatible HTTP endpoint (vLLM, llama.cpp, transformers, a hosted service).
//!
//! Both `/completions` and `/chat/completions` are spoken. Every raw exchange goes onto a [`Tape`], so that a run can be
//! run again without a single call. The key is read from the environment, sent as a header, and stored nowhere.
//! What cannot be answered is an error of the endpoint, never an empty or failed sample.

mod logprobs;
mod needs;
mod tape;
mod verdict;
mod vision;
mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tracker_actors::Cancel;
use tracker_store::{Endpoint as EndpointRecord, NodeId, Recording};

use crate::error::{Error, Result};
use crate::lab::Lab;

pub use needs::{Need, refuse};
pub use tape::{Exchange, Recorded, Tape};
pub use verdict::{Route, Tags, Verdict, Verdicts};
pub use vision::{Look, Paint, Painted, Picture, Seen};

/// Which of the two routes is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// `POST /completions`: the prompt is continued as it stands.
    Completions,
    /// `POST /chat/completions`: the prompt is one user message.
    Chat,
}

impl Api {
    /// `completions` or `chat`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Completions => "completions",
            Self::Chat => "chat",
        }
    }
}

/// Where a policy listens and how it is to be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EndpointSettings {
    /// Base URL with its version, such as `http://127.0.0.1:8000/v1`; empty for no endpoint.
    pub url: String,
    /// Model name as the server knows it.
    pub model: String,
    /// `completions` or `chat`.
    pub api: Api,
    /// Environment variable that holds the key; the key itself is never stored.
    pub key_env: String,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// Seconds to wait for one answer.
    pub timeout_secs: u64,
    /// Tries of one request, the first included.
    pub attempts: u32,
}

impl Default for EndpointSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            model: String::new(),
            api: Api::Completions,
            key_env: "OPENAI_API_KEY".into(),
            concurrency: 8,
            timeout_secs: 300,
            attempts: 6,
        }
    }
}

impl EndpointSettings {
    /// Refuses values that cannot work; `section` is where they stand in the plan.
    ///
    /// # Errors
    /// `Value` naming the key.
    pub fn check(&self, section: &str) -> Result<()> {
        let wrong = |key: &str, expected: &str, got: &str| {
            let message = format!("expected {expected}, got `{got}`");
            Err(Error::Value { key: format!("{section}.{key}"), message })
        };
        let url = reqwest::Url::parse(&self.url).ok().filter(|u| matches!(u.scheme(), "http" | "https"));
        if url.is_none() {
            return wrong("url", "a URL such as `http://127.0.0.1:8000/v1`", &self.url);
        }
        if self.attempts == 0 {
            return wrong("attempts", "at least one try", "0");
        }
        if self.concurrency == 0 {
            return wrong("concurrency", "at least one request in flight", "0");
        }
        Ok(())
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !self.url.is_empty()
    }
}

/// One request for `n` continuations of a prompt.
#[derive(Clone, Debug)]
pub struct Request {
    /// Text to continue, or the user message.
    pub prompt: String,
    /// Continuations wanted, at least 1.
    pub n: u32,
    /// Seed; continuation `k` is asked for with `seed + k` where the server takes one at a time.
    pub seed: u64,
    /// Temperature, ≥ 0.
    pub temperature: f64,
    /// Nucleus, in (0, 1].
    pub top_p: f64,
    /// Longest continuation, in tokens.
    pub max_tokens: u32,
    /// Texts that end a continuation.
    pub stop: Vec<String>,
    /// What the model is told before the user speaks; only chat has a place for it. Empty for nothing.
    pub system: String,
}

/// One continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// Tokens, where the server says.
    pub n_tokens: Option<u32>,
    /// Sum of token log-probabilities, in nats, where the server says.
    pub sum_logprob: Option<f64>,
    /// Each token with its log-probability, in nats; none where the server does not say both.
    pub tokens: Vec<(String, f64)>,
    /// The server's reason to stop, such as `stop` or `length`.
    pub finish: String,
}

/// A connection to one endpoint.
#[derive(Debug)]
pub struct Endpoint {
    section: String,
    /// What the tape calls it, where there are several.
    name: String,
    settings: EndpointSettings,
    client: reqwest::Client,
    key: Option<String>,
    tape: Arc<Tape>,
    /// Requests in flight.
    turns: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
    cancel: Cancel,
}

/// Why one try failed, and whether another may help.
struct Failure {
    what: String,
    retry_after: Option<Duration>,
    retryable: bool,
    /// Whether the server said that it does not do what was asked, rather than who may ask or where.
    is_refusal: bool,
}

/// A request: where it goes, what of it is kept, and what is sent where that is more.
struct Posting<'a> {
    url: String,
    kept: &'a Json,
    /// What is sent, if it is not what is kept; made only if the server is asked.
    sent: &'a (dyn Fn() -> Result<Option<Json>> + Sync),
    /// What of a response is kept and read.
    settle: &'a (dyn Fn(Json) -> Result<Json> + Sync),
}

impl<'a> Posting<'a> {
    /// What is sent is kept, and so is the response.
    fn plain(url: String, kept: &'a Json) -> Self {
        Self { url, kept, sent: &|| Ok(None), settle: &Ok }
    }
}

/// What became of an exchange.
enum Told<T> {
    /// The answer.
    Answer(T),
    /// The server does not do this; what it said.
    Refused(String),
}

impl Endpoint {
    /// An endpoint whose exchanges are kept on `tape`, or answered from it, until `cancel`. `section` is where its settings
    /// stand.
    ///
    /// # Errors
    /// `Value` for settings that cannot work.
    pub fn new(section: &str, settings: EndpointSettings, tape: Arc<Tape>, cancel: Cancel) -> Result<Self> {
        settings.check(section)?;
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(settings.timeout_secs))
            .build()
            .map_err(|e| Error::Internal(format!("no HTTP client: {e}")))?;
        let key = std::env::var(&settings.key_env).ok().filter(|k| !k.is_empty());
        let turns = Mutex::default();
        Ok(Self { section: section.to_owned(), name: String::new(), settings, client, key, tape, turns, cancel })
    }

    /// An endpoint of a run, which must answer, with its record.
    ///
    /// # Errors
    /// `Value` for settings that cannot work, `Endpoint` if it does not answer.
    pub async fn of_run(lab: &Lab, section: &str, settings: &EndpointSettings) -> Result<(Arc<Self>, NodeId)> {
        Self::open(lab, section, String::new(), settings).await
    }

    /// One of several endpoints of a run: what it said is kept under the section its settings stand in, so that another one that
    /// knows its model by the same name answers for itself.
    ///
    /// # Errors
    /// As [`Endpoint::of_run`].
    pub async fn one_of(lab: &Lab, section: &str, settings: &EndpointSettings) -> Result<(Arc<Self>, NodeId)> {
        Self::open(lab, section, section.to_owned(), settings).await
    }

    async fn open(lab: &Lab, section: &str, name: String, settings: &EndpointSettings) -> Result<(Arc<Self>, NodeId)> {
        let mut endpoint = Self::new(section, settings.clone(), lab.tape().clone(), lab.cancel().clone())?;
        endpoint.name = name;
        endpoint.probe().await?;
        let api = settings.api.name().to_owned();
        let record = EndpointRecord { url: settings.url.clone(), model: settings.model.clone(), api };
        let mut recording = Recording::new();
        let node = recording.put(lab.run(), &record)?;
        lab.record(recording).await?;
        Ok((Arc::new(endpoint), node))
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &EndpointSettings {
        &self.settings
    }

    /// Asks the server for its models, and for a token if ours is not among them, so that a dead or foreign server is found
    /// before any work.
    ///
    /// # Errors
    /// `Endpoint` naming the URL and what came instead.
    pub async fn probe(&self) -> Result<()> {
        if !self.tape.calls() {
            return Ok(());
        }
        let url = self.url("models");
        let mut get = self.client.get(&url).timeout(Duration::from_secs(self.settings.timeout_secs.min(20)));
        if let Some(key) = &self.key {
            get = get.bearer_auth(key);
        }
        let response = get.send().await.map_err(|e| failed(&url, chain(&e)))?;
        let status = response.status();
        let body: Json = response
            .json()
            .await
            .map_err(|_| failed(&url, format!("expected a JSON list of models, got status {status}")))?;
        let names: Vec<&str> = body["data"].as_array().into_iter().flatten().filter_map(|m| m["id"].as_str()).collect();
        if !status.is_success() || body["data"].as_array().is_none() {
            return Err(failed(&url, format!("expected a JSON list of models, got status {status}")));
        }
        if names.is_empty() || names.contains(&self.settings.model.as_str()) {
            return Ok(());
        }
        // Some servers list what they have loaded and load the rest when asked: ask for one token.
        let request = Request {
            prompt: "1".to_owned(),
            n: 1,
            seed: 0,
            temperature: 1.0,
            top_p: 1.0,
            max_tokens: 1,
            stop: Vec::new(),
            system: String::new(),
        };
        let Err(Failure { what, .. }) = self.send(&self.route(), &self.body(&request, 1, 0)).await else {
            return Ok(());
        };
        let (model, names) = (&self.settings.model, names.join(", "));
        Err(failed(
            &url,
            format!("expected model `{model}`, the server has {names}; asked for it all the same: {what}"),
        ))
    }

    /// `request.n` continuations, in order.
    ///
    /// Servers that return fewer choices than asked for are asked again, with the next seed.
    ///
    /// # Errors
    /// `Endpoint` once the tries are used up, and at once for a request the server refuses; `Input` if only recorded
    /// answers may be given and there is none.
    pub async fn complete(&self, request: &Request) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(request.n as usize);
        while answers.len() < request.n as usize {
            let have = answers.len() as u32;
            let body = self.body(request, request.n - have, request.seed.wrapping_add(u64::from(have)));
            let got = match self.exchange(&body, |response| read_answers(self.settings.api, response)).await? {
                Told::Answer(answers) => answers,
                Told::Refused(what) => return Err(failed(&self.route(), what)),
            };
            answers.extend(got.into_iter().take((request.n - have) as usize));
        }
        Ok(answers)
    }

    /// One exchange, from the tape if it is there; given up when the user asks to stop. What `read` cannot read is not kept.
    async fn exchange<T>(
        &self,
        body: &Json,
        read: impl Fn(&Json) -> std::result::Result<T, String>,
    ) -> Result<Told<T>> {
        self.exchange_at(&Posting::plain(self.route(), body), read).await
    }

    /// The same of any posting.
    async fn exchange_at<T>(
        &self,
        posting: &Posting<'_>,
        read: impl Fn(&Json) -> std::result::Result<T, String>,
    ) -> Result<Told<T>> {
        match self.cancel.run_until_cancelled(self.converse(posting, read)).await {
            Some(told) => told,
            None => Err(Error::Interrupted),
        }
    }

    async fn converse<T>(
        &self,
        posting: &Posting<'_>,
        read: impl Fn(&Json) -> std::result::Result<T, String>,
    ) -> Result<Told<T>> {
        let (url, body) = (&posting.url, posting.kept);
        let read = |response: &Json| read(response).map_err(|what| failed(url, what));
        // Who asks the same meanwhile waits, and is then answered from the tape.
        let turn = self.turn(body);
        let _held = turn.lock().await;
        if let Some(response) = self.tape.answer(&self.name, body)? {
            return read(&response).map(Told::Answer);
        }
        let sent = (posting.sent)()?;
        let mut jitter = ChaCha8Rng::from_seed(*blake3::hash(body.to_string().as_bytes()).as_bytes());
        let mut last = String::new();
        for attempt in 0..self.settings.attempts {
            match self.send(url, sent.as_ref().unwrap_or(body)).await {
                Ok(response) => {
                    let response = (posting.settle)(response)?;
                    let answer = read(&response)?;
                    self.tape.keep(&self.name, body, &response)?;
                    return Ok(Told::Answer(answer));
                }
                Err(failure) if failure.is_refusal => return Ok(Told::Refused(failure.what)),
                Err(failure) if !failure.retryable => return Err(failed(url, failure.what)),
                Err(failure) => {
                    let backoff = Duration::from_millis(250).mul_f64(2f64.powi(attempt.min(7).cast_signed()));
                    let wait = failure.retry_after.unwrap_or(backoff).min(Duration::from_mins(1));
                    last = failure.what;
                    if attempt + 1 < self.settings.attempts {
                        tokio::time::sleep(wait.mul_f64(jitter.random_range(0.5..1.5))).await;
                    }
                }
            }
        }
        Err(failed(url, format!("{last} ({} tries)", self.settings.attempts)))
    }

    /// What equal requests in flight take turns by.
    fn turn(&self, body: &Json) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let key = body.to_string();
        turns.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let turn = Arc::default();
            turns.insert(key, Arc::downgrade(&turn));
            turn
        })
    }

    async fn send(&self, url: &str, body: &Json) -> std::result::Result<Json, Failure> {
        let mut post = self.client.post(url).json(body);
        if let Some(key) = &self.key {
            post = post.bearer_auth(key);
        }
        let transport =
            |e: reqwest::Error| Failure { what: chain(&e), retry_after: None, retryable: true, is_refusal: false };
        let response = post.send().await.map_err(transport)?;
        let status = response.status();
        let retry_after =
            response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        let text = response.text().await.map_err(transport)?;
        if !status.is_success() {
            let retryable = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
            let what = format!("status {status}: {}", printable(&text, 300));
            let is_refusal = matches!(status.as_u16(), 400 | 422 | 501);
            return Err(Failure { what, retry_after, retryable, is_refusal });
        }
        serde_json::from_str(&text).map_err(|e| Failure {
            what: format!("expected JSON, got `{}`: {e}", printable(&text, 120)),
            retry_after: None,
            retryable: true,
            is_refusal: false,
        })
    }

    fn body(&self, request: &Request, n: u32, seed: u64) -> Json {
        let mut body = json!({
            "model": self.settings.model,
            "n": n,
            "seed": seed & 0x7fff_ffff,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
        });
        if !request.stop.is_empty() {
            body["stop"] = json!(request.stop);
        }
        match self.settings.api {
            Api::Completions => {
                body["prompt"] = json!(request.prompt);
                body["logprobs"] = json!(1);
            }
            Api::Chat => {
                let told = json!({"role": "system", "content": request.system});
                let messages = [told, json!({"role": "user", "content": request.prompt})];
                body["messages"] = json!(messages[usize::from(request.system.is_empty())..]);
                body["logprobs"] = json!(true);
            }
        }
        body
    }

    fn route(&self) -> String {
        self.url(match self.settings.api {
            Api::Completions => "completions",
            Api::Chat => "chat/completions",
        })
    }

    fn url(&self, route: &str) -> String {
        format!("{}/{route}", self.settings.url.trim_end_matches('/'))
    }
}

fn failed(url: &str, what: String) -> Error {
    Error::Endpoint { url: url.to_owned(), what }
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        text = format!("{text}: {cause}");
        at = cause.source();
    }
    text
}

fn read_answers(api: Api, response: &Json) -> std::result::Result<Vec<Answer>, String> {
    let choices = response["choices"].as_array().filter(|c| !c.is_empty());
    let choices = choices.ok_or_else(|| format!("expected `choices`, got `{}`", shorten(response)))?;
    let read = |choice: &Json| {
        let (text, logprobs): (_, Vec<f64>) = match api {
            Api::Completions => (&choice["text"], numbers(&choice["logprobs"]["token_logprobs"], |v| v)),
            Api::Chat => (&choice["message"]["content"], numbers(&choice["logprobs"]["content"], |v| &v["logprob"])),
        };
        // Models that only thought, and filtered ones, have no text but say why they ended.
        let is_silent = text.is_null() && choice["finish_reason"].is_string();
        let text = text.as_str().or(is_silent.then_some(""));
        let text = text.ok_or_else(|| format!("expected a text in a choice, got `{}`", shorten(choice)))?;
        let counted = (!logprobs.is_empty()).then_some(logprobs.len() as u32);
        let used = response["usage"]["completion_tokens"].as_u64().filter(|_| choices.len() == 1);
        Ok(Answer {
            text: text.to_owned(),
            n_tokens: counted.or(used.and_then(|n| u32::try_from(n).ok())),
            sum_logprob: counted.map(|_| logprobs.iter().sum()),
            tokens: logprobs::read_own(&choice["logprobs"]),
            finish: choice["finish_reason"].as_str().unwrap_or("unknown").to_owned(),
        })
    };
    choices.iter().map(read).collect()
}

fn numbers(list: &Json, pick: impl Fn(&Json) -> &Json) -> Vec<f64> {
    list.as_array().into_iter().flatten().filter_map(|v| pick(v).as_f64()).collect()
}

fn shorten(json: &Json) -> String {
    printable(&json.to_string(), 120)
}

/// The first characters of a server's words, without any that a terminal would obey.
fn printable(text: &str, limit: usize) -> String {
    text.chars().take(limit).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
