//! Answers a byte at a time, and promises that are not kept.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, RequestContext};

use super::{assert_unharmed, await_hits};
use crate::embedded::{Pair, numbered};
use crate::kafka::harness::{Tier, tier};

/// A byte a second, which outlasts every deadline.
fn byte_by_byte(context: &RequestContext<'_>) -> Action {
    if context.node != 1 {
        return Action::Pass;
    }
    Action::Forge(Box::new(|frame| {
        let byte = |at: usize| (Duration::from_secs(1), frame.slice(at..=at));
        let mut pieces: Vec<_> = (0..frame.len().min(600)).map(byte).collect();
        pieces.push((Duration::from_secs(3_600), Bytes::new()));
        pieces
    }))
}

/// Half a gigabyte announced, and nothing more.
fn promised(context: &RequestContext<'_>) -> Action {
    if context.node != 1 {
        return Action::Pass;
    }
    Action::Forge(Box::new(|frame| {
        let head = [&(500_i32 << 20).to_be_bytes(), &frame[4..]].concat();
        vec![(Duration::ZERO, head.into()), (Duration::from_secs(3_600), Bytes::new())]
    }))
}

/// One broker of two is slow: the partitions of the other go on meanwhile, and those of the first afterwards.
fn stalled(name: &str, hook: fn(&RequestContext<'_>) -> Action, on_source: bool, api: ApiKey) {
    let mut pair = Pair::new(name, 2, 2, "");
    for side in [&pair.source, &pair.target] {
        if side.topics().iter().any(|topic| topic.name == name) {
            (0..2).for_each(|partition| side.move_leader(name, partition, partition + 1).unwrap());
        }
    }
    pair.mirror.start();
    (0..2).for_each(|partition| pair.write(partition, 0, 10));
    (0..2).for_each(|partition| pair.await_values(partition, &numbered("", 0, 10)));
    (0..2).for_each(|partition| pair.target.move_leader(name, partition, partition + 1).unwrap());
    let side = if on_source { &pair.source } else { &pair.target };
    let hook = side.intercept(api, None, hook);
    side.kill_connections(Some(1));
    let began = Instant::now();
    (0..2).for_each(|partition| pair.write(partition, 10, 20));
    pair.await_values(1, &numbered("", 0, 20));
    await_hits("a slow answer, given up and asked for again", &hook, 2);
    assert!(began.elapsed() < Duration::from_secs(200), "{:?}", began.elapsed());
    assert_unharmed(&mut pair.mirror, name);
    side.remove_intercept(&hook);
    (0..2).for_each(|partition| pair.await_values(partition, &numbered("", 0, 20)));
    pair.mirror.stop();
}

#[test]
fn answers_byte_by_byte_run_into_their_deadline() {
    if tier() == Tier::Full {
        stalled("hostile-slow-fetch", byte_by_byte, true, ApiKey::Fetch);
        stalled("hostile-slow-produce", byte_by_byte, false, ApiKey::Produce);
        stalled("hostile-slow-versions", byte_by_byte, true, ApiKey::ApiVersions);
    }
}

#[test]
fn frames_that_are_announced_take_no_memory_before_they_come() {
    if tier() == Tier::Full {
        stalled("hostile-promised", promised, true, ApiKey::Fetch);
        stalled("hostile-promised-versions", promised, false, ApiKey::Produce);
    }
}
