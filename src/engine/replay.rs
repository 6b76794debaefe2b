//! A shard's partition of the state topic, added up.

use crate::batch::{self, RawBatch};
use crate::client::{Cluster, ReadError, ReadOptions, TopicPartition, nothing_below_end, read_log};
use crate::mirror::{ShardState, StateError, StateRecord, decode_state};

use super::EngineError;

/// Caps what a batch of the state topic may unfold to; we write them uncompressed and small.
const DECODE_LIMIT_BYTES: usize = 64 << 20;

/// The sum of a shard's records so far.
pub(crate) struct Replay<'a> {
    mirror: &'a str,
    tp: &'a TopicPartition,
    state: ShardState,
    start: i64,
    /// From its beginning, or from a whole snapshot on.
    whole: bool,
    /// In a snapshot that it starts with.
    begun: bool,
}

impl<'a> Replay<'a> {
    /// Nothing yet of a log that starts there.
    pub(crate) fn new(mirror: &'a str, tp: &'a TopicPartition, start: i64) -> Self {
        Self { mirror, tp, state: ShardState::default(), start, whole: start == 0, begun: false }
    }

    /// Goes on where an earlier one has finished.
    pub(crate) fn resume(mirror: &'a str, tp: &'a TopicPartition, state: ShardState) -> Self {
        Self { mirror, tp, state, start: 0, whole: true, begun: false }
    }

    /// Adds the records of one batch, if they are a mirror's. One of another producer than the owner on record counts only if it begins with an
    /// owner's id: an owner whose producer id was forgotten may be beyond fencing, and what it writes behind its successor's
    /// id is void.
    pub(crate) fn batch(&mut self, batch: &RawBatch) -> Result<(), EngineError> {
        let base = batch.header.base_offset;
        // Whatever we write bears a producer id.
        if batch.header.producer_id < 0 {
            tracing::warn!(mirror = self.mirror, tp = %self.tp, offset = base, "records of somebody else are passed over");
            return Ok(());
        }
        let stranger = self.state.id.is_some_and(|(owner, _)| owner != batch.header.producer_id);
        let records = batch::decode(batch, DECODE_LIMIT_BYTES);
        for record in records.map_err(|error| self.error(base, StateError::Corrupt { detail: error.to_string() }))? {
            let value = record.value.unwrap_or_default();
            let decoded = decode_state(&value).map_err(|error| self.error(record.offset, error))?;
            if stranger && record.offset == base && !matches!(decoded, StateRecord::Id { .. }) {
                tracing::warn!(mirror = self.mirror, tp = %self.tp, offset = record.offset,
                    producer_id = batch.header.producer_id,
                    "state records of an owner before the present one are passed over");
                return Ok(());
            }
            if !self.continues(&decoded) {
                return Err(self.error(record.offset, StateError::CutOff { start: self.start }));
            }
            self.state.apply(&decoded).map_err(|error| self.error(record.offset, error))?;
        }
        Ok(())
    }

    /// Whether the record may come next. What was deleted lies below a whole snapshot; anything else that is missing was taken
    /// by somebody else.
    fn continues(&mut self, record: &StateRecord) -> bool {
        match record {
            _ if self.whole => true,
            StateRecord::SnapshotBegin { .. } => {
                self.begun = true;
                true
            }
            // Left unfinished, the snapshot does not count.
            StateRecord::Id { .. } => false,
            StateRecord::SnapshotEnd { .. } => {
                self.whole = self.begun;
                self.begun
            }
            _ => self.begun,
        }
    }

    /// The sum of all.
    pub(crate) fn finish(self) -> Result<ShardState, EngineError> {
        if self.whole { Ok(self.state) } else { Err(self.error(self.start, StateError::CutOff { start: self.start })) }
    }

    /// Bytes in the log that are no batches are damage of the state like any other.
    pub(crate) fn unreadable(&self, error: EngineError) -> EngineError {
        match error {
            EngineError::Read(ReadError::Batch { offset, source, .. }) => {
                self.error(offset, StateError::Corrupt { detail: source.to_string() })
            }
            other => other,
        }
    }

    fn error(&self, offset: i64, source: StateError) -> EngineError {
        EngineError::State {
            mirror: self.mirror.to_owned(),
            topic: self.tp.topic.clone(),
            partition: self.tp.partition,
            offset,
            source,
        }
    }
}

/// How often a shard is read anew because a snapshot of the running mirror took the place of what was being read.
const READS: usize = 5;

/// The state of a shard as it stands, read without taking it.
pub(crate) async fn read_shard(mirror: &str, target: &Cluster, tp: &TopicPartition) -> Result<ShardState, EngineError> {
    for _ in 1..READS {
        match read_whole(mirror, target, tp).await {
            Err(EngineError::Read(ReadError::OutOfRange { .. })) => {}
            outcome => return outcome.map(|(state, _)| state),
        }
    }
    read_whole(mirror, target, tp).await.map(|(state, _)| state)
}

/// The state, and the offset behind what was read of it.
pub(crate) async fn read_whole(
    mirror: &str,
    target: &Cluster,
    tp: &TopicPartition,
) -> Result<(ShardState, i64), EngineError> {
    let start = target.log_start(tp).await?;
    read_on(target, tp, start, Replay::new(mirror, tp, start)).await
}

/// Reads on from there: the state, and the offset behind what was read of it.
pub(crate) async fn read_on(
    target: &Cluster,
    tp: &TopicPartition,
    mut at: i64,
    mut replay: Replay<'_>,
) -> Result<(ShardState, i64), EngineError> {
    let end = target.log_end(tp).await?;
    while at < end {
        let options = ReadOptions { max_wait_ms: 0, max_bytes: 4 << 20, ..ReadOptions::default() };
        let slice = read_log(target, tp, at, options).await.map_err(|error| replay.unreadable(error.into()))?;
        let before = at;
        for batch in slice.batches.into_iter().filter(|b| b.header.next_offset() > before) {
            at = batch.header.next_offset();
            if !batch.header.is_control() {
                replay.batch(&batch)?;
            }
        }
        if at == before {
            return Err(nothing_below_end(target, tp).into());
        }
    }
    Ok((replay.finish()?, at))
}
