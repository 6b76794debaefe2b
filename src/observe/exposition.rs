//! `/metrics`: what boards say becomes series.
//!
//! Every series is written anew whenever somebody asks, counters that stand still included; one that is not is dropped after a
//! while. So what was deleted leaves nothing behind, and counters are there before anything happens.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use metrics::{Label, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use tokio::sync::watch;

use crate::engine::{Board, ERROR_CLASSES, Lacks, PartView, Totals};
use crate::mirror::{GapReason, HaltKind, Headroom};

use super::Shown;
use super::catalog::{self, BUCKETS_S};

/// A series that nobody writes is dropped after this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// How often observations of histograms are put into their buckets: until then each takes eight bytes.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

fn builder(forgotten_after: Duration) -> PrometheusBuilder {
    let builder =
        PrometheusBuilder::new().idle_timeout(MetricKindMask::COUNTER | MetricKindMask::GAUGE, Some(forgotten_after));
    // It refuses nothing but an empty list.
    builder.set_buckets(BUCKETS_S).unwrap_or_else(|_| PrometheusBuilder::new())
}

/// Takes what is counted anywhere in the process. A second recorder in one process (tests) is refused; the first one then
/// holds the counters.
pub(super) fn install() -> Option<PrometheusHandle> {
    let handle = builder(FORGOTTEN_AFTER).install_recorder().ok()?;
    catalog::describe();
    Some(handle)
}

/// Bounds what histograms hold, until told to stop.
pub(super) async fn upkeep(handle: PrometheusHandle, mut stop: watch::Receiver<bool>) {
    let work = async {
        loop {
            tokio::time::sleep(UPKEEP_EVERY).await;
            handle.run_upkeep();
        }
    };
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

pub(super) fn publish(shown: &Shown, now_ms: i64) {
    metrics::gauge!("kmirror_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    if let Some(budget) = &shown.budget {
        let free = budget.free_bytes();
        metrics::gauge!("kmirror_memory_budget_bytes", "state" => "free").set(free as f64);
        metrics::gauge!("kmirror_memory_budget_bytes", "state" => "leased")
            .set(budget.total_bytes().saturating_sub(free) as f64);
    }
    shown.clusters.publish();
    if let Some(config) = &shown.config {
        config.publish();
    }
    shown.backups.iter().for_each(|board| board.publish(now_ms));
    let grain = Grain::of(&shown.boards, shown.max_series);
    for board in &shown.boards {
        mirror(board, now_ms);
        keep_counters(board.mirror());
        if !board.is_promoted() {
            places(board, grain, now_ms);
        }
    }
}

fn mirror(board: &Board, now_ms: i64) {
    let mirror = || board.mirror().to_owned();
    let (at_ms, parts) = board.read();
    let count = |state: &str| parts.iter().filter(|p| p.state == state).count() as f64;
    for state in ["starting", "mirroring", "paused", "halted", "promoted"] {
        metrics::gauge!("kmirror_partitions", "mirror" => mirror(), "state" => state).set(count(state));
    }
    metrics::gauge!("kmirror_halted_partitions", "mirror" => mirror()).set(count("halted"));
    missing_rights(board, &parts);
    for (side, open) in [("source", board.connections().0), ("target", board.connections().1)] {
        metrics::gauge!("kmirror_connections", "mirror" => mirror(), "side" => side).set(open as f64);
    }
    drill(board, now_ms);
    if board.is_promoted() {
        // Its work is done: what is said of the mirror from here on would be about the past.
        return;
    }
    let age_s = |at_ms: i64| (now_ms - at_ms).max(0) as f64 / 1000.0;
    let reported_s = if at_ms == 0 { f64::INFINITY } else { age_s(i64::try_from(at_ms).unwrap_or(i64::MAX)) };
    metrics::gauge!("kmirror_report_age_seconds", "mirror" => mirror()).set(reported_s);
    metrics::gauge!("kmirror_rpo_seconds", "mirror" => mirror()).set(rpo_s(&parts, at_ms, now_ms));
    if let Some(at_ms) = board.groups_ms() {
        metrics::gauge!("kmirror_group_sync_age_seconds", "mirror" => mirror()).set(age_s(at_ms));
    }
    if let Some(groups) = board.synced_groups() {
        metrics::gauge!("kmirror_groups_in_step", "mirror" => mirror()).set(groups as f64);
    }
    if let Some(counts) = board.last_sync() {
        let age_s = if counts.at_ms == 0 { f64::INFINITY } else { age_s(counts.at_ms) };
        metrics::gauge!("kmirror_sync_age_seconds", "mirror" => mirror()).set(age_s);
        for (state, count) in counts.by_state() {
            metrics::gauge!("kmirror_sync_things", "mirror" => mirror(), "state" => state).set(count as f64);
        }
    }
    if let Some(written_ms) = board.heartbeat_ms() {
        let age_s = if written_ms == 0 { f64::INFINITY } else { age_s(written_ms) };
        metrics::gauge!("kmirror_heartbeat_age_seconds", "mirror" => mirror()).set(age_s);
    }
}

fn missing_rights(board: &Board, parts: &[PartView]) {
    let is_refused = |part: &&PartView| part.halt.as_ref().is_some_and(|halt| halt.kind == HaltKind::Unauthorised);
    let wants = Lacks::ALL.map(|lacks| (lacks.word(), board.want(lacks).map_or(0, |want| want.count)));
    for (what, count) in wants.into_iter().chain([("partitions", parts.iter().filter(is_refused).count())]) {
        let labels = [("mirror", board.mirror().to_owned()), ("what", what.to_owned())];
        metrics::gauge!("kmirror_missing_rights", &labels).set(count as f64);
    }
}

/// Of a mirror that reports no more nothing is known since it last did.
fn rpo_s(parts: &[PartView], at_ms: u64, now_ms: i64) -> f64 {
    let unreported_ms = i64::try_from(at_ms).map_or(0, |at_ms| now_ms - at_ms);
    let unreported_ms = if unreported_ms > UNREPORTED_MS { unreported_ms } else { 0 };
    let worst = parts.iter().map(|part| part.rpo_ms(now_ms)).try_fold(unreported_ms, |worst, ms| Some(worst.max(ms?)));
    if at_ms == 0 { f64::NAN } else { worst.map_or(f64::NAN, |ms| ms as f64 / 1000.0) }
}

/// A mirror that runs reports every second.
const UNREPORTED_MS: i64 = 10_000;

fn drill(board: &Board, now_ms: i64) {
    let Some(drill) = board.last_drill() else { return };
    let mirror = || board.mirror().to_owned();
    metrics::gauge!("kmirror_drill_passed", "mirror" => mirror()).set(f64::from(u8::from(drill.passed)));
    let age_s = drill.at_ms.map_or(f64::NAN, |at_ms| (now_ms - at_ms).max(0) as f64 / 1000.0);
    metrics::gauge!("kmirror_drill_age_seconds", "mirror" => mirror()).set(age_s);
}

/// Counters that are written where things happen are there before anything does, and stay.
fn keep_counters(mirror: &str) {
    let keep = |name: &'static str, label: &'static str, value: String| {
        let labels = [("mirror", mirror.to_owned()), (label, value)];
        metrics::counter!(name, &labels).increment(0);
    };
    for path in ["raw", "coalesced", "reencoded"] {
        keep("kmirror_batches_total", "path", path.to_owned());
    }
    for reason in ["small", "holes", "log_append_time", "partial", "out_of_step"] {
        keep("kmirror_slow_batches_total", "reason", reason.to_owned());
    }
    for side in ["source", "target"] {
        keep("kmirror_leader_changes_total", "side", side.to_owned());
    }
    GapReason::all().for_each(|reason| keep("kmirror_gaps_total", "reason", reason.to_string()));
    HaltKind::ALL.iter().for_each(|kind| keep("kmirror_errors_total", "class", kind.to_string()));
    ERROR_CLASSES.iter().for_each(|class| keep("kmirror_errors_total", "class", (*class).to_owned()));
}

/// How finely figures of partitions are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grain {
    Partition,
    Topic,
    Mirror,
}

impl Grain {
    /// The finest that makes no more series than that.
    fn of(boards: &[Board], max_series: usize) -> Self {
        let views: Vec<_> = boards.iter().map(|board| board.read().1).collect();
        if views.iter().map(|parts| parts.len()).sum::<usize>() <= max_series {
            return Self::Partition;
        }
        let topics = |parts: &Arc<Vec<PartView>>| parts.iter().map(|p| &*p.topic).collect::<BTreeSet<&str>>().len();
        if views.iter().map(topics).sum::<usize>() <= max_series { Self::Topic } else { Self::Mirror }
    }
}

/// Figures of one partition, or of several together: sums, and the worst of what is no sum.
#[derive(Debug, Clone, Copy)]
struct Figures {
    lag_records: Option<i64>,
    lag_ms: Option<i64>,
    headroom_s: f64,
    held_ms: i64,
    totals: Totals,
}

impl Figures {
    fn of(part: &PartView, now_ms: i64) -> Self {
        Self {
            lag_records: part.lag_records(),
            lag_ms: part.lag_ms(now_ms),
            headroom_s: headroom_s(part.headroom, now_ms),
            held_ms: part.hold.as_ref().map_or(0, |hold| hold.age_ms(now_ms)),
            totals: part.totals,
        }
    }

    /// What is not known of one does not hide what is known of the others.
    fn and(self, other: Self) -> Self {
        let sum = |one: Option<i64>, other: Option<i64>| one.map_or(other, |n| Some(n + other.unwrap_or(0)));
        Self {
            lag_records: sum(self.lag_records, other.lag_records),
            lag_ms: self.lag_ms.max(other.lag_ms),
            headroom_s: self.headroom_s.min(other.headroom_s),
            held_ms: self.held_ms.max(other.held_ms),
            totals: Totals {
                records: self.totals.records + other.totals.records,
                in_bytes: self.totals.in_bytes + other.totals.in_bytes,
                out_bytes: self.totals.out_bytes + other.totals.out_bytes,
            },
        }
    }

    fn publish(&self, labels: &[Label]) {
        if let Some(lag) = self.lag_records {
            metrics::gauge!("kmirror_lag_records", labels.to_vec()).set(lag as f64);
        }
        if let Some(lag_ms) = self.lag_ms {
            metrics::gauge!("kmirror_lag_seconds", labels.to_vec()).set(lag_ms as f64 / 1000.0);
        }
        metrics::gauge!("kmirror_retention_headroom_seconds", labels.to_vec()).set(self.headroom_s);
        metrics::gauge!("kmirror_open_transaction_age_seconds", labels.to_vec()).set(self.held_ms as f64 / 1000.0);
        metrics::counter!("kmirror_records_total", labels.to_vec()).absolute(self.totals.records);
        for (direction, bytes) in [("in", self.totals.in_bytes), ("out", self.totals.out_bytes)] {
            let mut labels = labels.to_vec();
            labels.push(Label::from_static_parts("direction", direction));
            metrics::counter!("kmirror_bytes_total", labels).absolute(bytes);
        }
    }
}

fn places(board: &Board, grain: Grain, now_ms: i64) {
    let (_, parts) = board.read();
    let mirror = SharedString::from_shared(Arc::from(board.mirror()));
    let mut topics: HashMap<&str, (SharedString, Option<Figures>)> = HashMap::new();
    let label = |name: &'static str, value: &SharedString| Label::new(name, value.clone());
    let add = |sum: &mut Option<Figures>, one: Figures| *sum = Some(sum.map_or(one, |sum| sum.and(one)));
    let mut whole = None;
    for part in parts.iter() {
        let figures = Figures::of(part, now_ms);
        if grain == Grain::Mirror {
            add(&mut whole, figures);
            continue;
        }
        let shared = || (SharedString::from_shared(Arc::from(part.topic.as_str())), None);
        let (topic, sum) = topics.entry(&part.topic).or_insert_with(shared);
        if grain == Grain::Topic {
            add(sum, figures);
            continue;
        }
        let partition = Label::new("partition", part.partition.to_string());
        figures.publish(&[label("mirror", &mirror), label("topic", topic), partition]);
    }
    for (topic, sum) in topics.into_values() {
        if let Some(figures) = sum {
            figures.publish(&[label("mirror", &mirror), label("topic", &topic)]);
        }
    }
    if let Some(figures) = whole {
        figures.publish(&[label("mirror", &mirror)]);
    }
}

/// +Inf where nothing can be lost: it never is the smallest, and a series that came and went would reset alerts.
fn headroom_s(headroom: Headroom, now_ms: i64) -> f64 {
    match headroom.left_ms(now_ms) {
        Some(left) => left as f64 / 1000.0,
        None if headroom == Headroom::Unlimited => f64::INFINITY,
        None => f64::NAN,
    }
}

#[cfg(test)]
mod tests;
