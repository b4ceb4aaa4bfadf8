//! Raw exchanges with endpoints: kept as they happen, answered from when a run goes on or is run again.
//!
//! A run's tape is a file beside the store while the run goes on, so that a killed run asks nothing twice; when it has
//! finished, the exchanges are an artifact of the run, in an order that does not depend on who answered first.

use std::collections::BTreeMap;
use std::io::Write;
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
    /// Where they are kept as they happen; nowhere for a store in memory.
    file: Option<PathBuf>,
    kept: Mutex<Answers>,
    /// A recording to answer from; without one, endpoints are called.
    recording: Option<Recorded>,
}

impl Tape {
    /// The tape of a run, which goes on with what is in `file` already. With a `recording` nothing is called.
    ///
    /// # Errors
    /// `Input` naming file and line if there is something else in it.
    pub fn open(file: Option<PathBuf>, recording: Option<Recorded>) -> Result<Self> {
        let kept = match &file {
            Some(path) if path.is_file() => {
                let failed = |e| Error::Internal(format!("`{}` cannot be read: {e}", path.display()));
                let bytes = std::fs::read(path).map_err(failed)?;
                // A killed run may have written half a line, perhaps half a character; what it belongs to was not
                // acknowledged, and what comes next must not be appended to it.
                let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                if end < bytes.len() {
                    let file = std::fs::OpenOptions::new().write(true).open(path).map_err(failed)?;
                    file.set_len(end as u64).map_err(failed)?;
                }
                parse(&path.display().to_string(), &String::from_utf8_lossy(&bytes[..end]))?
            }
            _ => Answers::new(),
        };
        Ok(Self { file, kept: Mutex::new(kept), recording })
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
        if let Some(response) = self.lock().get(&key) {
            return Ok(Some(response.clone()));
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
        if let Some(path) = &self.file {
            let line = line(endpoint, request, response);
            let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
                let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
                file.write_all(line.as_bytes())
            });
            written.map_err(|e| Error::Internal(format!("cannot record an exchange in `{}`: {e}", path.display())))?;
        }
        self.lock().insert((endpoint.to_owned(), request.to_string()), response.clone());
        Ok(())
    }

    /// All exchanges of the run as lines of JSON, sorted by endpoint and request; none if there were none.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let kept = self.lock();
        let request = |text: &str| serde_json::from_str(text).unwrap_or(Json::Null);
        let exchange = |((endpoint, key), response): (&(String, String), &Json)| line(endpoint, &request(key), response);
        (!kept.is_empty()).then(|| kept.iter().map(exchange).collect())
    }

    /// Removes the file, once the exchanges are stored.
    pub fn remove(&self) {
        if let Some(path) = &self.file {
            // A file that stays behind is of no harm: its run is finished.
            drop(std::fs::remove_file(path));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(endpoint: &str, request: &Json, response: &Json) -> String {
    let mut line = json!({"request": request, "response": response});
    if !endpoint.is_empty() {
        line["endpoint"] = endpoint.into();
    }
    format!("{line}\n")
}

fn parse(name: &str, text: &str) -> Result<Answers> {
    let exchange = |(idx, line): (usize, &str)| {
        let exchange: Exchange = serde_json::from_str(line).map_err(|e| Error::Input {
            what: format!("{name}: line {}: expected a recorded exchange: {e}", idx + 1),
            hint: None,
        })?;
        Ok(((exchange.endpoint, exchange.request.to_string()), exchange.response))
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
        assert_eq!(again.text().as_deref(), Some(sorted));
        again.keep("", &json!({"c": 1}), &json!("→")).unwrap();
        let again = Tape::open(Some(path.clone()), None).unwrap();
        assert_eq!(again.answer("", &json!({"c": 1})).unwrap(), Some(json!("→")));
        again.remove();
        assert!(!path.exists() && Tape::default().text().is_none());
    }

    #[test]
    fn a_recording_answers_what_was_asked_and_refuses_the_rest() {
        let text = "{\"request\":{\"a\":1},\"response\":\"one\"}\n";
        let tape = Tape::open(None, Some(Recorded::parse("r.jsonl", text).unwrap())).unwrap();
        assert!(!tape.calls());
        assert_eq!(tape.answer("", &json!({"a": 1})).unwrap(), Some(json!("one")));
        assert_eq!(tape.text().as_deref(), Some(text));
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
        let recorded = Recorded::parse("r.jsonl", &again.text().unwrap()).unwrap();
        let replayed = Tape::open(None, Some(recorded)).unwrap();
        assert_eq!(replayed.answer("models.b", &request).unwrap(), Some(json!("of b")));
        assert!(replayed.answer("models.c", &request).unwrap_err().to_string().contains("never recorded"));
    }
}
