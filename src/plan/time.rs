//! Times as they are shown: RFC 3339, UTC, milliseconds.

use std::time::{Duration, UNIX_EPOCH};

/// Milliseconds since the epoch as RFC 3339. What no calendar has is shown as the number it is.
pub fn rfc3339(ms: i64) -> String {
    let since = u64::try_from(ms).ok().map(Duration::from_millis);
    let at = since.and_then(|since| UNIX_EPOCH.checked_add(since)).filter(|_| ms < YEAR_10000_MS);
    at.map_or_else(|| format!("{ms} ms"), |at| humantime::format_rfc3339_millis(at).to_string())
}

/// humantime knows no later time.
const YEAR_10000_MS: i64 = 253_402_300_800_000;

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_utc_and_never_a_panic() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!((rfc3339(-1), rfc3339(i64::MAX)), ("-1 ms".to_owned(), format!("{} ms", i64::MAX)));
    }
}
