//! What the steps do to the logs and to the writers, and what must hold of them.

use kmirror::batch::BatchHeader;
use kmirror::mirror::{
    Bounds, DataEnd, Displacement, PartitionState, Plan, Realignment, StateRecord, data_end, displaced_record, in_turn,
    origin_record, plan,
};

use super::super::logs::{Datum, Entry, declared, producer_ids, sum};
use super::{Dropped, Phase, Place, Produce, State};

impl State {
    pub(super) fn marked(&self, place: Place, epoch: i16) -> Option<usize> {
        match place {
            Place::State => self.state_log.iter().position(|entry| *entry == Entry::Marker(epoch)),
            Place::Data => self.data_log.iter().position(|datum| *datum == Datum::Marker(epoch)),
        }
    }

    /// The state partition refuses epochs older than its newest marker; a writer refused is fenced.
    pub(super) fn write(&mut self, who: usize, entry: Entry) -> bool {
        let newest = self.state_log.iter().filter_map(|e| if let Entry::Marker(m) = e { Some(*m) } else { None }).max();
        if newest.is_some_and(|newest| self.writers[who].epoch < newest) {
            self.writers[who].phase = Phase::Off;
            return false;
        }
        self.state_log.push(entry.clone());
        self.writers[who].view.push(entry);
        true
    }

    pub(super) fn mark(&mut self, place: Place, epoch: i16) {
        match place {
            Place::State => self.state_log.push(Entry::Marker(epoch)),
            Place::Data => {
                if self.memory.is_some_and(|(known, ..)| known > epoch) {
                    return;
                }
                if self.memory.is_none_or(|(known, ..)| known != epoch) {
                    self.memory = Some((epoch, 0, self.data_log.len()));
                }
                self.data_log.push(Datum::Marker(epoch));
            }
        }
    }

    /// The broker's answer: the base offset, or a refusal.
    pub(super) fn append(&mut self, batch: Produce) -> Option<i64> {
        let Produce { epoch, sequence, source } = batch;
        if let Some((known, next, from)) = self.memory {
            let same =
                |d: &Datum| matches!(d, Datum::Record { epoch: e, sequence: s, .. } if (*e, *s) == (epoch, sequence));
            if epoch == known
                && let Some(at) = self.data_log.iter().skip(from).position(same)
            {
                return Some((from + at) as i64);
            }
            let expected = if epoch == known { next } else { 0 };
            if epoch < known || sequence != expected {
                return None;
            }
        }
        let from = self.memory.filter(|(known, ..)| *known == epoch).map_or(self.data_log.len(), |(.., from)| from);
        self.memory = Some((epoch, sequence + 1, from));
        self.data_log.push(Datum::Record { epoch, sequence, source });
        Some(self.data_log.len() as i64 - 1)
    }

    pub(super) fn next_record(&self, from: i64) -> Option<i64> {
        (from..self.source.len() as i64).find(|offset| self.source[*offset as usize])
    }

    pub(super) fn flow(&mut self, who: usize, state: &PartitionState) {
        let (Some(origin), Some(end)) = (state.origin, state.end) else { return };
        self.writers[who].phase = Phase::Flow { epoch: origin.epoch, origin: origin.start, end, unacked: None };
    }

    /// How a writer goes on by what it has read.
    pub(super) fn decide(&mut self, who: usize, dropped: Dropped) {
        let epoch = self.writers[who].epoch;
        let Some(state) = sum(&self.writers[who].view) else {
            if self.write(who, Entry::First(epoch)) {
                let state = sum(&self.writers[who].view).unwrap();
                self.flow(who, &state);
            }
            return;
        };
        match plan(&state, declared().target_topic_id, self.data_log.len() as i64, None) {
            Plan::Resume(epoch, end) => {
                let entry = Entry::Resume { epoch, end };
                let written = if dropped == Dropped::ResumeRecord {
                    self.writers[who].view.push(entry);
                    true
                } else {
                    self.write(who, entry)
                };
                if written {
                    let state = sum(&self.writers[who].view).unwrap();
                    self.flow(who, &state);
                }
            }
            _ => self.writers[who].phase = Phase::DataOpen { from: self.data_log.len() },
        }
    }

    pub(super) fn settle(&mut self, who: usize, marker: usize, dropped: Dropped) {
        let epoch = self.writers[who].epoch;
        let Some(last) = self.data_log[..marker].iter().rposition(|d| matches!(d, Datum::Record { .. })) else {
            return self.begin_at(who, epoch, None, marker, dropped);
        };
        let header = self.data_log[last].header(last as i64);
        let state = sum(&self.writers[who].view).unwrap();
        for entry in self.unrecorded(&state, last) {
            if !self.write(who, entry) {
                return;
            }
        }
        self.begin_at(who, epoch, Some(header), marker, dropped);
    }

    pub(super) fn unrecorded(&self, state: &PartitionState, last: usize) -> Vec<Entry> {
        let Some(mut search) = Realignment::new(state, &self.data_log[last].header(last as i64)) else {
            return Vec::new();
        };
        while let Some(at) = search.probe() {
            let headers = self.data_log.iter().enumerate().map(|(at, datum)| datum.header(at as i64));
            let Some(found) = headers.skip(at as usize).find(|h| search.counts(h)) else { return Vec::new() };
            search.answer(&found);
        }
        in_turn(search.found()).into_iter().map(|d| self.displaced(state, d)).collect()
    }

    pub(super) fn displaced(&self, state: &PartitionState, displacement: Displacement) -> Entry {
        let (at, to) = (displacement.at as usize, displacement.to as usize);
        let between: Vec<_> = (at..to).map(|at| self.data_log[at].header(at as i64)).collect();
        let (record, _) = displaced_record(state, 0, displacement, between.iter(), &producer_ids());
        match record {
            StateRecord::Displaced { at, by, end, .. } => Entry::Displaced { at, by, end },
            other => unreachable!("{other:?}"),
        }
    }

    pub(super) fn begin_at(
        &mut self,
        who: usize,
        epoch: i16,
        last: Option<BatchHeader>,
        marker: usize,
        dropped: Dropped,
    ) {
        let state = sum(&self.writers[who].view).unwrap();
        let at = Bounds { start: 0, end: self.data_log.len() as i64 };
        let settled = data_end(&state, last.as_ref(), &producer_ids(), at);
        let Ok(DataEnd::Behind { end: settled, .. } | DataEnd::Recorded(settled)) = settled else {
            self.writers[who].phase = Phase::Halted;
            return;
        };
        if origin_record(&state, 0, epoch, settled, marker as i64).is_err() {
            return self.writers[who].phase = Phase::Halted;
        }
        let entry = Entry::Origin { epoch, settled, marker: marker as i64 };
        if dropped == Dropped::Origin {
            self.writers[who].view.push(entry);
        } else if !self.write(who, entry) {
            return;
        }
        let state = sum(&self.writers[who].view).unwrap();
        self.flow(who, &state);
    }

    /// The answer to what a writer has sent.
    pub(super) fn answered(&mut self, who: usize, base: Option<i64>) {
        let Phase::Flow { epoch, origin, end, .. } = self.writers[who].phase else { return };
        let Some(base) = base else { return self.writers[who].phase = Phase::Off };
        if base != end {
            let state = sum(&self.writers[who].view).unwrap();
            let entry = self.displaced(&state, Displacement { at: end, to: base, end: base + 1 });
            if !self.write(who, entry) {
                return;
            }
        }
        let origin = origin + (base - end);
        self.writers[who].phase = Phase::Flow { epoch, origin, end: base + 1, unacked: None };
    }

    /// The map of the newest owner names the right record for each that it knows to be on the target.
    pub(super) fn is_exact(&self) -> bool {
        let flowing = self.writers.iter().filter_map(|w| match w.phase {
            Phase::Flow { end, .. } => Some((w.epoch, end)),
            _ => None,
        });
        let Some((_, end)) = flowing.filter(|(epoch, _)| *epoch == self.epoch).max() else { return true };
        let Some(state) = sum(&self.state_log) else { return false };
        let on_target = self.data_log.iter().enumerate().take(end as usize);
        let named = on_target.filter_map(|(at, datum)| match datum {
            Datum::Record { source, .. } => Some((at as i64, *source)),
            Datum::Marker(_) => None,
        });
        let mut there = Vec::new();
        for (at, source) in named {
            let (to, back) = (state.map.to_source(at, end), state.map.to_target(source, end));
            if (to.exact, to.offset, back.exact, back.offset) != (true, source, true, at) {
                return false;
            }
            there.push(source);
        }
        let position = state.map.position(end);
        (0..position).all(|offset| there.contains(&offset) || !self.source[offset as usize])
    }

    pub(super) fn is_in_order(&self) -> bool {
        let sources = self.data_log.iter().filter_map(|d| match d {
            Datum::Record { source, .. } => Some(*source),
            Datum::Marker(_) => None,
        });
        sources.clone().zip(sources.skip(1)).all(|(before, after)| before < after)
    }

    pub(super) fn is_done(&self) -> bool {
        let all = self.source.len() as i64;
        self.writers.iter().any(|w| match w.phase {
            Phase::Flow { end, .. } => sum(&w.view).is_some_and(|state| state.map.position(end) == all),
            _ => false,
        })
    }
}
