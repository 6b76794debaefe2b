//! What writers that were killed leave in a local folder. (Object stores have lifecycle rules for it.)

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Removes files of unfinished writes that nobody has touched for this long, and gives their number. object_store calls
/// them after the object, `#` and a number; no listing shows them, and no object may be called so.
pub(super) fn sweep(folder: &Path, older_than: Duration) -> io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        // A link to elsewhere is somebody else's affair.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            removed += sweep(&entry.path(), older_than)?;
        } else if kind.is_file() && is_unfinished(&entry.file_name().to_string_lossy()) {
            removed += u64::from(remove_old(&entry.path(), older_than)?);
        }
    }
    Ok(removed)
}

fn is_unfinished(name: &str) -> bool {
    let Some((object, number)) = name.rsplit_once('#') else { return false };
    !object.is_empty() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn remove_old(path: &Path, older_than: Duration) -> io::Result<bool> {
    let age =
        fs::metadata(path).and_then(|metadata| metadata.modified()).map(|at| SystemTime::now().duration_since(at));
    match age {
        // Its writer was quicker.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
        Ok(Ok(age)) if age >= older_than => {}
        Ok(_) => return Ok(false),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        outcome => outcome.map(|()| true),
    }
}
