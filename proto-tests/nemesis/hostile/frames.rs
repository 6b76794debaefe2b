//! Frames that are none.

use kafka_protocol::messages::ApiKey;

use super::{Lie, assert_goes_on, assert_unharmed, lie_in_turn};
use crate::embedded::Pair;
use crate::kafka::harness::{Tier, tier};

/// A frame of the honest one's header and this body.
fn with_body(frame: &[u8], body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(4 + body.len()).unwrap();
    [&length.to_be_bytes(), &frame[4..8], body].concat()
}

fn with_length(frame: &[u8], length: i32) -> Vec<u8> {
    [&length.to_be_bytes(), &frame[4..]].concat()
}

/// Tags that nobody knows, each without content, in place of the end of a flexible answer.
fn tagged(frame: &[u8]) -> Vec<u8> {
    let varint = |mut value: u32| {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    };
    const TAGS: u32 = 1_000_000;
    let mut body = frame[8..frame.len() - 1].to_vec();
    body.extend(varint(TAGS));
    for tag in 0..TAGS {
        body.extend(varint(1_000 + tag));
        body.push(0);
    }
    with_body(frame, &body)
}

const LIES: &[(&str, Lie)] = &[
    ("a length beyond all", |frame| with_length(frame, i32::MAX)),
    ("a length below zero", |frame| with_length(frame, -1)),
    ("a length without room for a correlation id", |frame| with_length(frame, 3)),
    ("another's correlation id", |frame| [&frame[..7], &[frame[7] ^ 0x40], &frame[8..]].concat()),
    ("an answer that nothing asked for behind the one", |frame| [frame, frame].concat()),
    ("half of it", |frame| with_body(frame, &frame[8..frame.len() / 2 + 4])),
    ("nothing behind the header", |frame| with_body(frame, &[])),
    ("counts of 2^31", |frame| with_body(frame, &[0x7f; 64])),
    ("counts of 2^32, compact", |frame| with_body(frame, &[0xff, 0xff, 0xff, 0xff, 0x0f].repeat(20))),
    ("negative counts", |frame| with_body(frame, &[0xfe; 64])),
    ("zeros without end", |frame| with_body(frame, &vec![0; 1 << 20])),
    ("tagged fields by the million", tagged),
];

/// While all of these lie, each in every other answer, the mirror goes on; after it, too.
fn told(name: &str, source: &[ApiKey], target: &[ApiKey]) {
    let mut pair = Pair::new(name, 1, 2, "");
    pair.mirror.start();
    assert_goes_on(&pair, 0);
    let liars = source.iter().map(|api| (&pair.source, api)).chain(target.iter().map(|api| (&pair.target, api)));
    let hooks: Vec<_> = liars.map(|(cluster, api)| (api, lie_in_turn(cluster, *api, LIES))).collect();
    let mut written = 10;
    for (api, hook) in hooks {
        while hook.hits() < LIES.len() as u64 {
            // A new connection asks for what an old one knows.
            pair.source.kill_connections(None);
            pair.target.kill_connections(None);
            assert_goes_on(&pair, written);
            written += 10;
        }
        assert_unharmed(&mut pair.mirror, &format!("{name}: {api:?}"));
    }
    pair.mirror.stop();
}

#[test]
fn frames_that_lie_end_their_connection_and_nothing_else() {
    told("hostile-frames", &[ApiKey::Fetch], &[ApiKey::Produce]);
}

#[test]
fn lies_about_all_else_are_asked_again() {
    if tier() == Tier::Full {
        told("hostile-rest", &[ApiKey::Metadata, ApiKey::ApiVersions], &[ApiKey::Metadata, ApiKey::ApiVersions]);
    }
}
