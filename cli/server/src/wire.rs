//! From bytes of a request to typed parameters, and from values to JSON.
//!
//! Numbers may come as numbers or as texts, as protobuf's JSON has it; a query's parameters are texts that may repeat. What is wrong is
//! named by its parameter, in the protocol's words.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Answer, Code, Refusal};

/// What a handler is given.
pub(crate) struct Request<'a> {
    /// What follows the question mark.
    pub(crate) query: &'a str,
    /// The body; `None` if the request has none by its nature.
    pub(crate) body: Option<&'a [u8]>,
    /// Parts of the path that name something, in order.
    pub(crate) args: &'a [String],
}

impl Request<'_> {
    /// The parameters, from the query or the body.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Answer<T> {
        match self.body {
            None => from_query(self.query),
            // A client that deletes may say what in either.
            Some(body) if body.is_empty() && !self.query.is_empty() => from_query(self.query),
            Some(body) => from_json(body),
        }
    }

    /// The `nth` part of the path that names something.
    pub(crate) fn arg(&self, nth: usize) -> &str {
        self.args.get(nth).map_or("", String::as_str)
    }
}

fn from_query<T: DeserializeOwned>(query: &str) -> Answer<T> {
    let parsed = serde_html_form::Deserializer::from_bytes(query.as_bytes());
    serde_path_to_error::deserialize(parsed).map_err(|error| {
        let parameter = first(error.path());
        let pairs: Vec<(String, String)> = serde_html_form::from_str(query).unwrap_or_default();
        let value = pairs
            .into_iter()
            .find(|(key, _)| *key == parameter)
            .map_or(serde_json::Value::Null, |(_, value)| value.into());
        Refusal::invalid_value(&value, &parameter, &error.into_inner().to_string())
    })
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    // A list would be taken for the fields of a struct, in order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return explained(body);
    }
    serde_json::from_slice(body).or_else(|_| explained(body))
}

/// Reads a body again that could not be read, to name the parameter that is wrong.
fn explained<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    let whole: serde_json::Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::new(Code::BadRequest, format!("The body is not valid JSON: {error}.")))?;
    if !whole.is_object() {
        return Err(Refusal::new(Code::BadRequest, "The body is not a JSON object."));
    }
    serde_path_to_error::deserialize(&whole).map_err(|error| {
        let parameter = first(error.path());
        let value = whole.get(&parameter).cloned().unwrap_or_default();
        Refusal::invalid_value(&value, &parameter, &error.into_inner().to_string())
    })
}

/// The parameter that a path leads through.
fn first(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let key = path.iter().find_map(|segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        _ => None,
    });
    key.unwrap_or_else(|| path.to_string())
}

/// The value of a parameter that must be there and not empty.
pub(crate) fn need<'a>(value: Option<&'a String>, parameter: &str) -> Answer<&'a str> {
    value.map(String::as_str).filter(|value| !value.is_empty()).ok_or_else(|| Refusal::missing(parameter))
}

/// A whole number, written as one or as a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Int(pub(crate) i64);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Int;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Int, E> {
                Ok(Int(number))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Int, E> {
                i64::try_from(number).map(Int).map_err(|_| E::custom("a whole number of 64 bits is expected"))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Int, E> {
                let is_whole = number.fract() == 0.0 && number.abs() < 9.0e18;
                if is_whole { Ok(Int(number as i64)) } else { Err(E::custom("a whole number is expected")) }
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Int, E> {
                text.parse().map(Int).map_err(|_| E::custom("a whole number is expected"))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A number; NaN and infinities are texts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Num(pub(crate) f64);

impl<'de> Deserialize<'de> for Num {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Num;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Num, E> {
                Ok(Num(number as f64))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Num, E> {
                Ok(Num(number as f64))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Num, E> {
                Ok(Num(number))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Num, E> {
                text.parse().map(Num).map_err(|_| E::custom("a number is expected"))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl Serialize for Num {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            number if number.is_finite() => serializer.serialize_f64(number),
            number if number.is_nan() => serializer.serialize_str("NaN"),
            number if number > 0.0 => serializer.serialize_str("Infinity"),
            _ => serializer.serialize_str("-Infinity"),
        }
    }
}

/// A yes or a no, written as one or as a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Bool(bool),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Bool(flag) => Ok(Self(flag)),
            Either::Text(text) if text.eq_ignore_ascii_case("true") => Ok(Self(true)),
            Either::Text(text) if text.eq_ignore_ascii_case("false") => Ok(Self(false)),
            Either::Text(_) => Err(D::Error::custom("true or false is expected")),
        }
    }
}

/// A key with a text: a param, a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pair {
    #[serde(default)]
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) value: String,
}

/// Keys with texts as a list of pairs.
pub(crate) fn pairs(texts: &std::collections::BTreeMap<String, String>) -> Vec<Pair> {
    texts.iter().map(|(key, value)| Pair { key: key.clone(), value: value.clone() }).collect()
}

/// The answer that says nothing but that it is done.
pub(crate) fn done() -> Vec<u8> {
    b"{}".to_vec()
}

/// The JSON of a value that can always be written.
pub(crate) fn json<T: Serialize>(value: &T) -> Answer<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Refusal::new(Code::InternalError, format!("could not write an answer: {error}")))
}

/// Adds the JSON of a value that can always be written.
pub(crate) fn write_json<T: Serialize>(text: &mut Vec<u8>, value: &T) -> Answer<()> {
    serde_json::to_writer(text, value)
        .map_err(|error| Refusal::new(Code::InternalError, format!("could not write an answer: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Asked {
        name: Option<String>,
        n: Option<Int>,
        x: Option<Num>,
        ids: Vec<String>,
        is_it: Option<Flag>,
    }

    fn read(query: &str, body: Option<&str>) -> Answer<Asked> {
        Request { query, body: body.map(str::as_bytes), args: &[] }.read()
    }

    #[test]
    fn numbers_come_as_numbers_or_texts_and_lists_by_repetition() {
        let expected = Asked {
            name: Some("a b".to_owned()),
            n: Some(Int(-7)),
            x: Some(Num(0.5)),
            ids: vec!["1".to_owned(), "2".to_owned()],
            is_it: Some(Flag(true)),
        };
        assert_eq!(read("name=a%20b&n=-7&x=0.5&ids=1&ids=2&is_it=True", None).unwrap(), expected);
        let body = r#"{"name": "a b", "n": "-7", "x": 0.5, "ids": ["1", "2"], "is_it": true, "other": {}}"#;
        assert_eq!(read("", Some(body)).unwrap(), expected);
        assert_eq!(read("ids=1", None).unwrap().ids, ["1"]);
        assert!(read("", Some(r#"{"x": "NaN"}"#)).unwrap().x.unwrap().0.is_nan());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_value() {
        for (body, expected) in [
            (r#"{"name": 5}"#, "Invalid value 5 for parameter 'name' supplied"),
            (r#"{"ids": "1"}"#, "Invalid value \"1\" for parameter 'ids' supplied"),
            (r#"{"n": 1.5}"#, "Invalid value 1.5 for parameter 'n' supplied"),
            (r#"{"n": "x"}"#, "Invalid value \"x\" for parameter 'n' supplied"),
            (r#"{"ids": [1, 2]}"#, "Invalid value [1,2] for parameter 'ids' supplied"),
            ("[]", "not a JSON object"),
            ("{", "not valid JSON"),
            ("\u{fffd}", "not valid JSON"),
        ] {
            let refusal = read("", Some(body)).unwrap_err();
            assert!(refusal.message.contains(expected), "{body}: {}", refusal.message);
            assert_eq!(refusal.status().as_u16(), 400);
        }
        let refusal = read("n=x", None).unwrap_err();
        assert!(refusal.message.contains("Invalid value \"x\" for parameter 'n' supplied"), "{}", refusal.message);
    }

    #[test]
    fn numbers_that_json_cannot_write_are_texts() {
        let texts = [1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
            .map(|number| serde_json::to_string(&Num(number)).unwrap());
        assert_eq!(texts, ["1.0", "\"NaN\"", "\"Infinity\"", "\"-Infinity\""]);
    }
}
