//! `kmirror status`: per partition its state, both ends, lag in records and in time, gaps. Reads the clusters; needs no
//! running process.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::client::{
    ClientError, Cluster, Each, LogPoint, PartitionMeta, ReadOptions, TopicMeta, TopicPartition, Topics,
};
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::ahead::{AT_ONCE, First, Retentions, hold, look_ahead};
use crate::engine::shard::{now_ms, target_of};
use crate::engine::topology::matching_topics;
use crate::mirror::{Gap, GapReason, Headroom, Isolation, PartitionState};

use super::MirrorState;
use super::fleet::{FleetView, fleet_view};
use super::groups::{SyncRecord, last_sync};
use super::rights::probe_run;
use super::sync::SyncStatus;
use super::translate::settled_end_below;

/// `status --json`.
#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    /// Version of this shape.
    pub schema_version: u32,
    /// One entry a mirror.
    pub mirrors: Vec<MirrorStatus>,
}

/// A mirror.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MirrorStatus {
    /// Mirror name.
    pub name: String,
    /// `starting`, `mirroring`, `paused`, `halted` (some partition is) or `promoted`.
    pub state: &'static str,
    /// Why it does not begin: rights that it lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Age of the oldest record not mirrored yet, over all partitions, seconds: what a failover now would lose. −1 where some
    /// partition does not tell.
    pub rpo_seconds: f64,
    /// The bandwidth limit; `null`: unlimited.
    pub bandwidth_bytes_per_s: Option<u64>,
    /// Where that comes from: `file`, or `command` (`kmirror bandwidth`).
    pub bandwidth_from: &'static str,
    /// How far its consumer groups are kept in step; `null` where none are selected.
    pub groups: Option<GroupsStatus>,
    /// The instances that share the mirror; absent where the file has no `fleet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetView>,
    /// What follows the source beside records: what waits; `null` where nothing does (`sync`).
    pub sync: Option<SyncStatus>,
    /// Every selected source partition.
    pub partitions: Vec<PartitionStatus>,
}

/// The consumer groups of a mirror, as a running kmirror has last found them.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct GroupsStatus {
    /// Since when not every selected group is in step or knowingly left alone; −1 where they never were.
    pub age_seconds: f64,
    /// What was found.
    #[serde(flatten)]
    pub found: SyncRecord,
}

/// A partition.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PartitionStatus {
    /// Source topic.
    pub topic: String,
    /// Target topic.
    pub target_topic: String,
    /// Partition number; −1 for a topic of which the source tells no partitions.
    pub partition: i32,
    /// `starting`, `mirroring`, `paused`, `halted` or `promoted`.
    pub state: &'static str,
    /// Why it is halted, why it cannot be looked at, or what holds it back.
    pub reason: Option<String>,
    /// The command that ends a halt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way_out: Option<String>,
    /// End of the source log: the last stable offset under read_committed. −1 where unknown.
    pub source_end: i64,
    /// Source offset up to which everything is mirrored or in a gap. −1 before the start.
    pub mirrored_to: i64,
    /// End of the target log. −1 where there is none.
    pub target_end: i64,
    /// Source offsets between the two; −1 where unknown.
    pub lag_records: i64,
    /// Now less the timestamp of the first record not mirrored; 0 when there is none, −1 where unknown.
    pub lag_seconds: f64,
    /// How long until retention on the source may take the first record not mirrored; `null` where nothing can be lost, −1
    /// where unknown.
    pub retention_headroom_seconds: Option<f64>,
    /// Somebody should act.
    #[serde(skip)]
    pub headroom_is_short: bool,
    /// Source ranges without a counterpart on the target.
    pub gaps: Vec<GapView>,
}

/// A gap.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct GapView {
    /// Its reason.
    pub reason: String,
    /// First source offset.
    pub from: i64,
    /// Source offset after the last.
    pub to: i64,
    /// Whether records that readers of the source could see are missing on the target.
    pub is_loss: bool,
}

impl From<Gap> for GapView {
    fn from(Gap { reason, from, to }: Gap) -> Self {
        use GapReason::{Accepted, Corrupt, Divergence, Recreated, Retention, Unknown};
        let is_loss = matches!(reason, Retention | Corrupt | Accepted | Divergence | Recreated | Unknown);
        Self { reason: reason.to_string(), from, to, is_loss }
    }
}

/// Bytes read per partition to see whether what lies ahead is data at all.
const PEEK_BYTES: i32 = 256 << 10;

/// The status of one mirror; with its fleet where one shares it.
///
/// # Errors
/// A cluster does not answer, or refuses to tell.
pub async fn status(
    config: &MirrorConfig,
    is_shared: bool,
    (source, target): (&Cluster, &Cluster),
) -> Result<MirrorStatus, EngineError> {
    let found = matching_topics(config, source, &[]).await?;
    let mut topics = found.topics;
    let (mut state, mut partitions, mut held) = look(config, source, target, &topics).await?;
    let hidden = hidden_topics(config, source, &state, &topics).await?;
    if !hidden.is_empty() {
        topics.extend(hidden);
        (state, partitions, held) = look(config, source, target, &topics).await?;
    }
    // Of these not even the partitions are known.
    for topic in found.failed.iter().filter(|failed| !topics.iter().any(|topic| topic.name == failed.name)) {
        let tp = TopicPartition { topic: topic.name.clone(), topic_id: topic.id, partition: -1 };
        let error = Err(source.api_error("Metadata", topic.error, &topic.name));
        let row = row(config, &state, &tp, config.target_topic(&topic.name), Some(&error), None);
        partitions.push((tp, row));
    }
    let partitions = look_closer(config, source, partitions, &held).await?;
    let mut status = summary(config, &state, partitions, groups(config, target).await);
    if status.state == "starting" {
        status.reason = lacks((config, is_shared), source, target).await;
    }
    if is_shared {
        status.fleet = shown_fleet(&config.name, target).await;
    }
    Ok(status)
}

/// Rights for want of which a mirror may not begin, as this principal has them.
async fn lacks(of: (&MirrorConfig, bool), source: &Cluster, target: &Cluster) -> Option<String> {
    let found = matching_topics(of.0, source, &[]).await.ok()?;
    // That it could not be found out says nothing of the mirror.
    let probed = probe_run(of, &BTreeMap::new(), &found, (source, target)).await.ok()?;
    let missing = probed.into_iter().flat_map(|(_, probed)| probed.missing).filter(|right| right.is_needed);
    let words: Vec<String> = missing.map(|right| format!("{}: {}", right.words, right.command)).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

/// What the group does not tell leaves the rest as it is.
async fn shown_fleet(mirror: &str, target: &Cluster) -> Option<FleetView> {
    let told = fleet_view(mirror, target).await;
    told.inspect_err(|error| tracing::warn!(mirror, %error, "the fleet cannot be shown")).ok().flatten()
}

/// Why mirror topics that are not there may not be made, by their names.
async fn refused(target: &Cluster, missing: &BTreeSet<String>) -> BTreeMap<String, ClientError> {
    let names: Vec<&str> = missing.iter().map(String::as_str).collect();
    target.refused_creations(&names).await.unwrap_or_default()
}

async fn groups(config: &MirrorConfig, target: &Cluster) -> Option<GroupsStatus> {
    config.groups.as_ref()?;
    // A coordinator that does not answer says nothing of the partitions.
    let found = last_sync(&config.name, target).await.ok().flatten().unwrap_or_default();
    let age_seconds = if found.at_ms > 0 { found.age_ms(now_ms()) as f64 / 1000.0 } else { -1.0 };
    Some(GroupsStatus { age_seconds, found })
}

/// Topics on record that the source does not list, as they are on record: those that it only hides, not those that are gone.
async fn hidden_topics(
    config: &MirrorConfig,
    source: &Cluster,
    state: &MirrorState,
    listed: &[TopicMeta],
) -> Result<Vec<TopicMeta>, EngineError> {
    let listed: BTreeSet<&str> = listed.iter().map(|topic| topic.name.as_str()).collect();
    let mut on_record: BTreeMap<&str, TopicMeta> = BTreeMap::new();
    // Of topics made again under one name, the newest: furthest up on the target.
    let mut known: Vec<_> = state.partitions().collect();
    known.sort_by_key(|known| known.map.segments().first().map(|first| first.target));
    for declared in known.into_iter().map(|known| &known.declared) {
        let name = declared.source_topic.as_str();
        if listed.contains(name) || !config.topics.matches(name) {
            continue;
        }
        let topic = on_record.entry(name).or_default();
        (topic.id, topic.name) = (declared.source_topic_id, name.to_owned());
        let partitions = usize::try_from(declared.partition).map_or(0, |partition| partition + 1);
        topic.partitions.resize(partitions.max(topic.partitions.len()), PartitionMeta::UNKNOWN);
    }
    let names: Vec<&str> = on_record.keys().copied().collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let metadata = source.refresh(Topics::Named(&names)).await?;
    Ok(on_record.into_iter().filter(|(name, _)| metadata.topic(name).is_some()).map(|(_, topic)| topic).collect())
}

type Row = (TopicPartition, PartitionStatus);
/// Partitions whose end may be held back.
type Held = BTreeSet<TopicPartition>;

/// The state, a row for each partition of these topics, and which of them may be held back.
async fn look(
    config: &MirrorConfig,
    source: &Cluster,
    target: &Cluster,
    topics: &[TopicMeta],
) -> Result<(MirrorState, Vec<Row>, Held), EngineError> {
    let names: Vec<String> = topics.iter().map(|t| config.target_topic(&t.name)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let there = target.refresh(Topics::Named(&names)).await?;
    let mut sources = Vec::new();
    let mut targets = BTreeMap::new();
    let absent = names.iter().filter(|name| there.topic(name).is_none()).map(|name| (*name).to_owned()).collect();
    let refused = refused(target, &absent).await;
    for topic in topics {
        let name = config.target_topic(&topic.name);
        let mirror = there.topic(&name);
        for partition in (0..).take(topic.partitions.len()) {
            let tp = TopicPartition { topic: topic.name.clone(), topic_id: topic.id, partition };
            if let Some(mirror) = mirror.filter(|m| m.partitions.len() > partition as usize) {
                let target = TopicPartition { topic: name.clone(), topic_id: mirror.id, partition };
                targets.insert((topic.name.clone(), partition), Ok(target));
            } else if let Some(error) = mirror.map(|m| m.error).filter(|error| *error != 0) {
                let error = target.api_error("Metadata", error, &name);
                targets.insert((topic.name.clone(), partition), Err(error));
            } else if let Some(error) = refused.get(&name) {
                targets.insert((topic.name.clone(), partition), Err(error.clone()));
            }
            sources.push((tp, name.clone()));
        }
    }
    let committed = config.isolation == Isolation::ReadCommitted;
    let all: Vec<TopicPartition> = sources.iter().map(|(tp, _)| tp.clone()).collect();
    // What has no leader says nothing; the others are shown all the same.
    // In this order: a last stable offset behind a high watermark that was there before is held back.
    let high =
        if committed { source.offsets_each(&all, LogPoint::End { committed: false }).await } else { Each::new() };
    let source_ends = source.offsets_each(&all, LogPoint::End { committed }).await;
    let held = held(&high, &source_ends);
    let all: Vec<TopicPartition> = targets.values().flatten().cloned().collect();
    let target_ends = target.offsets_each(&all, LogPoint::End { committed: false }).await;
    // After the ends: what lies below an end has its breaks in the state by then (they are written ahead).
    let state = MirrorState::read(&config.name, target).await?.unwrap_or_default();
    let mut target_ends = without_markers(config, &state, target, target_ends).await?;
    for known in state.partitions() {
        let promoted = state.promoted_end(known);
        if let (Some(end), Some(Ok(there))) = (promoted, target_ends.get_mut(&target_of(known))) {
            *there = end.min(*there);
        }
    }
    let mut partitions = Vec::with_capacity(sources.len());
    for (tp, target_topic) in sources {
        let target_end = match targets.get(&(tp.topic.clone(), tp.partition)) {
            Some(Ok(target)) => target_ends.get(target).cloned(),
            Some(Err(error)) => Some(Err(error.clone())),
            None => None,
        };
        let row = row(config, &state, &tp, target_topic, source_ends.get(&tp), target_end.as_ref());
        partitions.push((tp, row));
    }
    Ok((state, partitions, held))
}

/// Where the last stable offset lies behind a high watermark that was there before.
fn held(high: &Each<i64>, stable: &Each<i64>) -> Held {
    let behind = |(tp, end): (&TopicPartition, &Result<i64, ClientError>)| {
        let high = high.get(tp)?.as_ref().ok()?;
        end.as_ref().is_ok_and(|end| end < high).then(|| tp.clone())
    };
    stable.iter().filter_map(behind).collect()
}

/// A start that has not settled a partition yet may have left its marker behind the data: that is no record.
async fn without_markers(
    config: &MirrorConfig,
    state: &MirrorState,
    target: &Cluster,
    mut ends: Each<i64>,
) -> Result<Each<i64>, EngineError> {
    let mut tasks = JoinSet::new();
    let mut doubtful = state
        .unsettled()
        .filter_map(|known| {
            let tp = target_of(known);
            let end = ends.get(&tp)?.as_ref().ok().copied().filter(|end| known.end.is_none_or(|e| e < *end))?;
            Some((known.clone(), tp, end))
        })
        .collect::<Vec<_>>()
        .into_iter();
    loop {
        while tasks.len() < AT_ONCE {
            let Some((known, tp, end)) = doubtful.next() else { break };
            let target = target.clone();
            tasks.spawn(async move { (tp, settled_end_below(&target, &known, end).await) });
        }
        let Some(done) = tasks.join_next().await else { return Ok(ends) };
        let (tp, end) = done.map_err(|e| EngineError::Unexpected {
            mirror: config.name.clone(),
            detail: format!("reading the target: {e}"),
        })?;
        let end = match end {
            Ok(end) => Ok(end),
            Err(error) => Err(error.client().cloned().ok_or(error)?),
        };
        ends.insert(tp, end);
    }
}

fn row(
    config: &MirrorConfig,
    state: &MirrorState,
    tp: &TopicPartition,
    target_topic: String,
    source_end: Option<&Result<i64, ClientError>>,
    target_end: Option<&Result<i64, ClientError>>,
) -> PartitionStatus {
    let known = state.partition(tp);
    let unknown = [source_end, target_end].into_iter().flatten().find_map(|end| end.as_ref().err());
    let number = |end: Option<&Result<i64, ClientError>>| end.and_then(|end| end.as_ref().ok()).copied();
    let (source_end, target_end) = (number(source_end).unwrap_or(-1), number(target_end));
    let mirrored_to = match (known, target_end) {
        (Some(known), Some(end)) => mirrored_to(known, end),
        _ => -1,
    };
    let halt = state.damage(tp).or_else(|| state.halt(&tp.topic, tp.partition));
    let name = match (known, halt) {
        _ if state.control.standing_promotion().is_some() => "promoted",
        (_, Some(_)) => "halted",
        _ if state.control.is_paused(&tp.topic, tp.partition) => "paused",
        (Some(_), None) => "mirroring",
        (None, None) => "starting",
    };
    PartitionStatus {
        topic: tp.topic.clone(),
        target_topic,
        partition: tp.partition,
        state: name,
        reason: halt.map(ToString::to_string).or_else(|| unknown.map(ToString::to_string)),
        way_out: halt.map(|h| h.way_out(&config.name, &tp.topic, tp.partition)),
        source_end,
        mirrored_to,
        target_end: target_end.unwrap_or(-1),
        lag_records: if unknown.is_some() { -1 } else { (source_end - mirrored_to.max(0)).max(0) },
        lag_seconds: if unknown.is_some() { -1.0 } else { 0.0 },
        retention_headroom_seconds: None,
        headroom_is_short: false,
        gaps: known.map(gaps).unwrap_or_default(),
    }
}

fn mirrored_to(state: &PartitionState, target_end: i64) -> i64 {
    state.map.position(target_end).max(state.scanned.source)
}

fn gaps(state: &PartitionState) -> Vec<GapView> {
    state.map.gaps().map(GapView::from).collect()
}

/// What lies between `mirrored_to` and the source's end may be markers and aborted data only; and if it is not, its
/// first record tells the lag in time, and how long it will be there. A source end that `held` names may be held back.
async fn look_closer(
    config: &MirrorConfig,
    source: &Cluster,
    rows: Vec<(TopicPartition, PartitionStatus)>,
    held: &Held,
) -> Result<Vec<PartitionStatus>, EngineError> {
    let mut out = Vec::with_capacity(rows.len());
    let mut tasks = JoinSet::new();
    let mut rows = rows.into_iter().enumerate();
    loop {
        while tasks.len() < AT_ONCE {
            let Some((at, (tp, mut row))) = rows.next() else { break };
            let (lags, held) = (row.lag_records > 0 && row.mirrored_to >= 0, held.contains(&tp));
            if !lags && !held {
                let nothing = if row.lag_records == 0 { First::Nothing } else { First::Unreadable };
                out.push((at, tp, row, nothing));
                continue;
            }
            let (source, isolation) = (source.clone(), config.isolation);
            tasks.spawn(async move {
                if held && row.state == "mirroring" && row.reason.is_none() {
                    row.reason = held_by(&source, &tp, row.source_end).await;
                }
                let first = if lags { peek(&source, isolation, &tp, &mut row).await } else { Ok(First::Nothing) };
                let first = first.unwrap_or_else(|error| {
                    row.reason.get_or_insert_with(|| error.to_string());
                    row.lag_seconds = -1.0;
                    First::Unreadable
                });
                (at, tp, row, first)
            });
        }
        let Some(done) = tasks.join_next().await else { break };
        out.push(done.map_err(|e| EngineError::Unexpected {
            mirror: config.name.clone(),
            detail: format!("reading the source: {e}"),
        })?);
    }
    out.sort_by_key(|(at, ..)| *at);
    let firsts: Vec<(TopicPartition, First)> = out.iter().map(|(_, tp, _, first)| (tp.clone(), *first)).collect();
    let now_ms = now_ms();
    let headrooms = Retentions::default().headrooms(source, &firsts, now_ms).await;
    let rows = out.into_iter().zip(headrooms).map(|((_, _, row, first), headroom)| PartitionStatus {
        retention_headroom_seconds: match headroom {
            Headroom::Unlimited => None,
            _ => Some(headroom.left_ms(now_ms).map_or(-1.0, |left| left as f64 / 1000.0)),
        },
        // A halt over what is gone says so itself.
        headroom_is_short: headroom.is_short(now_ms) && (first != First::Gone || row.state != "halted"),
        ..row
    });
    Ok(rows.collect())
}

async fn peek(
    source: &Cluster,
    isolation: Isolation,
    tp: &TopicPartition,
    row: &mut PartitionStatus,
) -> Result<First, EngineError> {
    let options = ReadOptions { max_bytes: PEEK_BYTES, ..ReadOptions::default() };
    let (next, first) = look_ahead(source, isolation, tp, (row.mirrored_to, row.source_end), options).await?;
    row.mirrored_to = next;
    row.lag_records = (row.source_end - next).max(0);
    if first == First::Gone && row.state == "mirroring" {
        // That is accepted, or halts in a moment: what can be lost is what the source still has.
        let start = source.log_start(tp).await?;
        return Ok(look_ahead(source, isolation, tp, (start, row.source_end), options).await?.1);
    }
    if let First::At(timestamp) = first {
        row.lag_seconds = (now_ms() - timestamp).max(0) as f64 / 1000.0;
    }
    Ok(first)
}

/// The transaction that holds back the last stable offset, in words, once it is long: by its first record's timestamp, since
/// one look knows nothing else.
async fn held_by(source: &Cluster, tp: &TopicPartition, stable_end: i64) -> Option<String> {
    let now_ms = now_ms();
    let found = hold(source, tp, (stable_end, now_ms), now_ms).await.ok()??;
    found.is_long(now_ms).then(|| found.words(&tp.topic, tp.partition, now_ms))
}

fn summary(
    config: &MirrorConfig,
    state: &MirrorState,
    partitions: Vec<PartitionStatus>,
    groups: Option<GroupsStatus>,
) -> MirrorStatus {
    let any = |name: &str| partitions.iter().any(|p| p.state == name);
    let name = if state.control.standing_promotion().is_some() {
        "promoted"
    } else if any("halted") {
        "halted"
    } else if state.control.is_all_paused() {
        "paused"
    } else if any("mirroring") {
        "mirroring"
    } else if any("starting") || partitions.is_empty() {
        "starting"
    } else {
        "paused"
    };
    let lags = || partitions.iter().map(|p| p.lag_seconds);
    let rpo_seconds = if lags().any(|lag| lag < 0.0) { -1.0 } else { lags().fold(0.0, f64::max) };
    let said = state.control.bandwidth();
    MirrorStatus {
        name: config.name.clone(),
        state: name,
        reason: None,
        rpo_seconds,
        bandwidth_bytes_per_s: said.limit_bytes_per_s(config.limits.bandwidth_bytes_per_s),
        bandwidth_from: said.origin(),
        groups,
        fleet: None,
        sync: config.sync.is_wanted().then(|| SyncStatus::of(config, &state.control)),
        partitions,
    }
}
