//! Reports of drills, as they are kept in a folder: as JSON for `--history` and for machines, as HTML for an audit.

use std::fs;
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
    for (kind, text) in [("json", serde_json::to_string_pretty(report)? + "\n"), ("html", html(report))] {
        let file = folder.join(format!("{}{at}.{kind}", prefix(&report.mirror)));
        let made = fs::OpenOptions::new().write(true).create_new(true).open(&file);
        let written = made.and_then(|mut made| std::io::Write::write_all(&mut made, text.as_bytes()));
        written.with_context(|| file.display().to_string())?;
    }
    Ok(())
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
        let report: DrillReport =
            serde_json::from_str(&text).with_context(|| format!("{}: no report of a drill", path.display()))?;
        // Of a mirror whose name goes on behind this one.
        if report.mirror == mirror {
            reports.push(report);
        }
    }
    reports.sort_by(|a, b| a.started_at.cmp(&b.started_at));
    Ok(reports)
}
