//! Cut short at each step, and called again: the end is the same.

use std::time::Duration;

use serde_json::Value;

use super::super::{Pair, numbered};
use super::{ends, partition};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// Where a call is killed, in the order of the steps.
const STEPS: [&str; 8] = ["announce", "half", "fence", "groups", "settings_begun", "settings", "done", "drain"];

/// A topic whose settings were held back, mirrored and drained; the mirror was killed.
fn prepared(step: &str) -> Pair {
    let topic = format!("cut-{step}");
    let mut pair = Pair::matching(&topic, &topic, 2, "");
    pair.source.create_topic(&topic, 2, 1, &[("retention.ms", "1234567"), ("compression.type", "gzip")]).unwrap();
    pair.write(0, 0, 10);
    pair.write(1, 0, 7);
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 10));
    pair.await_values(1, &numbered("", 0, 7));
    pair.mirror.await_caught_up(2);
    pair
}

/// A call that is killed behind a step.
pub(super) fn cut_short(pair: &Pair, step: &str) {
    let kind = if step == "drain" { "--planned" } else { "--unplanned" };
    let args = ["failover", "--yes", kind, "--quiet", "200ms", "--pause-after", step];
    let mut call = pair.mirror.spawn(&args, "failover.log");
    let log = pair.mirror.folder().join("failover.log");
    let words = format!("step through mirror={} step=\"{step}\"", pair.mirror.name);
    wait_until(&words, LIMIT, || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.contains(&words) { Ok(()) } else { Err(text) }
    });
    call.kill();
}

fn killed_after(step: &str) {
    let mut pair = prepared(step);
    cut_short(&pair, step);
    // The mirror is told before the fence, and ends by itself; or is not told at all.
    if step == "drain" {
        assert!(pair.mirror.is_running());
        pair.write(0, 10, 12);
        pair.await_values(0, &numbered("", 0, 12));
    } else {
        assert_eq!(pair.mirror.await_end(), 0);
    }
    let from = if step == "drain" { 12 } else { 10 };
    let report = pair.fail_over(&[], 0);
    assert_promoted(&pair, &report, from);
    let again = pair.fail_over(&[], 0);
    assert_promoted(&pair, &again, from);
    assert_eq!((&again["done_at"], &again["started_at"]), (&report["done_at"], &report["started_at"]));
}

fn assert_promoted(pair: &Pair, report: &Value, first: i64) {
    assert_eq!(ends(partition(report, 0)), (first, first, 0), "{report}");
    assert_eq!(ends(partition(report, 1)), (7, 7, 0), "{report}");
    assert_eq!(report["verification"]["refusing"].as_i64(), Some(2), "{report}");
    assert_eq!(report["problems"], Value::Array(vec![]), "{report}");
    let topics = pair.target.topics();
    let configs = &topics.iter().find(|t| t.name == pair.topic).expect("the topic").configs;
    let expected = [("compression.type", "gzip"), ("retention.ms", "1234567")];
    assert_eq!(configs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, first.unsigned_abs()));
    assert_eq!(pair.values(&pair.target, 1), numbered("", 0, 7));
}

macro_rules! killed_after {
    ($($name:ident $step:literal,)*) => {
        $(#[test]
        fn $name() {
            killed_after($step);
        })*

        #[test]
        fn every_step_has_its_test() {
            let mut tested = [$($step),*];
            let mut all = STEPS;
            tested.sort_unstable();
            all.sort_unstable();
            assert_eq!(tested, all);
        }
    };
}

killed_after! {
    killed_after_the_drain "drain",
    killed_after_the_announcement "announce",
    killed_between_the_fence_and_its_record "half",
    killed_after_the_fence "fence",
    killed_after_the_groups "groups",
    killed_before_the_settings "settings_begun",
    killed_after_the_settings "settings",
    killed_after_it_was_done "done",
}

/// At any moment, wherever that is.
#[test]
fn killed_at_any_moment_it_ends_the_same_way() {
    for round in 0..12_u64 {
        let mut pair = prepared(&format!("any-{round}"));
        let kept = pair.mirror.folder().join("cut.json");
        let args = ["failover", "--yes", "--unplanned", "--report", kept.to_str().expect("a path")];
        let mut call = pair.mirror.spawn(&args, "failover.log");
        std::thread::sleep(Duration::from_millis(20 + 25 * round));
        call.kill();
        let report = pair.fail_over(&["--unplanned"], 0);
        assert_promoted(&pair, &report, 10);
        assert_eq!(pair.mirror.await_end(), 0);
    }
}

/// Called off before anything was changed that the mirror could not live with; the mirror goes on.
#[test]
fn what_was_begun_can_be_called_off_until_settings_are_changed() {
    for (step, code) in [("announce", 0), ("groups", 0), ("settings_begun", 1), ("done", 1)] {
        let mut pair = prepared(&format!("off-{step}"));
        let mut call = pair.mirror.spawn(&["failover", "--yes", "--unplanned", "--pause-after", step], "failover.log");
        let log = pair.mirror.folder().join("failover.log");
        wait_until(step, LIMIT, || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.contains(&format!("step=\"{step}\"")) { Ok(()) } else { Err(text) }
        });
        call.kill();
        assert_eq!(pair.mirror.await_end(), 0);
        let output = pair.mirror.output(&["failover", "--cancel"]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        if code == 0 {
            pair.write(0, 10, 20);
            pair.mirror.start();
            pair.await_values(1, &numbered("", 0, 7));
            pair.ends_with(&numbered("", 0, 20));
        } else {
            assert_promoted(&pair, &pair.fail_over(&[], 0), 10);
        }
    }
}

/// Nor once somebody else has written to the target.
#[test]
fn a_target_with_a_life_of_its_own_is_not_called_off() {
    let mut pair = prepared("off-foreign");
    let mut call = pair.mirror.spawn(&["failover", "--yes", "--unplanned", "--pause-after", "fence"], "failover.log");
    let log = pair.mirror.folder().join("failover.log");
    wait_until("the fence", LIMIT, || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.contains("step=\"fence\"") { Ok(()) } else { Err(text) }
    });
    call.kill();
    assert_eq!(pair.mirror.await_end(), 0);
    super::super::append(&pair.target, &pair.topic, 0, "own-", 0, 3);
    let output = pair.mirror.output(&["failover", "--cancel"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("a life of its own"), "{output:?}");
    let report = pair.fail_over(&[], 0);
    assert_eq!(ends(partition(&report, 0)), (10, 10, 0), "{report}");
}
