//! Keeping writers off the source, by ACL.

use super::super::acls::shut_out;
use crate::client::Cluster;
use crate::config::MirrorConfig;
use crate::engine::control::Control;
use crate::engine::{EngineError, now_ms};
use crate::mirror::ControlRecord;

use super::{FailoverError, open};

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
