//! Lines of JSON, in the format of `kmirror failback --export`.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::whole::WholeFile;
use super::{Row, Sink};
use crate::backup::BackupError;
use crate::ops::failback::record_line;

/// Writes a line for each record.
#[derive(Debug)]
pub struct Lines(Out);

#[derive(Debug)]
enum Out {
    Stdout(BufWriter<io::Stdout>),
    File(BufWriter<WholeFile>),
}

impl Lines {
    /// To stdout.
    pub fn to_stdout() -> Self {
        Self(Out::Stdout(BufWriter::new(io::stdout())))
    }

    /// To a file that must not be there yet.
    ///
    /// # Errors
    /// It is there, or cannot be made.
    pub fn to_file(file: &Path) -> Result<Self, BackupError> {
        Ok(Self(Out::File(BufWriter::new(WholeFile::create(file)?))))
    }
}

impl Sink for Lines {
    fn put(&mut self, row: &Row<'_>) -> Result<(), BackupError> {
        let mut line = record_line(row.topic, row.partition, row.record).to_string();
        line.push('\n');
        let out: &mut dyn Write = match &mut self.0 {
            Out::Stdout(out) => out,
            Out::File(out) => out,
        };
        out.write_all(line.as_bytes()).map_err(BackupError::Output)
    }

    fn finish(self: Box<Self>) -> Result<Vec<PathBuf>, BackupError> {
        match self.0 {
            Out::Stdout(mut out) => out.flush().map(|()| Vec::new()).map_err(BackupError::Output),
            Out::File(out) => {
                let file = out.into_inner().map_err(|error| BackupError::Output(error.into_error()))?;
                Ok(vec![file.finish()?])
            }
        }
    }
}
