//! Reading filters and orders: `entity.key operator value`, joined by AND; no OR, NOT or parentheses but around lists.

use winnow::ascii::{Caseless, multispace0};
use winnow::combinator::{alt, delimited, eof, not, opt, peek, preceded, repeat, terminated};
use winnow::prelude::*;
use winnow::token::{any, one_of, take_till, take_while};

use crate::error::{Answer, Refusal};

/// The longest filter, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// How a key is held against a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
    Ilike,
    Rlike,
    In,
    NotIn,
    IsNull,
    IsNotNull,
}

impl Operator {
    /// As it is written.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Like => "LIKE",
            Self::Ilike => "ILIKE",
            Self::Rlike => "RLIKE",
            Self::In => "IN",
            Self::NotIn => "NOT IN",
            Self::IsNull => "IS NULL",
            Self::IsNotNull => "IS NOT NULL",
        }
    }

    /// Whether it orders numbers.
    pub(crate) fn is_numeric(self) -> bool {
        matches!(
            self,
            Self::Equal | Self::NotEqual | Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual
        )
    }
}

/// What stands on the right.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    /// A number, as it was written.
    Number(String),
    /// A text in quotes.
    Text(String),
    /// Texts or numbers in parentheses.
    List(Vec<String>),
    /// Nothing: IS NULL.
    Nothing,
}

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    /// What stands before the dot, in the protocol's own word for it: `metric`, `parameter`, `tag`, `attribute`, `dataset`, …
    pub(crate) entity: Option<String>,
    pub(crate) key: String,
    pub(crate) operator: Operator,
    pub(crate) operand: Operand,
}

/// Reads a filter; the empty one has no conditions.
pub(crate) fn filter(text: &str) -> Answer<Vec<Condition>> {
    if text.len() > MAX_BYTES {
        return Err(Refusal::invalid(format!(
            "'filter' exceeds the maximum length of {MAX_BYTES} bytes: it has {}.",
            text.len()
        )));
    }
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    conditions.parse(text).map_err(|error| {
        let at = error.offset().min(text.len());
        let rest: String = text[at..].chars().take(60).collect();
        let rest = if rest.is_empty() { "the end".to_owned() } else { format!("'{rest}'") };
        Refusal::invalid(format!(
            "Invalid clause(s) in filter string: expected conditions such as \"metrics.loss < 0.5\" joined by AND, got {rest} at character {} of '{}'.",
            text[..at].chars().count() + 1,
            text.chars().take(200).collect::<String>()
        ))
    })
}

/// Reads one field of an order, and whether it descends.
pub(crate) fn order(text: &str) -> Answer<(Option<String>, String, bool)> {
    let direction = alt((Caseless("desc").value(true), Caseless("asc").value(false)));
    let mut whole = delimited(multispace0, (field, opt(preceded(blank, direction))), (multispace0, eof));
    match whole.parse(text) {
        Ok(((entity, key), is_descending)) => Ok((entity, key, is_descending.unwrap_or(false))),
        Err(_) => Err(Refusal::invalid(format!(
            "Invalid order_by clause '{text}': a key such as 'metrics.loss', then nothing, ASC or DESC is expected."
        ))),
    }
}

fn conditions(input: &mut &str) -> ModalResult<Vec<Condition>> {
    let mut all = vec![preceded(multispace0, condition).parse_next(input)?];
    while opt(delimited(multispace0, keyword("and"), multispace0)).parse_next(input)?.is_some() {
        all.push(condition.parse_next(input)?);
    }
    (multispace0, opt(';'), multispace0, eof).parse_next(input)?;
    Ok(all)
}

fn condition(input: &mut &str) -> ModalResult<Condition> {
    let (entity, key) = field.parse_next(input)?;
    multispace0.parse_next(input)?;
    let operator = operator.parse_next(input)?;
    multispace0.parse_next(input)?;
    let operand = match operator {
        Operator::IsNull | Operator::IsNotNull => Operand::Nothing,
        Operator::In | Operator::NotIn => list.parse_next(input)?,
        _ => alt((quoted(&['\'', '"']).map(Operand::Text), number.map(Operand::Number))).parse_next(input)?,
    };
    Ok(Condition { entity, key, operator, operand })
}

fn operator(input: &mut &str) -> ModalResult<Operator> {
    let symbol = alt((
        "!=".value(Operator::NotEqual),
        "<>".value(Operator::NotEqual),
        "<=".value(Operator::LessOrEqual),
        ">=".value(Operator::GreaterOrEqual),
        "=".value(Operator::Equal),
        "<".value(Operator::Less),
        ">".value(Operator::Greater),
    ));
    let word = alt((
        keyword("ilike").value(Operator::Ilike),
        keyword("rlike").value(Operator::Rlike),
        keyword("like").value(Operator::Like),
        (keyword("is"), multispace0, keyword("not"), multispace0, keyword("null")).value(Operator::IsNotNull),
        (keyword("is"), multispace0, keyword("null")).value(Operator::IsNull),
        (keyword("not"), multispace0, keyword("in")).value(Operator::NotIn),
        keyword("in").value(Operator::In),
    ));
    alt((symbol, word)).parse_next(input)
}

/// A word in any case, not part of a longer one.
fn keyword<'a>(word: &'static str) -> impl FnMut(&mut &'a str) -> ModalResult<()> {
    move |input| terminated(Caseless(word), not(peek(one_of(is_word)))).void().parse_next(input)
}

fn blank(input: &mut &str) -> ModalResult<()> {
    take_while(1.., char::is_whitespace).void().parse_next(input)
}

/// `entity.key`, or a bare key, which is an attribute.
fn field(input: &mut &str) -> ModalResult<(Option<String>, String)> {
    let quoted_key = || quoted(&['`', '"']);
    if let Some(key) = opt(quoted_key()).parse_next(input)? {
        return Ok((None, key));
    }
    let mut first =
        (any.verify(|letter: &char| letter.is_alphabetic() || *letter == '_'), take_while(0.., is_word)).take();
    let word: &str = first.parse_next(input)?;
    if let Some(entity) = word.strip_suffix('.') {
        let key = quoted_key().parse_next(input)?;
        return Ok((Some(canonical(entity)), key));
    }
    Ok(match word.split_once('.') {
        Some((entity, key)) => (Some(canonical(entity)), key.to_owned()),
        None => (None, word.to_owned()),
    })
}

/// The protocol's own word for what its aliases say.
fn canonical(entity: &str) -> String {
    match entity.to_ascii_lowercase().as_str() {
        "metric" | "metrics" => "metric".to_owned(),
        "param" | "params" | "parameter" | "parameters" => "parameter".to_owned(),
        "tag" | "tags" => "tag".to_owned(),
        "attribute" | "attributes" | "attr" | "run" | "trace" => "attribute".to_owned(),
        "dataset" | "datasets" => "dataset".to_owned(),
        "metadata" | "request_metadata" => "metadata".to_owned(),
        _ => entity.to_owned(),
    }
}

fn quoted<'a>(quotes: &'static [char]) -> impl FnMut(&mut &'a str) -> ModalResult<String> {
    move |input| {
        let quote = one_of(quotes).parse_next(input)?;
        let part = alt((
            take_till(1.., move |letter| letter == quote).map(str::to_owned),
            (quote, quote).map(|(quote, _): (char, char)| quote.to_string()),
        ));
        terminated(repeat(0.., part).fold(String::new, |text, part: String| text + &part), quote).parse_next(input)
    }
}

fn number(input: &mut &str) -> ModalResult<String> {
    let letters = take_while(1.., |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.'));
    letters.verify(|text: &str| text.parse::<f64>().is_ok()).map(str::to_owned).parse_next(input)
}

fn list(input: &mut &str) -> ModalResult<Operand> {
    let mut value = alt((quoted(&['\'', '"']), number));
    '('.parse_next(input)?;
    let mut values = vec![preceded(multispace0, value.by_ref()).parse_next(input)?];
    while opt(delimited(multispace0, ',', multispace0)).parse_next(input)?.is_some() {
        if opt(peek(')')).parse_next(input)?.is_some() {
            break;
        }
        values.push(value.parse_next(input)?);
    }
    preceded(multispace0, ')').parse_next(input)?;
    Ok(Operand::List(values))
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '.' | '/' | '@' | '-' | ':' | '#')
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operator::{Equal, Greater, GreaterOrEqual, Ilike, In, IsNotNull, IsNull, Like, NotEqual, NotIn};

    fn check(text: &str, expected: &[(&str, &str, Operator, Operand)]) {
        let read: Vec<_> = filter(text).unwrap_or_else(|refusal| panic!("{text}: {}", refusal.message));
        let read: Vec<_> = read
            .iter()
            .map(|c| (c.entity.as_deref().unwrap_or(""), c.key.as_str(), c.operator, c.operand.clone()))
            .collect();
        assert_eq!(read, expected, "{text}");
    }

    #[test]
    fn conditions_are_read_as_clients_write_them() {
        let text = |text: &str| Operand::Text(text.to_owned());
        let number = |text: &str| Operand::Number(text.to_owned());
        let list = |texts: &[&str]| Operand::List(texts.iter().map(|text| (*text).to_owned()).collect());
        check("", &[]);
        check("  ", &[]);
        check(
            "metrics.m > 1 and params.p2 = 'x'",
            &[("metric", "m", Greater, number("1")), ("parameter", "p2", Equal, text("x"))],
        );
        check("name='reg1'", &[("", "name", Equal, text("reg1"))]);
        check(
            "name LIKE 'r%' AND tag.`mlflow.prompt.is_prompt` != 'true'",
            &[("", "name", Like, text("r%")), ("tag", "mlflow.prompt.is_prompt", NotEqual, text("true"))],
        );
        check("tags.\"a b\" ILIKE \"X%\"", &[("tag", "a b", Ilike, text("X%"))]);
        check("run_id IN ('a', 'b',)", &[("", "run_id", In, list(&["a", "b"]))]);
        check("attributes.run_id not in ('a')", &[("attribute", "run_id", NotIn, list(&["a"]))]);
        check(
            "params.x IS NULL AND tags.y is not null",
            &[("parameter", "x", IsNull, Operand::Nothing), ("tag", "y", IsNotNull, Operand::Nothing)],
        );
        check("metrics.`a b`>=-1.5e-3", &[("metric", "a b", GreaterOrEqual, number("-1.5e-3"))]);
        check("params.x = 'it''s AND more'", &[("parameter", "x", Equal, text("it's AND more"))]);
        check("datasets.name = 'd'", &[("dataset", "name", Equal, text("d"))]);
        check("metrics.m > 1 ;", &[("metric", "m", Greater, number("1"))]);
    }

    #[test]
    fn what_is_no_filter_is_refused_with_where_it_ends() {
        for text in [
            "a = 1 OR b = 2",
            "(a = 1)",
            "NOT a = 1",
            "a =",
            "a",
            "= 1",
            "a = 'x",
            "a IN ()",
            "a = 1 AND",
            "a = 1 b = 2",
            "a ~ 1",
            "a IS 3",
        ] {
            let refusal = filter(text).unwrap_err();
            assert!(refusal.message.starts_with("Invalid clause(s) in filter string"), "{text}: {}", refusal.message);
        }
        assert!(filter(&"x".repeat(70_000)).is_err());
        assert!(filter("ü = 'ü' OR x = 1").unwrap_err().message.contains("at character 9"));
    }

    #[test]
    fn an_order_is_a_key_and_a_direction() {
        assert_eq!(order("metrics.m DESC").unwrap(), (Some("metric".to_owned()), "m".to_owned(), true));
        assert_eq!(order(" start_time ").unwrap(), (None, "start_time".to_owned(), false));
        assert_eq!(order("params.`a b` asc").unwrap(), (Some("parameter".to_owned()), "a b".to_owned(), false));
        for text in ["", "a b", "a DESC b", "a DESC DESC", "'a'"] {
            assert!(order(text).is_err(), "{text}");
        }
    }
}
