//! `kmirror pause`, `resume` and `bandwidth`: records in the control partition, which a running mirror follows and the next
//! start finds.

use crate::client::Cluster;
use crate::engine::EngineError;
use crate::engine::control::Control;
use crate::engine::shard::now_ms;
use crate::mirror::{Bandwidth, ControlRecord, Scope};

/// What to tell the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Stop moving data, in the whole mirror or one partition; lasts over restarts.
    Pause(Scope),
    /// Go on; ends a pause and a halt. For one partition a source range may be given up.
    Resume {
        /// What goes on.
        scope: Scope,
        /// Source offsets given up, half-open.
        accept_loss: Option<(i64, i64)>,
    },
    /// Another bandwidth limit; lasts over restarts.
    Bandwidth(Bandwidth),
}

/// Writes the command; whoever runs the mirror acts on it within a second or so.
pub async fn send_command(mirror: &str, target: &Cluster, command: Command) -> Result<(), EngineError> {
    let Some(control) = Control::open(mirror, target).await? else {
        return Err(EngineError::Unexpected {
            mirror: mirror.to_owned(),
            detail: "it has never run: there is nothing to tell it on the target".to_owned(),
        });
    };
    let record = match command {
        Command::Pause(scope) => ControlRecord::Pause { scope, at_ms: now_ms() },
        Command::Resume { scope, accept_loss } => ControlRecord::Resume { scope, accept_loss, at_ms: now_ms() },
        Command::Bandwidth(limit) => ControlRecord::Bandwidth { limit, at_ms: now_ms() },
    };
    control.write(record).await
}

/// What a command has said of the mirror's bandwidth; of a mirror that has never run, nothing.
pub async fn bandwidth(mirror: &str, target: &Cluster) -> Result<Bandwidth, EngineError> {
    let control = Control::open(mirror, target).await?;
    Ok(control.map(|control| control.state.bandwidth()).unwrap_or_default())
}
