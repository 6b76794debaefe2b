//! Topic settings that were held back while the mirror ran.

use super::super::sync::{control_of, noted};
use crate::client::Cluster;
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::control::Control;
use crate::engine::topology::known_topic_configs;
use crate::plan::{SettingChange, TopicSettings, mirroring_settings};

/// What was changed.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) changed: Vec<TopicSettings>,
    /// Topics that could not be changed, and why.
    pub(super) failed: Vec<String>,
}

/// Applies them, topic by topic: what one is refused says nothing of the others.
pub(super) async fn apply(
    control: &Control,
    target: &Cluster,
    topics: Vec<TopicSettings>,
) -> Result<Applied, EngineError> {
    let mut applied = Applied::default();
    for topic in topics.into_iter().filter(|topic| !topic.changes.is_empty()) {
        let change = |change: &SettingChange| (change.key.clone(), (change.from.clone(), change.to.clone()));
        match noted(control, target, &topic.topic, &topic.changes.iter().map(change).collect()).await? {
            Ok(()) => applied.changed.push(topic),
            Err(error) => applied.failed.push(format!("settings of topic {}: {error}", topic.topic)),
        }
    }
    Ok(applied)
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
    let control = control_of(mirror, target).await?;
    for (topic, own) in target.overrides_of_topics(topics).await? {
        let changes = mirroring_settings(&own, &mirror.target_topics.configs, &known);
        if changes.is_empty() {
            continue;
        }
        let changes = changes.into_iter().map(|(key, to)| (key.clone(), (own.get(&key).cloned(), to))).collect();
        noted(&control, target, &topic, &changes).await??;
    }
    Ok(())
}
