//! Bytes as requests. A byte chooses a route and one whether it is asked as it should be; then each parameter takes some. So few bytes make a
//! whole request that a fuzzer soon gets past the door, and any bytes make one.

use std::io::Read as _;

use flate2::Compression;
use flate2::read::{GzEncoder, ZlibEncoder};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::table::{ROUTES, of_list, parts};

/// How deep values are nested at most.
const MAX_DEPTH: usize = 4;
const IN_QUERY: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');
const IN_PATH: AsciiSet = IN_QUERY.remove(b'/');

/// What requests can name.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) run: String,
    pub(super) experiment: String,
    pub(super) model: String,
    /// The page token that was answered last.
    pub(super) token: String,
}

/// A request.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) method: &'static str,
    /// With the query.
    pub(super) path: String,
    pub(super) body: Vec<u8>,
    pub(super) headers: Vec<(&'static str, String)>,
}

/// Bytes that are read from the front; after the last come zeros.
pub(super) struct Source<'a>(pub(super) &'a [u8]);

impl Source<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    fn pick<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[usize::from(self.byte()) % texts.len()]
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        let (now, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        now.to_vec()
    }

    fn text(&mut self) -> String {
        match self.byte() {
            length @ 0..64 => String::from_utf8_lossy(&self.bytes(usize::from(length))).into_owned(),
            // From short to past every limit but the body's.
            length => self.pick(&["x", "ü", "a/", "0", "\u{0}"]).repeat(1 << (length % 18)),
        }
    }

    /// The next request.
    pub(super) fn request(&mut self, names: &Names) -> Sent {
        let row = usize::from(self.byte()) % (ROUTES.len() + 9);
        if let Some((method, path, fields)) = ROUTES.get(row) {
            return self.routed(method, path, fields, names);
        }
        match row % 3 {
            0 => {
                let path =
                    format!("/api/2.0/mlflow-artifacts/artifacts/{}", encoded(&self.value("path", names, 0), true));
                Sent { method: "PUT", path, body: self.text().into_bytes(), headers: Vec::new() }
            }
            1 => {
                let is_json = self.byte() & 1 == 1;
                let (kind, body) = if is_json {
                    ("application/json", self.value("export", names, 0).to_string().into_bytes())
                } else {
                    ("application/x-protobuf", self.spans())
                };
                let encoding = self.pick(&["", "", "gzip", "deflate", "br"]);
                let body = if self.byte() < 200 { packed(&body, encoding) } else { body };
                let headers = vec![
                    ("x-mlflow-experiment-id", self.experiment(names)),
                    ("x-mlflow-run-id", self.pick(&["", &names.run, "x"]).to_owned()),
                    ("content-type", kind.to_owned()),
                    ("content-encoding", encoding.to_owned()),
                ];
                Sent { method: "POST", path: "/v1/traces".to_owned(), body, headers }
            }
            _ => {
                let method = self.pick(&["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD"]);
                let path = format!("/{}{}", self.pick(&["", "api/2.0/mlflow/", "ajax-api/3.0/mlflow/"]), self.text());
                let kind = self.pick(&["application/json", "text/plain", ""]).to_owned();
                let n = self.0.len();
                Sent { method, path, body: self.bytes(n), headers: vec![("content-type", kind)] }
            }
        }
    }

    fn routed(&mut self, method: &'static str, path: &str, fields: &str, names: &Names) -> Sent {
        let mut path = if path.starts_with('/') { path.to_owned() } else { format!("/api/2.0/mlflow/{path}") };
        while let Some((start, kind, end)) = hole(&path) {
            path = format!("{start}{}{end}", encoded(&self.value(kind, names, 0), kind == "path"));
        }
        let asked = self.object(fields, names, 0);
        if method == "GET" {
            let one = |key: &str, value: &Value| format!("{}={}", encoded(&key.into(), false), encoded(value, false));
            let pairs: Vec<String> = asked
                .iter()
                .flat_map(|(key, value)| match value {
                    Value::Array(values) => values.iter().map(|value| one(key, value)).collect(),
                    value => vec![one(key, value)],
                })
                .collect();
            return Sent { method, path: format!("{path}?{}", pairs.join("&")), body: Vec::new(), headers: Vec::new() };
        }
        let headers = vec![("content-type", "application/json".to_owned())];
        Sent { method, path, body: Value::from(asked).to_string().into_bytes(), headers }
    }

    /// An object with these parts: most of them, and of their kinds, or not.
    fn object(&mut self, fields: &str, names: &Names, depth: usize) -> Map<String, Value> {
        let left_out = self.byte();
        let fields = fields.split_whitespace().enumerate().filter_map(|(nth, field)| {
            let is_there = nth >= 8 || left_out & (1 << nth) == 0;
            field.split_once('=').filter(|_| is_there)
        });
        fields.map(|(name, kind)| (name.to_owned(), self.value(kind, names, depth))).collect()
    }

    fn list(&mut self, kind: &str, names: &Names, depth: usize) -> Value {
        let n = self.byte();
        // Mostly few; now and then as many as there may be, and one more.
        let n = if n < 250 { usize::from(n % 5) } else { [100, 101, 500, 1000, 1001, 0][usize::from(n - 250)] };
        let mut values: Vec<Value> = (0..n.min(5)).map(|_| self.value(kind, names, depth + 1)).collect();
        let is_small = values.iter().map(|value| value.to_string().len()).sum::<usize>() < 1000;
        while is_small && !values.is_empty() && values.len() < n {
            values.push(values[values.len() % 5].clone());
        }
        values.into()
    }

    fn experiment(&mut self, names: &Names) -> String {
        self.pick(&["0", &names.experiment, "", "1"]).to_owned()
    }

    fn value(&mut self, kind: &str, names: &Names, depth: usize) -> Value {
        if self.byte() > 240 || depth > MAX_DEPTH {
            return self.any(names, depth);
        }
        if let Some(kind) = of_list(kind) {
            return self.list(kind, names, depth);
        }
        if let Some(fields) = parts(kind) {
            return self.object(fields, names, depth + 1).into();
        }
        match kind {
            "experiment" => self.experiment(names).into(),
            "run" => self.pick(&[&names.run, &names.run, "", "x"]).into(),
            "model" => self.pick(&[&names.model, &names.model, "", "m-1"]).into(),
            "trace" => self.pick(&["tr-1", "tr-2", "tr-01010101010101010101010101010101", "", ".."]).into(),
            "registered" => self.pick(&["reg", "reg", "other", ""]).into(),
            "version" => self.pick(&["1", "2", "0", "x", "4294967296"]).into(),
            "alias" => self.pick(&["best", "champion", "latest", "v1"]).into(),
            "said" => self.pick(&["a-1", "a-2", ""]).into(),
            "key" => self.pick(&["k", "loss", "a/b", "mlflow.runName", "mlflow.user", "ü", ""]).into(),
            "field" => self.pick(&["metrics.loss", "creation_time", "name", "params.k"]).into(),
            "view" => self.pick(&["ACTIVE_ONLY", "DELETED_ONLY", "ALL", "2"]).into(),
            "stage" => self.pick(&["Production", "Staging", "Archived", "None", "production"]).into(),
            "status" => {
                self.pick(&["FINISHED", "KILLED", "RUNNING", "3", "OK", "LOGGED_MODEL_READY", "READY", "ERROR"]).into()
            }
            "token" => self.pick(&[&names.token, &names.token, ""]).into(),
            "time" => self.pick(&["2026-01-01T00:00:00Z", "1970-01-01T00:00:00.001Z", "9999-12-31T00:00:00Z"]).into(),
            "trace_hex" => self.pick(&["01", "02", "aB", "0"]).repeat(16).into(),
            "span_hex" => self.pick(&["01", "02", "ff", ""]).repeat(8).into(),
            "duration" => self.pick(&["1.5s", "0s", "-3s", "1e300s"]).into(),
            "bool" => (self.byte() & 1 == 1).into(),
            "int" => self.int(),
            "millis" => (i64::from(self.byte()) * 1000).into(),
            "number" => self.real(),
            "path" => format!("{}{}", self.pick(&["", "0/"]), self.path(names)).into(),
            "uri" => format!("{}{}", self.pick(&["mlflow-artifacts:/0/", "", "s3://b/", "models:/"]), self.path(names))
                .into(),
            "filter" => self.filter().into(),
            "order" => format!("{}{}", self.field(), self.pick(&["", " DESC", " ASC"])).into(),
            "map" => {
                let n = self.byte() % 4;
                (0..n).map(|_| (self.text(), Value::from(self.text()))).collect::<Map<_, _>>().into()
            }
            "model_json" => {
                json!({ "artifact_path": self.text(), "flavors": {}, "utc_time_created": "", "run_id": names.run })
                    .to_string()
                    .into()
            }
            "any" => self.any(names, depth),
            _ => self.text().into(),
        }
    }

    fn path(&mut self, names: &Names) -> String {
        let owner = match self.byte() % 4 {
            0 => format!("{}/artifacts/", names.run),
            1 => format!("models/{}/artifacts/", names.model),
            2 => "traces/tr-1/artifacts/".to_owned(),
            _ => String::new(),
        };
        owner
            + &match self.byte() % 6 {
                0 => "f".to_owned(),
                1 => "d/f".to_owned(),
                2 => "d".to_owned(),
                3 => String::new(),
                4 => "../f".to_owned(),
                _ => self.text(),
            }
    }

    fn int(&mut self) -> Value {
        match self.byte() {
            n @ 0..200 => (i64::from(n) - 20).into(),
            200..220 => self.number().into(),
            220..240 => (self.number() as i64).to_string().into(),
            _ => self.real(),
        }
    }

    fn real(&mut self) -> Value {
        match self.byte() {
            n @ 0..100 => (f64::from(n) / 4.0).into(),
            100..140 => self.pick(&["NaN", "Infinity", "-Infinity", "1e400", "x"]).into(),
            _ => f64::from_bits(self.number()).into(),
        }
    }

    fn field(&mut self) -> String {
        let field = self.pick(&[
            "metrics.loss",
            "params.k",
            "tags.k",
            "tags.`mlflow.runName`",
            "datasets.name",
            "name",
            "run_name",
            "run_id",
            "status",
            "start_time",
            "timestamp_ms",
            "artifact_uri",
            "span.name",
            "feedback.x",
            "version_number",
            "metrics.none",
        ]);
        if self.byte() > 240 { self.text() } else { field.to_owned() }
    }

    fn filter(&mut self) -> String {
        let n = self.byte() % 4;
        let conditions: Vec<String> = (0..n)
            .map(|_| {
                let operators =
                    ["=", "!=", "<", ">=", "LIKE", "ILIKE", "RLIKE", "IN", "NOT IN", "IS NULL", "IS NOT NULL"];
                let (field, operator) = (self.field(), self.pick(&operators));
                let value = self.pick(&["0.5", "'x'", "('x', 'reg')", "", "nan", "'%'", "'f'", "-1e9"]);
                format!("{field} {operator} {value}")
            })
            .collect();
        conditions.join(" AND ")
    }

    fn any(&mut self, names: &Names, depth: usize) -> Value {
        match self.byte() % if depth > MAX_DEPTH { 6 } else { 9 } {
            0 => Value::Null,
            1 => true.into(),
            2 => self.int(),
            3 => self.real(),
            4 | 5 => self.text().into(),
            6 => self.list("any", names, depth),
            7 => self.object("key=any value=any x=text", names, depth + 1).into(),
            _ => self.value("pairs", names, depth + 1),
        }
    }

    /// A request of OTLP with spans of up to two traces, whose fields after their ids are the bytes that come.
    fn spans(&mut self) -> Vec<u8> {
        if self.byte() > 220 {
            let n = self.0.len();
            return self.bytes(n);
        }
        let mut scope = Vec::new();
        for _ in 0..=self.byte() % 3 {
            let (trace, id, n) = (self.byte() % 2, self.byte() % 2, self.byte());
            let mut span = [&[0x0a, 16][..], &[trace; 16], &[0x12, 8], &[id; 8]].concat();
            span.extend(self.bytes(usize::from(n % 128)));
            scope.extend(field(0x12, &span));
        }
        field(0x0a, &field(0x12, &scope))
    }
}

/// Bytes as a client compresses them.
fn packed(bytes: &[u8], encoding: &str) -> Vec<u8> {
    let level = Compression::fast();
    let mut packed = Vec::new();
    let n_bytes = match encoding {
        "gzip" => GzEncoder::new(bytes, level).read_to_end(&mut packed),
        "deflate" => ZlibEncoder::new(bytes, level).read_to_end(&mut packed),
        _ => return bytes.to_vec(),
    };
    n_bytes.map_or_else(|_| Vec::new(), |_| packed)
}

/// A field of protobuf whose value has a length.
fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let mut length = value.len();
    while length > 127 {
        bytes.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(value);
    bytes
}

/// The first `{kind}` of a path, and what stands around it.
fn hole(path: &str) -> Option<(&str, &str, &str)> {
    let (start, rest) = path.split_once('{')?;
    let (kind, end) = rest.split_once('}')?;
    Some((start, kind, end))
}

/// A value as it stands in a URL.
fn encoded(value: &Value, is_path: bool) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    utf8_percent_encode(&text, if is_path { &IN_PATH } else { &IN_QUERY }).to_string()
}
