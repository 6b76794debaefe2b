//! What is wrong with a configuration: every fault with its place, as many at once as can be told apart.

use std::fmt;

/// Everything that is wrong with one file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file as it was named.
    pub file: String,
    /// The faults in the order of the file.
    pub errors: Vec<ConfigError>,
}

/// One fault. Shows as `FILE:LINE:COLUMN: KEY: MESSAGE` within [`ConfigErrors`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it is; `None` when it is about the file as a whole (it cannot be read).
    pub place: Option<Place>,
    /// The key path, as `mirrors[0].topics.include[1]`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what to do. Never holds a value that came out of `${env:…}` or `${file:…}`.
    pub message: String,
}

/// A place in the file, both counted from 1; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl ConfigErrors {
    pub(super) fn new(file: &str, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| error.place);
        Self { file: file.to_owned(), errors }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            if let Some(place) = error.place {
                write!(f, ":{}:{}", place.line, place.column)?;
            }
            f.write_str(": ")?;
            if !error.key.is_empty() {
                write!(f, "{}: ", error.key)?;
            }
            f.write_str(&error.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
