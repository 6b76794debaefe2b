//! Both sides compared on real brokers: what Kafka's producers, coordinators and cleaners leave behind is no difference, and a
//! difference is found.

use serde_json::Value;

use super::Mirror;
use super::kinds::CODECS;
use super::mirror::{LIMIT, await_end_offsets};
use crate::kafka::harness::{Produce, TopicSpec, Transact, driver, real_kafka_wanted, source, target};

fn sum(report: &Value, name: &str) -> u64 {
    report["partitions"].as_array().unwrap().iter().map(|row| row[name].as_u64().unwrap()).sum()
}

fn problems(report: &Value) -> u64 {
    ["differing", "missing", "extra"].iter().map(|name| sum(report, name)).sum()
}

#[test]
fn a_mirror_of_every_kind_of_batch_is_the_same_until_a_record_is_planted() {
    if !real_kafka_wanted("a_mirror_of_every_kind_of_batch_is_the_same_until_a_record_is_planted") {
        return;
    }
    let (driver, topic) = (driver(), "verify-kinds");
    driver.create_topic(&source().bootstrap(), &TopicSpec::new(topic, 3).set("retention.ms", -1));
    let mut sent = 0;
    for (seed, codec) in CODECS.into_iter().enumerate() {
        let odd = Produce { seed: seed as u64, codec, partitions: 3, ..Produce::odd(topic, 2_000) };
        driver.produce(&source().bootstrap(), &odd);
        let transact =
            Transact { producers: 2, ..Transact::new(Produce { count: 300, seed: 50 + seed as u64, ..odd }) };
        sent += 2_000 + driver.transact(&source().bootstrap(), &transact).committed;
    }
    // The log ends in data, not in markers.
    let one = Produce { partition: Some(2), ..Produce::new(topic, 1) };
    driver.produce(&source().bootstrap(), &Produce { seed: 900, ..one.clone() });
    sent += 1;
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    mirror.start().await_caught_up(3);
    for args in [&["verify"][..], &["verify", "--bytes", "--parallel", "1"]] {
        let report = mirror.json(args, 0);
        assert_eq!((sum(&report, "equal"), problems(&report)), (sent, 0), "{report}");
        assert!(sum(&report, "in_gaps") > 0 && sum(&report, "batches_by_crc") > 0, "{report}");
    }
    let sample = mirror.json(&["verify", "--sample", "2", "--partition", "verify-kinds:1"], 0);
    assert_eq!(sample["partitions"].as_array().map(Vec::len), Some(1), "{sample}");
    mirror.stop();

    // Somebody writes to the target what the source does not have at that offset.
    let row = mirror.row(topic, 2).unwrap();
    let target_end = row["target_end"].as_i64().unwrap();
    driver.produce(&target().bootstrap(), &Produce { seed: 901, ..one.clone() });
    let report = mirror.json(&["verify"], 3);
    assert_eq!((sum(&report, "extra"), problems(&report)), (1, 1), "{report}");
    // What waits on the source has nothing to do with it.
    driver.produce(&source().bootstrap(), &Produce { seed: 902, ..one });
    let report = mirror.json(&["verify", "--partition", "verify-kinds:2"], 3);
    let problem = &report["partitions"][0]["problems"][0];
    assert_eq!((sum(&report, "extra"), problems(&report)), (1, 1), "{report}");
    assert_eq!(problem["from"], Value::from(target_end), "{report}");
    assert_eq!(problem["what"], serde_json::json!(["not_of_the_mirror"]), "{report}");

    // Nor does the target's retention take what is kept for good.
    let deleted = driver.delete_records(&target().bootstrap(), topic, 1, 100);
    assert_eq!(deleted, 100);
    let report = mirror.json(&["verify", "--partition", "verify-kinds:1"], 3);
    let row = &report["partitions"][0];
    assert_eq!((sum(&report, "missing"), problems(&report)), (100, 100), "{report}");
    assert_eq!(row["problems"][0]["what"], serde_json::json!(["deleted_on_target"]), "{report}");
}

#[test]
fn what_the_targets_cleaner_took_is_no_loss() {
    if !real_kafka_wanted("what_the_targets_cleaner_took_is_no_loss") {
        return;
    }
    let (driver, topic) = (driver(), "verify-compacted");
    let spec = TopicSpec::new(topic, 2).set("segment.ms", 100).set("min.cleanable.dirty.ratio", 0.01);
    driver.create_topic(&source().bootstrap(), &spec);
    for (seed, codec) in CODECS.into_iter().enumerate() {
        let produce = Produce { seed: seed as u64, codec, partitions: 2, keys: 300, ..Produce::new(topic, 2_000) };
        driver.produce(&source().bootstrap(), &produce);
    }
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    mirror.start().await_caught_up(2);
    await_end_offsets(target(), topic, 10_000, LIMIT);
    let report = mirror.json(&["verify"], 0);
    assert_eq!((sum(&report, "equal"), problems(&report)), (10_000, 0), "{report}");
    mirror.stop();
    driver.alter_configs(&target().bootstrap(), topic, &[("cleanup.policy", "compact")]);
    // Its own records, which roll segments, stand behind the mirror's.
    driver.compact(&target().bootstrap(), topic, 500);
    let report = mirror.json(&["verify"], 3);
    let unproven = &report["partitions"][0]["not_comparable_by_reason"]["target_compaction_unproven"];
    assert_eq!((sum(&report, "missing"), sum(&report, "differing"), unproven), (0, 0, &Value::Null), "{report}");
    assert!(sum(&report, "not_comparable") >= 1_000, "{report}");
    assert_eq!(sum(&report, "equal") + sum(&report, "not_comparable"), 10_000, "{report}");
}
