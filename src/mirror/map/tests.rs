//! The map against a naive model: what lies at every target offset, and which source ranges are gaps.

use proptest::prelude::*;

use super::*;

#[test]
fn an_end_that_no_log_has_overflows_nothing() {
    let mut map = OffsetMap::default();
    let gaps = vec![(GapReason::Start, 1 << 62)];
    map.push(&Break { run: 0, gaps, target_gap: 0, leader_epoch: 0, writer_epoch: 0 }).unwrap();
    assert_eq!(map.position(i64::MAX), i64::MAX);
    let before = map.clone();
    assert!(map.take_over(i64::MAX - 1, i64::MAX - 1, 1).is_err());
    assert!(map.displace(i64::MAX - 9, 2, i64::MAX).is_err());
    assert_eq!(map, before);
}

/// The log of the target and the gaps of the source, written out offset by offset.
#[derive(Default)]
struct Model {
    map: OffsetMap,
    base: i64,
    /// From `base` on: the source offset of the record, `None` for markers, foreign records, lost counterparts.
    log: Vec<Option<i64>>,
    gaps: Vec<Gap>,
    position: i64,
    /// Gaps written ahead whose first record is not appended yet.
    ahead: Vec<(GapReason, u64)>,
    /// Records since the newest segment of the map.
    run: u64,
    writer_epoch: i16,
    /// Where a settlement finds the end of the data, walking back over markers.
    data_end: i64,
}

#[derive(Debug, Clone)]
enum Op {
    Append(u64),
    Break(Vec<(GapReason, u64)>),
    TakeOver(i64),
    Displace(usize, usize),
    Diverge(i64),
    VoidAhead,
}

fn gaps() -> impl Strategy<Value = Vec<(GapReason, u64)>> {
    let reason = prop_oneof![Just(GapReason::Control), Just(GapReason::Aborted), Just(GapReason::Compaction)];
    proptest::collection::vec((reason, 1u64..4), 0..3)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (1u64..6).prop_map(Op::Append),
        4 => gaps().prop_map(Op::Break),
        2 => (0i64..3).prop_map(Op::TakeOver),
        1 => (1usize..6, 1usize..3).prop_map(|(back, by)| Op::Displace(back, by)),
        1 => (1i64..12).prop_map(Op::Diverge),
        1 => Just(Op::VoidAhead),
    ];
    proptest::collection::vec(op, 0..24)
}

fn step(run: u64, gaps: &[(GapReason, u64)], target_gap: u64) -> Break {
    Break { run, gaps: gaps.to_vec(), target_gap, leader_epoch: 3, writer_epoch: 1 }
}

impl Model {
    fn begin(base: i64, start: i64) -> Self {
        let mut model = Self { base, position: start, data_end: base, ..Self::default() };
        if start > 0 {
            model.gaps.push(Gap { reason: GapReason::Start, from: 0, to: start });
        }
        let gaps = [(GapReason::Start, start.unsigned_abs())];
        model.map.push(&step(0, if start > 0 { &gaps } else { &[] }, base.unsigned_abs())).unwrap();
        model
    }

    fn end(&self) -> i64 {
        self.base + self.log.len() as i64
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(n) => self.append(*n),
            Op::Break(gaps) => {
                self.map.push(&step(self.run, gaps, 0)).unwrap();
                self.run = 0;
                self.ahead.extend(gaps.iter().copied());
            }
            Op::TakeOver(markers) => {
                let end = self.end();
                self.writer_epoch += 1;
                self.map.take_over(self.data_end, end + markers, self.writer_epoch).unwrap();
                self.log.extend((0..=*markers).map(|_| None));
                self.stand_anew();
            }
            Op::Displace(back, by) => self.displace(*back, *by),
            Op::Diverge(back) => self.diverge(self.position - back),
            Op::VoidAhead => {
                self.map.void_ahead(self.end());
                let last = self.map.last().unwrap();
                self.ahead.clear();
                self.run = (self.position - last.source).unsigned_abs();
            }
        }
    }

    fn stand_anew(&mut self) {
        self.ahead.clear();
        self.run = 0;
    }

    fn append(&mut self, n: u64) {
        for (reason, len) in self.ahead.drain(..) {
            let to = self.position + len as i64;
            self.gaps.push(Gap { reason, from: self.position, to });
            self.position = to;
        }
        for _ in 0..n {
            self.log.push(Some(self.position));
            self.position += 1;
        }
        self.run += n;
        self.data_end = self.end();
    }

    /// The last `back` records landed `by` higher, if they are records in a row that all lie above the map's start.
    fn displace(&mut self, back: usize, by: usize) {
        let at = self.log.len().saturating_sub(back);
        if at == self.log.len() || self.log[at..].iter().any(Option::is_none) {
            return;
        }
        self.log.splice(at..at, std::iter::repeat_n(None, by));
        self.map.displace(self.base + at as i64, by as i64, self.end()).unwrap();
        self.data_end = self.end();
        self.ahead.clear();
        self.run = (self.position - self.map.last().unwrap().source).unsigned_abs();
    }

    fn diverge(&mut self, to: i64) {
        let first = self.map.segments()[0].source;
        if to < first || to >= self.position {
            assert!(self.map.clone().diverge(to, self.end(), 9).is_err());
            return;
        }
        self.map.diverge(to, self.end(), 9).unwrap();
        for slot in &mut self.log {
            *slot = slot.filter(|source| *source < to);
        }
        self.gaps.retain(|gap| gap.from < to);
        if let Some(last) = self.gaps.last_mut() {
            last.to = last.to.min(to);
        }
        self.position = to;
        self.data_end = self.end();
        self.stand_anew();
    }

    fn records(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        (self.base..).zip(&self.log).filter_map(|(target, source)| source.map(|source| (target, source)))
    }

    fn check(&self) {
        let (map, end) = (&self.map, self.end());
        assert_eq!(map.position(end), self.position, "{map:?}");
        for source in 0..self.position + 3 {
            self.check_to_target(source, map.to_target(source, end));
        }
        for target in 0..end + 3 {
            self.check_to_source(target, map.to_source(target, end));
        }
    }

    fn check_to_target(&self, source: i64, got: Translation) {
        let end = self.end();
        if source >= self.position {
            let at_end = source == self.position;
            let want = Translation { offset: end, exact: at_end, reason: None, beyond_end: !at_end };
            return assert_eq!(got, want, "source {source}");
        }
        let same = self.records().find(|(_, s)| *s == source);
        let before = self.records().filter(|(_, s)| *s < source).last().map_or(-1, |(t, _)| t);
        let next = self.records().find(|(_, s)| *s > source).map_or(end, |(t, _)| t);
        let reason = self.gaps.iter().find(|gap| (gap.from..gap.to).contains(&source)).map(|gap| gap.reason);
        match same {
            Some((target, _)) => {
                let want = Translation { offset: target, exact: true, reason: None, beyond_end: false };
                assert_eq!(got, want, "source {source}");
            }
            // A reader from there on gets the next record that is mirrored, and none before it.
            None => {
                assert!(before < got.offset && got.offset <= next, "source {source}: {got:?}, {before}..={next}");
                assert_eq!((got.exact, got.reason, got.beyond_end), (false, reason, false), "source {source}");
                assert!(reason.is_some(), "every source offset below the position is mapped or in a gap");
            }
        }
    }

    fn check_to_source(&self, target: i64, got: Translation) {
        if target >= self.end() {
            let at_end = target == self.end();
            let want = Translation { offset: self.position, exact: at_end, reason: None, beyond_end: !at_end };
            return assert_eq!(got, want, "target {target}");
        }
        let same = self.records().find(|(t, _)| *t == target);
        let before = self.records().filter(|(t, _)| *t < target).last().map_or(-1, |(_, s)| s);
        let next = self.records().find(|(t, _)| *t > target).map_or(self.position, |(_, s)| s);
        match same {
            Some((_, source)) => {
                let want = Translation { offset: source, exact: true, reason: None, beyond_end: false };
                assert_eq!(got, want, "target {target}");
            }
            None => {
                assert!(before < got.offset && got.offset <= next, "target {target}: {got:?}, {before}..={next}");
                assert_eq!((got.exact, got.beyond_end), (false, false), "target {target}");
                assert_eq!(got.reason, Some(GapReason::TakeOver));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_offset_translates_as_the_written_out_log_says(base in 0i64..4, start in 0i64..4, ops in ops()) {
        let mut model = Model::begin(base, start);
        model.check();
        for op in &ops {
            model.apply(op);
            model.check();
        }
    }

    #[test]
    fn an_older_settled_end_hides_what_was_written_ahead(ops in ops()) {
        let mut model = Model::begin(0, 0);
        let only_ahead = |op: &&Op| matches!(op, Op::Append(_) | Op::Break(_));
        ops.iter().filter(only_ahead).for_each(|op| model.apply(op));
        while let Some(source) = model.log.pop() {
            // A gap in front of the record that is not settled counts for nothing either.
            model.position = model.records().last().map_or(0, |(_, s)| s + 1);
            model.gaps.retain(|gap| gap.from < model.position);
            prop_assert!(model.position <= source.unwrap());
            model.check();
        }
    }

    #[test]
    fn the_way_home_leads_from_every_record_to_where_it_came_from(base in 0i64..4, start in 0i64..4, ops in ops()) {
        let mut model = Model::begin(base, start);
        ops.iter().for_each(|op| model.apply(op));
        let home = model.map.inverted(model.end(), |_, _| GapReason::TakeOver).unwrap();
        let (last_target, last_source) = model.records().last().unwrap_or((-1, -1));
        prop_assert_eq!(home.is_empty(), last_target < 0);
        for target in 0..=last_target {
            let got = home.to_target(target, last_source + 1);
            let (at, next) = model.records().find(|(t, _)| *t >= target).unwrap();
            prop_assert_eq!((got.offset, got.exact, got.beyond_end), (next, at == target, false), "{}", target);
            prop_assert_eq!(got.reason, (at != target).then_some(GapReason::TakeOver));
        }
        if last_target >= 0 {
            prop_assert_eq!(home.position(last_source + 1), last_target + 1);
            let back = home.inverted(last_source + 1, |_, _| GapReason::Control).unwrap();
            for (target, source) in model.records() {
                prop_assert_eq!(back.to_target(source, last_target + 1).offset, target);
            }
        }
    }

    #[test]
    fn what_retention_takes_changes_no_answer_above_the_log_start(ops in ops(), above in 0i64..60) {
        let mut model = Model::begin(2, 3);
        ops.iter().for_each(|op| model.apply(op));
        let (whole, end) = (model.map.clone(), model.end());
        let log_start = above.min(end);
        model.map.drop_below(log_start);
        for target in log_start..end + 2 {
            prop_assert_eq!(model.map.to_source(target, end), whole.to_source(target, end));
        }
        prop_assert_eq!(model.map.position(end), whole.position(end));
        let kept = model.records().find(|(target, _)| *target >= log_start).map_or(model.position, |(_, s)| s);
        for source in kept..model.position + 2 {
            prop_assert_eq!(model.map.to_target(source, end), whole.to_target(source, end));
        }
    }
}

#[test]
fn the_way_home_goes_on_behind_what_the_old_source_has_alone() {
    // Promoted at target 20, source 30; the old source has 30..35 that never came over, and the new one goes on at 22.
    let mut home = one_gap().inverted(20, |_, _| GapReason::TakeOver).unwrap();
    home.go_on_at(20, 35, (20, GapReason::Promotion)).unwrap();
    assert_eq!(home.position(35), 20);
    assert_eq!((home.to_target(19, 40).offset, home.to_target(20, 40).offset), (29, 35));
    assert!(!home.to_source(30, 40).exact);
    let again =
        home.inverted(40, |from, _| if from == 30 { GapReason::Divergence } else { GapReason::Control }).unwrap();
    let tail = again.to_target(32, 25);
    assert_eq!((tail.offset, tail.exact, tail.reason), (20, false, Some(GapReason::Divergence)));
    assert_eq!(
        refused(&home, |m| m.go_on_at(25, 30, (25, GapReason::Promotion))),
        MapError::Contradiction { target: 30, what: "a segment begins before the one in front of it ends" }
    );
}

/// Source 0..10 at target 0..10, aborted source 10..20, source 20..30 at target 10..20.
fn one_gap() -> OffsetMap {
    let mut map = OffsetMap::default();
    map.push(&step(0, &[], 0)).unwrap();
    map.push(&step(10, &[(GapReason::Aborted, 10)], 0)).unwrap();
    map
}

fn refused(map: &OffsetMap, change: impl FnOnce(&mut OffsetMap) -> Result<(), MapError>) -> MapError {
    let mut changed = map.clone();
    let error = change(&mut changed).unwrap_err();
    assert_eq!(&changed, map, "an error changes nothing");
    error
}

#[test]
fn an_empty_map_knows_nothing_and_stays_empty_over_a_take_over() {
    let mut map = OffsetMap::default();
    map.take_over(5, 7, 1).unwrap();
    assert!(map.is_empty());
    assert_eq!((map.position(9), map.leader_epoch_at(9)), (0, -1));
    assert!(map.to_target(0, 9).beyond_end && map.to_source(3, 9).beyond_end);
}

#[test]
fn a_first_break_has_no_run_and_no_break_leads_beyond_the_largest_offset() {
    let empty = OffsetMap::default();
    assert_eq!(refused(&empty, |m| m.push(&step(1, &[], 0))), MapError::RunBeforeStart { run: 1 });
    assert_eq!(refused(&empty, |m| m.push(&step(0, &[], u64::MAX))), MapError::Overflow);
    let map = one_gap();
    assert_eq!(refused(&map, |m| m.push(&step(i64::MAX as u64, &[], 0))), MapError::Overflow);
    assert_eq!(refused(&map, |m| m.push(&step(1, &[(GapReason::Control, i64::MAX as u64)], 0))), MapError::Overflow);
    assert_eq!(refused(&map, |m| m.push(&step(1, &[], i64::MAX as u64))), MapError::Overflow);
}

#[test]
fn a_take_over_that_contradicts_the_map_is_refused() {
    let mut map = OffsetMap::default();
    map.push(&step(0, &[], 5)).unwrap();
    assert_eq!(refused(&map, |m| m.take_over(4, 9, 1)), MapError::BeforeStart { target: 4 });
    assert!(matches!(refused(&map, |m| m.take_over(9, 8, 1)), MapError::Contradiction { target: 9, .. }));
    assert!(matches!(refused(&map, |m| m.take_over(9, i64::MAX, 1)), MapError::Contradiction { .. }));
    map.take_over(9, 12, 1).unwrap();
    map.push(&step(3, &[], 0)).unwrap();
    let within_markers = refused(&map, |m| m.take_over(11, 20, 2));
    assert!(matches!(within_markers, MapError::Contradiction { target: 11, .. }), "{within_markers}");
}

#[test]
fn nothing_is_displaced_downwards_or_before_the_start() {
    let map = one_gap();
    for (at, by, end) in [(12, 0, 20), (12, -1, 20), (12, 3, 15), (12, i64::MAX, i64::MIN)] {
        assert!(matches!(refused(&map, |m| m.displace(at, by, end)), MapError::Contradiction { .. }));
    }
    assert_eq!(refused(&map, |m| m.displace(-1, 1, 20)), MapError::BeforeStart { target: -1 });
    assert_eq!(refused(&OffsetMap::default(), |m| m.displace(1, 1, 20)), MapError::BeforeStart { target: 1 });
}

/// Found by random histories: the map went back on the source, and its snapshot said something else.
#[test]
fn nothing_is_bound_for_markers() {
    let mut map = one_gap();
    map.take_over(15, 17, 1).unwrap();
    let error = refused(&map, |m| m.displace(17, 1, 25));
    assert!(matches!(error, MapError::Contradiction { target: 17, .. }), "{error}");
    assert_eq!(map.clone().displace(18, 1, 25), Ok(()), "behind them it is");
}

#[test]
fn a_truncation_of_nothing_that_is_mapped_is_refused() {
    let map = one_gap();
    for to in [-1, 30, 31] {
        assert!(matches!(refused(&map, |m| m.diverge(to, 20, 1)), MapError::Contradiction { target: 20, .. }));
    }
}

#[test]
fn a_snapshot_segment_must_follow_the_one_before_it() {
    let map = one_gap();
    let at = |target, source| Segment { target, source, leader_epoch: 3, writer_epoch: 1, fixed: false };
    let gap = |from, to| Gap { reason: GapReason::Control, from, to };
    for (segment, gaps) in [
        (at(9, 21), vec![]),
        (at(11, 25), vec![]),
        (at(30, 19), vec![]),
        (at(30, 25), vec![gap(22, 24)]),
        (at(30, 25), vec![gap(22, 23), gap(24, 25)]),
        (at(30, 22), vec![gap(22, 22)]),
    ] {
        assert!(matches!(refused(&map, |m| m.add(segment, &gaps)), MapError::Contradiction { .. }), "{segment:?}");
    }
}

#[test]
fn the_end_of_a_leader_epoch_is_where_later_ones_begin() {
    let mut map = OffsetMap::default();
    map.push(&Break { leader_epoch: 2, ..step(0, &[], 0) }).unwrap();
    map.push(&Break { leader_epoch: 5, ..step(10, &[(GapReason::Control, 1)], 0) }).unwrap();
    assert_eq!([1, 2, 4, 5, 6].map(|epoch| map.end_of_epoch(epoch, 20)), [0, 11, 11, 21, 21]);
    assert_eq!(map.end_of_epoch(2, 10), 10, "the later epoch is not settled");
    assert_eq!((map.leader_epoch_at(10), map.leader_epoch_at(11)), (2, 5));
}

/// Found by the model: the truncation stands behind the gap's first part, and the take-over must not lose that part.
#[test]
fn a_take_over_right_behind_a_truncation_keeps_the_gap_in_front_of_it() {
    let mut map = one_gap();
    map.diverge(15, 20, 1).unwrap();
    map.take_over(20, 20, 2).unwrap();
    let in_gap = map.to_target(12, 21);
    assert_eq!((in_gap.exact, in_gap.reason), (false, Some(GapReason::Aborted)));
    assert_eq!((map.position(21), map.to_source(15, 21).exact), (15, false));
}

/// Were it the epoch of the records that were lost, the next fetch would be told of the same truncation for ever.
#[test]
fn behind_no_record_there_is_no_leader_epoch() {
    let mut map = OffsetMap::default();
    map.push(&Break { leader_epoch: 3, ..step(0, &[(GapReason::Start, 5)], 0) }).unwrap();
    map.diverge(5, 10, 1).unwrap();
    assert_eq!((map.position(10), map.leader_epoch_at(10), map.end_of_records(5, 10)), (5, -1, 5));
    map.take_over(10, 11, 2).unwrap();
    assert_eq!((map.position(12), map.leader_epoch_at(12)), (5, -1));
}
