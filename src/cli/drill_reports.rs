//! Reports of drills, as they are kept in a folder: as JSON for `--history` and for machines, as HTML for an audit.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use super::drill_page::html;
use crate::ops::drill::DrillReport;

/// The beginning of the name of a report that is kept.
fn prefix(mirror: &str) -> String {
    format!("kmirror-drill-{mirror}-")
}

/// Keeps a report; one is never written over.
pub(super) fn keep(folder: &Path, report: &DrillReport) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let at: String = report.started_at.chars().filter(|c| !matches!(c, '-' | ':' | '.')).collect();
    // The JSON last, which is what counts as a report.
    for (kind, text) in [("html", html(report)), ("json", serde_json::to_string_pretty(report)? + "\n")] {
        let file = folder.join(format!("{}{at}.{kind}", prefix(&report.mirror)));
        write_whole(&file, text.as_bytes()).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// All of it or nothing, and not in the place of what is there.
fn write_whole(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let readable = fs::Permissions::from_mode(0o644);
    let mut unfinished = tempfile::Builder::new().permissions(readable).tempfile_in(folder)?;
    unfinished.write_all(bytes)?;
    unfinished.as_file().sync_all()?;
    unfinished.persist_noclobber(file).map(drop).map_err(|error| error.error)
}

/// The reports of a mirror that are kept, oldest first.
pub(super) fn kept(folder: &Path, mirror: &str) -> anyhow::Result<Vec<DrillReport>> {
    let mut reports = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("--reports {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with(&prefix(mirror)) || path.extension().is_none_or(|kind| kind != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        match serde_json::from_str::<DrillReport>(&text) {
            // Others are of a mirror whose name goes on behind this one.
            Ok(report) if report.mirror == mirror => reports.push(report),
            Ok(_) => {}
            // One that nobody can read hides none of the others.
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "this is no report of a drill: it is left out");
            }
        }
    }
    reports.sort_by(|a, b| a.started_at.cmp(&b.started_at));
    Ok(reports)
}
