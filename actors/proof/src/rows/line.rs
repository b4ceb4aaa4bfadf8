//! Lines of a file, and the fields of one line.

use std::{cell::RefCell, fmt, io::BufRead};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::{Error, Result};

/// Longest line that is read; a longer one is an error of its row.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// Lines with their numbers, from 1; blank ones are passed over.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: R,
    number: u64,
    is_over: bool,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, number: 0, is_over: false }
    }

    /// The bytes of the next line and whether it was too long to keep; `None` at the end of the file.
    fn bytes(&mut self) -> std::io::Result<Option<(Vec<u8>, bool)>> {
        let (mut line, mut too_long, mut any) = (Vec::new(), false, false);
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(any.then_some((line, too_long)));
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            too_long |= line.len() + part.len() > MAX_LINE_BYTES;
            if too_long {
                line = Vec::new();
            } else {
                line.extend_from_slice(part);
            }
            let n = part.len() + usize::from(end.is_some());
            self.reader.consume(n);
            if end.is_some() {
                return Ok(Some((line, too_long)));
            }
        }
    }

    fn read(&mut self) -> Result<Option<(u64, String)>> {
        loop {
            let number = self.number;
            let failed = |source| Error::Io { doing: format!("cannot read on after line {number}"), source };
            let Some((mut bytes, too_long)) = self.bytes().map_err(failed)? else { return Ok(None) };
            self.number += 1;
            let bad = |column: usize, reason: String| Error::Row {
                line: self.number,
                column: column as u64,
                field: String::new(),
                reason,
            };
            if too_long {
                return Err(bad(MAX_LINE_BYTES, format!("expected at most {MAX_LINE_BYTES} bytes in a line")));
            }
            if self.number == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
                bytes.drain(..3);
            }
            let text = String::from_utf8(bytes).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                bad(at + 1, "expected UTF-8".to_owned())
            })?;
            if !text.trim().is_empty() {
                return Ok(Some((self.number, text)));
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<(u64, String)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.read().transpose();
        self.is_over = matches!(next, None | Some(Err(Error::Io { .. })));
        next
    }
}

/// A string with the field it stands in, as spelt, and the column it starts in, from 1.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) name: String,
    pub(super) column: u64,
    pub(super) text: String,
}

/// Whole files, and where the first stands.
#[derive(Debug)]
pub(super) struct Proofs {
    pub(super) at: Value,
    pub(super) texts: Vec<String>,
}

/// What a row may say.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) name: Option<Value>,
    pub(super) header: Option<Value>,
    pub(super) formal_statement: Option<Value>,
    pub(super) proof: Option<Value>,
    pub(super) codes: Option<Proofs>,
}

/// Reads the fields of one line.
pub(super) fn fields(line: u64, text: &str) -> Result<Fields> {
    let current = RefCell::new(String::new());
    let mut input = serde_json::Deserializer::from_str(text);
    let fields = Row { current: &current, text }.deserialize(&mut input);
    let fields = fields.and_then(|fields| {
        current.borrow_mut().clear();
        input.end().map(|()| fields)
    });
    fields.map_err(|error| {
        let mut reason = error.to_string();
        // the position within the line is said apart
        reason.truncate(reason.rfind(" at line ").unwrap_or(reason.len()));
        if error.is_syntax() || error.is_eof() {
            reason = format!("expected a JSON object on one line: {reason}");
        }
        Error::Row { line, column: error.column().max(1) as u64, field: current.take(), reason }
    })
}

struct Row<'a> {
    /// The field being read.
    current: &'a RefCell<String>,
    text: &'a str,
}

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = Fields;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> std::result::Result<Fields, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `formal_statement` and `proof`, or with `full_code`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            self.current.replace(key.clone());
            let column = column_of(self.text, &key);
            let at = |text: String| Value { name: key.clone(), column, text };
            let once = |is_taken: bool| {
                if is_taken { Err(de::Error::custom("expected this only once in a row")) } else { Ok(()) }
            };
            match key.as_str() {
                "name" | "problem_id" => {
                    let name = map.next_value::<OneOrMany>()?.one().map_err(de::Error::custom)?;
                    // a row of Goedel-Prover-V2 has both
                    if key == "name" || fields.name.is_none() {
                        fields.name = name.map(at);
                    }
                }
                "header" => {
                    once(fields.header.is_some())?;
                    fields.header = map.next_value::<OneOrMany>()?.one().map_err(de::Error::custom)?.map(at);
                }
                "formal_statement" => {
                    once(fields.formal_statement.is_some())?;
                    fields.formal_statement = map.next_value::<OneOrMany>()?.one().map_err(de::Error::custom)?.map(at);
                }
                "proof" | "formal_proof" => {
                    once(fields.proof.is_some())?;
                    fields.proof = map.next_value::<OneOrMany>()?.one().map_err(de::Error::custom)?.map(at);
                }
                "full_code" | "full_proof" | "code" => {
                    once(fields.codes.is_some())?;
                    let texts = map.next_value::<OneOrMany>()?.0;
                    fields.codes = texts.map(|texts| Proofs { at: at(String::new()), texts });
                }
                _ => drop(map.next_value::<de::IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}

/// The column, from 1, of the value of a field: where its key is first written, or 1 where it is written with escapes.
fn column_of(text: &str, key: &str) -> u64 {
    let quoted = format!("\"{key}\"");
    let value = |(at, _): (usize, &str)| text[at + quoted.len()..].trim_start().strip_prefix(':').map(str::trim_start);
    let rest = text.match_indices(&quoted).find_map(value).unwrap_or(text);
    text[..text.len() - rest.len()].chars().count() as u64 + 1
}

/// A string, a list of strings, or `null`.
#[derive(Debug)]
struct OneOrMany(Option<Vec<String>>);

impl OneOrMany {
    fn one(self) -> std::result::Result<Option<String>, &'static str> {
        let Some(mut texts) = self.0 else { return Ok(None) };
        if texts.len() == 1 { Ok(texts.pop()) } else { Err("expected one string, got a list") }
    }
}

impl<'de> de::Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(input: D) -> std::result::Result<Self, D::Error> {
        struct Strings;

        impl<'de> Visitor<'de> for Strings {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<OneOrMany, E> {
                Ok(OneOrMany(Some(vec![text.to_owned()])))
            }

            fn visit_string<E: de::Error>(self, text: String) -> std::result::Result<OneOrMany, E> {
                Ok(OneOrMany(Some(vec![text])))
            }

            fn visit_unit<E: de::Error>(self) -> std::result::Result<OneOrMany, E> {
                Ok(OneOrMany(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<OneOrMany, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMany(Some(texts)))
            }
        }

        input.deserialize_any(Strings)
    }
}
