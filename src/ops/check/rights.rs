//! The rights that a run of the mirror needs, looked for on both sides.

use std::collections::BTreeSet;

use crate::client::{ClientError, Cluster, Topics};
use crate::engine::EngineError;
use crate::engine::topology::Matching;
use crate::mirror::state_topic;
use crate::plan::rights::Side;

use super::super::rights::needed_by_run;
use super::super::rights::probe::{self, MissingRight, probe};
use super::{CheckReport, Finding, Looked, Severity};

pub(super) async fn check_rights(
    report: &mut CheckReport,
    looked: Looked<'_>,
    found: &Matching,
    source: &Cluster,
    target: &Cluster,
) -> Result<(), EngineError> {
    let mirror = looked.mirror;
    let needed = needed_by_run(looked.all, mirror);
    let here: BTreeSet<String> = found.topics.iter().chain(&found.failed).map(|topic| topic.name.clone()).collect();
    let there: BTreeSet<String> = here.iter().map(|topic| mirror.target_topic(topic)).collect();
    let groups = groups(looked, source).await?;
    for (side, cluster, topics) in [(Side::Source, source, here), (Side::Target, target, there)] {
        let Some(config) = looked.all.clusters.get(cluster.name()) else { continue };
        let asked = probe::Side {
            cluster,
            bootstrap: config.bootstrap_line(),
            principal: looked.principals.get(&side).cloned().or_else(|| config.principal()),
            rights: needed.get(&side).cloned().unwrap_or_default(),
            existing: existing(looked, side, cluster, &topics).await?,
            topics,
            groups: groups.clone(),
        };
        let probed = probe(&asked).await?;
        if probed.missing.is_empty() {
            let detail = format!("{} rights of {} that a run needs are there", probed.there, side.word());
            report.add(Severity::Ok, "rights", cluster.name(), detail);
        }
        if !probed.not_told.is_empty() {
            let detail = format!("the brokers do not tell of these: {}", probed.not_told.join(", "));
            report.add(Severity::Ok, "rights", cluster.name(), detail);
        }
        for failed in probed.failed {
            report.add(Severity::Warning, "rights", cluster.name(), failed);
        }
        report.findings.extend(probed.missing.into_iter().map(|right| finding(cluster.name(), right)));
    }
    Ok(())
}

fn finding(cluster: &str, right: MissingRight) -> Finding {
    Finding {
        severity: if right.is_needed { Severity::Problem } else { Severity::Warning },
        check: "rights",
        subject: cluster.to_owned(),
        detail: format!("{}. Grant it: {}", right.words, right.command),
        right: Some(right),
    }
}

/// Selected groups that can be seen.
async fn groups(looked: Looked<'_>, source: &Cluster) -> Result<BTreeSet<String>, ClientError> {
    let Some(groups) = &looked.mirror.groups else { return Ok(BTreeSet::new()) };
    let listed = source.list_groups().await?;
    Ok(listed.into_iter().map(|group| group.id).filter(|id| groups.filter.matches(id)).collect())
}

/// Of the topics that a run may have to make, those that are there.
async fn existing(
    looked: Looked<'_>,
    side: Side,
    cluster: &Cluster,
    topics: &BTreeSet<String>,
) -> Result<BTreeSet<String>, ClientError> {
    let heartbeats = looked.mirror.heartbeats.iter().map(|heartbeats| heartbeats.topic.clone());
    let mut names: BTreeSet<String> = match side {
        Side::Source => heartbeats.collect(),
        Side::Target => [state_topic(&looked.mirror.name)].into(),
    };
    names.extend(topics.iter().cloned());
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let metadata = cluster.refresh(Topics::Named(&asked)).await?;
    let is_there = |name: &String| metadata.topic(name).is_some_and(|topic| !topic.partitions.is_empty());
    Ok(names.iter().filter(|name| is_there(name)).cloned().collect())
}
