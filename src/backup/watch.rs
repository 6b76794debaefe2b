//! A backup that goes on: a pass every interval.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::BackupError;
use super::keeper::Keeper;
use super::pass::{COMMIT_EVERY, Meter, PassReport};
use crate::config::{BackupConfig, Config};

/// Least pause behind a pass that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Backs up until `stop` says so. What fails is told and tried again with the next interval.
pub async fn keep(config: Config, backup: BackupConfig, mut stop: watch::Receiver<bool>) {
    let mut keeper = None;
    let mut is_known = false;
    loop {
        let began = Instant::now();
        let pass = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            pass = one_pass(&config, &backup, &mut keeper, is_known) => pass,
        };
        let failed = pass.is_err();
        is_known |= !failed;
        if failed {
            keeper = None;
        }
        match pass {
            Ok(report) => tell(&backup.name, &report, began.elapsed()),
            Err(error) => {
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
