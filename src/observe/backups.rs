//! How a backup that is kept stands.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;

/// Passes that are remembered.
const PASSES_MAX: usize = 20;

/// What is shown of one backup. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BackupBoard {
    backup: String,
    inner: Arc<Mutex<BackupView>>,
    passes: Arc<Mutex<VecDeque<BackupPass>>>,
}

/// A pass that this process has done.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BackupPass {
    /// When it ended, ms since the epoch.
    pub at_ms: i64,
    /// How long it took.
    pub took_seconds: f64,
    /// `complete`: every partition was read to its end; `partial`: some were not; `failed`: nothing was written.
    pub outcome: &'static str,
    /// Records that came in.
    pub records: u64,
    /// Bytes of their segments, in each copy.
    pub stored_bytes: u64,
    /// What went wrong, where something did.
    pub problem: Option<String>,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackupView {
    /// The last pass that read every partition to its end.
    pub complete: Complete,
    /// Source offsets that the archive lacked when the last pass ended; `None` where that is not known.
    pub lag_records: Option<i64>,
    /// When everything in the archive was last found whole, as is noted there.
    pub verified: Complete,
}

/// When something about a backup was last so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Complete {
    /// The archive has not been read yet.
    #[default]
    Unknown,
    /// It never was.
    Never,
    /// Then, ms since the epoch.
    At(i64),
}

impl BackupBoard {
    /// Nothing is known yet.
    pub fn new(backup: &str) -> Self {
        Self { backup: backup.to_owned(), inner: Arc::default(), passes: Arc::default() }
    }

    /// Name of the backup.
    pub fn backup(&self) -> &str {
        &self.backup
    }

    /// How it stands.
    pub fn read(&self) -> BackupView {
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes when it was last complete.
    pub fn complete(&self, complete: Complete) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).complete = complete;
    }

    /// Notes how far it is behind its source.
    pub fn behind(&self, lag_records: Option<i64>) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).lag_records = lag_records;
    }

    /// Notes a pass.
    pub fn passed(&self, pass: BackupPass) {
        let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        if passes.len() == PASSES_MAX {
            passes.pop_front();
        }
        passes.push_back(pass);
    }

    /// The last passes, oldest first.
    pub fn passes(&self) -> Vec<BackupPass> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Notes when everything in its archive was last found whole.
    pub fn verified(&self, verified: Complete) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).verified = verified;
    }

    pub(super) fn publish(&self, now_ms: i64) {
        let view = self.read();
        // An alert on the age is to speak where there never was a complete pass, and to be quiet where nothing is known.
        let age_s = |last: Complete| match last {
            Complete::Unknown => f64::NAN,
            Complete::Never => f64::INFINITY,
            Complete::At(at_ms) => (now_ms - at_ms).max(0) as f64 / 1000.0,
        };
        metrics::gauge!("kmirror_backup_age_seconds", "backup" => self.backup.clone()).set(age_s(view.complete));
        metrics::gauge!("kmirror_backup_verified_age_seconds", "backup" => self.backup.clone())
            .set(age_s(view.verified));
        let lag = view.lag_records.map_or(f64::NAN, |lag| lag as f64);
        metrics::gauge!("kmirror_backup_lag_records", "backup" => self.backup.clone()).set(lag);
        // Counters that are written where things happen are there before anything does, and stay.
        for outcome in ["complete", "partial", "failed"] {
            let backup = self.backup.clone();
            metrics::counter!("kmirror_backup_passes_total", "backup" => backup, "outcome" => outcome).increment(0);
        }
        metrics::counter!("kmirror_backup_records_total", "backup" => self.backup.clone()).increment(0);
        metrics::counter!("kmirror_backup_bytes_total", "backup" => self.backup.clone()).increment(0);
    }
}
