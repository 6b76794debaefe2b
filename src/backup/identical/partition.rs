//! One partition: what is there of it already is compared, the rest is written, and in the end all of it is read back.
//!
//! - In front of the first record: batches of empty records, which DeleteRecords takes away again.
//! - Between records: control markers, one for each offset. No consumer is ever shown one, whatever its isolation level, and a
//!   broker lets nobody write them but with rights on the cluster ([`Cluster::write_lone_markers`]).
//! - Every answer of the leader names the offset at which it has appended: another one than was meant ends the restore.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::super::BackupError;
use super::pieces::{Batch, Piece, Pieces};
use crate::batch::{BatchHeader, Codec, HEADER_LEN, RawBatch, Record, Stamp, encode, rewrite, sequence_add};
use crate::client::{Cluster, Producer, ReadOptions, TopicPartition, read_log};
use crate::mirror::Isolation;

/// Empty records in one batch: two megabytes that compress to a tenth of a megabyte or so.
const FRONT_RECORDS: i64 = 200_000;
/// Markers in one request.
const MARKERS_AT_ONCE: i64 = 500;
const SETTLE_EVERY: Duration = Duration::from_millis(300);
const SETTLE_LOOKS_MAX: u32 = 100;
const READ_BYTES: i32 = 1 << 20;

/// A partition to be restored.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) backup: String,
    /// On the archive.
    pub(super) source: TopicPartition,
    /// On the target.
    pub(super) target: TopicPartition,
    /// First offset, and the one behind the last.
    pub(super) range: (i64, i64),
    pub(super) isolation: Isolation,
    /// What records in front of the first are stamped with, ms: not younger than what follows.
    pub(super) oldest_ms: i64,
}

/// Where both ends of a restore are.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    pub(super) archive: Cluster,
    pub(super) target: Cluster,
}

/// What was found in a partition when it was read back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) records: u64,
    pub(super) markers: i64,
}

/// Who has written to the target, as its log tells.
#[derive(Debug, Clone, Copy, Default)]
struct Writer {
    producer: Option<Producer>,
    sequence: i32,
}

/// Writes what is missing of a partition.
pub(super) async fn fill(job: &Job, ends: &Ends, done: &AtomicI64) -> Result<(), BackupError> {
    let (from, to) = job.range;
    let mut writer = Writer::default();
    let (mut start, mut end) = bounds(job, ends).await?;
    if start < from {
        if start != 0 || end > from {
            return Err(
                job.wrong(start, format!("the log begins at {start} and ends at {end}; it was to begin at {from}"))
            );
        }
        end = fill_front(job, ends, end, &mut writer).await?;
        ends.target.delete_records_before(&job.target, from).await?;
        (start, end) = bounds(job, ends).await.map(|(start, _)| (start, end))?;
    }
    if start != from || end < start || end > to {
        return Err(job.wrong(end, format!("the log holds [{start}, {end}); it was to hold [{from}, {to})")));
    }
    let mut pieces = job.pieces(ends);
    let mut log = Log::new(job, ends, from);
    let mut next = compare(job, &mut pieces, &mut log, end).await?;
    if log.writer.producer.is_some() {
        writer = log.writer;
    }
    let mut at = end;
    done.fetch_add(at - from, Ordering::Relaxed);
    while let Some(piece) = next {
        let upto = match piece {
            Piece::Gap { to, .. } => mark(job, ends, (at, to), &mut writer).await?,
            Piece::Batch(batch) => append(job, ends, &batch, &mut writer).await?,
        };
        done.fetch_add(upto - at, Ordering::Relaxed);
        at = upto;
        next = pieces.next().await?;
    }
    Ok(())
}

/// Reads all of a partition back, and compares it with the archive.
pub(super) async fn verify(job: &Job, ends: &Ends) -> Result<Found, BackupError> {
    let (from, to) = job.range;
    let (start, end) = bounds(job, ends).await?;
    if (start, end) != (from, to) {
        return Err(job.wrong(end, format!("the log holds [{start}, {end}); it was to hold [{from}, {to})")));
    }
    let mut pieces = job.pieces(ends);
    let mut log = Log::new(job, ends, from);
    match compare(job, &mut pieces, &mut log, end).await? {
        None => Ok(log.found),
        Some(_) => Err(job.wrong(end, "the archive has more than the log".to_owned())),
    }
}

async fn bounds(job: &Job, ends: &Ends) -> Result<(i64, i64), BackupError> {
    let start = ends.target.log_start(&job.target).await?;
    Ok((start, ends.target.log_end(&job.target).await?))
}

impl Job {
    fn pieces(&self, ends: &Ends) -> Pieces {
        Pieces::new(&self.backup, &ends.archive, &self.source, self.isolation, self.range)
    }

    fn wrong(&self, offset: i64, detail: String) -> BackupError {
        let Self { target, .. } = self;
        BackupError::NotIdentical { topic: target.topic.clone(), partition: target.partition, offset, detail }
    }
}

/// A log on the target, read batch by batch.
struct Log<'a> {
    job: &'a Job,
    ends: &'a Ends,
    at: i64,
    ahead: VecDeque<RawBatch>,
    writer: Writer,
    found: Found,
}

impl<'a> Log<'a> {
    fn new(job: &'a Job, ends: &'a Ends, at: i64) -> Self {
        Self { job, ends, at, ahead: VecDeque::new(), writer: Writer::default(), found: Found::default() }
    }

    /// The batch at the place where it stands; it must begin there.
    async fn next(&mut self) -> Result<RawBatch, BackupError> {
        let options = ReadOptions { max_bytes: READ_BYTES, ..ReadOptions::default() };
        let mut looks = 0;
        while self.ahead.is_empty() {
            let slice = read_log(&self.ends.target, &self.job.target, self.at, options).await;
            let slice = slice.map_err(|error| self.job.wrong(self.at, error.to_string()))?;
            // One that reaches in from before the log start is of what was deleted.
            self.ahead.extend(slice.batches.into_iter().filter(|batch| batch.header.base_offset >= self.at));
            looks += 1;
            if looks > SETTLE_LOOKS_MAX {
                return Err(self.job.wrong(self.at, "nothing can be read here".to_owned()));
            }
        }
        let batch = self.ahead.pop_front();
        let batch = batch.filter(|batch| batch.header.base_offset == self.at);
        let batch = batch.ok_or_else(|| self.job.wrong(self.at, "no batch begins here".to_owned()))?;
        self.at = batch.header.next_offset();
        self.note(&batch.header);
        Ok(batch)
    }

    fn note(&mut self, header: &BatchHeader) {
        self.writer.producer =
            Some(Producer { producer_id: header.producer_id, producer_epoch: header.producer_epoch });
        if header.is_control() {
            self.found.markers += 1;
        } else {
            self.writer.sequence = sequence_add(header.base_sequence, i64::from(header.records_count));
            self.found.records += u64::from(header.records_count.unsigned_abs());
        }
    }
}

/// Compares what the log has in front of `end`; gives the first piece that it has not, or not whole.
async fn compare(job: &Job, pieces: &mut Pieces, log: &mut Log<'_>, end: i64) -> Result<Option<Piece>, BackupError> {
    while let Some(piece) = pieces.next().await? {
        match &piece {
            Piece::Gap { to, .. } => {
                while log.at < (*to).min(end) {
                    let at = log.at;
                    if !log.next().await?.header.is_control() {
                        return Err(job.wrong(at, "a record stands where the source had none".to_owned()));
                    }
                }
                if *to > end {
                    return Ok(Some(piece));
                }
            }
            Piece::Batch(batch) if batch.at >= end => return Ok(Some(piece)),
            Piece::Batch(batch) => {
                if !is_same(batch, &log.next().await?) {
                    return Err(job.wrong(batch.at, "other records stand here than the source had".to_owned()));
                }
            }
        }
    }
    Ok(None)
}

fn is_same(wanted: &Batch, found: &RawBatch) -> bool {
    let of = |header: &BatchHeader| {
        (
            header.records_count,
            header.last_offset_delta,
            header.base_timestamp,
            header.max_timestamp,
            header.codec().ok(),
        )
    };
    !found.header.is_control() && of(&wanted.header) == of(&found.header) && wanted.payload == found.payload()
}

impl Writer {
    /// Who writes: the one that has written before, for whom the leader knows what is there twice; a new one else.
    async fn producer(&mut self, ends: &Ends) -> Result<Producer, BackupError> {
        if let Some(producer) = self.producer {
            return Ok(producer);
        }
        let producer = ends.target.allocate_producer_id().await?;
        (self.producer, self.sequence) = (Some(producer), 0);
        Ok(producer)
    }

    async fn stamp(&mut self, ends: &Ends, count: i64) -> Result<Stamp, BackupError> {
        let Producer { producer_id, producer_epoch } = self.producer(ends).await?;
        let base_sequence = self.sequence;
        self.sequence = sequence_add(base_sequence, count);
        Ok(Stamp { producer_id, producer_epoch, base_sequence })
    }
}

/// Appends a batch at its offset; gives the one behind it.
async fn append(job: &Job, ends: &Ends, batch: &Batch, writer: &mut Writer) -> Result<i64, BackupError> {
    let header = rewrite(&batch.header, writer.stamp(ends, batch.count()).await?);
    append_at(job, ends, (header, batch.payload.clone()), batch.at).await?;
    Ok(batch.end())
}

async fn append_at(
    job: &Job,
    ends: &Ends,
    (header, payload): ([u8; HEADER_LEN], Bytes),
    at: i64,
) -> Result<(), BackupError> {
    let appended = ends.target.append_parts(&job.target, header, payload).await?;
    if appended.base_offset != at {
        return Err(job.wrong(at, format!("the leader has appended at {} what belongs here", appended.base_offset)));
    }
    Ok(())
}

/// Fills the log with empty records up to where the source's begins; gives its end.
async fn fill_front(job: &Job, ends: &Ends, end: i64, writer: &mut Writer) -> Result<i64, BackupError> {
    let (from, mut at) = (job.range.0, end);
    if at > 0 {
        let mut log = Log::new(job, ends, at - 1);
        // The last batch alone says whose sequence goes on.
        let options = ReadOptions { max_bytes: 1, ..ReadOptions::default() };
        let slice = read_log(&ends.target, &job.target, at - 1, options).await;
        let slice = slice.map_err(|error| job.wrong(at - 1, error.to_string()))?;
        if let Some(batch) = slice.batches.first() {
            log.note(&batch.header);
            *writer = log.writer;
        }
    }
    let mut whole: Option<RawBatch> = None;
    while at < from {
        let count = (from - at).min(FRONT_RECORDS);
        let batch = match &whole {
            Some(batch) if count == FRONT_RECORDS => batch.clone(),
            _ => empty_records(job, count).map_err(|error| job.wrong(at, error.to_string()))?,
        };
        if count == FRONT_RECORDS {
            whole = Some(batch.clone());
        }
        let header = rewrite(&batch.header, writer.stamp(ends, count).await?);
        append_at(job, ends, (header, batch.payload()), at).await?;
        at += count;
    }
    Ok(at)
}

fn empty_records(job: &Job, count: i64) -> Result<RawBatch, crate::batch::BatchError> {
    let record = |offset| Record {
        offset,
        timestamp: job.oldest_ms,
        attributes: 0,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    let records: Vec<Record> = (0..count).map(record).collect();
    encode(&records, Codec::Zstd, Stamp::NONE)
}

/// Writes a marker for each of these offsets; gives the one behind them.
async fn mark(job: &Job, ends: &Ends, (from, to): (i64, i64), writer: &mut Writer) -> Result<i64, BackupError> {
    let producer = writer.producer(ends).await?;
    let mut at = from;
    while at < to {
        let count = (to - at).min(MARKERS_AT_ONCE);
        match ends.target.write_lone_markers(producer, &job.target, count.unsigned_abs()).await {
            Ok(()) => at = await_end(job, ends, at + count).await?,
            Err(error) if error.is_retriable() => {
                // Some of them may be in: the log says how many once nothing comes any more.
                tracing::debug!(%error, target = %job.target, "looking for the markers that are in");
                at = still_end(job, ends).await?;
            }
            Err(error) => return Err(error.into()),
        }
        if at > to {
            return Err(job.wrong(to, format!("the log ends at {at}: somebody else writes to it")));
        }
    }
    Ok(to)
}

/// The log's end once it has come so far.
async fn await_end(job: &Job, ends: &Ends, end: i64) -> Result<i64, BackupError> {
    for _ in 0..SETTLE_LOOKS_MAX {
        let found = ends.target.log_end(&job.target).await?;
        if found >= end {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    still_end(job, ends).await
}

/// Waits until a log that is not empty stands still.
pub(super) async fn settle(job: &Job, ends: &Ends) -> Result<(), BackupError> {
    if ends.target.log_end(&job.target).await? > 0 {
        still_end(job, ends).await?;
    }
    Ok(())
}

/// The log's end once it stands still: what was on its way has come.
async fn still_end(job: &Job, ends: &Ends) -> Result<i64, BackupError> {
    let (mut last, mut same) = (-1, 0);
    for _ in 0..SETTLE_LOOKS_MAX {
        let found = ends.target.log_end(&job.target).await?;
        (last, same) = if found == last { (last, same + 1) } else { (found, 0) };
        if same >= 3 {
            return Ok(found);
        }
        tokio::time::sleep(SETTLE_EVERY).await;
    }
    Err(job.wrong(last, "the log does not come to rest: somebody else writes to it".to_owned()))
}
