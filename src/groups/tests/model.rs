//! A mirrored partition written out: which record of the source stands at each offset of the target.

use proptest::prelude::*;

use crate::mirror::{Break, Gap, GapReason, OffsetMap};

use super::step;

/// A record of the source and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) source: i64,
    pub(super) target: i64,
    pub(super) leader_epoch: i32,
}

#[derive(Debug, Clone)]
pub(super) enum Op {
    Append(u64),
    Gaps(Vec<(GapReason, u64)>),
    NewEpoch,
    TakeOver(i64),
    Truncate(i64),
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) map: OffsetMap,
    base: i64,
    /// From `base` on: source offset and leader epoch; `None` for markers and for copies of what the source lost.
    log: Vec<Option<(i64, i32)>>,
    pub(super) gaps: Vec<Gap>,
    /// Source offset up to which all is mirrored or in a gap.
    pub(super) position: i64,
    /// The settled end of the target.
    pub(super) end: i64,
    ahead: Vec<(GapReason, u64)>,
    run: u64,
    leader_epoch: i32,
    writer_epoch: i16,
}

pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let reason = prop_oneof![
        Just(GapReason::Control),
        Just(GapReason::Aborted),
        Just(GapReason::Compaction),
        Just(GapReason::Retention),
        Just(GapReason::Corrupt),
    ];
    let op = prop_oneof![
        5 => (1u64..6).prop_map(Op::Append),
        3 => proptest::collection::vec((reason, 1u64..4), 1..3).prop_map(Op::Gaps),
        1 => Just(Op::NewEpoch),
        1 => (0i64..3).prop_map(Op::TakeOver),
        1 => (1i64..12).prop_map(Op::Truncate),
    ];
    proptest::collection::vec(op, 0..20)
}

impl Model {
    pub(super) fn run(base: i64, start: i64, ops: &[Op]) -> Self {
        let mut model = Self { base, position: start, end: base, leader_epoch: 1, ..Self::default() };
        let gaps: Vec<_> =
            Some((GapReason::Start, start.unsigned_abs())).filter(|(_, len)| *len > 0).into_iter().collect();
        model.gaps.extend(gaps.iter().map(|(reason, _)| Gap { reason: *reason, from: 0, to: start }));
        model.map.push(&Break { target_gap: base.unsigned_abs(), ..step(0, &gaps, 1) }).unwrap();
        ops.iter().for_each(|op| model.apply(op));
        model
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(records) => self.append(*records),
            Op::Gaps(gaps) => {
                self.push(gaps);
                self.ahead.extend(gaps.iter().copied());
            }
            Op::NewEpoch => self.leader_epoch += 1,
            Op::TakeOver(markers) => {
                let marker = self.log_end() + markers;
                self.writer_epoch += 1;
                self.map.take_over(self.end, marker, self.writer_epoch).unwrap();
                self.log.extend((0..=*markers).map(|_| None));
                self.stand_anew();
            }
            Op::Truncate(back) => self.truncate(self.position - back),
        }
    }

    fn push(&mut self, gaps: &[(GapReason, u64)]) {
        self.map.push(&step(self.run, gaps, self.leader_epoch)).unwrap();
        self.run = 0;
    }

    fn stand_anew(&mut self) {
        self.ahead.clear();
        self.run = 0;
    }

    fn append(&mut self, records: u64) {
        if self.map.last().unwrap().leader_epoch != self.leader_epoch {
            self.push(&[]);
        }
        for (reason, len) in self.ahead.drain(..) {
            let to = self.position + len as i64;
            self.gaps.push(Gap { reason, from: self.position, to });
            self.position = to;
        }
        for _ in 0..records {
            self.log.push(Some((self.position, self.leader_epoch)));
            self.position += 1;
        }
        self.run += records;
        self.end = self.log_end();
    }

    fn truncate(&mut self, to: i64) {
        if to < self.map.segments()[0].source || to >= self.position {
            return;
        }
        self.map.diverge(to, self.log_end(), self.writer_epoch).unwrap();
        for slot in &mut self.log {
            *slot = slot.filter(|(source, _)| *source < to);
        }
        self.gaps.retain(|gap| gap.from < to);
        if let Some(last) = self.gaps.last_mut() {
            last.to = last.to.min(to);
        }
        self.position = to;
        self.end = self.log_end();
        // The source cannot have lost records without a new leader.
        self.leader_epoch += 1;
        self.stand_anew();
    }

    fn log_end(&self) -> i64 {
        self.base + self.log.len() as i64
    }

    /// All records that both sides know, in order.
    pub(super) fn pairs(&self) -> Vec<Pair> {
        let slots = (self.base..).zip(&self.log);
        let pair = |(target, slot): (i64, &Option<(i64, i32)>)| {
            slot.map(|(source, leader_epoch)| Pair { source, target, leader_epoch })
        };
        slots.filter_map(pair).collect()
    }

    /// The gap that a source offset lies in.
    pub(super) fn gap(&self, source: i64) -> Option<Gap> {
        self.gaps.iter().copied().find(|gap| (gap.from..gap.to).contains(&source))
    }

    /// Source offsets of `[from, to)` in gaps that are losses, counted one by one.
    pub(super) fn lost(&self, from: i64, to: i64) -> u64 {
        (from..to).filter(|source| self.gap(*source).is_some_and(|gap| gap.reason.is_loss())).count() as u64
    }
}
