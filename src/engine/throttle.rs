//! A mirror's bandwidth limit (`mirrors[].limits.bandwidth`): one bucket for what comes from the source, one for what goes
//! to the target, so that what was held in memory is not poured out either.

use crate::mirror::{BURST_BYTES_MIN, Bucket};

/// The buckets; none where the bandwidth has no limit.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    ends: Option<Ends>,
    /// When the first of what was held back in this turn of the loop may go, ms.
    held_until_ms: Option<u64>,
}

#[derive(Debug)]
struct Ends {
    limit_bytes_per_s: u64,
    source: Bucket,
    target: Bucket,
}

/// Who wants to fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// How many there are.
    pub(crate) fetchers: usize,
    /// More is known to wait on its broker.
    pub(crate) is_behind: bool,
}

/// What a fetch may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) bytes: u64,
    /// Of that, what no other fetch may count on until the answer is there.
    pub(crate) reserved_bytes: u64,
}

impl Throttle {
    /// A limit, another one, or none; true where it is not what it was.
    pub(crate) fn set(&mut self, limit_bytes_per_s: Option<u64>, now_ms: u64) -> bool {
        if self.limit_bytes_per_s() == limit_bytes_per_s {
            return false;
        }
        match (&mut self.ends, limit_bytes_per_s) {
            (Some(ends), Some(limit)) => {
                ends.limit_bytes_per_s = limit;
                ends.source.set_rate(limit, now_ms);
                ends.target.set_rate(limit, now_ms);
            }
            (ends, limit) => {
                *ends = limit.map(|limit| Ends {
                    limit_bytes_per_s: limit,
                    source: Bucket::new(limit, now_ms),
                    target: Bucket::new(limit, now_ms),
                });
            }
        }
        true
    }

    pub(crate) fn limit_bytes_per_s(&self) -> Option<u64> {
        self.ends.as_ref().map(|ends| ends.limit_bytes_per_s)
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.ends.is_some()
    }

    /// What one of so many fetchers may ask for now, with so much asked for by the others; `None` where it must wait.
    ///
    /// A fetch that waits for news keeps what it asked for reserved: else its answer would come on top of what the others
    /// got meanwhile. So without a known backlog it asks for little: all that wait for news hold a quarter of a burst
    /// together, and who has a backlog gets on, also where an answer takes long. A fetch waits until half of what it may
    /// ask for is there: an answer's last batch is often cut short, and in small answers that would be much of the bandwidth.
    pub(crate) fn ask(&mut self, who: Asker, others_bytes: u64, now_ms: u64) -> Option<Ask> {
        let Some(ends) = &self.ends else { return Some(Ask { bytes: u64::MAX, reserved_bytes: 0 }) };
        let burst = ends.source.burst_bytes();
        let share = if who.is_behind { burst } else { burst / (4 * who.fetchers.max(1) as u64) };
        let there = ends.source.there_bytes(now_ms).unwrap_or(0).saturating_sub(others_bytes).min(share);
        if there < share / 2 {
            self.hold_until(ends.source.ready_at_ms(others_bytes + share / 2), now_ms);
            return None;
        }
        Some(Ask { bytes: there.max(BURST_BYTES_MIN), reserved_bytes: there })
    }

    /// Records came from the source.
    pub(crate) fn received(&mut self, bytes: usize, now_ms: u64) {
        if let Some(ends) = &mut self.ends {
            ends.source.charge(bytes as u64, now_ms);
        }
    }

    /// Bytes that the next produce request may hold (it may always hold one batch); `None` where it must wait.
    pub(crate) fn room(&mut self, now_ms: u64) -> Option<usize> {
        let Some(ends) = &self.ends else { return Some(usize::MAX) };
        match ends.target.there_bytes(now_ms) {
            Some(there) => Some(usize::try_from(there.max(BURST_BYTES_MIN)).unwrap_or(usize::MAX)),
            None => {
                self.hold_until(ends.target.ready_at_ms(0), now_ms);
                None
            }
        }
    }

    /// Batches go to the target, for the first time or again.
    pub(crate) fn sent(&mut self, bytes: usize, now_ms: u64) {
        if let Some(ends) = &mut self.ends {
            ends.target.charge(bytes as u64, now_ms);
        }
    }

    /// Nothing is held back until it is found to be.
    pub(crate) fn begin_turn(&mut self) {
        self.held_until_ms = None;
    }

    /// When something that was held back may go, ms.
    pub(crate) fn held_until_ms(&self) -> Option<u64> {
        self.held_until_ms
    }

    fn hold_until(&mut self, at_ms: u64, now_ms: u64) {
        // Not the clock but an answer is waited for.
        if at_ms <= now_ms {
            return;
        }
        self.held_until_ms = Some(self.held_until_ms.map_or(at_ms, |first| first.min(at_ms)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const ALONE: Asker = Asker { fetchers: 1, is_behind: true };

    fn limited(limit_bytes_per_s: u64) -> Throttle {
        let mut throttle = Throttle::default();
        assert!(throttle.set(Some(limit_bytes_per_s), 0));
        throttle
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let mut throttle = Throttle::default();
        assert!(!throttle.set(None, 0), "nothing new");
        throttle.received(usize::MAX, 0);
        throttle.sent(usize::MAX, 0);
        assert_eq!(throttle.ask(ALONE, 0, 0).map(|ask| ask.bytes), Some(u64::MAX));
        assert_eq!((throttle.room(0), throttle.held_until_ms()), (Some(usize::MAX), None));
    }

    #[test]
    fn what_came_beyond_is_waited_for_and_the_loop_knows_until_when() {
        let mut throttle = limited(4 * MIB);
        assert_eq!(throttle.ask(ALONE, 0, 0), Some(Ask { bytes: MIB, reserved_bytes: MIB }));
        throttle.received(3 << 20, 0);
        assert_eq!(throttle.ask(ALONE, 0, 100), None);
        assert_eq!(throttle.held_until_ms(), Some(625), "two owed and half a burst, at four a second");
        throttle.sent(2 << 20, 0);
        assert_eq!(throttle.room(249), None);
        assert_eq!(throttle.held_until_ms(), Some(250), "the earlier of the two");
        throttle.begin_turn();
        assert_eq!((throttle.room(250), throttle.held_until_ms()), (Some(64 << 10), None));
        assert_eq!(throttle.ask(ALONE, 0, 625).map(|ask| ask.bytes), Some(MIB / 2));
    }

    /// All but one wait for news, with what they asked for reserved: that one gets most of a burst each time.
    #[test]
    fn fetches_that_wait_for_news_keep_none_with_a_backlog_waiting() {
        for (limit, fetchers) in [(MIB, 3), (16 << 10, 9), (400 * MIB, 2)] {
            let mut throttle = limited(limit);
            let mut others = 0;
            for _ in 1..fetchers {
                others +=
                    throttle.ask(Asker { fetchers, is_behind: false }, others, 0).expect("a share").reserved_bytes;
            }
            let (mut now_ms, mut sum) = (0, 0);
            for _ in 0..20 {
                let who = Asker { fetchers, is_behind: true };
                let ask = throttle.ask(who, others, now_ms).expect("it was said to be there");
                throttle.received(ask.bytes as usize, now_ms);
                sum += ask.bytes;
                assert_eq!(throttle.ask(who, others, now_ms), None);
                let until_ms = throttle.held_until_ms().expect("it is told");
                assert!(until_ms > now_ms, "no spinning");
                now_ms = until_ms;
                throttle.begin_turn();
            }
            assert!(sum >= limit * now_ms / 1000, "{sum} in {now_ms} ms at {limit}");
        }
    }

    #[test]
    fn what_only_an_answer_can_free_is_not_waited_for_by_the_clock() {
        let mut throttle = limited(MIB);
        assert_eq!(throttle.ask(ALONE, MIB, 5), None);
        assert_eq!(throttle.held_until_ms(), None);
    }

    #[test]
    fn a_limit_that_is_lifted_forgets_what_was_owed() {
        let mut throttle = limited(MIB);
        throttle.received(1 << 30, 0);
        assert!(
            throttle.set(Some(2 * MIB), 0) && throttle.ask(ALONE, 0, 1_000).is_none(),
            "it stays owed under another"
        );
        assert!(!throttle.set(Some(2 * MIB), 0));
        assert!(throttle.set(None, 0) && throttle.ask(ALONE, 0, 0).is_some());
        assert_eq!(throttle.limit_bytes_per_s(), None);
    }
}
