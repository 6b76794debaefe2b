//! What waits longest.

use super::Appender;

impl Appender {
    /// Source offset of the first record that is not known to be on the target yet, and its batch's first timestamp, ms.
    /// `None` where nothing is under way.
    pub fn first_open(&self) -> Option<(i64, i64)> {
        let ready = &self.queue.front()?.ready;
        Some((ready.runs.first()?.source, ready.header.base_timestamp))
    }
}
