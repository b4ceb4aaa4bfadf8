//! How much a request may hold, seen before it is read: an empty message is two bytes, and a hundred times that once it is read.
//!
//! Not here: whether what is counted can be read.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::error::{Answer, Refusal};

/// Spans of a request.
pub(super) const MAX_SPANS: usize = 100_000;
/// Messages of a request: spans, and what is in them. Links, the largest kind but spans, take 50 MiB in memory then, by themselves.
const MAX_MESSAGES: usize = 500_000;
/// Messages in messages that are looked into; reading refuses deeper ones.
const MAX_DEPTH: usize = 100;

/// Refuses more spans than a request may have.
pub(super) fn check_spans(n_spans: usize) -> Answer<()> {
    if n_spans > MAX_SPANS { Err(too_many("spans", MAX_SPANS)) } else { Ok(()) }
}

fn too_many(what: &str, limit: usize) -> Refusal {
    Refusal::invalid(format!("The request has more than {limit} {what}: send fewer spans at a time."))
}

/// Messages of protobuf, by what may be in them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    ResourceSpans,
    ScopeSpans,
    Span,
    Event,
    Link,
    Status,
    KeyValue,
    AnyValue,
    Array,
    Map,
}

impl Kind {
    /// The message that a field holds, if it is one that is read.
    fn field(self, tag: u32) -> Option<Self> {
        Some(match (self, tag) {
            (Self::Request, 1) => Self::ResourceSpans,
            (Self::ResourceSpans, 2) => Self::ScopeSpans,
            (Self::ScopeSpans, 2) => Self::Span,
            (Self::Span, 9) | (Self::Event, 3) | (Self::Link, 4) | (Self::Map, 1) => Self::KeyValue,
            (Self::Span, 11) => Self::Event,
            (Self::Span, 13) => Self::Link,
            (Self::Span, 15) => Self::Status,
            (Self::KeyValue, 2) | (Self::Array, 1) => Self::AnyValue,
            (Self::AnyValue, 5) => Self::Array,
            (Self::AnyValue, 6) => Self::Map,
            _ => return None,
        })
    }
}

#[derive(Default)]
struct Counts {
    n_messages: usize,
    n_spans: usize,
}

impl Counts {
    fn add(&mut self, kind: Kind) -> Answer<()> {
        self.n_messages += 1;
        if self.n_messages > MAX_MESSAGES {
            return Err(too_many("messages", MAX_MESSAGES));
        }
        self.n_spans += usize::from(kind == Kind::Span);
        check_spans(self.n_spans)
    }

    /// Counts what is in a message. What cannot be read ends it: reading ends there too.
    fn walk(&mut self, kind: Kind, mut bytes: &[u8], depth: usize) -> Answer<()> {
        while !bytes.is_empty() {
            let Ok((tag, wire)) = decode_key(&mut bytes) else { return Ok(()) };
            let Some(inner) = kind.field(tag).filter(|_| wire == WireType::LengthDelimited) else {
                if skip_field(wire, tag, &mut bytes, DecodeContext::default()).is_err() {
                    return Ok(());
                }
                continue;
            };
            self.add(inner)?;
            let n_bytes = decode_varint(&mut bytes).ok().and_then(|n_bytes| usize::try_from(n_bytes).ok());
            let Some(n_bytes) = n_bytes else { return Ok(()) };
            // A message that ends early is read up to there.
            let (message, rest) = bytes.split_at(n_bytes.min(bytes.len()));
            if depth < MAX_DEPTH {
                self.walk(inner, message, depth + 1)?;
            }
            bytes = rest;
        }
        Ok(())
    }
}

/// Refuses a request in protobuf that holds too much.
pub(super) fn check_protobuf(body: &[u8]) -> Answer<()> {
    Counts::default().walk(Kind::Request, body, 0)
}

/// Refuses a request in JSON that holds too much: each message is an object, or a list of its fields.
pub(super) fn check_json(body: &[u8]) -> Answer<()> {
    let (mut n_messages, mut is_text) = (0, false);
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_text = !is_text,
            b'\\' if is_text => drop(bytes.next()),
            b'{' | b'[' if !is_text => n_messages += 1,
            _ => {}
        }
        if n_messages > MAX_MESSAGES {
            return Err(too_many("objects and lists", MAX_MESSAGES));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field with a message in it.
    fn field(tag: u8, message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag << 3 | 2];
        prost::encoding::encode_varint(message.len() as u64, &mut bytes);
        [bytes, message.to_vec()].concat()
    }

    fn refusal(answer: Answer<()>) -> String {
        answer.unwrap_err().message
    }

    #[test]
    fn spans_of_two_bytes_are_counted_before_they_are_read() {
        let request = |n: usize| field(1, &field(2, &field(2, b"").repeat(n)));
        check_protobuf(&request(MAX_SPANS)).unwrap();
        assert!(refusal(check_protobuf(&request(MAX_SPANS + 1))).contains("more than 100000 spans"));
        // In several scopes as well.
        let scope = field(2, &field(2, b"").repeat(MAX_SPANS / 2 + 1));
        assert!(refusal(check_protobuf(&field(1, &scope.repeat(2)))).contains("more than 100000 spans"));
    }

    #[test]
    fn what_is_in_spans_is_counted_wherever_it_is() {
        let span = |inner: Vec<u8>| field(1, &field(2, &field(2, &inner)));
        let many = |tag: u8| field(tag, b"").repeat(MAX_MESSAGES);
        let values = field(2, &field(5, &many(1)));
        for inner in
            [many(9), many(11), many(13), many(15), field(9, &values), field(11, &many(3)), field(13, &many(4))]
        {
            assert!(refusal(check_protobuf(&span(inner))).contains("more than 500000 messages"));
        }
        assert!(check_protobuf(&many(2)).is_ok(), "what is not read is not counted");
        // What cannot be read is left to reading; what comes before it is counted.
        for bytes in [&b"\x0a"[..], &[0xff; 40], b"{}", b"\x0a\xff\xff\xff\xff\x0f"] {
            check_protobuf(bytes).unwrap();
        }
        let cut = span(many(13));
        assert!(check_protobuf(&cut[..cut.len() - 1]).is_err());
    }

    #[test]
    fn as_many_as_there_may_be_take_no_more_than_is_said() {
        use crate::traces::otlp::messages::{Event, KeyValue, Link, ResourceSpans, ScopeSpans, Span};
        let kinds = [
            size_of::<Link>(),
            size_of::<Event>(),
            size_of::<KeyValue>(),
            size_of::<ResourceSpans>(),
            size_of::<ScopeSpans>(),
        ];
        assert!(kinds.iter().all(|n_bytes| n_bytes * MAX_MESSAGES <= 50 << 20), "{kinds:?}");
        assert!(size_of::<Span>() * MAX_SPANS <= 50 << 20);
    }

    #[test]
    fn objects_and_lists_are_counted_and_texts_are_not() {
        check_json("[".repeat(MAX_MESSAGES).as_bytes()).unwrap();
        for text in ["{},", "[],", "\"\\\\\":{},"] {
            assert!(refusal(check_json(text.repeat(MAX_MESSAGES + 1).as_bytes())).contains("more than 500000 objects"));
        }
        check_json(format!("\"\\\"{}\"", "{[".repeat(MAX_MESSAGES)).as_bytes()).unwrap();
    }
}
