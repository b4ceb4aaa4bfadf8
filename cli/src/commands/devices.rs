//! `tracker devices`.

use serde_json::json;
use tracker_gpu::{Choice, Device};

use crate::failure::Answer;
use crate::printer::Printer;

/// Lists the devices, and which one `auto` takes.
pub fn list(printer: &Printer) -> anyhow::Result<Answer> {
    let auto = Device::open(&Choice::Auto)?;
    let adapters = tracker_gpu::devices();
    if printer.is_json() {
        printer.json(&json!({"name": "cpu", "id": Device::cpu().id(), "auto": auto.adapter().is_none()}))?;
        for adapter in &adapters {
            let mut row = serde_json::to_value(adapter)?;
            row["name"] = json!(format!("wgpu:{}", adapter.idx));
            row["id"] = json!(adapter.id());
            row["auto"] = json!(auto.id() == adapter.id());
            printer.json(&row)?;
        }
        return Ok(Answer::Yes);
    }
    let mark = |is_auto: bool| if is_auto { "auto".to_owned() } else { String::new() };
    let cpu = vec!["cpu".to_owned(), "this machine's cores".to_owned(), mark(auto.adapter().is_none())];
    let rest = adapters.iter().map(|a| vec![format!("wgpu:{}", a.idx), a.id(), mark(auto.id() == a.id())]);
    printer.table(&["DEVICE", "WHAT", ""], std::iter::once(cpu).chain(rest))?;
    for note in auto.notes() {
        printer.say(note);
    }
    Ok(Answer::Yes)
}
