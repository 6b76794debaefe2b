//! What the shards of others know of a partition: its topic may have been mirrored before under another id, and so in another shard.
//! Alone, a process holds all shards and knows; in a fleet it reads, without taking anything.

use std::collections::BTreeSet;

use crate::client::{Cluster, TopicPartition};

use super::super::EngineError;
use super::super::attach::Pair;
use super::super::events::{Event, Holdings, PartId};
use super::super::replay::read_shard;
use super::Runner;

/// A look that failed is followed by another one after this time, ms.
const AGAIN_MS: u64 = 500;
/// How often it is asked whether another member has let go of a partition before it is followed all the same.
const PATIENCE: u32 = 8;

/// When to look.
#[derive(Debug, Default)]
pub(super) struct Around {
    looking: bool,
    not_before_ms: u64,
}

impl Runner {
    pub(super) fn has_looked_around(&self, id: PartId) -> bool {
        self.parts.get(id).is_some_and(|part| part.looked_around)
    }

    /// Finds out what the shards of others say of partitions that no shard of ours knows.
    pub(super) fn look_around(&mut self, parts: Vec<PartId>) {
        if self.fleet.around.looking || self.now_ms() < self.fleet.around.not_before_ms {
            return;
        }
        self.fleet.around.looking = true;
        let mirror = self.shared.config.name.clone();
        let (target, state) = (self.shared.target.clone(), self.control.tp.clone());
        let others: Vec<u32> = (0..self.shard_count).filter(|number| !self.is_held(*number)).collect();
        let pairs: Vec<(PartId, Pair)> =
            parts.iter().filter_map(|id| Some((*id, self.parts.get(*id)?.pair.clone()))).collect();
        self.spawn(async move {
            let targets = pairs.iter().map(|(_, pair)| pair.target.clone()).collect();
            let outcome = look(&mirror, &target, &state, &others, targets).await;
            Some(Event::LookedAround { parts, outcome })
        });
    }

    pub(super) fn on_looked_around(
        &mut self,
        parts: Vec<PartId>,
        outcome: Result<Vec<(u32, Holdings)>, EngineError>,
    ) -> Result<(), EngineError> {
        self.fleet.around.looking = false;
        let found = match outcome {
            Ok(found) => found,
            Err(error) if error.is_passing() => {
                tracing::warn!(mirror = %self.shared.config.name, %error, "what other shards hold cannot be read yet, trying again");
                self.fleet.around.not_before_ms = self.now_ms() + AGAIN_MS;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut asked = BTreeSet::new();
        for id in parts {
            let Some(part) = self.parts.get_mut(id) else { continue };
            part.looked_around = true;
            asked.insert(part.key());
        }
        for (shard, holdings) in found {
            // Taken since: then it is known better.
            if self.is_held(shard) {
                continue;
            }
            for (topic, partition, id) in holdings.declared {
                let key = (topic, partition);
                if asked.contains(&key) {
                    self.identities.entry(key).or_default().push((id, shard));
                }
            }
            for (key, (halt, resumes)) in holdings.halts {
                if asked.contains(&key) {
                    self.halts.entry(key).or_default().push((shard, halt, resumes));
                }
            }
        }
        Ok(())
    }

    /// What is known of a partition that leaves, by the shards of others, is not kept.
    pub(super) fn forget_others(&mut self, key: &(String, i32)) {
        let held: Vec<bool> = (0..self.shard_count).map(|number| self.is_held(number)).collect();
        let is_held = |shard: u32| held.get(shard as usize).copied().unwrap_or_default();
        if let Some(known) = self.identities.get_mut(key) {
            known.retain(|(_, shard)| is_held(*shard));
        }
        if let Some(halts) = self.halts.get_mut(key) {
            halts.retain(|(shard, ..)| is_held(*shard));
        }
    }

    /// Another member holds the shard that the partition had before, and lets go of the target once it knows of the new topic. It has
    /// nothing more to copy: the old topic is gone.
    pub(super) fn await_predecessor(&mut self, id: PartId, shard: u32) {
        let Some(part) = self.parts.get(id) else { return };
        let (topic, partition) = part.key();
        let is_late = part.set_backs >= PATIENCE;
        let mirror = self.shared.config.name.clone();
        let (target, state) = (self.shared.target.clone(), self.control.tp.clone());
        self.spawn(async move {
            let outcome = match is_released(&mirror, &target, &state, shard, (&topic, partition)).await {
                Ok(()) => Ok(()),
                Err(error) if is_late && error.is_passing() => {
                    tracing::warn!(mirror, topic, partition, %error, "going on all the same");
                    Ok(())
                }
                Err(error) => Err(error),
            };
            Some(Event::Fenced { part: id, shard, outcome })
        });
    }
}

/// A target that never held anything has had no predecessor that counts.
async fn look(
    mirror: &str,
    target: &Cluster,
    state: &TopicPartition,
    others: &[u32],
    targets: Vec<TopicPartition>,
) -> Result<Vec<(u32, Holdings)>, EngineError> {
    let bounds = target.log_bounds_each(&targets).await;
    if targets.iter().all(|tp| matches!(bounds.get(tp), Some(Ok((_, 0))))) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for shard in others {
        let tp = TopicPartition { partition: shard.cast_signed(), ..state.clone() };
        match read_shard(mirror, target, &tp).await {
            Ok(state) => found.push((*shard, Holdings::of(&state))),
            // Its own partitions stand still; nothing of it is known.
            Err(error) if error.damage().is_some() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

async fn is_released(
    mirror: &str,
    target: &Cluster,
    state: &TopicPartition,
    shard: u32,
    (topic, partition): (&str, i32),
) -> Result<(), EngineError> {
    let tp = TopicPartition { partition: shard.cast_signed(), ..state.clone() };
    let state = read_shard(mirror, target, &tp).await?;
    let mut before = state.partitions.values().filter(|known| {
        known.declared.source_topic == topic && known.declared.partition == partition && !known.map.is_empty()
    });
    match before.find(|known| known.release.is_none()) {
        None => Ok(()),
        Some(_) => {
            Err(EngineError::HeldElsewhere { mirror: mirror.to_owned(), topic: topic.to_owned(), partition, shard })
        }
    }
}
