//! How log-probabilities are asked for and read: of the tokens that may come after a text, and of a text's own.

use serde_json::{Value as Json, json};

use super::{Api, EndpointSettings, shorten};

/// A token as the server spells it, and its log-probability in nats where there is one.
pub(super) type Token = (String, Option<f64>);
type Read<T> = std::result::Result<T, String>;

/// A request for the `top` likeliest tokens after a text.
///
/// The temperature is 1, so that servers which apply it before they report leave probabilities as they are.
pub(super) fn after(settings: &EndpointSettings, text: &str, top: u32) -> Json {
    let mut body = one_token(settings);
    match settings.api {
        Api::Completions => {
            body["prompt"] = json!(text);
            body["logprobs"] = json!(top);
        }
        Api::Chat => {
            body["messages"] = json!([{"role": "user", "content": text}]);
            body["logprobs"] = json!(true);
            body["top_logprobs"] = json!(top);
        }
    }
    body
}

/// A request for the log-probabilities of a text's own tokens; one more token is written after them, which some servers insist on.
pub(super) fn echo(settings: &EndpointSettings, text: &str) -> Json {
    let mut body = one_token(settings);
    body["prompt"] = json!(text);
    body["echo"] = json!(true);
    body["logprobs"] = json!(1);
    body
}

fn one_token(settings: &EndpointSettings) -> Json {
    json!({
        "model": settings.model,
        "n": 1,
        "seed": 0,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 1,
    })
}

/// The tokens that may come next, likeliest first as the server has them, with the one that was drawn; none if the server gave
/// no log-probabilities. Both shapes are read: `top_logprobs` as maps by token, and `content` as lists of alternatives.
///
/// # Errors
/// What was expected and found, if this is no answer at all.
pub(super) fn read_after(response: &Json) -> Read<Option<Vec<(String, f64)>>> {
    let logprobs = logprobs(response)?;
    let mut found: Vec<(String, f64)> = Vec::new();
    if let Some(first) = logprobs["content"].as_array().and_then(|content| content.first()) {
        let listed = first["top_logprobs"].as_array().into_iter().flatten();
        found.extend(listed.filter_map(entry));
        let drawn = entry(first).filter(|(drawn, _)| found.iter().all(|(token, _)| token != drawn));
        found.extend(drawn);
    } else {
        let listed = logprobs["top_logprobs"][0].as_object().into_iter().flatten();
        found.extend(listed.filter_map(|(token, of)| Some((token.clone(), of.as_f64()?))));
        let drawn = logprobs["tokens"][0].as_str().zip(logprobs["token_logprobs"][0].as_f64());
        let drawn = drawn.filter(|(drawn, _)| found.iter().all(|(token, _)| token != drawn));
        found.extend(drawn.map(|(token, of)| (token.to_owned(), of)));
    }
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok((!found.is_empty()).then_some(found))
}

/// The tokens of an echoed text, without what was written after it; none if the server gave no log-probabilities of them.
///
/// # Errors
/// As [`read_after`].
pub(super) fn read_echo(response: &Json) -> Read<Option<Vec<Token>>> {
    let logprobs = logprobs(response)?;
    let (Some(tokens), Some(of)) = (logprobs["tokens"].as_array(), logprobs["token_logprobs"].as_array()) else {
        return Ok(None);
    };
    let n_written = response["usage"]["completion_tokens"].as_u64().map_or(1, |n| usize::try_from(n).unwrap_or(1));
    let n = tokens.len().min(of.len()).saturating_sub(n_written);
    let all = tokens.iter().zip(of).take(n).map(|(token, of)| {
        let token = token.as_str().ok_or_else(|| format!("expected a token, got `{}`", shorten(token)))?;
        Ok((token.to_owned(), of.as_f64()))
    });
    let all = all.collect::<Read<Vec<Token>>>()?;
    // The first token has no probability; one that has some makes an echo.
    Ok(all.iter().any(|(_, of)| of.is_some()).then_some(all))
}

/// The tokens of what was written, each with its log-probability; none unless the server says both of every one.
pub(super) fn read_own(logprobs: &Json) -> Vec<(String, f64)> {
    let all: Option<Vec<(String, f64)>> = match logprobs["content"].as_array() {
        Some(content) => content.iter().map(entry).collect(),
        None => match (logprobs["tokens"].as_array(), logprobs["token_logprobs"].as_array()) {
            (Some(tokens), Some(of)) if tokens.len() == of.len() => {
                tokens.iter().zip(of).map(|(token, of)| Some((token.as_str()?.to_owned(), of.as_f64()?))).collect()
            }
            _ => None,
        },
    };
    all.unwrap_or_default()
}

fn logprobs(response: &Json) -> Read<&Json> {
    let choice = response["choices"].as_array().and_then(|choices| choices.first());
    let choice = choice.ok_or_else(|| format!("expected `choices`, got `{}`", shorten(response)))?;
    Ok(&choice["logprobs"])
}

fn entry(of: &Json) -> Option<(String, f64)> {
    Some((of["token"].as_str()?.to_owned(), of["logprob"].as_f64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_of_alternatives_are_read_with_the_token_that_was_drawn() {
        let wrap = |logprobs: Json| json!({"choices": [{"text": "x", "logprobs": logprobs}]});
        let maps =
            wrap(json!({"tokens": ["z"], "token_logprobs": [-9.0], "top_logprobs": [{" -": -2.0, " +": -0.25}]}));
        let lists = wrap(json!({"content": [{"token": "z", "logprob": -9.0, "top_logprobs":
            [{"token": " +", "logprob": -0.25}, {"token": " -", "logprob": -2.0}]}]}));
        let expected = Some(vec![(" +".to_owned(), -0.25), (" -".to_owned(), -2.0), ("z".to_owned(), -9.0)]);
        assert_eq!(read_after(&maps).unwrap(), expected);
        assert_eq!(read_after(&lists).unwrap(), expected);
        assert_eq!(read_after(&wrap(Json::Null)).unwrap(), None);
        assert_eq!(read_after(&wrap(json!({"content": []}))).unwrap(), None);
        assert!(read_after(&json!({"error": "no"})).unwrap_err().contains("expected `choices`"));
    }

    #[test]
    fn own_tokens_are_read_in_both_shapes_or_not_at_all() {
        let expected = vec![(" Par".to_owned(), -0.5), ("is".to_owned(), -0.25)];
        let content = json!({"content": [{"token": " Par", "logprob": -0.5}, {"token": "is", "logprob": -0.25}]});
        assert_eq!(read_own(&content), expected);
        assert_eq!(read_own(&json!({"tokens": [" Par", "is"], "token_logprobs": [-0.5, -0.25]})), expected);
        for without in [
            json!(null),
            json!({"token_logprobs": [-0.5]}),
            json!({"tokens": ["a", "b"], "token_logprobs": [-0.5]}),
            json!({"tokens": ["a"], "token_logprobs": [null]}),
            json!({"content": [{"token": "a"}]}),
        ] {
            assert!(read_own(&without).is_empty(), "{without}");
        }
    }

    #[test]
    fn an_echo_ends_where_the_text_ends() {
        let of = |usage: Json| {
            json!({"choices": [{"text": "a +b", "logprobs": {"tokens": ["a", " +", "b"], "token_logprobs": [null, -0.5, -3]}}],
                "usage": usage})
        };
        let expected = Some(vec![("a".to_owned(), None), (" +".to_owned(), Some(-0.5))]);
        assert_eq!(read_echo(&of(Json::Null)).unwrap(), expected);
        assert_eq!(read_echo(&of(json!({"completion_tokens": 1}))).unwrap(), expected);
        assert_eq!(read_echo(&of(json!({"completion_tokens": 0}))).unwrap().unwrap().len(), 3);
        // One token was written and the text was not echoed.
        let plain = json!({"choices": [{"text": "b", "logprobs": {"tokens": ["b"], "token_logprobs": [-3.0]}}]});
        assert_eq!(read_echo(&plain).unwrap(), None);
    }
}
