//! Which plans of `counter_animal` make sense.

use std::collections::BTreeSet;

use super::settings::{
    CounterAnimal, DataSettings, DigitSettings, DiscoverySettings, ImageSettings, RobustnessSettings, TheorySettings,
};
use crate::error::Result;
use crate::parts::digits::N_DIGITS;
use crate::plan::{Settings, require};

/// Seeds, each once.
fn distinct(key: &str, seeds: &[u32]) -> Result<()> {
    let n = seeds.iter().collect::<BTreeSet<_>>().len();
    require(n == seeds.len(), key, "distinct seeds", format!("{seeds:?}"))
}

fn at_least(key: &str, least: u32, value: u32) -> Result<()> {
    require(value >= least, key, &format!("at least {least}"), value)
}

fn positive(key: &str, x: f64) -> Result<()> {
    require(x > 0.0 && x.is_finite(), key, "a number above 0", x)
}

impl CounterAnimal {
    fn check_theory(&self) -> Result<()> {
        let TheorySettings { ps, mus, sigma_inv, sigma_spu, rho, n_pairs, n_test, steps, lr, seeds } = &self.theory;
        distinct("theory.seeds", seeds)?;
        let are_shares = ps.iter().all(|p| (0.5..=1.0).contains(p)) && ps.is_sorted_by(|a, b| a < b) && !ps.is_empty();
        require(are_shares, "theory.ps", "ascending shares from 0.5 to 1, one at least", format!("{ps:?}"))?;
        require(!mus.is_empty(), "theory.mus", "one mean at least", "[]")?;
        for mu in mus {
            positive("theory.mus", *mu)?;
        }
        for (key, x) in
            [("theory.sigma_inv", sigma_inv), ("theory.sigma_spu", sigma_spu), ("theory.rho", rho), ("theory.lr", lr)]
        {
            positive(key, *x)?;
        }
        at_least("theory.n_pairs", 2, *n_pairs)?;
        at_least("theory.n_test", 1, *n_test)?;
        at_least("theory.steps", 1, *steps)
    }

    fn check_digits(&self) -> Result<()> {
        let DigitSettings { ks, agreement, n_train, n_test, hidden, embedding, batch, steps, lr, measured_at, seeds } =
            &self.digits;
        distinct("digits.seeds", seeds)?;
        let are_some = ks.iter().all(|k| (2..=N_DIGITS as u32).contains(k)) && !ks.is_empty();
        require(are_some, "digits.ks", "numbers of classes from 2 to 10, one at least", format!("{ks:?}"))?;
        distinct("digits.ks", ks)?;
        require(!agreement.is_empty(), "digits.agreement", "a pair `[p_inv, p_spu]` at least", "[]")?;
        for pair in agreement {
            let are_shares = pair.iter().all(|p| (0.0..=1.0).contains(p));
            require(are_shares, "digits.agreement", "shares in [0, 1]", format!("{pair:?}"))?;
        }
        let names = agreement.iter().map(|pair| format!("{pair:?}")).collect::<BTreeSet<_>>();
        require(names.len() == agreement.len(), "digits.agreement", "distinct pairs", format!("{agreement:?}"))?;
        for (key, least, value) in [
            ("digits.n_train", 1, n_train),
            ("digits.n_test", 20, n_test),
            ("digits.hidden", 1, hidden),
            ("digits.embedding", 1, embedding),
            ("digits.batch", 2, batch),
            ("digits.steps", 1, steps),
        ] {
            at_least(key, least, *value)?;
        }
        positive("digits.lr", *lr)?;
        let are_steps = measured_at.is_sorted_by(|a, b| a < b) && measured_at.first().is_some_and(|first| *first > 0);
        let ends = measured_at.last() == Some(steps);
        let expected = format!("ascending steps, the last of which is `digits.steps` ({steps})");
        require(are_steps && ends, "digits.measured_at", &expected, format!("{measured_at:?}"))
    }

    fn check_files(&self) -> Result<()> {
        let DataSettings { predictions, models, labels, n_top, .. } = &self.data;
        at_least("data.n_top", 1, *n_top)?;
        for (key, given) in [("data.models", models), ("data.labels", labels)] {
            let expected = "none where there are no `data.predictions`";
            let is_needed = !predictions.is_empty() || (key == "data.models" && !self.images.folder.is_empty());
            require(given.is_empty() || is_needed, key, expected, given)?;
        }
        let ImageSettings { folder, names, prompts, models, space } = &self.images;
        let few = format!("1v{}", self.discovery.n_labels);
        let expected = format!("a name other than that of the few-label space, `{few}`");
        require(!space.is_empty() && *space != few, "images.space", &expected, space)?;
        if folder.is_empty() {
            let got = [names.as_str(), &prompts.keys().cloned().collect::<Vec<_>>().join(", ")].concat();
            let expected = "a folder of photos where names, prompts or models are given";
            return require(
                names.is_empty() && prompts.is_empty() && models.is_empty(),
                "images.folder",
                expected,
                got,
            );
        }
        require(!models.is_empty(), "images.models", "a CLIP model at least", "none")?;
        require(!prompts.is_empty(), "images.prompts", "a prompt set at least", "none")?;
        require(!names.is_empty(), "images.names", "a file of class names", "")
    }

    fn check_rest(&self) -> Result<()> {
        let DiscoverySettings { model, prompts, n_labels, .. } = &self.discovery;
        require(!model.is_empty(), "discovery.model", "a name", "")?;
        require(!prompts.is_empty(), "discovery.prompts", "a name", "")?;
        at_least("discovery.n_labels", 1, *n_labels)?;
        let RobustnessSettings { reference, n_resamples, drop_tolerance, .. } = &self.robustness;
        require(!reference.is_empty(), "robustness.reference", "the name of a family", "")?;
        at_least("robustness.n_resamples", 40, *n_resamples)?;
        let is_some = *drop_tolerance >= 0.0 && drop_tolerance.is_finite();
        require(is_some, "robustness.drop_tolerance", "a number of at least 0", drop_tolerance)?;
        let DataSettings { tables, predictions, .. } = &self.data;
        let something = [&self.theory.seeds, &self.digits.seeds].iter().any(|seeds| !seeds.is_empty())
            || !(tables.is_empty() && predictions.is_empty() && self.images.folder.is_empty());
        let expected = "seeds of digits or theory, tables, predictions or photos: something to do";
        require(something, "digits.seeds", expected, "[]")
    }
}

impl Settings for CounterAnimal {
    fn smoke() -> Self {
        Self {
            theory: TheorySettings {
                ps: vec![0.6, 0.9],
                n_pairs: 100,
                n_test: 500,
                steps: 3000,
                seeds: vec![1, 2, 3],
                ..TheorySettings::default()
            },
            digits: DigitSettings {
                ks: vec![2, 3],
                agreement: vec![[0.9, 0.75], [0.9, 0.9]],
                n_train: 600,
                n_test: 60,
                steps: 60,
                measured_at: vec![15, 60],
                seeds: vec![1, 2],
                ..DigitSettings::default()
            },
            robustness: RobustnessSettings { n_resamples: 200, ..RobustnessSettings::default() },
            ..Self::default()
        }
    }

    fn check(&self) -> Result<()> {
        self.check_theory()?;
        self.check_digits()?;
        self.check_files()?;
        self.check_rest()
    }
}
