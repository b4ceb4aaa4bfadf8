//! Which plans of `r_tuning` make sense.

use super::settings::{
    IdentifySettings, MeasureSettings, Method, RTuning, ServedSettings, TuneSettings, WorldSettings,
};
use super::world::{self, FIRST, LAST, RELATIONS};
use crate::error::Result;
use crate::parts::certainty::{Refusals, Template};
use crate::parts::endpoint::{Api, Need, Route, refuse};
use crate::plan::{Settings, require};

impl RTuning {
    /// Whether the study is of the small language and a small model.
    pub(super) fn is_small(&self) -> bool {
        self.model.folder.is_empty() && !self.endpoint.is_given()
    }

    fn check_world(&self) -> Result<()> {
        let WorldSettings {
            n_entities,
            n_invented,
            n_names,
            n_inside,
            n_outside,
            n_objects,
            exposures,
            known_from,
            ..
        } = &self.world;
        let most = FIRST.len().min(LAST.len()) as u32;
        require((2..=most).contains(n_names), "world.n_names", &format!("2 to {most}"), n_names)?;
        let room = n_names * n_names;
        let expected =
            format!("at least 8, and at most {room} with `world.n_invented` (the square of `world.n_names`)");
        let fits = *n_entities >= 8 && n_entities + n_invented <= room;
        require(fits, "world.n_entities", &expected, format!("{n_entities} and {n_invented}"))?;
        require(*n_invented > 0, "world.n_invented", "at least 1", n_invented)?;
        let n_relations = RELATIONS.len() as u32;
        require(*n_inside > 0, "world.n_inside", "at least 1", n_inside)?;
        require(*n_outside > 0, "world.n_outside", "at least 1", n_outside)?;
        let expected = format!("at most {n_relations} with `world.n_inside`");
        require(n_inside + n_outside <= n_relations, "world.n_outside", &expected, n_outside)?;
        require((4..=64).contains(n_objects), "world.n_objects", "4 to 64", n_objects)?;
        let spans = exposures.iter().any(|n| n < known_from) && exposures.iter().any(|n| n >= known_from);
        let expected = "numbers below `world.known_from` and from it on";
        require(spans, "world.exposures", expected, format!("{exposures:?}"))?;
        let least = exposures.iter().max().is_some_and(|most| *most > 0);
        require(least, "world.exposures", "a number above 0", format!("{exposures:?}"))?;
        for (key, share) in [("world.fame", self.world.fame), ("world.choices", self.world.choices)] {
            require((0.0..=1.0).contains(&share), key, "a number from 0 to 1", share)?;
        }
        world::template(&self.world).check("world")?;
        let longest = 24;
        let expected = format!("at least {longest}, for a choice with its answer and what follows it");
        require(self.policy.context >= longest, "policy.context", &expected, self.policy.context)
    }

    fn check_files(&self) -> Result<()> {
        if self.is_small() {
            let expected = "a model in `model.folder` or `endpoint.url` where files are given";
            require(self.tasks.is_empty(), "tasks", expected, self.tasks.len())?;
            require(self.refusal.is_empty(), "refusal", expected, self.refusal.len())?;
            let is_own = self.template == Template::default();
            return require(is_own, "template", "none for the small language, which has its own", "another");
        }
        self.template.check("template")?;
        require(!self.tasks.is_empty(), "tasks", "at least one task for a model of one's own", "none")?;
        for (at, task) in self.tasks.iter().enumerate() {
            let key = |name: &str| format!("tasks[{at}].{name}");
            let is_new = !task.name.is_empty() && self.tasks[..at].iter().all(|other| other.name != task.name);
            require(is_new, &key("name"), "a name that no task before has", &task.name)?;
            require(task.max_tokens > 0, &key("max_tokens"), "at least 1", task.max_tokens)?;
            require(!task.format.is_of_refusal(), &key("format"), "a format of tasks", "one of refusal")?;
            let split = !task.train.is_empty() && !task.test.is_empty();
            let is_either = task.all.is_empty() && split || !task.all.is_empty() && task.train.is_empty();
            let is_either = is_either && (task.all.is_empty() || task.test.is_empty() && task.ood.is_empty());
            require(is_either, &key("train"), "files in `train` and `test`, or in `all` alone", format!("{task:?}"))?;
            let needs = task.shots.is_empty() || task.format.is_choice();
            require(needs, &key("shots"), "none but of `mmlu`", task.shots.join(", "))?;
        }
        for (at, files) in self.refusal.iter().enumerate() {
            let key = format!("refusal[{at}]");
            let expected = "`false-qa`, `nec` or `self-aware`";
            require(files.format.is_of_refusal(), &format!("{key}.format"), expected, format!("{:?}", files.format))?;
            require(!files.files.is_empty(), &format!("{key}.files"), "at least one file", "none")?;
        }
        Ok(())
    }

    fn check_identify(&self) -> Result<()> {
        let IdentifySettings { matchers, k, temperature, unknown } = &self.identify;
        let doubled = matchers.iter().enumerate().any(|(at, matcher)| matchers[..at].contains(matcher));
        let are_some = !matchers.is_empty() && !doubled;
        require(are_some, "identify.matchers", "at least one, none twice", format!("{matchers:?}"))?;
        require(*k >= 2, "identify.k", "at least 2", k)?;
        let is_above = *temperature > 0.0 && temperature.is_finite();
        require(is_above, "identify.temperature", "a number above 0", temperature)?;
        require((0.0..=1.0).contains(unknown), "identify.unknown", "a share in [0, 1]", unknown)
    }

    fn check_tuning(&self) -> Result<()> {
        let TuneSettings { methods, others, together, sft, lora, min_loss_refused, min_loss, .. } = &self.tune;
        for (key, methods) in [("tune.methods", methods), ("tune.others", others), ("tune.together", together)] {
            let doubled = methods.iter().enumerate().any(|(at, method)| methods[..at].contains(method));
            require(!doubled, key, "no method twice", format!("{methods:?}"))?;
            for (method, needs) in [
                (Method::VanillaC, Method::Vanilla),
                (Method::VanillaU, Method::VanillaC),
                (Method::VanillaU, Method::RU),
                (Method::PretrainW, Method::PretrainT),
                (Method::PretrainW, Method::R),
            ] {
                // Behind an endpoint there is one model, which votes for itself.
                let is_free = method == Method::VanillaC && self.endpoint.is_given();
                let has = is_free || !methods.contains(&method) || methods.contains(&needs);
                require(has, key, &format!("`{}` where `{}` is", needs.name(), method.name()), format!("{methods:?}"))?;
            }
        }
        require(!methods.is_empty(), "tune.methods", "at least one", "none")?;
        sft.check("tune.sft")?;
        lora.check("tune.lora")?;
        min_loss.check("tune.min_loss")?;
        let is_share = (0.0..1.0).contains(min_loss_refused) && *min_loss_refused > 0.0;
        require(is_share, "tune.min_loss_refused", "a share in (0, 1)", min_loss_refused)
    }

    fn check_endpoint(&self) -> Result<()> {
        if !self.endpoint.is_given() {
            return Ok(());
        }
        let endpoint = &self.endpoint;
        endpoint.check("endpoint")?;
        let folder = &self.model.folder;
        require(folder.is_empty(), "model.folder", "none beside `endpoint.url`", folder)?;
        let TuneSettings { methods, others, together, .. } = &self.tune;
        for (key, methods) in [("tune.methods", methods), ("tune.others", others), ("tune.together", together)] {
            if methods.iter().any(|method| !method.is_untuned()) {
                refuse("endpoint", endpoint, key, Need::Weights)?;
            }
        }
        let ServedSettings { route, top, n_samples, .. } = &self.served;
        let is_told = *route == Route::Top || endpoint.api == Api::Completions;
        require(is_told, "served.route", "`top` where `endpoint.api` is `chat`", "echo")?;
        require((2..=1000).contains(top), "served.top", "2 to 1000", top)?;
        require(*n_samples > 0, "served.n_samples", "at least 1", n_samples)
    }
}

impl Settings for RTuning {
    fn smoke() -> Self {
        Self::small()
    }

    fn check(&self) -> Result<()> {
        self.check_endpoint()?;
        self.check_files()?;
        self.check_world()?;
        self.policy.check("policy")?;
        self.pretrain.check("pretrain")?;
        self.check_identify()?;
        self.check_tuning()?;
        let MeasureSettings { weight, n_bins, n_resamples, refusals } = &self.measure;
        require((0.0..=1.0).contains(weight), "measure.weight", "a number from 0 to 1", weight)?;
        require((1..=1000).contains(n_bins), "measure.n_bins", "1 to 1000", n_bins)?;
        require(*n_resamples >= 40, "measure.n_resamples", "at least 40", n_resamples)?;
        let are_texts = refusals.iter().all(|phrase| !phrase.trim().is_empty());
        require(are_texts, "measure.refusals", "phrases that are not blank", format!("{refusals:?}"))?;
        let known = refusals.iter().find(|phrase| Refusals::is_refusal(phrase, &[]));
        require(known.is_none(), "measure.refusals", "phrases that do not count already", known.map_or("", |p| p))
    }
}

impl Method {
    /// Its name, as plans have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::R => "r",
            Self::RRefuse => "r-refuse",
            Self::RU => "r-u",
            Self::Vanilla => "vanilla",
            Self::VanillaC => "vanilla-c",
            Self::VanillaU => "vanilla-u",
            Self::PretrainT => "pretrain-t",
            Self::PretrainW => "pretrain-w",
            Self::MinLoss => "min-loss",
        }
    }

    /// Whether it needs no weights.
    pub(super) fn is_untuned(self) -> bool {
        matches!(self, Self::PretrainT | Self::VanillaC)
    }
}
