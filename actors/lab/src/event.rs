//! What a run tells while it goes: data down a bounded channel, to whoever prints it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::Serialize;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run has an id now.
    Started {
        /// The run.
        run: String,
        /// Its study.
        study: String,
        /// The device work runs on.
        device: String,
        /// Whether it goes on from earlier records.
        resumed: bool,
    },
    /// A stage begins.
    Stage {
        /// Its name.
        stage: String,
        /// Work items it has.
        total: usize,
    },
    /// Work items of a stage are done; counts from its start.
    Progress {
        /// The stage.
        stage: String,
        /// Done so far.
        done: usize,
    },
    /// A number was computed.
    Figure {
        /// Its stage and name, such as `round 2/pass@16`.
        name: String,
        /// The number.
        value: f64,
        /// Lower end of its 95 % interval.
        low: Option<f64>,
        /// Upper end.
        high: Option<f64>,
    },
    /// Something worth saying once.
    Note {
        /// What.
        text: String,
    },
}

/// The sending end; cheap to clone.
#[derive(Clone, Debug)]
pub struct Events(Option<SyncSender<Event>>);

impl Events {
    /// A bounded channel of events. A slow reader slows the run; it loses nothing.
    #[must_use]
    pub fn channel() -> (Self, Receiver<Event>) {
        let (sender, receiver) = sync_channel(1024);
        (Self(Some(sender)), receiver)
    }

    /// Events nobody reads.
    #[must_use]
    pub fn ignored() -> Self {
        Self(None)
    }

    /// Tells; a reader that went away is not an error.
    pub fn tell(&self, event: Event) {
        if let Some(sender) = &self.0 {
            drop(sender.send(event));
        }
    }

    /// Tells a [`Event::Note`].
    pub fn note(&self, text: impl Into<String>) {
        self.tell(Event::Note { text: text.into() });
    }
}
