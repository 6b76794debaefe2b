//! The divergent tail appended to a topic of the standby: each record once, whatever happens on the way.

use std::sync::Arc;

use kafka_protocol::messages::ApiKey;
use kmirror::batch::Record;
use kmirror::broker::{Action, RequestKind};
use serde_json::Value;
use tokio::sync::Notify;

use super::failover::fail_over;
use super::{Pair, append, numbered, value};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

const INTO: &str = "rescued";

/// Ten mirrored records in each of two partitions, the standby promoted; on the old source alone are 5 and 2 more.
fn parted(topic: &str) -> Pair {
    let mut pair = Pair::matching(topic, topic, 2, "");
    pair.source.create_topic(topic, 2, 1, &[]).unwrap();
    (0..2).for_each(|partition| pair.write(partition, 0, 10));
    pair.mirror.start();
    (0..2).for_each(|partition| pair.await_values(partition, &numbered("", 0, 10)));
    pair.mirror.stop();
    fail_over(&pair.mirror, &["--unplanned"], 0);
    // In more than one batch.
    append(&pair.source, topic, 0, "alone-", 0, 3);
    append(&pair.source, topic, 0, "alone-", 3, 5);
    append(&pair.source, topic, 1, "also-", 0, 2);
    pair.target.create_topic(INTO, 1, 1, &[]).unwrap();
    append(&pair.target, INTO, 0, "was-there-", 0, 4);
    pair
}

fn replay(pair: &Pair, more: &[&str], code: i32) -> Value {
    pair.mirror.json(&[&["failback", "--replay", INTO], more].concat(), code)
}

fn counts(report: &Value) -> (u64, u64) {
    (report["records"].as_u64().unwrap(), report["already"].as_u64().unwrap())
}

fn rescued(pair: &Pair) -> Vec<Record> {
    pair.target.records(INTO, 0, 0).unwrap()
}

/// What is to be there: each record once, in the order of its partition, with its origin and otherwise as it was.
fn assert_rescued(pair: &Pair) {
    let there = rescued(pair);
    let values: Vec<String> = there.iter().map(value).collect();
    let of = |prefix: &str| values.iter().filter(|value| value.starts_with(prefix)).cloned().collect::<Vec<_>>();
    assert_eq!(of("alone-"), numbered("alone-", 0, 5));
    assert_eq!(of("also-"), numbered("also-", 0, 2));
    assert_eq!(values.len(), 4 + 5 + 2, "{values:?}");
    let old: Vec<Record> = (0..2).flat_map(|p| pair.source.records(&pair.topic, p, 10).unwrap()).collect();
    for record in &there[4..] {
        let same = old.iter().find(|other| value(other) == value(record)).expect("it is on the old source");
        assert_eq!((record.timestamp, &record.key), (same.timestamp, &same.key));
        let [(name, Some(origin))] = &record.headers[..] else { panic!("{record:?}") };
        let partition = i32::from(value(record).starts_with("also-"));
        assert_eq!(name.as_ref(), b"kmirror-origin");
        assert_eq!(origin.as_ref(), format!("{}:{partition}:{}", pair.topic, same.offset).as_bytes());
    }
}

#[test]
fn each_record_of_the_divergent_tail_is_replayed_once() {
    let mut pair = parted("replayed");
    assert_eq!(counts(&replay(&pair, &["--dry-run"], 0)), (7, 0));
    let refused = pair.mirror.output(&["failback", "--replay", INTO]);
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    assert_eq!(rescued(&pair).len(), 4, "nothing was changed");
    let report = replay(&pair, &["--yes"], 0);
    assert_eq!(counts(&report), (7, 0), "{report}");
    assert_rescued(&pair);
    assert_eq!(counts(&replay(&pair, &["--dry-run"], 0)), (0, 7));
    assert_eq!(counts(&replay(&pair, &["--yes"], 0)), (0, 7));
    assert_rescued(&pair);

    // Once the way home has begun other records stand behind the tail, and it is still the same.
    append(&pair.target, "replayed", 0, "standby-", 0, 3);
    pair.mirror.json(&["failback", "--yes"], 0);
    let home = "replayed.failback";
    pair.mirror.start_as(|mut command| {
        command.args(["--mirror", home]);
        command
    });
    let expected = [numbered("", 0, 10), numbered("alone-", 0, 5), numbered("standby-", 0, 3)].concat();
    wait_until("the way home", LIMIT, || {
        let there = pair.values(&pair.source, 0);
        if there == expected { Ok(()) } else { Err(format!("{there:?}")) }
    });
    assert_eq!(counts(&replay(&pair, &["--yes"], 0)), (0, 7));
    assert_rescued(&pair);
    let file = pair.mirror.folder().join("tail.jsonl");
    let export = pair.mirror.output(&["failback", "--export", file.to_str().unwrap()]);
    assert_eq!(export.status.code(), Some(0), "{export:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 7);
    pair.mirror.stop();
    fail_over(&pair.mirror, &["--planned", "--mirror", home], 0);
    let late = pair.mirror.output(&["failback", "--replay", INTO, "--yes"]);
    assert_eq!(late.status.code(), Some(2), "{late:?}");
}

/// Killed with a batch that has landed and no answer, or that lands when somebody else is at it already.
#[test]
fn a_replay_that_was_cut_short_goes_on_where_it_was() {
    for (name, action) in [
        ("replay-answered-late", Action::HoldAnswerUntil as fn(Arc<Notify>) -> Action),
        ("replay-landing-late", Action::HoldUntil as fn(Arc<Notify>) -> Action),
    ] {
        let pair = parted(name);
        let release = Arc::new(Notify::new());
        let until = release.clone();
        let id = pair.target.topics().into_iter().find(|topic| topic.name == INTO).unwrap().id;
        let hook = pair.target.intercept(ApiKey::Produce, Some(1), move |context| match context.request {
            RequestKind::Produce(request) if request.topic_data.iter().any(|topic| topic.topic_id == id) => {
                action(until.clone())
            }
            _ => Action::Pass,
        });
        let mut call = pair.mirror.spawn(&["failback", "--replay", INTO, "--yes"], "replay.log");
        wait_until("a batch", LIMIT, || if hook.hits() > 0 { Ok(()) } else { Err(String::new()) });
        let landed = rescued(&pair).len() as u64 - 4;
        call.kill();
        let report = replay(&pair, &["--yes"], 0);
        release.notify_waiters();
        release.notify_one();
        assert_eq!(counts(&report), (7 - landed, landed), "{report}");
        assert_rescued(&pair);
    }
}

#[test]
fn a_topic_that_is_not_there_or_has_lost_what_was_replayed_is_refused() {
    let pair = parted("replay-refused");
    let refused = |args: &[&str]| {
        let output = pair.mirror.output(args);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    pair.target.create_topic("kept", 1, 1, &[("cleanup.policy", "compact")]).unwrap();
    let refusals =
        [("nowhere", "create it first"), ("__kmirror.replay-refused", "belongs to"), ("kept", "is compacted")];
    for (topic, words) in refusals {
        let (code, said) = refused(&["failback", "--replay", topic, "--yes"]);
        assert!(code == Some(1) && said.contains(words), "{said}");
    }
    replay(&pair, &["--yes"], 0);
    pair.target.delete_before(INTO, 0, 6).unwrap();
    let (code, said) = refused(&["failback", "--replay", INTO, "--yes"]);
    assert!(code == Some(1) && said.contains("in front of offset 4 of partition 0"), "{said}");
}
