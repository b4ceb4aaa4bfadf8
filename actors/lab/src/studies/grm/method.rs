//! Ways to fit a reward model to preferences: what the head is, what is trained, and what a pair costs.

use std::fmt;
use std::str::FromStr;

use tracker_lm::{HeadKind, Lm, Lora, PairLoss, Regulariser, Trunk};

use super::settings::{GrmHead, RmSettings};
use crate::error::{Error, Result};

/// A way to fit a reward model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Bradley and Terry's model with a linear head.
    Bt,
    /// The same with a deeper head on a trunk that is not trained.
    Frozen,
    /// With the gap of the scores as a margin.
    Margin,
    /// With smoothed labels.
    Smooth,
    /// With rewards of what was chosen drawn above zero.
    Positive,
    /// A deeper head, and a trunk that is held to writing: by preferences against where it starts.
    Dpo,
    /// By preferences alone.
    DpoWithoutReference,
    /// By what was chosen, through a sigmoid.
    Sft,
    /// By what was chosen.
    Nll,
}

impl Method {
    /// All of them.
    pub(super) const ALL: [Self; 9] = [
        Self::Bt,
        Self::Frozen,
        Self::Margin,
        Self::Smooth,
        Self::Positive,
        Self::Dpo,
        Self::DpoWithoutReference,
        Self::Sft,
        Self::Nll,
    ];

    /// Its name in plans and labels.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bt => "bt",
            Self::Frozen => "frozen",
            Self::Margin => "margin",
            Self::Smooth => "smooth",
            Self::Positive => "positive",
            Self::Dpo => "grm-dpo",
            Self::DpoWithoutReference => "grm-dpo-noref",
            Self::Sft => "grm-sft",
            Self::Nll => "grm-nll",
        }
    }

    /// Whether its trunk is held to writing.
    pub(super) fn is_regularised(self) -> bool {
        matches!(self, Self::Dpo | Self::DpoWithoutReference | Self::Sft | Self::Nll)
    }

    /// Linear for Bradley and Terry's model in all its forms; a frozen trunk has a deeper one, and GRM's own is what the plan
    /// says.
    pub(super) fn head(self, settings: &RmSettings) -> HeadKind {
        let is_deep = self == Self::Frozen || (self.is_regularised() && settings.head == GrmHead::Mlp);
        if is_deep {
            HeadKind::Mlp { hidden: settings.hidden, outputs: vec!["reward".to_owned()] }
        } else {
            HeadKind::reward()
        }
    }

    /// What is trained beside the head.
    pub(super) fn trunk(self) -> Trunk {
        if self == Self::Frozen { Trunk::Frozen } else { Trunk::Trained }
    }

    /// What of the trunk is trained instead of all its weights; nothing of a frozen one is.
    pub(super) fn adapter(self, settings: &RmSettings) -> Option<Lora> {
        settings.lora.adapter().filter(|_| self.trunk() == Trunk::Trained)
    }

    /// Whether pairs tell by how much one is better.
    pub(super) fn has_margin(self) -> bool {
        self == Self::Margin
    }

    /// What a pair costs. `base` is where the trunk starts.
    pub(super) fn loss(self, settings: &RmSettings, base: &Lm) -> PairLoss {
        let &RmSettings { alpha, beta, smoothing, positive, .. } = settings;
        let regulariser = match self {
            Self::Dpo => Regulariser::Dpo { beta, reference: base.clone() },
            Self::DpoWithoutReference => Regulariser::DpoWithoutReference { beta },
            Self::Sft => Regulariser::Sft { beta },
            Self::Nll => Regulariser::Nll,
            _ => return self.plain(smoothing, positive),
        };
        PairLoss { alpha, regulariser, ..PairLoss::default() }
    }

    fn plain(self, smoothing: f64, positive: f64) -> PairLoss {
        match self {
            Self::Smooth => PairLoss { smoothing, ..PairLoss::default() },
            Self::Positive => PairLoss { positive, ..PairLoss::default() },
            _ => PairLoss::default(),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|method| method.name() == text).ok_or_else(|| Error::Value {
            key: "rm.methods".into(),
            message: format!("expected {}, got `{text}`", Self::ALL.map(Self::name).join(", ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;
    use tracker_lm::{Config, FitObjective, Pair, RatedPair, RewardModel, Training, fit};

    use super::*;
    use crate::parts::transform::{Exercises, Format, Operation, erring, tokenizer};

    fn base() -> Lm {
        let tokenizer = tokenizer().unwrap();
        Lm::init(Config::tiny(tokenizer.vocab_size(), 24), tokenizer, 1, &tracker_gpu::Device::cpu()).unwrap()
    }

    fn pairs(base: &Lm) -> Vec<RatedPair> {
        let mut stream = ChaCha8Rng::seed_from_u64(2);
        let all = Exercises { operations: vec![Operation::Reverse], n_words: 2..=4, formats: vec![Format::Plain] };
        let ids = |text: &str| base.tokenizer().encode(text).unwrap();
        let pair = |_| {
            let exercise = all.draw(&mut stream);
            let wrong = format!("{} a", erring(&exercise, 0.5, &mut stream));
            let pair = Pair { prompt: ids(&exercise.prompt), chosen: ids(&exercise.answer), rejected: ids(&wrong) };
            RatedPair { pair, margin: 0.0 }
        };
        (0..24).map(pair).collect()
    }

    /// The files of what a method fits to the pairs.
    fn fitted(method: Method, settings: &RmSettings) -> Vec<(String, Vec<u8>)> {
        let base = base();
        let model = RewardModel::init(&base, method.head(settings), 3).unwrap();
        let (pairs, loss) = (pairs(&base), method.loss(settings, &base));
        let objective = FitObjective::Pairs(&pairs, &loss);
        let training: Training = settings.sft.training(4);
        fit(&model, &objective, method.trunk(), &training, 2, &mut |_| ControlFlow::Continue(()))
            .unwrap()
            .to_files()
            .unwrap()
    }

    #[test]
    fn without_its_regulariser_every_grm_is_bradley_and_terrys_model_bit_for_bit() {
        let plain = RmSettings { alpha: 0.0, head: GrmHead::Linear, ..RmSettings::default() };
        let bt = fitted(Method::Bt, &plain);
        let regularised = RmSettings { alpha: 0.25, ..plain.clone() };
        for method in Method::ALL.into_iter().filter(|method| method.is_regularised()) {
            assert!(fitted(method, &plain) == bt, "{method}");
            assert!(fitted(method, &regularised) != bt, "{method}");
        }
        assert!(fitted(Method::Bt, &regularised) == bt, "α is nothing to bt");
        for other in [Method::Frozen, Method::Smooth, Method::Positive] {
            assert!(fitted(other, &plain) != bt, "{other}");
        }
    }

    #[test]
    fn names_read_back_and_heads_are_as_said() {
        let settings = RmSettings::default();
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>().unwrap(), method);
            let is_deep = matches!(method.head(&settings), HeadKind::Mlp { hidden, .. } if hidden == settings.hidden);
            assert_eq!(is_deep, method.is_regularised() || method == Method::Frozen, "{method}");
            assert_eq!(method.trunk() == Trunk::Frozen, method == Method::Frozen);
        }
        let error = "grm".parse::<Method>().unwrap_err().to_string();
        assert!(error.contains("grm-sft") && error.contains("`grm`"), "{error}");
    }
}
