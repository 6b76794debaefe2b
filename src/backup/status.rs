//! How a backup stands, read off its archive.

use std::time::Duration;

use super::archive::Standing;
use super::{BackupError, open_archive};
use crate::config::BackupConfig;
use crate::engine::now_ms;
use crate::ops::time::rfc3339;

/// Who asks how a mirror is does not wait longer for an archive.
const PATIENCE: Duration = Duration::from_secs(5);

/// A backup in `status --json`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct BackupStatus {
    /// Its name.
    pub name: String,
    /// The cluster that it is of.
    pub cluster: String,
    /// The newest chain; `null` where there is none, or that is not known.
    pub chain: Option<u32>,
    /// Its newest unit.
    pub unit: Option<u32>,
    /// When the last pass ended that read every partition to its end; `null`: none did, or that is not known.
    pub complete_at: Option<String>,
    /// How long ago that was, seconds; −1 where it is `null`.
    pub age_seconds: f64,
    /// What is wrong, where something is.
    pub problem: Option<String>,
}

/// Reads how a backup stands. What keeps it from that is its problem.
pub async fn backup_status(backup: &BackupConfig) -> BackupStatus {
    let asked = async { open_archive(backup)?.standing().await };
    let found = tokio::time::timeout(PATIENCE, asked).await;
    let found = found.map_err(|_| format!("its archive does not answer within {}s", PATIENCE.as_secs()));
    let found = found.and_then(|found| found.map_err(|error: BackupError| error.to_string()));
    let status = BackupStatus {
        name: backup.name.clone(),
        cluster: backup.cluster.clone(),
        chain: None,
        unit: None,
        complete_at: None,
        age_seconds: -1.0,
        problem: None,
    };
    match found {
        Ok(None) => BackupStatus { problem: Some("there is none yet".to_owned()), ..status },
        Err(problem) => BackupStatus { problem: Some(problem), ..status },
        Ok(Some(standing)) => BackupStatus {
            chain: Some(standing.chain),
            unit: Some(standing.unit),
            complete_at: standing.complete_at_ms.map(rfc3339),
            age_seconds: standing.complete_at_ms.map_or(-1.0, |at_ms| (now_ms() - at_ms).max(0) as f64 / 1000.0),
            problem: problem(&standing),
            ..status
        },
    }
}

/// In words: what stood in the way of the last pass.
fn problem(standing: &Standing) -> Option<String> {
    let (topic, partition, reason) = standing.problems.first()?;
    let more = match standing.problems.len() {
        1 => String::new(),
        all => format!(" (and {} partitions more)", all - 1),
    };
    Some(format!("{topic}:{partition} was not read to its end: {reason}{more}"))
}
