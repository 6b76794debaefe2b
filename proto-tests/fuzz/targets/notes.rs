//! What kmirror leaves on a cluster beside the state topic, where others may write as well: heartbeats, what replayed records bear, how far
//! a replay came, when groups were last in step.

use bytes::Bytes;
use kmirror::backup::replay::reread_progress;
use kmirror::batch::Record;
use kmirror::ops::ORIGIN;
use kmirror::ops::fuzzing::{heartbeat, replayed_from, synced};

use super::Input;

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 4 {
        0 => {
            let record = a_record(Some(input.0), Vec::new());
            assert!(heartbeat(&record).is_none() || input.0.len() == 10);
        }
        1 => replayed(&mut input),
        2 => {
            if let Some((reach, again)) = reread_progress(input.0) {
                let body = again.split(|byte| *byte == b'\n').nth(1).unwrap_or_default();
                assert_eq!(reread_progress(body), Some((reach, again.clone())));
            }
        }
        _ => {
            let at_ms = input.i64();
            if let Some(record) = synced(&String::from_utf8_lossy(input.0), at_ms) {
                assert!(record.at_ms == at_ms && record.age_ms(0) >= 0 && record.age_ms(i64::MAX) >= 0);
            }
        }
    }
}

fn a_record(value: Option<&[u8]>, headers: Vec<(Bytes, Option<Bytes>)>) -> Record {
    Record { offset: 0, timestamp: 0, attributes: 0, key: None, value: value.map(Bytes::copy_from_slice), headers }
}

/// Headers, name and value in turn, each with its length in front.
fn replayed(input: &mut Input<'_>) {
    let mark = (input.u8() & 1 == 1).then_some("mark");
    let mut headers = Vec::new();
    while !input.is_empty() {
        let (name, value) = (input.piece(), input.piece());
        headers.push((Bytes::copy_from_slice(name), Some(Bytes::copy_from_slice(value))));
    }
    let record = a_record(None, headers);
    if let Some((topic, partition, offset)) = replayed_from(&record, mark) {
        let bears = |(name, value): &(Bytes, Option<Bytes>)| {
            let text = value.as_deref().and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
            let end = |number: i64| text.rsplit(':').any(|word| word.parse() == Ok(number));
            name == ORIGIN && text.starts_with(&topic) && end(partition.into()) && end(offset)
        };
        assert!(record.headers.iter().any(bears), "made up: {topic}:{partition}:{offset} of {record:?}");
    }
}
