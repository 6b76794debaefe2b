//! What `kmirror groups` shows to people.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::output;
use crate::groups::{Decision, GroupRollback, Line, Outcome, RollbackDecision, Step};
use crate::ops::groups::{Applied, GroupsReport, GroupsWorld, RolledBack, SyncRecord};

/// A plan.
pub(super) fn plan(report: &GroupsReport<'_>, world: &GroupsWorld, changes: bool) -> String {
    let mut text = String::new();
    if let Some(why) = &report.source_unreachable {
        let _ = writeln!(text, "source unreachable: groups stay where they were last synced ({why})");
    }
    if let Some(last) = &report.last_sync {
        let _ = writeln!(text, "last in step {}", last_sync(last.age_seconds, &last.found));
    }
    if world.is_promoted() {
        text.push_str("the target was promoted: what groups commit there is what counts now\n");
    }
    if report.source_unreachable.is_some() {
        text.push_str(&standing(report));
        return text;
    }
    text.push_str(&totals(report));
    let lines = report.groups.iter().flat_map(|plan| plan.lines().iter().map(move |line| (plan.group, line)));
    let lines: Vec<_> =
        lines.filter(|(_, line)| !changes || !matches!(line.outcome, Outcome::Unchanged { .. })).collect();
    if !lines.is_empty() {
        let header = ["GROUP", "PARTITION", "COMMITTED", "ON TARGET", "FOUND", "TRANSLATED", "ACTION", "REASON"];
        text.push_str(&output::table(&header, &[2, 4, 5], lines.into_iter().map(|(group, line)| cells(group, line))));
    }
    for plan in report.groups {
        match &plan.decision {
            Decision::Skipped { why } => drop(writeln!(text, "\nSKIPPED {}: {why}", plan.group)),
            Decision::Planned { gone, .. } => {
                for gone in gone {
                    let (topic, partition, found) = (gone.target_topic, gone.partition, gone.found);
                    let group = plan.group;
                    let _ = writeln!(
                        text,
                        "\nONLY ON THE TARGET {group}, {topic}:{partition}: offset {found} stays until it expires"
                    );
                }
            }
        }
    }
    for failed in &report.failed {
        let _ = writeln!(text, "\nFAILED {}: {}", failed.group, failed.error);
    }
    for partition in &report.unreadable {
        let (topic, number, reason) = (partition.topic, partition.partition, partition.reason);
        let _ = writeln!(text, "\nUNREADABLE {topic}:{number}: {reason}");
    }
    text
}

/// How long ago, and what was found.
pub(super) fn last_sync(age_seconds: f64, found: &SyncRecord) -> String {
    let age = output::span(Duration::from_secs_f64(age_seconds.max(0.0)));
    let mut text = format!("{age} ago: {} of {} groups synced", found.synced, found.groups);
    let others =
        [("left alone", found.left_alone), ("not translatable", found.not_translatable), ("failed", found.failed)];
    for (what, count) in others.into_iter().filter(|(_, count)| *count > 0) {
        let _ = write!(text, ", {count} {what}");
    }
    text
}

fn totals(report: &GroupsReport<'_>) -> String {
    let totals = &report.totals;
    format!(
        "mirror {}: {} groups, {} skipped; offsets: {} to write, {} stand, {} left alone, {} without a \
         counterpart; at most {} records will be missing\n",
        report.mirror,
        totals.groups,
        totals.skipped,
        totals.commits,
        totals.unchanged,
        totals.left_alone,
        totals.untranslatable,
        totals.missing
    )
}

fn cells(group: &str, line: &Line<'_>) -> Vec<String> {
    let (translated, action, reason) = match line.outcome {
        Outcome::Commit { to, why } => (to.offset.to_string(), "write", format!("{why}; {}", to.basis)),
        Outcome::Unchanged { to } => (to.offset.to_string(), "stands", to.basis.to_string()),
        Outcome::LeftAlone { to, .. } => {
            (to.offset.to_string(), "leave", "committed by somebody else on the target".to_owned())
        }
        Outcome::Untranslatable { why } => ("-".to_owned(), "none", why.to_string()),
    };
    vec![
        group.to_owned(),
        format!("{}:{}", line.topic, line.partition),
        line.committed.offset.to_string(),
        line.target_topic.map_or_else(|| "-".to_owned(), |topic| format!("{topic}:{}", line.partition)),
        line.found.map_or_else(|| "-".to_owned(), |found| found.to_string()),
        translated,
        action.to_owned(),
        reason,
    ]
}

fn standing(report: &GroupsReport<'_>) -> String {
    let rows = report.on_target.iter().flat_map(|group| {
        group.offsets.iter().map(move |(topic, partition, committed)| {
            let life = if group.live { "live" } else { "empty" };
            vec![group.group.to_owned(), life.to_owned(), format!("{topic}:{partition}"), committed.offset.to_string()]
        })
    });
    output::table(&["GROUP", "STATE", "ON TARGET", "OFFSET"], &[3], rows)
}

/// What was written.
pub(super) fn applied(applied: &Applied, snapshot: &Path) -> String {
    let mut text = format!(
        "\nwrote {} offsets, {} groups in full; what stood there before is in {}\n",
        applied.offsets,
        applied.groups,
        snapshot.display()
    );
    text.push_str(&refused(applied));
    text
}

fn refused(applied: &Applied) -> String {
    let mut text = String::new();
    for refused in &applied.refused {
        let word = if refused.live { "LEFT ALONE, it has come to life" } else { "FAILED" };
        let _ = writeln!(text, "\n{word} {}: {}", refused.group, refused.error);
    }
    text
}

/// Offsets that a way back changes.
pub(super) fn work(steps: &[GroupRollback<'_>]) -> usize {
    let lines = |step: &GroupRollback<'_>| match &step.decision {
        RollbackDecision::LeftAlone => 0,
        RollbackDecision::Planned { lines } => {
            lines.iter().filter(|line| matches!(line.step, Step::Commit { .. } | Step::Delete)).count()
        }
    };
    steps.iter().map(lines).sum()
}

/// A way back.
pub(super) fn rollback(steps: &[GroupRollback<'_>], unread: &[(&str, String)], done: Option<&RolledBack>) -> String {
    let rows = steps.iter().flat_map(|step| match &step.decision {
        RollbackDecision::LeftAlone => vec![],
        RollbackDecision::Planned { lines } => lines.iter().map(|line| (step.group, line)).collect(),
    });
    let rows = rows.map(|(group, line)| {
        let (to, action) = match line.step {
            Step::Commit { to } => (to.offset.to_string(), "write"),
            Step::Delete => ("-".to_owned(), "delete"),
            Step::Unchanged => ("-".to_owned(), "stands"),
            Step::LeftAlone => ("-".to_owned(), "leave: used since"),
        };
        let found = line.found.map_or_else(|| "-".to_owned(), |found| found.to_string());
        vec![group.to_owned(), format!("{}:{}", line.topic, line.partition), found, to, action.to_owned()]
    });
    let mut text = output::table(&["GROUP", "ON TARGET", "FOUND", "FORMER", "ACTION"], &[2, 3], rows);
    for step in steps.iter().filter(|step| step.decision == RollbackDecision::LeftAlone) {
        let _ =
            writeln!(text, "\nLEFT ALONE {}: it has members on the target, or is of another type by now", step.group);
    }
    for (group, error) in unread {
        let _ = writeln!(text, "\nFAILED {group}: {error}");
    }
    if let Some(done) = done {
        let _ = writeln!(text, "\nbrought back {} offsets, took away {}", done.committed.offsets, done.deleted.offsets);
        text.push_str(&refused(&done.committed));
        text.push_str(&refused(&done.deleted));
    }
    text
}
