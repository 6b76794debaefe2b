//! `${env:NAME}` and `${file:PATH}` within single values, and `${command:COMMAND}` within secrets, after the YAML is parsed:
//! what they bring in is text, never YAML. `$${` writes a plain `${`.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Where substitutions come from.
pub trait Env {
    /// The value of an environment variable; `None` where it is not set or not UTF-8.
    fn var(&self, name: &str) -> Option<String>;

    /// The content of a file.
    ///
    /// # Errors
    /// It cannot be read, is not UTF-8, or is larger than [`FILE_BYTES_MAX`].
    fn file(&self, path: &str) -> io::Result<String>;

    /// The folder that relative paths start from.
    fn folder(&self) -> PathBuf {
        PathBuf::new()
    }
}

/// Largest file that is read, the configuration itself or one put in by `${file:…}`: 1 MiB.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// The process's environment and the file system.
#[derive(Debug, Clone)]
pub struct SystemEnv {
    /// The folder that relative paths start from: the one of the configuration file.
    pub folder: PathBuf,
}

impl Env for SystemEnv {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &str) -> io::Result<String> {
        read_bounded(&self.folder.join(path))
    }

    fn folder(&self) -> PathBuf {
        self.folder.clone()
    }
}

pub(super) fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(text)
}

/// A part of a value: as it stands there, or from somewhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// As it stands there.
    Text(String),
    /// `${word:name}`.
    From {
        /// env, file or command.
        word: String,
        /// What is behind it.
        name: String,
    },
}

/// The text with its substitutions made, and whether there were any. Messages name the variable or the file, never what
/// they hold.
pub(super) fn substitute(text: &str, env: &dyn Env) -> Result<(String, bool), String> {
    let (mut out, mut any) = (String::with_capacity(text.len()), false);
    for piece in pieces(text)? {
        match piece {
            Piece::Text(text) => out.push_str(&text),
            Piece::From { word, name } => {
                out.push_str(&fetch(&word, &name, env)?);
                any = true;
            }
        }
    }
    Ok((out, any))
}

/// Takes a value apart.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut out, mut rest) = (Vec::new(), String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let word = after.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
        let named = after.strip_prefix(word).and_then(|a| a.strip_prefix(':'));
        // A bare `${` may stand in a regular expression; only `${word:` is ours.
        let (false, Some(named)) = (word.is_empty(), named) else {
            out.push_str("${");
            rest = after;
            continue;
        };
        let (name, behind) = named.split_once('}').ok_or_else(|| format!("${{{word}: is not closed with }}"))?;
        pieces.push(Piece::Text(std::mem::take(&mut out)));
        pieces.push(Piece::From { word: word.to_owned(), name: name.to_owned() });
        rest = behind;
    }
    out.push_str(rest);
    pieces.push(Piece::Text(out));
    Ok(pieces)
}

pub(super) fn fetch(word: &str, name: &str, env: &dyn Env) -> Result<String, String> {
    match word {
        _ if name.is_empty() => Err(format!("${{{word}:}} lacks a name")),
        "env" => env.var(name).ok_or_else(|| format!("the environment variable {name} is not set (or is not UTF-8)")),
        "file" => match env.file(name) {
            // Secrets in files mostly end in a newline that is not part of them.
            Ok(text) => Ok(without_newline(&text).to_owned()),
            Err(error) => Err(format!("the file {name} cannot be read: {error}")),
        },
        "command" => {
            Err("${command:…} serves for the secrets of a cluster alone (password, client_secret, token)".to_owned())
        }
        _ => Err(format!("${{{word}:…}} is unknown; known are ${{env:NAME}} and ${{file:PATH}}")),
    }
}

/// The text without its last newline.
pub(super) fn without_newline(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text))
}
