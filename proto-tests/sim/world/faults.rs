//! What goes wrong: at most one thing between two ordinary steps, as the profile allows.

use kmirror::mirror::{ControlRecord, Halt, HaltKind, Scope};

use super::{FOREIGN, HOUR_MS, World};
use crate::sim::driver::io::Lost;
use crate::sim::driver::topic;
use crate::sim::oracle;

impl World {
    pub(super) fn chance(&mut self) {
        let profile = self.profile.clone();
        match self.rng.u16(..400) {
            0..10 if profile.lost_connections => self.lose_connection(),
            10..13 if profile.crashes && !self.processes.is_empty() => {
                let at = self.rng.usize(..self.processes.len());
                self.crash(at);
            }
            13..16 if profile.zombies && self.processes.len() < 3 => {
                if let Some(number) = self.processes.last().map(|p| p.number) {
                    trace!(self, "process {number} pauses, another takes over");
                    self.asleep.push(number);
                    self.start();
                }
            }
            16..24 if profile.zombies => {
                if let Some(number) = self.asleep.pop() {
                    trace!(self, "process {number} wakes");
                }
            }
            24..27 if profile.stops => self.processes.iter_mut().for_each(|p| p.stopping = true),
            27..32 if profile.leaders => {
                let logs = self.target.logs();
                let id = logs[self.rng.usize(..logs.len())];
                trace!(self, "{id:?} gets another leader");
                self.target.elect(id, &mut self.rng);
                // What comes to stand where a lost batch stood is not that batch.
                self.release_waiting();
                self.target.settle_markers();
            }
            32..37 if profile.leaders => {
                let marker = self.target.repeat_marker(&mut self.rng, self.now_ms as i64);
                trace!(self, "repeated {marker:?}");
            }
            37..43 if profile.sweeps => self.sweep(),
            43..46 if profile.retention => self.retire(),
            46..48 if profile.truncation => self.truncate(),
            48..49 if profile.recreation => self.recreate(),
            49..51 if profile.foreigners => self.write_foreign(),
            51..54 if profile.time_jumps => {
                self.now_ms += self.rng.u64(1..40) * HOUR_MS;
                self.net.forget_orphans();
            }
            54..56 if profile.wrong_clocks => self.shift_clock(),
            56..60 if profile.stalls => self.stall(),
            60..70 if profile.resumes => self.resume(),
            _ => {}
        }
    }

    fn lose_connection(&mut self) {
        let processes: Vec<usize> = self.processes.iter().map(|p| p.number).collect();
        let Some(number) = self.rng.choice(processes) else { return };
        let lanes = self.net.lanes_of(number);
        let Some(lane) = self.rng.choice(lanes) else { return };
        trace!(self, "process {number} loses {lane:?}");
        let lost = self.net.lose(number, lane, &mut self.rng);
        let process = self.processes.iter().find(|p| p.number == number).unwrap();
        process.io.0.inbox.borrow_mut().extend(lost.into_iter().map(|call| (call, Err(Lost))));
    }

    fn stall(&mut self) {
        let Some(at) = (!self.net.calls.is_empty()).then(|| self.rng.usize(..self.net.calls.len())) else { return };
        let (process, lane, _) = self.net.calls[at].connection;
        let until_ms = self.now_ms + self.rng.u64(50..3_000);
        trace!(self, "process {process}: {lane:?} stalls");
        self.net.stall(process, lane, until_ms);
    }

    fn sweep(&mut self) {
        let before = self.now_ms as i64 - self.profile.settings.expiration_ms as i64;
        for part in 0..self.sources.len() {
            if self.target.data[part].sweep(before) {
                trace!(self, "part {part}: the target forgets a producer");
            }
        }
    }

    fn retire(&mut self) {
        let part = self.rng.usize(..self.sources.len());
        let ends: Vec<i64> = self.sources[part].log.batches.iter().map(|b| b.header.next_offset()).collect();
        let Some(start) = self.rng.choice(ends) else { return };
        // Where retention takes the place at which the source was truncated, nobody can tell any more what was lost.
        if self.sources[part].truncated {
            return;
        }
        let known = oracle::read_up_to(self, part);
        let source = &mut self.sources[part];
        let start = if self.rng.bool() { start.min(known) } else { start }.min(source.log.last_stable());
        source.bereft |= start > known;
        trace!(self, "part {part}: retention up to {start}, mirrored up to {known}");
        self.sources[part].delete_below(start);
    }

    fn truncate(&mut self) {
        let part = self.rng.usize(..self.sources.len());
        let source = &mut self.sources[part];
        let ends: Vec<i64> = source.log.batches.iter().map(|b| b.header.next_offset()).collect();
        let end = ends.len().checked_sub(1 + self.rng.usize(1..4)).map(|at| ends[at]);
        let Some(end) = end.filter(|end| *end >= source.log.start) else { return };
        source.elect(end);
        trace!(self, "part {part}: the source is truncated to {end}");
    }

    fn recreate(&mut self) {
        let part = self.rng.usize(..self.sources.len());
        self.sources[part].recreate();
        trace!(self, "part {part}: the source topic is made again");
    }

    fn write_foreign(&mut self) {
        let part = self.rng.usize(..self.sources.len());
        self.next_id += 1;
        let id = FOREIGN | self.next_id;
        let at = self.target.data[part].write(&[id], None, self.now_ms as i64);
        self.excuses[part].foreigners = true;
        trace!(self, "part {part}: somebody else writes at {at}");
    }

    fn shift_clock(&mut self) {
        let Some(process) = self.processes.last() else { return };
        let hours = self.rng.i64(-60..60);
        self.clocks.insert(process.number, hours * HOUR_MS as i64);
        trace!(self, "the clock of process {} is {hours} hours off", process.number);
    }

    /// Somebody reads the halt and lets the partition go on, with the loss or without.
    fn resume(&mut self) {
        let part = self.rng.usize(..self.sources.len());
        let Some(process) = self.processes.last() else { return };
        let (Some(halt), _) = process.standing(part, i64::MAX) else { return };
        let accept_loss = halt.range.filter(|_| halt.can_accept_loss() && self.rng.bool());
        trace!(self, "part {part}: resume {accept_loss:?} after {}", halt.kind);
        let scope = Scope::Partition { topic: topic(part), partition: 0 };
        self.control.apply(&ControlRecord::Resume { scope, accept_loss, at_ms: 0 });
        self.control_changes += 1;
    }

    /// Whether something that happened explains this halt.
    pub(crate) fn explains(&self, part: usize, halt: &Halt) -> bool {
        let (source, excuses) = (&self.sources[part], &self.excuses[part]);
        let strange = excuses.foreigners || excuses.unfenced;
        match halt.kind {
            // A take-over forgets how far the source was read behind the last record: what retention takes of that looks
            // like a loss. Too careful, but no harm.
            HaltKind::RetentionLoss => {
                source.bereft || halt.range.is_some_and(|(from, to)| source.committed_within(from, to) == 0)
            }
            // ListOffsets names the topic by its name: the bounds may be those of the topic that was made anew.
            HaltKind::Truncation => source.truncated || source.recreated,
            HaltKind::SourceRecreated => source.recreated,
            HaltKind::ForeignRecords => strange,
            HaltKind::MapMismatch => strange,
            _ => false,
        }
    }
}
