//! A server of models that see, paint, write questions and judge, on the loopback; it can go away in the middle and come back.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::endpoint::read;

/// How every PNG file begins.
const PNG: &[u8] = &[0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a];

/// A running server; it stops when dropped.
pub struct Vision {
    address: String,
    state: Arc<State>,
}

struct State {
    stopped: AtomicBool,
    /// Calls that are answered before it goes away.
    left: AtomicIsize,
    n_calls: AtomicUsize,
}

impl Default for Vision {
    fn default() -> Self {
        Self::start()
    }
}

impl Vision {
    /// Starts one on a free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            stopped: AtomicBool::new(false),
            left: AtomicIsize::new(isize::MAX),
            n_calls: AtomicUsize::new(0),
        });
        let server = Self { address, state: state.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if state.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let state = state.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        server
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Calls answered so far, but for those that list models.
    #[must_use]
    pub fn n_calls(&self) -> usize {
        self.state.n_calls.load(Ordering::SeqCst)
    }

    /// Answers so many more calls, and then hangs up on every caller.
    pub fn answers(&self, n: isize) {
        self.state.left.store(n, Ordering::SeqCst);
    }
}

impl Drop for Vision {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        // A last caller wakes the listener; if it is gone already, all is well.
        drop(TcpStream::connect(&self.address));
    }
}

fn serve(mut stream: TcpStream, state: &State) {
    let Some((route, body)) = read(&stream) else { return };
    let answer = if route.ends_with("/models") {
        json!({"data": [{"id": "seer"}, {"id": "reader"}, {"id": "painter"}, {"id": "writer"}, {"id": "judge"}]})
    } else {
        if state.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return;
        }
        state.n_calls.fetch_add(1, Ordering::SeqCst);
        if route.ends_with("/images/generations") { paint(&body) } else { chat(&body) }
    }
    .to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes())));
}

/// An image file that says what was asked for.
fn paint(body: &Value) -> Value {
    let bytes = [PNG, body["prompt"].as_str().unwrap().as_bytes()].concat();
    json!({"created": 1, "data": [{"b64_json": STANDARD.encode(bytes)}]})
}

fn chat(body: &Value) -> Value {
    let content = &body["messages"][0]["content"];
    let (text, image) = match content {
        Value::Array(parts) => (parts[1]["text"].as_str().unwrap(), parts[0]["image_url"]["url"].as_str()),
        text => (text.as_str().unwrap(), None),
    };
    let shown = image.map(|url| {
        let coded = url.split_once(";base64,").unwrap().1;
        String::from_utf8_lossy(&STANDARD.decode(coded).unwrap()).into_owned()
    });
    let (said, finish) = match body["model"].as_str().unwrap() {
        "seer" => see(text, shown.as_deref()),
        "reader" => (format!("The answer is {}.", quoted(text)), "stop"),
        "writer" => (write(text), "stop"),
        "judge" => (judge(text), "stop"),
        other => panic!("nobody is called {other}"),
    };
    // Nothing that differs from call to call but what was asked.
    json!({"model": "served-1", "usage": {"prompt_tokens": 9, "completion_tokens": said.split_whitespace().count()},
        "choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": finish}]})
}

/// What stands in quotes: the right answer of every question that this server is asked.
fn quoted(text: &str) -> &str {
    text.split('\'').nth(1).unwrap_or("nothing")
}

/// Says what a painted picture shows; where it sees none it knows better, and is cut off for a long question.
fn see(text: &str, shown: Option<&str>) -> (String, &'static str) {
    if text.contains("slowly") {
        return ("Let me think about this for a while,".to_owned(), "length");
    }
    let seen = shown.and_then(|shown| shown.split_once("A photo of ")).map(|(_, rest)| rest.trim_end_matches('.'));
    (format!("It is {}.", seen.unwrap_or_else(|| quoted(text))), "stop")
}

fn write(text: &str) -> String {
    let category = text.split('`').nth(1).unwrap();
    let question = |n: usize| {
        let answers: Vec<String> =
            (0..6).map(|nth| format!("{category}{n}{}", ["a", "b", "c", "d", "e", "f"][nth])).collect();
        json!({"question": format!("Which one is '{}'?", answers[0]), "answer": answers[0], "wrong": answers[1..]})
    };
    format!("Here they are.\n{}\n{}\nnot this\n", question(1), question(2))
}

fn judge(text: &str) -> String {
    let line = |before: &str| text.split_once(before).unwrap().1.lines().next().unwrap().to_lowercase();
    let (right, wrong, reply) = (line("Right answer: "), line("Wrong answer: "), line("Reply:\n"));
    let verdict = match (reply.contains(&right), reply.contains(&wrong)) {
        (true, true) => "both",
        (true, false) => "right",
        (false, true) => "wrong",
        (false, false) => "neither",
    };
    format!("I compared them.\nVerdict: {verdict}")
}
