//! What is kept of a cluster besides its records: topics with their configs, what groups have committed, ACLs, quotas, and the
//! names of SCRAM users (a cluster tells no secret of them).
//!
//! As JSON, versioned by what is added: a reader passes over fields that it does not know, and takes what is not there as not
//! captured. A part that cannot be had never fails the capture: it says why ([`Part::unavailable`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::client::{ClientError, ClientQuota, Cluster, FetchedOffsets, ListedGroup, ScramUser, TopicMeta, Topics};
use crate::config::{GroupFilter, TopicFilter};
use crate::groups::GroupType;
use crate::plan::AclBinding;

/// How long a group's coordinator is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Why a part is not there that an older kmirror did not know.
const NOT_CAPTURED: &str = "it was not captured";

/// What was captured of a cluster.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Captured {
    /// Cluster id.
    pub cluster_id: String,
    /// Features that are finalized for the cluster, such as `metadata.version`, by their level; empty where it does not tell.
    pub features: BTreeMap<String, i16>,
    /// Topics that are backed up, by name.
    pub topics: Part<CapturedTopic>,
    /// Groups that have committed offsets in these topics, by group id.
    pub groups: Part<CapturedGroup>,
    /// All ACLs.
    pub acls: Part<AclBinding>,
    /// All client quotas.
    pub quotas: Part<CapturedQuota>,
    /// All users with SCRAM credentials, by name.
    pub scram_users: Part<CapturedScramUser>,
}

/// One part of what was captured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part<T> {
    /// What is there of it.
    #[serde(default = "Vec::new")]
    pub entries: Vec<T>,
    /// Why it is not there, or not complete; `None`: it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self::unavailable(NOT_CAPTURED)
    }
}

impl<T> Part<T> {
    fn complete(entries: Vec<T>) -> Self {
        Self { entries, unavailable: None }
    }

    fn unavailable(reason: impl Into<String>) -> Self {
        Self { entries: Vec::new(), unavailable: Some(reason.into()) }
    }

    /// The entries of an answer, or why there is none.
    fn of<S>(answer: Result<Vec<S>, ClientError>, entry: impl FnMut(S) -> T) -> Self {
        match answer {
            Ok(entries) => Self::complete(entries.into_iter().map(entry).collect()),
            Err(error) => Self::unavailable(error.to_string()),
        }
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedTopic {
    /// Topic name.
    pub name: String,
    /// Topic id; nil before Kafka 2.8.
    pub topic_id: Uuid,
    /// How many partitions it has.
    pub partitions: usize,
    /// Replicas of each.
    pub replication_factor: usize,
    /// Configs set on the topic itself; `null` where the value is secret.
    #[serde(default)]
    pub configs: BTreeMap<String, Option<String>>,
    /// Why its configs are not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedGroup {
    /// Group id.
    pub group: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: GroupType,
    /// Its state by Kafka's name; `null` before Kafka 2.6.
    #[serde(default)]
    pub state: Option<String>,
    /// What it has committed in the topics that are backed up, by topic and partition.
    pub offsets: Vec<CapturedOffset>,
    /// Why offsets are missing, one or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CapturedOffset {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// The next record to read.
    pub offset: i64,
    /// Leader epoch of the last record read (KIP-320); −1 where not told.
    pub leader_epoch: i32,
    /// What the consumer noted with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
}

/// The quotas of one entity.
pub use crate::plan::Quota as CapturedQuota;

/// A user with SCRAM credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedScramUser {
    /// User name.
    pub user: String,
    /// Its credentials, without what is secret of them.
    pub mechanisms: Vec<CapturedMechanism>,
}

/// A SCRAM credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedMechanism {
    /// `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: String,
    /// Iterations.
    pub iterations: i32,
}

/// Captures what belongs to these topics and groups; ACLs, quotas and users are captured whole. What a group has committed is
/// asked for first: logs that are read to their ends afterwards reach as far.
///
/// # Errors
/// The cluster does not tell its topics. Whatever else it does not tell is a part that says so.
pub async fn capture(cluster: &Cluster, topics: &TopicFilter, groups: &GroupFilter) -> Result<Captured, ClientError> {
    let metadata = cluster.refresh(Topics::All).await?;
    let mut selected: Vec<TopicMeta> =
        metadata.topics.values().filter(|topic| topics.matches(&topic.name)).cloned().collect();
    selected.sort_by(|a, b| a.name.cmp(&b.name));
    let names: BTreeSet<&str> = selected.iter().map(|topic| topic.name.as_str()).collect();
    let groups = captured_groups(cluster, groups, &names).await;
    let (features, acls, quotas, scram_users) = tokio::join!(
        cluster.finalized_features(),
        cluster.acl_bindings(),
        cluster.client_quotas(),
        cluster.scram_users()
    );
    Ok(Captured {
        cluster_id: cluster.cluster_id(),
        features: features.unwrap_or_else(|error| {
            tracing::debug!(%error, "the cluster does not tell its features");
            BTreeMap::new()
        }),
        topics: captured_topics(cluster, &selected).await,
        groups,
        acls: match acls {
            Ok(Some(acls)) => Part::complete(acls),
            Ok(None) => Part::unavailable("the cluster has no authorizer: everybody may do everything"),
            Err(error) => Part::unavailable(error.to_string()),
        },
        quotas: captured_quotas(quotas),
        scram_users: Part::of(scram_users, captured_user),
    })
}

async fn captured_topics(cluster: &Cluster, topics: &[TopicMeta]) -> Part<CapturedTopic> {
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let mut told = cluster.own_configs_of_topics(&names).await;
    let topics = topics.iter().map(|topic| {
        let entries = match &mut told {
            Ok(configs) => configs
                .remove(&topic.name)
                .unwrap_or_else(|| Ok(Vec::new()))
                .map_err(|error| format!("configs: {error}")),
            Err(error) => Err(format!("configs: {error}")),
        };
        // Its partitions are not told, nor will its records be.
        let trouble = (topic.error != 0).then(|| cluster.api_error("Metadata", topic.error, &topic.name).to_string());
        let (configs, unavailable) = match entries {
            Ok(entries) => (entries.into_iter().map(|entry| (entry.name, entry.value)).collect(), trouble),
            Err(reason) => (BTreeMap::new(), trouble.or(Some(reason))),
        };
        CapturedTopic {
            name: topic.name.clone(),
            topic_id: topic.id,
            partitions: topic.partitions.len(),
            replication_factor: topic.partitions.iter().map(|partition| partition.replicas).max().unwrap_or(0),
            configs,
            unavailable,
        }
    });
    Part::complete(topics.collect())
}

async fn captured_groups(cluster: &Cluster, filter: &GroupFilter, topics: &BTreeSet<&str>) -> Part<CapturedGroup> {
    let listed = match cluster.list_groups().await {
        Ok(listed) => listed,
        Err(error) => return Part::unavailable(error.to_string()),
    };
    // Share groups commit no offsets.
    let commits = |kind| matches!(kind, GroupType::Classic | GroupType::Consumer | GroupType::Streams);
    let wanted: Vec<ListedGroup> =
        listed.into_iter().filter(|group| filter.matches(&group.id) && commits(group.kind)).collect();
    let names: Vec<String> = wanted.iter().map(|group| group.id.clone()).collect();
    // Not only what is stable: an offset in an open transaction does not count before it is committed.
    let mut fetched = cluster.fetch_group_offsets(&names, false, PATIENCE).await;
    let groups = wanted.into_iter().filter_map(|group| {
        let (offsets, unavailable) = match fetched.remove(&group.id) {
            Some(Ok(fetched)) => offsets_in(&fetched, topics),
            Some(Err(error)) => (Vec::new(), Some(error.to_string())),
            None => (Vec::new(), Some("its coordinator did not tell".to_owned())),
        };
        let captured = CapturedGroup {
            group: group.id,
            kind: group.kind,
            state: group.state.map(|state| state.to_string()),
            offsets,
            unavailable,
        };
        (!captured.offsets.is_empty() || captured.unavailable.is_some()).then_some(captured)
    });
    Part::complete(groups.collect())
}

/// Offsets in these topics, and what is missing of them.
fn offsets_in(fetched: &FetchedOffsets, topics: &BTreeSet<&str>) -> (Vec<CapturedOffset>, Option<String>) {
    let offsets =
        fetched.offsets.iter().filter(|(topic, _, committed)| topics.contains(topic) && committed.offset >= 0);
    let offsets = offsets.map(|(topic, partition, committed)| CapturedOffset {
        topic: topic.to_owned(),
        partition,
        offset: committed.offset,
        leader_epoch: committed.leader_epoch,
        metadata: committed.metadata.clone(),
    });
    let failed = fetched.failed.iter().filter(|((topic, _), _)| topics.contains(topic.as_str()));
    let failed: Vec<String> = failed.map(|(_, error)| error.to_string()).collect();
    (offsets.collect(), (!failed.is_empty()).then(|| failed.join("; ")))
}

pub(super) fn captured_quotas(quotas: Result<Vec<ClientQuota>, ClientError>) -> Part<CapturedQuota> {
    // JSON has no infinity: a reader would stumble over what is written for one.
    let is_endless = |quota: &ClientQuota| quota.values.values().any(|value| !value.is_finite());
    let endless = quotas.as_ref().is_ok_and(|quotas| quotas.iter().any(is_endless));
    let mut part = Part::of(quotas, CapturedQuota::from);
    if endless {
        part.unavailable = Some("quotas that are no finite number are left out".to_owned());
    }
    part
}

pub(super) fn captured_user(user: ScramUser) -> CapturedScramUser {
    let credentials = user.credentials().into_iter();
    let mechanism =
        |one: crate::plan::ScramCredential| CapturedMechanism { mechanism: one.mechanism, iterations: one.iterations };
    CapturedScramUser { user: user.user, mechanisms: credentials.map(mechanism).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_captured_and_what_is_new_is_passed_over() {
        let older: Captured = serde_json::from_str(r#"{"cluster_id":"c","acls":{"entries":[]},"quotas":{}}"#).unwrap();
        assert_eq!(older.acls, Part::complete(Vec::new()));
        assert_eq!(older.quotas, Part::complete(Vec::new()));
        assert_eq!(older.topics.unavailable.as_deref(), Some(NOT_CAPTURED));
        let newer = r#"{"cluster_id":"c","dreams":[1],"topics":{"entries":[{"name":"t","topic_id":
            "00000000-0000-0000-0000-000000000000","partitions":1,"replication_factor":1,"colour":"red"}],"more":2}}"#;
        let newer: Captured = serde_json::from_str(newer).unwrap();
        assert_eq!((newer.topics.entries[0].name.as_str(), &newer.topics.unavailable), ("t", &None));
    }

    #[test]
    fn a_quota_that_json_cannot_hold_is_left_out_and_said() {
        let quota = |value| ClientQuota {
            entity: vec![("user".to_owned(), None)],
            values: [("producer_byte_rate".to_owned(), value), ("request_percentage".to_owned(), 0.1)].into(),
        };
        let part = captured_quotas(Ok(vec![quota(f64::INFINITY)]));
        assert!(part.unavailable.is_some() && part.entries[0].values.len() == 1, "{part:?}");
        let part = captured_quotas(Ok(vec![quota(1e18)]));
        let again: Part<CapturedQuota> = serde_json::from_str(&serde_json::to_string(&part).unwrap()).unwrap();
        assert_eq!((part.entries[0].values.len(), &again), (2, &part));
    }
}
