//! The studies there are, and what each returns.

use futures::future::LocalBoxFuture;
use tracker_store::Claim;

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::plan::{self, Key, Overlay, Plan, Settings, nearest};
use crate::plot::Plot;
use crate::studies::alignment_tax::AlignmentTax;
use crate::studies::correlation_qa::CorrelationQa;
use crate::studies::counter_animal::CounterAnimal;
use crate::studies::dpa::Dpa;
use crate::studies::er_prm::ErPrm;
use crate::studies::goedel::Goedel;
use crate::studies::grm::Grm;
use crate::studies::r_tuning::RTuning;
use crate::studies::random_features::RandomFeatures;
use crate::studies::self_moa::SelfMoa;
use crate::verify::Verify;

/// A study: settings and one straight function with its loops visible.
pub trait Study: Settings {
    /// Name on the command line.
    const NAME: &'static str;
    /// The paper.
    const PAPER: &'static str;
    /// One line.
    const ABOUT: &'static str;
    /// What a report draws of its figures.
    const PLOTS: &'static [Plot] = &[];

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
    /// What a report draws of its figures.
    pub plots: &'static [Plot],
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
            plots: S::PLOTS,
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
static STUDIES: [Entry; 10] = [
    Entry::of::<Goedel>(),
    Entry::of::<AlignmentTax>(),
    Entry::of::<ErPrm>(),
    Entry::of::<Grm>(),
    Entry::of::<Dpa>(),
    Entry::of::<RandomFeatures>(),
    Entry::of::<CorrelationQa>(),
    Entry::of::<CounterAnimal>(),
    Entry::of::<SelfMoa>(),
    Entry::of::<RTuning>(),
];

/// Work that is run, recorded, resumed and replayed as studies are, and is none.
static TOOLS: [Entry; 1] = [Entry::of::<Verify>()];

/// All studies, in the order they are listed.
#[must_use]
pub fn studies() -> &'static [Entry] {
    &STUDIES
}

/// The study of this name, or the tool.
///
/// # Errors
/// `UnknownStudy` with the nearest name.
pub fn study(name: &str) -> Result<&'static Entry> {
    STUDIES.iter().chain(&TOOLS).find(|s| s.name == name).ok_or_else(|| Error::UnknownStudy {
        name: name.to_owned(),
        nearest: nearest(name, STUDIES.iter().map(|s| s.name)).map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::plan::study_of;

    /// The indented blocks of a text, without their indent.
    fn blocks(text: &str) -> Vec<String> {
        let mut all = vec![String::new()];
        for line in text.lines() {
            match (line.strip_prefix("    "), all.last_mut()) {
                (Some(code), Some(block)) => block.extend([code, "\n"]),
                _ => all.push(String::new()),
            }
        }
        all.retain(|block| !block.is_empty());
        all
    }

    /// The plans of every study's page.
    fn plans_of_pages() -> Vec<String> {
        let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/studies");
        let page = |entry: &Entry| std::fs::read_to_string(pages.join(entry.name).join("README.md")).unwrap();
        let mut plans: Vec<String> = Vec::new();
        for block in STUDIES.iter().flat_map(|entry| blocks(&page(entry))) {
            if block.starts_with("study = ") {
                plans.push(block);
            } else if let (true, Some(plan)) = (block.starts_with('['), plans.last_mut()) {
                // More of the same plan.
                plan.push_str(&block);
            }
        }
        plans
    }

    /// Bytes taken out, doubled, and put in the place of others: whatever comes of it, it is a plan or it is refused.
    #[test]
    fn spoilt_plans_are_plans_or_refused_and_never_a_panic() {
        use rand::RngExt as _;
        use rand_chacha::rand_core::SeedableRng as _;
        let mut stream = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let odd = b"\"[]{}=.,-09eE\n\0x";
        let mut n_refused = 0;
        for plan in plans_of_pages() {
            for _ in 0..60 {
                let mut bytes = plan.clone().into_bytes();
                for _ in 0..stream.random_range(1..6) {
                    if bytes.len() < 2 {
                        break;
                    }
                    let at = stream.random_range(0..bytes.len());
                    match stream.random_range(0..4) {
                        0 => drop(bytes.remove(at)),
                        1 => bytes.insert(at, bytes[at]),
                        2 => bytes[at] = odd[stream.random_range(0..odd.len())],
                        _ => bytes.truncate(at.max(1)),
                    }
                }
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let path = std::path::PathBuf::from("plan.toml");
                let resolved = study_of(&path, &text).and_then(|name| {
                    let overlay = Overlay { file: Some((path, text)), ..Overlay::default() };
                    study(&name)?.resolve(&overlay)
                });
                if let Err(error) = resolved {
                    assert!(error.is_input(), "{error}");
                    n_refused += 1;
                }
            }
        }
        assert!(n_refused > 100, "{n_refused}");
    }

    #[test]
    fn the_plans_of_each_studys_page_are_plans() {
        let mut named: BTreeMap<String, usize> = BTreeMap::new();
        for plan in plans_of_pages() {
            let path = std::path::PathBuf::from("README.md");
            let name = study_of(&path, &plan).unwrap();
            let overlay = Overlay { file: Some((path, plan.clone())), ..Overlay::default() };
            let resolved = study(&name).unwrap().resolve(&overlay);
            assert!(resolved.is_ok(), "{plan}\n{:?}", resolved.err().map(|error| error.to_string()));
            *named.entry(name).or_default() += 1;
        }
        let expected = [
            ("alignment_tax", 1),
            ("correlation_qa", 3),
            ("counter_animal", 2),
            ("dpa", 2),
            ("er_prm", 3),
            ("goedel", 1),
            ("grm", 1),
            ("r_tuning", 2),
            ("self_moa", 1),
        ];
        assert_eq!(named.iter().map(|(name, n)| (name.as_str(), *n)).collect::<Vec<_>>(), expected);
    }
}
