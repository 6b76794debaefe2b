//! Halts and their way out, and which topics these are: `engine::runner::{halting, identity}`.

use kmirror::mirror::{ControlState, GapReason, Halt, HaltKind};

use super::Process;
use crate::sim::driver::flow::{Leave, Part, Stage};
use crate::sim::driver::{Job, Policy, topic};

impl Process {
    /// The topics of the source as they are now.
    pub(crate) fn discover(&mut self, ids: &[u128]) {
        for (number, id) in ids.iter().enumerate() {
            if number == self.parts.len() {
                self.parts.push(Part::new(number, *id));
                self.waiting.push(number);
            } else {
                self.check_identity(number, *id);
            }
        }
    }

    pub(super) fn check_identity(&mut self, number: usize, id: u128) {
        let part = &mut self.parts[number];
        if part.source_id == id || matches!(part.stage, Stage::Starting | Stage::Leaving { .. }) {
            return;
        }
        let (was, halted) = (part.source_id, matches!(part.stage, Stage::Halted { .. }));
        part.next_source = Some(id);
        if halted {
        } else if self.may_succeed(number) {
            self.leave(number, Leave::Recreated);
        } else {
            self.halt(number, recreated(was, id));
        }
    }

    pub(super) fn may_succeed(&self, part: usize) -> bool {
        self.io.settings().source_recreated == Policy::Continue
            || self.parts[part].freed == Some(HaltKind::SourceRecreated)
    }

    pub(super) fn is_declared(&self, part: usize) -> bool {
        self.identities.get(&part).is_some_and(|ids| ids.contains(&self.parts[part].source_id))
    }

    /// Whether a partition that waits may be attached now.
    pub(super) fn admit(&mut self, number: usize) -> bool {
        if let Some((halt, after)) = self.halts.get(&number) {
            if *after == self.control.resumes(&topic(number), 0) {
                self.parts[number].stage = Stage::Halted { halt: halt.clone(), flow: None };
                return false;
            }
            let freed = halt.kind;
            self.parts[number].freed.get_or_insert(freed);
        }
        if self.parts[number].successor || self.is_declared(number) {
            return true;
        }
        let Some(before) = self.identities.get(&number).and_then(|ids| ids.last()).copied() else { return true };
        if self.may_succeed(number) {
            self.give(Job::Fence { part: number });
        } else {
            self.halt(number, recreated(before, self.parts[number].source_id));
        }
        false
    }

    pub(super) fn adopt(&mut self, number: usize) {
        let part = &mut self.parts[number];
        let Some(next) = part.next_source.take() else { return };
        part.source_id = next;
        part.given_up.clear();
        part.stage = Stage::Starting;
        if self.identities.contains_key(&number) {
            self.give(Job::Fence { part: number });
        } else {
            self.waiting.push(number);
        }
    }

    pub(super) fn halt(&mut self, number: usize, halt: Halt) {
        if let Some((from, to)) = halt.passable()
            && let Some((_, reason)) = self.control.accepted(&topic(number), 0, from, to)
        {
            self.accept(number, &halt, reason);
            self.retake(number);
            return;
        }
        let part = &mut self.parts[number];
        let flow = match std::mem::replace(&mut part.stage, Stage::Starting) {
            Stage::Flowing(flow) | Stage::Leaving { flow, .. } => Some(flow),
            Stage::Halted { flow, .. } => flow,
            Stage::Starting => None,
        };
        part.stage = Stage::Halted { halt: halt.clone(), flow };
        self.drop_breaks(number);
        let resumes = self.control.resumes(&topic(number), 0);
        self.told.push((number, halt.clone()));
        self.halts.insert(number, (halt.clone(), resumes));
        self.give(Job::Halt { part: number, halt: Some(halt), resumes });
    }

    /// The control partition as it stands now.
    pub(crate) fn follow(&mut self, control: ControlState) {
        let before = std::mem::replace(&mut self.control, control);
        for number in 0..self.parts.len() {
            if self.control.resumes(&topic(number), 0) > before.resumes(&topic(number), 0) {
                self.resume(number);
            }
        }
    }

    pub(super) fn resume(&mut self, number: usize) {
        let part = &mut self.parts[number];
        let Stage::Halted { halt, flow } = &part.stage else { return };
        let (halt, idle) = (halt.clone(), flow.is_none());
        part.freed = Some(halt.kind);
        if halt.kind == HaltKind::SourceRecreated && part.next_source.is_some() {
            match std::mem::replace(&mut part.stage, Stage::Starting) {
                Stage::Halted { flow: Some(flow), .. } => {
                    part.stage = Stage::Leaving { flow, why: Leave::Recreated };
                }
                _ => self.adopt(number),
            }
            return;
        }
        if idle && !self.is_declared(number) {
            self.parts[number].stage = Stage::Starting;
            self.waiting.push(number);
            return;
        }
        if let Some((from, to)) = halt.passable()
            && let Some((_, reason)) = self.control.accepted(&topic(number), 0, from, to)
        {
            self.accept(number, &halt, reason);
        }
        self.retake(number);
    }

    pub(super) fn retake(&mut self, number: usize) {
        self.drop_breaks(number);
        let part = &mut self.parts[number];
        match std::mem::replace(&mut part.stage, Stage::Starting) {
            Stage::Flowing(flow) | Stage::Leaving { flow, .. } | Stage::Halted { flow: Some(flow), .. } => {
                part.stage = Stage::Leaving { flow, why: Leave::TakeOver };
            }
            Stage::Halted { flow: None, .. } | Stage::Starting => self.retake.push(number),
        }
    }

    /// Goes on without a source range, noted as a gap.
    pub(super) fn accept(&mut self, number: usize, halt: &Halt, reason: GapReason) {
        let Some((from, to)) = halt.range else { return };
        let part = &mut self.parts[number];
        part.given_up.push((from, to, reason));
        if let Some(flow) = part.flow() {
            flow.intake.give_up(from, to, reason);
        }
        part.fetch_not_before_ms = 0;
    }
}

fn recreated(was: u128, is: u128) -> Halt {
    Halt::new(HaltKind::SourceRecreated, format!("id {was} is now {is}"))
}
