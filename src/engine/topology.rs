//! Discovery: which source topics match, and their mirror topics on the target, created and grown where needed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

use crate::client::{ClientError, Cluster, NewTopic, TopicMeta, TopicPartition, Topics};
use crate::config::{Config, MirrorConfig};
use crate::mirror::{ControlRecord, Owned, SyncEntry, SyncKey, SyncKind, state_topic};
use crate::plan::{TopicAction, TopicShape, set_for_mirroring, target_configs, topic_action};

use super::EngineError;
use super::attach::Pair;
use super::control::Control;
use super::shard::now_ms;

/// How long new mirror topics are waited for while none of them turns up: all others wait, too.
const NO_NEWS: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topology {
    /// Every source topic that has a target topic.
    pub(crate) topics: Vec<MirroredTopic>,
    /// Topics that could not be prepared on the target, and why.
    pub(crate) problems: Vec<TopicProblem>,
}

/// A topic on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MirroredTopic {
    pub(crate) source: (String, Uuid),
    pub(crate) target: (String, Uuid),
    /// Those that both have.
    pub(crate) partitions: i32,
}

impl MirroredTopic {
    pub(crate) fn pair(&self, partition: i32) -> Pair {
        let side = |(topic, topic_id): &(String, Uuid)| TopicPartition {
            topic: topic.clone(),
            topic_id: *topic_id,
            partition,
        };
        Pair { source: side(&self.source), target: side(&self.target) }
    }
}

/// A topic that cannot be mirrored for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicProblem {
    pub(crate) topic: String,
    pub(crate) target_topic: String,
    pub(crate) detail: String,
    /// A right is missing.
    pub(crate) is_unauthorised: bool,
}

/// Finds the matching topics and, where this process is the one that `prepares` it, makes the target ready for them, noting in control
/// what is made. `mirrored` are the source topics that are mirrored already.
pub(crate) async fn discover(
    all: &Config,
    config: &MirrorConfig,
    (source, target): (&Cluster, &Cluster),
    mirrored: &[&str],
    prepares: Option<&Control>,
) -> Result<Topology, EngineError> {
    let mut topology = Topology::default();
    let mut names: BTreeMap<String, TopicMeta> = BTreeMap::new();
    let found = matching_topics(config, source, mirrored).await?;
    topology.problems.extend(unknown_topics(config, source, &found));
    for topic in found.topics {
        let target_topic = config.target_topic(&topic.name);
        match all.circle(config, &topic.name) {
            None => {
                names.insert(target_topic, topic);
            }
            Some(way) => topology.problems.push(circular(topic.name, target_topic, &way)),
        }
    }
    let mut wanted = missing(&names, target).await?;
    wanted.retain(|action| config.sync.partitions || !matches!(action, TopicAction::Grow { .. }));
    if let Some(control) = prepares.filter(|_| !wanted.is_empty()) {
        topology.problems.extend(prepare(config, (source, target), control, &names, wanted).await?);
    }
    let metadata = target.metadata();
    for (target_name, topic) in &names {
        let Some(mirror) = metadata.topic(target_name) else { continue };
        let known = topology.problems.iter().any(|problem| problem.target_topic == *target_name);
        if mirror.partitions.is_empty() && mirror.error != 0 && !known {
            let error = target.api_error("Metadata", mirror.error, target_name);
            topology.problems.push(TopicProblem {
                topic: topic.name.clone(),
                target_topic: target_name.clone(),
                detail: error.to_string(),
                is_unauthorised: error.is_unauthorised(),
            });
        }
        let partitions = topic.partitions.len().min(mirror.partitions.len());
        topology.topics.push(MirroredTopic {
            source: (topic.name.clone(), topic.id),
            target: (target_name.clone(), mirror.id),
            partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
        });
    }
    Ok(topology)
}

/// What the patterns alone did not show when the configuration was read.
fn circular(topic: String, target_topic: String, way: &[(String, String)]) -> TopicProblem {
    let hops: Vec<String> = way.iter().map(|(mirror, topic)| format!("{topic} by mirror {mirror}")).collect();
    let detail = format!("its records would run in a circle: {}; exclude it in one of them", hops.join(", then "));
    TopicProblem { topic, target_topic, detail, is_unauthorised: false }
}

/// What the source says of the topics that the mirror's patterns select.
#[derive(Debug, Default)]
pub(crate) struct Matching {
    /// Those that can be mirrored.
    pub(crate) topics: Vec<TopicMeta>,
    /// Those of which the source says only what is wrong. Their partitions are those that were known before, if any.
    pub(crate) failed: Vec<TopicMeta>,
    /// Those of `on_record` that are not there any more.
    pub(crate) gone: Vec<String>,
}

/// The source topics that the mirror's patterns select, from fresh metadata. Those of `on_record` are asked for by name where
/// the source does not list them: it hides what may not be seen, and what may not be seen is not gone.
pub(crate) async fn matching_topics(
    config: &MirrorConfig,
    source: &Cluster,
    on_record: &[&str],
) -> Result<Matching, EngineError> {
    let metadata = source.refresh(Topics::AllAnd(on_record)).await?;
    let mut found = Matching::default();
    for topic in metadata.topics.values().filter(|t| !t.internal && config.topics.matches(&t.name)) {
        if topic.error != 0 {
            found.failed.push(topic.clone());
        } else if !topic.partitions.is_empty() {
            found.topics.push(topic.clone());
        }
    }
    let gone = on_record.iter().filter(|name| metadata.topic(name).is_none());
    found.gone = gone.map(|name| (*name).to_owned()).collect();
    Ok(found)
}

/// Topics of the source that cannot be mirrored for what it says of them. Where the leaders are known they are asked all the
/// same, and tell each partition what is wrong.
fn unknown_topics(config: &MirrorConfig, source: &Cluster, found: &Matching) -> Vec<TopicProblem> {
    let failed = found.failed.iter().filter(|topic| topic.partitions.is_empty()).map(|topic| {
        let error = source.api_error("Metadata", topic.error, &topic.name);
        (&topic.name, error.to_string(), error.is_unauthorised())
    });
    let gone = found.gone.iter().map(|name| {
        let words = "the source has no such topic any more; what was mirrored of it stays on the target";
        (name, words.to_owned(), false)
    });
    let problem = |(topic, detail, is_unauthorised): (&String, String, bool)| TopicProblem {
        topic: topic.clone(),
        target_topic: config.target_topic(topic),
        detail,
        is_unauthorised,
    };
    failed.chain(gone).map(problem).collect()
}

async fn missing(names: &BTreeMap<String, TopicMeta>, target: &Cluster) -> Result<Vec<TopicAction>, EngineError> {
    let list: Vec<&str> = names.keys().map(String::as_str).collect();
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let metadata = target.refresh(Topics::Named(&list)).await?;
    Ok(names
        .iter()
        .filter_map(|(name, topic)| {
            let there = metadata.topic(name).filter(|t| !t.partitions.is_empty()).map(shape);
            topic_action(&shape(topic), name, there.as_ref())
        })
        .collect())
}

fn shape(topic: &TopicMeta) -> TopicShape {
    TopicShape { name: topic.name.clone(), partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX) }
}

async fn prepare(
    config: &MirrorConfig,
    (source, target): (&Cluster, &Cluster),
    control: &Control,
    names: &BTreeMap<String, TopicMeta>,
    wanted: Vec<TopicAction>,
) -> Result<Vec<TopicProblem>, EngineError> {
    let known = known_topic_configs(config, target).await?;
    let (mut new, mut ready, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for action in wanted {
        match action {
            TopicAction::Create { topic, partitions } => {
                let source_topic = names.get(&topic).map(|t| t.name.as_str()).unwrap_or_default();
                match new_topic(config, source, source_topic, &topic, partitions, &known).await {
                    Ok(topic) => new.push(topic),
                    Err(error) => failed.push((topic, error)),
                }
            }
            TopicAction::Grow { topic, from, to } => {
                tracing::info!(mirror = %config.name, topic, from, to, "adding partitions to the mirror topic");
                match target.create_partitions(&topic, to).await {
                    Ok(()) => ready.push(topic),
                    Err(error) => failed.push((topic, error.into())),
                }
            }
        }
    }
    note(control, new.iter().flat_map(about_to_make)).await?;
    let created = target.create_topics_if_absent(&new).await?;
    let refused: BTreeMap<String, _> = created.refused.into_iter().collect();
    let made: Vec<NewTopic> = new.into_iter().filter(|topic| !refused.contains_key(&topic.name)).collect();
    ready.extend(made.iter().map(|topic| topic.name.clone()));
    failed.extend(refused.into_iter().map(|(topic, error)| (topic, error.into())));
    let ready: Vec<&str> = ready.iter().map(String::as_str).collect();
    if let Err(error) = target.await_usable(&ready, NO_NEWS).await {
        // Each partition that has a leader can do without the others.
        tracing::warn!(mirror = %config.name, %error, "not every partition of the new mirror topics has a leader yet");
    }
    let metadata = target.metadata();
    let is_theirs = |topic: &NewTopic| created.existing.contains(&topic.name);
    let entries = made.iter().flat_map(|topic| is_made(topic, metadata.topic(&topic.name), is_theirs(topic)));
    note(control, entries).await?;
    failed.into_iter().map(|(target_topic, error)| problem(names, target_topic, error)).collect()
}

/// So that nobody's configs are ever taken for the mirror's: what it sets of its own accord is known anyway.
fn about_to_make(topic: &NewTopic) -> impl Iterator<Item = SyncEntry> {
    configs_of(topic, |value| Owned { value: Some(value.to_owned()), before: None })
}

fn configs_of(topic: &NewTopic, owned: impl Fn(&str) -> Owned) -> impl Iterator<Item = SyncEntry> {
    let copied = topic.configs.iter().filter(|(key, value)| set_for_mirroring(key) != Some(value.as_str()));
    copied.map(move |(key, value)| SyncEntry {
        key: SyncKey::new(SyncKind::TopicConfig, &topic.name, key),
        owned: owned(value),
    })
}

/// Where somebody else was quicker, nothing of it is the mirror's.
fn is_made(topic: &NewTopic, found: Option<&TopicMeta>, is_theirs: bool) -> Vec<SyncEntry> {
    if is_theirs {
        return configs_of(topic, |_| Owned::default()).collect();
    }
    let id = found.map(|found| SyncEntry {
        key: SyncKey::new(SyncKind::Topic, &topic.name, ""),
        owned: Owned::settled(found.id.to_string()),
    });
    id.into_iter().chain(configs_of(topic, |value| Owned::settled(value))).collect()
}

async fn note(control: &Control, entries: impl Iterator<Item = SyncEntry>) -> Result<(), EngineError> {
    control.write_all(&ControlRecord::synced(&entries.collect::<Vec<_>>(), now_ms())).await
}

/// What keeps one topic from being mirrored. Where nobody answers the discovery fails, and is tried again.
fn problem(
    names: &BTreeMap<String, TopicMeta>,
    target_topic: String,
    error: EngineError,
) -> Result<TopicProblem, EngineError> {
    if error.client().is_some_and(ClientError::is_unreachable) {
        return Err(error);
    }
    let topic = names.get(&target_topic).map(|t| t.name.clone()).unwrap_or_default();
    Ok(TopicProblem { topic, target_topic, detail: error.to_string(), is_unauthorised: error.is_unauthorised() })
}

/// The mirror topic as it is to be made.
async fn new_topic(
    config: &MirrorConfig,
    source: &Cluster,
    source_topic: &str,
    target_topic: &str,
    partitions: i32,
    known: &BTreeSet<String>,
) -> Result<NewTopic, EngineError> {
    let own = if config.sync.topic_configs { source.topic_overrides(source_topic).await? } else { BTreeMap::new() };
    let configs = target_configs(&own, &config.target_topics.configs, known);
    tracing::info!(
        mirror = %config.name, topic = source_topic, target_topic, partitions,
        held_back = ?configs.held_back.keys().collect::<Vec<_>>(), unknown = ?configs.unknown,
        "creating the mirror topic"
    );
    Ok(NewTopic {
        name: target_topic.to_owned(),
        partitions,
        replication_factor: config.target_topics.replication_factor.unwrap_or(-1),
        configs: configs.set,
    })
}

/// The topic configuration keys that the target understands, read off the state topic.
pub(crate) async fn known_topic_configs(
    config: &MirrorConfig,
    target: &Cluster,
) -> Result<BTreeSet<String>, EngineError> {
    let entries = target.topic_configs(&state_topic(&config.name)).await?;
    Ok(entries.into_iter().map(|e| e.name).collect())
}
