//! A million records of 1 KB through kmirror and through MirrorMaker 2, in one run on the same brokers: records a second,
//! CPU seconds per GB on the wire, peak memory. Says figures, asserts none: what it must hold against is the other one.
//!
//! `cargo build --release --locked`, then
//! `KMIRROR_TESTS=full KMIRROR_BINARY=$PWD/target/release/kmirror cargo test --test proto-tests --locked -- bench --nocapture`

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Mirror;
use super::mirror::await_end_offsets;
use crate::kafka::harness::cluster::run_folder;
use crate::kafka::harness::process::Process;
use crate::kafka::harness::{Cluster, ClusterSpec, Produce, Tier, TopicSpec, Version, driver, jars, tier};

const TOPIC: &str = "bench";
const RECORDS: u64 = 1_000_000;
const PARTITIONS: i32 = 12;
const LIMIT: Duration = Duration::from_secs(600);

struct Reading {
    seconds: f64,
    cpu_s: f64,
    peak_bytes: u64,
}

/// From the start of the process until every record stands in `topic` on the target.
fn measure(process: &Process, began: Instant, to: &Cluster, topic: &str) -> Reading {
    await_end_offsets(to, topic, RECORDS as i64, LIMIT);
    Reading {
        seconds: began.elapsed().as_secs_f64(),
        cpu_s: process.cpu_s().expect("it runs"),
        peak_bytes: process.peak_rss_bytes().expect("it runs"),
    }
}

fn with_kmirror(from: &Cluster, to: &Cluster) -> Reading {
    let mut mirror = Mirror::new("bench", from, to, &[TOPIC], "");
    let began = Instant::now();
    mirror.start();
    let reading = measure(mirror.process(), began, to, TOPIC);
    mirror.stop();
    reading
}

fn mirror_maker(folder: &Path, from: &Cluster, to: &Cluster) -> Command {
    let mut text = format!(
        "clusters = from, to\nfrom.bootstrap.servers = {}\nto.bootstrap.servers = {}\nfrom->to.enabled = true\n\
         from->to.topics = {TOPIC}\nto->from.enabled = false\n",
        from.bootstrap(),
        to.bootstrap()
    );
    for key in ["replication", "checkpoints.topic.replication", "heartbeats.topic.replication"] {
        let _ = writeln!(text, "{key}.factor = 1");
    }
    for topic in ["offset-syncs.topic", "offset.storage", "status.storage", "config.storage"] {
        let _ = writeln!(text, "{topic}.replication.factor = 1");
    }
    let file = folder.join("mm2.properties");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("java");
    command.args(["-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
    command.arg(jars::class_path(to.version())).arg("org.apache.kafka.connect.mirror.MirrorMaker");
    command.arg(file).args(["--clusters", "to"]);
    command
}

fn with_mirror_maker(from: &Cluster, to: &Cluster) -> Reading {
    let folder = run_folder("mm2");
    let command = mirror_maker(&folder, from, to);
    let began = Instant::now();
    let mut process = Process::start(&command, &folder.join("out"), &folder.join("log"), None);
    let reading = measure(&process, began, to, &format!("from.{TOPIC}"));
    process.kill();
    reading
}

#[test]
fn a_million_records_next_to_mirror_maker() {
    if tier() != Tier::Full {
        return;
    }
    let start = || Cluster::start(ClusterSpec::new(Version::V4_3_1).for_bench());
    let (from, to) = (start(), start());
    driver().create_topic(&from.bootstrap(), &TopicSpec::new(TOPIC, PARTITIONS));
    let spec = Produce { partitions: PARTITIONS, value_min: 1_000, value_max: 1_000, ..Produce::new(TOPIC, RECORDS) };
    driver().produce(&from.bootstrap(), &spec);
    let bytes = driver().log_bytes(&from.bootstrap(), TOPIC);
    eprintln!("{RECORDS} records, {:.3} GB on the wire, {PARTITIONS} partitions", bytes as f64 / 1e9);
    let brokers = || from.cpu_s() + to.cpu_s();
    for (name, run) in
        [("kmirror", with_kmirror as fn(&Cluster, &Cluster) -> Reading), ("MirrorMaker 2", with_mirror_maker)]
    {
        let before = brokers();
        let Reading { seconds, cpu_s, peak_bytes } = run(&from, &to);
        eprintln!(
            "{name:>14}: {:>7.0} records/s, {:.2} CPU s/GB, peak {:.0} MB, {seconds:.1} s; brokers {:.1} CPU s",
            RECORDS as f64 / seconds,
            cpu_s / (bytes as f64 / 1e9),
            peak_bytes as f64 / 1e6,
            brokers() - before
        );
    }
}
