//! Prompts of files.

use crate::error::{Error, Result};

/// The first `n` prompts of a JSONL file.
///
/// # Errors
/// `Input` naming file and line, or if there is no line.
pub fn read_prompts(path: &str, n: usize) -> Result<Vec<String>> {
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
        Ok(row.prompt)
    });
    let prompts: Vec<String> = rows.collect::<Result<_>>()?;
    if prompts.is_empty() {
        return Err(wrong(format!("prompts `{path}`: no line")));
    }
    Ok(prompts)
}
