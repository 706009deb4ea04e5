//! Times for people: how long ago, and the date in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds.
pub(super) fn now() -> u64 {
    // Before 1970 everything is "just now".
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `3 min ago`. `now` is when it is said, not when this process started: the verifier may have written
/// `then` while it was asked. Its clock is ours, so that only a clock that was set back shows the future.
pub(super) fn ago(now: u64, then: u64) -> String {
    if then >= now.saturating_add(1000) {
        return "in the future".to_owned();
    }
    let seconds = now.saturating_sub(then) / 1000;
    let (count, unit) = match seconds {
        0 => return "just now".to_owned(),
        1..=119 => (seconds, "s"),
        120..=7_199 => (seconds / 60, "min"),
        7_200..=172_799 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit} ago")
}

/// `2026-11-24 06:34:12 UTC`.
pub(super) fn date(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days from civil, inverted: eras of 400 years that begin on 1 March, so that the leap day is last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// `3 min ago (2026-11-24 06:34:12 UTC)`.
pub(super) fn both(now: u64, then: u64) -> String {
    format!("{} ({})", ago(now, then), date(then))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_date_u() {
        // date -u -d @N '+%F %T UTC'
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_795_502_052, "2026-11-24 06:34:12 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(seconds * 1000 + 999), text);
        }
    }

    #[test]
    fn ages_have_the_unit_one_thinks_in() {
        let of = |seconds: u64| ago(1_000_000_000_000, 1_000_000_000_000 - seconds * 1000);
        assert_eq!(of(0), "just now");
        assert_eq!(of(119), "119 s ago");
        assert_eq!(of(120), "2 min ago");
        assert_eq!(of(7_200), "2 h ago");
        assert_eq!(of(172_800), "2 days ago");
        assert_eq!(ago(1, 1_000), "just now");
        assert_eq!(ago(1, 1_001), "in the future");
    }
}
