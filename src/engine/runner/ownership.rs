//! Shards and partitions: taking over, attaching, leaders that move, halts and their way out, the control partition.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::client::Topics;
use crate::mirror::{Halt, HaltKind, shard_of};

use super::super::EngineError;
use super::super::attach::{Attached, Pair};
use super::super::control::Control;
use super::super::events::{Event, PartId};
use super::super::part::{Leave, Part, Stage};
use super::super::shard::ShardSpec;
use super::super::shard_worker::{Job, shard_worker};
use super::super::topology::{Topology, discover};
use super::{Runner, Shard, producing::LANES};

/// At most one metadata refresh a cluster in this time, however many errors ask for one, ms.
const REFRESH_EVERY_MS: u64 = 100;
/// A transactional id that is idle for `transactional.id.expiration.ms` (a week by default) is forgotten, and
/// non-transactional writes do not refresh it.
const KEEP_ALIVE_MS: u64 = 6 * 3600 * 1000;

impl Runner {
    pub(super) fn take_shards(&mut self) {
        for number in 0..self.shard_count {
            let spec = ShardSpec {
                mirror: self.shared.config.name.clone(),
                generation: self.generation,
                shard: number,
                tp: crate::client::TopicPartition { partition: number as i32, ..self.control.tp.clone() },
            };
            // Bounded: one write and one attachment at a time, and a halt a partition.
            let (jobs, receiver) = mpsc::unbounded_channel();
            self.tasks.spawn(shard_worker(self.shared.clone(), spec, receiver, self.sender.clone()));
            self.shards.push(Shard::new(jobs));
        }
    }

    pub(super) fn on_shard_taken(
        &mut self,
        shard: u32,
        outcome: Result<usize, EngineError>,
    ) -> Result<(), EngineError> {
        let partitions = outcome?;
        tracing::debug!(mirror = %self.shared.config.name, shard, partitions, "shard taken");
        let now_ms = self.now_ms();
        if let Some(shard) = self.shards.get_mut(shard as usize) {
            shard.last_keep_alive_ms = now_ms;
        }
        Ok(())
    }

    pub(super) fn spawn_discovery(&mut self) {
        let shared = self.shared.clone();
        self.spawn(
            async move { Some(Event::Discovered(discover(&shared.config, &shared.source, &shared.target).await)) },
        );
    }

    pub(super) fn on_discovered(&mut self, outcome: Result<Topology, EngineError>) -> Result<(), EngineError> {
        self.discovering = false;
        let topology = match outcome {
            Ok(topology) => topology,
            Err(error) if error.is_retriable() => {
                tracing::warn!(mirror = %self.shared.config.name, %error, "topic discovery failed, trying again");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for problem in &topology.problems {
            if !self.problems.contains(problem) {
                tracing::error!(
                    mirror = %self.shared.config.name, topic = %problem.topic, target_topic = %problem.target_topic,
                    detail = %problem.detail, "the mirror topic cannot be prepared; the topic is not mirrored"
                );
            }
        }
        self.problems = topology.problems;
        self.discovered = true;
        for pair in topology.pairs {
            self.on_pair(pair);
        }
        self.follow_leaders();
        Ok(())
    }

    fn on_pair(&mut self, pair: Pair) {
        let key = (pair.source.topic.clone(), pair.source.partition);
        match self.by_source.get(&key).copied() {
            None => self.add_part(key, pair),
            Some(id) => self.check_identity(id, &pair),
        }
    }

    fn add_part(&mut self, key: (String, i32), pair: Pair) {
        let shard = shard_of(pair.source.topic_id, pair.source.partition, self.shard_count);
        let id = self.parts.len();
        let mut part = Part::new(pair, shard);
        part.paused = self.control.state.is_paused(&key.0, key.1);
        self.parts.push(part);
        self.by_source.insert(key, id);
        if let Some(shard) = self.shards.get_mut(shard as usize) {
            shard.waiting.push(id);
        }
    }

    /// A topic id that changed under the same name: deleted and made again.
    fn check_identity(&mut self, id: PartId, pair: &Pair) {
        let Some(part) = self.parts.get(id) else { return };
        if part.pair == *pair || matches!(part.stage, Stage::Halted { .. } | Stage::Starting) {
            return;
        }
        let halt = if part.pair.source.topic_id != pair.source.topic_id {
            let detail = format!(
                "source topic {} was deleted and made again: id {} is now {}",
                pair.source.topic, part.pair.source.topic_id, pair.source.topic_id
            );
            Halt::new(HaltKind::SourceRecreated, detail)
        } else {
            let detail = format!(
                "target topic {} was deleted and made again: id {} is now {}",
                pair.target.topic, part.pair.target.topic_id, pair.target.topic_id
            );
            Halt::new(HaltKind::TargetRecreated, detail)
        };
        self.halt(id, halt);
    }

    pub(super) fn refresh(&mut self) {
        let now_ms = self.now_ms();
        if self.refreshing || now_ms < self.refresh_not_before_ms || self.stopping {
            return;
        }
        self.refreshing = true;
        self.refresh_not_before_ms = now_ms + REFRESH_EVERY_MS;
        let (source, target) = (self.shared.source.clone(), self.shared.target.clone());
        let names: Vec<String> = {
            let mut names: Vec<String> = self.parts.iter().map(|p| p.pair.target.topic.clone()).collect();
            names.dedup();
            names
        };
        let sources: Vec<String> = {
            let mut names: Vec<String> = self.parts.iter().map(|p| p.pair.source.topic.clone()).collect();
            names.dedup();
            names
        };
        self.spawn(async move {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
            for (cluster, names) in [(&source, sources), (&target, names)] {
                if let Err(error) = cluster.refresh(Topics::Named(&names)).await {
                    tracing::debug!(cluster = cluster.name(), %error, "metadata refresh failed");
                }
            }
            Some(Event::Refreshed)
        });
    }

    /// Puts every partition to the fetcher and the lane of its present leaders.
    pub(super) fn follow_leaders(&mut self) {
        let (source, target) = (self.shared.source.metadata(), self.shared.target.metadata());
        for id in 0..self.parts.len() {
            let Some(part) = self.parts.get_mut(id) else { continue };
            let from = source.partition(&part.pair.source.topic, part.pair.source.partition);
            let to = target.partition(&part.pair.target.topic, part.pair.target.partition);
            let new_source = from.and_then(|p| p.leader);
            let new_target = to.and_then(|p| p.leader);
            let old_source = part.source_leader;
            if let Some(meta) = from {
                part.source_epoch = meta.leader_epoch;
            }
            part.source_leader = new_source;
            let lane = new_target.map(|broker| (broker, (id % usize::from(LANES)) as u16));
            if part.target_leader != new_target {
                part.target_leader = new_target;
                if let Some(flow) = part.answering() {
                    flow.appender.leader_changed();
                }
            }
            part.lane = lane;
            if old_source != new_source {
                if let Some(fetcher) = old_source.and_then(|b| self.fetchers.get_mut(&b)) {
                    fetcher.changed.insert(id);
                }
                if let Some(broker) = new_source {
                    self.ensure_fetcher(broker);
                }
            }
            if let Some(key) = lane {
                self.ensure_lane(key);
            }
            self.touched.insert(id);
        }
    }

    /// Attaches what waits in owned shards, and takes over what must be settled.
    pub(super) fn attach_waiting(&mut self) {
        if self.stopping {
            return;
        }
        for number in 0..self.shards.len() {
            let Some(shard) = self.shards.get_mut(number) else { continue };
            // The first attachment applies `start:` to all there is: it waits for the first discovery.
            if shard.attaching || !self.discovered {
                continue;
            }
            let fresh = std::mem::take(&mut shard.waiting);
            let first = !std::mem::replace(&mut shard.baselined, true);
            let retake = if fresh.is_empty() && !first { std::mem::take(&mut shard.retake) } else { Vec::new() };
            if fresh.is_empty() && retake.is_empty() && !first {
                continue;
            }
            shard.attaching = true;
            let pairs = |ids: &[PartId]| -> Vec<Pair> {
                ids.iter().filter_map(|id| self.parts.get(*id)).map(|p| p.pair.clone()).collect()
            };
            let (fresh, retake) = (pairs(&fresh), pairs(&retake));
            let job = if retake.is_empty() { Job::Attach { pairs: fresh } } else { Job::Retake { pairs: retake } };
            self.give(number, job);
        }
    }

    pub(super) fn on_attached(
        &mut self,
        outcome: Result<Vec<(Pair, Attached)>, EngineError>,
    ) -> Result<(), EngineError> {
        let expiration_ms = self.shared.expiration_ms;
        for (pair, attached) in outcome? {
            let key = (pair.source.topic.clone(), pair.source.partition);
            let Some(id) = self.by_source.get(&key).copied() else { continue };
            match attached {
                Attached::Flowing(footing) => {
                    let config = Arc::clone(&self.shared.config);
                    let Some(part) = self.parts.get_mut(id) else { continue };
                    tracing::debug!(
                        topic = %pair.source.topic, partition = pair.source.partition,
                        position = footing.position, end = footing.end, "partition attached"
                    );
                    part.start(&config, &footing, expiration_ms);
                    self.touched.insert(id);
                }
                Attached::Halted(halt) => self.halt(id, halt),
            }
        }
        Ok(())
    }

    /// Once nothing of a flow is in flight, its partition can be settled.
    pub(super) fn maybe_leave(&mut self, id: PartId) {
        let Some(part) = self.parts.get_mut(id) else { return };
        let stage = std::mem::replace(&mut part.stage, Stage::Starting);
        match stage {
            Stage::Leaving { flow, why } if flow.appender.in_flight() == 0 => match why {
                Leave::TakeOver(_) => {
                    if let Some(shard) = self.shards.get_mut(part.shard as usize) {
                        shard.retake.push(id);
                    }
                }
                Leave::Displaced { at, to, take_over } => {
                    let settled = flow.appender.settled();
                    let (pair, number) = (part.pair.clone(), part.shard as usize);
                    self.give(number, Job::Displaced { pair, at, to, settled, take_over });
                }
            },
            // A halted flow gives its memory back; what it held is fetched again when it goes on.
            Stage::Halted { halt, flow: Some(flow) } if flow.appender.in_flight() == 0 => {
                drop(flow);
                part.stage = Stage::Halted { halt, flow: None };
            }
            other => part.stage = other,
        }
    }

    /// Hands a job to a shard's worker.
    pub(super) fn give(&self, shard: usize, job: Job) {
        if let Some(shard) = self.shards.get(shard) {
            // A worker that has ended has reported why; the mirror ends with it.
            let _ = shard.jobs.send(job);
        }
    }

    /// Stops one partition, loudly; the others go on.
    pub(super) fn halt(&mut self, id: PartId, halt: Halt) {
        let Some(part) = self.parts.get_mut(id) else { return };
        let (topic, partition) = (part.pair.source.topic.clone(), part.pair.source.partition);
        if let Some((from, to)) = halt.range.filter(|_| halt.can_accept_loss())
            && let Some((_, reason)) = self.control.state.accepted(&topic, partition, from, to)
        {
            self.accept(id, &halt, reason);
            self.retake(id);
            return;
        }
        let way_out = halt.way_out(&self.shared.config.name, &topic, partition);
        tracing::error!(
            mirror = %self.shared.config.name, topic, partition, reason = %halt.kind,
            detail = %halt.detail, way_out, "partition halted"
        );
        metrics::counter!("kmirror_errors_total", "class" => halt.kind.to_string()).increment(1);
        let flow = match std::mem::replace(&mut part.stage, Stage::Starting) {
            Stage::Flowing(flow) | Stage::Leaving { flow, .. } => Some(flow),
            Stage::Halted { flow, .. } => flow,
            Stage::Starting => None,
        };
        part.stage = Stage::Halted { halt: halt.clone(), flow };
        self.touched.insert(id);
        self.record_halt(id, Some(halt));
    }

    /// A halt is kept in the state topic, so that `status` knows it without this process.
    fn record_halt(&mut self, id: PartId, halt: Option<Halt>) {
        let Some(part) = self.parts.get(id) else { return };
        let tp = part.pair.source.clone();
        self.give(part.shard as usize, Job::Halt { topic: tp.topic, partition: tp.partition, halt });
    }

    /// Lets a partition be settled and attached anew.
    pub(super) fn retake(&mut self, id: PartId) {
        let Some(part) = self.parts.get_mut(id) else { return };
        match std::mem::replace(&mut part.stage, Stage::Starting) {
            Stage::Flowing(flow) | Stage::Leaving { flow, .. } | Stage::Halted { flow: Some(flow), .. } => {
                part.stage = Stage::Leaving { flow, why: Leave::TakeOver("going on after a halt".to_owned()) };
            }
            Stage::Halted { flow: None, .. } | Stage::Starting => {
                if let Some(shard) = self.shards.get_mut(part.shard as usize) {
                    shard.retake.push(id);
                }
            }
        }
        self.touched.insert(id);
    }

    /// Follows the control partition for as long as the mirror runs.
    pub(super) fn watch_control(&mut self) {
        let mut control = self.control.clone();
        self.spawn(async move {
            loop {
                match control.read_on(1_000).await {
                    Ok(true) => return Some(Event::Control(Ok(Box::new(control)))),
                    Ok(false) => {}
                    Err(error) if error.is_retriable() => tokio::time::sleep(std::time::Duration::from_secs(1)).await,
                    Err(error) => return Some(Event::Control(Err(error))),
                }
            }
        });
    }

    pub(super) fn on_control(&mut self, outcome: Result<Box<Control>, EngineError>) -> Result<(), EngineError> {
        let before = std::mem::replace(&mut self.control, *outcome?);
        self.watch_control();
        if self.control.state.standing_promotion().is_some() {
            return Err(EngineError::Promoted { mirror: self.shared.config.name.clone(), generation: self.generation });
        }
        for id in 0..self.parts.len() {
            let Some(part) = self.parts.get_mut(id) else { continue };
            let (topic, partition) = (part.pair.source.topic.clone(), part.pair.source.partition);
            let paused = self.control.state.is_paused(&topic, partition);
            if part.paused != paused {
                tracing::info!(mirror = %self.shared.config.name, topic, partition, paused, "by command");
                part.paused = paused;
                self.touched.insert(id);
            }
            let resumed = self.control.state.resumes(&topic, partition) > before.state.resumes(&topic, partition);
            if resumed {
                self.resume(id);
            }
        }
        Ok(())
    }

    fn resume(&mut self, id: PartId) {
        let Some(part) = self.parts.get(id) else { return };
        let Stage::Halted { halt, .. } = &part.stage else { return };
        let halt = halt.clone();
        let (topic, partition) = (part.pair.source.topic.clone(), part.pair.source.partition);
        if let Some((from, to)) = halt.range.filter(|_| halt.can_accept_loss()) {
            match self.control.state.accepted(&topic, partition, from, to) {
                Some((_, reason)) => self.accept(id, &halt, reason),
                None => tracing::info!(topic, partition, "resumed without accepting a loss: the cause is tried again"),
            }
        }
        self.record_halt(id, None);
        self.retake(id);
    }

    pub(super) fn keep_shards_alive(&mut self, now_ms: u64) {
        for number in 0..self.shards.len() {
            let Some(shard) = self.shards.get_mut(number) else { continue };
            if shard.last_keep_alive_ms + KEEP_ALIVE_MS > now_ms {
                continue;
            }
            shard.last_keep_alive_ms = now_ms;
            self.give(number, Job::KeepAlive);
        }
    }
}
