//! Compare-and-append: each rule by itself; `world`: random faults against a model of the broker.

use proptest::prelude::*;

use super::super::{GapReason, Path, Run};
use super::refusals::{BACKOFF_MAX_MS, CORRUPT_RETRIES, code};
use super::*;
use crate::batch::{BatchHeader, Codec, Record};

const WRITER: Writer = Writer { producer_id: 7, producer_epoch: 2, origin: 0 };
const LIFETIME_MS: u64 = 1_000;
const NOW: u64 = 1_000_000;
/// No pause after a failure is longer.
const LATER: u64 = NOW + BACKOFF_MAX_MS;

/// `count` records from source offset `source` on, written at `written_ms`.
fn ready(source: i64, count: u32, gaps: Vec<(GapReason, u64)>, written_ms: u64) -> Ready {
    let record = |offset| Record {
        offset,
        timestamp: written_ms as i64,
        attributes: 0,
        key: None,
        value: Some(Bytes::from(offset.to_string())),
        headers: Vec::new(),
    };
    let records: Vec<Record> = (source..source + i64::from(count)).map(record).collect();
    let made = batch::encode(&records, Codec::None, Stamp::NONE).unwrap();
    let runs = vec![Run { gaps, source, count }];
    Ready { header: made.header, payload: made.payload(), runs, leader_epoch: 3, path: Path::Raw }
}

fn young(source: i64, count: u32) -> Ready {
    ready(source, count, Vec::new(), LATER)
}

fn open(end: i64) -> Appender {
    Appender::new(WRITER, end, Segment::Open { run: 0, leader_epoch: 3 }, LIFETIME_MS)
}

/// An appender whose broker has proven to hold the producer's state: one record settled, `waiting` more queued.
fn proven(waiting: i64) -> Appender {
    let mut appender = open(0);
    (0..=waiting).for_each(|n| appender.push(young(n, 1)));
    assert_eq!(send_all(&mut appender, NOW), [0]);
    assert_eq!(appended(&mut appender, 0), Verdict::Go);
    appender
}

fn send_all(appender: &mut Appender, now_ms: u64) -> Vec<i64> {
    std::iter::from_fn(|| appender.take_outgoing(now_ms)).map(|out| out.target).collect()
}

fn appended(appender: &mut Appender, base_offset: i64) -> Verdict {
    appender.answer(base_offset, Answer::Appended { base_offset }, NOW)
}

fn landed_at(appender: &mut Appender, target: i64, base_offset: i64) -> Verdict {
    appender.answer(target, Answer::Appended { base_offset }, NOW)
}

fn refused(appender: &mut Appender, target: i64, code: i16, retriable: bool) -> Verdict {
    appender.answer(target, Answer::Refused { code, message: "why".to_owned(), retriable }, NOW)
}

fn halt(verdict: Verdict) -> Halt {
    let Verdict::Halt(halt) = verdict else { panic!("not a halt: {verdict:?}") };
    halt
}

fn sequence(out: &Outgoing) -> i32 {
    BatchHeader::parse(&out.header).unwrap().base_sequence
}

#[test]
fn what_waits_longest_is_the_first_that_is_not_settled() {
    let mut appender = proven(1);
    assert_eq!(appender.first_open(), Some((1, LATER as i64)));
    appender.push(young(2, 3));
    assert_eq!(send_all(&mut appender, NOW), [1, 2]);
    assert_eq!(appended(&mut appender, 2), Verdict::Go);
    assert_eq!(appender.first_open(), Some((1, LATER as i64)), "an answer out of turn settles nothing");
    assert_eq!(appended(&mut appender, 1), Verdict::Go);
    assert_eq!((appender.first_open(), appender.settled()), (None, 5));
}

#[test]
fn nothing_is_sent_before_its_breaks_are_acknowledged() {
    let mut appender = Appender::new(WRITER, 5, Segment::None, LIFETIME_MS);
    appender.push(ready(40, 2, vec![(GapReason::Start, 40)], LATER));
    assert_eq!(send_all(&mut appender, NOW), [0; 0]);
    let (first, breaks) = appender.take_breaks().unwrap();
    let start = Break {
        run: 0,
        gaps: vec![(GapReason::Start, 40)],
        target_gap: 5,
        leader_epoch: 3,
        writer_epoch: WRITER.producer_epoch,
    };
    assert_eq!(breaks, std::slice::from_ref(&start));
    appender.push(ready(44, 1, vec![(GapReason::Control, 2)], LATER));
    let (second, breaks) = appender.take_breaks().unwrap();
    assert_eq!(breaks, [Break { run: 2, gaps: vec![(GapReason::Control, 2)], target_gap: 0, ..start }]);
    assert!(second > first && appender.take_breaks().is_none());
    appender.breaks_acked(first);
    assert_eq!(send_all(&mut appender, NOW), [5]);
    appended(&mut appender, 5);
    assert_eq!(send_all(&mut appender, NOW), [0; 0], "its own break is not acknowledged yet");
    appender.breaks_acked(second);
    assert_eq!(send_all(&mut appender, NOW), [7]);
}

#[test]
fn a_new_leader_epoch_of_the_source_is_a_break_and_the_same_one_is_none() {
    let mut appender = open(0);
    appender.push(young(0, 3));
    assert!(appender.take_breaks().is_none());
    appender.push(Ready { leader_epoch: 4, ..young(3, 1) });
    let (_, breaks) = appender.take_breaks().unwrap();
    assert_eq!((breaks[0].run, breaks[0].leader_epoch, breaks[0].gaps.len()), (3, 4, 0));
}

#[test]
fn one_batch_is_under_way_until_the_broker_has_proven_its_state_then_a_window() {
    let mut appender = open(0);
    (0..9).for_each(|n| appender.push(young(n, 1)));
    assert_eq!(send_all(&mut appender, NOW), [0]);
    assert_eq!(appended(&mut appender, 0), Verdict::Go);
    assert_eq!(send_all(&mut appender, NOW), [1, 2, 3, 4, 5]);
    appended(&mut appender, 3);
    assert_eq!(send_all(&mut appender, NOW), [0; 0], "the window counts from the first that is not settled");
    appended(&mut appender, 1);
    assert_eq!(send_all(&mut appender, NOW), [6]);
    assert_eq!((appender.settled(), appender.in_flight()), (2, 4));
}

#[test]
fn a_new_leader_must_prove_itself_anew() {
    let mut appender = proven(5);
    appender.leader_changed();
    assert_eq!(send_all(&mut appender, NOW), [1]);
    appended(&mut appender, 1);
    assert_eq!(send_all(&mut appender, NOW).len(), 4);
}

#[test]
fn a_proof_ends_with_the_life_of_the_records_that_gave_it() {
    let mut appender = open(0);
    appender.push(ready(0, 1, Vec::new(), NOW));
    (1..4).for_each(|n| appender.push(ready(n, 1, Vec::new(), NOW + 10_000)));
    send_all(&mut appender, NOW);
    appended(&mut appender, 0);
    assert_eq!(send_all(&mut appender, NOW + LIFETIME_MS + 1), [1]);
}

#[test]
fn sequences_count_from_the_origin_and_wrap_at_two_to_the_31() {
    let origin = 10;
    let end = origin + (1 << 31) - 2;
    let writer = Writer { origin, ..WRITER };
    let mut appender = Appender::new(writer, end, Segment::Open { run: 9, leader_epoch: 3 }, LIFETIME_MS);
    appender.push(young(0, 4));
    appender.push(young(4, 1));
    assert_eq!(sequence(&appender.take_outgoing(NOW).unwrap()), i32::MAX - 1);
    appended(&mut appender, end);
    assert_eq!(sequence(&appender.take_outgoing(NOW).unwrap()), 2);
}

#[test]
fn a_lost_batch_goes_again_byte_for_byte_after_a_pause() {
    let mut appender = open(0);
    appender.push(young(0, 2));
    let first = appender.take_outgoing(NOW).unwrap();
    assert_eq!(appender.answer(0, Answer::Lost, NOW), Verdict::Refresh);
    assert!(!appender.is_clean() && !appender.has_outgoing(NOW));
    let again = appender.take_outgoing(appender.wake_at_ms().unwrap()).unwrap();
    assert_eq!((first.target, first.header, first.payload), (again.target, again.header, again.payload));
    assert_eq!(appended(&mut appender, 0), Verdict::Go);
    assert!(appender.is_clean() && appender.is_idle());
    assert_eq!((appender.settled(), appender.queued_bytes()), (2, 0));
    let crc = BatchHeader::parse(&first.header).unwrap().crc;
    assert_eq!(appender.last_crc(), Some(crc));
}

#[test]
fn nothing_goes_again_before_every_answer_of_the_failed_flight_is_in() {
    let mut appender = proven(3);
    assert_eq!(send_all(&mut appender, NOW), [1, 2, 3]);
    assert_eq!(appender.answer(1, Answer::Lost, NOW), Verdict::Refresh);
    assert_eq!(send_all(&mut appender, LATER), [0; 0]);
    assert_eq!(refused(&mut appender, 2, code::OUT_OF_ORDER_SEQUENCE_NUMBER, false), Verdict::Go);
    assert_eq!(refused(&mut appender, 3, code::OUT_OF_ORDER_SEQUENCE_NUMBER, false), Verdict::Go);
    assert_eq!(send_all(&mut appender, LATER), [1], "alone, until the state is proven again");
}

#[test]
fn out_of_order_behind_nothing_that_failed_is_a_take_over() {
    for code in [code::OUT_OF_ORDER_SEQUENCE_NUMBER, code::DUPLICATE_SEQUENCE_NUMBER, code::UNKNOWN_PRODUCER_ID] {
        let mut appender = proven(1);
        send_all(&mut appender, NOW);
        assert!(matches!(refused(&mut appender, 1, code, true), Verdict::TakeOver(_)), "{code}");
    }
}

#[test]
fn a_newer_epoch_fences() {
    for code in [code::INVALID_PRODUCER_EPOCH, code::PRODUCER_FENCED] {
        let mut appender = proven(1);
        send_all(&mut appender, NOW);
        assert!(matches!(refused(&mut appender, 1, code, false), Verdict::Fenced(_)), "{code}");
    }
}

#[test]
fn a_displacement_is_said_once_every_outcome_is_known() {
    let mut appender = proven(4);
    assert_eq!(send_all(&mut appender, NOW), [1, 2, 3, 4]);
    assert_eq!(landed_at(&mut appender, 1, 3), Verdict::Go);
    assert!(!appender.is_clean());
    assert_eq!(appender.answer(2, Answer::Lost, NOW), Verdict::Refresh);
    assert_eq!(refused(&mut appender, 3, code::OUT_OF_ORDER_SEQUENCE_NUMBER, false), Verdict::Go);
    assert_eq!(refused(&mut appender, 4, code::OUT_OF_ORDER_SEQUENCE_NUMBER, false), Verdict::Go);
    assert_eq!(send_all(&mut appender, LATER), [2], "only what may have been appended is asked for again");
    assert_eq!(landed_at(&mut appender, 2, 4), Verdict::Displaced { at: 1, to: 3 });
    assert_eq!(appender.displacements(), [Displacement { at: 1, to: 3, end: 5 }]);
    assert_eq!((appender.settled(), send_all(&mut appender, LATER)), (5, vec![]));
}

#[test]
fn every_displacement_is_kept_where_somebody_else_writes_as_well() {
    let mut appender = proven(3);
    send_all(&mut appender, NOW);
    assert_eq!(landed_at(&mut appender, 1, 2), Verdict::Go);
    assert_eq!(landed_at(&mut appender, 2, 3), Verdict::Go);
    assert_eq!(landed_at(&mut appender, 3, 6), Verdict::Displaced { at: 1, to: 2 });
    let want = [Displacement { at: 1, to: 2, end: 4 }, Displacement { at: 4, to: 6, end: 7 }];
    assert_eq!(appender.displacements(), want);
}

/// What is out of step takes nothing new, so a refused batch would wait for ever in front of one whose outcome is open
/// (seed 3764 of the simulation).
#[test]
fn an_open_outcome_behind_a_refused_batch_is_told_by_a_take_over() {
    let mut appender = proven(3);
    assert_eq!(send_all(&mut appender, NOW), [1, 2, 3]);
    assert_eq!(landed_at(&mut appender, 1, 2), Verdict::Go);
    assert_eq!(appender.answer(3, Answer::Lost, NOW), Verdict::Refresh);
    assert!(matches!(refused(&mut appender, 2, code::OUT_OF_ORDER_SEQUENCE_NUMBER, false), Verdict::TakeOver(_)));
    assert_eq!(appender.displacements().len(), 1);
}

#[test]
fn a_batch_that_overtook_one_that_was_not_appended_halts() {
    let mut appender = proven(2);
    send_all(&mut appender, NOW);
    assert_eq!(appender.answer(1, Answer::Lost, NOW), Verdict::Refresh);
    assert_eq!(landed_at(&mut appender, 2, 1 + 1), Verdict::Go);
    assert_eq!(send_all(&mut appender, LATER), [1]);
    // Appended behind the one that should follow it.
    assert_eq!(halt(landed_at(&mut appender, 1, 0)).kind, HaltKind::TargetTruncated);
}

#[test]
fn a_batch_below_what_was_acknowledged_says_that_the_target_lost_records() {
    let mut appender = proven(1);
    send_all(&mut appender, NOW);
    assert_eq!(halt(landed_at(&mut appender, 1, 0)).kind, HaltKind::TargetTruncated);
}

#[test]
fn an_old_record_travels_alone_and_is_never_sent_again_after_an_unknown_outcome() {
    let mut appender = open(0);
    let old = NOW - LIFETIME_MS - 1;
    (0..3).for_each(|n| appender.push(ready(n, 1, Vec::new(), old)));
    assert_eq!(send_all(&mut appender, NOW), [0]);
    appended(&mut appender, 0);
    assert_eq!(send_all(&mut appender, NOW), [1], "an old batch proves nothing and has no company");
    assert!(matches!(appender.answer(1, Answer::Lost, NOW), Verdict::TakeOver(_)));
    assert_eq!(send_all(&mut appender, LATER), [0; 0]);
    assert!(appender.overdue(LATER).is_some());
}

#[test]
fn an_old_batch_that_was_not_sent_goes_after_a_pause_and_needs_no_take_over() {
    let mut appender = open(0);
    appender.push(ready(0, 1, Vec::new(), NOW - LIFETIME_MS - 1));
    let mut now_ms = NOW;
    for _ in 0..3 {
        assert_eq!(send_all(&mut appender, now_ms), [0]);
        assert_eq!(appender.answer(0, Answer::NotSent, now_ms), Verdict::Refresh);
        assert!(appender.is_clean() && appender.is_failing() && !appender.has_outgoing(now_ms));
        assert_eq!(appender.overdue(now_ms), None);
        now_ms = appender.wake_at_ms().unwrap();
    }
    assert_eq!(send_all(&mut appender, now_ms), [0]);
    assert_eq!(appended(&mut appender, 0), Verdict::Go);
}

#[test]
fn a_batch_that_was_not_sent_again_leaves_open_what_was_open() {
    let mut appender = open(0);
    appender.push(ready(0, 1, Vec::new(), NOW));
    send_all(&mut appender, NOW);
    assert_eq!(appender.answer(0, Answer::Lost, NOW), Verdict::Refresh);
    let later_ms = NOW + LIFETIME_MS;
    assert_eq!(send_all(&mut appender, later_ms), [0]);
    assert_eq!(appender.answer(0, Answer::NotSent, later_ms), Verdict::Refresh);
    assert!(!appender.is_clean());
    assert!(appender.overdue(later_ms + 1).is_some(), "the first try may have been appended");
    assert_eq!(send_all(&mut appender, later_ms + BACKOFF_MAX_MS), [0; 0]);
}

#[test]
fn a_batch_that_grows_old_while_its_outcome_is_unknown_is_overdue() {
    let mut appender = open(0);
    appender.push(ready(0, 1, Vec::new(), NOW));
    send_all(&mut appender, NOW);
    assert_eq!(appender.answer(0, Answer::Lost, NOW), Verdict::Refresh);
    assert_eq!(appender.overdue(NOW + LIFETIME_MS), None);
    assert!(appender.overdue(NOW + LIFETIME_MS + 1).is_some());
    assert_eq!(send_all(&mut appender, NOW + LIFETIME_MS + 1), [0; 0]);
}

#[test]
fn a_sound_batch_that_the_target_calls_corrupt_goes_again_a_few_times() {
    let mut appender = open(0);
    appender.push(young(30, 2));
    let mut at_ms = NOW;
    for _ in 0..CORRUPT_RETRIES {
        assert_eq!(send_all(&mut appender, at_ms), [0]);
        assert_eq!(refused(&mut appender, 0, code::CORRUPT_MESSAGE, true), Verdict::Refresh);
        at_ms = LATER;
    }
    assert_eq!(send_all(&mut appender, at_ms), [0]);
    let halt = halt(refused(&mut appender, 0, code::CORRUPT_MESSAGE, true));
    assert_eq!((halt.kind, halt.range), (HaltKind::CorruptBatch, Some((30, 32))));
}

#[test]
fn a_batch_that_is_not_sound_here_is_not_sent_twice() {
    let mut appender = open(0);
    let damaged = Ready { payload: Bytes::from(vec![0; young(30, 2).payload.len()]), ..young(30, 2) };
    appender.push(damaged);
    send_all(&mut appender, NOW);
    assert_eq!(halt(refused(&mut appender, 0, code::CORRUPT_MESSAGE, true)).range, Some((30, 32)));
}

#[test]
fn a_refusal_for_good_halts_with_its_source_range() {
    for (code, kind) in [
        (code::MESSAGE_TOO_LARGE, HaltKind::MessageTooLarge),
        (code::RECORD_LIST_TOO_LARGE, HaltKind::MessageTooLarge),
        (code::INVALID_RECORD, HaltKind::InvalidRecord),
        (code::INVALID_TIMESTAMP, HaltKind::InvalidRecord),
    ] {
        let mut appender = open(0);
        appender.push(young(30, 2));
        send_all(&mut appender, NOW);
        let halt = halt(refused(&mut appender, 0, code, false));
        assert_eq!((halt.kind, halt.range), (kind, Some((30, 32))));
        assert!(appender.is_clean(), "a refused batch was not appended");
    }
}

#[test]
fn an_answer_to_nothing_that_was_sent_halts() {
    let mut appender = open(0);
    appender.push(young(0, 1));
    assert_eq!(halt(appended(&mut appender, 0)).kind, HaltKind::Unexpected);
}

#[test]
fn is_clean_only_while_nothing_is_open() {
    let mut appender = open(0);
    appender.push(young(0, 1));
    assert!(appender.is_clean(), "what was never sent is no doubt");
    send_all(&mut appender, NOW);
    assert!(!appender.is_clean());
    appended(&mut appender, 0);
    assert!(appender.is_clean());
}

mod coalescing;
mod world;
