//! Merge methods as rows of a registry: what each needs, and how it merges one tensor.

mod fusion;
mod linear;
mod local;
mod ranked;
mod rows;
mod sce;
mod select;
mod slerp;
pub(crate) mod sparse;
mod sphere;
mod stock;
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
    /// What a base model is to it.
    pub base: Base,
    /// Fewest and most models besides the base.
    pub n_inputs: (usize, usize),
    /// Its parameters.
    pub args: &'static [Arg],
    /// Merges one tensor.
    #[serde(skip)]
    pub(crate) run: fn(&mut Work<'_>) -> Result<()>,
}

/// What a base model is to a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// Nothing: it lends its configuration.
    Unused,
    /// One more model.
    Equal,
    /// What differences are taken from, where there is one.
    Optional,
    /// What differences are taken from.
    Required,
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
    /// Whether it is a whole number; a flag is 0 or 1.
    pub is_whole: bool,
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

/// What is wrong with the parameters of a tensor together.
pub(crate) fn fault(method: &MethodInfo, args: &Args) -> Option<String> {
    let is_normalized = method.name == "linear" && args.is_on("normalize") || args.is_on("normalize_weights");
    if is_normalized && args.each.len() > 1 && args.each("weight").iter().sum::<f64>() == 0.0 {
        return Some("weights add up to 0 and cannot be normalised".to_owned());
    }
    let has = |name: &str| method.args.iter().any(|arg| arg.is_each && arg.name == name);
    if !(has("density") && has("epsilon")) {
        return None;
    }
    let pairs = args.each("density").into_iter().zip(args.each("epsilon"));
    let mut bad = pairs.filter(|(d, epsilon)| 0.0 < *d && *d < 1.0 && (d + epsilon >= 1.0 || d - epsilon <= 0.0));
    bad.next().map(|(density, epsilon)| {
        format!("expected `density` ± `epsilon` between 0 and 1, got {density} ± {epsilon}; lower `epsilon`")
    })
}

const ANY: (f64, f64) = (f64::MIN, f64::MAX);
const SHARE: (f64, f64) = (0.0, 1.0);
const POSITIVE: (f64, f64) = (0.0, f64::MAX);

const fn shared(name: &'static str, default: Option<f64>, range: (f64, f64)) -> Arg {
    Arg { name, is_each: false, default, range, is_whole: false }
}

const fn each(name: &'static str, default: Option<f64>, range: (f64, f64)) -> Arg {
    Arg { name, is_each: true, default, range, is_whole: false }
}

const fn flag(name: &'static str, default: bool) -> Arg {
    Arg { name, is_each: false, default: Some(if default { 1.0 } else { 0.0 }), range: SHARE, is_whole: true }
}

const WEIGHT: Arg = each("weight", None, ANY);
const DENSITY: Arg = each("density", Some(1.0), SHARE);
const GAMMA: Arg = each("gamma", Some(0.01), SHARE);
const SPREAD: Arg = each("epsilon", Some(0.15), SHARE);
const CHANGED: Arg = shared("epsilon", Some(1e-5), POSITIVE);
const LAMBDA: Arg = shared("lambda", Some(1.0), ANY);
/// mergekit's switch for the type of its masks, which changes nothing here.
const INT8_MASK: Arg = flag("int8_mask", false);
const NORMALIZED: Arg = flag("normalize", true);
const AS_THEY_ARE: Arg = flag("normalize", false);
const RESCALED: Arg = flag("rescale", true);
const UNSCALED: Arg = flag("rescale", false);

const MANY: (usize, usize) = (1, 64);

/// All methods.
static METHODS: [MethodInfo; 20] = [
    MethodInfo {
        name: "linear",
        paper: "Wortsman et al. 2022, arXiv 2203.05482",
        base: Base::Unused,
        n_inputs: MANY,
        args: &[WEIGHT, NORMALIZED],
        run: linear::merge,
    },
    MethodInfo {
        name: "slerp",
        paper: "Shoemake 1985",
        base: Base::Required,
        n_inputs: (1, 1),
        args: &[shared("t", None, ANY)],
        run: slerp::merge,
    },
    MethodInfo {
        name: "nuslerp",
        paper: "Shoemake 1985; as in mergekit 0.1",
        base: Base::Optional,
        n_inputs: (2, 2),
        args: &[WEIGHT, flag("nuslerp_row_wise", false), flag("nuslerp_flatten", true)],
        run: sphere::nuslerp,
    },
    MethodInfo {
        name: "multislerp",
        paper: "Goddard 2024, goddard.blog/posts/multislerp-wow-what-a-cool-idea",
        base: Base::Optional,
        n_inputs: MANY,
        args: &[WEIGHT, flag("normalize_weights", true), shared("eps", Some(1e-8), POSITIVE)],
        run: sphere::multislerp,
    },
    MethodInfo {
        name: "karcher",
        paper: "Karcher 1977; arXiv 2603.04972",
        base: Base::Equal,
        n_inputs: MANY,
        args: &[
            Arg { is_whole: true, ..shared("max_iter", Some(10.0), (0.0, 1e6)) },
            shared("tol", Some(1e-5), POSITIVE),
        ],
        run: sphere::karcher,
    },
    MethodInfo {
        name: "task_arithmetic",
        paper: "Ilharco et al. 2023, arXiv 2212.04089",
        base: Base::Required,
        n_inputs: MANY,
        args: &[WEIGHT, AS_THEY_ARE, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::All, task::Sum::All),
    },
    MethodInfo {
        name: "ties",
        paper: "Yadav et al. 2023, arXiv 2306.01708",
        base: Base::Required,
        n_inputs: MANY,
        args: &[WEIGHT, DENSITY, NORMALIZED, UNSCALED, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::Largest, task::Sum::Elected),
    },
    MethodInfo {
        name: "dare_linear",
        paper: "Yu et al. 2024, arXiv 2311.03099",
        base: Base::Required,
        n_inputs: MANY,
        args: &[WEIGHT, DENSITY, AS_THEY_ARE, RESCALED, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::Random, task::Sum::All),
    },
    MethodInfo {
        name: "dare_ties",
        paper: "Yu et al. 2024, arXiv 2311.03099",
        base: Base::Required,
        n_inputs: MANY,
        args: &[WEIGHT, DENSITY, AS_THEY_ARE, RESCALED, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::Random, task::Sum::Elected),
    },
    MethodInfo {
        name: "breadcrumbs",
        paper: "Davari & Belilovsky 2024, arXiv 2312.06795",
        base: Base::Required,
        n_inputs: MANY,
        args: &[WEIGHT, DENSITY, GAMMA, AS_THEY_ARE, UNSCALED, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::Middle, task::Sum::All),
    },
    MethodInfo {
        name: "breadcrumbs_ties",
        paper: "Davari & Belilovsky 2024, arXiv 2312.06795",
        base: Base::Required,
        n_inputs: MANY,
        args: &[WEIGHT, DENSITY, GAMMA, AS_THEY_ARE, UNSCALED, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::Middle, task::Sum::Elected),
    },
    MethodInfo {
        name: "della",
        paper: "Deep et al. 2024, arXiv 2406.11617",
        base: Base::Required,
        n_inputs: MANY,
        args: &[WEIGHT, DENSITY, SPREAD, NORMALIZED, RESCALED, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::Ranked, task::Sum::Elected),
    },
    MethodInfo {
        name: "della_linear",
        paper: "Deep et al. 2024, arXiv 2406.11617",
        base: Base::Required,
        n_inputs: MANY,
        args: &[WEIGHT, DENSITY, SPREAD, AS_THEY_ARE, RESCALED, LAMBDA, INT8_MASK],
        run: |work| task::merge(work, task::Kept::Ranked, task::Sum::All),
    },
    MethodInfo {
        name: "sce",
        paper: "Wan et al. 2024, arXiv 2408.07990",
        base: Base::Required,
        n_inputs: MANY,
        args: &[shared("select_topk", Some(1.0), SHARE), INT8_MASK],
        run: sce::merge,
    },
    MethodInfo {
        name: "model_stock",
        paper: "Jang et al. 2024, arXiv 2403.19522",
        base: Base::Required,
        n_inputs: (2, 64),
        args: &[flag("filter_wise", false)],
        run: stock::merge,
    },
    MethodInfo {
        name: "nearswap",
        paper: "alchemonaut 2024, huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
        base: Base::Required,
        n_inputs: (1, 1),
        args: &[shared("t", None, ANY)],
        run: local::nearswap,
    },
    MethodInfo {
        name: "arcee_fusion",
        paper: "Arcee AI 2024, arcee.ai",
        base: Base::Required,
        n_inputs: (1, 1),
        args: &[],
        run: fusion::merge,
    },
    MethodInfo {
        name: "ram",
        paper: "Reinforced Agent Merging, arXiv 2601.13572",
        base: Base::Required,
        n_inputs: MANY,
        args: &[CHANGED],
        run: local::ram,
    },
    MethodInfo {
        name: "ramplus_tl",
        paper: "Reinforced Agent Merging, arXiv 2601.13572",
        base: Base::Required,
        n_inputs: MANY,
        args: &[CHANGED, shared("r", Some(0.1), ANY), shared("alpha", Some(0.2), POSITIVE)],
        run: local::ram_plus,
    },
    MethodInfo {
        name: "passthrough",
        paper: "",
        base: Base::Unused,
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
