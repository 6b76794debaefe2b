//! One partition: reads both logs as the comparison asks for them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::batch::RawBatch;
use crate::client::{
    ClientError, Cluster, LogPoint, ReadError, ReadOptions, TopicPartition, nothing_below_end, read_log,
};
use crate::engine::EngineError;
use crate::engine::shard::now_ms;
use crate::mirror::verify::{NotComparable, Tally, Terms, Verifier, begins, stretches};
use crate::mirror::{PartitionState, Retention};

use super::super::MirrorState;
use super::super::records::DECODE_LIMIT_BYTES;
use super::VerifyOptions;
use super::report::{Found, Stretch, VerifiedPartition};

/// Read at a time, of each side.
const READ_BYTES: i32 = 4 << 20;
const SAMPLE_READ_BYTES: i32 = 1 << 20;
/// How often a partition is compared anew because its offset map was corrected meanwhile.
const TRIES: usize = 3;
/// How often, and after what pause, a leader is asked again that has nothing to show below an end that is known.
const READS: usize = 20;
const READ_PAUSE: Duration = Duration::from_millis(250);

/// Clocks may differ by this much, ms.
const CLOCKS_MS: i64 = 10 * 60 * 1000;

/// How far a target log was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settled {
    /// End of what is mirrored.
    pub(super) end: i64,
    /// End of the log at that time.
    pub(super) log_end: i64,
}

/// A partition with what is known of it.
pub(super) struct Question {
    pub(super) mirror: String,
    pub(super) state: PartitionState,
    /// The source side; `None` where it is gone, or was made again.
    pub(super) source: Option<TopicPartition>,
    /// The target side, under the same terms.
    pub(super) target: Option<TopicPartition>,
    /// The settled end.
    pub(super) end: Option<Result<Settled, EngineError>>,
    /// Of the target topic, where it may be read.
    pub(super) cleanup_policy: Option<String>,
    /// The same.
    pub(super) retention: Option<Retention>,
    pub(super) committed: bool,
    /// Target ranges that are known to be there alone.
    pub(super) divergent: Vec<(i64, i64)>,
}

impl Question {
    /// Source offsets that there are to compare.
    pub(super) fn offsets(&self, end: i64) -> u64 {
        self.state.map.position(end).saturating_sub(begins(&self.state.map)).max(0).unsigned_abs()
    }

    pub(super) async fn answer(
        mut self,
        source: &Cluster,
        target: &Cluster,
        options: &VerifyOptions,
    ) -> VerifiedPartition {
        let mut row = self.row();
        let compared = match (self.target.clone(), self.end.take()) {
            (Some(tp), Some(Ok(end))) => self.compare(&mut row, (source, target), (tp, end), options).await,
            (Some(_), Some(Err(error))) => Err(error),
            _ => {
                row.detail = Some(format!(
                    "target topic {} is not the one any more that was mirrored to: it was deleted, or made again",
                    row.target_topic
                ));
                return row;
            }
        };
        match compared {
            Ok(tally) => {
                row.result = match &tally {
                    tally if tally.has_problems() => Found::Problems,
                    tally if tally.equal > 0 => Found::Equal,
                    _ => Found::NothingToCompare,
                };
                row.tally = tally;
            }
            Err(error) => {
                // Without a leader, too, nothing is known of it; which is another thing than a problem that was found.
                let unreachable = |error: &ClientError| error.is_unreachable_or_unauthorised() || error.is_retriable();
                row.unreachable = error.client().is_some_and(unreachable);
                row.detail = Some(error.to_string());
            }
        }
        row
    }

    fn row(&self) -> VerifiedPartition {
        let declared = &self.state.declared;
        VerifiedPartition {
            topic: declared.source_topic.clone(),
            target_topic: declared.target_topic.clone(),
            partition: declared.partition,
            result: Found::Failed,
            from: begins(&self.state.map),
            to: begins(&self.state.map),
            before_map: 0,
            stretches: Vec::new(),
            tally: Tally::default(),
            detail: None,
            unreachable: false,
        }
    }

    /// Where the offset map was corrected while it was read by, what was found by the old one says nothing.
    async fn compare(
        &mut self,
        row: &mut VerifiedPartition,
        clusters: (&Cluster, &Cluster),
        (tp, end): (TopicPartition, Settled),
        options: &VerifyOptions,
    ) -> Result<Tally, EngineError> {
        let mut tries = 1;
        loop {
            let tally = self.compare_once(row, clusters, (&tp, end), options).await?;
            if !tally.has_problems() || tries == TRIES {
                return Ok(tally);
            }
            let state = MirrorState::read(&self.mirror, clusters.1).await?.unwrap_or_default();
            let declared = &self.state.declared;
            let now = state.partitions().find(|other| other.declared == *declared);
            match now.filter(|now| !now.map.runs(end.end).eq(self.state.map.runs(end.end))) {
                Some(now) => self.state = now.clone(),
                None => return Ok(tally),
            }
            tries += 1;
        }
    }

    async fn compare_once(
        &self,
        row: &mut VerifiedPartition,
        (source, target): (&Cluster, &Cluster),
        (tp, Settled { end, log_end }): (&TopicPartition, Settled),
        options: &VerifyOptions,
    ) -> Result<Tally, EngineError> {
        let map = &self.state.map;
        let target_start = target.log_start(tp).await?;
        let (from, to) = (begins(map), map.position(end).max(begins(map)));
        (row.from, row.to) = (from, to);
        row.before_map = map.segments().first().map_or(0, |first| (first.target.min(end) - target_start).max(0));
        let mut tally = Tally::default();
        let Some(source_tp) = &self.source else {
            tally.not_comparable(NotComparable::SourceGone, (from, to));
            row.detail = Some(format!("source topic {} is gone, or was made again", row.topic));
            return Ok(tally);
        };
        let bounds = bounds(source, source_tp).await?;
        // The source may have lost its end.
        row.to = to.min(bounds.1.max(from));
        let target_from = map.to_source(target_start, end).offset;
        let kept_from = if options.trust_retention && target_from > bounds.0 {
            self.kept_from(source, source_tp).await?
        } else {
            i64::MAX
        };
        let both = target_from.min(kept_from).max(bounds.0).clamp(from, to);
        let terms = Terms {
            source: bounds,
            target: (target_start, end),
            alone_to: log_end,
            kept_from,
            target_is_compacted: self.cleanup_policy.as_deref().is_some_and(|policy| policy.contains("compact")),
            target_log_end: target.log_end(tp).await?,
            follow_up: options.sample.is_none(),
            committed: self.committed,
            gaps_from: if options.sample.is_some() { both } else { from },
            bytes: options.bytes,
            decode_limit_bytes: DECODE_LIMIT_BYTES,
        };
        let parts = match options.sample {
            None => vec![(from, to)],
            Some(count) => {
                let mut parts = stretches(map, end, (both, to), (count, self.seed(options.seed)));
                parts.splice(0..0, (from < both).then_some((from, both)));
                options.progress.total.fetch_add(parts.iter().map(|(a, b)| b.abs_diff(*a)).sum(), Ordering::Relaxed);
                parts
            }
        };
        row.stretches = parts.iter().map(|(from, to)| Stretch { from: *from, to: *to }).collect();
        let read_bytes = if options.sample.is_some() { SAMPLE_READ_BYTES } else { READ_BYTES };
        let mut ends = [
            End { cluster: source, tp: source_tp, committed: self.committed, read_bytes, is_source: true },
            End { cluster: target, tp, committed: self.committed, read_bytes, is_source: false },
        ];
        for part in parts {
            tally.add(walk(Verifier::new(map, part, terms).knowing(self.divergent.clone()), &mut ends, options).await?);
        }
        self.note(row, &tally);
        Ok(tally)
    }

    /// Source offset from which on the target's retention cannot have taken anything by now. It goes by the time of records: none
    /// goes before the first one that is young enough to stay, nor anything behind that.
    async fn kept_from(&self, source: &Cluster, tp: &TopicPartition) -> Result<i64, EngineError> {
        let ms = match self.retention {
            // By size, or nobody knows: it may have taken anything.
            None | Some(Retention { bytes: Some(_), .. }) => return Ok(i64::MAX),
            Some(Retention { ms: None, .. }) => return Ok(0),
            Some(Retention { ms: Some(ms), .. }) => ms,
        };
        let young_ms = (now_ms() + CLOCKS_MS).saturating_sub(ms);
        let found = source.offsets_at(std::slice::from_ref(tp), young_ms, false).await?;
        Ok(found.get(tp).copied().unwrap_or(i64::MAX))
    }

    /// Other stretches for each partition, the same ones for the same seed.
    fn seed(&self, seed: u64) -> u64 {
        let declared = &self.state.declared;
        // FNV-1a.
        let name = declared.source_topic.bytes().chain(declared.partition.to_be_bytes());
        name.fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    fn note(&self, row: &mut VerifiedPartition, tally: &Tally) {
        if tally.missing > 0 && self.cleanup_policy.is_none() {
            row.detail = Some(format!(
                "cleanup.policy of {} cannot be read (DESCRIBE_CONFIGS): records that its cleaner removed count as missing",
                row.target_topic
            ));
        }
    }
}

/// First offset, and high watermark.
async fn bounds(cluster: &Cluster, tp: &TopicPartition) -> Result<(i64, i64), EngineError> {
    let start = cluster.log_start(tp).await?;
    let ends = cluster.offsets_each(std::slice::from_ref(tp), LogPoint::End { committed: false }).await;
    match ends.into_values().next() {
        Some(end) => Ok((start, end?.max(start))),
        None => Err(cluster.api_error("ListOffsets", -1, &tp.to_string()).into()),
    }
}

/// One side as it is read.
struct End<'a> {
    cluster: &'a Cluster,
    tp: &'a TopicPartition,
    committed: bool,
    read_bytes: i32,
    is_source: bool,
}

enum Read {
    Batches(Vec<RawBatch>, Vec<(i64, i64)>),
    StartsAt(i64),
}

async fn walk(mut verifier: Verifier, ends: &mut [End<'_>; 2], options: &VerifyOptions) -> Result<Tally, EngineError> {
    let [source, target] = ends;
    let mut passed = 0;
    loop {
        let wanted = verifier.step();
        options.progress.done.fetch_add(verifier.passed() - passed, Ordering::Relaxed);
        passed = verifier.passed();
        let Some(wanted) = wanted else { return Ok(verifier.finish()) };
        let (ours, theirs) = tokio::join!(source.read(wanted.source), target.read(wanted.target));
        match ours? {
            Some(Read::Batches(batches, aborted)) => verifier.take_source(batches, &aborted),
            Some(Read::StartsAt(at)) => verifier.source_starts(at),
            None => {}
        }
        match theirs? {
            Some(Read::Batches(batches, aborted)) => verifier.take_target(batches, &aborted),
            Some(Read::StartsAt(at)) => verifier.target_starts(at),
            None => {}
        }
    }
}

impl End<'_> {
    async fn read(&mut self, at: Option<i64>) -> Result<Option<Read>, EngineError> {
        let Some(at) = at else { return Ok(None) };
        for _ in 0..READS {
            let (max_bytes, committed) = (self.read_bytes, self.committed);
            let options = ReadOptions { max_bytes, max_wait_ms: 0, committed, ..ReadOptions::default() };
            match read_log(self.cluster, self.tp, at, options).await {
                Ok(slice) if slice.batches.iter().any(|batch| batch.header.next_offset() > at) => {
                    return Ok(Some(Read::Batches(slice.batches, slice.aborted)));
                }
                // Somebody else's open transaction holds back what readers see of the target; what is there can be compared.
                Ok(slice) if !self.is_source && committed && slice.last_stable_offset <= at => self.committed = false,
                Ok(_) => tokio::time::sleep(READ_PAUSE).await,
                Err(ReadError::OutOfRange { .. }) => {
                    let start = self.cluster.log_start(self.tp).await?;
                    if start > at {
                        return Ok(Some(Read::StartsAt(start)));
                    }
                    tokio::time::sleep(READ_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(nothing_below_end(self.cluster, self.tp).into())
    }
}
