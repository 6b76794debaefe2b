//! One pass over the source: what is new in each partition goes into segments, and manifests name them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use uuid::Uuid;

use super::BackupError;
use super::capture::{Captured, capture};
use super::chain::{Head, LogId};
use super::copies::{AwayCopy, Copies};
use super::digest::sha256_hex;
use super::manifest::{Manifest, PartitionPart, Signature};
use super::names;
use super::reader::{Stretch, read};
use super::seal::{Keyring, SegmentKey, Signer, WrappedKey};
use super::segment::BuildError;
use super::store::Put;
use crate::client::{Cluster, LogPoint, TopicPartition, Topics};
use crate::config::BackupConfig;
use crate::engine::now_ms;
use crate::mirror::Isolation;

/// A long pass writes a manifest that often, where it is not told otherwise: what a crash costs.
pub(super) const COMMIT_EVERY: Duration = Duration::from_secs(60);

/// What all partitions of a pass share.
pub(super) struct Shared {
    pub(super) cluster: Cluster,
    pub(super) config: BackupConfig,
    pub(super) copies: Copies,
    pub(super) keyring: Option<Keyring>,
    pub(super) chain: u32,
    pub(super) meter: Meter,
    unit: AtomicU32,
    free_at: Mutex<Option<Instant>>,
    /// Says that the pass has failed: nobody reads on.
    given_up: watch::Sender<bool>,
}

impl Shared {
    /// The pass has failed.
    pub(super) fn give_up(&self) {
        self.given_up.send_replace(true);
    }

    /// Once the pass has failed.
    pub(super) async fn given_up(&self) {
        // The sender lives as long as this.
        let _ = self.given_up.subscribe().wait_for(|given_up| *given_up).await;
    }

    /// The unit that is being written.
    pub(super) fn unit(&self) -> u32 {
        self.unit.load(Ordering::Relaxed)
    }

    pub(super) fn segment_key(&self, segment: Uuid) -> Result<Option<(SegmentKey, WrappedKey)>, BackupError> {
        self.keyring.as_ref().map(|ring| ring.new_segment(segment)).transpose().map_err(BackupError::Seal)
    }

    pub(super) fn build_failed(&self, tp: &TopicPartition, error: &BuildError) -> BackupError {
        BackupError::Segment { backup: self.config.name.clone(), object: tp.to_string(), detail: error.to_string() }
    }

    /// Waits until so many bytes more are within the bandwidth.
    pub(super) async fn pace(&self, bytes: usize) {
        let Some(limit) = self.config.limits.bandwidth_bytes_per_s else { return };
        let mut free_at = self.free_at.lock().await;
        let now = Instant::now();
        let from = free_at.map_or(now, |at| at.max(now));
        let until = from + Duration::from_secs_f64(bytes as f64 / limit.max(1) as f64);
        *free_at = Some(until);
        drop(free_at);
        tokio::time::sleep(from.saturating_duration_since(now)).await;
    }
}

/// How far a pass is. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    offsets: AtomicU64,
    offsets_due: AtomicU64,
}

impl Meter {
    pub(super) fn read(&self, offsets: u64) {
        self.0.offsets.fetch_add(offsets, Ordering::Relaxed);
    }

    /// So many offsets more are to be read.
    pub fn due(&self, offsets: u64) {
        self.0.offsets_due.fetch_add(offsets, Ordering::Relaxed);
    }

    /// Offsets that were read, and that were to be read.
    pub fn offsets(&self) -> (u64, u64) {
        (self.0.offsets.load(Ordering::Relaxed), self.0.offsets_due.load(Ordering::Relaxed))
    }
}

/// In words: the source has less than the archive.
pub(super) fn shorter(cluster: &Cluster, tp: &TopicPartition, from: i64, end: i64) -> String {
    format!(
        "cluster {}: {tp} ends at offset {end}, and the archive has it up to {from}: the source lost records, or a leader that was \
         just elected does not know its end yet. If it stays so, begin a new chain (kmirror backup --full)",
        cluster.name()
    )
}

/// What a pass did.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct PassReport {
    /// Chain.
    pub chain: u32,
    /// Its last unit; 0 where it has none.
    pub unit: u32,
    /// Partitions that were looked at.
    pub partitions: usize,
    /// Records that came in.
    pub records: u64,
    /// Bytes of batches that came in.
    pub raw_bytes: u64,
    /// Bytes of segments, in each copy.
    pub stored_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Offsets that were gone before they were read.
    pub lost_offsets: i64,
    /// Partitions that were not read to their end, and why.
    pub problems: Vec<Problem>,
    /// Copies that were away: they are caught up by a later pass.
    pub away: Vec<AwayCopy>,
    /// Whether the archive was begun by this pass.
    pub is_new_archive: bool,
}

/// A partition that was not read to its end.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Problem {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Why.
    pub reason: String,
}

/// What a pass would read.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Outlook {
    /// Version of this shape.
    pub schema_version: u32,
    /// Chain.
    pub chain: u32,
    /// Its unit.
    pub unit: u32,
    /// Partitions with something new, and those that cannot be read.
    pub partitions: Vec<OutlookRow>,
}

/// A partition of an outlook.
#[derive(Debug, Clone, serde::Serialize)]
pub struct OutlookRow {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset that would be read.
    pub from: i64,
    /// Offset behind the last.
    pub to: i64,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// A pass.
pub(super) struct Pass {
    shared: Arc<Shared>,
    signer: Option<Arc<Signer>>,
    cluster_id: String,
    begun_at_ms: i64,
    commit_every: Duration,
    waiting: BTreeMap<(String, Uuid, i32), PartitionPart>,
    report: PassReport,
    /// Copies that it goes without.
    away: Vec<AwayCopy>,
}

impl Pass {
    pub(super) fn new(
        cluster: Cluster,
        config: BackupConfig,
        copies: Copies,
        (keyring, signer): (Option<Keyring>, Option<Arc<Signer>>),
        head: &Head,
        (commit_every, meter): (Duration, Meter),
    ) -> Self {
        let cluster_id = cluster.cluster_id();
        let (chain, unit) = (head.chain, AtomicU32::new(head.units + 1));
        let (free_at, given_up) = (Mutex::new(None), watch::Sender::new(false));
        let shared = Shared { cluster, config, copies, keyring, chain, meter, unit, free_at, given_up };
        let report = PassReport { chain, unit: head.units, ..PassReport::default() };
        let (begun_at_ms, waiting) = (now_ms(), BTreeMap::new());
        Self {
            shared: Arc::new(shared),
            signer,
            cluster_id,
            begun_at_ms,
            commit_every,
            waiting,
            report,
            away: Vec::new(),
        }
    }

    /// Without these copies: topics that are synchronous wait for them.
    pub(super) fn without(self, away: Vec<AwayCopy>) -> Self {
        Self { away, ..self }
    }

    /// Reads everything that is new, and leaves `head` behind it.
    pub(super) async fn run(mut self, head: &mut Head) -> Result<PassReport, BackupError> {
        // Groups before logs: what a group has committed is in the logs that are read behind it.
        let config = &self.shared.config;
        let captured = capture(&self.shared.cluster, &config.topics, &config.groups).await?;
        let (stretches, problems) = self.survey(head).await?;
        self.report.partitions = stretches.len() + problems.len();
        problems.into_iter().for_each(|part| self.add(part));
        let due = stretches.iter().map(|s| (s.end - s.from.max(s.log_start)).max(0).unsigned_abs()).sum();
        self.shared.meter.due(due);
        let (done, mut parts) = mpsc::channel(64);
        let mut tasks = self.start(stretches, &done);
        drop(done);
        let gathered = self.gather(head, &mut parts, &mut tasks).await;
        if let Err(error) = gathered {
            self.give_up(head, &mut parts, &mut tasks, &error).await;
            return Err(error);
        }
        self.commit(head, Some(captured)).await?;
        Ok(self.report)
    }

    /// Takes in what the tasks read, until all have ended or one fails.
    async fn gather(
        &mut self,
        head: &mut Head,
        parts: &mut mpsc::Receiver<PartitionPart>,
        tasks: &mut JoinSet<Result<(), BackupError>>,
    ) -> Result<(), BackupError> {
        let mut committed = Instant::now();
        loop {
            tokio::select! {
                part = parts.recv() => match part {
                    Some(part) => self.add(part),
                    None if tasks.is_empty() => return Ok(()),
                    None => self.ended(tasks.join_next().await)?,
                },
                task = tasks.join_next(), if !tasks.is_empty() => self.ended(task)?,
            }
            if committed.elapsed() >= self.commit_every && !self.waiting.is_empty() {
                self.commit(head, None).await?;
                committed = Instant::now();
            }
        }
    }

    fn ended(&self, task: Option<Result<Result<(), BackupError>, JoinError>>) -> Result<(), BackupError> {
        let Some(task) = task else { return Ok(()) };
        task.map_err(|error| self.unexpected(&error.to_string()))?
    }

    /// Ends all tasks, which give up what they have begun to write, and keeps what is whole if it still can be named.
    async fn give_up(
        &mut self,
        head: &mut Head,
        parts: &mut mpsc::Receiver<PartitionPart>,
        tasks: &mut JoinSet<Result<(), BackupError>>,
        why: &BackupError,
    ) {
        tracing::error!(backup = %self.shared.config.name, error = %why, "the pass is given up");
        self.shared.give_up();
        while let Some(part) = parts.recv().await {
            self.add(part);
        }
        while tasks.join_next().await.is_some() {}
        let is_hopeless = why.is_unreachable_or_unauthorised() || matches!(why, BackupError::AnotherWriter { .. });
        if is_hopeless || self.waiting.is_empty() {
            return;
        }
        if let Err(error) = self.commit(head, None).await {
            tracing::error!(backup = %self.shared.config.name, %error, "what was read since the last manifest is read again");
        }
    }

    /// Offsets that a pass would read; `None` where some partition cannot tell.
    pub(super) async fn lag_records(&self, head: &Head) -> Result<Option<i64>, BackupError> {
        let (stretches, problems) = self.survey(head).await?;
        Ok(problems.is_empty().then(|| stretches.iter().map(|s| (s.end - s.from.max(s.log_start)).max(0)).sum()))
    }

    /// What [`Self::run`] would read.
    pub(super) async fn outlook(&self, head: &Head) -> Result<Outlook, BackupError> {
        let (stretches, problems) = self.survey(head).await?;
        let stretches = stretches.into_iter().map(|s| OutlookRow {
            topic: s.tp.topic,
            partition: s.tp.partition,
            from: s.from.max(s.log_start),
            to: s.end,
            problem: None,
        });
        let problems = problems.into_iter().map(|part| OutlookRow {
            topic: part.topic,
            partition: part.partition,
            from: part.from,
            to: part.to,
            problem: part.problem,
        });
        let partitions = stretches.chain(problems).collect();
        Ok(Outlook { schema_version: 1, chain: head.chain, unit: head.units + 1, partitions })
    }

    fn unexpected(&self, detail: &str) -> BackupError {
        BackupError::Unexpected { backup: self.shared.config.name.clone(), detail: detail.to_owned() }
    }

    /// Every partition is read by a task of its own, so many at a time.
    fn start(&self, stretches: Vec<Stretch>, done: &mpsc::Sender<PartitionPart>) -> JoinSet<Result<(), BackupError>> {
        let permits = Arc::new(Semaphore::new(self.shared.config.parallel));
        let mut tasks = JoinSet::new();
        for stretch in stretches {
            let (shared, permits, done) = (Arc::clone(&self.shared), Arc::clone(&permits), done.clone());
            tasks.spawn(async move {
                let _permit = permits.acquire_owned().await;
                read(&shared, stretch, &done).await
            });
        }
        tasks
    }

    /// What there is to read, and what cannot be.
    async fn survey(&self, head: &Head) -> Result<(Vec<Stretch>, Vec<PartitionPart>), BackupError> {
        let cluster = &self.shared.cluster;
        let metadata = cluster.refresh(Topics::All).await?;
        let is_wanted = |name: &str| self.shared.config.topics.matches(name) && !crate::config::never_mirrored(name);
        let (mut tps, mut problems) = (Vec::new(), Vec::new());
        for (name, topic) in metadata.topics.iter().filter(|(name, _)| is_wanted(name)) {
            if topic.error != 0 {
                let tp = TopicPartition { topic: name.clone(), topic_id: topic.id, partition: 0 };
                let problem = cluster.api_error("Metadata", topic.error, name).to_string();
                problems.push(PartitionPart::unread(&tp, 0, problem));
            }
            let of = |partition| TopicPartition { topic: name.clone(), topic_id: topic.id, partition };
            tps.extend((0..).take(topic.partitions.len()).map(of));
        }
        let mut starts = cluster.offsets_each(&tps, LogPoint::Start).await;
        let committed = self.shared.config.isolation == Isolation::ReadCommitted;
        let mut ends = cluster.offsets_each(&tps, LogPoint::End { committed }).await;
        let mut stretches = Vec::new();
        for tp in tps {
            let id = LogId::of(&tp);
            let known = head.positions.get(&id);
            if let Some(away) = self.away.first().filter(|_| self.shared.config.synchronous.matches(&tp.topic)) {
                let problem = format!("the topic is synchronous, and a copy is away: {}", away.detail);
                problems.push(PartitionPart::unread(&tp, known.map_or(0, |position| position.to), problem));
                continue;
            }
            let bounds = match (starts.remove(&tp), ends.remove(&tp)) {
                (Some(Ok(start)), Some(Ok(end))) => Ok((start, end)),
                (Some(Err(error)), _) | (_, Some(Err(error))) => Err(error.to_string()),
                _ => Err(format!("cluster {}: ListOffsets passed {tp} over", cluster.name())),
            };
            match bounds {
                Ok((log_start, end)) => {
                    let from = known.map_or(log_start, |position| position.to);
                    let epoch = known.map_or(-1, |position| position.epoch);
                    let open = known.map(|position| position.open.clone()).unwrap_or_default();
                    if end < from {
                        problems.push(PartitionPart::unread(&tp, from, shorter(cluster, &tp, from, end)));
                    } else if end > from || log_start > from {
                        stretches.push(Stretch { tp, from, epoch, open, log_start, end });
                    }
                }
                Err(problem) => {
                    let at = known.map_or(0, |position| position.to);
                    problems.push(PartitionPart::unread(&tp, at, problem));
                }
            }
        }
        Ok((stretches, problems))
    }

    fn add(&mut self, part: PartitionPart) {
        let report = &mut self.report;
        report.segments += part.segments.len() as u64;
        report.records += part.segments.iter().map(|segment| segment.records).sum::<u64>();
        report.raw_bytes += part.segments.iter().map(|segment| segment.raw_bytes).sum::<u64>();
        report.stored_bytes += part.segments.iter().map(|segment| segment.bytes).sum::<u64>();
        report.lost_offsets += part.gaps.iter().map(|gap| gap.to - gap.from).sum::<i64>();
        for gap in &part.gaps {
            tracing::warn!(backup = %self.shared.config.name, topic = %part.topic, partition = part.partition,
                from = gap.from, to = gap.to, reason = %gap.reason, "gone before it was read");
        }
        if let Some(reason) = &part.problem {
            tracing::error!(backup = %self.shared.config.name, topic = %part.topic, partition = part.partition, reason,
                "not read to its end");
            let (topic, partition, reason) = (part.topic.clone(), part.partition, reason.clone());
            report.problems.push(Problem { topic, partition, reason });
        }
        let key = (part.topic.clone(), part.topic_id, part.partition);
        match self.waiting.get_mut(&key) {
            Some(before) => before.append(part),
            None => drop(self.waiting.insert(key, part)),
        }
    }

    /// Writes the manifest of what has come in; the last one of a pass comes with what was captured.
    async fn commit(&mut self, head: &mut Head, captured: Option<Captured>) -> Result<(), BackupError> {
        let unit = head.units + 1;
        let manifest = Manifest {
            backup: self.shared.config.name.clone(),
            cluster_id: self.cluster_id.clone(),
            chain: head.chain,
            unit,
            previous: head.last_sha256.clone(),
            isolation: self.shared.config.isolation,
            is_complete: captured.is_some() && self.report.problems.is_empty(),
            begun_at_ms: self.begun_at_ms,
            ended_at_ms: now_ms(),
            partitions: std::mem::take(&mut self.waiting).into_values().collect(),
            captured,
        };
        // What nobody could read is not written.
        manifest.check().map_err(|error| self.unexpected(&error.to_string()))?;
        let sign = |body: &[u8]| self.signer.as_ref().map(|signer| Signature::by(signer, body));
        let file = manifest.to_file(sign);
        let object = names::manifest(head.chain, unit);
        let sha256 = sha256_hex(&file);
        match self.shared.copies.put_new(&object, file.into()).await? {
            Put::Created => {}
            Put::AlreadyThere => {
                let backup = self.shared.config.name.clone();
                return Err(BackupError::AnotherWriter { backup, object });
            }
        }
        self.count(&manifest);
        head.advance(&manifest, sha256);
        self.report.unit = unit;
        self.shared.unit.store(unit + 1, Ordering::Relaxed);
        Ok(())
    }

    /// What stands in no manifest is read again, and counted then.
    fn count(&self, manifest: &Manifest) {
        let segments = || manifest.partitions.iter().flat_map(|part| &part.segments);
        let backup = || self.shared.config.name.clone();
        metrics::counter!("kmirror_backup_records_total", "backup" => backup())
            .increment(segments().map(|segment| segment.records).sum());
        metrics::counter!("kmirror_backup_bytes_total", "backup" => backup())
            .increment(segments().map(|segment| segment.bytes).sum());
    }
}
