//! One partition of the source, read from a position to an end, into segments.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::BackupError;
use super::copies::CopiesWriter;
use super::manifest::{Aborted, Gap, OpenTransaction, PartitionPart, SegmentPart};
use super::names;
use super::pass::{Shared, shorter};
use super::segment::{SegmentBuilder, SegmentOf};
use super::store::StoreError;
use crate::batch::{BatchHeader, ControlType, RawBatch, check_crc, control_type};
use crate::client::{Cluster, LogSlice, ReadError, ReadOptions, TopicPartition, nothing_below_end, read_log};
use crate::mirror::{GapReason, Isolation};

/// What is asked for at a time.
const READ_BYTES: i32 = 1 << 20;

/// Where a partition is to be read.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    pub(super) tp: TopicPartition,
    /// Here the archive ends.
    pub(super) from: i64,
    /// Leader epoch of the last batch in the archive; −1 where there is none.
    pub(super) epoch: i32,
    /// Transactions that are open where the archive ends.
    pub(super) open: Vec<OpenTransaction>,
    /// First offset of the log.
    pub(super) log_start: i64,
    /// To be read up to here at least.
    pub(super) end: i64,
}

/// Reads a stretch; each segment that is complete goes to `done` as a part of its own. What stands in the way of this partition is in
/// the last part's `problem`; an error is one of the archive.
pub(super) async fn read(
    shared: &Shared,
    stretch: Stretch,
    done: &mpsc::Sender<PartitionPart>,
) -> Result<(), BackupError> {
    let mut reader = Reader::new(shared, stretch);
    let outcome = tokio::select! {
        biased;
        // Another partition has failed, and this one will not count.
        () = shared.given_up() => None,
        outcome = reader.read_and_close(done) => Some(outcome),
    };
    if matches!(outcome, Some(Err(_))) {
        // Before this one is cleared away, which takes as long as its destination does not answer.
        shared.give_up();
    }
    if !matches!(outcome, Some(Ok(()))) {
        reader.abandon().await;
    }
    outcome.unwrap_or(Ok(()))
}

/// Why reading ends before the end.
enum Stop {
    /// It is about this partition.
    Problem(String),
    /// The archive cannot be written.
    Archive(BackupError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Archive(error.into())
    }
}

impl From<BackupError> for Stop {
    fn from(error: BackupError) -> Self {
        Self::Archive(error)
    }
}

struct Reader<'a> {
    shared: &'a Shared,
    stretch: Stretch,
    at: i64,
    part: PartitionPart,
    open: Option<Open>,
    /// Where the open segment is written; whoever does not come to its end aborts it.
    writer: Option<CopiesWriter>,
    /// Transactions that are known to be aborted, and whose marker has not come yet.
    unmarked: Vec<(i64, i64)>,
    /// Transactions that are open at this point: producer id and first offset.
    transactions: BTreeMap<i64, i64>,
    epoch: i32,
}

/// A segment that is being written.
struct Open {
    builder: SegmentBuilder,
    object: String,
    segment_id: uuid::Uuid,
    first_leader_epoch: i32,
    leader_epochs: Vec<(i32, i64)>,
    transactions: Vec<OpenTransaction>,
}

type Ahead = JoinHandle<Result<LogSlice, ReadError>>;

impl<'a> Reader<'a> {
    fn new(shared: &'a Shared, stretch: Stretch) -> Self {
        let (at, epoch) = (stretch.from, stretch.epoch);
        let part = empty_part(&stretch, at);
        let transactions = stretch.open.iter().map(|open| (open.producer_id, open.first_offset)).collect();
        Self { shared, stretch, at, part, open: None, writer: None, unmarked: Vec::new(), transactions, epoch }
    }

    async fn read_and_close(&mut self, done: &mpsc::Sender<PartitionPart>) -> Result<(), BackupError> {
        let problem = match self.run(done).await {
            Ok(()) => None,
            Err(Stop::Problem(problem)) => Some(problem),
            Err(Stop::Archive(error)) => return Err(error),
        };
        self.close(done, problem).await
    }

    async fn run(&mut self, done: &mpsc::Sender<PartitionPart>) -> Result<(), Stop> {
        self.skip_to(self.stretch.log_start);
        let mut ahead = None;
        while self.at < self.stretch.end {
            let reading = ahead.take().unwrap_or_else(|| self.read_from(self.at));
            let slice = match reading.await.map_err(|error| Stop::Problem(error.to_string()))? {
                Ok(slice) => slice,
                Err(ReadError::OutOfRange { .. }) => {
                    self.overtaken().await?;
                    continue;
                }
                Err(error) => return Err(Stop::Problem(error.to_string())),
            };
            let Some(last) = slice.batches.last() else {
                return Err(Stop::Problem(nothing_below_end(&self.shared.cluster, &self.stretch.tp).to_string()));
            };
            let next = last.header.next_offset();
            // The next answer is on its way while this one is written.
            if next < self.stretch.end {
                ahead = Some(self.read_from(next));
            }
            self.note_aborted(&slice.aborted);
            // What came in since the end was asked for is of the next pass: a transaction may be open behind it.
            let end = self.stretch.end;
            for batch in slice.batches.into_iter().filter(|batch| batch.header.base_offset < end) {
                self.take(batch, done).await?;
            }
        }
        Ok(())
    }

    fn read_from(&self, offset: i64) -> Ahead {
        let (cluster, tp) = (self.shared.cluster.clone(), self.stretch.tp.clone());
        let options = ReadOptions {
            max_bytes: READ_BYTES,
            committed: self.shared.config.isolation == Isolation::ReadCommitted,
            deadline: Duration::from_secs(60),
            last_fetched_epoch: if offset == self.stretch.from { self.stretch.epoch } else { -1 },
            ..ReadOptions::default()
        };
        tokio::spawn(async move { read_log(&cluster, &tp, offset, options).await })
    }

    /// The log begins behind the position, or ends in front of it.
    async fn overtaken(&mut self) -> Result<(), Stop> {
        let cluster: &Cluster = &self.shared.cluster;
        let start = cluster.log_start(&self.stretch.tp).await.map_err(|error| Stop::Problem(error.to_string()))?;
        if start <= self.at {
            let end = cluster.log_end(&self.stretch.tp).await.map_err(|error| Stop::Problem(error.to_string()))?;
            let problem = shorter(cluster, &self.stretch.tp, self.at, end);
            return Err(Stop::Problem(problem));
        }
        self.skip_to(start);
        Ok(())
    }

    fn skip_to(&mut self, start: i64) {
        if start > self.at {
            self.part.gaps.push(Gap { reason: GapReason::Retention, from: self.at, to: start });
            self.at = start;
        }
    }

    fn note_aborted(&mut self, aborted: &[(i64, i64)]) {
        for &(producer_id, first_offset) in aborted {
            let is_done = |a: &Aborted| (a.producer_id, a.first_offset) == (producer_id, first_offset);
            if !self.unmarked.contains(&(producer_id, first_offset)) && !self.part.aborted.iter().any(is_done) {
                self.unmarked.push((producer_id, first_offset));
            }
        }
    }

    async fn take(&mut self, batch: RawBatch, done: &mpsc::Sender<PartitionPart>) -> Result<(), Stop> {
        let header = batch.header;
        if header.next_offset() <= self.at {
            return Ok(());
        }
        check_crc(&batch).map_err(|error| {
            Stop::Problem(format!("cluster {}: {}: {error}", self.shared.cluster.name(), self.stretch.tp))
        })?;
        self.shared.pace(batch.bytes.len()).await;
        if self.open.is_none() {
            let transactions = self.open_transactions();
            let (open, front) = Open::begin(self.shared, &self.stretch.tp, &header, transactions)?;
            self.writer = Some(self.shared.copies.writer(&open.object));
            self.open = Some(open);
            self.write(vec![front]).await?;
        }
        self.note_transaction(&batch);
        let Some(open) = &mut self.open else { return Ok(()) };
        if header.partition_leader_epoch > self.epoch.max(open.first_leader_epoch) {
            open.leader_epochs.push((header.partition_leader_epoch, header.base_offset));
        }
        self.epoch = self.epoch.max(header.partition_leader_epoch);
        self.shared.meter.read((header.next_offset() - self.at).unsigned_abs());
        let bytes = open.builder.push(batch).map_err(|error| self.shared.build_failed(&self.stretch.tp, &error))?;
        let is_full = open.builder.bytes() >= self.shared.config.segment_bytes;
        self.write(bytes).await?;
        self.at = header.next_offset();
        if is_full {
            self.close(done, None).await?;
        }
        Ok(())
    }

    async fn write(&mut self, bytes: Vec<Bytes>) -> Result<(), StoreError> {
        match &mut self.writer {
            Some(writer) => writer.write(bytes).await,
            None => Ok(()),
        }
    }

    fn open_transactions(&self) -> Vec<OpenTransaction> {
        let of = |(&producer_id, &first_offset): (&i64, &i64)| OpenTransaction { producer_id, first_offset };
        self.transactions.iter().map(of).collect()
    }

    fn note_transaction(&mut self, batch: &RawBatch) {
        let header = batch.header;
        if !header.is_control() {
            if header.is_transactional() {
                self.transactions.entry(header.producer_id).or_insert(header.base_offset);
            }
            return;
        }
        let kind = control_type(batch);
        if matches!(kind, Ok(ControlType::Abort | ControlType::Commit)) {
            self.transactions.remove(&header.producer_id);
        }
        if !matches!(kind, Ok(ControlType::Abort)) {
            return;
        }
        let is_its =
            |&(producer_id, first): &(i64, i64)| producer_id == header.producer_id && first <= header.base_offset;
        if let Some(at) = self.unmarked.iter().position(is_its) {
            let (producer_id, first_offset) = self.unmarked.remove(at);
            self.part.aborted.push(Aborted { producer_id, first_offset, last_offset: header.base_offset });
        }
    }

    /// Ends the segment that is open, and hands over what it accounts for.
    async fn close(&mut self, done: &mpsc::Sender<PartitionPart>, problem: Option<String>) -> Result<(), BackupError> {
        if let Some(open) = self.open.take() {
            let (rest, segment) = open.end(self.shared, &self.stretch.tp)?;
            self.write(rest).await?;
            if let Some(writer) = &mut self.writer {
                writer.finish().await?;
            }
            self.writer = None;
            self.part.segments.push(segment);
        }
        let mut part = std::mem::replace(&mut self.part, empty_part(&self.stretch, self.at));
        part.to = self.at;
        part.open = self.open_transactions();
        part.problem = problem;
        if part.to > part.from || part.problem.is_some() {
            // Where nobody listens any more the pass has failed already.
            let _ = done.send(part).await;
        }
        Ok(())
    }

    async fn abandon(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            writer.abort().await;
        }
    }
}

impl Open {
    fn begin(
        shared: &Shared,
        tp: &TopicPartition,
        header: &BatchHeader,
        transactions: Vec<OpenTransaction>,
    ) -> Result<(Self, Bytes), BackupError> {
        let base_offset = header.base_offset;
        let segment_id = uuid::Uuid::new_v4();
        let tag = segment_id.as_fields().0;
        let object = names::segment(shared.chain, &tp.topic, tp.partition, base_offset, shared.unit(), tag);
        let of = SegmentOf { segment_id, topic_id: tp.topic_id, partition: tp.partition, base_offset };
        let key = shared.segment_key(segment_id)?;
        let (builder, front) = SegmentBuilder::new(of, key, shared.config.compression);
        let first_leader_epoch = header.partition_leader_epoch;
        let open = Self { builder, object, segment_id, first_leader_epoch, leader_epochs: Vec::new(), transactions };
        Ok((open, front))
    }

    /// The last bytes of the segment, and how a manifest names it.
    fn end(self, shared: &Shared, tp: &TopicPartition) -> Result<(Vec<Bytes>, SegmentPart), BackupError> {
        let (rest, built) = self.builder.finish().map_err(|error| shared.build_failed(tp, &error))?;
        let part = SegmentPart {
            object: self.object,
            segment_id: self.segment_id,
            from: built.first_offset,
            to: built.next_offset,
            bytes: built.bytes,
            raw_bytes: built.raw_bytes,
            digest: built.digest,
            batches: built.batches,
            records: built.records,
            first_leader_epoch: self.first_leader_epoch,
            leader_epochs: self.leader_epochs,
            open: self.transactions,
            min_timestamp_ms: built.min_timestamp_ms,
            max_timestamp_ms: built.max_timestamp_ms,
        };
        Ok((rest, part))
    }
}

fn empty_part(stretch: &Stretch, from: i64) -> PartitionPart {
    PartitionPart {
        topic: stretch.tp.topic.clone(),
        topic_id: stretch.tp.topic_id,
        partition: stretch.tp.partition,
        from,
        to: from,
        log_start: stretch.log_start,
        gaps: Vec::new(),
        aborted: Vec::new(),
        segments: Vec::new(),
        open: Vec::new(),
        problem: None,
    }
}
