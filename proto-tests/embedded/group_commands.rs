//! `kmirror groups` by hand: what is planned, written and taken back, with no mirror running.

use kmirror::broker::GroupKind;
use serde_json::Value;

use super::Pair;
use super::group_sync::{GROUPS, offset};

/// Ten records mirrored, nothing running any more, and a group at 4.
fn mirrored(topic: &str) -> Pair {
    let mut pair = Pair::new(topic, 2, 1, GROUPS);
    pair.write(0, 0, 10);
    pair.mirror.start();
    pair.await_values(0, &super::numbered("", 0, 10));
    pair.mirror.stop();
    pair.source.commit_offset("billing", topic, 0, 4);
    pair
}

fn line<'a>(report: &'a Value, group: &str) -> &'a Value {
    let groups = report["groups"].as_array().expect("groups");
    &groups.iter().find(|row| row["group"] == group).unwrap_or_else(|| panic!("no {group}: {report}"))["lines"][0]
}

fn action<'a>(report: &'a Value, group: &str) -> &'a str {
    line(report, group)["outcome"]["action"].as_str().expect("an action")
}

#[test]
fn a_plan_shows_and_an_apply_writes_and_a_rollback_brings_back() {
    let topic = "group-commands-way";
    let pair = mirrored(topic);
    pair.source.commit_offset("new", topic, 0, 6);
    pair.source.commit_offset("beyond", topic, 0, 11);
    pair.target.commit_offset("billing", topic, 0, 1);
    let plan = pair.mirror.json(&["groups", "plan"], 0);
    assert_eq!(action(&plan, "billing"), "commit");
    assert_eq!((line(&plan, "billing")["found"].as_i64(), line(&plan, "new")["found"].as_i64()), (Some(1), None));
    assert_eq!(line(&plan, "beyond")["outcome"]["why"]["reason"].as_str(), Some("beyond_source"), "{plan}");
    assert_eq!(plan["totals"]["commits"].as_u64(), Some(2), "{plan}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("before.json");
    let file = file.to_str().unwrap();
    let apply = ["groups", "apply", "--snapshot", file];
    assert_eq!(pair.mirror.output(&apply).status.code(), Some(6));
    assert_eq!(pair.mirror.output(&[&apply[..], &["--dry-run"]].concat()).status.code(), Some(0));
    assert_eq!((offset(&pair.target, "billing", topic), std::path::Path::new(file).exists()), (Some(1), false));
    let applied = pair.mirror.json(&[&apply[..], &["--yes"]].concat(), 0);
    assert_eq!(applied["applied"]["offsets"].as_u64(), Some(2), "{applied}");
    assert_eq!((offset(&pair.target, "billing", topic), offset(&pair.target, "new", topic)), (Some(4), Some(6)));
    // Nothing is left to do; and what a later apply writes is added to the same file.
    assert_eq!(pair.mirror.output(&apply).status.code(), Some(0));
    pair.source.commit_offset("billing", topic, 0, 5);
    pair.mirror.json(&[&apply[..], &["--yes"]].concat(), 0);
    assert_eq!(offset(&pair.target, "billing", topic), Some(5));
    let rollback = ["groups", "rollback", file];
    assert_eq!(pair.mirror.output(&rollback).status.code(), Some(6));
    assert_eq!(pair.mirror.output(&[&rollback[..], &["--dry-run"]].concat()).status.code(), Some(0));
    assert_eq!(offset(&pair.target, "billing", topic), Some(5));
    let back = pair.mirror.json(&[&rollback[..], &["--yes"]].concat(), 0);
    let counts = (back["applied"]["committed"]["offsets"].as_u64(), back["applied"]["deleted"]["offsets"].as_u64());
    assert_eq!(counts, (Some(1), Some(1)), "{back}");
    assert_eq!((offset(&pair.target, "billing", topic), offset(&pair.target, "new", topic)), (Some(1), None));
    // Done, it leaves nothing to do.
    assert_eq!(pair.mirror.output(&rollback).status.code(), Some(0));
}

#[test]
fn what_somebody_else_did_stays_unless_it_is_said_otherwise() {
    let topic = "group-commands-others";
    let pair = mirrored(topic);
    pair.source.commit_offset("live", topic, 0, 4);
    pair.target.set_members("live", GroupKind::Consumer, 1, &[topic]);
    pair.target.set_members("billing", GroupKind::Classic, 0, &[topic]);
    pair.target.commit_offset("billing", topic, 0, 9);
    let plan = pair.mirror.json(&["groups", "plan"], 0);
    assert_eq!(action(&plan, "billing"), "left_alone");
    let all = pair.mirror.json(&["groups", "plan", "--overwrite", "all"], 0);
    assert_eq!(action(&all, "billing"), "commit");
    for plan in [&plan, &all] {
        let live = plan["groups"].as_array().unwrap().iter().find(|group| group["group"] == "live").unwrap();
        assert_eq!(live["why"]["reason"].as_str(), Some("live_on_target"), "{live}");
    }
    let only = pair.mirror.json(&["groups", "plan", "--group", "li.*"], 0);
    assert_eq!(only["groups"].as_array().map(Vec::len), Some(1), "{only}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("before.json");
    let file = file.to_str().unwrap();
    pair.mirror.json(&["groups", "apply", "--overwrite", "all", "--snapshot", file, "--yes"], 0);
    assert_eq!(offset(&pair.target, "billing", topic), Some(4));
    // Once it is used again, only force brings back what stood before.
    pair.target.commit_offset("billing", topic, 0, 6);
    let rollback = ["groups", "rollback", file, "--yes"];
    pair.mirror.json(&rollback, 0);
    assert_eq!(offset(&pair.target, "billing", topic), Some(6));
    pair.mirror.json(&[&rollback[..], &["--force"]].concat(), 0);
    assert_eq!(offset(&pair.target, "billing", topic), Some(9));
}

#[test]
fn a_snapshot_of_another_cluster_or_mirror_is_refused() {
    let (one, other) = (mirrored("group-commands-one"), mirrored("group-commands-other"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("before.json");
    let file = file.to_str().unwrap();
    one.mirror.json(&["groups", "apply", "--snapshot", file, "--yes"], 0);
    for args in [vec!["groups", "rollback", file, "--yes"], vec!["groups", "apply", "--snapshot", file, "--yes"]] {
        let refused = other.mirror.output(&args);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    }
    assert_eq!(offset(&other.target, "billing", "group-commands-other"), None);
}

/// The last word on the groups is then what was last written, and how old it is.
#[test]
fn without_its_source_it_says_where_groups_stand() {
    let topic = "group-commands-gone";
    let mut pair = mirrored(topic);
    pair.mirror.start();
    super::group_sync::await_offset(&pair, "billing", 4);
    super::group_sync::await_status(&pair, "a record", |groups| groups["synced"] == 1);
    pair.mirror.stop();
    let lines = std::fs::read_to_string(&pair.mirror.config).unwrap();
    let address = pair.source.bootstrap().join("\", \"");
    std::fs::write(&pair.mirror.config, lines.replace(&address, "127.0.0.1:1")).unwrap();
    let report = pair.mirror.json(&["groups", "plan"], 4);
    assert!(report["source_unreachable"].as_str().is_some_and(|why| why.contains("127.0.0.1:1")), "{report}");
    assert_eq!(report["on_target"][0]["offsets"][topic]["0"]["offset"].as_i64(), Some(4), "{report}");
    assert!(report["last_sync"]["age_seconds"].as_f64().is_some_and(|age| age >= 0.0), "{report}");
    assert_eq!(report["last_sync"]["synced"].as_u64(), Some(1), "{report}");
    let page = pair.mirror.output(&["groups", "plan"]);
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("source unreachable: groups stay where they were last synced"), "{page}");
    assert_eq!(pair.mirror.output(&["groups", "apply", "--yes"]).status.code(), Some(4));
}

#[test]
fn a_mirror_without_groups_says_so() {
    let mut pair = Pair::mirrored("group-commands-none", "");
    pair.mirror.stop();
    let refused = pair.mirror.output(&["groups", "plan"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("selects no groups"), "{refused:?}");
    assert!(pair.mirror.json(&["status"], 0)["mirrors"][0]["groups"].is_null());
}
