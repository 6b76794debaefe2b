//! Kafka 3.9.1 on either side.

use super::Mirror;
use super::crash::assert_map_is_exact;
use super::kinds::CODECS;
use super::transactions::interleaved;
use crate::kafka::harness::cluster::older;
use crate::kafka::harness::{Cluster, Produce, TopicSpec, compare, driver, real_kafka_wanted, source, target};

fn odd_data(from: &Cluster, topic: &str) {
    driver().create_topic(&from.bootstrap(), &TopicSpec::new(topic, 2));
    for (seed, codec) in CODECS.into_iter().enumerate() {
        let spec = Produce { seed: seed as u64, codec, partitions: 2, burst_max: 30, ..Produce::odd(topic, 300) };
        driver().produce(&from.bootstrap(), &spec);
    }
}

fn everything_arrives(name: &str, from: &Cluster, to: &Cluster) {
    let (odd, transactional) = (format!("{name}-odd"), format!("{name}-transactions"));
    odd_data(from, &odd);
    let records = 1_500 + interleaved(from, &transactional, 300) as usize;
    let mut mirror = Mirror::new(name, from, to, &[&format!("{name}-.*")], "");
    mirror.start().await_caught_up(5);
    // A take-over on this version too: its marker in every log, and more behind it.
    mirror.kill();
    driver().produce(&from.bootstrap(), &Produce { seed: 9, partitions: 2, ..Produce::odd(&odd, 200) });
    mirror.start().await_caught_up(5);
    mirror.stop();
    let topics = [odd.as_str(), &transactional];
    let (here, there) = mirror.dumps(&topics, &topics);
    compare(&here, &there).assert_exactly(records + 200);
    assert_map_is_exact(name, to, &here, &there);
}

#[test]
fn the_older_kafka_as_the_source() {
    if real_kafka_wanted("the_older_kafka_as_the_source") {
        everything_arrives("versions-up", older(), target());
    }
}

#[test]
fn the_older_kafka_as_the_target() {
    if real_kafka_wanted("the_older_kafka_as_the_target") {
        everything_arrives("versions-down", source(), older());
    }
}
