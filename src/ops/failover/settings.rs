//! Topic settings that were held back while the mirror ran.

use std::collections::BTreeMap;

use crate::client::Cluster;
use crate::plan::TopicSettings;

/// What was changed.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) changed: Vec<TopicSettings>,
    /// Topics that could not be changed, and why.
    pub(super) failed: Vec<String>,
}

/// Applies them, topic by topic: what one is refused says nothing of the others.
pub(super) async fn apply(target: &Cluster, topics: Vec<TopicSettings>) -> Applied {
    let mut applied = Applied::default();
    for topic in topics.into_iter().filter(|topic| !topic.changes.is_empty()) {
        let changes: BTreeMap<String, Option<String>> =
            topic.changes.iter().map(|change| (change.key.clone(), change.to.clone())).collect();
        match target.alter_topic_configs(&topic.topic, &changes).await {
            Ok(()) => applied.changed.push(topic),
            Err(error) => applied.failed.push(format!("settings of topic {}: {error}", topic.topic)),
        }
    }
    applied
}
