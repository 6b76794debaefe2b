//! Rights that the source has taken away: a partition that halted for want of one goes on by itself when it is back.
//!
//! Not so what the target refuses: only another write would tell, and each try would cost a marker.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::{Cluster, LogPoint, ReadError, ReadOptions, TopicPartition, Topics, read_log};
use crate::mirror::{Halt, HaltKind};

use super::super::events::Event;
use super::super::part::Stage;
use super::Runner;

const LOOK_EVERY_MS: u64 = 5_000;

impl Runner {
    fn is_for_want_of_a_right_on_the_source(&self, halt: &Halt) -> bool {
        let config = &self.shared.config;
        // An error begins with the cluster that it comes from, also after a restart, when nothing else tells.
        let of_source = halt.detail.starts_with(&format!("cluster {}: ", config.source));
        halt.kind == HaltKind::Unauthorised && of_source && config.source != config.target
    }

    /// Asks the source now and then whether the topics may be read again; rights are a topic's, so one partition tells.
    pub(super) fn look_for_rights(&mut self, now_ms: u64) {
        if self.looking_for_rights || now_ms < self.next_look_for_rights_ms || self.stopping {
            return;
        }
        self.next_look_for_rights_ms = now_ms + LOOK_EVERY_MS;
        let mut asked: BTreeMap<String, TopicPartition> = BTreeMap::new();
        for part in self.parts.all() {
            if let Stage::Halted { halt, flow: None } = &part.stage
                && self.is_for_want_of_a_right_on_the_source(halt)
            {
                let source = &part.pair.source;
                asked.entry(source.topic.clone()).or_insert_with(|| source.clone());
            }
        }
        if asked.is_empty() {
            return;
        }
        self.looking_for_rights = true;
        let cluster = self.shared.source.clone();
        self.spawn(async move {
            let mut readable = Vec::new();
            for (topic, tp) in asked {
                if may_read(&cluster, &tp).await {
                    readable.push(topic);
                }
            }
            Some(Event::Readable(readable))
        });
    }

    pub(super) fn on_readable(&mut self, topics: &[String]) {
        self.looking_for_rights = false;
        for id in self.parts.ids() {
            let Some(part) = self.parts.get(id).filter(|part| topics.contains(&part.pair.source.topic)) else {
                continue;
            };
            let Stage::Halted { halt, .. } = &part.stage else { continue };
            if !self.is_for_want_of_a_right_on_the_source(halt) {
                continue;
            }
            let (topic, partition) = part.key();
            tracing::info!(mirror = %self.shared.config.name, topic, partition, "the right is back, going on");
            self.forget_halts(id);
            self.resume(id);
        }
    }
}

/// Whether a partition's leader lets us look up offsets and read.
async fn may_read(cluster: &Cluster, tp: &TopicPartition) -> bool {
    // The topic may have been hidden: a refresh that fails shows in what follows.
    let _ = cluster.refresh(Topics::Named(&[tp.topic.as_str()])).await;
    let mut ends = cluster.offsets_each(std::slice::from_ref(tp), LogPoint::End { committed: false }).await;
    let Some(Ok(end)) = ends.remove(tp) else { return false };
    let options =
        ReadOptions { max_bytes: 1, max_wait_ms: 0, deadline: Duration::from_secs(1), ..ReadOptions::default() };
    !matches!(read_log(cluster, tp, end, options).await, Err(ReadError::Client(_)))
}
