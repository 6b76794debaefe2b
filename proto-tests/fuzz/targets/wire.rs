//! Responses: those that are read by hand, where what comes out may not be much larger than what went in; and those that
//! `kafka-protocol` decodes, where what the layout lets through is decoded, to the same byte.

use bytes::Bytes;
use kmirror::client::{FetchChange, FetchSession, FetchWant, Fetched, TopicPartition, fuzzing, parse_produce};
use uuid::Uuid;

/// Bytes in memory for each byte of a response, and for a response of any size.
const GROWTH_MAX: usize = 64;
const TOPIC: &str = "alpha";
/// That of the goldens' topic `alpha`.
const TOPIC_ID: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);

/// A version, counted from the first one of each api, then the frame without its size.
pub fn run(data: &[u8]) {
    let Some((turn, frame)) = data.split_first() else { return };
    let version = 7 + i16::from(turn % 11);
    let frame = Bytes::copy_from_slice(frame);
    fetch(version, &frame);
    produce(version.min(13), &frame);
    for reading in fuzzing::readings(*turn, &frame) {
        assert_eq!(reading.decoded, Some(reading.walked), "{} v{}", reading.api, reading.version);
    }
}

fn body(frame: &Bytes, flexible: bool) -> Option<Bytes> {
    let (_, body) = fuzzing::split_response(frame.clone(), flexible)?;
    assert!(body.len() + 4 <= frame.len());
    Some(body)
}

fn fetch(version: i16, frame: &Bytes) {
    let Some(body) = body(frame, version >= 12) else { return };
    let mut session = FetchSession::new();
    let want = FetchWant { offset: 0, current_leader_epoch: -1, last_fetched_epoch: -1, max_bytes: 1 };
    let tp = TopicPartition { topic: TOPIC.to_owned(), topic_id: TOPIC_ID, partition: 0 };
    session.apply(FetchChange::want(&tp, want));
    for _ in 0..2 {
        let Ok(answer) = fuzzing::fetch_response(&mut session, version, body.clone()) else { continue };
        let held: usize = answer.iter().map(in_memory).sum();
        assert!(held <= GROWTH_MAX * body.len(), "{held} bytes from {}", body.len());
    }
}

fn in_memory(fetched: &Fetched) -> usize {
    size_of::<Fetched>() + fetched.topic.len() + fetched.aborted.len() * size_of::<(i64, i64)>()
}

fn produce(version: i16, frame: &Bytes) {
    let Some(body) = body(frame, version >= 9) else { return };
    let keys = [(TOPIC.to_owned(), TOPIC_ID, 0)];
    if let Ok(results) = parse_produce("fuzzed", version, body.clone(), &keys) {
        assert!(results.len() == 1 && results[0].message.len() <= body.len());
    }
    let _ = parse_produce("fuzzed", version, body, &[]);
}
