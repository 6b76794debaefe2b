//! A fetcher: one connection and one incremental fetch session (KIP-227) to a source broker.
//!
//! Strict turns with the runner: a plan comes in, one fetch goes out, its answer goes back as an event. The runner
//! decides when the next fetch is due and what it asks for, so that backpressure is a missing plan and nothing else.

use std::sync::Arc;
use std::time::Duration;

use metrics::Histogram;
use tokio::sync::mpsc;

use crate::client::{Arrived, ClientError, Cluster, FetchChange, FetchLimits, FetchSession, Fetched};

use super::budget::Budget;
use super::events::Event;

/// What to ask for next.
#[derive(Debug)]
pub(crate) struct FetchPlan {
    /// Partitions that changed since the last plan: wanted from another offset, or not wanted any more.
    pub(crate) changes: Vec<FetchChange>,
    /// Bounds of this fetch.
    pub(crate) limits: FetchLimits,
}

/// Runs until the plans end.
pub(crate) async fn fetcher(
    cluster: Cluster,
    broker: i32,
    budget: Budget,
    took: Histogram,
    mut plans: mpsc::Receiver<FetchPlan>,
    events: mpsc::UnboundedSender<Event>,
) {
    let _sharer = budget.share();
    let mut session = FetchSession::new();
    let mut pace = Pace::default();
    while let Some(plan) = plans.recv().await {
        for change in plan.changes {
            session.apply(change);
        }
        let outcome = fetch(&cluster, broker, &budget, &took, &mut session, &mut pace, plan.limits).await;
        if outcome.is_err() {
            session.reset();
        }
        if events.send(Event::Fetched { broker, pace, outcome }).is_err() {
            return;
        }
    }
}

/// The lane number of fetches; produce lanes of a cluster that is source and target at once do not collide with it.
const FETCH_LANE: u16 = 1000;

async fn fetch(
    cluster: &Cluster,
    broker: i32,
    budget: &Budget,
    took: &Histogram,
    session: &mut FetchSession,
    pace: &mut Pace,
    limits: FetchLimits,
) -> Result<Vec<Fetched>, ClientError> {
    let Some(lease) = budget.lease(usize::try_from(limits.max_bytes).unwrap_or(0)).await else {
        return Ok(Vec::new());
    };
    let connection = cluster.connection(broker, FETCH_LANE).await?;
    let (frame, asked) = session.request(&connection, limits)?;
    let Arrived { body, waited, reading } = connection.submit(frame, Some(Arc::new(lease))).arrived().await?;
    pace.learn(usize::try_from(limits.max_bytes).unwrap_or(0), body.len(), waited, reading);
    let fetched = session.response(cluster.name(), asked, body)?;
    // Others waited for records to be written.
    if fetched.iter().any(|partition| !partition.records.is_empty()) {
        took.record(waited + reading);
    }
    Ok(fetched)
}

/// How much to ask a broker for at a time.
///
/// As little as will do. Each answer costs a round of requests and wake-ups, at both ends, so that small ones are dear; large
/// ones hold more memory, and leave the processor's cache before they are sent on (measured with real brokers at both ends: 0.78,
/// 0.73, 0.55, 0.52 and 0.54 CPU s/GB for 256 KiB, 512 KiB, 1 MiB, 2 MiB and 4 MiB, with a peak of 27 to 55 MB). As much as
/// it takes where the way is long: there, reading a full answer shall not be shorter than the wait for its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    bytes: usize,
}

const FETCH_BYTES_MIN: usize = 1 << 20;
const FETCH_BYTES_MAX: usize = 8 << 20;
/// A wait that is longer than what brokers nearby take, busy ones aside.
const LONG_WAIT: Duration = Duration::from_millis(5);

impl Default for Pace {
    fn default() -> Self {
        Self { bytes: FETCH_BYTES_MIN }
    }
}

impl Pace {
    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }

    /// Only an answer that is about full tells: others waited for records to be written.
    fn learn(&mut self, asked_bytes: usize, got_bytes: usize, waited: Duration, reading: Duration) {
        if got_bytes < asked_bytes / 4 * 3 {
            return;
        }
        if waited > reading.max(LONG_WAIT) {
            self.bytes = (self.bytes * 2).min(FETCH_BYTES_MAX);
        } else if waited < LONG_WAIT / 2 || reading > waited * 4 {
            self.bytes = (self.bytes / 2).max(FETCH_BYTES_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(fetches: usize, bytes_per_ms: usize, round_trip_ms: u64) -> usize {
        let mut pace = Pace::default();
        for _ in 0..fetches {
            let reading = Duration::from_micros((pace.bytes() * 1000 / bytes_per_ms) as u64);
            pace.learn(pace.bytes(), pace.bytes(), Duration::from_millis(round_trip_ms), reading);
        }
        pace.bytes()
    }

    #[test]
    fn a_fetch_is_as_large_as_the_way_is_long() {
        assert_eq!(after(20, 1 << 20, 0), FETCH_BYTES_MIN, "1 GiB/s on the same machine");
        assert_eq!(after(20, 1 << 17, 50), FETCH_BYTES_MAX, "1 Gbit/s over an ocean");
        assert_eq!(after(20, 1 << 17, 10), 2 << 20);
        assert_eq!(after(20, 1 << 10, 20), FETCH_BYTES_MIN, "a thin line is full with less");
    }

    #[test]
    fn it_shrinks_again_and_answers_that_waited_for_records_say_nothing() {
        let mut pace = Pace { bytes: FETCH_BYTES_MAX };
        pace.learn(FETCH_BYTES_MAX, 1000, Duration::from_millis(500), Duration::ZERO);
        assert_eq!(pace.bytes(), FETCH_BYTES_MAX);
        (0..9)
            .for_each(|_| pace.learn(pace.bytes(), pace.bytes(), Duration::from_micros(100), Duration::from_millis(9)));
        assert_eq!(pace.bytes(), FETCH_BYTES_MIN);
    }
}
