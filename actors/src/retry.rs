//! Trying again what the surroundings spoiled: exponential backoff with seeded jitter, so that a run repeats.

use std::time::Duration;

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::error::Retryable;

/// How often and how patiently to try.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Tries in all, the first included; 0 counts as 1.
    pub attempts: u32,
    /// Longest wait before the second try; it doubles with every further one.
    pub base: Duration,
    /// Longest wait ever.
    pub cap: Duration,
    /// Seed of the jitter; derive it from the work item.
    pub seed: u64,
}

impl Retry {
    /// Wait after failed try number `attempt`, from 1: uniform between half and all of `min(cap, base · 2^(attempt - 1))`.
    #[must_use]
    pub fn delay(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let longest = self.base.saturating_mul(1 << doublings).min(self.cap);
        let mut stream = ChaCha8Rng::seed_from_u64(self.seed);
        stream.set_stream(u64::from(attempt));
        longest.mul_f64(stream.random_range(0.5..=1.0))
    }
}

/// Runs `operation(attempt)`, `attempt` from 1, until it succeeds, fails for good, or the tries are used up.
/// # Errors
/// The last failure, unchanged: the caller reports it and never scores it.
pub async fn retry<T, E, F>(policy: Retry, mut operation: impl FnMut(u32) -> F) -> Result<T, E>
where
    E: Retryable,
    F: Future<Output = Result<T, E>>,
{
    let mut attempt = 1;
    loop {
        match operation(attempt).await {
            Err(error) if error.is_retryable() && attempt < policy.attempts => {
                tokio::time::sleep(policy.delay(attempt)).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a test cannot unwrap has failed it")]
mod tests {
    use super::*;
    use crate::error::Fault;

    const POLICY: Retry =
        Retry { attempts: 4, base: Duration::from_millis(100), cap: Duration::from_millis(350), seed: 7 };

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn delays_double_up_to_the_cap_and_repeat_with_the_seed() {
        for (attempt, longest) in [(1, 100), (2, 200), (3, 350), (40, 350)] {
            let delay = POLICY.delay(attempt);
            assert!(delay <= Duration::from_millis(longest), "{delay:?}");
            assert!(delay >= Duration::from_millis(longest / 2), "{delay:?}");
            assert_eq!(delay, POLICY.delay(attempt));
        }
        let other = Retry { seed: 8, ..POLICY };
        assert_ne!(POLICY.delay(1), other.delay(1));
        assert_ne!(POLICY.delay(3), POLICY.delay(4));
    }

    #[test]
    fn infra_is_tried_again_and_the_last_failure_is_returned() {
        let quick = Retry { base: Duration::ZERO, ..POLICY };
        let mut tries = 0;
        let failed: Result<(), Fault> = run(retry(quick, |attempt| {
            tries = attempt;
            async move { Err(Fault::infra(format!("try {attempt}"))) }
        }));
        assert_eq!(tries, 4);
        assert_eq!(failed.unwrap_err().to_string(), "try 4");

        let third =
            run(retry(
                quick,
                |attempt| async move { if attempt < 3 { Err(Fault::infra("not yet")) } else { Ok(attempt) } },
            ));
        assert_eq!(third.unwrap(), 3);
    }

    #[test]
    fn input_and_bugs_are_tried_once() {
        for fault in [Fault::input("bad"), Fault::bug("ours")] {
            let mut tries = 0;
            let failed: Result<(), Fault> = run(retry(POLICY, |attempt| {
                tries = attempt;
                let fault = fault.clone();
                async move { Err(fault) }
            }));
            assert!(failed.is_err());
            assert_eq!(tries, 1);
        }
    }
}
