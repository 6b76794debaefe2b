//! What happens to the mirror topics on the target while they are written to.

use super::case::{Case, PARTITIONS, Pair};
use super::{Scenario, run};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::{Dump, Produce, compare, driver, wait_until};

pub(crate) const TARGET_DATA: &[Scenario<Pair>] = &[
    Scenario::new("target_topic_deleted", target_topic_deleted),
    Scenario::new("foreign_records", foreign_records),
    Scenario::new("message_too_large", message_too_large),
    Scenario::new("turned_compacted", turned_compacted),
    Scenario::new("target_throttles", |pair| throttled(pair, "target_throttles", true)),
    Scenario::slow("source_throttles", |pair| throttled(pair, "source_throttles", false)),
    Scenario::new("taken_over_while_throttled", taken_over_while_throttled),
    Scenario::new("emptied_and_killed", emptied_and_killed),
];

/// Every partition halts, and is filled anew from the source's start when it is freed.
fn target_topic_deleted(pair: &mut Pair) {
    let mut case = Case::flowing("target_topic_deleted", pair);
    driver().delete_topic(&pair.target.bootstrap(), &case.topic);
    for partition in 0..PARTITIONS {
        case.obey(&case.await_halt(partition, "target_recreated"));
    }
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

/// Somebody else writes into a mirror topic: its partition halts, and goes on behind what was written.
fn foreign_records(pair: &mut Pair) {
    let mut case = Case::flowing("foreign_records", pair);
    let foreign = Produce { seed: 77, partition: Some(0), ..Produce::new(&case.topic, 10) };
    driver().produce(&pair.target.bootstrap(), &foreign);
    let command = case.await_halt(0, "foreign_records");
    case.await_more(&pair.target, 400);
    case.obey(&command);
    case.await_more(&pair.target, 400);
    case.pause_writing();
    case.mirror.await_caught_up(PARTITIONS as usize);
    case.mirror.stop();
    let (here, there) = (case.dump(&pair.source), case.dump(&pair.target));
    assert_eq!(there.len(), here.len() + 10);
    case.assert_same(&pair.target, &here, &without_the_foreign(&here, there), case.written() as usize);
}

fn without_the_foreign(here: &Dump, mut there: Dump) -> Dump {
    for (at, records) in &mut there.partitions {
        records.retain(|record| {
            here.partitions[at].iter().any(|ours| ours.value == record.value && ours.key == record.key)
        });
    }
    there
}

/// A batch that the target's topic does not take stops its partition, until the limit is raised.
fn message_too_large(pair: &mut Pair) {
    let mut case = Case::flowing("message_too_large", pair);
    let limit = |bytes: &str| {
        driver().alter_configs(&pair.target.bootstrap(), &case.topic, &[("max.message.bytes", bytes)]);
    };
    limit("20000");
    let large = Produce {
        seed: 78,
        partition: Some(0),
        batch_size: 60_000,
        value_min: 1_000,
        ..Produce::odd(&case.topic, 200)
    };
    let large = Produce { burst_min: 60, burst_max: 60, linger_ms: 1_000, ..large };
    driver().produce(&pair.source.bootstrap(), &large);
    let command = case.await_halt(0, "message_too_large");
    case.await_more(&pair.target, 400);
    limit("1000000");
    // Not what the halt names, which gives the batch up: it may go now.
    case.obey(&command[..command.len() - 2]);
    case.await_more(&pair.target, 400);
    case.counts(200);
    case.assert_whole(&pair.source, &pair.target);
}

/// A target topic turned compacted refuses records without a key; turned back it takes them.
fn turned_compacted(pair: &mut Pair) {
    let mut case = Case::flowing("turned_compacted", pair);
    let policy = |policy: &str| {
        driver().alter_configs(&pair.target.bootstrap(), &case.topic, &[("cleanup.policy", policy)]);
    };
    policy("compact");
    let commands: Vec<_> = (0..PARTITIONS).map(|partition| case.await_halt(partition, "invalid_record")).collect();
    policy("delete");
    for command in commands {
        case.obey(&command[..command.len() - 2]);
    }
    case.await_more(&pair.target, 400);
    case.assert_whole(&pair.source, &pair.target);
}

/// A quota slows the mirror down to its rate.
fn throttled(pair: &mut Pair, name: &str, target: bool) {
    let mut case = Case::flowing(name, pair);
    let (cluster, quota) =
        if target { (&pair.target, "producer_byte_rate") } else { (&pair.source, "consumer_byte_rate") };
    let client = format!("kmirror.{name}");
    driver().set_quota(&cluster.bootstrap(), &client, quota, Some(50_000));
    wait_until("the quota to bite", LIMIT, || match case.written() as i64 - case.mirrored(&pair.target) {
        behind if behind > 1_000 => Ok(()),
        behind => Err(format!("{behind} behind")),
    });
    case.await_more(&pair.target, 100);
    driver().set_quota(&cluster.bootstrap(), &client, quota, None);
    case.assert_whole(&pair.source, &pair.target);
}

/// A quota on what kmirror may read of the target: a broker that throttles answers a fetch with nothing at all, which must not
/// pass for the end of a log.
fn taken_over_while_throttled(pair: &mut Pair) {
    let mut case = Case::flowing("taken_over_while_throttled", pair);
    let (target, client) = (pair.target.bootstrap(), "kmirror.taken_over_while_throttled");
    driver().set_quota(&target, client, "consumer_byte_rate", Some(5_000));
    for _ in 0..3 {
        case.await_more(&pair.target, 1_000);
        case.mirror.kill();
        case.mirror.start();
    }
    case.await_more(&pair.target, 400);
    driver().set_quota(&target, client, "consumer_byte_rate", None);
    case.assert_whole(&pair.source, &pair.target);
}

/// Retention takes all that the target has, and the mirror is killed then: it goes on where it was.
fn emptied_and_killed(pair: &mut Pair) {
    let mut case = Case::flowing("emptied_and_killed", pair);
    case.pause_writing();
    case.mirror.await_caught_up(PARTITIONS as usize);
    let early = case.dump(&pair.target);
    driver().alter_configs(&pair.target.bootstrap(), &case.topic, &[("retention.ms", "1")]);
    case.await_emptied(&pair.target);
    case.mirror.kill();
    case.end_retention(&pair.target);
    case.mirror.start();
    case.write();
    case.await_more(&pair.target, 400);
    case.pause_writing();
    case.mirror.await_caught_up(PARTITIONS as usize);
    case.mirror.stop();
    let all = super::case::joined(&early, &case.dump(&pair.target), |_, _| true);
    compare(&case.dump(&pair.source), &all).assert_exactly(case.written() as usize);
}

#[test]
fn mirror_topics_that_change_are_followed_with_care() {
    run("mirror_topics_that_change_are_followed_with_care", TARGET_DATA);
}
