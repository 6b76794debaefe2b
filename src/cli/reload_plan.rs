//! What another file would do to a process that runs: for `kmirror config diff`, and for the process itself.

use serde::Serialize;

use super::output;
use crate::config::options::Takes;
use crate::config::{Change, Diff, Written};

/// `kmirror config diff --json`.
#[derive(Debug, Serialize)]
pub(super) struct DiffReport {
    schema_version: u32,
    /// Whether a process that goes by the old file takes the new one up.
    pub(super) accepted: bool,
    /// Why not, where it does not.
    refused: Option<String>,
    old: String,
    new: String,
    changes: Vec<Change>,
    /// Keys that would wait for the next start of the process.
    pending_restart: Vec<String>,
}

impl DiffReport {
    pub(super) fn of(old: &Written, new: &Written) -> Self {
        let diff = Diff::between(old, new);
        let refused = never(&diff);
        Self {
            schema_version: 1,
            accepted: refused.is_none(),
            refused,
            old: old.fingerprint(),
            new: new.fingerprint(),
            pending_restart: diff.taking(Takes::Process).map(|change| change.key.clone()).collect(),
            changes: diff.0,
        }
    }

    pub(super) fn page(&self) -> String {
        if self.changes.is_empty() {
            return format!("nothing differs ({})\n", self.new);
        }
        let rows = self.changes.iter().map(|change| {
            let value = |value: &Option<String>| value.clone().unwrap_or_default();
            let what = change.what.word().to_owned();
            vec![change.key.clone(), what, change.takes.to_owned(), value(&change.from), value(&change.to)]
        });
        let mut text = output::table(&["KEY", "", "TAKES EFFECT", "FROM", "TO"], &[], rows);
        if !self.pending_restart.is_empty() {
            text.push_str(&format!("\nwith the next start of the process only: {}\n", self.pending_restart.join(", ")));
        }
        if let Some(why) = &self.refused {
            text.push_str(&format!("\nREFUSED: {why}\n"));
        }
        text
    }
}

/// Why a running process does not take this up, if it does not: what mirrors have on their targets would be another one's.
pub(super) fn never(diff: &Diff) -> Option<String> {
    let one = |change: &Change| {
        let value = |value: &Option<String>| value.clone().unwrap_or_default();
        format!(
            "{}: cannot be changed from {} to {} under the mirror's name: what it has on the target was written by the one, \
             and would be taken for the other's; give the mirror another name, and it begins anew",
            change.key,
            value(&change.from),
            value(&change.to)
        )
    };
    let all: Vec<String> = diff.taking(Takes::Never).map(one).collect();
    (!all.is_empty()).then(|| all.join("\n"))
}
