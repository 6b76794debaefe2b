//! Records of an archive, appended to a topic that is in use, each once: as fast as it goes, at a rate, or at the pace at which they
//! were written.
//!
//! `ops::replaying` appends, and finds out what is there; [`journal`] keeps how far it came, so that only what stands behind that has to be
//! found. What names a replay is what it reads and where to ([`name_of`]): the same command goes on with it, any other is another one.

mod journal;
mod pacer;
mod plan;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::BackupError;
use super::fetch::Segments;
use super::pass::Meter;
use crate::batch::Record;
use crate::client::Cluster;
use crate::engine::now_ms;
use crate::ops::ReplayError;
use crate::ops::replaying::{Appender, BATCH_RECORDS, Due, Into, Replayer, There, size_of};
use journal::{Journal, Progress};
use pacer::Pacer;
use plan::Chosen;
use source::{Cursor, Merge, Reading};

pub use pacer::Speed;
pub use plan::{ReplayPlan, ReplayRow, ReplayWish};

/// How far a replay has come by this record, written again: for the fuzz targets alone.
#[doc(hidden)]
pub fn reread_progress(body: &[u8]) -> Option<(i64, Vec<u8>)> {
    let progress = Progress::parse(&journal::wrapped(body)).ok()?;
    Some((progress.reach(), progress.to_value()))
}

/// How often it is noted how far it came.
const NOTED_EVERY: Duration = Duration::from_secs(5);
/// How long a record that is due waits for others to go with, where it need not go at once.
const LINGER: Duration = Duration::from_millis(20);
/// The longest sleep: a transactional id that nobody uses is forgotten.
const SLEEP_MAX: Duration = Duration::from_secs(600);
/// Bytes that wait to be appended, in all partitions.
const PENDING_BYTES: usize = 4 << 20;

/// A replay that was looked into.
pub struct ArchiveReplay {
    cluster: Cluster,
    segments: Segments,
    wish: ReplayWish,
    into: Into,
    chosen: Vec<Chosen>,
    topic: Arc<str>,
    batch_bytes: usize,
    limit_bytes: usize,
    /// What it would do.
    pub plan: ReplayPlan,
}

/// What a replay did.
#[derive(Debug, serde::Serialize)]
pub struct ArchiveReplayed {
    /// What was asked for.
    pub plan: ReplayPlan,
    /// Records that were appended.
    pub records: u64,
    /// Records that earlier calls had appended.
    pub already: u64,
    /// By partition of the source: behind the last offset that is on the target.
    pub positions: BTreeMap<i32, i64>,
    /// What is not among them, by partition.
    pub shortfalls: Vec<String>,
    /// Whether it was stopped before its end: the same command goes on.
    pub is_stopped: bool,
    /// How long it took.
    pub seconds: f64,
}

impl ArchiveReplay {
    /// Does it, or goes on where an earlier call was cut short; `stop` ends it between two records.
    pub async fn run(self, meter: Meter, stop: watch::Receiver<bool>) -> Result<ArchiveReplayed, BackupError> {
        if !self.plan.obstacles.is_empty() {
            return Err(BackupError::Refused(self.plan.obstacles.join("; ")));
        }
        let began = Instant::now();
        let journal = Journal::open(&self.cluster).await?;
        let replayer = Replayer {
            name: format!("replay.{}.{}", self.plan.backup, self.plan.replay),
            transactional_id: format!("kmirror.replay.{}", self.plan.replay),
            mark: Some(self.plan.replay.clone()),
            lease: journal.tp.clone(),
        };
        let into = self.into.partitions.clone();
        let appender = Appender::take_over(&self.cluster, replayer, into).await.map_err(ReplayError::from)?;
        // Behind the fence: whoever noted something before it wrote nothing since, and whoever does so later cannot write.
        let progress = self.take_up(&journal, &appender).await?;
        let already = progress.records;
        let cursors = self.cursors(&progress, &meter);
        let reading = self.reading();
        let merge = Merge::new(reading, cursors).await?;
        let noted = Instant::now();
        let pending = Pending::new(self.into.partitions.len());
        let mut run = Run { replay: &self, appender, journal, progress, pending, meter, noted, lost: Vec::new() };
        let is_stopped = run.all(merge, stop).await?;
        run.note().await?;
        let Run { progress, lost, .. } = run;
        Ok(ArchiveReplayed {
            records: progress.records - already,
            already,
            positions: progress.positions,
            shortfalls: [self.plan.shortfalls.clone(), lost].concat(),
            is_stopped,
            seconds: began.elapsed().as_secs_f64(),
            plan: self.plan,
        })
    }

    fn reading(&self) -> Reading<'_> {
        Reading {
            segments: &self.segments,
            wanted: &self.wish.wanted,
            skip_damaged: self.wish.skip_damaged,
            share_bytes: self.limit_bytes / self.chosen.len().max(1),
        }
    }

    /// How far it is: as noted, and as found behind that.
    async fn take_up(&self, journal: &Journal, appender: &Appender<'_>) -> Result<Progress, BackupError> {
        let known = journal.read().await?.remove(&self.plan.replay);
        let Some(mut progress) = known else {
            let progress = Progress {
                id: self.plan.replay.clone(),
                backup: self.plan.backup.clone(),
                topic: self.plan.topic.clone(),
                into: self.plan.into.clone(),
                positions: BTreeMap::new(),
                ends: appender.ends(),
                records: 0,
                at_ms: now_ms(),
            };
            journal.write(&progress).await?;
            return Ok(progress);
        };
        let mut there = There::new();
        appender.read_back(&progress.ends, &mut there).await?;
        found(&mut progress, &there);
        Ok(progress)
    }

    fn cursors(&self, progress: &Progress, meter: &Meter) -> Vec<Cursor> {
        let begin = |chosen: &Chosen| {
            let known = progress.positions.get(&chosen.log.id.partition).copied().unwrap_or(chosen.from);
            let at = known.clamp(chosen.from, chosen.to.max(chosen.from));
            meter.due((chosen.to - chosen.from).max(0).unsigned_abs());
            meter.read((at - chosen.from).unsigned_abs());
            Cursor::new(chosen.log.clone(), at, chosen.to)
        };
        self.chosen.iter().map(begin).collect()
    }
}

/// Takes in what stands on the target.
fn found(progress: &mut Progress, there: &There) {
    for ((_, partition), (last, count)) in there {
        let position = progress.positions.entry(*partition).or_insert(0);
        // What an older note leaves out of its count is counted here, and what it has is not found.
        if last + 1 > *position {
            (*position, progress.records) = (last + 1, progress.records + count);
        }
    }
}

/// Records that are due, by partition of the target.
struct Pending {
    /// With their bytes.
    lanes: Vec<(usize, Vec<Due>)>,
    bytes: usize,
    since: Option<Instant>,
}

impl Pending {
    fn new(lanes: usize) -> Self {
        Self { lanes: (0..lanes).map(|_| (0, Vec::new())).collect(), bytes: 0, since: None }
    }

    fn push(&mut self, lane: usize, due: Due, now: Instant) {
        let size = size_of(&due.record);
        self.bytes += size;
        self.since.get_or_insert(now);
        let (bytes, waiting) = &mut self.lanes[lane];
        *bytes += size;
        waiting.push(due);
    }

    /// Whether what waits is to go before this record.
    fn is_full_for(&self, lane: usize, next: &Record, batch_bytes: usize) -> bool {
        let (bytes, waiting) = &self.lanes[lane];
        let is_full = bytes + size_of(next) > batch_bytes || waiting.len() >= BATCH_RECORDS;
        (is_full && !waiting.is_empty()) || self.bytes > PENDING_BYTES
    }

    fn take(&mut self) -> Vec<(usize, Vec<Due>)> {
        (self.bytes, self.since) = (0, None);
        let taken = self.lanes.iter_mut().map(|lane| std::mem::take(lane).1).enumerate();
        taken.filter(|(_, waiting)| !waiting.is_empty()).collect()
    }
}

/// A replay under way.
struct Run<'a> {
    replay: &'a ArchiveReplay,
    appender: Appender<'a>,
    journal: Journal,
    progress: Progress,
    pending: Pending,
    meter: Meter,
    noted: Instant,
    /// In words, what no copy of the archive has whole.
    lost: Vec<String>,
}

impl Run<'_> {
    /// Appends everything; true where it was stopped before.
    async fn all(&mut self, mut merge: Merge<'_>, mut stop: watch::Receiver<bool>) -> Result<bool, BackupError> {
        let mut pacer = Pacer::new(self.replay.wish.speed);
        while let Some(timestamp) = merge.peek() {
            if *stop.borrow() {
                self.flush().await?;
                return Ok(true);
            }
            let now = Instant::now();
            let due = pacer.due(now, timestamp);
            if due > now {
                self.wait(now, due, &mut stop).await?;
                continue;
            }
            let Some((partition, record)) = merge.next().await? else { break };
            pacer.went(now);
            self.take(partition, record, now).await?;
        }
        self.flush().await?;
        // What is behind the last record was looked at, and was not wanted.
        for chosen in &self.replay.chosen {
            let position = self.progress.positions.entry(chosen.log.id.partition).or_insert(chosen.from);
            *position = chosen.to.max(*position);
        }
        let topic = &self.replay.plan.topic;
        let words = |(partition, (from, to)): (i32, (i64, i64))| {
            format!("{topic}:{partition}: offsets [{from}, {to}) are damaged in every copy and left out")
        };
        self.lost = merge.lost().map(words).collect();
        Ok(false)
    }

    async fn take(&mut self, partition: i32, mut record: Record, now: Instant) -> Result<(), BackupError> {
        if self.replay.wish.is_stamped_anew {
            record.timestamp = now_ms();
        }
        let lane = self.replay.into.of(partition);
        if self.pending.is_full_for(lane, &record, self.replay.batch_bytes) {
            self.flush().await?;
        }
        let topic = Arc::clone(&self.replay.topic);
        self.pending.push(lane, Due { topic, partition, record }, now);
        let is_old = self.pending.since.is_some_and(|since| since.elapsed() >= LINGER);
        if is_old && self.replay.wish.speed != Speed::Full { self.flush().await } else { Ok(()) }
    }

    /// Until the next record is due, or what waits has waited long enough.
    async fn wait(&mut self, now: Instant, due: Instant, stop: &mut watch::Receiver<bool>) -> Result<(), BackupError> {
        let until = self.pending.since.map_or(due, |since| due.min(since + LINGER));
        if until <= now {
            return self.flush().await;
        }
        if until - now > NOTED_EVERY {
            self.note().await?;
            self.appender.confirm().await.map_err(ReplayError::from)?;
        }
        tokio::select! {
            () = tokio::time::sleep_until(until.min(now + SLEEP_MAX)) => {}
            // A sender that is gone stops nothing.
            Ok(_) = stop.wait_for(|stop| *stop) => {}
        }
        Ok(())
    }

    /// Appends what waits.
    async fn flush(&mut self) -> Result<(), BackupError> {
        let batches = self.pending.take();
        let mut behind: BTreeMap<i32, i64> = BTreeMap::new();
        let mut records = 0;
        for due in batches.iter().flat_map(|(_, batch)| batch) {
            behind.insert(due.partition, due.record.offset + 1);
            records += 1;
        }
        if records == 0 {
            return Ok(());
        }
        self.appender.append(batches).await?;
        self.progress.records += records;
        for (partition, position) in behind {
            let from = self.replay.chosen.iter().find(|chosen| chosen.log.id.partition == partition);
            let before = self.progress.positions.insert(partition, position);
            let before = before.or(from.map(|chosen| chosen.from)).unwrap_or(position);
            self.meter.read((position - before).max(0).unsigned_abs());
        }
        if self.noted.elapsed() >= NOTED_EVERY { self.note().await } else { Ok(()) }
    }

    /// Notes how far it came. Nothing waits for an answer at that time: all of it stands in front of where the logs end now.
    async fn note(&mut self) -> Result<(), BackupError> {
        self.appender.move_ends().await?;
        self.progress.ends = self.appender.ends();
        self.progress.at_ms = now_ms();
        self.journal.write(&self.progress).await?;
        self.noted = Instant::now();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(positions: &[(i32, i64)], records: u64) -> Progress {
        let (id, text) = ("r".to_owned(), String::new);
        let positions = positions.iter().copied().collect();
        Progress { id, backup: text(), topic: text(), into: text(), positions, ends: Vec::new(), records, at_ms: 0 }
    }

    #[test]
    fn what_stands_on_the_target_is_not_replayed_again() {
        let mut known = progress(&[(0, 10), (2, 7)], 12);
        let there = [(("t".to_owned(), 0), (14, 4)), (("t".to_owned(), 1), (3, 2)), (("t".to_owned(), 2), (5, 1))];
        found(&mut known, &there.into_iter().collect());
        assert_eq!(known, progress(&[(0, 15), (1, 4), (2, 7)], 18));
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_records() {
        let record = |bytes: usize| Record {
            offset: 0,
            timestamp: 0,
            attributes: 0,
            key: None,
            value: Some(vec![0; bytes].into()),
            headers: Vec::new(),
        };
        let due = |record| Due { topic: "t".into(), partition: 0, record };
        let (mut pending, now) = (Pending::new(2), Instant::now());
        // One that fits nowhere goes alone.
        assert!(!pending.is_full_for(0, &record(5_000), 1_000));
        pending.push(0, due(record(100)), now);
        assert!(!pending.is_full_for(0, &record(100), 1_000) && pending.is_full_for(0, &record(900), 1_000));
        assert!(!pending.is_full_for(1, &record(900), 1_000), "the other partition has a batch of its own");
        (1..BATCH_RECORDS).for_each(|_| pending.push(0, due(record(0)), now));
        assert!(pending.is_full_for(0, &record(0), usize::MAX));
        assert_eq!(pending.take().len(), 1);
        assert!(pending.take().is_empty() && !pending.is_full_for(0, &record(0), 1_000));
    }
}
