//! What a refusal means, and what becomes of the batch: it goes again, its partition is taken over, or stands still.

use super::{Appender, Ready, Status, Verdict};
use crate::batch;
use crate::mirror::{Halt, HaltKind};

const BACKOFF_MIN_MS: u64 = 50;
pub(super) const BACKOFF_MAX_MS: u64 = 5_000;
/// A batch that is sound here and that the target calls corrupt was damaged on the way; so often it may be.
pub(super) const CORRUPT_RETRIES: u32 = 5;

/// Kafka error codes that mean something of their own to compare-and-append.
pub(super) mod code {
    pub(in crate::mirror::append) const CORRUPT_MESSAGE: i16 = 2;
    pub(in crate::mirror::append) const MESSAGE_TOO_LARGE: i16 = 10;
    pub(in crate::mirror::append) const RECORD_LIST_TOO_LARGE: i16 = 18;
    pub(in crate::mirror::append) const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    pub(in crate::mirror::append) const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
    pub(in crate::mirror::append) const INVALID_TIMESTAMP: i16 = 32;
    pub(in crate::mirror::append) const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    /// Below Kafka 2.5: a repeated batch that is not among the last five.
    pub(in crate::mirror::append) const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;
    pub(in crate::mirror::append) const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub(in crate::mirror::append) const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
    /// Below Kafka 2.5: no state of this producer.
    pub(in crate::mirror::append) const UNKNOWN_PRODUCER_ID: i16 = 59;
    pub(in crate::mirror::append) const UNKNOWN_TOPIC_ID: i16 = 100;
    pub(in crate::mirror::append) const INVALID_RECORD: i16 = 87;
    pub(in crate::mirror::append) const PRODUCER_FENCED: i16 = 90;
    pub(in crate::mirror::append) const POLICY_VIOLATION: i16 = 44;
}

impl Appender {
    pub(super) fn refused(&mut self, at: usize, code: i16, message: &str, retriable: bool, now_ms: u64) -> Verdict {
        let behind_failure = self.recovering;
        match code {
            code::INVALID_PRODUCER_EPOCH | code::PRODUCER_FENCED => {
                self.back_to_queue(at, now_ms);
                Verdict::Fenced(message.to_owned())
            }
            // Behind a failed batch this is what must come: the broker keeps the order.
            code::OUT_OF_ORDER_SEQUENCE_NUMBER if behind_failure => {
                self.back_to_queue(at, now_ms);
                Verdict::Go
            }
            code::OUT_OF_ORDER_SEQUENCE_NUMBER | code::DUPLICATE_SEQUENCE_NUMBER | code::UNKNOWN_PRODUCER_ID => {
                self.back_to_queue(at, now_ms);
                Verdict::TakeOver(format!("the broker's sequence differs from ours: {message}"))
            }
            // Clients call this retriable. It is only where our own copy is sound.
            code::CORRUPT_MESSAGE if self.failures < CORRUPT_RETRIES && self.is_sound(at) => {
                self.unsettled(at, message, now_ms)
            }
            code if retriable && code != code::CORRUPT_MESSAGE => self.unsettled(at, message, now_ms),
            _ => {
                let halt = self.halt_for(at, code, message);
                let coalesced = self.queue.get(at).filter(|e| halt.range.is_some() && !e.parts.is_empty());
                let unknown = coalesced.map(|e| e.unknown);
                self.back_to_queue(at, now_ms);
                match unknown {
                    None => Verdict::Halt(halt),
                    Some(false) => self.take_apart(at, halt.kind == HaltKind::MessageTooLarge),
                    // An earlier try may have been appended as it was.
                    Some(true) => Verdict::TakeOver(halt.to_string()),
                }
            }
        }
    }

    /// Whether the batch, as it is held here, fits the checksum that the source gave it.
    fn is_sound(&self, at: usize) -> bool {
        self.queue.get(at).is_some_and(|e| batch::check_crc_of(&e.ready.header, &e.ready.payload).is_ok())
    }

    fn halt_for(&self, at: usize, code: i16, message: &str) -> Halt {
        let (from, to) = self.queue.get(at).map_or((0, 0), |e| source_range(&e.ready));
        let kind = match code {
            code::CORRUPT_MESSAGE => HaltKind::CorruptBatch,
            code::MESSAGE_TOO_LARGE | code::RECORD_LIST_TOO_LARGE => HaltKind::MessageTooLarge,
            code::INVALID_RECORD | code::INVALID_TIMESTAMP | code::POLICY_VIOLATION => HaltKind::InvalidRecord,
            code::TOPIC_AUTHORIZATION_FAILED
            | code::CLUSTER_AUTHORIZATION_FAILED
            | code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => {
                return Halt::new(HaltKind::Unauthorised, message.to_owned());
            }
            code::UNKNOWN_TOPIC_ID => return Halt::new(HaltKind::TargetRecreated, message.to_owned()),
            _ => return Halt::new(HaltKind::Unexpected, format!("the target answered {message} ({code})")),
        };
        Halt::over(kind, from, to, format!("the target answered {message} ({code})"))
    }

    /// It may have been appended or not. Sending it again tells, as long as the broker still knows our sequence.
    pub(super) fn unsettled(&mut self, at: usize, why: &str, now_ms: u64) -> Verdict {
        let old = self.queue.get(at).is_some_and(|e| self.is_old(e, now_ms));
        if let Some(entry) = self.queue.get_mut(at) {
            entry.unknown = true;
        }
        self.back_to_queue(at, now_ms);
        if old {
            return Verdict::TakeOver(format!("{why}, and the records are older than the broker keeps sequences"));
        }
        Verdict::Refresh
    }

    pub(super) fn back_to_queue(&mut self, at: usize, now_ms: u64) {
        if let Some(entry) = self.queue.get_mut(at) {
            entry.status = Status::Queued;
        }
        if !self.recovering {
            self.failures = self.failures.saturating_add(1);
            let pause = BACKOFF_MIN_MS.saturating_mul(1 << self.failures.min(10)).min(BACKOFF_MAX_MS);
            self.not_before_ms = now_ms + pause;
        }
        self.recovering = true;
        self.proven_until_ms = None;
    }
}

fn source_range(ready: &Ready) -> (i64, i64) {
    let from = ready.runs.first().map_or(0, |r| r.source);
    let to = ready.runs.last().map_or(0, |r| r.source + i64::from(r.count));
    (from, to)
}
