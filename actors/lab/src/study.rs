//! The studies there are, and what each returns.

use futures::future::LocalBoxFuture;
use tracker_store::Claim;

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::plan::{self, Key, Overlay, Plan, Settings, nearest};
use crate::studies::alignment_tax::AlignmentTax;
use crate::studies::dpa::Dpa;
use crate::studies::er_prm::ErPrm;
use crate::studies::goedel::Goedel;
use crate::studies::grm::Grm;

/// A study: settings and one straight function with its loops visible.
pub trait Study: Settings {
    /// Name on the command line.
    const NAME: &'static str;
    /// The paper.
    const PAPER: &'static str;
    /// One line.
    const ABOUT: &'static str;

    /// Does the work, recording all of it, and returns what was tested.
    ///
    /// # Errors
    /// Of any part; what was recorded stays.
    fn run(&self, lab: &Lab) -> impl Future<Output = Result<Vec<Claim>>>;
}

/// A row of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name on the command line.
    pub name: &'static str,
    /// The paper.
    pub paper: &'static str,
    /// One line.
    pub about: &'static str,
    keys: fn() -> Vec<Key>,
    resolve: fn(&Overlay) -> Result<Plan>,
    run: for<'a> fn(&'a Lab) -> LocalBoxFuture<'a, Result<Vec<Claim>>>,
}

impl Entry {
    const fn of<S: Study>() -> Self {
        Self {
            name: S::NAME,
            paper: S::PAPER,
            about: S::ABOUT,
            keys: plan::keys::<S>,
            resolve: |overlay| plan::resolve::<S>(S::NAME, overlay).map(|(plan, _)| plan),
            run: |lab| {
                Box::pin(async move {
                    let (_, study) = plan::restore::<S>(S::NAME, &lab.plan().text)?;
                    study.run(lab).await
                })
            },
        }
    }

    /// Keys of its plan.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        (self.keys)()
    }

    /// Resolves a plan.
    ///
    /// # Errors
    /// As [`plan::resolve`].
    pub fn resolve(&self, overlay: &Overlay) -> Result<Plan> {
        (self.resolve)(overlay)
    }

    /// Runs the lab's plan.
    ///
    /// # Errors
    /// Of the study.
    pub async fn run(&self, lab: &Lab) -> Result<Vec<Claim>> {
        (self.run)(lab).await
    }
}

/// All studies.
static STUDIES: [Entry; 5] =
    [Entry::of::<Goedel>(), Entry::of::<AlignmentTax>(), Entry::of::<ErPrm>(), Entry::of::<Grm>(), Entry::of::<Dpa>()];

/// All studies, in the order they are listed.
#[must_use]
pub fn studies() -> &'static [Entry] {
    &STUDIES
}

/// The study of this name.
///
/// # Errors
/// `UnknownStudy` with the nearest name.
pub fn study(name: &str) -> Result<&'static Entry> {
    STUDIES.iter().find(|s| s.name == name).ok_or_else(|| Error::UnknownStudy {
        name: name.to_owned(),
        nearest: nearest(name, STUDIES.iter().map(|s| s.name)).map(str::to_owned),
    })
}
