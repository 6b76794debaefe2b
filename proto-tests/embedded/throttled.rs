//! Brokers that put reads off for their quota (KIP-219): they answer Fetch at once, and with nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_protocol::messages::{ApiKey, TopicName};
use kafka_protocol::protocol::StrBytes;
use kmirror::broker::{Action, Cluster, ClusterOptions, RequestContext, RequestKind, ResponseKind};
use kmirror::client::{Cluster as Client, ClusterSpec, ReadOptions, TopicPartition, Topics, read_log};

use super::{Pair, append};
use crate::kafka::harness::wait_until;

const TOPIC: &str = "throttled";
const THROTTLED: usize = 6;

/// An answer that tells nothing.
fn nothing(response: &mut ResponseKind, throttle_ms: i32) {
    if let ResponseKind::Fetch(response) = response {
        response.responses.clear();
        response.throttle_time_ms = throttle_ms;
    }
}

async fn connected(cluster: &Cluster) -> (Client, TopicPartition) {
    let client = Client::connect(ClusterSpec::new("it", cluster.bootstrap(), "test".to_owned())).await.unwrap();
    let topic_id = client.refresh(Topics::All).await.unwrap().topic(TOPIC).unwrap().id;
    (client, TopicPartition { topic: TOPIC.to_owned(), topic_id, partition: 0 })
}

/// Who gave a read up for it would begin the take-over of its shard anew, and ask for the same bytes for ever.
#[tokio::test]
async fn a_read_that_is_put_off_outlasts_its_deadline_and_asks_for_less() {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    cluster.create_topic(TOPIC, 1, 1, &[]).unwrap();
    append(&cluster, TOPIC, 0, "", 0, 10);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let inside = Arc::clone(&asked);
    cluster.intercept(ApiKey::Fetch, Some(THROTTLED), move |context: &RequestContext<'_>| {
        let RequestKind::Fetch(request) = context.request else { return Action::Pass };
        inside.lock().unwrap().push(request.max_bytes);
        Action::Edit(Box::new(|response| nothing(response, 1)))
    });
    let (client, tp) = connected(&cluster).await;
    // The pauses between so many tries are longer together.
    let options = ReadOptions { deadline: Duration::from_millis(700), max_bytes: 64 << 10, ..ReadOptions::default() };
    let slice = read_log(&client, &tp, 0, options).await.unwrap();
    assert_eq!(slice.batches.iter().map(|batch| i64::from(batch.header.records_count)).sum::<i64>(), 10);
    let kib = |kib: i32| kib << 10;
    assert_eq!(*asked.lock().unwrap(), [64, 32, 16, 8, 4, 4].map(kib));
}

/// What a read comes to where every Fetch is answered so.
async fn refused(edit: fn(&mut ResponseKind)) -> String {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    cluster.create_topic(TOPIC, 1, 1, &[]).unwrap();
    append(&cluster, TOPIC, 0, "", 0, 10);
    cluster.intercept(ApiKey::Fetch, None, move |_| Action::Edit(Box::new(edit)));
    let (client, tp) = connected(&cluster).await;
    let options = ReadOptions { deadline: Duration::from_millis(300), ..ReadOptions::default() };
    let read = tokio::time::timeout(Duration::from_secs(20), read_log(&client, &tp, 0, options)).await;
    read.expect("it goes on for ever").unwrap_err().to_string()
}

const UNTOLD: &str = "it says nothing of throttled:0, which was asked for, and does not throttle";

/// Without a pause it is no throttle, and to wait for its end would be to wait for ever: tansu 0.6.0 answers so to a Fetch that is not to
/// wait.
#[tokio::test]
async fn an_answer_without_the_partition_that_was_asked_for_is_none() {
    let error = refused(|response| nothing(response, 0)).await;
    assert!(error.contains(UNTOLD), "{error}");
}

#[tokio::test]
async fn records_of_another_partition_or_topic_are_not_taken_for_those_that_were_asked_for() {
    let partition = refused(|response| {
        let ResponseKind::Fetch(response) = response else { return };
        response.responses.iter_mut().flat_map(|topic| &mut topic.partitions).for_each(|told| told.partition_index = 1);
    });
    let topic = refused(|response| {
        let ResponseKind::Fetch(response) = response else { return };
        for topic in &mut response.responses {
            topic.topic_id = uuid::Uuid::from_u128(7);
            topic.topic = TopicName(StrBytes::from_static_str("another"));
        }
    });
    for error in [partition.await, topic.await] {
        assert!(error.contains(UNTOLD), "{error}");
    }
}

/// A cluster that puts everything off holds up the start, and not the end.
#[test]
fn a_mirror_that_cannot_begin_can_be_stopped() {
    let mut pair = Pair::new("put-off", 1, 1, "");
    let asked = Arc::new(Mutex::new(0));
    let inside = Arc::clone(&asked);
    pair.target.intercept(ApiKey::Fetch, None, move |_| {
        *inside.lock().unwrap() += 1;
        Action::Edit(Box::new(|response| nothing(response, 1)))
    });
    pair.mirror.start();
    wait_until("its state to be asked for", crate::e2e::mirror::LIMIT, || match *asked.lock().unwrap() {
        0 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    pair.mirror.stop();
}
