//! What a backup would take and cost: figures of the source as it is, and what each schedule makes of them.
//!
//! Records are counted by offsets, and times by the timestamps that producers chose; sizes are estimated from some batches of each topic.

mod sample;
mod schedule;

use std::collections::BTreeMap;

use serde::Serialize;

use super::{BackupError, Keeper, Problem};
use crate::client::{Cluster, Each, LogPoint, TopicPartition, Topics};
use crate::config::{BackupConfig, Compression};
use crate::engine::now_ms;
use crate::mirror::Isolation;
use crate::ops::time::rfc3339;
use sample::{Sample, sample};
use schedule::{Load, Loads};

pub use schedule::{Prices, Schedule, ScheduleRow};

const HOUR_MS: i64 = 3_600_000;
const HOUR_S: f64 = 3_600.0;
const DAY_S: f64 = 86_400.0;
const CLEANUP_POLICY: &str = "cleanup.policy";

/// What a backup would take and cost.
#[derive(Debug, Clone, Serialize)]
pub struct BackupPlan {
    /// Version of this shape.
    pub schema_version: u32,
    /// Backup.
    pub backup: String,
    /// Cluster.
    pub cluster: String,
    /// When the cluster was asked, RFC 3339.
    pub as_of: String,
    /// Whether batches that nobody compressed are compressed in the archive.
    pub compression: &'static str,
    /// Destinations.
    pub copies: usize,
    /// Prices that the costs are by.
    pub prices: Prices,
    /// Topics, the largest first.
    pub topics: Vec<TopicPlan>,
    /// Schedules.
    pub schedules: Vec<ScheduleRow>,
    /// Partitions that could not be asked or read.
    pub problems: Vec<Problem>,
    /// What the figures rest on.
    pub notes: Vec<String>,
}

/// A topic.
#[derive(Debug, Clone, Serialize)]
pub struct TopicPlan {
    /// Topic.
    pub topic: String,
    /// Partitions.
    pub partitions: usize,
    /// Whether it is compacted; `null` where that is not known.
    pub is_compacted: Option<bool>,
    /// Offsets from start to end: records, and what stands between them.
    pub offsets: i64,
    /// Bytes of its batches, estimated.
    pub bytes: f64,
    /// Bytes in the archive without compression, estimated.
    pub stored_bytes: f64,
    /// Bytes in the archive with `compression: zstd`, estimated.
    pub stored_bytes_zstd: f64,
    /// Offsets a second over the last hour.
    pub records_per_s_hour: f64,
    /// Bytes a second over the last hour, estimated.
    pub bytes_per_s_hour: f64,
    /// Offsets a second over the last day.
    pub records_per_s_day: f64,
    /// Bytes a second over the last day, estimated.
    pub bytes_per_s_day: f64,
    /// Share of records, among those that were looked at, whose key came before: what compaction lets go of. `null`: no keys.
    pub update_share: Option<f64>,
    /// Records that were looked at.
    pub sampled_records: u64,
    /// Bytes of their batches.
    pub sampled_bytes: u64,
}

/// A log, where it starts and where it ends.
type Placed = (TopicPartition, (i64, i64));

/// Where the logs of a topic stand.
#[derive(Debug, Default)]
struct Stand {
    logs: Vec<Placed>,
    /// Offsets of the last hour and day, by partition.
    recent: Vec<(i64, i64)>,
}

impl Keeper {
    /// Asks the source, and judges these schedules besides the one of the file.
    pub async fn plan(&self, schedules: &[Schedule], prices: Prices) -> Result<BackupPlan, BackupError> {
        let (config, cluster) = (self.config(), self.cluster());
        let as_of_ms = now_ms();
        let mut problems = Vec::new();
        let stands = stands(cluster, config, as_of_ms, &mut problems).await?;
        let names: Vec<&str> = stands.keys().map(String::as_str).collect();
        let configs = cluster.configs_of_topics(&names, &[CLEANUP_POLICY]).await.unwrap_or_default();
        let (mut topics, mut partitions) = (Vec::new(), Vec::new());
        let (mut read_bytes, mut read_s, mut raw, mut stored) = (0.0, 0.0, 0.0, 0.0);
        for (name, stand) in &stands {
            let committed = config.isolation == Isolation::ReadCommitted;
            let sample = match sample(cluster, &stand.logs, committed).await {
                Ok(sample) => sample,
                Err(error) => {
                    problems.push(Problem { topic: name.clone(), partition: -1, reason: error.to_string() });
                    Sample::default()
                }
            };
            read_bytes += sample.raw_bytes as f64;
            read_s += sample.took.as_secs_f64();
            let policy = configs.get(name).and_then(|configs| configs.get(CLEANUP_POLICY));
            let topic = topic_of(name, stand, &sample, policy.map(|policy| policy.contains("compact")));
            raw += topic.bytes;
            stored += topic.bytes * sample.stored_share(config.compression);
            partitions.extend(loads_of(stand, &sample, config.compression));
            topics.push(topic);
        }
        topics.sort_by(|a, b| b.bytes.total_cmp(&a.bytes).then_with(|| a.topic.cmp(&b.topic)));
        let measured = if read_s > 0.0 { read_bytes / read_s } else { 0.0 };
        let limit = config.limits.bandwidth_bytes_per_s.map_or(f64::INFINITY, |limit| limit as f64);
        let loads = Loads {
            partitions,
            segment_bytes: config.segment_bytes as f64,
            copies: config.to.len() as f64,
            // By the bytes that it becomes, for that is what the loads are in.
            read_bytes_per_s: measured.min(limit) * if raw > 0.0 { stored / raw } else { 1.0 },
        };
        Ok(BackupPlan {
            schema_version: 1,
            backup: config.name.clone(),
            cluster: cluster.name().to_owned(),
            as_of: rfc3339(as_of_ms),
            compression: if config.compression == Compression::Zstd { "zstd" } else { "none" },
            copies: config.to.len(),
            prices,
            topics,
            schedules: judged(&loads, config, schedules, prices),
            problems,
            notes: notes(limit.is_finite() && limit < measured),
        })
    }
}

fn judged(loads: &Loads, config: &BackupConfig, others: &[Schedule], prices: Prices) -> Vec<ScheduleRow> {
    let own = Schedule { interval: config.interval, full_every: config.full_every, keep: config.keep };
    let mut rows = vec![loads.judge(own, prices, true)];
    // A chain that ends before its second pass is none.
    let others = others.iter().filter(|other| **other != own && other.full_every > other.interval);
    rows.extend(others.map(|other| loads.judge(*other, prices, false)));
    rows
}

fn notes(is_limited: bool) -> Vec<String> {
    let speed = if is_limited {
        "the time of a pass is by limits.bandwidth"
    } else {
        "the time of a pass is by how fast the samples were read, one partition after another: a pass reads several at a time"
    };
    [
        "records are counted by offsets: markers of transactions and what compaction took are among them",
        "sizes are estimated from some batches of up to four partitions of each topic; the archive's by making segments of them",
        "the last hour and day are by the timestamps of the records, which producers choose",
        "an archive's size is that of the topics as they are now and grow by the last day; a topic that grows without end makes each \
         full pass larger",
        speed,
        "requests are those that write; the RPO of a topic with a transaction that stays open is longer",
    ]
    .map(str::to_owned)
    .into()
}

/// Where every partition of the backup's topics stands: start, end, and how much of it is of the last hour and day.
async fn stands(
    cluster: &Cluster,
    config: &BackupConfig,
    now_ms: i64,
    problems: &mut Vec<Problem>,
) -> Result<BTreeMap<String, Stand>, BackupError> {
    let metadata = cluster.refresh(Topics::All).await?;
    let is_wanted = |name: &str| config.topics.matches(name) && !crate::config::never_mirrored(name);
    let mut tps = Vec::new();
    for (name, topic) in metadata.topics.iter().filter(|(name, _)| is_wanted(name)) {
        let of = |partition| TopicPartition { topic: name.clone(), topic_id: topic.id, partition };
        tps.extend((0..).take(topic.partitions.len()).map(of));
    }
    let committed = config.isolation == Isolation::ReadCommitted;
    let time = |ago_ms: i64| LogPoint::Time { at_ms: now_ms - ago_ms, committed };
    let starts = cluster.offsets_each(&tps, LogPoint::Start).await;
    let hours = cluster.offsets_each(&tps, time(HOUR_MS)).await;
    let days = cluster.offsets_each(&tps, time(24 * HOUR_MS)).await;
    // Last, so that nothing is behind it.
    let ends = cluster.offsets_each(&tps, LogPoint::End { committed }).await;
    let mut stands: BTreeMap<String, Stand> = BTreeMap::new();
    for tp in tps {
        let at = |each: &Each<i64>| match each.get(&tp) {
            Some(Ok(offset)) => Ok(*offset),
            Some(Err(error)) => Err(error.to_string()),
            None => Err(format!("cluster {}: ListOffsets passed {tp} over", cluster.name())),
        };
        let found = at(&starts).and_then(|start| Ok((start, at(&hours)?, at(&days)?, at(&ends)?)));
        match found {
            Ok((start, hour, day, end)) => {
                let stand = stands.entry(tp.topic.clone()).or_default();
                stand.recent.push(((end - hour).max(0), (end - day).max(0)));
                stand.logs.push((tp, (start, end.max(start))));
            }
            Err(reason) => problems.push(Problem { topic: tp.topic, partition: tp.partition, reason }),
        }
    }
    Ok(stands)
}

fn topic_of(name: &str, stand: &Stand, sample: &Sample, is_compacted: Option<bool>) -> TopicPlan {
    let offsets: i64 = stand.logs.iter().map(|(_, (start, end))| end - start).sum();
    let hour: i64 = stand.recent.iter().map(|(hour, _)| hour).sum();
    let day: i64 = stand.recent.iter().map(|(_, day)| day).sum();
    let per_offset = sample.bytes_per_offset();
    let bytes = offsets as f64 * per_offset;
    TopicPlan {
        topic: name.to_owned(),
        partitions: stand.logs.len(),
        is_compacted,
        offsets,
        bytes,
        stored_bytes: bytes * sample.stored_share(Compression::None),
        stored_bytes_zstd: bytes * sample.stored_share(Compression::Zstd),
        records_per_s_hour: hour as f64 / HOUR_S,
        bytes_per_s_hour: hour as f64 * per_offset / HOUR_S,
        records_per_s_day: day as f64 / DAY_S,
        bytes_per_s_day: day as f64 * per_offset / DAY_S,
        update_share: sample.update_share(),
        sampled_records: sample.records,
        sampled_bytes: sample.raw_bytes,
    }
}

/// What each partition has to store, and comes to it by the last day.
fn loads_of(stand: &Stand, sample: &Sample, compression: Compression) -> Vec<Load> {
    let stored = sample.bytes_per_offset() * sample.stored_share(compression);
    let load = |(log, (_, day)): (&Placed, &(i64, i64))| Load {
        bytes: (log.1.1 - log.1.0) as f64 * stored,
        bytes_per_s: *day as f64 * stored / DAY_S,
        records_per_s: *day as f64 / DAY_S,
    };
    stand.logs.iter().zip(&stand.recent).map(load).collect()
}
