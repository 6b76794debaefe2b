//! `kmirror status`: how far every partition is, what is missing and why.

use std::time::Duration;

use clap::Args;

use super::bandwidth::in_words;
use super::context::Context;
use super::exit::Exit;
use super::{groups_page, output};
use crate::backup::{BackupStatus, backup_status};
use crate::config::{Config, bytes};
use crate::engine::connect_mirror;
use crate::ops::sync::PendingDeletion;
use crate::ops::time::rfc3339;
use crate::ops::{FleetView, MirrorStatus, StatusReport, status};

/// Options of `status`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Reads the clusters themselves, so it needs no running process and cannot be behind. LAG is what a failover \
would lose now.
Exit code 5 when partitions are halted. Backups of the file are shown beside the mirrors, read off their archives, and change no exit code.

Examples:
  kmirror status -c standby.yaml
  kmirror status -c standby.yaml --watch
  kmirror status -c standby.yaml --json | jq '.mirrors[].rpo_seconds'")]
pub struct StatusArgs {
    /// Show it again and again until stopped
    #[arg(long)]
    pub watch: bool,
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "watch", value_parser = humantime::parse_duration)]
    pub interval: Duration,
}

/// Shows how far every partition is.
///
/// # Errors
/// What kept it from looking.
pub async fn run(args: StatusArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let mut ends = Vec::new();
    // A file of backups alone has their state to show.
    let is_of_backups = config.mirrors.is_empty() && ctx.mirror.is_none() && !config.backups.is_empty();
    for mirror in if is_of_backups { Vec::new() } else { ctx.mirrors(&config)? } {
        ends.push((mirror, connect_mirror(&config, mirror).await?));
    }
    loop {
        let looks = async {
            let mut mirrors = Vec::new();
            for (mirror, (source, target)) in &ends {
                mirrors.push(status(mirror, config.fleet.is_some(), (source, target)).await?);
            }
            anyhow::Ok(mirrors)
        };
        let (mirrors, backups) = tokio::join!(looks, backups(&config, ctx));
        let mirrors = mirrors?;
        let halted = mirrors.iter().any(|m| m.partitions.iter().any(|p| p.state == "halted"));
        show(&Report { mirrors: StatusReport { schema_version: 1, mirrors }, backups }, ctx, args.watch)?;
        if !args.watch {
            return Ok(if halted { Exit::Halted } else { Exit::Done });
        }
        tokio::time::sleep(args.interval).await;
    }
}

/// What is shown.
#[derive(Debug, serde::Serialize)]
struct Report {
    #[serde(flatten)]
    mirrors: StatusReport,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backups: Vec<BackupStatus>,
}

/// All of the file, unless one mirror is meant.
async fn backups(config: &Config, ctx: &Context) -> Vec<BackupStatus> {
    let all = config.backups.iter().filter(|_| ctx.mirror.is_none());
    futures_util::future::join_all(all.map(backup_status)).await
}

/// Back to the top left, and nothing below.
const CLEAR: &str = "\x1b[H\x1b[2J";

fn pending(topic: &PendingDeletion) -> String {
    let due = topic
        .due_at
        .as_ref()
        .map_or_else(|| "stays (sync.deletions is off)".to_owned(), |at| format!("is deleted at {at}"));
    format!("topic {} is gone from the source since {} and {due}\n", topic.topic, topic.gone_since)
}

fn show(report: &Report, ctx: &Context, watch: bool) -> anyhow::Result<()> {
    if ctx.json {
        return output::json(report);
    }
    let mut text = String::new();
    if watch && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        text.push_str(CLEAR);
    }
    for mirror in &report.mirrors.mirrors {
        text.push_str(&page(mirror));
    }
    for backup in &report.backups {
        text.push_str(&backup_line(backup));
    }
    output::print(&text)
}

fn backup_line(backup: &BackupStatus) -> String {
    let complete = match backup.complete_at {
        Some(_) => {
            let age = Duration::try_from_secs_f64(backup.age_seconds).unwrap_or_default();
            format!("complete {} ago", output::span(age))
        }
        None => "never complete, as far as is known".to_owned(),
    };
    let place = match (backup.chain, backup.unit) {
        (Some(chain), Some(unit)) => format!(", chain {chain}, unit {unit}"),
        _ => String::new(),
    };
    let problem = backup.problem.as_ref().map(|problem| format!("  PROBLEM {problem}\n"));
    format!("\nbackup {} of {}: {complete}{place}\n{}", backup.name, backup.cluster, problem.unwrap_or_default())
}

fn page(mirror: &MirrorStatus) -> String {
    let lag: i64 = mirror.partitions.iter().map(|p| p.lag_records.max(0)).sum();
    let bandwidth = match (mirror.bandwidth_bytes_per_s, mirror.bandwidth_from) {
        (None, "file") => String::new(),
        (limit, from) => format!(", bandwidth {}", in_words(limit, from)),
    };
    let mut text = format!(
        "mirror {}: {}, RPO {}, lag {} records in {} partitions{bandwidth}\n",
        mirror.name,
        mirror.state,
        seconds(mirror.rpo_seconds),
        output::count(lag),
        mirror.partitions.len()
    );
    if let Some(fleet) = &mirror.fleet {
        text.push_str(&fleet_page(fleet));
    }
    if let Some(reason) = &mirror.reason {
        text.push_str(&format!("not begun: {reason}\n"));
    }
    if let Some(groups) = &mirror.groups {
        let words = match groups.age_seconds < 0.0 {
            true => "not yet synced".to_owned(),
            false => groups_page::last_sync(groups.age_seconds, &groups.found),
        };
        text.push_str(&format!("groups: {words}\n"));
    }
    if let Some(sync) = &mirror.sync {
        sync.pending_deletions.iter().for_each(|topic| text.push_str(&pending(topic)));
    }
    let rows = mirror.partitions.iter().map(|p| {
        let missing: i64 = p.gaps.iter().filter(|g| g.is_loss).map(|g| g.to - g.from).sum();
        vec![
            format!("{}:{}", p.topic, p.partition),
            p.state.to_owned(),
            known(p.source_end),
            known(p.mirrored_to),
            known(p.lag_records),
            seconds(p.lag_seconds),
            p.retention_headroom_seconds.map_or_else(|| "-".to_owned(), seconds),
            known(p.target_end),
            p.gaps.len().to_string(),
            output::count(missing),
        ]
    });
    let header = [
        "PARTITION",
        "STATE",
        "SOURCE END",
        "MIRRORED TO",
        "LAG",
        "LAG TIME",
        "HEADROOM",
        "TARGET END",
        "GAPS",
        "RECORDS LOST",
    ];
    text.push_str(&output::table(&header, &[2, 3, 4, 5, 6, 7, 8, 9], rows));
    text.push_str(&remarks(mirror));
    text
}

/// What stands still or is about to be lost, partition by partition.
fn remarks(mirror: &MirrorStatus) -> String {
    let mut text = String::new();
    for p in mirror.partitions.iter().filter(|p| p.reason.is_some()) {
        let reason = p.reason.as_deref().unwrap_or_default();
        if p.state != "halted" {
            let word = if p.lag_records < 0 { "UNKNOWN" } else { "HELD" };
            text.push_str(&format!("\n{word} {}:{}: {reason}\n", p.topic, p.partition));
            continue;
        }
        let way_out = p.way_out.as_deref().unwrap_or_default();
        text.push_str(&format!("\nHALTED {}:{}: {reason}\n  {way_out}\n", p.topic, p.partition));
    }
    for p in mirror.partitions.iter().filter(|p| p.headroom_is_short) {
        let left = seconds(p.retention_headroom_seconds.unwrap_or(-1.0));
        text.push_str(&format!(
            "\nSHORT {}:{}: in {left} retention on the source may take records that are not mirrored yet, from offset {}\n",
            p.topic, p.partition, p.mirrored_to
        ));
    }
    text
}

fn fleet_page(fleet: &FleetView) -> String {
    let skew = if fleet.is_skewed { ", of different versions or configurations" } else { "" };
    let mut text = format!("fleet {}: {}, {} instances{skew}\n", fleet.group, fleet.state, fleet.members.len());
    let rows = fleet.members.iter().map(|member| {
        let notes = [(member.elected, "elected"), (member.draining, "stopping")];
        let notes: Vec<&str> = notes.into_iter().filter(|(is, _)| *is).map(|(_, note)| note).collect();
        vec![
            member.instance_id.clone().unwrap_or_else(|| member.host.clone()),
            ranges(&member.shards),
            member.shards.len().to_string(),
            bytes(member.bytes_per_second),
            output::count(i64::try_from(member.backlog_records).unwrap_or(i64::MAX)),
            member.software.clone(),
            member.config_hash.clone(),
            notes.join(", "),
        ]
    });
    let header = ["INSTANCE", "SHARDS", "COUNT", "BYTES/S", "BACKLOG", "VERSION", "CONFIG", ""];
    text.push_str(&output::table(&header, &[2, 3, 4], rows));
    for member in &fleet.members {
        let name = member.instance_id.as_ref().unwrap_or(&member.host);
        for out in &member.put_out {
            let (at, silent) = (rfc3339(out.at_ms), output::span(Duration::from_millis(out.silent_ms)));
            text.push_str(&format!("{at}: {name} put {} out, of which it had not heard for {silent}\n", out.host));
        }
    }
    if !fleet.unassigned.is_empty() {
        text.push_str(&format!("no instance has shards {}\n", ranges(&fleet.unassigned)));
    }
    text.push('\n');
    text
}

/// `0-3, 7`.
fn ranges(numbers: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, to)) if *to + 1 == *number => *to = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let word = |(from, to): (u32, u32)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    parts.into_iter().map(word).collect::<Vec<_>>().join(", ")
}

fn known(number: i64) -> String {
    if number < 0 { "?".to_owned() } else { output::count(number) }
}

fn seconds(number: f64) -> String {
    if number < 0.0 { "?".to_owned() } else { format!("{number:.1}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_are_a_range() {
        assert_eq!(ranges(&[0, 1, 2, 3, 7, 9, 10]), "0-3, 7, 9-10");
        assert_eq!(ranges(&[]), "");
    }
}
