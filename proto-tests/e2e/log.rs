//! The batches of a log as they are: what no consumer shows.

use kmirror::batch::RawBatch;
use kmirror::client::{Cluster as Client, ClusterSpec, ReadOptions, TopicPartition, Topics, read_log};
use tokio::runtime::Runtime;

use crate::kafka::harness::Cluster;

/// kmirror's own client, for what Java's clients hide.
pub(crate) fn connected(cluster: &Cluster) -> (Runtime, Client) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bootstrap = cluster.bootstrap().split(',').map(str::to_owned).collect();
    let spec = ClusterSpec::new("tested", bootstrap, "proto-tests".to_owned());
    let client = runtime.block_on(Client::connect(spec)).unwrap();
    (runtime, client)
}

/// Every batch of a topic, partition by partition.
pub(crate) fn batches(cluster: &Cluster, topic: &str) -> Vec<RawBatch> {
    let (runtime, client) = connected(cluster);
    runtime.block_on(async {
        let metadata = client.refresh(Topics::Named(&[topic])).await.unwrap();
        let meta = metadata.topic(topic).expect("the topic is there");
        let mut all = Vec::new();
        for partition in (0..).take(meta.partitions.len()) {
            let tp = TopicPartition { topic: topic.to_owned(), topic_id: meta.id, partition };
            read_all(&client, &tp, &mut all).await;
        }
        all
    })
}

async fn read_all(client: &Client, tp: &TopicPartition, all: &mut Vec<RawBatch>) {
    let (mut at, end) = (client.log_start(tp).await.unwrap(), client.log_end(tp).await.unwrap());
    while at < end {
        let slice = read_log(client, tp, at, ReadOptions::default()).await.unwrap();
        let before = at;
        for batch in slice.batches.into_iter().filter(|b| b.header.next_offset() > before) {
            at = batch.header.next_offset();
            all.push(batch);
        }
        assert!(at > before, "{tp} from {before} up to {end}: nothing there");
    }
}

/// Whether records are missing inside: compaction takes records out of a batch and leaves its offsets.
pub(crate) fn has_holes(batch: &RawBatch) -> bool {
    !batch.header.is_control() && batch.header.records_count <= batch.header.last_offset_delta
}
