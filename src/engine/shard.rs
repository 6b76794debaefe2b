//! A shard: the unit of ownership. Taking one over, and writing its partition of the state topic.
//!
//! Init → state marker → read state: the first half of the take-over (see `lib.rs`, "Taking over"); `attach` is the
//! second. Everything an older owner wrote lies before our marker, nothing of it can follow.

use std::time::Duration;

use crate::batch::{self, RawBatch};
use crate::client::{AppendOutcome, ClientError, Cluster, TopicPartition, Verdict, append_batch};
use crate::mirror::{
    ControlState, PartitionState, ShardState, StateRecord, decode_state, encode_state, transactional_id,
};

use super::EngineError;
use super::markers::{Transactor, await_marker, if_fenced, write_marker};
use super::unfenced::{fence_without_coordinator, standing_targets, unfenced_halts};

/// How long the coordinator may keep one of our (empty) transactions open before it aborts it by itself, ms.
const TRANSACTION_TIMEOUT_MS: i32 = 60_000;
/// Bytes of state records in one batch, at most; far below any broker's message limit.
const STATE_BATCH_BYTES: usize = 256 * 1024;
/// A state this much longer than its snapshot is written anew, bytes.
const SNAPSHOT_SLACK_BYTES: u64 = 4 << 20;

/// An owned shard: the state as replayed, and the right to write on.
#[derive(Debug)]
pub(crate) struct ShardLog {
    pub(crate) mirror: String,
    pub(crate) cluster: Cluster,
    pub(crate) shard: u32,
    /// Partition of the state topic.
    pub(crate) tp: TopicPartition,
    /// The identity that fences data partitions; its epoch is the newest one.
    pub(crate) transactor: Transactor,
    /// Epoch under which state is written: the one of the state marker.
    state_epoch: i16,
    next_sequence: i32,
    pub(crate) state: ShardState,
    bytes_since_snapshot: u64,
    snapshot_bytes: u64,
}

/// What is needed to take a shard.
#[derive(Debug, Clone)]
pub(crate) struct ShardSpec {
    pub(crate) mirror: String,
    pub(crate) generation: u32,
    pub(crate) shard: u32,
    /// Partition of the state topic that holds the shard.
    pub(crate) tp: TopicPartition,
    /// What was said by command.
    pub(crate) control: ControlState,
}

/// Init, state marker, read up to it; and the fence of a producer id that Init has put aside.
pub(crate) async fn take_shard(cluster: &Cluster, spec: &ShardSpec) -> Result<ShardLog, EngineError> {
    take(cluster, spec).await.map_err(|error| error.while_taking(&spec.mirror))
}

async fn take(cluster: &Cluster, spec: &ShardSpec) -> Result<ShardLog, EngineError> {
    let txn_id = transactional_id(&spec.mirror, spec.generation, spec.shard);
    let producer = cluster.init_producer_id(&txn_id, TRANSACTION_TIMEOUT_MS, None).await?;
    let transactor = Transactor {
        transactional_id: txn_id,
        producer_id: producer.producer_id,
        producer_epoch: producer.producer_epoch,
    };
    write_marker(&spec.mirror, cluster, &transactor, &spec.tp).await?;
    let (mut state, mut bytes) = read_to_marker(cluster, spec, &transactor).await?;
    let mut first = Vec::new();
    if let Some(old) = state.id.filter(|(id, _)| *id != producer.producer_id) {
        match fence_replaced(cluster, spec, old, &state).await {
            // Once more: until now its owner could have written on.
            Ok(marker) => (state, bytes) = read_to_marker(cluster, spec, &marker).await?,
            Err(error) if error.is_retriable() => return Err(error.into()),
            Err(error) => first = unfenced_halts(&state, &spec.control, old.0, &error),
        }
    }
    let mut log = ShardLog {
        mirror: spec.mirror.clone(),
        cluster: cluster.clone(),
        shard: spec.shard,
        tp: spec.tp.clone(),
        state_epoch: transactor.producer_epoch,
        transactor,
        next_sequence: 0,
        state,
        bytes_since_snapshot: bytes,
        snapshot_bytes: 0,
    };
    first.insert(0, log.id_record());
    log.append(first).await?;
    Ok(log)
}

/// The state up to a marker, and its bytes.
async fn read_to_marker(
    cluster: &Cluster,
    spec: &ShardSpec,
    marker: &Transactor,
) -> Result<(ShardState, u64), EngineError> {
    let start = cluster.log_start(&spec.tp).await?;
    let mut state = ShardState::default();
    let mut bytes = 0;
    await_marker(&spec.mirror, cluster, &spec.tp, start, marker, |batch| {
        bytes += batch.bytes.len() as u64;
        replay(&spec.mirror, &spec.tp, &mut state, batch)
    })
    .await?;
    Ok((state, bytes))
}

/// Fences the producer id on record, which the coordinator has forgotten: in the state partition and in all of the shard's.
async fn fence_replaced(
    cluster: &Cluster,
    spec: &ShardSpec,
    old: (i64, i16),
    state: &ShardState,
) -> Result<Transactor, ClientError> {
    let mut partitions = standing_targets(cluster, state).await?;
    partitions.push(spec.tp.clone());
    let epoch = fence_without_coordinator(cluster, old, &partitions).await?;
    tracing::warn!(
        mirror = %spec.mirror, shard = spec.shard, producer_id = old.0, partitions = partitions.len(),
        "the coordinator had forgotten the shard's producer id; it was fenced by markers of ours"
    );
    Ok(Transactor { transactional_id: String::new(), producer_id: old.0, producer_epoch: epoch })
}

/// Applies the state records of one batch. One of another producer than the owner on record counts only if it begins
/// with an owner's id: an owner whose producer id was forgotten may be beyond fencing, and what it writes behind its
/// successor's id is void.
pub(crate) fn replay(
    mirror: &str,
    tp: &TopicPartition,
    state: &mut ShardState,
    batch: &RawBatch,
) -> Result<(), EngineError> {
    let at = |offset: i64, source| EngineError::State {
        mirror: mirror.to_owned(),
        topic: tp.topic.clone(),
        partition: tp.partition,
        offset,
        source,
    };
    let stranger = state.id.is_some_and(|(owner, _)| owner != batch.header.producer_id);
    let records = batch::decode(batch, STATE_DECODE_LIMIT_BYTES)
        .map_err(|e| at(batch.header.base_offset, crate::mirror::StateError::Corrupt { detail: e.to_string() }))?;
    for record in records {
        let value = record.value.unwrap_or_default();
        let decoded = decode_state(&value).map_err(|e| at(record.offset, e))?;
        if stranger && record.offset == batch.header.base_offset && !matches!(decoded, StateRecord::Id { .. }) {
            tracing::warn!(mirror, %tp, offset = record.offset, producer_id = batch.header.producer_id,
                "state records of an owner before the present one are passed over");
            return Ok(());
        }
        state.apply(&decoded).map_err(|e| at(record.offset, e))?;
    }
    Ok(())
}

/// Caps what a batch of the state topic may unfold to; we write them uncompressed and small.
const STATE_DECODE_LIMIT_BYTES: usize = 64 << 20;

impl ShardLog {
    /// Appends records and applies them once they are acknowledged. Sent again, byte for byte, until the target
    /// answers; only a fence or an answer that cannot be understood ends it.
    pub(crate) async fn append(&mut self, records: Vec<StateRecord>) -> Result<(), EngineError> {
        self.append_unapplied(&records).await?;
        for record in &records {
            self.state.apply(record).map_err(|source| EngineError::State {
                mirror: self.mirror.clone(),
                topic: self.tp.topic.clone(),
                partition: self.tp.partition,
                offset: -1,
                source,
            })?;
        }
        Ok(())
    }

    fn id_record(&self) -> StateRecord {
        let Transactor { producer_id, producer_epoch, .. } = self.transactor;
        StateRecord::Id { producer_id, producer_epoch }
    }

    /// Makes sure that the shard is still ours, now that all others are, too. Of two that take over at once each may have
    /// taken some shards from the other; what each finds in its own hands after it has taken the last one tells who
    /// stays (see `lib.rs`, "Non-obvious").
    pub(crate) async fn confirm(&mut self) -> Result<(), EngineError> {
        let mirror = self.mirror.clone();
        self.append(vec![self.id_record()]).await.map_err(|error| error.while_taking(&mirror))
    }

    async fn append_unapplied(&mut self, records: &[StateRecord]) -> Result<(), EngineError> {
        let mut chunk = Vec::new();
        let mut bytes = 0;
        for value in records.iter().map(encode_state) {
            if bytes + value.len() > STATE_BATCH_BYTES && !chunk.is_empty() {
                self.write(std::mem::take(&mut chunk)).await?;
                bytes = 0;
            }
            bytes += value.len();
            chunk.push(value);
        }
        if !chunk.is_empty() {
            self.write(chunk).await?;
        }
        Ok(())
    }

    async fn write(&mut self, values: Vec<bytes::Bytes>) -> Result<(), EngineError> {
        let count = values.len() as i64;
        let batch = batch::encode_values(
            values,
            now_ms(),
            batch::Stamp {
                producer_id: self.transactor.producer_id,
                producer_epoch: self.state_epoch,
                base_sequence: self.next_sequence,
            },
        )
        .map_err(|e| EngineError::Unexpected {
            mirror: self.mirror.clone(),
            detail: format!("shard {}: state records: {e}", self.shard),
        })?;
        self.bytes_since_snapshot += batch.len() as u64;
        let mut pause = Duration::from_millis(20);
        loop {
            let error = match append_batch(&self.cluster, &self.tp, batch.clone()).await {
                Ok(AppendOutcome { .. }) => {
                    self.next_sequence = batch::sequence_add(self.next_sequence, count);
                    return Ok(());
                }
                Err(error) if error.verdict() == Verdict::Fatal => return Err(self.if_fenced(error)),
                Err(error) => error,
            };
            tracing::warn!(mirror = %self.mirror, shard = self.shard, %error, "state write failed, trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
            let _ = self.cluster.refresh(crate::client::Topics::Named(&[self.tp.topic.as_str()])).await;
        }
    }

    fn if_fenced(&self, error: ClientError) -> EngineError {
        if_fenced(&self.mirror, &format!("shard {}", self.shard), error)
    }

    /// Bumps the epoch to take single partitions over; the other partitions keep theirs. Refused by the coordinator
    /// if another owner has bumped it since (KIP-360).
    pub(crate) async fn bump(&mut self) -> Result<(), EngineError> {
        let current = (self.transactor.producer_id, self.transactor.producer_epoch);
        let cluster = self.cluster.clone();
        let outcome =
            cluster.init_producer_id(&self.transactor.transactional_id, TRANSACTION_TIMEOUT_MS, Some(current)).await;
        match outcome {
            Ok(producer) if producer.producer_id == current.0 => {
                self.transactor.producer_epoch = producer.producer_epoch;
                Ok(())
            }
            Ok(producer) => Err(EngineError::Unexpected {
                mirror: self.mirror.clone(),
                detail: format!(
                    "shard {}: the coordinator gave producer id {} in place of {}; start kmirror again to take the shard anew",
                    self.shard, producer.producer_id, current.0
                ),
            }),
            Err(error) => Err(self.if_fenced(error)),
        }
    }

    /// Keeps the transactional id known to the coordinator: an empty aborted transaction over the state partition.
    pub(crate) async fn keep_alive(&mut self, cluster: &Cluster) -> Result<(), EngineError> {
        write_marker(&self.mirror, cluster, &self.transactor, &self.tp).await?;
        // The marker carries the newest epoch; state goes on in it, from sequence 0.
        if self.state_epoch != self.transactor.producer_epoch {
            self.state_epoch = self.transactor.producer_epoch;
            self.next_sequence = 0;
        }
        Ok(())
    }

    /// Forgets what the maps say of records that the target does not hold any more.
    async fn trim(&mut self) {
        let targets: Vec<TopicPartition> = self.state.partitions.values().map(target_of).collect();
        match self.cluster.log_starts(&targets).await {
            Ok(starts) => {
                for (state, target) in self.state.partitions.values_mut().zip(&targets) {
                    state.map.drop_below(starts.get(target).copied().unwrap_or(0));
                }
            }
            Err(error) => tracing::warn!(mirror = %self.mirror, shard = self.shard, %error,
                "offset maps are not trimmed this time"),
        }
    }

    /// Writes the state anew when its history has grown long, and lets go of what lies below.
    pub(crate) async fn compact(&mut self) -> Result<(), EngineError> {
        if self.bytes_since_snapshot < SNAPSHOT_SLACK_BYTES + 2 * self.snapshot_bytes {
            return Ok(());
        }
        let below = match self.cluster.log_end(&self.tp).await {
            Ok(below) => below,
            Err(error) => {
                tracing::warn!(mirror = %self.mirror, shard = self.shard, %error, "no snapshot of the state this time");
                return Ok(());
            }
        };
        self.trim().await;
        // Whatever names it need only differ from a snapshot that a crash left unfinished: offsets only grow.
        let records = self.state.snapshot(below.unsigned_abs());
        self.bytes_since_snapshot = 0;
        self.append_unapplied(&records).await?;
        self.snapshot_bytes = std::mem::take(&mut self.bytes_since_snapshot);
        if let Err(error) = self.cluster.delete_records_before(&self.tp, below).await {
            tracing::warn!(mirror = %self.mirror, shard = self.shard, %error,
                "old state records stay; they are let go of with a later snapshot");
        }
        Ok(())
    }
}

/// The target side of a mirrored partition.
pub(crate) fn target_of(state: &PartitionState) -> TopicPartition {
    TopicPartition {
        topic: state.declared.target_topic.clone(),
        topic_id: state.declared.target_topic_id,
        partition: state.declared.partition,
    }
}

/// Milliseconds since the epoch, by this machine's clock.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
