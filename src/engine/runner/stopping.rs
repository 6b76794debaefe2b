//! A clean stop: what is in flight is answered, the rest is dropped (it is fetched again), and every partition whose
//! end is known is released, so that the next start needs no marker on it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::mirror::{ReleaseEntry, Scan};

use super::super::EngineError;
use super::super::events::PartId;
use super::super::part::{Part, Stage};
use super::super::shard_worker::Job;
use super::Runner;

/// How long a stop waits for the shards' state; what is not released in time is settled by the next start.
pub(in crate::engine) const RELEASE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a stop waits for answers that are under way.
pub(in crate::engine) const DRAIN_DEADLINE_MS: u64 = 15_000;

impl Runner {
    pub(super) fn stop_is_overdue(&self) -> bool {
        self.now_ms() > self.stop_deadline_ms
    }

    pub(super) fn is_drained(&mut self) -> bool {
        let quiet = self.parts.all_mut().all(|p| p.answering().is_none_or(|f| f.appender.in_flight() == 0));
        quiet && self.shards.iter().all(|s| !s.attaching && !s.writing)
    }

    /// Notes how far the source was read behind the last record mirrored. Without it, retention of the markers and aborted
    /// data there could not be told from a loss.
    pub(super) fn note_scans(&mut self) {
        self.note_scans_of(self.parts.ids());
    }

    pub(super) fn note_scans_of(&mut self, ids: Vec<PartId>) {
        let mut entries: BTreeMap<u32, Vec<(u32, Scan)>> = BTreeMap::new();
        for id in ids {
            let Some(part) = self.parts.get_mut(id) else { continue };
            let shard = part.shard;
            let Some(flow) = part.flow() else { continue };
            let Some(scan) = flow.unnoted_scan() else { continue };
            flow.scanned = scan.source;
            entries.entry(shard).or_default().push((flow.index, scan));
        }
        for (shard, entries) in entries {
            self.give(shard as usize, Job::Scanned { entries });
        }
    }

    /// Writes the release of every partition that flows.
    pub(super) async fn release(mut self) -> Result<(), EngineError> {
        self.note_scans();
        self.note_seen(self.now_ms());
        // Whoever waits for a shard waits for its release, also where it names nobody.
        let owned = (0..).zip(&self.shards).filter(|(_, shard)| self.fleet.is_shared_out() && shard.taken);
        let mut ends: BTreeMap<u32, Vec<ReleaseEntry>> = owned.map(|(number, _)| (number, Vec::new())).collect();
        for part in self.parts.all() {
            if let Some(entry) = release_of(part) {
                ends.entry(part.shard).or_default().push(entry);
            }
        }
        let mut answers = tokio::task::JoinSet::new();
        for (number, entries) in ends {
            let (done, answer) = oneshot::channel();
            self.give(number as usize, Job::Release { entries, done });
            answers.spawn(answer);
        }
        let all = async {
            while let Some(answer) = answers.join_next().await {
                if let Ok(Ok(Err(error))) = answer {
                    tracing::warn!(%error, "a shard was not released; the next start settles its partitions");
                }
            }
        };
        if tokio::time::timeout(RELEASE_DEADLINE, all).await.is_err() {
            tracing::warn!("not every shard was released in time; the next start settles their partitions");
        }
        tracing::info!(mirror = %self.shared.config.name, "stopped");
        Ok(())
    }
}

/// One with an outcome that is not known has no known end: the next owner settles it.
pub(super) fn release_of(part: &Part) -> Option<ReleaseEntry> {
    let Stage::Flowing(flow) = &part.stage else { return None };
    flow.appender.is_clean().then(|| ReleaseEntry {
        index: flow.index,
        end: flow.appender.settled(),
        last_crc: flow.appender.last_crc().unwrap_or(0),
    })
}
