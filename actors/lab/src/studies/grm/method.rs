//! Ways to fit a reward model to preferences: what the head is, what is trained, and what a pair costs.

use std::fmt;
use std::str::FromStr;

use tracker_lm::{HeadKind, Lm, PairLoss, Regulariser, Trunk};

use super::settings::RmSettings;
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

    /// Linear for Bradley and Terry's model in all its forms; GRM's own is deeper.
    pub(super) fn head(self, settings: &RmSettings) -> HeadKind {
        if self.is_regularised() || self == Self::Frozen {
            HeadKind::Mlp { hidden: settings.hidden, outputs: vec!["reward".to_owned()] }
        } else {
            HeadKind::reward()
        }
    }

    /// What is trained beside the head.
    pub(super) fn trunk(self) -> Trunk {
        if self == Self::Frozen { Trunk::Frozen } else { Trunk::Trained }
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
