//! A shard: the unit of ownership. Taking one over, and writing its partition of the state topic.
//!
//! Init → state marker → read state: the first half of the take-over (see `lib.rs`, "Taking over"); `attach` is the
//! second. Everything an older owner wrote lies before our marker, nothing of it can follow.

use std::time::{Duration, Instant};

use crate::batch;
use crate::client::{AppendOutcome, ClientError, Cluster, TopicPartition, Topics, Verdict, append_batch};
use crate::mirror::{ControlState, Declared, PartitionState, ShardState, StateRecord, encode_state, transactional_id};

use super::EngineError;
use super::markers::{Transactor, await_marker, if_fenced, write_marker};
use super::replay::Replay;
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
    presence: Presence,
}

/// How long metadata may not know the state topic: a broker that has just started may lag.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// Whether the state topic is still there.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// Since when metadata have not known it.
    gone_since: Option<Instant>,
}

impl Presence {
    /// Fails once the topic has been gone, or another one, for too long.
    pub(crate) async fn check(
        &mut self,
        cluster: &Cluster,
        mirror: &str,
        tp: &TopicPartition,
    ) -> Result<(), EngineError> {
        let topic = tp.topic.as_str();
        // A refresh that fails is tried again with the next request.
        let Ok(metadata) = cluster.refresh(Topics::Named(&[topic])).await else { return Ok(()) };
        if metadata.topic(topic).is_some_and(|there| there.id == tp.topic_id) {
            self.gone_since = None;
        } else if self.gone_since.get_or_insert_with(Instant::now).elapsed() > GONE_AFTER {
            return Err(EngineError::StateGone { mirror: mirror.to_owned(), topic: topic.to_owned() });
        }
        Ok(())
    }
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

/// Takes a shard over whose records cannot be read, or say nothing of what the target holds: fences whoever wrote them, and
/// leaves them where they are. [`ShardLog::replace`] is what comes next.
pub(crate) async fn take_unread(cluster: &Cluster, spec: &ShardSpec) -> Result<ShardLog, EngineError> {
    let transactor = own(cluster, spec).await?;
    Ok(ShardLog::new(cluster, spec, transactor, ShardState::default(), 0))
}

/// Takes a shard over to promote the target: the same, but whoever cannot be fenced of a producer id that Init has put aside is left to
/// the caller. Gives that id and its epoch, if there is one.
pub(crate) async fn take_to_promote(
    cluster: &Cluster,
    spec: &ShardSpec,
) -> Result<(ShardLog, Option<(i64, i16)>), EngineError> {
    let transactor = own(cluster, spec).await.map_err(|error| error.while_taking(&spec.mirror))?;
    let (mut state, mut bytes) = read_to_marker(cluster, spec, &transactor).await?;
    let replaced = state.id.filter(|(id, _)| *id != transactor.producer_id);
    if let Some(old) = replaced {
        match fence_without_coordinator(cluster, old, std::slice::from_ref(&spec.tp)).await {
            Ok(producer_epoch) => {
                let marker = Transactor { transactional_id: String::new(), producer_id: old.0, producer_epoch };
                (state, bytes) = read_to_marker(cluster, spec, &marker).await?;
            }
            Err(error) if error.is_retriable() => return Err(error.into()),
            // What it writes to the state behind our id is void.
            Err(error) => tracing::warn!(mirror = %spec.mirror, shard = spec.shard, %error,
                "the coordinator had forgotten the shard's producer id, and its markers are refused"),
        }
    }
    let mut log = ShardLog::new(cluster, spec, transactor, state, bytes);
    log.append(vec![log.id_record()]).await.map_err(|error| error.while_taking(&spec.mirror))?;
    Ok((log, replaced))
}

/// Init and the state marker.
async fn own(cluster: &Cluster, spec: &ShardSpec) -> Result<Transactor, EngineError> {
    let txn_id = transactional_id(&spec.mirror, spec.generation, spec.shard);
    let producer = cluster.init_producer_id(&txn_id, TRANSACTION_TIMEOUT_MS, None).await?;
    let transactor = Transactor {
        transactional_id: txn_id,
        producer_id: producer.producer_id,
        producer_epoch: producer.producer_epoch,
    };
    write_marker(&spec.mirror, cluster, &transactor, &spec.tp).await?;
    Ok(transactor)
}

async fn take(cluster: &Cluster, spec: &ShardSpec) -> Result<ShardLog, EngineError> {
    let transactor = own(cluster, spec).await?;
    let (mut state, mut bytes) = read_to_marker(cluster, spec, &transactor).await?;
    let mut first = Vec::new();
    if let Some(old) = state.id.filter(|(id, _)| *id != transactor.producer_id) {
        match fence_replaced(cluster, spec, old, &state).await {
            // Once more: until now its owner could have written on.
            Ok(marker) => (state, bytes) = read_to_marker(cluster, spec, &marker).await?,
            Err(error) if error.is_retriable() => return Err(error.into()),
            Err(error) => first = unfenced_halts(&state, &spec.control, old.0, &error),
        }
    }
    let mut log = ShardLog::new(cluster, spec, transactor, state, bytes);
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
    let mut replay = Replay::new(&spec.mirror, &spec.tp, start);
    let mut bytes = 0;
    await_marker(&spec.mirror, cluster, &spec.tp, start, marker, |batch| {
        bytes += batch.bytes.len() as u64;
        replay.batch(batch)
    })
    .await
    .map_err(|error| replay.unreadable(error))?;
    Ok((replay.finish()?, bytes))
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

impl ShardLog {
    fn new(cluster: &Cluster, spec: &ShardSpec, transactor: Transactor, state: ShardState, bytes: u64) -> Self {
        Self {
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
            presence: Presence::default(),
        }
    }

    /// Whether the state topic is still the one that was taken over; asked where its partition does not answer.
    pub(crate) async fn check_there(&mut self) -> Result<(), EngineError> {
        self.presence.check(&self.cluster, &self.mirror, &self.tp).await
    }

    /// Puts another state in the place of all that the log holds.
    pub(crate) async fn replace(&mut self, state: ShardState) -> Result<(), EngineError> {
        let below = self.cluster.log_end(&self.tp).await?;
        let Transactor { producer_id, producer_epoch, .. } = self.transactor;
        self.state = state;
        self.state.id = Some((producer_id, producer_epoch));
        self.state.producer_ids.insert(producer_id);
        self.append_unapplied(&self.state.snapshot(below.unsigned_abs())).await?;
        Ok(self.cluster.delete_records_before(&self.tp, below).await?)
    }

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
            self.check_there().await?;
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

/// The identity of a partition that is mirrored from here to there.
pub(crate) fn declared(source: &TopicPartition, target: &TopicPartition) -> Declared {
    Declared {
        source_topic: source.topic.clone(),
        source_topic_id: source.topic_id,
        partition: source.partition,
        target_topic: target.topic.clone(),
        target_topic_id: target.topic_id,
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
