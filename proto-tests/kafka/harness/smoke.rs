//! The harness itself, seen working: before any test of kmirror is believed.

use std::time::Duration;

use super::cluster::older;
use super::process::Process;
use super::{Cluster, ClusterSpec, Produce, TopicSpec, Transact, Version, compare, driver, real_kafka_wanted};
use super::{source, target, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

/// The same spec written to two clusters is the same data, record for record, and the comparison can tell it.
fn same_spec_same_records(from: &Cluster, to: &Cluster) {
    let driver = driver();
    let topic = format!("smoke-same-{}", to.version().name());
    let spec = TopicSpec::new(&topic, 3);
    driver.create_topic(&from.bootstrap(), &spec);
    driver.create_topic(&to.bootstrap(), &spec);
    for (seed, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let produce = Produce { seed: seed as u64, codec, partitions: 3, ..Produce::odd(&topic, 2_000) };
        driver.produce(&from.bootstrap(), &produce);
        driver.produce(&to.bootstrap(), &produce);
    }
    let before = driver.dump(&from.bootstrap(), &[&topic]);
    let report = compare(&before, &driver.dump(&to.bootstrap(), &[&topic]));
    report.assert_exactly(10_000);
    assert!(report.offsets_identical);
    driver.produce(&to.bootstrap(), &Produce::new(&topic, 1));
    let report = compare(&before, &driver.dump(&to.bootstrap(), &[&topic]));
    assert_eq!((report.equal, report.differences.len()), (10_000, 1));
}

#[test]
fn one_spec_gives_the_same_records_on_every_version() {
    if real_kafka_wanted("one_spec_gives_the_same_records_on_every_version") {
        same_spec_same_records(source(), target());
        same_spec_same_records(source(), older());
    }
}

#[test]
fn aborted_records_are_in_the_log_and_not_in_the_dump() {
    if !real_kafka_wanted("aborted_records_are_in_the_log_and_not_in_the_dump") {
        return;
    }
    let (driver, bootstrap, topic) = (driver(), source().bootstrap(), "smoke-transactions");
    driver.create_topic(&bootstrap, &TopicSpec::new(topic, 2));
    let produce = Produce { partitions: 2, ..Produce::odd(topic, 600) };
    let done = driver.transact(&bootstrap, &Transact { producers: 3, ..Transact::new(produce) });
    assert_eq!((done.committed, done.aborted), (420, 180));
    assert_eq!(driver.dump(&bootstrap, &[topic]).len(), 420);
    assert_eq!(driver.records(&bootstrap, topic, "read_uncommitted").len(), 600);
    let offsets = driver.offsets(&bootstrap, &[topic]);
    // Each of the 60 transactions leaves a marker in each partition that it wrote to.
    assert!(offsets.iter().map(|row| row.end).sum::<i64>() > 660, "{offsets:?}");
}

#[test]
fn compaction_makes_holes_and_delete_records_moves_the_log_start() {
    if !real_kafka_wanted("compaction_makes_holes_and_delete_records_moves_the_log_start") {
        return;
    }
    let (driver, bootstrap, topic) = (driver(), source().bootstrap(), "smoke-compacted");
    let spec = TopicSpec::new(topic, 2).set("cleanup.policy", "compact,delete").set("segment.ms", 100);
    driver.create_topic(&bootstrap, &spec.set("min.cleanable.dirty.ratio", 0.01));
    driver.produce(&bootstrap, &Produce { partitions: 2, keys: 50, ..Produce::new(topic, 4_000) });
    driver.compact(&bootstrap, topic, 1_000);
    let dump = driver.dump(&bootstrap, &[topic]);
    let rows = &dump.partitions[&(topic.to_owned(), 0)];
    let last = rows[rows.len() - 1].offset;
    assert!(last + 1 - rows.len() as i64 >= 1_000);
    assert_eq!(driver.delete_records(&bootstrap, topic, 0, last), last);
    assert_eq!(driver.offsets(&bootstrap, &[topic])[0].start, last);
}

#[test]
fn a_killed_node_comes_back_on_its_port_with_its_data() {
    if !real_kafka_wanted("a_killed_node_comes_back_on_its_port_with_its_data") {
        return;
    }
    let driver = driver();
    let mut cluster = Cluster::start(ClusterSpec::new(Version::V4_3_1));
    let bootstrap = cluster.bootstrap();
    driver.create_topic(&bootstrap, &TopicSpec::new("kept", 1));
    driver.produce(&bootstrap, &Produce::new("kept", 1_000));
    cluster.kill_node(1);
    cluster.restart_node(1);
    assert_eq!(cluster.bootstrap(), bootstrap);
    assert_eq!(driver.dump(&bootstrap, &["kept"]).len(), 1_000);
}

#[test]
fn a_program_ends_with_its_keepers_lifeline() {
    let folder = tempfile::tempdir().unwrap();
    let (log, data) = (folder.path().join("log"), folder.path().join("data"));
    std::fs::create_dir(&data).unwrap();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "trap '' INT TERM; while :; do sleep 0.05; done"]);
    let mut process = Process::start(&command, &log, &log, Some(&data));
    let proc_folder = std::path::PathBuf::from(format!("/proc/{}", process.pid()));
    assert!(process.is_running() && proc_folder.exists());
    process.cut_lifeline();
    wait_until("the program's end", LIMIT, || {
        if proc_folder.exists() || data.exists() { Err("it is still there".to_owned()) } else { Ok(()) }
    });
}

#[test]
fn an_exit_code_comes_through_the_keeper() {
    let folder = tempfile::tempdir().unwrap();
    let (out, log) = (folder.path().join("out"), folder.path().join("log"));
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "echo to-out; echo to-log >&2; exit 5"]);
    assert_eq!(Process::start(&command, &out, &log, None).wait_exit(LIMIT), 5);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "to-out\n");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "to-log\n");
}
