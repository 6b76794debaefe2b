//! A lane: one connection to a target broker. A broker handles one connection's requests one after another, so
//! partitions are pinned to a lane, and requests of a lane are answered in order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use metrics::Histogram;
use tokio::sync::mpsc;

use crate::client::{
    ClientError, Cluster, Connection, Pending, ProduceEntry, ProduceResult, encode_produce, parse_produce,
};

use super::events::{Event, PartId};

/// Names a lane: broker id and number.
pub(crate) type LaneKey = (i32, u16);

/// A produce request on its way: what goes on the wire, and whose it is.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) entries: Vec<ProduceEntry>,
    /// Part and bound target offset of each entry, in the same order.
    pub(crate) whose: Vec<(PartId, i64)>,
    /// When the newest record of that batch was written whose newest record is the oldest, ms.
    pub(crate) written_ms: i64,
    /// When it was handed over; it is not sent later than `lease` after that, should the process sleep in between.
    pub(crate) made: Instant,
    pub(crate) lease: Duration,
}

/// A produce request without an answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// There was no connection to send it on: the target has nothing of it.
    NotSent(ClientError),
    /// It may have arrived or not.
    Lost(ClientError),
}

struct InFlight {
    whose: Vec<(PartId, i64)>,
    written_ms: i64,
    made: Instant,
    keys: Vec<(String, uuid::Uuid, i32)>,
    version: i16,
    pending: Pending,
}

/// How long the target may take to replicate before it answers REQUEST_TIMED_OUT, ms.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;

/// Sends flights in the order they come and reports each answer as an event.
pub(crate) async fn lane(
    cluster: Cluster,
    key: LaneKey,
    took: Histogram,
    mut flights: mpsc::UnboundedReceiver<Flight>,
    events: mpsc::UnboundedSender<Event>,
) {
    let mut under_way: VecDeque<InFlight> = VecDeque::new();
    let mut next: Option<Flight> = None;
    let mut era = cluster.era_number();
    loop {
        // A connection of another era would overtake what is under way.
        if let Some(flight) = next.take_if(|_| under_way.is_empty() || cluster.era_number() == era) {
            let now = if under_way.is_empty() { cluster.era_number() } else { era };
            let connection = cluster.connection(key.0, key.1).await;
            if cluster.era_number() != now && !under_way.is_empty() {
                next = Some(flight);
                continue;
            }
            era = now;
            match send(&cluster, connection, flight) {
                Ok(in_flight) => under_way.push_back(in_flight),
                Err((whose, error)) => {
                    let _ = events.send(Event::Produced {
                        lane: key,
                        whose,
                        written_ms: None,
                        outcome: Err(Unanswered::NotSent(*error)),
                    });
                }
            }
            continue;
        }
        tokio::select! {
            flight = flights.recv(), if next.is_none() => {
                let Some(flight) = flight else { return };
                next = Some(flight);
            }
            outcome = front(&mut under_way), if !under_way.is_empty() => {
                let Some(done) = under_way.pop_front() else { continue };
                let outcome = outcome.and_then(|body| parse_produce(cluster.name(), done.version, body, &done.keys));
                took.record(done.made.elapsed());
                let outcome = outcome.map_err(Unanswered::Lost);
                let written_ms = Some(done.written_ms);
                let _ = events.send(Event::Produced { lane: key, whose: done.whose, written_ms, outcome });
            }
        }
    }
}

async fn front(under_way: &mut VecDeque<InFlight>) -> Result<bytes::Bytes, ClientError> {
    match under_way.front_mut() {
        Some(first) => (&mut first.pending).await,
        None => std::future::pending().await,
    }
}

/// Whose it is, and why.
type NotSent = (Vec<(PartId, i64)>, Box<ClientError>);

/// Fails only where nothing was handed to a connection yet.
fn send(cluster: &Cluster, connection: Result<Connection, ClientError>, flight: Flight) -> Result<InFlight, NotSent> {
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => return Err((flight.whose, error.into())),
    };
    if flight.made.elapsed() > flight.lease {
        let (address, detail) =
            (connection.address().to_owned(), "this process slept, and does not send any more".to_owned());
        let error = ClientError::Disconnected { cluster: cluster.name().to_owned(), address, detail };
        return Err((flight.whose, error.into()));
    }
    let keys = flight.entries.iter().map(|e| (e.topic.clone(), e.topic_id, e.partition)).collect();
    let version = match connection.produce_version() {
        Ok(version) => version,
        Err(error) => return Err((flight.whose, error.into())),
    };
    let frame = encode_produce(version, PRODUCE_TIMEOUT_MS, flight.entries);
    let Flight { whose, written_ms, made, .. } = flight;
    Ok(InFlight { whose, written_ms, made, keys, version, pending: connection.submit(frame, None) })
}

/// The answers of one produce request, in the order of its entries.
pub(crate) type Answers = Vec<ProduceResult>;
