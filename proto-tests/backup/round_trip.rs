//! There and back.

use bytes::Bytes;
use kmirror::batch::Codec;
use kmirror::broker::Cluster;
use serde_json::Value;

use super::Backed;
use crate::e2e::mirror::LIMIT;
use crate::embedded::{numbered, value};
use crate::kafka::harness::wait_until;

fn pass(report: &Value, field: &str) -> i64 {
    report["pass"][field].as_i64().unwrap_or_else(|| panic!("{field}: {report}"))
}

/// Records of one batch, a millisecond apart.
fn append_at(cluster: &Cluster, topic: &str, codec: Codec, at_ms: i64, numbers: std::ops::Range<u64>) {
    for number in numbers.clone() {
        let record = (None, Some(Bytes::from(number.to_string())));
        let at = at_ms + (number - numbers.start) as i64;
        cluster.append_records(topic, 0, codec, at, &[record]).unwrap();
    }
}

fn values(cluster: &Cluster, topic: &str, partition: i32) -> Vec<String> {
    cluster.records(topic, partition, 0).unwrap().iter().map(value).collect()
}

/// Full, incremental, and nothing new; then back, record for record, with offsets that translate and groups that go on.
#[test]
fn what_was_backed_up_comes_back() {
    let backed = Backed::new("there-and-back", 3, 1, "");
    let pair = &backed.pair;
    for partition in 0..3 {
        pair.write(partition, 0, 10);
    }
    let first = backed.backup(&[], 0);
    assert_eq!((pass(&first, "unit"), pass(&first, "records")), (1, 30), "{first}");
    pair.write(1, 10, 25);
    pair.source.commit_offset("readers", &pair.topic, 1, 17);
    pair.source.commit_offset("ahead", &pair.topic, 0, 99);
    let second = backed.backup(&[], 0);
    assert_eq!((pass(&second, "unit"), pass(&second, "records")), (2, 15), "{second}");
    let third = backed.backup(&[], 0);
    assert_eq!((pass(&third, "unit"), pass(&third, "segments")), (3, 0), "{third}");
    let found = backed.archive(&["verify"], 0);
    assert_eq!(found["damages"].as_array().map(Vec::len), Some(0), "{found}");

    let plan = pair.mirror.json(&["restore", "--to", "to", "--dry-run"], 0);
    assert_eq!(plan["partitions"].as_array().map(Vec::len), Some(3), "{plan}");
    assert!(pair.target.topics().is_empty(), "a dry run changes nothing");
    let restored = backed.restore(&[], 0);
    assert_eq!(restored["restored"]["offsets"], 45, "{restored}");
    for (partition, end) in [(0, 10), (1, 25), (2, 10)] {
        assert_eq!(pair.values(&pair.target, partition), numbered("", 0, end));
    }
    assert_eq!(pair.target.group_offsets("readers")[&(pair.topic.clone(), 1)].offset, 17, "{restored}");
    assert_eq!(
        pair.target.group_offsets("ahead")[&(pair.topic.clone(), 0)].offset,
        10,
        "no further than what is there"
    );
    for offset in [0, 9, 24] {
        let more = ["--mirror", "restore.nightly.to"];
        assert_eq!(pair.mirror.translate(&pair.topic, 1, offset, &more), (offset, None));
    }
    // It is done: what would be restored once more is there already.
    let again = backed.restore(&["--suffix", "again"], 3);
    let obstacles = again["obstacles"].as_array().expect("obstacles");
    assert!(obstacles[0].as_str().unwrap().contains("holds records already"), "{again}");
    let renamed = backed.restore(&["--suffix", "again", "--rename", "old.{topic}", "--topic", ".*"], 0);
    assert_eq!(renamed["restored"]["offsets"], 45, "{renamed}");
    assert_eq!(values(&pair.target, "old.there-and-back", 1), numbered("", 0, 25));
}

/// What is younger than the moment stays away: between two batches, within one, in a compressed one, and a transaction that was open.
#[test]
fn a_moment_cuts_within_batches_and_in_front_of_open_transactions() {
    let backed = Backed::new("moment", 1, 1, "");
    let (pair, start) = (&backed.pair, 1_790_000_000_000);
    append_at(&pair.source, "moment", Codec::None, start, 0..5);
    let record = |number: u64| (None, Some(Bytes::from(number.to_string())));
    let batch: Vec<_> = (5..10).map(record).collect();
    // One batch, all of one moment; then one by one again.
    pair.source.append_records("moment", 0, Codec::Lz4, start + 100, &batch).unwrap();
    append_at(&pair.source, "moment", Codec::Zstd, start + 200, 10..20);
    backed.backup(&[], 0);
    for (suffix, at_ms, expected) in [
        ("a", start - 1, 0),
        ("b", start + 2, 3),
        ("c", start + 99, 5),
        ("d", start + 100, 10),
        ("e", start + 204, 15),
        ("f", start + 9999, 20),
    ] {
        let at =
            humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + std::time::Duration::from_millis(at_ms as u64));
        let rename = format!("{suffix}.{{topic}}");
        let restored = backed.restore(&["--suffix", suffix, "--rename", &rename, "--at", &at.to_string()], 0);
        assert_eq!(restored["restored"]["offsets"], expected, "{restored}");
        if expected > 0 {
            assert_eq!(values(&pair.target, &format!("{suffix}.moment"), 0), numbered("", 0, expected), "{suffix}");
        }
    }
}

/// Offsets of one partition, from within a batch to within another.
#[test]
fn a_range_of_offsets_comes_back_alone() {
    let backed = Backed::new("range", 2, 1, "");
    let pair = &backed.pair;
    for partition in 0..2 {
        pair.write(partition, 0, 10);
        pair.write(partition, 10, 20);
    }
    backed.backup(&[], 0);
    let restored = backed.restore(&["--partition", "range:1=4..16"], 0);
    assert_eq!(restored["restored"]["offsets"], 12, "{restored}");
    assert_eq!(pair.values(&pair.target, 1), numbered("", 4, 16));
    assert!(pair.values(&pair.target, 0).is_empty());
    let more = ["--mirror", "restore.nightly.to"];
    assert_eq!(pair.mirror.translate("range", 1, 4, &more), (0, None));
    assert_eq!(pair.mirror.translate("range", 1, 15, &more), (11, None));
}

/// The standby is filled from the archive, and the mirror goes on from there: no record comes twice, and no offset is lost.
#[test]
fn a_standby_is_seeded_and_caught_up() {
    let backed = Backed::new("seeded", 1, 1, "");
    let mut pair = backed.pair;
    pair.write(0, 0, 10);
    pair.mirror.json(&["backup"], 0);
    pair.write(0, 10, 30);
    let seeded = pair.mirror.json(&["restore", "--mirror", "seeded", "--yes"], 0);
    assert_eq!(
        (&seeded["restored"]["offsets"], &seeded["restored"]["promotion"]),
        (&10.into(), &Value::Null),
        "{seeded}"
    );
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 10));
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 30));
    pair.assert_mapped(0);
    pair.mirror.stop();
}

/// What retention took before it was read is in the manifest, in the report and in the exit code's company: loud, and no problem of its own.
#[test]
fn what_was_gone_before_it_was_read_is_told() {
    let backed = Backed::new("gone", 1, 1, "");
    let pair = &backed.pair;
    pair.write(0, 0, 10);
    backed.backup(&[], 0);
    pair.write(0, 10, 20);
    pair.write(0, 20, 30);
    pair.source.delete_before("gone", 0, 20).unwrap();
    let report = backed.backup(&[], 0);
    assert_eq!((pass(&report, "lost_offsets"), pass(&report, "records")), (10, 10), "{report}");
    let shown = backed.archive(&["show"], 0);
    assert_eq!(
        shown["partitions"][0]["gaps"][0],
        serde_json::json!({ "reason": "retention", "from": 10, "to": 20 }),
        "{shown}"
    );
    let restored = backed.restore(&[], 0);
    assert_eq!(restored["restored"]["plan"]["partitions"][0]["lost_offsets"], 10, "{restored}");
    let expected: Vec<String> = [numbered("", 0, 10), numbered("", 20, 30)].concat();
    assert_eq!(pair.values(&pair.target, 0), expected);
    let more = ["--mirror", "restore.nightly.to"];
    assert_eq!(pair.mirror.translate("gone", 0, 25, &more), (15, None));
    // It was lost, and did not go by compaction.
    assert_eq!(pair.mirror.translate("gone", 0, 15, &more), (10, Some("retention".to_owned())));
}

/// A source that lost its end is not gone on with: its partition says so, the others are backed up, and a new chain begins anew.
#[test]
fn a_source_that_went_on_differently_is_not_mixed_up_with_the_archive() {
    let backed = Backed::new("shorter", 2, 1, "");
    let pair = &backed.pair;
    for partition in 0..2 {
        pair.write(partition, 0, 10);
        pair.write(partition, 10, 20);
    }
    backed.backup(&[], 0);
    pair.source.truncate("shorter", 0, 10).unwrap();
    pair.write(1, 20, 25);
    let report = backed.backup(&[], 3);
    assert_eq!(pass(&report, "records"), 5, "{report}");
    assert!(report["pass"]["problems"][0]["reason"].as_str().unwrap().contains("ends at offset 10"), "{report}");
    // It has grown beyond what the archive has, under a newer leader epoch: the records in front differ.
    pair.source.move_leader("shorter", 0, 1).unwrap();
    crate::embedded::append(&pair.source, "shorter", 0, "other-", 0, 30);
    let report = backed.backup(&[], 3);
    assert!(report["pass"]["problems"][0]["reason"].as_str().unwrap().contains("was truncated"), "{report}");
    let full = backed.backup(&["--full"], 0);
    assert_eq!((pass(&full, "chain"), pass(&full, "unit"), pass(&full, "records")), (2, 1, 65), "{full}");
    backed.restore(&[], 0);
    assert_eq!(pair.values(&pair.target, 0), [numbered("", 0, 10), numbered("other-", 0, 30)].concat());
}

/// Lines of JSON, sieved by offset, time and key; what was aborted is left out.
#[test]
fn records_are_exported_as_lines() {
    let backed = Backed::new("exported", 2, 1, "");
    let pair = &backed.pair;
    for partition in 0..2 {
        pair.write(partition, 0, 10);
    }
    append_at(&pair.source, "exported", Codec::Zstd, 1_790_000_500_000, 10..15);
    backed.backup(&[], 0);
    let lines = |more: &[&str]| {
        let output = pair.mirror.output(&[&["archive", "export"], more].concat());
        assert!(output.status.success(), "{output:?}");
        let lines: Vec<Value> = output
            .stdout
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        lines
    };
    assert_eq!(lines(&[]).len(), 25);
    let some = lines(&["--partition", "exported:0", "--offsets", "3..5"]);
    let said: Vec<_> =
        some.iter().map(|line| (line["offset"].clone(), line["key"].clone(), line["value"].clone())).collect();
    assert_eq!(said, [(3.into(), "k3".into(), "3".into()), (4.into(), "k4".into(), "4".into())]);
    assert_eq!(lines(&["--since", "2026-09-21T14:21:40Z"]).len(), 5);
    assert_eq!(lines(&["--until", "2026-09-21T14:21:40Z"]).len(), 20);
    assert_eq!(lines(&["--key", "k7"]).len(), 2);
    let none = pair.mirror.output(&["archive", "export", "--topic", "export"]);
    assert_eq!(none.status.code(), Some(3), "a slip of the keys is no empty export: {none:?}");
    let file = pair.mirror.folder().join("out.jsonl");
    let output = pair.mirror.output(&["archive", "export", "--out", file.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 25);
    let again = pair.mirror.output(&["archive", "export", "--out", file.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1), "it is not written over: {again:?}");
}

/// Nothing is left behind the last record: there is an end all the same.
#[test]
fn a_log_that_ends_in_a_gap_comes_back() {
    let backed = Backed::new("ends-in-a-gap", 1, 1, "");
    let pair = &backed.pair;
    pair.write(0, 0, 10);
    backed.backup(&[], 0);
    pair.write(0, 10, 20);
    pair.source.delete_before("ends-in-a-gap", 0, 20).unwrap();
    let report = backed.backup(&[], 0);
    assert_eq!(pass(&report, "lost_offsets"), 10, "{report}");
    backed.restore(&[], 0);
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 10));
}

/// A topic was deleted, and one of its name is there since: of the two, the moment says which.
#[test]
fn a_topic_that_was_made_again_comes_back_as_it_was_then() {
    let backed = Backed::new("made-again", 1, 1, "");
    let pair = &backed.pair;
    append_at(&pair.source, "made-again", Codec::None, 1_000_000_000_000, 0..10);
    backed.backup(&[], 0);
    let then = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
    assert!(pair.source.delete_topic("made-again"));
    pair.source.create_topic("made-again", 1, 1, &[]).unwrap();
    append_at(&pair.source, "made-again", Codec::None, 1_000_000_000_000, 50..53);
    backed.backup(&[], 0);
    backed.restore(&["--suffix", "then", "--rename", "then.{topic}", "--at", &then], 0);
    assert_eq!(values(&pair.target, "then.made-again", 0), numbered("", 0, 10));
    backed.restore(&[], 0);
    assert_eq!(values(&pair.target, "made-again", 0), numbered("", 50, 53));
}

/// A partition that nobody could read keeps its chain from counting, and so from pushing an older one out; a manifest on the way changes
/// nothing about that. A run that goes on beside a call of --full goes over to the new chain.
#[test]
fn a_chain_that_lacks_a_partition_is_no_good_one() {
    let backed = Backed::new("lacking", 2, 1, "    keep: 1\n");
    let pair = &backed.pair;
    for partition in 0..2 {
        pair.write(partition, 0, 10);
    }
    backed.backup(&[], 0);
    pair.source.set_leaderless("lacking", 1).unwrap();
    let report = backed.backup(&["--full", "--commit-every", "0s"], 3);
    assert_eq!((pass(&report, "chain"), &report["pruned"]["chains"]), (2, &serde_json::json!([])), "{report}");
    let list = backed.archive(&["list"], 0);
    assert_eq!(list["chains"][1]["restores_by_itself"], false, "{list}");
    pair.source.move_leader("lacking", 1, 1).unwrap();
    let plan = pair.mirror.json(&["restore", "--to", "to", "--dry-run"], 0);
    assert_eq!((plan["chain"].as_i64(), plan["warnings"].as_array().map(Vec::len)), (Some(1), Some(1)), "{plan}");
    let report = backed.backup(&[], 0);
    assert_eq!((pass(&report, "chain"), &report["pruned"]["chains"]), (2, &serde_json::json!([1])), "{report}");
}

/// An open transaction at the moment did not count, wherever passes and segments end; nor did one that was aborted later.
#[test]
fn a_transaction_that_was_open_at_the_moment_does_not_count() {
    let backed = Backed::new("open-then", 1, 1, "");
    let (pair, start) = (&backed.pair, 1_000_000_000_000);
    append_at(&pair.source, "open-then", Codec::None, start, 0..3);
    let stamp = kmirror::batch::Stamp { producer_id: 77, producer_epoch: 0, base_sequence: 0 };
    let record = |offset: i64, at| kmirror::batch::Record {
        offset,
        timestamp: at,
        attributes: 0,
        key: None,
        value: Some(Bytes::from(format!("txn-{offset}"))),
        headers: Vec::new(),
    };
    let batch = kmirror::batch::encode(&[record(0, start + 10), record(1, start + 11)], Codec::None, stamp).unwrap();
    pair.source.append("open-then", 0, transactional(&batch)).unwrap();
    append_at(&pair.source, "open-then", Codec::None, start + 20, 5..7);
    pair.source.write_markers("open-then", 0, (77, 0), true).unwrap();
    append_at(&pair.source, "open-then", Codec::None, start + 40, 8..10);
    backed.backup(&[], 0);
    let at = |ms: u64| {
        humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms)).to_string()
    };
    backed.restore(&["--suffix", "a", "--rename", "a.{topic}", "--at", &at(start as u64 + 20)], 0);
    assert_eq!(values(&pair.target, "a.open-then", 0), numbered("", 0, 3));
    backed.restore(&[], 0);
    let all = ["0", "1", "2", "txn-0", "txn-1", "5", "6", "8", "9"].map(str::to_owned);
    assert_eq!(values(&pair.target, "open-then", 0), all);
}

/// The same batch as part of a transaction.
fn transactional(batch: &kmirror::batch::RawBatch) -> Bytes {
    let mut bytes = batch.bytes.to_vec();
    bytes[22] |= kmirror::batch::ATTR_TRANSACTIONAL as u8;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// A key is replaced: what it sealed is read as long as it is at hand, and named where it is not.
#[test]
fn a_key_that_was_replaced_still_opens_what_it_sealed() {
    let backed = Backed::new(
        "sealed",
        1,
        1,
        "    encryption: { key: { env: KEY_ONE } }\n    signing: { key: { env: KEY_SIGN } }\n",
    );
    let mut pair = backed.pair;
    for (name, key) in [("KEY_ONE", "11".repeat(32)), ("KEY_TWO", "22".repeat(32)), ("KEY_SIGN", "33".repeat(32))] {
        pair.mirror.env.push((name, key.into()));
    }
    pair.write(0, 0, 10);
    pair.mirror.json(&["backup"], 0);
    let text = std::fs::read_to_string(&pair.mirror.config).unwrap();
    let with =
        |keys: &str| std::fs::write(&pair.mirror.config, text.replace("{ key: { env: KEY_ONE } }", keys)).unwrap();
    with("{ key: { env: KEY_TWO } }");
    let refused = pair.mirror.output(&["archive", "export"]);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && words.contains("is sealed with key") && words.contains("old_keys"), "{words}");
    with("{ key: { env: KEY_TWO }, old_keys: [{ env: KEY_ONE }] }");
    pair.write(0, 10, 20);
    pair.mirror.json(&["backup"], 0);
    pair.mirror.json(&["archive", "verify"], 0);
    pair.mirror.json(&["restore", "--to", "to", "--yes"], 0);
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 20));
    // Signed by somebody else: nothing of it is believed.
    pair.mirror.env.push(("KEY_SIGN", "44".repeat(32).into()));
    let refused =
        pair.mirror.output(&["restore", "--to", "to", "--suffix", "forged", "--rename", "x.{topic}", "--yes"]);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && words.contains("signed"), "{words}");
}

/// Chains beyond `keep` go, whole, and never the last good one.
#[test]
fn chains_are_pruned_whole() {
    let backed = Backed::new("pruned", 1, 2, "    keep: 2\n");
    backed.pair.write(0, 0, 10);
    for _ in 0..2 {
        backed.backup(&["--full"], 0);
    }
    let third = backed.backup(&["--full"], 0);
    assert_eq!(third["pruned"]["chains"], serde_json::json!([1]), "{third}");
    let list = backed.archive(&["list"], 0);
    let chains: Vec<i64> = list["chains"].as_array().unwrap().iter().map(|c| c["chain"].as_i64().unwrap()).collect();
    assert_eq!(chains, [2, 3], "{list}");
    for folder in &backed.folders {
        assert!(!folder.join("nightly/chains/00000001").exists());
        assert!(folder.join("nightly/chains/00000003/units/00000001.json").exists());
    }
}

/// One copy has lost a segment, the other has a flipped byte in another: a restore takes each from where it is whole, and a repair mends
/// both.
#[test]
fn two_copies_stand_in_for_each_other() {
    let backed = Backed::new("stand-in", 2, 2, "");
    let pair = &backed.pair;
    for partition in 0..2 {
        pair.write(partition, 0, 100);
    }
    backed.backup(&[], 0);
    let segment = |copy: usize, partition: i32| {
        let folder = backed.folders[copy].join(format!("nightly/chains/00000001/data/stand-in/{partition:05}"));
        std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
    };
    std::fs::remove_file(segment(0, 0)).unwrap();
    let mut bytes = std::fs::read(segment(1, 1)).unwrap();
    bytes[200] ^= 1;
    std::fs::write(segment(1, 1), &bytes).unwrap();
    let found = backed.archive(&["verify"], 3);
    assert_eq!(
        (found["damages"].as_array().unwrap().len(), found["lost"].as_array().unwrap().len()),
        (2, 0),
        "{found}"
    );
    backed.restore(&[], 0);
    for partition in 0..2 {
        assert_eq!(pair.values(&pair.target, partition), numbered("", 0, 100));
    }
    let repaired = backed.archive(&["repair", "--yes"], 0);
    assert!(repaired["damages"].as_array().unwrap().iter().all(|d| d["is_repaired"] == true), "{repaired}");
    backed.archive(&["verify"], 0);
}

/// Continuously, a pass every second, until it is told to stop.
#[test]
fn it_goes_on_by_itself() {
    let backed = Backed::new("goes-on", 1, 1, "    interval: 1s\n");
    let pair = &backed.pair;
    pair.write(0, 0, 10);
    let mut running = pair.mirror.spawn(&["backup", "--continuous", "--log-level", "info"], "backup.log");
    let records = || {
        let shown = pair.mirror.output(&["archive", "show", "--json"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        shown["partitions"][0]["records"].as_i64().unwrap_or(0)
    };
    wait_until("the first pass", LIMIT, || if records() == 10 { Ok(()) } else { Err(records().to_string()) });
    pair.write(0, 10, 20);
    wait_until("the next pass", LIMIT, || if records() == 20 { Ok(()) } else { Err(records().to_string()) });
    running.signal("TERM");
    assert_eq!(running.wait_exit(LIMIT), 0, "{}", running.log_tail());
}

/// One block of three is damaged in the only copy: the restore names it and the way out, and with it the rest comes back.
#[test]
fn what_is_damaged_is_named_and_may_be_left_out() {
    for (block, kept) in [(1, "0..10 20..30"), (2, "0..20")] {
        let backed = Backed::new(&format!("damaged-{block}"), 1, 1, "");
        let pair = &backed.pair;
        for unit in 0..3 {
            pair.write(0, unit * 10, unit * 10 + 10);
            backed.backup(&[], 0);
        }
        let mut segments = Vec::new();
        let folder = backed.folders[0].join(format!("nightly/chains/00000001/data/damaged-{block}/00000"));
        for entry in std::fs::read_dir(folder).unwrap() {
            segments.push(entry.unwrap().path());
        }
        segments.sort();
        let mut bytes = std::fs::read(&segments[block]).unwrap();
        // Within the first block's payload.
        bytes[64 + 44 + 70] ^= 1;
        std::fs::write(&segments[block], bytes).unwrap();
        let found = backed.archive(&["verify"], 3);
        let lost = (block as i64 * 10, block as i64 * 10 + 10);
        assert_eq!((found["lost"][0]["from"].as_i64(), found["lost"][0]["to"].as_i64()), (Some(lost.0), Some(lost.1)));

        let refused = pair.mirror.output(&["restore", "--to", "to", "--suffix", "first", "--yes"]);
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_ne!(refused.status.code(), Some(0), "{words}");
        assert!(words.contains(&format!("[{}, {})", lost.0, lost.1)), "{words}");
        assert!(words.contains("--skip-damaged"), "{words}");
        // What came before the damage is there already: the same restore goes on behind it.
        let more = ["--suffix", "first", "--skip-damaged"];
        let plan = pair.mirror.json(&[&["restore", "--to", "to", "--dry-run"], &more[..]].concat(), 0);
        assert_eq!(plan["partitions"][0]["damaged"], serde_json::json!([[lost.0, lost.1]]), "{plan}");
        backed.restore(&more, 0);
        let ranges = kept.split(' ').map(|range| range.split_once("..").unwrap());
        let expected: Vec<String> =
            ranges.flat_map(|(from, to)| numbered("", from.parse().unwrap(), to.parse().unwrap())).collect();
        assert_eq!(pair.values(&pair.target, 0), expected);
    }
}
