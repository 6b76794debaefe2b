//! Small batches that wait together travel as one.
//!
//! A broker takes one batch per partition and request, and works on each append as long as on a large one, so that small
//! batches would hold each other up (measured: 50,000 one-record batches a second). Nothing waits to be coalesced: only
//! what stands in the queue when a batch may be sent is joined to it. What was sent once stays as it was sent.

use super::{Appender, Entry, Status, Verdict};
use crate::batch::{self, ATTR_CODEC_MASK};
use crate::mirror::{Path, Ready, Run};

/// A batch of this size or more passes untouched: what a broker spends on an append is spread over enough bytes.
const SMALL_BYTES: usize = 4 << 10;
/// What small compressed batches may unfold to together, bytes.
const DECODE_LIMIT_BYTES: usize = 1 << 20;

impl Appender {
    /// Joins small batches behind the one at `at` to it.
    pub(super) fn coalesce(&mut self, at: usize) {
        let count = self.joinable(at);
        if count < 2 {
            return;
        }
        let parts = self.queue.range(at..at + count).map(|e| (&e.ready.header, &e.ready.payload));
        let made = match batch::coalesce(parts, DECODE_LIMIT_BYTES) {
            Ok(made) if made.used > 1 => made,
            // What is wrong with it is for the target to say.
            _ => {
                if let Some(entry) = self.queue.get_mut(at) {
                    entry.alone = true;
                }
                return;
            }
        };
        let joined: Vec<Entry> = self.queue.drain(at..at + made.used).collect();
        let Some(first) = joined.first() else { return };
        let (target, leader_epoch) = (first.target, first.ready.leader_epoch);
        let ticket = joined.last().map_or(0, |e| e.ticket);
        let parts: Vec<Ready> = joined.into_iter().map(|e| e.ready).collect();
        let (header, payload, path) = (made.header, made.payload, Path::Coalesced);
        let ready = Ready { header, payload, runs: runs(&parts), leader_epoch, path };
        self.queued_bytes = self.queued_bytes + ready.bytes() - bytes(&parts);
        self.queue.insert(at, Entry { parts, ..Entry::new(target, ready, ticket) });
        self.sent = self.sent.saturating_sub(made.used - 1).max(at.min(self.sent));
    }

    /// How many batches from `at` on may travel as one.
    fn joinable(&self, at: usize) -> usize {
        let mut bytes = 0;
        let mut codec = None;
        let fits = |e: &&Entry| {
            let own = e.ready.header.attributes & ATTR_CODEC_MASK;
            bytes += e.ready.bytes();
            *codec.get_or_insert(own) == own
                && e.ready.bytes() < SMALL_BYTES
                && bytes <= self.coalesce_bytes
                && e.ticket <= self.ticket_acked
                && e.status == Status::Queued
                && !(e.unknown || e.alone)
                && e.parts.is_empty()
        };
        self.queue.range(at..).take_while(fits).count()
    }

    /// A coalesced batch was refused: its parts go one by one, so that no more than what is refused halts.
    pub(super) fn take_apart(&mut self, at: usize, too_large: bool) -> Verdict {
        let Some(entry) = self.queue.remove(at) else { return Verdict::Go };
        if too_large {
            self.coalesce_bytes = entry.ready.bytes() / 2;
        }
        self.queued_bytes = self.queued_bytes + bytes(&entry.parts) - entry.ready.bytes();
        self.sent += entry.parts.len() - 1;
        let mut target = entry.target;
        for (number, ready) in entry.parts.into_iter().enumerate() {
            let count = i64::from(ready.count());
            self.queue.insert(at + number, Entry { alone: true, ..Entry::new(target, ready, entry.ticket) });
            target += count;
        }
        Verdict::Go
    }
}

fn bytes(parts: &[Ready]) -> usize {
    parts.iter().map(Ready::bytes).sum()
}

fn runs(parts: &[Ready]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for run in parts.iter().flat_map(|part| &part.runs) {
        match runs.last_mut() {
            Some(last) if run.gaps.is_empty() && last.source + i64::from(last.count) == run.source => {
                last.count += run.count;
            }
            _ => runs.push(run.clone()),
        }
    }
    runs
}
