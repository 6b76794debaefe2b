//! A mirror's state as it stands in the state topic, read without taking anything over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::client::{Cluster, ReadError, TopicPartition};
use crate::engine::EngineError;
use crate::engine::control::Control;
use crate::engine::replay::{Replay, read_on, read_shard, read_whole};
use crate::mirror::{ControlState, Halt, PartitionState, PromotionPhase, ShardState, Unfenced, shard_of};

/// What the state topic says.
#[derive(Debug, Clone, Default)]
pub struct MirrorState {
    /// The control partition.
    pub control: ControlState,
    /// One a shard; empty where it is damaged.
    pub shards: Vec<ShardState>,
    /// Shards whose records cannot be read, and why.
    pub damaged: BTreeMap<u32, Halt>,
}

impl MirrorState {
    /// Reads every shard of a mirror; `None` where the mirror has never been.
    pub async fn read(mirror: &str, target: &Cluster) -> Result<Option<Self>, EngineError> {
        let Some(control) = Control::open(mirror, target).await? else { return Ok(None) };
        let Ok(generation) = control.generation() else { return Ok(None) };
        let (shards, damaged) = Self::read_shards(mirror, target, &control.tp, generation.shards).await?;
        Ok(Some(Self { control: control.state, shards, damaged }))
    }

    /// So many shards; `tp` is any partition of the state topic.
    pub(super) async fn read_shards(
        mirror: &str,
        target: &Cluster,
        tp: &TopicPartition,
        count: u32,
    ) -> Result<(Vec<ShardState>, BTreeMap<u32, Halt>), EngineError> {
        let mut reads = tokio::task::JoinSet::new();
        for shard in 0..count {
            let tp = TopicPartition { partition: shard.cast_signed(), ..tp.clone() };
            let (mirror, target) = (mirror.to_owned(), target.clone());
            reads.spawn(async move { (shard, read_shard(&mirror, &target, &tp).await) });
        }
        let mut shards = vec![ShardState::default(); count as usize];
        let mut damaged = BTreeMap::new();
        while let Some(done) = reads.join_next().await {
            let (shard, state) = done.map_err(|e| EngineError::Unexpected {
                mirror: mirror.to_owned(),
                detail: format!("reading a shard: {e}"),
            })?;
            match (state, shards.get_mut(shard as usize)) {
                (Ok(state), Some(place)) => *place = state,
                (Ok(_), None) => {}
                (Err(error), _) => {
                    damaged.insert(shard, error.damage().ok_or(error)?);
                }
            }
        }
        Ok((shards, damaged))
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

    /// What is wrong with the state of a source partition's shard, if anything.
    pub fn damage(&self, source: &TopicPartition) -> Option<&Halt> {
        let shards = u32::try_from(self.shards.len()).ok().filter(|n| *n > 0)?;
        self.damaged.get(&shard_of(source.topic_id, source.partition, shards))
    }

    /// Why a source partition stands still, if it does. A halt that a resume has followed does not stand any more, also
    /// while nobody is there to heed it.
    pub fn halt(&self, topic: &str, partition: i32) -> Option<&Halt> {
        let resumes = self.control.resumes(topic, partition);
        let mut halts = self.shards.iter().filter_map(|s| s.halts.get(&(topic.to_owned(), partition)));
        halts.find(|(_, before)| *before >= resumes).map(|(halt, _)| halt)
    }

    /// Where the data of a partition ended when it was fenced by a promotion, if it was: what lies behind is the target's own.
    pub fn promoted_end(&self, state: &PartitionState) -> Option<i64> {
        let step = self.control.promotion_step(PromotionPhase::Fenced)?;
        let declared = &state.declared;
        let is_left = |u: &&Unfenced| (&u.topic, u.partition) == (&declared.source_topic, declared.partition);
        if step.unfenced.iter().any(|u| is_left(&u)) { None } else { state.end }
    }

    /// Every producer id that the mirror has ever written under.
    pub(super) fn producer_ids(&self) -> BTreeSet<i64> {
        self.shards.iter().flat_map(|shard| shard.producer_ids.iter().copied()).collect()
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

/// Follows a mirror's state: each look reads what was written since the last one.
#[derive(Debug)]
pub(crate) struct StateFollower {
    mirror: String,
    target: Cluster,
    control: Option<Control>,
    /// Where each shard is read on from; `None`: from its beginning.
    next: Vec<Option<i64>>,
    state: Arc<MirrorState>,
}

impl StateFollower {
    pub(crate) fn new(mirror: &str, target: &Cluster) -> Self {
        Self {
            mirror: mirror.to_owned(),
            target: target.clone(),
            control: None,
            next: Vec::new(),
            state: Arc::default(),
        }
    }

    /// What was said to the mirror as a whole, up to now; `None` where it has never been.
    pub(crate) async fn look_at_control(&mut self) -> Result<Option<&ControlState>, EngineError> {
        match &mut self.control {
            Some(control) => {
                control.read_to_end().await?;
            }
            None => self.control = Control::open(&self.mirror, &self.target).await?,
        }
        Ok(self.control.as_ref().map(|control| &control.state))
    }

    /// The control partition, as it was last looked at; `None` where the mirror has never been.
    pub(crate) fn control(&self) -> Option<&Control> {
        self.control.as_ref()
    }

    /// The partition of the state topic that holds what was said to the mirror.
    pub(crate) fn control_partition(&self) -> Option<&TopicPartition> {
        self.control.as_ref().map(|control| &control.tp)
    }

    /// All of it as it stands now; empty where the mirror has never been.
    pub(crate) async fn look(&mut self) -> Result<Arc<MirrorState>, EngineError> {
        self.look_at_control().await?;
        let Some(control) = &self.control else { return Ok(Arc::default()) };
        let Ok(generation) = control.generation() else { return Ok(Arc::default()) };
        let (said, tp, shards) = (control.state.clone(), control.tp.clone(), generation.shards);
        self.next.resize(shards as usize, None);
        // Whoever still holds what the last look brought keeps it.
        let state = Arc::make_mut(&mut self.state);
        state.control = said;
        state.shards.resize(shards as usize, ShardState::default());
        let mut reads = tokio::task::JoinSet::new();
        for (shard, (known, next)) in (0..shards).zip(state.shards.iter_mut().zip(&mut self.next)) {
            let tp = TopicPartition { partition: shard.cast_signed(), ..tp.clone() };
            let (mirror, target) = (self.mirror.clone(), self.target.clone());
            // Until it has been read on, nothing of it is known.
            let from = next.take().map(|at| (std::mem::take(known), at));
            reads.spawn(async move { (shard, read_since(&mirror, &target, &tp, from).await) });
        }
        let mut failure = None;
        for (shard, outcome) in reads.join_all().await {
            let at = shard as usize;
            match outcome {
                Ok((read, next)) => {
                    if let (Some(place), Some(from)) = (state.shards.get_mut(at), self.next.get_mut(at)) {
                        (*place, *from) = (read, Some(next));
                    }
                    state.damaged.remove(&shard);
                }
                Err(error) => match error.damage() {
                    Some(damage) => drop(state.damaged.insert(shard, damage)),
                    None => failure = Some(error),
                },
            }
        }
        failure.map_or_else(|| Ok(Arc::clone(&self.state)), Err)
    }
}

/// Reads a shard on from where it was read to; from its beginning where a snapshot has taken the place of what follows.
async fn read_since(
    mirror: &str,
    target: &Cluster,
    tp: &TopicPartition,
    from: Option<(ShardState, i64)>,
) -> Result<(ShardState, i64), EngineError> {
    if let Some((state, at)) = from {
        match read_on(target, tp, at, Replay::resume(mirror, tp, state)).await {
            Err(EngineError::Read(ReadError::OutOfRange { .. })) => {}
            outcome => return outcome,
        }
    }
    read_whole(mirror, target, tp).await
}
