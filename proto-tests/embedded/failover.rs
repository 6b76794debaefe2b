//! The target takes over: planned and unplanned, cut short at each step, with older processes that come back.

mod fences;
mod groups;
mod home;
mod planned;
mod steps;

use std::time::Duration;

use serde_json::Value;

use super::{Pair, numbered};
use crate::e2e::Mirror;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

impl Pair {
    /// Fails over, and gives the report; panics unless it exits with `code`.
    fn fail_over(&self, more: &[&str], code: i32) -> Value {
        fail_over(&self.mirror, more, code)
    }

    /// Every node of the source goes away.
    pub(super) fn lose_source(&self) {
        self._runtime.block_on(async {
            for node in 1..=2 {
                self.source.stop_node(node).await.unwrap();
            }
        });
    }
}

pub(crate) fn fail_over(mirror: &Mirror, more: &[&str], code: i32) -> Value {
    let file = mirror.folder().join("report.json");
    let file = file.to_str().expect("a path");
    let args = [&["failover", "--yes", "--quiet", "500ms", "--source-timeout", "5s", "--report", file], more].concat();
    let report = mirror.json(&args, code);
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(kept, report);
    report
}

/// The partition of a plan or report.
pub(crate) fn partition(report: &Value, number: i32) -> &Value {
    let all = report["partitions"].as_array().expect("partitions");
    all.iter().find(|p| p["partition"] == number).unwrap_or_else(|| panic!("no partition {number}: {report}"))
}

/// Numbers of a partition: mirrored to, target end, lag.
pub(crate) fn ends(partition: &Value) -> (i64, i64, i64) {
    let number = |field: &str| partition[field].as_i64().expect("a number");
    (number("mirrored_to"), number("target_end"), number("lag_records"))
}

/// A running mirror is told, stops writing and ends well; what it had mirrored is promoted, and nobody goes on from there.
#[test]
fn a_running_mirror_ends_well_and_its_target_is_promoted() {
    let mut pair = Pair::mirrored("promoted", "");
    let report = pair.fail_over(&["--unplanned"], 0);
    assert_eq!(pair.mirror.await_end(), 0, "{}", pair.mirror.log());
    assert!(pair.mirror.log().contains("the mirror is being promoted"), "{}", pair.mirror.log());
    assert_eq!(ends(partition(&report, 0)), (10, 10, 0), "{report}");
    assert_eq!((report["mode"].as_str(), partition(&report, 0)["state"].as_str()), (Some("unplanned"), Some("fenced")));
    assert_eq!(
        (report["verification"]["partitions"].as_i64(), report["verification"]["refusing"].as_i64()),
        (Some(1), Some(1))
    );
    let rto = report["rto_seconds"].as_f64().expect("a number");
    assert!((0.0..60.0).contains(&rto), "{report}");
    // The target has a life of its own by now, and status does not take that for the mirror's.
    super::append(&pair.target, &pair.topic, 0, "own-", 0, 5);
    let row = pair.mirror.row(&pair.topic, 0).unwrap();
    assert_eq!((row["state"].as_str(), row["mirrored_to"].as_i64()), (Some("promoted"), Some(10)), "{row}");
    pair.assert_mapped_until(10);
    pair.mirror.start();
    assert_eq!(pair.mirror.await_end(), 1);
    assert!(pair.mirror.log().contains("promoted in generation 1"), "{}", pair.mirror.log());
    let again = pair.fail_over(&[], 0);
    assert_eq!(ends(partition(&again, 0)), (10, 10, 0));
    assert_eq!(again["done_at"], report["done_at"]);
}

/// The source is gone, and the mirror with it: what it had seen there tells what is lost.
#[test]
fn what_was_seen_of_a_source_that_is_gone_and_not_mirrored_is_listed() {
    let mut pair = Pair::mirrored("lost", "");
    let held = pair.hold_produce();
    pair.write(0, 10, 25);
    wait_until("the batch to be under way", LIMIT, || if held.hook.hits() > 0 { Ok(()) } else { Err(String::new()) });
    pair.lose_source();
    pair.await_seen(25);
    pair.mirror.kill();
    let dry: Value = {
        let output = pair.mirror.output(&["failover", "--dry-run", "--json", "--source-timeout", "5s"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!((dry["mode"].as_str(), dry["source_reachable"].as_bool()), (Some("unplanned"), Some(false)), "{dry}");
    assert_eq!((dry["rpo"]["records"].as_i64(), dry["rpo"]["is_exact"].as_bool()), (Some(15), Some(false)), "{dry}");
    let report = pair.fail_over(&[], 0);
    // What was under way comes too late.
    held.release.notify_waiters();
    held.release.notify_one();
    assert_eq!(ends(partition(&report, 0)), (10, 10, 15), "{report}");
    let manifest = &report["loss_manifest"];
    let lost = &manifest["lost"][0];
    assert_eq!(
        (lost["topic"].as_str(), lost["from"].as_i64(), lost["to"].as_i64(), lost["reason"].as_str()),
        (Some("lost"), Some(10), Some(25), Some("not_mirrored")),
        "{manifest}"
    );
    assert_eq!((manifest["unseen"][0]["from"].as_i64(), manifest["unseen"][0]["since"].is_string()), (Some(25), true));
    let bytes = report["rpo"]["bytes_estimate"].as_i64().expect("a number");
    assert!((100..10_000).contains(&bytes), "{report}");
    assert!(report["outage_seconds"].as_f64().is_some_and(|s| s > 0.0 && s < 300.0), "{report}");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 10));
}

/// Nothing is changed without a yes, nor by a dry run.
#[test]
fn without_a_yes_nothing_is_changed() {
    let pair = Pair::mirrored("no-yes", "");
    let refused = pair.mirror.output(&["failover", "--unplanned"]);
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    let shown = String::from_utf8_lossy(&refused.stdout).into_owned();
    for words in
        ["failover of mirror no-yes, generation 1: unplanned", "no-yes:0", "WARNING the source answers", "announce"]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let dry = pair.mirror.json(&["failover", "--yes", "--dry-run"], 0);
    assert_eq!((dry["mode"].as_str(), dry["schema_version"].as_i64()), (Some("planned"), Some(1)));
    pair.write(0, 10, 20);
    pair.ends_with(&numbered("", 0, 20));
}
