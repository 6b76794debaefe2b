//! What a first start waits for, and what it must not wait for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, RequestContext, RequestKind};

use super::api::get;
use super::{Pair, append, numbered};
use crate::e2e::http;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::wait_until;

type Partition = (String, i32);

/// How often a partition's leader was asked before it served, and what was to be marked before it did.
#[derive(Debug, Default)]
struct Seen {
    asked: BTreeMap<Partition, u32>,
    marked: usize,
    too_early: Vec<Partition>,
}

/// As a leader answers for a moment after metadata have named it.
const REFUSALS: u32 = 3;

fn asked(request: &RequestKind) -> Vec<Partition> {
    let RequestKind::ListOffsets(request) = request else { return Vec::new() };
    let of_topic = |t: &kafka_protocol::messages::list_offsets_request::ListOffsetsTopic| {
        t.partitions.iter().map(|p| (t.name.to_string(), p.partition_index)).collect::<Vec<_>>()
    };
    request.topics.iter().flat_map(of_topic).collect()
}

fn marked(request: &RequestKind) -> Vec<Partition> {
    let RequestKind::AddPartitionsToTxn(request) = request else { return Vec::new() };
    let of_topic = |t: &kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic| {
        t.partitions.iter().map(|p| (t.name.to_string(), *p)).collect::<Vec<_>>()
    };
    request.v3_and_below_topics.iter().flat_map(of_topic).collect()
}

impl Seen {
    fn on_asked(&mut self, request: &RequestKind) -> Action {
        let mut serves = true;
        for partition in asked(request) {
            let times = self.asked.entry(partition).or_default();
            *times += 1;
            serves &= *times > REFUSALS;
        }
        if serves { Action::Pass } else { Action::Error(ResponseError::NotLeaderOrFollower) }
    }

    fn on_marked(&mut self, request: &RequestKind) {
        for partition in marked(request) {
            self.marked += 1;
            if self.asked.get(&partition).is_none_or(|times| *times <= REFUSALS) {
                self.too_early.push(partition);
            }
        }
    }
}

/// Kafka never answers some markers for partitions that their leader does not hold yet (`conformance::markers`).
#[test]
fn no_transaction_begins_before_its_partitions_are_served() {
    let mut pair = Pair::new("starting-served", 1, 1, "");
    let seen = Arc::new(Mutex::new(Seen::default()));
    let hook = |on: fn(&mut Seen, &RequestKind) -> Action| {
        let seen = Arc::clone(&seen);
        move |context: &RequestContext<'_>| on(&mut seen.lock().unwrap(), context.request)
    };
    pair.target.intercept(ApiKey::ListOffsets, None, hook(Seen::on_asked));
    pair.target.intercept(
        ApiKey::AddPartitionsToTxn,
        None,
        hook(|seen, request| {
            seen.on_marked(request);
            Action::Pass
        }),
    );
    pair.write(0, 0, 10);
    pair.mirror.start();
    pair.await_values(0, &numbered("", 0, 10));
    pair.mirror.stop();
    let seen = seen.lock().unwrap();
    // One for each shard: nothing else is marked at a first start, and nothing twice.
    assert_eq!((seen.marked, seen.too_early.as_slice()), (16, &[][..]));
}

/// Each new topic once waited for the read of the control partition that stood before it on the connection, a second.
#[test]
fn new_topics_do_not_wait_for_the_control_partition() {
    const TOPICS: usize = 12;
    let mut pair = Pair::matching("starting-topics", "starting-topics-.*", 1, "");
    let topics: Vec<String> = (0..TOPICS).map(|number| format!("starting-topics-{number}")).collect();
    for topic in &topics {
        pair.source.create_topic(topic, 1, 1, &[]).unwrap();
        append(&pair.source, topic, 0, "", 0, 1);
    }
    let began = Instant::now();
    pair.mirror.start();
    wait_until("the topics on the target", LIMIT, || {
        let there = |topic: &&String| pair.target.records(topic, 0, 0).is_ok_and(|records| records.len() == 1);
        match topics.iter().filter(there).count() {
            TOPICS => Ok(()),
            count => Err(format!("{count} of {TOPICS}")),
        }
    });
    let took = began.elapsed();
    assert!(took < Duration::from_secs(6), "{TOPICS} topics took {took:?}");
    pair.mirror.stop();
}

/// No partitions that are known of is not the same as none that wait.
#[test]
fn nobody_is_ready_who_has_not_seen_the_topics_yet() {
    let port = free_port();
    let mut pair = Pair::new("unseen", 1, 1, &http::section(port));
    pair.write(0, 0, 10);
    let refused = Arc::new(Mutex::new(Some(0)));
    let inside = Arc::clone(&refused);
    pair.source.intercept(ApiKey::Metadata, None, move |context: &RequestContext<'_>| match context.request {
        RequestKind::Metadata(request) if request.topics.is_none() => match inside.lock().unwrap().as_mut() {
            Some(count) => {
                *count += 1;
                Action::DropBefore
            }
            None => Action::Pass,
        },
        _ => Action::Pass,
    });
    pair.mirror.start();
    wait_until("discoveries that fail", LIMIT, || match *refused.lock().unwrap() {
        Some(count) if count >= 5 => Ok(()),
        count => Err(format!("{count:?}")),
    });
    let answer = get(port, "/readyz");
    assert_eq!((answer.status, answer.body.as_str()), (503, "mirror unseen: not running yet\n"));
    *refused.lock().unwrap() = None;
    wait_until("a mirror that is ready", LIMIT, || match get(port, "/readyz") {
        answer if answer.status == 200 => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    pair.await_values(0, &numbered("", 0, 10));
    pair.mirror.stop();
}
