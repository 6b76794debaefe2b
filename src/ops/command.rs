//! `kmirror pause` and `kmirror resume`: records in the control partition, which a running mirror follows and the next
//! start finds.

use crate::client::Cluster;
use crate::engine::EngineError;
use crate::engine::control::Control;
use crate::engine::shard::now_ms;
use crate::mirror::{ControlRecord, Scope};

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
}

/// Writes the command; whoever runs the mirror acts on it within a second or so.
pub async fn send_command(mirror: &str, target: &Cluster, command: Command) -> Result<(), EngineError> {
    let Some(control) = Control::open(mirror, target).await? else {
        return Err(EngineError::Unexpected {
            mirror: mirror.to_owned(),
            detail: "it has never run: there is nothing to pause or resume on the target".to_owned(),
        });
    };
    let record = match command {
        Command::Pause(scope) => ControlRecord::Pause { scope, at_ms: now_ms() },
        Command::Resume { scope, accept_loss } => ControlRecord::Resume { scope, accept_loss, at_ms: now_ms() },
    };
    control.write(record).await
}
