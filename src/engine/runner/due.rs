//! What becomes due with time: pauses after failures that end, things to be tried again, batches that have become too old.
//!
//! Finding it takes a look at every partition, which must not be paid for every event: with 10,000 partitions it would be
//! most of the work. So it is done when the earliest known time has come, and soon after events, which may have set others.

use std::time::Duration;

use super::super::events::PartId;
use super::super::part::{Again, Leave};
use super::Runner;

/// The longest the loop sleeps without an event, and what is due goes unseen.
const TICK_MS: u64 = 500;
/// The least time between two looks, ms: no pause is as short.
const LOOK_EVERY_MS: u64 = 20;

/// When to look again.
#[derive(Debug, Default)]
pub(super) struct Due {
    looked_ms: u64,
    /// The earliest time that was found.
    next_ms: u64,
    /// Something has happened since.
    stirred: bool,
}

impl Due {
    /// An event may have set a time.
    pub(super) fn stir(&mut self) {
        self.stirred = true;
    }

    fn look_at_ms(&self) -> u64 {
        let next_ms = self.next_ms.min(self.looked_ms + TICK_MS);
        let soon_ms = self.looked_ms + LOOK_EVERY_MS;
        if self.stirred { next_ms.min(soon_ms) } else { next_ms }
    }
}

impl Runner {
    /// Moves on what has become due, if it is time to look.
    pub(super) fn look_at_parts(&mut self, now_ms: u64) {
        if now_ms < self.due.look_at_ms() {
            return;
        }
        // What became due earlier and could not move on waits for an event, not for the clock.
        let looked_ms = std::mem::replace(&mut self.due.looked_ms, now_ms);
        self.due.stirred = false;
        let mut overdue = Vec::new();
        let mut again = Vec::new();
        for (id, part) in self.parts.iter_mut() {
            if let Some(why) = part.flow().and_then(|f| f.appender.overdue(now_ms)) {
                overdue.push((id, why));
            }
            let due = part.fetch_not_before_ms != 0 && part.fetch_not_before_ms <= now_ms;
            if due {
                part.fetch_not_before_ms = 0;
            }
            let wake =
                part.flow().and_then(|f| f.appender.wake_at_ms()).is_some_and(|at| looked_ms < at && at <= now_ms);
            if due || wake {
                self.touched.insert(id);
            }
            if !part.again.is_empty() {
                again.push(id);
            }
        }
        for id in again {
            self.try_again(id, now_ms);
        }
        for (id, why) in overdue {
            self.leave(id, Leave::TakeOver(why));
            self.touched.insert(id);
        }
        let parts = self.parts.all_mut().filter_map(|part| part.due_ms(now_ms));
        let fetchers = self.fetchers.values().map(|f| f.not_before_ms);
        self.due.next_ms = parts.chain(fetchers).filter(|at| *at > now_ms).min().unwrap_or(u64::MAX);
    }

    /// What is due of what could not be done before.
    fn try_again(&mut self, id: PartId, now_ms: u64) {
        let Some(part) = self.parts.get_mut(id) else { return };
        let (due, later): (Vec<_>, Vec<_>) = part.again.iter().copied().partition(|(at, _)| *at <= now_ms);
        part.again = later;
        for (_, what) in due {
            match what {
                Again::Attach => self.wait_for_attachment(id),
                Again::Retake => self.wait_for_retake(id),
                Again::Fence(shard) => self.fence(id, shard),
            }
        }
    }

    pub(super) fn sleep_for(&self) -> Duration {
        let look_ms = self.due.look_at_ms();
        let at_ms = self.throttle.held_until_ms().map_or(look_ms, |until| until.min(look_ms));
        Duration::from_millis(at_ms.saturating_sub(self.now_ms()).max(1))
    }
}
