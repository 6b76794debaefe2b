//! An archive in a bucket: what speaks S3, refuses, loses answers, and loses objects.

use serde_json::Value;

use super::Backed;
use super::s3::S3;
use crate::e2e::mirror::LIMIT;
use crate::embedded::numbered;
use crate::kafka::harness::wait_until;

/// A backup with a folder and a bucket as its copies.
fn in_both(topic: &str, s3: &S3, more: &str) -> Backed {
    let backed = Backed::new(topic, 1, 1, more);
    let text = std::fs::read_to_string(&backed.pair.mirror.config).unwrap();
    let bucket = s3.destination("kafka/east");
    std::fs::write(&backed.pair.mirror.config, text.replace("    to: [", &format!("    to: [{bucket}, "))).unwrap();
    backed
}

/// A number in so many digits.
fn padded(number: u64, digits: usize) -> String {
    format!("{}{number:06}", "0".repeat(digits - 6))
}

fn damages(report: &Value) -> usize {
    report["damages"].as_array().expect("damages").len()
}

#[test]
fn a_bucket_is_a_copy_like_any_other() {
    let s3 = S3::start();
    let backed = in_both("bucket", &s3, "    segment_bytes: 1MiB\n    compression: none\n");
    let pair = &backed.pair;
    // More than a part of an upload.
    let record = |number: u64| (None, Some(bytes::Bytes::from(padded(number, 100_000))));
    for number in 0..120 {
        pair.source
            .append_records("bucket", 0, kmirror::batch::Codec::None, 1_790_000_000_000, &[record(number)])
            .unwrap();
    }
    let first = backed.backup(&[], 0);
    assert!(first["pass"]["segments"].as_i64().unwrap() > 5, "{first}");
    pair.source.append_records("bucket", 0, kmirror::batch::Codec::None, 1_790_000_000_000, &[record(120)]).unwrap();
    // Requests that are refused are tried again, and so are those whose answer is lost: a manifest that is there is ours.
    s3.refuse(2);
    s3.lose_answers(3);
    let second = backed.backup(&[], 0);
    assert_eq!(second["pass"]["unit"], 2, "{second}");
    assert_eq!(damages(&backed.archive(&["verify"], 0)), 0);
    let objects: Vec<_> =
        std::fs::read_dir(s3.folder().join("backups/kafka/east/nightly/chains/00000001/data/bucket/00000"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
    std::fs::remove_file(&objects[0]).unwrap();
    assert_eq!(damages(&backed.archive(&["verify"], 3)), 1);
    backed.restore(&[], 0);
    let expected: Vec<String> = (0..=120).map(|number| padded(number, 100_000)).collect();
    assert!(pair.values(&pair.target, 0) == expected);
    backed.archive(&["repair", "--yes"], 0);
    assert_eq!(damages(&backed.archive(&["verify"], 0)), 0);
}

#[test]
fn a_segment_larger_than_a_part_goes_up_in_parts() {
    let s3 = S3::start();
    let backed = in_both("parts", &s3, "    segment_bytes: 64MiB\n    compression: none\n");
    let record = |number: u64| (None, Some(bytes::Bytes::from(padded(number, 900_000))));
    for number in 0..20 {
        let records = [record(number)];
        backed
            .pair
            .source
            .append_records("parts", 0, kmirror::batch::Codec::None, 1_790_000_000_000, &records)
            .unwrap();
    }
    let report = backed.backup(&[], 0);
    assert_eq!((&report["pass"]["segments"], report["pass"]["records"].as_i64()), (&1.into(), Some(20)), "{report}");
    // All of one size but the last: some stores want it so.
    let parts = s3.parts();
    assert!(parts.len() >= 3 && parts[0] == 8 << 20, "{parts:?}");
    let (last, before) = parts.split_last().unwrap();
    assert!(before.iter().all(|part| *part == parts[0]) && *last <= parts[0], "{parts:?}");
    assert_eq!(damages(&backed.archive(&["verify"], 0)), 0);
}

/// What a place refuses is said with its name, and without its secrets; an option that there is not is named.
#[test]
fn a_place_that_refuses_is_named() {
    let s3 = S3::start();
    let backed = in_both("refused", &s3, "");
    backed.pair.write(0, 0, 10);
    let text = std::fs::read_to_string(&backed.pair.mirror.config).unwrap();
    let said = |config: String| {
        std::fs::write(&backed.pair.mirror.config, config).unwrap();
        let output = backed.pair.mirror.output(&["backup"]);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let wrong = text.replace(&s3.destination("kafka/east"), &s3.refused("kafka/east"));
    let words = said(wrong);
    assert!(words.contains("s3://backups/kafka/east") && !words.contains("another-secret"), "{words}");
    let words = said(text.replace("aws_region", "aws_regoin"));
    assert!(words.contains("aws_regoin") && words.contains("s3://backups/kafka/east"), "{words}");
    std::fs::write(&backed.pair.mirror.config, text).unwrap();
    backed.backup(&[], 0);
    assert_eq!(
        numbered("", 0, 10).len() as i64,
        backed.archive(&["show"], 0)["partitions"][0]["records"].as_i64().unwrap()
    );
}

/// The bucket lets nobody write one of two partitions any more: the pass ends long before it has read the other, what was committed stays,
/// and nothing half is left behind.
#[test]
fn a_destination_that_fails_ends_the_pass_soon() {
    const RECORDS: u64 = 60;
    let s3 = S3::start();
    // Some 20 s, if it went through.
    let backed =
        Backed::new("soon", 2, 1, "    segment_bytes: 9MiB\n    compression: none\n    limits: { bandwidth: 5MiB }\n");
    let text = std::fs::read_to_string(&backed.pair.mirror.config).unwrap();
    let folder = format!("{{ url: \"file://{}\" }}", backed.folders[0].display());
    std::fs::write(&backed.pair.mirror.config, text.replace(&folder, &s3.destination("kafka"))).unwrap();
    let record = |number: u64| (None, Some(bytes::Bytes::from(padded(number, 900_000))));
    for (number, partition) in (0..RECORDS).flat_map(|number| [(number, 0), (number, 1)]) {
        let records = [record(number)];
        let source = &backed.pair.source;
        source.append_records("soon", partition, kmirror::batch::Codec::None, 1_790_000_000_000, &records).unwrap();
    }
    let manifest = s3.folder().join("backups/kafka/nightly/chains/00000001/units/00000001.json");
    let mut running =
        backed.pair.mirror.spawn(&["backup", "--commit-every", "1ms", "--log-level", "info"], "backup.log");
    wait_until("a manifest", LIMIT, || if manifest.is_file() { Ok(()) } else { Err("none".to_owned()) });
    s3.forbid("/soon/00001/");
    assert_eq!(running.wait_exit(LIMIT), 4, "{}", running.log_tail());
    let shown = backed.archive(&["show"], 0);
    let to = |partition: usize| shown["partitions"][partition]["to"].as_u64().unwrap_or(0);
    assert!((to(0) + to(1)) > 0 && to(0) < RECORDS && to(1) < RECORDS, "{} and {}", to(0), to(1));
    assert_eq!(shown["broken"], Value::Null);
    let (begun, ended) = s3.uploads();
    assert!(begun > 0 && begun == ended, "{begun} uploads were begun, {ended} were ended");
}

/// A bucket that is not there is not an empty one.
#[test]
fn a_bucket_that_is_missing_is_named() {
    let s3 = S3::start();
    let backed = in_both("no-bucket", &s3, "");
    backed.pair.write(0, 0, 10);
    backed.backup(&[], 0);
    let bucket = s3.folder().join("backups");
    std::fs::rename(&bucket, s3.folder().join("elsewhere")).unwrap();
    let report = backed.archive(&["verify"], 3);
    assert_eq!((report["away"].as_array().unwrap().len(), damages(&report)), (1, 0), "{report}");
    let failed = backed.pair.mirror.output(&["backup"]);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(failed.status.code() != Some(0) && said.contains("NoSuchBucket"), "{said}");
    assert!(!bucket.exists());
}
