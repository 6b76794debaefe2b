//! The client's calls to group coordinators, on an embedded cluster of several: what goes wrong on the way, and brokers of
//! long ago.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use kafka_protocol::ResponseError::{
    CoordinatorLoadInProgress, CoordinatorNotAvailable, GroupAuthorizationFailed, NotCoordinator,
};
use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, Cluster as Broker, ClusterOptions, GroupKind as Kind, RequestKind, ResponseKind};
use kmirror::client::{
    ClientError, Cluster, ClusterSpec, FetchedOffsets, GroupOffsets, GroupState, GroupView, ListedGroup,
};
use kmirror::groups::{Committed, GroupType};

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 10;
const NODES: i32 = 3;
/// Long enough for whatever is to come right again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Too short for that.
const IMPATIENCE: Duration = Duration::from_millis(300);
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const GROUP_AUTHORIZATION_FAILED: i16 = 30;

async fn broker() -> Broker {
    let options = ClusterOptions { nodes: NODES, auto_create_topics: false, ..ClusterOptions::default() };
    let broker = Broker::start(options).await.unwrap();
    broker.create_topic(TOPIC, PARTITIONS, 1, &[]).unwrap();
    broker
}

async fn connected(broker: &Broker) -> Cluster {
    let spec = ClusterSpec::new("embedded", broker.bootstrap(), "groups-test".to_owned());
    Cluster::connect(spec).await.unwrap()
}

fn at(partition: i32) -> (String, i32) {
    (TOPIC.to_owned(), partition)
}

fn committed(offset: i64) -> Committed {
    Committed { offset, leader_epoch: 3, metadata: format!("at {offset}") }
}

/// So many groups, each with an offset of its own in every partition.
fn offsets_of(groups: usize) -> BTreeMap<String, GroupOffsets> {
    let offsets = |number: usize| (0..PARTITIONS).map(move |p| (at(p), committed(number as i64 * 100 + i64::from(p))));
    (0..groups).map(|number| (format!("group-{number}"), offsets(number).collect())).collect()
}

fn names(offsets: &BTreeMap<String, GroupOffsets>) -> Vec<String> {
    offsets.keys().cloned().collect()
}

async fn commit(cluster: &Cluster, offsets: &BTreeMap<String, GroupOffsets>) {
    let answers = cluster.commit_group_offsets(offsets.clone(), PATIENCE).await;
    assert_eq!(answers.len(), offsets.len());
    for (group, answers) in answers {
        let answers = answers.unwrap_or_else(|error| panic!("{group}: {error}"));
        assert_eq!(answers.len(), offsets[&group].len());
        answers.into_values().for_each(|answer| assert_eq!(answer, Ok(())));
    }
}

async fn fetch(cluster: &Cluster, groups: &[String]) -> BTreeMap<String, GroupOffsets> {
    let fetched = cluster.fetch_group_offsets(groups, true, PATIENCE).await;
    let offsets = |(group, answers): (String, Result<FetchedOffsets, ClientError>)| {
        let all = answers.and_then(FetchedOffsets::all).unwrap_or_else(|error| panic!("{group}: {error}"));
        (group, all.iter().map(|(topic, p, offset)| ((topic.to_owned(), p), offset.clone())).collect())
    };
    fetched.into_iter().map(offsets).collect()
}

/// What was committed through the client stands at the broker.
fn assert_committed(broker: &Broker, offsets: &BTreeMap<String, GroupOffsets>) {
    for (group, offsets) in offsets {
        let there: GroupOffsets = broker
            .group_offsets(group)
            .into_iter()
            .map(|(place, o)| {
                (place, Committed { offset: o.offset, leader_epoch: o.leader_epoch, metadata: o.metadata })
            })
            .collect();
        assert_eq!(&there, offsets, "{group}");
    }
}

#[tokio::test]
async fn many_groups_are_committed_fetched_listed_and_deleted() {
    let broker = broker().await;
    let cluster = connected(&broker).await;
    let offsets = offsets_of(300);
    commit(&cluster, &offsets).await;
    assert_committed(&broker, &offsets);
    assert_eq!(fetch(&cluster, &names(&offsets)).await, offsets);
    let listed = cluster.list_groups().await.unwrap();
    assert_eq!(listed.len(), 300);
    let group = |id: &str| ListedGroup {
        id: id.to_owned(),
        protocol_type: String::new(),
        state: Some(GroupState::Empty),
        kind: GroupType::Classic,
    };
    assert!(listed.iter().all(|listed| *listed == group(&listed.id)));
    let some: BTreeSet<_> = (0..4).map(at).collect();
    let deleted = cluster.delete_group_offsets(BTreeMap::from([("group-7".to_owned(), some)]), PATIENCE).await;
    let answers = deleted["group-7"].as_ref().unwrap();
    assert!(answers.len() == 4 && answers.values().all(Result::is_ok));
    assert_eq!(broker.group_offsets("group-7").into_keys().collect::<Vec<_>>(), (4..10).map(at).collect::<Vec<_>>());
}

/// Several keys and several groups go into one request.
#[tokio::test]
async fn many_groups_take_few_requests() {
    let broker = broker().await;
    let cluster = connected(&broker).await;
    let offsets = offsets_of(300);
    let count = |api| broker.intercept(api, None, |_| Action::Delay(Duration::ZERO));
    let (finds, fetches, describes) =
        (count(ApiKey::FindCoordinator), count(ApiKey::OffsetFetch), count(ApiKey::DescribeGroups));
    commit(&cluster, &offsets).await;
    fetch(&cluster, &names(&offsets)).await;
    cluster.describe_groups(&names(&offsets), PATIENCE).await;
    assert_eq!(finds.hits(), 1);
    assert!(fetches.hits() <= 9 && describes.hits() <= 9, "{} and {}", fetches.hits(), describes.hits());
}

#[tokio::test]
async fn states_and_kinds_are_told_and_what_is_not_there_is_dead() {
    let broker = broker().await;
    let cluster = connected(&broker).await;
    broker.commit_offset("quiet", TOPIC, 0, 1);
    broker.set_members("classic", Kind::Classic, 2, &[TOPIC]);
    broker.set_members("modern", Kind::Consumer, 3, &[TOPIC]);
    broker.set_members("modern-quiet", Kind::Consumer, 0, &[]);
    broker.set_members("shares", Kind::Share, 1, &[TOPIC]);
    let names = ["quiet", "classic", "modern", "modern-quiet", "shares", "nowhere"].map(str::to_owned);
    let views = cluster.describe_groups(&names, PATIENCE).await;
    let view = |state, members, kind| Ok(GroupView { state, members, kind });
    assert_eq!(views["quiet"], view(GroupState::Empty, 0, Some(GroupType::Classic)));
    assert_eq!(views["classic"], view(GroupState::Stable, 2, Some(GroupType::Classic)));
    assert_eq!(views["modern"], view(GroupState::Stable, 3, Some(GroupType::Consumer)));
    assert_eq!(views["modern-quiet"], view(GroupState::Empty, 0, Some(GroupType::Consumer)));
    for group in ["shares", "nowhere"] {
        assert_eq!(views[group], view(GroupState::Dead, 0, None), "{group}");
    }
    let listed = cluster.list_groups().await.unwrap();
    let kind = |id: &str| listed.iter().find(|group| group.id == id).map(|group| group.kind);
    assert_eq!((kind("shares"), kind("modern")), (Some(GroupType::Share), Some(GroupType::Consumer)));
}

#[tokio::test]
async fn a_live_group_refuses_and_is_left_as_it_was() {
    let broker = broker().await;
    let cluster = connected(&broker).await;
    let offsets = offsets_of(3);
    commit(&cluster, &offsets).await;
    broker.set_members("group-0", Kind::Classic, 1, &[TOPIC]);
    broker.set_members("group-1", Kind::Consumer, 1, &[TOPIC]);
    let later = BTreeMap::from_iter(offsets.keys().map(|group| (group.clone(), [(at(0), committed(9))].into())));
    let answers = cluster.commit_group_offsets(later, PATIENCE).await;
    for (group, live) in [("group-0", true), ("group-1", true), ("group-2", false)] {
        let answer = &answers[group].as_ref().unwrap()[&at(0)];
        assert_eq!(answer.as_ref().is_err_and(ClientError::is_of_live_group), live, "{group}: {answer:?}");
        assert_eq!(broker.group_offsets(group)[&at(0)].offset == 9, !live, "{group}");
    }
    let all = offsets.keys().map(|group| (group.clone(), BTreeSet::from([at(1)]))).collect();
    let answers = cluster.delete_group_offsets(all, PATIENCE).await;
    for (group, live) in [("group-0", true), ("group-1", true), ("group-2", false)] {
        let answer = &answers[group].as_ref().unwrap()[&at(1)];
        assert_eq!(answer.as_ref().is_err_and(ClientError::is_of_live_group), live, "{group}: {answer:?}");
        assert_eq!(broker.group_offsets(group).contains_key(&at(1)), live, "{group}");
    }
}

#[tokio::test]
async fn a_group_that_is_not_there_has_committed_nothing_and_nothing_to_take_back() {
    let broker = broker().await;
    let cluster = connected(&broker).await;
    assert_eq!(fetch(&cluster, &["nowhere".to_owned()]).await["nowhere"], GroupOffsets::new());
    let answers = cluster.delete_group_offsets([("nowhere".to_owned(), [at(0)].into())].into(), PATIENCE).await;
    assert_eq!(answers["nowhere"].as_ref().unwrap()[&at(0)], Ok(()));
    assert!(cluster.list_groups().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_offset_in_an_open_transaction_is_told_apart() {
    let broker = broker().await;
    let cluster = connected(&broker).await;
    for partition in 0..2 {
        broker.commit_offset("half", TOPIC, partition, 5);
    }
    broker.hold_offset("half", TOPIC, 0, true);
    let half = ["half".to_owned()];
    let stable = cluster.fetch_group_offsets(&half, true, PATIENCE).await;
    let stable = stable["half"].as_ref().unwrap();
    assert_eq!(stable.failed[&at(0)].code(), Some(UNSTABLE_OFFSET_COMMIT));
    assert_eq!((stable.offsets.len(), stable.offsets.get(TOPIC, 1).unwrap().offset), (1, 5));
    let any = cluster.fetch_group_offsets(&half, false, PATIENCE).await;
    assert_eq!(any["half"].as_ref().unwrap().offsets.get(TOPIC, 0).unwrap().offset, 5);
}

#[tokio::test]
async fn groups_are_followed_to_their_new_coordinators() {
    let broker = broker().await;
    let cluster = connected(&broker).await;
    let offsets = offsets_of(60);
    commit(&cluster, &offsets).await;
    broker.stop_node(2).await.unwrap();
    assert_eq!(fetch(&cluster, &names(&offsets)).await, offsets);
    assert_eq!(cluster.list_groups().await.unwrap().len(), 60);
    // Now groups go back to it, while their coordinators of the meantime still run.
    broker.start_node(2, None).await.unwrap();
    let views = cluster.describe_groups(&names(&offsets), PATIENCE).await;
    assert!(views.values().all(|view| view.as_ref().is_ok_and(|view| !view.is_live())), "{views:?}");
    commit(&cluster, &offsets).await;
    assert_eq!(cluster.list_groups().await.unwrap().len(), 60);
}

#[tokio::test]
async fn answers_that_are_lost_and_coordinators_that_are_not_ready_are_asked_again() {
    let broker = broker().await;
    let cluster = connected(&broker).await;
    let offsets = offsets_of(20);
    broker.intercept(ApiKey::FindCoordinator, Some(2), |_| Action::Error(CoordinatorNotAvailable));
    broker.intercept(ApiKey::OffsetCommit, Some(3), |_| Action::DropAfter);
    broker.intercept(ApiKey::OffsetCommit, Some(5), |_| Action::Error(NotCoordinator));
    commit(&cluster, &offsets).await;
    assert_committed(&broker, &offsets);
    broker.intercept(ApiKey::OffsetFetch, Some(2), |_| Action::Error(CoordinatorLoadInProgress));
    broker.intercept(ApiKey::OffsetFetch, Some(2), |_| Action::DropBefore);
    assert_eq!(fetch(&cluster, &names(&offsets)).await, offsets);
    broker.intercept(ApiKey::ListGroups, Some(2), |_| Action::Error(CoordinatorLoadInProgress));
    assert_eq!(cluster.list_groups().await.unwrap().len(), 20);
    broker.intercept(ApiKey::DescribeGroups, Some(2), |_| Action::Error(NotCoordinator));
    let views = cluster.describe_groups(&names(&offsets), PATIENCE).await;
    assert!(views.values().all(|view| view.as_ref().is_ok_and(|view| view.state == GroupState::Empty)), "{views:?}");
    broker.intercept(ApiKey::OffsetDelete, Some(1), |_| Action::DropAfter);
    let all = offsets.keys().map(|group| (group.clone(), BTreeSet::from([at(0)]))).collect();
    let answers = cluster.delete_group_offsets(all, PATIENCE).await;
    assert!(answers.values().flatten().flat_map(BTreeMap::values).all(Result::is_ok), "{answers:?}");
}

#[tokio::test]
async fn one_coordinator_that_does_not_answer_costs_its_own_groups_alone() {
    let broker = broker().await;
    let cluster = connected(&broker).await;
    let offsets = offsets_of(60);
    commit(&cluster, &offsets).await;
    broker.intercept(ApiKey::OffsetFetch, None, |context| {
        if context.node == 2 { Action::Error(CoordinatorLoadInProgress) } else { Action::Pass }
    });
    let fetched = cluster.fetch_group_offsets(&names(&offsets), true, IMPATIENCE).await;
    let told = fetched.values().filter(|answers| answers.is_ok()).count();
    let mut errors = fetched.values().filter_map(|answers| answers.as_ref().err());
    assert!(fetched.len() == 60 && told > 10 && told < 50, "{told} of {}", fetched.len());
    assert!(errors.all(|error| error.code() == Some(COORDINATOR_LOAD_IN_PROGRESS)));
}

#[tokio::test]
async fn a_right_that_is_missing_is_not_waited_for() {
    let broker = broker().await;
    let cluster = connected(&broker).await;
    commit(&cluster, &offsets_of(2)).await;
    let refused = broker.intercept(ApiKey::OffsetFetch, None, |_| Action::Error(GroupAuthorizationFailed));
    let fetched = cluster.fetch_group_offsets(&["group-0".to_owned()], true, PATIENCE).await;
    let error = fetched["group-0"].as_ref().unwrap_err();
    assert_eq!((error.code(), refused.hits()), (Some(GROUP_AUTHORIZATION_FAILED), 1));
    assert!(
        error.is_unreachable_or_unauthorised() && error.to_string().contains("lacks DESCRIBE on Group group-0"),
        "{error}"
    );
}

/// Lets a broker offer no api of groups beyond these versions; the others not at all.
fn of_long_ago(broker: &Broker, newest: &'static [(ApiKey, i16)]) {
    broker.intercept(ApiKey::ApiVersions, None, |_| {
        Action::Edit(Box::new(|response| {
            let ResponseKind::ApiVersions(response) = response else { return };
            response.api_keys.retain_mut(|offered| {
                if offered.api_key == ApiKey::ConsumerGroupDescribe as i16 {
                    return false;
                }
                if let Some((_, max)) = newest.iter().find(|(api, _)| *api as i16 == offered.api_key) {
                    offered.max_version = *max;
                }
                true
            });
        }))
    });
}

/// Kafka 0.11, 2.4 and 3.0.
#[tokio::test]
async fn brokers_of_long_ago_are_asked_in_their_versions() {
    use ApiKey::{DescribeGroups, FindCoordinator, ListGroups, OffsetCommit, OffsetFetch};
    const ALL: [&[(ApiKey, i16)]; 3] = [
        &[(FindCoordinator, 1), (OffsetFetch, 3), (OffsetCommit, 3), (ListGroups, 1), (DescribeGroups, 1)],
        &[(FindCoordinator, 3), (OffsetFetch, 6), (OffsetCommit, 8), (ListGroups, 3), (DescribeGroups, 5)],
        &[(FindCoordinator, 4), (OffsetFetch, 8), (OffsetCommit, 8), (ListGroups, 4), (DescribeGroups, 5)],
    ];
    for newest in ALL {
        let broker = broker().await;
        of_long_ago(&broker, newest);
        let versions = std::sync::Arc::new(Mutex::new(BTreeMap::new()));
        for (api, _) in newest {
            let versions = versions.clone();
            broker.intercept(*api, None, move |context| {
                versions.lock().unwrap().insert(context.api_key as i16, context.api_version);
                Action::Pass
            });
        }
        let cluster = connected(&broker).await;
        let mut offsets = offsets_of(70);
        commit(&cluster, &offsets).await;
        let told = |version_at_least: i16, api| newest.iter().any(|(a, v)| *a == api && *v >= version_at_least);
        for committed in offsets.values_mut().flat_map(BTreeMap::values_mut) {
            committed.leader_epoch = if told(6, OffsetCommit) && told(5, OffsetFetch) { 3 } else { -1 };
        }
        assert_eq!(fetch(&cluster, &names(&offsets)).await, offsets);
        broker.set_members("group-1", Kind::Classic, 2, &[]);
        let views = cluster.describe_groups(&["group-1".to_owned(), "nowhere".to_owned()], PATIENCE).await;
        assert_eq!(views["group-1"].as_ref().unwrap().members, 2);
        assert_eq!(views["nowhere"].as_ref().unwrap().state, GroupState::Dead);
        let listed = cluster.list_groups().await.unwrap();
        assert_eq!(listed.len(), 70);
        assert!(
            listed.iter().all(|group| group.kind == GroupType::Classic && group.state.is_some() == told(4, ListGroups))
        );
        let expected: BTreeMap<i16, i16> = newest.iter().map(|(api, version)| (*api as i16, *version)).collect();
        assert_eq!(*versions.lock().unwrap(), expected);
    }
}

/// A partition that a coordinator passes over is not taken for one that was committed.
#[tokio::test]
async fn what_an_answer_passes_over_is_not_committed() {
    let broker = broker().await;
    let cluster = connected(&broker).await;
    broker.intercept(ApiKey::OffsetCommit, None, |context| {
        assert!(matches!(context.request, RequestKind::OffsetCommit(_)));
        Action::Edit(Box::new(|response| {
            if let ResponseKind::OffsetCommit(response) = response {
                response.topics[0].partitions.truncate(1);
            }
        }))
    });
    let answers = cluster.commit_group_offsets(offsets_of(1), PATIENCE).await;
    let answers = answers["group-0"].as_ref().unwrap();
    assert_eq!(answers.len(), usize::try_from(PARTITIONS).unwrap());
    assert_eq!(answers.values().filter(|answer| answer.is_ok()).count(), 1);
}
