//! A mirror's state as it stands in the state topic, read without taking anything over.

use crate::client::{Cluster, ReadOptions, TopicPartition, read_log};
use crate::engine::EngineError;
use crate::engine::control::Control;
use crate::engine::shard::replay;
use crate::mirror::{ControlState, Halt, PartitionState, ShardState, shard_of};

/// What the state topic says.
#[derive(Debug, Clone, Default)]
pub struct MirrorState {
    /// The control partition.
    pub control: ControlState,
    /// One a shard.
    pub shards: Vec<ShardState>,
}

impl MirrorState {
    /// Reads every shard of a mirror; `None` where the mirror has never been.
    pub async fn read(mirror: &str, target: &Cluster) -> Result<Option<Self>, EngineError> {
        let Some(control) = Control::open(mirror, target).await? else { return Ok(None) };
        let Ok(generation) = control.generation() else { return Ok(None) };
        let mut reads = tokio::task::JoinSet::new();
        for shard in 0..generation.shards {
            let tp = TopicPartition { partition: shard as i32, ..control.tp.clone() };
            let (mirror, target) = (mirror.to_owned(), target.clone());
            reads.spawn(async move { read_shard(&mirror, &target, &tp).await.map(|state| (shard, state)) });
        }
        let mut shards = vec![ShardState::default(); generation.shards as usize];
        while let Some(done) = reads.join_next().await {
            let (shard, state) = done.map_err(|e| EngineError::Unexpected {
                mirror: mirror.to_owned(),
                detail: format!("reading a shard: {e}"),
            })??;
            if let Some(place) = shards.get_mut(shard as usize) {
                *place = state;
            }
        }
        Ok(Some(Self { control: control.state, shards }))
    }

    /// The state of a source partition.
    pub fn partition(&self, source: &TopicPartition) -> Option<&PartitionState> {
        self.shard(source)?.find(source.topic_id, source.partition).map(|(_, state)| state)
    }

    /// The shard of a source partition.
    pub fn shard(&self, source: &TopicPartition) -> Option<&ShardState> {
        let shards = u32::try_from(self.shards.len()).ok().filter(|n| *n > 0)?;
        self.shards.get(shard_of(source.topic_id, source.partition, shards) as usize)
    }

    /// Why a source partition stands still, if it does. A halt that a resume has followed does not stand any more, also
    /// while nobody is there to heed it.
    pub fn halt(&self, topic: &str, partition: i32) -> Option<&Halt> {
        let resumes = self.control.resumes(topic, partition);
        let mut halts = self.shards.iter().filter_map(|s| s.halts.get(&(topic.to_owned(), partition)));
        halts.find(|(_, before)| *before == resumes).map(|(halt, _)| halt)
    }

    /// Partitions that the present owner of their shard may have marked without having settled them.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = &PartitionState> {
        self.shards.iter().flat_map(|shard| {
            let owner = shard.id.map(|(_, epoch)| epoch);
            let elsewhere = move |p: &&PartitionState| p.origin.map(|o| o.epoch) != owner;
            shard.partitions.values().filter(elsewhere)
        })
    }

    /// Every partition on record.
    pub fn partitions(&self) -> impl Iterator<Item = &PartitionState> {
        self.shards.iter().flat_map(|s| s.partitions.values())
    }
}

async fn read_shard(mirror: &str, target: &Cluster, tp: &TopicPartition) -> Result<ShardState, EngineError> {
    let mut state = ShardState::default();
    let mut at = target.log_start(tp).await?;
    let end = target.log_end(tp).await?;
    while at < end {
        let options = ReadOptions { max_wait_ms: 0, max_bytes: 4 << 20, ..ReadOptions::default() };
        let slice = read_log(target, tp, at, options).await?;
        let before = at;
        for batch in slice.batches.into_iter().filter(|b| b.header.next_offset() > before) {
            at = batch.header.next_offset();
            if !batch.header.is_control() {
                replay(mirror, tp, &mut state, &batch)?;
            }
        }
        if at == before {
            break;
        }
    }
    Ok(state)
}
