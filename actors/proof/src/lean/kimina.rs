//! Lean behind a URL: a Kimina Lean Server as a verifier, by the rules of the verifier of this machine.
//!
//! Each candidate is a file of its own under an unguessable name and id. It is screened among others, by whatever process
//! the server keeps for its header; what passes is confirmed: a request of its own, a process that nothing else ran in,
//! the statement pinned. Whether something is valid is never asked of the server: only messages count. A reply that is
//! missing, doubled, for another id, or an error object is `infra`, tried again, and never a failed proof.
//!
//! What the server runs cannot be hashed: the build names its Lean by version and commit, as it says them. Processor time
//! is not told, memory by version 2 alone, and verdicts count as not sandboxed. The server imports all of Mathlib for any module of it.

mod client;

use std::{collections::HashMap, time::Duration};

use self::client::{Answer, Client, Snippet, Trouble};
use super::{
    Form, Judgement, Parts, Reply, Source, nonce, prepare, queue,
    reply::{Message, short},
    source::Placed,
};
use crate::{
    Build, Candidate, Compiled, Error, Limits, Outcome, Result, Verdict, Verifier, statement, verifier::header_digest,
};

/// Which route is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `POST /api/check`, since version 2.
    Check,
    /// `POST /verify`, of version 1 and kept by version 2.
    Verify,
}

/// Where a server listens and how it is to be asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Base URL, such as `http://127.0.0.1:8000`.
    pub url: String,
    /// The server's key, where it wants one.
    pub key: Option<String>,
    /// The route; `None`: `/api/check`, or `/verify` where there is none.
    pub api: Option<Api>,
    /// Time one candidate may take, header included; whole seconds, at least one.
    pub timeout: Duration,
    /// Time to wait beyond that for an answer.
    pub header_timeout: Duration,
    /// Most candidates to one request.
    pub batch: usize,
    /// Most requests at once.
    pub jobs: usize,
    /// Tries of one candidate, the first included.
    pub attempts: u32,
    /// Time before a request is tried again; doubled each time.
    pub pause: Duration,
    /// Axioms a proof may rest on; part of the build's name.
    pub axioms: Vec<String>,
}

impl Options {
    /// The usual settings for the server at `url`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            key: None,
            api: None,
            timeout: Duration::from_mins(1),
            header_timeout: Duration::from_mins(5),
            batch: 16,
            jobs: 4,
            attempts: 3,
            pause: Duration::from_millis(500),
            axioms: super::Options::default().axioms,
        }
    }
}

/// A Kimina Lean Server as a verifier.
#[derive(Debug)]
pub struct Kimina {
    options: Options,
    api: Api,
    build: Build,
    /// What is known of each header: whether it can be used, and why not.
    headers: HashMap<String, std::result::Result<(), String>>,
}

/// One candidate on its way.
#[derive(Clone, Copy)]
struct Item<'t> {
    index: usize,
    parts: Parts<'t>,
    header: &'t str,
    proof: &'t str,
}

/// Some of them for one request.
struct Batch<'t> {
    items: Vec<Item<'t>>,
    form: Form,
    tries: u32,
}

/// What came of one candidate, and what the server says that it cost.
#[derive(Clone, Debug)]
struct Judged {
    judgement: Judgement,
    time: Duration,
    peak_rss_bytes: Option<u64>,
    /// Whether it was sent at all.
    ran: bool,
}

impl Judged {
    fn unsent(judgement: Judgement) -> Self {
        Self { judgement, time: Duration::ZERO, peak_rss_bytes: None, ran: false }
    }
}

impl Kimina {
    /// Finds the server and asks which Lean it runs.
    ///
    /// # Errors
    /// `Program` where it cannot be reached, wants a key, speaks neither route, or runs no Lean.
    pub fn open(options: Options) -> Result<Self> {
        let failed = |reason: String| Error::Program { program: options.url.clone().into(), reason };
        let routes = options.api.map_or(vec![Api::Check, Api::Verify], |api| vec![api]);
        let mut missing = String::new();
        for api in routes {
            match in_thread(|client| version(client, &options, api)) {
                Ok((version, commit)) => {
                    let flags: Vec<String> = options.axioms.iter().map(|axiom| format!("axiom:{axiom}")).collect();
                    let binary_digest = blake3::derive_key(
                        "tracker kimina server 1",
                        format!("{}\0{version}\0{commit}", options.url).as_bytes(),
                    );
                    let build = Build { name: "kimina".to_owned(), version, commit, binary_digest, flags };
                    return Ok(Self { options, api, build, headers: HashMap::new() });
                }
                Err(Trouble { what, status: Some(404 | 405), .. }) => missing = what,
                Err(trouble) => return Err(failed(trouble.with_hint())),
            }
        }
        Err(failed(format!(
            "neither `/api/check` nor `/verify` is there ({missing}); hint: give the base URL of a Kimina Lean Server"
        )))
    }

    fn judge(&mut self, candidates: &[Candidate], form: Form) -> Vec<Judged> {
        let read: Vec<_> = candidates.iter().map(|candidate| prepare(candidate, form)).collect();
        let unreached = Judgement::new(Outcome::Infra, "the candidate was not reached");
        let mut answers = vec![Judged::unsent(unreached); candidates.len()];
        let mut items = Vec::new();
        for (index, (candidate, parts)) in candidates.iter().zip(&read).enumerate() {
            match parts {
                Err(judgement) => answers[index].judgement = judgement.clone(),
                Ok(parts) => match self.header(&candidate.header) {
                    Err(reason) => {
                        answers[index].judgement = Judgement::new(Outcome::Infra, format!("header: {reason}"));
                    }
                    Ok(()) => {
                        items.push(Item { index, parts: *parts, header: &candidate.header, proof: &candidate.proof });
                    }
                },
            }
        }
        let batches =
            items.chunks(self.options.batch.max(1)).map(|items| Batch { items: items.to_vec(), form, tries: 0 });
        let batches: Vec<Batch> = batches.collect();
        let step = |batch| in_thread(|client| Ok(self.step(client, batch))).unwrap_or_default();
        for (index, judged) in queue::drain(self.options.jobs.max(1), batches, step) {
            answers[index] = judged;
        }
        answers
    }

    /// One request; gives the answers that are final, and what is still to do.
    fn step<'t>(&self, client: &Client, batch: Batch<'t>) -> (Vec<(usize, Judged)>, Vec<Batch<'t>>) {
        let Batch { items, form, tries } = batch;
        if tries > 0 {
            std::thread::sleep(self.options.pause.saturating_mul(1 << (tries - 1).min(6)));
        }
        let again = |items: Vec<Item<'t>>, tries| Batch { items, form, tries };
        let written = match nonce() {
            Ok(nonce) => items.iter().map(|item| write(item, form, &nonce)).collect::<Vec<_>>(),
            Err(error) => return (give_up(&items, &error.to_string()), Vec::new()),
        };
        let snippets: Vec<Snippet> = written.iter().map(|(snippet, _)| snippet.clone()).collect();
        let results = match client.ask(&self.options, self.api, &snippets, form == Form::Confirm) {
            Ok(results) => results,
            // the server fails a request whole for one of its snippets: cut it up
            Err(trouble) if trouble.is_of_content && items.len() > 1 => {
                let (first, second) = items.split_at(items.len() / 2);
                return (Vec::new(), vec![again(first.to_vec(), tries), again(second.to_vec(), tries)]);
            }
            Err(_) if tries + 1 < self.options.attempts => return (Vec::new(), vec![again(items, tries + 1)]),
            Err(trouble) => return (give_up(&items, &trouble.with_hint()), Vec::new()),
        };
        let answers = read(results);
        let (mut judged, mut more) = (Vec::new(), Vec::new());
        for (item, (snippet, placed)) in items.into_iter().zip(&written) {
            let answer = judge(&answers, &snippet.id, placed, &self.options.axioms);
            // version 1 says the same of a header that took too long, which says nothing of the candidate
            let is_doubtful = answer.judgement.message.contains("process timed out");
            match answer.judgement.outcome {
                Outcome::Infra if tries + 1 < self.options.attempts => more.push(again(vec![item], tries + 1)),
                Outcome::Timeout if is_doubtful && tries + 1 < self.options.attempts => {
                    more.push(again(vec![item], tries + 1));
                }
                Outcome::Proved if form == Form::Screen => {
                    more.push(Batch { items: vec![item], form: Form::Confirm, tries: 0 });
                }
                _ => judged.push((item.index, answer)),
            }
        }
        (judged, more)
    }

    /// Whether a header can be used: a theorem that needs nothing must be proved under it.
    fn header(&mut self, header: &str) -> std::result::Result<(), String> {
        if let Some(known) = self.headers.get(header) {
            return known.clone();
        }
        let control = Candidate {
            header: header.to_owned(),
            statement: "theorem control (p : Prop) (h : p) : p".to_owned(),
            proof: "h".to_owned(),
        };
        let parts = prepare(&control, Form::Screen).map_err(|judgement| judgement.message)?;
        let item = Item { index: 0, parts, header, proof: &control.proof };
        let batch = Batch { items: vec![item], form: Form::Confirm, tries: 0 };
        let step = |batch| in_thread(|client| Ok(self.step(client, batch))).unwrap_or_default();
        let (_, Judged { judgement, .. }) =
            queue::drain(1, [batch], step).pop().ok_or_else(|| "no client for HTTP".to_owned())?;
        match judgement.outcome {
            Outcome::Proved => {
                self.headers.insert(header.to_owned(), Ok(()));
                Ok(())
            }
            // trouble of the moment is not remembered
            Outcome::Infra | Outcome::Timeout => Err(judgement.message),
            _ => {
                self.headers.insert(header.to_owned(), Err(judgement.message.clone()));
                Err(judgement.message)
            }
        }
    }
}

/// The rows of a reply that have the shape of an answer.
fn read(results: Vec<serde_json::Value>) -> Vec<Answer> {
    results.into_iter().filter_map(|row| serde_json::from_value(row).ok()).collect()
}

/// What `answers` say of the candidate that was sent as `id`.
fn judge(answers: &[Answer], id: &str, placed: &Placed, axioms: &[String]) -> Judged {
    let mut own = answers.iter().filter(|answer| answer.id == id);
    if let (Some(answer), None) = (own.next(), own.next()) {
        let judgement = judge_one(answer, placed, axioms);
        return Judged { judgement, time: answer.time(), peak_rss_bytes: answer.peak_rss_bytes(), ran: true };
    }
    let why = "the server gave no answer of the expected shape for this id, or several";
    Judged { ran: true, ..Judged::unsent(Judgement::new(Outcome::Infra, why)) }
}

/// What one answer says of the one candidate in its file.
fn judge_one(answer: &Answer, placed: &Placed, axioms: &[String]) -> Judgement {
    let infra = |why: &str| Judgement::new(Outcome::Infra, format!("the server said: {why}"));
    if let Some(error) = answer.error.as_ref().filter(|error| !error.is_empty()) {
        let is_own = error.contains("timed out") && !error.contains("header");
        return if is_own { Judgement::new(Outcome::Timeout, error.clone()) } else { infra(error) };
    }
    let Some(response) = &answer.response else { return infra("neither an error nor a response") };
    if let Some(message) = &response.message {
        return infra(message);
    }
    let messages: Vec<Message> = response.messages.clone().unwrap_or_default();
    if messages.is_empty() {
        return infra("nothing, though it was asked for axioms");
    }
    let reply = Reply::of_one(messages, placed);
    if let Some(error) = reply.header_error(placed.first) {
        return infra(&format!("header: {error}"));
    }
    let judgement = reply.judge(placed, axioms);
    let has_holes = response.sorries.as_ref().is_some_and(|holes| !holes.is_empty());
    if judgement.outcome == Outcome::Proved && has_holes {
        return Judgement::new(Outcome::Sorry, "the server lists a hole");
    }
    judgement
}

/// What a server's reply says of one theorem named `tk_NONCE_0`, sent under its name: the reader of replies for those who
/// throw anything at it.
#[doc(hidden)]
#[must_use]
pub fn outcome_of(reply: &[u8], nonce: &str) -> Outcome {
    let placed = super::specimen(nonce);
    let axioms = super::Options::default().axioms;
    client::results(reply)
        .map_or(Outcome::Infra, |results| judge(&read(results), &placed.name, &placed, &axioms).judgement.outcome)
}

/// One file, and where the candidate stands in it.
fn write(item: &Item, form: Form, nonce: &str) -> (Snippet, Placed) {
    let mut source = Source::new(item.header);
    source.add(&item.parts, item.proof, form, &format!("{nonce}_{}", item.index));
    let placed = source.placed.swap_remove(0);
    (Snippet { id: placed.name.clone(), code: source.text }, placed)
}

/// No answer for any of `items`, which may have been run all the same.
fn give_up(items: &[Item], why: &str) -> Vec<(usize, Judged)> {
    let infra = Judged { ran: true, ..Judged::unsent(Judgement::new(Outcome::Infra, why)) };
    items.iter().map(|item| (item.index, infra.clone())).collect()
}

/// Version and commit of the server's Lean.
fn version(client: &Client, options: &Options, api: Api) -> std::result::Result<(String, String), Trouble> {
    let strange = |what: String| Trouble { what, is_of_content: false, status: None };
    let id = nonce().map_err(|error| strange(error.to_string()))?;
    let code = "#eval Lean.versionString ++ \" \" ++ Lean.githash".to_owned();
    let results = client.ask(options, api, &[Snippet { id: id.clone(), code }], false)?;
    let said = || short(&serde_json::Value::from(results.clone()).to_string());
    let answers = results.iter().filter_map(|row| serde_json::from_value::<Answer>(row.clone()).ok());
    let own = answers.into_iter().find(|answer| answer.id == id);
    let messages = own.and_then(|answer| answer.response).and_then(|response| response.messages).unwrap_or_default();
    let text = messages.iter().find_map(Message::quoted);
    let (version, commit) = text
        .as_deref()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(|| strange(format!("expected the version of its Lean, got {}", said())))?;
    Ok((version.to_owned(), commit.to_owned()))
}

/// Runs `work` with a client in a thread of its own, since the caller's may already drive a runtime.
fn in_thread<T: Send>(
    work: impl FnOnce(&Client) -> std::result::Result<T, Trouble> + Send,
) -> std::result::Result<T, Trouble> {
    let trouble = |what: &str| Trouble { what: what.to_owned(), is_of_content: true, status: None };
    let run = || Client::new().map_err(|what| trouble(&what)).and_then(|client| work(&client));
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|_| Err(trouble("the client ended in a panic")))
}

impl Verifier for Kimina {
    fn build(&self) -> &Build {
        &self.build
    }

    fn check(&mut self, candidates: &[Candidate]) -> Vec<Verdict> {
        let answers = self.judge(candidates, Form::Screen);
        let limits = Limits { time_millis: Some(self.options.timeout.as_millis() as u64), ..Limits::default() };
        let verdict = |(candidate, answer): (&Candidate, Judged)| Verdict {
            outcome: answer.judgement.outcome,
            message: answer.judgement.message,
            axioms: answer.judgement.axioms,
            wall_micros: answer.time.as_micros() as u64,
            cpu_micros: 0,
            peak_rss_bytes: answer.peak_rss_bytes,
            sandboxed: !answer.ran,
            statement_digest: statement::digest(&candidate.header, &candidate.statement),
            header_digest: header_digest(&candidate.header),
            limits,
        };
        candidates.iter().zip(answers).map(verdict).collect()
    }

    fn compile(&mut self, candidates: &[Candidate]) -> Vec<Compiled> {
        let answers = self.judge(candidates, Form::Compile);
        candidates.iter().zip(answers).map(|(candidate, answer)| answer.judgement.compiled(candidate)).collect()
    }

    fn probe(&mut self, header: &str) -> std::result::Result<(), String> {
        self.header(header)
    }
}
