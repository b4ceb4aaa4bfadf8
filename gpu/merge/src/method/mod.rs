//! Merge methods as rows of a registry: what each needs, and how it merges one tensor.

mod linear;
mod select;
mod slerp;
pub(crate) mod sparse;
mod task;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::Result;
use crate::run::Work;

pub(crate) use sparse::Philox;

/// A row of the registry.
#[derive(Debug, Serialize)]
pub struct MethodInfo {
    /// Its name in recipes.
    pub name: &'static str,
    /// Where it is from.
    pub paper: &'static str,
    /// Whether differences are taken from a base model.
    pub needs_base: bool,
    /// Fewest and most models besides the base.
    pub n_inputs: (usize, usize),
    /// Its parameters.
    pub args: &'static [Arg],
    /// Merges one tensor.
    #[serde(skip)]
    pub(crate) run: fn(&mut Work<'_>) -> Result<()>,
}

/// A parameter of a method.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Arg {
    /// Its name in recipes.
    pub name: &'static str,
    /// Whether each model has its own.
    pub is_each: bool,
    /// What it is where a recipe is silent; none if it must not be.
    pub default: Option<f64>,
    /// Its range, both ends included.
    pub range: (f64, f64),
}

/// The values of a tensor's parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Args {
    pub(crate) shared: BTreeMap<&'static str, f64>,
    /// One a model, the base left out.
    pub(crate) each: Vec<BTreeMap<&'static str, f64>>,
}

impl Args {
    /// A parameter of the whole.
    pub(crate) fn shared(&self, name: &str) -> f64 {
        self.shared.get(name).copied().unwrap_or_default()
    }

    /// A parameter of every model.
    pub(crate) fn each(&self, name: &str) -> Vec<f64> {
        self.each.iter().map(|args| args.get(name).copied().unwrap_or_default()).collect()
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.shared(name) != 0.0
    }
}

const ANY: (f64, f64) = (f64::MIN, f64::MAX);
const SHARE: (f64, f64) = (0.0, 1.0);

const fn shared(name: &'static str, default: Option<f64>, range: (f64, f64)) -> Arg {
    Arg { name, is_each: false, default, range }
}

const fn each(name: &'static str, default: Option<f64>, range: (f64, f64)) -> Arg {
    Arg { name, is_each: true, default, range }
}

const WEIGHT: Arg = each("weight", None, ANY);
const DENSITY: Arg = each("density", Some(1.0), SHARE);
const GAMMA: Arg = each("gamma", Some(0.01), SHARE);
const LAMBDA: Arg = shared("lambda", Some(1.0), ANY);
/// mergekit's switch for the type of its masks, which changes nothing here.
const INT8_MASK: Arg = shared("int8_mask", Some(0.0), SHARE);
const NORMALIZED: Arg = shared("normalize", Some(1.0), SHARE);
const AS_THEY_ARE: Arg = shared("normalize", Some(0.0), SHARE);
const RESCALED: Arg = shared("rescale", Some(1.0), SHARE);
const UNSCALED: Arg = shared("rescale", Some(0.0), SHARE);

const MANY: (usize, usize) = (1, 64);

/// All methods.
static METHODS: [MethodInfo; 9] = [
    MethodInfo {
        name: "linear",
        paper: "Wortsman et al. 2022, arXiv 2203.05482",
        needs_base: false,
        n_inputs: MANY,
        args: &[WEIGHT, NORMALIZED],
        run: linear::merge,
    },
    MethodInfo {
        name: "slerp",
        paper: "Shoemake 1985",
        needs_base: true,
        n_inputs: (1, 1),
        args: &[shared("t", None, ANY)],
        run: slerp::merge,
    },
    MethodInfo {
        name: "task_arithmetic",
        paper: "Ilharco et al. 2023, arXiv 2212.04089",
        needs_base: true,
        n_inputs: MANY,
        args: &[WEIGHT, AS_THEY_ARE, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::All, task::Sum::All),
    },
    MethodInfo {
        name: "ties",
        paper: "Yadav et al. 2023, arXiv 2306.01708",
        needs_base: true,
        n_inputs: MANY,
        args: &[WEIGHT, DENSITY, NORMALIZED, UNSCALED, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::Largest, task::Sum::Elected),
    },
    MethodInfo {
        name: "dare_linear",
        paper: "Yu et al. 2024, arXiv 2311.03099",
        needs_base: true,
        n_inputs: MANY,
        args: &[WEIGHT, DENSITY, AS_THEY_ARE, RESCALED, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::Random, task::Sum::All),
    },
    MethodInfo {
        name: "dare_ties",
        paper: "Yu et al. 2024, arXiv 2311.03099",
        needs_base: true,
        n_inputs: MANY,
        args: &[WEIGHT, DENSITY, AS_THEY_ARE, RESCALED, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::Random, task::Sum::Elected),
    },
    MethodInfo {
        name: "breadcrumbs",
        paper: "Davari & Belilovsky 2024, arXiv 2312.06795",
        needs_base: true,
        n_inputs: MANY,
        args: &[WEIGHT, DENSITY, GAMMA, AS_THEY_ARE, UNSCALED, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::Middle, task::Sum::All),
    },
    MethodInfo {
        name: "breadcrumbs_ties",
        paper: "Davari & Belilovsky 2024, arXiv 2312.06795",
        needs_base: true,
        n_inputs: MANY,
        args: &[WEIGHT, DENSITY, GAMMA, AS_THEY_ARE, UNSCALED, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::Middle, task::Sum::Elected),
    },
    MethodInfo {
        name: "passthrough",
        paper: "",
        needs_base: false,
        n_inputs: (1, 1),
        args: &[shared("scale", Some(1.0), ANY)],
        run: linear::pass,
    },
];

/// All methods, in the order they are listed.
#[must_use]
pub fn methods() -> &'static [MethodInfo] {
    &METHODS
}
