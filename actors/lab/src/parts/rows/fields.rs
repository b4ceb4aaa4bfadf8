//! Fields of a row, each read as what it is to be, or refused with its name.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Error;

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, with places in lists: `completions[3].response`; empty for the whole row.
    pub field: String,
    /// What was expected and found.
    pub what: String,
}

impl Fault {
    /// A fault of a field.
    #[must_use]
    pub fn new(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self { field: field.into(), what: what.into() }
    }

    /// The fault as an error, with where the row is.
    pub(super) fn at(self, file: &str, row: u64) -> Error {
        let hint = (self.what.contains("expected an id")).then(|| {
            "rows are named by a field or by the digest of what they say, never by their place in a file".to_owned()
        });
        let hint = hint.or_else(|| Some("wrong rows can be left out and counted with `skip_bad`".into()));
        let row = super::Skipped { file: file.to_owned(), row, field: self.field, what: self.what };
        Error::Input { what: row.to_string(), hint }
    }
}

type Read<T> = Result<T, Fault>;

/// One message of a dialogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// How numbers are written, by field: as numbers or as texts. A field in which some rows have one and some the other was put
/// together from different sources, or damaged by a tool.
#[derive(Debug, Default)]
pub struct Kinds(RefCell<BTreeMap<String, bool>>);

impl Kinds {
    /// Refuses a number that is written otherwise than those of the same field before.
    fn same(&self, value: &Value, name: &str) -> Read<()> {
        let is_text = value.is_string();
        // Elements of lists are one field.
        let field: String = name.split('[').map(|part| part.rsplit_once(']').map_or(part, |(_, rest)| rest)).collect();
        if *self.0.borrow_mut().entry(field).or_insert(is_text) == is_text {
            return Ok(());
        }
        let (before, now) = if is_text { ("a number", "a text") } else { ("a number written as text", "a number") };
        Err(Fault::new(name, format!("expected {before} as in the rows before, got {now}: {}", shown(value))))
    }
}

/// The fields of an object, and where it is in its row.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    kinds: &'a Kinds,
}

impl<'a> Fields<'a> {
    /// The fields of a row; `kinds` is what the rows before had.
    #[must_use]
    pub fn new(map: &'a Map<String, Value>, kinds: &'a Kinds) -> Self {
        Self { map, path: String::new(), kinds }
    }

    /// The full name of a field.
    #[must_use]
    pub fn name(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// A fault of one of these fields.
    #[must_use]
    pub fn fault(&self, field: &str, what: impl Into<String>) -> Fault {
        Fault::new(self.name(field), what)
    }

    /// The names of all fields.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.map.keys().map(String::as_str)
    }

    /// A field that is there and not null.
    #[must_use]
    pub fn find(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn expect(&self, field: &str, expected: &str) -> Read<&'a Value> {
        match self.map.get(field) {
            None => Err(self.fault(field, format!("expected {expected}, got nothing"))),
            Some(Value::Null) => Err(self.fault(field, format!("expected {expected}, got null"))),
            Some(value) => Ok(value),
        }
    }

    /// An id: a text that is not blank, or a whole number.
    ///
    /// # Errors
    /// A fault for anything else.
    pub fn id(&self, field: &str) -> Read<String> {
        let expected = "an id";
        match self.expect(field, expected)? {
            Value::String(text) if !text.trim().is_empty() => Ok(text.clone()),
            Value::Number(number) if number.is_u64() || number.is_i64() => Ok(number.to_string()),
            other => Err(self.fault(field, format!("expected {expected}, got {}", shown(other)))),
        }
    }

    /// A text that is not blank.
    ///
    /// # Errors
    /// A fault for anything else.
    pub fn text(&self, field: &str) -> Read<String> {
        filled(self.expect(field, "a text")?, &self.name(field))
    }

    /// A text, if there is one.
    ///
    /// # Errors
    /// A fault for what is no text.
    pub fn optional_text(&self, field: &str) -> Read<Option<String>> {
        match self.find(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.fault(field, format!("expected a text, got {}", shown(other)))),
        }
    }

    /// A finite number, or one written as text.
    ///
    /// # Errors
    /// A fault for anything else.
    pub fn number(&self, field: &str) -> Read<f64> {
        self.number_of(self.expect(field, "a number")?, &self.name(field))
    }

    fn number_of(&self, value: &Value, name: &str) -> Read<f64> {
        let x = number(value, name)?;
        self.kinds.same(value, name)?;
        Ok(x)
    }

    /// A finite number from `low` to `high`, if there is one: null and `N/A` are none.
    ///
    /// # Errors
    /// A fault for anything else.
    pub fn optional_number(&self, field: &str, low: f64, high: f64) -> Read<Option<f64>> {
        match self.find(field) {
            None => Ok(None),
            Some(Value::String(text)) if text.trim().eq_ignore_ascii_case("n/a") => Ok(None),
            Some(value) => {
                let x = self.number_of(value, &self.name(field))?;
                within(x, low, high, &self.name(field)).map(Some)
            }
        }
    }

    /// A list of at least one element, each with its full name.
    ///
    /// # Errors
    /// A fault for anything else.
    pub fn list(&self, field: &str) -> Read<Vec<(String, &'a Value)>> {
        match self.expect(field, "a list")? {
            Value::Array(values) if !values.is_empty() => {
                let name = self.name(field);
                Ok(values.iter().enumerate().map(|(at, value)| (format!("{name}[{at}]"), value)).collect())
            }
            Value::Array(_) => Err(self.fault(field, "expected at least one element, got an empty list")),
            other => Err(self.fault(field, format!("expected a list, got {}", shown(other)))),
        }
    }

    /// A list of texts, none of which is blank.
    ///
    /// # Errors
    /// A fault for anything else.
    pub fn texts(&self, field: &str) -> Read<Vec<String>> {
        self.list(field)?.into_iter().map(|(name, value)| filled(value, &name)).collect()
    }

    /// A list of numbers in [0, 1].
    ///
    /// # Errors
    /// A fault for anything else.
    pub fn shares(&self, field: &str) -> Read<Vec<f64>> {
        let share = |(name, value): (String, &Value)| within(self.number_of(value, &name)?, 0.0, 1.0, &name);
        self.list(field)?.into_iter().map(share).collect()
    }

    /// The fields of an object.
    ///
    /// # Errors
    /// A fault for anything else.
    pub fn object(&self, field: &str) -> Read<Self> {
        self.inner(self.expect(field, "an object")?, self.name(field))
    }

    /// The fields of each object of a list.
    ///
    /// # Errors
    /// A fault for anything else.
    pub fn objects(&self, field: &str) -> Read<Vec<Self>> {
        self.list(field)?.into_iter().map(|(name, value)| self.inner(value, name)).collect()
    }

    fn inner(&self, value: &'a Value, path: String) -> Read<Self> {
        match value {
            Value::Object(map) => Ok(Self { map, path, kinds: self.kinds }),
            other => Err(Fault::new(path, format!("expected an object, got {}", shown(other)))),
        }
    }

    /// A dialogue, none of whose messages is blank.
    ///
    /// # Errors
    /// A fault for anything else.
    pub fn messages(&self, field: &str) -> Read<Vec<Message>> {
        let message = |fields: Self| Ok(Message { role: fields.text("role")?, content: fields.text("content")? });
        self.objects(field)?.into_iter().map(message).collect()
    }

    /// A dialogue that ends with an answer: what comes before it, and the answer.
    ///
    /// # Errors
    /// A fault for anything else.
    pub fn answered(&self, field: &str) -> Read<(Vec<Message>, String)> {
        let mut messages = self.messages(field)?;
        match messages.pop() {
            Some(last) if last.role == "assistant" && !messages.is_empty() => Ok((messages, last.content)),
            last => {
                let role = last.map_or("nobody".into(), |last| format!("`{}` after {}", last.role, messages.len()));
                Err(self.fault(field, format!("expected an answer of the `assistant` to something, got {role}")))
            }
        }
    }
}

fn filled(value: &Value, name: &str) -> Read<String> {
    match value {
        Value::String(text) if text.trim().is_empty() => {
            Err(Fault::new(name, "expected a text that is not blank, got a blank one"))
        }
        Value::String(text) => Ok(text.clone()),
        other => Err(Fault::new(name, format!("expected a text, got {}", shown(other)))),
    }
}

/// A finite number, as such or as text; truth values are 0 and 1.
pub(super) fn number(value: &Value, name: &str) -> Read<f64> {
    let found = match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(is_true) => Some(f64::from(u8::from(*is_true))),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    found
        .filter(|x: &f64| x.is_finite())
        .ok_or_else(|| Fault::new(name, format!("expected a finite number, got {}", shown(value))))
}

pub(super) fn within(x: f64, low: f64, high: f64, name: &str) -> Read<f64> {
    if (low..=high).contains(&x) {
        return Ok(x);
    }
    Err(Fault::new(name, format!("expected a number from {low} to {high}, got {x}")))
}

/// A value in an error: short.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 40;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        None => format!("`{text}`"),
        Some((end, _)) => format!("`{}…`", &text[..end]),
    }
}
