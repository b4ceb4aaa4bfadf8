//! The scale of an axis: which values it spans, and where it is marked.

/// Values farther from 0 than this are not drawn: spans of such axes overflow.
const MOST: f64 = 1e300;

/// Whether a value has a place on an axis.
pub(crate) fn is_drawable(value: f64) -> bool {
    value.abs() <= MOST
}

/// A linear scale that holds all drawable values with some air at both ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|v| is_drawable(*v)) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        // A spread that numbers of this size can resolve.
        let least = (low.abs().max(high.abs()) * 1e-9).max(1e-300);
        let mut air = (high - low) * 0.06;
        if high - low < least {
            air = if low == 0.0 && high == 0.0 { 1.0 } else { least.max(low.abs().max(high.abs()) * 0.05) };
        }
        Self { low: low - air, high: high + air }
    }

    /// The values at its ends.
    pub(crate) fn ends(self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Where a value stands: 0 at the low end, 1 at the high end.
    pub(crate) fn place(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// About `wanted` round values with their texts, rising.
    pub(crate) fn ticks(self, wanted: u32) -> Vec<(f64, String)> {
        let raw = (self.high - self.low) / f64::from(wanted);
        let mut power = raw.log10().floor();
        let step = [1.0, 2.0, 5.0].into_iter().find(|s| s * 10_f64.powf(power) >= raw * 0.999).unwrap_or_else(|| {
            power += 1.0;
            1.0
        });
        let unit = 10_f64.powf(power);
        if !(unit.is_normal() && (step * unit).is_normal()) {
            return Vec::new();
        }
        let (first, last) = ((self.low / (step * unit)).ceil(), (self.high / (step * unit)).floor());
        // Counted, not added up, so that rounding cannot go on for ever.
        let n = (last - first).clamp(-1.0, 4.0 * f64::from(wanted)) as i64;
        (0..=n)
            .map(|i| {
                let value = (first + i as f64) * step * unit;
                (value, label(value, power as i32, self.low.abs().max(self.high.abs())))
            })
            .collect()
    }
}

/// A value as short as the step between ticks allows; `power` is the decimal place of the step.
fn label(value: f64, power: i32, largest: f64) -> String {
    if largest >= 1e7 || power < -6 {
        let digits = (largest.log10().floor() as i32 - power).clamp(0, 15) as usize;
        return if value == 0.0 { "0".to_owned() } else { format!("{value:.digits$e}") };
    }
    let text = format!("{value:.digits$}", digits = (-power).clamp(0, 12) as usize);
    if text.bytes().all(|b| matches!(b, b'-' | b'0' | b'.')) { text.trim_start_matches('-').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(values: &[f64]) -> Vec<String> {
        Axis::of(values.iter().copied()).ticks(5).into_iter().map(|t| t.1).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(texts(&[0.0, 1.0]), ["0.0", "0.5", "1.0"]);
        assert_eq!(texts(&[-0.31, 0.29]), ["-0.2", "0.0", "0.2"]);
        assert_eq!(texts(&[1000.0, 1400.0]), ["1000", "1100", "1200", "1300", "1400"]);
        assert_eq!(texts(&[3.0]), ["2.9", "3.0", "3.1"]);
        assert_eq!(texts(&[0.0]), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]);
        assert_eq!(texts(&[2e9, 4e9]), ["2.0e9", "2.5e9", "3.0e9", "3.5e9", "4.0e9"]);
    }

    proptest! {
        #[test]
        fn every_axis_has_room_for_its_values(values in prop::collection::vec(any::<f64>(), 0..8)) {
            let axis = Axis::of(values.iter().copied());
            prop_assert!(axis.low < axis.high && axis.low.is_finite() && axis.high.is_finite());
            prop_assert!(axis.ticks(5).len() <= 22);
            for value in values.into_iter().filter(|v| is_drawable(*v)) {
                prop_assert!((0.0..=1.0).contains(&axis.place(value)));
            }
        }
    }
}
