//! Whether the rights are there: each is asked about, and nothing is changed.
//!
//! Of topics and groups that the configuration only describes, those that can be seen are asked about; where none can, the
//! description itself stands for a name, and what is missing then is a guess, and called one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::client::{Allowed, ClientError, Cluster, Topics};
use crate::plan::rights::{Grantee, Operation, PRINCIPAL, Pattern, Resource, Right, kafka_acls};

const PATIENCE: Duration = Duration::from_secs(15);
const GROUP_AUTHORIZATION_FAILED: i16 = 30;
/// Names of one right that are told apart.
const NAMED_MAX: usize = 5;

/// What is asked of one side of a mirror.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// The cluster.
    pub(super) cluster: &'a Cluster,
    /// Who kmirror is there, where that is not what the configuration says.
    pub(super) principal: Option<String>,
    /// What is needed.
    pub(super) rights: Vec<Right>,
    /// Topics that matter there and can be seen, or would be made.
    pub(super) topics: BTreeSet<String>,
    /// Groups that matter there.
    pub(super) groups: BTreeSet<String>,
    /// Topics of kmirror's own.
    pub(super) own: Vec<String>,
}

/// The same, with what the cluster says of it.
struct Side<'a> {
    cluster: &'a Cluster,
    principal: Option<String>,
    rights: Vec<Right>,
    topics: BTreeSet<String>,
    groups: BTreeSet<String>,
    /// Topics that are there.
    existing: BTreeSet<String>,
}

/// A right that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingRight {
    /// Who lacks it; `null` where the configuration does not tell.
    pub principal: Option<String>,
    /// `READ`, `WRITE`, …
    pub operation: &'static str,
    /// `TOPIC`, `GROUP`, `TRANSACTIONAL_ID` or `CLUSTER`.
    pub resource: &'static str,
    /// Name, prefix, or `*`.
    pub name: String,
    /// `LITERAL` or `PREFIXED`.
    pub pattern: &'static str,
    /// The line that grants it.
    pub command: String,
    /// What it is for, and what holds without.
    #[serde(skip)]
    pub words: String,
    /// Nothing that is needed works without; else something can be done all the same, or it is not sure.
    #[serde(skip)]
    pub is_needed: bool,
}

impl MissingRight {
    fn of(side: &Side<'_>, right: &Right, pattern: &Pattern, is_sure: bool) -> Self {
        let principal = side.principal.as_deref();
        let to = Grantee { bootstrap: &side.cluster.bootstrap_line(), principal: principal.unwrap_or(PRINCIPAL) };
        let command = kafka_acls(to, right.resource, pattern, &[right.operation]);
        let lacking = Right { pattern: pattern.clone(), ..right.clone() };
        let mut words = format!("{} lacks {lacking}: {}", principal.unwrap_or("kmirror's principal"), right.why);
        if let Some(without) = &right.without {
            words += &format!(". Without it: {without}");
        }
        if !is_sure {
            words += ". No such name can be seen: there is none, or it is for want of this right";
        }
        Self {
            principal: side.principal.clone(),
            operation: right.operation.name(),
            resource: right.resource.name(),
            name: pattern.name.clone(),
            pattern: if pattern.is_prefix { "PREFIXED" } else { "LITERAL" },
            command,
            words,
            is_needed: is_sure && right.without.is_none(),
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Probed {
    /// What is missing.
    pub missing: Vec<MissingRight>,
    /// What the brokers do not tell.
    pub not_told: Vec<String>,
    /// What could not be asked, and why.
    pub failed: Vec<String>,
    /// Rights that are there.
    pub there: usize,
}

/// What the cluster tells, asked once for each kind.
struct Told {
    topics: BTreeMap<String, Allowed>,
    groups: BTreeMap<String, Result<Allowed, ClientError>>,
    cluster: Allowed,
}

/// Asks about every right of a side.
pub(super) async fn probe(asked: Asked<'_>) -> Result<Probed, ClientError> {
    let Asked { cluster, principal, rights, topics, groups, own } = asked;
    let existing = existing(cluster, topics.iter().chain(&own)).await?;
    let principal = principal.or_else(|| cluster.principal());
    let side = &Side { cluster, principal, rights, topics, groups, existing };
    let mut probed = Probed::default();
    let told = ask(side).await?;
    for right in &side.rights {
        let (names, is_sure) = names(side, right);
        if names.is_empty() {
            continue;
        }
        let mut lacking = Vec::new();
        let (mut not_told, mut failed) = (None, None);
        for name in &names {
            match is_allowed(side, &told, right, name).await {
                Ok(Some(true)) => {}
                Ok(Some(false)) => lacking.push(name.clone()),
                Ok(None) => not_told = Some(right.to_string()),
                Err(error) => failed = Some(format!("{right} could not be asked about: {error}")),
            }
        }
        probed.there += usize::from(lacking.is_empty() && not_told.is_none() && failed.is_none());
        probed.not_told.extend(not_told);
        probed.failed.extend(failed);
        if lacking.is_empty() {
            continue;
        }
        let is_whole = lacking.len() == names.len() || lacking.len() > NAMED_MAX;
        let patterns =
            if is_whole { vec![right.pattern.clone()] } else { lacking.iter().map(Pattern::literal).collect() };
        probed.missing.extend(patterns.iter().map(|pattern| MissingRight::of(side, right, pattern, is_sure)));
    }
    Ok(probed)
}

/// Of these topics those that are there.
async fn existing(cluster: &Cluster, topics: impl Iterator<Item = &String>) -> Result<BTreeSet<String>, ClientError> {
    let topics: Vec<&str> = topics.map(String::as_str).collect();
    let metadata = cluster.refresh(Topics::Named(&topics)).await?;
    let is_there = |name: &str| metadata.topic(name).is_some_and(|topic| !topic.partitions.is_empty());
    Ok(topics.into_iter().filter(|name| is_there(name)).map(str::to_owned).collect())
}

async fn ask(side: &Side<'_>) -> Result<Told, ClientError> {
    let of = |resource: Resource| {
        let rights = side.rights.iter().filter(move |right| right.resource == resource);
        rights.flat_map(|right| names(side, right).0).collect::<BTreeSet<String>>()
    };
    let (topics, groups) = (of(Resource::Topic), of(Resource::Group));
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let groups: Vec<String> = groups.into_iter().collect();
    Ok(Told {
        topics: side.cluster.allowed_on_topics(&topics).await?,
        groups: side.cluster.allowed_on_groups(&groups, PATIENCE).await,
        cluster: side.cluster.allowed_on_cluster().await?,
    })
}

/// The names that stand for a right, and whether what they lack is surely needed.
fn names(side: &Side<'_>, right: &Right) -> (Vec<String>, bool) {
    let pattern = &right.pattern;
    let is_there = |name: &String| side.existing.contains(name);
    let known = match right.resource {
        Resource::Topic => &side.topics,
        Resource::Group => &side.groups,
        Resource::TransactionalId | Resource::Cluster => return (vec![any_below(pattern)], true),
    };
    if pattern.is_one() {
        // What is there needs not be made.
        let is_made = right.operation == Operation::Create && is_there(&pattern.name);
        return (if is_made { Vec::new() } else { vec![pattern.name.clone()] }, true);
    }
    // All names with a beginning of kmirror's own are needed.
    if pattern.name.starts_with("__kmirror.") {
        return (vec![any_below(pattern)], true);
    }
    let selected = known.iter().filter(|name| pattern.is_any() || name.starts_with(&pattern.name));
    let selected: Vec<String> =
        selected.filter(|name| right.operation != Operation::Create || !is_there(name)).cloned().collect();
    if !selected.is_empty() {
        return (selected, true);
    }
    // The beginning stands for a name that begins so. For `*` nothing does: who may some of all names may be meant.
    (if pattern.is_prefix { vec![pattern.name.clone()] } else { Vec::new() }, false)
}

/// A name that nobody uses.
fn any_below(pattern: &Pattern) -> String {
    if pattern.is_prefix { format!("{}check", pattern.name) } else { pattern.name.clone() }
}

async fn is_allowed(side: &Side<'_>, told: &Told, right: &Right, name: &str) -> Result<Option<bool>, ClientError> {
    let operation = right.operation;
    match right.resource {
        Resource::Topic => {
            let allowed = told.topics.get(name).and_then(|allowed| allowed.allows(operation));
            // It may be a right on the cluster, which tells of itself only who may DESCRIBE it.
            if operation == Operation::Create && allowed != Some(true) {
                return side.cluster.refused_creations(&[name]).await.map(|refused| Some(refused.is_empty()));
            }
            Ok(allowed)
        }
        Resource::Group => match told.groups.get(name) {
            Some(Ok(allowed)) => Ok(allowed.allows(operation)),
            Some(Err(error)) if error.code() == Some(GROUP_AUTHORIZATION_FAILED) => {
                Ok(Allowed::Hidden.allows(operation))
            }
            Some(Err(error)) => Err(error.clone()),
            None => Ok(None),
        },
        Resource::TransactionalId => side.cluster.may_write_under(name).await.map(Some),
        // Told to those alone who may DESCRIBE the cluster; the brokers' settings show by themselves.
        Resource::Cluster if operation == Operation::DescribeConfigs => match side.cluster.broker_configs().await {
            Ok(_) => Ok(Some(true)),
            Err(error) if error.is_unauthorised() => Ok(Some(false)),
            Err(error) => Err(error),
        },
        Resource::Cluster => Ok(told.cluster.allows(operation)),
    }
}
