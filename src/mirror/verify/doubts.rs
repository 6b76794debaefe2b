//! Records that are gone from a compacted target without a trace. Its cleaner removes a record only where a newer one of the same key
//! follows, or a tombstone that has had its time: where neither is found, the record was lost.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::batch::Record;

/// Keys that wait for their explanation.
const KEYS_MAX: usize = 100_000;

/// Of each key (its hash) the newest record that is gone: source and target offset. Older ones were removed while that one stood
/// there.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    gone: HashMap<u64, (i64, i64)>,
}

impl Doubts {
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty()
    }

    /// A record of the source that is gone at this target offset. False where there is no room to follow it up.
    pub(super) fn take(&mut self, record: &Record, target: i64) -> bool {
        // A cleaner removes what has no key, and tombstones after a time.
        let Some(key) = &record.key else { return true };
        if record.value.is_none() {
            self.gone.remove(&print(key));
            return true;
        }
        let key = print(key);
        let has_room = self.gone.len() < KEYS_MAX || self.gone.contains_key(&key);
        if has_room {
            self.gone.insert(key, (record.offset, target));
        }
        has_room
    }

    /// A record that stands on the target, further up.
    pub(super) fn explained_by(&mut self, record: &Record) {
        if let Some(key) = record.key.as_ref().filter(|_| !self.gone.is_empty()) {
            self.gone.remove(&print(key));
        }
    }

    /// What nothing has explained: source and target offsets, in order.
    pub(super) fn left(&mut self) -> Vec<(i64, i64)> {
        let mut left: Vec<(i64, i64)> = self.gone.drain().map(|(_, at)| at).collect();
        left.sort_unstable();
        left
    }
}

fn print(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
