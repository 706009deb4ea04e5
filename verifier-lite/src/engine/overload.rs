//! How much public-key work strangers may cause: so many hellos a second, and whoever comes beyond
//! that is told when to come back (RFC 7252, 5.9.3.4: 5.03 with Max-Age).
//!
//! Each one who is turned away gets a later time than the one before, so that those who come back do
//! not come all at once. Nothing is kept for them: whoever comes first is served first.

use mote_schemas::time::Instant;

/// Served at once after a quiet time, in seconds' worth of the rate.
const BURST: u64 = 2;

/// Longest time that anybody is told to wait, in seconds: what an agent believes at most.
const MAX_WAIT: u64 = 900;

/// A bucket of permits.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: u64,
    /// In thousandths of a permit.
    level: u64,
    at: Instant,
    /// The time that the last one was told, in milliseconds.
    told: u64,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = u64::from(per_second.max(1));
        Bucket {
            per_second,
            level: BURST * per_second * 1000,
            at: Instant(0),
            told: 0,
        }
    }

    /// Takes a permit; or says after how many seconds to ask again.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), u32> {
        let passed = now.0.saturating_sub(self.at.0);
        let full = BURST * self.per_second * 1000;
        self.level = passed
            .saturating_mul(self.per_second)
            .saturating_add(self.level)
            .min(full);
        self.at = now;
        if let Some(level) = self.level.checked_sub(1000) {
            self.level = level;
            return Ok(());
        }
        let last = now.0 + MAX_WAIT * 1000;
        self.told = (self.told.max(now.0 + 1000) + 1000 / self.per_second).min(last);
        Err((self.told - now.0).div_ceil(1000) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_those_turned_away_are_spread() {
        let mut bucket = Bucket::new(10);
        let now = Instant(5_000);
        let answers: Vec<_> = (0..120).map(|_| bucket.take(now)).collect();
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 20);
        // A hundred in ten seconds, a second from now on.
        assert_eq!(answers[20], Err(2));
        assert_eq!(answers[119], Err(11));
        for second in 1..11 {
            let waits: usize = answers.iter().filter(|a| **a == Err(second + 1)).count();
            assert_eq!(waits, 10, "second {second}");
        }
        // A second later, ten more.
        let now = Instant(6_000);
        let served = (0..50).filter(|_| bucket.take(now).is_ok()).count();
        assert_eq!(served, 10);
    }

    #[test]
    fn nobody_is_told_to_wait_for_ever() {
        let mut bucket = Bucket::new(1);
        for _ in 0..10_000 {
            if let Err(wait) = bucket.take(Instant(u64::MAX / 2)) {
                assert!((1..=900).contains(&wait), "{wait}");
            }
        }
    }
}
