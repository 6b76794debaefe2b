//! The source is there: drained first, and nothing is lost.

use std::time::Duration;

use super::super::{Pair, numbered};
use super::{ends, partition};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

#[test]
fn a_running_mirror_drains_what_is_left() {
    let mut pair = Pair::mirrored("drained", "");
    pair.write(0, 10, 500);
    let report = pair.fail_over(&[], 0);
    assert_eq!((report["mode"].as_str(), report["rpo"]["records"].as_i64()), (Some("planned"), Some(0)), "{report}");
    assert_eq!(report["rpo"]["is_exact"].as_bool(), Some(true), "{report}");
    assert!(report["loss_manifest"].is_null());
    assert_eq!(ends(partition(&report, 0)), (500, 500, 0), "{report}");
    assert_eq!(pair.mirror.await_end(), 0);
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 500));
}

/// Heartbeats go on until the target is promoted: nobody waits for them to stop, and those that did not arrive are no loss.
#[test]
fn heartbeats_do_not_keep_a_source_from_being_drained() {
    let mut pair = Pair::mirrored("drained-beats", "    heartbeats: { interval: 100ms }\n");
    let there = || pair.target.records("kmirror.heartbeats.drained-beats", 0, 0).map_or(0, |beats| beats.len());
    wait_until("heartbeats on the target", LIMIT, || if there() > 2 { Ok(()) } else { Err(there().to_string()) });
    let report = pair.fail_over(&["--planned"], 0);
    assert_eq!((report["mode"].as_str(), report["rpo"]["records"].as_i64()), (Some("planned"), Some(0)), "{report}");
    assert_eq!(pair.mirror.await_end(), 0);
}

/// No mirror runs: after a clean stop, after a kill; the failover runs it until the source is drained.
#[test]
fn without_a_running_mirror_the_failover_drains_by_itself() {
    for how in ["stopped", "killed"] {
        let mut pair = Pair::mirrored(&format!("drained-{how}"), "");
        match how {
            "stopped" => pair.mirror.stop(),
            _ => pair.mirror.kill(),
        }
        pair.write(0, 10, 60);
        let report = pair.fail_over(&["--planned"], 0);
        assert_eq!(
            (report["mode"].as_str(), report["rpo"]["records"].as_i64()),
            (Some("planned"), Some(0)),
            "{report}"
        );
        let (mirrored_to, _, lag) = ends(partition(&report, 0));
        assert_eq!((mirrored_to, lag), (60, 0), "{report}");
        assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 60));
    }
}

/// Markers and aborted records at the end of the source are nothing to lose.
#[test]
fn markers_at_the_end_are_no_lag() {
    let mut pair = Pair::mirrored("drained-markers", "");
    pair.source.write_markers(&pair.topic, 0, (77, 0), false).unwrap();
    let report = pair.fail_over(&["--planned"], 0);
    assert_eq!(ends(partition(&report, 0)), (11, 10, 0), "{report}");
    assert_eq!(report["rpo"]["records"].as_i64(), Some(0), "{report}");
    assert_eq!(pair.mirror.await_end(), 0);
}

/// Writers that do not stop: nothing is begun, and the mirror goes on.
#[test]
fn a_source_that_is_still_written_to_is_not_promoted() {
    let pair = Pair::mirrored("still-written", "");
    let args = ["failover", "--yes", "--planned", "--quiet", "1500ms", "--drain-timeout", "3s"];
    let mut call = pair.mirror.spawn(&args, "failover.log");
    let mut written = 10;
    while call.is_running() {
        pair.write(0, written, written + 1);
        written += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(call.wait_exit(Duration::from_secs(1)), 1);
    let log = std::fs::read_to_string(pair.mirror.folder().join("failover.log")).unwrap();
    assert!(log.contains("still written to after 3 s") && log.contains("nothing was changed"), "{log}");
    pair.ends_with(&numbered("", 0, written));
}

/// Denied by ACL they stop, and what they had written is drained; the ACL is on record for the way home.
#[test]
fn writers_are_fenced_off_the_source_by_an_acl() {
    let mut pair = Pair::mirrored("acl", "");
    pair.write(0, 10, 30);
    let plan = pair.mirror.json(&["failover", "--fence-source", "acl", "--dry-run"], 0);
    assert_eq!(plan["steps"][0]["step"].as_str(), Some("fence source"), "{plan}");
    let report = pair.fail_over(&["--fence-source", "acl"], 0);
    assert_eq!((report["mode"].as_str(), report["rpo"]["records"].as_i64()), (Some("planned"), Some(0)), "{report}");
    assert_eq!(pair.mirror.await_end(), 0);
    let (runtime, client) = pair.client(&pair.source);
    let refused = runtime.block_on(pair.produce(&client, 0)).unwrap_err();
    assert_eq!(refused.code(), Some(29), "{refused}");
    assert_eq!(pair.control().source_fenced().iter().map(String::as_str).collect::<Vec<_>>(), ["acl"]);
    assert_eq!(runtime.block_on(client.allow_writes(&["acl"])).unwrap(), 1);
    runtime.block_on(pair.produce(&client, 0)).unwrap();
}

/// A halted partition cannot be drained: it stands against a planned failover, unless it is promoted as it is.
#[test]
fn a_halted_partition_stands_against_it_unless_it_is_allowed() {
    let mut pair = Pair::mirrored("halted-drain", "");
    super::super::append(&pair.target, &pair.topic, 0, "foreign-", 0, 1);
    pair.write(0, 10, 20);
    pair.await_halt();
    // That batch had landed, unless what is foreign was noticed before; this one is not sent any more.
    pair.write(0, 20, 30);
    let refused = pair.mirror.output(&["failover", "--planned", "--yes"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--allow-halted"), "{refused:?}");
    let report = pair.fail_over(&["--planned", "--allow-halted"], 0);
    let mirrored_to = ends(partition(&report, 0)).0;
    assert!([10, 20].contains(&mirrored_to), "{report}");
    assert_eq!(report["rpo"]["records"].as_i64(), Some(30 - mirrored_to), "{report}");
    let ours = pair.values(&pair.target, 0).into_iter().filter(|value| !value.starts_with("foreign-"));
    assert_eq!(ours.collect::<Vec<_>>(), numbered("", 0, mirrored_to.unsigned_abs()), "{report}");
    assert_eq!(pair.mirror.await_end(), 0);
}

/// A source that is gone cannot be drained.
#[test]
fn a_planned_failover_needs_the_source() {
    let mut pair = Pair::mirrored("planned-gone", "");
    pair.lose_source();
    let refused = pair.mirror.output(&["failover", "--planned", "--yes", "--source-timeout", "3s"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--unplanned"), "{refused:?}");
    pair.mirror.kill();
}
