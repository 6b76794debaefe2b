//! `kmirror pause`, `resume` and `bandwidth`: records in the control partition, which a running mirror follows and the next
//! start finds.

use super::MirrorState;
use crate::client::Cluster;
use crate::config::{BANDWIDTH_BYTES_MIN, bytes, parse_size};
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

/// A bandwidth limit as people write it: `unlimited`, or bytes of records a second.
///
/// # Errors
/// What to write instead.
pub fn parse_rate(text: &str) -> Result<Bandwidth, String> {
    match parse_size(text) {
        _ if text == "unlimited" => Ok(Bandwidth::Unlimited),
        Ok(limit) if limit >= BANDWIDTH_BYTES_MIN => Ok(Bandwidth::BytesPerS(limit)),
        _ => Err(format!(
            "write unlimited, or bytes a second such as 10MiB, at least {}; kmirror pause stops a mirror",
            bytes(BANDWIDTH_BYTES_MIN)
        )),
    }
}

/// Why a loss cannot be accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It is not the loss that the partition is halted over.
    #[error("{0}")]
    Refused(String),
    /// The state could not be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A loss is accepted by naming exactly the range that the halt names: nobody gives up more than they have seen.
///
/// # Errors
/// [`AcceptError::Refused`], with the range to name where there is one.
pub async fn check_accepted_range(
    mirror: &str,
    target: &Cluster,
    (topic, partition): (&str, i32),
    range: (i64, i64),
) -> Result<(), AcceptError> {
    let state = MirrorState::read(mirror, target).await?.unwrap_or_default();
    let halt = state.halt(topic, partition);
    let found = halt.filter(|h| h.can_accept_loss()).and_then(|h| h.range);
    if found == Some(range) {
        return Ok(());
    }
    let subject = format!("{topic}:{partition}");
    Err(AcceptError::Refused(match (halt, found) {
        (None, _) => format!("{subject} is not halted: there is no loss to accept"),
        (Some(halt), None) => format!("{subject} is halted by {halt}; no loss of records ends that"),
        (Some(_), Some((from, to))) => {
            format!("the halt of {subject} is over source offsets {from}..{to}; name that range")
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_size_that_is_not_too_small_or_a_word() {
        assert_eq!(parse_rate("10MiB"), Ok(Bandwidth::BytesPerS(10 << 20)));
        assert_eq!(parse_rate("16KiB"), Ok(Bandwidth::BytesPerS(BANDWIDTH_BYTES_MIN)));
        assert_eq!(parse_rate("unlimited"), Ok(Bandwidth::Unlimited));
        for wrong in ["0", "15KiB", "-1", "none", "", "10MiB/s"] {
            assert!(parse_rate(wrong).is_err_and(|error| error.contains("at least 16KiB")), "{wrong}");
        }
    }
}
