//! What passes is counted, and shown once a second. On the way of data these are additions of this one thread: a metric is
//! looked up by its name, which is too dear for each batch.

use std::collections::HashMap;

use metrics::Histogram;

use crate::mirror::{Break, GapReason, HaltKind};

use super::super::board::{Board, PartView, Totals};
use super::super::count_error;
use super::super::lane::{Answers, Unanswered};
use super::super::part::{Part, Stage};
use super::Runner;

/// Codes of gap reasons fit in here.
const REASONS: usize = 16;

/// Counts of one mirror.
pub(super) struct Counting {
    mirror: String,
    /// What had passed before this start, until the partition is there again.
    before: HashMap<(String, i32), Totals>,
    gaps: [u64; REASONS],
    leader_changes: [u64; 2],
    /// How long fetches that brought records took.
    pub(super) fetched: Histogram,
    /// How long produce requests took.
    pub(super) produced: Histogram,
    end_to_end: Histogram,
}

impl Counting {
    pub(super) fn new(mirror: &str, board: &Board) -> Self {
        let name = || mirror.to_owned();
        Self {
            mirror: name(),
            before: board.totals(),
            gaps: [0; REASONS],
            leader_changes: [0; 2],
            fetched: metrics::histogram!("kmirror_fetch_latency_seconds", "mirror" => name()),
            produced: metrics::histogram!("kmirror_produce_latency_seconds", "mirror" => name()),
            end_to_end: metrics::histogram!("kmirror_end_to_end_latency_seconds", "mirror" => name()),
        }
    }

    /// What had passed in a partition before.
    pub(super) fn so_far(&mut self, key: &(String, i32)) -> Totals {
        self.before.remove(key).unwrap_or_default()
    }

    /// A produce request came back; the newest record of one of its batches was written then.
    pub(super) fn produced(&self, outcome: &Result<Answers, Unanswered>, written_ms: Option<i64>, now_ms: u64) {
        match outcome {
            Ok(answers) => {
                if answers.iter().any(|answer| answer.error != 0) {
                    self.failed("produce_refused");
                } else if let Some(written_ms) = written_ms.and_then(|at| u64::try_from(at).ok()) {
                    self.end_to_end.record(now_ms.saturating_sub(written_ms) as f64 / 1000.0);
                }
            }
            Err(Unanswered::NotSent(_)) => self.failed("produce_not_sent"),
            Err(Unanswered::Lost(_)) => self.failed("produce_lost"),
        }
    }

    /// Something went wrong that is tried again.
    pub(super) fn failed(&self, class: &'static str) {
        count_error(&self.mirror, class);
    }

    pub(super) fn halted(&self, kind: HaltKind) {
        count_error(&self.mirror, kind.to_string());
    }

    /// Breaks go to the map.
    pub(super) fn noted(&mut self, breaks: &[Break]) {
        for (reason, _) in breaks.iter().flat_map(|at| &at.gaps) {
            if let Some(count) = self.gaps.get_mut(usize::from(reason.code())) {
                *count += 1;
            }
        }
    }

    /// Who leads a partition on either side.
    pub(super) fn led(&mut self, last: &mut [Option<i32>; 2], now: [Option<i32>; 2]) {
        for ((last, now), changes) in last.iter_mut().zip(now).zip(&mut self.leader_changes) {
            *changes += u64::from(last.is_some() && now.is_some() && *last != now);
            *last = now.or(*last);
        }
    }

    fn flush(&mut self) {
        let mirror = || self.mirror.clone();
        for reason in GapReason::all() {
            if let Some(count) = self.gaps.get(usize::from(reason.code())).filter(|count| **count > 0) {
                let labels = [("mirror", mirror()), ("reason", reason.to_string())];
                metrics::counter!("kmirror_gaps_total", &labels).increment(*count);
            }
        }
        for (side, count) in ["source", "target"].into_iter().zip(self.leader_changes) {
            metrics::counter!("kmirror_leader_changes_total", "mirror" => mirror(), "side" => side).increment(count);
        }
        (self.gaps, self.leader_changes) = ([0; REASONS], [0; 2]);
    }
}

impl Runner {
    /// Shows where every partition stands, for metrics and the HTTP API.
    pub(super) fn publish(&mut self, now_ms: u64) {
        if !self.board.is_due(now_ms) {
            return;
        }
        self.counting.flush();
        self.count_batches();
        let connections = (self.shared.source.open_connections(), self.shared.target.open_connections());
        self.board.connected(connections);
        // Before the first discovery nothing is known of partitions, which is not the same as that there are none: nobody is ready.
        if self.discovered {
            self.show(now_ms);
        }
        self.weigh(now_ms);
    }

    fn show(&mut self, now_ms: u64) {
        let at_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let silent: Vec<Option<i64>> = self.parts.ids().into_iter().map(|id| self.silent_since(id)).collect();
        let parts = self.parts.all_mut().zip(silent).filter(|(part, _)| part.selected);
        let views = parts.map(|(part, silent)| view(part, silent, at_ms));
        self.board.publish(now_ms, views);
    }

    /// When the partition was last heard of, where its leader is silent.
    fn silent_since(&self, id: usize) -> Option<i64> {
        self.heard(id).filter(|(_, silent)| *silent).map(|(heard_ms, _)| heard_ms)
    }

    fn count_batches(&mut self) {
        let (mut raw, mut coalesced, mut reencoded) = (0, 0, [0; 4]);
        for part in self.parts.all_mut() {
            let Some(flow) = part.answering() else { continue };
            let paths = flow.appender.take_paths();
            part.totals.records += paths.records;
            part.totals.out_bytes += paths.bytes;
            raw += paths.raw;
            coalesced += paths.coalesced;
            reencoded.iter_mut().zip(paths.reencoded).for_each(|(sum, count)| *sum += count);
        }
        let mirror = || self.shared.config.name.clone();
        let paths = [("raw", raw), ("coalesced", coalesced), ("reencoded", reencoded.iter().sum())];
        for (path, count) in paths {
            metrics::counter!("kmirror_batches_total", "mirror" => mirror(), "path" => path).increment(count);
        }
        let [holes, log_append_time, partial, out_of_step] = reencoded;
        let reasons = [
            ("small", coalesced),
            ("holes", holes),
            ("log_append_time", log_append_time),
            ("partial", partial),
            ("out_of_step", out_of_step),
        ];
        for (reason, count) in reasons {
            metrics::counter!("kmirror_slow_batches_total", "mirror" => mirror(), "reason" => reason).increment(count);
        }
    }
}

fn view(part: &mut Part, silent_since_ms: Option<i64>, now_ms: i64) -> PartView {
    let waits_since_ms = part.waits_since_ms(now_ms);
    let (mirrored_to, target_end, queued_bytes) = match &part.stage {
        Stage::Flowing(flow) | Stage::Leaving { flow, .. } => {
            let idle = flow.appender.is_idle();
            (idle.then(|| flow.intake.next()), flow.appender.settled(), flow.appender.queued_bytes())
        }
        _ => (None, -1, 0),
    };
    PartView {
        topic: part.pair.source.topic.clone(),
        target_topic: part.pair.target.topic.clone(),
        partition: part.pair.source.partition,
        state: part.state_name(),
        halt: match &part.stage {
            Stage::Halted { halt, .. } => Some(halt.clone()),
            _ => None,
        },
        source_end: part.known_end(),
        source_start: part.source_start,
        mirrored_to,
        target_end,
        headroom: part.watch.headroom,
        hold: part.watch.hold.clone().filter(|hold| part.watch.told == Some(hold.offset)),
        queued_bytes,
        position: part.standing().map(|(position, _)| position),
        waits_since_ms,
        silent_since_ms,
        totals: part.totals,
    }
}
