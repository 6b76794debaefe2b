//! Under a bandwidth limit: which limit is in force, who is next, and what of the source waits for its turn.

use std::collections::BTreeSet;

use crate::client::Fetched;

use super::super::events::PartId;
use super::super::lane::LaneKey;
use super::{Lane, Runner};

impl Runner {
    /// Takes up the limit in force: that of the file, or what a command has said since.
    pub(super) fn heed_bandwidth(&mut self) {
        let now_ms = self.now_ms();
        let said = self.control.state.bandwidth();
        let limit = said.limit_bytes_per_s(self.shared.config.limits.bandwidth_bytes_per_s);
        if !self.throttle.set(limit, now_ms) {
            return;
        }
        let (mirror, from) = (&self.shared.config.name, said.origin());
        match limit {
            Some(bandwidth_bytes_per_s) => tracing::info!(mirror, bandwidth_bytes_per_s, from, "bandwidth is limited"),
            None => tracing::info!(mirror, from, "bandwidth is not limited any more"),
        }
    }

    /// Fetchers that may have a plan, who waited longest first: else one broker's would take what there is each time.
    pub(super) fn fetchers_in_turn(&self, now_ms: u64) -> Vec<i32> {
        let idle = self.fetchers.iter().filter(|(_, fetcher)| !fetcher.busy && now_ms >= fetcher.not_before_ms);
        let mut order: Vec<(u64, i32)> = idle.map(|(broker, fetcher)| (fetcher.planned_in, *broker)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, broker)| broker).collect()
    }

    /// Lanes that have something to send, who waited longest first.
    pub(super) fn lanes_in_turn(&self) -> Vec<LaneKey> {
        let ready = self.lanes.iter().filter(|(_, lane)| Lane::has_room(lane));
        let mut order: Vec<(u64, LaneKey)> = ready.map(|(key, lane)| (lane.sent_in, *key)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, key)| key).collect()
    }

    /// Whether something that can be asked for is known to wait on this broker; only told under a limit.
    pub(super) fn is_behind(&self, broker: i32, now_ms: u64) -> bool {
        let Some(fetcher) = self.fetchers.get(&broker).filter(|_| self.throttle.is_limited()) else { return false };
        let mut parts = fetcher.behind.iter().filter_map(|id| self.parts.get(*id));
        parts.any(|part| part.is_behind_at(broker) && part.is_wanted(now_ms))
    }

    /// Parts that wait on this broker and must not be asked for with the next plan: it is others' turn.
    pub(super) fn hold_back(&mut self, broker: i32, now_ms: u64) -> BTreeSet<PartId> {
        let Some(fetcher) = self.fetchers.get_mut(&broker).filter(|_| self.throttle.is_limited()) else {
            return BTreeSet::new();
        };
        fetcher.behind.retain(|id| self.parts.get(*id).is_some_and(|part| part.is_behind_at(broker)));
        let parts = fetcher.behind.iter().filter_map(|id| Some((*id, self.parts.get(*id)?)));
        let waiting: Vec<(PartId, &str)> = parts
            .filter(|(_, part)| part.is_wanted(now_ms))
            .map(|(id, part)| (id, part.pair.source.topic.as_str()))
            .collect();
        let chosen = fetcher.turns.choose(&waiting);
        let held = waiting.iter().map(|(id, _)| *id).filter(|id| !chosen.contains(id)).collect();
        fetcher.changed.extend(waiting.iter().map(|(id, _)| *id));
        held
    }

    /// Counts what came, whatever becomes of it.
    pub(super) fn account(&mut self, broker: i32, partitions: &[Fetched], now_ms: u64) {
        let came_bytes = partitions.iter().map(|fetched| fetched.records.len()).sum();
        self.throttle.received(came_bytes, now_ms);
        let Some(fetcher) = self.fetchers.get_mut(&broker).filter(|_| self.throttle.is_limited()) else { return };
        for fetched in partitions {
            if let Some(id) = self.by_source.get(&(fetched.topic.clone(), fetched.partition)) {
                fetcher.turns.got(*id, &fetched.topic, fetched.records.len());
            }
        }
        for id in fetcher.turns.answered(fetcher.asked_bytes, came_bytes) {
            fetcher.behind.remove(&id);
        }
    }

    /// Notes whether more of a part is known to wait on its broker.
    pub(super) fn note_behind(&mut self, broker: i32, id: PartId) {
        let behind = self.parts.get(id).is_some_and(|part| part.is_behind_at(broker));
        if let Some(fetcher) = self.fetchers.get_mut(&broker) {
            if behind {
                fetcher.behind.insert(id);
            } else {
                fetcher.behind.remove(&id);
            }
        }
    }
}
