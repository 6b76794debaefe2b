use proptest::prelude::*;

use super::model::{Model, ops};
use super::*;
use crate::groups::{Basis, EpochStart, Translated, Untranslatable};

/// Offset, basis, records missing where it goes on and behind that.
fn answer(view: &View<'_>, offset: i64) -> (i64, Basis, u64, u64) {
    let Translated { offset, basis, missing, missing_later, .. } = view.translate(offset, -1).unwrap();
    (offset, basis, missing, missing_later)
}

#[test]
fn a_committed_offset_is_that_of_the_same_record() {
    let map = with_a_loss();
    let view = view(&map, 20);
    assert_eq!(answer(&view, 5), (0, Basis::SameRecord, 0, 10));
    assert_eq!(answer(&view, 14), (9, Basis::SameRecord, 0, 10));
    assert_eq!(answer(&view, 25), (10, Basis::SameRecord, 0, 0));
    assert_eq!(answer(&view, 34), (19, Basis::SameRecord, 0, 0));
}

#[test]
fn in_a_gap_it_is_the_next_record_and_what_is_not_there_is_counted() {
    let map = with_a_loss();
    let view = view(&map, 20);
    let retention = Basis::InGap { reason: GapReason::Retention };
    assert_eq!(answer(&view, 15), (10, retention, 10, 0));
    assert_eq!(answer(&view, 24), (10, retention, 1, 0));
    let mut map = OffsetMap::default();
    map.push(&step(0, &[], 0)).unwrap();
    map.push(&step(4, &[(GapReason::Aborted, 3), (GapReason::Control, 1)], 0)).unwrap();
    let view = super::view(&map, 6);
    assert_eq!(answer(&view, 4), (4, Basis::InGap { reason: GapReason::Aborted }, 0, 0));
    assert_eq!(answer(&view, 7), (4, Basis::InGap { reason: GapReason::Control }, 0, 0));
}

#[test]
fn at_the_end_a_group_is_caught_up_and_beyond_it_ahead_of_the_mirror() {
    let map = with_a_loss();
    let view = view(&map, 20);
    assert_eq!(answer(&view, 35), (20, Basis::CaughtUp, 0, 0));
    assert_eq!(answer(&view, 38), (20, Basis::NotMirroredYet { ahead: 3 }, 0, 0));
    // What is written ahead beyond the settled end does not count.
    let view = super::view(&map, 10);
    assert_eq!(answer(&view, 15), (10, Basis::CaughtUp, 0, 0));
    assert_eq!(answer(&view, 25), (10, Basis::NotMirroredYet { ahead: 10 }, 0, 0));
}

/// The last record of a transaction is mirrored, its marker is read and leaves no trace on the target.
#[test]
fn a_group_behind_the_last_marker_is_caught_up() {
    let map = plain(10);
    let with = |scanned| View::new(Facts { scanned, ..facts(&map, 10) });
    assert_eq!(answer(&with(NO_SCAN), 11).1, Basis::NotMirroredYet { ahead: 1 });
    let view = with(Scan { source: 11, end: 10 });
    assert_eq!(answer(&view, 10).1, Basis::CaughtUp);
    assert_eq!(answer(&view, 11).1, Basis::CaughtUp);
    assert_eq!(answer(&view, 13).1, Basis::NotMirroredYet { ahead: 2 });
    let lost_since = with(Scan { source: 13, end: 12 });
    assert_eq!(answer(&lost_since, 13).1, Basis::NotMirroredYet { ahead: 3 }, "the target was at 12 then");
}

#[test]
fn before_the_start_it_is_the_first_record() {
    let map = with_a_loss();
    let start = Basis::BeforeStart { reason: GapReason::Start };
    assert_eq!(answer(&view(&map, 20), 0), (0, start, 5, 10));
    assert_eq!(answer(&view(&map, 20), 4), (0, start, 1, 10));
    let source_starts = |at| View::new(Facts { source_start: Some(at), ..facts(&map, 20) });
    assert_eq!(answer(&source_starts(3), 0), (0, start, 2, 10), "what the source has not either, nobody misses");
    assert_eq!(answer(&source_starts(5), 0), (0, start, 0, 10));
    assert_eq!(answer(&view(&map, 0), 3), (0, start, 2, 0), "nothing is mirrored yet");
}

fn starting(map: &OffsetMap, target_start: i64) -> View<'_> {
    View::new(Facts { target_start, source_start: Some(9), ..facts(map, 20) })
}

#[test]
fn what_retention_took_from_the_target_is_passed_over() {
    let mut map = with_a_loss();
    assert_eq!(answer(&starting(&map, 6), 7), (6, Basis::Expired, 2, 10), "the source still has 9 and 10");
    assert_eq!(answer(&starting(&map, 6), 10), (6, Basis::Expired, 1, 10));
    assert_eq!(answer(&starting(&map, 6), 11), (6, Basis::SameRecord, 0, 10));
    // All of the first segment has gone; the gap behind it has not.
    assert_eq!(answer(&starting(&map, 10), 14), (10, Basis::Expired, 11, 0));
    assert_eq!(answer(&starting(&map, 10), 15).1, Basis::InGap { reason: GapReason::Retention });
    map.drop_below(12);
    assert_eq!(answer(&starting(&map, 12), 16), (12, Basis::Expired, 11, 0));
    assert_eq!(answer(&starting(&map, 12), 27), (12, Basis::SameRecord, 0, 0));
}

/// Below the log start no consumer can begin; retention may leave nothing but markers, and then not even those.
#[test]
fn an_emptied_target_is_read_from_its_start() {
    let mut map = plain(10);
    map.take_over(10, 12, 2).unwrap();
    let view = View::new(Facts { target_start: 13, ..facts(&map, 10) });
    assert_eq!(view.end(), 13);
    assert_eq!(answer(&view, 10), (13, Basis::CaughtUp, 0, 0));
    assert_eq!(answer(&view, 12), (13, Basis::NotMirroredYet { ahead: 2 }, 0, 0));
    assert_eq!(answer(&view, 4), (13, Basis::Expired, 6, 0));
}

/// Copies of what the source lost to a truncation stand on the target, and nobody is sent into them.
#[test]
fn a_truncation_leaves_copies_that_are_passed_over() {
    let mut map = plain(20);
    map.diverge(15, 20, 1).unwrap();
    map.push(&step(0, &[], 2)).unwrap();
    let view = View::new(Facts { target_start: 17, ..facts(&map, 25) });
    assert_eq!(answer(&view, 3), (20, Basis::Expired, 12, 0));
    assert_eq!(answer(&view, 15), (20, Basis::SameRecord, 0, 0));
    assert_eq!(view.translate(18, 0), Err(Untranslatable::Diverged { leader_epoch: 0, ends_at: 15 }));
    assert_eq!(view.translate(18, 2).unwrap().offset, 23);
}

#[test]
fn without_an_answer_there_is_a_reason_and_no_offset() {
    let map = with_a_loss();
    let view = View::new(Facts { source_end: Some(40), ..facts(&map, 20) });
    assert_eq!(view.translate(-1, -1), Err(Untranslatable::NoOffset));
    assert_eq!(view.translate(i64::MIN, 3), Err(Untranslatable::NoOffset));
    assert_eq!(view.translate(41, -1), Err(Untranslatable::BeyondSource { source_end: 40 }));
    assert_eq!(view.translate(40, -1).unwrap().basis, Basis::NotMirroredYet { ahead: 5 });
    let empty = OffsetMap::default();
    assert_eq!(super::view(&empty, 0).translate(7, 3), Err(Untranslatable::NotBegun));
}

/// KIP-320, as a consumer checks its own position.
#[test]
fn a_leader_epoch_that_contradicts_the_log_is_no_offset_of_it() {
    let map = with_a_loss();
    let view = view(&map, 20);
    // Epoch 3 may reach into the gap, epoch 4 begins at 25 at the latest.
    assert_eq!(view.translate(25, 3).unwrap().offset, 10);
    assert_eq!(view.translate(26, 3), Err(Untranslatable::Diverged { leader_epoch: 3, ends_at: 25 }));
    assert_eq!(view.translate(6, 2), Err(Untranslatable::Diverged { leader_epoch: 2, ends_at: 5 }));
    assert_eq!(view.translate(99, 3), Err(Untranslatable::Diverged { leader_epoch: 3, ends_at: 25 }));
    // A later epoch than all that is mirrored: its records come behind the position, or other ones stand in their place.
    assert_eq!(view.translate(30, 5), Err(Untranslatable::EpochAhead { leader_epoch: 5, newest: 4 }));
    assert_eq!(view.translate(35, 5).unwrap().basis, Basis::CaughtUp);
    assert_eq!(view.translate(36, 5).unwrap().basis, Basis::NotMirroredYet { ahead: 1 });
    // "latest" of a consumer that begins there has the leader's epoch, which may have no records yet.
    assert_eq!(view.translate(12, 4).unwrap().offset, 7);
}

#[test]
fn where_no_leader_epoch_is_known_none_contradicts() {
    let mut map = OffsetMap::default();
    map.push(&step(0, &[], -1)).unwrap();
    assert_eq!(view(&map, 10).translate(5, 9).unwrap().offset, 5);
}

#[test]
fn the_epoch_to_commit_is_that_of_the_record_in_front() {
    let map = plain(10);
    let epochs = [EpochStart { epoch: 2, start: 0 }, EpochStart { epoch: 5, start: 4 }];
    let view = View::new(Facts { target_epochs: &epochs, ..facts(&map, 10) });
    let epoch = |offset| view.translate(offset, -1).unwrap().leader_epoch;
    assert_eq!([0, 1, 4, 5, 10].map(epoch), [-1, 2, 2, 5, 5]);
    assert_eq!(
        super::view(&map, 10).translate(5, 7).map(|t| t.leader_epoch),
        Err(Untranslatable::EpochAhead { leader_epoch: 7, newest: 0 })
    );
}

#[test]
fn offsets_at_their_very_ends_overflow_nothing() {
    let mut map = with_a_loss();
    let view = View::new(Facts { source_start: Some(i64::MAX), ..facts(&map, 20) });
    assert_eq!(answer(&view, i64::MAX).0, 20);
    assert_eq!(answer(&view, 0).2, 0);
    map = OffsetMap::default();
    map.push(&step(0, &[(GapReason::Start, i64::MAX as u64)], 0)).unwrap();
    let view = View::new(Facts { target_start: i64::MAX, ..facts(&map, i64::MAX) });
    assert_eq!(answer(&view, 0).0, i64::MAX);
}

/// What a translated offset must be, by the written-out log.
fn check(model: &Model, (target_start, trimmed): (i64, bool), scanned: Scan, offset: i64, got: &Translated) {
    let pairs = model.pairs();
    let last_below = pairs.iter().rev().find(|pair| pair.source < offset).map_or(-1, |pair| pair.target);
    let next = pairs.iter().find(|pair| pair.source >= offset && pair.target >= target_start);
    let end = model.end.max(target_start);
    let (next_source, next_target) = next.map_or((model.position.max(offset), end), |next| (next.source, next.target));
    // A reader gets the next record, and none that it has read.
    assert!(last_below < got.offset && got.offset == next_target, "{offset}: {got:?}, {next:?}");
    assert!((target_start..=end).contains(&got.offset), "{offset}: {got:?}");
    assert_eq!(got.missing_later, model.lost(next_source, model.position), "{offset}: {got:?}");
    let expired = pairs.iter().filter(|pair| pair.source >= offset && pair.target < target_start).count() as u64;
    let lost = model.lost(offset, next_source);
    match got.basis {
        Basis::SameRecord => assert_eq!((next_source, got.missing), (offset, 0)),
        Basis::CaughtUp => assert!((model.position..=model.position.max(scanned.source)).contains(&offset)),
        Basis::NotMirroredYet { ahead } => {
            assert_eq!(offset, model.position.max(scanned.source) + ahead as i64);
            assert!(ahead > 0);
        }
        Basis::InGap { reason } | Basis::BeforeStart { reason } => {
            assert_eq!((model.gap(offset).unwrap().reason, got.missing), (reason, lost), "{offset}");
            assert_eq!(expired, 0, "{offset}: {got:?}");
        }
        Basis::Expired => {
            assert!(expired > 0 || trimmed || next.is_none(), "{offset}: {got:?}");
            assert!(got.missing >= expired + lost && got.missing as i64 <= next_source - offset, "{offset}: {got:?}");
        }
    }
    let is_there = pairs.iter().any(|pair| pair.source == offset && pair.target >= target_start);
    assert_eq!(is_there, got.basis == Basis::SameRecord, "{offset}: {got:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_committed_offset_comes_out_as_the_written_out_log_says(
        base in 0i64..4, start in 0i64..4, ops in ops(), above in 0i64..80, trim: bool, scan in 0i64..4,
    ) {
        let mut model = Model::run(base, start, &ops);
        let target_start = above.min(model.end);
        if trim {
            model.map.drop_below(target_start);
        }
        let scanned = Scan { source: model.position + scan, end: model.end };
        let view = View::new(Facts { target_start, scanned, ..facts(&model.map, model.end) });
        let mut before = None;
        for offset in 0..model.position + 8 {
            let got = view.translate(offset, -1).unwrap();
            check(&model, (target_start, trim), scanned, offset, &got);
            prop_assert!(before <= Some(got.offset), "monotone: {offset}, {got:?}");
            before = Some(got.offset);
            if got.basis == Basis::SameRecord {
                prop_assert_eq!(model.map.to_source(got.offset, model.end).offset, offset, "and back");
            }
        }
    }

    /// Whoever commits behind a record names that record's epoch: that never counts as a contradiction.
    #[test]
    fn the_epoch_of_a_record_contradicts_nothing(start in 0i64..4, ops in ops()) {
        let model = Model::run(0, start, &ops);
        let view = view(&model.map, model.end);
        for pair in model.pairs() {
            let behind = pair.source + 1;
            prop_assert_eq!(view.translate(behind, pair.leader_epoch), view.translate(behind, -1));
            prop_assert_eq!(view.translate(pair.source, pair.leader_epoch), view.translate(pair.source, -1));
        }
    }

    #[test]
    fn epochs_end_where_the_map_says(start in 0i64..4, ops in ops(), epoch in -1i32..6) {
        let model = Model::run(0, start, &ops);
        let view = view(&model.map, model.end);
        prop_assert_eq!(view.end_of_epoch(epoch).unwrap_or(model.position), model.map.end_of_epoch(epoch, model.end));
    }
}
