//! What a schedule costs, and what it may lose. Pure.

use std::time::Duration;

use serde::Serialize;

/// A part of an object that goes up by itself; larger objects go in such parts (`backup::store`).
const PART_BYTES: f64 = 8.0 * 1024.0 * 1024.0;
const DAY_S: f64 = 86_400.0;
const MONTH_S: f64 = 30.0 * DAY_S;
const GB: f64 = 1e9;

/// How often, and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// From pass to pass.
    pub interval: Duration,
    /// From chain to chain.
    pub full_every: Duration,
    /// Chains.
    pub keep: usize,
}

/// What things cost, in whatever currency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Prices {
    /// 10^9 bytes for a month.
    pub per_gb_month: f64,
    /// A thousand requests that write.
    pub per_1000_writes: f64,
}

/// What is to be kept of a partition, as it will be stored.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Load {
    /// Bytes that are there.
    pub(super) bytes: f64,
    /// Bytes that come in a second.
    pub(super) bytes_per_s: f64,
    /// Records that come in a second.
    pub(super) records_per_s: f64,
}

/// All of it, and where it goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Loads {
    pub(super) partitions: Vec<Load>,
    pub(super) segment_bytes: f64,
    pub(super) copies: f64,
    /// Bytes, as they will be stored, that a pass reads a second.
    pub(super) read_bytes_per_s: f64,
}

/// A schedule, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScheduleRow {
    /// From pass to pass, seconds.
    pub interval_s: f64,
    /// From chain to chain, seconds.
    pub full_every_s: f64,
    /// Chains.
    pub keep: usize,
    /// Whether the file says so.
    pub is_configured: bool,
    /// Bytes of one copy on the average, once the first chains are pruned.
    pub archive_bytes: f64,
    /// Bytes of one copy at most: right before a chain is pruned.
    pub archive_bytes_max: f64,
    /// Requests that write, in all copies, in 30 days.
    pub writes_per_month: f64,
    /// What storage and requests cost in 30 days, all copies.
    pub cost_per_month: f64,
    /// What may be lost at most, seconds: what came since the pass before, and while the next one was under way.
    pub rpo_s: f64,
    /// The same while the first pass of a chain is under way, which reads everything.
    pub rpo_full_s: f64,
}

impl Loads {
    pub(super) fn judge(&self, schedule: Schedule, prices: Prices, is_configured: bool) -> ScheduleRow {
        let (interval_s, full_every_s) = (schedule.interval.as_secs_f64(), schedule.full_every.as_secs_f64());
        let sum = |of: fn(&Load) -> f64| self.partitions.iter().map(of).sum::<f64>();
        let (full, per_s) = (sum(|load| load.bytes), sum(|load| load.bytes_per_s));
        let chain = full + per_s * full_every_s;
        let keep = schedule.keep.max(1) as f64;
        // The newest chain is between its first pass and its end; the one that it replaces goes once that pass is through.
        let archive_bytes = (keep - 1.0) * chain + full + per_s * full_every_s / 2.0;
        let archive_bytes_max = keep * chain + full;
        let writes_per_month = self.writes(interval_s, full_every_s) * self.copies;
        let stored = archive_bytes / GB * prices.per_gb_month * self.copies;
        let pass_s = |bytes: f64| if self.read_bytes_per_s > 0.0 { bytes / self.read_bytes_per_s } else { 0.0 };
        ScheduleRow {
            interval_s,
            full_every_s,
            keep: schedule.keep,
            is_configured,
            archive_bytes,
            archive_bytes_max,
            writes_per_month,
            cost_per_month: stored + writes_per_month / 1e3 * prices.per_1000_writes,
            rpo_s: interval_s + pass_s(per_s * interval_s),
            rpo_full_s: interval_s + pass_s(full),
        }
    }

    /// Requests for one copy in 30 days.
    fn writes(&self, interval_s: f64, full_every_s: f64) -> f64 {
        let incremental = |load: &Load| {
            // Where less than a record comes in an interval, most passes find nothing.
            let is_any = (load.records_per_s * interval_s).min(1.0);
            is_any * self.writes_of(load.bytes_per_s * interval_s / is_any.max(f64::MIN_POSITIVE))
        };
        // And a manifest.
        let pass: f64 = 1.0 + self.partitions.iter().map(incremental).sum::<f64>();
        let full: f64 = self.partitions.iter().filter(|load| load.bytes > 0.0).map(|l| self.writes_of(l.bytes)).sum();
        MONTH_S / interval_s * pass + MONTH_S / full_every_s * full
    }

    /// Requests that so many bytes of a partition take.
    fn writes_of(&self, bytes: f64) -> f64 {
        let of_one = |bytes: f64| if bytes < PART_BYTES { 1.0 } else { 2.0 + (bytes / PART_BYTES).ceil() };
        let whole = (bytes / self.segment_bytes).floor();
        let rest = bytes - whole * self.segment_bytes;
        whole * of_one(self.segment_bytes) + if rest > 0.0 || whole == 0.0 { of_one(rest) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1024.0 * 1024.0;

    fn loads(partitions: Vec<Load>) -> Loads {
        Loads { partitions, segment_bytes: 64.0 * MIB, copies: 2.0, read_bytes_per_s: 1e6 }
    }

    fn judged(loads: &Loads, interval_s: u64, full_days: u64, keep: usize) -> ScheduleRow {
        let (interval, full_every) = (Duration::from_secs(interval_s), Duration::from_secs(full_days * 86_400));
        let prices = Prices { per_gb_month: 0.02, per_1000_writes: 0.005 };
        loads.judge(Schedule { interval, full_every, keep }, prices, false)
    }

    #[test]
    fn size_cost_and_rpo_follow_from_what_comes() {
        // A gigabyte, and a hundred megabytes a day.
        let per_s = 1e8 / DAY_S;
        let row = judged(&loads(vec![Load { bytes: 1e9, bytes_per_s: per_s, records_per_s: 50.0 }]), 300, 10, 2);
        let near = |a: f64, b: f64| assert!((a - b).abs() <= b * 1e-6, "{a} {b}");
        near(row.archive_bytes, 2e9 + 1e9 + 0.5e9);
        near(row.archive_bytes_max, 2.0 * 2e9 + 1e9);
        near(row.rpo_s, 300.0 + per_s * 300.0 / 1e6);
        near(row.rpo_full_s, 300.0 + 1000.0);
        // 8640 passes: a manifest and a segment each. Three full ones of 14 whole segments, 10 requests each, and a rest of 9 parts' 2 + ….
        let rest = 1e9 - 14.0 * 64.0 * MIB;
        let full = 14.0 * 10.0 + 2.0 + (rest / PART_BYTES).ceil();
        near(row.writes_per_month, 2.0 * (8640.0 * 2.0 + 3.0 * full));
        near(row.cost_per_month, 3.5 * 0.02 * 2.0 + row.writes_per_month / 1e3 * 0.005);
    }

    #[test]
    fn what_comes_seldom_costs_seldom_and_what_does_not_come_costs_nothing() {
        let idle = Load { bytes: 1e3, ..Load::default() };
        let seldom = Load { bytes: 1e3, bytes_per_s: 0.1, records_per_s: 0.001 };
        let writes = |partitions: Vec<Load>| judged(&loads(partitions), 100, 30, 1).writes_per_month / 2.0;
        let passes = 25_920.0;
        assert_eq!(writes(vec![]), passes);
        assert_eq!(writes(vec![idle; 5]), passes + 5.0);
        assert!((writes(vec![seldom]) - (passes * 1.1 + 1.0)).abs() < 1e-6);
    }

    #[test]
    fn nothing_costs_nothing_and_no_figure_is_missing() {
        let row = judged(&Loads { read_bytes_per_s: 0.0, ..loads(vec![]) }, 1, 1, 1);
        assert_eq!((row.archive_bytes, row.archive_bytes_max, row.rpo_s), (0.0, 0.0, 1.0));
        assert!(row.cost_per_month.is_finite());
    }
}
