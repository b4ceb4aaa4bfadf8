//! A server that speaks Kimina's two routes and says of each snippet what the snippet tells it to.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use serde_json::{Value, json};

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Both routes; lines counted over the whole file.
    V2,
    /// Both routes; lines counted from where the imports were cut off, as releases of 2025 do.
    V2Shifted,
    /// `/verify` alone.
    V1,
    /// Wants a key.
    Keyed,
    /// Neither route: some website.
    Website,
}

/// A running server; it stops when dropped.
pub(crate) struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Value>>>,
    stopped: Arc<AtomicBool>,
    listens: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (requests, stopped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, is_over) = (requests.clone(), stopped.clone());
        let listens = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let log = log.clone();
                std::thread::spawn(move || serve(stream, kind, &log));
            }
        });
        Self { address, requests, stopped, listens: Some(listens) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bodies of the requests so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        self.requests.lock().unwrap().clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // wakes the listener; where that fails it is gone already
        drop(TcpStream::connect(&self.address));
        // only then is the port closed
        drop(self.listens.take().map(JoinHandle::join));
    }
}

fn serve(mut stream: TcpStream, kind: Kind, log: &Mutex<Vec<Value>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length, mut key) = (String::new(), 0, String::new());
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let route = line.split(' ').nth(1).unwrap_or("").to_owned();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "x-auth-token" => value.clone_into(&mut key),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let has_route = match kind {
        Kind::Website => false,
        Kind::V1 => route == "/verify",
        _ => route == "/verify" || route == "/api/check",
    };
    if !has_route {
        return send(&mut stream, "404 Not Found", "{\"detail\":\"Not Found\"}");
    }
    if kind == Kind::Keyed && key != "Bearer secret" {
        return send(&mut stream, "401 Unauthorized", "{\"detail\":\"Missing API key\"}");
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    log.lock().unwrap().push(body.clone());
    let is_old = route == "/verify";
    let (list, id, code) = if is_old { ("codes", "custom_id", "proof") } else { ("snippets", "id", "code") };
    let is_fresh = if is_old { body["disable_cache"] == true } else { body["reuse"] == false };
    let snippets = body[list].as_array().unwrap();
    let text = body.to_string();
    let says = |word: &str| text.contains(word);
    if says("STATUS500") {
        return send(&mut stream, "500 Internal Server Error", "{\"detail\":\"Lean process broken pipe\"}");
    } else if says("STATUS429") {
        return send(&mut stream, "429 Too Many Requests", "{\"detail\":\"No available REPLs\"}");
    } else if says("HANGUP") {
        return;
    } else if says("SLOW") {
        // until the client has gone
        drop(reader.read(&mut [0]));
        return;
    } else if says("HTML") {
        return send(&mut stream, "200 OK", "<html><body>502 Bad Gateway</body></html>");
    }
    let mut results = Vec::new();
    for snippet in snippets {
        let code = snippet[code].as_str().unwrap();
        let mut row = answer(code, kind, is_fresh, is_old);
        let own = snippet[id].as_str().unwrap();
        row[id] = json!(if code.contains("OTHER_ID") { "someone-else" } else { own });
        if code.contains("TWICE") {
            results.push(row.clone());
        }
        if !code.contains("MISSING") {
            results.push(row);
        }
    }
    let mut text = json!({ "results": results }).to_string();
    if says("TRUNCATED") {
        text.truncate(text.len() / 2);
    } else if says("HALFWAY") {
        let half = &text[..text.len() / 2];
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{half}", text.len());
        // hung up on in the middle
        drop(stream.write_all(head.as_bytes()));
        return;
    }
    send(&mut stream, "200 OK", &text);
}

fn send(stream: &mut TcpStream, status: &str, body: &str) {
    let kind = if body.starts_with('<') { "text/html" } else { "application/json" };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // a client that has gone needs no answer
    drop(stream.write_all((head + body).as_bytes()));
}

/// One row of the results, without its id.
fn answer(code: &str, kind: Kind, is_fresh: bool, is_old: bool) -> Value {
    let says = |word: &str| code.contains(word);
    if code.contains("import NoSuchLibrary") {
        return json!({"error": "unknown module prefix 'NoSuchLibrary'", "time": 0.1});
    } else if says("LATE") {
        return json!({"error": "Lean REPL command timed out in 1 seconds", "time": 1.0});
    } else if says("DOUBTFUL") {
        // of the header, unless it is there already
        return json!({"error": "Lean process timed out", "response": null});
    } else if says("DIED") {
        return json!({"error": "Lean process ended: out of memory", "time": 1.0});
    } else if says("OBJECT") {
        return json!({"response": {"message": "Unknown environment."}, "time": 0.1});
    } else if says("NOTHING") {
        return json!({"response": {"env": 1}, "time": 0.1});
    } else if says("STRANGE") {
        return json!({"response": {"env": 1, "messages": [{"severity": "splendid", "data": "valid"}]}, "time": 0.1});
    }
    let cut_off = code.lines().take_while(|line| line.trim().is_empty() || line.starts_with("import ")).count();
    let cut_off = if kind == Kind::V2Shifted { cut_off } else { 0 };
    let mut messages = Vec::new();
    let mut axioms = "";
    for (at, line) in code.lines().enumerate() {
        let mut say = |severity: &str, data: String| {
            let at = at + 1 - cut_off;
            messages
                .push(json!({"severity": severity, "pos": {"line": at, "column": 0}, "endPos": null, "data": data}));
        };
        match line {
            "ADMIT" => {
                say("warning", "declaration uses 'sorry'".into());
                axioms = "sorryAx";
            }
            "BACKTICKS" => say("warning", "declaration uses `sorry`".into()),
            "UNWARNED" | "SYNTHETIC" => axioms = "sorryAx",
            "NATIVE" => axioms = "propext, Lean.ofReduceBool",
            "RENAMED" => axioms = "t._native.native_decide.ax_1_1, propext",
            "HEARTBEATS" => say("error", "(deterministic) timeout at `whnf`, maximum number of heartbeats".into()),
            "REUSED" if is_fresh => say("error", "unknown identifier 'REUSED'".into()),
            _ if line.contains("WRONG") => say("error", "type mismatch".into()),
            _ if line.contains("_use") && says("SWAP") => say("error", "type mismatch".into()),
            _ if line.starts_with("#eval Lean.versionString") => say("info", "\"4.15.0 11651562caae\"".into()),
            _ if says("UNSAID") && line.starts_with("#print") => say("info", "done".into()),
            _ => {
                if let Some(name) = line.strip_prefix("#print axioms ") {
                    say(
                        "info",
                        match axioms {
                            "" => format!("'{name}' does not depend on any axioms"),
                            axioms => format!("'{name}' depends on axioms: [{axioms}]"),
                        },
                    );
                }
            }
        }
    }
    let mut response = json!({"env": 1, "messages": messages});
    if says("LISTED") {
        response["sorries"] = json!([{"pos": {"line": 1, "column": 0}, "goal": "⊢ p"}]);
    }
    if is_old {
        response["time"] = json!(0.25);
        json!({"error": null, "response": response})
    } else {
        let diagnostics = json!({"repl_uuid": "0", "cpu_max": 100.0, "memory_max": 123_456_789.0});
        json!({"response": response, "time": 0.25, "diagnostics": diagnostics})
    }
}
