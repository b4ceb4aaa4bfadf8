//! Shows a run's events: bars and lines for a person, one JSON object a line for a program.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use tracker_lab::Event;
use tracker_store::Progress;

use crate::printer::Printer;

/// Where bars are drawn: for who watches.
pub fn target(printer: &Printer) -> ProgressDrawTarget {
    if printer.is_watched() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

/// A line that says how far a work is whose end is not known.
pub fn spinner(printer: &Printer) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target(printer));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Prints events until the run drops its end of the channel.
pub fn follow(events: &Receiver<Event>, printer: &Printer) {
    if !printer.is_json() {
        return show(events, printer);
    }
    for event in events {
        // A reader that closed its end stops the talk, not the run.
        drop(printer.json(&event));
    }
}

/// Shows events to a person until the run drops its end of the channel.
pub fn show(events: &Receiver<Event>, printer: &Printer) {
    let bars = MultiProgress::with_draw_target(target(printer));
    let mut open: HashMap<String, ProgressBar> = HashMap::new();
    for event in events {
        match event {
            Event::Started { run, study, device, resumed } => {
                let verb = if resumed { "resumed" } else { "started" };
                printer.say(&format!("{verb} run {run} of `{study}` on {device}"));
            }
            Event::Stage { stage, total } => {
                let bar = bars.add(ProgressBar::new(total as u64).with_style(style()));
                bar.set_message(stage.clone());
                bar.enable_steady_tick(Duration::from_millis(250));
                open.insert(stage, bar);
            }
            Event::Progress { stage, done } => {
                if let Some(bar) = open.get(&stage) {
                    bar.set_position(done as u64);
                    if bar.length() == Some(done as u64) {
                        bar.finish_and_clear();
                        open.remove(&stage);
                    }
                }
            }
            Event::Figure { name, value, low, high } => {
                let interval = match (low, high) {
                    (Some(low), Some(high)) => format!("  [{low:.3}, {high:.3}]"),
                    _ => String::new(),
                };
                bars.suspend(|| printer.say(&format!("{name:<44} {value:>9.3}{interval}")));
            }
            Event::Note { text } => bars.suspend(|| printer.say(&text)),
        }
    }
}

fn style() -> ProgressStyle {
    // The template is a constant; the default style is as good should it ever not parse.
    ProgressStyle::with_template("{msg:<28} {wide_bar} {pos:>6}/{len:<6} {eta:>5}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Shows how many bytes a work has done, to whoever watches, until it is dropped.
pub fn of_bytes(printer: &Printer) -> impl FnMut(Progress) + use<> {
    let bar = ProgressBar::with_draw_target(None, target(printer)).with_finish(ProgressFinish::AndClear);
    let style = |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let known = style("{msg:<10} {wide_bar} {bytes:>11}/{total_bytes:<11} {bytes_per_sec:>12}");
    let unknown = style("{msg:<10} {bytes:>11} {bytes_per_sec:>12}");
    let mut last = None;
    move |progress| {
        if last != Some((progress.what, progress.total_bytes.is_some())) {
            last = Some((progress.what, progress.total_bytes.is_some()));
            bar.reset();
            bar.set_message(progress.what);
            bar.set_style(if progress.total_bytes.is_some() { known.clone() } else { unknown.clone() });
        }
        if let Some(total) = progress.total_bytes {
            bar.set_length(total);
        }
        bar.set_position(progress.done_bytes);
    }
}
