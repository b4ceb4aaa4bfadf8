//! OpenAI-compatible servers on the loopback, where a user has vLLM: one that can do what the studies ask of it (state
//! problems of propositional logic, judge statements, prove them), and one that says what a real server once said.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tracker_proof::formula::{ATOM_NAMES, Style};
use tracker_proof::statement::Statement;
use tracker_proof::{english, search};

/// A running server; it stops when dropped.
pub struct Endpoint {
    address: String,
    stopped: Arc<AtomicBool>,
    n_calls: Arc<AtomicUsize>,
    limit: Arc<AtomicUsize>,
    crowd: Arc<Crowd>,
}

impl Endpoint {
    /// Starts an able one on a free port.
    #[must_use]
    pub fn start() -> Self {
        Self::serve(Mind::Able)
    }

    /// Starts one that answers each prompt with what was recorded for it, by turns, whatever the seed is.
    #[must_use]
    pub fn recorded(exchanges: &Path) -> Self {
        let mut answers: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in std::fs::read_to_string(exchanges).unwrap().lines() {
            let exchange: Value = serde_json::from_str(line).unwrap();
            let prompt = exchange["request"]["prompt"].as_str().unwrap().to_owned();
            answers.entry(prompt).or_default().push(exchange["response"].clone());
        }
        Self::serve(Mind::Recorded(Mutex::new(answers)))
    }

    fn serve(mind: Mind) -> Self {
        let mind = Arc::new(mind);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stopped, n_calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (limit, crowd) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(Crowd::default()));
        let server = Self {
            address,
            stopped: stopped.clone(),
            n_calls: n_calls.clone(),
            limit: limit.clone(),
            crowd: crowd.clone(),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (mind, n_calls, limit, crowd) = (mind.clone(), n_calls.clone(), limit.clone(), crowd.clone());
                std::thread::spawn(move || serve(stream, &mind, &n_calls, &limit, &crowd));
            }
        });
        server
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// From now on it breaks after so many completions in all, until it is told another number.
    pub fn dies_after(&self, n_calls: usize) {
        self.limit.store(n_calls, Ordering::SeqCst);
    }

    /// From now on each completion waits until so many are asked at once, or half a second has passed.
    pub fn waits_for(&self, n_at_once: usize) {
        self.crowd.wanted.store(n_at_once, Ordering::SeqCst);
    }

    /// The most completions that were asked at once.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.crowd.most.load(Ordering::SeqCst)
    }

    /// Completions asked of it so far.
    #[must_use]
    pub fn n_calls(&self) -> usize {
        self.n_calls.load(Ordering::SeqCst)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // A last caller wakes the listener; if it is gone already, all is well.
        drop(TcpStream::connect(&self.address));
    }
}

/// Who is being answered at the moment.
#[derive(Default)]
struct Crowd {
    now: Mutex<usize>,
    changed: Condvar,
    wanted: AtomicUsize,
    most: AtomicUsize,
}

impl Crowd {
    fn joined(&self) {
        let mut now = self.now.lock().unwrap();
        *now += 1;
        self.most.fetch_max(*now, Ordering::SeqCst);
        self.changed.notify_all();
        let wanted = self.wanted.load(Ordering::SeqCst);
        let few = |now: &mut usize| *now < wanted && self.most.load(Ordering::SeqCst) < wanted;
        drop(self.changed.wait_timeout_while(now, Duration::from_millis(500), few).unwrap());
    }

    fn left(&self) {
        *self.now.lock().unwrap() -= 1;
    }
}

/// What it answers by.
enum Mind {
    Able,
    Recorded(Mutex<BTreeMap<String, Vec<Value>>>),
}

/// Answers one request. A caller that goes away in the middle, as a killed one does, is no concern.
fn serve(mut stream: TcpStream, mind: &Mind, n_calls: &AtomicUsize, limit: &AtomicUsize, crowd: &Crowd) {
    let Some((route, body)) = read(&stream) else { return };
    let answer = if route.ends_with("/models") {
        json!({"data": [{"id": "writer"}, {"id": "judge"}, {"id": "prover"}, {"id": "model"}, {"id": "rater"}, {"id": "marker"}, {"id": "chatter"},
            {"id": "duelist"}, {"id": "adder"}, {"id": "checker"}, {"id": "panelist"}, {"id": "expert"}, {"id": "referee"},
            {"id": "knower"}, {"id": "secret"}, {"id": "mute"}]})
    } else {
        if n_calls.fetch_add(1, Ordering::SeqCst) >= limit.load(Ordering::SeqCst) {
            drop(stream.write_all(b"HTTP/1.1 500 X\r\ncontent-length: 6\r\nconnection: close\r\n\r\nbroken"));
            return;
        }
        crowd.joined();
        let answer = match mind {
            Mind::Able => complete(&route, &body),
            Mind::Recorded(answers) => {
                let mut answers = answers.lock().unwrap();
                let of_prompt = answers.get_mut(body["prompt"].as_str().unwrap()).expect("a recorded prompt");
                of_prompt.rotate_left(1);
                of_prompt[0].clone()
            }
        };
        crowd.left();
        answer
    }
    .to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes())));
}

/// The route and the body of a request.
pub(crate) fn read(stream: &TcpStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let route = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((route, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

fn complete(route: &str, body: &Value) -> Value {
    let seed = body["seed"].as_u64().unwrap();
    let is_chat = route.ends_with("/chat/completions");
    let said: Vec<&str> =
        body["messages"].as_array().into_iter().flatten().map(|m| m["content"].as_str().unwrap()).collect();
    let prompt = if is_chat { said[said.len() - 1] } else { body["prompt"].as_str().unwrap() };
    let choices: Vec<Value> = (0..body["n"].as_u64().unwrap())
        .map(|i| {
            let text = match body["model"].as_str().unwrap() {
                "writer" => state(prompt, (seed + i) % 4),
                "judge" => "Appropriate".to_owned(),
                "rater" => rate(prompt),
                "marker" => mark(prompt),
                "adder" => add(prompt, seed + i),
                "checker" => "+".to_owned(),
                "knower" | "secret" | "mute" => know(prompt, body, seed + i),
                "panelist" => discuss(&said.join("\n\n"), seed + i, 3),
                "expert" => discuss(&said.join("\n\n"), seed + i, 6),
                "referee" if prompt.contains("Rating: N") => rate(prompt),
                "duelist" | "referee" => choose(prompt),
                // What it is told stands before the prompt, or in it.
                "chatter" => chat(if is_chat { said[0] } else { prompt }, seed + i),
                _ => prove(prompt),
            };
            if ["secret", "mute"].contains(&body["model"].as_str().unwrap()) {
                json!({"text": text, "finish_reason": "stop", "logprobs": null})
            } else if body["model"] == "knower" {
                json!({"text": text, "finish_reason": "stop", "logprobs": told(prompt, &text)})
            } else if is_chat {
                let finish = if text.ends_with('…') { "length" } else { "stop" };
                json!({"message": {"role": "assistant", "content": text}, "finish_reason": finish})
            } else {
                let mut logprobs = json!({"token_logprobs": [-0.5, -0.25]});
                if body["model"] == "checker" {
                    let [good, bad] = if adds_up(prompt) { [-0.1, -2.5] } else { [-2.5, -0.1] };
                    logprobs["top_logprobs"] = json!([{"+": good, "-": bad, "the": -9.0}]);
                }
                json!({"text": text, "finish_reason": "stop", "logprobs": logprobs})
            }
        })
        .collect();
    json!({"choices": choices})
}

/// Rates an answer by how many of its words are the letter a.
fn rate(prompt: &str) -> String {
    let answer = prompt.rsplit("Answer:\n").next().unwrap().split("\n\n").next().unwrap();
    let (n, n_wanted) = (answer.split(' ').count(), answer.split(' ').filter(|word| *word == "a").count());
    format!("It has {n} words.\nRating: {}", 10 * n_wanted / n)
}

/// What stands between two texts.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split_once(before).unwrap().1.split_once(after).unwrap().0
}

/// Marks an answer: verbosity is ten a word, everything else 70 less its letters z.
fn mark(prompt: &str) -> String {
    let attributes = between(prompt, "from 0 to 100: ", ".\n").split(", ");
    let answer = between(prompt, "Answer:\n", "\n\nEnd with");
    let n = answer.split_whitespace().count();
    let of =
        |name: &str| if name == "verbosity" { (10 * n).min(100) } else { 70 - answer.matches('z').count().min(70) };
    let lines: Vec<String> = attributes.map(|name| format!("**{name}**: {}", of(name))).collect();
    format!("It has {n} words.\n{}", lines.join("\n"))
}

/// Prefers the longer of two answers.
fn choose(prompt: &str) -> String {
    let [a, b] = [("Answer A:\n", "\n\nAnswer B:"), ("Answer B:\n", "\n\nEnd with")]
        .map(|(before, after)| between(prompt, before, after).len());
    let better = match a.cmp(&b) {
        std::cmp::Ordering::Greater => "A",
        std::cmp::Ordering::Less => "B",
        std::cmp::Ordering::Equal => "tie",
    };
    format!("Length decides.\nBetter: {better}")
}

/// Goes on with `1 + 2 + 3` and what follows it, a sum a line, and gives the result; one sum in four is wrong.
fn add(prompt: &str, seed: u64) -> String {
    let (asked, done) = prompt.split_once('\n').unwrap();
    let numbers: Vec<u64> = asked.split(" + ").map(|number| number.parse().unwrap()).collect();
    let n_done = done.matches('\n').count();
    let mut sum = done.trim_end().rsplit(' ').next().and_then(|last| last.parse().ok()).unwrap_or(numbers[0]);
    let mut lines = Vec::new();
    for (at, number) in numbers.iter().enumerate().skip(1 + n_done) {
        let wrong = u64::from((seed / 7 + at as u64).is_multiple_of(4));
        let next = sum + number + wrong;
        lines.push(format!("{sum} + {number} = {next}\n"));
        sum = next;
    }
    format!("{}#### {sum}", lines.concat())
}

/// Adds the numbers it is asked about; about one answer in `skill` is one too much, one in seventeen is nothing and one in nineteen
/// is cut off. Of numbered answers of others it gives, or names, the most frequent.
fn discuss(said: &str, seed: u64, skill: u64) -> String {
    let result = |text: &str| text.rsplit_once("#### ").map(|(_, result)| result.trim().to_owned());
    if said.contains("[1]") {
        let others: Vec<Option<String>> = said.split("\n\n[").skip(1).map(result).collect();
        let votes = |of: &Option<String>| others.iter().filter(|other| of.is_some() && *other == of).count();
        let first = (0..others.len()).max_by_key(|at| (votes(&others[*at]), others.len() - at)).unwrap();
        return if said.contains("`Answer: N`") {
            format!("Most agree.\nAnswer: {}", first + 1)
        } else {
            format!("Most agree.\n#### {}", others[first].clone().unwrap_or_default())
        };
    }
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    if mixed.is_multiple_of(17) {
        return String::new();
    }
    let sum: u64 = said.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok()).sum();
    if mixed.is_multiple_of(19) {
        return "I begin with…".to_owned();
    }
    format!("I add\n[2] and go on\n#### {}", sum + u64::from(mixed.is_multiple_of(skill)))
}

/// Whether every sum of a solution is right.
fn adds_up(text: &str) -> bool {
    text.lines().all(|line| {
        let words: Vec<&str> = line.split_whitespace().take(5).collect();
        let [a, "+", b, "=", c] = words[..] else { return true };
        let [a, b, c] = [a, b, c].map(|number| number.parse::<u64>().unwrap());
        a + b == c
    })
}

/// Answers in as many words as it is told to: five, and one more or less for every ten of verbosity, and sometimes a z.
fn chat(told: &str, seed: u64) -> String {
    let asked = told.split_once("verbosity*").map_or("0", |(_, rest)| rest);
    let end = asked.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(asked.len());
    let verbosity: i64 = asked[..end].parse().unwrap();
    let n = usize::try_from(5 + verbosity.div_euclid(18)).unwrap_or(1).max(1);
    let z = if seed.is_multiple_of(3) { "z" } else { "a" };
    [vec!["b"; n - 1].join(" ").as_str(), z].join(" ").trim().to_owned()
}

/// The numbers of the last sum that is asked for.
fn asked_sum(prompt: &str) -> Option<u64> {
    let (_, rest) = prompt.rsplit_once("What is ")?;
    let (a, rest) = rest.split_once(" + ")?;
    Some(a.parse::<u64>().ok()? + rest.split_once('?')?.0.parse::<u64>().ok()?)
}

/// Knows sums below ten, guesses the others, and knows that it does: says so where it is asked, unless it is mute.
fn know(prompt: &str, body: &Value, seed: u64) -> String {
    let Some(sum) = asked_sum(prompt) else { return "Hm.".to_owned() };
    if prompt.ends_with("I am") {
        return match (body["model"] == "mute", sum < 10) {
            (true, _) => " well.",
            (_, true) => " sure.",
            _ => " unsure.",
        }
        .to_owned();
    }
    let guess = if body["temperature"] == 0.0 { 1 } else { seed % 5 };
    format!(" {}. Next", if sum < 10 { sum } else { sum + guess })
}

/// How likely its tokens are, and which might have come instead of the first.
fn told(prompt: &str, text: &str) -> Value {
    let is_known = asked_sum(prompt).is_some_and(|sum| sum < 10);
    let (likely, rest) = if is_known { (-0.1, -2.5) } else { (-1.5, -0.3) };
    let tokens: Vec<&str> = text.split_inclusive('.').collect();
    let first = tokens[0].trim_end_matches('.');
    let mut top = json!({ first: likely });
    if prompt.ends_with("I am") {
        top = json!({" sure": likely, " unsure": rest});
    } else if let Some((_, options)) = prompt.rsplit_once("\nA. ") {
        let right = options.lines().position(|line| line.ends_with(&format!(" {}", asked_sum(prompt).unwrap_or(0))));
        let letter = |at: usize| if right == Some(at) && is_known { -0.1 } else { -2.0 - at as f64 / 10.0 };
        top = json!({" A": letter(0), " B": letter(1), " C": letter(2)});
    }
    let mut all: Vec<&str> = vec![first, "."];
    all.extend(&tokens[1..]);
    let log_probs: Vec<f64> = (0..all.len()).map(|at| if at == 0 { likely } else { -0.05 }).collect();
    json!({"tokens": all, "token_logprobs": log_probs, "top_logprobs": [top]})
}

/// States the problem at the end of the prompt; one answer in four is no statement.
fn state(prompt: &str, mood: u64) -> String {
    let words = prompt.rsplit("Problem:\n").next().unwrap().trim();
    if mood == 0 {
        return "I am not sure.".to_owned();
    }
    let meaning = english::parse_problem(words, &ATOM_NAMES).unwrap();
    let statement = Statement::of("t", meaning).print(Style::Constructor);
    format!("Certainly.\n```lean4\n{statement} := by sorry\n```\n")
}

/// Proves the theorem at the end of the prompt.
fn prove(prompt: &str) -> String {
    let text = &prompt[prompt.rfind("theorem").unwrap()..];
    let statement = Statement::parse(text.trim().trim_end_matches(":=")).unwrap();
    let names: Vec<&str> = statement.hypotheses.iter().map(|(name, _)| name.as_str()).collect();
    let proof = search::prove(&statement, search::Limits::default()).proof().map(|proof| proof.render(&names));
    format!("{}\n```\n", proof.unwrap_or_else(|| "sorry".to_owned()))
}
