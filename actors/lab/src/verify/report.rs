//! What came of a check, read back in the order of its input.

use tracker_store::{Content as _, NodeId, Outcome, RowKey, RunId, Store, Verdict, Verifier};

use super::given::{Given, Item, Source};
use super::{STAGE, Verify};
use crate::error::{Error, Result};
use crate::plan;

/// A place of the input, and what came of it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The line of the file, from 1; the number of the proof, from 0, where recorded proofs were checked again.
    pub place: u64,
    /// Which attempt of that place.
    pub attempt: u32,
    /// What the file calls the statement.
    pub name: String,
    /// The recorded proof that was checked again.
    pub recorded: Option<NodeId>,
    /// What was said.
    pub said: Said,
}

/// What was said of a place.
#[derive(Clone, Debug)]
pub enum Said {
    /// A verdict on the sample at this node.
    Verdict(NodeId, Verdict),
    /// The row is none, and why.
    Bad(String),
    /// Nothing yet: the check was stopped before.
    Nothing,
}

impl Checked {
    /// Whether it is a proof.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        matches!(&self.said, Said::Verdict(_, verdict) if verdict.outcome == Outcome::Proved)
    }
}

/// What came of the check that is `run`, in the order of its input, read as it is asked for.
///
/// # Errors
/// `Input` if the run is no check; those of the store.
pub fn checked(store: &Store, run: RunId) -> Result<impl Iterator<Item = Result<Checked>> + use<>> {
    let record = store.run(run)?;
    if record.study != <Verify as crate::study::Study>::NAME {
        return Err(Error::Input { what: format!("run {run} is no check of proofs"), hint: None });
    }
    let (_, plan) = plan::restore::<Verify>(&record.study, &record.plan.text)?;
    let items = Source::open(store, &plan)?.read(store)?;
    let verifier = store.contents_of::<Verifier>(run)?.pop().map(|(_, verifier)| verifier.digest()).transpose()?;
    let store = store.clone();
    Ok(items.map(move |item| match item? {
        Item::Bad(place, why) => {
            Ok(Checked { place, attempt: 0, name: String::new(), recorded: None, said: Said::Bad(why) })
        }
        Item::Proof(given) => {
            let Given { item, k, name, recorded, .. } = *given;
            let row = RowKey::new(run, STAGE, item, k);
            let verdict = match &verifier {
                Some(verifier) => store.verdict(row, verifier)?,
                None => None,
            };
            let said = verdict.map_or(Said::Nothing, |verdict| Said::Verdict(NodeId::sample(row), verdict));
            let recorded = recorded.map(|recorded| recorded.node);
            Ok(Checked { place: u64::from(item), attempt: k, name, recorded, said })
        }
    }))
}
