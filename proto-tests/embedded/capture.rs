//! What is captured with a backup, on embedded clusters: all of it, and what is said of a part that cannot be had.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::ResponseError::{
    self, ClusterAuthorizationFailed, GroupAuthorizationFailed, SecurityDisabled, TopicAuthorizationFailed,
};
use kafka_protocol::messages::ApiKey;
use kmirror::backup::acls::{plan_acls, restore_acls};
use kmirror::backup::capture::{Captured, CapturedOffset, capture};
use kmirror::broker::{Action, Cluster as Broker, ClusterOptions, GroupKind};
use kmirror::client::{Cluster, ClusterSpec, GroupOffsets};
use kmirror::config::{GroupFilter, TopicFilter};
use kmirror::groups::{Committed, GroupType};
use kmirror::plan::{AclBinding, AclNumbers, AclScope};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

async fn broker(cluster_id: &str) -> Broker {
    let options = ClusterOptions {
        nodes: 3,
        cluster_id: cluster_id.to_owned(),
        auto_create_topics: false,
        ..ClusterOptions::default()
    };
    Broker::start(options).await.unwrap()
}

async fn connected(broker: &Broker) -> Cluster {
    Cluster::connect(ClusterSpec::new("embedded", broker.bootstrap(), "capture-test".to_owned())).await.unwrap()
}

fn acl(resource: i8, name: &str, pattern: i8) -> AclBinding {
    AclNumbers { resource, pattern, operation: 3, permission: 3 }.binding(name, "User:alice", "*")
}

/// Two topics that are backed up and one that is not, groups with offsets in them, and one of everything else.
async fn filled() -> (Broker, Cluster) {
    let broker = broker("captured").await;
    broker.create_topic("orders", 3, 2, &[("retention.ms", "777")]).unwrap();
    broker.create_topic("payments", 1, 1, &[]).unwrap();
    broker.create_topic("other", 1, 1, &[]).unwrap();
    let cluster = connected(&broker).await;
    let committed = |offset| Committed { offset, leader_epoch: 3, metadata: format!("at {offset}") };
    let place = |topic: &str, partition| (topic.to_owned(), partition);
    let offsets: BTreeMap<String, GroupOffsets> = [
        (
            "billing",
            vec![
                (place("orders", 2), committed(7)),
                (place("payments", 0), committed(1 << 40)),
                (place("other", 0), committed(5)),
            ],
        ),
        ("audit", vec![(place("orders", 0), committed(1))]),
        ("elsewhere", vec![(place("other", 0), committed(9))]),
        ("billing.tmp", vec![(place("orders", 0), committed(2))]),
    ]
    .into_iter()
    .map(|(group, offsets)| (group.to_owned(), offsets.into_iter().collect()))
    .collect();
    let answers = cluster.commit_group_offsets(offsets, PATIENCE).await;
    assert!(answers.values().all(|answers| answers.as_ref().unwrap().values().all(Result::is_ok)), "{answers:?}");
    broker.set_members("shares", GroupKind::Share, 1, &["orders"]);
    broker.plant_quota(&[("user", Some("alice")), ("client-id", None)], "producer_byte_rate", 1024.5);
    broker.plant_quota(&[("ip", Some("10.0.0.1"))], "connection_creation_rate", 3.0);
    broker.plant_scram_user("alice", 1, 4096);
    broker.plant_scram_user("alice", 2, 8192);
    let acls = [acl(2, "orders", 3), acl(2, "pay", 4), acl(3, "billing", 3), acl(4, "kafka-cluster", 3)];
    assert_eq!(cluster.create_acls(&acls).await.unwrap(), []);
    (broker, cluster)
}

async fn captured(cluster: &Cluster) -> Captured {
    let patterns = |all: &[&str]| all.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>();
    let topics = TopicFilter::new(&patterns(&["orders", "pay.*"]), &[]).unwrap();
    let groups = GroupFilter::new(&patterns(&[".*"]), &patterns(&[".*[.]tmp"])).unwrap();
    capture(cluster, &topics, &groups).await.unwrap()
}

fn offset(topic: &str, partition: i32, offset: i64) -> CapturedOffset {
    CapturedOffset { topic: topic.to_owned(), partition, offset, leader_epoch: 3, metadata: format!("at {offset}") }
}

#[tokio::test]
async fn what_belongs_to_the_topics_is_captured() {
    let (broker, cluster) = filled().await;
    let captured = captured(&cluster).await;
    assert_eq!(captured.cluster_id, "captured");
    let ids: BTreeMap<String, _> = broker.topics().into_iter().map(|topic| (topic.name, topic.id)).collect();
    let [orders, payments] = &captured.topics.entries[..] else { panic!("{captured:?}") };
    assert_eq!((orders.name.as_str(), orders.topic_id), ("orders", ids["orders"]));
    assert_eq!((orders.partitions, orders.replication_factor), (3, 2));
    assert_eq!(orders.configs, [("retention.ms".to_owned(), Some("777".to_owned()))].into());
    assert_eq!((payments.name.as_str(), payments.partitions, payments.configs.len()), ("payments", 1, 0));

    let [audit, billing] = &captured.groups.entries[..] else { panic!("{:?}", captured.groups) };
    assert_eq!((audit.group.as_str(), &audit.offsets[..]), ("audit", &[offset("orders", 0, 1)][..]));
    assert_eq!(
        (billing.group.as_str(), billing.kind, billing.state.as_deref()),
        ("billing", GroupType::Classic, Some("Empty"))
    );
    assert_eq!(billing.offsets, [offset("orders", 2, 7), offset("payments", 0, 1 << 40)]);

    assert_eq!(captured.acls.entries.len(), 4);
    let json = serde_json::to_value(&captured).unwrap();
    assert_eq!(
        json["quotas"]["entries"],
        json!([
            { "entity": [{ "type": "client-id", "name": null }, { "type": "user", "name": "alice" }],
              "values": { "producer_byte_rate": 1024.5 } },
            { "entity": [{ "type": "ip", "name": "10.0.0.1" }], "values": { "connection_creation_rate": 3.0 } },
        ])
    );
    assert_eq!(
        json["scram_users"]["entries"],
        json!([{ "user": "alice", "mechanisms": [
        { "mechanism": "SCRAM-SHA-256", "iterations": 4096 }, { "mechanism": "SCRAM-SHA-512", "iterations": 8192 },
    ] }])
    );
    assert!(!json.to_string().contains("unavailable"), "{json}");
    assert_eq!(serde_json::from_value::<Captured>(json).unwrap(), captured);
}

#[tokio::test]
async fn a_part_that_cannot_be_had_says_why_and_spoils_no_other() {
    let (broker, cluster) = filled().await;
    let whole = captured(&cluster).await;
    let refusals: [(ApiKey, ResponseError, &str); 6] = [
        (ApiKey::DescribeAcls, ClusterAuthorizationFailed, "acls"),
        (ApiKey::DescribeAcls, SecurityDisabled, "acls"),
        (ApiKey::DescribeClientQuotas, ClusterAuthorizationFailed, "quotas"),
        (ApiKey::DescribeUserScramCredentials, ClusterAuthorizationFailed, "scram_users"),
        (ApiKey::ListGroups, ClusterAuthorizationFailed, "groups"),
        (ApiKey::DescribeConfigs, TopicAuthorizationFailed, "topics"),
    ];
    for (api, error, part) in refusals {
        let hook = broker.intercept(api, None, move |_| Action::Error(error));
        let captured = captured(&cluster).await;
        assert!(hook.hits() > 0, "{api:?}");
        broker.remove_intercept(&hook);
        let (json, before) = (serde_json::to_value(&captured).unwrap(), serde_json::to_value(&whole).unwrap());
        for other in ["topics", "groups", "acls", "quotas", "scram_users"] {
            assert_eq!(json[other] == before[other], other != part, "{api:?}: {other}: {}", json[other]);
        }
        let said = json[part].to_string();
        let expected = if error == SecurityDisabled { "no authorizer" } else { "AUTHORIZATION_FAILED" };
        assert!(said.contains("unavailable") && said.contains(expected), "{said}");
        if part == "topics" {
            // They are there all the same, and so is how many partitions they have.
            assert_eq!(captured.topics.entries.len(), 2);
            assert!(captured.topics.entries.iter().all(|topic| topic.unavailable.is_some() && topic.partitions > 0));
        } else {
            assert_eq!(json[part]["entries"], json!([]));
        }
    }
}

#[tokio::test]
async fn a_group_whose_offsets_are_not_told_is_named() {
    let (broker, cluster) = filled().await;
    broker.intercept(ApiKey::OffsetFetch, None, |_| Action::Error(GroupAuthorizationFailed));
    let captured = captured(&cluster).await;
    assert_eq!(captured.groups.unavailable, None);
    let said: Vec<_> = captured.groups.entries.iter().map(|g| (g.group.as_str(), g.offsets.len())).collect();
    // Of one that tells nothing it is not known whether it belongs to the topics.
    assert_eq!(said, [("audit", 0), ("billing", 0), ("elsewhere", 0)]);
    let named = |reason: &Option<String>| reason.as_ref().is_some_and(|r| r.contains("GROUP_AUTHORIZATION_FAILED"));
    assert!(captured.groups.entries.iter().all(|group| named(&group.unavailable)), "{:?}", captured.groups);
}

#[tokio::test]
async fn captured_acls_are_added_to_another_cluster() {
    let (_broker, cluster) = filled().await;
    let captured = captured(&cluster).await;
    let other = broker("restored").await;
    let target = connected(&other).await;
    let topics = [("orders", "dr.orders"), ("payments", "payments")];
    let topics = topics.map(|(here, there)| (here.to_owned(), there.to_owned())).into();
    let groups: BTreeSet<String> = ["billing".to_owned()].into();
    let scope = AclScope { topics: &topics, groups: &groups, is_whole: false };
    let mut restore = plan_acls(&target, &captured.acls, scope).await.unwrap();
    let plan = &restore.plan;
    assert_eq!((plan.create.len(), plan.there.len(), plan.left_out.len()), (3, 0, 1), "{plan:?}");
    assert_eq!(target.acl_bindings().await.unwrap(), Some(Vec::new()), "a plan changes nothing");
    let hook = other.intercept(ApiKey::CreateAcls, None, |_| Action::Error(ClusterAuthorizationFailed));
    restore_acls(&target, &mut restore).await.unwrap();
    assert_eq!((restore.created.len(), restore.refused.len()), (0, 3));
    assert!(restore.refused[0].error.contains("CLUSTER_AUTHORIZATION_FAILED"), "{:?}", restore.refused);
    other.remove_intercept(&hook);
    // The answer is lost: it is said again.
    other.intercept(ApiKey::CreateAcls, Some(1), |_| Action::DropAfter);
    restore_acls(&target, &mut restore).await.unwrap();
    assert_eq!((restore.created.len(), &restore.refused[..]), (3, &[][..]));
    let there = target.acl_bindings().await.unwrap().unwrap();
    assert_eq!(there, [acl(3, "billing", 3), acl(2, "dr.orders", 3), acl(2, "payments", 3)]);
    let again = plan_acls(&target, &captured.acls, scope).await.unwrap();
    assert_eq!((again.plan.create.len(), again.plan.there.len(), &again.unavailable), (0, 3, &None));
    let hook = other.intercept(ApiKey::DescribeAcls, None, |_| Action::Error(ClusterAuthorizationFailed));
    let blind = plan_acls(&target, &captured.acls, scope).await.unwrap();
    assert_eq!((blind.plan.create.len(), blind.unavailable.is_some()), (3, true));
    other.remove_intercept(&hook);
    other.intercept(ApiKey::DescribeAcls, None, |_| Action::Error(SecurityDisabled));
    let open = plan_acls(&target, &captured.acls, scope).await.unwrap();
    assert_eq!((open.plan.create.len(), open.unavailable.is_some()), (0, true));
    let unknown = AclBinding { operation: "FLY".to_owned(), ..acl(2, "orders", 3) };
    let refused = target.create_acls(std::slice::from_ref(&unknown)).await.unwrap();
    assert!(refused.len() == 1 && refused[0].1.to_string().contains("FLY"), "{refused:?}");
}
