//! Prompts of files.

use crate::error::{Error, Result};

/// The first `n` prompts of a JSONL file.
///
/// # Errors
/// `Input` naming file and line, or if there is no line.
pub fn read_prompts(path: &str, n: usize) -> Result<Vec<String>> {
    read_prompts_checked(path, n, |_| Ok(Ok(())))
}

/// The same; each must pass `check`, which says else what is wrong with it.
///
/// # Errors
/// As [`read_prompts`]; `Input` naming file, line and field of the first prompt that does not pass; those of `check`.
pub fn read_prompts_checked(
    path: &str,
    n: usize,
    check: impl Fn(&str) -> Result<std::result::Result<(), String>>,
) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Row {
        prompt: String,
    }
    let wrong = |what: String| Error::Input {
        what,
        hint: Some("expected a JSONL file with an object `{\"prompt\": \"…\"}` a line".to_owned()),
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("prompts `{path}`: {error}")))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).take(n);
    let rows = lines.map(|(nth, line)| {
        let row: Row = serde_json::from_str(line)
            .map_err(|error| wrong(format!("prompts `{path}`, line {}: {error}", nth + 1)))?;
        let field = |what: &str| format!("prompts `{path}`, line {}, field `prompt`: {what}", nth + 1);
        if row.prompt.trim().is_empty() {
            return Err(wrong(field("expected a text that is not blank, got a blank one")));
        }
        if let Err(what) = check(&row.prompt)? {
            return Err(Error::Input {
                what: field(&what),
                hint: Some("take shorter prompts, or a longer context".into()),
            });
        }
        Ok(row.prompt)
    });
    let prompts: Vec<String> = rows.collect::<Result<_>>()?;
    if prompts.is_empty() {
        return Err(wrong(format!("prompts `{path}`: no line")));
    }
    Ok(prompts)
}
