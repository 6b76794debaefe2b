//! What was last written for the groups on the target, and when: how a mirror knows its own offsets again.

use std::collections::BTreeMap;

use super::ByPartition;

/// No offset, and no time.
const NONE: i64 = -1;

/// What was written for one partition of a group. Small: there may be a hundred thousands of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The offset that stands there for all that is known.
    stands: i64,
    /// One that was sent and not answered: it may stand there as well.
    sent: i64,
    /// When the broker last took one, ms since the epoch.
    at_ms: i64,
}

impl Written {
    const NOTHING: Self = Self { stands: NONE, sent: NONE, at_ms: NONE };

    /// Whether an offset found on the target may be of this mirror.
    pub fn may_be(&self, found: i64) -> bool {
        found >= 0 && (self.stands == found || self.sent == found)
    }

    /// The offset last written.
    pub fn offset(&self) -> Option<i64> {
        Some(self.stands).filter(|offset| *offset >= 0)
    }

    /// When the broker took it, ms since the epoch.
    pub fn at_ms(&self) -> Option<i64> {
        Some(self.at_ms).filter(|at| *at >= 0)
    }
}

/// All that was written, by group and target partition. It holds offsets only: who commits the same offset with other
/// metadata has changed nothing about where the group goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    groups: BTreeMap<String, ByPartition<Written>>,
}

impl Ledger {
    /// The groups ever written to.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// What was written for a group, by target topic.
    pub fn group(&self, group: &str) -> Option<&ByPartition<Written>> {
        self.groups.get(group)
    }

    /// An offset is about to be sent. To be noted before it is: where no answer comes, the offset may have been taken, and
    /// must not pass for somebody else's. `found` is what stood there when the plan was made.
    pub fn sending(&mut self, group: &str, topic: &str, partition: i32, found: Option<i64>, offset: i64) {
        let entry = self.entry(group, topic, partition);
        // An earlier one without an answer has arrived.
        if let Some(found) = found.filter(|found| entry.may_be(*found)) {
            entry.stands = found;
        }
        entry.sent = offset;
    }

    /// The broker took what was sent last.
    pub fn taken(&mut self, group: &str, topic: &str, partition: i32, at_ms: i64) {
        let entry = self.entry(group, topic, partition);
        if entry.sent >= 0 {
            *entry = Written { stands: entry.sent, sent: NONE, at_ms };
        }
    }

    /// What an earlier run left on record: `offset` was written at `at_ms`.
    pub fn restore(&mut self, group: &str, topic: &str, partition: i32, offset: i64, at_ms: i64) {
        *self.entry(group, topic, partition) = Written { stands: offset, sent: NONE, at_ms };
    }

    /// What an earlier run noted before it sent `sent`; `stood` was there then, and may be still. Of any age.
    pub fn recall(&mut self, group: &str, topic: &str, partition: i32, stood: Option<i64>, sent: i64) {
        *self.entry(group, topic, partition) = Written { stands: stood.unwrap_or(NONE), sent, at_ms: NONE };
    }

    /// Nothing of what was written for a group is known any more.
    pub fn forget(&mut self, group: &str) {
        self.groups.remove(group);
    }

    fn entry(&mut self, group: &str, topic: &str, partition: i32) -> &mut Written {
        self.groups.entry(group.to_owned()).or_default().entry(topic, partition, || Written::NOTHING)
    }
}
