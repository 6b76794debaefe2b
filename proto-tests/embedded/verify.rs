//! Both sides compared: what is planted on one of them is found, and what is not there is not.

use bytes::Bytes;
use kmirror::batch::{Codec, Record, Stamp, encode};
use serde_json::Value;

use super::{Pair, append, numbered};
use crate::e2e::Mirror;

const WRITTEN_AT: i64 = 1_790_000_000_000;

impl Pair {
    /// The one partition of `verify --json`.
    fn verified(&self, args: &[&str], code: i32) -> Value {
        let report = self.mirror.json(&[&["verify"], args].concat(), code);
        assert_eq!(report["schema_version"], 1, "{report}");
        report["partitions"][0].clone()
    }

    /// Cuts the target's end off at `from` and puts these records there instead, with their offsets.
    fn replant(&self, from: i64, records: &[Record]) {
        self.target.truncate(&self.topic, 0, from).unwrap();
        let batch = encode(records, Codec::None, Stamp::NONE).unwrap();
        let mut bytes = batch.bytes.to_vec();
        bytes[..8].copy_from_slice(&records[0].offset.to_be_bytes());
        self.target.place(&self.topic, 0, bytes.into()).unwrap();
    }

    fn on_target(&self, from: i64) -> Vec<Record> {
        self.target.records(&self.topic, 0, from).unwrap()
    }
}

fn counts(row: &Value) -> [i64; 6] {
    ["equal", "differing", "missing", "extra", "in_gaps", "not_comparable"].map(|name| row[name].as_i64().unwrap())
}

/// Twelve records in three batches of four, each too large to be joined with others.
fn three_batches(topic: &str) -> Pair {
    let mut pair = Pair::new(topic, 2, 1, "    limits: { coalesced_batch: 0 }\n");
    for batch in 0..3 {
        pair.write(0, batch * 4, batch * 4 + 4);
    }
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 12));
    pair
}

#[test]
fn what_passed_through_is_the_same_and_told_so_by_checksum_while_the_mirror_runs() {
    let mut pair = three_batches("verify-same");
    for args in [&[][..], &["--bytes"], &["--sample", "3"]] {
        let row = pair.verified(args, 0);
        assert_eq!(row["result"], "equal", "{row}");
        assert_eq!(counts(&row), [12, 0, 0, 0, 0, 0], "{row}");
        assert_eq!((&row["batches_by_crc"], &row["batches_by_record"]), (&3.into(), &0.into()), "{row}");
        assert_eq!((&row["from"], &row["to"]), (&0.into(), &12.into()), "{row}");
    }
    pair.mirror.stop();
}

#[test]
fn a_record_that_differs_is_named_by_its_offsets_and_by_what_differs() {
    type Change = fn(&mut Record);
    let changes: [(&str, Change); 4] = [
        ("key", |record| record.key = None),
        ("value", |record| record.value = Some(Bytes::from("other"))),
        ("headers", |record| record.headers.push((Bytes::from("h"), None))),
        ("timestamp", |record| record.timestamp += 1),
    ];
    let mut pair = three_batches("verify-differs");
    pair.mirror.stop();
    let before = pair.on_target(8);
    for (what, change) in changes {
        let mut records = before.clone();
        change(&mut records[1]);
        pair.replant(8, &records);
        let row = pair.verified(&[], 3);
        assert_eq!((&row["result"], counts(&row)), (&"problems".into(), [11, 1, 0, 0, 0, 0]), "{row}");
        let expected = serde_json::json!([{
            "kind": "differing", "from": 9, "to": 10, "source_offset": 9, "target_offset": 9, "what": [what],
        }]);
        assert_eq!(row["problems"], expected, "{row}");
    }
    let output = pair.mirror.output(&["verify"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("PROBLEM verify-differs:0: source offsets [9, 10) differ"), "{text}");
}

#[test]
fn records_that_are_lost_and_records_that_should_not_be_there_are_told_apart() {
    let mut pair = three_batches("verify-lost");
    pair.mirror.stop();
    let last = pair.on_target(8);
    // The middle batch is gone, though nothing compacts this topic.
    pair.target.truncate("verify-lost", 0, 4).unwrap();
    let batch = encode(&last, Codec::None, Stamp::NONE).unwrap();
    let mut bytes = batch.bytes.to_vec();
    bytes[..8].copy_from_slice(&8_i64.to_be_bytes());
    pair.target.place("verify-lost", 0, bytes.into()).unwrap();
    append(&pair.target, "verify-lost", 0, "foreign-", 0, 2);
    let row = pair.verified(&[], 3);
    assert_eq!(counts(&row), [8, 0, 4, 2, 0, 0], "{row}");
    let expected = serde_json::json!([
        { "kind": "missing", "from": 4, "to": 8, "source_offset": 4, "target_offset": null, "what": ["not_on_target"] },
        { "kind": "extra", "from": 12, "to": 14, "source_offset": null, "target_offset": 12, "what": ["not_of_the_mirror"] },
    ]);
    assert_eq!(row["problems"], expected, "{row}");
}

/// Twelve records as in [`three_batches`], of a topic with these configs; the mirror has stopped.
fn kept_as(topic: &str, configs: &[(&str, &str)]) -> Pair {
    let mut pair = Pair::matching(topic, topic, 2, "    limits: { coalesced_batch: 0 }\n");
    pair.source.create_topic(topic, 1, 1, configs).unwrap();
    (0..3).for_each(|batch| pair.write(0, batch * 4, batch * 4 + 4));
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 12));
    pair.mirror.stop();
    pair
}

#[test]
fn what_the_target_deleted_without_a_reason_is_missing() {
    let pair = kept_as("verify-deleted", &[("retention.ms", "-1")]);
    pair.target.delete_before("verify-deleted", 0, 6).unwrap();
    let row = pair.verified(&[], 3);
    assert_eq!((&row["result"], counts(&row)), (&"problems".into(), [6, 0, 6, 0, 0, 0]), "{row}");
    let expected = serde_json::json!([{
        "kind": "missing", "from": 0, "to": 6, "source_offset": 0, "target_offset": 0, "what": ["deleted_on_target"],
    }]);
    assert_eq!(row["problems"], expected, "{row}");
    pair.target.delete_before("verify-deleted", 0, 12).unwrap();
    for args in [&[][..], &["--sample", "1"]] {
        let row = pair.verified(args, 3);
        assert_eq!(counts(&row), [0, 0, 12, 0, 0, 0], "{row}");
    }
}

/// The target's retention goes by the records' time: an hour less than their age reaches all of them, an hour more none.
#[test]
fn what_retention_by_time_may_have_taken_is_told_from_what_it_cannot() {
    let hour_ms = 3_600_000;
    let age_ms = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64 - WRITTEN_AT;
    assert!(age_ms > hour_ms, "the records are of the past");
    for (name, retention_ms, code, found) in [
        ("verify-old", age_ms - hour_ms, 0, [6, 0, 0, 0, 0, 6]),
        ("verify-young", age_ms + hour_ms, 3, [6, 0, 6, 0, 0, 0]),
    ] {
        let pair = kept_as(name, &[("retention.ms", &retention_ms.to_string())]);
        pair.target.delete_before(name, 0, 6).unwrap();
        let row = pair.verified(&[], code);
        assert_eq!(counts(&row), found, "{row}");
    }
}

/// Records that would come next are not compared with somebody else's.
#[test]
fn what_somebody_else_wrote_behind_the_mirrors_records_is_extra_whatever_waits_on_the_source() {
    let mut pair = three_batches("verify-tail");
    pair.mirror.stop();
    pair.write(0, 12, 20);
    append(&pair.target, "verify-tail", 0, "foreign-", 0, 3);
    for args in [&[][..], &["--sample", "1"]] {
        let row = pair.verified(args, 3);
        assert_eq!((counts(&row), &row["to"]), ([12, 0, 0, 3, 0, 0], &12.into()), "{row}");
        let problem = &row["problems"][0];
        assert_eq!((&problem["from"], &problem["to"]), (&12.into(), &15.into()), "{row}");
        assert_eq!(problem["what"], serde_json::json!(["not_of_the_mirror"]), "{row}");
    }
}

#[test]
fn another_cluster_behind_the_address_is_refused() {
    let mut pair = three_batches("verify-cluster");
    pair.mirror.stop();
    let other = Pair::new("verify-cluster-other", 1, 1, "");
    let addresses = [&other.source, &pair.target].map(|cluster| cluster.bootstrap().join(","));
    let mirror = Mirror::between("verify-cluster", &addresses[0], &addresses[1], &["verify-cluster"], "");
    let refused = mirror.output(&["verify"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("cluster from has id verify-cluster-other-source"), "{said}");
}

/// A batch that nobody can read and whose loss was accepted keeps nobody from comparing the others.
#[test]
fn a_batch_of_another_format_that_was_given_up_is_a_gap() {
    let mut pair = Pair::new("verify-format", 1, 1, "");
    (0..3).for_each(|batch| pair.write(0, batch * 10, batch * 10 + 10));
    crate::nemesis::serve_another_format(&pair, 10);
    pair.mirror.start();
    let (_, command) = pair.await_halt();
    pair.obey(&command);
    pair.await_values(0, &[numbered("", 0, 10), numbered("", 20, 30)].concat());
    pair.mirror.await_caught_up(1);
    pair.mirror.stop();
    let row = pair.verified(&[], 0);
    assert_eq!((counts(&row), &row["gaps_by_reason"]["accepted"]), ([20, 0, 0, 0, 10, 0], &10.into()), "{row}");
}

#[test]
fn what_retention_took_on_either_side_cannot_be_compared() {
    // By size: nobody can tell what it took, and when.
    let pair = kept_as("verify-retention", &[("retention.bytes", "1000000000")]);
    pair.source.delete_before("verify-retention", 0, 2).unwrap();
    pair.target.delete_before("verify-retention", 0, 5).unwrap();
    for args in [&[][..], &["--sample", "1"]] {
        let row = pair.verified(args, 0);
        assert_eq!(counts(&row), [7, 0, 0, 0, 0, 5], "{row}");
        let expected = serde_json::json!([
            { "reason": "source_retention", "from": 0, "to": 2 }, { "reason": "target_retention", "from": 2, "to": 5 },
        ]);
        assert_eq!(row["not_comparable_ranges"], expected, "{row}");
    }
    pair.target.delete_before("verify-retention", 0, 12).unwrap();
    let row = pair.verified(&[], 0);
    assert_eq!((&row["result"], counts(&row)), (&"nothing_to_compare".into(), [0, 0, 0, 0, 0, 12]), "{row}");
}

#[test]
fn what_a_cleaner_took_is_told_from_what_is_lost() {
    let mut pair = three_batches("verify-compacted");
    pair.mirror.stop();
    let odd = |record: &Record| record.offset % 2 == 1;
    pair.target.punch_holes("verify-compacted", 0, odd).unwrap();
    let row = pair.verified(&[], 0);
    // The last batch of a log is never cleaned.
    assert_eq!(counts(&row), [8, 0, 0, 0, 0, 4], "{row}");
    assert_eq!(row["not_comparable_by_reason"], serde_json::json!({ "target_compaction": 4 }), "{row}");
    pair.source.punch_holes("verify-compacted", 0, |record| record.offset != 1).unwrap();
    let row = pair.verified(&[], 0);
    assert_eq!(counts(&row), [7, 0, 0, 0, 0, 5], "{row}");
    assert_eq!(row["not_comparable_by_reason"]["source_compaction"], 1, "{row}");
}

#[test]
fn on_a_compacted_target_a_record_is_missing_only_without_a_newer_one_of_its_key() {
    let mut pair = Pair::matching("verify-keyed", "verify-keyed", 2, "    limits: { coalesced_batch: 0 }\n");
    pair.source.create_topic("verify-keyed", 1, 1, &[("cleanup.policy", "compact")]).unwrap();
    for keys in [0..2, 0..2, 2..4, 9..10] {
        pair.write(0, keys.start, keys.end);
    }
    pair.mirror.start();
    pair.await_values(0, &[numbered("", 0, 2), numbered("", 0, 4), numbered("", 9, 10)].concat());
    pair.mirror.stop();
    pair.target.compact("verify-keyed", 0).unwrap();
    let row = pair.verified(&[], 0);
    assert_eq!(counts(&row), [5, 0, 0, 0, 0, 2], "{row}");
    // Keys 2 and 3 are nowhere else.
    pair.target.punch_holes("verify-keyed", 0, |record| !(4..6).contains(&record.offset)).unwrap();
    let row = pair.verified(&[], 3);
    assert_eq!(
        (counts(&row), &row["problems"][0]["what"][0]),
        ([3, 0, 2, 0, 0, 2], &"no_newer_record".into()),
        "{row}"
    );
    let row = pair.verified(&["--sample", "1"], 0);
    assert_eq!(row["not_comparable_by_reason"]["target_compaction_unproven"], 4, "{row}");
}

#[test]
fn a_source_topic_that_was_made_again_cannot_be_compared() {
    let mut pair = three_batches("verify-again");
    pair.mirror.stop();
    assert!(pair.source.delete_topic("verify-again"));
    pair.source.create_topic("verify-again", 1, 1, &[]).unwrap();
    let row = pair.verified(&[], 0);
    assert_eq!((&row["result"], counts(&row)), (&"nothing_to_compare".into(), [0, 0, 0, 0, 0, 12]), "{row}");
    assert_eq!(row["not_comparable_by_reason"], serde_json::json!({ "source_gone": 12 }), "{row}");
}

#[test]
fn what_the_mirror_found_on_the_target_is_not_compared_and_its_losses_are_gaps() {
    let mut pair = Pair::new("verify-before", 2, 1, "    on: { foreign_records: continue }\n");
    pair.target.create_topic("verify-before", 1, 1, &[]).unwrap();
    append(&pair.target, "verify-before", 0, "foreign-", 0, 3);
    pair.write(0, 0, 10);
    pair.source.delete_before("verify-before", 0, 4).unwrap();
    pair.mirror.start();
    pair.await_values(0, &[numbered("foreign-", 0, 3), numbered("", 4, 10)].concat());
    pair.mirror.stop();
    let row = pair.verified(&[], 0);
    assert_eq!(counts(&row), [6, 0, 0, 0, 4, 0], "{row}");
    assert_eq!(row["gaps"], serde_json::json!([{ "reason": "start", "from": 0, "to": 4 }]), "{row}");
    assert!(row["before_map"].as_i64() >= Some(3), "{row}");
}

#[test]
fn transactions_leave_gaps_that_are_looked_into() {
    let mut pair = Pair::new("verify-txn", 2, 1, "");
    let transaction = |producer_id: i64, prefix: &str, commit: bool| {
        let record = |number: i64| Record {
            offset: number,
            timestamp: WRITTEN_AT,
            attributes: 0,
            key: None,
            value: Some(Bytes::from(format!("{prefix}{number}"))),
            headers: Vec::new(),
        };
        let stamp = Stamp { producer_id, producer_epoch: 0, base_sequence: 0 };
        let records: Vec<Record> = (0..3).map(record).collect();
        let batch = encode(&records, Codec::None, stamp).unwrap();
        let mut header = batch.header;
        header.attributes |= kmirror::batch::ATTR_TRANSACTIONAL;
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(&batch.payload());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        pair.source.append("verify-txn", 0, bytes.into()).unwrap();
        pair.source.write_markers("verify-txn", 0, (producer_id, 0), commit).unwrap();
    };
    transaction(70, "kept-", true);
    transaction(71, "aborted-", false);
    transaction(72, "more-", true);
    pair.write(0, 0, 2);
    pair.mirror.start();
    pair.await_values(0, &[numbered("kept-", 0, 3), numbered("more-", 0, 3), numbered("", 0, 2)].concat());
    pair.mirror.stop();
    let row = pair.verified(&[], 0);
    assert_eq!(counts(&row), [8, 0, 0, 0, 6, 0], "{row}");
    assert_eq!(row["gaps_by_reason"], serde_json::json!({ "control": 3, "aborted": 3 }), "{row}");
}

#[test]
fn batches_that_were_joined_are_compared_record_by_record() {
    let mut pair = Pair::new("verify-joined", 2, 1, "");
    for number in 0..200 {
        pair.write(0, number, number + 1);
    }
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 200));
    pair.mirror.kill();
    // A marker lies between.
    pair.write(0, 200, 210);
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 210));
    pair.mirror.stop();
    let row = pair.verified(&[], 0);
    assert_eq!(counts(&row), [210, 0, 0, 0, 0, 0], "{row}");
    assert!(row["batches_by_record"].as_i64() > Some(100), "{row}");
}

#[test]
fn a_partition_that_is_named_and_not_mirrored_is_a_problem() {
    let mut pair = three_batches("verify-named");
    pair.mirror.stop();
    let report = pair.mirror.json(&["verify", "--partition", "verify-named:0", "--topic", "other"], 3);
    assert_eq!(report["not_mirrored"], serde_json::json!(["other"]), "{report}");
    assert_eq!(report["partitions"][0]["result"], "equal", "{report}");
}

#[test]
fn a_target_topic_that_is_gone_stops_no_other_partition() {
    let mut pair = Pair::new("verify-gone", 2, 2, "");
    pair.write(0, 0, 3);
    pair.write(1, 0, 3);
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 3));
    pair.await_values(1, &numbered("", 0, 3));
    pair.mirror.stop();
    pair.target.set_leaderless("verify-gone", 0).unwrap();
    let report = pair.mirror.json(&["verify"], 4);
    let results: Vec<&Value> = report["partitions"].as_array().unwrap().iter().map(|row| &row["result"]).collect();
    assert_eq!(results, ["failed", "equal"], "{report}");
    assert!(pair.target.delete_topic("verify-gone"));
    let row = pair.verified(&[], 3);
    assert_eq!(row["result"], "failed", "{row}");
    assert!(row["detail"].as_str().unwrap().contains("made again"), "{row}");
}
