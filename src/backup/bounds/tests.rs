//! What somebody who means harm could write into a manifest.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::backup::chain::{Head, logs};
use crate::backup::envelope::EnvelopeError;
use crate::backup::manifest::Manifest;

fn good() -> Value {
    json!({
        "backup": "b", "cluster_id": "c", "chain": 1, "unit": 2, "previous": "ab".repeat(32),
        "isolation": "read_committed", "is_complete": true, "begun_at_ms": 5, "ended_at_ms": 6,
        "partitions": [{
            "topic": "t", "topic_id": "00000000-0000-0000-0000-000000000005", "partition": 3, "from": 10, "to": 40,
            "log_start": 10, "gaps": [{ "reason": "retention", "from": 10, "to": 15 }],
            "aborted": [{ "producer_id": 9, "first_offset": 8, "last_offset": 20 }],
            "open": [{ "producer_id": 9, "first_offset": 30 }], "problem": null,
            "segments": [{
                "object": "chains/00000001/data/t/00003/00000000000000000015-00000002-00000000.seg",
                "segment_id": "00000000-0000-0000-0000-000000000007", "from": 15, "to": 40, "bytes": 100,
                "raw_bytes": 90, "blake3": "cd".repeat(32), "batches": 2, "records": 20, "first_leader_epoch": 1,
                "leader_epochs": [[2, 20]], "open": [], "min_timestamp_ms": 0, "max_timestamp_ms": 9
            }]
        }],
        "captured": {
            "cluster_id": "c",
            "topics": { "entries": [{ "name": "t", "topic_id": "00000000-0000-0000-0000-000000000005", "partitions": 4,
                                      "replication_factor": 3 }] },
            "groups": { "entries": [{ "group": "g", "type": "classic", "offsets": [
                { "topic": "t", "partition": 3, "offset": 12, "leader_epoch": -1 }] }] }
        }
    })
}

fn parse(value: &Value) -> Result<Manifest, EnvelopeError> {
    Manifest::parse_body(value.to_string().as_bytes())
}

/// Refused, with the path of what is wrong in the words.
fn refused(pointer: &str, value: impl Into<Value>, at: &str) {
    let mut manifest = good();
    let value = value.into();
    let words = format!("{pointer} = {value}");
    *manifest.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
    match parse(&manifest) {
        Err(EnvelopeError::Impossible { at: found, .. }) => assert_eq!(found, at, "{words}"),
        other => panic!("{words}: {other:?}"),
    }
}

#[test]
fn what_cannot_be_is_refused_by_its_place() {
    parse(&good()).unwrap();
    refused("/chain", 0, "chain");
    refused("/unit", 100_000_000, "unit");
    refused("/begun_at_ms", i64::MIN, "begun_at_ms");
    refused("/ended_at_ms", i64::MAX, "ended_at_ms");
    refused("/previous", "ab", "previous");
    let part = |field: &str| format!("/partitions/0/{field}");
    refused(&part("partition"), i32::MAX, "partitions[0].partition");
    refused(&part("partition"), -1, "partitions[0].partition");
    for name in ["", ".", "..", "a/b", "../../etc", "a\u{0}b", &"x".repeat(250)] {
        refused(&part("topic"), name, "partitions[0].topic");
    }
    refused(&part("to"), i64::MAX, "partitions[0].to");
    refused(&part("from"), -1, "partitions[0].from");
    refused(&part("from"), 41, "partitions[0]");
    refused(&part("log_start"), -5, "partitions[0].log_start");
    refused(&part("gaps/0/to"), 10, "partitions[0].gaps[0]");
    refused(&part("gaps/0/to"), 41, "partitions[0].gaps[0]");
    refused(&part("gaps/0/from"), 9, "partitions[0].gaps[0]");
    refused(&part("aborted/0/last_offset"), 40, "partitions[0].aborted[0].last_offset");
    refused(&part("aborted/0/producer_id"), -1, "partitions[0].aborted[0].producer_id");
    refused(&part("open/0/first_offset"), 40, "partitions[0].open[0].first_offset");
    let segment = |field: &str| format!("/partitions/0/segments/0/{field}");
    let at = |field: &str| format!("partitions[0].segments[0].{field}");
    for path in [
        "/etc/passwd",
        "../other/chains/00000001/data/t/00003/x.seg",
        "chains/00000001/data/../../../archive.json",
        "chains/00000001/data//t/x.seg",
        "chains/00000001/data/./x.seg",
        "chains/00000001/data/t\\x.seg",
        "chains/00000002/data/t/00003/x.seg",
        "chains/00000001/units/00000001.json",
        "",
    ] {
        refused(&segment("object"), path, &at("object"));
    }
    refused(&segment("from"), 40, "partitions[0].segments[0]");
    refused(&segment("to"), 41, "partitions[0].segments[0]");
    refused(&segment("to"), i64::MAX, &at("to"));
    for field in ["bytes", "raw_bytes", "batches", "records"] {
        refused(&segment(field), u64::MAX, &at(field));
    }
    refused(&segment("blake3"), "cd", &at("blake3"));
    refused(&segment("first_leader_epoch"), -2, &at("first_leader_epoch"));
    refused(&segment("leader_epochs"), json!([[1, 20]]), &at("leader_epochs[0]"));
    refused(&segment("leader_epochs"), json!([[2, 40]]), &at("leader_epochs[0]"));
    refused("/captured/topics/entries/0/partitions", 1u64 << 31, "captured.topics.entries[0].partitions");
    refused("/captured/topics/entries/0/name", "..", "captured.topics.entries[0].name");
    let committed = "/captured/groups/entries/0/offsets/0";
    refused(&format!("{committed}/offset"), -7, "captured.groups.entries[0].offsets[0].offset");
    refused(&format!("{committed}/partition"), i32::MAX, "captured.groups.entries[0].offsets[0].partition");
}

#[test]
fn the_same_partition_or_segment_twice_is_refused() {
    let mut manifest = good();
    let part = manifest["partitions"][0].clone();
    manifest["partitions"].as_array_mut().unwrap().push(part);
    let said = parse(&manifest).unwrap_err().to_string();
    assert!(said.starts_with("partitions[1]: t:3 stands there twice"), "{said}");
    let mut manifest = good();
    let segment = manifest["partitions"][0]["segments"][0].clone();
    manifest["partitions"][0]["segments"].as_array_mut().unwrap().push(segment);
    let said = parse(&manifest).unwrap_err().to_string();
    assert!(said.starts_with("partitions[0].segments[1]: "), "{said}");
}

/// A unit that does not go on where the one before it ended.
#[test]
fn a_unit_that_leaps_is_gainsaid() {
    let manifest = parse(&good()).unwrap();
    let mut head = Head::new(1);
    assert_eq!(head.gainsaid_by(&manifest), None);
    head.advance(&manifest, String::new());
    let said = head.gainsaid_by(&manifest).unwrap();
    assert!(said.starts_with("partitions[0].from: t:3 goes on at offset 10, and 40 is due"), "{said}");
    let mut next = good();
    next["partitions"][0]["from"] = 40.into();
    next["partitions"][0]["to"] = 41.into();
    for list in ["gaps", "aborted", "open", "segments"] {
        next["partitions"][0][list] = json!([]);
    }
    assert_eq!(head.gainsaid_by(&parse(&next).unwrap()), None);
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![-3i64..60, Just(i64::MAX), Just(i64::MIN), Just(i64::from(i32::MAX)), Just(1 << 53), any::<i64>(),]
}

/// Every number of the manifest, by its pointer.
fn numbers(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Number(_) => out.push(at.to_owned()),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(number, item)| numbers(item, &format!("{at}/{number}"), out));
        }
        Value::Object(fields) => fields.iter().for_each(|(name, item)| numbers(item, &format!("{at}/{name}"), out)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever its numbers are: it is refused, or all that is computed of it stays in bounds (overflow panics here).
    #[test]
    fn no_number_of_a_manifest_does_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), number()), 1..4)) {
        let mut manifest = good();
        let mut places = Vec::new();
        numbers(&manifest, "", &mut places);
        for (place, number) in changes {
            *manifest.pointer_mut(place.get::<String>(&places[..])).unwrap() = number.into();
        }
        if let Ok(manifest) = parse(&manifest) {
            let mut head = Head::new(manifest.chain);
            prop_assert_eq!(head.gainsaid_by(&manifest), None);
            head.advance(&manifest, String::new());
            for log in logs([&manifest]).into_values() {
                prop_assert!(0 <= log.from && log.from <= log.to && log.to < super::OFFSET_MAX);
                prop_assert!(log.leader_epochs().windows(2).all(|pair| pair[0].0 < pair[1].0));
                let _ = (log.records(), log.gaps.iter().map(|gap| gap.to - gap.from).sum::<i64>());
            }
            let again = serde_json::to_vec(&manifest).unwrap();
            prop_assert_eq!(Manifest::parse_body(&again).unwrap(), manifest);
        }
    }
}
