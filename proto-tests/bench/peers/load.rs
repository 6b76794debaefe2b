//! The loads: what is written to the source before anybody copies it.

use std::cell::Cell;
use std::fmt::{self, Display};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;

use crate::backlog::{BATCH_BYTES, CODECS, JSON_BYTES, Logged, fill_mixed, logged, produce, scaled};
use crate::hands;
use crate::kafka::harness::{Cluster, ClusterSpec, Produce, Version};

/// What is measured, each under its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// A backlog of JSON in large batches, a third each uncompressed, lz4 and zstd: throughput and what it costs.
    Mixed,
    /// A backlog of batches of one record: what a batch costs.
    Tiny,
    /// A steady trickle: how much later a record is on the target.
    Latency,
    /// Many partitions and nothing to do.
    Idle,
    /// Very many partitions: how long until each of them flows.
    Start,
}

/// Bytes of a value of `tiny`.
const TINY_BYTES: usize = 200;

/// How long one look at the brokers takes, how many there are at most, and the share of a core below which they are still.
const SETTLE_LOOK: Duration = Duration::from_secs(1);
const SETTLE_LOOKS: u32 = 30;
const SETTLED_BELOW: f64 = 0.15;

/// Partitions of each topic.
const PARTITIONS: i32 = 6;
const IDLE_PARTITIONS: i32 = 10;
const START_PARTITIONS: i32 = 5;

/// Two clusters of one broker each, and what numbers the runs on them.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) from: Cluster,
    pub(crate) to: Cluster,
    pub(crate) factor: f64,
    large: bool,
    runs: Cell<u32>,
}

impl Stage {
    /// Brokers for a load.
    pub(crate) fn start(load: Load, factor: f64) -> Self {
        let large = load == Load::Start;
        let spec = ClusterSpec::new(Version::V4_3_1).for_bench();
        let spec = if large { spec.heap_mb(2_048) } else { spec };
        let (from, to) = (Cluster::start(spec.clone()), Cluster::start(spec));
        let stage = Self { from, to, factor, large, runs: Cell::new(0) };
        [&stage.from, &stage.to].into_iter().for_each(|cluster| warm_up(cluster, factor));
        stage.clear();
        stage
    }

    /// Whether these are the brokers of `start`.
    pub(crate) fn is_large(&self) -> bool {
        self.large
    }

    /// The number of the next run.
    pub(crate) fn next_run(&self) -> u32 {
        self.runs.set(self.runs.get() + 1);
        self.runs.get()
    }

    /// Removes what a run has left on both sides; the load itself stays.
    pub(crate) fn clear_run(&self, filled: &Filled) {
        hands::clear(&self.to, &[]);
        hands::clear(&self.from, &filled.topics);
    }

    /// Waits until the brokers have done what was asked of them, such as deleting topics, so that no run pays for an earlier
    /// one; not for ever, for brokers are never quite still.
    pub(crate) fn settle(&self) {
        let cpu_s = || self.from.cpu_s() + self.to.cpu_s();
        for _ in 0..SETTLE_LOOKS {
            let before = cpu_s();
            thread::sleep(SETTLE_LOOK);
            if (cpu_s() - before) / SETTLE_LOOK.as_secs_f64() < SETTLED_BELOW {
                return;
            }
        }
    }

    /// Removes everything.
    pub(crate) fn clear(&self) {
        hands::clear(&self.to, &[]);
        hands::clear(&self.from, &[]);
    }
}

/// What stands on the source.
#[derive(Debug, Clone)]
pub(crate) struct Filled {
    pub(crate) topics: Vec<String>,
    /// Matches all of them, and nothing else: a regular expression for both peers.
    pub(crate) pattern: String,
    /// Of each topic.
    pub(crate) partitions: i32,
    pub(crate) records: u64,
    /// Batches in the source's logs, counted there.
    pub(crate) batches: u64,
    /// Bytes of them, as they go over the wire.
    pub(crate) wire_bytes: u64,
}

impl Filled {
    /// GB on the wire.
    pub(crate) fn wire_gb(&self) -> f64 {
        self.wire_bytes as f64 / 1e9
    }
}

impl Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, batches, topics, partitions, .. } = self;
        let all = topics.len() * *partitions as usize;
        write!(f, "{records} records in {batches} batches, {:.3} GB on the wire, {all} partitions", self.wire_gb())
    }
}

impl Load {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Tiny => "tiny",
            Self::Latency => "latency",
            Self::Idle => "idle",
            Self::Start => "start",
        }
    }

    /// What it consists of.
    pub(crate) fn shape(self, factor: f64) -> String {
        match self {
            Self::Mixed => format!(
                "{} JSON records of {JSON_BYTES} bytes in batches of up to {} KiB; 3 topics of {PARTITIONS} partitions, \
                 one each uncompressed, lz4 and zstd",
                mixed_records(factor) * CODECS.len() as u64,
                BATCH_BYTES >> 10
            ),
            Self::Tiny => {
                format!("{} batches of one record of {TINY_BYTES} bytes, {PARTITIONS} partitions", tiny_records(factor))
            }
            Self::Latency => {
                let pace = latency_pace(factor);
                let (least, most) = pace.value_bytes;
                format!(
                    "{} records a second of {least} to {most} bytes for {} s, acks=all and no linger, {PARTITIONS} partitions",
                    pace.rate, pace.seconds
                )
            }
            Self::Idle => {
                format!(
                    "{} topics of {IDLE_PARTITIONS} partitions, all copied and nothing written",
                    idle_topics(factor)
                )
            }
            Self::Start => format!(
                "{} topics of {START_PARTITIONS} partitions with one record each; the target's topics are there, empty",
                start_topics(factor)
            ),
        }
    }

    /// Writes it to the source.
    pub(crate) fn fill(self, stage: &Stage) -> Filled {
        let factor = stage.factor;
        let (topics, partitions) = match self {
            Self::Mixed => (CODECS.map(|codec| format!("mixed-{codec}")).to_vec(), PARTITIONS),
            Self::Tiny => (vec!["tiny-0".to_owned()], PARTITIONS),
            Self::Latency => (vec!["latency-0".to_owned()], PARTITIONS),
            Self::Idle => (numbered("idle", idle_topics(factor)), IDLE_PARTITIONS),
            Self::Start => (numbered("start", start_topics(factor)), START_PARTITIONS),
        };
        hands::create_topics(&stage.from, &topics, partitions);
        let records = match self {
            Self::Mixed => fill_mixed(&stage.from, &topics, PARTITIONS, mixed_records(factor)),
            Self::Tiny => fill_tiny(stage, &topics[0]),
            Self::Latency | Self::Idle | Self::Start => {
                hands::one_each(&stage.from, &topics, partitions);
                topics.len() as u64 * partitions as u64
            }
        };
        let Logged { batches, wire_bytes } = logged(&stage.from, &topics, partitions);
        if self == Self::Tiny {
            assert_eq!(batches, records, "batches of one record each");
        }
        Filled { pattern: format!("{}-.*", self.name()), topics, partitions, records, batches, wire_bytes }
    }
}

/// A JVM is slow at what it has not done before: without this, whoever runs first would pay for it, and the clients that
/// measure would show their own compilers.
fn warm_up(cluster: &Cluster, factor: f64) {
    let topic = "warm-up";
    hands::create_topics(cluster, &[topic.to_owned()], PARTITIONS);
    let many = Produce { partitions: PARTITIONS, ..Produce::new(topic, scaled(300_000, factor, 10_000)) };
    produce(&cluster.bootstrap(), &many);
    let (batch_size, linger_ms) = (1, 0);
    let single = Produce { batch_size, linger_ms, count: scaled(100_000, factor, 10_000), ..many };
    produce(&cluster.bootstrap(), &single);
    let pace = hands::Pace { seconds: scaled(15, factor, 5), ..latency_pace(factor) };
    let route = hands::Route { from: cluster, topic, to: cluster, target_topic: topic, partitions: PARTITIONS };
    hands::pace(route, pace, std::process::id());
}

fn numbered(name: &str, count: u64) -> Vec<String> {
    (0..count).map(|number| format!("{name}-{number:04}")).collect()
}

/// Of each topic.
fn mixed_records(factor: f64) -> u64 {
    scaled(2_000_000, factor, 6_000)
}

fn tiny_records(factor: f64) -> u64 {
    scaled(600_000, factor, 6_000)
}

fn idle_topics(factor: f64) -> u64 {
    scaled(100, factor, 1)
}

fn start_topics(factor: f64) -> u64 {
    scaled(2_000, factor, 1)
}

/// The stretch of `latency` that counts.
pub(crate) fn latency_pace(factor: f64) -> hands::Pace {
    hands::Pace { rate: 2_000, seconds: scaled(30, factor, 5), value_bytes: (200, 1_000) }
}

fn fill_tiny(stage: &Stage, topic: &str) -> u64 {
    let count = tiny_records(stage.factor);
    let spec = Produce {
        partitions: PARTITIONS,
        // No record fits into a batch that has one already.
        batch_size: 1,
        linger_ms: 0,
        value_min: TINY_BYTES,
        value_max: TINY_BYTES,
        ..Produce::new(topic, count)
    };
    produce(&stage.from.bootstrap(), &spec);
    count
}
