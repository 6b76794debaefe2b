//! The engine, broken on purpose. Each mutation drops one rule at the boundary of the pure core; the simulation must
//! notice every one of them, or its silence about the unbroken engine would mean nothing.

use bytes::{BufMut, Bytes, BytesMut};
use kmirror::mirror::{Answer, Break, FetchedRecords, GapReason, Outgoing, Writer};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Batches go out before the breaks that they need are acknowledged.
    SkipWriteAhead,
    /// Whatever base offset an answer names, the batch is taken to stand where it was bound to.
    IgnoreBaseOffset,
    /// A batch carries the sequence of the one before it.
    ReuseSequence,
    /// What may have been appended is sent again although the broker may have forgotten the producer.
    ResendExpired,
    /// The origin of a take-over is not written down.
    DropOrigin,
    /// The end of the log is taken for the marker.
    SkipMarkerWait,
    /// The settled end is looked for before the marker stands.
    SettleBeforeMarker,
    /// State is read without a marker behind it.
    SkipStateMarker,
    /// Fetches do not name the epoch in front of them, so a truncation of the source is not told.
    IgnoreDivergence,
    /// Records of aborted transactions are mirrored.
    MirrorAborted,
    /// A gap is written down with a reason that is not its own.
    MistakeGapReason,
    /// A gap is left out of the break.
    LoseGap,
    /// A take-over goes on one record too early.
    PositionOneBack,
    /// A partition whose last outcome is unknown is released.
    ReleaseUnclean,
    /// A release is used without a word in the log: it stands for the next start again.
    ResumeUnrecorded,
    /// A released partition goes on although its log has grown since.
    IgnoreReleasedEnd,
    /// A response to an earlier question is taken for one to this.
    TakeStaleFetch,
    /// How far the source was read without finding anything is not noted.
    ForgetScans,
    /// Breaks of a flow that has ended are written down behind its end.
    KeepBreaksOfEndedFlow,
}

impl Mutation {
    pub(crate) const ALL: [Self; 19] = [
        Self::SkipWriteAhead,
        Self::IgnoreBaseOffset,
        Self::ReuseSequence,
        Self::ResendExpired,
        Self::DropOrigin,
        Self::SkipMarkerWait,
        Self::SettleBeforeMarker,
        Self::SkipStateMarker,
        Self::IgnoreDivergence,
        Self::MirrorAborted,
        Self::MistakeGapReason,
        Self::LoseGap,
        Self::PositionOneBack,
        Self::ReleaseUnclean,
        Self::ResumeUnrecorded,
        Self::IgnoreReleasedEnd,
        Self::TakeStaleFetch,
        Self::ForgetScans,
        Self::KeepBreaksOfEndedFlow,
    ];
}

/// The bytes of a batch as they go out.
pub(crate) fn alter_outgoing(mutation: Option<Mutation>, out: &Outgoing, writer: Writer) -> Bytes {
    let mut bytes = BytesMut::with_capacity(out.bytes());
    bytes.put_slice(&out.header);
    bytes.put_slice(&out.payload);
    if mutation == Some(Mutation::ReuseSequence) && out.target > writer.origin {
        let sequence = writer.sequence_at(out.target - 1);
        bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes.freeze()
}

pub(crate) fn alter_answer(mutation: Option<Mutation>, answer: Answer, target: i64) -> Answer {
    match answer {
        Answer::Appended { .. } if mutation == Some(Mutation::IgnoreBaseOffset) => {
            Answer::Appended { base_offset: target }
        }
        other => other,
    }
}

pub(crate) fn alter_fetched(mutation: Option<Mutation>, mut fetched: FetchedRecords) -> FetchedRecords {
    if mutation == Some(Mutation::MirrorAborted) {
        fetched.aborted.clear();
    }
    fetched
}

pub(crate) fn alter_breaks(mutation: Option<Mutation>, breaks: &mut [Break]) {
    for step in breaks {
        match mutation {
            Some(Mutation::MistakeGapReason) => {
                step.gaps.iter_mut().for_each(|(reason, _)| {
                    if *reason == GapReason::Aborted {
                        *reason = GapReason::Compaction;
                    }
                });
            }
            Some(Mutation::LoseGap) => step.gaps.truncate(step.gaps.len().saturating_sub(1)),
            _ => {}
        }
    }
}
