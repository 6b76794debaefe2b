//! The one writer of a replay.
//!
//! Brokers forget a producer by the age of its *records*, and those of a replay are old: a batch that is sent again, because its answer
//! was lost, could land twice, and an older epoch could be let in. So a batch whose outcome is not known is not sent again before its
//! partition was fenced anew and read, and nothing is written later than a lease after the coordinator has last confirmed the owner.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::batch::{self, Codec, RawBatch, Record, Stamp};
use crate::client::{ClientError, Cluster, TopicPartition, Topics, append_batch};
use crate::engine::EngineError;
use crate::engine::markers::{Transactor, await_marker, if_fenced, write_markers};

use super::super::records::DECODE_LIMIT_BYTES;
use super::mark::{Due, marked, origin};
use super::{ReplayError, There, read_back};

const TRANSACTION_TIMEOUT_MS: i32 = 60_000;
/// Shorter than the time that a broker takes to forget a producer: it looks every ten minutes.
const LEASE: Duration = Duration::from_secs(10);
/// How long a batch is tried that nobody takes.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
const OUT_OF_ORDER_SEQUENCE: i16 = 45;

/// Who replays.
#[derive(Debug, Clone)]
pub(crate) struct Replayer {
    /// Name in errors.
    pub(crate) name: String,
    /// Under this one process writes at a time.
    pub(crate) transactional_id: String,
    /// Tells its records from those of other replays.
    pub(crate) mark: Option<String>,
    /// A partition of kmirror's own on the cluster: markers that keep the ownership go there.
    pub(crate) lease: TopicPartition,
}

/// A partition that is written to.
#[derive(Debug)]
struct Lane {
    tp: TopicPartition,
    sequence: i32,
    /// Everything that is known to have landed stands in front of it, and nothing of ours behind.
    end: i64,
}

/// A batch that is to be appended.
struct Sending {
    lane: usize,
    records: Vec<Due>,
}

impl Sending {
    fn first(&self) -> Option<(&str, i32, i64)> {
        self.records.first().map(|due| (&*due.topic, due.partition, due.record.offset))
    }
}

/// Appends, each record once.
#[derive(Debug)]
pub(crate) struct Appender<'a> {
    cluster: &'a Cluster,
    replayer: Replayer,
    owner: Transactor,
    /// Ids that this process has written under.
    producer_ids: BTreeSet<i64>,
    confirmed: Instant,
    lanes: Vec<Lane>,
}

impl<'a> Appender<'a> {
    /// From here on nothing of an earlier call can land.
    pub(crate) async fn take_over(
        cluster: &'a Cluster,
        replayer: Replayer,
        into: Vec<TopicPartition>,
    ) -> Result<Self, EngineError> {
        cluster.await_served(&into).await?;
        let confirmed = Instant::now();
        let owner = own(cluster, &replayer, None).await?;
        let lanes = into.into_iter().map(|tp| Lane { tp, sequence: 0, end: 0 }).collect();
        let producer_ids = BTreeSet::from([owner.producer_id]);
        let mut appender = Self { cluster, replayer, owner, producer_ids, confirmed, lanes };
        let tps: Vec<TopicPartition> = appender.lanes.iter().map(|lane| lane.tp.clone()).collect();
        let ends = cluster.log_ends(&tps, false).await?;
        appender.mark(&tps).await?;
        for (at, tp) in tps.iter().enumerate() {
            let end = ends.get(tp).copied().unwrap_or(0);
            appender.lanes[at].end = appender.await_marker(tp, end, |_| Ok(())).await?;
        }
        Ok(appender)
    }

    /// By partition: the offset in front of which everything stands that was appended, as of now.
    pub(crate) fn ends(&self) -> Vec<i64> {
        self.lanes.iter().map(|lane| lane.end).collect()
    }

    /// Moves these offsets to where the logs end now: all that was appended was acknowledged.
    pub(crate) async fn move_ends(&mut self) -> Result<(), ReplayError> {
        let tps: Vec<TopicPartition> = self.lanes.iter().map(|lane| lane.tp.clone()).collect();
        let ends = self.cluster.log_ends(&tps, false).await.map_err(EngineError::from)?;
        for lane in &mut self.lanes {
            lane.end = lane.end.max(ends.get(&lane.tp).copied().unwrap_or(0));
        }
        Ok(())
    }

    /// Finds what earlier calls appended at or behind these offsets.
    pub(crate) async fn read_back(&self, from: &[i64], there: &mut There) -> Result<(), ReplayError> {
        // Partitions that were added since began empty.
        let from = from.iter().copied().chain(std::iter::repeat(0));
        for (lane, from) in self.lanes.iter().zip(from) {
            read_back(self.cluster, &lane.tp, (from, lane.end), self.replayer.mark.as_deref(), there).await?;
        }
        Ok(())
    }

    /// Appends a batch to each of these partitions, by index; one partition is named once.
    pub(crate) async fn append(&mut self, batches: Vec<(usize, Vec<Due>)>) -> Result<(), ReplayError> {
        let batches = batches.into_iter().filter(|(_, records)| !records.is_empty());
        let mut open: Vec<Sending> = batches.map(|(lane, records)| Sending { lane, records }).collect();
        let (mut is_in_doubt, mut pause, until) = (false, PAUSE, Instant::now() + PATIENCE);
        while !open.is_empty() {
            let Err(error) = self.round(&mut open, &mut is_in_doubt).await else { continue };
            if !may_pass(&error) || Instant::now() + pause > until {
                return Err(self.failed(&open, error));
            }
            tracing::warn!(replay = %self.replayer.name, %error, "a batch may be in or not: its partition is fenced and read");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            // A refresh that fails shows in the next round.
            let _ = self.cluster.refresh(Topics::Named(&[self.lanes[0].tp.topic.as_str()])).await;
        }
        Ok(())
    }

    fn failed(&self, open: &[Sending], error: EngineError) -> ReplayError {
        let first = open.first().and_then(|batch| Some((batch.first()?, batch.lane)));
        let Some(((topic, partition, offset), lane)) = first else { return error.into() };
        let into = self.lanes[lane].tp.clone();
        ReplayError::Append { from: format!("{topic}:{partition}"), offset, into, source: Box::new(error) }
    }

    /// Sends what is open once; what landed is open no more.
    async fn round(&mut self, open: &mut Vec<Sending>, is_in_doubt: &mut bool) -> Result<(), EngineError> {
        if *is_in_doubt {
            self.settle(open).await?;
            *is_in_doubt = false;
        }
        self.confirm().await?;
        let sent = join_all(open.iter().map(|batch| self.send(batch))).await;
        let (mut left, mut error) = (Vec::new(), None);
        for (batch, outcome) in std::mem::take(open).into_iter().zip(sent) {
            match outcome {
                Ok(base_offset) => {
                    let lane = &mut self.lanes[batch.lane];
                    lane.end = base_offset + batch.records.len() as i64;
                    lane.sequence = next_sequence(lane.sequence, batch.records.len());
                }
                Err(refused) => {
                    left.push(batch);
                    error = error.or(Some(refused));
                }
            }
        }
        *open = left;
        *is_in_doubt = error.is_some();
        error.map_or(Ok(()), Err)
    }

    async fn send(&self, batch: &Sending) -> Result<i64, EngineError> {
        let lane = &self.lanes[batch.lane];
        let mark = self.replayer.mark.as_deref();
        let records: Vec<Record> = (0..).zip(&batch.records).map(|(at, due)| marked(due, at, mark)).collect();
        let stamp = Stamp {
            producer_id: self.owner.producer_id,
            producer_epoch: self.owner.producer_epoch,
            base_sequence: lane.sequence,
        };
        let made = batch::encode(&records, Codec::Lz4, stamp).map_err(|error| self.unexpected(&error.to_string()))?;
        let outcome = append_batch(self.cluster, &lane.tp, made.bytes).await.map_err(|error| self.if_fenced(error))?;
        Ok(outcome.base_offset)
    }

    /// Fences the partitions of these batches anew, and finds out which of them have landed.
    async fn settle(&mut self, open: &mut Vec<Sending>) -> Result<(), EngineError> {
        let current = (self.owner.producer_id, self.owner.producer_epoch);
        let confirmed = Instant::now();
        self.owner = own(self.cluster, &self.replayer, Some(current)).await?;
        self.confirmed = confirmed;
        self.producer_ids.insert(self.owner.producer_id);
        // Under an epoch of its own everybody begins anew.
        self.lanes.iter_mut().for_each(|lane| lane.sequence = 0);
        let tps: Vec<TopicPartition> = open.iter().map(|batch| self.lanes[batch.lane].tp.clone()).collect();
        self.cluster.await_served(&tps).await?;
        self.mark(&tps).await?;
        let mut there = HashSet::new();
        for tp in &tps {
            let at = tp.partition.unsigned_abs() as usize;
            let mark = self.replayer.mark.clone();
            let mut visit = |batch: &RawBatch| -> Result<(), EngineError> {
                if self.producer_ids.contains(&batch.header.producer_id) {
                    let records = batch::decode(batch, DECODE_LIMIT_BYTES);
                    let records = records.map_err(|error| self.unexpected(&format!("{tp}: {error}")))?;
                    there.extend(records.iter().filter_map(|record| origin(record, mark.as_deref())));
                }
                Ok(())
            };
            let end = self.await_marker(tp, self.lanes[at].end, &mut visit).await?;
            self.lanes[at].end = end;
        }
        open.retain(|batch| {
            let is_in =
                |(topic, partition, offset): (&str, i32, i64)| there.contains(&(topic.to_owned(), partition, offset));
            !batch.first().is_some_and(is_in)
        });
        Ok(())
    }

    async fn mark(&self, tps: &[TopicPartition]) -> Result<(), EngineError> {
        let refused = write_markers(&self.replayer.name, self.cluster, &self.owner, tps).await?;
        refused.into_values().next().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Waits for the marker of the owner; gives the offset behind it.
    async fn await_marker(
        &self,
        tp: &TopicPartition,
        from: i64,
        visit: impl FnMut(&RawBatch) -> Result<(), EngineError>,
    ) -> Result<i64, EngineError> {
        let marker = await_marker(&self.replayer.name, self.cluster, tp, from, &self.owner, visit).await?;
        Ok(marker.offset + 1)
    }

    /// Whether nobody has taken over since; asked once a lease.
    pub(crate) async fn confirm(&mut self) -> Result<(), EngineError> {
        if self.confirmed.elapsed() < LEASE {
            return Ok(());
        }
        let confirmed = Instant::now();
        self.mark(std::slice::from_ref(&self.replayer.lease)).await?;
        self.confirmed = confirmed;
        Ok(())
    }

    fn if_fenced(&self, error: ClientError) -> EngineError {
        if_fenced(&self.replayer.name, &self.replayer.transactional_id, error)
    }

    fn unexpected(&self, detail: &str) -> EngineError {
        EngineError::Unexpected { mirror: self.replayer.name.clone(), detail: detail.to_owned() }
    }
}

/// With `current` only if nobody else has taken it since.
async fn own(cluster: &Cluster, who: &Replayer, current: Option<(i64, i16)>) -> Result<Transactor, EngineError> {
    let transactional_id = who.transactional_id.clone();
    let producer = cluster.init_producer_id(&transactional_id, TRANSACTION_TIMEOUT_MS, current).await;
    let producer = producer.map_err(|error| if_fenced(&who.name, &transactional_id, error))?;
    let (producer_id, producer_epoch) = (producer.producer_id, producer.producer_epoch);
    Ok(Transactor { transactional_id, producer_id, producer_epoch })
}

/// Whether the same may be tried again; a leader that has lost what it knew of us wants another epoch, and gets one.
fn may_pass(error: &EngineError) -> bool {
    let is_out_of_order = error.client().and_then(ClientError::code) == Some(OUT_OF_ORDER_SEQUENCE);
    error.is_passing() || is_out_of_order
}

/// Sequences go round (`DefaultRecordBatch.incrementSequence`).
fn next_sequence(sequence: i32, records: usize) -> i32 {
    let next = (i64::from(sequence) + records as i64) % (i64::from(i32::MAX) + 1);
    i32::try_from(next).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::next_sequence;

    #[test]
    fn sequences_go_round() {
        assert_eq!(next_sequence(0, 3), 3);
        assert_eq!(next_sequence(i32::MAX, 1), 0);
        assert_eq!(next_sequence(i32::MAX - 1, 3), 1);
    }
}
