//! Reading filters and orders: tokens by winnow, sentences by recursive descent, errors with the column.

use winnow::ascii::{Caseless, multispace0};
use winnow::combinator::{alt, delimited, eof, not, opt, peek, preceded, repeat, terminated};
use winnow::prelude::*;
use winnow::stream::LocatingSlice;
use winnow::token::{any, one_of, take_till, take_while};

use super::filter::{Comparison, Expr, Field, Test};
use super::value::Value;
use crate::error::{Error, Result};

/// The most parentheses and NOTs inside each other.
const MAX_DEPTH: usize = 64;
/// The longest text that is read, in bytes.
const MAX_BYTES: usize = 64 << 10;

type Input<'a> = LocatingSlice<&'a str>;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A bare word: a keyword, an entity, a key.
    Word(String),
    /// A text in single or double quotes, or back-ticks, with its quote.
    Quoted(char, String),
    Number(f64, Option<i64>),
    Symbol(&'static str),
}

impl Token {
    fn show(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Quoted(quote, text) => format!("{quote}{text}{quote}"),
            Self::Number(number, _) => format!("`{number}`"),
            Self::Symbol(symbol) => format!("`{symbol}`"),
        }
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// Reads a whole filter.
pub(super) fn filter(text: &str) -> Result<Expr> {
    let mut sentence = Sentence::new(text)?;
    let expr = sentence.any_of(0)?;
    sentence.end("AND, OR or the end")?;
    Ok(expr)
}

/// Reads `field [ASC|DESC], …`: each field with whether it descends.
pub(super) fn order(text: &str) -> Result<Vec<(Field, bool)>> {
    let mut sentence = Sentence::new(text)?;
    let mut order = Vec::new();
    loop {
        let field = sentence.field()?;
        let is_descending = sentence.take_keyword("DESC");
        if !is_descending {
            sentence.take_keyword("ASC");
        }
        order.push((field, is_descending));
        if !sentence.take_symbol(",") {
            sentence.end("ASC, DESC, `,` or the end")?;
            return Ok(order);
        }
    }
}

/// Reads `field, …`.
pub(super) fn fields(text: &str) -> Result<Vec<Field>> {
    let mut sentence = Sentence::new(text)?;
    let mut fields = vec![sentence.field()?];
    while sentence.take_symbol(",") {
        fields.push(sentence.field()?);
    }
    sentence.end("`,` or the end")?;
    Ok(fields)
}

/// Reads `name, name(field), …`: each name with its field, if it has one, and where it was written.
pub(super) fn calls(text: &str) -> Result<Vec<(String, Option<Field>, usize)>> {
    let mut sentence = Sentence::new(text)?;
    let mut calls = Vec::new();
    loop {
        let column = sentence.column();
        let Some(Token::Word(name)) = sentence.peek().cloned() else {
            return Err(sentence.wrong("a summary, such as `count` or `mean(value)`"));
        };
        sentence.at += 1;
        let field = if sentence.take_symbol("(") { Some(sentence.field()?) } else { None };
        if field.is_some() && !sentence.take_symbol(")") {
            return Err(sentence.wrong("`)`"));
        }
        calls.push((name, field, column));
        if !sentence.take_symbol(",") {
            sentence.end("`,` or the end")?;
            return Ok(calls);
        }
    }
}

struct Sentence<'a> {
    text: &'a str,
    /// Each token with the byte it starts at.
    tokens: Vec<(Token, usize)>,
    at: usize,
}

impl<'a> Sentence<'a> {
    fn new(text: &'a str) -> Result<Self> {
        let syntax = |byte: usize, expected: &str, got: String| Error::Syntax {
            text: crate::error::shortened(text),
            column: column(text, byte),
            expected: expected.to_owned(),
            got,
        };
        if text.len() > MAX_BYTES {
            return Err(syntax(MAX_BYTES, &format!("at most {MAX_BYTES} bytes"), format!("{}", text.len())));
        }
        let tokens = tokens.parse(Input::new(text)).map_err(|error| {
            let rest = &text[error.offset().min(text.len())..];
            let got = rest.chars().next().map_or_else(|| "the end".to_owned(), |letter| format!("`{letter}`"));
            syntax(error.offset(), "a field, a value, an operator or a closing quote", got)
        })?;
        Ok(Self { text, tokens, at: 0 })
    }

    fn any_of(&mut self, depth: usize) -> Result<Expr> {
        let mut parts = vec![self.all_of(depth)?];
        while self.take_keyword("OR") {
            parts.push(self.all_of(depth)?);
        }
        Ok(one_or(parts, Expr::Any))
    }

    fn all_of(&mut self, depth: usize) -> Result<Expr> {
        let mut parts = vec![self.one(depth)?];
        while self.take_keyword("AND") {
            parts.push(self.one(depth)?);
        }
        Ok(one_or(parts, Expr::All))
    }

    fn one(&mut self, depth: usize) -> Result<Expr> {
        if depth > MAX_DEPTH {
            return Err(self.wrong(&format!("at most {MAX_DEPTH} parentheses and NOTs inside each other")));
        }
        if self.take_keyword("NOT") {
            return Ok(Expr::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take_symbol("(") {
            let inner = self.any_of(depth + 1)?;
            return if self.take_symbol(")") { Ok(inner) } else { Err(self.wrong("AND, OR or `)`")) };
        }
        self.condition()
    }

    fn condition(&mut self) -> Result<Expr> {
        let field = self.field()?;
        if self.take_keyword("IS") {
            let is_negated = self.take_keyword("NOT");
            return if self.take_keyword("NULL") {
                Ok(negated(is_negated, field, Test::IsNull))
            } else {
                Err(self.wrong("NULL"))
            };
        }
        let is_negated = self.take_keyword("NOT");
        for (keyword, ignores_case) in [("LIKE", false), ("ILIKE", true)] {
            if self.take_keyword(keyword) {
                let pattern = self.pattern()?;
                return Ok(negated(is_negated, field, Test::Like { pattern, ignores_case }));
            }
        }
        if self.take_keyword("IN") {
            let values = self.values()?;
            return Ok(negated(is_negated, field, Test::In(values)));
        }
        if is_negated {
            return Err(self.wrong("LIKE, ILIKE or IN"));
        }
        let comparison = self.comparison()?;
        let value = self.value()?;
        Ok(Expr::Is(field, Test::Compare(comparison, value)))
    }

    fn comparison(&mut self) -> Result<Comparison> {
        const SYMBOLS: [(&str, Comparison); 6] = [
            ("=", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (symbol, comparison) in SYMBOLS {
            if self.take_symbol(symbol) {
                return Ok(comparison);
            }
        }
        Err(self.wrong("=, !=, <, <=, >, >=, LIKE, ILIKE, IN, NOT or IS"))
    }

    fn field(&mut self) -> Result<Field> {
        const RESERVED: [&str; 9] = ["AND", "OR", "NOT", "LIKE", "ILIKE", "IN", "IS", "ASC", "DESC"];
        let column = self.column();
        let name = match self.peek() {
            Some(Token::Word(word)) if !RESERVED.iter().any(|keyword| word.eq_ignore_ascii_case(keyword)) => {
                word.clone()
            }
            Some(Token::Quoted('"' | '`', name)) => {
                let name = name.clone();
                self.at += 1;
                return Ok(Field { entity: None, key: name, column });
            }
            _ => return Err(self.wrong("a field, such as `params.lr` or `status`")),
        };
        self.at += 1;
        // A key in quotes follows its entity's dot: `metrics."pass@16"`.
        if let Some(entity) = name.strip_suffix('.') {
            let Some(Token::Quoted('"' | '`', key)) = self.peek() else {
                return Err(self.wrong("a key"));
            };
            let key = key.clone();
            self.at += 1;
            return Ok(Field { entity: Some(entity.to_owned()), key, column });
        }
        Ok(match name.split_once('.') {
            Some((entity, key)) => Field { entity: Some(entity.to_owned()), key: key.to_owned(), column },
            None => Field { entity: None, key: name, column },
        })
    }

    fn value(&mut self) -> Result<Value> {
        let value = match self.peek() {
            Some(Token::Quoted('\'' | '"', text)) => Value::Text(text.clone()),
            Some(Token::Number(_, Some(whole))) => Value::Int(*whole),
            Some(Token::Number(number, None)) => Value::Real(*number),
            Some(word) if word.is_keyword("true") => Value::Bool(true),
            Some(word) if word.is_keyword("false") => Value::Bool(false),
            _ => return Err(self.wrong("a number, a text in quotes, true or false")),
        };
        self.at += 1;
        Ok(value)
    }

    fn pattern(&mut self) -> Result<String> {
        match self.peek() {
            Some(Token::Quoted('\'' | '"', text)) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.wrong("a pattern in quotes")),
        }
    }

    fn values(&mut self) -> Result<Vec<Value>> {
        if !self.take_symbol("(") {
            return Err(self.wrong("`(`"));
        }
        let mut values = vec![self.value()?];
        while self.take_symbol(",") {
            values.push(self.value()?);
        }
        if self.take_symbol(")") { Ok(values) } else { Err(self.wrong("`,` or `)`")) }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let is_it = self.peek().is_some_and(|token| token.is_keyword(keyword));
        if is_it {
            self.at += 1;
        }
        is_it
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Symbol(other)) if *other == symbol);
        if is_it {
            self.at += 1;
        }
        is_it
    }

    fn end(&self, expected: &str) -> Result<()> {
        if self.at == self.tokens.len() { Ok(()) } else { Err(self.wrong(expected)) }
    }

    fn column(&self) -> usize {
        column(self.text, self.tokens.get(self.at).map_or(self.text.len(), |(_, byte)| *byte))
    }

    fn wrong(&self, expected: &str) -> Error {
        Error::Syntax {
            text: crate::error::shortened(self.text),
            column: self.column(),
            expected: expected.to_owned(),
            got: self.peek().map_or_else(|| "the end".to_owned(), Token::show),
        }
    }
}

fn column(text: &str, byte: usize) -> usize {
    text.char_indices().take_while(|(at, _)| *at < byte).count() + 1
}

fn one_or(mut parts: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match parts.len() {
        1 => parts.swap_remove(0),
        _ => join(parts),
    }
}

fn negated(is_negated: bool, field: Field, test: Test) -> Expr {
    let is = Expr::Is(field, test);
    if is_negated { Expr::Not(Box::new(is)) } else { is }
}

fn tokens(input: &mut Input<'_>) -> ModalResult<Vec<(Token, usize)>> {
    let token = alt((number, quoted, symbol, word)).with_span().map(|(token, span)| (token, span.start));
    terminated(preceded(multispace0, repeat(0.., terminated(token, multispace0))), eof).parse_next(input)
}

/// A number, not part of a word: `12`, `-0.5`, `1e-4`, `nan`, `inf`.
fn number(input: &mut Input<'_>) -> ModalResult<Token> {
    let digits = || take_while(1.., |letter: char| letter.is_ascii_digit());
    let fraction =
        (opt(digits()), opt(('.', opt(digits()))), opt((one_of(['e', 'E']), opt(one_of(['+', '-'])), digits())));
    let special = alt((Caseless("nan"), Caseless("infinity"), Caseless("inf")));
    // A fraction may be empty, so it is tried last.
    let body = alt((special, fraction.take()));
    terminated((opt(one_of(['+', '-'])), body).take(), not(peek(one_of(is_word))))
        .verify_map(|text: &str| text.parse().ok().map(|number| Token::Number(number, text.parse().ok())))
        .parse_next(input)
}

/// A text in quotes; the quote itself is written twice in it.
fn quoted(input: &mut Input<'_>) -> ModalResult<Token> {
    let quote = peek(one_of(['\'', '"', '`'])).parse_next(input)?;
    let part = alt((
        take_till(1.., move |letter| letter == quote).map(str::to_owned),
        (quote, quote).map(|(quote, _)| quote.to_string()),
    ));
    let text = delimited(quote, repeat(0.., part).fold(String::new, |text, part: String| text + &part), quote);
    text.map(|text| Token::Quoted(quote, text)).parse_next(input)
}

fn symbol(input: &mut Input<'_>) -> ModalResult<Token> {
    alt(("!=", "<=", ">=", "=", "<", ">", "(", ")", ","))
        .map(|symbol: &str| {
            let known = ["!=", "<=", ">=", "=", "<", ">", "(", ")", ","];
            Token::Symbol(known.into_iter().find(|other| *other == symbol).unwrap_or_default())
        })
        .parse_next(input)
}

fn word(input: &mut Input<'_>) -> ModalResult<Token> {
    (any.verify(|letter: &char| is_word(*letter)), take_while(0.., is_word))
        .take()
        .map(|word: &str| Token::Word(word.to_owned()))
        .parse_next(input)
}

/// Letters of bare words; slashes and the like stand in keys such as `loss/train` and `pass@16`.
fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '.' | '/' | '@' | '-' | ':' | '#')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_refused(text: &str, expected: &str) {
        assert_eq!(filter(text).unwrap_err().to_string(), expected, "{text}");
    }

    #[test]
    fn and_binds_tighter_than_or_and_not_tighter_than_and() {
        assert!(is_same("a = 1 OR b = 2 AND NOT c = 3", "a = 1 or (b = 2 and (not (c = 3)))"));
        assert!(!is_same("a = 1 OR b = 2 AND c = 3", "(a = 1 OR b = 2) AND c = 3"));
    }

    /// The expression with every column 0.
    fn unplaced(expr: Expr) -> Expr {
        match expr {
            Expr::All(parts) => Expr::All(parts.into_iter().map(unplaced).collect()),
            Expr::Any(parts) => Expr::Any(parts.into_iter().map(unplaced).collect()),
            Expr::Not(part) => Expr::Not(Box::new(unplaced(*part))),
            Expr::Is(field, test) => Expr::Is(Field { column: 0, ..field }, test),
        }
    }

    fn is_same(a: &str, b: &str) -> bool {
        unplaced(filter(a).unwrap()) == unplaced(filter(b).unwrap())
    }

    #[test]
    fn keys_may_be_quoted_and_values_escaped() {
        let field = |text: &str| match filter(text).unwrap() {
            Expr::Is(field, Test::Compare(_, value)) => (field.entity, field.key, value),
            other => panic!("{other:?}"),
        };
        let metric = |key: &str, value| (Some("metrics".to_owned()), key.to_owned(), value);
        assert_eq!(field("metrics.\"pass @16\" > .5"), metric("pass @16", Value::Real(0.5)));
        assert_eq!(field("metrics.`pass @16` >= -2"), metric("pass @16", Value::Int(-2)));
        assert_eq!(field("metrics.pass@16 = 1e-4"), metric("pass@16", Value::Real(1e-4)));
        assert_eq!(field("metrics.a.b/c < 3"), metric("a.b/c", Value::Int(3)));
        assert_eq!(field("metrics.a < inf"), metric("a", Value::Real(f64::INFINITY)));
        assert_eq!(field("metrics.inf > -Infinity"), metric("inf", Value::Real(f64::NEG_INFINITY)));
        assert_eq!(field("infra > 1"), (None, "infra".to_owned(), Value::Int(1)));
        assert_eq!(field("name = 'it''s'"), (None, "name".to_owned(), Value::Text("it's".to_owned())));
        assert_eq!(field("ok = TRUE"), (None, "ok".to_owned(), Value::Bool(true)));
    }

    #[test]
    fn errors_name_the_column_and_what_was_expected() {
        check_refused("", "column 1 of ``: expected a field, such as `params.lr` or `status`, got the end");
        check_refused(
            "status",
            "column 7 of `status`: expected =, !=, <, <=, >, >=, LIKE, ILIKE, IN, NOT or IS, got the end",
        );
        check_refused("a = ", "column 5 of `a = `: expected a number, a text in quotes, true or false, got the end");
        check_refused("a = b", "column 5 of `a = b`: expected a number, a text in quotes, true or false, got `b`");
        check_refused("(a = 1", "column 7 of `(a = 1`: expected AND, OR or `)`, got the end");
        check_refused("a = 1 b", "column 7 of `a = 1 b`: expected AND, OR or the end, got `b`");
        check_refused(
            "ü = 'x",
            "column 5 of `ü = 'x`: expected a field, a value, an operator or a closing quote, got `'`",
        );
        check_refused("a IN ()", "column 7 of `a IN ()`: expected a number, a text in quotes, true or false, got `)`");
        check_refused("a NOT 3", "column 7 of `a NOT 3`: expected LIKE, ILIKE or IN, got `3`");
        check_refused("metrics. > 3", "column 10 of `metrics. > 3`: expected a key, got `>`");
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |n: usize| format!("{}a = 1{}", "(".repeat(n), ")".repeat(n));
        filter(&deep(MAX_DEPTH)).unwrap();
        assert!(filter(&deep(MAX_DEPTH + 1)).unwrap_err().to_string().contains("at most 64 parentheses"));
        assert!(filter(&"NOT ".repeat(30_000)).is_err());
        assert!(filter(&"(".repeat(60_000)).is_err());
        assert!(filter(&" ".repeat(70_000)).is_err());
    }

    #[test]
    fn an_order_names_fields_and_directions() {
        let order: Vec<(String, bool)> = order("metrics.loss DESC, name asc, start_time")
            .unwrap()
            .into_iter()
            .map(|(field, desc)| (field.key, desc))
            .collect();
        assert_eq!(order, [("loss".to_owned(), true), ("name".to_owned(), false), ("start_time".to_owned(), false)]);
        assert!(super::order("a b").is_err() && super::order("").is_err());
    }

    proptest! {
        #[test]
        fn reading_any_text_never_panics(text in "\\PC{0,40}") {
            crate::fuzz::filter(&text);
        }

        #[test]
        fn spaces_and_case_of_keywords_do_not_matter(spaces in 1..5_usize) {
            let spaced = "a = 1 AND NOT (b LIKE 'x%' OR c NOT IN (1, 2)) AND d IS NOT NULL".replace(' ', &" ".repeat(spaces));
            prop_assert!(is_same(&spaced, "a=1 and not(b like 'x%' or c not in(1,2))and d is not null"));
        }
    }
}
