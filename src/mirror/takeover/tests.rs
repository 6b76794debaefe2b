//! Each found by the simulation (`proto-tests/sim`): what the map and the settled end say behind displacements, and who
//! wrote a batch.

use super::super::ShardState;
use super::*;

fn declare() -> StateRecord {
    StateRecord::Declare {
        index: 0,
        source_topic: "s".to_owned(),
        source_topic_id: Uuid::from_u128(1),
        partition: 0,
        target_topic: "t".to_owned(),
        target_topic_id: Uuid::from_u128(2),
    }
}

/// The partition begun at 0, with these breaks written ahead: records in front, source offsets skipped.
fn partition(breaks: &[(u64, u64)], then: &[StateRecord]) -> PartitionState {
    let step = |run, gaps| Break { run, gaps, target_gap: 0, leader_epoch: 0, writer_epoch: 0 };
    let mut steps = vec![step(0, Vec::new())];
    steps.extend(breaks.iter().map(|(run, skipped)| step(*run, vec![(GapReason::Control, *skipped)])));
    let mut shard = ShardState::default();
    let begun = [
        declare(),
        StateRecord::Resume { index: 0, epoch: 0, end: 0 },
        StateRecord::Segments { entries: vec![(0, steps)] },
    ];
    begun.iter().chain(then).for_each(|record| shard.apply(record).unwrap());
    shard.partitions.remove(&0).unwrap()
}

fn displaced(displacement: Displacement) -> StateRecord {
    let Displacement { at, to, end } = displacement;
    StateRecord::Displaced { index: 0, at, by: to - at, end, reason: GapReason::TakeOver }
}

fn header(base_offset: i64, count: i32, epoch: i16, base_sequence: i32) -> BatchHeader {
    BatchHeader {
        base_offset,
        batch_length: 49,
        partition_leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: 7,
        producer_epoch: epoch,
        base_sequence,
        records_count: count,
    }
}

/// Markers in front of the second and of the third batch of two. The break of the third was written ahead, behind the end
/// of the first displacement: it must not be voided with it.
#[test]
fn a_later_displacement_keeps_its_breaks() {
    let landed = [Displacement { at: 2, to: 3, end: 5 }, Displacement { at: 5, to: 6, end: 8 }];
    let records: Vec<StateRecord> = in_turn(&landed).into_iter().map(displaced).collect();
    let state = partition(&[(4, 1)], &records);
    let sources: Vec<i64> = [0, 1, 3, 4, 6, 7].iter().map(|at| state.map.to_source(*at, 8).offset).collect();
    assert_eq!(sources, [0, 1, 2, 3, 5, 6]);
    assert_eq!((state.end, state.map.position(8)), (Some(8), 7));
    assert_eq!(in_turn(&[]), []);
}

/// A batch of two runs that was displaced: its second run begins a segment that is a fact, above the batch's own base.
#[test]
fn the_data_ends_behind_a_displaced_batch_of_several_runs() {
    let state = partition(&[(1, 1)], &[displaced(Displacement { at: 0, to: 1, end: 3 })]);
    assert_eq!(state.map.floor(), 2);
    let at = Bounds { start: 0, end: 3 };
    let end = data_end(&state, Some(&header(1, 2, 0, 0)), &BTreeSet::from([7]), at);
    assert_eq!(end, Ok(DataEnd::Behind { end: 3, source: 2, leader_epoch: 0 }));
}

/// The broker had forgotten the producer, and with it the fence: a late request of an older epoch was let in.
#[test]
fn a_batch_of_a_fenced_epoch_is_not_ours() {
    let taken = StateRecord::Origin { index: 0, epoch: 3, settled_end: 0, marker: 9 };
    let state = partition(&[], &[taken]);
    let ids = BTreeSet::from([7]);
    assert!(is_ours(&state, &header(12, 1, 3, 2), &ids));
    assert!(!is_ours(&state, &header(12, 1, 1, 2), &ids));
    assert!(is_ours(&state, &header(8, 1, 1, 2), &ids), "in front of the marker");
    let last = header(12, 1, 1, 2);
    let halt = data_end(&state, Some(&last), &ids, Bounds { start: 0, end: 13 }).unwrap_err();
    assert_eq!(halt.kind, HaltKind::ForeignRecords);
}

/// Four records, a gap up to 9, records up to 14; taken over.
fn with_a_gap(then: &[StateRecord]) -> PartitionState {
    let taken = StateRecord::Origin { index: 0, epoch: 3, settled_end: 9, marker: 9 };
    partition(&[(4, 5)], &[&[taken], then].concat())
}

fn truncated(state: &PartitionState, end: i64, start: i64) -> GoBack {
    go_back(state, 0, Divergence { epoch: i32::MAX, end, start }, |_, _| true)
}

/// It went back to the end of the gap, whose leader epoch is not on record: the next fetch could name none, and a second
/// truncation, into the gap, went unnoticed once the log had grown again.
#[test]
fn it_goes_back_to_a_record_and_not_to_a_gap() {
    let to = |source| GoBack::To(StateRecord::Diverged { index: 0, source, end: 10 });
    let state = with_a_gap(&[]);
    assert_eq!([3, 4, 6, 9, 12].map(|end| truncated(&state, end, 0)), [3, 4, 4, 4, 12].map(to));
    assert_eq!(truncated(&state, 9, 6), to(6), "what retention took is not there to be read again");
    assert_eq!(truncated(&state, 9, 9), to(4), "nobody knows what it took");
    let state = with_a_gap(&[StateRecord::Diverged { index: 0, source: 4, end: 10 }]);
    let footing = footing(&state, 0, 7).unwrap();
    assert_eq!((footing.position, footing.last_epoch, footing.scanned), (4, Some(0), 0));
}

#[test]
fn what_was_read_on_a_lost_branch_is_not_read() {
    let scanned = |source, end| StateRecord::Scanned { entries: vec![(0, Scan { source, end })] };
    let state = with_a_gap(&[scanned(20, 10)]);
    assert_eq!(truncated(&state, 16, 0), GoBack::Unread(scanned(14, 10)));
    assert_eq!(truncated(&state, 18, 16), GoBack::Unread(scanned(16, 10)), "the rest is gone");
    let state = with_a_gap(&[scanned(14, 10)]);
    assert_eq!(truncated(&state, 16, 0), GoBack::Stay);
}
