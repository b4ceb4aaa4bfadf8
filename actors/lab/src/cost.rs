//! What a stretch of a run costs this machine. Never part of an identity.

use std::time::Instant;

/// Ticks of the processor clock in a second, as Linux tells programs on every architecture (`USER_HZ`).
const TICKS: f64 = 100.0;

/// A reading of the clocks of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    wall: Instant,
    /// None where the system does not tell.
    cpu_secs: Option<f64>,
}

/// Seconds that passed, and seconds of processors that this process used in them, to a hundredth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    pub(crate) wall_secs: f64,
    pub(crate) cpu_secs: Option<f64>,
}

impl Meter {
    pub(crate) fn now() -> Self {
        Self { wall: Instant::now(), cpu_secs: cpu_secs() }
    }

    pub(crate) fn since(&self, then: &Self) -> Cost {
        Cost {
            wall_secs: self.wall.duration_since(then.wall).as_secs_f64(),
            cpu_secs: self.cpu_secs.zip(then.cpu_secs).map(|(now, then)| now - then),
        }
    }
}

/// User and system seconds of this process: fields 14 and 15 of `/proc/self/stat`.
fn cpu_secs() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map_while(|field| field.parse::<f64>().ok());
    Some((ticks.next()? + ticks.next()?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_processor_time_and_no_more_than_all_threads_had() {
        let before = Meter::now();
        let mut sum = 0.0_f64;
        while before.wall.elapsed().as_secs_f64() < 0.2 {
            sum += (0..10_000).map(f64::from).sum::<f64>();
        }
        assert!(sum > 0.0);
        let Cost { wall_secs, cpu_secs } = Meter::now().since(&before);
        assert!(wall_secs >= 0.2);
        if let Some(cpu_secs) = cpu_secs {
            assert!(cpu_secs > 0.01, "{cpu_secs} of {wall_secs}");
        }
    }
}
