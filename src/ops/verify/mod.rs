//! `kmirror verify`: whether both sides hold the same, record by record, by the offset map. Reads both clusters, changes nothing,
//! and works while the mirror runs: it looks at what was settled when it began.
//!
//! Memory: for each partition in work one read of each side (4 MiB, or one batch where that is larger) and, where batches must be
//! opened, the records of one batch of each side; nothing grows with the log. A sample reads 1 MiB at a time.

mod compare;
mod report;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::client::{Cluster, TopicPartition, Topics};
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::control::check_clusters;
use crate::engine::shard::target_of;
use crate::engine::topology::matching_topics;
use crate::mirror::{Isolation, PartitionState, Retention};

use super::translate::settled_end_of;
use super::{MirrorState, Walked};
use compare::{Question, Settled};

pub use report::{Found, VerifiedPartition, VerifyReport};

/// What is to be verified, and how.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Source topics, each whole or one partition of it; empty: all that was mirrored.
    pub only: Vec<(String, Option<i32>)>,
    /// So many stretches of each partition instead of the whole.
    pub sample: Option<usize>,
    /// Which stretches: the same seed looks at the same ones.
    pub seed: u64,
    /// Compare payloads byte for byte as well.
    pub bytes: bool,
    /// The target topic's retention has been what it is: what it had no reason to delete is missing.
    pub trust_retention: bool,
    /// Partitions compared side by side, 1 at least.
    pub parallel: usize,
    /// Source offsets to do and done, for a progress bar.
    pub progress: Arc<Walked>,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        let progress = Arc::default();
        Self { only: Vec::new(), sample: None, seed: 0, bytes: false, trust_retention: true, parallel: 4, progress }
    }
}

impl VerifyOptions {
    fn wants(&self, topic: &str, partition: i32) -> bool {
        let is_it = |(name, number): &(String, Option<i32>)| name == topic && number.is_none_or(|n| n == partition);
        self.only.is_empty() || self.only.iter().any(is_it)
    }
}

/// Compares what a mirror has copied. What concerns one partition only stands in its row; an error is about a cluster.
///
/// # Errors
/// The state of the mirror, or what a cluster says of its topics, could not be read.
pub async fn verify(
    config: &MirrorConfig,
    source: &Cluster,
    target: &Cluster,
    options: &VerifyOptions,
) -> Result<VerifyReport, EngineError> {
    let mut state = MirrorState::read(&config.name, target).await?.unwrap_or_default();
    if let Some(generation) = state.control.generation() {
        check_clusters(config, generation, source, target)?;
    }
    let (topics, ends) = loop {
        let known = selected(&state, options);
        let topics = Both::read(source, target, known.values().copied()).await?;
        let known = known.into_values().map(|known| (known.clone(), state.promoted_end(known))).collect();
        let ours = state.producer_ids();
        let ends = ends(target, known, &topics, (&ours, options.parallel)).await?;
        // Anew, after the ends: what lies below them has its breaks in the state by now (they are written ahead).
        state = MirrorState::read(&config.name, target).await?.unwrap_or_default();
        // A new owner's records are no stranger's.
        if state.producer_ids() == ours {
            break (topics, ends);
        }
    };
    let questions = questions(config, target, &state, options, &topics, ends).await;
    let mut report = VerifyReport::new(&config.name, options, &state);
    report.not_mirrored = not_mirrored(config, source, &state, options).await?;
    let mut questions = questions.into_iter();
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < options.parallel.max(1) {
            let Some(question) = questions.next() else { break };
            let (source, target, options) = (source.clone(), target.clone(), options.clone());
            tasks.spawn(async move { question.answer(&source, &target, &options).await });
        }
        let Some(done) = tasks.join_next().await else { break };
        report.partitions.push(done.map_err(|error| unexpected(config, &error))?);
    }
    report.partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Ok(report)
}

fn unexpected(config: &MirrorConfig, error: &dyn std::fmt::Display) -> EngineError {
    EngineError::Unexpected { mirror: config.name.clone(), detail: format!("verifying: {error}") }
}

/// The partitions on record that are wanted, by name on the source. Of a topic that was made again under its name, the one that
/// goes furthest.
fn selected<'a>(state: &'a MirrorState, options: &VerifyOptions) -> BTreeMap<(String, i32), &'a PartitionState> {
    let mut newest: BTreeMap<(String, i32), &PartitionState> = BTreeMap::new();
    let first = |p: &PartitionState| p.map.segments().first().map_or(-1, |first| first.target);
    for partition in state.partitions() {
        let declared = &partition.declared;
        if !options.wants(&declared.source_topic, declared.partition) {
            continue;
        }
        let entry = newest.entry((declared.source_topic.clone(), declared.partition)).or_insert(partition);
        if first(partition) > first(entry) {
            *entry = partition;
        }
    }
    newest
}

/// The partitions that both clusters have now.
struct Both {
    source: BTreeMap<(String, i32), TopicPartition>,
    target: BTreeMap<(String, i32), TopicPartition>,
}

impl Both {
    async fn read<'a>(
        source: &Cluster,
        target: &Cluster,
        known: impl Iterator<Item = &'a PartitionState>,
    ) -> Result<Self, EngineError> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for partition in known {
            ours.push(partition.declared.source_topic.as_str());
            theirs.push(partition.declared.target_topic.as_str());
        }
        Ok(Self { source: partitions_of(source, ours).await?, target: partitions_of(target, theirs).await? })
    }

    fn has_target(&self, state: &PartitionState) -> bool {
        let tp = target_of(state);
        self.target.get(&(tp.topic.clone(), tp.partition)) == Some(&tp)
    }

    fn source(&self, state: &PartitionState) -> Option<&TopicPartition> {
        let declared = &state.declared;
        let now = self.source.get(&(declared.source_topic.clone(), declared.partition));
        now.filter(|tp| tp.topic_id == declared.source_topic_id)
    }
}

async fn partitions_of(
    cluster: &Cluster,
    mut names: Vec<&str>,
) -> Result<BTreeMap<(String, i32), TopicPartition>, EngineError> {
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let metadata = cluster.refresh(Topics::Named(&names)).await?;
    let topics = names.iter().filter_map(|name| metadata.topic(name));
    let partitions = topics.flat_map(crate::client::TopicMeta::partitions);
    Ok(partitions.map(|tp| ((tp.topic.clone(), tp.partition), tp)).collect())
}

type Ends = HashMap<(String, i32), Result<Settled, EngineError>>;

/// The settled end of each target partition that is still the one mirrored to; where a promotion has fenced it, that is known.
async fn ends(
    target: &Cluster,
    known: Vec<(PartitionState, Option<i64>)>,
    topics: &Both,
    (ours, parallel): (&BTreeSet<i64>, usize),
) -> Result<Ends, EngineError> {
    let mut ends = Ends::new();
    let mut known = known.into_iter().filter(|(state, _)| topics.has_target(state));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < parallel.max(1) {
            let Some((state, promoted)) = known.next() else { break };
            let (target, ours) = (target.clone(), ours.clone());
            tasks.spawn(async move {
                let name = (state.declared.source_topic.clone(), state.declared.partition);
                // Behind a promotion the target is its own.
                let end = match promoted {
                    Some(end) => Ok(Settled { end, log_end: end }),
                    None => settled(&target, &state, &ours).await,
                };
                (name, end)
            });
        }
        let Some(done) = tasks.join_next().await else { return Ok(ends) };
        let (name, end) = done.map_err(|error| EngineError::Unexpected {
            mirror: target.name().to_owned(),
            detail: format!("reading ends: {error}"),
        })?;
        ends.insert(name, end);
    }
}

/// The end of what these producers have written, and that of the log.
async fn settled(target: &Cluster, state: &PartitionState, ours: &BTreeSet<i64>) -> Result<Settled, EngineError> {
    let log_end = target.log_end(&target_of(state)).await?;
    let end = settled_end_of(target, state, log_end, |header| ours.contains(&header.producer_id)).await?;
    Ok(Settled { end, log_end })
}

async fn questions(
    config: &MirrorConfig,
    target: &Cluster,
    state: &MirrorState,
    options: &VerifyOptions,
    topics: &Both,
    mut ends: Ends,
) -> Vec<Question> {
    let control = &state.control;
    let known = selected(state, options);
    let mut names: Vec<&str> = known.values().map(|state| state.declared.target_topic.as_str()).collect();
    names.dedup();
    // Without the right to read them nothing is known of compaction; what is missing then counts as missing.
    let configs = target.configs_of_topics(&names, &Retention::KEYS).await.unwrap_or_default();
    let mut questions = Vec::with_capacity(known.len());
    for (name, state) in known {
        let configs = configs.get(&state.declared.target_topic);
        let question = Question {
            mirror: config.name.clone(),
            source: topics.source(state).cloned(),
            target: topics.has_target(state).then(|| target_of(state)),
            end: ends.remove(&name),
            cleanup_policy: configs.and_then(|configs| configs.get("cleanup.policy").cloned()),
            retention: configs.and_then(|configs| Retention::of(|key| configs.get(key).cloned())),
            committed: config.isolation == Isolation::ReadCommitted,
            divergent: control.divergent(&state.declared.target_topic, state.declared.partition).to_vec(),
            state: state.clone(),
        };
        let to_do =
            question.end.as_ref().and_then(|end| end.as_ref().ok()).map_or(0, |settled| question.offsets(settled.end));
        if options.sample.is_none() {
            options.progress.total.fetch_add(to_do, std::sync::atomic::Ordering::Relaxed);
        }
        questions.push(question);
    }
    questions
}

/// What is wanted and not on record: named partitions, and those that the mirror's patterns match.
async fn not_mirrored(
    config: &MirrorConfig,
    source: &Cluster,
    state: &MirrorState,
    options: &VerifyOptions,
) -> Result<Vec<String>, EngineError> {
    let known = selected(state, options);
    let mut out = Vec::new();
    for (topic, partition) in &options.only {
        let found = match partition {
            Some(partition) => known.contains_key(&(topic.clone(), *partition)),
            None => known.keys().any(|(name, _)| name == topic),
        };
        if !found {
            out.push(partition.map_or_else(|| topic.clone(), |partition| format!("{topic}:{partition}")));
        }
    }
    if options.only.is_empty() {
        for topic in matching_topics(config, source, &[]).await?.topics {
            let new = topic.partitions().filter(|tp| !known.contains_key(&(tp.topic.clone(), tp.partition)));
            out.extend(new.map(|tp| tp.to_string()));
        }
    }
    Ok(out)
}
