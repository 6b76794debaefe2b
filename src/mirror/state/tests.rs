//! Records as bytes, their sum, and snapshots that add up to the same.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::HaltKind;
use super::*;

fn declare(index: u32) -> StateRecord {
    let id = |n: u32| Uuid::from_u128(u128::from(n) + 1);
    StateRecord::Declare {
        index,
        source_topic: format!("orders-{index}"),
        source_topic_id: id(index),
        partition: 3,
        target_topic: format!("copy-{index}"),
        target_topic_id: id(index + 100),
    }
}

fn step(run: u64, gaps: Vec<(GapReason, u64)>) -> Break {
    Break { run, gaps, target_gap: 0, leader_epoch: 2, writer_epoch: 0 }
}

fn segments(index: u32, breaks: Vec<Break>) -> StateRecord {
    StateRecord::Segments { entries: vec![(index, breaks)] }
}

fn sum(records: &[StateRecord]) -> ShardState {
    let mut state = ShardState::default();
    records.iter().for_each(|record| state.apply(record).unwrap());
    state
}

/// Partition 0, resumed at 0, with source 0..10 written ahead as its first segment.
fn begun() -> ShardState {
    sum(&[declare(0), StateRecord::Resume { index: 0, epoch: 0, end: 0 }, segments(0, vec![step(0, vec![])])])
}

fn refused(state: &ShardState, record: &StateRecord) -> StateError {
    state.clone().apply(record).unwrap_err()
}

#[test]
fn names_and_shards_are_stable() {
    assert_eq!(state_topic("dc2"), "__kmirror.dc2");
    assert_eq!(transactional_id("dc2", 1, 15), "kmirror.dc2.1.15");
    let hash = crc32c::crc32c(&[0; 16]);
    assert_eq!(shard_of(Uuid::nil(), 0, 16), hash % 16);
    let shards: Vec<u32> = (0..4).map(|partition| shard_of(Uuid::from_u128(0x1234), partition, 16)).collect();
    assert_eq!(shards, (0..4).map(|n| (shards[0] + n) % 16).collect::<Vec<_>>());
    assert_eq!((shard_of(Uuid::nil(), 7, 1), shard_of(Uuid::nil(), 7, 0)), (0, 0));
}

#[test]
fn an_owner_and_a_baseline_are_remembered() {
    let id = |producer_id, producer_epoch| StateRecord::Id { producer_id, producer_epoch };
    let state = sum(&[id(7, 0), StateRecord::Baseline, id(7, 1), id(9, 0)]);
    assert_eq!((state.id, state.baseline), (Some((9, 0)), true));
    assert_eq!(state.producer_ids, BTreeSet::from([7, 9]));
}

#[test]
fn a_partition_is_found_by_its_source_and_the_next_index_is_free() {
    let state = sum(&[declare(0), declare(4)]);
    assert_eq!(state.find(Uuid::from_u128(5), 3).map(|(index, _)| index), Some(4));
    assert!(state.find(Uuid::from_u128(5), 2).is_none());
    assert_eq!((state.next_index(), ShardState::default().next_index()), (5, 0));
}

#[test]
fn a_take_over_sets_the_origin_behind_its_marker_and_consumes_a_release() {
    let mut state = begun();
    let release = ReleaseEntry { index: 0, end: 10, last_crc: 99 };
    state.apply(&StateRecord::Release { entries: vec![release] }).unwrap();
    assert_eq!((state.partitions[&0].release, state.partitions[&0].end), (Some(release), Some(10)));
    state.apply(&StateRecord::Origin { index: 0, epoch: 5, settled_end: 12, marker: 14 }).unwrap();
    let partition = &state.partitions[&0];
    assert_eq!(partition.origin, Some(Origin { epoch: 5, start: 15, settled_end: 12 }));
    assert_eq!((partition.end, partition.release, partition.map.position(15)), (Some(15), None, 12));
}

#[test]
fn a_resume_voids_what_was_written_ahead_and_consumes_the_release() {
    let mut state = begun();
    state.apply(&segments(0, vec![step(10, vec![(GapReason::Control, 1)])])).unwrap();
    let release = ReleaseEntry { index: 0, end: 10, last_crc: 0 };
    state.apply(&StateRecord::Release { entries: vec![release] }).unwrap();
    state.apply(&StateRecord::Resume { index: 0, epoch: 0, end: 10 }).unwrap();
    let partition = &state.partitions[&0];
    assert_eq!((partition.map.segments().len(), partition.release, partition.end), (1, None, Some(10)));
}

#[test]
fn a_displacement_moves_the_origin_with_the_map() {
    let mut state = begun();
    let displaced = StateRecord::Displaced { index: 0, at: 4, by: 2, end: 12, reason: GapReason::Foreign };
    state.apply(&displaced).unwrap();
    let partition = &state.partitions[&0];
    assert_eq!((partition.origin.unwrap().start, partition.end), (2, Some(12)));
    assert_eq!((partition.map.to_target(3, 12).offset, partition.map.to_target(4, 12).offset), (3, 6));
}

#[test]
fn a_divergence_takes_the_scanned_offset_back() {
    let mut state = begun();
    state.apply(&StateRecord::Scanned { entries: vec![(0, Scan { source: 12, end: 10 })] }).unwrap();
    assert_eq!(state.partitions[&0].scanned.source, 12);
    state.apply(&StateRecord::Diverged { index: 0, source: 6, end: 10 }).unwrap();
    assert_eq!((state.partitions[&0].scanned.source, state.partitions[&0].map.position(10)), (6, 6));
}

#[test]
fn a_take_over_keeps_the_scanned_offset_unless_the_target_lost_records() {
    let scan = Scan { source: 12, end: 10 };
    for (settled_end, kept) in [(10, scan), (9, Scan::default())] {
        let mut state = begun();
        state.apply(&StateRecord::Scanned { entries: vec![(0, scan)] }).unwrap();
        state.apply(&StateRecord::Origin { index: 0, epoch: 1, settled_end, marker: 20 }).unwrap();
        assert_eq!(state.partitions[&0].scanned, kept);
    }
}

#[test]
fn a_halt_stands_until_it_is_lifted() {
    let halt = Halt::over(HaltKind::CorruptBatch, 3, 5, "why");
    let record = |halt| StateRecord::Halt { topic: "orders".to_owned(), partition: 1, halt, resumes: 2 };
    let mut state = sum(&[record(Some(halt.clone()))]);
    assert_eq!(state.halts[&("orders".to_owned(), 1)], (halt, 2));
    state.apply(&record(None)).unwrap();
    assert!(state.halts.is_empty());
}

#[test]
fn contradictions_are_errors() {
    let state = begun();
    assert_eq!(state.clone().apply(&declare(0)), Ok(()), "the same once more is none");
    let StateRecord::Declare { source_topic, source_topic_id, partition, target_topic, target_topic_id, .. } =
        declare(1)
    else {
        panic!()
    };
    let other =
        StateRecord::Declare { index: 0, source_topic, source_topic_id, partition, target_topic, target_topic_id };
    assert!(matches!(refused(&state, &other), StateError::Contradiction { .. }));
    let resume = |epoch, end| StateRecord::Resume { index: 0, epoch, end };
    assert!(matches!(refused(&state, &resume(1, 9)), StateError::Contradiction { .. }));
    let taken = StateRecord::Origin { index: 0, epoch: 1, settled_end: 4, marker: 4 };
    let mut later = state.clone();
    later.apply(&taken).unwrap();
    assert!(matches!(refused(&later, &resume(1, 4)), StateError::Contradiction { .. }));
    assert_eq!(refused(&state, &segments(9, vec![step(0, vec![])])), StateError::Undeclared { index: 9 });
    let backwards = StateRecord::Origin { index: 0, epoch: 1, settled_end: 9, marker: 8 };
    assert!(matches!(refused(&state, &backwards), StateError::Map { index: 0, .. }));
    assert!(matches!(refused(&state, &StateRecord::SnapshotEnd { id: 3 }), StateError::Contradiction { .. }));
}

#[test]
fn a_snapshot_counts_only_once_it_is_whole() {
    let before = begun();
    let mut state = before.clone();
    let snapshot = sum(&[declare(1), StateRecord::Baseline]).snapshot(5);
    let (last, rest) = snapshot.split_last().unwrap();
    rest.iter().for_each(|record| state.apply(record).unwrap());
    assert_eq!(state.partitions, before.partitions);
    assert!(matches!(refused(&state, &StateRecord::SnapshotEnd { id: 6 }), StateError::Contradiction { .. }));
    state.apply(last).unwrap();
    assert_eq!(state.partitions.keys().collect::<Vec<_>>(), [&1]);
    assert!(state.baseline);
}

#[test]
fn a_snapshot_left_unfinished_does_not_count_when_a_new_owner_begins() {
    let mut state = begun();
    for record in sum(&[declare(1)]).snapshot(5).iter().take(2) {
        state.apply(record).unwrap();
    }
    let id = StateRecord::Id { producer_id: 7, producer_epoch: 1 };
    state.apply(&id).unwrap();
    let mut want = begun();
    want.apply(&id).unwrap();
    assert_eq!(state, want);
}

#[test]
fn records_of_breaks_are_bounded_and_add_up_to_the_same_maps() {
    let gaps = |n| vec![(GapReason::Aborted, 1 << 40); n];
    let big =
        |n| Break { target_gap: 1 << 40, leader_epoch: n, writer_epoch: (n % 9) as i16, ..step(1 << 30, gaps(5)) };
    let breaks: Vec<Break> = std::iter::once(step(0, vec![])).chain((0..3_000).map(big)).collect();
    let entries = vec![(0, breaks.clone()), (1, breaks[..2].to_vec())];
    let records = segments_records(entries.clone());
    assert!(records.len() > 1);
    for record in &records {
        assert!(encode_len(record) <= RECORD_BYTES);
    }
    let state = |records: &[StateRecord]| sum(&[&[declare(0), declare(1)], records].concat());
    assert_eq!(state(&records), state(&[StateRecord::Segments { entries }]));
    let whole = state(&records);
    assert!(whole.snapshot(1).iter().all(|record| encode_len(record) <= RECORD_BYTES));
    assert_eq!(sum(&whole.snapshot(1)), whole);
    assert_eq!(segments_records(Vec::new()), []);
}

fn encode_len(record: &StateRecord) -> usize {
    codec::encode_state(record).len()
}

/// Bytes of all records of a snapshot of so many partitions, with maps of so many segments each.
fn snapshot_bytes(partitions: u32, segments_each: u32) -> usize {
    let mut state = ShardState::default();
    for index in 0..partitions {
        state.apply(&declare(index)).unwrap();
        state.apply(&StateRecord::Resume { index, epoch: 0, end: 0 }).unwrap();
        let gap = |number| if number == 0 { vec![] } else { vec![(GapReason::Control, 1)] };
        let steps = (0..segments_each).map(|number| step(u64::from(number.min(1)) * 100, gap(number))).collect();
        segments_records(vec![(index, steps)]).iter().for_each(|record| state.apply(record).unwrap());
    }
    state.snapshot(7).iter().map(encode_len).sum()
}

/// `docs/sizing.md` reckons with these.
#[test]
fn what_partitions_and_segments_take_in_a_snapshot() {
    let partition = snapshot_bytes(1_000, 1) / 1_000;
    let segment = (snapshot_bytes(1, 100_000) - partition) as f64 / 100_000.0;
    // Names of eight and six characters are in it.
    assert!((80..=120).contains(&partition), "{partition} bytes a partition");
    assert!((2.0..=4.0).contains(&segment), "{segment} bytes a segment");
}

#[test]
fn a_newer_version_and_an_unknown_type_are_told_from_damage() {
    let mut newer = codec::encode_state(&StateRecord::Baseline).to_vec();
    newer[2] = 2;
    assert_eq!(codec::decode_state(&newer), Err(StateError::Version { version: 2, known: 1 }));
    assert_eq!(codec::decode_state(&codec::seal(63, &[])), Err(StateError::Type { kind: 63 }));
    let trailing = codec::seal(3, &[0]);
    assert!(matches!(codec::decode_state(&trailing), Err(StateError::Corrupt { .. })));
}

/// What is whole was written on purpose: called damage, it would be rebuilt, and a promotion forgotten with it.
#[test]
fn a_whole_record_that_says_something_new_is_no_damage() {
    let control = |json: &str| decode_control(&codec::seal(64, json.as_bytes())).unwrap_err();
    for newer in [
        r#"{"type":"quorum","at_ms":9}"#,
        r#"{"type":"pause","scope":"topic","at_ms":9}"#,
        r#"{"type":"promotion_intent","generation":1,"at_ms":9,"mode":"rehearsed"}"#,
    ] {
        let error = control(newer);
        assert!(error.is_newer() && error.to_string().contains("use the newer kmirror"), "{newer}: {error}");
    }
    for damaged in [r#"{"type":"pause","scope":"all","at_ms""#, "", "pause"] {
        assert!(matches!(control(damaged), StateError::Corrupt { .. }), "{damaged}");
    }
    // An entry of index 1 with a break of one record: gap reason 15, of one offset.
    let gap = codec::seal(4, &[1, 1, 1, 0b1_0110, 1, 1 << 4 | 15, 0, 0]);
    assert_eq!(codec::decode_state(&gap), Err(StateError::Unknown { detail: "gap reason 15".to_owned() }));
    let halt = |json: &str| {
        let mut body = vec![1, b't', 0, 1, u8::try_from(json.len()).unwrap()];
        body.extend(json.as_bytes());
        body.push(0);
        codec::decode_state(&codec::seal(10, &body)).unwrap_err()
    };
    assert!(halt(r#"{"kind":"moonrise","detail":"x"}"#).is_newer());
    assert!(!halt("{").is_newer());
}

fn gaps() -> impl Strategy<Value = Vec<(GapReason, u64)>> {
    vec(((1u8..=12).prop_map(|code| GapReason::from_code(code).unwrap()), 1u64..4), 0..3)
}

prop_compose! {
    fn any_break()(
        run in prop_oneof![Just(0u64), 1u64..200], gaps in gaps(), target_gap in 0u64..2,
        leader_epoch in -1i32..3, writer_epoch in 0i16..3,
    ) -> Break {
        Break { run, gaps, target_gap, leader_epoch, writer_epoch }
    }
}

fn any_halt() -> impl Strategy<Value = StateRecord> {
    let halt = (0i64..9, ".{0,8}").prop_map(|(at, why)| Halt::over(HaltKind::RetentionLoss, at, at + 1, why));
    (0i32..3, proptest::option::of(halt), 0u64..9).prop_map(|(partition, halt, resumes)| StateRecord::Halt {
        topic: "orders".to_owned(),
        partition,
        halt,
        resumes,
    })
}

fn any_record() -> impl Strategy<Value = StateRecord> {
    let index = || 0u32..3;
    let offset = || 0i64..300;
    prop_oneof![
        3 => index().prop_map(declare),
        8 => (index(), vec(any_break(), 1..4)).prop_map(|(index, breaks)| segments(index, breaks)),
        3 => (index(), 0i16..9, offset(), 0i64..3).prop_map(|(index, epoch, settled_end, markers)| {
            StateRecord::Origin { index, epoch, settled_end, marker: settled_end + markers }
        }),
        2 => (index(), 0i16..3, offset()).prop_map(|(index, epoch, end)| StateRecord::Resume { index, epoch, end }),
        1 => (index(), offset(), 1i64..3, offset()).prop_map(|(index, at, by, len)| {
            StateRecord::Displaced { index, at, by, end: at + by + len, reason: GapReason::Foreign }
        }),
        1 => (index(), offset(), offset()).prop_map(|(index, source, end)| {
            StateRecord::Diverged { index, source, end }
        }),
        1 => (index(), offset(), any::<u32>()).prop_map(|(index, end, last_crc)| {
            StateRecord::Release { entries: vec![ReleaseEntry { index, end, last_crc }] }
        }),
        1 => (index(), offset()).prop_map(|(index, at)| StateRecord::Scanned { entries: vec![(index, Scan { source: at, end: at })] }),
        1 => (index(), offset(), 0i64..9).prop_map(|(index, end, at_ms)| {
            StateRecord::Seen { at_ms, entries: vec![(index, Seen { end, at_ms })] }
        }),
        1 => any_halt(),
        1 => (any::<i64>(), any::<i16>()).prop_map(|(producer_id, producer_epoch)| {
            StateRecord::Id { producer_id, producer_epoch }
        }),
        1 => Just(StateRecord::Baseline),
    ]
}

/// The records of a history that do not contradict those before them, and their sum.
fn history(records: &[StateRecord]) -> ShardState {
    let mut state = sum(&[declare(0), segments(0, vec![step(0, vec![])])]);
    for record in records {
        let mut next = state.clone();
        if next.apply(record).is_ok() {
            state = next;
        }
    }
    state
}

fn through_bytes(record: &StateRecord) -> StateRecord {
    codec::decode_state(&codec::encode_state(record)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_adds_up_to_the_same_state(records in vec(any_record(), 0..40), before in vec(any_record(), 0..4)) {
        let state = history(&records);
        let mut read = history(&before);
        for record in state.snapshot(4) {
            prop_assert_eq!(&through_bytes(&record), &record);
            read.apply(&record).unwrap();
        }
        prop_assert_eq!(read, state);
    }

    #[test]
    fn a_record_is_the_same_after_its_way_through_bytes(record in any_record()) {
        prop_assert_eq!(through_bytes(&record), record);
    }

    #[test]
    fn a_damaged_record_is_an_error(record in any_record(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = codec::encode_state(&record).to_vec();
        prop_assert!(codec::decode_state(&bytes[..at.index(bytes.len())]).is_err());
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(codec::decode_state(&bytes).is_err());
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(kind in 0u8..70, body in vec(any::<u8>(), 0..60)) {
        prop_assert!(codec::decode_state(&body).is_err());
        // Behind a right checksum the body is looked into.
        let sealed = codec::seal(kind, &body);
        if let Ok(record) = codec::decode_state(&sealed) {
            let _ = history(&[]).apply(&record);
        }
        let _ = decode_control(&sealed);
    }
}

#[test]
fn numbers_at_their_ends_are_refused_or_stay() {
    let mut beyond = declare(1);
    if let StateRecord::Declare { index, .. } = &mut beyond {
        *index = u32::MAX;
    }
    let last = refused(&begun(), &beyond);
    assert!(matches!(last, StateError::Contradiction { .. }), "{last}");
    let origin = Some(Origin { epoch: 0, start: i64::MAX, settled_end: 0 });
    let partition =
        StateRecord::SnapshotPartition { index: 0, origin, end: None, release: None, scanned: Scan::default() };
    let mut state = begun();
    state.apply(&partition).unwrap();
    let displaced = StateRecord::Displaced { index: 0, at: 0, by: 2, end: 9, reason: GapReason::Foreign };
    assert_eq!(refused(&state, &displaced), StateError::Map { index: 0, source: MapError::Overflow });
    let generation = |generation| {
        let (source_cluster_id, target_cluster_id) = ("a".to_owned(), "b".to_owned());
        let (mirror, shards, created_ms) = ("m".to_owned(), 1, 0);
        ControlRecord::Generation(Generation {
            generation,
            shards,
            source_cluster_id,
            target_cluster_id,
            mirror,
            created_ms,
            home_of: None,
        })
    };
    let mut control = ControlState::default();
    control.apply(&generation(u32::MAX));
    control.apply(&generation(0));
    assert_eq!(control.generation().map(|g| g.generation), Some(u32::MAX));
}

#[test]
fn the_last_word_on_bandwidth_wins_over_the_file_until_it_is_reset() {
    let mut control = ControlState::default();
    let mut after = |limit| {
        control.apply(&ControlRecord::Bandwidth { limit, at_ms: 1 });
        let said = control.bandwidth();
        (said.limit_bytes_per_s(Some(7)), said.origin())
    };
    assert_eq!(after(Bandwidth::BytesPerS(5)), (Some(5), "command"));
    assert_eq!(after(Bandwidth::Unlimited), (None, "command"));
    assert_eq!(after(Bandwidth::File), (Some(7), "file"));
}

#[test]
fn of_two_indexes_for_one_source_a_snapshot_keeps_the_one_that_counted() {
    let mut records = [declare(5), declare(3)];
    for record in &mut records {
        if let StateRecord::Declare { source_topic_id, .. } = record {
            *source_topic_id = Uuid::from_u128(7);
        }
    }
    let state = sum(&records);
    assert_eq!(sum(&state.snapshot(1)), state);
}

fn promoted(records: &[ControlRecord]) -> ControlState {
    let mut control = ControlState::default();
    control.apply(&ControlRecord::Generation(Generation {
        generation: 1,
        shards: 1,
        source_cluster_id: "a".to_owned(),
        target_cluster_id: "b".to_owned(),
        mirror: "m".to_owned(),
        created_ms: 0,
        home_of: None,
    }));
    records.iter().for_each(|record| control.apply(record));
    control
}

fn promotion(at_ms: i64) -> Promotion {
    Promotion { generation: 1, at_ms, ..Promotion::default() }
}

fn fenced(generation: u32) -> ControlRecord {
    ControlRecord::PromotionStep(PromotionStep {
        generation,
        phase: PromotionPhase::Fenced,
        at_ms: 2,
        unfenced: Vec::new(),
    })
}

#[test]
fn the_first_intent_and_the_first_end_of_a_promotion_count() {
    let control = promoted(&[
        ControlRecord::PromotionDone(promotion(1)),
        ControlRecord::PromotionIntent(promotion(2)),
        ControlRecord::PromotionIntent(promotion(3)),
        fenced(1),
        fenced(2),
        ControlRecord::PromotionDone(promotion(4)),
        ControlRecord::PromotionDone(promotion(5)),
    ]);
    assert_eq!(control.standing_promotion().map(|p| p.at_ms), Some(2));
    assert_eq!(control.promotion_done().map(|p| p.at_ms), Some(4));
    assert_eq!(control.promotion_step(PromotionPhase::Fenced).map(|step| step.generation), Some(1));
}

#[test]
fn a_promotion_is_called_off_with_its_steps_but_not_once_it_is_through() {
    let intent = ControlRecord::PromotionIntent(promotion(2));
    let off = ControlRecord::PromotionCancelled(promotion(3));
    let control = promoted(&[intent.clone(), fenced(1), off.clone()]);
    assert_eq!((control.standing_promotion(), control.promotion_step(PromotionPhase::Fenced)), (None, None));
    let control = promoted(&[intent, ControlRecord::PromotionDone(promotion(3)), off]);
    assert!(control.standing_promotion().is_some() && control.promotion_done().is_some());
}
