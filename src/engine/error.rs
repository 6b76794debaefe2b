//! What stops a mirror as a whole. What concerns one partition only is a [`crate::mirror::Halt`].

use crate::client::{ClientError, ReadError};
use crate::mirror::{Halt, HaltKind, StateError};

/// Why a mirror cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A request to one of the clusters failed for good, or for longer than the deadline.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The state topic holds something this version does not understand.
    #[error("mirror {mirror}: state topic {topic}:{partition} at offset {offset}: {source}{}", remedy(mirror, source))]
    State {
        /// Mirror name.
        mirror: String,
        /// State topic.
        topic: String,
        /// State partition, i.e. shard.
        partition: i32,
        /// Offset of the record.
        offset: i64,
        /// What is wrong with it.
        source: StateError,
    },
    /// Another process has taken over.
    #[error(
        "mirror {mirror}: fenced: another kmirror took over {what} ({detail}); this one stops. If that was not meant, stop \
         the other one and start this one again"
    )]
    Fenced {
        /// Mirror name.
        mirror: String,
        /// Shard or partition.
        what: String,
        /// The broker's words.
        detail: String,
    },
    /// Another process takes over at the same time, before this one owned anything.
    #[error("mirror {mirror}: another kmirror is taking over as well: {detail}")]
    Contended {
        /// Mirror name.
        mirror: String,
        /// What was taken.
        detail: String,
    },
    /// The coordinator has forgotten the transactional id under which a shard is held: it is to be taken anew.
    #[error("mirror {mirror}: the coordinator has forgotten {what} ({detail}); the mirror takes its shards anew")]
    Forgotten {
        /// Mirror name.
        mirror: String,
        /// Transactional id.
        what: String,
        /// The broker's words.
        detail: String,
    },
    /// The state topic was deleted under a running mirror.
    #[error(
        "mirror {mirror}: state topic {topic} was deleted while the mirror ran, and with it what is known of the offsets; \
         nothing is written without it. `kmirror state rebuild --mirror {mirror}` finds out what the logs themselves tell"
    )]
    StateGone {
        /// Mirror name.
        mirror: String,
        /// State topic.
        topic: String,
    },
    /// A marker did not show up.
    #[error(
        "mirror {mirror}: the marker of producer {producer_id} epoch {producer_epoch} did not appear in {subject} within \
         {waited_ms} ms; the transaction coordinator of the target may be unable to reach the partition's leader"
    )]
    NoMarker {
        /// Mirror name.
        mirror: String,
        /// Topic-partition on the target.
        subject: String,
        /// Producer id of the shard.
        producer_id: i64,
        /// Producer epoch of the marker.
        producer_epoch: i16,
        /// How long it was waited for, ms.
        waited_ms: u64,
    },
    /// The mirror was promoted: the target takes writes of its own now.
    #[error("mirror {mirror}: promoted in generation {generation}; it does not write to the target any more")]
    Promoted {
        /// Mirror name.
        mirror: String,
        /// Generation that was promoted.
        generation: u32,
    },
    /// Another cluster answers under the address of the recorded one.
    #[error(
        "mirror {mirror}: cluster {cluster} has id {found}, but the mirror was made with id {recorded}; another cluster \
         answers under this address. Correct `bootstrap`, or use another mirror name for the new cluster"
    )]
    WrongCluster {
        /// Mirror name.
        mirror: String,
        /// Cluster name in the configuration.
        cluster: String,
        /// Id it has.
        found: String,
        /// Id on record.
        recorded: String,
    },
    /// A topic was made again, and who mirrored the one before has not let go of the target yet.
    #[error(
        "mirror {mirror}: {topic}:{partition} was mirrored before its topic was made again, by the owner of shard {shard}, which has \
         not released it yet"
    )]
    HeldElsewhere {
        /// Mirror name.
        mirror: String,
        /// Source topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Shard that it was of.
        shard: u32,
    },
    /// The fleet's group has no place for this instance any more.
    #[error("mirror {mirror}: no member of the fleet {group} any more: {detail}")]
    NoMember {
        /// Mirror name.
        mirror: String,
        /// Group id.
        group: String,
        /// Why, and what to do about it.
        detail: String,
    },
    /// Something that cannot be, with the evidence.
    #[error("mirror {mirror}: {detail}")]
    Unexpected {
        /// Mirror name.
        mirror: String,
        /// What was seen.
        detail: String,
    },
}

impl EngineError {
    /// Whether starting the mirror again after a pause can help.
    pub fn is_retriable(&self) -> bool {
        self.is_passing() || matches!(self, Self::Contended { .. } | Self::Forgotten { .. })
    }

    /// Whether the same may be tried again where it failed.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::NoMarker { .. } | Self::HeldElsewhere { .. })
            || self.client().is_some_and(ClientError::is_retriable)
    }

    /// The same, while the shards are still being taken: nothing is owned yet that somebody could have taken away. Two that
    /// start at once would fence each other, and none would be left.
    #[must_use]
    pub(crate) fn while_taking(self, mirror: &str) -> Self {
        match self {
            Self::Fenced { what, detail, .. } => {
                Self::Contended { mirror: mirror.to_owned(), detail: format!("{what} ({detail})") }
            }
            other => other,
        }
    }

    /// What it means for the partitions of a shard where its state is damaged. (A state that a newer kmirror wrote is not;
    /// there the whole mirror is the newer one's.)
    pub(crate) fn damage(&self) -> Option<Halt> {
        let Self::State { topic, partition, offset, source, .. } = self else { return None };
        let what = || format!("state topic {topic}:{partition} at offset {offset}: {source}");
        (!source.is_newer()).then(|| Halt::new(HaltKind::StateDamaged, what()))
    }

    /// Whether an authorizer refused it.
    pub fn is_unauthorised(&self) -> bool {
        self.client().is_some_and(ClientError::is_unauthorised)
    }

    /// The failed request behind it, where that is all there is to it.
    pub fn client(&self) -> Option<&ClientError> {
        match self {
            Self::Client(error) | Self::Read(ReadError::Client(error)) => Some(error),
            _ => None,
        }
    }
}

fn remedy(mirror: &str, error: &StateError) -> String {
    if error.is_newer() {
        return String::new();
    }
    format!("; `kmirror state rebuild --mirror {mirror}` shows what the logs themselves tell of it")
}
