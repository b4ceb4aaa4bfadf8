//! How a request becomes an answer: let in, routed, computed at once or aside, whole or in parts.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderName};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::artifacts::{self, Download, Place};
use crate::error::{Answer, Code, Refusal};
use crate::inflate::Encoding;
use crate::routes::{self, Call, Handler, Parts};
use crate::serve::Shared;
use crate::stream;
use crate::traces::otlp::{Format, Headers};
use crate::wire::Request;

/// The longest body of a request that is no file, in bytes: a dataset with all that may be said of it fits.
pub(crate) const MAX_BODY_BYTES: usize = 17 << 20;
/// Answers below this are made whole.
const WHOLE_BYTES: usize = 1 << 20;
/// How much of the body of a request that is refused is read all the same, in bytes.
const DRAINED_BYTES: usize = 1 << 20;
/// Says which experiment spans belong to.
const EXPERIMENT: HeaderName = HeaderName::from_static("x-mlflow-experiment-id");
/// Says which run traces come of.
const RUN: HeaderName = HeaderName::from_static("x-mlflow-run-id");

/// Answers one request.
pub(crate) async fn answer(shared: web::Data<Shared>, request: HttpRequest, mut payload: Payload) -> HttpResponse {
    match route(&shared, &request, &mut payload).await {
        Ok(response) => response,
        Err(refusal) => {
            // A body that is left unread would end the connection, perhaps before the client has read why.
            stream::drain(&mut payload, DRAINED_BYTES).await;
            refused(&refusal)
        }
    }
}

fn refused(refusal: &Refusal) -> HttpResponse {
    let mut response = builder(refusal.status());
    match refusal.code {
        Code::RequestLimitExceeded => drop(response.insert_header((header::RETRY_AFTER, "1"))),
        Code::Unauthenticated => drop(response.insert_header((header::WWW_AUTHENTICATE, "Basic realm=\"tracker\""))),
        _ => {}
    }
    response.content_type("application/json").body(refusal.body())
}

fn builder(status: StatusCode) -> HttpResponseBuilder {
    let mut builder = HttpResponse::build(status);
    builder.insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    builder
}

fn json(body: Vec<u8>) -> HttpResponse {
    builder(StatusCode::OK).content_type("application/json").body(body)
}

async fn route(shared: &web::Data<Shared>, request: &HttpRequest, payload: &mut Payload) -> Answer<HttpResponse> {
    // The answer to HEAD is that to GET; the body of it is not sent.
    let method = if request.method() == Method::HEAD { Method::GET.as_str() } else { request.method().as_str() };
    let path = request.uri().path();
    shared.gate.check(method, path, request.headers())?;
    let route = routes::find(method, path).ok_or_else(|| {
        Refusal::new(Code::EndpointNotFound, format!("There is no endpoint {method} {}.", path.escape_default()))
    })?;
    let mut slot = shared.requests.enter();
    // Whether it is well is answered also by a server that has too much to do.
    if !matches!(route.call, Call::Plain(_)) {
        slot.take(1)?;
    }
    let args = route.args.into_iter().map(artifacts::decoded).collect::<Answer<Vec<_>>>()?;
    match route.call {
        Call::Plain(text) => Ok(builder(StatusCode::OK).content_type("text/plain; charset=utf-8").body(text)),
        Call::Upload => upload(shared, &args, payload).await,
        Call::Download => {
            let path = args.into_iter().next().unwrap_or_default();
            let api = Arc::clone(&shared.api);
            let found = aside(move || artifacts::find(&api, &path)).await?;
            download(shared, request, found).await
        }
        Call::GetArtifact { is_version } => {
            let (api, query) = (Arc::clone(&shared.api), request.query_string().to_owned());
            let found = aside(move || {
                let request = Request { query: &query, body: None, args: &[] };
                artifacts::find_by_query(&api, &request, is_version)
            });
            download(shared, request, found.await?).await
        }
        Call::Quick(handler) => call(shared, request, payload, handler, args, true).await,
        Call::Json(handler) => call(shared, request, payload, handler, args, false).await,
        Call::Parts(handler) => {
            let body = body(shared, request, payload).await?;
            let (api, query) = (Arc::clone(&shared.api), request.query_string().to_owned());
            let parts = aside(move || {
                let body = body.bytes.as_deref();
                handler(&api, &Request { query: &query, body, args: &args })
            });
            in_parts(parts.await?).await
        }
        Call::Spans => {
            let format = Format::of(text(request, &header::CONTENT_TYPE))?;
            let encoding = Encoding::of(text(request, &header::CONTENT_ENCODING))?;
            let body = body(shared, request, payload).await?;
            let (experiment, run) = (text(request, &EXPERIMENT).to_owned(), text(request, &RUN).to_owned());
            let api = Arc::clone(&shared.api);
            let spans = aside(move || {
                let body = if let Some(encoding) = encoding { body.inflated(encoding)? } else { body };
                let headers = Headers { format, experiment: &experiment, run: &run };
                crate::traces::otlp::export(&api, body.bytes.as_deref().unwrap_or_default(), &headers)
            });
            let body = spans.await?;
            Ok(builder(StatusCode::OK).content_type(format.kind()).body(body))
        }
    }
}

/// The text of a header; empty without it.
fn text<'a>(request: &'a HttpRequest, name: &HeaderName) -> &'a str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// Computes aside, so that other requests do not wait.
async fn aside<T: Send + 'static>(compute: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    let failed = |_| Refusal::new(Code::InternalError, "The computation of the answer was cut short.");
    web::block(compute).await.map_err(failed)?
}

/// The body of a request, and the room it takes.
struct Body {
    bytes: Option<Vec<u8>>,
    shared: web::Data<Shared>,
    n_taken: usize,
}

impl Body {
    /// The body that was compressed into this one.
    fn inflated(self, encoding: Encoding) -> Answer<Self> {
        let shared = self.shared.clone();
        let mut room = shared.bodies.enter();
        let bytes = encoding.inflate(self.bytes.as_deref().unwrap_or_default(), MAX_BODY_BYTES, &mut room)?;
        let n_taken = room.keep();
        Ok(Self { bytes: Some(bytes), shared, n_taken })
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.shared.bodies.give_back(self.n_taken);
    }
}

async fn body(shared: &web::Data<Shared>, request: &HttpRequest, payload: &mut Payload) -> Answer<Body> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(Body { bytes: None, shared: shared.clone(), n_taken: 0 });
    }
    if request.method() == Method::POST && request.uri().path() != "/v1/traces" {
        let kind = text(request, &header::CONTENT_TYPE).split(';').next().unwrap_or("").trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::new(Code::BadRequest, "Bad Request. Content-Type must be application/json."));
        }
    }
    let mut room = shared.bodies.enter();
    let bytes = stream::whole(payload, MAX_BODY_BYTES, &mut room, shared.patience).await?;
    Ok(Body { bytes: Some(bytes), shared: shared.clone(), n_taken: room.keep() })
}

async fn call(
    shared: &web::Data<Shared>,
    request: &HttpRequest,
    payload: &mut Payload,
    handler: Handler,
    args: Vec<String>,
    is_quick: bool,
) -> Answer<HttpResponse> {
    let body = body(shared, request, payload).await?;
    if is_quick {
        let asked = Request { query: request.query_string(), body: body.bytes.as_deref(), args: &args };
        return handler(&shared.api, &asked).map(json);
    }
    let (api, query) = (Arc::clone(&shared.api), request.query_string().to_owned());
    let answer = aside(move || handler(&api, &Request { query: &query, body: body.bytes.as_deref(), args: &args }));
    answer.await.map(json)
}

/// Answers with parts: whole if they are short, else one after the other.
async fn in_parts(mut parts: Parts) -> Answer<HttpResponse> {
    let (together, rest) = aside(move || {
        let mut together = Vec::new();
        while together.len() < WHOLE_BYTES {
            match parts.next() {
                Some(part) => together.extend(part?),
                None => return Ok((together, None)),
            }
        }
        Ok((together, Some(parts)))
    })
    .await?;
    let Some(rest) = rest else { return Ok(json(together)) };
    let first = futures::stream::once(async move { Ok(web::Bytes::from(together)) });
    let body = first.chain(stream::parts_of(rest));
    Ok(builder(StatusCode::OK).content_type("application/json").streaming(Box::pin(body)))
}

async fn upload(shared: &web::Data<Shared>, args: &[String], payload: &mut Payload) -> Answer<HttpResponse> {
    let path = args.first().map_or("", String::as_str);
    let place = Place::of(path)?.filter(|place| !place.path.is_empty());
    let place = place.ok_or_else(|| {
        Refusal::invalid(format!(
            "Invalid path: '{}' leads to no file of a run, a model or a trace",
            path.escape_default()
        ))
    })?;
    let mut slot = shared.files.enter();
    slot.take(1)?;
    let (sender, mut reader) = stream::pipe();
    let api = Arc::clone(&shared.api);
    let put = aside(move || {
        artifacts::check_owner(&api, &place)?;
        Ok(api.store.put_loose(&place.owner, &place.path, &mut reader)?)
    });
    let (sent, put) = futures::join!(sender.send(payload, shared.patience), put);
    sent?;
    put?;
    Ok(builder(StatusCode::OK).finish())
}

async fn download(shared: &web::Data<Shared>, request: &HttpRequest, found: Download) -> Answer<HttpResponse> {
    let Download { file, name } = found;
    let asked = request.headers().get(header::RANGE).and_then(|range| range.to_str().ok());
    let Ok(range) = stream::range(asked, file.n_bytes) else {
        let mut response = builder(StatusCode::RANGE_NOT_SATISFIABLE);
        response.insert_header((header::CONTENT_RANGE, format!("bytes */{}", file.n_bytes)));
        return Ok(response.finish());
    };
    let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let (first, n_bytes) = range.unwrap_or((0, file.n_bytes));
    let mut response = builder(status);
    response.content_type(artifacts::content_type(&name));
    response.insert_header((
        header::CONTENT_DISPOSITION,
        format!("attachment; filename*=UTF-8''{}", artifacts::encoded(&name)),
    ));
    response.insert_header((header::ETAG, format!("\"{}\"", file.digest)));
    response.insert_header((header::ACCEPT_RANGES, "bytes"));
    if range.is_some() {
        let last = first + n_bytes - 1;
        response.insert_header((header::CONTENT_RANGE, format!("bytes {first}-{last}/{}", file.n_bytes)));
    }
    if n_bytes == 0 {
        return Ok(response.body(Vec::new()));
    }
    let api = Arc::clone(&shared.api);
    let reader = aside(move || Ok(api.store.open_file(file.digest, first)?)).await?;
    shared.files.try_take()?;
    let slot = FileSlot(shared.clone());
    let bytes = stream::bytes_of(reader, n_bytes).inspect_ok(move |_| {
        // The slot is held until the last byte was asked for.
        let _held = &slot;
    });
    response.no_chunking(n_bytes);
    Ok(response.streaming(Box::pin(bytes)))
}

/// A place among the files that are sent; given back when the last byte is, or the client goes.
struct FileSlot(web::Data<Shared>);

impl Drop for FileSlot {
    fn drop(&mut self) {
        self.0.files.give_back(1);
    }
}
