//! Lean text seen as words, brackets, strings and comments: enough to cut it and to find forbidden words, never to
//! understand it.
//!
//! Invariant: where it is doubtful whether something is a comment, reading fails, so nothing can hide in one.

/// Lean text with its comments, and apart from them its strings, blanked out byte by byte.
#[derive(Debug)]
pub(crate) struct Code<'t> {
    text: &'t str,
    /// Whether each byte is code, within a string, or within a comment.
    kinds: Vec<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Code,
    String,
    Comment,
}

/// A maximal run of letters, digits and `_ ' ! ?`; dots separate words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<'t> {
    pub(crate) text: &'t str,
    pub(crate) start: usize,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '\'' | '!' | '?' | '₀'..='₉')
}

impl<'t> Code<'t> {
    /// Reads `text`.
    ///
    /// # Errors
    /// What reaches past the end of the text or cannot be told apart.
    pub(crate) fn read(text: &'t str) -> Result<Self, &'static str> {
        let bytes = text.as_bytes();
        let mut kinds = vec![Kind::Code; bytes.len()];
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let (kind, len) = if rest.starts_with(b"--") || rest.starts_with(b"/-") {
                let before = text[..at].chars().next_back();
                let plain = before.is_none_or(|c| c.is_whitespace() || is_word(c) || "()[]{}⟨⟩,;:=".contains(c));
                if !plain || rest.starts_with(b"-->") {
                    return Err("a comment starts within an operator");
                }
                (Kind::Comment, if rest.starts_with(b"--") { line_comment(rest) } else { block_comment(rest)? })
            } else if let Some(hashes) = raw_string(text, at) {
                (Kind::String, hashes + 2 + raw_string_body(&rest[hashes + 2..], hashes)?)
            } else if rest[0] == b'"' {
                (Kind::String, string(rest)?)
            } else if let Some(len) = char_literal(text, at) {
                (Kind::String, len)
            } else if rest.starts_with("«".as_bytes()) {
                (Kind::Code, text[at..].find('»').ok_or("a quoted name does not end")? + '»'.len_utf8())
            } else {
                (Kind::Code, text[at..].chars().next().map_or(1, char::len_utf8))
            };
            kinds[at..at + len].fill(kind);
            at += len;
        }
        Ok(Self { text, kinds })
    }

    /// The words outside comments. Those within strings count, since strings may be interpolated.
    pub(crate) fn words(&self) -> impl Iterator<Item = Word<'t>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let is_part =
                |(i, c): &(usize, char)| (c.is_alphanumeric() || *c == '_') && self.kinds[at + i] != Kind::Comment;
            let (skip, _) = self.text[at..].char_indices().find(is_part)?;
            let start = at + skip;
            let is_end = |(i, c): &(usize, char)| !is_word(*c) || self.kinds[start + i] == Kind::Comment;
            let len = self.text[start..].char_indices().find(is_end).map_or(self.text.len() - start, |(i, _)| i);
            at = start + len;
            Some(Word { text: &self.text[start..at], start })
        })
    }

    /// Whether `needle` stands anywhere outside comments.
    pub(crate) fn contains(&self, needle: &str) -> bool {
        self.text.match_indices(needle).any(|(at, _)| self.kinds[at] != Kind::Comment)
    }

    /// The text without the white space and the comments at its end.
    pub(crate) fn without_last_comments(&self) -> &'t str {
        let is_code = |(at, c): &(usize, char)| self.kinds[*at] != Kind::Comment && !c.is_whitespace();
        let last = self.text.char_indices().rev().find(is_code);
        &self.text[..last.map_or(0, |(at, c)| at + c.len_utf8())]
    }

    /// Where `needle` first stands at or after `from` outside all brackets, strings and comments.
    pub(crate) fn top_level(&self, from: usize, needle: &str) -> Option<usize> {
        let mut depth = 0_u32;
        for (i, c) in self.text[from..].char_indices() {
            if self.kinds[from + i] != Kind::Code {
                continue;
            }
            match c {
                '(' | '[' | '{' | '⟨' | '⦃' => depth += 1,
                ')' | ']' | '}' | '⟩' | '⦄' => depth = depth.saturating_sub(1),
                _ if depth == 0 && self.text[from + i..].starts_with(needle) => return Some(from + i),
                _ => {}
            }
        }
        None
    }
}

fn line_comment(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

fn block_comment(rest: &[u8]) -> Result<usize, &'static str> {
    let (mut depth, mut at) = (0_u32, 0);
    while at + 1 < rest.len() {
        match &rest[at..at + 2] {
            b"/-" => (depth, at) = (depth + 1, at + 2),
            b"-/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Ok(at);
        }
    }
    Err("a comment does not end")
}

fn string(rest: &[u8]) -> Result<usize, &'static str> {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'"' => return Ok(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Err("a string does not end")
}

/// Number of `#` of a raw string that starts at `at`.
fn raw_string(text: &str, at: usize) -> Option<usize> {
    let rest = text[at..].strip_prefix('r')?;
    if text[..at].chars().next_back().is_some_and(is_word) {
        return None;
    }
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    (rest.as_bytes().get(hashes) == Some(&b'"')).then_some(hashes)
}

fn raw_string_body(rest: &[u8], hashes: usize) -> Result<usize, &'static str> {
    let is_end = |window: &[u8]| window[0] == b'"' && window[1..].iter().all(|byte| *byte == b'#');
    let end = rest.windows(hashes + 1).position(is_end).ok_or("a string does not end")?;
    Ok(end + hashes + 1)
}

/// Length of a character literal such as `'('` or `'\n'`; primes of names are none.
fn char_literal(text: &str, at: usize) -> Option<usize> {
    let inner = text[at..].strip_prefix('\'')?;
    if text[..at].chars().next_back().is_some_and(is_word) {
        return None;
    }
    let mut chars = inner.char_indices();
    let (_, first) = chars.next()?;
    let close = if first == '\\' {
        chars.next()?;
        chars.take(8).find(|(_, c)| *c == '\'')?.0
    } else {
        chars.next().filter(|(_, c)| *c == '\'')?.0
    };
    Some(close + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        Code::read(text).unwrap().words().map(|word| word.text).collect()
    }

    #[test]
    fn comments_hide_words_and_strings_do_not() {
        assert_eq!(
            words("a -- b\nc /- d /- e -/ f -/ g.h' s!\"{k}\" r#\"m\"\"#"),
            ["a", "c", "g", "h'", "s!", "k", "r", "m"]
        );
        assert_eq!(words("'\"' a '\\'' b x' '\\u{41}'"), ["a", "b", "x'", "u", "41"]);
    }

    #[test]
    fn what_does_not_end_is_an_error() {
        for text in ["/- a", "/- /- -/", "\"a", "\"a\\\"", "r#\"a\"", "«a", "a -->b", "+-- b", "+/- b -/"] {
            assert!(Code::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_top_level_is_outside_brackets_strings_and_comments() {
        let text = "(a : b) [c : d] \":\" /- : -/ ⟨:⟩ x : y";
        assert_eq!(Code::read(text).unwrap().top_level(0, ":"), text.rfind(" : y").map(|at| at + 1));
        assert_eq!(Code::read("(:").unwrap().top_level(0, ":"), None);
    }
}
