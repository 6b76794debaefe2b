//! Take-overs of what an earlier process left in an unusual state.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use kmirror::batch::decode;
use kmirror::broker::{Action, Cluster, RequestKind};
use kmirror::mirror::{StateRecord, decode_state, state_topic};
use tokio::sync::Notify;

use super::{Pair, append, numbered};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// Somebody else writes right in front of a batch, whose answer then never comes; and the mirror dies before it knows.
fn displaced_and_killed(topic: &str, more: &str) -> Pair {
    let mut pair = Pair::mirrored(topic, more);
    let (target, name): (Weak<Cluster>, _) = (Arc::downgrade(&pair.target), topic.to_owned());
    let id = pair.target.topics().into_iter().find(|t| t.name == topic).expect("it is mirrored").id;
    let never = Arc::new(Notify::new());
    let hook = pair.target.intercept(ApiKey::Produce, Some(1), move |context| {
        // By id from v13 on.
        let RequestKind::Produce(request) = context.request else { return Action::Pass };
        if request.topic_data.iter().all(|topic| topic.topic_id != id) {
            return Action::Pass;
        }
        if let Some(target) = target.upgrade() {
            append(&target, &name, 0, "foreign-", 0, 3);
        }
        Action::HoldAnswerUntil(never.clone())
    });
    pair.write(0, 10, 15);
    pair.await_values(0, &[numbered("", 0, 10), numbered("foreign-", 0, 3), numbered("", 10, 15)].concat());
    assert_eq!(hook.hits(), 1);
    pair.mirror.kill();
    pair.write(0, 15, 20);
    pair.mirror.start();
    pair
}

#[test]
fn a_displacement_that_a_crash_kept_from_the_record_is_found_in_the_log() {
    let pair = displaced_and_killed("displaced-crash", "");
    let (reason, command) = pair.await_halt();
    assert!(reason.starts_with("foreign_records: "), "{reason}");
    pair.obey(&command);
    pair.ends_with(&[numbered("", 0, 10), numbered("foreign-", 0, 3), numbered("", 10, 20)].concat());
}

#[test]
fn a_displacement_found_in_the_log_is_passed_over_where_the_policy_says_so() {
    let pair = displaced_and_killed("displaced-continue", "    on: { foreign_records: continue }\n");
    pair.ends_with(&[numbered("", 0, 10), numbered("foreign-", 0, 3), numbered("", 10, 20)].concat());
}

/// Target retention empties the log, and then the mirror dies: the leader still knows our last sequence.
#[test]
fn the_end_of_an_emptied_target_is_told_by_its_leader() {
    let mut pair = Pair::mirrored("emptied", "");
    pair.target.delete_before(&pair.topic, 0, 10).unwrap();
    pair.mirror.kill();
    pair.write(0, 10, 15);
    pair.mirror.start();
    pair.ends_with(&numbered("", 10, 15));
}

/// What was read behind the last record held nothing to mirror, and retention takes it between two crashes: nothing is lost.
#[test]
fn retention_of_markers_behind_the_last_record_is_no_loss_after_a_crash() {
    let mut pair = Pair::mirrored("markers-gone", "");
    let marker = pair.source.write_markers(&pair.topic, 0, (77, 0), false).unwrap();
    let resumes = |pair: &Pair| states(pair).iter().filter(|s| matches!(s, StateRecord::Resume { .. })).count();
    let before = wait_until("a stop to note that the marker was read", LIMIT, || {
        pair.mirror.stop();
        let before = resumes(&pair);
        pair.mirror.start();
        let noted = states(&pair).iter().any(|state| matches!(state, StateRecord::Scanned { .. }));
        if noted { Ok(before) } else { Err("not yet".to_owned()) }
    });
    grows("the resume of a start", || resumes(&pair), &before);
    pair.mirror.kill();
    let end = || pair.target.log("markers-gone", 0).unwrap().end_offset;
    let before = end();
    pair.mirror.start();
    grows("the marker of a take-over", end, &before);
    pair.mirror.kill();
    pair.source.delete_before(&pair.topic, 0, marker + 1).unwrap();
    pair.write(0, 10, 15);
    pair.mirror.start();
    pair.ends_with(&numbered("", 0, 15));
}

/// All records of the state.
fn states(pair: &Pair) -> Vec<StateRecord> {
    let topic = state_topic(&pair.topic);
    let batches = (0..16).flat_map(|partition| pair.target.read(&topic, partition, 0).unwrap());
    let records = batches.filter(|b| !b.header.is_control()).flat_map(|batch| decode(&batch, 1 << 20).unwrap());
    records.map(|record| decode_state(&record.value.unwrap()).unwrap()).collect()
}

fn grows<T: PartialOrd + std::fmt::Debug>(what: &str, now: impl Fn() -> T, from: &T) {
    wait_until(what, LIMIT, || if now() > *from { Ok(()) } else { Err(format!("{from:?}")) });
}

/// The leader has forgotten it, too. What the target let go of may be copied again, by command.
#[test]
fn an_emptied_target_whose_leader_has_forgotten_halts_until_resumed() {
    let mut pair = Pair::mirrored("emptied-forgotten", "");
    pair.target.delete_before(&pair.topic, 0, 10).unwrap();
    pair.mirror.kill();
    pair.target.expire_producers(&pair.topic, 0).unwrap();
    pair.write(0, 10, 15);
    pair.mirror.start();
    let (reason, command) = pair.await_halt();
    assert!(reason.starts_with("end_unreadable: "), "{reason}");
    pair.obey(&command);
    pair.ends_with(&numbered("", 0, 15));
}

/// Other records than those that were mirrored stand on the source now, and nothing tells that its log was truncated.
#[test]
fn a_last_record_that_differs_halts_and_is_left_as_it_is_on_resume() {
    let (mut pair, changed) = changed_source("differs");
    let (reason, command) = pair.await_halt();
    assert!(reason.starts_with("map_mismatch at source offsets [9, 10): "), "{reason}");
    assert!(command.ends_with(&["--accept-loss".to_owned(), "9..10".to_owned()]), "{command:?}");
    pair.obey(&command);
    pair.await_values(0, &[numbered("", 0, 10), changed[10..].to_vec()].concat());
    pair.mirror.stop();
}

#[test]
fn a_target_that_differs_is_filled_anew_once_it_was_deleted() {
    let (mut pair, changed) = changed_source("differs-anew");
    pair.await_halt();
    assert!(pair.target.delete_topic(&pair.topic));
    wait_until("the mirror topic to be there again", LIMIT, || {
        pair.target.log(&pair.topic, 0).map(drop).map_err(|error| error.to_string())
    });
    let resume = ["resume", "--partition", &format!("{}:0", pair.topic)];
    assert_eq!(pair.mirror.output(&resume).status.code(), Some(0));
    pair.await_values(0, &changed);
    pair.mirror.await_caught_up(1);
    pair.assert_mapped(0);
    pair.mirror.stop();
}

/// Mirrors ten records; then the source holds others from 5 on, under the same leader epoch.
fn changed_source(topic: &str) -> (Pair, Vec<String>) {
    let mut pair = Pair::new(topic, 2, 1, "");
    pair.write(0, 0, 5);
    pair.write(0, 5, 10);
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 10));
    pair.mirror.kill();
    assert_eq!(pair.source.truncate(&pair.topic, 0, 5).unwrap(), 5);
    append(&pair.source, &pair.topic, 0, "other-", 5, 15);
    pair.mirror.start();
    (pair, [numbered("", 0, 5), numbered("other-", 5, 15)].concat())
}

/// The coordinator forgets every transactional id of the mirror while nobody runs.
fn forgotten(topic: &str) -> Pair {
    let mut pair = Pair::mirrored(topic, "");
    pair.mirror.kill();
    for shard in 0..16 {
        assert!(pair.target.expire_transactional_id(&format!("kmirror.{topic}.1.{shard}")));
    }
    pair.write(0, 10, 15);
    pair
}

#[test]
fn a_forgotten_producer_is_fenced_by_markers_of_ours() {
    let mut pair = forgotten("forgotten");
    let before = pair.target.producers(&pair.topic, 0).unwrap();
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 15));
    let old = pair.target.producers(&pair.topic, 0).unwrap();
    let epoch = |views: &[kmirror::broker::ProducerView]| {
        views.iter().find(|p| p.producer_id == before[0].producer_id).map(|p| p.epoch)
    };
    assert_eq!(epoch(&old), epoch(&before).map(|epoch| epoch + 1), "{old:?}");
    pair.ends_with(&numbered("", 0, 15));
}

#[test]
fn a_forgotten_producer_that_cannot_be_fenced_halts_until_resumed() {
    let mut pair = forgotten("forgotten-halt");
    pair.target.intercept(ApiKey::WriteTxnMarkers, None, |_| Action::Error(ResponseError::ClusterAuthorizationFailed));
    pair.mirror.start();
    let (reason, command) = pair.await_halt();
    assert!(reason.starts_with("unfenced: "), "{reason}");
    // The next start finds its own producer id on record: the halt must stand by itself.
    pair.mirror.kill();
    pair.mirror.start();
    pair.await_halt();
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 10));
    pair.obey(&command);
    pair.ends_with(&numbered("", 0, 15));
}

/// The first process sleeps until the target has forgotten the fence of the one that took over: no partition would refuse
/// its batches any more. It must ask the coordinator before it writes.
#[test]
fn a_sleeper_that_outlasts_its_fence_asks_before_it_writes() {
    let topic = "sleeper";
    let mut pair = Pair::with_target(topic, topic, 2, "", &[("producer.id.expiration.ms", "4000")]);
    pair.source.create_topic(topic, 1, 1, &[]).unwrap();
    pair.write(0, 0, 10);
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 10));
    pair.mirror.process().signal("STOP");
    let asleep = Instant::now();
    let mut second = pair.twin();
    second.start();
    pair.write(0, 10, 20);
    pair.await_values(0, &numbered("", 0, 20));
    second.kill();
    pair.target.expire_producers(topic, 0).unwrap();
    pair.write(0, 20, 30);
    wait_until("the lease to be over", LIMIT, || {
        if asleep.elapsed() > Duration::from_secs(2) { Ok(()) } else { Err(format!("{:?}", asleep.elapsed())) }
    });
    pair.mirror.process().signal("CONT");
    assert_eq!(pair.mirror.await_end(), 1);
    assert!(pair.mirror.log().contains("fenced"), "{}", pair.mirror.log());
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 20));
    second.start();
    pair.await_values(0, &numbered("", 0, 30));
    second.stop();
}

/// Forgotten under a running mirror, which notices when it asks for its lease: its shards are taken anew.
#[test]
fn a_producer_that_is_forgotten_while_it_runs_is_taken_anew() {
    let topic = "forgotten-running";
    let mut pair = Pair::with_target(topic, topic, 2, "", &[("producer.id.expiration.ms", "4000")]);
    pair.source.create_topic(topic, 1, 1, &[]).unwrap();
    pair.write(0, 0, 10);
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 10));
    for shard in 0..16 {
        wait_until("the id to be idle", LIMIT, || {
            let forgotten = pair.target.expire_transactional_id(&format!("kmirror.{topic}.1.{shard}"));
            if forgotten { Ok(()) } else { Err(shard.to_string()) }
        });
    }
    let mut written = 10;
    wait_until("the mirror to notice", LIMIT, || {
        pair.write(0, written, written + 1);
        written += 1;
        if pair.mirror.log().contains("has forgotten") { Ok(()) } else { Err(written.to_string()) }
    });
    pair.ends_with(&numbered("", 0, written));
}
