//! The ACLs of both clusters, compared for what a mirror mirrors.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::client::{ClientError, Cluster, LogPoint, TopicPartition, Topics};
use crate::engine::EngineError;
use crate::mirror::TOPIC_AUTHORIZATION_FAILED;
use crate::plan::{Acl, AclNames, Acls, AclsOutlook, compare_acls};

/// An ACL is in force on every broker by then.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Compares them; where they cannot be read, that is what comes of it: nothing else hangs on it. `held` is what a promotion adds.
pub(super) async fn compare(
    source: Option<&Cluster>,
    (target, held): (&Cluster, Vec<Acl>),
    names: AclNames<'_>,
    patience: Duration,
) -> AclsOutlook {
    let Some(source) = source else { return AclsOutlook::not_compared("the source does not answer") };
    let both = async { tokio::join!(source.acls(), target.acls()) };
    let Ok((here, there)) = tokio::time::timeout(patience, both).await else {
        return AclsOutlook::not_compared(format!("they were not told within {} s", patience.as_secs()));
    };
    match (here, there) {
        (Ok(here), Ok(Acls::Listed(there))) => compare_acls(&here, &Acls::Listed([there, held].concat()), names),
        (Ok(here), Ok(Acls::None)) => compare_acls(&here, &Acls::None, names),
        (here, there) => AclsOutlook::not_compared(trouble(&[here, there])),
    }
}

fn trouble(both: &[Result<Acls, ClientError>]) -> String {
    let errors: Vec<String> = both.iter().filter_map(|acls| acls.as_ref().err()).map(ToString::to_string).collect();
    format!("{}; reading them needs DESCRIBE on the cluster", errors.join("; "))
}

/// The names of a failover's plan: mirrored topics, and the groups of `groups plan --json`.
pub(super) fn names_of(
    partitions: &[crate::plan::PartitionOutlook],
    groups: Option<&serde_json::Value>,
) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let topics = partitions.iter().map(|p| (p.topic.clone(), p.target_topic.clone())).collect();
    let rows = groups.and_then(|plan| plan["groups"].as_array()).into_iter().flatten();
    let groups = rows.filter_map(|row| row["group"].as_str()).map(str::to_owned).collect();
    (topics, groups)
}

/// A topic that the cluster refuses to tell about, once the ACLs are in force: where topics without ACLs are open to
/// everybody, the first ACL closes them to whoever has none.
pub(super) async fn shut_out(source: &Cluster, topics: &[&str]) -> Result<Option<String>, EngineError> {
    let until = Instant::now() + IN_FORCE_WITHIN;
    while Instant::now() < until {
        tokio::time::sleep(LOOK_EVERY).await;
        let metadata = source.refresh(Topics::Named(topics)).await?;
        let first = |topic: &&str| {
            let meta = metadata.topic(topic)?;
            Some(TopicPartition { topic: (*topic).to_owned(), topic_id: meta.id, partition: 0 })
        };
        if let Some(refused) = topics
            .iter()
            .find(|topic| metadata.topic(topic).is_none_or(|meta| meta.error == TOPIC_AUTHORIZATION_FAILED))
        {
            return Ok(Some((*refused).to_owned()));
        }
        let tps: Vec<TopicPartition> = topics.iter().filter_map(first).collect();
        let ends = source.offsets_each(&tps, LogPoint::End { committed: false }).await;
        let refused = |end: &Result<i64, ClientError>| {
            end.as_ref().is_err_and(|error| error.code() == Some(TOPIC_AUTHORIZATION_FAILED))
        };
        if let Some((tp, _)) = ends.iter().find(|(_, end)| refused(end)) {
            return Ok(Some(tp.topic.clone()));
        }
    }
    Ok(None)
}
