//! What a replay would do, and what stands against it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::BackupError;
use super::super::archive::{Archive, Chain};
use super::super::chain::{Log, logs};
use super::super::digest::sha256_hex;
use super::super::export::Wanted;
use super::super::fetch::Segments;
use super::super::manifest::SegmentPart;
use super::super::restore::choose;
use super::super::seal::PublicKey;
use super::journal::{Journal, Progress};
use super::{ArchiveReplay, Speed, found};
use crate::client::{Cluster, TopicPartition};
use crate::config::{Config, MirrorConfig};
use crate::engine::control::Control;
use crate::engine::{EngineError, now_ms};
use crate::mirror::Isolation;
use crate::ops::replaying::{BATCH_BYTES, Into, There, find_into, read_back};
use crate::ops::time::rfc3339;

const RETENTION: &str = "retention.ms";
const BATCH_LIMIT: &str = "max.message.bytes";
const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const AGE_LIMIT: &str = "message.timestamp.before.max.ms";
/// Letters of a replay's name.
const NAME_CHARS: usize = 16;

/// What is to be replayed, and how.
#[derive(Debug, Clone, Default)]
pub struct ReplayWish {
    /// Topic of the source.
    pub topic: String,
    /// Partitions of it; all where none is named.
    pub partitions: BTreeSet<i32>,
    /// Which records.
    pub wanted: Wanted,
    /// Chain; the newest that restores by itself where it is not named.
    pub chain: Option<u32>,
    /// Topic that is written to.
    pub into: String,
    /// How fast.
    pub speed: Speed,
    /// Records get the time at which they are replayed.
    pub is_stamped_anew: bool,
    /// What no copy has whole is left out.
    pub skip_damaged: bool,
    /// Tells replays of the same records to the same topic apart.
    pub suffix: Option<String>,
    /// Manifests must be signed by this key.
    pub trusted: Option<PublicKey>,
}

/// What a replay would do.
#[derive(Debug, Clone, Serialize)]
pub struct ReplayPlan {
    /// Version of this shape.
    pub schema_version: u32,
    /// Name of the replay.
    pub replay: String,
    /// Backup.
    pub backup: String,
    /// Chain that is read.
    pub chain: u32,
    /// Its last unit.
    pub unit: u32,
    /// Topic of the source.
    pub topic: String,
    /// Cluster that is written to.
    pub cluster: String,
    /// Topic that is written to.
    pub into: String,
    /// Partitions of the source.
    pub partitions: Vec<ReplayRow>,
    /// Records that earlier calls have appended.
    pub already: u64,
    /// Records that are left, at most: those of control batches, of aborted transactions, and what a time leaves out are among them.
    pub records_at_most: u64,
    /// How long that takes at the rate or pace; `null` where it goes as fast as it can.
    pub seconds: Option<f64>,
    /// What of the range is not to be had.
    pub shortfalls: Vec<String>,
    /// What stands against it.
    pub obstacles: Vec<String>,
    /// What somebody should know.
    pub warnings: Vec<String>,
}

/// A partition that is replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplayRow {
    /// Partition of the source.
    pub partition: i32,
    /// Partition that its records go to.
    pub into_partition: i32,
    /// First offset that is asked for.
    pub from: i64,
    /// Offset behind the last.
    pub to: i64,
    /// What is in front of it is there already.
    pub next: i64,
    /// Records that are left, at most.
    pub records_at_most: u64,
}

/// A log that is replayed, from an offset to an offset.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) log: Log,
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Chosen {
    /// Segments that hold some of what is left behind an offset.
    fn segments<'a>(&'a self, next: i64, wanted: &'a Wanted) -> impl Iterator<Item = &'a SegmentPart> {
        let is_read = move |part: &&SegmentPart| {
            part.to > next && part.from < self.to && !wanted.rules_out(part.from, part.to, part.max_timestamp_ms)
        };
        self.log.segments.iter().filter(is_read)
    }
}

impl ArchiveReplay {
    /// Looks into the archive and the topic, and makes the plan.
    pub async fn prepare(
        config: &Config,
        (archive, segments): (&Archive, Segments),
        (cluster, source): (Cluster, &str),
        wish: ReplayWish,
    ) -> Result<Self, BackupError> {
        let keys = [RETENTION, BATCH_LIMIT, TIMESTAMP_TYPE, AGE_LIMIT];
        let into = find_into(&cluster, &wish.into, &keys).await?;
        let (chain, passed_over) = choose(archive, wish.chain, wish.trusted.as_ref()).await?;
        let isolation = chain.manifests().next().map_or(Isolation::ReadCommitted, |manifest| manifest.isolation);
        let (chosen, shortfalls) = chosen(&chain, &wish, isolation);
        let source_id = archive.cluster_id().await?;
        let name = name_of(archive.name(), &source_id, &cluster, &wish, (&chosen, &into));
        let all = match Journal::find(&cluster).await? {
            Some(journal) => journal.read().await?,
            None => BTreeMap::new(),
        };
        let progress = as_of_now(&cluster, &into, all.get(&name)).await?;
        let mut plan = ReplayPlan {
            schema_version: 1,
            replay: name,
            backup: archive.name().to_owned(),
            chain: chain.number,
            unit: chain.units.last().map_or(0, |unit| unit.manifest.unit),
            topic: wish.topic.clone(),
            cluster: cluster.name().to_owned(),
            into: wish.into.clone(),
            partitions: chosen.iter().map(|chosen| row(chosen, &into, &wish.wanted, progress.as_ref())).collect(),
            already: progress.as_ref().map_or(0, |progress| progress.records),
            records_at_most: 0,
            seconds: None,
            shortfalls,
            obstacles: Vec::new(),
            warnings: passed_over.into_iter().collect(),
        };
        plan.records_at_most = plan.partitions.iter().map(|row| row.records_at_most).sum();
        let times = times(&chosen, &plan.partitions, &wish.wanted);
        plan.seconds = seconds(wish.speed, plan.records_at_most, times);
        plan.warnings.extend(chain.broken.iter().map(|broken| format!("the chain is broken: {broken}")));
        plan.warnings.extend(age_warnings(&into, &wish, times));
        plan.warnings.extend(other_replays(&all, &plan));
        if isolation == Isolation::ReadUncommitted {
            let what = "the archive was read uncommitted: it does not say which transactions were aborted, and their records are \
                        replayed as well";
            plan.warnings.push(what.to_owned());
        }
        plan.obstacles = obstacles(config, &cluster, &plan, source).await?;
        let itself = into_itself(&cluster, &source_id, &chosen, &into).await?;
        plan.obstacles.extend(itself.obstacle);
        plan.warnings.extend(itself.warning);
        let limit =
            into.configs.get(BATCH_LIMIT).and_then(|text| text.parse::<usize>().ok()).unwrap_or(BATCH_BYTES * 2);
        let batch_bytes = BATCH_BYTES.min(limit / 4 * 3);
        let limit_bytes = usize::try_from(config.limits.memory_bytes).unwrap_or(usize::MAX);
        let topic = wish.topic.as_str().into();
        Ok(Self { cluster, segments, wish, into, chosen, topic, batch_bytes, limit_bytes, plan })
    }
}

/// The logs that are asked for, and what of them is not to be had; of a topic that was made again under its name, the last.
fn chosen(chain: &Chain, wish: &ReplayWish, isolation: Isolation) -> (Vec<Chosen>, Vec<String>) {
    let parts = || chain.manifests().flat_map(|manifest| &manifest.partitions);
    let latest = parts().filter(|part| part.topic == wish.topic).last().map(|part| part.topic_id);
    let head = chain.head();
    let is_wanted = |log: &Log| {
        let is_asked = wish.partitions.is_empty() || wish.partitions.contains(&log.id.partition);
        log.id.topic == wish.topic && Some(log.id.topic_id) == latest && is_asked
    };
    let (mut all, mut shortfalls) = (Vec::new(), Vec::new());
    for log in logs(chain.manifests()).into_values().filter(is_wanted) {
        let open = head.positions.get(&log.id).map(|position| position.open.as_slice()).unwrap_or_default();
        let open = open.iter().map(|txn| txn.first_offset).min().filter(|_| isolation == Isolation::ReadCommitted);
        let asked = (wish.wanted.from.unwrap_or(log.from), wish.wanted.to.unwrap_or(log.to).min(log.to));
        let from = asked.0.clamp(log.from, log.to);
        let to = asked.1.min(open.unwrap_or(log.to)).max(from);
        if to < asked.1 {
            shortfalls.push(format!(
                "{}: a transaction is open from offset {to} on where the archive ends: what stands behind it counts with the next pass \
                 of the backup; call again then",
                log.id
            ));
        }
        let gone: i64 = log.gaps.iter().map(|gap| (gap.to.min(to) - gap.from.max(from)).max(0)).sum();
        if gone > 0 {
            shortfalls.push(format!("{}: {gone} offsets were gone before they were backed up", log.id));
        }
        shortfalls.extend(log.problem.iter().map(|problem| format!("{}: {problem}", log.id)));
        all.push(Chosen { log, from, to });
    }
    (all, shortfalls)
}

/// What names a replay: what it reads, and where to. Not how fast.
fn name_of(
    backup: &str,
    source_id: &str,
    cluster: &Cluster,
    wish: &ReplayWish,
    (chosen, into): (&[Chosen], &Into),
) -> String {
    let wanted = &wish.wanted;
    let topic_id = chosen.first().map(|chosen| chosen.log.id.topic_id);
    let into_id = into.partitions.first().map(|tp| tp.topic_id);
    let said = serde_json::json!([
        [backup, source_id, wish.topic, topic_id, wish.partitions],
        [wanted.from, wanted.to, wanted.since_ms, wanted.until_ms],
        [cluster.cluster_id(), wish.into, into_id, wish.suffix],
    ]);
    let mut name = sha256_hex(said.to_string().as_bytes());
    name.truncate(NAME_CHARS);
    name
}

/// How far it is by now, though somebody may be at it.
async fn as_of_now(cluster: &Cluster, into: &Into, known: Option<&Progress>) -> Result<Option<Progress>, BackupError> {
    let Some(mut progress) = known.cloned() else { return Ok(None) };
    let ends = cluster.log_ends(&into.partitions, false).await?;
    let mut there = There::new();
    let from = progress.ends.iter().copied().chain(std::iter::repeat(0));
    for (tp, from) in into.partitions.iter().zip(from) {
        let range = (from, ends.get(tp).copied().unwrap_or(from));
        read_back(cluster, tp, range, Some(&progress.id), &mut there).await?;
    }
    found(&mut progress, &there);
    Ok(Some(progress))
}

fn row(chosen: &Chosen, into: &Into, wanted: &Wanted, progress: Option<&Progress>) -> ReplayRow {
    let partition = chosen.log.id.partition;
    let known = progress.and_then(|progress| progress.positions.get(&partition)).copied();
    let next = known.unwrap_or(chosen.from).clamp(chosen.from, chosen.to);
    let left = |part: &SegmentPart| {
        let offsets = part.to.min(chosen.to) - part.from.max(next);
        part.records.min(offsets.max(0).unsigned_abs())
    };
    ReplayRow {
        partition,
        into_partition: i32::try_from(into.of(partition)).unwrap_or(i32::MAX),
        from: chosen.from,
        to: chosen.to,
        next,
        records_at_most: chosen.segments(next, wanted).map(left).sum(),
    }
}

/// Timestamps of the oldest and the newest record that are left, ms, as far as the manifests tell.
fn times(chosen: &[Chosen], rows: &[ReplayRow], wanted: &Wanted) -> Option<(i64, i64)> {
    let parts = chosen.iter().zip(rows).flat_map(|(chosen, row)| chosen.segments(row.next, wanted));
    let (mut oldest, mut newest) = (i64::MAX, i64::MIN);
    for part in parts.filter(|part| part.max_timestamp_ms >= 0) {
        oldest = oldest.min(part.min_timestamp_ms.max(0));
        newest = newest.max(part.max_timestamp_ms);
    }
    let oldest = oldest.max(wanted.since_ms.unwrap_or(oldest));
    let newest = newest.min(wanted.until_ms.unwrap_or(newest));
    (oldest <= newest).then_some((oldest, newest))
}

fn seconds(speed: Speed, records: u64, times: Option<(i64, i64)>) -> Option<f64> {
    match speed {
        Speed::Full => None,
        Speed::Rate(per_s) => Some(records as f64 / per_s),
        Speed::Pace(factor) => times.map(|(oldest, newest)| (newest - oldest) as f64 / 1e3 / factor),
    }
}

fn age_warnings(into: &Into, wish: &ReplayWish, times: Option<(i64, i64)>) -> Vec<String> {
    let Some((oldest, _)) = times.filter(|_| !wish.is_stamped_anew) else { return Vec::new() };
    let is_kept = into.configs.get(TIMESTAMP_TYPE).is_none_or(|kind| kind != "LogAppendTime");
    let age_ms = now_ms() - oldest;
    let config = |key: &str| into.configs.get(key).and_then(|text| text.parse::<i64>().ok()).filter(|ms| *ms >= 0);
    let mut out = Vec::new();
    if config(RETENTION).is_some_and(|ms| is_kept && age_ms > ms) {
        out.push(format!(
            "the oldest record is of {}, and {RETENTION} of {} is {} ms: by their timestamps such records are deleted soon after \
             (--timestamps now gives them the time at which they are replayed)",
            rfc3339(oldest),
            wish.into,
            config(RETENTION).unwrap_or_default()
        ));
    }
    if config(AGE_LIMIT).is_some_and(|ms| is_kept && age_ms > ms) {
        out.push(format!(
            "the oldest record is of {}, and {} takes none that old ({AGE_LIMIT}): --timestamps now, or raise it",
            rfc3339(oldest),
            wish.into
        ));
    }
    out
}

/// Replays with other ranges that put records of the same topic there.
fn other_replays(all: &BTreeMap<String, Progress>, plan: &ReplayPlan) -> Vec<String> {
    let is_other = |other: &&Progress| {
        let is_same = (&other.topic, &other.into) == (&plan.topic, &plan.into);
        is_same && other.id != plan.replay && other.records > 0
    };
    let words = |other: &Progress| {
        format!(
            "another replay of {} into {} is on record ({}, {} records, {}): what both ask for is there twice",
            other.topic,
            other.into,
            other.id,
            other.records,
            rfc3339(other.at_ms)
        )
    };
    all.values().filter(is_other).map(words).collect()
}

/// What would be harmed.
async fn obstacles(
    config: &Config,
    cluster: &Cluster,
    plan: &ReplayPlan,
    source: &str,
) -> Result<Vec<String>, BackupError> {
    let mut out = Vec::new();
    if plan.partitions.is_empty() {
        out.push(format!(
            "backup {} of cluster {source} has nothing of what is asked for of topic {}",
            plan.backup, plan.topic
        ));
    }
    for mirror in &config.mirrors {
        for way in [mirror.clone(), mirror.reversed()] {
            if way.target == cluster.name() && way.reversed().topics.matches(&plan.into) {
                out.extend(stands_in_the_way(&way, mirror, cluster, &plan.into).await?);
            }
        }
    }
    Ok(out)
}

/// A mirror writes to the topic, and to nobody else's records there; once it was promoted it does not any more.
async fn stands_in_the_way(
    way: &MirrorConfig,
    mirror: &MirrorConfig,
    cluster: &Cluster,
    into: &str,
) -> Result<Option<String>, EngineError> {
    let control = Control::open(&way.name, cluster).await?;
    let is_home = way.name != mirror.name;
    let stands = match control {
        // The way home has not begun.
        None => !is_home,
        Some(control) => control.state.promotion_done().is_none(),
    };
    Ok(stands.then(|| {
        format!(
            "topic {into} of cluster {} is the mirror's own ({}): records of somebody else would stop it; replay into another topic, or \
             after kmirror failover",
            cluster.name(),
            way.name
        )
    }))
}

#[derive(Debug, Default)]
struct Itself {
    obstacle: Option<String>,
    warning: Option<String>,
}

/// Whether it is the very topic that was backed up.
async fn into_itself(
    cluster: &Cluster,
    source_id: &str,
    chosen: &[Chosen],
    into: &Into,
) -> Result<Itself, BackupError> {
    let Some((first, tp)) = chosen.first().zip(into.partitions.first()) else { return Ok(Itself::default()) };
    if cluster.cluster_id() != source_id || first.log.id.topic != tp.topic {
        return Ok(Itself::default());
    }
    let starts = cluster.log_starts(&into.partitions).await?;
    let holds = |chosen: &&Chosen| {
        let is_its =
            |tp: &&TopicPartition| tp.partition == chosen.log.id.partition && tp.topic_id == chosen.log.id.topic_id;
        let start = into.partitions.iter().find(is_its).and_then(|tp| starts.get(tp));
        start.is_some_and(|start| *start < chosen.to && chosen.from < chosen.to)
    };
    if let Some(still) = chosen.iter().find(holds) {
        let what = "is the topic that was backed up, and holds records of the range still: they would be there twice, be backed up \
                    once more, and be in the range of the next call; narrow it with --offsets, or replay into another topic";
        return Ok(Itself { obstacle: Some(format!("{} {what}", still.log.id)), warning: None });
    }
    let warning = format!("{} is the topic that was backed up: what is replayed is backed up once more", tp.topic);
    Ok(Itself { obstacle: None, warning: Some(warning) })
}
