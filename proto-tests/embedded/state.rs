//! The state topic lost, cut off, damaged, of another version: what kmirror says of it, and what `state rebuild` finds again.

use bytes::{Bytes, BytesMut};
use kmirror::batch::{Codec, Stamp, encode_values};
use kmirror::mirror::{
    ControlRecord, Generation, Scan, StateRecord, encode_control, encode_state, shard_of, state_topic,
};
use serde_json::Value;

use super::{Pair, append, numbered};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// Two partitions of ten records each, in two shards, with a take-over behind them; nothing runs.
fn stopped(topic: &str, more: &str) -> Pair {
    let mut pair = Pair::new(topic, 2, 2, more);
    (0..2).for_each(|partition| pair.write(partition, 0, 10));
    pair.mirror.start();
    (0..2).for_each(|partition| pair.await_values(partition, &numbered("", 0, 10)));
    // The next start leaves its marker: offsets differ from there on.
    pair.mirror.kill();
    (0..2).for_each(|partition| pair.write(partition, 10, 15));
    pair.mirror.start();
    (0..2).for_each(|partition| pair.await_values(partition, &numbered("", 0, 15)));
    pair.mirror.await_caught_up(2);
    pair.mirror.stop();
    pair
}

fn log_of(pair: &Pair) -> String {
    state_topic(&pair.topic)
}

/// The shard of a partition.
fn shard(pair: &Pair, partition: i32) -> i32 {
    let id = pair.source.topics().iter().find(|topic| topic.name == pair.topic).expect("it is there").id;
    i32::try_from(shard_of(id, partition, 16)).unwrap()
}

fn end_of(pair: &Pair, state_partition: i32) -> i64 {
    pair.target.log(&log_of(pair), state_partition).unwrap().end_offset
}

/// Puts a value behind the shard's records that bears its owner's producer id.
pub(crate) fn place(pair: &Pair, state_partition: i32, value: Bytes) -> i64 {
    let topic = log_of(pair);
    let last = pair.target.read(&topic, state_partition, 0).unwrap().last().expect("records").header;
    let stamp = Stamp { producer_id: last.producer_id, producer_epoch: last.producer_epoch, base_sequence: 900 };
    let mut bytes = BytesMut::from(&encode_values(vec![value], 1_790_000_000_000, stamp).unwrap()[..]);
    let at = end_of(pair, state_partition);
    bytes[..8].copy_from_slice(&at.to_be_bytes());
    pair.target.place(&topic, state_partition, bytes.freeze()).unwrap();
    at
}

/// The record with the next version of the format.
pub(crate) fn newer(record: &[u8]) -> Bytes {
    let mut record = BytesMut::from(record);
    record[2] += 1;
    record.freeze()
}

/// A control record that says this.
pub(crate) fn control_record(json: &str) -> Bytes {
    let mut record = BytesMut::from(&b"KM\x01\x40"[..]);
    record.extend_from_slice(json.as_bytes());
    let crc = crc32c::crc32c(&record);
    record.extend_from_slice(&crc.to_be_bytes());
    record.freeze()
}

/// Says it to the mirror.
pub(crate) fn say(pair: &Pair, record: Bytes) {
    let said = [(None, Some(record))];
    pair.target.append_records(&log_of(pair), 16, Codec::None, 1_790_000_000_000, &said).unwrap();
}

/// A partition halts over its state, and names the rebuild.
fn await_state_halt(pair: &Pair, partition: i32, reason: &str) {
    let row = pair.mirror.await_state(&pair.topic, partition, "halted");
    let text = |field: &str| row[field].as_str().expect("text").to_owned();
    assert!(text("reason").starts_with(reason), "{row}");
    assert!(text("way_out").ends_with(&format!("kmirror state rebuild --mirror {}", pair.topic)), "{row}");
}

fn rebuild(pair: &Pair, args: &[&str], code: i32) -> Value {
    pair.mirror.json(&[&["state", "rebuild"], args].concat(), code)
}

/// Outcome by partition.
fn outcomes(report: &Value) -> Vec<(i64, String)> {
    let rows = report["partitions"].as_array().expect("rows").iter();
    rows.map(|row| (row["partition"].as_i64().unwrap(), row["outcome"].as_str().unwrap().to_owned())).collect()
}

/// The state is rebuilt, and the mirror goes on: every record once, every offset mapped.
fn goes_on_once_rebuilt(mut pair: Pair, found: &[i64]) {
    let plan = rebuild(&pair, &["--dry-run"], 0);
    let expected: Vec<(i64, String)> = found.iter().map(|partition| (*partition, "rebuilt".to_owned())).collect();
    assert_eq!(outcomes(&plan), expected, "{plan}");
    assert_eq!(plan["applied"], false);
    let refused = pair.mirror.output(&["state", "rebuild"]);
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    let done = rebuild(&pair, &["--yes"], 0);
    assert_eq!((outcomes(&done), &done["applied"]), (expected, &Value::Bool(true)), "{done}");
    let again = pair.mirror.output(&["state", "rebuild"]);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing to rebuild"), "{again:?}");
    (0..2).for_each(|partition| pair.write(partition, 15, 20));
    pair.mirror.start();
    (0..2).for_each(|partition| pair.await_values(partition, &numbered("", 0, 20)));
    pair.mirror.await_caught_up(2);
    (0..2).for_each(|partition| pair.assert_mapped(partition));
    pair.mirror.stop();
}

/// Neither does a policy about foreign records let it copy everything a second time.
#[test]
fn a_lost_state_topic_halts_whatever_policy_says_and_is_rebuilt() {
    let mut pair = stopped("state-lost", "    on: { foreign_records: continue }\n");
    assert!(pair.target.delete_topic(&log_of(&pair)));
    pair.mirror.start();
    (0..2).for_each(|partition| await_state_halt(&pair, partition, "state_lost: "));
    // A resume is no way around it.
    pair.obey(&["resume".to_owned(), "--partition".to_owned(), format!("{}:0", pair.topic)]);
    wait_until("the halt to come again", LIMIT, || {
        let halts = pair.mirror.log().matches("partition halted").count();
        if halts >= 3 { Ok(()) } else { Err(format!("{halts} halts")) }
    });
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 15));
    pair.mirror.stop();
    goes_on_once_rebuilt(pair, &[0, 1]);
}

#[test]
fn a_lost_state_topic_is_rebuilt_before_the_next_start() {
    let pair = stopped("state-lost-before", "");
    assert!(pair.target.delete_topic(&log_of(&pair)));
    goes_on_once_rebuilt(pair, &[0, 1]);
}

/// The offset map goes on being written to the state topic: it is missed when that is deleted under a running mirror.
#[test]
fn a_state_topic_that_is_deleted_under_a_running_mirror_ends_it() {
    let mut pair = stopped("state-deleted", "");
    pair.mirror.start();
    // It is at work, not only about to be.
    pair.write(0, 15, 16);
    pair.await_values(0, &numbered("", 0, 16));
    assert!(pair.target.delete_topic(&log_of(&pair)));
    // A hole is a break of the map.
    let end = pair.source.log(&pair.topic, 0).unwrap().end_offset;
    let stamp = Stamp { producer_id: 7, producer_epoch: 0, base_sequence: 0 };
    let mut bytes =
        BytesMut::from(&encode_values(vec![Bytes::from_static(b"16")], 1_790_000_000_000, stamp).unwrap()[..]);
    bytes[..8].copy_from_slice(&(end + 5).to_be_bytes());
    pair.source.place(&pair.topic, 0, bytes.freeze()).unwrap();
    assert_eq!(pair.mirror.await_end(), 1);
    assert!(pair.mirror.log().contains("was deleted while the mirror ran"), "{}", pair.mirror.log());
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 16));
    rebuild(&pair, &["--yes"], 0);
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 17));
    pair.mirror.await_caught_up(2);
    (0..2).for_each(|partition| pair.assert_mapped(partition));
    pair.mirror.stop();
}

/// One shard's records are damaged: its partition halts, the other one goes on.
fn one_shard(mut pair: Pair, reason: &str) {
    pair.write(1, 15, 20);
    pair.mirror.start();
    await_state_halt(&pair, 0, reason);
    pair.await_values(1, &numbered("", 0, 20));
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 15));
    // What is known of the other one is told; of this one it is said why nothing is.
    assert_eq!(pair.mirror.translate(&pair.topic, 1, 12, &[]).1, None);
    let translate = ["translate", "--topic", &pair.topic, "--partition", "0", "--offset", "3"];
    let output = pair.mirror.output(&translate);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("state_damaged"), "{output:?}");
    pair.mirror.stop();
    let plan = rebuild(&pair, &["--dry-run"], 0);
    assert_eq!((outcomes(&plan), &plan["kept"]), (vec![(0, "rebuilt".to_owned())], &Value::from(1)), "{plan}");
    rebuild(&pair, &["--yes"], 0);
    pair.write(0, 15, 20);
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 20));
    pair.mirror.await_caught_up(2);
    (0..2).for_each(|partition| pair.assert_mapped(partition));
    pair.mirror.stop();
}

#[test]
fn a_damaged_record_halts_its_shard_and_is_rebuilt() {
    let pair = stopped("state-damaged", "");
    let mut record = BytesMut::from(&encode_state(&StateRecord::Baseline)[..]);
    let last = record.len() - 1;
    record[last] ^= 1;
    let at = place(&pair, shard(&pair, 0), record.freeze());
    let reason = format!("state_damaged: state topic {}:{} at offset {at}: ", log_of(&pair), shard(&pair, 0));
    one_shard(pair, &reason);
}

#[test]
fn a_record_about_nothing_halts_its_shard() {
    let pair = stopped("state-undeclared", "");
    let record = StateRecord::Scanned { entries: vec![(77, Scan::default())] };
    place(&pair, shard(&pair, 0), encode_state(&record));
    one_shard(pair, "state_damaged: ");
}

#[test]
fn a_state_whose_beginning_is_cut_off_halts_its_shard() {
    let pair = stopped("state-cut", "");
    let shard = shard(&pair, 0);
    pair.target.delete_before(&log_of(&pair), shard, end_of(&pair, shard) - 1).unwrap();
    one_shard(pair, "state_damaged: ");
}

/// Emptied: there is no record left that could speak of its own damage.
#[test]
fn a_state_that_was_emptied_halts_its_shard() {
    let pair = stopped("state-emptied", "");
    let shard = shard(&pair, 0);
    pair.target.delete_before(&log_of(&pair), shard, end_of(&pair, shard)).unwrap();
    one_shard(pair, "state_damaged: ");
}

#[test]
fn what_somebody_else_writes_to_the_state_topic_is_passed_over() {
    let mut pair = stopped("state-foreign", "");
    let garbage = [(None, Some(Bytes::from_static(b"not ours")))];
    let shard = shard(&pair, 0);
    pair.target.append_records(&log_of(&pair), shard, Codec::None, 1_790_000_000_000, &garbage).unwrap();
    pair.write(0, 15, 20);
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 20));
    pair.mirror.await_caught_up(2);
    pair.mirror.stop();
}

/// The whole mirror is a newer kmirror's then.
#[test]
fn a_state_of_a_newer_version_ends_the_process() {
    let mut pair = stopped("state-newer", "");
    place(&pair, shard(&pair, 0), newer(&encode_state(&StateRecord::Baseline)));
    pair.mirror.start();
    assert_eq!(pair.mirror.await_end(), 1);
    assert!(pair.mirror.log().contains("format version 2, this kmirror knows up to 1"), "{}", pair.mirror.log());
    is_left_to_the_newer_one(&pair);
}

/// Every command that would go by it says so, and changes nothing.
fn is_left_to_the_newer_one(pair: &Pair) {
    let before: Vec<i64> = (0..17).map(|partition| end_of(pair, partition)).collect();
    let commands: [&[&str]; 4] = [
        &["state", "rebuild", "--yes"],
        &["status"],
        &["failover", "--unplanned", "--yes"],
        &["translate", "--topic", &pair.topic, "--partition", "0", "--offset", "3"],
    ];
    for command in commands {
        let refused = pair.mirror.output(command);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("use the newer kmirror"), "{refused:?}");
    }
    let after: Vec<i64> = (0..17).map(|partition| end_of(pair, partition)).collect();
    assert_eq!(before, after);
    let start = |partition| pair.target.log(&log_of(pair), partition).unwrap().start_offset;
    assert_eq!(start(16), 0, "what was said to the mirror is there");
}

/// A word to the mirror that this kmirror does not know, while it runs and before the next start.
#[test]
fn a_newer_word_to_the_mirror_ends_the_process_and_is_no_damage() {
    for (name, record) in [
        ("control-newer-word", control_record(r#"{"type":"quorum","at_ms":1}"#)),
        ("control-newer-scope", control_record(r#"{"type":"pause","scope":"topic","at_ms":1}"#)),
        ("control-newer-version", newer(&control_record(r#"{"type":"heartbeat","at_ms":1}"#))),
    ] {
        let mut pair = stopped(name, "");
        pair.mirror.start();
        pair.write(0, 15, 16);
        pair.await_values(0, &numbered("", 0, 16));
        say(&pair, record);
        assert_eq!(pair.mirror.await_end(), 1);
        let log = pair.mirror.log();
        assert!(log.contains("use the newer kmirror") && !log.contains("state rebuild"), "{log}");
        pair.mirror.start();
        assert_eq!(pair.mirror.await_end(), 1);
        is_left_to_the_newer_one(&pair);
    }
}

/// The control partition says which generation it is, and whether the target was promoted: nothing moves without it.
#[test]
fn a_damaged_control_partition_ends_the_process_and_is_made_anew() {
    for (name, cut) in [("control-cut", true), ("control-damaged", false)] {
        let mut pair = stopped(name, "");
        let end = end_of(&pair, 16);
        if cut {
            pair.target.delete_before(&log_of(&pair), 16, end).unwrap();
        } else {
            append(&pair.target, &log_of(&pair), 16, "no record of ours ", 0, 1);
        }
        pair.mirror.start();
        assert_eq!(pair.mirror.await_end(), 1);
        assert!(pair.mirror.log().contains(&format!("kmirror state rebuild --mirror {name}")), "{}", pair.mirror.log());
        goes_on_once_rebuilt(pair, &[]);
    }
}

/// Retention took what was mirrored last, and the state topic went as well: nobody knows where to go on.
#[test]
fn what_the_source_holds_no_more_is_not_guessed() {
    let mut pair = stopped("state-unknown", "");
    assert!(pair.target.delete_topic(&log_of(&pair)));
    pair.source.delete_before(&pair.topic, 0, 15).unwrap();
    pair.write(0, 15, 20);
    let done = rebuild(&pair, &["--yes"], 3);
    assert_eq!(outcomes(&done), [(0, "not_found".to_owned()), (1, "rebuilt".to_owned())], "{done}");
    assert!(done["partitions"][0]["detail"].as_str().unwrap().contains("is on the source"), "{done}");
    pair.write(1, 15, 20);
    pair.mirror.start();
    await_state_halt(&pair, 0, "state_lost: ");
    pair.await_values(1, &numbered("", 0, 20));
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 15));
    pair.mirror.stop();
}

/// Whoever may write to the control partition may write any number there; room for as many shards is made by it.
#[test]
fn a_generation_of_more_shards_than_there_is_room_for_is_refused() {
    let mut pair = Pair::mirrored("state-of-billions", "");
    pair.mirror.stop();
    let generation = Generation {
        generation: 2,
        shards: u32::MAX,
        source_cluster_id: "state-of-billions-source".to_owned(),
        target_cluster_id: "state-of-billions-target".to_owned(),
        mirror: pair.topic.clone(),
        created_ms: 1_790_000_000_000,
        home_of: None,
    };
    let record = encode_control(&ControlRecord::Generation(generation));
    let batch = encode_values(vec![record], 1_790_000_000_000, Stamp::NONE).unwrap();
    pair.target.append(&log_of(&pair), 16, batch).unwrap();
    pair.mirror.start();
    assert_ne!(pair.mirror.await_end(), 0);
    let words = pair.mirror.log();
    assert!(words.contains("__kmirror.state-of-billions:16, speaks of 4294967295 shards"), "{words}");
}
