//! `restore --preserve-offsets`: every record at the offset that it had, or a refusal.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use kmirror::batch::Record;
use kmirror::broker::Cluster;
use serde_json::{Value, json};

use super::Backed;
use super::kafka::backed;
use crate::e2e::kinds::CODECS;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::driver::{FullRecord, PartitionOffsets};
use crate::kafka::harness::{Produce, TopicSpec, Transact, driver, real_kafka_wanted, source, target, wait_until};

const PRESERVE: &str = "--preserve-offsets";

/// Records with their offsets, in the order of the log.
fn sorted(mut records: Vec<FullRecord>) -> Vec<FullRecord> {
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// Partition, offset, timestamp, key, value and headers of a record.
type Placed<'a> = (i32, i64, i64, &'a Option<String>, &'a Option<String>, &'a [(String, Option<String>)]);

fn placed(records: &[FullRecord]) -> Vec<Placed<'_>> {
    records.iter().map(|r| (r.partition, r.offset, r.timestamp, &r.key, &r.value, r.headers.as_slice())).collect()
}

fn bounds(bootstrap: &str, topic: &str) -> Vec<(i32, i64, i64, i64)> {
    let of = |o: PartitionOffsets| (o.partition, o.start, o.end, o.stable_end);
    let mut all: Vec<_> = driver().offsets(bootstrap, &[topic]).into_iter().map(of).collect();
    all.sort_unstable();
    all
}

/// What a consumer sees on both clusters, offsets included, and where the logs begin and end.
fn assert_identical(topic: &str, isolation: &str) {
    let (here, there) = (source().bootstrap(), target().bootstrap());
    let (before, after) =
        (sorted(driver().records(&here, topic, isolation)), sorted(driver().records(&there, topic, isolation)));
    assert_eq!(before.len(), after.len(), "{topic} under {isolation}");
    let differs = placed(&before).into_iter().zip(placed(&after)).find(|(a, b)| a != b);
    assert!(differs.is_none(), "{topic} under {isolation}: {differs:?}");
    let ends = |all: Vec<(i32, i64, i64, i64)>| {
        all.into_iter().map(|(p, _, end, stable)| (p, end, stable)).collect::<Vec<_>>()
    };
    assert_eq!(ends(bounds(&here, topic)), ends(bounds(&there, topic)), "{topic}");
}

/// Every codec, transactions with aborts, a compacted topic, one whose log has lost its head, and a group in the middle: backed up in two
/// units, restored to another cluster. A consumer sees the same records at the same offsets, and so does the group.
#[test]
fn every_record_has_the_offset_that_it_had() {
    if !real_kafka_wanted("every_record_has_the_offset_that_it_had") {
        return;
    }
    let (driver, bootstrap) = (driver(), source().bootstrap());
    let (kinds, compacted, late, plain) = ("bi-all", "bi-all-compacted", "bi-all-late", "bi-all-plain");
    let spec = TopicSpec::new(kinds, 3).set("retention.ms", -1).set("max.message.bytes", 2_000_000);
    driver.create_topic(&bootstrap, &spec);
    let spec = TopicSpec::new(compacted, 2).set("segment.ms", 100).set("min.cleanable.dirty.ratio", 0.01);
    driver.create_topic(&bootstrap, &spec.set("cleanup.policy", "compact"));
    driver.create_topic(&bootstrap, &TopicSpec::new(late, 1));
    driver.create_topic(&bootstrap, &TopicSpec::new(plain, 2).set("message.timestamp.type", "LogAppendTime"));
    driver.create_topic(&bootstrap, &TopicSpec::new("bi-all-empty", 2));
    let (mirror, _) = backed("bi-all", "    segment_bytes: 1MiB\n");
    for (seed, codec) in CODECS.into_iter().enumerate() {
        let seed = seed as u64;
        let odd = Produce { seed, codec, partitions: 3, ..Produce::odd(kinds, 1_000) };
        driver.produce(&bootstrap, &odd);
        let some = Produce { count: 200, seed: 50 + seed, ..odd };
        driver.transact(&bootstrap, &Transact { producers: 2, ..Transact::new(some) });
        let keyed = Produce { seed, codec, partitions: 2, keys: 300, ..Produce::new(compacted, 2_000) };
        driver.produce(&bootstrap, &keyed);
        driver.produce(&bootstrap, &Produce { seed, codec, ..Produce::new(late, 3_000) });
        driver.produce(&bootstrap, &Produce { seed, codec, partitions: 2, ..Produce::new(plain, 500) });
        if seed == 1 {
            mirror.json(&["backup"], 0);
        }
    }
    driver.compact(&bootstrap, compacted, 500);
    driver.delete_records(&bootstrap, late, 0, 7_777);
    let read = driver.read_on(&bootstrap, "bi-all-readers", kinds, "classic", Some(1_500));
    assert_eq!(read.len(), 1_500);
    let full = mirror.json(&["backup", "--full"], 0);
    assert_eq!(full["pass"]["lost_offsets"], 0, "{full}");

    let call = ["restore", "--to", "to", PRESERVE, "--no-quotas"];
    let plan = mirror.json(&[&call[..], &["--dry-run"]].concat(), 0);
    assert_eq!((&plan["preserves_offsets"], &plan["obstacles"]), (&json!(true), &json!([])), "{plan}");
    assert!(!driver.list_topics(&target().bootstrap()).iter().any(|t| t.starts_with("bi-all")), "nothing yet");
    let done = mirror.json(&[&call[..], &["--yes"]].concat(), 0);
    let identical = &done["restored"]["identical"];
    assert_eq!(identical["problems"], json!([]), "{done}");
    // A log begins where its first record is: what compaction took in front of it is not filled.
    let begins = |topic: &str| {
        let rows = done["restored"]["plan"]["partitions"].as_array().unwrap();
        rows.iter().filter(|row| row["topic"] == topic).map(|row| row["from"].as_i64().unwrap()).sum::<i64>()
    };
    assert_eq!((begins(kinds), begins(late)), (0, 7_777), "{done}");
    assert_eq!(identical["front_offsets"], json!(begins(late) + begins(compacted)), "{done}");
    assert!(identical["markers"].as_i64().unwrap() > 500, "{done}");
    for topic in [kinds, late, plain] {
        assert_identical(topic, "read_committed");
    }
    // The source's cleaner may have gone on since: what it has left stands where it stood.
    let (here, there) = (driver.records(&bootstrap, compacted, "read_committed"), target().bootstrap());
    let there = sorted(driver.records(&there, compacted, "read_committed"));
    let there: BTreeSet<_> = placed(&there).into_iter().collect();
    assert!(here.len() > 300 && placed(&here).iter().all(|record| there.contains(record)), "{compacted}");
    assert_eq!(bounds(&bootstrap, late), bounds(&target().bootstrap(), late));
    // A marker is shown to nobody: what was committed is seen, whatever the isolation level.
    let there = target().bootstrap();
    let seen = sorted(driver.records(&there, kinds, "read_uncommitted"));
    let committed = sorted(driver.records(&there, kinds, "read_committed"));
    assert!(placed(&seen) == placed(&committed), "{} and {}", seen.len(), committed.len());
    for topic in [kinds, compacted, late, plain, "bi-all-empty"] {
        let (here, there) = (driver.topic_configs(&bootstrap, topic), driver.topic_configs(&there, topic));
        assert_eq!(here, there, "{topic}: {done}");
    }
    assert_eq!(driver.describe_topic(&there, "bi-all-empty").len(), 2);
    // The group goes on with exactly the records that it had left.
    let rest = sorted(driver.read_on(&there, "bi-all-readers", kinds, "classic", None));
    let here = sorted(driver.read_on(&bootstrap, "bi-all-readers", kinds, "classic", None));
    assert!(!rest.is_empty() && placed(&rest) == placed(&here), "{} and {}", rest.len(), here.len());
    let again = mirror.json(&[&call[..], &["--yes"]].concat(), 3);
    assert!(again["obstacles"][0].as_str().unwrap().contains("is there already"), "{again}");
}

/// kill -9 again and again: what is called again goes on, and ends with the same.
#[test]
fn killed_while_it_preserves_offsets_it_goes_on() {
    if !real_kafka_wanted("killed_while_it_preserves_offsets_it_goes_on") {
        return;
    }
    let (driver, bootstrap, topic) = (driver(), source().bootstrap(), "bi-killed");
    driver.create_topic(&bootstrap, &TopicSpec::new(topic, 3));
    let (mirror, _) = backed(topic, "    segment_bytes: 1MiB\n");
    let spec = Produce { partitions: 3, batch_size: 3_000, ..Produce::new(topic, 60_000) };
    driver.produce(&bootstrap, &spec);
    driver.transact(&bootstrap, &Transact::new(Produce { count: 6_000, seed: 7, ..spec }));
    driver.delete_records(&bootstrap, topic, 1, 5_000);
    mirror.json(&["backup"], 0);
    let call = ["restore", "--to", "to", PRESERVE, "--no-quotas", "--yes", "--json"];
    let mut ends = Vec::new();
    for round in 0..10_u64 {
        let mut restoring = mirror.spawn(&call, &format!("identical-{round}.log"));
        std::thread::sleep(Duration::from_millis(200 + 170 * round));
        restoring.kill();
        let there: i64 = driver.offsets(&target().bootstrap(), &[topic]).iter().map(|o| o.end).sum();
        ends.push(there);
    }
    assert!(ends.is_sorted() && ends.iter().any(|end| (1..60_000).contains(end)), "killed in the middle: {ends:?}");
    let output = mirror.output(&call);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() || said.contains("is there already"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_identical(topic, "read_committed");
    wait_until("the mark to be gone", LIMIT, || {
        match driver.topic_configs(&target().bootstrap(), topic).get("flush.messages") {
            None => Ok(()),
            Some(mark) => Err(mark.clone()),
        }
    });
}

fn offsets(cluster: &Cluster, topic: &str) -> Vec<(i64, Option<Bytes>)> {
    let records = cluster.records(topic, 0, cluster.log(topic, 0).unwrap().start_offset).unwrap();
    records.into_iter().map(|record: Record| (record.offset, record.value)).collect()
}

/// A log without a head, with holes within and between batches, and a record range of it.
#[test]
fn holes_and_heads_come_back_on_an_embedded_cluster() {
    let backed = Backed::new("identical", 1, 1, "");
    let pair = &backed.pair;
    pair.write(0, 0, 20);
    pair.write(0, 20, 40);
    pair.write(0, 40, 60);
    pair.source.punch_holes("identical", 0, |record| ![22, 23, 30, 45].contains(&record.offset)).unwrap();
    pair.source.delete_before("identical", 0, 7).unwrap();
    pair.source.commit_offset("readers", "identical", 0, 23);
    backed.backup(&[], 0);
    let done = backed.restore(&[PRESERVE], 0);
    let identical = &done["restored"]["identical"];
    let records = offsets(&pair.source, "identical").len() as i64;
    assert!(records < 60 - 7, "there are holes");
    assert_eq!((&identical["front_offsets"], &identical["markers"]), (&json!(7), &json!(53 - records)), "{done}");
    assert_eq!((&identical["group_offsets"], &identical["records"]), (&json!(1), &json!(records)), "{done}");
    assert_eq!(offsets(&pair.source, "identical"), offsets(&pair.target, "identical"));
    assert_eq!(offsets(&pair.target, "identical").first().map(|(offset, _)| *offset), Some(7));
    let (here, there) = (pair.source.log("identical", 0).unwrap(), pair.target.log("identical", 0).unwrap());
    assert_eq!((here.start_offset, here.high_watermark), (there.start_offset, there.high_watermark));
    assert_eq!(pair.target.group_offsets("readers")[&("identical".to_owned(), 0)].offset, 23);
    let more = ["--suffix", "some", "--rename", "some.{topic}", "--partition", "identical:0=24..50"];
    backed.restore(&[&[PRESERVE], &more[..]].concat(), 0);
    let expected: Vec<_> =
        offsets(&pair.source, "identical").into_iter().filter(|(offset, _)| (24..50).contains(offset)).collect();
    assert_eq!(offsets(&pair.target, "some.identical"), expected);
}

fn first_obstacle(report: &Value) -> String {
    report["obstacles"][0].as_str().unwrap_or_else(|| panic!("no obstacle: {report}")).to_owned()
}

/// A topic that is there is somebody's; one that another restore has begun is its own.
#[test]
fn a_topic_that_is_there_is_not_written_to() {
    let backed = Backed::new("theirs", 1, 1, "");
    let pair = &backed.pair;
    pair.write(0, 0, 10);
    backed.backup(&[], 0);
    pair.target.create_topic("theirs", 1, 1, &[]).unwrap();
    let refused = backed.restore(&[PRESERVE], 3);
    assert!(first_obstacle(&refused).contains("is there already, and only a new topic"), "{refused}");
    assert_eq!(pair.target.log("theirs", 0).unwrap().high_watermark, 0);
    pair.target.delete_topic("theirs");
    let mark = ((1_i64 << 62) | 77).to_string();
    pair.target.create_topic("theirs", 1, 1, &[("flush.messages", mark.as_str())]).unwrap();
    let refused = backed.restore(&[PRESERVE], 3);
    assert!(first_obstacle(&refused).contains("an unfinished one of another restore"), "{refused}");
}

/// A call that fails is called again: what is there is not written twice, and what was refused is done.
#[test]
fn what_was_refused_is_done_by_the_next_call() {
    let backed = Backed::new("refused", 1, 1, "");
    let pair = &backed.pair;
    pair.write(0, 0, 10);
    pair.source.commit_offset("readers", "refused", 0, 5);
    backed.backup(&[], 0);
    let refuse = |api| {
        let error = kafka_protocol::ResponseError::TopicAuthorizationFailed;
        pair.target.intercept(api, None, move |_| kmirror::broker::Action::Error(error))
    };
    let hook = refuse(kmirror::client::ApiKey::Produce);
    let output = pair.mirror.output(&["restore", "--to", "to", "--yes", PRESERVE]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    pair.target.remove_intercept(&hook);
    let hook = refuse(kmirror::client::ApiKey::OffsetCommit);
    let report = backed.restore(&[PRESERVE], 3);
    let problem = report["restored"]["identical"]["problems"][0].as_str().unwrap_or_default().to_owned();
    assert!(hook.hits() > 0 && problem.contains("readers") && problem.contains("call the restore again"), "{report}");
    pair.target.remove_intercept(&hook);
    let report = backed.restore(&[PRESERVE], 0);
    assert_eq!(report["restored"]["identical"]["group_offsets"], 1, "{report}");
    assert_eq!(offsets(&pair.source, "refused"), offsets(&pair.target, "refused"));
    assert_eq!(pair.target.group_offsets("readers")[&("refused".to_owned(), 0)].offset, 5);
    let refused = backed.restore(&[PRESERVE], 3);
    assert!(first_obstacle(&refused).contains("is there already"), "{refused}");
}

/// What stands in an unfinished topic and is not what belongs there ends the restore, naming the offset.
#[test]
fn an_unfinished_topic_that_somebody_wrote_to_is_told() {
    let backed = Backed::new("touched", 1, 1, "");
    let pair = &backed.pair;
    pair.write(0, 0, 10);
    backed.backup(&[], 0);
    let error = kafka_protocol::ResponseError::TopicAuthorizationFailed;
    let hook =
        pair.target.intercept(kmirror::client::ApiKey::Produce, None, move |_| kmirror::broker::Action::Error(error));
    let call = ["restore", "--to", "to", "--yes", PRESERVE];
    assert_eq!(pair.mirror.output(&call).status.code(), Some(4));
    pair.target.remove_intercept(&hook);
    crate::embedded::append(&pair.target, "touched", 0, "a stranger's ", 0, 1);
    let output = pair.mirror.output(&call);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.contains("touched:0 at offset 0") && said.contains("delete topic touched"), "{said}");
}
