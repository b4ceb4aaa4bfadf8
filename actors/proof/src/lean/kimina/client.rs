//! Kimina Lean Server's two routes over HTTP.
//!
//! Replies as its sources of 2025 give them (server 2.0: `/api/check`, `/verify` kept for older clients; server 1: `/verify`
//! alone). A reply is read up to a cap, and one that is not of the expected shape is trouble, never an answer.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, Options};
use crate::lean::reply::{Message, short};

/// Longest reply that is read, in bytes.
const MAX_REPLY_BYTES: usize = 64 << 20;

/// One file to be checked.
#[derive(Clone, Debug)]
pub(super) struct Snippet {
    pub(super) id: String,
    pub(super) code: String,
}

/// What the server says of one snippet.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    #[serde(alias = "custom_id")]
    pub(super) id: String,
    pub(super) error: Option<String>,
    pub(super) response: Option<Response>,
    time: Option<f64>,
    diagnostics: Option<Diagnostics>,
}

/// What version 2 adds when asked to.
#[derive(Debug, Deserialize)]
struct Diagnostics {
    /// In bytes.
    memory_max: Option<f64>,
}

/// What the REPL said. An object with `message` alone is an error of the REPL.
#[derive(Debug, Deserialize)]
pub(super) struct Response {
    pub(super) message: Option<String>,
    pub(super) messages: Option<Vec<Message>>,
    pub(super) sorries: Option<Vec<Value>>,
    time: Option<f64>,
}

impl Answer {
    /// Elapsed time as the server measured it; zero where it does not say.
    pub(super) fn time(&self) -> Duration {
        let time = self.time.or(self.response.as_ref().and_then(|response| response.time));
        Duration::try_from_secs_f64(time.unwrap_or(0.0)).unwrap_or(Duration::ZERO)
    }

    /// Most memory as the server saw it, looking once a second; `None` where it does not say or did not look.
    pub(super) fn peak_rss_bytes(&self) -> Option<u64> {
        let bytes = self.diagnostics.as_ref()?.memory_max?;
        (bytes >= 1.0).then_some(bytes as u64)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) what: String,
    /// Whether the content of the request may have to do with it, so that fewer snippets may fare better.
    pub(super) is_of_content: bool,
    /// The HTTP status, where it came to one.
    pub(super) status: Option<u16>,
}

impl Trouble {
    /// What went wrong, with what helps against it.
    pub(super) fn with_hint(&self) -> String {
        let hint = match self.status {
            Some(401 | 403) => "; hint: give the server's key",
            Some(429) => "; hint: fewer requests at once, or more REPLs of the server",
            None if !self.is_of_content => "; hint: start the server, or correct its URL",
            _ => "",
        };
        format!("{}{hint}", self.what)
    }
}

/// A connection to one server. It belongs to the thread that made it.
pub(super) struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    pub(super) fn new() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime for HTTP: {error}"))?;
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).build();
        Ok(Self { http: http.map_err(|error| chain(&error))?, runtime })
    }

    /// Asks about `snippets`. `is_fresh`: by processes that nothing else ran in.
    pub(super) fn ask(
        &self,
        options: &Options,
        api: Api,
        snippets: &[Snippet],
        is_fresh: bool,
    ) -> Result<Vec<Value>, Trouble> {
        // the server's own limit is for one snippet, and it takes whole seconds
        let secs = options.timeout.as_secs().max(1);
        let (route, body) = match api {
            Api::Check => {
                let snippets: Vec<Value> =
                    snippets.iter().map(|snippet| json!({"id": snippet.id, "code": snippet.code})).collect();
                ("api/check", json!({"snippets": snippets, "timeout": secs, "debug": true, "reuse": !is_fresh}))
            }
            Api::Verify => {
                let codes: Vec<Value> =
                    snippets.iter().map(|snippet| json!({"custom_id": snippet.id, "proof": snippet.code})).collect();
                ("verify", json!({"codes": codes, "timeout": secs, "disable_cache": is_fresh}))
            }
        };
        let n = u32::try_from(snippets.len()).unwrap_or(u32::MAX);
        let patience = options.header_timeout + options.timeout.saturating_mul(n);
        let url = format!("{}/{route}", options.url.trim_end_matches('/'));
        let mut post = self.http.post(url).timeout(patience).json(&body);
        if let Some(key) = &options.key {
            // version 1 reads the first, version 2 the second
            post = post.bearer_auth(key).header("X-Auth-Token", format!("Bearer {key}"));
        }
        self.runtime.block_on(exchange(post))
    }
}

async fn exchange(post: reqwest::RequestBuilder) -> Result<Vec<Value>, Trouble> {
    let transport = |error: reqwest::Error| Trouble {
        what: chain(&error),
        is_of_content: !error.is_connect() && !error.is_builder(),
        status: None,
    };
    let mut response = post.send().await.map_err(transport)?;
    let status = response.status();
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        text.extend_from_slice(&chunk);
        if text.len() > MAX_REPLY_BYTES {
            let what = format!("the reply is longer than {MAX_REPLY_BYTES} bytes");
            return Err(Trouble { what, is_of_content: true, status: Some(status.as_u16()) });
        }
    }
    let said = || short(&String::from_utf8_lossy(&text[..text.len().min(4096)]));
    if !status.is_success() {
        let what = format!("status {status}: {}", said());
        return Err(Trouble {
            what,
            is_of_content: status.is_server_error() || status.as_u16() == 429,
            status: Some(status.as_u16()),
        });
    }
    results(&text).map_err(|what| Trouble { what, is_of_content: true, status: Some(status.as_u16()) })
}

/// The rows of a reply, each of whatever shape.
pub(super) fn results(text: &[u8]) -> Result<Vec<Value>, String> {
    #[derive(Deserialize)]
    struct Reply {
        results: Vec<Value>,
    }
    let reply = serde_json::from_slice::<Reply>(text).map_err(|error| {
        let said = short(&String::from_utf8_lossy(&text[..text.len().min(4096)]));
        format!("expected an object with `results`, got `{said}`: {error}")
    })?;
    Ok(reply.results)
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        text = format!("{text}: {cause}");
        at = cause.source();
    }
    short(&text)
}
