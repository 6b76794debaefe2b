//! Every kind of data there is.

use super::Mirror;
use crate::kafka::harness::{Produce, TopicSpec, driver, real_kafka_wanted, source, target};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

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
