//! Candidates as one Lean file, each in a line range and under a name of its own that nobody can guess.

use super::scan::Code;

/// A statement cut where it must be cut to be renamed and pinned; nothing in it is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts<'t> {
    /// `theorem` or `lemma`.
    keyword: &'t str,
    /// `.{u, v}` or nothing.
    universes: &'t str,
    binders: &'t str,
    ty: &'t str,
}

impl<'t> Parts<'t> {
    /// Cuts `theorem NAME BINDERS : TYPE`; `code` is the reading of `text`.
    pub(super) fn of(code: &Code, text: &'t str) -> Result<Self, &'static str> {
        let first = code.words().next().ok_or("expected `theorem`")?;
        let keyword = &text[first.start..first.start + first.text.len()];
        if !matches!(keyword, "theorem" | "lemma") || !text[..first.start].trim().is_empty() {
            return Err("expected `theorem`");
        }
        let after = first.start + keyword.len();
        let start = after + (text[after..].len() - text[after..].trim_start().len());
        let name_end = text[start..]
            .find(|c: char| c.is_whitespace() || "({[⦃:".contains(c))
            .map(|end| start + end)
            .ok_or("expected `:` and what is to be proved")?;
        if start == after || name_end == start {
            return Err("expected the name of the theorem");
        }
        let mut rest = name_end;
        if text[..name_end].ends_with('.') && text[name_end..].starts_with('{') {
            rest = name_end + text[name_end..].find('}').ok_or("expected `}`")? + 1;
        }
        let universes = if rest > name_end { &text[name_end - 1..rest] } else { "" };
        let colon = code.top_level(rest, ":").ok_or("expected `:` and what is to be proved")?;
        if code.top_level(rest, ":=").is_some() {
            return Err("expected a statement without `:=`");
        }
        Ok(Self { keyword, universes, binders: text[rest..colon].trim(), ty: text[colon + 1..].trim() })
    }
}

/// What is written for each candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The theorem and the question after its axioms.
    Screen,
    /// The same, with the statement also as a definition before it and used at that type after it.
    Confirm,
    /// The statement alone, as a definition.
    Compile,
}

/// Where one candidate stands: lines from 1, both ends included.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) name: String,
    pub(super) first: u32,
    /// Where the theorem itself begins and the pinning definition has ended.
    pub(super) theorem: u32,
    /// Where its second use begins.
    pub(super) again: u32,
    /// The line of `#print axioms`, the last.
    pub(super) last: u32,
}

/// A Lean file being written.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) text: String,
    line: u32,
    pub(super) placed: Vec<Placed>,
}

impl Source {
    pub(super) fn new(header: &str) -> Self {
        let mut source = Self { text: String::with_capacity(header.len() + 4096), line: 1, placed: Vec::new() };
        source.push(header);
        source.push("\n");
        source
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.line += text.bytes().filter(|byte| *byte == b'\n').count() as u32;
    }

    /// Adds a candidate. `nonce` is drawn anew for each file.
    pub(super) fn add(&mut self, parts: &Parts, proof: &str, form: Form, nonce: &str) {
        let Parts { keyword, universes, binders, ty } = *parts;
        let name = format!("tk_{nonce}_{}", self.placed.len());
        let first = self.line;
        if form != Form::Screen {
            let all = if binders.is_empty() { String::new() } else { format!("∀ {binders}\n,\n") };
            self.push(&format!("def {name}_pin{universes} : Prop :=\n{all}{ty}\n"));
        }
        let theorem = self.line;
        if form != Form::Compile {
            // each part ends its line, since it may end in a comment; the proof starts in column 0
            self.push(&format!("{keyword} {name}{universes} {binders}\n:\n{ty}\n:=\n{proof}\n"));
        }
        let again = self.line;
        if form == Form::Confirm {
            self.push(&format!("{keyword} {name}_use{universes} : {name}_pin{universes} :=\n@{name}{universes}\n"));
        }
        let asked = if form == Form::Compile { format!("{name}_pin") } else { name };
        self.push(&format!("#print axioms {asked}"));
        let last = self.line;
        self.push("\n");
        self.placed.push(Placed { name: asked, first, theorem, again, last });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Result<Parts<'_>, &'static str> {
        Parts::of(&Code::read(text).unwrap(), text)
    }

    #[test]
    fn statements_are_cut_outside_brackets() {
        let cut = parts("theorem foo.bar' (x : Nat := 0) {α : Type} [Foo α] (s : String)\n  : s = \":\" ").unwrap();
        assert_eq!((cut.binders, cut.ty), ("(x : Nat := 0) {α : Type} [Foo α] (s : String)", "s = \":\""));
        let cut = parts("theorem foo.{u, v} (α : Sort u) : True").unwrap();
        assert_eq!((cut.universes, cut.binders), (".{u, v}", "(α : Sort u)"));
        assert_eq!(parts("lemma foo: True").unwrap().ty, "True");
        for text in
            ["", "theorem", "theorem foo", "def foo : Nat", "theorem foo : p := h", "x theorem foo : p", "theorem : p"]
        {
            assert!(parts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn line_ranges_follow_each_other_without_overlap() {
        let text = "theorem foo (p : Prop)\n  : p → p";
        let parts = parts(text).unwrap();
        for form in [Form::Screen, Form::Confirm, Form::Compile] {
            let mut source = Source::new("import Foo\n");
            source.add(&parts, "fun x =>\n x", form, "0");
            source.add(&parts, "id", form, "0");
            let lines: Vec<&str> = source.text.lines().collect();
            for placed in &source.placed {
                assert_eq!(lines[placed.last as usize - 1], format!("#print axioms {}", placed.name));
            }
            assert_eq!(source.placed[0].last + 1, source.placed[1].first);
        }
    }
}
