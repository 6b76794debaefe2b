//! Small batches that travel as one.

use super::*;
use crate::batch::RawBatch;

const TOGETHER: usize = 64 << 10;

/// One record settled, `waiting` more of one record each queued behind it.
fn waiting(waiting: i64) -> Appender {
    proven(waiting).coalescing(TOGETHER)
}

fn values(out: &Outgoing) -> Vec<String> {
    let sent = RawBatch::parse([&out.header[..], &out.payload].concat().into()).unwrap();
    let records = batch::decode(&sent, 1 << 20).unwrap();
    records.iter().map(|r| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap()).collect()
}

fn numbers(from: i64, to: i64) -> Vec<String> {
    (from..to).map(|n| n.to_string()).collect()
}

#[test]
fn what_waits_goes_as_one_and_nothing_waits_for_more() {
    let mut appender = waiting(3);
    let out = appender.take_outgoing(NOW).unwrap();
    assert_eq!((out.target, sequence(&out), values(&out)), (1, 1, numbers(1, 4)));
    appender.push(young(4, 2));
    let next = appender.take_outgoing(NOW).unwrap();
    assert_eq!(
        (next.target, sequence(&next), values(&next)),
        (4, 4, numbers(4, 6)),
        "alone, for nothing else is there"
    );
    assert_eq!(appended(&mut appender, 1), Verdict::Go);
    assert_eq!(appended(&mut appender, 4), Verdict::Go);
    assert_eq!((appender.settled(), appender.queued_bytes(), appender.is_idle()), (6, 0, true));
}

#[test]
fn what_was_sent_goes_again_as_it_was_sent() {
    let mut appender = waiting(3);
    let out = appender.take_outgoing(NOW).unwrap();
    appender.push(young(4, 1));
    assert_eq!(appender.answer(1, Answer::Lost, NOW), Verdict::Refresh);
    let again = appender.take_outgoing(LATER).unwrap();
    assert_eq!((again.header, again.payload), (out.header, out.payload));
}

#[test]
fn large_batches_other_codecs_and_breaks_not_written_ahead_stay_apart() {
    let mut appender = waiting(1);
    let record = |size| Record {
        offset: 0,
        timestamp: LATER as i64,
        attributes: 0,
        key: None,
        value: Some(vec![b'x'; size].into()),
        headers: Vec::new(),
    };
    for (at, size, codec) in [(2, 10, Codec::None), (3, 10, Codec::Lz4), (4, 5_000, Codec::None), (5, 10, Codec::None)]
    {
        let made = batch::encode(&[record(size)], codec, Stamp::NONE).unwrap();
        let runs = vec![Run { gaps: Vec::new(), source: at, count: 1 }];
        appender.push(Ready { header: made.header, payload: made.payload(), runs, leader_epoch: 3, path: Path::Raw });
    }
    appender.push(ready(9, 1, vec![(GapReason::Control, 3)], LATER));
    assert_eq!(send_all(&mut appender, NOW), [1, 3, 4, 5], "1 with 2; what is behind the break waits for it");
    let (ticket, _) = appender.take_breaks().unwrap();
    appender.breaks_acked(ticket);
    assert_eq!(send_all(&mut appender, NOW), [6]);
}

#[test]
fn a_batch_that_is_too_large_goes_in_its_parts_and_smaller_from_then_on() {
    let mut appender = waiting(10);
    let out = appender.take_outgoing(NOW).unwrap();
    assert_eq!(values(&out).len(), 10);
    assert_eq!(refused(&mut appender, 1, code::MESSAGE_TOO_LARGE, false), Verdict::Go);
    for n in 1..=10 {
        let out = appender.take_outgoing(LATER).unwrap();
        assert_eq!((out.target, values(&out)), (n, numbers(n, n + 1)));
        assert_eq!(appended(&mut appender, n), Verdict::Go);
    }
    (11..30).for_each(|n| appender.push(young(n, 1)));
    assert!(appender.take_outgoing(LATER).unwrap().bytes() <= out.bytes() / 2);
}

#[test]
fn only_the_record_that_is_refused_halts() {
    let mut appender = waiting(9);
    appender.take_outgoing(NOW).unwrap();
    assert_eq!(refused(&mut appender, 1, code::INVALID_RECORD, false), Verdict::Go);
    for n in 1..5 {
        appender.take_outgoing(LATER).unwrap();
        assert_eq!(appended(&mut appender, n), Verdict::Go);
    }
    appender.take_outgoing(LATER).unwrap();
    let halt = halt(refused(&mut appender, 5, code::INVALID_RECORD, false));
    assert_eq!((halt.kind, halt.range), (HaltKind::InvalidRecord, Some((5, 6))));
}

#[test]
fn what_may_have_been_appended_as_one_is_not_taken_apart() {
    let mut appender = waiting(3);
    appender.take_outgoing(NOW).unwrap();
    assert_eq!(appender.answer(1, Answer::Lost, NOW), Verdict::Refresh);
    appender.take_outgoing(LATER).unwrap();
    let verdict = appender.answer(
        1,
        Answer::Refused { code: code::MESSAGE_TOO_LARGE, message: "why".to_owned(), retriable: false },
        LATER,
    );
    assert!(matches!(verdict, Verdict::TakeOver(_)), "{verdict:?}");
}

#[test]
fn a_damaged_batch_goes_by_itself() {
    let mut appender = waiting(2);
    let mut damaged = young(3, 1);
    damaged.payload = damaged.payload.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>().into();
    appender.push(damaged);
    appender.push(young(4, 1));
    assert_eq!(send_all(&mut appender, NOW), [1, 3, 4]);
}
