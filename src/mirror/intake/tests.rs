//! What becomes of a fetched batch: passed raw, put together anew, passed over with a reason, or a halt.

use bytes::Bytes;

use super::*;
use crate::batch::{
    ATTR_CONTROL, ATTR_LOG_APPEND_TIME, ATTR_TRANSACTIONAL, Record, Stamp, check_crc, decode, encode, rewritten,
};

const LIMIT_BYTES: usize = 1 << 20;
const EPOCH: i32 = 4;
const ABORT: [u8; 4] = [0, 0, 0, 0];
const COMMIT: [u8; 4] = [0, 0, 0, 1];

fn record(offset: i64, key: Option<&[u8]>) -> Record {
    let value = Some(Bytes::from(format!("value {offset}")));
    Record {
        offset,
        timestamp: 1_000 + offset,
        attributes: 0,
        key: key.map(Bytes::copy_from_slice),
        value,
        headers: vec![],
    }
}

fn encoded(offsets: &[i64], codec: Codec) -> RawBatch {
    let records: Vec<Record> = offsets.iter().map(|offset| record(*offset, None)).collect();
    encode(&records, codec, Stamp { producer_id: -1, producer_epoch: 0, base_sequence: 0 }).unwrap()
}

/// The batch with another header, its checksum made to fit.
fn with(batch: &RawBatch, change: impl FnOnce(&mut BatchHeader)) -> RawBatch {
    let mut header = batch.header;
    change(&mut header);
    let bytes = [&header.to_bytes()[..], &batch.payload()].concat();
    header.crc = crc32c::crc32c(&bytes[21..]);
    let bytes = [&header.to_bytes()[..], &batch.payload()].concat();
    RawBatch::parse(bytes.into()).unwrap()
}

/// A batch as the source's log holds it, at the offset of its first record.
fn data(offsets: &[i64]) -> RawBatch {
    placed(&encoded(offsets, Codec::None), offsets[0])
}

fn compressed(offsets: &[i64]) -> RawBatch {
    placed(&encoded(offsets, Codec::Lz4), offsets[0])
}

fn placed(batch: &RawBatch, base_offset: i64) -> RawBatch {
    with(batch, |h| (h.base_offset, h.partition_leader_epoch) = (base_offset, EPOCH))
}

/// Compaction left these of the records from `base` to `last`; the one at `base` is gone.
fn compacted(offsets: &[i64], base: i64, last: i64) -> RawBatch {
    let kept: Vec<Record> = [base].iter().chain(offsets).map(|offset| record(*offset, None)).collect();
    let whole = encode(&kept, Codec::None, Stamp::NONE).unwrap();
    let payload = whole.payload();
    let first_len = usize::from(payload[0] >> 1) + 1;
    let mut header = placed(&whole, base).header;
    header.records_count = offsets.len() as i32;
    header.last_offset_delta = (last - base) as i32;
    header.batch_length -= first_len as i32;
    let bytes = [&header.to_bytes()[..], &payload[first_len..]].concat().into();
    with(&RawBatch { header, bytes }, |_| {})
}

fn transactional(offsets: &[i64], producer_id: i64) -> RawBatch {
    with(&data(offsets), |h| (h.attributes, h.producer_id) = (h.attributes | ATTR_TRANSACTIONAL, producer_id))
}

fn marker(offset: i64, producer_id: i64, kind: [u8; 4]) -> RawBatch {
    let made = encode(&[record(offset, Some(&kind))], Codec::None, Stamp::NONE).unwrap();
    with(&placed(&made, offset), |h| {
        (h.attributes, h.producer_id) = (ATTR_TRANSACTIONAL | ATTR_CONTROL, producer_id);
    })
}

fn fetched(batches: &[RawBatch]) -> FetchedRecords {
    let records = batches.iter().flat_map(|batch| batch.bytes.to_vec()).collect::<Vec<u8>>().into();
    FetchedRecords { aborted: Vec::new(), records }
}

fn intake(next: i64) -> Intake {
    Intake::new(next, None, Isolation::ReadCommitted, LIMIT_BYTES)
}

fn run(gaps: &[(GapReason, u64)], source: i64, count: u32) -> Run {
    Run { gaps: gaps.to_vec(), source, count }
}

/// The runs of what is ready; no halt.
fn taken(intake: &mut Intake, fetched: &FetchedRecords) -> Vec<Run> {
    let (ready, halt) = intake.take(fetched);
    assert_eq!(halt, None);
    for ready in &ready {
        let bytes = [&ready.header.to_bytes()[..], &ready.payload].concat();
        let made = RawBatch { header: ready.header, bytes: bytes.into() };
        check_crc(&made).unwrap();
        assert_eq!(i64::from(ready.header.last_offset_delta) + 1, i64::from(ready.count()));
    }
    ready.into_iter().flat_map(|ready| ready.runs).collect()
}

/// What was ready in front of the evidence, and the halt.
fn halted(intake: &mut Intake, fetched: &FetchedRecords) -> (Vec<Run>, Halt) {
    let (ready, halt) = intake.take(fetched);
    (ready.into_iter().flat_map(|ready| ready.runs).collect(), halt.unwrap())
}

fn damaged(batch: &RawBatch) -> RawBatch {
    let mut bytes = batch.bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 0x55;
    RawBatch { header: batch.header, bytes: bytes.into() }
}

#[test]
fn a_sound_batch_passes_as_the_same_bytes() {
    for batch in [data(&[5, 6, 7]), compressed(&[5, 6, 7])] {
        let mut intake = intake(5);
        let response = fetched(std::slice::from_ref(&batch));
        let (ready, halt) = intake.take(&response);
        assert_eq!((halt, ready[0].path, ready[0].leader_epoch), (None, Path::Raw, EPOCH));
        assert_eq!((&ready[0].payload, &ready[0].runs), (&batch.payload(), &vec![run(&[], 5, 3)]));
        assert!(response.records.as_ptr_range().contains(&ready[0].payload.as_ptr()), "a slice, not a copy");
        assert_eq!((intake.next(), intake.last_epoch(), intake.scanned()), (8, Some(EPOCH), None));
    }
}

#[test]
fn interleaved_transactions_are_told_apart_by_a_list_in_any_order() {
    let batches = [
        transactional(&[0, 1], 100),
        transactional(&[2], 200),
        transactional(&[3], 300),
        marker(4, 100, ABORT),
        transactional(&[5], 100),
        marker(6, 300, ABORT),
        data(&[7]),
        marker(8, 200, COMMIT),
        marker(9, 100, COMMIT),
    ];
    let aborted = vec![(300, 3), (100, 0)];
    let mut intake = intake(0);
    let runs = taken(&mut intake, &FetchedRecords { aborted, ..fetched(&batches) });
    let want = [
        run(&[(GapReason::Aborted, 2)], 2, 1),
        run(&[(GapReason::Aborted, 1), (GapReason::Control, 1)], 5, 1),
        run(&[(GapReason::Control, 1)], 7, 1),
    ];
    assert_eq!(runs, want);
    assert_eq!((intake.next(), intake.scanned()), (10, Some(10)));
}

#[test]
fn read_uncommitted_keeps_what_was_aborted_and_drops_the_markers() {
    let mut intake = Intake::new(0, None, Isolation::ReadUncommitted, LIMIT_BYTES);
    let batches = [transactional(&[0, 1], 100), marker(2, 100, ABORT), data(&[3])];
    let runs = taken(&mut intake, &FetchedRecords { aborted: vec![(100, 0)], ..fetched(&batches) });
    assert_eq!(runs, [run(&[], 0, 2), run(&[(GapReason::Control, 1)], 3, 1)]);
}

#[test]
fn an_aborted_transaction_goes_on_in_the_next_fetch() {
    let mut intake = intake(0);
    let aborted = vec![(100, 0)];
    let first = FetchedRecords { aborted: aborted.clone(), ..fetched(&[transactional(&[0], 100)]) };
    assert_eq!(taken(&mut intake, &first), []);
    let second = fetched(&[transactional(&[1], 100), marker(2, 100, ABORT), transactional(&[3], 100)]);
    let runs = taken(&mut intake, &FetchedRecords { aborted, ..second });
    assert_eq!(runs, [run(&[(GapReason::Aborted, 2), (GapReason::Control, 1)], 3, 1)]);
}

#[test]
fn what_compaction_took_is_a_gap_wherever_it_lay() {
    let mut intake = intake(0);
    let batches = [compacted(&[12, 13, 15], 11, 18), data(&[21])];
    let (ready, halt) = intake.take(&fetched(&batches));
    assert_eq!((halt, ready[0].path), (None, Path::Reencoded(Why::Holes)));
    let hole = |n| [(GapReason::Compaction, n)];
    assert_eq!(ready[0].runs, [run(&hole(12), 12, 2), run(&hole(1), 15, 1)]);
    assert_eq!(ready[1].runs, [run(&hole(5), 21, 1)], "behind the last record, and between the batches");
    assert_eq!(values(&ready[0]), ["value 12", "value 13", "value 15"]);
}

fn records(ready: &Ready) -> Vec<Record> {
    let bytes = [&ready.header.to_bytes()[..], &ready.payload].concat();
    decode(&RawBatch::parse(bytes.into()).unwrap(), LIMIT_BYTES).unwrap()
}

fn values(ready: &Ready) -> Vec<String> {
    let value = |record: Record| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
    records(ready).into_iter().map(value).collect()
}

#[test]
fn a_batch_that_begins_before_the_asked_offset_gives_only_what_was_asked_for() {
    for batch in [data(&[5, 6, 7, 8]), compressed(&[5, 6, 7, 8])] {
        let mut intake = intake(7);
        let (ready, halt) = intake.take(&fetched(&[data(&[3, 4]), batch]));
        assert_eq!(halt, None);
        assert_eq!((ready.len(), &ready[0].runs), (1, &vec![run(&[], 7, 2)]));
        assert_eq!(values(&ready[0]), ["value 7", "value 8"]);
    }
}

#[test]
fn an_emptied_batch_is_a_gap_and_the_next_offset_lies_behind_it() {
    let empty = with(&data(&[0]), |h| {
        (h.records_count, h.last_offset_delta) = (0, 4);
    });
    let mut intake = intake(0);
    assert_eq!(taken(&mut intake, &fetched(&[empty])), []);
    assert_eq!((intake.next(), intake.scanned(), intake.last_epoch()), (5, Some(5), Some(EPOCH)));
    assert_eq!(taken(&mut intake, &fetched(&[data(&[5])])), [run(&[(GapReason::Compaction, 5)], 5, 1)]);
}

#[test]
fn a_batch_cut_short_at_the_end_waits_for_the_next_fetch() {
    let whole = fetched(&[data(&[0, 1]), data(&[2, 3])]).records;
    for cut in [1, 40, data(&[2, 3]).bytes.len() - 1] {
        let mut intake = intake(0);
        let records = whole.slice(..whole.len() - cut);
        assert_eq!(taken(&mut intake, &FetchedRecords { records, ..FetchedRecords::default() }), [run(&[], 0, 2)]);
        assert_eq!(intake.next(), 2);
    }
}

#[test]
fn a_first_batch_cut_short_halts_for_a_broker_sends_it_whole() {
    let whole = data(&[4, 5, 6]);
    let records = whole.bytes.slice(..whole.bytes.len() - 1);
    let (ready, halt) = halted(&mut intake(4), &FetchedRecords { records, ..FetchedRecords::default() });
    assert_eq!((ready, halt.kind, halt.range), (vec![], HaltKind::CorruptBatch, Some((4, 7))));
}

#[test]
fn damage_where_a_batch_is_opened_halts_over_exactly_that_batch() {
    for opened in [compacted(&[12, 15], 11, 18), placed(&encoded(&[11, 13, 18], Codec::Zstd), 11)] {
        let mut intake = intake(9);
        let (ready, halt) = halted(&mut intake, &fetched(&[data(&[9, 10]), damaged(&opened), data(&[19])]));
        assert_eq!(ready, [run(&[], 9, 2)], "what lies before it goes on");
        assert_eq!((halt.kind, halt.range), (HaltKind::CorruptBatch, Some((11, 19))));
        assert_eq!(intake.next(), 11, "the intake stands right at the evidence");
    }
}

#[test]
fn inner_offsets_out_of_step_are_never_passed_raw() {
    // Two records that say 0 and 2, in a batch whose header promises 0 and 1.
    let lying = with(&data(&[0, 2]), |h| h.last_offset_delta = 1);
    let (ready, halt) = halted(&mut intake(0), &fetched(&[lying]));
    assert_eq!((ready, halt.kind, halt.range), (vec![], HaltKind::CorruptBatch, Some((0, 2))));
}

#[test]
fn an_old_message_format_is_no_corruption() {
    let mut bytes = data(&[4]).bytes.to_vec();
    bytes[16] = 1;
    let records = [&data(&[2, 3]).bytes[..], &bytes].concat().into();
    let (ready, halt) = halted(&mut intake(2), &FetchedRecords { records, ..FetchedRecords::default() });
    assert_eq!((ready, halt.kind, halt.range), (vec![run(&[], 2, 2)], HaltKind::InvalidRecord, Some((4, 5))));
}

#[test]
fn an_unknown_message_format_halts_up_to_the_next_batch() {
    let (mut unknown, next) = (data(&[4, 5, 6]).bytes.to_vec(), data(&[7]));
    unknown[16] = 9;
    let records = Bytes::from([&unknown[..], &next.bytes[..]].concat());
    let (ready, halt) = halted(&mut intake(4), &FetchedRecords { records, ..fetched(&[]) });
    assert_eq!((ready, halt.kind, halt.range), (vec![], HaltKind::InvalidRecord, Some((4, 7))));
    let last = FetchedRecords { records: unknown.into(), ..fetched(&[]) };
    assert_eq!(halted(&mut intake(4), &last).1.range, Some((4, 5)));
}

#[test]
fn a_base_offset_too_far_away_to_be_true_is_no_gap() {
    let far = with(&data(&[4]), |h| h.base_offset = 5 + LEAP_MAX);
    let (ready, halt) = halted(&mut intake(4), &fetched(&[far]));
    assert_eq!((ready, halt.kind, halt.range), (vec![], HaltKind::CorruptBatch, Some((4, 5))));
}

#[test]
fn what_would_unfold_beyond_the_limit_halts_as_too_large() {
    let mut intake = Intake::new(11, None, Isolation::ReadCommitted, 8);
    let (_, halt) = halted(&mut intake, &fetched(&[compacted(&[12, 15], 11, 18)]));
    assert_eq!((halt.kind, halt.range), (HaltKind::MessageTooLarge, Some((11, 19))));
}

#[test]
fn a_range_that_was_given_up_is_skipped_once_it_is_reached() {
    let mut intake = intake(0);
    intake.give_up(2, 4, GapReason::Corrupt);
    intake.give_up(4, 5, GapReason::Accepted);
    assert_eq!(intake.next(), 0);
    let runs = taken(&mut intake, &fetched(&[data(&[0, 1]), damaged(&compacted(&[3], 2, 4)), data(&[5])]));
    let want = [run(&[], 0, 2), run(&[(GapReason::Corrupt, 2), (GapReason::Accepted, 1)], 5, 1)];
    assert_eq!(runs, want);
}

#[test]
fn giving_up_the_range_of_a_halt_lets_the_partition_go_on() {
    let log = fetched(&[data(&[9, 10]), damaged(&compacted(&[12, 15], 11, 18)), data(&[19])]);
    let mut intake = intake(9);
    let (_, halt) = halted(&mut intake, &log);
    let (from, to) = halt.range.unwrap();
    intake.give_up(from, to, GapReason::Accepted);
    assert_eq!(taken(&mut intake, &log), [run(&[(GapReason::Accepted, 8)], 19, 1)]);
}

#[test]
fn a_skip_forgets_the_leader_epoch_and_never_goes_back() {
    let mut intake = intake(0);
    taken(&mut intake, &fetched(&[data(&[0, 1])]));
    intake.skip(1, GapReason::Retention);
    assert_eq!((intake.next(), intake.last_epoch()), (2, Some(EPOCH)));
    intake.skip(6, GapReason::Retention);
    assert_eq!((intake.next(), intake.last_epoch(), intake.scanned()), (6, None, None));
    assert_eq!(taken(&mut intake, &fetched(&[data(&[6])])), [run(&[(GapReason::Retention, 4)], 6, 1)]);
}

#[test]
fn broker_set_timestamps_stay_what_a_reader_of_the_source_sees() {
    for batch in [data(&[0, 1]), compressed(&[0, 1])] {
        let stamped = with(&batch, |h| {
            (h.attributes, h.max_timestamp) = (h.attributes | ATTR_LOG_APPEND_TIME, 77_000);
        });
        let (ready, halt) = intake(0).take(&fetched(&[stamped]));
        assert_eq!((halt, ready[0].path), (None, Path::Reencoded(Why::LogAppendTime)));
        assert_eq!(records(&ready[0]).iter().map(|r| r.timestamp).collect::<Vec<_>>(), [77_000, 77_000]);
        assert!(!ready[0].header.is_log_append_time());
    }
}

/// A raw batch is not opened here: the target checks the payload against the source's own checksum.
#[test]
fn a_compressed_batch_that_was_damaged_keeps_its_damage_for_the_target_to_see() {
    let (ready, halt) = intake(0).take(&fetched(&[damaged(&compressed(&[0, 1]))]));
    assert_eq!(halt, None);
    let bytes: Bytes = [&ready[0].header.to_bytes()[..], &ready[0].payload].concat().into();
    let sent = rewritten(&RawBatch::parse(bytes).unwrap(), Stamp::NONE).unwrap();
    assert!(matches!(check_crc(&sent), Err(BatchError::BadChecksum { .. })));
}

/// A loss behind the last record, noted as read, came out as markers after a restart (seed 1389 of the simulation).
#[test]
fn a_loss_is_not_noted_as_read() {
    let mut intake = intake(10);
    intake.skip(12, GapReason::Control);
    assert_eq!(intake.scanned(), Some(12));
    intake.skip(20, GapReason::Retention);
    intake.skip(21, GapReason::Control);
    assert_eq!((intake.next(), intake.scanned()), (21, Some(12)));
}

/// Told as lost, it was given up again, by a take-over without end (seed 31819 of the simulation).
#[test]
fn what_is_given_up_behind_what_retention_took_is_not_lost_again() {
    let mut intake = intake(10);
    intake.give_up(12, 20, GapReason::Accepted);
    assert_eq!(intake.out_of_range(12, Bounds { start: 20, end: 30 }), OutOfRange::No);
    assert_eq!(intake.next(), 20);
}

#[test]
fn a_halt_at_the_largest_offset_has_a_range_that_is_one() {
    let fetched = FetchedRecords { aborted: Vec::new(), records: Bytes::from(vec![0xff; HEADER_LEN]) };
    let (_, halt) = halted(&mut intake(i64::MAX), &fetched);
    assert_eq!(halt.range, Some((i64::MAX, i64::MAX)));
}
