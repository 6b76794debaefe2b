//! Which topics these are: a topic that was deleted and made again bears its old name and another id (KIP-516), and is
//! another topic.

use uuid::Uuid;

use crate::client::{FetchChange, ReadError};
use crate::config::Policy;
use crate::mirror::{Halt, HaltKind, shard_of, target_recreated};

use super::super::EngineError;
use super::super::attach::{Pair, halt_of};
use super::super::events::PartId;
use super::super::part::{Again, Flow, Leave, Parked, Part, Stage};
use super::super::shard_worker::Job;
use super::super::topology::MirroredTopic;
use super::Runner;

fn source_recreated(topic: &str, was: Uuid, is: Uuid) -> Halt {
    let detail = format!("source topic {topic} was deleted and made again: id {was} is now {is}");
    Halt::new(HaltKind::SourceRecreated, detail)
}

impl Runner {
    pub(super) fn on_pair(&mut self, pair: Pair) {
        let key = (pair.source.topic.clone(), pair.source.partition);
        match self.by_source.get(&key).copied() {
            None => self.add_part(key, pair),
            Some(id) => {
                self.check_identity(id, pair);
                self.come_back(id);
            }
        }
    }

    fn add_part(&mut self, key: (String, i32), pair: Pair) {
        let shard = shard_of(pair.source.topic_id, pair.source.partition, self.shard_count);
        let mut part = Part::new(pair, shard);
        part.paused = self.control.state.is_paused(&key.0, key.1);
        part.totals = self.counting.so_far(&key);
        let id = self.parts.add(part);
        self.by_source.insert(key, id);
        self.wait_for_attachment(id);
    }

    pub(super) fn wait_for_attachment(&mut self, id: PartId) {
        let Some(part) = self.parts.get_mut(id) else { return };
        part.parked = if part.selected { Parked::No } else { Parked::Away };
        if let Some(shard) = self.shards.get_mut(part.shard as usize).filter(|_| part.selected) {
            shard.waiting.push(id);
        }
    }

    pub(super) fn wait_for_retake(&mut self, id: PartId) {
        let Some(part) = self.parts.get(id) else { return };
        if let Some(shard) = self.shards.get_mut(part.shard as usize) {
            shard.retake.push(id);
        }
    }

    /// Discovery has found these. Partitions of shards that are not held cost nothing beyond that.
    pub(super) fn on_topics(&mut self, topics: Vec<MirroredTopic>) {
        self.topics.clear();
        for topic in topics {
            for partition in 0..topic.partitions {
                if self.is_held(shard_of(topic.source.1, partition, self.shard_count)) {
                    self.on_pair(topic.pair(partition));
                }
            }
            self.topics.insert(topic.source.0.clone(), topic);
        }
        // A partition that is held may be of a shard of somebody else under its topic's new id.
        let elsewhere = self.parts.iter().filter_map(|(id, part)| {
            let topic = self.topics.get(&part.pair.source.topic)?;
            let (number, partition) = (part.shard, part.pair.source.partition);
            let shard = shard_of(topic.source.1, partition, self.shard_count);
            let is_left = shard != number && partition < topic.partitions && !self.is_held(shard);
            is_left.then(|| (id, topic.pair(partition)))
        });
        for (id, pair) in elsewhere.collect::<Vec<_>>() {
            self.check_identity(id, pair);
        }
    }

    /// Whether a partition that waits may be attached now. It may not where a halt stands, and where its topic was made
    /// again while nobody looked; then it goes another way.
    pub(super) fn admit(&mut self, id: PartId) -> bool {
        let standing = self.standing_halt(id);
        let Some(part) = self.parts.get_mut(id) else { return false };
        let (topic, partition) = part.key();
        if let Some(halt) = standing {
            part.stage = Stage::Halted { halt: halt.clone(), flow: None };
            self.tell_halt(&halt, &topic, partition);
            return false;
        }
        let (source_id, successor) = (part.pair.source.topic_id, part.successor);
        if successor || self.is_declared(id) {
            return true;
        }
        let known = self.identities.get(&(topic.clone(), partition));
        let Some((before, _)) = known.and_then(|known| known.last()).copied() else { return true };
        if self.may_succeed(id) {
            self.fence_predecessors(id);
        } else {
            self.halt(id, source_recreated(&topic, before, source_id));
        }
        false
    }

    /// Whether the partition was mirrored under the topic id that it has.
    pub(super) fn is_declared(&self, id: PartId) -> bool {
        let Some(part) = self.parts.get(id) else { return false };
        let known = self.identities.get(&part.key()).map_or(&[][..], Vec::as_slice);
        known.iter().any(|(source_id, _)| *source_id == part.pair.source.topic_id)
    }

    fn may_succeed(&self, id: PartId) -> bool {
        let freed = self.parts.get(id).and_then(|part| part.freed);
        self.shared.config.on.source_recreated == Policy::Continue || freed == Some(HaltKind::SourceRecreated)
    }

    /// A topic id that changed under the same name: deleted and made again.
    fn check_identity(&mut self, id: PartId, pair: Pair) {
        let Some(part) = self.parts.get_mut(id) else { return };
        // One that is under way to its shard comes back first; one that waits to be tried again is at hand.
        let away = match part.stage {
            Stage::Starting => part.again.is_empty() && part.parked != Parked::Away,
            Stage::Leaving { .. } => true,
            Stage::Flowing(_) | Stage::Halted { .. } => false,
        };
        if part.pair == pair || away {
            return;
        }
        let (topic, was, is) = (&pair.source.topic, part.pair.source.topic_id, pair.source.topic_id);
        let halted = matches!(part.stage, Stage::Halted { .. });
        let halt = if was == is {
            target_recreated(&pair.target.topic, part.pair.target.topic_id, pair.target.topic_id)
        } else {
            source_recreated(topic, was, is)
        };
        part.next_pair = Some(pair);
        if halted {
            return;
        }
        if matches!(part.stage, Stage::Starting) {
            part.again.clear();
            if halt.kind == HaltKind::SourceRecreated && self.may_succeed(id) {
                return self.adopt(id, None);
            }
            return self.halt(id, halt);
        }
        if halt.kind == HaltKind::SourceRecreated && self.may_succeed(id) {
            self.leave(id, Leave::Recreated);
            self.touched.insert(id);
        } else {
            self.halt(id, halt);
        }
    }

    /// The partition becomes the one of the topic that was made anew; `flow` is what it ends with.
    pub(super) fn adopt(&mut self, id: PartId, flow: Option<Box<Flow>>) {
        let Some(next) = self.parts.get_mut(id).and_then(|part| part.next_pair.take()) else { return };
        if !self.is_held(shard_of(next.source.topic_id, next.source.partition, self.shard_count)) {
            return self.leave_to_others(id, flow);
        }
        let Some(part) = self.parts.get_mut(id) else { return };
        part.parked = Parked::No;
        for fetcher in self.fetchers.values_mut() {
            if fetcher.wants.remove(&id).is_some() {
                fetcher.forgets.push(FetchChange::forget(&part.pair.source));
            }
        }
        part.shard = shard_of(next.source.topic_id, next.source.partition, self.shard_count);
        part.pair = next;
        part.given_up.clear();
        (part.source_end, part.source_start) = (-1, -1);
        part.stage = Stage::Starting;
        self.fence_predecessors(id);
    }

    /// Nobody may write what the topic of before held any more, not even a process that was thought dead.
    fn fence_predecessors(&mut self, id: PartId) {
        let Some(part) = self.parts.get_mut(id) else { return };
        let known = self.identities.get(&part.key()).map_or(&[][..], Vec::as_slice);
        let shards: std::collections::BTreeSet<u32> = known.iter().map(|(_, shard)| *shard).collect();
        part.fences_open = shards.len();
        for shard in shards {
            self.fence(id, shard);
        }
    }

    /// Lets a shard that the partition had before fence its target.
    pub(super) fn fence(&mut self, id: PartId, shard: u32) {
        if !self.is_held(shard) {
            return self.await_predecessor(id, shard);
        }
        let Some(part) = self.parts.get(id) else { return };
        self.give(shard as usize, Job::Fence { part: id, target: part.pair.target.clone() });
    }

    pub(super) fn on_fenced(
        &mut self,
        id: PartId,
        shard: u32,
        outcome: Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let now_ms = self.now_ms();
        let Some(part) = self.parts.get_mut(id) else { return Ok(()) };
        match outcome {
            Ok(()) => {}
            Err(error) if error.is_passing() => {
                let (topic, partition) = part.key();
                tracing::warn!(topic, partition, %error, "the partition cannot be fenced yet, trying again");
                part.try_again(Again::Fence(shard), now_ms);
                return Ok(());
            }
            // What is wrong with one topic concerns no other.
            Err(EngineError::Client(error) | EngineError::Read(ReadError::Client(error))) => {
                self.halt(id, halt_of(&error));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        part.fences_open = part.fences_open.saturating_sub(1);
        if part.fences_open == 0 {
            part.successor = true;
            self.wait_for_attachment(id);
        }
        Ok(())
    }
}
