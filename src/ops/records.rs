//! Single records, and stretches of a log as a reader under read_committed sees them.

use bytes::{BufMut as _, BytesMut};
use serde::Serialize;

use crate::batch::{self, RawBatch, Record};
use crate::client::{Cluster, ReadError, ReadOptions, TopicPartition, nothing_below_end, read_log};
use crate::engine::EngineError;
use crate::mirror::{FetchedRecords, GapReason, Intake, Isolation};

/// Caps what one compressed batch may unfold to.
pub(super) const DECODE_LIMIT_BYTES: usize = 64 << 20;

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
    /// What of it did not come.
    pub(super) shortfall: Shortfall,
}

/// What of a stretch of a log cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Shortfall {
    /// An open transaction begins here: nothing from here on counts yet.
    pub held_from: Option<i64>,
    /// Offsets in batches that cannot be read.
    pub damaged_offsets: i64,
    /// Offsets that retention or DeleteRecords took before they were read.
    pub deleted_offsets: i64,
}

impl Shortfall {
    /// Whether there is any.
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// In words; `None` where there is none.
    pub fn words(&self) -> Option<String> {
        let held = self.held_from.map(|from| {
            format!("a transaction is open from offset {from} on: what stands behind it does not count yet, call again once it has ended")
        });
        let of = |count: i64, what: &str| (count > 0).then(|| format!("{count} offsets {what}"));
        let all = [
            held,
            of(self.damaged_offsets, "are in batches that cannot be read"),
            of(self.deleted_offsets, "were deleted before anybody read them"),
        ];
        let all: Vec<String> = all.into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
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
        let committed = isolation == Isolation::ReadCommitted;
        Self { cluster, tp, intake, committed, to, shortfall: Shortfall::default() }
    }

    /// How many records there are, and what of the stretch does not count.
    pub(super) async fn count(mut self) -> Result<(u64, Shortfall), EngineError> {
        let mut records = 0;
        while let Some(some) = self.next().await? {
            records += some.len() as u64;
        }
        Ok((records, self.shortfall))
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
                self.shortfall.deleted_offsets += start - at;
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
            Some((from, to)) => {
                self.shortfall.damaged_offsets += to.min(self.to) - from;
                self.intake.give_up(from, to, GapReason::Corrupt);
            }
            // A transaction is open: nothing from here on is decided, and so none of it counts yet.
            None if self.intake.next() == at && self.committed && slice.last_stable_offset <= at => {
                self.shortfall.held_from = Some(at);
                return Ok(None);
            }
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
