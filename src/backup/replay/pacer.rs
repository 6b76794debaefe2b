//! When the next record is due.

use std::time::Duration;

use tokio::time::Instant;

/// How far a rate may be behind and still be made up for: what a slow broker took longer comes no faster afterwards.
const BEHIND: Duration = Duration::from_millis(100);
/// As good as never.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Speed {
    /// As fast as it goes.
    #[default]
    Full,
    /// So many records a second.
    Rate(f64),
    /// By the timestamps of the records, so many times faster than they were written.
    Pace(f64),
}

/// Says when.
#[derive(Debug)]
pub(super) struct Pacer {
    speed: Speed,
    /// When the first record went, and its timestamp, ms.
    first: Option<(Instant, i64)>,
    next: Option<Instant>,
}

impl Pacer {
    pub(super) fn new(speed: Speed) -> Self {
        Self { speed, first: None, next: None }
    }

    /// When a record with this timestamp (ms) is due; never before now.
    pub(super) fn due(&mut self, now: Instant, timestamp_ms: i64) -> Instant {
        match self.speed {
            Speed::Full => now,
            Speed::Rate(_) => self.next.map_or(now, |next| next.max(now)),
            Speed::Pace(factor) => {
                let (began, first) = *self.first.get_or_insert((now, timestamp_ms));
                let since = timestamp_ms.saturating_sub(first).max(0) as f64 / 1e3 / factor;
                (began + span(since)).max(now)
            }
        }
    }

    /// One went.
    pub(super) fn went(&mut self, now: Instant) {
        if let Speed::Rate(per_s) = self.speed {
            let floor = now.checked_sub(BEHIND).unwrap_or(now);
            self.next = Some(self.next.map_or(now, |next| next.max(floor)) + span(1.0 / per_s));
        }
    }
}

fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(FAR).min(FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_held_and_what_was_missed_is_not_made_up_for() {
        let began = Instant::now();
        let mut pacer = Pacer::new(Speed::Rate(100.0));
        let mut now = began;
        for _ in 0..50 {
            now = pacer.due(now, 0);
            pacer.went(now);
        }
        assert_eq!(now - began, Duration::from_millis(490));
        // The broker takes its time.
        now += Duration::from_secs(5);
        let after = now;
        for _ in 0..50 {
            now = pacer.due(now, 0);
            pacer.went(now);
        }
        let took = now - after;
        assert!(took >= Duration::from_millis(380) && took <= Duration::from_millis(490), "{took:?}");
    }

    #[test]
    fn a_pace_follows_the_timestamps() {
        let now = Instant::now();
        let mut pacer = Pacer::new(Speed::Pace(10.0));
        assert_eq!(pacer.due(now, 5_000), now);
        assert_eq!(pacer.due(now, 7_000) - now, Duration::from_millis(200));
        // Older than the first, or without a timestamp: not held up.
        assert_eq!((pacer.due(now, 1_000), pacer.due(now, -1)), (now, now));
        assert!(pacer.due(now, i64::MAX) - now <= FAR);
        assert_eq!(Pacer::new(Speed::Full).due(now, 9_000), now);
    }
}
