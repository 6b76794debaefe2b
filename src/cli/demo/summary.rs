//! What the demo found: `--json` prints it, and people get it as two tables.

use std::fmt::Display;

use serde::Serialize;

use super::accounts::Accounts;
use super::groups::Positions;
use super::mirroring::count;
use super::view::Step;
use crate::cli::output;

/// What `demo --json` prints.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    /// Records that were produced, on whichever side.
    pub(super) produced: u64,
    /// Records that stand on both sides in the end, equal and in order.
    pub(super) equal: u64,
    /// Records that are missing, changed or out of order, on either side.
    pub(super) wrong: u64,
    /// Records beyond those produced, on either side.
    pub(super) surplus: u64,
    /// Records on the standby when the mirror was killed.
    pub(super) killed_at: u64,
    /// From the kill to the first record that the new process appended, seconds.
    pub(super) recovery_seconds: f64,
    /// Offsets translated in both directions in the end and found exact.
    pub(super) offsets_exact: u64,
    /// Offsets whose translation is not the record's.
    pub(super) offsets_wrong: u64,
    /// By how many offsets a record is shifted against the source, at most: markers of take-overs, and the divergent tail.
    pub(super) shift_max: i64,
    /// All of it, seconds.
    pub(super) seconds: f64,
    /// Where every record is.
    pub(super) accounts: Accounts,
    pub(super) groups: Groups,
    pub(super) drill: Drill,
    pub(super) failover: Failover,
    pub(super) failback: Failback,
    /// The switch home.
    pub(super) switch: Switch,
    pub(super) verify: Verify,
    /// The story, step by step.
    pub(super) steps: Vec<Step>,
    /// What does not add up. Nothing, if all is well.
    pub(super) problems: Vec<String>,
}

/// Groups, each time both sides were compared.
#[derive(Debug, Default, Serialize)]
pub(super) struct Groups {
    pub(super) groups: u64,
    pub(super) in_step: Positions,
    pub(super) after_failover: Positions,
    pub(super) after_switch: Positions,
}

/// The rehearsal.
#[derive(Debug, Default, Serialize)]
pub(super) struct Drill {
    pub(super) passed: bool,
    pub(super) checks: usize,
    pub(super) records_compared: u64,
    pub(super) records_same: u64,
    pub(super) rto_seconds_estimate: f64,
}

/// The failover after the source was lost.
#[derive(Debug, Default, Serialize)]
pub(super) struct Failover {
    /// Records known to be lost, as the report says.
    pub(super) rpo_records: u64,
    /// The ranges that it lists.
    pub(super) lost_ranges: usize,
    /// Promised time: from the yes to the standby in charge.
    pub(super) rto_seconds: f64,
    /// Since the source was last heard of.
    pub(super) outage_seconds: f64,
    /// Partitions whose leader refuses older writers.
    pub(super) partitions_fenced: u64,
    /// Records that were on their way when the failover took place, and came too late.
    pub(super) late_records: u64,
    /// Those of them that are on the standby after all.
    pub(super) late_records_appended: u64,
}

/// The way home.
#[derive(Debug, Default, Serialize)]
pub(super) struct Failback {
    /// Records that the old source has alone, as the plan says.
    pub(super) divergent_records: u64,
    /// Those that were written to the file.
    pub(super) exported_records: u64,
    /// Those that were appended to a topic of the standby, compared with the source's.
    pub(super) replayed_records: u64,
}

/// The planned failover home.
#[derive(Debug, Default, Serialize)]
pub(super) struct Switch {
    pub(super) rpo_records: u64,
    pub(super) rto_seconds: f64,
}

/// What `kmirror verify` says in the end.
#[derive(Debug, Default, Serialize)]
pub(super) struct Verify {
    pub(super) equal: u64,
    pub(super) differing: u64,
    pub(super) missing: u64,
    pub(super) extra: u64,
}

impl Summary {
    /// Two figures that must agree.
    pub(super) fn expect<T: Copy + PartialEq + Display>(&mut self, what: &str, expected: T, found: T) {
        if expected != found {
            self.problems.push(format!("{what}: {found}, where {expected} was to be"));
        }
    }
}

/// The end, for people.
pub(super) fn page(summary: &Summary) -> String {
    let mut text = format!("\n{}\n{}", accounts(&summary.accounts), figures(summary));
    summary.problems.iter().for_each(|problem| text.push_str(&format!("\nPROBLEM {problem}\n")));
    let verdict = if summary.problems.is_empty() { "every record is accounted for" } else { "it does not add up" };
    text.push_str(&format!("\n{verdict}, in {:.1} s\n", summary.seconds));
    text
}

fn accounts(accounts: &Accounts) -> String {
    let row = |what: &str, source: u64, standby: u64| vec![what.to_owned(), count(source), count(standby)];
    let rows = [
        row("mirrored before the source was lost", accounts.source.mirrored, accounts.standby.mirrored),
        row("lost with it, and listed", accounts.lost_listed, 0),
        row("lost with it, never heard of, and listed as unseen", accounts.lost_unseen, 0),
        row("written to the standby meanwhile", accounts.source.from_standby, accounts.standby.from_standby),
        row("written at home again", accounts.source.from_home, accounts.standby.from_home),
        row("in all", accounts.source.records, accounts.standby.records),
        row("missing, changed or out of order", accounts.source.wrong, accounts.standby.wrong),
        row("twice", accounts.source.surplus, accounts.standby.surplus),
    ];
    output::table(&["RECORDS", "SOURCE", "STANDBY"], &[1, 2], rows)
}

fn figures(summary: &Summary) -> String {
    let (groups, failover) = (&summary.groups, &summary.failover);
    let of = |positions: Positions| format!("{} of {}", positions.same, positions.same + positions.different);
    let rows = [
        ("records produced", count(summary.produced)),
        ("equal on both sides, in order", count(summary.equal)),
        ("offsets translated exactly, both ways", count(summary.offsets_exact)),
        ("offsets translated wrongly", count(summary.offsets_wrong)),
        ("kill -9 to the next record", format!("{:.2} s", summary.recovery_seconds)),
        ("failover: records known to be lost (RPO)", count(failover.rpo_records)),
        ("failover: standby in charge after (RTO)", format!("{:.2} s", failover.rto_seconds)),
        ("failover: groups at their very record", of(groups.after_failover)),
        ("failover: late records let in", format!("{} of {}", failover.late_records_appended, failover.late_records)),
        ("failback: lost records replayed on the standby", count(summary.failback.replayed_records)),
        ("switch home: records lost (RPO)", count(summary.switch.rpo_records)),
        ("switch home: source in charge after (RTO)", format!("{:.2} s", summary.switch.rto_seconds)),
        ("switch home: groups at their very record", of(groups.after_switch)),
    ];
    output::table(&["FIGURES", ""], &[1], rows.map(|(what, value)| vec![what.to_owned(), value]))
}
