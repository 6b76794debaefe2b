//! Rehearsals of a failover, between embedded brokers.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::protocol::StrBytes;
use kmirror::broker::{Action, Cluster};
use serde_json::Value;

use super::failover::fail_over;
use super::{Pair, append, numbered};

const GROUPS: &str = "    groups: { include: [\".*\"], interval: 1h }\n";

/// Ten records in two batches on both sides, groups at three places, and nobody who runs.
fn rehearsed(topic: &str) -> Pair {
    let mut pair = Pair::new(topic, 2, 1, GROUPS);
    pair.write(0, 0, 5);
    pair.write(0, 5, 10);
    for (group, offset) in [("behind", 2), ("middle", 7), ("done", 10)] {
        pair.source.commit_offset(group, topic, 0, offset);
    }
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 10));
    pair.mirror.await_caught_up(1);
    pair.mirror.stop();
    pair
}

impl Pair {
    fn drill(&self, more: &[&str], code: i32) -> Value {
        self.mirror.json(&[&["drill"], more].concat(), code)
    }
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["checks"].as_array().expect("checks");
    all.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no check {name}: {report}"))
}

#[test]
fn a_drill_compares_the_record_of_every_group_and_changes_nothing() {
    let pair = rehearsed("rehearsed");
    let topics = pair.target.topics().len();
    let end = pair.target.log("rehearsed", 0).unwrap().end_offset;
    let before = pair.target.group_offsets("behind");
    let report = pair.drill(&[], 0);
    assert_eq!((&report["passed"], &report["rpo_records"]), (&true.into(), &0.into()), "{report}");
    assert_eq!(check(&report, "positions")["verdict"], "pass", "{report}");
    let groups = report["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 3, "{report}");
    assert!(groups.iter().all(|group| group["compared"] == 1 && group["same"] == 1), "{report}");
    assert_eq!(pair.target.log("rehearsed", 0).unwrap().end_offset, end);
    assert_eq!((pair.target.topics().len(), pair.target.group_offsets("behind")), (topics, before));
}

#[test]
fn a_record_that_is_another_one_fails_the_drill() {
    let pair = rehearsed("another-record");
    pair.source.truncate("another-record", 0, 5).unwrap();
    append(&pair.source, "another-record", 0, "other-", 5, 10);
    let report = pair.drill(&["--max-rpo", "1h"], 3);
    let positions = check(&report, "positions");
    assert_eq!(positions["verdict"], "fail", "{report}");
    let findings = positions["findings"].to_string();
    assert!(findings.contains("middle another-record:0 offset 7"), "{findings}");
    assert!(!findings.contains("behind"), "{findings}");
}

#[test]
fn what_is_missing_is_held_against_what_is_expected() {
    let pair = rehearsed("late-drill");
    pair.write(0, 10, 13);
    // The records bear a time far from now.
    let report = pair.drill(&["--max-rpo", "1s"], 3);
    assert_eq!(check(&report, "rpo")["verdict"], "fail", "{report}");
    assert_eq!(report["rpo_records"], 3, "{report}");
    assert_eq!(check(&report, "positions")["verdict"], "pass", "{report}");
}

#[test]
fn copies_of_groups_are_consumed_and_taken_away() {
    let pair = rehearsed("isolated-drill");
    let report = pair.drill(&["--isolated"], 0);
    let isolated = check(&report, "isolated");
    assert!(
        isolated["summary"].as_str().unwrap().contains("copies of 3 groups were committed at 3 offsets"),
        "{report}"
    );
    for group in ["behind", "middle", "done"] {
        let copy = format!("__kmirror.isolated-drill.drill.{group}");
        assert!(pair.target.group_offsets(&copy).is_empty(), "{copy}");
    }
}

#[test]
fn reports_are_kept_and_listed() {
    let pair = rehearsed("kept-drill");
    let folder = pair.mirror.folder().join("drills");
    let folder = folder.to_str().unwrap();
    pair.drill(&["--reports", folder], 0);
    pair.write(0, 10, 13);
    pair.drill(&["--reports", folder, "--max-rpo", "1s"], 3);
    let history = pair.drill(&["--reports", folder, "--history"], 0);
    let passed: Vec<&Value> = history["reports"].as_array().unwrap().iter().map(|report| &report["passed"]).collect();
    assert_eq!(passed, [true, false]);
    let pages =
        std::fs::read_dir(folder).unwrap().filter(|e| e.as_ref().unwrap().path().extension().unwrap() == "html");
    assert_eq!(pages.count(), 2);
}

#[test]
fn a_promoted_mirror_has_nothing_to_rehearse() {
    let pair = rehearsed("drilled-late");
    fail_over(&pair.mirror, &["--unplanned"], 0);
    let report = pair.drill(&[], 3);
    assert_eq!(check(&report, "plan")["verdict"], "fail", "{report}");
}

/// Lets a principal READ a topic (2) or a group (3), by its literal name or by a prefix.
fn allow(cluster: &Cluster, kind: i8, name: &str, is_prefix: bool, who: &str) {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let acl = AclCreation::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_resource_pattern_type(if is_prefix { 4 } else { 3 })
        .with_principal(text(who))
        .with_host(text("*"))
        .with_operation(3)
        .with_permission_type(3);
    cluster.add_acl(&acl);
}

#[test]
fn a_consumer_that_could_not_read_on_the_target_fails_the_drill() {
    let pair = rehearsed("drill-acls");
    assert_eq!(check(&pair.drill(&[], 0), "acls")["verdict"], "pass");
    for (who, group) in [("User:alice", "done"), ("User:bob", "middle")] {
        allow(&pair.source, 2, "drill-", true, who);
        allow(&pair.source, 3, group, false, who);
        allow(&pair.target, 3, group, false, who);
    }
    allow(&pair.target, 2, "drill-acls", false, "User:alice");
    let report = pair.drill(&[], 3);
    let acls = check(&report, "acls");
    assert_eq!(acls["verdict"], "fail", "{report}");
    let expected = [
        "topic drill-acls: cannot read there, as they can on the source: User:bob",
        "topic drill-acls: not there as on the source: allow User:bob READ",
    ];
    assert_eq!(acls["findings"], serde_json::json!(expected), "{report}");
    let plan = pair.mirror.output(&["failover", "--dry-run"]);
    let page = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(page.contains(&format!("ACLS {}", expected[0])), "{page}");
    allow(&pair.target, 2, "*", false, "User:*");
    assert_eq!(check(&pair.drill(&[], 0), "acls")["verdict"], "pass");
}

#[test]
fn acls_that_may_not_be_read_are_said_not_to_be_compared() {
    let pair = rehearsed("drill-acls-hidden");
    let refused = ResponseError::ClusterAuthorizationFailed;
    let hook = pair.target.intercept(ApiKey::DescribeAcls, None, move |_| Action::Error(refused));
    let report = pair.drill(&[], 0);
    let acls = check(&report, "acls");
    assert_eq!(acls["verdict"], "warn", "{report}");
    assert!(acls["summary"].as_str().unwrap().contains("DESCRIBE on the cluster"), "{report}");
    assert!(hook.hits() > 0);
}
