//! Shards and partitions: taking over, attaching, leaders that move, the control partition.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::client::Topics;
use crate::mirror::HaltKind;
use crate::plan::ShardStage;

use super::super::EngineError;
use super::super::attach::{Attached, Pair, Wanted};
use super::super::board::Lacks;
use super::super::control::Control;
use super::super::events::{Event, Holdings, PartId};
use super::super::part::{Again, Leave, Stage};
use super::super::shard::ShardSpec;
use super::super::shard_worker::{Job, Reporter, shard_worker};
use super::super::topology::{Topology, discover};
use super::{Runner, Shard, producing::LANES};

/// At most one metadata refresh a cluster in this time, however many errors ask for one, ms.
const REFRESH_EVERY_MS: u64 = 100;
/// A transactional id that is idle for `transactional.id.expiration.ms` (a week by default) is forgotten, and
/// non-transactional writes do not refresh it.
const KEEP_ALIVE_MS: u64 = 6 * 3600 * 1000;
const KEEP_ALIVE_AGAIN_MS: u64 = 60 * 1000;
/// How long shards that are taken wait for the others before they begin.
const SHARDS_TOGETHER_MS: u64 = 10_000;

impl Runner {
    pub(super) fn take_shard(&mut self, number: u32, is_handed_over: bool) {
        let now_ms = self.now_ms();
        let spec = ShardSpec {
            mirror: self.shared.config.name.clone(),
            generation: self.generation,
            shard: number,
            tp: crate::client::TopicPartition { partition: number.cast_signed(), ..self.control.tp.clone() },
            control: self.control.state.clone(),
        };
        let tenure = self.fleet.next_tenure();
        let reporter = Reporter { shard: number, tenure, events: self.sender.clone() };
        // Bounded: one write and one attachment at a time, and a halt a partition.
        let (jobs, receiver) = mpsc::unbounded_channel();
        let worker = self.tasks.spawn(shard_worker(self.shared.clone(), spec, is_handed_over, receiver, reporter));
        if let Some(shard) = self.shards.get_mut(number as usize) {
            *shard = Shard::taking(tenure, (jobs, worker), now_ms);
        }
    }

    pub(super) fn on_shard_taken(
        &mut self,
        shard: u32,
        owned: Instant,
        outcome: Result<Holdings, EngineError>,
    ) -> Result<(), EngineError> {
        let holdings = match outcome {
            Ok(holdings) => holdings,
            Err(error) => {
                let halt = error.damage().ok_or(error)?;
                tracing::error!(mirror = %self.shared.config.name, shard, detail = %halt.detail,
                    "the shard's state cannot be read; its partitions stand still");
                if let Some(shard) = self.shards.get_mut(shard as usize) {
                    (shard.damaged, shard.stage) = (Some(halt), ShardStage::Owned);
                }
                self.shards_taken += 1;
                self.tell_held();
                return Ok(());
            }
        };
        tracing::debug!(
            mirror = %self.shared.config.name, shard, partitions = holdings.declared.len(), "shard taken"
        );
        self.shards_taken += 1;
        for (topic, partition, id) in holdings.declared {
            self.identities.entry((topic, partition)).or_default().push((id, shard));
        }
        for (key, (halt, resumes)) in holdings.halts {
            self.halts.entry(key).or_default().push((shard, halt, resumes));
        }
        if let Some(shard) = self.shards.get_mut(shard as usize) {
            shard.baselined = holdings.baseline;
            (shard.taken, shard.stage) = (true, ShardStage::Owned);
            shard.owned = owned;
        }
        self.tell_held();
        Ok(())
    }

    pub(super) fn spawn_discovery(&mut self) {
        let (shared, control) = (self.shared.clone(), self.control.clone());
        let prepares = self.fleet.is_elected();
        let selected = self.parts.all().filter(|part| part.selected);
        let mirrored: BTreeSet<String> = selected.map(|part| part.pair.source.topic.clone()).collect();
        self.spawn(async move {
            let mirrored: Vec<&str> = mirrored.iter().map(String::as_str).collect();
            let clusters = (&shared.source, &shared.target);
            let prepares = prepares.then_some(&control);
            let found = discover(&shared.all, &shared.config, clusters, &mirrored, prepares).await;
            Some(Event::Discovered(found))
        });
    }

    pub(super) fn on_discovered(&mut self, outcome: Result<Topology, EngineError>) -> Result<(), EngineError> {
        self.discovering = false;
        let topology = match outcome {
            Ok(topology) => topology,
            Err(error) if error.is_retriable() => {
                tracing::warn!(mirror = %self.shared.config.name, %error, "topic discovery failed, trying again");
                self.counting.failed("discovery");
                return Ok(());
            }
            // What flows does not hang on it.
            Err(EngineError::Client(error)) if self.discovered => {
                tracing::error!(mirror = %self.shared.config.name, %error, "topic discovery failed, trying again");
                self.counting.failed("discovery");
                let error = error.is_unauthorised().then(|| error.to_string());
                self.board.note_want(Lacks::Topics, error.as_deref());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for problem in &topology.problems {
            if !self.problems.contains(problem) {
                tracing::error!(
                    mirror = %self.shared.config.name, topic = %problem.topic, target_topic = %problem.target_topic,
                    detail = %problem.detail, "the topic is not mirrored"
                );
                if problem.is_unauthorised {
                    self.counting.halted(HaltKind::Unauthorised);
                }
            }
        }
        self.problems = topology.problems;
        let refused = self.problems.iter().filter(|problem| problem.is_unauthorised);
        self.board.note_want(Lacks::Topics, refused.map(|problem| problem.detail.as_str()));
        self.board.note_want(Lacks::Mirror, None);
        self.discovered = true;
        // What was looked for by topics that were selected before is not wanted any more.
        let wanted = topology.topics.into_iter().filter(|topic| self.shared.config.topics.matches(&topic.source.0));
        let wanted = wanted.collect();
        self.on_topics(wanted);
        self.follow_leaders();
        Ok(())
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
            let mut names: Vec<String> = self.parts.all().map(|p| p.pair.target.topic.clone()).collect();
            names.dedup();
            names
        };
        let sources: Vec<String> = {
            let mut names: Vec<String> = self.parts.all().map(|p| p.pair.source.topic.clone()).collect();
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
        for id in self.parts.ids() {
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
            self.counting.led(&mut part.led_by, [new_source, new_target]);
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
        // The first attachment applies `start:` to all there is: it waits for the first discovery.
        if self.stopping || !self.discovered {
            return;
        }
        let all_taken = self.shards_taken == self.shard_count;
        let shared_out = self.fleet.is_shared_out();
        // A shard that cannot be taken stands in nobody's way; but not at once, for the sake of two that start together.
        let begins = all_taken || shared_out || self.now_ms() > self.taking_since_ms + SHARDS_TOGETHER_MS;
        let mut unknown_all = Vec::new();
        for number in 0..self.shards.len() {
            self.halt_damaged(number);
            let Some(shard) = self.shards.get_mut(number) else { continue };
            let ours = shard.taken && shard.cleared && shard.stage == ShardStage::Owned;
            if shard.attaching || !ours || !begins || !(all_taken || shared_out || shard.baselined) {
                continue;
            }
            let waiting = std::mem::take(&mut shard.waiting);
            // Whether a partition's topic was mirrored under another id is known to the other shards.
            let (known, unknown): (Vec<PartId>, Vec<PartId>) =
                waiting.into_iter().partition(|id| all_taken || self.is_declared(*id) || self.has_looked_around(*id));
            unknown_all.extend_from_slice(&unknown);
            let fresh: Vec<PartId> = known.into_iter().filter(|id| self.admit(*id)).collect();
            if let Some(shard) = self.shards.get_mut(number) {
                shard.waiting.extend(unknown);
            }
            let Some(shard) = self.shards.get_mut(number) else { continue };
            let first = !std::mem::replace(&mut shard.baselined, true);
            let retake = if fresh.is_empty() && !first { std::mem::take(&mut shard.retake) } else { Vec::new() };
            if fresh.is_empty() && retake.is_empty() && !first {
                continue;
            }
            shard.attaching = true;
            let job = Job::Attach {
                retake: !retake.is_empty(),
                wanted: fresh.into_iter().chain(retake).filter_map(|id| self.wanted(id)).collect(),
            };
            self.give(number, job);
        }
        if shared_out && !unknown_all.is_empty() {
            self.look_around(unknown_all);
        }
    }

    /// What waits in a shard whose state cannot be read stands still.
    fn halt_damaged(&mut self, number: usize) {
        let Some(shard) = self.shards.get_mut(number) else { return };
        let Some(halt) = shard.damaged.clone() else { return };
        let waiting: Vec<PartId> = shard.waiting.drain(..).chain(shard.retake.drain(..)).collect();
        waiting.into_iter().for_each(|id| self.halt(id, halt.clone()));
    }

    fn wanted(&self, id: PartId) -> Option<Wanted> {
        let part = self.parts.get(id)?;
        let (topic, partition) = part.key();
        Some(part.wanted(self.control.state.accepted_ranges(&topic, partition)))
    }

    /// Partitions came back from their shard; `again` is what is tried again with those that could not be reached.
    pub(super) fn on_attached(
        &mut self,
        outcome: Result<Vec<(Pair, Attached)>, EngineError>,
        again: Again,
    ) -> Result<(), EngineError> {
        let expiration_ms = self.shared.expiration_ms;
        let now_ms = self.now_ms();
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
                    part.divergence = None;
                    part.start(&config, &footing, expiration_ms);
                    self.touched.insert(id);
                    self.on_flowing(id);
                    self.leave_unselected(id);
                }
                Attached::Halted(halt) => {
                    if let Some(part) = self.parts.get_mut(id) {
                        part.divergence = None;
                    }
                    self.halt(id, halt);
                }
                Attached::Later(why) => {
                    let Some(part) = self.parts.get_mut(id) else { continue };
                    if part.set_backs == 0 {
                        tracing::warn!(
                            mirror = %self.shared.config.name, topic = %pair.source.topic,
                            partition = pair.source.partition, why, "the partition cannot be attached yet, trying again"
                        );
                    }
                    part.stage = Stage::Starting;
                    part.try_again(again, now_ms);
                }
            }
        }
        Ok(())
    }

    /// The coordinator was asked whether a shard is still ours. It was at `owned`; or it could not be asked, and is soon.
    pub(super) fn on_kept_alive(&mut self, number: u32, owned: Option<Instant>) {
        let Some(shard) = self.shards.get_mut(number as usize) else { return };
        shard.confirming = false;
        match owned {
            Some(owned) => shard.owned = owned,
            None => {
                let early = KEEP_ALIVE_MS - KEEP_ALIVE_AGAIN_MS;
                shard.last_keep_alive_ms = shard.last_keep_alive_ms.saturating_sub(early);
            }
        }
        // What waited for the answer.
        let mine = self.parts.iter().filter(|(_, part)| part.shard == number);
        self.touched.extend(mine.map(|(id, _)| id));
    }

    /// Whether the shard may be written to. Asks the coordinator in time for the lease not to run out under way.
    pub(super) fn may_write(&mut self, number: u32) -> bool {
        let (lease, now_ms) = (self.shared.lease(), self.now_ms());
        let Some(shard) = self.shards.get_mut(number as usize) else { return false };
        let age = shard.owned.elapsed();
        if age > lease / 2 && !shard.confirming {
            shard.confirming = true;
            shard.last_keep_alive_ms = now_ms;
            self.give(number as usize, Job::KeepAlive);
        }
        age <= lease
    }

    /// Once nothing of a flow is in flight, its partition can be settled.
    pub(super) fn maybe_leave(&mut self, id: PartId) {
        let Some(part) = self.parts.get_mut(id) else { return };
        let stage = std::mem::replace(&mut part.stage, Stage::Starting);
        match stage {
            Stage::Leaving { flow, why } if flow.appender.in_flight() == 0 => match why {
                Leave::Recreated => self.adopt(id, Some(flow)),
                Leave::Unselected => self.park(id, &flow),
                Leave::TakeOver(_) if flow.appender.displacements().is_empty() => self.wait_for_retake(id),
                Leave::TakeOver(_) | Leave::Displaced => {
                    let displacements = flow.appender.displacements().to_vec();
                    let number = part.shard as usize;
                    if let Some(wanted) = self.wanted(id) {
                        self.give(number, Job::Displaced { wanted, displacements, take_over: why != Leave::Displaced });
                    }
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
        if let Some(jobs) = self.shards.get(shard).and_then(|shard| shard.jobs.as_ref()) {
            // A worker that has ended has reported why; the mirror ends with it, or goes on without the shard.
            let _ = jobs.send(job);
        }
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
            self.be_promoted();
            return Ok(());
        }
        self.heed_bandwidth();
        for id in self.parts.ids() {
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

    pub(super) fn keep_shards_alive(&mut self, now_ms: u64) {
        for number in 0..self.shards.len() {
            let Some(shard) = self.shards.get_mut(number) else { continue };
            if shard.jobs.is_none() || shard.last_keep_alive_ms + KEEP_ALIVE_MS > now_ms {
                continue;
            }
            shard.last_keep_alive_ms = now_ms;
            self.give(number, Job::KeepAlive);
        }
    }
}
