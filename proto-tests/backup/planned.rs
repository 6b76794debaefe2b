//! `kmirror backup plan`: its figures against what was written, and against what a pass then stores.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kmirror::batch::Codec;
use serde_json::Value;

use super::Backed;

const HOUR_MS: i64 = 3_600_000;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Records as services write them, fifty to a batch; keys come again after a hundred.
fn write(backed: &Backed, topic: &str, codec: Codec, at_ms: i64, numbers: std::ops::Range<u64>) {
    let record = |number: u64| {
        let seen = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let value = format!(
            "{{\"order\":{number},\"customer\":\"c-{}\",\"seen\":\"{seen:016x}\",\"state\":\"accepted\",\"lines\":[{}]}}",
            number % 977,
            ["{\"sku\":\"standard-article\",\"amount\":1}"; 10].join(",")
        );
        (Some(Bytes::from(format!("key-{}", number % 100))), Some(Bytes::from(value)))
    };
    let numbers: Vec<u64> = numbers.collect();
    for (at, batch) in numbers.chunks(50).enumerate() {
        let records: Vec<_> = batch.iter().map(|number| record(*number)).collect();
        backed.pair.source.append_records(topic, (at % 2) as i32, codec, at_ms, &records).unwrap();
    }
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("{name}: {value}"))
}

fn near(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= expected.abs() * tolerance, "{what}: {found}, and not about {expected}");
}

#[test]
fn the_plan_says_what_is_there_and_what_a_pass_will_store() {
    for (name, compression, codec) in [
        ("planned-zstd", "zstd", Codec::None),
        ("planned-plain", "none", Codec::None),
        ("planned-lz4", "zstd", Codec::Lz4),
    ] {
        let more = format!("    compression: {compression}\n    full_every: 10d\n    interval: 2m\n    keep: 3\n");
        let backed = Backed::new(name, 2, 2, &more);
        let now = now_ms();
        write(&backed, name, codec, now - 72 * HOUR_MS, 0..1_000);
        write(&backed, name, codec, now - 12 * HOUR_MS, 1_000..1_500);
        write(&backed, name, codec, now - HOUR_MS / 2, 1_500..2_000);
        backed.pair.source.create_topic(&format!("{name}-empty"), 1, 1, &[("cleanup.policy", "compact")]).unwrap();
        let plan = backed.backup(&["plan", "--interval", "1m,1h", "--full-every", "1d", "--keep", "1"], 0);
        let is_begun = |folder: &std::path::PathBuf| folder.join("nightly/archive.json").exists();
        assert!(!backed.folders.iter().any(is_begun), "a plan writes nothing");
        let topics = plan["topics"].as_array().unwrap();
        assert_eq!(topics.len(), 2, "{plan}");
        let (topic, empty) = (&topics[0], &topics[1]);
        assert_eq!((topic["topic"].as_str(), topic["offsets"].as_i64()), (Some(name), Some(2_000)));
        assert_eq!((topic["is_compacted"].as_bool(), empty["is_compacted"].as_bool()), (Some(false), Some(true)));
        assert_eq!((empty["offsets"].as_i64(), number(empty, "bytes")), (Some(0), 0.0));
        near("records of the hour", number(topic, "records_per_s_hour") * 3_600.0, 500.0, 1e-6);
        near("records of the day", number(topic, "records_per_s_day") * 86_400.0, 1_000.0, 1e-6);
        // 100 keys in each of the partitions, and 1,000 records.
        near("updates", number(topic, "update_share"), 0.9, 0.05);

        let pass = &backed.backup(&[], 0)["pass"];
        let (raw, stored) = (number(pass, "raw_bytes"), number(pass, "stored_bytes"));
        near("bytes", number(topic, "bytes"), raw, 0.05);
        let planned = if compression == "zstd" { "stored_bytes_zstd" } else { "stored_bytes" };
        near("stored bytes", number(topic, planned), stored, 0.15);
        if codec == Codec::None {
            assert!(number(topic, "stored_bytes_zstd") < number(topic, "stored_bytes") / 2.0, "{topic}");
        } else {
            near("what is compressed stays", number(topic, "stored_bytes_zstd"), number(topic, "stored_bytes"), 0.01);
        }

        let schedules = plan["schedules"].as_array().unwrap();
        assert_eq!(schedules.len(), 3, "{plan}");
        let own = &schedules[0];
        assert_eq!((own["is_configured"].as_bool(), number(own, "interval_s")), (Some(true), 120.0));
        // Half of it came within a day: in ten days five times as much as there is.
        let chain = stored + 10.0 * stored / 2.0;
        near("archive", number(own, "archive_bytes"), 2.0 * chain + stored + 5.0 * stored / 2.0, 0.15);
        near("at most", number(own, "archive_bytes_max"), 3.0 * chain + stored, 0.15);
        assert!(number(own, "rpo_s") >= 120.0 && number(own, "rpo_s") < 180.0, "{own}");
        // A pass every two minutes, a manifest each, and both partitions have something new in each; in two copies.
        let passes = 30.0 * 24.0 * 30.0;
        let per_partition = 500.0 / 86_400.0 * 120.0_f64;
        near("writes", number(own, "writes_per_month"), 2.0 * passes * (1.0 + 2.0 * per_partition.min(1.0)), 0.01);
        assert!(number(&schedules[1], "writes_per_month") > number(&schedules[2], "writes_per_month"));
        let cost = number(own, "archive_bytes") / 1e9 * 0.023 * 2.0 + number(own, "writes_per_month") / 1e3 * 0.005;
        near("cost", number(own, "cost_per_month"), cost, 1e-6);
    }
}

#[test]
fn a_plan_names_what_it_cannot_ask_and_a_pass_takes_no_plan() {
    let backed = Backed::new("planned-in-part", 2, 1, "");
    write(&backed, "planned-in-part", Codec::None, now_ms(), 0..100);
    backed.pair.source.set_leaderless("planned-in-part", 1).unwrap();
    let plan = backed.backup(&["plan"], 3);
    let problems = plan["problems"].as_array().unwrap();
    assert_eq!((problems.len(), problems[0]["partition"].as_i64()), (1, Some(1)), "{plan}");
    assert_eq!(plan["topics"][0]["offsets"].as_i64(), Some(50));
    let text = backed.pair.mirror.output(&["backup", "plan", "--price-per-gb-month", "0"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for word in ["planned-in-part", "<- the file", "NOTE sizes are estimated", "PROBLEM planned-in-part:1"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let both = backed.pair.mirror.output(&["backup", "--full", "plan"]);
    assert_eq!(both.status.code(), Some(2), "{both:?}");
}
