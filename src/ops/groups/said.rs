//! What is told of keeping groups in step: once when it changes, not every few seconds.

use std::collections::BTreeMap;

use crate::client::ClientError;

use super::record::SyncRecord;

/// Names in one line of the log.
const NAMES_MAX: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Said {
    /// What went wrong with a whole round, or what it waits for.
    trouble: Option<String>,
    begun: bool,
    unrecorded: Option<String>,
    failed: BTreeMap<String, String>,
    left_alone: BTreeMap<String, String>,
}

impl Said {
    pub(super) fn well(&mut self, mirror: &str, record: &SyncRecord) {
        if self.trouble.take().is_some() || !self.begun {
            self.begun = true;
            let SyncRecord { groups, synced, left_alone, not_translatable, failed, .. } = *record;
            tracing::info!(mirror, groups, synced, left_alone, not_translatable, failed, "groups are kept in step");
        }
    }

    pub(super) fn waiting(&mut self, mirror: &str, why: &str) {
        if self.is_news(why) {
            tracing::info!(mirror, why, "groups are not kept in step for now");
        }
    }

    pub(super) fn failed(&mut self, mirror: &str, error: &str) {
        if self.is_news(error) {
            tracing::warn!(mirror, error, "groups cannot be kept in step; trying again");
        }
    }

    /// Whether the time could be kept on the target.
    pub(super) fn recorded(&mut self, mirror: &str, outcome: Result<(), ClientError>) {
        let error = outcome.err().map(|error| error.to_string());
        if let Some(error) = error.as_ref().filter(|error| self.unrecorded.as_ref() != Some(error)) {
            tracing::warn!(
                mirror,
                error,
                "groups are in step, but `status` cannot tell: the time could not be kept on the target"
            );
        }
        self.unrecorded = error;
    }

    fn is_news(&mut self, what: &str) -> bool {
        let news = self.trouble.as_deref() != Some(what);
        self.trouble = Some(what.to_owned());
        news
    }

    /// Groups that failed and groups that are left alone, each with its reason.
    pub(super) fn groups(
        &mut self,
        mirror: &str,
        failed: BTreeMap<String, String>,
        left_alone: BTreeMap<String, String>,
    ) {
        if let Some((count, names, why)) = news(&self.failed, &failed) {
            tracing::warn!(
                mirror,
                count,
                groups = names,
                error = why,
                "groups could not be kept in step; trying again"
            );
        }
        if let Some((count, names, _)) = news(&failed, &self.failed).filter(|_| failed.is_empty()) {
            tracing::info!(mirror, count, groups = names, "groups are kept in step again");
        }
        if let Some((count, names, why)) = news(&self.left_alone, &left_alone) {
            tracing::info!(mirror, count, groups = names, why, "groups are left alone on the target");
        }
        (self.failed, self.left_alone) = (failed, left_alone);
    }
}

/// What is new in `now`: how many, the first names, and why of the first one.
fn news(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Option<(usize, String, String)> {
    let new: Vec<(&String, &String)> = now.iter().filter(|(name, _)| !before.contains_key(*name)).collect();
    let why = new.first()?.1.clone();
    let mut names: Vec<&str> = new.iter().take(NAMES_MAX).map(|(name, _)| name.as_str()).collect();
    if new.len() > NAMES_MAX {
        names.push("…");
    }
    Some((new.len(), names.join(", "), why))
}
