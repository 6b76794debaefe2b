//! What the clusters say of groups and of the logs that they read: the steps of a gathering, one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::{
    ClientError, Cluster, Each, EachGroup, FetchedOffsets, GroupState, GroupView, ListedGroup, LogPoint,
    TopicPartition, Topics,
};
use crate::config::{GroupFilter, MirrorConfig};
use crate::engine::EngineError;
use crate::engine::ahead::AT_ONCE;
use crate::groups::{ByPartition, Committed, Facts, GroupType, SourceGroup, TargetGroup, TopicView, View, Views};
use crate::mirror::{PartitionState, Scan};

use super::super::MirrorState;
use super::super::translate::settled_end_of;

/// Groups of one side, and those that could not be read.
#[derive(Debug)]
pub(super) struct Side<G> {
    pub(super) groups: BTreeMap<String, G>,
    pub(super) failed: BTreeMap<String, ClientError>,
}

impl<G> Default for Side<G> {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), failed: BTreeMap::new() }
    }
}

/// Whether groups of this type have offsets at all.
fn commits(kind: GroupType) -> bool {
    matches!(kind, GroupType::Classic | GroupType::Consumer | GroupType::Streams)
}

/// All groups of the source; offsets of those that `filter` selects.
pub(super) async fn sources(
    filter: &GroupFilter,
    source: &Cluster,
    patience: Duration,
) -> Result<Side<SourceGroup>, ClientError> {
    let listed = source.list_groups().await?;
    let wanted = listed.iter().filter(|group| filter.matches(&group.id) && commits(group.kind));
    let wanted: Vec<String> = wanted.map(|group| group.id.clone()).collect();
    // Not only what is stable: an offset in an open transaction does not count before it is committed.
    let mut fetched = source.fetch_group_offsets(&wanted, false, patience).await;
    let mut side = Side::default();
    for ListedGroup { id, kind, .. } in listed {
        match offsets(fetched.remove(&id)) {
            Ok(offsets) => drop(side.groups.insert(id, SourceGroup { kind, offsets })),
            Err(error) => drop(side.failed.insert(id, error)),
        }
    }
    Ok(side)
}

/// What was fetched of a group; one partition without an answer leaves all of it in doubt.
fn offsets(fetched: Option<Result<FetchedOffsets, ClientError>>) -> Result<ByPartition<Committed>, ClientError> {
    fetched.map_or_else(|| Ok(ByPartition::default()), |answers| answers?.all())
}

/// All groups of the target, as they are listed.
pub(super) async fn listed_targets(target: &Cluster) -> Result<BTreeMap<String, ListedGroup>, ClientError> {
    Ok(target.list_groups().await?.into_iter().map(|group| (group.id.clone(), group)).collect())
}

/// These groups on the target, with their offsets.
pub(super) async fn targets(
    target: &Cluster,
    names: &[String],
    listed: &BTreeMap<String, ListedGroup>,
    patience: Duration,
) -> Side<TargetGroup> {
    let fetched = target.fetch_group_offsets(names, false, patience).await;
    // A group may change its coordinator just when the lists are made, and before Kafka 2.6 they tell no states.
    let is_listed = |name: &str| listed.get(name).is_some_and(|group| group.state.is_some());
    let doubtful = fetched.iter().filter(|(name, answers)| {
        !is_listed(name) && answers.as_ref().is_ok_and(|answers| !answers.offsets.is_empty())
    });
    let doubtful: Vec<String> = doubtful.map(|(name, _)| name.clone()).collect();
    let mut described = match doubtful.is_empty() {
        true => EachGroup::new(),
        false => target.describe_groups(&doubtful, patience).await,
    };
    let mut side = Side::default();
    for (name, answers) in fetched {
        let group = offsets(Some(answers)).and_then(|offsets| match described.remove(&name) {
            Some(view) => Ok(Some(described_group(&view?, offsets))),
            None => Ok(listed.get(&name).map(|listed| target_group(listed, offsets))),
        });
        match group {
            Ok(Some(group)) => drop(side.groups.insert(name, group)),
            Ok(None) => {}
            Err(error) => drop(side.failed.insert(name, error)),
        }
    }
    side
}

/// A group as the list has it.
pub(super) fn target_group(listed: &ListedGroup, offsets: ByPartition<Committed>) -> TargetGroup {
    TargetGroup {
        kind: listed.kind,
        live: listed.state.as_ref().is_none_or(GroupState::is_live),
        ever_joined: !listed.protocol_type.is_empty() || listed.kind != GroupType::Classic,
        offsets,
    }
}

/// What a description leaves open is taken to be so that nothing is overwritten.
fn described_group(view: &GroupView, offsets: ByPartition<Committed>) -> TargetGroup {
    let live = view.is_live();
    TargetGroup { kind: view.kind.unwrap_or(GroupType::Classic), live, ever_joined: true, offsets }
}

/// The settled end of a mirrored partition, as somebody knows it who has not read it off the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledEnd {
    /// Behind the last record that was mirrored.
    pub end: i64,
    /// How far the source was read without more to mirror, where that is known.
    pub scanned: Option<i64>,
}

/// What is read of one mirrored partition.
#[derive(Debug, Clone)]
struct Ends {
    source: TopicPartition,
    target: TopicPartition,
    source_start: Option<i64>,
    source_end: Option<i64>,
    target_start: i64,
    /// Of the target's log first, then of what is mirrored in it.
    end: i64,
    scanned: Option<i64>,
    settled: bool,
}

/// Both logs of every partition for which some group has an offset.
#[derive(Debug, Default)]
pub(super) struct Logs {
    ends: Vec<Ends>,
    /// Source topic and partition of what could not be read, and why.
    pub(super) unreadable: BTreeMap<(String, i32), String>,
}

impl Logs {
    /// Reads starts and ends. In this order: the source's ends are younger than the groups, and the target's than those.
    pub(super) async fn read(
        config: &MirrorConfig,
        source: &Cluster,
        target: &Cluster,
        groups: &BTreeMap<String, SourceGroup>,
        settled: impl Fn(&str, i32) -> Option<SettledEnd>,
    ) -> Result<Self, ClientError> {
        let committed = groups.values().flat_map(|group| group.offsets.topics());
        let mut wanted: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
        for (topic, partitions) in committed.filter(|(topic, _)| config.topics.matches(topic)) {
            wanted.entry(topic).or_default().extend(partitions.keys());
        }
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        let names: Vec<&str> = wanted.keys().copied().collect();
        let here = source.refresh(Topics::Named(&names)).await?;
        let targets: Vec<String> = names.iter().map(|name| config.target_topic(name)).collect();
        let there = target.refresh(Topics::Named(&targets.iter().map(String::as_str).collect::<Vec<_>>())).await?;
        let mut pairs = Vec::new();
        for (topic, partitions) in wanted {
            let target_topic = config.target_topic(topic);
            let (Some(from), Some(to)) = (here.topic(topic), there.topic(&target_topic)) else { continue };
            for partition in
                partitions.into_iter().filter(|p| usize::try_from(*p).is_ok_and(|p| p < to.partitions.len()))
            {
                let source = TopicPartition { topic: topic.to_owned(), topic_id: from.id, partition };
                pairs.push((source, TopicPartition { topic: target_topic.clone(), topic_id: to.id, partition }));
            }
        }
        let (sources, targets): (Vec<TopicPartition>, Vec<TopicPartition>) = pairs.iter().cloned().unzip();
        let source_starts = source.offsets_each(&sources, LogPoint::Start).await;
        let source_ends = source.offsets_each(&sources, LogPoint::End { committed: false }).await;
        let target_starts = target.offsets_each(&targets, LogPoint::Start).await;
        let target_ends = target.offsets_each(&targets, LogPoint::End { committed: false }).await;
        let known = |each: &Each<i64>, tp: &TopicPartition| each.get(tp).and_then(|end| end.as_ref().ok()).copied();
        let mut logs = Self::default();
        for (source, target) in pairs {
            let (Some(target_start), Some(end)) = (known(&target_starts, &target), known(&target_ends, &target)) else {
                let errors =
                    [&target_starts, &target_ends].into_iter().filter_map(|each| each.get(&target)?.as_ref().err());
                let why = errors.map(ToString::to_string).next().unwrap_or_else(|| "no answer".to_owned());
                logs.unreadable.insert((source.topic, source.partition), why);
                continue;
            };
            let told = settled(&source.topic, source.partition).filter(|told| told.end <= end);
            logs.ends.push(Ends {
                source_start: known(&source_starts, &source),
                source_end: known(&source_ends, &source),
                target_start,
                end: told.map_or(end, |told| told.end),
                scanned: told.and_then(|told| told.scanned),
                settled: told.is_some(),
                source,
                target,
            });
        }
        Ok(logs)
    }

    /// Puts the settled end in the place of the log's where nobody has told it. The state is to be read after the ends.
    pub(super) async fn settle(
        &mut self,
        mirror: &str,
        state: &MirrorState,
        target: &Cluster,
    ) -> Result<(), EngineError> {
        let ours: BTreeSet<i64> = state.shards.iter().flat_map(|shard| shard.producer_ids.iter().copied()).collect();
        let doubtful = |ends: &Ends| {
            let known = state.partition(&ends.source).filter(|known| !ends.settled && is_of(known, ends))?;
            known.end.is_none_or(|end| end < ends.end).then(|| known.clone())
        };
        let mut doubtful = self.ends.iter().enumerate().filter_map(|(at, ends)| Some((at, ends.end, doubtful(ends)?)));
        let (mut tasks, mut found) = (JoinSet::new(), Vec::new());
        loop {
            while tasks.len() < AT_ONCE {
                let Some((at, end, known)) = doubtful.next() else { break };
                let (target, ours) = (target.clone(), ours.clone());
                tasks.spawn(async move {
                    (at, settled_end_of(&target, &known, end, |header| ours.contains(&header.producer_id)).await)
                });
            }
            match tasks.join_next().await {
                Some(Ok(done)) => found.push(done),
                Some(Err(error)) => {
                    let (mirror, detail) = (mirror.to_owned(), format!("reading the target: {error}"));
                    return Err(EngineError::Unexpected { mirror, detail });
                }
                None => break,
            }
        }
        let mut failed = BTreeSet::new();
        for (at, outcome) in found {
            let Some(ends) = self.ends.get_mut(at) else { continue };
            match outcome {
                Ok(end) => (ends.end, ends.settled) = (end, true),
                Err(error) => {
                    self.unreadable.insert((ends.source.topic.clone(), ends.source.partition), error.to_string());
                    failed.insert(at);
                }
            }
        }
        let mut at = 0..;
        self.ends.retain(|_| at.next().is_none_or(|at| !failed.contains(&at)));
        Ok(())
    }

    /// All of it, to be asked.
    pub(super) fn views<'a>(&'a self, state: &'a MirrorState) -> Views<'a> {
        let mut views = Views::new();
        for ends in &self.ends {
            let Some(known) = state.partition(&ends.source).filter(|known| is_of(known, ends)) else { continue };
            let scanned = ends.scanned.map_or(known.scanned, |source| Scan { source, end: ends.end });
            let view = View::new(Facts {
                map: &known.map,
                end: ends.end,
                scanned,
                target_start: ends.target_start,
                source_start: ends.source_start,
                source_end: ends.source_end,
                target_epochs: &[],
            });
            let topic = views
                .entry(ends.source.topic.clone())
                .or_insert_with(|| TopicView { target_topic: ends.target.topic.clone(), partitions: BTreeMap::new() });
            topic.partitions.insert(ends.source.partition, view);
        }
        views
    }
}

/// Whether what is on record is of the topic that is on the target now.
fn is_of(known: &PartitionState, ends: &Ends) -> bool {
    known.declared.target_topic == ends.target.topic && known.declared.target_topic_id == ends.target.topic_id
}
