use proptest::prelude::*;

use super::*;

/// Hands both logs over as they are asked for.
fn align(source: &[SourceRecord], target: &[TargetRecord]) -> Result<Alignment, Misaligned> {
    let mut aligner = Aligner::default();
    let (mut source, mut target) = (source.iter(), target.iter());
    loop {
        match aligner.advance()? {
            Need::Source => match source.next() {
                Some(record) => aligner.push_source(record.clone()),
                None => aligner.end_source(),
            },
            Need::Target => match target.next() {
                Some(record) => aligner.push_target(*record),
                None => aligner.end_target(),
            },
            Need::Nothing => return aligner.finish(),
        }
    }
}

fn here(offset: i64, print: u64) -> SourceRecord {
    SourceRecord { offset, print, leader_epoch: 0, gaps: Vec::new() }
}

fn there(offset: i64, print: u64) -> TargetRecord {
    TargetRecord { offset, print, writer: 7, writer_epoch: 0, behind_marker: false }
}

/// Records `from..to` of a source, each saying another thing.
fn run_here(from: i64, to: i64) -> Vec<SourceRecord> {
    (from..to).map(|offset| here(offset, offset as u64)).collect()
}

fn segments(found: &Alignment) -> Vec<(i64, i64)> {
    found.map.segments().iter().map(|s| (s.target, s.source)).collect()
}

#[test]
fn two_logs_in_step_are_one_segment() {
    let target: Vec<_> = (0..100).map(|n| there(n, n as u64)).collect();
    let found = align(&run_here(0, 120), &target).unwrap();
    assert_eq!(segments(&found), [(0, 0)]);
    assert_eq!((found.end, found.matched, found.map.position(found.end)), (100, 100, 100));
    assert_eq!((found.leading, found.unmapped, found.missing), (0, 0, 0));
}

#[test]
fn a_mirror_that_began_later_has_a_start_gap() {
    let target: Vec<_> = (0..20).map(|n| there(n, n as u64 + 50)).collect();
    let found = align(&run_here(0, 80), &target).unwrap();
    assert_eq!(segments(&found), [(0, 50)]);
    assert_eq!(found.map.gaps().collect::<Vec<_>>(), [Gap { reason: GapReason::Start, from: 0, to: 50 }]);
    assert_eq!(found.map.position(found.end), 70);
}

#[test]
fn markers_on_either_side_are_breaks_with_their_reasons() {
    let mut source = run_here(0, 10);
    source.extend(run_here(12, 20));
    source[10].gaps = vec![(GapReason::Aborted, 1), (GapReason::Control, 1)];
    // A marker of ours stands at target offset 13.
    let target: Vec<_> = source.iter().zip((0..13).chain(14..)).map(|(r, offset)| there(offset, r.print)).collect();
    let found = align(&source, &target).unwrap();
    assert_eq!(segments(&found), [(0, 0), (10, 12), (14, 15)]);
    let gaps: Vec<_> = found.map.gaps().map(|gap| (gap.reason, gap.from, gap.to)).collect();
    assert_eq!(gaps, [(GapReason::Aborted, 10, 11), (GapReason::Control, 11, 12)]);
    assert_eq!(found.map.position(found.end), 20);
}

#[test]
fn what_compaction_took_from_the_source_stays_mapped_where_both_run_in_step() {
    let target: Vec<_> = (0..100).map(|n| there(n, n as u64)).collect();
    let mut source = run_here(0, 100);
    source.retain(|r| r.offset % 7 == 0 || r.offset == 99);
    let found = align(&source, &target).unwrap();
    assert_eq!((segments(&found), found.unmapped), (vec![(0, 0)], 0));
}

#[test]
fn what_the_source_has_let_go_of_leads() {
    let target: Vec<_> = (0..100).map(|n| there(n, n as u64)).collect();
    let found = align(&run_here(40, 100), &target).unwrap();
    assert_eq!((segments(&found), found.leading), (vec![(40, 40)], 40));
    assert_eq!(found.map.gaps().count(), 0, "of what lies below, nothing is known");
}

#[test]
fn a_tail_that_is_not_on_the_source_is_not_guessed() {
    let target: Vec<_> = (0..10).map(|n| there(n, n as u64)).chain([there(10, 777), there(11, 778)]).collect();
    assert_eq!(align(&run_here(0, 10), &target), Err(Misaligned::Tail { from: 10, count: 2 }));
    assert_eq!(align(&run_here(500, 600), &target), Err(Misaligned::NothingInCommon { target: 12 }));
    assert_eq!(align(&[], &target), Err(Misaligned::NothingInCommon { target: 12 }));
}

#[test]
fn the_same_record_in_two_places_is_told_by_what_follows() {
    let mut source = run_here(0, 100);
    source[20].print = 60;
    let target: Vec<_> = (60..100).map(|n| there(n - 60, n as u64)).collect();
    assert_eq!(segments(&align(&source, &target).unwrap()), [(0, 60)]);
}

/// The source begins with a record that stands on the target twice: the one that the others follow is meant.
#[test]
fn a_beginning_that_the_target_holds_twice_is_told_by_what_follows() {
    let mut target: Vec<_> = (0..100).map(|n| there(n, n as u64)).collect();
    target[3].print = 60;
    let found = align(&run_here(60, 110), &target).unwrap();
    assert_eq!((segments(&found), found.leading), (vec![(60, 60)], 60));
}

#[test]
fn records_that_are_all_the_same_are_ambiguous() {
    let source: Vec<_> = (0..100).map(|n| here(n, 5)).collect();
    let target: Vec<_> = (0..10).map(|n| there(n, 5)).collect();
    assert!(matches!(align(&source, &target), Err(Misaligned::Ambiguous { target: 0, first: 0, second: 1 })));
}

#[test]
fn records_that_were_given_up_are_a_gap_of_unknown_reason() {
    let target: Vec<_> = (0..10).chain(13..30).zip(0..).map(|(n, offset)| there(offset, n as u64)).collect();
    let found = align(&run_here(0, 30), &target).unwrap();
    assert_eq!((segments(&found), found.missing), (vec![(0, 0), (10, 13)], 3));
    assert_eq!(found.map.gaps().collect::<Vec<_>>(), [Gap { reason: GapReason::Unknown, from: 10, to: 13 }]);
}

#[test]
fn another_leader_epoch_begins_a_segment() {
    let mut source = run_here(0, 20);
    source.iter_mut().skip(8).for_each(|r| r.leader_epoch = 3);
    let target: Vec<_> = (0..20).map(|n| there(n, n as u64)).collect();
    let found = align(&source, &target).unwrap();
    assert_eq!(segments(&found), [(0, 0), (8, 8)]);
    assert_eq!(found.map.end_of_epoch(0, found.end), 8);
}

/// The tail rests on a single equal record: a producer's retry on another branch, or a value that comes again.
#[test]
fn one_equal_record_is_no_proof() {
    let mut source = run_here(0, 8);
    source.extend((8..20).map(|n| here(n, 100 + n as u64)));
    source.push(here(20, 9));
    let target: Vec<_> = (0..10).map(|n| there(n, n as u64)).collect();
    assert_eq!(align(&source, &target), Err(Misaligned::Thin { from: 9, count: 1 }));
    let newer: Vec<_> = (50..60).map(|n| here(n, if n == 55 { 9 } else { n as u64 })).collect();
    assert_eq!(align(&newer, &target), Err(Misaligned::Thin { from: 9, count: 1 }));
}

/// Two equal records, of which only the first is mirrored, behind a marker of ours: nobody can tell which one it is.
#[test]
fn equal_neighbours_behind_a_marker_are_ambiguous() {
    let source = [here(0, 1), here(1, 2), here(2, 2)];
    let target = [there(0, 1), TargetRecord { behind_marker: true, ..there(2, 2) }];
    assert!(matches!(align(&source, &target), Err(Misaligned::Ambiguous { target: 2, first: 1, second: 2 })));
    // What follows tells.
    let source = [here(0, 1), here(1, 2), here(2, 2), here(3, 3)];
    let target = [target[0], target[1], there(3, 2), there(4, 3)];
    assert_eq!(segments(&align(&source, &target).unwrap()), [(0, 0), (2, 1)]);
}

/// A record that was given up, and the marker of the take-over that followed: both run in step behind them, and the record is
/// on the target nowhere.
#[test]
fn a_marker_in_the_place_of_a_record_is_not_its_copy() {
    let mut target: Vec<_> = (0..30).filter(|n| *n != 10).map(|n| there(n, n as u64)).collect();
    target[10].behind_marker = true;
    let found = align(&run_here(0, 30), &target).unwrap();
    assert_eq!((segments(&found), found.missing), (vec![(0, 0), (11, 11)], 1));
    assert!(!found.map.to_target(10, found.end).exact);
}

/// A mirrored log: what the source held then, where each record landed, and what either side has let go of since.
#[derive(Debug, Clone)]
struct Story {
    source: Vec<SourceRecord>,
    target: Vec<TargetRecord>,
    /// Target offset to source offset.
    truth: Vec<(i64, i64)>,
}

/// Per record: markers in front of it on the source and on the target, whether it is a repetition of the one before, and
/// whether compaction took it on either side.
fn story() -> impl Strategy<Value = Story> {
    let record = (0_u8..20, 0_u8..30, 0_u8..12, 0_u8..4, 0_u8..6);
    (prop::collection::vec(record, 1..300), 0_usize..40).prop_map(|(records, behind)| {
        let (mut source, mut target, mut truth) = (Vec::new(), Vec::new(), Vec::new());
        let (mut s, mut t, mut print) = (0, 0, 0_u64);
        let mut gaps: Vec<(GapReason, u64)> = Vec::new();
        let last = records.len() - 1;
        for (at, (markers, ours, same, here_gone, there_gone)) in records.into_iter().enumerate() {
            if markers < 2 {
                push_gap(&mut gaps, GapReason::Control, u64::from(markers) + 1);
                s += i64::from(markers) + 1;
            }
            t += i64::from(ours == 0);
            print += u64::from(same != 0);
            let compacted = at % 5 == 2;
            if compacted && here_gone == 0 && at != last {
                push_gap(&mut gaps, GapReason::Compaction, 1);
            } else {
                source.push(SourceRecord { offset: s, print, leader_epoch: 0, gaps: std::mem::take(&mut gaps) });
            }
            if !(compacted && there_gone == 0 && at != last) {
                target.push(TargetRecord { behind_marker: ours == 0, ..there(t, print) });
                truth.push((t, s));
            }
            (s, t) = (s + 1, t + 1);
        }
        // What was not mirrored yet.
        source.extend((0_i64..).take(behind).map(|n| here(s + n, print + 1 + n as u64)));
        Story { source, target, truth }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// Whatever is found is true: every mapped record of the target that is still on the source goes to a record that says
    /// the same, in order; and the position is behind the last one.
    #[test]
    fn what_is_found_is_true(story in story()) {
        let Ok(found) = align(&story.source, &story.target) else { return Ok(()) };
        let says = |offset: i64| story.source.iter().find(|r| r.offset == offset).map(|r| r.print);
        let mut before = -1;
        for record in &story.target {
            let to = found.map.to_source(record.offset, found.end);
            if !to.exact {
                continue;
            }
            prop_assert!(to.offset > before);
            before = to.offset;
            if let Some(print) = says(to.offset) {
                prop_assert_eq!(print, record.print, "target {}", record.offset);
            }
        }
        let (last_target, last_source) = story.truth[story.truth.len() - 1];
        prop_assert_eq!(found.end, last_target + 1);
        let position = found.map.position(found.end);
        prop_assert_eq!(position, last_source + 1);
    }

    /// Without repetitions everything is found.
    #[test]
    fn records_that_differ_are_all_found(story in story()) {
        let mut story = story;
        let number = |offset: i64| offset as u64 + 1_000_000;
        story.source.iter_mut().for_each(|r| r.print = number(r.offset));
        for (record, (_, source)) in story.target.iter_mut().zip(&story.truth) {
            record.print = number(*source);
        }
        let found = align(&story.source, &story.target);
        let kept: Vec<_> = story.truth.iter().filter(|(_, s)| story.source.iter().any(|r| r.offset == *s)).collect();
        let found = match found {
            // What compaction took right before the end leaves too little behind it.
            Err(Misaligned::Thin { .. }) => return Ok(()),
            found => found.unwrap(),
        };
        prop_assert_eq!(found.matched, kept.len() as u64);
        for (target, source) in kept {
            let to = found.map.to_source(*target, found.end);
            prop_assert!(to.exact && to.offset == *source, "{} to {}: {:?}", target, source, to);
        }
    }
}
