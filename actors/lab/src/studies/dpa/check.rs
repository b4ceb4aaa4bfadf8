//! Which plans of `dpa` make sense, and what follows from them.

use super::settings::{
    BaselineSettings, DirectionSettings, Dpa, LanguageSettings, MeasureSettings, ModelSettings, Rater, RatingFormat,
    RewardSettings, RsfSettings,
};
use crate::error::{Error, Result};
use crate::parts::direction::Direction;
use crate::parts::endpoint::{Need, refuse};
use crate::parts::facts::{Facts, MAX_WORDS, MEASURES};
use crate::parts::marks;
use crate::parts::rows::{HELP_STEER, ULTRA_FEEDBACK};
use crate::plan::{Settings, require};

impl Dpa {
    /// The directions models are measured at.
    ///
    /// # Errors
    /// `Value` for a vector that is not of length 1, or not of two numbers.
    pub(super) fn measured(&self) -> Result<Vec<Direction>> {
        let DirectionSettings { min, max, n_measured, vectors } = &self.directions;
        if vectors.is_empty() {
            let step = (max - min) / f64::from(n_measured - 1);
            return (0..*n_measured).map(|nth| Direction::of_degrees(min + step * f64::from(nth))).collect();
        }
        let direction = |v: &Vec<f64>| {
            require(v.len() == 2, "directions.vectors", "two numbers a vector", format!("{v:?}"))?;
            Direction::new(v.clone()).map_err(|_| Error::Value {
                key: "directions.vectors".into(),
                message: format!("expected vectors of length 1, got `{v:?}`"),
            })
        };
        vectors.iter().map(direction).collect()
    }

    /// Whether the study is of the small language and a small model.
    pub(super) fn is_small(&self) -> bool {
        self.models.policy.is_empty() && !self.endpoint.is_given()
    }

    /// Weights of each attribute in [helpfulness, verbosity], `[2][attributes]`.
    pub(super) fn objectives(&self) -> [Vec<f64>; 2] {
        let RewardSettings { attributes, helpfulness, verbosity, .. } = &self.reward;
        [helpfulness, verbosity].map(|of| attributes.iter().map(|name| of.get(name).copied().unwrap_or(0.0)).collect())
    }

    fn check_reward(&self) -> Result<()> {
        let RewardSettings {
            by,
            template,
            n_prompts,
            n_answers,
            temperatures,
            noise,
            missing,
            attributes,
            helpfulness,
            verbosity,
            sft,
        } = &self.reward;
        if *by == Rater::Endpoint {
            self.judge.check("judge")?;
        }
        marks::check("reward.template", template)?;
        require(*n_prompts > 0, "reward.n_prompts", "at least 1", n_prompts)?;
        require(*n_answers > 0, "reward.n_answers", "at least 1", n_answers)?;
        let are_above = !temperatures.is_empty() && temperatures.iter().all(|t| *t > 0.0 && t.is_finite());
        require(are_above, "reward.temperatures", "at least one number above 0", format!("{temperatures:?}"))?;
        let expected = format!("a multiple of the {} of `reward.temperatures`", temperatures.len());
        require((*n_answers as usize).is_multiple_of(temperatures.len()), "reward.n_answers", &expected, n_answers)?;
        require((0.0..=100.0).contains(noise), "reward.noise", "a number in [0, 100]", noise)?;
        require((0.0..1.0).contains(missing), "reward.missing", "a share in [0, 1)", missing)?;
        let doubled = attributes.iter().enumerate().any(|(at, name)| attributes[..at].contains(name));
        let listed = attributes.join(", ");
        require(!attributes.is_empty() && !doubled, "reward.attributes", "at least one name, none twice", &listed)?;
        // Which names there can be, and whose they are.
        let known = if self.is_small() {
            Some((&MEASURES[..], "the small language's"))
        } else if self.data.ratings.is_empty() {
            None
        } else {
            match self.data.format {
                RatingFormat::Rows => None,
                RatingFormat::HelpSteer => Some((&HELP_STEER[..], "of `data.format = \"helpsteer\"`")),
                RatingFormat::UltraFeedback => Some((&ULTRA_FEEDBACK[..], "of `data.format = \"ultrafeedback\"`")),
            }
        };
        if let Some((known, whose)) = known {
            let other = attributes.iter().find(|name| !known.contains(&name.as_str()));
            let expected = format!("some of {} ({whose})", known.join(", "));
            require(other.is_none(), "reward.attributes", &expected, other.map_or("", |name| name))?;
        }
        for (key, weights) in [("reward.helpfulness", helpfulness), ("reward.verbosity", verbosity)] {
            let expected = format!("weights of dimensions of `reward.attributes` ({listed})");
            for (name, weight) in weights {
                require(attributes.contains(name), key, &expected, name)?;
                require(weight.is_finite(), key, "finite weights", weight)?;
            }
            let some = weights.values().any(|weight| *weight != 0.0);
            require(some, key, "a weight other than 0", format!("{weights:?}"))?;
        }
        sft.check("reward.sft")
    }

    fn check_directions(&self) -> Result<()> {
        let DirectionSettings { min, max, n_measured, .. } = &self.directions;
        for (key, degrees) in [("directions.min", min), ("directions.max", max)] {
            require((-90.0..=90.0).contains(degrees), key, "an angle from -90 to 90", degrees)?;
        }
        require(min < max, "directions.max", "an angle above `directions.min`", max)?;
        require(*n_measured >= 2, "directions.n_measured", "at least 2", n_measured)?;
        let measured = self.measured()?;
        require(measured.len() >= 2, "directions.vectors", "at least 2, or none", measured.len())
    }

    fn check_models(&self) -> Result<()> {
        let ModelSettings { reward, template, max_tokens, .. } = &self.models;
        let has_both = ["{system}", "{prompt}"].iter().all(|place| template.contains(place));
        require(has_both, "models.template", "a text with `{system}` and `{prompt}`", template)?;
        require(*max_tokens > 0, "models.max_tokens", "at least 1", max_tokens)?;
        let by_endpoint = self.reward.by == Rater::Endpoint;
        let twice = by_endpoint && !(reward.is_empty() && self.data.ratings.is_empty());
        let expected = "`model` where ratings or a reward model are given";
        require(!twice, "reward.by", expected, "endpoint")?;
        if self.is_small() {
            let needless = self.data.prompts.is_empty() && self.data.ratings.is_empty() && reward.is_empty();
            let got = [self.data.prompts.as_str(), &self.data.ratings.join(", "), reward].concat();
            let expected = "a folder where prompts, ratings or a reward model are given (or `endpoint.url`)";
            return require(needless, "models.policy", expected, got);
        }
        require(!self.data.prompts.is_empty(), "data.prompts", "a file of prompts for a policy of one's own", "")?;
        if self.endpoint.is_given() {
            self.check_endpoint()?;
        }
        let rated = !self.data.ratings.is_empty() || !reward.is_empty() || by_endpoint;
        let expected = "files of ratings, a reward model in `models.reward`, or `reward.by = \"endpoint\"`";
        require(rated, "data.ratings", expected, "")
    }

    /// A policy behind an endpoint has no weights: what trains it is refused, and so is a reward model that starts from it.
    fn check_endpoint(&self) -> Result<()> {
        let endpoint = &self.endpoint;
        endpoint.check("endpoint")?;
        require(self.models.policy.is_empty(), "models.policy", "none beside `endpoint.url`", &self.models.policy)?;
        let BaselineSettings { dpo, steer_lm, morlhf, soups, .. } = &self.baselines;
        for (key, trains) in [
            ("rsf.rounds", self.rsf.rounds > 0),
            ("baselines.dpo", !dpo.is_empty()),
            ("baselines.steer_lm", !steer_lm.is_empty()),
            ("baselines.morlhf", !morlhf.is_empty()),
            ("baselines.soups", !soups.is_empty()),
            ("data.ratings", !self.data.ratings.is_empty()),
        ] {
            if trains {
                refuse("endpoint", endpoint, key, Need::Weights)?;
            }
        }
        Ok(())
    }

    fn check_baselines(&self) -> Result<()> {
        let BaselineSettings { dpo, preference, steer_lm, steer, morlhf, rounds, n_prompts, gradient, kl, soups } =
            &self.baselines;
        let positive = dpo.iter().all(|beta| *beta > 0.0 && beta.is_finite());
        require(positive, "baselines.dpo", "numbers above 0", format!("{dpo:?}"))?;
        let inside = steer_lm.iter().flatten().all(|target| *target <= 100);
        require(inside, "baselines.steer_lm", "numbers from 0 to 100", format!("{steer_lm:?}"))?;
        let angles = morlhf.iter().all(|degrees| (-90.0..=90.0).contains(degrees));
        require(angles, "baselines.morlhf", "angles from -90 to 90", format!("{morlhf:?}"))?;
        require(*rounds > 0, "baselines.rounds", "at least 1", rounds)?;
        require(*n_prompts > 0, "baselines.n_prompts", "at least 1", n_prompts)?;
        require(*kl >= 0.0 && kl.is_finite(), "baselines.kl", "a number, at least 0", kl)?;
        let shares = soups.iter().all(|share| *share > 0.0 && *share < 1.0);
        require(shares, "baselines.soups", "shares in (0, 1)", format!("{soups:?}"))?;
        let ends = soups.is_empty() || morlhf.len() >= 2;
        require(ends, "baselines.soups", "none, or two angles in `baselines.morlhf`", format!("{soups:?}"))?;
        let sections = [("preference", preference), ("steer", steer), ("gradient", gradient)];
        sections.into_iter().try_for_each(|(section, sft)| sft.check(&format!("baselines.{section}")))
    }
}

impl Settings for Dpa {
    const LATER: &[&str] = &["endpoint", "judge", "data.format", "data.id", "reward.by", "reward.template"];

    fn smoke() -> Self {
        Self::small()
    }

    fn check(&self) -> Result<()> {
        self.check_models()?;
        let LanguageSettings { n_facts, n_asked } = self.language;
        let expected = format!("from 1 to {}", Facts::MOST);
        require((1..=Facts::MOST).contains(&n_facts), "language.n_facts", &expected, n_facts)?;
        require((1..=n_facts).contains(&n_asked), "language.n_asked", "from 1 to `language.n_facts`", n_asked)?;
        self.policy.check("policy")?;
        // A condition of at most ten words, both lists and their three words, an answer and its end.
        let longest = 10 + n_facts + n_asked + 3 + MAX_WORDS + 1;
        let expected = format!("at least {longest}, the longest prompt with its answer");
        require(self.policy.context >= longest, "policy.context", &expected, self.policy.context)?;
        require(self.pretrain.n_prompts > 0, "pretrain.n_prompts", "at least 1", self.pretrain.n_prompts)?;
        let rate = self.pretrain.error_rate;
        require((0.0..1.0).contains(&rate), "pretrain.error_rate", "a share in [0, 1)", rate)?;
        self.pretrain.sft.check("pretrain.sft")?;
        self.check_reward()?;
        self.check_directions()?;
        let RsfSettings { n_warm_up, n_offline, n_prompts, n_directions, n_samples, temperature, .. } = self.rsf;
        let counts = [
            ("rsf.n_warm_up", n_warm_up),
            ("rsf.n_prompts", n_prompts),
            ("rsf.n_directions", n_directions),
            ("measure.n_prompts", self.measure.n_prompts),
            ("measure.n_samples", self.measure.n_samples),
        ];
        counts.into_iter().try_for_each(|(key, n)| require(n > 0, key, "at least 1", n))?;
        for (key, n) in [("rsf.n_offline", n_offline), ("rsf.n_samples", n_samples)] {
            require(n >= 2, key, "at least 2, to choose from", n)?;
        }
        require(temperature > 0.0 && temperature.is_finite(), "rsf.temperature", "a number above 0", temperature)?;
        self.rsf.warm_up.check("rsf.warm_up")?;
        self.rsf.sft.check("rsf.sft")?;
        let MeasureSettings { reference, n_resamples, .. } = self.measure;
        require(reference.is_finite() && reference < 100.0, "measure.reference", "a number below 100", reference)?;
        require(n_resamples >= 40, "measure.n_resamples", "at least 40", n_resamples)?;
        self.check_baselines()
    }
}
