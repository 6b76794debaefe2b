//! Which shards this process holds, where others hold some: taking what it is assigned, giving back what it is not, and losing what
//! somebody else has taken. Each is about one shard alone; the partitions of the others go on.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::client::FetchChange;
use crate::mirror::{ReleaseEntry, shard_of};
use crate::plan::{Assignment, Held, ShardHeld, ShardStage};

use super::super::EngineError;
use super::super::events::{Event, PartId};
use super::super::part::{Flow, Part};
use super::super::seat::Seat;
use super::super::shard_worker::Job;
use super::stopping::release_of;
use super::{Runner, Shard};

/// How long a shard that is given back may take to settle. Then it is let go of as it is, and its next owner settles it.
const GIVE_BACK_DEADLINE_MS: u64 = 5_000;
/// Load is told over about this time, ms.
const LOAD_OVER_MS: f64 = 30_000.0;

/// What this process was assigned, and how far it is with that.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) seat: Seat,
    assignment: Option<Assignment>,
    /// What is held may not be what is assigned.
    look_again: bool,
    giving_back: BTreeMap<u32, GivingBack>,
    loads: Vec<Load>,
    tenures: u64,
    pub(super) around: super::around::Around,
}

/// A shard that is given back.
#[derive(Debug)]
struct GivingBack {
    parts: Vec<PartId>,
    until_ms: u64,
    /// Its worker was told to write that down, and to end.
    is_told: bool,
}

/// What passes through a shard.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    held: ShardHeld,
    /// Bytes up to then, and when that was, ms.
    counted: Option<(u64, u64)>,
    bytes_per_s: f64,
}

impl Fleet {
    pub(super) fn new(seat: Seat, shards: u32) -> Self {
        let loads = vec![Load::default(); shards as usize];
        let (giving_back, around) = (BTreeMap::new(), super::around::Around::default());
        Self { seat, assignment: None, look_again: true, giving_back, loads, tenures: 0, around }
    }

    /// Whether others hold what this process does not.
    pub(super) fn is_shared_out(&self) -> bool {
        self.seat.is_member()
    }

    /// Whether this process does what is done once a mirror.
    pub(super) fn is_elected(&self) -> bool {
        !self.is_shared_out() || self.assignment.as_ref().is_some_and(|assignment| assignment.elected)
    }

    pub(super) fn look_again(&mut self) {
        self.look_again = true;
    }

    pub(super) fn next_tenure(&mut self) -> u64 {
        self.tenures += 1;
        self.tenures
    }

    fn epoch(&self) -> u64 {
        self.assignment.as_ref().map_or(0, |assignment| assignment.epoch)
    }

    fn is_wanted(&self, shard: u32) -> bool {
        self.assignment.as_ref().is_none_or(|assignment| assignment.shards.contains(&shard))
    }
}

impl Runner {
    /// Shards that were lost in an earlier round of this mirror are not taken back in this one.
    pub(super) fn remember_losses(&mut self) {
        for (shard, told) in self.shards.iter_mut().zip(self.fleet.seat.told().shards) {
            if let ShardStage::Lost { .. } = told.stage {
                shard.stage = told.stage;
            }
        }
    }

    /// Begins to take what is assigned and not held, and to give back what is held and not assigned.
    pub(super) fn hold_what_is_assigned(&mut self) {
        if self.stopping || !std::mem::take(&mut self.fleet.look_again) {
            return;
        }
        let was_elected = self.fleet.is_elected();
        self.fleet.assignment = self.fleet.seat.assignment();
        if self.fleet.is_elected() && !was_elected {
            self.next_discovery_ms = 0;
        }
        let epoch = self.fleet.epoch();
        let mut taken = Vec::new();
        for number in 0..self.shard_count {
            let Some(stage) = self.shards.get(number as usize).map(|shard| shard.stage) else { continue };
            match (stage, self.fleet.is_wanted(number)) {
                (ShardStage::Lost { epoch: lost }, _) if lost >= epoch => {}
                (ShardStage::Idle | ShardStage::Lost { .. }, true) => taken.push(number),
                (ShardStage::Lost { .. }, false) => self.let_go(number, ShardStage::Idle),
                (ShardStage::Taking | ShardStage::Owned, false) => self.begin_to_give_back(number),
                (ShardStage::Idle | ShardStage::Taking | ShardStage::Owned | ShardStage::Releasing, _) => {}
            }
        }
        if !taken.is_empty() {
            self.take_all(&taken);
        }
        self.tell_held();
    }

    fn take_all(&mut self, shards: &[u32]) {
        for number in shards {
            let handed_over = |assignment: &Assignment| assignment.handed_over.contains(number);
            self.take_shard(*number, self.fleet.assignment.as_ref().is_some_and(handed_over));
        }
        if self.fleet.is_shared_out() {
            tracing::info!(mirror = %self.shared.config.name, epoch = self.fleet.epoch(), ?shards, "taking shards");
        }
        let mut pairs = Vec::new();
        for topic in self.topics.values() {
            let mine = (0..topic.partitions)
                .filter(|partition| shards.contains(&shard_of(topic.source.1, *partition, self.shard_count)));
            pairs.extend(mine.map(|partition| topic.pair(partition)));
        }
        pairs.into_iter().for_each(|pair| self.on_pair(pair));
        self.follow_leaders();
    }

    /// Whether the shard is this process's, or about to be.
    pub(super) fn is_held(&self, number: u32) -> bool {
        let stage = self.shards.get(number as usize).map(|shard| shard.stage);
        matches!(stage, Some(ShardStage::Taking | ShardStage::Owned))
    }

    /// Whether some partitions are about to join.
    pub(super) fn is_joining(&self) -> bool {
        self.shards.iter().any(|shard| shard.attaching || shard.stage == ShardStage::Taking)
    }

    fn begin_to_give_back(&mut self, number: u32) {
        let parts = self.parts.of_shard(number);
        let until_ms = self.now_ms() + GIVE_BACK_DEADLINE_MS;
        let Some(shard) = self.shards.get_mut(number as usize) else { return };
        tracing::info!(mirror = %self.shared.config.name, shard = number, partitions = parts.len(), "giving the shard back");
        if shard.damaged.is_some() {
            // Its worker has ended.
            return self.let_go(number, ShardStage::Idle);
        }
        let is_taken = shard.stage == ShardStage::Owned;
        shard.stage = ShardStage::Releasing;
        shard.waiting.clear();
        shard.retake.clear();
        self.fleet.giving_back.insert(number, GivingBack { parts: parts.clone(), until_ms, is_told: false });
        for id in parts {
            let Some(part) = self.parts.get_mut(id) else { continue };
            part.ending = true;
            self.touched.insert(id);
        }
        if !is_taken {
            self.tell_released(number, Vec::new());
        }
    }

    /// What is given back is released once nothing of it is under way any more.
    pub(super) fn give_back(&mut self) {
        if self.fleet.giving_back.is_empty() || self.stopping {
            return;
        }
        let now_ms = self.now_ms();
        let numbers: Vec<u32> = self.fleet.giving_back.keys().copied().collect();
        for number in numbers {
            let Some(giving) = self.fleet.giving_back.get(&number) else { continue };
            if now_ms > giving.until_ms {
                tracing::warn!(mirror = %self.shared.config.name, shard = number,
                    "the shard did not settle in time; its next owner settles it");
                self.let_go(number, ShardStage::Idle);
                continue;
            }
            let (is_told, parts) = (giving.is_told, giving.parts.clone());
            if is_told || !self.is_quiet(number, &parts) {
                continue;
            }
            self.note_seen(now_ms);
            self.note_scans_of(parts.clone());
            let entries = parts.iter().filter_map(|id| release_of(self.parts.get(*id)?)).collect();
            self.tell_released(number, entries);
        }
    }

    fn is_quiet(&mut self, number: u32, parts: &[PartId]) -> bool {
        let idle = |part: &mut Part| part.answering().is_none_or(|flow| flow.appender.in_flight() == 0);
        let under_way = self.shards.get(number as usize).is_some_and(|shard| shard.attaching || shard.writing);
        !under_way && parts.iter().all(|id| self.parts.get_mut(*id).is_none_or(idle))
    }

    /// The last that the worker is told: whoever waits for the shard waits for that, also where it names no partition.
    fn tell_released(&mut self, number: u32, entries: Vec<ReleaseEntry>) {
        // Whether it could be written is told by the worker's end, or by time.
        let (done, _) = oneshot::channel();
        self.give(number as usize, Job::Release { entries, done });
        if let Some(shard) = self.shards.get_mut(number as usize) {
            shard.jobs = None;
        }
        if let Some(giving) = self.fleet.giving_back.get_mut(&number) {
            giving.is_told = true;
        }
    }

    pub(super) fn on_shard_ended(&mut self, number: u32) {
        let stage = self.shards.get(number as usize).map(|shard| shard.stage);
        // One that could not be taken has told why.
        if stage == Some(ShardStage::Releasing) {
            tracing::info!(mirror = %self.shared.config.name, shard = number, "the shard is given back");
            self.let_go(number, ShardStage::Idle);
        }
    }

    /// Takes a worker's report, if it is of the shard as it is held now.
    pub(super) fn on_report(&mut self, number: u32, tenure: u64, event: Event) -> Result<(), EngineError> {
        if self.shards.get(number as usize).is_none_or(|shard| shard.tenure != tenure) {
            return Ok(());
        }
        let outcome = self.handle(event);
        self.bear_loss(number, outcome)
    }

    /// In a fleet a shard that somebody else has taken is no reason to stop: it is theirs.
    pub(super) fn bear_loss(&mut self, number: u32, outcome: Result<(), EngineError>) -> Result<(), EngineError> {
        let shared_out = self.fleet.is_shared_out();
        match outcome {
            Err(error @ (EngineError::Fenced { .. } | EngineError::Contended { .. })) if shared_out => {
                self.lose(number, &error);
                Ok(())
            }
            Err(error @ EngineError::Forgotten { .. }) if shared_out => {
                tracing::warn!(mirror = %self.shared.config.name, shard = number, %error, "taking the shard anew");
                self.let_go(number, ShardStage::Idle);
                Ok(())
            }
            other => other,
        }
    }

    fn lose(&mut self, number: u32, error: &EngineError) {
        let Some(stage) = self.shards.get(number as usize).map(|shard| shard.stage) else { return };
        let mirror = &self.shared.config.name;
        match stage {
            ShardStage::Taking | ShardStage::Owned => {
                tracing::error!(mirror, shard = number, %error, "the shard is lost: another kmirror has taken it, and its partitions with it");
                self.counting.failed("shard_lost");
                self.let_go(number, ShardStage::Lost { epoch: self.fleet.epoch() });
            }
            ShardStage::Releasing => {
                tracing::warn!(mirror, shard = number, %error, "another kmirror has taken the shard before it was given back");
                self.let_go(number, ShardStage::Idle);
            }
            ShardStage::Idle | ShardStage::Lost { .. } => {}
        }
    }

    /// Nothing of the shard is this process's any more. What is under way for it counts for nothing: its next owner settles it.
    fn let_go(&mut self, number: u32, stage: ShardStage) {
        self.fleet.giving_back.remove(&number);
        if let Some(load) = self.fleet.loads.get_mut(number as usize) {
            *load = Load::default();
        }
        for id in self.parts.of_shard(number) {
            self.remove_part(id);
        }
        let Some(shard) = self.shards.get_mut(number as usize) else { return };
        let before = std::mem::replace(shard, Shard { stage, ..Shard::idle() });
        if before.taken || before.damaged.is_some() {
            self.shards_taken -= 1;
        }
        if let Some(worker) = before.worker {
            worker.abort();
        }
        for known in self.identities.values_mut() {
            known.retain(|(_, shard)| *shard != number);
        }
        self.identities.retain(|_, known| !known.is_empty());
        for halts in self.halts.values_mut() {
            halts.retain(|(shard, ..)| *shard != number);
        }
        self.halts.retain(|_, halts| !halts.is_empty());
        self.fleet.look_again();
        self.tell_held();
    }

    fn remove_part(&mut self, id: PartId) {
        let Some(part) = self.parts.remove(id) else { return };
        let key = part.key();
        if self.by_source.get(&key) == Some(&id) {
            self.by_source.remove(&key);
        }
        for fetcher in self.fetchers.values_mut() {
            fetcher.changed.remove(&id);
            fetcher.behind.remove(&id);
            if fetcher.wants.remove(&id).is_some() {
                fetcher.forgets.push(FetchChange::forget(&part.pair.source));
            }
        }
        self.touched.remove(&id);
        self.forget_others(&key);
    }

    /// A topic was made again, and its partition is of a shard of somebody else now: they wait until it is released here.
    pub(super) fn leave_to_others(&mut self, id: PartId, flow: Option<Box<Flow>>) {
        let Some(part) = self.parts.get(id) else { return };
        let (number, (topic, partition)) = (part.shard as usize, part.key());
        tracing::info!(mirror = %self.shared.config.name, topic, partition,
            "the topic was made again, and the partition is of another shard now");
        let clean = flow.filter(|flow| flow.appender.is_clean());
        if let Some(flow) = clean {
            let (index, end) = (flow.index, flow.appender.settled());
            let last_crc = flow.appender.last_crc().unwrap_or(0);
            let (done, _) = oneshot::channel();
            self.give(number, Job::Release { entries: vec![ReleaseEntry { index, end, last_crc }], done });
        }
        self.remove_part(id);
    }

    /// Tells what is held, to whoever assigns it.
    pub(super) fn tell_held(&self) {
        let held = self.shards.iter().zip(&self.fleet.loads);
        let shards = held.map(|(shard, load)| ShardHeld { stage: shard.stage, ..load.held }).collect();
        self.fleet.seat.tell(Held { epoch: self.fleet.epoch(), shards });
    }

    /// Adds up what passes through each shard, about once a second.
    pub(super) fn weigh(&mut self, now_ms: u64) {
        if !self.fleet.is_shared_out() {
            return;
        }
        let mut sums: BTreeMap<u32, (ShardHeld, u64)> = BTreeMap::new();
        for part in self.parts.all() {
            let (held, bytes) = sums.entry(part.shard).or_default();
            held.partitions += 1;
            held.backlog_records += part.backlog_records();
            *bytes += part.totals.in_bytes;
        }
        for (number, load) in (0..).zip(&mut self.fleet.loads) {
            match sums.remove(&number) {
                Some((held, bytes)) => load.count(held, bytes, now_ms),
                None => *load = Load::default(),
            }
        }
        self.tell_held();
    }
}

impl Load {
    fn count(&mut self, held: ShardHeld, bytes: u64, now_ms: u64) {
        if let Some((before, at_ms)) = self.counted.replace((bytes, now_ms)) {
            let passed_ms = now_ms.saturating_sub(at_ms).max(1) as f64;
            let now = bytes.saturating_sub(before) as f64 * 1000.0 / passed_ms;
            self.bytes_per_s += (now - self.bytes_per_s) * (passed_ms / LOAD_OVER_MS).min(1.0);
        }
        self.held = ShardHeld { bytes_per_s: self.bytes_per_s as u64, ..held };
    }
}
