//! The verdict of a drill: what was looked at, against which measure, and whether it would do.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mirror::OffsetMap;

use super::acls::{AclDifference, AclsOutlook};
use super::failover::{FailoverPlan, PartitionOutlook};

/// Findings listed under one check; the others are counted.
const FINDINGS_MAX: usize = 50;

/// How a check came out. In order of weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema, Deserialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CheckVerdict")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// A failover would work, but somebody should know.
    Warn,
    /// A failover would not do what is expected of it.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Deserialize)]
pub struct Check {
    /// Its name; stable.
    pub check: String,
    /// How it came out.
    pub verdict: Verdict,
    /// In one sentence.
    pub summary: String,
    /// What exactly, one by one.
    pub findings: Vec<String>,
    /// Findings that are not listed.
    pub more_findings: usize,
}

impl Check {
    /// A check with its findings; no more than some are kept.
    pub fn new(check: &str, verdict: Verdict, summary: String, mut findings: Vec<String>) -> Self {
        let more_findings = findings.len().saturating_sub(FINDINGS_MAX);
        findings.truncate(FINDINGS_MAX);
        Self { check: check.to_owned(), verdict, summary, findings, more_findings }
    }
}

/// What is expected of a failover.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// At most this much may be lost, seconds.
    pub rpo_seconds_max: f64,
    /// It may take this long at most, seconds.
    pub rto_seconds_max: f64,
}

/// What a failover now would lose.
pub fn rpo_check(plan: &FailoverPlan, expected: Expected) -> Check {
    let rpo = &plan.rpo;
    let lagging = |p: &&PartitionOutlook| p.lag_records != 0 || p.lag_seconds < 0.0;
    let findings: Vec<String> = plan
        .partitions
        .iter()
        .filter(lagging)
        .map(|p| match p.lag_records {
            ..0 => format!("{}: how much is missing is not known", p.name()),
            lag => format!("{}: {lag} records, {:.1} s", p.name(), p.lag_seconds),
        })
        .collect();
    let is_known = rpo.seconds >= 0.0 && rpo.unknown_partitions == 0;
    let verdict = match is_known && rpo.seconds <= expected.rpo_seconds_max {
        true => Verdict::Pass,
        false => Verdict::Fail,
    };
    let summary = if is_known {
        format!(
            "an unplanned failover now would lose {} records, the oldest {:.1} s old; allowed are {:.0} s",
            rpo.records, rpo.seconds, expected.rpo_seconds_max
        )
    } else {
        format!("of {} partitions nobody knows how much they lack", rpo.unknown_partitions.max(1))
    };
    let findings = if verdict == Verdict::Pass { Vec::new() } else { findings };
    Check::new("rpo", verdict, summary, findings)
}

/// Partitions that do not flow.
pub fn partitions_check(plan: &FailoverPlan) -> Check {
    let of = |states: &[&str]| -> Vec<String> {
        let in_one = |p: &&PartitionOutlook| states.contains(&p.state.as_str());
        let told =
            |p: &PartitionOutlook| format!("{} is {}: {}", p.name(), p.state, p.reason.as_deref().unwrap_or("-"));
        plan.partitions.iter().filter(in_one).map(told).collect()
    };
    let (stand, late) = (of(&["halted", "damaged"]), of(&["paused", "starting"]));
    let total = plan.partitions.len();
    let (verdict, what) = match (stand.is_empty(), late.is_empty()) {
        (true, true) if total > 0 => (Verdict::Pass, format!("all {total} partitions are mirrored")),
        (true, true) => (Verdict::Fail, "nothing is mirrored".to_owned()),
        (true, false) => (Verdict::Warn, format!("{} of {total} partitions have not begun or are paused", late.len())),
        (false, _) => (Verdict::Fail, format!("{} of {total} partitions stand still", stand.len())),
    };
    Check::new("partitions", verdict, what, [stand, late].concat())
}

/// What the standby lacks for good.
pub fn gaps_check(plan: &FailoverPlan) -> Check {
    let lost = plan.partitions.iter().flat_map(|p| p.lost.iter().map(move |range| (p, range)));
    let findings: Vec<String> = lost
        .filter(|(_, range)| range.reason != "not_mirrored")
        .map(|(p, range)| format!("{}: source offsets [{}, {}): {}", p.name(), range.from, range.to, range.reason))
        .collect();
    match findings.len() {
        0 => Check::new("gaps", Verdict::Pass, "no record is missing for good".to_owned(), findings),
        n => Check::new("gaps", Verdict::Warn, format!("{n} ranges are missing on the standby for good"), findings),
    }
}

/// Topic settings that a failover would have to leave as they are.
pub fn settings_check(plan: &FailoverPlan) -> Check {
    let changed = plan.topics.iter().filter(|topic| !topic.changes.is_empty()).count();
    let left =
        plan.topics.iter().flat_map(|t| t.left.iter().map(move |(key, why)| format!("{}: {key}: {why}", t.topic)));
    let findings: Vec<String> = left.collect();
    let (verdict, left) = match findings.len() {
        0 => (Verdict::Pass, String::new()),
        n => (Verdict::Warn, format!("; {n} settings of the source cannot be applied")),
    };
    let summary = format!("a failover would apply settings that are held back to {changed} topics{left}");
    Check::new("topic_settings", verdict, summary, findings)
}

/// Whether consumers may do there what they may do here.
pub fn acls_check(acls: &AclsOutlook) -> Check {
    if !acls.compared {
        let detail = acls.detail.clone().unwrap_or_default();
        return Check::new("acls", Verdict::Warn, format!("the ACLs were not compared: {detail}"), Vec::new());
    }
    let findings: Vec<String> = acls.differences.iter().flat_map(AclDifference::findings).collect();
    let shut_out: BTreeSet<&str> =
        acls.differences.iter().flat_map(|difference| difference.shut_out.iter().map(String::as_str)).collect();
    let (verdict, summary) = match (shut_out.len(), acls.differences.len()) {
        (0, 0) => (
            Verdict::Pass,
            "nobody may do less with topics and groups there than on the source, and nobody is denied less".to_owned(),
        ),
        (0, n) => (Verdict::Warn, format!("the ACLs of {n} topics or groups differ; no consumer is shut out by that")),
        (who, n) => (Verdict::Fail, format!("the ACLs of {n} topics or groups differ, and shut {who} consumers out")),
    };
    Check::new("acls", verdict, summary, findings)
}

/// What stands against a failover.
pub fn blockers_check(plan: &FailoverPlan) -> Check {
    // Halted partitions have a check of their own, and a drill promotes nothing.
    let blockers: Vec<String> = plan.blockers.iter().chain(&plan.warnings).cloned().collect();
    let verdict = match (plan.blockers.is_empty() && !plan.is_begun, plan.warnings.is_empty()) {
        (false, _) => Verdict::Fail,
        (true, false) => Verdict::Warn,
        (true, true) => Verdict::Pass,
    };
    let summary = match verdict {
        _ if plan.is_begun => "the mirror was promoted: there is nothing to rehearse".to_owned(),
        Verdict::Pass => "nothing stands against a failover".to_owned(),
        Verdict::Warn => "a failover would go through, with warnings".to_owned(),
        Verdict::Fail => "something stands against a failover".to_owned(),
    };
    Check::new("plan", verdict, summary, blockers)
}

/// How long a failover would take.
pub fn rto_check(seconds: f64, expected: Expected) -> Check {
    let verdict = if seconds <= expected.rto_seconds_max { Verdict::Pass } else { Verdict::Fail };
    let summary = format!(
        "a failover would take about {seconds:.1} s from the command to the end; allowed are {:.0} s",
        expected.rto_seconds_max
    );
    Check::new("rto", verdict, summary, Vec::new())
}

/// The two records that must be one and the same for a translated offset to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Witness {
    /// Source offset.
    pub source: i64,
    /// Target offset.
    pub target: i64,
}

/// Which records bear witness for target offset `offset`, where `end` is the end of what is mirrored: the one there, or, where a
/// group has read everything, the last one in front of it. `None` where nothing is mirrored in front of it either.
pub fn witness(map: &OffsetMap, end: i64, offset: i64) -> Option<Witness> {
    if offset < end {
        let there = map.to_source(offset, end);
        if there.exact {
            return Some(Witness { source: there.offset, target: offset });
        }
    }
    let (source, target, records) = map.runs(offset.min(end)).last()?;
    Some(Witness { source: source + records - 1, target: target + records - 1 })
}

/// So many of all, spread over them from the first to the last: the same every time.
pub fn spread(total: usize, wanted: usize) -> BTreeSet<usize> {
    match (total, wanted) {
        (0, _) | (_, 0) => BTreeSet::new(),
        (_, 1) => BTreeSet::from([total - 1]),
        _ if wanted >= total => (0..total).collect(),
        _ => (0..wanted).map(|nth| nth * (total - 1) / (wanted - 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::{Break, GapReason};

    /// Source 0..10 at target 5..15, aborted source 10..20, source 20..30 at target 15..25.
    fn one_gap() -> OffsetMap {
        let mut map = OffsetMap::default();
        let step = |run, gaps: Vec<_>, target_gap| Break { run, gaps, target_gap, leader_epoch: 0, writer_epoch: 0 };
        map.push(&step(0, Vec::new(), 5)).unwrap();
        map.push(&step(10, vec![(GapReason::Aborted, 10)], 0)).unwrap();
        map
    }

    #[test]
    fn the_record_at_the_offset_bears_witness_or_the_one_in_front_of_it() {
        let map = one_gap();
        let at = |offset| witness(&map, 25, offset).map(|w| (w.source, w.target));
        assert_eq!(at(7), Some((2, 7)));
        assert_eq!(at(15), Some((20, 15)));
        assert_eq!(at(25), Some((29, 24)), "all is read: the last one");
        assert_eq!(at(3), None, "nothing is in front of the start");
        assert_eq!(witness(&map, 15, 15).map(|w| w.source), Some(9));
        assert_eq!(witness(&OffsetMap::default(), 0, 0), None);
    }

    #[test]
    fn a_sample_has_the_first_and_the_last() {
        assert_eq!(spread(10, 3), [0, 4, 9].into());
        assert_eq!(spread(3, 10), [0, 1, 2].into());
        assert_eq!(spread(7, 1), [6].into());
        assert!(spread(0, 5).is_empty() && spread(5, 0).is_empty());
    }

    #[test]
    fn findings_are_bounded_and_none_goes_uncounted() {
        let many = (0..120).map(|n| n.to_string()).collect();
        let check = Check::new("x", Verdict::Fail, String::new(), many);
        assert_eq!((check.findings.len(), check.more_findings), (FINDINGS_MAX, 70));
    }
}
