//! Requests and answers in a line of the trace.

use kmirror::batch::{self, BatchHeader, Batches, RawBatch};
use kmirror::mirror::decode_state;

use crate::sim::broker::LogId;
use crate::sim::driver::io::{Request, Response};
use crate::sim::net::Stage;

pub(super) fn orphaned(orphan: bool) -> &'static str {
    if orphan { "late " } else { "" }
}

pub(super) fn brief(request: &Request) -> String {
    match request {
        Request::Produce { log: LogId::State, bytes } => {
            let raw = RawBatch::parse(bytes.clone()).unwrap();
            let records = batch::decode(&raw, 1 << 20).unwrap();
            let decoded = records.into_iter().map(|r| decode_state(&r.value.unwrap()).unwrap());
            let (epoch, sequence) = (raw.header.producer_epoch, raw.header.base_sequence);
            format!("State epoch {epoch} seq {sequence} {:?}", decoded.collect::<Vec<_>>())
        }
        Request::Produce { log, bytes } => {
            let header = BatchHeader::parse(bytes).unwrap();
            let (epoch, first, count) = (header.producer_epoch, header.base_sequence, header.records_count);
            format!("{log:?} epoch {epoch} seq {first} count {count}")
        }
        other => format!("{other:?}"),
    }
}

pub(super) fn brief_stage(stage: &Stage) -> String {
    match stage {
        Stage::Answered(Response::Slice(slice)) => format!(
            "error {} diverging {:?} start {} readable {} aborted {:?} {}",
            slice.error,
            slice.diverging,
            slice.start,
            slice.readable,
            slice.aborted,
            Batches::new(slice.bytes.clone())
                .map(|b| b.map_or_else(
                    |e| e.to_string(),
                    |b| format!(
                        "[{}..{}{}]",
                        b.header.base_offset,
                        b.header.next_offset(),
                        if b.header.is_control() { " control" } else { "" }
                    )
                ))
                .collect::<String>()
        ),
        other => format!("{other:?}"),
    }
}
