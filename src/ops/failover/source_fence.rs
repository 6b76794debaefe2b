//! Keeping writers off the source, by ACL.

use std::time::{Duration, Instant};

use crate::client::{Cluster, LogPoint, TopicPartition, Topics};
use crate::config::MirrorConfig;
use crate::engine::control::Control;
use crate::engine::{EngineError, now_ms};
use crate::mirror::{ControlRecord, TOPIC_AUTHORIZATION_FAILED};

use super::{FailoverError, open};

/// An ACL is in force on every broker by then.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Denies everybody to write to these topics; and takes it back where kmirror itself is shut out by it.
pub(super) async fn raise(
    mirror: &MirrorConfig,
    source: &Cluster,
    control: &Control,
    topics: &[&str],
) -> Result<(), FailoverError> {
    let names = topics.iter().map(|topic| (*topic).to_owned()).collect();
    // Noted first: what is on record too much is taken back without harm, what is missing would stay.
    control.write(ControlRecord::SourceFenced { topics: names, is_fenced: true, at_ms: now_ms() }).await?;
    source.deny_writes(topics).await?;
    let Some(shut_out) = shut_out(source, topics).await? else { return Ok(()) };
    lift(mirror, source, &control.cluster).await?;
    let detail = format!(
        "with an ACL on it, {shut_out} may not even be read any more: on this cluster topics without ACLs are open to everybody \
         (allow.everyone.if.no.acl.found). The ACLs were taken back; allow READ and DESCRIBE on the mirrored topics to kmirror's \
         principal, or stop the writers by other means"
    );
    Err(FailoverError::NotDrained { mirror: mirror.name.clone(), detail })
}

/// A topic that the cluster refuses to tell about, once the ACLs are in force: where topics without ACLs are open to
/// everybody, the first ACL closes them to whoever has none.
async fn shut_out(source: &Cluster, topics: &[&str]) -> Result<Option<String>, EngineError> {
    let until = Instant::now() + IN_FORCE_WITHIN;
    while Instant::now() < until {
        tokio::time::sleep(LOOK_EVERY).await;
        let metadata = source.refresh(Topics::Named(topics)).await?;
        let first = |topic: &&str| {
            let meta = metadata.topic(topic)?;
            Some(TopicPartition { topic: (*topic).to_owned(), topic_id: meta.id, partition: 0 })
        };
        if let Some(refused) = topics
            .iter()
            .find(|topic| metadata.topic(topic).is_none_or(|meta| meta.error == TOPIC_AUTHORIZATION_FAILED))
        {
            return Ok(Some((*refused).to_owned()));
        }
        let tps: Vec<TopicPartition> = topics.iter().filter_map(first).collect();
        let ends = source.offsets_each(&tps, LogPoint::End { committed: false }).await;
        let refused = |end: &Result<i64, crate::client::ClientError>| {
            end.as_ref().is_err_and(|error| error.code() == Some(TOPIC_AUTHORIZATION_FAILED))
        };
        if let Some((tp, _)) = ends.iter().find(|(_, end)| refused(end)) {
            return Ok(Some(tp.topic.clone()));
        }
    }
    Ok(None)
}

/// Takes back what was denied on the source; gives the topics.
pub(in crate::ops) async fn lift(
    mirror: &MirrorConfig,
    source: &Cluster,
    target: &Cluster,
) -> Result<Vec<String>, EngineError> {
    let control = open(mirror, target).await?;
    let topics: Vec<String> = control.state.source_fenced().iter().cloned().collect();
    if topics.is_empty() {
        return Ok(topics);
    }
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    source.allow_writes(&names).await?;
    control.write(ControlRecord::SourceFenced { topics: topics.clone(), is_fenced: false, at_ms: now_ms() }).await?;
    Ok(topics)
}
