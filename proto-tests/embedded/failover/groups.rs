//! Consumer groups at a promotion: exact, kept before they are overwritten, and nobody's are taken who uses them.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, Cluster, GroupKind, RequestKind};
use serde_json::Value;

use super::super::{Pair, numbered};
use super::{ends, partition};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// No running mirror comes to it by itself in the time of a test.
const GROUPS: &str = "    groups: { include: [\".*\"], interval: 1h }\n";

fn offset(cluster: &Cluster, group: &str, topic: &str) -> Option<i64> {
    cluster.group_offsets(group).get(&(topic.to_owned(), 0)).map(|committed| committed.offset)
}

fn promoted(topic: &str, kind: &str, extra: &[&str]) -> (Pair, Value, String) {
    let mut pair = Pair::mirrored(topic, GROUPS);
    // Offsets differ on both sides from here on: by a marker.
    pair.mirror.kill();
    pair.write(0, 10, 20);
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 20));
    pair.mirror.await_caught_up(1);
    for (group, at) in [("early", 4), ("late", 15), ("through", 20)] {
        pair.source.commit_offset(group, topic, 0, at);
    }
    let file = pair.mirror.folder().join("former.json").to_str().unwrap().to_owned();
    let report = pair.fail_over(&[&[kind, "--groups-snapshot", &file], extra].concat(), 0);
    assert_eq!(pair.mirror.await_end(), 0);
    (pair, report, file)
}

fn assert_exact(pair: &Pair) {
    let topic = pair.topic.as_str();
    let there = |group| offset(&pair.target, group, topic);
    assert_eq!((there("early"), there("late"), there("through")), (Some(4), Some(16), Some(21)));
}

#[test]
fn groups_are_translated_exactly_and_what_stood_there_is_kept() {
    for kind in ["--planned", "--unplanned"] {
        let (pair, report, file) = promoted(&format!("groups{kind}"), kind, &[]);
        assert_exact(&pair);
        let groups = &report["groups"];
        assert_eq!(
            (groups["totals"]["groups"].as_i64(), groups["applied"]["offsets"].as_i64()),
            (Some(3), Some(3)),
            "{groups}"
        );
        assert_eq!(groups["totals"]["missing"].as_i64(), Some(0), "{groups}");
        assert_eq!(groups["snapshot"].as_str(), Some(file.as_str()));
        // The way back takes away what was not there.
        pair.mirror.json(&["groups", "rollback", &file, "--yes"], 0);
        assert_eq!(offset(&pair.target, "late", &pair.topic), None);
    }
}

fn contains(list: &Value, words: &[&str]) {
    let all: Vec<&str> = list.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for words in words {
        assert!(all.iter().any(|problem| problem.contains(words)), "{words}: {all:#?}");
    }
}

/// Who consumes on the target keeps what it has; and that is said before, in a drill, and afterwards. A group that is not
/// written at first is by the next call, which sets nobody back who has gone on meanwhile.
#[test]
fn what_stays_where_it_was_is_named_and_who_goes_on_is_not_set_back() {
    let topic = "groups-kept";
    let mut pair = Pair::mirrored(topic, GROUPS);
    pair.mirror.await_caught_up(1);
    for group in ["used", "live", "moves", "secret"] {
        pair.source.commit_offset(group, topic, 0, 4);
    }
    pair.target.set_members("used", GroupKind::Classic, 0, &[topic]);
    pair.target.commit_offset("used", topic, 0, 2);
    pair.target.set_members("live", GroupKind::Consumer, 1, &[topic]);
    let stays = "group used has offsets on the target that this mirror has not written, and 1 of them stay, such as 2 of \
                 groups-kept:0, which would be 4";
    let drill = pair.mirror.json(&["drill"], 3);
    let check = drill["checks"].as_array().unwrap().iter().find(|check| check["check"] == "groups").unwrap();
    assert_eq!(check["verdict"], "fail", "{drill}");
    contains(&check["findings"], &[stays]);
    let plan = pair.mirror.json(&["failover", "--unplanned", "--dry-run"], 0);
    contains(&plan["warnings"], &["1 offsets of consumer groups on the target are not this mirror's"]);

    let refused = pair.target.intercept(ApiKey::OffsetCommit, None, |context| match context.request {
        RequestKind::OffsetCommit(request) if request.group_id.as_str() == "secret" => {
            Action::Error(ResponseError::GroupAuthorizationFailed)
        }
        _ => Action::Pass,
    });
    let report = pair.fail_over(&["--unplanned"], 3);
    assert_eq!(pair.mirror.await_end(), 0);
    contains(&report["problems"], &[stays, "group live was left as it was", "group secret was not written"]);
    let there = |pair: &Pair, group| offset(&pair.target, group, topic);
    assert_eq!((there(&pair, "used"), there(&pair, "moves"), there(&pair, "secret")), (Some(2), Some(4), None));

    pair.target.set_members("moves", GroupKind::Classic, 0, &[topic]);
    pair.target.commit_offset("moves", topic, 0, 9);
    pair.target.remove_intercept(&refused);
    let report = pair.fail_over(&[], 3);
    contains(&report["problems"], &[stays]);
    assert_eq!(report["problems"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!((there(&pair, "used"), there(&pair, "moves"), there(&pair, "secret")), (Some(2), Some(9), Some(4)));
}

/// A group that is beyond what is mirrored goes on at its end, and that is said.
#[test]
fn a_group_beyond_the_end_goes_on_at_the_end() {
    let topic = "groups-beyond";
    let mut pair = Pair::mirrored(topic, GROUPS);
    pair.mirror.kill();
    pair.write(0, 10, 30);
    pair.source.commit_offset("ahead", topic, 0, 25);
    let file = pair.mirror.folder().join("former.json").to_str().unwrap().to_owned();
    let plan = pair.mirror.json(&["failover", "--unplanned", "--dry-run"], 0);
    assert_eq!(plan["groups"]["totals"]["commits"].as_i64(), Some(1), "{plan}");
    let report = pair.fail_over(&["--unplanned", "--groups-snapshot", &file], 0);
    assert_eq!(ends(partition(&report, 0)), (10, 10, 20), "{report}");
    assert_eq!(offset(&pair.target, "ahead", topic), Some(10));
}

/// The source is gone: the groups stay where a running mirror has kept them.
#[test]
fn without_the_source_groups_stay_where_they_were_kept_in_step() {
    let topic = "groups-gone";
    let mut pair = Pair::mirrored(topic, "    groups: { include: [\".*\"], interval: 1s }\n");
    pair.source.commit_offset("billing", topic, 0, 7);
    wait_until("the group in step", LIMIT, || match offset(&pair.target, "billing", topic) {
        Some(7) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    pair.lose_source();
    let report = pair.fail_over(&[], 0);
    assert_eq!(pair.mirror.await_end(), 0);
    assert!(report["groups"]["source_unreachable"].is_string(), "{report}");
    assert_eq!(offset(&pair.target, "billing", topic), Some(7));
}

/// Killed in the middle of it, and called again.
#[test]
fn killed_around_the_groups_it_ends_the_same_way() {
    for step in ["fence", "groups"] {
        let topic = format!("groups-cut-{step}");
        let mut pair = Pair::mirrored(&topic, GROUPS);
        pair.source.commit_offset("billing", &topic, 0, 6);
        let file = pair.mirror.folder().join("former.json").to_str().unwrap().to_owned();
        let args = ["failover", "--yes", "--unplanned", "--groups-snapshot", &file, "--pause-after", step];
        let mut call = pair.mirror.spawn(&args, "failover.log");
        let log = pair.mirror.folder().join("failover.log");
        wait_until(step, LIMIT, || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.contains(&format!("step=\"{step}\"")) { Ok(()) } else { Err(text) }
        });
        call.kill();
        assert_eq!(pair.mirror.await_end(), 0);
        let before = offset(&pair.target, "billing", &topic);
        assert_eq!(before, (step == "groups").then_some(6));
        pair.fail_over(&["--groups-snapshot", &file], 0);
        assert_eq!(offset(&pair.target, "billing", &topic), Some(6));
        // What stood there before the first of them is what the way back leads to.
        pair.mirror.json(&["groups", "rollback", &file, "--yes"], 0);
        assert_eq!(offset(&pair.target, "billing", &topic), None);
    }
}
