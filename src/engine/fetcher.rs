//! A fetcher: one connection and one incremental fetch session (KIP-227) to a source broker.
//!
//! Strict turns with the runner: a plan comes in, one fetch goes out, its answer goes back as an event. The runner
//! decides when the next fetch is due and what it asks for, so that backpressure is a missing plan and nothing else.

use std::sync::Arc;
use std::time::Duration;

use metrics::Histogram;
use tokio::sync::mpsc;

use crate::client::{
    Arrived, Buffer, ClientError, Cluster, FetchChange, FetchLimits, FetchSession, Fetched, Hold, Pieces,
};

use super::budget::{Budget, Lease};
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
    let Arrived { body, waited, reading } =
        connection.submit(frame, Some(Arc::new(Room { lease, pieces: pace.pieces() }))).arrived().await?;
    pace.learn(usize::try_from(limits.max_bytes).unwrap_or(0), body.len(), waited, reading);
    let fetched = session.response(cluster.name(), asked, body)?;
    // Others waited for records to be written.
    if fetched.iter().any(|partition| !partition.records.is_empty()) {
        took.record(waited + reading);
    }
    Ok(fetched)
}

/// Where an answer goes.
struct Room {
    lease: Lease,
    pieces: Pieces,
}

impl Hold for Room {
    fn buffer(&self, bytes: usize) -> Buffer {
        self.lease.buffer(bytes)
    }

    fn give_back(&self, buffer: Buffer) {
        self.lease.give_back(buffer);
    }

    fn pieces(&self) -> Pieces {
        self.pieces
    }
}

/// How much to ask a broker for at a time.
///
/// As little as will do. Each answer costs a round of requests and wake-ups, at both ends, so that small ones are dear; large
/// ones hold more memory, and leave the processor's cache before they are sent on (measured with real brokers at both ends: 0.74,
/// 0.59, 0.63 and 0.64 CPU s/GB for 1, 2, 4 and 8 MiB, with a peak of 41 to 61 MB; 256 and 512 KiB cost more than 1 MiB). As
/// much as it takes where the way is long: there, reading a full answer shall not be shorter than the wait for its first byte.
///
/// How long the way is, the shortest of several waits tells. A broker that is busy lets most answers wait as long as an ocean would;
/// that was mistaken for distance, and sizes that went up and down all the time found no buffer to fit them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    bytes: usize,
    /// Of full answers, since a verdict was last made: the shortest wait for the first byte, and the shortest time from there to the
    /// last.
    shortest: (Duration, Duration),
    answers: u32,
    is_near: bool,
}

const FETCH_BYTES_MIN: usize = 2 << 20;
const FETCH_BYTES_MAX: usize = 8 << 20;
/// A wait that is longer than what brokers nearby take, busy ones aside.
const LONG_WAIT: Duration = Duration::from_millis(5);
/// Full answers that a verdict is made of.
const ANSWERS: u32 = 8;

impl Default for Pace {
    fn default() -> Self {
        Self::of(FETCH_BYTES_MIN, false)
    }
}

impl Pace {
    fn of(bytes: usize, is_near: bool) -> Self {
        Self { bytes, shortest: (Duration::MAX, Duration::MAX), answers: 0, is_near }
    }

    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }

    fn pieces(self) -> Pieces {
        if self.is_near { Pieces::Few } else { Pieces::AsTheyCome }
    }

    /// Only an answer that is about full tells: others waited for records to be written. One partition alone fills half of one.
    fn learn(&mut self, asked_bytes: usize, got_bytes: usize, waited: Duration, reading: Duration) {
        if got_bytes < asked_bytes / 8 * 3 {
            return;
        }
        let (wait, reading) = (self.shortest.0.min(waited), self.shortest.1.min(reading));
        self.shortest = (wait, reading);
        self.answers += 1;
        if self.answers < ANSWERS {
            return;
        }
        let bytes = if wait > reading.max(LONG_WAIT) {
            (self.bytes * 2).min(FETCH_BYTES_MAX)
        } else if wait < LONG_WAIT / 2 || reading > wait * 4 {
            (self.bytes / 2).max(FETCH_BYTES_MIN)
        } else {
            self.bytes
        };
        *self = Self::of(bytes, wait < LONG_WAIT);
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
        assert_eq!(after(80, 1 << 20, 0), FETCH_BYTES_MIN, "1 GiB/s on the same machine");
        assert_eq!(after(80, 1 << 17, 50), FETCH_BYTES_MAX, "1 Gbit/s over an ocean");
        assert_eq!(after(80, 1 << 17, 20), 4 << 20, "half as far");
        assert_eq!(after(80, 1 << 10, 20), FETCH_BYTES_MIN, "a thin line is full with less");
    }

    #[test]
    fn it_shrinks_again_and_answers_that_waited_for_records_say_nothing() {
        let mut pace = Pace::of(FETCH_BYTES_MAX, false);
        (0..80).for_each(|_| pace.learn(FETCH_BYTES_MAX, 1000, Duration::from_micros(100), Duration::ZERO));
        assert_eq!(pace.bytes(), FETCH_BYTES_MAX);
        (0..80)
            .for_each(|_| pace.learn(pace.bytes(), pace.bytes(), Duration::from_micros(100), Duration::from_millis(9)));
        assert_eq!(pace.bytes(), FETCH_BYTES_MIN);
    }

    #[test]
    fn a_broker_that_is_busy_at_times_is_not_far_away() {
        let mut pace = Pace::default();
        for turn in 0..800 {
            let waited = if turn % 5 == 0 { 1 } else { 40 };
            pace.learn(pace.bytes(), pace.bytes(), Duration::from_millis(waited), Duration::from_millis(2));
        }
        assert_eq!((pace.bytes(), pace.pieces()), (FETCH_BYTES_MIN, Pieces::Few));
    }

    #[test]
    fn a_distant_broker_is_not_waited_for_and_one_partition_alone_tells_that_it_is() {
        let mut pace = Pace::default();
        assert_eq!(pace.pieces(), Pieces::AsTheyCome, "not before it is known");
        for _ in 0..80 {
            pace.learn(pace.bytes(), pace.bytes() / 2, Duration::from_millis(50), Duration::from_millis(8));
        }
        assert_eq!((pace.bytes(), pace.pieces()), (FETCH_BYTES_MAX, Pieces::AsTheyCome));
    }
}
