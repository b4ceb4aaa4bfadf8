//! `tracker studies [STUDY]`.

use serde_json::json;

use crate::failure::Answer;
use crate::printer::Printer;

/// Lists the studies, or the keys of one study's plan.
pub fn list(study: Option<&str>, printer: &Printer) -> anyhow::Result<Answer> {
    if let Some(name) = study {
        let study = tracker_lab::study(name)?;
        let keys = study.keys();
        if printer.is_json() {
            for key in keys {
                printer.json(&key)?;
            }
        } else {
            printer.line(&format!("{}: {}\n{}\n", study.name, study.about, study.paper))?;
            let rows = keys.into_iter().map(|key| vec![key.path, key.default, key.about]);
            printer.table(&["KEY", "DEFAULT", "MEANING"], rows)?;
        }
        return Ok(Answer::Yes);
    }
    if printer.is_json() {
        for study in tracker_lab::studies() {
            printer.json(&json!({"study": study.name, "paper": study.paper, "about": study.about}))?;
        }
    } else {
        let rows = tracker_lab::studies().iter().map(|s| vec![s.name.into(), s.paper.into(), s.about.into()]);
        printer.table(&["STUDY", "PAPER", "ABOUT"], rows)?;
    }
    Ok(Answer::Yes)
}
