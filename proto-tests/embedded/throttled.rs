//! Brokers that put reads off for their quota (KIP-219): they answer Fetch at once, and with nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, Cluster, ClusterOptions, RequestContext, RequestKind, ResponseKind};
use kmirror::client::{Cluster as Client, ClusterSpec, ReadOptions, TopicPartition, Topics, read_log};

use super::append;

const TOPIC: &str = "throttled";
const THROTTLED: usize = 6;

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
        Action::Edit(Box::new(|response| {
            if let ResponseKind::Fetch(response) = response {
                response.responses.clear();
            }
        }))
    });
    let client = Client::connect(ClusterSpec::new("it", cluster.bootstrap(), "test".to_owned())).await.unwrap();
    let topic_id = client.refresh(Topics::All).await.unwrap().topic(TOPIC).unwrap().id;
    let tp = TopicPartition { topic: TOPIC.to_owned(), topic_id, partition: 0 };
    // The pauses between so many tries are longer together.
    let options = ReadOptions { deadline: Duration::from_millis(700), max_bytes: 64 << 10, ..ReadOptions::default() };
    let slice = read_log(&client, &tp, 0, options).await.unwrap();
    assert_eq!(slice.batches.iter().map(|batch| i64::from(batch.header.records_count)).sum::<i64>(), 10);
    let kib = |kib: i32| kib << 10;
    assert_eq!(*asked.lock().unwrap(), [64, 32, 16, 8, 4, 4].map(kib));
}
