//! Every kind of data there is.

use super::Mirror;
use super::log::batches;
use crate::kafka::harness::driver::FullRecord;
use crate::kafka::harness::{Produce, TopicSpec, driver, real_kafka_wanted, source, target};

pub(crate) const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

#[test]
fn every_codec_and_every_oddity_arrives_as_it_was() {
    if !real_kafka_wanted("every_codec_and_every_oddity_arrives_as_it_was") {
        return;
    }
    let (driver, topic) = (driver(), "kinds-codecs");
    driver.create_topic(&source().bootstrap(), &TopicSpec::new(topic, 3));
    for (seed, codec) in CODECS.into_iter().enumerate() {
        let produce = Produce { seed: seed as u64, codec, partitions: 3, ..Produce::odd(topic, 3_000) };
        driver.produce(&source().bootstrap(), &produce);
    }
    let mut mirror = Mirror::new("kinds-codecs", source(), target(), &[topic], "");
    mirror.start().await_caught_up(3);
    let report = mirror.compare(&[topic]);
    report.assert_exactly(15_000);
    assert!(report.offsets_identical, "a log from 0 without crashes keeps its offsets");
    mirror.stop();
}

/// Batches of one record each, then batches as large as the broker takes them.
fn produce_all_sizes(topic: &str) {
    for (seed, codec) in CODECS.into_iter().enumerate() {
        let seed = seed as u64;
        let one = Produce { seed, codec, partitions: 3, burst_min: 1, burst_max: 1, ..Produce::odd(topic, 60) };
        let large = Produce {
            seed: 100 + seed,
            burst_max: 900,
            linger_ms: 1_000,
            batch_size: 1_000_000,
            value_max: 3_000,
            ..Produce { burst_min: 1, ..one.clone() }
        };
        driver().produce(&source().bootstrap(), &one);
        driver().produce(&source().bootstrap(), &Produce { count: 6_000, ..large });
    }
}

#[test]
fn batches_of_every_size_arrive_as_they_were() {
    if !real_kafka_wanted("batches_of_every_size_arrive_as_they_were") {
        return;
    }
    let topic = "kinds-sizes";
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(topic, 3));
    produce_all_sizes(topic);
    let written = batches(source(), topic);
    let codecs = 0..CODECS.len() as i16;
    for codec in codecs {
        let of_codec = || written.iter().filter(|b| b.header.attributes & 7 == codec);
        assert!(of_codec().any(|b| b.header.records_count == 1), "codec {codec} in a batch of one record");
        let largest = of_codec().map(|b| b.header.records_count).max();
        assert!(largest > Some(250), "codec {codec} in a large batch: {largest:?}");
    }
    let largest = written.iter().map(|b| b.bytes.len()).max();
    assert!(largest > Some(900_000), "a batch of a megabyte: {largest:?}");
    let mut mirror = Mirror::new("kinds-sizes", source(), target(), &[topic], "");
    mirror.start().await_caught_up(3);
    let report = mirror.compare(&[topic]);
    report.assert_exactly(30_300);
    assert!(report.offsets_identical);
    mirror.stop();
}

/// A kind of record.
type Is = fn(&FullRecord) -> bool;

fn names_a_header_twice(record: &FullRecord) -> bool {
    let mut names: Vec<&str> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// Digests could hide what they were made of: here the records themselves are compared, and each oddity is seen.
#[test]
fn tombstones_null_keys_and_odd_headers_are_there_in_full() {
    if !real_kafka_wanted("tombstones_null_keys_and_odd_headers_are_there_in_full") {
        return;
    }
    let topic = "kinds-oddities";
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(topic, 1));
    driver().produce(&source().bootstrap(), &Produce { codec: "lz4", value_max: 12, ..Produce::odd(topic, 400) });
    let mut mirror = Mirror::new("kinds-oddities", source(), target(), &[topic], "");
    mirror.start().await_caught_up(1);
    mirror.stop();
    let there = driver().records(&target().bootstrap(), topic, "read_committed");
    assert_eq!(there, driver().records(&source().bootstrap(), topic, "read_committed"));
    let seen: [(&str, Is); 7] = [
        ("a tombstone", |r| r.key.is_some() && r.value.is_none()),
        ("an empty value", |r| r.value.as_deref() == Some("")),
        ("a null key", |r| r.key.is_none() && r.value.is_some()),
        ("no key and no value", |r| r.key.is_none() && r.value.is_none()),
        ("a header twice", names_a_header_twice),
        ("a null header value", |r| r.headers.iter().any(|(_, value)| value.is_none())),
        ("an empty header value", |r| r.headers.iter().any(|(_, value)| value.as_deref() == Some(""))),
    ];
    for (what, is) in seen {
        assert!(there.iter().any(is), "no record with {what}");
    }
}
