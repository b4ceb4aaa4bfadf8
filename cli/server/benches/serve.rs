//! What serving costs: CPU of the server a call and a point, durable acknowledgements a second, pages of searches, histories, files, memory.
//!
//! The server is a process of its own (this program again), so that its CPU and memory are its own; clients are plain sockets here.
//! `cargo bench -p tracker-server --bench serve [-- NAME…]`: calls, writers, search, history, files; all of them without a name.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench says what it found, and panics if it cannot")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tracker_server::{Options, Server};
use tracker_store::{ClientRun, Durability, Point, Recording, Store, Timestamp};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let [serve, dir] = args.as_slice()
        && serve == "serve"
    {
        let server =
            Server::bind(Store::create(Path::new(dir)).unwrap(), &Options { port: 0, ..Options::default() }).unwrap();
        println!("{}", server.address());
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return server.stop().unwrap();
    }
    let benches: [(&str, fn()); 5] =
        [("calls", calls), ("writers", writers), ("search", search), ("history", history), ("files", files)];
    for (name, bench) in benches {
        if args.is_empty() || args.iter().any(|arg| arg == name) {
            bench();
        }
    }
}

/// A server in a process of its own.
struct Serving {
    child: Child,
    address: String,
    ready: Duration,
}

impl Serving {
    fn start(dir: &Path) -> Self {
        let begun = Instant::now();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("serve")
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let mut serving = Self { child, address: address.trim().to_owned(), ready: Duration::ZERO };
        assert!(serving.client().get("/health").ends_with(b"OK"));
        serving.ready = begun.elapsed();
        serving
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream: BufReader::with_capacity(1 << 20, stream) }
    }

    /// CPU that all its threads had, in nanoseconds.
    fn cpu_nanos(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let stat = |task: std::io::Result<std::fs::DirEntry>| {
            let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0)
        };
        tasks.map(stat).sum()
    }

    /// Memory now and at most, in MiB.
    fn memory(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
        };
        (line("VmRSS"), line("VmHWM"))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// One connection that is kept.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn post(&mut self, path: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        let head = format!(
            "POST /api/2.0/mlflow/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        self.stream.get_mut().write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
        self.answer()
    }

    fn get(&mut self, path: &str) -> Vec<u8> {
        self.stream.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        self.answer()
    }

    /// The body of a good answer.
    fn answer(&mut self) -> Vec<u8> {
        let length = self.head();
        if let Some(length) = length {
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).unwrap();
            return body;
        }
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let n = usize::from_str_radix(line.trim(), 16).unwrap();
            let start = body.len();
            body.resize(start + n, 0);
            self.stream.read_exact(&mut body[start..]).unwrap();
            self.stream.read_line(&mut line).unwrap();
            if n == 0 {
                return body;
            }
        }
    }

    /// Reads the head of a good answer; the length of its body, if it says one.
    fn head(&mut self) -> Option<usize> {
        let (mut line, mut length) = (String::new(), None);
        self.stream.read_line(&mut line).unwrap();
        assert!(line.contains(" 200 "), "{line}");
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
            if line == "\r\n" {
                return length;
            }
        }
    }
}

fn new_run(client: &mut Client) -> String {
    let answer = client.post("runs/create", "{\"experiment_id\": \"0\"}");
    let json: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    json["run"]["info"]["run_id"].as_str().unwrap().to_owned()
}

fn calls() {
    let dir = tempfile::tempdir().unwrap();
    let serving = Serving::start(dir.path());
    println!("ready after {:.0} ms, {} MiB idle", serving.ready.as_secs_f64() * 1e3, serving.memory().0);
    let mut client = serving.client();
    let run = new_run(&mut client);
    let n = 20_000;
    for warm in [true, false] {
        let (cpu, begun) = (serving.cpu_nanos(), Instant::now());
        for step in 0..n {
            let step = step + if warm { 0 } else { n };
            client.post("runs/log-metric", &format!("{{\"run_id\":\"{run}\",\"run_uuid\":\"{run}\",\"key\":\"loss\",\"value\":0.5,\"timestamp\":1700000000000,\"step\":{step}}}"));
        }
        let (cpu, wall) = (
            (serving.cpu_nanos() - cpu) as f64 / f64::from(n) / 1e3,
            begun.elapsed().as_secs_f64() / f64::from(n) * 1e6,
        );
        if !warm {
            println!("log_metric: {cpu:.1} µs CPU of the server a call, {wall:.1} µs wall");
        }
    }
    for keys in [1, 10, 1000] {
        let n_batches = 200;
        let bodies: Vec<String> = (0..n_batches)
            .map(|batch| {
                let metrics: Vec<String> = (0..1000)
                    .map(|i| {
                        format!(
                            "{{\"key\":\"k{keys}_{}\",\"value\":{},\"timestamp\":{},\"step\":{}}}",
                            i % keys,
                            f64::from(i) / 7.0,
                            1_700_000_000_000_i64 + i64::from(batch),
                            batch * 1000 + i
                        )
                    })
                    .collect();
                format!("{{\"run_id\":\"{run}\",\"metrics\":[{}]}}", metrics.join(","))
            })
            .collect();
        let cpu = serving.cpu_nanos();
        for body in &bodies {
            client.post("runs/log-batch", body);
        }
        let cpu = (serving.cpu_nanos() - cpu) as f64 / f64::from(n_batches) / 1e6;
        println!("log_batch of 1,000 points of {keys} keys: {cpu:.2} µs CPU of the server a point");
    }
    println!("at most {} MiB", serving.memory().1);
}

fn writers() {
    let dir = tempfile::tempdir().unwrap();
    let serving = Serving::start(dir.path());
    let cpu = serving.cpu_nanos();
    let begun = Instant::now();
    let (n_writers, n_calls) = (64, 500);
    let mut waits: Vec<Duration> = std::thread::scope(|scope| {
        let write = |writer: i32| {
            let mut client = serving.client();
            let run = new_run(&mut client);
            (0..n_calls)
                .map(|step| {
                    let asked = Instant::now();
                    client.post("runs/log-metric", &format!("{{\"run_id\":\"{run}\",\"key\":\"m{writer}\",\"value\":{step},\"timestamp\":1,\"step\":{step}}}"));
                    asked.elapsed()
                })
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..n_writers).map(|writer| scope.spawn(move || write(writer))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    waits.sort_unstable();
    let n = waits.len();
    let secs = begun.elapsed().as_secs_f64();
    let cpu = (serving.cpu_nanos() - cpu) as f64 / 1e3 / n as f64;
    println!(
        "{n_writers} writers: {:.0} acknowledged a second, median {:.1} ms, p99 {:.1} ms, {cpu:.0} µs CPU of the server each, at most {} MiB",
        n as f64 / secs,
        waits[n / 2].as_secs_f64() * 1e3,
        waits[n * 99 / 100].as_secs_f64() * 1e3,
        serving.memory().1
    );
}

/// A store with so many runs of one experiment, each with params and two metrics.
fn with_runs(dir: &Path, n_runs: u32, n_params: u32) {
    let store = Store::create(dir).unwrap();
    let experiment = store.default_experiment().unwrap().id;
    for nth in 0..n_runs {
        let started = Timestamp::from_millis(1_700_000_000_000 + i64::from(nth)).unwrap();
        let new =
            ClientRun { experiment, name: format!("run {nth}"), user: "me".into(), started, tags: BTreeMap::new() };
        let run = store.log_run(&new).unwrap().id;
        let mut recording = Recording::new();
        for param in 0..n_params {
            recording.put_param(run, &format!("param_{param}"), &format!("value {}", nth % 10 + param)).unwrap();
        }
        recording.put_points(run, "loss", &[Point::new(1, 1, f64::from(nth * 7919 % 10_007) / 10_007.0)]).unwrap();
        recording.put_points(run, "accuracy", &[Point::new(1, 1, f64::from(nth % 100) / 100.0)]).unwrap();
        store.commit(&recording, Durability::Os).unwrap();
    }
}

/// CPU and wall time of a request, in ms, the least of several.
fn least(serving: &Serving, n: u32, mut ask: impl FnMut(&mut Client) -> usize) -> (f64, f64, usize) {
    let mut client = serving.client();
    ask(&mut client);
    let times = (0..n).map(|_| {
        let (cpu, begun) = (serving.cpu_nanos(), Instant::now());
        let n_bytes = ask(&mut client);
        let wall = begun.elapsed().as_secs_f64() * 1e3;
        // The last bytes are here before the server's thread is counted.
        std::thread::sleep(Duration::from_millis(5));
        ((serving.cpu_nanos() - cpu) as f64 / 1e6, wall, n_bytes)
    });
    times.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

fn search() {
    for n_runs in [10_000, 100_000] {
        let dir = tempfile::tempdir().unwrap();
        with_runs(dir.path(), n_runs, 2);
        let serving = Serving::start(dir.path());
        for (what, body) in [
            ("first page of 100", "{\"experiment_ids\":[\"0\"],\"max_results\":100}"),
            (
                "filter on a metric, order by another, 100",
                "{\"experiment_ids\":[\"0\"],\"max_results\":100,\"filter\":\"metrics.accuracy > 0.5\",\"order_by\":[\"metrics.loss ASC\"]}",
            ),
            (
                "the same, 10",
                "{\"experiment_ids\":[\"0\"],\"max_results\":10,\"filter\":\"metrics.accuracy > 0.5\",\"order_by\":[\"metrics.loss ASC\"]}",
            ),
            (
                "filter on a param, 100",
                "{\"experiment_ids\":[\"0\"],\"max_results\":100,\"filter\":\"params.param_0 = 'value 3'\"}",
            ),
        ] {
            let (cpu, wall, n_bytes) = least(&serving, 10, |client| client.post("runs/search", body).len());
            println!("{n_runs} runs, {what}: {cpu:.1} ms CPU, {wall:.1} ms wall, {} KiB", n_bytes >> 10);
        }
        println!("at most {} MiB", serving.memory().1);
    }
    let dir = tempfile::tempdir().unwrap();
    with_runs(dir.path(), 1_000, 200);
    let serving = Serving::start(dir.path());
    let body = "{\"experiment_ids\":[\"0\"],\"max_results\":1000}";
    let (cpu, wall, n_bytes) = least(&serving, 5, |client| client.post("runs/search", body).len());
    println!(
        "1,000 runs of 200 params: {cpu:.0} ms CPU, {wall:.0} ms wall, {} MiB sent, at most {} MiB",
        n_bytes >> 20,
        serving.memory().1
    );
}

fn history() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let experiment = store.default_experiment().unwrap().id;
    let started = Timestamp::now();
    let new = ClientRun { experiment, name: "long".into(), user: String::new(), started, tags: BTreeMap::new() };
    let run = store.log_run(&new).unwrap().id;
    for start in (0..100_000).step_by(10_000) {
        let points: Vec<Point> =
            (start..start + 10_000).map(|step| Point::new(step, step, (step as f64).sin())).collect();
        let mut recording = Recording::new();
        recording.put_points(run, "loss", &points).unwrap();
        store.commit(&recording, Durability::Os).unwrap();
    }
    drop(store);
    let serving = Serving::start(dir.path());
    let run = run.simple();
    let path = format!("/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=loss");
    let (cpu, wall, n_bytes) = least(&serving, 10, |client| client.get(&path).len());
    println!("history of 100,000 points at once: {cpu:.1} ms CPU, {wall:.1} ms wall, {} KiB", n_bytes >> 10);
    let page = format!("{path}&max_results=25000");
    let (cpu, wall, _) = least(&serving, 10, |client| client.get(&page).len());
    println!("a page of 25,000: {cpu:.1} ms CPU, {wall:.1} ms wall; at most {} MiB", serving.memory().1);
}

fn files() {
    let dir = tempfile::tempdir().unwrap();
    let serving = Serving::start(dir.path());
    let run = new_run(&mut serving.client());
    let path = format!("/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/big.bin");
    let n_bytes: u64 = 2 << 30;
    // Bytes without pattern, that differ from block to block.
    let mut block = vec![0_u8; 8 << 20];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for chunk in block.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes());
    }
    let mut client = serving.client();
    let (cpu, begun) = (serving.cpu_nanos(), Instant::now());
    let head = format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {n_bytes}\r\n\r\n");
    client.stream.get_mut().write_all(head.as_bytes()).unwrap();
    for nth in 0..n_bytes / block.len() as u64 {
        for chunk in block.chunks_exact_mut(64 << 10) {
            chunk[..8].copy_from_slice(&nth.to_le_bytes());
        }
        client.stream.get_mut().write_all(&block).unwrap();
    }
    client.answer();
    println!(
        "2 GiB up: {:.1} s CPU, {:.1} s wall, at most {} MiB",
        (serving.cpu_nanos() - cpu) as f64 / 1e9,
        begun.elapsed().as_secs_f64(),
        serving.memory().1
    );
    let (cpu, begun) = (serving.cpu_nanos(), Instant::now());
    client.stream.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let length = client.head().unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut n_read = 0;
    while n_read < length {
        let n = client.stream.read(&mut buffer).unwrap();
        assert!(n > 0);
        n_read += n;
    }
    println!(
        "2 GiB down: {:.1} s CPU, {:.1} s wall, at most {} MiB",
        (serving.cpu_nanos() - cpu) as f64 / 1e9,
        begun.elapsed().as_secs_f64(),
        serving.memory().1
    );
}
