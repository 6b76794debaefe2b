//! Compare-and-append: each batch is bound to the target offset it must land on, and carries it as its sequence.
//!
//! The sequence is `(T − origin) mod 2^31`, where the origin is the target offset at which the present producer epoch
//! began on the partition. To the broker a produce therefore says "append at T, or tell me". Retries are
//! byte-identical. The rules are those measured on Kafka 4.3.1 and 3.9.1 (see `lib.rs`, "What a broker promises").

use std::collections::VecDeque;

use bytes::Bytes;

use crate::batch::{self, HEADER_LEN, Stamp};

use super::{Break, Halt, HaltKind, Path, Ready, Why};

/// Batches of one partition that may be under way at once, once the broker has proven to hold the producer's state:
/// the broker recognises a repeated batch within the last five.
pub const WINDOW: usize = 5;

/// Who writes to the partition, and where its sequences count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer {
    /// Producer id of the shard.
    pub producer_id: i64,
    /// Producer epoch in force on this partition.
    pub producer_epoch: i16,
    /// Target offset that carries sequence 0.
    pub origin: i64,
}

impl Writer {
    /// The sequence of the batch bound for target offset `target`.
    pub fn sequence_at(&self, target: i64) -> i32 {
        batch::sequence_add(0, target - self.origin)
    }
}

/// A batch on its way out: what goes on the wire for one partition.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Target offset it is bound to; names the batch in the answer.
    pub target: i64,
    /// The stamped header.
    pub header: [u8; HEADER_LEN],
    /// The records section.
    pub payload: Bytes,
    /// When its newest record was written, ms.
    pub written_ms: i64,
}

impl Outgoing {
    /// Bytes on the wire.
    pub fn bytes(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }
}

/// What became of a batch that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// No error.
    Appended {
        /// Where the broker says it stands.
        base_offset: i64,
    },
    /// An error code of the partition.
    Refused {
        /// Kafka error code.
        code: i16,
        /// The code's name and the broker's message.
        message: String,
        /// Whether trying again can help at all (decided in `client::classify`).
        retriable: bool,
    },
    /// No answer: the connection broke or the time was up. It may have been appended or not.
    Lost,
    /// Nothing of it left: there was no connection to send it on. It was not appended by this try.
    NotSent,
}

/// What the engine must do after an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing beyond going on.
    Go,
    /// Refresh the target's metadata; the batch goes again by itself after a pause.
    Refresh,
    /// The outcome cannot be told by sending again: record [`Appender::displacements`] if there are any, take this
    /// partition over, settle its end, go on.
    TakeOver(String),
    /// A batch landed above its offset: look at what lies in `[at, to)`, correct the map, start the partition anew.
    /// Said once no outcome is open any more, so nothing is in flight. Where somebody else writes as well there can be
    /// more than one: [`Appender::displacements`] has them all, this is the first.
    Displaced {
        /// Offset it was bound to.
        at: i64,
        /// Offset it landed on.
        to: i64,
    },
    /// Another owner has fenced this one.
    Fenced(String),
    /// The partition must stand still.
    Halt(Halt),
}

/// Batches that landed above the offset they were bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Displacement {
    /// Where the first of them was bound to, with every earlier displacement taken into account.
    pub at: i64,
    /// Where it landed.
    pub to: i64,
    /// The end of those that landed in step with it.
    pub end: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Queued,
    InFlight,
    /// Appended at this offset; something before it is still open.
    Done(i64),
}

#[derive(Debug)]
struct Entry {
    target: i64,
    ready: Ready,
    ticket: u64,
    status: Status,
    /// The checksum it was last sent with.
    crc: u32,
    /// It was sent, and whether it was appended is not known: only the same bytes may follow.
    unknown: bool,
    /// The batches that it was made of, where it is coalesced.
    parts: Vec<Ready>,
    /// It travels as it is.
    alone: bool,
}

impl Entry {
    fn new(target: i64, ready: Ready, ticket: u64) -> Self {
        Self { target, ready, ticket, status: Status::Queued, crc: 0, unknown: false, parts: Vec::new(), alone: false }
    }

    /// When its newest record was written, ms: what the age of the broker's producer state counts from.
    fn written_ms(&self) -> u64 {
        u64::try_from(self.ready.header.max_timestamp).unwrap_or(0)
    }
}

/// The writing side of a mirrored partition.
#[derive(Debug)]
pub struct Appender {
    writer: Writer,
    /// Target offset of the next batch to be queued.
    next: i64,
    /// Everything below is known to be appended.
    settled: i64,
    /// Records in the current map segment so far.
    run: u64,
    segment_epoch: Option<i32>,
    /// Target offsets to skip in front of the very first segment.
    first_gap: Option<u64>,
    queue: VecDeque<Entry>,
    /// Entries from the front on that were ever sent, and those between: behind them all are queued, and nothing is open.
    sent: usize,
    queued_bytes: usize,
    /// A coalesced batch is no larger than this.
    coalesce_bytes: usize,
    breaks: Vec<Break>,
    ticket_made: u64,
    ticket_acked: u64,
    /// The broker has shown that it holds the producer's state, and keeps it until this time, ms.
    proven_until_ms: Option<u64>,
    recovering: bool,
    /// An answer named another offset than the batch was bound to. Open outcomes are still established; nothing new
    /// is sent until the map is corrected and the partition starts anew.
    out_of_step: bool,
    displacements: Vec<Displacement>,
    failures: u32,
    not_before_ms: u64,
    /// Producer state of batches older than this is soon forgotten by the broker, ms.
    state_lifetime_ms: u64,
    last_crc: Option<u32>,
    paths: Paths,
}

/// What was appended: batches by the way they took, and what they held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Paths {
    /// As they came.
    pub raw: u64,
    /// Made of several.
    pub coalesced: u64,
    /// Decoded and encoded again, in the order of [`Why`].
    pub reencoded: [u64; 4],
    /// Records in all of them.
    pub records: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
}

impl Paths {
    fn count(&mut self, ready: &Ready) {
        match ready.path {
            Path::Raw => self.raw += 1,
            Path::Coalesced => self.coalesced += 1,
            Path::Reencoded(Why::Holes) => self.reencoded[0] += 1,
            Path::Reencoded(Why::LogAppendTime) => self.reencoded[1] += 1,
            Path::Reencoded(Why::Partial) => self.reencoded[2] += 1,
            Path::Reencoded(Why::OutOfStep) => self.reencoded[3] += 1,
        }
        self.records += u64::from(ready.count());
        self.bytes += ready.bytes() as u64;
    }
}

/// Where the current map segment stands when an appender starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// The map is empty: the first break gives its absolute start.
    None,
    /// The last segment of the map has this many records so far and this source leader epoch.
    Open {
        /// Records so far.
        run: u64,
        /// Source leader epoch.
        leader_epoch: i32,
    },
}

impl Appender {
    /// Appends from target offset `end` on. `state_lifetime_ms` is the target's `producer.id.expiration.ms` less a
    /// margin.
    pub fn new(writer: Writer, end: i64, segment: Segment, state_lifetime_ms: u64) -> Self {
        let (run, segment_epoch, first_gap) = match segment {
            Segment::None => (0, None, Some(end.unsigned_abs())),
            Segment::Open { run, leader_epoch } => (run, Some(leader_epoch), None),
        };
        Self {
            writer,
            next: end,
            settled: end,
            run,
            segment_epoch,
            first_gap,
            queue: VecDeque::new(),
            sent: 0,
            queued_bytes: 0,
            coalesce_bytes: 0,
            breaks: Vec::new(),
            ticket_made: 0,
            ticket_acked: 0,
            proven_until_ms: None,
            recovering: false,
            out_of_step: false,
            displacements: Vec::new(),
            failures: 0,
            not_before_ms: 0,
            state_lifetime_ms,
            last_crc: None,
            paths: Paths::default(),
        }
    }

    /// With small batches that wait together sent as one of at most `bytes`; with 0, and without this, each batch travels
    /// as it is.
    #[must_use]
    pub fn coalescing(self, bytes: usize) -> Self {
        Self { coalesce_bytes: bytes, ..self }
    }

    /// The same, of one that is in use: what goes from now on.
    pub fn coalesce_up_to(&mut self, bytes: usize) {
        self.coalesce_bytes = bytes;
    }

    /// Everything below this target offset is known to be appended.
    pub fn settled(&self) -> i64 {
        self.settled
    }

    /// The writer in force.
    pub fn writer(&self) -> Writer {
        self.writer
    }

    /// Bytes held for this partition.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Whether the last answer was a failure: the target takes nothing at the moment.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether everything taken in has been appended and every break acknowledged.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the outcome of everything sent is known and stands where it was bound to. Only then does a clean stop
    /// release the partition: a request that is still on its way could land behind a release.
    pub fn is_clean(&self) -> bool {
        !self.out_of_step && self.sent().all(|e| e.status == Status::Queued && !e.unknown)
    }

    /// Where batches landed above their offsets since this appender began, in order; each to be written down as it is.
    pub fn displacements(&self) -> &[Displacement] {
        &self.displacements
    }

    /// Why this partition must be taken over although no answer says so: it holds a batch that may have been appended,
    /// and whose records are so old by now that the broker may have forgotten the producer. Sent again it could be
    /// appended twice, so it is not sent any more. To be asked at least as often as the margin of the state's lifetime.
    pub fn overdue(&self, now_ms: u64) -> Option<String> {
        let stale = |e: &&Entry| e.unknown && e.status == Status::Queued && self.is_old(e, now_ms);
        let entry = self.sent().find(stale)?;
        Some(format!(
            "whether the batch bound for target offset {} was appended is not known, and its records (written at {} ms) \
             are older than the broker keeps sequences",
            entry.target, entry.ready.header.max_timestamp
        ))
    }

    /// How many answers are outstanding.
    pub fn in_flight(&self) -> usize {
        self.sent().filter(|e| e.status == Status::InFlight).count()
    }

    fn sent(&self) -> impl Iterator<Item = &Entry> {
        self.queue.range(..self.sent)
    }

    /// Batches appended since this was last asked.
    pub fn take_paths(&mut self) -> Paths {
        std::mem::take(&mut self.paths)
    }

    /// CRC of the last batch appended by this appender, as it stands on the target.
    pub fn last_crc(&self) -> Option<u32> {
        self.last_crc
    }

    /// Queues a batch behind the others and notes the map breaks it needs.
    pub fn push(&mut self, ready: Ready) {
        let target = self.next;
        for run in &ready.runs {
            self.note_break(run.gaps.clone(), ready.leader_epoch);
            self.run += u64::from(run.count);
        }
        self.next += i64::from(ready.count());
        self.queued_bytes += ready.bytes();
        let ticket = self.ticket_made;
        self.queue.push_back(Entry::new(target, ready, ticket));
    }

    fn note_break(&mut self, gaps: Vec<(super::GapReason, u64)>, leader_epoch: i32) {
        if gaps.is_empty() && self.segment_epoch == Some(leader_epoch) {
            return;
        }
        self.breaks.push(Break {
            run: std::mem::take(&mut self.run),
            gaps,
            target_gap: self.first_gap.take().unwrap_or(0),
            leader_epoch,
            writer_epoch: self.writer.producer_epoch,
        });
        self.segment_epoch = Some(leader_epoch);
        // All breaks noted since the last hand-over travel under one ticket.
        if self.breaks.len() == 1 {
            self.ticket_made += 1;
        }
    }

    /// The breaks to be written ahead, with the ticket to acknowledge them by.
    pub fn take_breaks(&mut self) -> Option<(u64, Vec<Break>)> {
        if self.breaks.is_empty() {
            return None;
        }
        Some((self.ticket_made, std::mem::take(&mut self.breaks)))
    }

    /// The state topic has acknowledged every break up to this ticket.
    pub fn breaks_acked(&mut self, ticket: u64) {
        self.ticket_acked = self.ticket_acked.max(ticket);
    }

    /// Whether [`Appender::take_outgoing`] would give a batch.
    pub fn has_outgoing(&self, now_ms: u64) -> bool {
        self.sendable(now_ms).is_some()
    }

    /// When to ask again although nothing happened: the end of a pause after a failure.
    pub fn wake_at_ms(&self) -> Option<u64> {
        (self.not_before_ms > 0 && !self.queue.is_empty()).then_some(self.not_before_ms)
    }

    fn sendable(&self, now_ms: u64) -> Option<usize> {
        if self.recovering || now_ms < self.not_before_ms {
            return None;
        }
        let at = self.sent().position(|e| e.status == Status::Queued).unwrap_or(self.sent);
        let entry = self.queue.get(at)?;
        let old = self.is_old(entry, now_ms);
        let forbidden = if entry.unknown { old } else { self.out_of_step };
        if forbidden || entry.ticket > self.ticket_acked {
            return None;
        }
        let proven = self.proven_until_ms.is_some_and(|until| now_ms <= until);
        let window = if old || !proven { 1 } else { WINDOW };
        // A batch that must travel alone also lets none follow it: the ones behind it see it in flight.
        let blocked = self.sent().any(|e| e.status == Status::InFlight && self.is_old(e, now_ms));
        // Counted from the first batch that is not settled, answered or not: the broker must still recognise that one.
        (at < window && !blocked).then_some(at)
    }

    fn is_old(&self, entry: &Entry, now_ms: u64) -> bool {
        entry.written_ms().saturating_add(self.state_lifetime_ms) < now_ms
    }

    /// The next batch to put on the wire; it counts as in flight from here on.
    pub fn take_outgoing(&mut self, now_ms: u64) -> Option<Outgoing> {
        let at = self.sendable(now_ms)?;
        self.coalesce(at);
        let writer = self.writer;
        self.not_before_ms = 0;
        self.sent = self.sent.max(at + 1);
        let entry = self.queue.get_mut(at)?;
        entry.status = Status::InFlight;
        let stamp = Stamp {
            producer_id: writer.producer_id,
            producer_epoch: writer.producer_epoch,
            base_sequence: writer.sequence_at(entry.target),
        };
        let header = batch::rewrite(&entry.ready.header, stamp);
        entry.crc = batch::stated_crc(&header);
        let written_ms = entry.ready.header.max_timestamp;
        Some(Outgoing { target: entry.target, header, payload: entry.ready.payload.clone(), written_ms })
    }

    /// What became of the batch bound to `target`.
    pub fn answer(&mut self, target: i64, answer: Answer, now_ms: u64) -> Verdict {
        let Some(at) = self.sent().position(|e| e.target == target && e.status == Status::InFlight) else {
            return Verdict::Halt(Halt::new(
                HaltKind::Unexpected,
                format!("an answer for target offset {target}, where nothing is under way"),
            ));
        };
        let verdict = match answer {
            Answer::Appended { base_offset } => self.landed(at, target, base_offset),
            Answer::Lost => self.unsettled(at, "the connection broke before the answer came", now_ms),
            Answer::NotSent => {
                // What an earlier try of it left open stays open: `unknown` is as it was.
                self.back_to_queue(at, now_ms);
                Verdict::Refresh
            }
            Answer::Refused { code, message, retriable } => self.refused(at, code, &message, retriable, now_ms),
        };
        self.end_recovery();
        self.conclude(verdict)
    }

    fn landed(&mut self, at: usize, target: i64, base_offset: i64) -> Verdict {
        if base_offset < target.max(self.settled) {
            self.back_to_queue(at, 0);
            return Verdict::Halt(Halt::new(
                HaltKind::TargetTruncated,
                format!(
                    "a batch bound for target offset {target} landed on {base_offset}, below the end of what had been \
                     acknowledged ({}): the target lost records",
                    self.settled
                ),
            ));
        }
        self.out_of_step |= base_offset != target;
        if let Some(entry) = self.queue.get_mut(at) {
            entry.status = Status::Done(base_offset);
            entry.unknown = false;
            self.proven_until_ms = Some(entry.written_ms().saturating_add(self.state_lifetime_ms));
        }
        self.failures = 0;
        self.not_before_ms = 0;
        while let Some(base) =
            self.queue.front().and_then(|e| if let Status::Done(base) = e.status { Some(base) } else { None })
        {
            let Some(entry) = self.queue.pop_front() else { break };
            self.sent -= 1;
            self.settle(&entry, base);
        }
        Verdict::Go
    }

    /// Counts the front batch as appended; notes it if that was further up than those before it.
    fn settle(&mut self, entry: &Entry, base: i64) {
        let end = base + i64::from(entry.ready.count());
        match self.displacements.last_mut() {
            _ if base > self.settled => {
                self.displacements.push(Displacement { at: self.settled, to: base, end });
            }
            Some(last) => last.end = end,
            None => {}
        }
        self.settled = end;
        self.queued_bytes -= entry.ready.bytes();
        self.last_crc = Some(entry.crc);
        self.paths.count(&entry.ready);
    }

    /// Once every outcome is known, says what was found out of step.
    fn conclude(&mut self, verdict: Verdict) -> Verdict {
        if !self.out_of_step || !matches!(verdict, Verdict::Go | Verdict::Refresh) {
            return verdict;
        }
        if self.sent().any(|e| e.status == Status::InFlight || e.unknown) {
            let next = self.queue.iter().find(|e| e.status == Status::Queued);
            let stuck = self.in_flight() == 0 && next.is_some_and(|e| !e.unknown);
            // The batch in front of an open outcome was refused, and nothing new is sent any more.
            return if stuck {
                Verdict::TakeOver("an outcome behind a refused batch is open".to_owned())
            } else {
                verdict
            };
        }
        match self.displacements.first() {
            Some(first) if self.sent().all(|e| e.status == Status::Queued) => {
                Verdict::Displaced { at: first.at, to: first.to }
            }
            _ => Verdict::Halt(Halt::new(
                HaltKind::Unexpected,
                format!("a batch was appended although the one in front of it, bound for {}, was not", self.settled),
            )),
        }
    }

    /// Nothing goes out again before every answer of the failed flight is in: else a batch could overtake.
    fn end_recovery(&mut self) {
        self.recovering = self.recovering && self.in_flight() > 0;
    }

    /// The partition's leader moved: one batch at a time until the new one proves that it knows the sequence.
    pub fn leader_changed(&mut self) {
        self.proven_until_ms = None;
    }
}

mod coalescing;
mod refusals;
#[cfg(test)]
mod tests;
mod waiting;
