//! The ACLs of both clusters, compared for what a mirror mirrors.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::client::{ClientError, Cluster};
use crate::plan::{Acl, AclNames, Acls, AclsOutlook, compare_acls};

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
