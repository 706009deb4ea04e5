//! When to speak next: jitter, so that a fleet that boots at once does not arrive at once, and
//! exponential back-off, so that an absent verifier is not called in vain. And how long to wait for an
//! answer, where the link is slower than anyone has configured.

use core::time::Duration;

use mote_schemas::coap::Parameters;

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

/// Exchanges without an answer after which the link is thought to be slow rather than bad. At 30 %
/// loss each way, of 25,000 exchanges one is the third in a row whose five messages or answers were
/// all lost.
const SLOW_AFTER: u8 = 3;

/// Most doublings of `ACK_TIMEOUT`: 64 s by default, which waits for more than half an hour.
const MAX_DOUBLINGS: u8 = 5;

/// How much longer than configured an answer may take. RFC 7252, 4.8 wants `ACK_TIMEOUT` above the
/// round trip; where it is not, every request is sent five times, and beyond 62 s none is ever
/// answered in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Patience {
    unanswered: u8,
    doublings: u8,
}

impl Patience {
    /// An exchange ended without an answer.
    pub(super) fn timed_out(&mut self) {
        self.unanswered += 1;
        if self.unanswered == SLOW_AFTER {
            self.unanswered = 0;
            self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS);
        }
    }

    /// An answer came after this time: if it would have come as well with less patience, there is
    /// less from now on.
    pub(super) fn answered(&mut self, took: Duration, configured: Parameters) {
        self.unanswered = 0;
        if self.doublings > 0 {
            let less = Patience {
                unanswered: 0,
                doublings: self.doublings - 1,
            };
            if took < less.stretched(configured).ack_timeout {
                self.doublings -= 1;
            }
        }
    }

    /// What to use for the next exchange.
    pub(super) fn stretched(&self, configured: Parameters) -> Parameters {
        // A reliable transport repeats nothing: its silence is a dead connection.
        if configured.max_retransmit == 0 {
            return configured;
        }
        Parameters {
            ack_timeout: configured.ack_timeout.saturating_mul(1 << self.doublings),
            ..configured
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

    /// When to come back to somebody who asked for so much time: never sooner, and up to half as late
    /// again.
    pub(super) fn after(asked: Duration, random: u32) -> Duration {
        asked.saturating_add(share(asked / 2, random))
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
    fn patience_grows_on_a_slow_link_alone_and_shrinks_on_a_quick_one() {
        let configured = Parameters::default();
        let timeout = |patience: &Patience| patience.stretched(configured).ack_timeout.as_secs();
        let mut patience = Patience::default();
        // Two in a row are nothing, however often.
        for _ in 0..10 {
            patience.timed_out();
            patience.timed_out();
            patience.answered(Duration::from_secs(40), configured);
            assert_eq!(timeout(&patience), 2);
        }
        let after = |patience: &mut Patience, times: usize| {
            (0..times).for_each(|_| patience.timed_out());
            timeout(patience)
        };
        assert_eq!(after(&mut patience, 3), 4);
        assert_eq!(after(&mut patience, 3), 8);
        // Slow answers keep it.
        patience.answered(Duration::from_secs(180), configured);
        assert_eq!(timeout(&patience), 8);
        patience.answered(Duration::from_millis(3_999), configured);
        assert_eq!(timeout(&patience), 4);
        patience.answered(Duration::ZERO, configured);
        patience.answered(Duration::ZERO, configured);
        assert_eq!(timeout(&patience), 2);
        assert_eq!(after(&mut patience, 1000), 64);
    }

    #[test]
    fn whoever_asks_for_time_gets_at_least_that() {
        let minute = Duration::from_secs(60);
        assert_eq!(Pacing::after(minute, 0), minute);
        let late = Pacing::after(minute, u32::MAX);
        assert!(late > Duration::from_secs(89) && late < Duration::from_secs(90));
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
