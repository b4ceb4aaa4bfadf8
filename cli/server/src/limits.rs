//! What texts and lists may be: lengths in characters, and letters of keys.

use crate::error::{Answer, Refusal};
use crate::wire::Pair;

pub(crate) const MAX_KEY: usize = 250;
pub(crate) const MAX_PARAM_VALUE: usize = 6000;
pub(crate) const MAX_TAG_VALUE: usize = 8000;
pub(crate) const MAX_EXPERIMENT_NAME: usize = 500;
pub(crate) const MAX_EXPERIMENT_TAG_VALUE: usize = 20_000;
pub(crate) const MAX_REGISTRY_TAG_VALUE: usize = 100_000;
pub(crate) const MAX_ALIAS: usize = 255;
pub(crate) const MAX_BATCH_METRICS: usize = 1000;
pub(crate) const MAX_BATCH_PARAMS: usize = 100;
pub(crate) const MAX_BATCH_TAGS: usize = 100;
pub(crate) const MAX_BATCH: usize = 1000;
pub(crate) const MAX_DATASET_NAME: usize = 500;
pub(crate) const MAX_DATASET_DIGEST: usize = 36;
pub(crate) const MAX_DATASET_SCHEMA: usize = (1 << 20) - 1;
pub(crate) const MAX_DATASET_SOURCE: usize = (64 << 10) - 1;
/// What the store keeps under one key; the protocol's own limit for profiles, 16 MiB, and the rest would not fit.
pub(crate) const MAX_DATASET_PROFILE: usize = (14 << 20) - 1;

/// Refuses a key that cannot be one: empty, too long, with letters no key has, or that a path would not keep.
pub(crate) fn check_key(key: &str, parameter: &str) -> Answer<()> {
    if key.is_empty() {
        return Err(Refusal::missing(parameter));
    }
    check_length(key, MAX_KEY, parameter)?;
    let is_letter = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | '/' | ':' | ' ');
    if !key.chars().all(is_letter) {
        return Err(Refusal::invalid(format!(
            "Invalid value \"{key}\" for parameter '{parameter}' supplied: Names may only contain alphanumerics, underscores (_), dashes (-), \
             periods (.), spaces ( ), colons(:) and slashes (/)."
        )));
    }
    if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Refusal::invalid(format!(
            "Invalid value \"{key}\" for parameter '{parameter}' supplied: Names must be such that a path keeps them as they are, \
             without empty parts, `.` and `..`."
        )));
    }
    Ok(())
}

/// Refuses a text that is too long.
pub(crate) fn check_length(text: &str, limit: usize, parameter: &str) -> Answer<()> {
    let n_letters = if text.len() <= limit { text.len() } else { text.chars().count() };
    if n_letters <= limit {
        return Ok(());
    }
    let head: String = text.chars().take(20).collect();
    Err(Refusal::invalid(format!(
        "'{parameter}' exceeds the maximum length of {limit} characters: it has {n_letters}, and begins with \"{head}\"."
    )))
}

/// The first `limit` characters of a text.
pub(crate) fn truncated(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    text.char_indices().nth(limit).map_or(text, |(end, _)| &text[..end])
}

/// Refuses keys that come twice.
pub(crate) fn check_once<'a>(keys: impl Iterator<Item = &'a str>, parameter: &str) -> Answer<()> {
    let mut keys: Vec<&str> = keys.collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Refusal::invalid(format!(
            "Duplicate parameter keys have been submitted: '{}' in '{parameter}'.",
            pair[0]
        ))),
        None => Ok(()),
    }
}

/// The tags of a request by key; the last of several wins.
pub(crate) fn tags(tags: &[Pair], max_value: usize) -> Answer<std::collections::BTreeMap<String, String>> {
    let mut by_key = std::collections::BTreeMap::new();
    for (nth, Pair { key, value }) in tags.iter().enumerate() {
        check_key(key, &format!("tags[{nth}].key"))?;
        check_length(value, max_value, &format!("tags[{nth}].value"))?;
        by_key.insert(key.clone(), value.clone());
    }
    Ok(by_key)
}

/// How many results are asked for: from 1 to `limit`, `default` if it is not said.
pub(crate) fn max_results(asked: Option<crate::wire::Int>, default: usize, limit: usize) -> Answer<usize> {
    match asked.map(|asked| asked.0) {
        None => Ok(default),
        Some(asked) => match usize::try_from(asked) {
            Ok(asked) if (1..=limit).contains(&asked) => Ok(asked),
            _ => Err(Refusal::invalid(format!(
                "Invalid value {asked} for parameter 'max_results' supplied: It must be at least 1 and at most {limit}, but got value {asked}"
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_letters_that_a_path_keeps() {
        for key in [
            "a",
            "loss/train",
            "pass@16",
            "",
            "a//b",
            "/a",
            "a/",
            "../a",
            "a/./b",
            "ünïcode key:1",
            "a\nb",
            "a;b",
            &"x".repeat(251),
        ] {
            let is_good = matches!(key, "a" | "loss/train" | "ünïcode key:1");
            assert_eq!(check_key(key, "key").is_ok(), is_good, "{key:?}");
        }
        check_key(&"ü".repeat(250), "key").unwrap();
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(truncated("üüü", 2), "üü");
        assert_eq!(truncated("ab", 2), "ab");
        assert!(check_length("üü", 2, "x").is_ok() && check_length("üüü", 2, "x").is_err());
    }

    #[test]
    fn as_many_results_as_there_may_be() {
        use crate::wire::Int;
        assert_eq!(max_results(None, 1000, 50_000).unwrap(), 1000);
        assert_eq!(max_results(Some(Int(50_000)), 1000, 50_000).unwrap(), 50_000);
        for asked in [0, -1, 50_001, i64::MAX] {
            assert!(max_results(Some(Int(asked)), 1000, 50_000).is_err());
        }
    }
}
