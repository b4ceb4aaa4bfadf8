//! The chat template of the output.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::plan::Merge;

/// The most frequent template of the models.
const AUTO: &str = "auto";
/// Templates that mergekit comes with.
const BUILTIN: [&str; 5] = ["alpaca", "chatml", "exaone", "llama3", "mistral"];

/// Checks what a recipe says: `auto`, or Jinja, which has a brace and 20 letters at least, as in mergekit.
pub(crate) fn check(template: &str) -> std::result::Result<(), String> {
    if template == AUTO || template.len() >= 20 && template.contains('{') {
        return Ok(());
    }
    if BUILTIN.contains(&template) {
        return Err(format!(
            "`chat_template`: `{template}` names a template that mergekit comes with and this program does not; write the \
             template itself, or `auto`"
        ));
    }
    Err(format!("`chat_template`: expected `auto` or Jinja (with `{{`, 20 letters at least), got `{template}`"))
}

impl Merge {
    /// Settles the template: the recipe's, or of those of its models the most frequent, of equals the first.
    pub(crate) fn settle_chat_template(&mut self) -> Result<()> {
        let Some(stated) = self.recipe.chat_template.clone() else { return Ok(()) };
        if stated == AUTO {
            let mut counts: Vec<(String, usize)> = Vec::new();
            for parent in &self.parents {
                let Some(template) = template_of(&parent.folder.dir)? else { continue };
                match counts.iter_mut().find(|(known, _)| *known == template) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((template, 1)),
                }
            }
            let most = counts.iter().map(|(_, count)| *count).max();
            self.chat_template = counts.into_iter().find(|(_, count)| Some(*count) == most).map(|(text, _)| text);
            if self.chat_template.is_none() {
                self.warn("`chat_template: auto`: none of the models has one".to_owned());
            }
        } else {
            self.chat_template = Some(stated);
        }
        Ok(())
    }
}

/// The template of a model, without space around it: its own file, or what its tokenizer's configuration says.
fn template_of(dir: &Path) -> Result<Option<String>> {
    let path = dir.join("chat_template.jinja");
    if path.is_file() {
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        return Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()));
    }
    let path = dir.join("tokenizer_config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let config: Value = serde_json::from_slice(&bytes).map_err(|e| Error::damaged(&path, e.to_string()))?;
    let text = match config.get("chat_template") {
        Some(Value::String(text)) => Some(text.as_str()),
        // Several, by name.
        Some(Value::Array(all)) => all
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template"))
            .and_then(Value::as_str),
        _ => None,
    };
    Ok(text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned))
}

/// A tokenizer's configuration with the template in it.
pub(crate) fn with_template(path: &Path, config: &[u8], template: &str) -> Result<Vec<u8>> {
    let mut json: Value = serde_json::from_slice(config).map_err(|e| Error::damaged(path, e.to_string()))?;
    match json.as_object_mut() {
        Some(fields) => fields.insert("chat_template".to_owned(), Value::String(template.to_owned())),
        None => return Err(Error::damaged(path, "expected an object")),
    };
    Ok(format!("{json:#}\n").into_bytes())
}
