//! Records of an archive fed into a topic that is in use, between embedded brokers: each once, whatever happens on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kmirror::batch::{Codec, Record};
use kmirror::broker::{Action, Intercept, RequestKind};
use serde_json::Value;
use tokio::sync::Notify;

use super::Backed;
use crate::e2e::mirror::LIMIT;
use crate::embedded::{append, numbered, value};
use crate::kafka::harness::wait_until;

const INTO: &str = "in-use";
const JOURNAL: &str = "__kmirror-replays";

/// Ten records in each of three partitions, backed up; a topic of two partitions that somebody has written to.
fn backed(topic: &str) -> Backed {
    let backed = Backed::new(topic, 3, 1, "");
    (0..3).for_each(|partition| write(&backed, partition, 0..10));
    backed.backup(&[], 0);
    backed.pair.target.create_topic(INTO, 2, 1, &[]).unwrap();
    append(&backed.pair.target, INTO, 0, "theirs-", 0, 4);
    backed
}

/// Records of a partition, three to a batch, each with its number; their values say which partition they are of.
fn write(backed: &Backed, partition: i32, numbers: std::ops::Range<u64>) {
    let of = |number: u64| (Some(Bytes::from("k")), Some(Bytes::from(format!("p{partition}-{number}"))));
    let records: Vec<_> = numbered("", numbers.start, numbers.end).iter().map(|n| of(n.parse().unwrap())).collect();
    for batch in records.chunks(3) {
        let topic = &backed.pair.topic;
        backed.pair.source.append_records(topic, partition, Codec::Lz4, 1_790_000_000_000, batch).unwrap();
    }
}

fn words<'a>(backed: &'a Backed, more: &[&'a str]) -> Vec<&'a str> {
    [&["replay", "--topic", &backed.pair.topic, "--to", "to", "--into", INTO], more].concat()
}

fn replay(backed: &Backed, more: &[&str], code: i32) -> Value {
    backed.pair.mirror.json(&words(backed, more), code)
}

fn counts(report: &Value) -> (u64, u64) {
    let of = |name: &str| report["replayed"][name].as_u64().unwrap_or_else(|| panic!("{report}"));
    (of("records"), of("already"))
}

fn there(backed: &Backed) -> Vec<Record> {
    (0..2).flat_map(|partition| backed.pair.target.records(INTO, partition, 0).unwrap()).collect()
}

/// Each partition of the source once and in order, in the partition that it belongs to, and nothing else but what others wrote.
fn assert_there(backed: &Backed, ends: [u64; 3]) {
    let target = |partition| -> Vec<String> {
        backed.pair.target.records(INTO, partition, 0).unwrap().iter().map(value).collect()
    };
    let (zero, one) = (target(0), target(1));
    let of = |all: &[String], prefix: &str| all.iter().filter(|v| v.starts_with(prefix)).cloned().collect::<Vec<_>>();
    assert_eq!(of(&zero, "p0-"), numbered("p0-", 0, ends[0]));
    assert_eq!(of(&one, "p1-"), numbered("p1-", 0, ends[1]));
    assert_eq!(of(&zero, "p2-"), numbered("p2-", 0, ends[2]));
    let others = of(&zero, "theirs-").len() + of(&one, "theirs-").len();
    assert_eq!(zero.len() + one.len() - others, (ends[0] + ends[1] + ends[2]) as usize, "{zero:?} {one:?}");
}

#[test]
fn each_record_is_there_once_and_what_is_backed_up_later_follows() {
    let backed = backed("replayed-once");
    let plan = replay(&backed, &["--dry-run"], 0);
    assert_eq!((plan["records_at_most"].as_u64(), plan["already"].as_u64()), (Some(30), Some(0)), "{plan}");
    let refused = backed.pair.mirror.output(&words(&backed, &[]));
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    assert_eq!(there(&backed).len(), 4, "nothing was changed");
    let topics = || backed.pair.target.topics().into_iter().map(|topic| topic.name).collect::<Vec<_>>();
    assert_eq!(topics(), [INTO]);

    let done = replay(&backed, &["--yes"], 0);
    assert_eq!(counts(&done), (30, 0), "{done}");
    assert_there(&backed, [10; 3]);
    assert!(topics().contains(&JOURNAL.to_owned()));
    let name = done["replayed"]["plan"]["replay"].as_str().unwrap();
    let source: Vec<Record> =
        (0..3).flat_map(|p| backed.pair.source.records(&backed.pair.topic, p, 0).unwrap()).collect();
    for record in there(&backed).iter().filter(|record| !value(record).starts_with("theirs-")) {
        let same = source.iter().find(|other| value(other) == value(record)).unwrap();
        assert_eq!((record.timestamp, &record.key), (same.timestamp, &same.key));
        let partition = &value(record)[1..2];
        let origin = format!("{}:{partition}:{}", backed.pair.topic, same.offset);
        let expected = [("kmirror-origin", origin.as_str()), ("kmirror-replay", name)];
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let headers: Vec<_> = record.headers.iter().map(|(n, v)| (text(n), text(v.as_ref().unwrap()))).collect();
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    // What came since, and only that; whoever writes there meanwhile does no harm.
    append(&backed.pair.target, INTO, 1, "theirs-", 4, 9);
    assert_eq!(counts(&replay(&backed, &["--yes"], 0)), (0, 30));
    write(&backed, 1, 10..17);
    backed.backup(&[], 0);
    let plan = replay(&backed, &["--dry-run"], 0);
    assert_eq!((plan["records_at_most"].as_u64(), plan["already"].as_u64()), (Some(7), Some(30)), "{plan}");
    assert_eq!(counts(&replay(&backed, &["--yes", "--rate", "1000"], 0)), (7, 30));
    assert_there(&backed, [10, 17, 10]);

    // Another range is another replay, and the plan says what that means.
    let plan = replay(&backed, &["--dry-run", "--partition", "1", "--offsets", "3..5"], 0);
    assert_eq!(plan["records_at_most"].as_u64(), Some(2), "{plan}");
    assert!(plan["warnings"][0].as_str().unwrap().contains("retention.ms of in-use is 604800000 ms"), "{plan}");
    assert!(plan["warnings"][1].as_str().unwrap().contains(&format!("is on record ({name}, 37 records")), "{plan}");
    assert_eq!(counts(&replay(&backed, &["--yes", "--partition", "1", "--offsets", "3..5"], 0)), (2, 0));
    assert_eq!(counts(&replay(&backed, &["--yes"], 0)), (0, 37), "one does not take the other's records for its own");
    assert_eq!(counts(&replay(&backed, &["--yes", "--suffix", "again", "--timestamps", "now"], 0)), (37, 0));
    let anew = there(&backed).iter().filter(|record| record.timestamp > 1_790_000_000_000 + 100_000).count();
    assert_eq!(anew, 37);
}

/// What becomes of the first of so many produce requests to the topic.
fn intercept(backed: &Backed, hits: u32, action: impl Fn() -> Action + Send + Sync + 'static) -> Intercept {
    let id = backed.pair.target.topics().into_iter().find(|topic| topic.name == INTO).unwrap().id;
    backed.pair.target.intercept(ApiKey::Produce, Some(hits as _), move |context| match context.request {
        RequestKind::Produce(request) if request.topic_data.iter().any(|topic| topic.topic_id == id) => action(),
        _ => Action::Pass,
    })
}

fn await_hit(hook: &Intercept) {
    wait_until("a batch", LIMIT, || if hook.hits() > 0 { Ok(()) } else { Err(String::new()) });
}

/// Killed with a batch that has landed and no answer, or that lands when somebody else is at it already.
#[test]
fn a_call_that_was_killed_is_gone_on_with() {
    for (name, action) in [
        ("answered-late", Action::HoldAnswerUntil as fn(Arc<Notify>) -> Action),
        ("landing-late", Action::HoldUntil as fn(Arc<Notify>) -> Action),
    ] {
        let backed = backed(name);
        let release = Arc::new(Notify::new());
        let until = release.clone();
        let hook = intercept(&backed, 1, move || action(until.clone()));
        let mut call = backed.pair.mirror.spawn(&words(&backed, &["--yes"]), "replay.log");
        await_hit(&hook);
        call.kill();
        let landed = there(&backed).len() as u64 - 4;
        let done = replay(&backed, &["--yes"], 0);
        release.notify_waiters();
        release.notify_one();
        assert_eq!(counts(&done), (30 - landed, landed), "{done}");
        assert_there(&backed, [10; 3]);
    }
}

/// A broker forgets a producer by the age of its records, and those of an archive are old: a batch whose answer is lost must not be sent
/// once more as it is.
#[test]
fn a_lost_answer_costs_no_record_twice_though_the_broker_has_forgotten_the_producer() {
    let backed = backed("forgotten");
    // Each partition's only batch.
    let hook = intercept(&backed, 2, || Action::DropAfter);
    let forget = AtomicBool::new(true);
    let target = &backed.pair.target;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while forget.load(Ordering::Relaxed) {
                (0..2).for_each(|partition| target.expire_producers(INTO, partition).unwrap());
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let done = backed.pair.mirror.output(&[&words(&backed, &["--yes"])[..], &["--json"]].concat());
        forget.store(false, Ordering::Relaxed);
        assert!(done.status.success(), "{done:?}");
    });
    assert_eq!(hook.hits(), 2);
    assert_there(&backed, [10; 3]);
    assert_eq!(counts(&replay(&backed, &["--yes"], 0)), (0, 30));
}

/// Two at once: the later one takes over, and the other says so and writes nothing more.
#[test]
fn whoever_is_overtaken_stops() {
    let backed = backed("overtaken");
    let release = Arc::new(Notify::new());
    let until = release.clone();
    let hook = intercept(&backed, 1, move || Action::HoldUntil(until.clone()));
    let mut first = backed.pair.mirror.spawn(&words(&backed, &["--yes"]), "first.log");
    await_hit(&hook);
    assert_eq!(counts(&replay(&backed, &["--yes"], 0)), (30, 0));
    release.notify_waiters();
    release.notify_one();
    assert_eq!(first.wait_exit(LIMIT), 1);
    assert!(first.log_tail().contains("another kmirror took over"), "{}", first.log_tail());
    assert_there(&backed, [10; 3]);
}

/// A process that sleeps for longer than its lease asks before it writes again: the broker may have forgotten who overtook it.
#[test]
fn whoever_slept_while_it_was_overtaken_writes_nothing_more() {
    let backed = backed("overslept");
    write(&backed, 0, 10..200);
    backed.backup(&[], 0);
    let target = &backed.pair.target;
    let mut first = backed.pair.mirror.spawn(&words(&backed, &["--yes", "--rate", "20"]), "first.log");
    wait_until("some records", LIMIT, || if there(&backed).len() > 4 + 5 { Ok(()) } else { Err(String::new()) });
    first.signal("STOP");
    let asleep = Instant::now();
    let (records, already) = counts(&replay(&backed, &["--yes"], 0));
    assert_eq!(records + already, 220);
    // Its lease is ten seconds.
    std::thread::sleep(Duration::from_secs(11).saturating_sub(asleep.elapsed()));
    (0..2).for_each(|partition| target.expire_producers(INTO, partition).unwrap());
    first.signal("CONT");
    assert_eq!(first.wait_exit(LIMIT), 1);
    assert!(first.log_tail().contains("another kmirror took over"), "{}", first.log_tail());
    assert_there(&backed, [200, 10, 10]);
}

#[test]
fn a_rate_is_held_and_sigint_ends_it_between_two_records() {
    let backed = backed("at-a-rate");
    write(&backed, 0, 10..100);
    backed.backup(&[], 0);
    let mut call = backed.pair.mirror.spawn(&words(&backed, &["--yes", "--rate", "40"]), "slow.log");
    let replayed = || there(&backed).len() as u64 - 4;
    let began =
        wait_until("the first record", LIMIT, || if replayed() > 0 { Ok(Instant::now()) } else { Err("".into()) });
    let mut counts_over_time = Vec::new();
    while began.elapsed() < Duration::from_millis(1_000) {
        // Counted first, so that what comes while it is counted does not look too fast.
        let count = replayed();
        counts_over_time.push((began.elapsed(), count));
        std::thread::sleep(Duration::from_millis(20));
    }
    call.signal("INT");
    assert_eq!(call.wait_exit(LIMIT), 1, "{}", call.log_tail());
    for (elapsed, count) in counts_over_time {
        let most = elapsed.as_secs_f64() * 40.0 + 12.0;
        assert!((count as f64) < most, "{count} records after {elapsed:?}");
    }
    let before = replayed();
    assert!(before > 5 && before < 120, "{before}");
    let done = replay(&backed, &["--yes"], 0);
    assert_eq!(counts(&done), (120 - before, before), "{done}");
    assert_there(&backed, [100, 10, 10]);
}

#[test]
fn a_pace_follows_the_timestamps_of_the_records() {
    let backed = Backed::new("at-a-pace", 2, 1, "");
    let pair = &backed.pair;
    // Partitions take turns, 400 ms apart: 4 s in all.
    for number in 0..11 {
        let record = (None, Some(Bytes::from(format!("p{}-{}", number % 2, number / 2))));
        let at_ms = 1_790_000_000_000 + 400 * number;
        pair.source.append_records(&pair.topic, (number % 2) as i32, Codec::None, at_ms, &[record]).unwrap();
    }
    backed.backup(&[], 0);
    // The broker says when each came.
    pair.target.create_topic(INTO, 1, 1, &[("message.timestamp.type", "LogAppendTime")]).unwrap();
    let plan = replay(&backed, &["--pace", "4", "--dry-run"], 0);
    assert_eq!(plan["seconds"].as_f64(), Some(1.0), "{plan}");
    let done = replay(&backed, &["--pace", "4", "--yes"], 0);
    assert_eq!(counts(&done), (11, 0));
    let came = pair.target.records(INTO, 0, 0).unwrap();
    let values: Vec<String> = came.iter().map(value).collect();
    let expected: Vec<String> = (0..11).map(|number| format!("p{}-{}", number % 2, number / 2)).collect();
    assert_eq!(values, expected, "between partitions they go by their timestamps");
    for (number, record) in came.iter().enumerate() {
        let after = record.timestamp - came[0].timestamp;
        let due = 100 * number as i64;
        assert!(after >= due - 30 && after < due + 5_000, "record {number} came after {after} ms");
    }
}

/// Eight partitions with blocks of a mebibyte, and half of that for each.
#[test]
fn what_does_not_fit_into_memory_at_once_is_read_in_pieces() {
    let backed = Backed::new("in-pieces", 8, 1, "");
    let (pair, filler) = (&backed.pair, "x".repeat(1_000));
    let text = std::fs::read_to_string(&pair.mirror.config).unwrap();
    std::fs::write(&pair.mirror.config, text + "limits: { memory: 4MiB }\n").unwrap();
    for batch in 0..15 {
        for partition in 0..8_i32 {
            let record = |number| (None, Some(Bytes::from(format!("p{partition}-{number}{filler}"))));
            let records: Vec<_> = (batch * 100..batch * 100 + 100).map(record).collect();
            let at_ms = 1_790_000_000_000 + batch * 1_000 + i64::from(partition);
            pair.source.append_records(&pair.topic, partition, Codec::None, at_ms, &records).unwrap();
        }
    }
    backed.backup(&[], 0);
    pair.target.create_topic(INTO, 8, 1, &[]).unwrap();
    let words = ["--yes", "--offsets", "50..1450"];
    assert_eq!(counts(&replay(&backed, &words, 0)), (8 * 1_400, 0));
    for partition in 0..8 {
        let there = pair.target.records(INTO, partition, 0).unwrap();
        let values: Vec<String> = there.iter().map(|record| value(record).replace(&filler, "")).collect();
        assert_eq!(values, numbered(&format!("p{partition}-"), 50, 1_450));
    }
}

#[test]
fn what_would_harm_somebody_is_refused() {
    let backed = backed("harmful");
    let pair = &backed.pair;
    let said = |to: &str, into: &str, more: &[&str]| {
        let words = [&["replay", "--topic", "harmful", "--to", to, "--into", into, "--yes"], more].concat();
        let output = pair.mirror.output(&words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    pair.target.create_topic("compacted", 1, 1, &[("cleanup.policy", "compact")]).unwrap();
    // The mirror of the file has not run, and yet it would copy to this one.
    pair.target.create_topic("harmful", 3, 1, &[]).unwrap();
    for (to, into, code, what) in [
        ("to", "compacted", 1, "is compacted"),
        ("to", "nowhere", 1, "create it first"),
        ("to", JOURNAL, 1, "belongs to Kafka or kmirror"),
        ("to", "harmful", 3, "is the mirror's own"),
        ("from", "harmful", 3, "is the topic that was backed up"),
        ("elsewhere", "harmful", 2, "no cluster is called"),
    ] {
        let (found, text) = said(to, into, &[]);
        assert!(found == Some(code) && text.contains(what), "{to} {into}: {found:?} {text}");
    }
    let (found, text) = said("to", INTO, &["--partition", "7"]);
    assert!(found == Some(3) && text.contains("has nothing of what is asked for"), "{text}");
    assert_eq!(there(&backed).len(), 4);
    assert_eq!(pair.source.records("harmful", 0, 0).unwrap().len(), 10);

    // A topic that lost what was replayed cannot tell how far it came; one that has it noted can.
    let hook = intercept(&backed, 1, || Action::DropAfter);
    let mut call = pair.mirror.spawn(&words(&backed, &["--yes", "--rate", "5"]), "cut.log");
    await_hit(&hook);
    wait_until("a record", LIMIT, || if there(&backed).len() > 6 { Ok(()) } else { Err(String::new()) });
    call.kill();
    let ends = [0, 1].map(|partition| pair.target.log(INTO, partition).unwrap().high_watermark);
    pair.target.delete_before(INTO, 0, ends[0]).unwrap();
    pair.target.delete_before(INTO, 1, ends[1]).unwrap();
    let (found, text) = said("to", INTO, &[]);
    assert!(found == Some(1) && text.contains("cannot be told any more"), "{text}");
}
