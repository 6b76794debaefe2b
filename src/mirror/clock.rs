//! The time that pauses and the age of records go by.

use std::sync::atomic::{AtomicU64, Ordering};

/// A clock that never goes back and never stands still.
///
/// A machine's clock may be set back, by hours. A pause that ends at a time of day would then last for hours, and records
/// would look younger than the broker takes them for. So time runs on as it ran: by the monotonic clock, from the latest
/// time of day that was ever shown. It may be ahead from then on, which is the safe side: records look older.
#[derive(Debug, Default)]
pub struct Clock {
    ahead_ms: AtomicU64,
}

impl Clock {
    /// The time, ms since the epoch, from the machine's time of day and a monotonic time, both ms.
    pub fn read(&self, day_ms: u64, monotonic_ms: u64) -> u64 {
        let ahead_ms = day_ms.saturating_sub(monotonic_ms);
        monotonic_ms.saturating_add(self.ahead_ms.fetch_max(ahead_ms, Ordering::Relaxed).max(ahead_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_time_of_day_forwards_only() {
        let clock = Clock::default();
        assert_eq!(clock.read(1_000_000, 10), 1_000_000);
        assert_eq!(clock.read(1_000_005, 15), 1_000_005);
        assert_eq!(clock.read(5_000_000, 20), 5_000_000);
        assert_eq!(clock.read(1_000_015, 25), 5_000_005, "set back: it runs on");
        assert_eq!(clock.read(1_000_025, 35), 5_000_015);
        assert_eq!(clock.read(9_000_000, 45), 9_000_000);
    }
}
