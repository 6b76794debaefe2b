//! On real Kafka: everything that producers, coordinators and cleaners leave behind, backed up, deleted, and back.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::e2e::Mirror;
use crate::e2e::kinds::CODECS;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::driver::FullRecord;
use crate::kafka::harness::{Produce, TopicSpec, Transact, driver, real_kafka_wanted, source, target, wait_until};

/// Timestamp, key, value and headers of a record.
pub(super) type Seen<'a> = (i64, &'a Option<String>, &'a Option<String>, &'a Vec<(String, Option<String>)>);

/// A mirror's configuration with a backup `nightly` of the shared source in a folder.
pub(super) fn backed(name: &str, more: &str) -> (Mirror, PathBuf) {
    backed_between(name, &source().bootstrap(), &target().bootstrap(), more)
}

/// The same between two addresses.
pub(super) fn backed_between(name: &str, from: &str, to: &str, more: &str) -> (Mirror, PathBuf) {
    let mirror = Mirror::between(name, from, to, &[&format!("{name}.*")], "");
    let folder = mirror.folder().join("archive");
    let text = std::fs::read_to_string(&mirror.config).unwrap();
    let backups = format!(
        "backups:\n  - name: nightly\n    cluster: from\n    topics: {{ include: [\"{name}.*\"] }}\n    groups: {{ include: [\"{name}.*\"] }}\n    \
         to: [{{ url: \"file://{}\" }}]\n{more}",
        folder.display()
    );
    std::fs::write(&mirror.config, text + &backups).unwrap();
    (mirror, folder)
}

/// What a record says; where it stands is another matter.
pub(super) fn said(records: &[FullRecord], partition: i32) -> Vec<Seen<'_>> {
    let of = records.iter().filter(|record| record.partition == partition);
    of.map(|record| (record.timestamp, &record.key, &record.value, &record.headers)).collect()
}

fn assert_same(here: &[FullRecord], there: &[FullRecord], partitions: i32) {
    assert_eq!(here.len(), there.len());
    for partition in 0..partitions {
        assert!(said(here, partition) == said(there, partition), "partition {partition} differs");
    }
}

/// Every codec, oddity, transaction and abort, a compacted topic, and a group in the middle: backed up in two units, deleted, restored to
/// the same cluster. Records are the same, and the group goes on with exactly the ones that it had left.
#[test]
fn what_was_deleted_comes_back_record_for_record() {
    if !real_kafka_wanted("what_was_deleted_comes_back_record_for_record") {
        return;
    }
    let (driver, bootstrap) = (driver(), source().bootstrap());
    let (kinds, compacted) = ("bk-kinds", "bk-kinds-compacted");
    driver.create_topic(
        &bootstrap,
        &TopicSpec::new(kinds, 3).set("retention.ms", -1).set("max.message.bytes", 2_000_000),
    );
    let spec = TopicSpec::new(compacted, 2).set("segment.ms", 100).set("min.cleanable.dirty.ratio", 0.01);
    driver.create_topic(&bootstrap, &spec.set("cleanup.policy", "compact"));
    let (mirror, _) = backed(kinds, "    segment_bytes: 1MiB\n");
    for (seed, codec) in CODECS.into_iter().enumerate() {
        let seed = seed as u64;
        let odd = Produce { seed, codec, partitions: 3, ..Produce::odd(kinds, 2_000) };
        driver.produce(&bootstrap, &odd);
        driver.transact(
            &bootstrap,
            &Transact { producers: 2, ..Transact::new(Produce { count: 300, seed: 50 + seed, ..odd }) },
        );
        let keyed = Produce { seed, codec, partitions: 2, keys: 300, ..Produce::new(compacted, 2_000) };
        driver.produce(&bootstrap, &keyed);
        if seed == 1 {
            mirror.json(&["backup"], 0);
        }
    }
    driver.compact(&bootstrap, compacted, 500);
    let read = driver.read_on(&bootstrap, "bk-kinds-readers", kinds, "classic", Some(3_000));
    assert_eq!(read.len(), 3_000);
    let before = driver.records(&bootstrap, kinds, "read_committed");
    let before_compacted = driver.records(&bootstrap, compacted, "read_committed");
    for (topic, seen) in [(kinds, &before), (compacted, &before_compacted)] {
        assert!(exported(&mirror, topic) == consumed(seen), "{topic}: an export is what a consumer sees");
    }
    let report = mirror.json(&["backup"], 0);
    assert_eq!(
        (report["pass"]["unit"].as_i64(), report["pass"]["lost_offsets"].as_i64()),
        (Some(2), Some(0)),
        "{report}"
    );
    let found = mirror.json(&["archive", "verify"], 0);
    assert!(found["segments"].as_u64().unwrap() > 5, "{found}");

    driver.delete_topic(&bootstrap, kinds);
    driver.delete_topic(&bootstrap, compacted);
    wait_until("the topics to be gone", LIMIT, || {
        let left: Vec<String> = driver.list_topics(&bootstrap).into_iter().filter(|t| t.starts_with(kinds)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let restored = mirror.json(&["restore", "--to", "from", "--yes"], 0);
    assert_same(&before, &driver.records(&bootstrap, kinds, "read_committed"), 3);
    // The cleaner may have gone on with what was compact already.
    let after: Vec<_> = driver.records(&bootstrap, compacted, "read_committed");
    assert_eq!(newest(&before_compacted), newest(&after));
    let configs = driver.topic_configs(&bootstrap, kinds);
    assert_eq!(configs.get("max.message.bytes").map(String::as_str), Some("2000000"), "{restored}");
    let configs = driver.topic_configs(&bootstrap, compacted);
    assert_eq!(configs.get("cleanup.policy").map(String::as_str), Some("compact"));
    let rest = driver.read_on(&bootstrap, "bk-kinds-readers", kinds, "classic", None);
    let all: usize = [&read, &rest].iter().map(|records| records.len()).sum();
    assert_eq!(all, before.len(), "nothing read again, nothing skipped");
    let mut both: Vec<_> =
        read.iter().chain(&rest).map(|r| (r.partition, r.timestamp, r.key.clone(), r.value.clone())).collect();
    let mut expected: Vec<_> =
        before.iter().map(|r| (r.partition, r.timestamp, r.key.clone(), r.value.clone())).collect();
    both.sort();
    expected.sort();
    assert!(both == expected, "the group has seen every record once");
}

/// Partition, offset, timestamp, key, value and headers, bytes as base64.
type Exported = (i32, i64, i64, Option<String>, Option<String>, Vec<(String, Option<String>)>);

fn consumed(records: &[FullRecord]) -> Vec<Exported> {
    let of = |r: &FullRecord| (r.partition, r.offset, r.timestamp, r.key.clone(), r.value.clone(), r.headers.clone());
    records.iter().map(of).collect()
}

/// What `archive export` has of a live topic.
fn exported(mirror: &Mirror, topic: &str) -> Vec<Exported> {
    let output = mirror.output(&["archive", "export", "--cluster", "from", "--topic", topic]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let base64 = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(BASE64_STANDARD.encode(text)),
        other => Some(other["base64"].as_str().unwrap().to_owned()),
    };
    let header = |header: &Value| (header[0].as_str().unwrap().to_owned(), base64(&header[1]));
    let number = |value: &Value| value.as_i64().unwrap();
    let of = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (
            number(&line["partition"]) as i32,
            number(&line["offset"]),
            number(&line["timestamp_ms"]),
            base64(&line["key"]),
            base64(&line["value"]),
            line["headers"].as_array().unwrap().iter().map(header).collect(),
        )
    };
    std::str::from_utf8(&output.stdout).unwrap().lines().map(of).collect()
}

/// The newest value of each key.
fn newest(records: &[FullRecord]) -> std::collections::BTreeMap<(i32, Option<String>), Option<String>> {
    records.iter().map(|record| ((record.partition, record.key.clone()), record.value.clone())).collect()
}

/// kill -9 again and again, of the backup and of the restore: nothing is missing in the end, and nothing there twice.
#[test]
fn killed_at_any_moment_nothing_is_missing_and_nothing_twice() {
    if !real_kafka_wanted("killed_at_any_moment_nothing_is_missing_and_nothing_twice") {
        return;
    }
    let (driver, bootstrap, topic) = (driver(), source().bootstrap(), "bk-killed");
    driver.create_topic(&bootstrap, &TopicSpec::new(topic, 4));
    let (mirror, _) = backed(topic, "    segment_bytes: 1MiB\n    limits: { bandwidth: 24MiB }\n");
    let spec = Produce { partitions: 4, batch_size: 30_000, ..Produce::new(topic, 200_000) };
    driver.produce(&bootstrap, &spec);
    driver.transact(&bootstrap, &Transact::new(Produce { count: 20_000, seed: 7, ..spec }));
    let before = driver.dump(&bootstrap, &[topic]);
    let mut units = Vec::new();
    for round in 0..12_u64 {
        let log = format!("backup-{round}.log");
        let mut pass = mirror.spawn(&["backup", "--commit-every", "150ms"], &log);
        std::thread::sleep(Duration::from_millis(120 + 90 * round));
        pass.kill();
        let list = mirror.json(&["archive", "list"], 0);
        units.push(list["chains"][0]["units"].as_i64().unwrap_or(0));
    }
    assert!(units.is_sorted() && units.last() > Some(&1), "the manifests on the way count: {units:?}");
    let report = mirror.json(&["backup"], 0);
    assert_eq!(report["pass"]["problems"].as_array().map(Vec::len), Some(0), "{report}");
    mirror.json(&["archive", "verify"], 0);
    let shown = mirror.json(&["archive", "show"], 0);
    assert_contiguous(&shown);

    for round in 0..8_u64 {
        let mut restoring =
            mirror.spawn(&["restore", "--to", "to", "--no-quotas", "--yes"], &format!("restore-{round}.log"));
        std::thread::sleep(Duration::from_millis(300 + 150 * round));
        restoring.kill();
    }
    let output = mirror.output(&["restore", "--to", "to", "--no-quotas", "--yes", "--json"]);
    let done = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() || done.contains("is done already"),
        "{done}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let after = driver.dump(&target().bootstrap(), &[topic]);
    for partition in 0..4 {
        let (here, there) =
            (crate::e2e::failover::of(&before, topic, partition), crate::e2e::failover::of(&after, topic, partition));
        assert_eq!(
            crate::e2e::failover::contents(here).len(),
            crate::e2e::failover::contents(there).len(),
            "partition {partition}"
        );
        assert!(
            crate::e2e::failover::contents(here) == crate::e2e::failover::contents(there),
            "partition {partition} differs"
        );
    }
}

/// Segments of a partition follow one another without a hole.
fn assert_contiguous(shown: &Value) {
    for partition in shown["partitions"].as_array().expect("partitions") {
        let mut at = partition["from"].as_i64().unwrap();
        for segment in partition["segments"].as_array().unwrap() {
            assert_eq!(segment["from"].as_i64(), Some(at), "{partition}");
            at = segment["to"].as_i64().unwrap();
        }
        assert_eq!(partition["to"].as_i64(), Some(at), "{partition}");
    }
}
