//! What a mirror has set on the target beside records, so that it never takes for its own what somebody else has set there.
//!
//! An entry is written before the value is set, with what stood there: without an answer either may be there, and both are the
//! mirror's own. Whatever else is found was set by hand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Entries of one record, at most: a batch has to hold one.
pub(super) const ENTRIES_AT_ONCE: usize = 500;

/// What kind of thing an entry is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncKind {
    /// A topic that the mirror has made: of a target topic, without a key; the value is its id.
    Topic,
    /// A config of a topic: of a target topic, by the config's name.
    TopicConfig,
    /// The partition count of a topic. Never on record: it only grows.
    Partitions,
    /// An ACL: by itself, as JSON; the value is empty.
    Acl,
    /// An ACL that a promotion is to create: the same.
    HeldBackAcl,
    /// A client quota: of an entity, as JSON, by the quota's name.
    Quota,
    /// A user with a SCRAM credential. Never on record: nobody but its owner can create it.
    ScramUser,
    /// A topic that is gone from the source: of a target topic, by its id; the value is since when, ms since the epoch.
    Deletion,
    /// One of a newer kmirror.
    #[serde(other)]
    Unknown,
}

/// What an entry is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SyncKey {
    /// Kind.
    pub kind: SyncKind,
    /// Of what.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub of: String,
    /// Which.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
}

impl SyncKey {
    /// A key.
    pub fn new(kind: SyncKind, of: impl Into<String>, key: impl Into<String>) -> Self {
        Self { kind, of: of.into(), key: key.into() }
    }
}

/// What the mirror has set: `None` is nothing, or the cluster's default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Owned {
    /// What was last written, or was about to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What stood there then, which was the mirror's own as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

impl Owned {
    /// A value that is known to be there.
    pub fn settled(value: impl Into<String>) -> Self {
        let value = Some(value.into());
        Self { before: value.clone(), value }
    }

    /// Whether the mirror has set what is found.
    pub fn is(&self, found: Option<&str>) -> bool {
        self.value.as_deref() == found || self.before.as_deref() == found
    }

    /// Whether nothing is left to remember.
    fn is_nothing(&self) -> bool {
        self.value.is_none() && self.before.is_none()
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncEntry {
    /// Of what.
    #[serde(flatten)]
    pub key: SyncKey,
    /// What was set.
    #[serde(flatten)]
    pub owned: Owned,
}

/// The sum of all entries: the last one of a key counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Synced(BTreeMap<SyncKey, Owned>);

impl Synced {
    /// Adds the next entries.
    pub fn apply(&mut self, entries: &[SyncEntry]) {
        for SyncEntry { key, owned } in entries {
            if owned.is_nothing() {
                self.0.remove(key);
            } else {
                self.0.insert(key.clone(), owned.clone());
            }
        }
    }

    /// What the mirror has set of this.
    pub fn get(&self, key: &SyncKey) -> Option<&Owned> {
        self.0.get(key)
    }

    /// Everything of one kind.
    pub fn of_kind(&self, kind: SyncKind) -> impl Iterator<Item = (&SyncKey, &Owned)> {
        self.0.iter().filter(move |(key, _)| key.kind == kind)
    }

    /// Everything of one kind that belongs to this.
    pub fn of<'a>(&'a self, kind: SyncKind, of: &'a str) -> impl Iterator<Item = (&'a SyncKey, &'a Owned)> {
        let from = SyncKey::new(kind, of, "");
        self.0.range(from..).take_while(move |(key, _)| key.kind == kind && key.of == of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: SyncKind, of: &str, key: &str, owned: Owned) -> SyncEntry {
        SyncEntry { key: SyncKey::new(kind, of, key), owned }
    }

    #[test]
    fn the_last_word_counts_and_nothing_is_forgotten_half() {
        let mut synced = Synced::default();
        let under_way = Owned { value: Some("9".into()), before: Some("5".into()) };
        synced.apply(&[
            entry(SyncKind::TopicConfig, "a", "retention.ms", Owned::settled("5")),
            entry(SyncKind::TopicConfig, "a", "retention.ms", under_way.clone()),
            entry(SyncKind::TopicConfig, "ab", "retention.ms", Owned::settled("1")),
            entry(SyncKind::Topic, "a", "", Owned::settled("id")),
        ]);
        let key = SyncKey::new(SyncKind::TopicConfig, "a", "retention.ms");
        assert_eq!(synced.get(&key), Some(&under_way));
        assert!(under_way.is(Some("5")) && under_way.is(Some("9")) && !under_way.is(None) && !under_way.is(Some("7")));
        let of_a: Vec<_> = synced.of(SyncKind::TopicConfig, "a").map(|(key, _)| key.key.as_str()).collect();
        assert_eq!(of_a, ["retention.ms"]);
        assert_eq!(synced.of_kind(SyncKind::TopicConfig).count(), 2);
        // About to be taken away: until it is known to be gone it is the mirror's.
        let leaving = Owned { value: None, before: Some("9".into()) };
        synced.apply(&[SyncEntry { key: key.clone(), owned: leaving }]);
        assert!(synced.get(&key).is_some_and(|owned| owned.is(Some("9")) && owned.is(None)));
        synced.apply(&[SyncEntry { key: key.clone(), owned: Owned::default() }]);
        assert_eq!(synced.get(&key), None);
    }
}
