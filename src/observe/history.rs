//! How a mirror fared lately: a few numbers every few seconds, for a while. In memory only, and of a fixed size.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

use super::live::Live;
use crate::engine::Board;

/// Between two samples.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// So many are kept: an hour.
const KEPT: usize = 720;

/// One look at a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Sample {
    /// When, ms since the epoch.
    pub at_ms: u64,
    /// Source offsets not mirrored, over all partitions that tell.
    pub lag_records: i64,
    /// Partitions halted.
    pub halted: usize,
}

impl Sample {
    /// None before the board was first published.
    fn of(board: &Board) -> Option<Self> {
        let (at_ms, parts) = board.read();
        let halted = parts.iter().filter(|part| part.state == "halted").count();
        let lag_records = parts.iter().filter_map(crate::engine::PartView::lag_records).sum();
        (at_ms > 0).then_some(Self { at_ms, lag_records, halted })
    }
}

/// The samples of one mirror, oldest first. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<VecDeque<Sample>>>);

impl History {
    /// All that are kept and later than this, ms since the epoch.
    pub fn samples_since(&self, at_ms: u64) -> Vec<Sample> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().filter(|sample| sample.at_ms > at_ms).copied().collect()
    }

    fn push(&self, sample: Sample) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A board that stands still has no news.
        if samples.back().is_some_and(|last| last.at_ms == sample.at_ms) {
            return;
        }
        if samples.len() == KEPT {
            samples.pop_front();
        }
        samples.push_back(sample);
    }
}

/// Takes a sample of each board again and again, until told to stop.
pub(super) async fn keep(live: Live, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        for (board, history) in live.boards() {
            if let Some(sample) = Sample::of(&board) {
                history.push(sample);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_takes_no_sample_twice() {
        let history = History::default();
        for at_ms in 1..=KEPT as u64 + 10 {
            let sample = Sample { at_ms, lag_records: 1, halted: 0 };
            history.push(sample);
            history.push(sample);
        }
        let samples = history.samples_since(0);
        assert_eq!((samples.len(), samples[0].at_ms), (KEPT, 11));
        assert_eq!(history.samples_since(KEPT as u64 + 9).len(), 1);
    }
}
