//! Single records, and stretches of a log as a reader under read_committed sees them.

use bytes::{BufMut as _, BytesMut};

use crate::batch::{self, RawBatch, Record};
use crate::client::{Cluster, ReadError, ReadOptions, TopicPartition, nothing_below_end, read_log};
use crate::engine::EngineError;
use crate::mirror::{FetchedRecords, GapReason, Intake, Isolation};

/// Caps what one compressed batch may unfold to.
pub(super) const DECODE_LIMIT_BYTES: usize = 256 << 20;

/// The record at an offset; `None` where there is none (any more): a marker, compaction, retention, or beyond the end.
pub(super) async fn record_at(
    cluster: &Cluster,
    tp: &TopicPartition,
    offset: i64,
) -> Result<Option<Record>, EngineError> {
    // The first batch comes whole whatever its size; more than that is not wanted.
    let options = ReadOptions { max_bytes: 1, max_wait_ms: 0, ..ReadOptions::default() };
    let slice = match read_log(cluster, tp, offset, options).await {
        Ok(slice) => slice,
        Err(ReadError::OutOfRange { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let holds = |batch: &&RawBatch| (batch.header.base_offset..batch.header.next_offset()).contains(&offset);
    let Some(batch) = slice.batches.iter().find(holds).filter(|batch| !batch.header.is_control()) else {
        return Ok(None);
    };
    let records = batch::decode(batch, DECODE_LIMIT_BYTES).map_err(|error| unreadable(cluster, tp, offset, error))?;
    Ok(records.into_iter().find(|record| record.offset == offset))
}

/// Whether two records say the same; offsets, which differ on both sides, left out.
pub(super) fn is_same(one: &Record, other: &Record) -> bool {
    (one.timestamp, &one.key, &one.value, &one.headers) == (other.timestamp, &other.key, &other.value, &other.headers)
}

/// What counts of a log in `[from, to)`, batch by batch, in order.
pub(super) struct Stretch<'a> {
    cluster: &'a Cluster,
    tp: &'a TopicPartition,
    intake: Intake,
    committed: bool,
    to: i64,
}

impl<'a> Stretch<'a> {
    /// Records of the partition in `[from, to)`, as far as `isolation` lets them count.
    pub(super) fn new(
        cluster: &'a Cluster,
        tp: &'a TopicPartition,
        isolation: Isolation,
        (from, to): (i64, i64),
    ) -> Self {
        let intake = Intake::new(from, None, isolation, DECODE_LIMIT_BYTES);
        Self { cluster, tp, intake, committed: isolation == Isolation::ReadCommitted, to }
    }

    /// The next records, with their offsets in this log; `None` at the end, or where an open transaction begins.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Record>>, EngineError> {
        let at = self.intake.next();
        if at >= self.to {
            return Ok(None);
        }
        let options =
            ReadOptions { max_bytes: 1 << 20, max_wait_ms: 0, committed: self.committed, ..ReadOptions::default() };
        let slice = match read_log(self.cluster, self.tp, at, options).await {
            // Retention has passed by while this was read.
            Err(ReadError::OutOfRange { .. }) => {
                let start = self.cluster.log_start(self.tp).await?.min(self.to);
                if start <= at {
                    return Err(nothing_below_end(self.cluster, self.tp).into());
                }
                self.intake.give_up(at, start, GapReason::Retention);
                return Ok(Some(Vec::new()));
            }
            slice => slice?,
        };
        let mut records = BytesMut::new();
        slice.batches.iter().for_each(|batch| records.put_slice(&batch.bytes));
        let fetched = FetchedRecords { aborted: slice.aborted, records: records.freeze() };
        let (ready, halt) = self.intake.take(&fetched);
        let mut out = Vec::new();
        for batch in &ready {
            out.extend(open(batch).map_err(|error| unreadable(self.cluster, self.tp, at, error))?);
        }
        match halt.and_then(|halt| halt.range) {
            // A damaged batch: what is left of the log can still be read.
            Some((from, to)) => self.intake.give_up(from, to, GapReason::Corrupt),
            // A transaction is open: nothing from here on is decided, and so none of it counts yet.
            None if self.intake.next() == at && self.committed && slice.last_stable_offset <= at => return Ok(None),
            None if self.intake.next() == at => return Err(nothing_below_end(self.cluster, self.tp).into()),
            None => {}
        }
        out.retain(|record| record.offset < self.to);
        Ok(Some(out))
    }
}

/// The records of a batch that is ready for a target, at the offsets that they have in their own log.
fn open(batch: &crate::mirror::Ready) -> Result<Vec<Record>, batch::BatchError> {
    let mut bytes = BytesMut::with_capacity(batch.bytes());
    bytes.put_slice(&batch.header.to_bytes());
    bytes.put_slice(&batch.payload);
    let mut records = batch::decode(&RawBatch::parse(bytes.freeze())?, DECODE_LIMIT_BYTES)?;
    let offsets = batch.runs.iter().flat_map(|run| (run.source..).take(run.count as usize));
    records.iter_mut().zip(offsets).for_each(|(record, offset)| record.offset = offset);
    Ok(records)
}

fn unreadable(cluster: &Cluster, tp: &TopicPartition, offset: i64, source: batch::BatchError) -> EngineError {
    ReadError::Batch { cluster: cluster.name().to_owned(), subject: tp.to_string(), offset, source }.into()
}
