//! Halts and their way out.

use crate::config::Policy;
use crate::mirror::{Halt, HaltKind};

use super::super::events::PartId;
use super::super::part::{Leave, Parked, Stage};
use super::super::shard_worker::Job;
use super::Runner;

impl Runner {
    /// Stops one partition, loudly; the others go on.
    pub(super) fn halt(&mut self, id: PartId, halt: Halt) {
        let Some(part) = self.parts.get_mut(id) else { return };
        let (topic, partition) = part.key();
        if let Some((from, to)) = halt.passable()
            && let Some((_, reason)) = self.control.state.accepted(&topic, partition, from, to)
        {
            self.accept(id, &halt, reason);
            self.retake(id);
            return;
        }
        self.tell_halt(&halt, &topic, partition);
        self.counting.halted(halt.kind);
        let Some(part) = self.parts.get_mut(id) else { return };
        let flow = match std::mem::replace(&mut part.stage, Stage::Starting) {
            Stage::Flowing(flow) | Stage::Leaving { flow, .. } => Some(flow),
            Stage::Halted { flow, .. } => flow,
            Stage::Starting => None,
        };
        part.parked = Parked::No;
        part.stage = Stage::Halted { halt: halt.clone(), flow };
        self.touched.insert(id);
        self.drop_breaks(id);
        self.record_halt(id, halt);
    }

    /// Whether policy passes over what the halt is about, as far as that is decided here.
    pub(super) fn passes_over(&self, halt: &Halt) -> bool {
        halt.kind == HaltKind::CorruptBatch && self.shared.config.on.corrupt_batch == Policy::Continue
    }

    /// A halt is kept in the state topic: `status` knows it without this process, and the next start heeds it.
    fn record_halt(&mut self, id: PartId, halt: Halt) {
        let Some(part) = self.parts.get(id) else { return };
        let ((topic, partition), shard) = (part.key(), part.shard);
        let resumes = self.control.state.resumes(&topic, partition);
        let on_record = self.halts.entry((topic.clone(), partition)).or_default();
        on_record.retain(|(other, ..)| *other != shard);
        on_record.push((shard, halt.clone(), resumes));
        self.give(shard as usize, Job::Halt { topic, partition, halt: Some(halt), resumes });
    }

    /// The halt that an earlier run left, if no `resume` has followed it. One that was resumed is what the partition is
    /// freed of.
    pub(super) fn standing_halt(&mut self, id: PartId) -> Option<Halt> {
        let part = self.parts.get_mut(id)?;
        let (topic, partition) = part.key();
        let resumes = self.control.state.resumes(&topic, partition);
        let on_record = self.halts.get(&(topic, partition))?;
        let (_, halt, after) = on_record.iter().max_by_key(|(.., after)| *after)?;
        // More than there are: the control partition was made anew since, and nobody has looked at this halt.
        if *after >= resumes {
            return Some(halt.clone());
        }
        part.freed = part.freed.or(Some(halt.kind));
        None
    }

    /// A partition flows: halts on record are over.
    pub(super) fn on_flowing(&mut self, id: PartId) {
        let Some(part) = self.parts.get_mut(id) else { return };
        let ((topic, partition), source_id) = (part.key(), part.pair.source.topic_id);
        (part.freed, part.successor) = (None, false);
        let shard = part.shard;
        let known = self.identities.entry((topic.clone(), partition)).or_default();
        if !known.contains(&(source_id, shard)) {
            known.push((source_id, shard));
        }
        self.forget_halts(id);
    }

    /// Halts on record do not stand any more.
    pub(super) fn forget_halts(&mut self, id: PartId) {
        let Some((topic, partition)) = self.parts.get(id).map(super::super::part::Part::key) else { return };
        for (shard, ..) in self.halts.remove(&(topic.clone(), partition)).unwrap_or_default() {
            self.give(shard as usize, Job::Halt { topic: topic.clone(), partition, halt: None, resumes: 0 });
        }
    }

    /// Lets a partition be settled and attached anew.
    pub(super) fn retake(&mut self, id: PartId) {
        self.drop_breaks(id);
        let Some(part) = self.parts.get_mut(id) else { return };
        match std::mem::replace(&mut part.stage, Stage::Starting) {
            Stage::Flowing(flow) | Stage::Leaving { flow, .. } | Stage::Halted { flow: Some(flow), .. } => {
                part.stage = Stage::Leaving { flow, why: Leave::TakeOver("going on after a halt".to_owned()) };
            }
            Stage::Halted { flow: None, .. } | Stage::Starting => self.wait_for_retake(id),
        }
        self.touched.insert(id);
    }

    pub(super) fn tell_halt(&self, halt: &Halt, topic: &str, partition: i32) {
        let way_out = halt.way_out(&self.shared.config.name, topic, partition);
        tracing::error!(
            mirror = %self.shared.config.name, topic, partition, reason = %halt.kind,
            detail = %halt.detail, way_out, "partition halted"
        );
    }

    /// A `resume` came: the partition goes on in the way that its halt announced.
    pub(super) fn resume(&mut self, id: PartId) {
        let Some(part) = self.parts.get_mut(id) else { return };
        let Stage::Halted { halt, flow } = &part.stage else { return };
        let (halt, idle) = (halt.clone(), flow.is_none());
        let (topic, partition) = part.key();
        part.freed = Some(halt.kind);
        match halt.kind {
            HaltKind::SourceRecreated if part.next_pair.is_some() => {
                match std::mem::replace(&mut part.stage, Stage::Starting) {
                    Stage::Halted { flow: Some(flow), .. } => {
                        part.stage = Stage::Leaving { flow, why: Leave::Recreated };
                        self.touched.insert(id);
                    }
                    _ => self.adopt(id, None),
                }
                return;
            }
            kind if kind.ends_with_a_new_target() => {
                if let Some(next) = part.next_pair.take() {
                    part.pair = next;
                }
            }
            _ => {}
        }
        if idle && !self.is_declared(id) {
            let Some(part) = self.parts.get_mut(id) else { return };
            part.stage = Stage::Starting;
            self.wait_for_attachment(id);
            return;
        }
        if let Some((from, to)) = halt.passable() {
            match self.control.state.accepted(&topic, partition, from, to) {
                Some((_, reason)) => self.accept(id, &halt, reason),
                None => tracing::info!(topic, partition, "resumed without accepting a loss: the cause is tried again"),
            }
        }
        self.retake(id);
    }
}
