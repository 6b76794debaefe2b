//! What a promotion needs to know of a source that may be gone by then: how far its logs reached when they were last heard
//! of, and how its topics were configured. It is noted on the target every so often.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::Cluster;
use crate::mirror::{ControlRecord, Seen};

use super::super::control::Control;
use super::super::events::{Event, PartId};
use super::super::part::Stage;
use super::super::shard::now_ms;
use super::super::shard_worker::Job;
use super::{EngineError, Runner};

/// How often ends are noted, ms. With many partitions a thousand of them a second at most.
const SEEN_EVERY_MS: u64 = 5_000;
/// An end that stays as it is: how often it is noted that it does, ms.
const UNCHANGED_EVERY_MS: i64 = 60_000;
/// How often the configs of all topics are looked up, ms.
const CONFIGS_EVERY_MS: u64 = 300_000;
/// And those of topics of which none are on record, ms.
const NEW_CONFIGS_EVERY_MS: u64 = 5_000;

/// When to note what.
#[derive(Debug, Default)]
pub(super) struct Noting {
    next_seen_ms: u64,
    next_configs_ms: u64,
    next_new_configs_ms: u64,
    reading_configs: bool,
}

impl Runner {
    pub(super) fn note_source(&mut self, now_ms: u64) {
        if self.stopping {
            return;
        }
        if now_ms >= self.noting.next_seen_ms {
            self.noting.next_seen_ms = now_ms + SEEN_EVERY_MS.max(self.parts.len() as u64);
            self.note_seen(now_ms);
        }
        self.note_configs(now_ms);
    }

    /// Notes the ends that have changed, and where a broker falls silent, when it was last heard. The first shard that is held is told
    /// in any case: a sign of life.
    pub(super) fn note_seen(&mut self, now_ms: u64) {
        let at_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let held = (0..).zip(&self.shards).find(|(_, shard)| shard.taken && shard.cleared).map(|(number, _)| number);
        let mut by_shard: BTreeMap<u32, Vec<(u32, Seen)>> =
            held.map(|number| (number, Vec::new())).into_iter().collect();
        for id in self.parts.ids() {
            let Some((heard_ms, silent)) = self.heard(id) else { continue };
            let Some(part) = self.parts.get_mut(id) else { continue };
            let (Stage::Flowing(flow) | Stage::Halted { flow: Some(flow), .. }) = &part.stage else { continue };
            let seen = Seen { end: part.source_end, at_ms: heard_ms };
            let is_news = seen.end != part.noted.end
                || seen.at_ms >= part.noted.at_ms + UNCHANGED_EVERY_MS
                || (silent && seen.at_ms > part.noted.at_ms);
            if seen.end >= 0 && is_news {
                part.noted = seen;
                by_shard.entry(part.shard).or_default().push((flow.index, seen));
            }
        }
        for (number, entries) in by_shard {
            if self.shards.get(number as usize).is_some_and(|shard| shard.taken && shard.cleared) {
                self.give(number as usize, Job::Seen { at_ms, entries });
            }
        }
    }

    /// When the partition's leader was last heard of it, and whether it has fallen silent. A session's answer tells of every
    /// partition in it, whether it names it or not.
    pub(super) fn heard(&self, id: PartId) -> Option<(i64, bool)> {
        let part = self.parts.get(id)?;
        let fetcher = part.source_leader.and_then(|broker| self.fetchers.get(&broker));
        let session_ms = fetcher.filter(|f| f.wants.contains_key(&id)).map_or(0, |f| f.heard_ms);
        let heard_ms = i64::try_from(part.heard_ms.max(session_ms)).unwrap_or(i64::MAX);
        Some((heard_ms, fetcher.is_none_or(|f| f.failures > 0)))
    }

    /// A broker's session is given up: what it told last is on each partition's own account from here on.
    pub(super) fn end_session(&mut self, broker: i32) {
        let Some(fetcher) = self.fetchers.get_mut(&broker) else { return };
        for id in std::mem::take(&mut fetcher.wants).into_keys() {
            fetcher.changed.insert(id);
            if let Some(part) = self.parts.get_mut(id) {
                part.heard_ms = part.heard_ms.max(fetcher.heard_ms);
            }
        }
    }

    fn note_configs(&mut self, now_ms: u64) {
        let noting = &mut self.noting;
        if !self.fleet.is_elected()
            || noting.reading_configs
            || now_ms < noting.next_new_configs_ms
            || !self.shared.config.sync.topic_configs
        {
            return;
        }
        let all = now_ms >= noting.next_configs_ms;
        let topics = self.topics.keys().map(String::as_str);
        let topics: BTreeSet<String> = topics
            .filter(|topic| all || self.control.state.source_configs(topic).is_none())
            .map(str::to_owned)
            .collect();
        if topics.is_empty() {
            return;
        }
        self.noting.next_new_configs_ms = now_ms + NEW_CONFIGS_EVERY_MS;
        if all {
            self.noting.next_configs_ms = now_ms + CONFIGS_EVERY_MS;
        }
        self.noting.reading_configs = true;
        let (mirror, source, control) =
            (self.shared.config.name.clone(), self.shared.source.clone(), self.control.clone());
        self.spawn(async move {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            if let Err(error) = write_configs(&source, &control, &topics).await {
                tracing::debug!(mirror, %error, "the source's topic configs are not noted this time");
            }
            Some(Event::ConfigsNoted)
        });
    }

    pub(super) fn on_configs_noted(&mut self) {
        self.noting.reading_configs = false;
    }

    /// Asks the control partition once more about shards that were taken since: a promotion that fenced them before we took them has
    /// announced itself before. Nothing is attached until the answer is there.
    pub(super) fn ask_control(&mut self) {
        let uncleared = (0..).zip(&self.shards).filter(|(_, shard)| shard.taken && !shard.cleared);
        let shards: Vec<(u32, u64)> = uncleared.map(|(number, shard)| (number, shard.tenure)).collect();
        if self.asking_control || shards.is_empty() || self.stopping {
            return;
        }
        self.asking_control = true;
        let mut control = self.control.clone();
        self.spawn(async move {
            let outcome = loop {
                match control.read_to_end().await {
                    Ok(_) => break Ok(control.state.standing_promotion().is_some()),
                    Err(error) if error.is_retriable() => {
                        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                    }
                    Err(error) => break Err(error),
                }
            };
            Some(Event::Cleared { shards, outcome })
        });
    }

    /// Shards were taken, and whether a promotion stands.
    pub(super) fn on_cleared(
        &mut self,
        shards: Vec<(u32, u64)>,
        outcome: Result<bool, EngineError>,
    ) -> Result<(), EngineError> {
        self.asking_control = false;
        if outcome? {
            self.be_promoted();
            return Ok(());
        }
        for (number, tenure) in shards {
            if let Some(shard) = self.shards.get_mut(number as usize).filter(|shard| shard.tenure == tenure) {
                shard.cleared = true;
            }
        }
        Ok(())
    }

    /// The target is to be promoted: this mirror's work is done.
    pub(super) fn be_promoted(&mut self) {
        if std::mem::replace(&mut self.promoted, true) {
            return;
        }
        self.stopping = true;
        self.board.promote();
        tracing::info!(
            mirror = %self.shared.config.name, generation = self.generation,
            "the mirror is being promoted: it stops writing to the target"
        );
    }
}

/// Writes down the configs of these topics that differ from what is on record.
async fn write_configs(source: &Cluster, control: &Control, topics: &[&str]) -> Result<(), EngineError> {
    let found = source.overrides_of_topics(topics).await?;
    let news = found.into_iter().filter(|(topic, configs)| control.state.source_configs(topic) != Some(configs));
    let records: Vec<ControlRecord> =
        news.map(|(topic, configs)| ControlRecord::SourceConfigs { topic, configs, at_ms: now_ms() }).collect();
    control.write_all(&records).await
}
