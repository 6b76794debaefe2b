//! Other settings while the mirror runs: what flows and is selected still goes on as if nothing had happened.
//!
//! A partition whose topic is not selected any more is drained and released, as a clean stop does it, alone; its state stays. When
//! its topic is selected again it goes on from there, unmarked.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::mirror::ReleaseEntry;

use super::super::events::{Event, PartId};
use super::super::part::{Flow, Leave, Parked, Stage};
use super::super::shard_worker::Job;
use super::super::{EngineError, Settings};
use super::Runner;

impl Runner {
    /// Takes up what has been given to the mirror to go by.
    pub(super) fn heed_settings(&mut self) {
        let Settings { all, mirror } = self.settings.borrow_and_update().clone();
        (self.shared.all, self.shared.config) = (all, mirror);
        for shard in 0..self.shards.len() {
            self.give(shard, Job::Settings { config: Arc::clone(&self.shared.config) });
        }
        self.heed_clusters();
        self.heed_bandwidth();
        let coalesced_bytes = self.shared.config.limits.coalesced_batch_bytes;
        for part in self.parts.all_mut() {
            if let Some(flow) = part.answering() {
                flow.appender.coalesce_up_to(coalesced_bytes);
            }
        }
        self.heed_topics();
        tracing::debug!(mirror = %self.shared.config.name, "another configuration is in force");
    }

    /// New connections are made as the file says now; those that there are come to their end in time.
    fn heed_clusters(&mut self) {
        let config = &self.shared.config;
        for (name, cluster) in [(&config.source, &self.shared.source), (&config.target, &self.shared.target)] {
            if let Some(found) = self.shared.all.clusters.get(name) {
                cluster.follow(found, found.client_id_for(&config.name));
            }
        }
    }

    fn heed_topics(&mut self) {
        let mut counts: BTreeMap<bool, usize> = BTreeMap::new();
        let topics = &self.shared.config.topics;
        self.topics.retain(|topic, _| topics.matches(topic));
        for id in self.parts.ids() {
            let Some(part) = self.parts.get_mut(id) else { continue };
            let selected = self.shared.config.topics.matches(&part.pair.source.topic);
            if std::mem::replace(&mut part.selected, selected) == selected {
                continue;
            }
            *counts.entry(selected).or_default() += 1;
            if !selected {
                self.unselect(id);
            }
        }
        for (selected, partitions) in counts {
            let what = if selected { "partitions are selected again" } else { "partitions are not selected any more" };
            tracing::info!(mirror = %self.shared.config.name, partitions, "{what}");
        }
        // What is selected now is looked for at once; a discovery that is under way looks for what was selected before.
        self.next_discovery_ms = 0;
    }

    /// What waits to be attached does not any more. What is under way comes back first, and leaves then ([`Self::leave_unselected`]);
    /// what is halted stays so.
    fn unselect(&mut self, id: PartId) {
        let Some(part) = self.parts.get_mut(id) else { return };
        if let Some(shard) = self.shards.get_mut(part.shard as usize) {
            let before = shard.waiting.len();
            shard.waiting.retain(|waiting| *waiting != id);
            if shard.waiting.len() < before {
                part.parked = Parked::Away;
            }
        }
        self.leave_unselected(id);
    }

    /// A flow whose topic is not selected takes in nothing more.
    pub(super) fn leave_unselected(&mut self, id: PartId) {
        let Some(part) = self.parts.get_mut(id).filter(|part| !part.selected) else { return };
        part.stage = match std::mem::replace(&mut part.stage, Stage::Starting) {
            Stage::Flowing(flow) => Stage::Leaving { flow, why: Leave::Unselected },
            other => other,
        };
        self.drop_breaks(id);
        self.touched.insert(id);
    }

    /// Nothing of the flow is under way any more: its end is put on record.
    pub(super) fn park(&mut self, id: PartId, flow: &Flow) {
        let Some(part) = self.parts.get_mut(id) else { return };
        if !flow.appender.is_clean() {
            // Its end is not known: it is settled first, and leaves when it flows again.
            return self.wait_for_retake(id);
        }
        let (shard, scan) = (part.shard as usize, flow.unnoted_scan());
        part.parked = Parked::Releasing;
        let entry = ReleaseEntry {
            index: flow.index,
            end: flow.appender.settled(),
            last_crc: flow.appender.last_crc().unwrap_or(0),
        };
        if let Some(scan) = scan {
            self.give(shard, Job::Scanned { entries: vec![(flow.index, scan)] });
        }
        let (done, answer) = oneshot::channel();
        self.give(shard, Job::Release { entries: vec![entry], done });
        self.spawn(async move {
            // Without an answer the shard's worker has ended, and has said why.
            let outcome = answer.await.ok()?;
            Some(Event::Released { part: id, outcome })
        });
    }

    pub(super) fn on_released(&mut self, id: PartId, outcome: Result<(), EngineError>) -> Result<(), EngineError> {
        let Some(part) = self.parts.get_mut(id) else { return Ok(()) };
        let (topic, partition) = part.key();
        if outcome.is_err() {
            // As with every other record of the state: whether it is in the log is not known.
            let shard = part.shard;
            return self.bear_loss(shard, outcome);
        }
        part.parked = Parked::Away;
        tracing::info!(mirror = %self.shared.config.name, topic, partition, "not mirrored any more; its state stays");
        self.next_discovery_ms = 0;
        Ok(())
    }

    /// The topic was found, and is selected: a partition that was away goes on.
    pub(super) fn come_back(&mut self, id: PartId) {
        let Some(part) = self.parts.get_mut(id) else { return };
        if !part.selected || !matches!(part.stage, Stage::Starting) {
            return;
        }
        if part.parked == Parked::Away {
            self.wait_for_attachment(id);
        }
    }
}
