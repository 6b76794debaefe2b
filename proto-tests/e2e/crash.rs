//! kill -9 at any moment: nothing lost, nothing twice, and the map says where every record went.

use std::collections::BTreeMap;
use std::thread;

use kmirror::mirror::{OffsetMap, PartitionState};
use kmirror::ops::MirrorState;

use super::Mirror;
use super::log::connected;
use super::mirror::{LIMIT, await_end_offsets};
use crate::kafka::harness::{Cluster, Dump, Produce, TopicSpec, compare, driver, real_kafka_wanted, source, target};

/// A partition's map and the settled end that it counts up to.
pub(crate) type Maps = BTreeMap<(String, i32), (OffsetMap, i64)>;

/// The offset maps of a mirror that was stopped cleanly, by target partition.
pub(crate) fn maps(mirror: &str, to: &Cluster) -> Maps {
    let (runtime, client) = connected(to);
    let state = runtime.block_on(MirrorState::read(mirror, &client)).unwrap().expect("it has run");
    // One of a topic that has been replaced is not released any more.
    let entry = |p: &PartitionState| {
        let at = (p.declared.target_topic.clone(), p.declared.partition);
        Some((at, (p.map.clone(), p.release?.end)))
    };
    state.partitions().filter_map(entry).collect()
}

/// Every offset of every record, both ways, through the map as it stands in the state topic.
pub(crate) fn assert_map_is_exact(mirror: &str, to: &Cluster, from: &Dump, there: &Dump) {
    let maps = maps(mirror, to);
    for (partition, records) in &from.partitions {
        let (map, end) = maps.get(partition).expect("stopped cleanly");
        for (a, b) in records.iter().zip(&there.partitions[partition]) {
            let (to_target, to_source) = (map.to_target(a.offset, *end), map.to_source(b.offset, *end));
            assert!(to_target.exact && to_source.exact, "{partition:?}: {a:?} {to_target:?}, {b:?} {to_source:?}");
            assert_eq!((to_target.offset, to_source.offset), (b.offset, a.offset), "{partition:?}");
        }
    }
}

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const KILLS: i64 = 10;

/// `each` records of each codec, written while the mirror runs and dies.
fn killed_ten_times(name: &str, from: &Cluster, to: &Cluster, each: u64) {
    let partitions = 6;
    let records = each as i64 * CODECS.len() as i64;
    driver().create_topic(&from.bootstrap(), &TopicSpec::new(name, partitions));
    let mut mirror = Mirror::new(name, from, to, &[name], "");
    let bootstrap = from.bootstrap();
    let writers = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for (seed, codec) in CODECS.into_iter().enumerate() {
                let produce =
                    Produce { seed: seed as u64, codec, partitions, value_min: 20, ..Produce::new(name, each) };
                driver().produce(&bootstrap, &produce);
            }
        });
        mirror.start();
        for kill in 1..=KILLS {
            await_end_offsets(to, name, records * kill / (KILLS + 2), LIMIT);
            mirror.kill();
            mirror.start();
        }
        writer.join()
    });
    writers.unwrap();
    mirror.await_caught_up(partitions as usize);
    mirror.stop();
    let (here, there) = (driver().dump(&from.bootstrap(), &[name]), driver().dump(&to.bootstrap(), &[name]));
    compare(&here, &there).assert_exactly(records as usize);
    assert_map_is_exact(name, to, &here, &there);
    sampled_by_hand(&mirror, name, &here, &there);
}

/// A few of them as a user asks.
fn sampled_by_hand(mirror: &Mirror, topic: &str, here: &Dump, there: &Dump) {
    for (partition, records) in &here.partitions {
        let at = records.len() / 2;
        let (source, target) = (records[at].offset, there.partitions[partition][at].offset);
        let question = |offset: i64, more: &[&str]| {
            let (number, offset) = (partition.1.to_string(), offset.to_string());
            let args = ["translate", "--topic", topic, "--partition", &number, "--offset", &offset];
            mirror.json(&[&args[..], more].concat(), 0)
        };
        let answer = question(source, &[]);
        assert_eq!((answer["offset"].as_i64(), answer["exact"].as_bool()), (Some(target), Some(true)));
        let answer = question(target, &["--reverse"]);
        assert_eq!((answer["offset"].as_i64(), answer["exact"].as_bool()), (Some(source), Some(true)));
    }
}

#[test]
fn a_million_records_survive_ten_kills() {
    if real_kafka_wanted("a_million_records_survive_ten_kills") {
        killed_ten_times("crash-million", source(), target(), 200_000);
    }
}
