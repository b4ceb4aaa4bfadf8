//! Tokens to a tree: recursive descent with Lean's precedences and its two rules about space (an argument needs space
//! before it, and after `have` an argument on a later line must stand to the right of the `have`).

use super::{
    List, MAX_DEPTH, Node, NodeId, Span, Stop, TOO_DEEP, Tree, column, is_reserved,
    lexer::{Kind, Token, tokenize},
};

/// Binding powers as Lean declares them: `↔` 20, `→` 25, `∨` 30, `∧` 35, `¬` 40, application above all.
const LOWEST: u8 = 0;
const NOT: u8 = 40;

/// `(a b : ty)` of a statement.
pub(crate) struct BinderGroup {
    pub(crate) names: Vec<Span>,
    pub(crate) ty: NodeId,
}

/// Parses one text after another into a tree of its own.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    pub(crate) tree: Tree,
    tokens: Vec<Token>,
    next: usize,
    /// Recursion so far.
    depth: u16,
    /// One past the column right of which arguments must start; 0 where they may start anywhere.
    margin: u32,
    /// Items of lists not yet closed.
    pending: Vec<NodeId>,
    /// Binders of functions not yet closed.
    binders: Vec<(Span, Option<NodeId>)>,
}

type Parsed = Result<NodeId, Stop>;

impl Parser {
    /// Parses all of `text` as one term.
    pub(crate) fn term(&mut self, text: &str) -> Parsed {
        self.start(text)?;
        let root = self.expression(text, LOWEST)?;
        self.expect(Kind::End, "expected the end of the text")?;
        Ok(root)
    }

    /// Parses `theorem NAME BINDERS : TYPE`; gives the name, the binders and the type.
    pub(crate) fn statement(&mut self, text: &str) -> Result<(Span, Vec<BinderGroup>, NodeId), Stop> {
        self.start(text)?;
        let word = self.expect(Kind::Ident, "expected `theorem`")?;
        if !matches!(word.of(text), "theorem" | "lemma") {
            return Err(Stop::unparsed(word.start, "expected `theorem`"));
        }
        let name = self.expect(Kind::Ident, "expected the name of the theorem")?;
        if is_reserved(name.of(text)) {
            return Err(Stop::unparsed(name.start, "expected the name of the theorem"));
        }
        let mut groups = Vec::new();
        while let Some(close) = match self.kind() {
            Kind::Open => Some(Kind::Close),
            Kind::OpenBrace => Some(Kind::CloseBrace),
            _ => None,
        } {
            self.next += 1;
            self.binder_names(text)?;
            let names = self.binders.drain(..).map(|(name, _)| name).collect();
            self.expect(Kind::Colon, "expected `:` and the type of the binder")?;
            let ty = self.expression(text, LOWEST)?;
            self.expect(close, "expected the closing bracket of the binder")?;
            groups.push(BinderGroup { names, ty });
        }
        self.expect(Kind::Colon, "expected `:` and what is to be proved")?;
        let ty = self.expression(text, LOWEST)?;
        self.expect(Kind::End, "expected the end of the statement")?;
        Ok((name, groups, ty))
    }

    fn start(&mut self, text: &str) -> Result<(), Stop> {
        self.tree.clear();
        self.pending.clear();
        self.binders.clear();
        (self.next, self.depth, self.margin) = (0, 0, 0);
        tokenize(text, &mut self.tokens)
    }

    fn token(&self) -> Token {
        self.tokens[self.next]
    }

    fn kind(&self) -> Kind {
        self.token().kind
    }

    // A plain branch: rustc 1.95.0 loses the step of `self.next += usize::from(found)` once this is inlined with a
    // constant (its pass SimplifyComparisonIntegral drops a comparison that is both converted and branched on).
    fn take(&mut self, kind: Kind) -> bool {
        if self.kind() != kind {
            return false;
        }
        self.next += 1;
        true
    }

    fn expect(&mut self, kind: Kind, reason: &'static str) -> Result<Span, Stop> {
        let Token { start, end, .. } = self.token();
        if self.kind() != kind {
            return Err(Stop::unparsed(start, reason));
        }
        // the closing `End` stays, so that there always is a next token
        if kind != Kind::End {
            self.next += 1;
        }
        Ok(Span { start, end })
    }

    fn span_from(&self, start: u32) -> Span {
        Span { start, end: self.tokens[self.next.saturating_sub(1)].end }
    }

    /// Whether white space stands before the next token.
    fn spaced(&self) -> bool {
        self.next == 0 || self.tokens[self.next - 1].end < self.token().start
    }

    /// A term whose outermost operator binds at least as strongly as `power`.
    fn expression(&mut self, text: &str, power: u8) -> Parsed {
        if self.depth >= MAX_DEPTH {
            return Err(Stop::unparsed(self.token().start, TOO_DEEP));
        }
        self.depth += 1;
        let start = self.token().start;
        let mut left = match self.kind() {
            Kind::Have => self.have(text)?,
            Kind::Show => self.show(text)?,
            _ => self.application(text)?,
        };
        // the power of what stands on the left: an operator's left side must bind more strongly than itself
        let mut bound = u8::MAX;
        loop {
            let (own, right): (u8, u8) = match self.kind() {
                Kind::Iff => (20, 21),
                Kind::Arrow => (25, 25),
                Kind::Or => (30, 30),
                Kind::And => (35, 35),
                _ => break,
            };
            if own < power || bound <= own {
                break;
            }
            let kind = self.kind();
            self.next += 1;
            let right = self.expression(text, right)?;
            let node = match kind {
                Kind::Iff => Node::Iff(left, right),
                Kind::Arrow => Node::Arrow(left, right),
                Kind::Or => Node::Or(left, right),
                _ => Node::And(left, right),
            };
            left = self.tree.push(node, self.span_from(start))?;
            bound = own;
        }
        self.depth -= 1;
        Ok(left)
    }

    /// A head and its arguments.
    fn application(&mut self, text: &str) -> Parsed {
        let start = self.token().start;
        let head = self.atom(text)?;
        let first = self.pending.len();
        while self.argument_follows(text) {
            let argument = self.atom(text)?;
            self.pending.push(argument);
        }
        if self.pending.len() == first {
            return Ok(head);
        }
        let args = self.close_list(first);
        self.tree.push(Node::App { fun: head, args }, self.span_from(start))
    }

    fn close_list(&mut self, first: usize) -> List {
        let list = self.tree.push_list(&self.pending[first..]);
        self.pending.truncate(first);
        list
    }

    fn argument_follows(&self, text: &str) -> bool {
        let starts = matches!(self.kind(), Kind::Ident | Kind::Open | Kind::OpenAngle | Kind::Fun | Kind::Not);
        starts && self.spaced() && (self.margin == 0 || column(text, self.token().start as usize) + 1 > self.margin)
    }

    /// A name, a bracketed term, `fun` or `¬`, with the projections that follow it.
    fn atom(&mut self, text: &str) -> Parsed {
        let token = self.token();
        let span = Span { start: token.start, end: token.end };
        let mut term = match token.kind {
            Kind::Ident => {
                self.next += 1;
                self.name_node(text, span)?
            }
            Kind::Open => self.parenthesis(text)?,
            Kind::OpenAngle => self.anonymous(text)?,
            Kind::Fun => return self.fun(text),
            Kind::Not => {
                self.next += 1;
                let inner = self.expression(text, NOT)?;
                return self.tree.push(Node::Not(inner), self.span_from(span.start));
            }
            _ => return Err(Stop::unparsed(token.start, "expected a term")),
        };
        while self.kind() == Kind::Field && !self.spaced() {
            let Token { start, end, .. } = self.token();
            self.next += 1;
            let name = Span { start: start + 1, end };
            term = self.tree.push(Node::Field { of: term, name }, self.span_from(span.start))?;
        }
        Ok(term)
    }

    fn name_node(&mut self, text: &str, span: Span) -> Parsed {
        let word = span.of(text);
        if word == "sorry" || word == "admit" {
            return Err(Stop { outcome: crate::Outcome::Sorry, at: span.start, reason: "the proof leaves a hole" });
        }
        if word == "_" || word.split('.').any(is_reserved) {
            return Err(Stop::unparsed(span.start, "this word is outside the fragment"));
        }
        self.tree.push(Node::Ident, span)
    }

    /// Runs `parse` where arguments may start in any column, as within brackets.
    fn without_margin(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        let margin = std::mem::take(&mut self.margin);
        let result = parse(self);
        self.margin = margin;
        result
    }

    fn parenthesis(&mut self, text: &str) -> Parsed {
        self.without_margin(|parser| {
            let start = parser.token().start;
            parser.next += 1;
            let value = parser.expression(text, LOWEST)?;
            if parser.take(Kind::Close) {
                return Ok(value);
            }
            parser.expect(Kind::Colon, "expected `)`")?;
            let ty = parser.expression(text, LOWEST)?;
            parser.expect(Kind::Close, "expected `)`")?;
            parser.tree.push(Node::Typed { ty, value }, parser.span_from(start))
        })
    }

    fn anonymous(&mut self, text: &str) -> Parsed {
        self.without_margin(|parser| {
            let start = parser.token().start;
            parser.next += 1;
            let first = parser.pending.len();
            if !parser.take(Kind::CloseAngle) {
                loop {
                    let item = parser.expression(text, LOWEST)?;
                    parser.pending.push(item);
                    if parser.take(Kind::CloseAngle) {
                        break;
                    }
                    parser.expect(Kind::Comma, "expected `,` or `⟩`")?;
                }
            }
            let args = parser.close_list(first);
            parser.tree.push(Node::Anonymous { args }, parser.span_from(start))
        })
    }

    /// Takes one or more names that Lean allows for a variable.
    fn binder_names(&mut self, text: &str) -> Result<(), Stop> {
        let first = self.binders.len();
        while self.kind() == Kind::Ident {
            let Token { start, end, .. } = self.token();
            let name = Span { start, end };
            check_binder(name.of(text), start)?;
            self.binders.push((name, None));
            self.next += 1;
        }
        if self.binders.len() == first {
            return Err(Stop::unparsed(self.token().start, "expected the name of a variable"));
        }
        Ok(())
    }

    fn fun(&mut self, text: &str) -> Parsed {
        let start = self.token().start;
        self.next += 1;
        let first = self.binders.len();
        loop {
            let group = self.binders.len();
            match self.kind() {
                Kind::Ident => self.binder_names(text)?,
                Kind::Open => {
                    self.next += 1;
                    self.binder_names(text)?;
                    if self.take(Kind::Colon) {
                        let ty = self.without_margin(|parser| parser.expression(text, LOWEST))?;
                        self.binders[group..].iter_mut().for_each(|binder| binder.1 = Some(ty));
                    }
                    self.expect(Kind::Close, "expected `)`")?;
                }
                Kind::Colon if group > first && self.binders[first..].iter().all(|(_, ty)| ty.is_none()) => {
                    self.next += 1;
                    let ty = self.expression(text, LOWEST)?;
                    self.binders[first..].iter_mut().for_each(|binder| binder.1 = Some(ty));
                    break;
                }
                _ => break,
            }
        }
        if self.binders.len() == first {
            return Err(Stop::unparsed(self.token().start, "expected the name of a variable"));
        }
        self.expect(Kind::Maps, "expected `=>`")?;
        let mut body = self.expression(text, LOWEST)?;
        while self.binders.len() > first
            && let Some((name, ty)) = self.binders.pop()
        {
            body = self.tree.push(Node::Fun { name, ty, body }, self.span_from(start))?;
        }
        Ok(body)
    }

    fn have(&mut self, text: &str) -> Parsed {
        let start = self.token().start;
        self.next += 1;
        let margin = std::mem::replace(&mut self.margin, column(text, start as usize) + 1);
        // `have : ty := …` names its fact `this`; an empty span stands for it
        let name = match self.kind() {
            Kind::Ident => {
                let Token { start, end, .. } = self.token();
                self.next += 1;
                let name = Span { start, end };
                check_binder(name.of(text), start)?;
                name
            }
            _ => Span { start: self.token().start, end: self.token().start },
        };
        let ty = if self.take(Kind::Colon) { Some(self.expression(text, LOWEST)?) } else { None };
        self.expect(Kind::Assign, "expected `:=`")?;
        let value = self.expression(text, LOWEST)?;
        self.margin = margin;
        self.take(Kind::Semicolon);
        let body = self.expression(text, LOWEST)?;
        self.tree.push(Node::Have { name, ty, value, body }, self.span_from(start))
    }

    fn show(&mut self, text: &str) -> Parsed {
        let start = self.token().start;
        self.next += 1;
        let ty = self.expression(text, LOWEST)?;
        self.expect(Kind::From, "expected `from`")?;
        let value = self.expression(text, LOWEST)?;
        self.tree.push(Node::Typed { ty, value }, self.span_from(start))
    }
}

/// A variable is a plain word that neither Lean nor this crate gives a meaning of its own.
fn check_binder(name: &str, at: u32) -> Result<(), Stop> {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && !name.contains(['.', '!', '?']);
    if !plain || is_reserved(name) || matches!(name, "id" | "absurd" | "trivial") {
        return Err(Stop::unparsed(at, "expected the name of a variable"));
    }
    Ok(())
}
