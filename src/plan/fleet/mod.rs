//! A fleet: instances that share a mirror's shards. Who owns what ([`assign`]), what members tell each other
//! ([`Subscription`], [`Assignment`]), how one becomes a member and stays it ([`Membership`]), and who has fallen silent ([`Watch`]).
//!
//! The group is Kafka's: one for each mirror, on the mirror's target, joined by the classic protocol (JoinGroup, SyncGroup)
//! under a protocol type of its own. Kafka keeps members and generations; the member that it makes the leader assigns.
//! Ownership itself does not hang on it: that is the fence of the shard's transactional id. A group that is wrong for a while
//! costs time, never a record.

mod assign;
mod membership;
mod messages;
mod suspicion;

pub use assign::{HEAVY_PERCENT, LIGHT_PERCENT, SETTLED_PERCENT, assign};
pub use membership::{Answer, Ask, End, Joined, Membership, Next, Terms, Told};
pub use messages::{Assignment, MessageError, PutOut, SHARDS_MAX, Subscription};
pub use suspicion::{Post, Round, SIGNS_PER_SUSPICION, Seen, Sign, Suspect, Watch, sign_every_ms, slots};

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Protocol type of the group: what `kafka-consumer-groups.sh` shows, and what keeps consumers from joining it.
pub const PROTOCOL_TYPE: &str = "kmirror";
/// The version of what members say to each other. A change that older ones would misread gets another name; Kafka chooses
/// one that all of them know, and refuses a member that shares none.
pub const PROTOCOL: &str = "shards-1";

/// Group of a mirror's fleet.
pub fn group_id(mirror: &str) -> String {
    format!("kmirror.{mirror}")
}

/// What a record that waits on the source adds to the load: as if all of them, of a kilobyte each, had to be worked off within a minute.
const WAITING_RECORD_COST: u64 = 1024 / 60;
/// What a partition costs that does nothing, in bytes per second that cost the same.
const PARTITION_COST: u64 = 1 << 10;
/// The same of a shard: its transactional id is kept alive, its state written.
const SHARD_COST: u64 = 4 << 10;

/// What a shard asks of whoever owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// Bytes mirrored per second, lately.
    pub bytes_per_second: u64,
    /// Records that wait on the source.
    pub backlog_records: u64,
    /// Its partitions.
    pub partitions: u32,
}

impl Load {
    /// One number to compare: bytes per second, or what costs as much.
    pub fn cost(&self) -> u64 {
        let idle = u64::from(self.partitions) * PARTITION_COST + SHARD_COST;
        idle.saturating_add(self.bytes_per_second)
            .saturating_add(self.backlog_records.saturating_mul(WAITING_RECORD_COST))
    }
}

/// How a shard comes to the member that is to own it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It owns it already.
    Kept,
    /// No member owns it: it is taken over at once.
    Free,
    /// Another member owns it, and has been told in the same generation to release it: that is waited for, for a while.
    Member,
}

/// A member as the assignor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What Kafka calls it: new at every join but that of a static member.
    pub id: String,
    /// What it said when it joined.
    pub said: Subscription,
}

/// What a member is to own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// Its shards.
    pub shards: BTreeMap<u32, Origin>,
    /// Does what a mirror does once: topics, groups, heartbeats, drills.
    pub elected: bool,
}
