//! A backup that goes on: a pass every interval.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::BackupError;
use super::keeper::Keeper;
use super::open::open_archive;
use super::pass::{COMMIT_EVERY, Meter, PassReport};
use crate::config::{BackupConfig, Config};
use crate::engine::now_ms;
use crate::observe::{BackupBoard, BackupPass, Complete};

/// Least pause behind a pass that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// How a pass can end, for the metric of passes.
const OUTCOMES: [&str; 3] = ["complete", "partial", "failed"];

/// Backs up until `stop` says so. What fails is told and tried again with the next interval.
pub async fn keep(config: Config, backup: BackupConfig, board: BackupBoard, mut stop: watch::Receiver<bool>) {
    // A series that is there from the start shows its first increase.
    OUTCOMES.iter().for_each(|outcome| count(&backup.name, outcome, 0));
    let mut keeper = None;
    let mut is_known = false;
    loop {
        let began = Instant::now();
        let work = async {
            note_last(&backup, &board).await;
            let pass = one_pass(&config, &backup, &mut keeper, is_known).await;
            let lag = match (&pass, &keeper) {
                (Ok(_), Some(keeper)) => keeper.lag_records().await,
                _ => None,
            };
            (pass, lag)
        };
        let (pass, lag) = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            done = work => done,
        };
        board.behind(lag);
        let failed = pass.is_err();
        is_known |= !failed;
        if failed {
            keeper = None;
        }
        match pass {
            Ok(report) => {
                tell(&backup.name, &report, began.elapsed());
                note_verified(&backup, &board).await;
                let is_complete = report.problems.is_empty();
                if is_complete {
                    board.complete(Complete::At(now_ms()));
                }
                let outcome = if is_complete { "complete" } else { "partial" };
                count(&backup.name, outcome, 1);
                let problem = report.problems.first().map(|p| format!("{}:{}: {}", p.topic, p.partition, p.reason));
                note(&board, began, outcome, (report.records, report.stored_bytes), problem);
            }
            Err(error) => {
                count(&backup.name, "failed", 1);
                note(&board, began, "failed", (0, 0), Some(error.to_string()));
                tracing::error!(backup = %backup.name, %error, "the pass failed; the next one begins where the last manifest ends");
            }
        }
        let due = backup.interval.saturating_sub(began.elapsed());
        let pause = if failed { due.max(PAUSE) } else { due };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn note(
    board: &BackupBoard,
    began: Instant,
    outcome: &'static str,
    (records, stored_bytes): (u64, u64),
    problem: Option<String>,
) {
    let took_seconds = began.elapsed().as_secs_f64();
    board.passed(BackupPass { at_ms: now_ms(), took_seconds, outcome, records, stored_bytes, problem });
}

fn count(backup: &str, outcome: &'static str, passes: u64) {
    metrics::counter!("kmirror_backup_passes_total", "backup" => backup.to_owned(), "outcome" => outcome)
        .increment(passes);
}

/// Age counts on from the archive, whoever wrote it last: a restart makes no backup young.
async fn note_last(backup: &BackupConfig, board: &BackupBoard) {
    if board.read().complete != Complete::Unknown {
        return;
    }
    let standing = match open_archive(backup) {
        Ok(archive) => archive.standing().await,
        Err(error) => Err(error),
    };
    match standing {
        Ok(standing) => {
            let at_ms = standing.and_then(|standing| standing.complete_at_ms);
            board.complete(at_ms.map_or(Complete::Never, Complete::At));
        }
        // A first pass makes it.
        Err(BackupError::Store(error)) if error.is_without_place() => board.complete(Complete::Never),
        Err(error) => {
            tracing::warn!(backup = %backup.name, %error, "the archive does not tell when it was last complete");
        }
    }
}

/// Anybody may have verified it meanwhile.
async fn note_verified(backup: &BackupConfig, board: &BackupBoard) {
    let at_ms = match open_archive(backup) {
        Ok(archive) => archive.verified_at_ms().await,
        Err(error) => Err(error),
    };
    match at_ms {
        Ok(at_ms) => board.verified(at_ms.map_or(Complete::Never, Complete::At)),
        Err(error) => tracing::debug!(backup = %backup.name, %error, "the archive does not tell when it was verified"),
    }
}

async fn one_pass(
    config: &Config,
    backup: &BackupConfig,
    keeper: &mut Option<Keeper>,
    is_known: bool,
) -> Result<PassReport, BackupError> {
    let keeper = match keeper {
        Some(keeper) => keeper,
        None => keeper.insert(Keeper::connect(config, backup).await?),
    };
    if is_known {
        keeper.expect_archive();
    }
    let report = keeper.pass(false, COMMIT_EVERY, Meter::default()).await?;
    keeper.prune(false, false).await?;
    Ok(report)
}

fn tell(backup: &str, report: &PassReport, took: Duration) {
    tracing::info!(
        backup,
        chain = report.chain,
        unit = report.unit,
        records = report.records,
        bytes = report.stored_bytes,
        problems = report.problems.len(),
        away = report.away.len(),
        seconds = took.as_secs_f64(),
        "backed up"
    );
}
