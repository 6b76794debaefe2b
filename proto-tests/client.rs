//! The client against real Kafka, where bytes alone do not show that they mean what they should.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kmirror::client::{ClientError, Cluster, ClusterSpec, GroupOffsets, GroupState, TopicPartition, Topics};
use kmirror::groups::{Committed, GroupType};

use crate::kafka::harness::cluster::older;
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
        Ok::<_, ClientError>((
            cluster.log_ends(std::slice::from_ref(&tp), true).await?[&tp],
            cluster.log_end(&tp).await?,
        ))
    });
    assert_eq!(ends.unwrap(), (5, 12));
}

/// The embedded broker shows what can go wrong; here every call is understood by brokers of both lines.
#[test]
fn offsets_of_groups_are_committed_fetched_and_taken_back_on_real_kafka() {
    if !real_kafka_wanted("offsets_of_groups_are_committed_fetched_and_taken_back_on_real_kafka") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for kafka in [source(), older()] {
        runtime.block_on(carry_offsets(&kafka.bootstrap()));
    }
}

async fn carry_offsets(bootstrap: &str) {
    const TOPIC: &str = "client-groups";
    const PATIENCE: Duration = Duration::from_secs(60);
    driver().create_topic(bootstrap, &TopicSpec::new(TOPIC, 3));
    let spec = ClusterSpec::new("real", vec![bootstrap.to_owned()], "client-test".to_owned());
    let cluster = Cluster::connect(spec).await.unwrap();
    let offset = |offset| Committed { offset, leader_epoch: 0, metadata: "carried".to_owned() };
    let of = |number: i64| -> GroupOffsets {
        (0..3).map(|p| ((TOPIC.to_owned(), p), offset(number + i64::from(p)))).collect()
    };
    let offsets: BTreeMap<String, GroupOffsets> = (0..40).map(|n| (format!("client-groups-{n}"), of(n))).collect();
    let names: Vec<String> = offsets.keys().cloned().collect();
    let committed = cluster.commit_group_offsets(offsets.clone(), PATIENCE).await;
    let all = committed.values().flat_map(|answers| answers.as_ref().unwrap().values());
    assert_eq!(all.filter(|answer| answer.is_ok()).count(), 120, "{committed:?}");
    let fetched = cluster.fetch_group_offsets(&names, true, PATIENCE).await;
    let fetched: BTreeMap<String, GroupOffsets> = fetched
        .into_iter()
        .map(|(group, answers)| {
            let all = answers.unwrap().all().unwrap();
            (group, all.iter().map(|(topic, p, offset)| ((topic.to_owned(), p), offset.clone())).collect())
        })
        .collect();
    assert_eq!(fetched, offsets);
    let listed = cluster.list_groups().await.unwrap();
    let ours = listed.iter().filter(|group| names.contains(&group.id));
    let empty = ours.filter(|g| g.kind == GroupType::Classic && g.state == Some(GroupState::Empty));
    assert_eq!(empty.count(), 40);
    driver().join_group(bootstrap, "client-groups-7", TOPIC, "classic");
    let views = cluster.describe_groups(&[names, vec!["client-nowhere".to_owned()]].concat(), PATIENCE).await;
    for (group, view) in &views {
        let view = view.as_ref().unwrap();
        assert_eq!(view.is_live(), group == "client-groups-7", "{group}: {view:?}");
        assert_eq!(view.kind.is_none(), group == "client-nowhere", "{group}: {view:?}");
    }
    let one = |group: &str| BTreeMap::from([(group.to_owned(), of(500))]);
    let refused = cluster.commit_group_offsets(one("client-groups-7"), PATIENCE).await;
    let answers = refused["client-groups-7"].as_ref().unwrap();
    assert!(answers.values().all(|answer| answer.as_ref().is_err_and(ClientError::is_of_live_group)), "{answers:?}");
    driver().leave_group(bootstrap, "client-groups-7");
    let first = || BTreeSet::from([(TOPIC.to_owned(), 0)]);
    let taken = ["client-groups-3", "client-nowhere"].map(|group| (group.to_owned(), first()));
    let taken = cluster.delete_group_offsets(taken.into(), PATIENCE).await;
    assert!(taken.values().all(|answers| answers.as_ref().unwrap().values().all(Result::is_ok)), "{taken:?}");
    let left = cluster.fetch_group_offsets(&["client-groups-3".to_owned()], true, PATIENCE).await;
    assert_eq!(left["client-groups-3"].as_ref().unwrap().offsets.len(), 2);
}
