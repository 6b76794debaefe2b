//! Straight from a live topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kmirror::batch::{ATTR_TRANSACTIONAL, Codec, Record, Stamp, encode};
use kmirror::broker::{Action, Cluster};
use serde_json::Value;
use tokio::sync::Notify;

use super::Backed;
use crate::e2e::mirror::LIMIT;
use crate::embedded::Pair;
use crate::kafka::harness::wait_until;

const START_MS: i64 = 1_790_000_000_000;

/// A topic of one batch a second, each of five records.
fn timed(topic: &str, batches: i64) -> Pair {
    let pair = Pair::new(topic, 1, 1, "");
    for batch in 0..batches {
        append_batch(&pair.source, topic, batch * 5..batch * 5 + 5, START_MS + batch * 1_000);
    }
    pair
}

fn append_batch(cluster: &Cluster, topic: &str, numbers: std::ops::Range<i64>, at_ms: i64) {
    let record = |n: i64| (Some(Bytes::from(format!("k{}", n % 5))), Some(Bytes::from(n.to_string())));
    let records: Vec<_> = numbers.map(record).collect();
    cluster.append_records(topic, 0, Codec::Lz4, at_ms, &records).unwrap();
}

fn transaction(cluster: &Cluster, topic: &str, (producer_id, base_sequence): (i64, i32), value: &'static str) {
    let record = Record {
        offset: 0,
        timestamp: START_MS,
        attributes: 0,
        key: None,
        value: Some(Bytes::from_static(value.as_bytes())),
        headers: Vec::new(),
    };
    let stamp = Stamp { producer_id, producer_epoch: 0, base_sequence };
    let mut bytes = encode(&[record], Codec::None, stamp).unwrap().bytes.to_vec();
    bytes[22] |= ATTR_TRANSACTIONAL as u8;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    cluster.append(topic, 0, bytes.into()).unwrap();
}

/// What `archive export` of the live topic writes to stdout.
fn lines(pair: &Pair, more: &[&str]) -> Vec<Value> {
    let base = ["archive", "export", "--cluster", "from", "--topic", pair.topic.as_str()];
    let output = pair.mirror.output(&[&base[..], more].concat());
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn values(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["value"].as_str().unwrap()).collect()
}

fn numbers(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// The same bytes as from an archive, sieved in the same way; a time is skipped to, not read up to.
#[test]
fn a_live_topic_is_exported_as_an_archive_is() {
    let backed = Backed::new("live", 2, 1, "");
    let pair = &backed.pair;
    for partition in 0..2 {
        pair.write(partition, 0, 10);
    }
    append_batch(&pair.source, "live", 10..15, START_MS + 500_000);
    backed.backup(&[], 0);
    for more in [
        &[][..],
        &["--partition", "live:0", "--offsets", "3..12"],
        &["--since", "2026-09-21T14:21:40Z"],
        &["--until", "2026-09-21T14:21:40Z"],
        &["--key", "k3"],
    ] {
        let archived = pair.mirror.output(&[&["archive", "export"], more].concat());
        let live = pair.mirror.output(&[&["archive", "export", "--cluster", "from", "--topic", "live"], more].concat());
        assert!(live.status.success() && !live.stdout.is_empty(), "{more:?}: {live:?}");
        assert_eq!(String::from_utf8_lossy(&archived.stdout), String::from_utf8_lossy(&live.stdout), "{more:?}");
    }
    let file = pair.mirror.folder().join("live.jsonl");
    let to_file = ["archive", "export", "--cluster", "from", "--topic", "live", "--out", file.to_str().unwrap()];
    let report = pair.mirror.json(&[&to_file[..], &["--since", "2026-09-21T14:21:40Z"]].concat(), 0);
    assert_eq!(
        (report["records"].as_i64(), &report["files"][0]),
        (Some(5), &file.to_str().unwrap().into()),
        "{report}"
    );
    let first = &report["partitions"][0];
    assert_eq!((&first["from"], &first["to"]), (&10.into(), &15.into()), "the broker said where: {report}");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 5);
    let again = pair.mirror.output(&to_file);
    assert_eq!(again.status.code(), Some(1), "it is not written over: {again:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 5);
}

/// A consumer under read_committed sees neither what was aborted nor what is not decided; the rest is to be had by asking for it.
#[test]
fn what_does_not_count_is_left_out_unless_asked_for() {
    let pair = timed("undecided", 2);
    transaction(&pair.source, "undecided", (7, 0), "aborted");
    append_batch(&pair.source, "undecided", 10..15, START_MS + 2_000);
    pair.source.write_markers("undecided", 0, (7, 0), false).unwrap();
    // Of the same producer, later: this one counts.
    transaction(&pair.source, "undecided", (7, 1), "committed");
    pair.source.write_markers("undecided", 0, (7, 0), true).unwrap();
    transaction(&pair.source, "undecided", (8, 0), "open");
    append_batch(&pair.source, "undecided", 15..20, START_MS + 3_000);
    let counted: Vec<String> = [numbers(0..15), vec!["committed".to_owned()]].concat();
    assert_eq!(values(&lines(&pair, &[])), counted);
    let file = pair.mirror.folder().join("counted.jsonl");
    let args = ["archive", "export", "--cluster", "from", "--topic", ".*", "--out", file.to_str().unwrap()];
    let report = pair.mirror.json(&args, 0);
    assert_eq!(report["partitions"].as_array().map(Vec::len), Some(1), "no topic of Kafka's own: {report}");
    let first = &report["partitions"][0];
    assert_eq!((&first["records"], &first["undecided_offsets"]), (&16.into(), &6.into()), "{report}");
    let all = lines(&pair, &["--with-aborted"]);
    let expected: Vec<String> = [
        numbers(0..10),
        vec!["aborted".to_owned()],
        numbers(10..15),
        vec!["committed".to_owned(), "open".to_owned()],
        numbers(15..20),
    ]
    .concat();
    assert_eq!(values(&all), expected);
}

/// The log begins within a batch: what is in front of it was deleted, though the broker still sends it.
#[test]
fn what_was_deleted_within_a_batch_stays_away() {
    let pair = timed("within", 4);
    pair.source.delete_before("within", 0, 7).unwrap();
    assert_eq!(values(&lines(&pair, &[])), numbers(7..20));
    assert_eq!(values(&lines(&pair, &["--offsets", "0..9"])), numbers(7..9));
    // Records of a time are further on than the first of it, in a log whose time goes back.
    append_batch(&pair.source, "within", 20..25, START_MS);
    let since =
        humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + Duration::from_millis(START_MS as u64 + 3_000));
    assert_eq!(values(&lines(&pair, &["--since", &since.to_string()])), numbers(15..20));
}

/// Retention passes by while the export reads: what is left is exported, and the loss is loud.
#[test]
fn what_retention_takes_on_the_way_is_told() {
    let pair = timed("overtaken", 4);
    let go = Arc::new(Notify::new());
    let hold = Arc::clone(&go);
    let hook = pair.source.intercept(ApiKey::Fetch, Some(1), move |_| Action::HoldUntil(Arc::clone(&hold)));
    let file = pair.mirror.folder().join("left.jsonl");
    let args =
        ["archive", "export", "--cluster", "from", "--partition", "overtaken:0", "--out", file.to_str().unwrap()];
    let mut exporting = pair.mirror.spawn(&args, "export.log");
    wait_until("the first read", LIMIT, || if hook.hits() == 1 { Ok(()) } else { Err("none yet".to_owned()) });
    assert!(!file.exists(), "it has no name before it is whole");
    pair.source.delete_before("overtaken", 0, 10).unwrap();
    go.notify_one();
    assert_eq!(exporting.wait_exit(LIMIT), 3, "{}", exporting.log_tail());
    let text = std::fs::read_to_string(&file).unwrap();
    let found: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values(&found), numbers(10..20));
    let said = std::fs::read_to_string(pair.mirror.folder().join("out")).unwrap();
    assert!(said.contains("LOST overtaken:0: 10 offsets"), "{said}");
}

/// More than one read, and a leader that moves on the way: every record once.
#[test]
fn a_large_topic_comes_whole() {
    let pair = Pair::new("large", 2, 1, "");
    let value = Bytes::from(vec![b'x'; 10_000]);
    for _ in 0..60 {
        let records: Vec<_> = (0..10).map(|_| (None, Some(value.clone()))).collect();
        pair.source.append_records("large", 0, Codec::None, START_MS, &records).unwrap();
    }
    let (go, reads) = (Arc::new(Notify::new()), AtomicU64::new(0));
    let hold = Arc::clone(&go);
    let hook = pair.source.intercept(ApiKey::Fetch, None, move |_| match reads.fetch_add(1, Ordering::SeqCst) {
        2 => Action::HoldUntil(Arc::clone(&hold)),
        _ => Action::Pass,
    });
    let file = pair.mirror.folder().join("large.jsonl");
    let args = ["archive", "export", "--cluster", "from", "--topic", "large", "--out", file.to_str().unwrap()];
    let mut exporting = pair.mirror.spawn(&args, "export.log");
    wait_until("the third read", LIMIT, || if hook.hits() == 1 { Ok(()) } else { Err("not yet".to_owned()) });
    pair.source.move_leader("large", 0, 2).unwrap();
    go.notify_one();
    assert_eq!(exporting.wait_exit(LIMIT), 0, "{}", exporting.log_tail());
    let text = std::fs::read_to_string(&file).unwrap();
    let offset = |line: &str| serde_json::from_str::<Value>(line).unwrap()["offset"].as_i64().unwrap();
    assert_eq!(text.lines().map(offset).collect::<Vec<i64>>(), (0..600).collect::<Vec<i64>>());
}

/// What cannot be done is refused with the way to do it.
#[test]
fn a_slip_of_the_keys_says_what_is_right() {
    let pair = timed("slips", 1);
    let refused = |args: &[&str], code: i32, words: &str| {
        let output = pair.mirror.output(&[&["archive", "export"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(words), "{args:?}: {output:?}");
    };
    refused(&["--cluster", "from"], 2, "--cluster needs --topic or --partition");
    refused(&["--cluster", "nowhere", "--topic", "slips"], 2, "there are: from, to");
    refused(&["--cluster", "from", "--topic", "slip"], 3, "no partition is meant");
    refused(&["--cluster", "from", "--partition", "slips:7"], 3, "no partition is meant");
    refused(&["--cluster", "from", "--topic", "slips", "--backup", "b"], 2, "cannot be used with");
    refused(&["--cluster", "from", "--topic", "slips", "--format", "parquet"], 2, "--out");
    #[cfg(not(feature = "parquet"))]
    refused(
        &["--cluster", "from", "--topic", "slips", "--format", "parquet", "--out", "lake"],
        2,
        "--features parquet",
    );
}
