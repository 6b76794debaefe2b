//! What a command's end means to the shell: the exit codes, and which error leads to which.

use std::io;
use std::process::ExitCode;

use crate::backup::BackupError;
use crate::client::ClientError;
use crate::config::ConfigErrors;
use crate::engine::EngineError;
use crate::ops::{FailoverError, TranslateError};

/// How a command ended. The numbers are part of the command line's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// A check, drill or verification found problems.
    Problems = 3,
    /// A cluster is unreachable or refuses the credentials.
    Unreachable = 4,
    /// Partitions are halted.
    Halted = 5,
    /// Refused: the question was not answered with yes.
    Refused = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error whose exit code the command knows itself. Any other error is judged by [`classify`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CliError {
    /// What was asked for cannot be asked for.
    #[error("{0}")]
    Usage(String),
    /// A cluster is unreachable or refuses the credentials.
    #[error("{0}")]
    Unreachable(String),
    /// Partitions are halted.
    #[error("{0}")]
    Halted(String),
    /// Something stands against it, or has to be looked after.
    #[error("{0}")]
    Problems(String),
    /// It changes something, and nobody said yes.
    #[error("{0}")]
    Refused(String),
}

impl CliError {
    fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Halted(_) => Exit::Halted,
            Self::Problems(_) => Exit::Problems,
            Self::Refused(_) => Exit::Refused,
        }
    }
}

/// The exit code of an error, by the first cause in its chain that says one. This is the one place where error kinds
/// become codes.
#[must_use]
pub fn classify(error: &anyhow::Error) -> Exit {
    error.chain().find_map(exit_of).unwrap_or(Exit::Failed)
}

fn exit_of(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(error) = cause.downcast_ref::<CliError>() {
        return Some(error.exit());
    }
    if cause.is::<ConfigErrors>() {
        return Some(Exit::Usage);
    }
    if let Some(error) = cause.downcast_ref::<BackupError>() {
        return error.is_unreachable_or_unauthorised().then_some(Exit::Unreachable);
    }
    let engine = match (cause.downcast_ref::<TranslateError>(), cause.downcast_ref::<FailoverError>()) {
        (Some(TranslateError::Engine(error)), _) | (_, Some(FailoverError::Engine(error))) => Some(error),
        _ => cause.downcast_ref::<EngineError>(),
    };
    let client = engine.and_then(EngineError::client).or_else(|| cause.downcast_ref::<ClientError>())?;
    client.is_unreachable_or_unauthorised().then_some(Exit::Unreachable)
}

/// Whether the reader of the results went away (`kmirror status | head`): nothing is wrong then, and nothing is said.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<StdoutError>())
        .any(|error| error.0.kind() == io::ErrorKind::BrokenPipe)
}

/// Results could not be written. Set apart from other I/O errors so that a broken pipe to a cluster is never taken for one
/// of stdout.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout")]
pub struct StdoutError(#[from] pub io::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_known_cause_decides() {
        let wrapped = |error: CliError| anyhow::Error::new(error).context("while doing this").context("and that");
        assert_eq!(classify(&wrapped(CliError::Refused("no".into()))), Exit::Refused);
        assert_eq!(classify(&wrapped(CliError::Unreachable("no".into()))), Exit::Unreachable);
        assert_eq!(classify(&anyhow::anyhow!("anything else")), Exit::Failed);
    }

    #[test]
    fn only_a_pipe_of_stdout_is_no_error() {
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::new(StdoutError(pipe())).context("showing the status")));
        assert!(!is_broken_pipe(&anyhow::Error::new(pipe())));
        assert!(!is_broken_pipe(&anyhow::Error::new(StdoutError(io::ErrorKind::StorageFull.into()))));
    }
}
