//! Values of parameters as recipes state them: a number, a gradient over layers, or a list of filters.

use serde::{Deserialize, Serialize};

/// A parameter's value in a recipe.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Setting {
    /// Yes or no.
    Flag(bool),
    /// One number for every tensor.
    Number(f64),
    /// Numbers at equal distances from the first layer to the last, straight lines between.
    Gradient(Vec<f64>),
    /// The first whose filter is part of the tensor's name; without a filter, or with `*`, for any.
    Filters(Vec<Filter>),
}

/// One entry of a list of filters.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Part of a tensor's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// What holds for it.
    pub value: Box<Setting>,
}

impl Setting {
    /// The value for a tensor at `t` in [0, 1], from the first layer to the last; none if no filter takes it. A flag is 1 or 0.
    #[must_use]
    pub fn at(&self, tensor: &str, t: f64) -> Option<f64> {
        match self {
            Self::Flag(flag) => Some(f64::from(u8::from(*flag))),
            Self::Number(number) => Some(*number),
            Self::Gradient(stops) => between(stops, t),
            Self::Filters(filters) => filters
                .iter()
                .find(|f| f.filter.as_deref().is_none_or(|part| part == "*" || tensor.contains(part)))
                .and_then(|f| f.value.at(tensor, t)),
        }
    }

    /// Whether any of it is a gradient of more than one number.
    #[must_use]
    pub fn is_gradient(&self) -> bool {
        match self {
            Self::Gradient(stops) => stops.len() > 1,
            Self::Filters(filters) => filters.iter().any(|f| f.value.is_gradient()),
            _ => false,
        }
    }
}

fn between(stops: &[f64], t: f64) -> Option<f64> {
    let last = stops.len().checked_sub(1)?;
    let at = t.clamp(0.0, 1.0) * last as f64;
    let left = at.floor() as usize;
    let right = (left + 1).min(last);
    let share = at - left as f64;
    Some((1.0 - share) * stops[left] + share * stops[right])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_runs_from_the_first_layer_to_the_last() {
        let gradient = Setting::Gradient(vec![0.0, 1.0, 0.0]);
        let at: Vec<f64> = [0.0, 0.25, 0.5, 0.75, 1.0].iter().map(|t| gradient.at("x", *t).unwrap()).collect();
        assert_eq!(at, [0.0, 0.5, 1.0, 0.5, 0.0]);
        assert_eq!(Setting::Gradient(vec![0.3]).at("x", 0.7), Some(0.3));
        assert_eq!(Setting::Gradient(vec![]).at("x", 0.7), None);
    }

    #[test]
    fn the_first_filter_that_matches_decides() {
        let text = "[{filter: self_attn, value: [0, 1]}, {filter: mlp, value: 0.25}, {value: 0.5}]";
        let setting: Setting = serde_saphyr::from_str(text).unwrap();
        assert_eq!(setting.at("model.layers.3.self_attn.q_proj.weight", 0.5), Some(0.5));
        assert_eq!(setting.at("model.layers.3.mlp.up_proj.weight", 0.5), Some(0.25));
        assert_eq!(setting.at("lm_head.weight", 0.0), Some(0.5));
        let narrow: Setting = serde_saphyr::from_str("[{filter: mlp, value: 1}]").unwrap();
        assert_eq!(narrow.at("lm_head.weight", 0.0), None);
    }
}
