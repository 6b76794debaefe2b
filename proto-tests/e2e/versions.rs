//! Releases of Kafka next to each other: every kind of data, groups, a kill, a clean restart and a failover, from each to each.

use super::Mirror;
use super::crash::assert_map_is_exact;
use super::group_sync::{assert_reads_on, await_in_step};
use super::kinds::CODECS;
use super::mirror::gaps;
use super::reencoded::end_compaction;
use super::transactions::{Fates, assert_status_is_exact, interleaved};
use crate::kafka::harness::cluster::{Version, older, oldest};
use crate::kafka::harness::{
    Cluster, ClusterSpec, Produce, Tier, TopicSpec, compare, driver, real_kafka_wanted, source, target, tier,
};

/// Two partitions each of what a batch may be, and three with transactions.
struct Data<'a> {
    name: &'a str,
    from: &'a Cluster,
}

const KINDS: [&str; 4] = ["odd", "tiny", "stamped", "compacted"];

impl Data<'_> {
    fn topic(&self, kind: &str) -> String {
        format!("{}-{kind}", self.name)
    }

    fn topics(&self) -> Vec<String> {
        KINDS.into_iter().chain(["transactions"]).map(|kind| self.topic(kind)).collect()
    }

    fn create(&self) {
        for kind in KINDS {
            let spec = TopicSpec::new(&self.topic(kind), 2);
            let spec = match kind {
                "stamped" => spec.set("message.timestamp.type", "LogAppendTime"),
                "compacted" => {
                    let spec = spec.set("cleanup.policy", "compact").set("segment.ms", 100);
                    spec.set("min.cleanable.dirty.ratio", 0.01)
                }
                _ => spec,
            };
            driver().create_topic(&self.from.bootstrap(), &spec);
        }
    }

    fn produce(&self, kind: &str, seed: u64, codec: &'static str, count: u64) {
        let plain = Produce { seed, codec, partitions: 2, ..Produce::odd(&self.topic(kind), count) };
        let large = Produce { burst_min: 20, burst_max: 60, linger_ms: 1_000, batch_size: 500_000, ..plain.clone() };
        let produce = match kind {
            "tiny" => Produce { burst_min: 1, burst_max: 1, ..plain },
            "compacted" => Produce { keys: 60, null_keys: 0.0, ..large },
            _ => Produce { burst_max: 30, ..plain },
        };
        driver().produce(&self.from.bootstrap(), &produce);
    }

    /// All kinds under all codecs; gives the number of records that shall arrive of the transactions.
    fn write(&self) -> u64 {
        self.create();
        for (seed, codec) in (0..).zip(CODECS) {
            for kind in KINDS {
                self.produce(kind, seed, codec, if kind == "tiny" { 40 } else { 200 });
            }
        }
        driver().compact(&self.from.bootstrap(), &self.topic("compacted"), 100);
        end_compaction(self.from, &self.topic("compacted"));
        interleaved(self.from, &self.topic("transactions"), 300)
    }
}

fn everything_arrives(name: &str, from: &Cluster, to: &Cluster) {
    let data = Data { name, from };
    let committed = data.write() as usize;
    let group = format!("{name}-readers");
    let groups = format!("    groups: {{ include: [\"{group}\"], interval: 1s }}\n");
    let mut mirror = Mirror::new(name, from, to, &[&format!("{name}-.*")], &groups);
    mirror.start().await_caught_up(11);
    let (odd, transactional) = (data.topic("odd"), data.topic("transactions"));
    assert_status_is_exact(&mirror, &transactional, &Fates::of(from, &transactional));
    // A take-over on this version too: its marker in every log, and more behind it.
    mirror.kill();
    data.produce("odd", 9, "lz4", 200);
    mirror.start().await_caught_up(11);
    let read = driver().read_on(&from.bootstrap(), &group, &odd, "classic", Some(577));
    await_in_step(&mirror, 1);
    mirror.stop();
    data.produce("odd", 10, "zstd", 100);
    mirror.start().await_caught_up(11);
    for partition in [0, 1] {
        let row = mirror.row(&odd, partition).unwrap();
        assert_eq!(gaps(&row), [], "{row}");
    }
    mirror.stop();
    let topics = data.topics();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let (here, there) = mirror.dumps(&topics, &topics);
    let of = |kind: &str| [0, 1].map(|p| here.partitions[&(data.topic(kind), p)].len()).iter().sum::<usize>();
    assert_eq!(["odd", "tiny", "stamped"].map(of), [1_300, 200, 1_000]);
    compare(&here, &there).assert_exactly(2_500 + of("compacted") + committed);
    assert_map_is_exact(name, to, &here, &there);
    // Compaction ended before: nothing is there that only the log's cleaner knows of.
    mirror.json(&["verify"], 0);
    let output = mirror.output(&["failover", "--planned", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_reads_on((from, to), &group, &odd, &read);
}

/// Makes each pairing a test of its tier.
macro_rules! pairings {
    ($($tier:ident $test:ident: $from:expr => $to:expr;)*) => {$(
        #[test]
        fn $test() {
            if real_kafka_wanted(stringify!($test)) && (tier() == Tier::Full || Tier::$tier == Tier::Ci) {
                everything_arrives(&stringify!($test).replace('_', "-"), $from, $to);
            }
        }
    )*};
}

pairings! {
    Ci from_2_8_to_4_3: oldest() => target();
    Ci from_4_3_to_2_8: source() => oldest();
    Ci from_3_9_to_4_3: older() => target();
    Full from_4_3_to_3_9: source() => older();
    Full from_2_8_to_3_9: oldest() => older();
    Full from_3_9_to_2_8: older() => oldest();
    Full from_2_8_to_2_8: oldest() => &Cluster::start(ClusterSpec::new(Version::V2_8_2));
    Full from_3_9_to_3_9: older() => &Cluster::start(ClusterSpec::new(Version::V3_9_1));
    Full from_4_3_to_4_3: source() => target();
}

/// A cluster that runs on while its nodes are replaced, one by one, by the next release's; it is the source of one mirror
/// and the target of another.
#[test]
fn a_rolling_upgrade_goes_on_under_two_mirrors() {
    if tier() != Tier::Full {
        return;
    }
    let mut rolled = Cluster::start(ClusterSpec::new(Version::V3_9_1).nodes(3));
    let topics = ["upgrade-from", "upgrade-to"];
    driver().create_topic(&rolled.bootstrap(), &TopicSpec::new(topics[0], 4).replication(3));
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(topics[1], 4));
    let mut mirrors = [
        Mirror::new(topics[0], &rolled, target(), &[topics[0]], ""),
        Mirror::new(topics[1], source(), &rolled, &[topics[1]], "    target_topics: { replication_factor: 3 }\n"),
    ];
    for mirror in &mut mirrors {
        mirror.start();
    }
    let from = [rolled.bootstrap(), source().bootstrap()];
    let mut stage = |seed: u64, codec: &'static str| {
        for ((from, topic), mirror) in from.iter().zip(topics).zip(&mut mirrors) {
            let produce = Produce { seed, codec, partitions: 4, burst_max: 30, ..Produce::odd(topic, 400) };
            driver().produce(from, &produce);
            mirror.await_caught_up(4);
        }
    };
    stage(0, "none");
    for (id, codec) in [(1, "lz4"), (2, "zstd"), (3, "gzip")] {
        rolled.upgrade_node(id, Version::V4_3_1);
        stage(u64::from(id), codec);
    }
    for (mirror, topic) in mirrors.iter_mut().zip(topics) {
        mirror.stop();
        mirror.compare(&[topic]).assert_exactly(1_600);
    }
}
