//! Answers that are well formed, and false.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{ApiKey, BrokerId};
use kafka_protocol::protocol::StrBytes;
use kmirror::broker::{Action, Cluster, Intercept, ResponseKind};
use uuid::Uuid;

use super::{assert_goes_on, assert_unharmed, await_hits};
use crate::embedded::Pair;

fn edited(cluster: &Cluster, api: ApiKey, edit: impl Fn(&mut ResponseKind) + Send + Sync + 'static) -> Intercept {
    let edit = Arc::new(edit);
    cluster.intercept(api, None, move |_| {
        let edit = Arc::clone(&edit);
        Action::Edit(Box::new(move |response| edit(response)))
    })
}

/// What nobody asked for, next to what was, and in its place.
fn unasked(response: &mut ResponseKind) {
    match response {
        ResponseKind::Fetch(response) => {
            let Some(topic) = response.responses.first() else { return };
            let mut foreign = topic.clone();
            foreign.topic_id = Uuid::from_u128(77);
            let mut others = topic.clone();
            for partition in &mut others.partitions {
                partition.partition_index += 1_000_000;
                partition.high_watermark = i64::MAX;
                partition.records = Some(Bytes::from_static(&[0xff; 100]));
            }
            let again = topic.clone();
            response.responses.extend([foreign, others, again]);
        }
        ResponseKind::Produce(response) => {
            let Some(topic) = response.responses.first() else { return };
            let mut foreign = topic.clone();
            foreign.topic_id = Uuid::from_u128(78);
            let mut others = topic.clone();
            for partition in &mut others.partition_responses {
                partition.index += 1_000_000;
                partition.base_offset = 7;
            }
            response.responses.extend([foreign, others]);
        }
        ResponseKind::Metadata(response) => {
            let Some(topic) = response.topics.first() else { return };
            let mut foreign = topic.clone();
            foreign.topic_id = Uuid::from_u128(79);
            foreign.name = Some(kafka_protocol::messages::TopicName(StrBytes::from_static_str("nobody-asked")));
            let mut others = topic.clone();
            others.partitions.iter_mut().for_each(|partition| partition.partition_index = -7);
            others.name = foreign.name.clone();
            response.topics.extend([foreign, others]);
        }
        _ => {}
    }
}

/// Twenty-four days.
fn throttled(response: &mut ResponseKind) {
    match response {
        ResponseKind::Fetch(response) => response.throttle_time_ms = i32::MAX,
        ResponseKind::Produce(response) => response.throttle_time_ms = i32::MAX,
        ResponseKind::Metadata(response) => response.throttle_time_ms = i32::MAX,
        _ => {}
    }
}

#[test]
fn answers_to_other_questions_and_throttles_without_end_hold_nothing_up() {
    let mut pair = Pair::new("hostile-answers", 1, 2, "");
    pair.mirror.start();
    assert_goes_on(&pair, 0);
    for (from, edit) in [(10, unasked as fn(&mut ResponseKind)), (20, throttled)] {
        let sides = [(&pair.source, ApiKey::Fetch), (&pair.source, ApiKey::Metadata), (&pair.target, ApiKey::Metadata)];
        let sides = sides.into_iter().chain([(&pair.target, ApiKey::Produce)]);
        let hooks: Vec<_> = sides.map(|(cluster, api)| (cluster, edited(cluster, api, edit))).collect();
        pair.source.kill_connections(None);
        pair.target.kill_connections(None);
        assert_goes_on(&pair, from);
        for (cluster, hook) in hooks {
            await_hits("lies", &hook, 1);
            cluster.remove_intercept(&hook);
        }
        assert_unharmed(&mut pair.mirror, "answers");
    }
    pair.mirror.await_caught_up(2);
    assert_eq!(pair.target.topics().iter().filter(|topic| topic.name == "nobody-asked").count(), 0);
    pair.mirror.stop();
}

/// Brokers that are not there, other ones each time, lead and coordinate everything.
fn led_astray(pair: &Pair) -> Vec<(Arc<Cluster>, Intercept)> {
    let next = Arc::new(AtomicI32::new(100));
    let astray = move |response: &mut ResponseKind| match response {
        ResponseKind::Metadata(response) => {
            let first = next.fetch_add(500, Ordering::SeqCst);
            let broker = |id: i32| {
                MetadataResponseBroker::default()
                    .with_node_id(BrokerId(id))
                    .with_host(StrBytes::from_string(format!("127.0.{}.{}", id % 250, id % 199 + 1)))
                    .with_port(1)
            };
            response.brokers.extend((first..first + 500).map(broker));
            let leaders = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            leaders.zip(first..).for_each(|(partition, id)| partition.leader_id = BrokerId(id));
        }
        ResponseKind::FindCoordinator(response) => {
            let id = next.fetch_add(1, Ordering::SeqCst);
            (response.node_id, response.port) = (BrokerId(id), 1);
            for found in &mut response.coordinators {
                (found.node_id, found.port) = (BrokerId(id), 1);
            }
        }
        _ => {}
    };
    let astray = Arc::new(astray);
    let lies = [(&pair.source, ApiKey::Metadata), (&pair.target, ApiKey::Metadata)];
    let lies = lies.into_iter().chain([(&pair.target, ApiKey::FindCoordinator)]);
    lies.map(|(cluster, api)| {
        let astray = Arc::clone(&astray);
        (Arc::clone(cluster), edited(cluster, api, move |response| astray(response)))
    })
    .collect()
}

#[test]
fn leaders_and_coordinators_that_always_are_elsewhere_are_looked_for_in_bounds() {
    let mut pair = Pair::new("hostile-elsewhere", 1, 2, "");
    // From the start on: no shard is had as long as it lasts.
    let refused = pair.target.intercept(ApiKey::InitProducerId, None, |_| Action::Error(ResponseError::NotCoordinator));
    pair.mirror.start();
    await_hits("a coordinator that is none", &refused, 20);
    assert_unharmed(&mut pair.mirror, "coordinators elsewhere");
    pair.target.remove_intercept(&refused);
    assert_goes_on(&pair, 0);
    let hooks = led_astray(&pair);
    pair.source.kill_connections(None);
    pair.target.kill_connections(None);
    for partition in 0..2 {
        pair.write(partition, 10, 20);
    }
    for (_, hook) in &hooks[..2] {
        await_hits("leaders that are not there", hook, 4);
    }
    assert_unharmed(&mut pair.mirror, "leaders elsewhere");
    for (cluster, hook) in hooks {
        cluster.remove_intercept(&hook);
    }
    let refused = [(&pair.source, ApiKey::Fetch), (&pair.target, ApiKey::Produce)].map(|(cluster, api)| {
        (cluster, cluster.intercept(api, Some(20), |_| Action::Error(ResponseError::NotLeaderOrFollower)))
    });
    for partition in 0..2 {
        pair.await_values(partition, &crate::embedded::numbered("", 0, 20));
    }
    assert_goes_on(&pair, 20);
    for (cluster, hook) in refused {
        await_hits("a leader that is none", &hook, 1);
        cluster.remove_intercept(&hook);
    }
    assert_goes_on(&pair, 30);
    assert_unharmed(&mut pair.mirror, "redirects");
    pair.mirror.stop();
}
