//! The client against real Kafka, where bytes alone do not show that they mean what they should.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kmirror::backup::capture::{Captured, capture};
use kmirror::client::{ClientError, Cluster, ClusterSpec, GroupOffsets, GroupState, TopicPartition, Topics};
use kmirror::config::{GroupFilter, TopicFilter};
use kmirror::groups::{Committed, GroupType};
use kmirror::plan::{AclScope, plan_acl_restore};

use crate::kafka::harness::cluster::older;
use crate::kafka::harness::{
    Cluster as Kafka, ClusterSpec as KafkaSpec, Produce, TopicSpec, Transact, Version, driver, real_kafka_wanted,
    source,
};
use serde_json::json;

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

/// What brokers of both lines tell of quotas and users, and what they tell to whom an authorizer lets in.
#[test]
fn what_is_captured_with_a_backup_is_what_kafkas_own_client_has_set() {
    if !real_kafka_wanted("what_is_captured_with_a_backup_is_what_kafkas_own_client_has_set") {
        return;
    }
    let spec = KafkaSpec::new(Version::V4_3_1)
        .set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .set("allow.everyone.if.no.acl.found", "true");
    let guarded = Kafka::start(spec);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (kafka, has_authorizer) in [(older(), false), (&guarded, true)] {
        let bootstrap = kafka.bootstrap();
        let topic = TopicSpec::new("capture-orders", 2).set("retention.ms", 777_000_000);
        driver().create_topic(&bootstrap, &topic);
        driver().set_quota(&bootstrap, "capture-client", "producer_byte_rate", Some(123_456));
        driver().set_scram(&bootstrap, "capture-user", "SCRAM-SHA-512", 8_192, "not-for-the-archive");
        if has_authorizer {
            driver().allow(&bootstrap, ["TOPIC", "capture-", "PREFIXED"], "User:*", "ALL");
            driver().allow(&bootstrap, ["TRANSACTIONAL_ID", "capture", "LITERAL"], "User:writer", "WRITE");
        }
        let captured = runtime.block_on(captured(&bootstrap, has_authorizer));
        let json = serde_json::to_value(&captured).unwrap();
        assert!(!json.to_string().contains("not-for-the-archive"));
        let [topic] = &captured.topics.entries[..] else { panic!("{json}") };
        assert_eq!((topic.name.as_str(), topic.partitions, topic.replication_factor), ("capture-orders", 2, 1));
        assert_eq!(topic.configs, [("retention.ms".to_owned(), Some("777000000".to_owned()))].into());
        let offsets = &json["groups"]["entries"][0]["offsets"];
        assert_eq!(offsets[0]["offset"], 5, "{json}");
        let quota = json!({ "entity": [{ "type": "client-id", "name": "capture-client" }],
            "values": { "producer_byte_rate": 123_456.0 } });
        assert!(json["quotas"]["entries"].as_array().unwrap().contains(&quota), "{json}");
        let user = json!({ "user": "capture-user",
            "mechanisms": [{ "mechanism": "SCRAM-SHA-512", "iterations": 8_192 }] });
        assert_eq!(json["scram_users"]["entries"], json!([user]));
        assert!(captured.features["metadata.version"] > 0, "{json}");
        assert_eq!(captured.acls.unavailable.is_none(), has_authorizer, "{json}");
        for part in ["topics", "groups", "quotas", "scram_users"] {
            assert_eq!(json[part]["unavailable"], json!(null), "{json}");
        }
    }
}

/// Captures the topic and a group of the test; where there is an authorizer, ACLs are added by what was captured as well.
async fn captured(bootstrap: &str, has_authorizer: bool) -> Captured {
    let spec = ClusterSpec::new("real", vec![bootstrap.to_owned()], "client-test".to_owned());
    let cluster = Cluster::connect(spec).await.unwrap();
    let place = ("capture-orders".to_owned(), 1);
    let committed = Committed { offset: 5, leader_epoch: -1, metadata: "noted".to_owned() };
    let offsets = BTreeMap::from([("capture-group".to_owned(), GroupOffsets::from([(place, committed)]))]);
    let answers = cluster.commit_group_offsets(offsets, Duration::from_secs(60)).await;
    assert!(answers["capture-group"].as_ref().unwrap().values().all(Result::is_ok), "{answers:?}");
    let topics = TopicFilter::new(&["capture-.*".to_owned()], &[]).unwrap();
    let groups = GroupFilter::new(&["capture-.*".to_owned()], &[]).unwrap();
    let captured = capture(&cluster, &topics, &groups).await.unwrap();
    if has_authorizer {
        let acls = captured.acls.entries.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected =
            ["allow User:* ALL on topic prefix capture-", "allow User:writer WRITE on transactional id capture"];
        assert_eq!(acls, expected);
        let topics = BTreeMap::from([("capture-orders".to_owned(), "dr.capture-orders".to_owned())]);
        let scope = AclScope { topics: &topics, groups: &BTreeSet::new(), is_whole: true };
        let there = cluster.acl_bindings().await.unwrap().unwrap();
        let plan = plan_acl_restore(&captured.acls.entries, &there, scope);
        let create: Vec<String> = plan.create.iter().map(ToString::to_string).collect();
        assert_eq!((create, plan.there.len()), (vec!["allow User:* ALL on topic dr.capture-orders".to_owned()], 2));
        assert_eq!(cluster.create_acls(&plan.create).await.unwrap(), []);
        let now = cluster.acl_bindings().await.unwrap().unwrap();
        assert!(now.len() == 3 && now.contains(&plan.create[0]), "{now:?}");
    }
    captured
}
