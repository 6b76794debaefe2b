//! The settled end of a target partition: 1 + the last data batch below our marker.
//!
//! Walks back over control batches (our own markers, one a start) and over what compaction left. Nothing can be
//! appended by an older owner any more when this runs.

use std::time::Duration;

use crate::batch::{self, BatchHeader, RawBatch, Record};
use crate::client::{Cluster, ReadError, ReadOptions, TopicPartition, nothing_below_end, read_log};

/// How one partition is read while its shard stands still: what does not answer soon is tried again later.
pub(crate) const PATIENT: ReadOptions = ReadOptions {
    max_bytes: 1 << 20,
    max_wait_ms: 100,
    committed: false,
    deadline: Duration::from_secs(5),
    last_fetched_epoch: -1,
};

/// The last data batch that counts and begins below `below`, or `None` where there is none down to `log_start`.
pub(crate) async fn last_data_below(
    cluster: &Cluster,
    tp: &TopicPartition,
    below: i64,
    log_start: i64,
    counts: impl Fn(&BatchHeader) -> bool,
) -> Result<Option<RawBatch>, ReadError> {
    let mut below = below;
    let mut reach = 1;
    while below > log_start {
        let from = (below - reach).max(log_start);
        match scan(cluster, tp, from, below, &counts).await? {
            Scanned::Data(batch) => return Ok(Some(batch)),
            Scanned::Other { lowest } => below = lowest.min(from),
            Scanned::Nothing => below = from,
        }
        reach = reach.saturating_mul(4).min(1 << 40);
    }
    Ok(None)
}

enum Scanned {
    Data(RawBatch),
    Other { lowest: i64 },
    Nothing,
}

async fn scan(
    cluster: &Cluster,
    tp: &TopicPartition,
    from: i64,
    below: i64,
    counts: &impl Fn(&BatchHeader) -> bool,
) -> Result<Scanned, ReadError> {
    let mut at = from;
    let mut found = Scanned::Nothing;
    while at < below {
        let slice = read_log(cluster, tp, at, ReadOptions { max_wait_ms: 0, ..PATIENT }).await?;
        let Some(last) = slice.batches.last() else {
            // Only an end that the leader vouches for is one.
            let is_end = slice.high_watermark >= below;
            return if is_end { Ok(found) } else { Err(nothing_below_end(cluster, tp).into()) };
        };
        let next = last.header.next_offset();
        for batch in slice.batches.into_iter().filter(|b| b.header.base_offset < below) {
            // Also what compaction emptied: the cleaner keeps the last batch of a producer, for its offsets.
            let is_data = !batch.header.is_control() && counts(&batch.header);
            found = match found {
                _ if is_data => Scanned::Data(batch),
                Scanned::Nothing => Scanned::Other { lowest: batch.header.base_offset },
                other => other,
            };
        }
        if next <= at {
            break;
        }
        at = next;
    }
    Ok(found)
}

/// What the comparison of the last mirrored record with its source record showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LastRecord {
    /// Key, value, headers and timestamp are equal.
    Same,
    /// The source does not hold that record any more (retention, compaction), or its log was truncated and has another
    /// one there, of another leader epoch, which the next fetch finds out: nothing to compare with.
    NotThere,
    /// They differ, and how.
    Differs(String),
}

/// Caps what a compressed batch may unfold to here.
const COMPARE_LIMIT_BYTES: usize = 256 << 20;

/// Compares the record at `target_offset` of `target` with the one at `source_offset` on the source, which was written in
/// this leader epoch (−1 where unknown).
pub(crate) async fn compare_last(
    source: &Cluster,
    source_tp: &TopicPartition,
    source_offset: i64,
    leader_epoch: i32,
    target: &RawBatch,
    target_offset: i64,
) -> Result<LastRecord, ReadError> {
    let options = ReadOptions { max_wait_ms: 0, ..PATIENT };
    let slice = match read_log(source, source_tp, source_offset, options).await {
        Ok(slice) => slice,
        Err(ReadError::OutOfRange { .. } | ReadError::Batch { .. }) => return Ok(LastRecord::NotThere),
        Err(error) => return Err(error),
    };
    let theirs = slice
        .batches
        .iter()
        .find(|b| b.header.base_offset <= source_offset && source_offset <= b.header.last_offset())
        .filter(|b| leader_epoch < 0 || b.header.partition_leader_epoch == leader_epoch)
        .and_then(|b| record_at(b, source_offset));
    // Either may have been compacted away.
    let (Some(theirs), Some(ours)) = (theirs, record_at(target, target_offset)) else {
        return Ok(LastRecord::NotThere);
    };
    Ok(match difference(&theirs, &ours) {
        None => LastRecord::Same,
        Some(what) => LastRecord::Differs(what.to_owned()),
    })
}

fn record_at(batch: &RawBatch, offset: i64) -> Option<Record> {
    batch::decode(batch, COMPARE_LIMIT_BYTES).ok()?.into_iter().find(|r| r.offset == offset)
}

fn difference(a: &Record, b: &Record) -> Option<&'static str> {
    if a.key != b.key {
        return Some("keys differ");
    }
    if a.timestamp != b.timestamp {
        return Some("timestamps differ");
    }
    if a.value != b.value {
        return Some("values differ");
    }
    (a.headers != b.headers).then_some("headers differ")
}
