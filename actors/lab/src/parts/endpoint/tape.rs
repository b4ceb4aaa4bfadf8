//! Raw exchanges with endpoints: kept as they happen, answered from when a run goes on or is run again.
//!
//! A run's tape is a file beside the store while the run goes on, so that a killed run asks nothing twice; when it has
//! finished, the exchanges are an artifact of the run, in an order that does not depend on who answered first. What is in the file
//! is not held in memory: of each exchange its place alone is.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::error::{Error, Result};

/// One recorded exchange: what was sent, what came back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// Where the settings of the endpoint stand in the plan, in studies that ask several: two servers may know their models by
    /// one name. Empty where a request says enough.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// Request body.
    pub request: Json,
    /// Response body.
    pub response: Json,
}

/// Responses by endpoint and request body.
type Answers = BTreeMap<(String, String), Json>;

/// Recorded exchanges to answer from.
#[derive(Debug)]
pub struct Recorded {
    name: String,
    answers: Answers,
}

impl Recorded {
    /// Reads exchanges, one JSON object a line; `name` is what messages call them.
    ///
    /// # Errors
    /// `Input` naming the line that is no exchange.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        Ok(Self { name: name.to_owned(), answers: parse(name, text)? })
    }
}

/// The exchanges of one run.
#[derive(Debug, Default)]
pub struct Tape {
    kept: Mutex<Kept>,
    /// A recording to answer from; without one, endpoints are called.
    recording: Option<Recorded>,
}

/// Where exchanges are kept.
#[derive(Debug)]
enum Kept {
    /// In memory, for a store that is there too.
    Memory(Answers),
    /// In a file, as they happen.
    File(Log),
}

impl Default for Kept {
    fn default() -> Self {
        Self::Memory(Answers::new())
    }
}

impl Tape {
    /// The tape of a run, which goes on with what is in `file` already. With a `recording` nothing is called.
    ///
    /// # Errors
    /// `Input` naming file and line if there is something else in it.
    pub fn open(file: Option<PathBuf>, recording: Option<Recorded>) -> Result<Self> {
        let kept = match file {
            Some(path) => Kept::File(Log::open(path)?),
            None => Kept::default(),
        };
        Ok(Self { kept: Mutex::new(kept), recording })
    }

    /// Whether endpoints may be called.
    #[must_use]
    pub fn calls(&self) -> bool {
        self.recording.is_none()
    }

    /// The recorded answer of an endpoint to a request; none if it has to be asked for. `endpoint` is empty unless there are
    /// several.
    ///
    /// # Errors
    /// `Input` if only recorded answers may be given and there is none; those of keeping.
    pub fn answer(&self, endpoint: &str, request: &Json) -> Result<Option<Json>> {
        let key = (endpoint.to_owned(), request.to_string());
        let kept = match &*self.lock() {
            Kept::Memory(answers) => answers.get(&key).cloned(),
            Kept::File(log) => log.answer(endpoint, &key.1)?,
        };
        if kept.is_some() {
            return Ok(kept);
        }
        let Some(Recorded { name, answers }) = &self.recording else { return Ok(None) };
        let response = answers.get(&key).ok_or_else(|| Error::Input {
            what: format!("{name}: this request was never recorded; the plan differs from the recording's"),
            hint: Some("the same plan and seed ask the same; leave `--exchanges` away to call the endpoint".into()),
        })?;
        self.keep(endpoint, request, response)?;
        Ok(Some(response.clone()))
    }

    /// Keeps an exchange.
    ///
    /// # Errors
    /// `Internal` if the file cannot be written.
    pub fn keep(&self, endpoint: &str, request: &Json, response: &Json) -> Result<()> {
        match &mut *self.lock() {
            Kept::Memory(answers) => {
                answers.insert((endpoint.to_owned(), request.to_string()), response.clone());
                Ok(())
            }
            Kept::File(log) => log.keep(endpoint, request, response),
        }
    }

    /// All exchanges of the run as lines of JSON, sorted by endpoint and request; none if there were none.
    ///
    /// # Errors
    /// `Internal` if the file cannot be read.
    pub fn text(&self) -> Result<Option<String>> {
        if let Kept::File(log) = &*self.lock() {
            let mut text = Vec::new();
            log.write_sorted(&mut text)?;
            return Ok((!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned()));
        }
        Ok(self.text_in_memory())
    }

    /// The same of a tape that has no file; none of one that has.
    #[must_use]
    pub fn text_in_memory(&self) -> Option<String> {
        let Kept::Memory(answers) = &*self.lock() else { return None };
        let request = |text: &str| serde_json::from_str(text).unwrap_or(Json::Null);
        let exchange =
            |((endpoint, key), response): (&(String, String), &Json)| line(endpoint, &request(key), response);
        (!answers.is_empty()).then(|| answers.iter().map(exchange).collect())
    }

    /// Writes what [`Tape::text`] gives to a file beside the tape's, a line at a time; none if there were no exchanges, or the
    /// tape has no file.
    ///
    /// # Errors
    /// `Internal` if a file cannot be read or written.
    pub fn sorted(&self) -> Result<Option<PathBuf>> {
        match &*self.lock() {
            Kept::File(log) if !log.places.is_empty() => log.sorted().map(Some),
            _ => Ok(None),
        }
    }

    /// Removes the files, once the exchanges are stored.
    pub fn remove(&self) {
        if let Kept::File(log) = &*self.lock() {
            // A file that stays behind is of no harm: its run is finished.
            drop(std::fs::remove_file(&log.path));
            drop(std::fs::remove_file(log.sorted_path()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line's place in the file: where it starts, and its bytes with the line end.
type Place = (u64, usize);

/// Exchanges in a file, a line each.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// The file, once there is one.
    file: Option<File>,
    /// Where the line of each exchange is, by the digest of endpoint and request.
    places: BTreeMap<[u8; 32], Place>,
    end: u64,
}

impl Log {
    /// A killed run may have written half a line, perhaps half a character; what it belongs to was not acknowledged, and what
    /// comes next must not be appended to it.
    fn open(path: PathBuf) -> Result<Self> {
        let mut log = Self { path, file: None, places: BTreeMap::new(), end: 0 };
        if !log.path.is_file() {
            return Ok(log);
        }
        let failed = |e| Error::Internal(format!("`{}` cannot be read: {e}", log.path.display()));
        let file = File::options().read(true).append(true).open(&log.path).map_err(failed)?;
        let name = log.path.display().to_string();
        let mut reader = BufReader::new(&file);
        let (mut text, mut n_lines, mut places, mut end) = (Vec::new(), 0, BTreeMap::new(), 0);
        loop {
            text.clear();
            let n_bytes = reader.read_until(b'\n', &mut text).map_err(failed)?;
            if text.last() != Some(&b'\n') {
                break;
            }
            let exchange = read(&name, n_lines, &String::from_utf8_lossy(&text))?;
            places.insert(digest(&exchange.endpoint, &exchange.request.to_string()), (end, n_bytes));
            end += n_bytes as u64;
            n_lines += 1;
        }
        file.set_len(end).map_err(failed)?;
        (log.places, log.end, log.file) = (places, end, Some(file));
        Ok(log)
    }

    fn failed(&self, what: &str, e: &std::io::Error) -> Error {
        Error::Internal(format!("an exchange cannot be {what} `{}`: {e}", self.path.display()))
    }

    fn line(&self, (start, n_bytes): Place) -> Result<Vec<u8>> {
        let mut line = vec![0; n_bytes];
        if let Some(file) = &self.file {
            file.read_exact_at(&mut line, start).map_err(|e| self.failed("read in", &e))?;
        }
        Ok(line)
    }

    fn answer(&self, endpoint: &str, request: &str) -> Result<Option<Json>> {
        let Some(place) = self.places.get(&digest(endpoint, request)) else { return Ok(None) };
        let line = self.line(*place)?;
        let exchange = read(&self.path.display().to_string(), 0, &String::from_utf8_lossy(&line))?;
        Ok(Some(exchange.response))
    }

    fn keep(&mut self, endpoint: &str, request: &Json, response: &Json) -> Result<()> {
        let line = line(endpoint, request, response);
        if let Err(e) = self.append(line.as_bytes()) {
            // Half a line must not stay in the way of the next.
            if let Some(file) = &self.file {
                drop(file.set_len(self.end));
            }
            return Err(self.failed("recorded in", &e));
        }
        self.places.insert(digest(endpoint, &request.to_string()), (self.end, line.len()));
        self.end += line.len() as u64;
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        if let Some(file) = &mut self.file {
            return file.write_all(line);
        }
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = File::options().create(true).read(true).append(true).open(&self.path)?;
        let written = file.write_all(line);
        self.file = Some(file);
        written
    }

    /// Lines sorted as bytes, which is by endpoint and request; of an exchange that was kept twice the later one.
    fn write_sorted(&self, out: &mut dyn Write) -> Result<()> {
        /// Bytes of a line that are held while lines are sorted; what they have in common beyond is read again.
        const HELD: usize = 256;
        let mut lines = Vec::with_capacity(self.places.len());
        for place in self.places.values() {
            lines.push((self.line((place.0, place.1.min(HELD)))?, *place));
        }
        let mut failure = None;
        lines.sort_by(|(a, at), (b, other)| {
            a.cmp(b).then_with(|| match (self.line(*at), self.line(*other)) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Err(error), _) | (_, Err(error)) => {
                    failure.get_or_insert(error);
                    Ordering::Equal
                }
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        for (_, place) in lines {
            out.write_all(&self.line(place)?).map_err(|e| self.failed("written from", &e))?;
        }
        out.flush().map_err(|e| self.failed("written from", &e))
    }

    fn sorted_path(&self) -> PathBuf {
        self.path.with_extension("sorted")
    }

    fn sorted(&self) -> Result<PathBuf> {
        let path = self.sorted_path();
        let file = File::create(&path).map_err(|e| self.failed("written from", &e))?;
        self.write_sorted(&mut BufWriter::new(file))?;
        Ok(path)
    }
}

/// What a request to an endpoint is found by.
fn digest(endpoint: &str, request: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(endpoint.as_bytes()).update(&[0]).update(request.as_bytes());
    *hasher.finalize().as_bytes()
}

fn line(endpoint: &str, request: &Json, response: &Json) -> String {
    let mut line = json!({"request": request, "response": response});
    if !endpoint.is_empty() {
        line["endpoint"] = endpoint.into();
    }
    format!("{line}\n")
}

/// The exchange of a line, whose number counts from 0.
fn read(name: &str, number: usize, line: &str) -> Result<Exchange> {
    serde_json::from_str(line).map_err(|e| Error::Input {
        what: format!("{name}: line {}: expected a recorded exchange: {e}", number + 1),
        hint: None,
    })
}

fn parse(name: &str, text: &str) -> Result<Answers> {
    let exchange = |(number, line): (usize, &str)| {
        let Exchange { endpoint, request, response } = read(name, number, line)?;
        Ok(((endpoint, request.to_string()), response))
    };
    text.lines().enumerate().map(exchange).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_tape_goes_on_after_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exchanges").join("run.jsonl");
        let tape = Tape::open(Some(path.clone()), None).unwrap();
        assert_eq!(tape.answer("", &json!({"a": 1})).unwrap(), None);
        tape.keep("", &json!({"b": 1}), &json!("two")).unwrap();
        tape.keep("", &json!({"a": 1}), &json!("one")).unwrap();
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend_from_slice("{\"requ→".as_bytes());
        torn.pop();
        std::fs::write(&path, torn).unwrap();

        let again = Tape::open(Some(path.clone()), None).unwrap();
        assert_eq!(again.answer("", &json!({"a": 1})).unwrap(), Some(json!("one")));
        let sorted = "{\"request\":{\"a\":1},\"response\":\"one\"}\n{\"request\":{\"b\":1},\"response\":\"two\"}\n";
        assert_eq!(again.text().unwrap().as_deref(), Some(sorted));
        let beside = again.sorted().unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(&beside).unwrap(), sorted);
        again.keep("", &json!({"c": 1}), &json!("→")).unwrap();
        let again = Tape::open(Some(path.clone()), None).unwrap();
        assert_eq!(again.answer("", &json!({"c": 1})).unwrap(), Some(json!("→")));
        again.remove();
        assert!(!path.exists() && !beside.exists() && Tape::default().text().unwrap().is_none());
    }

    #[test]
    fn a_recording_answers_what_was_asked_and_refuses_the_rest() {
        let text = "{\"request\":{\"a\":1},\"response\":\"one\"}\n";
        let tape = Tape::open(None, Some(Recorded::parse("r.jsonl", text).unwrap())).unwrap();
        assert!(!tape.calls());
        assert_eq!(tape.answer("", &json!({"a": 1})).unwrap(), Some(json!("one")));
        assert_eq!(tape.text().unwrap().as_deref(), Some(text));
        let refused = tape.answer("", &json!({"a": 2})).unwrap_err().to_string();
        assert!(refused.contains("r.jsonl") && refused.contains("never recorded"), "{refused}");
        let error = Recorded::parse("r.jsonl", "{}").unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }

    #[test]
    fn endpoints_of_one_run_that_know_their_models_by_one_name_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.jsonl");
        let tape = Tape::open(Some(path.clone()), None).unwrap();
        let request = json!({"model": "default", "prompt": "p"});
        tape.keep("models.b", &request, &json!("of b")).unwrap();
        tape.keep("models.a", &request, &json!("of a")).unwrap();
        tape.keep("", &request, &json!("of the only one")).unwrap();
        let again = Tape::open(Some(path), None).unwrap();
        for (endpoint, answer) in [("models.a", "of a"), ("models.b", "of b"), ("", "of the only one")] {
            assert_eq!(again.answer(endpoint, &request).unwrap(), Some(json!(answer)));
        }
        assert_eq!(again.answer("models.c", &request).unwrap(), None);
        let recorded = Recorded::parse("r.jsonl", &again.text().unwrap().unwrap()).unwrap();
        let replayed = Tape::open(None, Some(recorded)).unwrap();
        assert_eq!(replayed.answer("models.b", &request).unwrap(), Some(json!("of b")));
        assert!(replayed.answer("models.c", &request).unwrap_err().to_string().contains("never recorded"));
    }

    #[test]
    fn lines_that_begin_alike_are_sorted_by_what_follows_and_memory_holds_the_same_text() {
        let dir = tempfile::tempdir().unwrap();
        let tape = Tape::open(Some(dir.path().join("run.jsonl")), None).unwrap();
        let (memory, alike) = (Tape::default(), "same ".repeat(200));
        for nth in [3, 1, 4, 1, 5, 9, 2, 6] {
            let request = json!({"prompt": format!("{alike}{nth}")});
            for of in [&tape, &memory] {
                of.keep("models.a", &request, &json!(nth)).unwrap();
            }
        }
        assert_eq!(tape.text().unwrap(), memory.text().unwrap());
        assert_eq!(tape.text().unwrap().unwrap().lines().count(), 7);
        assert_eq!(tape.answer("models.a", &json!({"prompt": format!("{alike}9")})).unwrap(), Some(json!(9)));
    }
}
