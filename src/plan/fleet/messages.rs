//! What members tell the leader when they join, and what it tells them: JSON, so that it can be read with Kafka's own tools
//! (`kafka-consumer-groups.sh` passes it over, `kmirror status` shows it). Fields that are not known are passed over and
//! missing ones have a default: additions need no new [`PROTOCOL`](super::PROTOCOL).

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Load, Origin};

/// The most shards that a member may speak of: a number out of thin air would have the leader share out billions of them.
/// No mirror has nearly as many ([`Subscription::shard_count`]).
pub const SHARDS_MAX: u32 = 1 << 14;

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Host and process, for people.
    pub host: String,
    /// Version of the program.
    #[serde(default)]
    pub software: String,
    /// The newest version of state records that it reads.
    #[serde(default)]
    pub state_version: u32,
    /// Of the configuration it runs: other members should have the same.
    #[serde(default)]
    pub config_hash: String,
    /// Shards of the mirror, by what the control partition says.
    pub shard_count: u32,
    /// The generation whose assignment it follows; −1: none yet.
    #[serde(default = "no_generation")]
    pub generation: i32,
    /// What it owns.
    #[serde(default)]
    pub held: BTreeMap<u32, Load>,
    /// What it was told to own and does not yet.
    #[serde(default)]
    pub awaited: BTreeSet<u32>,
    /// What its other mirrors cost ([`Load::cost`]).
    #[serde(default)]
    pub elsewhere: u64,
    /// How much of the work it is to have, next to others.
    #[serde(default = "full_weight")]
    pub weight: u32,
    /// It is about to stop and wants to own nothing.
    #[serde(default)]
    pub draining: bool,
    /// It was elected last.
    #[serde(default)]
    pub elected: bool,
    /// Whom it has put out of the group for being silent, lately.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub put_out: Vec<PutOut>,
}

/// A member that another one has put out of the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PutOut {
    /// Its member id.
    pub member_id: String,
    /// Its host and process.
    pub host: String,
    /// For how long it had been silent, at least, ms.
    pub silent_ms: u64,
    /// When, by the clock of who put it out, ms.
    pub at_ms: i64,
}

fn no_generation() -> i32 {
    -1
}

fn full_weight() -> u32 {
    100
}

/// What a member is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Assignment {
    /// Its shards.
    #[serde(default)]
    pub shards: BTreeMap<u32, Origin>,
    /// Does what a mirror does once.
    #[serde(default)]
    pub elected: bool,
    /// Where it is to give signs of life, where there is room for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
}

/// Bytes of another member that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "what {who} of the fleet says cannot be read ({detail}): it runs another version of kmirror; run one version everywhere"
)]
pub struct MessageError {
    who: &'static str,
    detail: String,
}

impl Subscription {
    /// As bytes for JoinGroup.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From JoinGroup's answer.
    ///
    /// # Errors
    /// They are no subscription, or one to more than [`SHARDS_MAX`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
        let refused = |detail| MessageError { who: "a member", detail };
        let said: Self = serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))?;
        if said.shard_count > SHARDS_MAX {
            return Err(refused(format!("{} shards, and no mirror has more than {SHARDS_MAX}", said.shard_count)));
        }
        Ok(said)
    }
}

impl Assignment {
    /// As bytes for SyncGroup.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From SyncGroup's answer. None at all is an empty one: the leader did not know of the member.
    ///
    /// # Errors
    /// They are no assignment.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes).map_err(|error| MessageError { who: "the leader", detail: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_has_a_default_and_what_is_new_is_passed_over() {
        let read = Subscription::from_bytes(br#"{"host":"a","shard_count":16,"mood":"good"}"#).unwrap();
        assert_eq!((read.weight, read.generation, read.draining), (100, -1, false));
        assert_eq!(Subscription::from_bytes(&read.to_bytes()).unwrap(), read);
        assert!(Subscription::from_bytes(b"{\"host\":\"a\"}").is_err());
        assert!(Subscription::from_bytes(&[0, 1, 2]).is_err());
    }

    #[test]
    fn a_count_of_shards_out_of_thin_air_is_refused() {
        let says = |count: u32| Subscription::from_bytes(format!(r#"{{"host":"a","shard_count":{count}}}"#).as_bytes());
        assert_eq!(says(SHARDS_MAX).unwrap().shard_count, SHARDS_MAX);
        let error = says(SHARDS_MAX + 1).unwrap_err().to_string();
        assert!(error.contains("16385 shards, and no mirror has more than 16384"), "{error}");
        assert!(says(u32::MAX).is_err());
    }

    #[test]
    fn an_assignment_survives_its_bytes() {
        let given = Assignment { shards: [(3, Origin::Kept), (7, Origin::Member)].into(), elected: true, slot: None };
        assert_eq!(given.to_bytes(), br#"{"shards":{"3":"kept","7":"member"},"elected":true}"#);
        assert_eq!(Assignment::from_bytes(&given.to_bytes()).unwrap(), given);
        assert_eq!(Assignment::from_bytes(b"").unwrap(), Assignment::default());
        let with_slot = Assignment { slot: Some(2), ..given };
        assert_eq!(Assignment::from_bytes(&with_slot.to_bytes()).unwrap(), with_slot);
    }

    /// A shard that comes in a way that is not known might be somebody else's still.
    #[test]
    fn an_assignment_of_a_later_kind_is_not_guessed() {
        let known = Assignment::from_bytes(br#"{"shards":{"3":"kept"},"elected":true,"since":"later"}"#).unwrap();
        assert_eq!(known, Assignment { shards: [(3, Origin::Kept)].into(), elected: true, slot: None });
        let error = Assignment::from_bytes(br#"{"shards":{"3":"borrowed"}}"#).unwrap_err().to_string();
        assert!(error.contains("the leader of the fleet") && error.contains("run one version everywhere"), "{error}");
    }
}
