//! What a fuzzer may throw bytes at; `tests/fuzz` does, and so do this crate's own tests.
//!
//! Not here: sockets. A request is given to the server's own entry as it comes from one.

mod filters;
mod source;
mod table;

use std::cell::RefCell;

use actix_web::body::to_bytes;
use actix_web::http::{Method, Uri, header};
use actix_web::rt::{System, SystemRunner};
use actix_web::test::TestRequest;
use actix_web::web::{self, Payload};
use actix_web::{FromRequest as _, HttpResponse};
use serde_json::{Value, json};
use tracker_store::Store;

use crate::answer::answer;
use crate::gate::Gate;
use crate::serve::{Options, Shared};
use source::{Names, Sent, Source};

pub use filters::filter;

/// Requests of one input at most.
const MAX_REQUESTS: usize = 12;

thread_local! {
    static SYSTEM: RefCell<SystemRunner> = RefCell::new(System::new());
}

/// Bytes as some requests to a server over a store in memory with a little of everything in it.
///
/// # Panics
/// If an answer is the server's fault, a refusal has no code or says nothing, what was refused or only read has changed the store, or the store
/// is damaged in the end.
pub fn routes(bytes: &[u8]) {
    let Ok(store) = Store::memory() else { return };
    let shared = Shared::new(store.clone(), Gate::default(), &Options::default());
    let shared = web::Data::new(shared.unwrap_or_else(|error| panic!("a server cannot be made: {error}")));
    SYSTEM.with_borrow(|system| system.block_on(serve(&store, &shared, bytes)));
    let damages = tracker_store::testing::damages(&store);
    assert!(damages.is_empty(), "the store is damaged: {damages:#?}");
}

async fn serve(store: &Store, shared: &web::Data<Shared>, bytes: &[u8]) {
    let mut names = furnish(shared).await;
    let mut source = Source(bytes);
    let mut before = tracker_store::testing::entries(store);
    for _ in 0..MAX_REQUESTS {
        if source.is_empty() {
            return;
        }
        let sent = source.request(&names);
        let Some(reply) = ask(shared, &sent).await else { continue };
        reply.check(&sent);
        let after = tracker_store::testing::entries(store);
        let writes = reply.status < 400 && !matches!(sent.method, "GET" | "HEAD");
        assert!(writes || before == after, "{sent:?} changed the store and was answered {reply:?}");
        before = after;
        if let Some(token) = reply.json()["next_page_token"].as_str() {
            token.clone_into(&mut names.token);
        }
    }
}

/// An answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    kind: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Whether the answer is one that a client can do something with.
    fn check(&self, sent: &Sent) {
        assert!(self.status < 500 || self.status == 501, "{sent:?}: {self:?}");
        if self.kind.starts_with("application/json") {
            assert!(serde_json::from_str::<Value>(&self.body).is_ok(), "{sent:?}: {self:?}");
        }
        if self.status >= 400 && self.status != 416 {
            let refusal = self.json();
            let text = |key: &str| refusal[key].as_str().is_some_and(|text| !text.is_empty());
            assert!(text("error_code") && text("message"), "{sent:?}: {self:?}");
        }
    }
}

/// Sends a request; none if it is none that could come over a socket.
async fn ask(shared: &web::Data<Shared>, sent: &Sent) -> Option<Reply> {
    let uri = Uri::try_from(sent.path.as_str()).ok()?;
    let method = Method::from_bytes(sent.method.as_bytes()).ok()?;
    let mut request = TestRequest::default().method(method).uri(&uri.to_string());
    for (name, value) in [("host", "localhost")].into_iter().chain(sent.headers.iter().map(|(n, v)| (*n, v.as_str()))) {
        request = request.insert_header((name, header::HeaderValue::from_str(value).ok()?));
    }
    let (request, mut payload) = request.set_payload(sent.body.clone()).to_http_parts();
    let payload = Payload::from_request(&request, &mut payload).await.ok()?;
    let response: HttpResponse = answer(shared.clone(), request, payload).await;
    let status = response.status().as_u16();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let body = to_bytes(response.into_body()).await;
    let body = body.unwrap_or_else(|error| panic!("{sent:?}: the answer ended early: {error}"));
    Some(Reply { status, kind, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Makes a little of everything, and says what it is called.
async fn furnish(shared: &web::Data<Shared>) -> Names {
    let experiment = put(shared, "2.0/mlflow/experiments/create", json!({ "name": "e" })).await;
    let run = json!({ "experiment_id": "0", "start_time": 1000, "run_name": "r" });
    let run = put(shared, "2.0/mlflow/runs/create", run).await;
    let run = run["run"]["info"]["run_id"].as_str().unwrap_or_default().to_owned();
    let model = json!({ "experiment_id": "0", "name": "m", "source_run_id": run });
    let model = put(shared, "2.0/mlflow/logged-models", model).await;
    let pair = json!([{ "key": "k", "value": "x" }]);
    let points = json!([{ "key": "loss", "value": 0.5, "timestamp": 1, "step": 1 }, { "key": "loss", "value": "NaN", "timestamp": 2, "step": 2 }]);
    let batch = json!({ "run_id": run, "metrics": points, "params": pair, "tags": pair });
    put(shared, "2.0/mlflow/runs/log-batch", batch).await;
    put(shared, "2.0/mlflow/registered-models/create", json!({ "name": "reg", "tags": pair })).await;
    let version = json!({ "name": "reg", "run_id": run, "source": format!("mlflow-artifacts:/0/{run}/artifacts/f") });
    put(shared, "2.0/mlflow/model-versions/create", version).await;
    let said = json!({ "assessment_id": "a-1", "assessment_name": "x", "source": { "source_type": "HUMAN", "source_id": "me" }, "feedback": { "value": 1 } });
    let trace = json!({ "trace": { "trace_info": {
        "trace_id": "tr-1", "trace_location": { "type": "MLFLOW_EXPERIMENT", "mlflow_experiment": { "experiment_id": "0" } },
        "request_time": "2026-01-01T00:00:00Z", "state": "OK", "tags": { "k": "x" }, "assessments": [said],
    } } });
    put(shared, "3.0/mlflow/traces", trace).await;
    Names {
        run,
        experiment: experiment["experiment_id"].as_str().unwrap_or_default().to_owned(),
        model: model["model"]["info"]["model_id"].as_str().unwrap_or_default().to_owned(),
        token: String::new(),
    }
}

async fn put(shared: &web::Data<Shared>, path: &str, body: Value) -> Value {
    let headers = vec![("content-type", "application/json".to_owned())];
    let sent = Sent { method: "POST", path: format!("/api/{path}"), body: body.to_string().into_bytes(), headers };
    match ask(shared, &sent).await {
        Some(reply) if reply.status == 200 => reply.json(),
        reply => panic!("{sent:?}: {reply:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that look like any others, always the same.
    fn noise(seed: u64) -> impl Iterator<Item = u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
    }

    #[test]
    fn whatever_is_asked_is_answered_and_a_refusal_changes_nothing() {
        for seed in 0..300 {
            routes(&noise(seed).take(400).collect::<Vec<_>>());
        }
        // Every route, asked as it should be.
        for row in 0..=u8::MAX {
            routes(&[&[row], &[0; 40][..]].concat());
        }
    }

    #[test]
    fn filters_are_answered_alike_by_both_that_hold_them() {
        for text in [
            "metrics.loss != 0.5",
            "metrics.loss > 0.5 AND params.lr = '0.1'",
            "tags.note IS NULL",
            "run_name LIKE 'f%'\0metrics.loss DESC",
            "\0params.lr",
            "status = 'FINISHED' AND start_time >= 1000",
            "datasets.name IN ('d', 'x')",
        ] {
            filter(text);
        }
    }
}
