//! Topic settings that were held back while the mirror ran.

use std::collections::BTreeMap;

use crate::client::Cluster;
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::topology::known_topic_configs;
use crate::plan::{TopicSettings, mirroring_settings};

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

/// Makes topics fit for being mirrored to, which a promotion may have configured otherwise: what a way home, or a mirror that
/// takes up again, needs on its target. The state topic must be there.
pub(in crate::ops) async fn prepare_for_mirroring(
    mirror: &MirrorConfig,
    target: &Cluster,
    topics: &[&str],
) -> Result<(), EngineError> {
    if topics.is_empty() {
        return Ok(());
    }
    let known = known_topic_configs(mirror, target).await?;
    for (topic, own) in target.overrides_of_topics(topics).await? {
        let changes = mirroring_settings(&own, &mirror.target_topics.configs, &known);
        if !changes.is_empty() {
            target.alter_topic_configs(&topic, &changes).await?;
        }
    }
    Ok(())
}
