//! What members of a fleet tell each other and their runners of the shards of one mirror: who holds which, and what that is worth.

use std::collections::BTreeSet;

/// What one member is to hold and to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assignment {
    /// Larger than that of every assignment that this process was given before.
    pub epoch: u64,
    /// The shards that it is to hold, no others.
    pub shards: BTreeSet<u32>,
    /// Those of them that another living member was told to release: they are taken once it has, or when it takes too long.
    pub handed_over: BTreeSet<u32>,
    /// Whether it does what is done once a mirror: topics on the target, what goes to the control partition, jobs.
    pub elected: bool,
}

/// Where a member stands with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShardStage {
    /// Not held.
    #[default]
    Idle,
    /// Wanted, and not held yet.
    Taking,
    /// Held: its partitions are attached, or being attached.
    Owned,
    /// Still held: what is under way is settled, then it is given back.
    Releasing,
    /// Another one took it in that epoch. It is left alone until a newer assignment names it.
    Lost {
        /// The assignment that it was lost under.
        epoch: u64,
    },
}

impl ShardStage {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Taking => "taking",
            Self::Owned => "owned",
            Self::Releasing => "releasing",
            Self::Lost { .. } => "lost",
        }
    }

    /// Whether somebody else who takes the shard now would take it from this member.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Taking | Self::Owned | Self::Releasing)
    }
}

/// A shard as its member sees it. Load is told of owned ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardHeld {
    /// Where it stands.
    pub stage: ShardStage,
    /// Partitions in it.
    pub partitions: u32,
    /// Bytes that the source has sent for it, a second, over the last half minute or so.
    pub bytes_per_s: u64,
    /// Records that wait on the source.
    pub backlog_records: u64,
}

/// What a member holds, by shard number. Empty before the number of shards is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// The assignment that was last heeded; 0 before the first.
    pub epoch: u64,
    /// One a shard of the mirror.
    pub shards: Vec<ShardHeld>,
}

impl Held {
    /// The shards that this member holds, or is taking or giving back: nobody else is to be given them unawares.
    pub fn held(&self) -> BTreeSet<u32> {
        (0..).zip(&self.shards).filter(|(_, held)| held.stage.is_held()).map(|(number, _)| number).collect()
    }

    /// Whether all that the assignment of this epoch says has been done: what it names is held or lost, nothing else is.
    pub fn is_settled(&self, assignment: &Assignment) -> bool {
        self.epoch >= assignment.epoch
            && (0..).zip(&self.shards).all(|(number, held)| match held.stage {
                ShardStage::Idle | ShardStage::Lost { .. } => !assignment.shards.contains(&number) || held.is_lost(),
                ShardStage::Owned => assignment.shards.contains(&number),
                ShardStage::Taking | ShardStage::Releasing => false,
            })
    }
}

impl ShardHeld {
    fn is_lost(&self) -> bool {
        matches!(self.stage, ShardStage::Lost { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_is_what_holds_all_that_is_named_and_nothing_else() {
        let stages = |stages: [ShardStage; 3]| Held {
            epoch: 4,
            shards: stages.map(|stage| ShardHeld { stage, ..ShardHeld::default() }).to_vec(),
        };
        let wants = |epoch, shards: &[u32]| Assignment {
            epoch,
            shards: shards.iter().copied().collect(),
            ..Assignment::default()
        };
        use ShardStage::{Idle, Lost, Owned, Releasing, Taking};
        assert!(stages([Owned, Idle, Owned]).is_settled(&wants(4, &[0, 2])));
        assert!(stages([Owned, Lost { epoch: 4 }, Idle]).is_settled(&wants(4, &[0, 1])));
        assert!(!stages([Owned, Idle, Owned]).is_settled(&wants(5, &[0, 2])), "not heeded yet");
        assert!(!stages([Owned, Idle, Idle]).is_settled(&wants(4, &[0, 2])), "not held yet");
        assert!(!stages([Owned, Idle, Taking]).is_settled(&wants(4, &[0, 2])));
        assert!(!stages([Owned, Releasing, Owned]).is_settled(&wants(4, &[0, 2])));
        assert!(!stages([Owned, Owned, Owned]).is_settled(&wants(4, &[0, 2])));
        assert_eq!(stages([Owned, Releasing, Idle]).held(), BTreeSet::from([0, 1]));
    }
}
