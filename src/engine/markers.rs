//! Markers: empty aborted transactions whose ABORT markers fence every older epoch of a producer id.
//!
//! EndTxn's answer is not the fence (six old-epoch batches were accepted in the 15 ms after it); the marker of exactly
//! our (producer id, epoch), seen below the high watermark, is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::batch::RawBatch;
use crate::client::{ClientError, Cluster, LogSlice, ReadOptions, TopicPartition, read_log};

use super::EngineError;
use super::settle::PATIENT;

/// Who writes a marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transactor {
    /// Transactional id of the shard.
    pub(crate) transactional_id: String,
    /// Its producer id.
    pub(crate) producer_id: i64,
    /// Its epoch.
    pub(crate) producer_epoch: i16,
}

/// Where a marker stands and what lies right before it.
#[derive(Debug, Clone)]
pub(crate) struct Marker {
    /// Offset of the marker.
    pub(crate) offset: i64,
    /// The last data batch between where the search began and the marker.
    pub(crate) last_data: Option<RawBatch>,
}

/// How long one marker is waited for. Its shard stands still meanwhile, and what is missing is tried again.
const MARKER_DEADLINE: Duration = Duration::from_secs(15);

/// Opens a transaction over the partitions and aborts it, without having written anything in it. Partitions that cannot
/// be part of it are left out and come back, each with its reason.
///
/// Their leaders must be seen to serve them before: metadata name a leader before that broker holds the partition, and the
/// marker for one that it does not hold yet can cost the answer to all the markers sent with it (`lib.rs`, "Non-obvious").
pub(crate) async fn write_markers(
    mirror: &str,
    cluster: &Cluster,
    who: &Transactor,
    partitions: &[TopicPartition],
) -> Result<HashMap<(String, i32), ClientError>, EngineError> {
    let mut names: Vec<(String, i32)> = partitions.iter().map(|tp| (tp.topic.clone(), tp.partition)).collect();
    let (id, producer_id, epoch) = (&who.transactional_id, who.producer_id, who.producer_epoch);
    let fenced = |error| if_fenced(mirror, id, error);
    let mut left_out = HashMap::new();
    while !names.is_empty() {
        let refused = cluster.add_partitions_to_txn(id, producer_id, epoch, &names).await.map_err(fenced)?;
        if refused.is_empty() {
            cluster.end_txn(id, producer_id, epoch, false).await.map_err(fenced)?;
            break;
        }
        left_out.extend(refused);
        names.retain(|name| !left_out.contains_key(name));
    }
    Ok(left_out)
}

/// Marks one partition, once it is served; refused where it cannot be marked.
pub(crate) async fn write_marker(
    mirror: &str,
    cluster: &Cluster,
    who: &Transactor,
    partition: &TopicPartition,
) -> Result<(), EngineError> {
    cluster.await_served(std::slice::from_ref(partition)).await?;
    let left_out = write_markers(mirror, cluster, who, std::slice::from_ref(partition)).await?;
    left_out.into_values().next().map_or(Ok(()), |error| Err(error.into()))
}

const INVALID_PRODUCER_EPOCH: i16 = 47;
const PRODUCER_FENCED: i16 = 90;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;

/// Says of an error that it means a newer owner, or that nobody knows of one any more, where it does.
pub(crate) fn if_fenced(mirror: &str, what: &str, error: ClientError) -> EngineError {
    match error {
        ClientError::Api { code: INVALID_PRODUCER_EPOCH | PRODUCER_FENCED, .. } => {
            EngineError::Fenced { mirror: mirror.to_owned(), what: what.to_owned(), detail: error.to_string() }
        }
        ClientError::Api { code: INVALID_PRODUCER_ID_MAPPING, .. } => {
            EngineError::Forgotten { mirror: mirror.to_owned(), what: what.to_owned(), detail: error.to_string() }
        }
        other => other.into(),
    }
}

/// Reads on from `from` until the marker of exactly this producer id and epoch appears below the high watermark.
/// Every data batch passed on the way is given to `visit`.
pub(crate) async fn await_marker(
    mirror: &str,
    cluster: &Cluster,
    tp: &TopicPartition,
    from: i64,
    who: &Transactor,
    mut visit: impl FnMut(&RawBatch) -> Result<(), EngineError>,
) -> Result<Marker, EngineError> {
    let mut since = Instant::now();
    let mut at = from;
    let mut last_data = None;
    loop {
        let slice: LogSlice = read_log(cluster, tp, at, ReadOptions { max_wait_ms: 20, ..PATIENT }).await?;
        for batch in slice.batches {
            let header = batch.header;
            if header.next_offset() <= at {
                continue;
            }
            at = header.next_offset();
            // What brings news is waited for, however long the log is.
            since = Instant::now();
            if !header.is_control() {
                visit(&batch)?;
                last_data = Some(batch);
            } else if header.producer_id == who.producer_id && header.producer_epoch == who.producer_epoch {
                return Ok(Marker { offset: header.base_offset, last_data });
            }
        }
        if since.elapsed() > MARKER_DEADLINE {
            return Err(EngineError::NoMarker {
                mirror: mirror.to_owned(),
                subject: tp.to_string(),
                producer_id: who.producer_id,
                producer_epoch: who.producer_epoch,
                waited_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
            });
        }
    }
}
