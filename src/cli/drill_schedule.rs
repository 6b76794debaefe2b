//! Drills that `kmirror run` does by itself (`drills` in the file), beside the mirrors and with connections of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::config::{Config, DrillConfig, parse_rfc3339_ms};
use crate::engine::{Board, Drilled, now_ms};
use crate::ops::drill::{DrillOptions, DrillReport, drill, keep, kept};
use crate::plan::{Expected, Verdict};

/// A drill that could not be done is tried again after this, or after the interval if that is shorter.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// The first drill waits so long for partitions to begin; those that have not by then are a finding.
const BEGIN_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A source that does not answer for so long counts as gone.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(15);

/// Rehearses the failover of a mirror time after time, until told to stop or the mirror is promoted. Where other terms follow (`over`
/// is gone), a drill that is being done comes to its end: what it made on the target it takes away.
pub(super) async fn keep_drilling(
    config: Arc<Config>,
    terms: DrillConfig,
    board: Board,
    mut stop: watch::Receiver<bool>,
    mut over: watch::Receiver<()>,
) {
    let work = async {
        let mut wait = match last(&terms, &board) {
            Some(at_ms) => until_next(at_ms, terms.every),
            None => Duration::ZERO,
        };
        loop {
            let due = async {
                sleep(wait).await;
                begun(&board).await;
            };
            tokio::select! {
                () = due => {}
                () = gone(&mut over) => return,
            }
            if board.is_promoted() {
                return;
            }
            wait = match once(&config, &terms).await {
                Ok(report) => {
                    tell(&terms, &report);
                    let at_ms = parse_rfc3339_ms(&report.started_at).unwrap_or_else(now_ms);
                    board.drilled(Drilled { at_ms: Some(at_ms), passed: report.passed });
                    until_next(at_ms, terms.every)
                }
                Err(error) => {
                    tracing::error!(mirror = terms.mirror, error = format!("{error:#}"), "the drill could not be done");
                    let at_ms = board.last_drill().and_then(|drill| drill.at_ms);
                    board.drilled(Drilled { at_ms, passed: false });
                    terms.every.min(AGAIN_AFTER)
                }
            };
        }
    };
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn gone(over: &mut watch::Receiver<()>) {
    while over.changed().await.is_ok() {}
}

/// When the last drill of which a report is kept was done.
fn last(terms: &DrillConfig, board: &Board) -> Option<i64> {
    if !terms.reports.exists() {
        return None;
    }
    match kept(&terms.reports, &terms.mirror) {
        Ok(reports) => {
            let report = reports.last()?;
            let at_ms = parse_rfc3339_ms(&report.started_at)?;
            board.drilled(Drilled { at_ms: Some(at_ms), passed: report.passed });
            Some(at_ms)
        }
        Err(error) => {
            tracing::warn!(mirror = terms.mirror, %error, "the reports of drills cannot be read");
            None
        }
    }
}

/// What is left of the interval; a report from the future counts as one of now.
fn until_next(at_ms: i64, every: Duration) -> Duration {
    let gone_ms = u64::try_from(now_ms().saturating_sub(at_ms)).unwrap_or(0);
    every.saturating_sub(Duration::from_millis(gone_ms))
}

/// A mirror that is only just starting is no standby yet, and nobody's failure.
async fn begun(board: &Board) {
    let until = Instant::now() + BEGIN_WITHIN;
    while Instant::now() < until {
        let (_, parts) = board.read();
        if board.is_promoted() || (!parts.is_empty() && parts.iter().all(|part| part.state != "starting")) {
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn once(config: &Arc<Config>, terms: &DrillConfig) -> anyhow::Result<DrillReport> {
    let mirror = config.mirrors.iter().find(|mirror| mirror.name == terms.mirror).context("no such mirror")?;
    let expected =
        Expected { rpo_seconds_max: terms.max_rpo.as_secs_f64(), rto_seconds_max: terms.max_rto.as_secs_f64() };
    let DrillConfig { sample, isolated, .. } = *terms;
    let options = DrillOptions { expected, sample, isolated, source_timeout: SOURCE_TIMEOUT };
    let report = drill(config, mirror, &options).await?;
    keep_in(&terms.reports, &report)?;
    Ok(report)
}

fn keep_in(folder: &Path, report: &DrillReport) -> anyhow::Result<()> {
    keep(folder, report).with_context(|| format!("drills[].reports {}: the report cannot be kept", folder.display()))
}

fn tell(terms: &DrillConfig, report: &DrillReport) {
    let failed = report.checks.iter().filter(|check| check.verdict == Verdict::Fail);
    let failed: Vec<String> = failed.map(|check| format!("{}: {}", check.check, check.summary)).collect();
    let (mirror, reports) = (&terms.mirror, terms.reports.display());
    if report.passed {
        tracing::info!(
            mirror, %reports, rpo_seconds = report.rpo_seconds, rto_seconds_estimate = report.rto_seconds_estimate,
            "the drill passed"
        );
    } else {
        tracing::error!(mirror, %reports, failed = failed.join("; "), "the drill failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_drill_is_due_when_the_interval_is_over() {
        let every = Duration::from_secs(3_600);
        let left = |gone: Duration| {
            until_next(now_ms() - i64::try_from(gone.as_millis()).unwrap_or(0), every).as_secs().div_ceil(60)
        };
        assert_eq!(left(Duration::ZERO), 60);
        assert_eq!(left(Duration::from_secs(1_200)), 40);
        assert_eq!(left(Duration::from_secs(7_200)), 0);
        assert_eq!(until_next(now_ms() + 3_600_000, every), every);
    }
}
