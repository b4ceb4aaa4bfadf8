//! Tokens to a tree: recursive descent with Lean's precedences and its two rules about space (an argument needs space
//! before it, and after `have` an argument on a later line must stand to the right of the `have`).

mod binders;

use self::binders::check_binder;
use super::{
    List, MAX_DEPTH, Node, NodeId, Span, Stop, TOO_DEEP, Tree, column, is_reserved,
    lexer::{Kind, Token, tokenize},
};

/// Binding powers as Lean declares them: `↔` 20, `→` 25, `∨` 30, `∧` 35, `¬` 40, `=` and `≠` 50, application above all.
const LOWEST: u8 = 0;
const ARROW: u8 = 25;
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
    /// Where the text first uses notation that Lean's library declares, if it does.
    pub(crate) notation: Option<u32>,
    /// Where an argument outside brackets first stands at the start of a line, if one does: a new command, to Lean.
    pub(crate) ragged: Option<u32>,
    tokens: Vec<Token>,
    next: usize,
    /// Recursion so far.
    depth: u16,
    /// One past the column right of which arguments must start; 0 where they may start anywhere.
    margin: u32,
    /// Brackets not yet closed within which the margin does not count.
    brackets: u32,
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
            let ty = self.without_margin(|parser| parser.expression(text, LOWEST))?;
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
        (self.notation, self.ragged) = (None, None);
        (self.next, self.depth, self.brackets, self.margin) = (0, 0, 0, 0);
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

    fn note_notation(&mut self) {
        let at = self.token().start;
        self.notation.get_or_insert(at);
    }

    fn span_from(&self, start: u32) -> Span {
        Span { start, end: self.tokens[self.next.saturating_sub(1)].end }
    }

    /// Whether white space stands before the next token.
    fn spaced(&self) -> bool {
        self.next == 0 || self.tokens[self.next - 1].end < self.token().start
    }

    /// Whether a line break stands before the next token.
    fn on_new_line(&self, text: &str) -> bool {
        let end = self.next.checked_sub(1).map_or(0, |last| self.tokens[last].end);
        text[end as usize..self.token().start as usize].contains('\n')
    }

    /// A term whose outermost operator binds at least as strongly as `power`.
    fn expression(&mut self, text: &str, power: u8) -> Parsed {
        if self.depth >= MAX_DEPTH {
            return Err(Stop::unparsed(self.token().start, TOO_DEEP));
        }
        self.depth += 1;
        let Token { start, kind: first, .. } = self.token();
        let mut left = match first {
            Kind::Have => self.have(text)?,
            Kind::Show => self.show(text)?,
            Kind::Forall => self.forall(text)?,
            Kind::Exists => self.exists(text)?,
            _ => self.application(text)?,
        };
        if first == Kind::Open && power <= ARROW && self.kind() == Kind::Arrow && self.is_binder(text, left) {
            left = self.dependent_arrow(text, left)?;
        }
        // the power of what stands on the left: an operator's left side must bind more strongly than itself
        let mut bound = u8::MAX;
        loop {
            let (own, right): (u8, u8) = match self.kind() {
                Kind::Iff => (20, 21),
                Kind::Arrow => (ARROW, ARROW),
                Kind::Or => (30, 30),
                Kind::And => (35, 35),
                Kind::Equal | Kind::Unequal => (50, 51),
                _ => break,
            };
            if own < power || bound <= own {
                break;
            }
            let kind = self.kind();
            if kind != Kind::Arrow {
                self.note_notation();
            }
            self.next += 1;
            let right = self.expression(text, right)?;
            let node = match kind {
                Kind::Iff => Node::Iff(left, right),
                Kind::Arrow => Node::Arrow(left, right),
                Kind::Or => Node::Or(left, right),
                Kind::Equal => Node::Equal(left, right),
                Kind::Unequal => Node::Unequal(left, right),
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
            let at = self.token().start;
            if self.brackets == 0 && text[..at as usize].ends_with('\n') {
                self.ragged.get_or_insert(at);
            }
            let argument = if self.kind() == Kind::Open && self.names_an_argument() {
                self.named(text)?
            } else {
                self.atom(text)?
            };
            self.pending.push(argument);
        }
        if self.pending.len() == first {
            return Ok(head);
        }
        let args = self.close_list(first);
        self.tree.push(Node::App { fun: head, args }, self.span_from(start))
    }

    /// Whether `(name :=` stands here.
    fn names_an_argument(&self) -> bool {
        let kind = |ahead: usize| self.tokens.get(self.next + ahead).map(|token| token.kind);
        kind(1) == Some(Kind::Ident) && kind(2) == Some(Kind::Assign)
    }

    fn named(&mut self, text: &str) -> Parsed {
        self.without_margin(|parser| {
            let start = parser.token().start;
            parser.next += 1;
            let name = parser.expect(Kind::Ident, "expected the name of an argument")?;
            parser.expect(Kind::Assign, "expected `:=`")?;
            let value = parser.expression(text, LOWEST)?;
            parser.expect(Kind::Close, "expected `)`")?;
            parser.tree.push(Node::Named { name, value }, parser.span_from(start))
        })
    }

    fn close_list(&mut self, first: usize) -> List {
        let list = self.tree.push_list(&self.pending[first..]);
        self.pending.truncate(first);
        list
    }

    fn argument_follows(&self, text: &str) -> bool {
        let starts =
            matches!(self.kind(), Kind::Ident | Kind::Open | Kind::OpenAngle | Kind::Fun | Kind::Not | Kind::At);
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
            Kind::At => return self.explicit(text),
            Kind::Open => self.parenthesis(text)?,
            Kind::OpenAngle => self.anonymous(text)?,
            Kind::Fun => return self.fun(text),
            Kind::Not => {
                self.note_notation();
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
        if word == "_" {
            return self.tree.push(Node::Hole, span);
        }
        if word.split('.').any(|part| part == "_" || is_reserved(part)) {
            return Err(Stop::unparsed(span.start, "this word is outside the fragment"));
        }
        self.tree.push(Node::Ident, span)
    }

    /// `@name`; what Lean allows after `@` beyond names is not read here.
    fn explicit(&mut self, text: &str) -> Parsed {
        let start = self.token().start;
        self.next += 1;
        let Token { kind, start: name, end } = self.token();
        if kind != Kind::Ident || name != start + 1 {
            return Err(Stop::unparsed(start, "expected a name right after `@`"));
        }
        self.next += 1;
        let name = self.name_node(text, Span { start: name, end })?;
        if matches!(self.tree.node(name), Node::Hole) || (self.kind() == Kind::Field && !self.spaced()) {
            return Err(Stop::unparsed(start, "expected a name right after `@`"));
        }
        self.tree.push(Node::Explicit(name), self.span_from(start))
    }

    /// Runs `parse` where arguments may start in any column, as within brackets.
    fn without_margin(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        let margin = std::mem::take(&mut self.margin);
        self.brackets += 1;
        let result = parse(self);
        self.brackets -= 1;
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

    fn fun(&mut self, text: &str) -> Parsed {
        let start = self.token().start;
        self.next += 1;
        let first = self.binders.len();
        self.binder_groups(text, false)?;
        self.expect(Kind::Maps, "expected `=>`")?;
        let body = self.expression(text, LOWEST)?;
        self.close_binders(first, body, start, |name, ty, body| Node::Fun { name, ty, body })
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
        if !self.take(Kind::Semicolon) && !self.on_new_line(text) {
            return Err(Stop::unparsed(self.token().start, "expected `;` or a line break"));
        }
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
