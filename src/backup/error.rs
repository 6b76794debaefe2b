//! Why a backup, a restore or a look into an archive did not come to its end.

use super::seal::SealError;
use super::store::StoreError;
use crate::broker::BrokerError;
use crate::client::ClientError;
use crate::engine::EngineError;
use crate::ops::{FailoverError, ReplayError};

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The place where the archive lies.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The mirror that restores.
    #[error(transparent)]
    Engine(Box<EngineError>),
    /// The end of a restore.
    #[error(transparent)]
    Failover(Box<FailoverError>),
    /// A replay.
    #[error(transparent)]
    Replay(Box<ReplayError>),
    /// What serves the archive.
    #[error("serving the archive: {0}")]
    Broker(#[from] BrokerError),
    /// A key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A segment could not be made.
    #[error("backup {backup}: a segment of {object} could not be made: {detail}")]
    Segment {
        /// Backup.
        backup: String,
        /// Topic and partition.
        object: String,
        /// Why.
        detail: String,
    },
    /// A manifest was there already.
    #[error(
        "backup {backup}: {object} is there already: somebody else writes to this archive. Stop one of the two; what this one has \
         read since its last manifest is read again by the next pass"
    )]
    AnotherWriter {
        /// Backup.
        backup: String,
        /// The manifest.
        object: String,
    },
    /// The archive is of another cluster.
    #[error(
        "backup {backup}: the cluster's id is {found}, and the archive is of cluster {recorded}: give the backup another name or \
         another place, or correct the cluster's address"
    )]
    WrongCluster {
        /// Backup.
        backup: String,
        /// Id that it has.
        found: String,
        /// Id in the archive.
        recorded: String,
    },
    /// An object is not what it should be.
    #[error("backup {backup}: {object} is damaged: {detail}")]
    Damaged {
        /// Backup.
        backup: String,
        /// Path of the object.
        object: String,
        /// What is wrong.
        detail: String,
    },
    /// A part of a segment cannot be read.
    #[error("{object}: offsets [{from}, {to}) cannot be read: {detail}")]
    DamagedSegment {
        /// Path of the object.
        object: String,
        /// First offset that is lost.
        from: i64,
        /// Offset behind the last.
        to: i64,
        /// What is wrong.
        detail: String,
    },
    /// A segment is sealed.
    #[error("{object} is sealed with key {key_id}, and no key is configured: name it under encryption.key")]
    NoKey {
        /// Path of the object.
        object: String,
        /// Which key.
        key_id: String,
    },
    /// A segment is not sealed, and should be.
    #[error(
        "{object} is not sealed, and encryption is configured: it was written before encryption was turned on, or by somebody without \
         the key. kmirror backup --full begins a chain that is sealed; encryption.accept_unsealed: true reads what is not"
    )]
    Unsealed {
        /// Path of the object.
        object: String,
    },
    /// A segment is sealed with a key that is not at hand.
    #[error("{object}: {source}")]
    Sealed {
        /// Path of the object.
        object: String,
        /// Why.
        source: SealError,
    },
    /// What was asked for is not in the archive.
    #[error("backup {backup}: {detail}")]
    NotThere {
        /// Backup.
        backup: String,
        /// What is not.
        detail: String,
    },
    /// A live log is not as it was.
    #[error("cluster {cluster}: {subject}: {detail}")]
    Live {
        /// Cluster.
        cluster: String,
        /// Topic and partition.
        subject: String,
        /// What was seen.
        detail: String,
    },
    /// What was read cannot be written.
    #[error("writing records: {0}")]
    Output(std::io::Error),
    /// A partition cannot have the offsets that it had.
    #[error(
        "topic {topic}:{partition} at offset {offset}: {detail}. Its offsets cannot be what they were: delete topic {topic} and call the \
         restore again"
    )]
    NotIdentical {
        /// Topic on the target.
        topic: String,
        /// Partition.
        partition: i32,
        /// Where.
        offset: i64,
        /// What is there.
        detail: String,
    },
    /// It was not begun.
    #[error("{0}; nothing was changed")]
    Refused(String),
    /// Something that cannot be.
    #[error("backup {backup}: {detail}")]
    Unexpected {
        /// Backup.
        backup: String,
        /// What was seen.
        detail: String,
    },
}

// Boxed: results are small where they are good.
impl From<EngineError> for BackupError {
    fn from(error: EngineError) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl From<FailoverError> for BackupError {
    fn from(error: FailoverError) -> Self {
        Self::Failover(Box::new(error))
    }
}

impl From<ReplayError> for BackupError {
    fn from(error: ReplayError) -> Self {
        Self::Replay(Box::new(error))
    }
}

impl BackupError {
    /// Whether a cluster or a destination does not answer, or lets nobody in.
    pub fn is_unreachable_or_unauthorised(&self) -> bool {
        let engine = match self {
            Self::Store(error) => return error.is_unreachable_or_unauthorised(),
            Self::Client(error) => return error.is_unreachable_or_unauthorised(),
            Self::Engine(error) => Some(&**error),
            Self::Replay(error) => error.engine(),
            Self::Failover(error) => match &**error {
                FailoverError::Engine(error) => Some(error),
                _ => None,
            },
            _ => None,
        };
        engine.and_then(EngineError::client).is_some_and(ClientError::is_unreachable_or_unauthorised)
    }

    /// Whether another copy may be whole.
    pub(super) fn is_of_this_copy(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Damaged { .. } | Self::DamagedSegment { .. })
    }
}
