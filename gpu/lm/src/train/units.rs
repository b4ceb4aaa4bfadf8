//! From what callers bring to what the loop computes: rows, checked against the model, with what is known of them beforehand.

use super::fit::{Language, PairLoss, Preference, RatedPair, RatedText, Regulariser, TaggedExample, total};
use super::items::{Dpo, Example, Grpo, Kd, Pair, Rollout};
use super::{Objective, ppo, rule};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::lm::Lm;
use crate::reward::check_positions;
use crate::sample::{check_ids, check_len};
use crate::score::{self, Continuation};

/// One sequence.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) ids: Vec<u32>,
    /// Positions whose tokens are predicted; ascending, none is 0.
    pub(crate) predicted: Vec<usize>,
    /// Positions after whose tokens a head reads; ascending.
    pub(crate) reads: Vec<usize>,
}

/// Rows that belong together, and what is known of them beforehand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unit {
    pub(crate) rows: Vec<Row>,
    pub(super) known: Known,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Known {
    Nothing,
    /// What each output should be, read after read; none where nobody knows.
    Labels(Vec<Option<f64>>),
    /// m, and ln p₀(chosen) − ln p₀(rejected).
    Preference {
        margin: f64,
        reference: f64,
    },
    /// Of each token drawn.
    Ppo(ppo::Known),
    /// ln p₀ of the predicted tokens.
    Tokens {
        reference: Vec<f32>,
    },
    /// ln p₀(chosen) − ln p₀(rejected).
    Pair {
        reference: f64,
    },
    Rollout {
        sampled: Vec<f32>,
        reference: Option<Vec<f32>>,
        advantage: f64,
    },
}

impl Unit {
    /// Tokens read.
    pub(crate) fn n_ids(&self) -> usize {
        self.rows.iter().map(|row| row.ids.len()).sum()
    }

    /// Tokens predicted.
    pub(crate) fn n_predicted(&self) -> usize {
        self.rows.iter().map(|row| row.predicted.len()).sum()
    }

    /// Positions a head reads at.
    pub(crate) fn n_reads(&self) -> usize {
        self.rows.iter().map(|row| row.reads.len()).sum()
    }
}

pub(crate) fn sft_units(config: &Config, examples: &[Example]) -> Result<Vec<Unit>> {
    let unit = |(idx, example): (usize, &Example)| {
        let what = "example";
        check_ids(what, idx, &example.ids, config.vocab_size)?;
        check_len(what, idx, example.ids.len(), config.max_positions)?;
        if example.mask.len() != example.ids.len() {
            let expected = format!("{} entries, as many as ids", example.ids.len());
            return Err(Error::Range { what: "mask", expected, got: example.mask.len().to_string() });
        }
        if example.mask[0] {
            let expected = "`false` for the first token, which nothing predicts".to_owned();
            return Err(Error::Range { what: "mask", expected, got: "true".to_owned() });
        }
        let predicted: Vec<usize> = (0..example.ids.len()).filter(|at| example.mask[*at]).collect();
        if predicted.is_empty() {
            return Err(Error::Empty { what, idx, expected: "at least one predicted token" });
        }
        Ok(Unit { rows: vec![Row { ids: example.ids.clone(), predicted, reads: Vec::new() }], known: Known::Nothing })
    };
    examples.iter().enumerate().map(unit).collect()
}

pub(crate) fn kd_units(
    config: &Config,
    reference: &Lm,
    examples: &[Example],
    kd: Kd,
    n_threads: usize,
) -> Result<Vec<Unit>> {
    if !(kd.lambda.is_finite() && kd.lambda >= 0.0) {
        let got = kd.lambda.to_string();
        return Err(Error::Range { what: "lambda", expected: "a number, at least 0".into(), got });
    }
    let mut units = sft_units(config, examples)?;
    let rows = units.iter().map(|unit| &unit.rows[0]);
    let whole: Vec<Continuation<'_>> =
        rows.map(|row| Continuation { prompt: &row.ids[..1], completion: &row.ids[1..] }).collect();
    let scored = score::log_probs(reference, &whole, n_threads)?;
    for (unit, scored) in units.iter_mut().zip(scored) {
        unit.known = Known::Tokens { reference: unit.rows[0].predicted.iter().map(|at| scored[at - 1]).collect() };
    }
    Ok(units)
}

pub(super) fn row(config: &Config, what: &'static str, idx: usize, prompt: &[u32], completion: &[u32]) -> Result<Row> {
    check_ids(what, idx, prompt, config.vocab_size)?;
    check_ids(what, idx, completion, config.vocab_size)?;
    let ids = [prompt, completion].concat();
    check_len(what, idx, ids.len(), config.max_positions)?;
    Ok(Row { predicted: (prompt.len()..ids.len()).collect(), ids, reads: Vec::new() })
}

pub(crate) fn least_units(config: &Config, pairs: &[Pair]) -> Result<Vec<Unit>> {
    let unit = |(idx, pair): (usize, &Pair)| {
        let row = |completion| row(config, "pair", idx, &pair.prompt, completion);
        Ok(Unit { rows: vec![row(&pair.chosen)?, row(&pair.rejected)?], known: Known::Nothing })
    };
    pairs.iter().enumerate().map(unit).collect()
}

pub(crate) fn dpo_units<'a>(
    config: &Config,
    reference: Option<&Lm>,
    pairs: &'a [Pair],
    dpo: &Dpo,
    n_threads: usize,
) -> Result<Vec<Unit>> {
    if !(dpo.beta.is_finite() && dpo.beta > 0.0) {
        return Err(Error::Range { what: "beta", expected: "a positive number".into(), got: dpo.beta.to_string() });
    }
    if !(0.0..0.5).contains(&dpo.smoothing) {
        let got = dpo.smoothing.to_string();
        return Err(Error::Range { what: "smoothing", expected: "a number in [0, 0.5)".into(), got });
    }
    let sums: Vec<f64> = match reference {
        None => vec![0.0; 2 * pairs.len()],
        Some(reference) => {
            let of = |pair: &'a Pair| {
                let Pair { prompt, chosen, rejected } = pair;
                [Continuation { prompt, completion: chosen }, Continuation { prompt, completion: rejected }]
            };
            let continuations: Vec<Continuation<'_>> = pairs.iter().flat_map(of).collect();
            let log_probs = score::log_probs(reference, &continuations, n_threads)?;
            log_probs.iter().map(|row| row.iter().map(|log_prob| f64::from(*log_prob)).sum()).collect()
        }
    };
    let unit = |(idx, (pair, sums)): (usize, (&Pair, &[f64; 2]))| {
        let rows = vec![
            row(config, "pair", idx, &pair.prompt, &pair.chosen)?,
            row(config, "pair", idx, &pair.prompt, &pair.rejected)?,
        ];
        Ok(Unit { rows, known: Known::Pair { reference: sums[0] - sums[1] } })
    };
    pairs.iter().zip(sums.as_chunks().0).enumerate().map(unit).collect()
}

pub(crate) fn grpo_units<'a>(
    config: &Config,
    reference: Option<&Lm>,
    rollouts: &'a [Rollout],
    grpo: &Grpo,
    n_threads: usize,
) -> Result<Vec<Unit>> {
    if !(grpo.clip > 0.0 && grpo.clip < 1.0) {
        return Err(Error::Range { what: "clip", expected: "a number in (0, 1)".into(), got: grpo.clip.to_string() });
    }
    if !(grpo.kl.is_finite() && grpo.kl >= 0.0) || (grpo.kl > 0.0 && reference.is_none()) {
        let expected = "a number, at least 0, and 0 without a reference".to_owned();
        return Err(Error::Range { what: "kl", expected, got: grpo.kl.to_string() });
    }
    let references: Vec<Option<Vec<f32>>> = match reference {
        None => vec![None; rollouts.len()],
        Some(reference) => {
            let of = |rollout: &'a Rollout| {
                let Rollout { prompt, completion, .. } = rollout;
                Continuation { prompt, completion }
            };
            let continuations: Vec<Continuation<'_>> = rollouts.iter().map(of).collect();
            score::log_probs(reference, &continuations, n_threads)?.into_iter().map(Some).collect()
        }
    };
    let unit = |(idx, (rollout, reference)): (usize, (&Rollout, Option<Vec<f32>>))| {
        let row = row(config, "rollout", idx, &rollout.prompt, &rollout.completion)?;
        let n = rollout.completion.len();
        if rollout.log_probs.len() != n || rollout.log_probs.iter().any(|log_prob| !log_prob.is_finite()) {
            let expected = format!("{n} finite numbers in rollout {idx}");
            return Err(Error::Range { what: "log_probs", expected, got: format!("{:?}", rollout.log_probs) });
        }
        if !rollout.advantage.is_finite() {
            let got = rollout.advantage.to_string();
            return Err(Error::Range { what: "advantage", expected: "a finite number".into(), got });
        }
        let known = Known::Rollout { sampled: rollout.log_probs.clone(), reference, advantage: rollout.advantage };
        Ok(Unit { rows: vec![row], known })
    };
    rollouts.iter().zip(references).enumerate().map(unit).collect()
}

pub(super) fn tag_units(config: &Config, examples: &[TaggedExample]) -> Result<Vec<Unit>> {
    let what = "tagged example";
    let unit = |(idx, example): (usize, &TaggedExample)| {
        let TaggedExample { ids, at, labels } = example;
        check_ids(what, idx, ids, config.vocab_size)?;
        check_len(what, idx, ids.len(), config.max_positions)?;
        check_positions(what, idx, at, 0, ids.len())?;
        if labels.len() != at.len() {
            let expected = format!("{} labels, one for each tag", at.len());
            let position = at[labels.len().min(at.len() - 1)];
            return Err(Error::At { what, idx, position, expected, got: labels.len().to_string() });
        }
        if let Some((label, position)) = labels.iter().zip(at).find(|(label, _)| !(0.0..=1.0).contains(*label)) {
            let expected = "a label in [0, 1]".to_owned();
            return Err(Error::At { what, idx, position: *position, expected, got: label.to_string() });
        }
        let row = Row { ids: ids.clone(), predicted: Vec::new(), reads: at.clone() };
        Ok(Unit { rows: vec![row], known: Known::Labels(labels.iter().copied().map(Some).collect()) })
    };
    examples.iter().enumerate().map(unit).collect()
}

pub(super) fn pair_units<'a>(
    config: &Config,
    pairs: &'a [RatedPair],
    loss: &PairLoss,
    n_threads: usize,
) -> Result<(Objective, Vec<Unit>)> {
    let PairLoss { smoothing, positive, alpha, .. } = *loss;
    rule((0.0..0.5).contains(&smoothing), "smoothing", "a number in [0, 0.5)", &smoothing)?;
    rule(positive.is_finite() && positive >= 0.0, "positive", "a number, at least 0", &positive)?;
    rule((0.0..1.0).contains(&alpha), "alpha", "a number in [0, 1)", &alpha)?;
    let (language, reference) = match &loss.regulariser {
        Regulariser::Dpo { beta, reference } => (Language::Dpo { beta: *beta }, Some(reference)),
        Regulariser::DpoWithoutReference { beta } => (Language::Dpo { beta: *beta }, None),
        Regulariser::Sft { beta } => (Language::Sft { beta: *beta }, None),
        Regulariser::Nll => (Language::Nll, None),
    };
    if let Language::Dpo { beta } | Language::Sft { beta } = language {
        rule(beta.is_finite() && beta > 0.0, "beta", "a positive number", &beta)?;
    }
    let mut units = Vec::with_capacity(pairs.len());
    for (idx, RatedPair { pair, margin }) in pairs.iter().enumerate() {
        let what = "pair";
        if !(margin.is_finite() && *margin >= 0.0) {
            let expected = format!("a number, at least 0, in pair {idx}");
            return Err(Error::Range { what: "margin", expected, got: margin.to_string() });
        }
        let row = |completion: &[u32]| {
            let mut row = row(config, what, idx, &pair.prompt, completion)?;
            row.reads = vec![row.ids.len() - 1];
            Ok(row)
        };
        let mut rows = [row(&pair.chosen)?, row(&pair.rejected)?];
        if alpha == 0.0 {
            for row in &mut rows {
                row.predicted.clear();
            }
        } else if !matches!(language, Language::Dpo { .. }) {
            rows[1].predicted.clear();
        }
        units.push(Unit { rows: rows.into(), known: Known::Preference { margin: *margin, reference: 0.0 } });
    }
    if let (Some(lm), true) = (reference, alpha > 0.0) {
        let of = |rated: &'a RatedPair| {
            let Pair { prompt, chosen, rejected } = &rated.pair;
            [Continuation { prompt, completion: chosen }, Continuation { prompt, completion: rejected }]
        };
        let both: Vec<Continuation<'_>> = pairs.iter().flat_map(of).collect();
        let log_probs = score::log_probs(lm, &both, n_threads)?;
        let sums: Vec<f64> = log_probs.iter().map(|row| total(row)).collect();
        for ((unit, rated), sums) in units.iter_mut().zip(pairs).zip(sums.as_chunks::<2>().0) {
            unit.known = Known::Preference { margin: rated.margin, reference: sums[0] - sums[1] };
        }
    }
    Ok((Objective::Preference(Preference { smoothing, positive, alpha, language }), units))
}

pub(super) fn rating_units(config: &Config, texts: &[RatedText], outputs: &[&str]) -> Result<Vec<Unit>> {
    let what = "rated text";
    let unit = |(idx, text): (usize, &RatedText)| {
        let mut row = row(config, what, idx, &text.prompt, &text.completion)?;
        row.predicted.clear();
        row.reads = vec![row.ids.len() - 1];
        if text.labels.len() != outputs.len() {
            let expected = format!("{} labels in {what} {idx}, one for each of {outputs:?}", outputs.len());
            return Err(Error::Range { what: "labels", expected, got: text.labels.len().to_string() });
        }
        if text.labels.iter().all(Option::is_none) {
            return Err(Error::Empty { what, idx, expected: "at least one label" });
        }
        if let Some(at) = text.labels.iter().position(|label| label.is_some_and(|label| !label.is_finite())) {
            let expected = format!("a finite number or none as `{}` of {what} {idx}", outputs[at]);
            return Err(Error::Range { what: "labels", expected, got: format!("{:?}", text.labels[at]) });
        }
        Ok(Unit { rows: vec![row], known: Known::Labels(text.labels.clone()) })
    };
    texts.iter().enumerate().map(unit).collect()
}
