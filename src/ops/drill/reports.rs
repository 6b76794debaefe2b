//! Reports of drills, as they are kept in a folder: as JSON for `--history` and for machines, as HTML for an audit.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::DrillReport;
use super::page::html;

/// A folder of reports that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct ReportsError {
    /// The folder, or the file in it.
    path: PathBuf,
    source: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ReportsError {
    |source| ReportsError { path: path.to_owned(), source }
}

/// The beginning of the name of a report that is kept.
fn prefix(mirror: &str) -> String {
    format!("kmirror-drill-{mirror}-")
}

/// Keeps a report; one is never written over.
///
/// # Errors
/// It cannot be written, or there is one of the same moment.
pub fn keep(folder: &Path, report: &DrillReport) -> Result<(), ReportsError> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    let moment: String = report.started_at.chars().filter(|c| !matches!(c, '-' | ':' | '.')).collect();
    // The JSON last, which is what counts as a report.
    let json = serde_json::to_string_pretty(report).map_err(io::Error::from).map_err(at(folder))? + "\n";
    for (kind, text) in [("html", html(report)), ("json", json)] {
        let file = folder.join(format!("{}{moment}.{kind}", prefix(&report.mirror)));
        write_whole(&file, text.as_bytes()).map_err(at(&file))?;
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
///
/// # Errors
/// The folder, or a report in it, cannot be read.
pub fn kept(folder: &Path, mirror: &str) -> Result<Vec<DrillReport>, ReportsError> {
    let mut reports = Vec::new();
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    for entry in entries {
        let path = entry.map_err(at(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with(&prefix(mirror)) || path.extension().is_none_or(|kind| kind != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(at(&path))?;
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
