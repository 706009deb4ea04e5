//! When to speak next: jitter, so that a fleet that boots at once does not arrive at once, and
//! exponential back-off, so that an absent verifier is not called in vain.

use core::time::Duration;

/// How patient the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// The first hello after start waits a random part of this.
    pub start_jitter: Duration,
    /// Each wait is shortened by a random share of at most this many percent (0 to 100).
    pub jitter_percent: u8,
    /// Wait after the first failure.
    pub backoff_first: Duration,
    /// Longest wait between failures.
    pub backoff_max: Duration,
}

impl Default for Pacing {
    fn default() -> Self {
        Pacing {
            start_jitter: Duration::from_secs(10),
            jitter_percent: 10,
            backoff_first: Duration::from_secs(5),
            backoff_max: Duration::from_secs(900),
        }
    }
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    failures: u8,
}

impl Pacing {
    /// The verifier's interval, shortened at random: never later than asked.
    pub(super) fn jittered(&self, interval: Duration, random: u32) -> Duration {
        interval.saturating_sub(share(
            interval / 100 * u32::from(self.jitter_percent),
            random,
        ))
    }

    /// A random part of [`Pacing::start_jitter`].
    pub(super) fn start(&self, random: u32) -> Duration {
        share(self.start_jitter, random)
    }
}

impl Backoff {
    /// Wait after one more failure: doubled each time up to the maximum, of which a random half is
    /// taken off.
    pub(super) fn next(&mut self, pacing: &Pacing, random: u32) -> Duration {
        let wait = pacing
            .backoff_first
            .saturating_mul(2u32.saturating_pow(u32::from(self.failures)))
            .min(pacing.backoff_max);
        self.failures = self.failures.saturating_add(1);
        wait.saturating_sub(share(wait / 2, random))
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `random` as a fraction of 2^32, of `whole`; milliseconds.
fn share(whole: Duration, random: u32) -> Duration {
    let millis = (whole.as_millis() * u128::from(random)) >> 32;
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACING: Pacing = Pacing {
        start_jitter: Duration::from_secs(8),
        jitter_percent: 10,
        backoff_first: Duration::from_secs(5),
        backoff_max: Duration::from_secs(60),
    };

    #[test]
    fn back_off_doubles_to_its_cap_and_starts_over_after_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..6).map(|_| backoff.next(&PACING, 0).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        for _ in 0..1000 {
            assert!(backoff.next(&PACING, u32::MAX) >= Duration::from_secs(30));
        }
        backoff.reset();
        assert_eq!(backoff.next(&PACING, 0).as_secs(), 5);
    }

    #[test]
    fn jitter_only_ever_comes_early_and_within_its_share() {
        let interval = Duration::from_secs(300);
        assert_eq!(PACING.jittered(interval, 0), interval);
        let early = PACING.jittered(interval, u32::MAX);
        assert!(early >= Duration::from_secs(270) && early < Duration::from_secs(271));
        assert!(PACING.start(u32::MAX) < Duration::from_secs(8));
    }
}
