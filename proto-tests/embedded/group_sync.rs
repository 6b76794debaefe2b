//! Consumer groups kept in step by a running mirror, between embedded brokers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use kmirror::batch::{Stamp, encode_values};
use kmirror::broker::{Action, Cluster, GroupKind, RequestContext, RequestKind};
use kmirror::mirror::{ControlRecord, Promotion, PromotionMode, encode_control};
use serde_json::Value;
use tokio::sync::Notify;

use super::{Pair, append};
use crate::e2e::http;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::{Tier, tier, wait_until};

/// Lines of a mirror that keeps all groups in step, but for some.
pub(super) const GROUPS: &str = "    groups: { include: [\".*\"], exclude: [\"not-.*\"], interval: 1s }\n";

/// The offset of a group in partition 0 of a topic.
pub(super) fn offset(cluster: &Cluster, group: &str, topic: &str) -> Option<i64> {
    cluster.group_offsets(group).get(&(topic.to_owned(), 0)).map(|committed| committed.offset)
}

pub(super) fn await_offset(pair: &Pair, group: &str, expected: i64) {
    wait_until(&format!("{group} at {expected}"), LIMIT, || match offset(&pair.target, group, &pair.topic) {
        Some(there) if there == expected => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// `groups` of `status --json`.
fn groups_status(pair: &Pair) -> Value {
    pair.mirror.json(&["status"], 0)["mirrors"][0]["groups"].clone()
}

pub(super) fn await_status(pair: &Pair, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, LIMIT, || {
        let groups = groups_status(pair);
        if is(&groups) { Ok(groups) } else { Err(groups.to_string()) }
    })
}

/// How many rounds were completed: each leaves its time.
fn rounds(pair: &Pair) -> Arc<AtomicU64> {
    count_commits(&pair.target, &format!("__kmirror.{}", pair.topic))
}

/// Commits of a group from now on.
fn count_commits(cluster: &Cluster, group: &str) -> Arc<AtomicU64> {
    let commits = Arc::new(AtomicU64::new(0));
    let (inside, group) = (Arc::clone(&commits), group.to_owned());
    cluster.intercept(ApiKey::OffsetCommit, None, move |context: &RequestContext<'_>| {
        if matches!(context.request, RequestKind::OffsetCommit(request) if request.group_id.as_str() == group) {
            inside.fetch_add(1, Ordering::Relaxed);
        }
        Action::Pass
    });
    commits
}

fn await_more(what: &str, count: &AtomicU64, more: u64) {
    let wanted = count.load(Ordering::Relaxed) + more;
    wait_until(what, LIMIT, || match count.load(Ordering::Relaxed) {
        there if there >= wanted => Ok(()),
        there => Err(format!("{there} of {wanted}")),
    });
}

/// A mirror of ten records that runs, with a group `billing` in step at 4.
fn in_step(topic: &str) -> Pair {
    let mut pair = Pair::new(topic, 2, 1, GROUPS);
    pair.write(0, 0, 10);
    pair.source.commit_offset("billing", topic, 0, 4);
    pair.mirror.start();
    await_offset(&pair, "billing", 4);
    pair
}

#[test]
fn groups_are_followed_forward_and_back_and_others_are_not_touched() {
    let topic = "group-sync-follow";
    let mut pair = in_step(topic);
    pair.source.commit_offset("not-this", topic, 0, 4);
    pair.source.set_members("modern", GroupKind::Consumer, 2, &[topic]);
    pair.source.commit_offset("modern", topic, 0, 7);
    await_offset(&pair, "modern", 7);
    for at in [10, 2, 3] {
        pair.source.commit_offset("billing", topic, 0, at);
        await_offset(&pair, "billing", at);
    }
    assert_eq!(offset(&pair.target, "not-this", topic), None);
    let status = await_status(&pair, "both synced", |groups| groups["synced"] == 2);
    assert_eq!((status["groups"].as_u64(), status["failed"].as_u64()), (Some(2), Some(0)), "{status}");
    let age = status["age_seconds"].as_f64().unwrap();
    assert!((0.0..30.0).contains(&age), "{age}");
    let page = pair.mirror.output(&["status"]);
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("2 of 2 groups synced"), "{page}");
    pair.mirror.stop();
}

#[test]
fn only_what_changes_is_written() {
    let topic = "group-sync-quiet";
    let mut pair = in_step(topic);
    let rounds = rounds(&pair);
    await_more("rounds", &rounds, 1);
    let (billing, other) = (count_commits(&pair.target, "billing"), count_commits(&pair.target, "other"));
    pair.source.commit_offset("other", topic, 0, 1);
    await_offset(&pair, "other", 1);
    await_more("rounds", &rounds, 3);
    assert_eq!((billing.load(Ordering::Relaxed), other.load(Ordering::Relaxed)), (0, 1));
    pair.mirror.stop();
}

/// A group that only ever commits expires by the age of its commits.
#[test]
fn what_stands_still_is_written_again_long_before_it_expires() {
    let topic = "group-sync-refresh";
    let mut pair = Pair::with_target(topic, topic, 1, GROUPS, &[("offsets.retention.minutes", "1")]);
    pair.source.create_topic(topic, 1, 1, &[]).unwrap();
    pair.write(0, 0, 10);
    pair.source.commit_offset("billing", topic, 0, 4);
    let commits = count_commits(&pair.target, "billing");
    let began = std::time::Instant::now();
    pair.mirror.start();
    await_more("first commit and two refreshes", &commits, 3);
    let took = began.elapsed().as_secs();
    // A quarter of a minute, less up to a quarter of that.
    assert!((20..55).contains(&took), "{took} s");
    pair.mirror.stop();
}

#[test]
fn a_live_group_is_left_alone_and_somebodys_progress_stays() {
    let topic = "group-sync-live";
    let mut pair = in_step(topic);
    pair.target.set_members("billing", GroupKind::Classic, 1, &[topic]);
    pair.source.commit_offset("billing", topic, 0, 6);
    await_status(&pair, "one left alone", |groups| groups["left_alone"] == 1 && groups["synced"] == 0);
    assert_eq!(offset(&pair.target, "billing", topic), Some(4));
    // It leaves without having read anything: what stands there is still the mirror's.
    pair.target.set_members("billing", GroupKind::Classic, 0, &[]);
    await_offset(&pair, "billing", 6);
    // It comes back, reads, and leaves.
    pair.target.set_members("billing", GroupKind::Classic, 1, &[topic]);
    pair.target.commit_offset("billing", topic, 0, 9);
    pair.target.set_members("billing", GroupKind::Classic, 0, &[]);
    pair.source.commit_offset("billing", topic, 0, 7);
    await_status(&pair, "one left alone", |groups| groups["left_alone"] == 1);
    assert!(pair.mirror.log().contains("groups are left alone on the target"), "{}", pair.mirror.log());
    assert_eq!(offset(&pair.target, "billing", topic), Some(9));
    pair.mirror.stop();
}

/// What was written for a group that was consumed with on the target is noted there.
#[test]
fn a_restart_knows_what_it_wrote_and_what_somebody_else_did() {
    let topic = "group-sync-restart";
    let mut pair = in_step(topic);
    for (group, at) in [("used", 5), ("never-used", 5), ("progressed", 5)] {
        pair.source.commit_offset(group, topic, 0, at);
        await_offset(&pair, group, at);
    }
    for group in ["used", "progressed"] {
        pair.target.set_members(group, GroupKind::Consumer, 1, &[topic]);
        pair.target.set_members(group, GroupKind::Consumer, 0, &[]);
        pair.source.commit_offset(group, topic, 0, 6);
        await_offset(&pair, group, 6);
    }
    pair.mirror.kill();
    pair.target.commit_offset("progressed", topic, 0, 9);
    for group in ["used", "never-used", "progressed"] {
        pair.source.commit_offset(group, topic, 0, 8);
    }
    pair.mirror.start();
    await_offset(&pair, "used", 8);
    await_offset(&pair, "never-used", 8);
    let status = await_status(&pair, "one left alone", |groups| groups["left_alone"] == 1 && groups["synced"] == 3);
    assert_eq!(status["groups"].as_u64(), Some(4), "{status}");
    assert_eq!(offset(&pair.target, "progressed", topic), Some(9));
    // An operator decides, and the running mirror goes on from there.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("before.json");
    let file = file.to_str().unwrap();
    let apply = ["groups", "apply", "--group", "progressed", "--overwrite", "all", "--snapshot", file, "--yes"];
    let report = pair.mirror.json(&apply, 0);
    assert_eq!(report["applied"]["offsets"].as_u64(), Some(1), "{report}");
    assert_eq!(offset(&pair.target, "progressed", topic), Some(8));
    pair.source.commit_offset("progressed", topic, 0, 9);
    await_offset(&pair, "progressed", 9);
    pair.mirror.stop();
}

/// What is written to a topic waits until this is notified.
fn hold_records(cluster: &Cluster, topic: &str) -> Arc<Notify> {
    let go = Arc::new(Notify::new());
    let inside = Arc::clone(&go);
    let id = cluster.topics().into_iter().find(|there| there.name == topic).map(|there| there.id);
    cluster.intercept(ApiKey::Produce, None, move |context: &RequestContext<'_>| {
        let RequestKind::Produce(request) = context.request else { return Action::Pass };
        let is_it = request.topic_data.iter().any(|data| Some(data.topic_id) == id);
        if is_it { Action::HoldUntil(Arc::clone(&inside)) } else { Action::Pass }
    });
    go
}

#[test]
fn nothing_goes_beyond_what_is_mirrored() {
    let topic = "group-sync-beyond";
    let mut pair = in_step(topic);
    let go = hold_records(&pair.target, topic);
    pair.write(0, 10, 20);
    pair.source.commit_offset("billing", topic, 0, 15);
    await_offset(&pair, "billing", 10);
    await_more("rounds", &rounds(&pair), 2);
    assert_eq!(offset(&pair.target, "billing", topic), Some(10));
    go.notify_one();
    await_offset(&pair, "billing", 15);
    pair.mirror.stop();
}

/// Records of somebody else behind ours are not what the group has read.
#[test]
fn foreign_records_on_the_target_do_not_count() {
    let topic = "group-sync-foreign";
    let mut pair = in_step(topic);
    let _go = hold_records(&pair.target, topic);
    append(&pair.target, topic, 0, "foreign-", 0, 7);
    pair.write(0, 10, 20);
    pair.source.commit_offset("billing", topic, 0, 15);
    await_offset(&pair, "billing", 10);
    await_more("rounds", &rounds(&pair), 2);
    assert_eq!(offset(&pair.target, "billing", topic), Some(10));
    // Also where nothing runs and all is read off the logs.
    pair.mirror.kill();
    let plan = pair.mirror.json(&["groups", "plan"], 0);
    let line = &plan["groups"][0]["lines"][0];
    assert_eq!(line["outcome"]["to"]["offset"].as_i64(), Some(10), "{plan}");
    assert_eq!(line["outcome"]["to"]["basis"].as_str(), Some("not_mirrored_yet"), "{plan}");
}

#[test]
fn a_paused_mirror_writes_no_offsets() {
    let topic = "group-sync-paused";
    let mut pair = in_step(topic);
    assert_eq!(pair.mirror.output(&["pause"]).status.code(), Some(0));
    wait_until("the loop to see it", LIMIT, || match pair.mirror.log() {
        log if log.contains("the mirror is paused") => Ok(()),
        log => Err(log.lines().last().unwrap_or_default().to_owned()),
    });
    let commits = count_commits(&pair.target, "billing");
    pair.source.commit_offset("billing", topic, 0, 6);
    let before = groups_status(&pair)["age_seconds"].as_f64().unwrap();
    let after = await_status(&pair, "the age to grow", |groups| groups["age_seconds"].as_f64().unwrap() > before + 3.0);
    assert_eq!(commits.load(Ordering::Relaxed), 0, "{after}");
    assert_eq!(pair.mirror.output(&["resume"]).status.code(), Some(0));
    await_offset(&pair, "billing", 6);
    pair.mirror.stop();
}

/// From there on the groups of the target are its own.
#[test]
fn a_promotion_ends_it() {
    let topic = "group-sync-promoted";
    let mut pair = in_step(topic);
    let (mode, at_ms) = (Some(PromotionMode::Unplanned), 1_790_000_000_000);
    let intent = ControlRecord::PromotionIntent(Promotion { generation: 1, at_ms, mode, started_ms: Some(at_ms) });
    let batch = encode_values(vec![encode_control(&intent)], 1_790_000_000_000, Stamp::NONE).unwrap();
    pair.target.append(&format!("__kmirror.{topic}"), 16, batch).unwrap();
    pair.source.commit_offset("billing", topic, 0, 9);
    assert_eq!(pair.mirror.await_end(), 0, "{}", pair.mirror.log());
    assert_eq!(offset(&pair.target, "billing", topic), Some(4));
    let page = pair.mirror.output(&["groups", "plan"]);
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("the target was promoted"), "{page}");
}

#[test]
fn groups_without_offsets_are_told_and_those_that_are_gone_stay() {
    let topic = "group-sync-kinds";
    let mut pair = in_step(topic);
    pair.source.set_members("shares", GroupKind::Share, 1, &[topic]);
    let status = await_status(&pair, "the share group", |groups| groups["not_translatable"] == 1);
    assert_eq!((status["groups"].as_u64(), status["synced"].as_u64()), (Some(2), Some(1)), "{status}");
    let plan = pair.mirror.json(&["groups", "plan"], 0);
    let shares = plan["groups"].as_array().unwrap().iter().find(|group| group["group"] == "shares").unwrap();
    assert_eq!(shares["why"]["reason"].as_str(), Some("share_group"), "{shares}");
    assert!(pair.source.forget_group("billing"));
    await_status(&pair, "one group fewer", |groups| groups["groups"] == 1);
    assert_eq!(offset(&pair.target, "billing", topic), Some(4));
    pair.source.commit_offset("billing", topic, 0, 5);
    await_offset(&pair, "billing", 5);
    pair.mirror.stop();
}

/// Refuses whatever is asked for a group.
fn refuse(cluster: &Cluster, group: &'static str, error: ResponseError) -> kmirror::broker::Intercept {
    cluster.intercept(ApiKey::OffsetCommit, None, move |context: &RequestContext<'_>| {
        let is_it = matches!(context.request, RequestKind::OffsetCommit(request) if request.group_id.as_str() == group);
        if is_it { Action::Error(error) } else { Action::Pass }
    })
}

#[test]
fn a_group_that_cannot_be_written_holds_up_no_other_and_makes_the_age_grow() {
    let topic = "group-sync-refused";
    let port = free_port();
    let gauge = || http::mirror_gauge(port, "kmirror_group_sync_age_seconds", topic);
    let mut pair = Pair::new(topic, 2, 1, &(GROUPS.to_owned() + &http::section(port)));
    pair.write(0, 0, 10);
    let refused = refuse(&pair.target, "secret", ResponseError::GroupAuthorizationFailed);
    pair.source.commit_offset("secret", topic, 0, 3);
    pair.source.commit_offset("billing", topic, 0, 4);
    pair.mirror.start();
    await_offset(&pair, "billing", 4);
    let never = await_status(&pair, "a failure", |groups| groups["failed"] == 1);
    assert_eq!(never["age_seconds"].as_f64(), Some(-1.0), "{never}");
    let since_start = gauge().unwrap();
    assert!((0.0..600.0).contains(&since_start), "{since_start}");
    pair.target.remove_intercept(&refused);
    await_offset(&pair, "secret", 3);
    let well = |groups: &Value| groups["failed"] == 0 && (0.0..3.0).contains(&groups["age_seconds"].as_f64().unwrap());
    await_status(&pair, "all well", well);
    let refused = refuse(&pair.target, "secret", ResponseError::GroupAuthorizationFailed);
    pair.source.commit_offset("secret", topic, 0, 5);
    await_status(&pair, "a failure", |groups| groups["failed"] == 1);
    pair.source.commit_offset("billing", topic, 0, 9);
    await_offset(&pair, "billing", 9);
    await_status(&pair, "the age to grow", |groups| groups["age_seconds"].as_f64().unwrap() > 3.0);
    let age = gauge().unwrap();
    assert!((3.0..600.0).contains(&age), "{age}");
    pair.target.remove_intercept(&refused);
    await_offset(&pair, "secret", 5);
    await_status(&pair, "all well", well);
    wait_until("the gauge to fall", LIMIT, || match gauge()? {
        age if age < 3.0 => Ok(()),
        age => Err(age.to_string()),
    });
    let told = pair.mirror.log().matches("groups could not be kept in step").count();
    assert_eq!(told, 2, "once each, not every second");
    pair.mirror.stop();
}

/// Whatever happens to groups, data goes on: their coordinators do not answer at all here.
#[test]
fn the_data_does_not_wait_for_groups() {
    let topic = "group-sync-deaf";
    let mut pair = in_step(topic);
    for api in [ApiKey::OffsetFetch, ApiKey::ListGroups, ApiKey::FindCoordinator] {
        pair.source.intercept(api, None, |_| Action::Delay(std::time::Duration::from_secs(60)));
        pair.target.intercept(api, None, |_| Action::Delay(std::time::Duration::from_secs(60)));
    }
    pair.write(0, 10, 30);
    pair.await_values(0, &super::numbered("", 0, 30));
    pair.mirror.stop();
}

/// Groups with offsets in 100 partitions each: what a round costs in which little happens. In the full tier as many as a large
/// cluster has.
#[test]
fn many_groups_are_kept_in_step_at_little_cost() {
    const PARTITIONS: i32 = 100;
    let groups = if tier() == Tier::Full { 4_000 } else { 400 };
    let topic = "group-sync-many";
    let mut pair = Pair::new(topic, 2, PARTITIONS, GROUPS);
    (0..PARTITIONS).for_each(|partition| pair.write(partition, 0, 10));
    let move_to = |pair: &Pair, groups: usize, at: i64| {
        for (number, partition) in (0..groups).flat_map(|number| (0..PARTITIONS).map(move |p| (number, p))) {
            pair.source.commit_offset(&format!("group-{number}"), topic, partition, at);
        }
    };
    move_to(&pair, groups, 3);
    let rounds = rounds(&pair);
    pair.mirror.start();
    await_more("the first round", &rounds, 1);
    let last = format!("group-{}", groups - 1);
    assert_eq!(pair.target.group_offsets(&last).len(), PARTITIONS as usize);
    await_more("a round", &rounds, 1);
    let before_s = pair.mirror.process().cpu_s().unwrap();
    await_more("quiet rounds", &rounds, 3);
    let quiet_s = (pair.mirror.process().cpu_s().unwrap() - before_s) / 3.0;
    move_to(&pair, groups / 10, 7);
    let last = format!("group-{}", groups / 10 - 1);
    await_offset(&pair, &last, 7);
    let peak_mb = pair.mirror.process().peak_rss_bytes().unwrap() >> 20;
    eprintln!("{groups} groups: {quiet_s:.2} s CPU a quiet round, {peak_mb} MB at most");
    // Of a build that is hardly optimised; 0.3 s and 140 MB for 4,000 groups on a machine with two cores.
    let thousands = groups as f64 / 1_000.0;
    assert!(quiet_s < 0.2 + 0.4 * thousands, "{quiet_s} s");
    assert!((peak_mb as f64) < 80.0 + 60.0 * thousands, "{peak_mb} MB");
    pair.mirror.stop();
}
