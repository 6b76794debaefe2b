//! A file that has its name only once it is whole: an export that is killed leaves nothing that looks finished.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::backup::BackupError;

/// It is written beside its place, under a name that begins with a dot: what reads whole folders passes such names over.
#[derive(Debug)]
pub(super) struct WholeFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl WholeFile {
    /// Begins a file that must not be there yet.
    pub(super) fn create(path: &Path) -> Result<Self, BackupError> {
        if path.exists() {
            return Err(failed(path, &io::ErrorKind::AlreadyExists.into()));
        }
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Cut, for names have a longest length.
        let prefix: String = format!(".{name}").chars().take(60).chain(['.']).collect();
        // The mask of the process still applies: others may read it where they may read new files.
        let file = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".part")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(|error| failed(path, &error))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Gives it its name, if nothing has it meanwhile.
    pub(super) fn finish(mut self) -> Result<PathBuf, BackupError> {
        let finished = self.file.flush().and_then(|()| self.file.as_file().sync_all());
        finished.map_err(|error| failed(&self.path, &error))?;
        self.file.persist_noclobber(&self.path).map_err(|error| failed(&self.path, &error.error))?;
        Ok(self.path)
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().flush()
    }
}

fn failed(path: &Path, error: &io::Error) -> BackupError {
    let words = format!("cannot create {}: {error}", path.display());
    BackupError::Output(io::Error::new(error.kind(), words))
}
