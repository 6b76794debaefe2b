//! How the clusters themselves fare, on both sides: brokers, and partitions without a leader or without all of their replicas.
//! One Metadata request every so often, beside the mirrors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Cluster, Metadata, Topics};
use crate::config::{Config, MirrorConfig};
use crate::engine::{connect_source, connect_target};

/// Between two questions.
const EVERY: Duration = Duration::from_secs(15);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How one cluster fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClusterHealth {
    /// Brokers that it names.
    pub brokers: usize,
    /// Brokers that hold replicas, and that it does not name any more.
    pub lost_brokers: usize,
    /// Whom it names as controller. Under KRaft that is any broker.
    pub controller: Option<i32>,
    /// Partitions without a leader.
    pub offline_partitions: usize,
    /// Partitions some of whose replicas are not in sync.
    pub under_replicated_partitions: usize,
}

impl ClusterHealth {
    fn of(metadata: &Metadata) -> Self {
        let partitions = || metadata.topics.values().flat_map(|topic| &topic.partitions);
        Self {
            brokers: metadata.brokers.len(),
            lost_brokers: metadata.lost_brokers.len(),
            controller: metadata.controller,
            offline_partitions: partitions().filter(|p| p.leader.is_none()).count(),
            under_replicated_partitions: partitions().filter(|p| p.in_sync < p.replicas).count(),
        }
    }
}

/// The clusters by name; `None` where one did not answer. Empty before they were asked. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ClusterBoard(Arc<Mutex<BTreeMap<String, Option<ClusterHealth>>>>);

impl ClusterBoard {
    /// As they last answered.
    pub fn read(&self) -> BTreeMap<String, Option<ClusterHealth>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, cluster: &str, health: Option<ClusterHealth>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(cluster.to_owned(), health);
    }

    /// Forgets all but these.
    pub fn retain(&self, clusters: &BTreeSet<&str>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| clusters.contains(name.as_str()));
    }

    pub(super) fn publish(&self) {
        for (cluster, health) in self.read() {
            let up = f64::from(u8::from(health.is_some()));
            metrics::gauge!("kmirror_cluster_up", "cluster" => cluster.clone()).set(up);
            // What is not known is not shown: an alert on what was would speak of the past.
            let Some(health) = health else { continue };
            let cluster = || cluster.clone();
            metrics::gauge!("kmirror_cluster_brokers", "cluster" => cluster()).set(health.brokers as f64);
            metrics::gauge!("kmirror_cluster_lost_brokers", "cluster" => cluster()).set(health.lost_brokers as f64);
            let controller = health.controller.map_or(-1.0, f64::from);
            metrics::gauge!("kmirror_cluster_controller", "cluster" => cluster()).set(controller);
            metrics::gauge!("kmirror_cluster_offline_partitions", "cluster" => cluster())
                .set(health.offline_partitions as f64);
            metrics::gauge!("kmirror_cluster_under_replicated_partitions", "cluster" => cluster())
                .set(health.under_replicated_partitions as f64);
        }
    }
}

/// Asks the clusters of these mirrors again and again, until told to stop; ends with what is returned.
pub fn keep(
    config: &Arc<Config>,
    mirrors: &[&MirrorConfig],
    board: &ClusterBoard,
    stop: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let mut seen = BTreeSet::new();
    for mirror in mirrors {
        for (name, is_source) in [(&mirror.source, true), (&mirror.target, false)] {
            if seen.insert(name.clone()) {
                let (config, mirror, name) = (Arc::clone(config), MirrorConfig::clone(mirror), name.clone());
                let (board, mut stop) = (board.clone(), stop.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = ask(&config, &mirror, is_source, &name, &board) => {}
                        _ = stop.wait_for(|stop| *stop) => {}
                    }
                });
            }
        }
    }
    tasks
}

async fn ask(config: &Config, mirror: &MirrorConfig, is_source: bool, name: &str, board: &ClusterBoard) {
    let mut ends: Option<Cluster> = None;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let asked = async {
            let cluster = match (&ends, is_source) {
                (Some(cluster), _) => cluster.clone(),
                (None, true) => connect_source(config, mirror).await.map_err(|error| error.to_string())?,
                (None, false) => connect_target(config, mirror).await.map_err(|error| error.to_string())?,
            };
            ends = Some(cluster.clone());
            cluster.refresh(Topics::All).await.map_err(|error| error.to_string())
        };
        let answer =
            tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        if let Err(error) = &answer {
            tracing::debug!(cluster = name, error, "its health is not known");
        }
        board.note(name, answer.ok().map(|metadata| ClusterHealth::of(&metadata)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{PartitionMeta, TopicMeta};

    #[test]
    fn partitions_count_by_what_is_wrong_with_them() {
        let partition =
            |leader, replicas, in_sync| PartitionMeta { leader, replicas, in_sync, ..PartitionMeta::UNKNOWN };
        let partitions = vec![partition(Some(1), 2, 2), partition(Some(1), 2, 1), partition(None, 1, 0)];
        let topic = TopicMeta { name: "orders".to_owned(), partitions, ..TopicMeta::default() };
        let metadata = Metadata {
            brokers: [1, 2].map(|id| (id, format!("127.0.0.1:{id}"))).into(),
            controller: Some(2),
            lost_brokers: [3].into(),
            topics: [("orders".to_owned(), topic)].into(),
        };
        let expected = ClusterHealth {
            brokers: 2,
            lost_brokers: 1,
            controller: Some(2),
            offline_partitions: 1,
            under_replicated_partitions: 2,
        };
        assert_eq!(ClusterHealth::of(&metadata), expected);
    }
}
