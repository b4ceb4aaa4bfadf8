//! Which plans of `self_moa` make sense, and what follows from them.

use super::settings::{
    AggregatorSettings, DataSettings, MoaSettings, SelfMoa, SeqSettings, SweepSettings, TaskSettings, TeachSettings,
};
use super::tasks::{NUMBERS, longest};
use crate::error::{Error, Result};
use crate::parts::aggregate::Order;
use crate::plan::{Settings, require};

/// Names of the small models: the generalist and a specialist a task.
pub(super) const SMALL: [&str; 4] = ["i", "a", "s", "l"];

impl SelfMoa {
    /// Whether models are small and trained here.
    pub(super) fn is_small(&self) -> bool {
        self.models.is_empty()
    }

    /// The names of all models that propose.
    pub(super) fn names(&self) -> Vec<&str> {
        if self.is_small() { SMALL.to_vec() } else { self.models.keys().map(String::as_str).collect() }
    }

    /// The models of a mixture by their places among [`SelfMoa::names`].
    ///
    /// # Errors
    /// `Value` naming the key for a name that is none, or no name.
    pub(super) fn mixture(&self, key: &str, written: &str) -> Result<Vec<usize>> {
        let names = self.names();
        let given: Vec<String> = if written.trim().contains(char::is_whitespace) || names.contains(&written.trim()) {
            written.split_whitespace().map(str::to_owned).collect()
        } else {
            written.trim().chars().map(String::from).collect()
        };
        let expected =
            format!("names of models ({}), single letters in a row or with blanks between", names.join(", "));
        require(!given.is_empty(), key, &expected, written)?;
        let place = |name: &String| {
            let message = format!("expected {expected}, got `{name}` in `{written}`");
            names.iter().position(|other| other == name).ok_or_else(|| Error::Value { key: key.to_owned(), message })
        };
        given.iter().map(place).collect()
    }

    /// The mixed mixture.
    pub(super) fn mixed(&self) -> Result<Vec<usize>> {
        self.mixture("moa.mixed", &self.moa.mixed)
    }

    /// In what order proposals are shown.
    pub(super) fn order(&self) -> Result<Order> {
        let message = || format!("expected given, reversed or shuffled, got `{}`", self.moa.order);
        self.moa.order.parse().map_err(|_| Error::Value { key: "moa.order".into(), message: message() })
    }

    /// The names of all arms, but for those that only a judge makes.
    fn arms(&self) -> Vec<&'static str> {
        let mut all = vec![
            "self-moa",
            "mixed-moa",
            "self-moa by task",
            "aggregator alone",
            "majority",
            "selector",
            "aggregator majority",
            "mixed majority",
            "mixed selector",
            "majority at equal tokens",
        ];
        all.extend((self.moa.deep_layers > 0).then_some("mixed-moa deep"));
        if self.seq.n_candidates > 0 {
            all.extend(["self-moa-seq", "mixed-seq"]);
        }
        all
    }

    fn check_moa(&self) -> Result<usize> {
        let MoaSettings {
            layers, deep_layers, temperature, aggregator_temperature, max_tokens, role, selector, ..
        } = &self.moa;
        let n = self.mixed()?.len();
        require(n >= 2, "moa.mixed", "at least 2 proposers", &self.moa.mixed)?;
        require(*layers > 0, "moa.layers", "at least 1", layers)?;
        let is_deep = *deep_layers == 0 || deep_layers > layers;
        require(is_deep, "moa.deep_layers", &format!("0, or above `moa.layers` ({layers})"), deep_layers)?;
        for (key, t) in [("moa.temperature", temperature), ("moa.aggregator_temperature", aggregator_temperature)] {
            require(*t >= 0.0 && t.is_finite(), key, "a number of at least 0", t)?;
        }
        require(*max_tokens > 0, "moa.max_tokens", "at least 1", max_tokens)?;
        self.order()?;
        require(!role.trim().is_empty(), "moa.role", "some text", role)?;
        require(!selector.trim().is_empty(), "moa.selector", "some text", selector)?;
        let SeqSettings { n_candidates, window, reserved } = self.seq;
        if n_candidates > 0 {
            require(window >= 2, "seq.window", "at least 2", window)?;
            let expected = format!("from 1 to below `seq.window` ({window})");
            require((1..window).contains(&reserved), "seq.reserved", &expected, reserved)?;
        }
        Ok(n)
    }

    fn check_sweep(&self, n: usize) -> Result<()> {
        let SweepSettings { mixtures, temperatures, k } = &self.sweep;
        for written in mixtures {
            let of = self.mixture("sweep.mixtures", written)?.len();
            require(of == n, "sweep.mixtures", &format!("mixtures of {n} proposers, as `moa.mixed` has"), written)?;
        }
        let doubled = mixtures.iter().enumerate().find(|(at, one)| mixtures[..*at].contains(one));
        require(doubled.is_none(), "sweep.mixtures", "none twice", doubled.map_or("", |(_, one)| one))?;
        let is_some = mixtures.is_empty() || !temperatures.is_empty();
        require(is_some, "sweep.temperatures", "at least one, for `sweep.mixtures`", "[]")?;
        for (at, t) in temperatures.iter().enumerate() {
            require(*t > 0.0 && t.is_finite(), "sweep.temperatures", "numbers above 0", t)?;
            require(!temperatures[..at].contains(t), "sweep.temperatures", "none twice", t)?;
        }
        // An intercept and two slopes, and something left to tell how sure they are.
        let n_points = mixtures.len() * temperatures.len();
        let expected = "none, or at least 5 pairs of a mixture and a temperature";
        require(mixtures.is_empty() || n_points >= 5, "sweep.mixtures", expected, n_points)?;
        for k in k {
            require(*k >= 1.0 && k.is_finite(), "sweep.k", "numbers of at least 1", k)?;
        }
        Ok(())
    }

    fn check_small(&self, n: usize) -> Result<()> {
        let TaskSettings { min_words, max_words, n_validation, n_test } = self.tasks;
        require((1..=max_words).contains(&min_words), "tasks.min_words", "1 to `tasks.max_words`", min_words)?;
        require(n_validation > 0, "tasks.n_validation", "at least 1", n_validation)?;
        require(n_test >= 2, "tasks.n_test", "at least 2", n_test)?;
        self.policy.check("policy")?;
        for (section, teach) in [("generalist", &self.generalist), ("specialist", &self.specialist)] {
            let TeachSettings { n_exercises, referenced, sft } = teach;
            require(*n_exercises > 0, &format!("{section}.n_exercises"), "at least 1", n_exercises)?;
            let key = format!("{section}.referenced");
            require((0.0..=1.0).contains(referenced), &key, "a share in [0, 1]", referenced)?;
            sft.check(&format!("{section}.sft"))?;
        }
        let AggregatorSettings { model, n_exercises, n_samples, temperature, n_mixtures, sft } = &self.aggregator;
        require(model == SMALL[0], "aggregator.model", "`i`, unless `models` names others", model)?;
        for (key, value) in [
            ("aggregator.n_exercises", n_exercises),
            ("aggregator.n_samples", n_samples),
            ("aggregator.n_mixtures", n_mixtures),
        ] {
            require(*value > 0, key, "at least 1", value)?;
        }
        require(*temperature > 0.0 && temperature.is_finite(), "aggregator.temperature", "above 0", temperature)?;
        sft.check("aggregator.sft")?;
        self.verifier.check("verifier")?;
        let most = if self.seq.n_candidates > 0 { n.max(self.seq.window as usize) } else { n };
        let expected = format!("at most {} references (proposers of a mixture, `seq.window`)", NUMBERS.len());
        require(most <= NUMBERS.len(), "moa.mixed", &expected, most)?;
        let max_tokens = self.moa.max_tokens as usize;
        let least = max_words + 1;
        require(
            max_tokens >= least,
            "moa.max_tokens",
            &format!("at least {least}, an answer and its end"),
            max_tokens,
        )?;
        let longest = longest(most, max_words, max_tokens) + max_tokens;
        let expected = format!("at least {longest}, {most} references, a query and an answer");
        require(self.policy.context >= longest, "policy.context", &expected, self.policy.context)?;
        let is_needless = self.data.validation.is_empty() && self.data.test.is_empty() && !self.judge.is_given();
        require(is_needless, "models", "models behind endpoints for problems of files or a judge", "none")
    }

    fn check_models(&self) -> Result<()> {
        for (name, settings) in &self.models {
            let is_name = !name.is_empty() && !name.contains(char::is_whitespace);
            require(is_name, "models", "names without blanks", name)?;
            settings.check(&format!("models.{name}"))?;
        }
        Ok(())
    }

    fn check_served(&self) -> Result<()> {
        if self.judge.is_given() {
            self.judge.check("judge")?;
        }
        let known = self.models.contains_key(&self.aggregator.model);
        let expected = format!("one of `models` ({})", self.names().join(", "));
        require(known, "aggregator.model", &expected, &self.aggregator.model)?;
        let DataSettings { validation, test, n_validation, n_test, template, graders, .. } = &self.data;
        require(!test.is_empty(), "data.test", "files of problems by task, for models behind endpoints", "none")?;
        let same = validation.keys().eq(test.keys());
        let listed =
            |of: &std::collections::BTreeMap<String, Vec<String>>| of.keys().cloned().collect::<Vec<_>>().join(", ");
        let expected =
            format!("the tasks of `data.test` ({}): the best model is never chosen on the test", listed(test));
        require(same, "data.validation", &expected, listed(validation))?;
        for name in graders.keys() {
            require(
                test.contains_key(name),
                "data.graders",
                &format!("tasks of `data.test` ({})", listed(test)),
                name,
            )?;
        }
        require(*n_validation > 0, "data.n_validation", "at least 1", n_validation)?;
        require(*n_test >= 2, "data.n_test", "at least 2", n_test)?;
        require(template.contains("{problem}"), "data.template", "a text with `{problem}` in it", template)
    }
}

impl Settings for SelfMoa {
    fn smoke() -> Self {
        Self::small()
    }

    fn check(&self) -> Result<()> {
        self.check_models()?;
        let n = self.check_moa()?;
        self.check_sweep(n)?;
        self.kernel.check("kernel")?;
        require(self.measure.n_resamples >= 40, "measure.n_resamples", "at least 40", self.measure.n_resamples)?;
        let arms = self.arms();
        for name in &self.measure.preferred {
            let expected = format!("names of arms of this plan ({})", arms.join(", "));
            require(arms.contains(&name.as_str()), "measure.preferred", &expected, name)?;
        }
        if self.is_small() { self.check_small(n) } else { self.check_served() }
    }
}
