//! The client against real Kafka, where bytes alone do not show that they mean what they should.

use kmirror::client::{Cluster, ClusterSpec, TopicPartition, Topics};

use crate::kafka::harness::{Produce, TopicSpec, Transact, driver, real_kafka_wanted, source};

/// A consumer is told the last stable offset where it asks for it; a follower would be told the log end.
#[test]
fn an_open_transaction_holds_back_the_committed_end() {
    const TOPIC: &str = "client-open-transaction";
    if !real_kafka_wanted("an_open_transaction_holds_back_the_committed_end") {
        return;
    }
    let kafka = source();
    driver().create_topic(&kafka.bootstrap(), &TopicSpec::new(TOPIC, 1));
    driver().produce(&kafka.bootstrap(), &Produce::new(TOPIC, 5));
    let open = Transact { leave_open: true, ..Transact::new(Produce::new(TOPIC, 7)) };
    driver().transact(&kafka.bootstrap(), &open);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ends = runtime.block_on(async {
        let spec = ClusterSpec::new("source", vec![kafka.bootstrap()], "client-test".to_owned());
        let cluster = Cluster::connect(spec).await?;
        let metadata = cluster.refresh(Topics::Named(&[TOPIC])).await?;
        let topic_id = metadata.topic(TOPIC).map(|topic| topic.id).unwrap_or_default();
        let tp = TopicPartition { topic: TOPIC.to_owned(), topic_id, partition: 0 };
        Ok::<_, kmirror::client::ClientError>((
            cluster.log_ends(std::slice::from_ref(&tp), true).await?[&tp],
            cluster.log_end(&tp).await?,
        ))
    });
    assert_eq!(ends.unwrap(), (5, 12));
}
