//! The control partition of the state topic: the mirror's generation, pauses, promotion. Plain acks=all records,
//! first by offset wins; it can veto, never grant.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::batch;
use crate::client::{
    ClientError, Cluster, NewTopic, ReadError, ReadOptions, TopicPartition, Topics, append_batch, read_log,
};
use crate::config::MirrorConfig;
use crate::mirror::{ControlRecord, ControlState, Generation, StateError, decode_control, encode_control, state_topic};

use super::EngineError;
use super::shard::now_ms;

/// Shards of a new mirror. Fixed for a generation, recorded in it.
pub(crate) const SHARDS: u32 = 16;

const CONTROL_DECODE_LIMIT_BYTES: usize = 16 << 20;
/// Bytes of control records in one batch, at most; far below any broker's message limit.
const CONTROL_BATCH_BYTES: usize = 256 << 10;

/// The control partition, read up to `next`.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) mirror: String,
    pub(crate) cluster: Cluster,
    pub(crate) tp: TopicPartition,
    pub(crate) next: i64,
    pub(crate) state: ControlState,
}

impl Control {
    /// The control partition, the last one of the state topic; `None` where the mirror has never been.
    pub(crate) async fn partition(mirror: &str, cluster: &Cluster) -> Result<Option<TopicPartition>, EngineError> {
        let topic = state_topic(mirror);
        let metadata = cluster.refresh(Topics::Named(&[topic.as_str()])).await?;
        let Some(meta) = metadata.topic(&topic).filter(|t| !t.partitions.is_empty()) else { return Ok(None) };
        let partition = i32::try_from(meta.partitions.len() - 1).unwrap_or(i32::MAX);
        Ok(Some(TopicPartition { topic, topic_id: meta.id, partition }))
    }

    /// Opens the control partition of an existing state topic; `None` where the mirror has never been.
    pub(crate) async fn open(mirror: &str, cluster: &Cluster) -> Result<Option<Self>, EngineError> {
        let Some(tp) = Self::partition(mirror, cluster).await? else { return Ok(None) };
        let start = cluster.log_start(&tp).await?;
        let mut control = Self {
            mirror: mirror.to_owned(),
            cluster: cluster.clone(),
            tp,
            next: start,
            state: ControlState::default(),
        };
        control.read_to_end().await?;
        // Nothing is ever deleted here: without its beginning it could lack a promotion.
        if control.state.generation().is_none() && start > 0 {
            return Err(control.state_error(start, StateError::CutOff { start }));
        }
        Ok(Some(control))
    }

    /// Makes the state topic where it is gone; its control partition, which says nothing yet or nothing readable. Until
    /// [`Self::restore`] no mirror starts on it.
    pub(crate) async fn prepare(config: &MirrorConfig, target: &Cluster) -> Result<TopicPartition, EngineError> {
        if Self::partition(&config.name, target).await?.is_none() {
            create_state_topic(&config.name, target).await?;
        }
        let there = Self::partition(&config.name, target).await?;
        there.ok_or_else(|| missing(&config.name))
    }

    /// Makes the control partition anew where it is lost: what it said of pauses, and of losses that were accepted, is gone.
    pub(crate) async fn restore(config: &MirrorConfig, source: &Cluster, target: &Cluster) -> Result<(), EngineError> {
        let tp = Self::prepare(config, target).await?;
        let next = target.log_end(&tp).await?;
        if next > 0 {
            target.delete_records_before(&tp, next).await?;
        }
        let (mirror, cluster) = (config.name.clone(), target.clone());
        let control = Self { mirror, cluster, tp, next, state: ControlState::default() };
        control.begin(source, target).await
    }

    /// Begins a generation, in an existing state topic: what ended the one before it counts no more.
    pub(crate) async fn begin_generation(
        config: &MirrorConfig,
        (source, target): (&Cluster, &Cluster),
        generation: u32,
        (home_of, mut records): (Option<u32>, Vec<ControlRecord>),
    ) -> Result<(), EngineError> {
        let tp = Self::prepare(config, target).await?;
        let (mirror, cluster) = (config.name.clone(), target.clone());
        let control = Self { mirror, cluster, tp, next: 0, state: ControlState::default() };
        // First of all: before it nothing of a new control partition counts, and what comes behind it is of this generation.
        records.insert(0, ControlRecord::Generation(control.generation_of(source, target, generation, home_of)));
        control.write_all(&records).await
    }

    /// Opens it, creating the state topic and the first generation where there is none.
    pub(crate) async fn open_or_create(
        config: &MirrorConfig,
        source: &Cluster,
        target: &Cluster,
    ) -> Result<Self, EngineError> {
        let mut control = match Self::open(&config.name, target).await? {
            Some(control) => control,
            None => {
                create_state_topic(&config.name, target).await?;
                Self::open(&config.name, target).await?.ok_or_else(|| missing(&config.name))?
            }
        };
        if control.state.generation().is_none() {
            control.check_unused().await?;
            control.begin(source, target).await?;
            control.read_to_end().await?;
        }
        check_clusters(config, &control.generation()?, source, target)?;
        Ok(control)
    }

    /// A generation is the first word of a mirror: where shards hold records, it was lost, and with it perhaps a promotion.
    async fn check_unused(&self) -> Result<(), EngineError> {
        let shard = |partition| TopicPartition { partition, ..self.tp.clone() };
        let shards: Vec<TopicPartition> = (0..self.tp.partition).map(shard).collect();
        let ends = self.cluster.log_ends(&shards, false).await?;
        let used = ends.values().any(|end| *end > 0);
        if used { Err(self.state_error(0, StateError::CutOff { start: 0 })) } else { Ok(()) }
    }

    /// Writes the first generation.
    async fn begin(&self, source: &Cluster, target: &Cluster) -> Result<(), EngineError> {
        self.write(ControlRecord::Generation(self.generation_of(source, target, 1, None))).await
    }

    fn generation_of(&self, source: &Cluster, target: &Cluster, generation: u32, home_of: Option<u32>) -> Generation {
        Generation {
            generation,
            shards: u32::try_from(self.tp.partition).unwrap_or(SHARDS),
            source_cluster_id: source.cluster_id(),
            target_cluster_id: target.cluster_id(),
            mirror: self.mirror.clone(),
            created_ms: now_ms(),
            home_of,
        }
    }

    /// The generation in force.
    pub(crate) fn generation(&self) -> Result<Generation, EngineError> {
        let unexpected = |detail: String| EngineError::Unexpected { mirror: self.mirror.clone(), detail };
        let generation = self.state.generation().cloned();
        let generation =
            generation.ok_or_else(|| unexpected("the control partition holds no generation".to_owned()))?;
        // The control partition is the one behind those of the shards. Room for shards is made by this number, and whoever may
        // write there may write any.
        if i32::try_from(generation.shards) == Ok(self.tp.partition) {
            return Ok(generation);
        }
        Err(unexpected(format!(
            "the control partition, {}, speaks of {} shards, and the topic has partitions for {}: were partitions added to it, or \
             has somebody else written there?",
            self.tp, generation.shards, self.tp.partition
        )))
    }

    /// Reads what was written since; true where something was.
    pub(crate) async fn read_to_end(&mut self) -> Result<bool, EngineError> {
        let end = self.cluster.log_end(&self.tp).await?;
        let mut changed = false;
        while self.next < end {
            changed |= self.read_on(0).await?;
        }
        Ok(changed)
    }

    /// One read, waiting up to `max_wait_ms` for news.
    pub(crate) async fn read_on(&mut self, max_wait_ms: i32) -> Result<bool, EngineError> {
        let options = ReadOptions { max_wait_ms, ..ReadOptions::default() };
        let slice = match read_log(&self.cluster, &self.tp, self.next, options).await {
            Ok(slice) => slice,
            Err(ReadError::Batch { offset, source, .. }) => {
                return Err(self.state_error(offset, StateError::Corrupt { detail: source.to_string() }));
            }
            Err(error) => return Err(error.into()),
        };
        let mut changed = false;
        for batch in slice.batches {
            if batch.header.next_offset() <= self.next {
                continue;
            }
            self.next = batch.header.next_offset();
            if batch.header.is_control() {
                continue;
            }
            let base = batch.header.base_offset;
            let records = batch::decode(&batch, CONTROL_DECODE_LIMIT_BYTES)
                .map_err(|e| self.state_error(base, StateError::Corrupt { detail: e.to_string() }))?;
            for record in records {
                let decoded = decode_control(&record.value.unwrap_or_default())
                    .map_err(|e| self.state_error(record.offset, e))?;
                let beheaded = base > 0 && self.state.generation().is_none();
                if beheaded && !matches!(decoded, ControlRecord::Generation(_)) {
                    return Err(self.state_error(record.offset, StateError::CutOff { start: base }));
                }
                self.state.apply(&decoded);
                changed = true;
            }
        }
        Ok(changed)
    }

    fn state_error(&self, offset: i64, source: StateError) -> EngineError {
        EngineError::State {
            mirror: self.mirror.clone(),
            topic: self.tp.topic.clone(),
            partition: self.tp.partition,
            offset,
            source,
        }
    }

    /// Appends a record. It may land twice after a lost answer: control records mean the same twice.
    pub(crate) async fn write(&self, record: ControlRecord) -> Result<(), EngineError> {
        self.append(vec![encode_control(&record)]).await
    }

    /// Appends records, as many as there are.
    pub(crate) async fn write_all(&self, records: &[ControlRecord]) -> Result<(), EngineError> {
        let (mut values, mut bytes) = (Vec::new(), 0);
        for value in records.iter().map(encode_control) {
            if bytes + value.len() > CONTROL_BATCH_BYTES && !values.is_empty() {
                self.append(std::mem::take(&mut values)).await?;
                bytes = 0;
            }
            bytes += value.len();
            values.push(value);
        }
        if values.is_empty() { Ok(()) } else { self.append(values).await }
    }

    async fn append(&self, values: Vec<Bytes>) -> Result<(), EngineError> {
        let batch = batch::encode_values(values, now_ms(), batch::Stamp::NONE).map_err(|e| {
            EngineError::Unexpected { mirror: self.mirror.clone(), detail: format!("control record: {e}") }
        })?;
        let mut pause = Duration::from_millis(50);
        let mut tries = 0;
        loop {
            match append_batch(&self.cluster, &self.tp, batch.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_retriable() && tries < 10 => {
                    tries += 1;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                    let _ = self.cluster.refresh(Topics::Named(&[self.tp.topic.as_str()])).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether these are the clusters that a generation of the mirror was made between.
pub(crate) fn check_clusters(
    config: &MirrorConfig,
    generation: &Generation,
    source: &Cluster,
    target: &Cluster,
) -> Result<(), EngineError> {
    let pairs = [
        (&config.source, source.cluster_id(), &generation.source_cluster_id),
        (&config.target, target.cluster_id(), &generation.target_cluster_id),
    ];
    for (name, found, recorded) in pairs {
        if &found != recorded {
            return Err(EngineError::WrongCluster {
                mirror: config.name.clone(),
                cluster: name.clone(),
                found,
                recorded: recorded.clone(),
            });
        }
    }
    Ok(())
}

fn missing(mirror: &str) -> EngineError {
    let detail = format!("state topic {} is not there after its creation", state_topic(mirror));
    EngineError::Unexpected { mirror: mirror.to_owned(), detail }
}

/// One partition a shard and one for control; kept for ever, trimmed by DeleteRecords below a snapshot. Compaction
/// would keep the last record of a key, which is the wrong one.
async fn create_state_topic(mirror: &str, target: &Cluster) -> Result<(), EngineError> {
    let brokers = target.metadata().brokers.len();
    let replication_factor = i16::try_from(brokers.clamp(1, 3)).unwrap_or(1);
    let min_insync = if replication_factor >= 3 { "2" } else { "1" };
    let configs = BTreeMap::from(
        [
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("compression.type", "producer"),
            ("message.timestamp.type", "CreateTime"),
            ("min.insync.replicas", min_insync),
            ("unclean.leader.election.enable", "false"),
            // State bears the time of this machine: a clock that runs ahead must not stop it.
            (TIMESTAMP_LIMIT, "9223372036854775807"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    let mut topic = NewTopic {
        name: state_topic(mirror),
        partitions: i32::try_from(SHARDS + 1).unwrap_or(i32::MAX),
        replication_factor,
        configs,
    };
    match target.create_topic_if_absent(&topic).await {
        // Before Kafka 3.6 there is no such limit.
        Err(ClientError::Api { code: INVALID_CONFIG, .. }) if topic.configs.remove(TIMESTAMP_LIMIT).is_some() => {
            target.create_topic_if_absent(&topic).await?;
        }
        outcome => outcome?,
    }
    Ok(target.await_usable(&[topic.name.as_str()], STATE_TOPIC_PATIENCE).await?)
}

/// Nothing can be done without it.
const STATE_TOPIC_PATIENCE: Duration = Duration::from_secs(30);
const TIMESTAMP_LIMIT: &str = "message.timestamp.after.max.ms";
const INVALID_CONFIG: i16 = 40;
