//! A policy behind an OpenAI-compatible HTTP endpoint (vLLM, llama.cpp, transformers, a hosted service).
//!
//! Both `/completions` and `/chat/completions` are spoken. Every raw exchange goes onto a [`Tape`], so that a run can be
//! run again without a single call. The key is read from the environment, sent as a header, and stored nowhere.
//! What cannot be answered is an error of the endpoint, never an empty or failed sample.

mod tape;

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tracker_actors::Cancel;

use crate::error::{Error, Result};

pub use tape::{Exchange, Recorded, Tape};

/// Which of the two routes is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// `POST /completions`: the prompt is continued as it stands.
    Completions,
    /// `POST /chat/completions`: the prompt is one user message.
    Chat,
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
    /// The server's reason to stop, such as `stop` or `length`.
    pub finish: String,
}

/// A connection to one endpoint.
#[derive(Debug)]
pub struct Endpoint {
    settings: EndpointSettings,
    client: reqwest::Client,
    key: Option<String>,
    tape: Arc<Tape>,
    cancel: Cancel,
}

/// Why one try failed, and whether another may help.
struct Failure {
    what: String,
    retry_after: Option<Duration>,
    retryable: bool,
}

impl Endpoint {
    /// An endpoint whose exchanges are kept on `tape`, or answered from it, until `cancel`. `section` is where its settings
    /// stand.
    ///
    /// # Errors
    /// `Value` for settings that cannot work.
    pub fn new(section: &str, settings: EndpointSettings, tape: Arc<Tape>, cancel: Cancel) -> Result<Self> {
        let wrong = |key: &str, expected: &str, got: &str| Error::Value {
            key: format!("{section}.{key}"),
            message: format!("expected {expected}, got `{got}`"),
        };
        let url = reqwest::Url::parse(&settings.url).ok().filter(|u| matches!(u.scheme(), "http" | "https"));
        if url.is_none() {
            return Err(wrong("url", "a URL such as `http://127.0.0.1:8000/v1`", &settings.url));
        }
        if settings.attempts == 0 {
            return Err(wrong("attempts", "at least one try", "0"));
        }
        if settings.concurrency == 0 {
            return Err(wrong("concurrency", "at least one request in flight", "0"));
        }
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(settings.timeout_secs))
            .build()
            .map_err(|e| Error::Internal(format!("no HTTP client: {e}")))?;
        let key = std::env::var(&settings.key_env).ok().filter(|k| !k.is_empty());
        Ok(Self { settings, client, key, tape, cancel })
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
            let got = self.exchange(&body).await?;
            answers.extend(got.into_iter().take((request.n - have) as usize));
        }
        Ok(answers)
    }

    /// One exchange, given up when the user asks to stop.
    async fn exchange(&self, body: &Json) -> Result<Vec<Answer>> {
        match self.cancel.run_until_cancelled(self.converse(body)).await {
            Some(answers) => answers,
            None => Err(Error::Interrupted),
        }
    }

    /// One exchange, from the tape if it is there.
    async fn converse(&self, body: &Json) -> Result<Vec<Answer>> {
        let read =
            |response: &Json| read_answers(self.settings.api, response).map_err(|what| failed(&self.route(), what));
        if let Some(response) = self.tape.answer(body)? {
            return read(&response);
        }
        let url = self.route();
        let mut jitter = ChaCha8Rng::from_seed(*blake3::hash(body.to_string().as_bytes()).as_bytes());
        let mut last = String::new();
        for attempt in 0..self.settings.attempts {
            match self.send(&url, body).await {
                Ok(response) => {
                    let answers = read(&response)?;
                    self.tape.keep(body, &response)?;
                    return Ok(answers);
                }
                Err(failure) if !failure.retryable => return Err(failed(&url, failure.what)),
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
        Err(failed(&url, format!("{last} ({} tries)", self.settings.attempts)))
    }

    async fn send(&self, url: &str, body: &Json) -> std::result::Result<Json, Failure> {
        let mut post = self.client.post(url).json(body);
        if let Some(key) = &self.key {
            post = post.bearer_auth(key);
        }
        let transport = |e: reqwest::Error| Failure { what: chain(&e), retry_after: None, retryable: true };
        let response = post.send().await.map_err(transport)?;
        let status = response.status();
        let retry_after =
            response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        let text = response.text().await.map_err(transport)?;
        if !status.is_success() {
            let retryable = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
            let what = format!("status {status}: {}", printable(&text, 300));
            return Err(Failure { what, retry_after, retryable });
        }
        serde_json::from_str(&text).map_err(|e| Failure {
            what: format!("expected JSON, got `{}`: {e}", printable(&text, 120)),
            retry_after: None,
            retryable: true,
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
                body["messages"] = json!([{"role": "user", "content": request.prompt}]);
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
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server on the loopback that answers from a script of (status, body), the last one for ever.
    async fn server(script: Vec<(u16, String)>) -> (String, Arc<AtomicUsize>, Arc<Mutex<Vec<Json>>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (calls, bodies) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (n, seen) = (calls.clone(), bodies.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut text = Vec::new();
                let mut chunk = [0; 4096];
                loop {
                    let got = socket.read(&mut chunk).await.unwrap();
                    text.extend_from_slice(&chunk[..got]);
                    let all = String::from_utf8_lossy(&text).to_string();
                    if let Some((head, body)) = all.split_once("\r\n\r\n") {
                        let length =
                            head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
                        if body.len() >= length.unwrap_or(0) {
                            seen.lock().unwrap().push(serde_json::from_str(body).unwrap_or(Json::Null));
                            break;
                        }
                    }
                }
                let call = n.fetch_add(1, Ordering::SeqCst);
                let (status, body) = &script[call.min(script.len() - 1)];
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\nretry-after: 0\r\n\r\n",
                    body.len()
                );
                socket.write_all(head.as_bytes()).await.unwrap();
                socket.write_all(body.as_bytes()).await.unwrap();
            }
        });
        (url, calls, bodies)
    }

    fn settings(url: &str, api: Api) -> EndpointSettings {
        EndpointSettings {
            url: url.into(),
            model: "m".into(),
            api,
            attempts: 3,
            timeout_secs: 5,
            ..EndpointSettings::default()
        }
    }

    fn request(n: u32) -> Request {
        Request { prompt: "p".into(), n, seed: 7, temperature: 1.0, top_p: 0.95, max_tokens: 8, stop: vec![] }
    }

    fn open(url: &str, api: Api) -> Endpoint {
        Endpoint::new("endpoint", settings(url, api), Arc::default(), Cancel::new()).unwrap()
    }

    fn one(text: &str) -> String {
        json!({"choices": [{"text": text, "finish_reason": "stop", "logprobs": {"token_logprobs": [-0.5, -0.25]}}]})
            .to_string()
    }

    #[tokio::test]
    async fn a_server_that_gives_one_choice_is_asked_until_there_are_n() {
        let (url, calls, bodies) = server(vec![(200, one("a")), (200, one("b"))]).await;
        let endpoint = open(&url, Api::Completions);
        let answers = endpoint.complete(&request(2)).await.unwrap();
        assert_eq!(answers.iter().map(|a| a.text.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((answers[0].n_tokens, answers[0].sum_logprob), (Some(2), Some(-0.75)));
        let seeds: Vec<_> = bodies.lock().unwrap().iter().map(|b| (b["n"].clone(), b["seed"].clone())).collect();
        assert_eq!(seeds, [(json!(2), json!(7)), (json!(1), json!(8))]);

        // The recording answers the same, without a call.
        let recorded = Recorded::parse("recording", &endpoint.tape.text().unwrap()).unwrap();
        let recording = Tape::open(None, Some(recorded)).unwrap();
        let replayed =
            Endpoint::new("endpoint", settings(&url, Api::Completions), Arc::new(recording), Cancel::new()).unwrap();
        assert_eq!(replayed.complete(&request(2)).await.unwrap(), answers);
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        let other = Request { prompt: "q".into(), ..request(2) };
        assert!(replayed.complete(&other).await.unwrap_err().to_string().contains("never recorded"));
    }

    #[tokio::test]
    async fn overload_is_retried_and_a_refusal_is_not() {
        let (url, calls, _) = server(vec![(429, "busy".into()), (500, "broken".into()), (200, one("ok"))]).await;
        let endpoint = open(&url, Api::Completions);
        assert_eq!(endpoint.complete(&request(1)).await.unwrap()[0].text, "ok");
        assert_eq!(calls.load(Ordering::SeqCst), 3);

        let (url, calls, _) = server(vec![(400, "no such model".into())]).await;
        let refusing = open(&url, Api::Completions);
        let error = refusing.complete(&request(1)).await.unwrap_err().to_string();
        assert!(error.contains("no such model"), "{error}");
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn chat_answers_and_nonsense_are_told_apart() {
        let chat = json!({"choices": [{"message": {"content": "hi"}, "finish_reason": "length"}], "usage": {"completion_tokens": 5}});
        let silent = json!({"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]});
        let (url, _, bodies) =
            server(vec![(200, chat.to_string()), (200, silent.to_string()), (200, "<html>".into())]).await;
        let endpoint = open(&url, Api::Chat);
        let answers = endpoint.complete(&request(1)).await.unwrap();
        assert_eq!((answers[0].text.as_str(), answers[0].n_tokens, answers[0].sum_logprob), ("hi", Some(5), None));
        assert_eq!(bodies.lock().unwrap()[0]["messages"][0]["content"], "p");
        let silent = Request { prompt: "s".into(), ..request(1) };
        assert_eq!(endpoint.complete(&silent).await.unwrap()[0].finish, "content_filter");
        let other = Request { prompt: "q".into(), ..request(1) };
        assert!(endpoint.complete(&other).await.unwrap_err().to_string().contains("expected JSON"));
        assert!(endpoint.probe().await.is_err());
    }

    #[tokio::test]
    async fn an_endpoint_that_is_down_is_found_by_the_probe() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        drop(listener);
        let endpoint = open(&url, Api::Completions);
        assert!(endpoint.probe().await.unwrap_err().to_string().contains(&url));
        let error = Endpoint::new("judge", settings("localhost:1", Api::Chat), Arc::default(), Cancel::new())
            .unwrap_err()
            .to_string();
        assert!(error.contains("judge.url"), "{error}");
    }
}
