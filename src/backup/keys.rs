//! Keys from where they are kept: a file, a variable, a command.

use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use super::seal::SealError;
use crate::config::KeySource;

const COMMAND_LIMIT: Duration = Duration::from_secs(30);
const BYTES_MAX: usize = 64 << 10;

/// Reads a key of 32 bytes: as they are, as hex, or as base64.
pub(super) async fn read(source: &KeySource) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let (from, text) = match source {
        KeySource::File(path) => {
            let from = format!("file {}", path.display());
            let read = tokio::fs::read(path).await.map_err(|error| wrong(&from, error.to_string()))?;
            warn_if_open(path);
            (from, Zeroizing::new(read))
        }
        KeySource::Env(name) => {
            let from = format!("the variable {name}");
            let value = std::env::var(name).map_err(|_| wrong(&from, "it is not set".to_owned()))?;
            (from, Zeroizing::new(value.into_bytes()))
        }
        KeySource::Command(command) => {
            let from = "the command".to_owned();
            let printed = run(command).await.map_err(|detail| wrong(&from, detail))?;
            (from, printed)
        }
    };
    parse(&text).ok_or_else(|| {
        let detail = format!("{} bytes that are not 32, nor 64 hex digits, nor 44 characters of base64", text.len());
        wrong(&from, detail)
    })
}

fn wrong(from: &str, detail: String) -> SealError {
    SealError::Source { from: from.to_owned(), detail }
}

fn parse(bytes: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if let Ok(key) = <[u8; 32]>::try_from(bytes) {
        return Some(Zeroizing::new(key));
    }
    let text = Zeroizing::new(std::str::from_utf8(bytes).ok()?.trim().to_owned());
    let decoded = match text.len() {
        64 => from_hex(&text),
        43 => STANDARD_NO_PAD.decode(text.as_bytes()).ok(),
        44 => STANDARD.decode(text.as_bytes()).ok(),
        _ => None,
    };
    decoded.map(Zeroizing::new).and_then(|key| <[u8; 32]>::try_from(&key[..]).ok()).map(Zeroizing::new)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(unix)]
fn warn_if_open(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).map(|meta| meta.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        tracing::warn!(file = %path.display(), "others may read this key: chmod 600 it");
    }
}

#[cfg(not(unix))]
fn warn_if_open(_path: &std::path::Path) {}

/// What a command of the shell prints.
async fn run(command: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_LIMIT, shell.output()).await;
    let output = output.map_err(|_| format!("it has not ended within {} s", COMMAND_LIMIT.as_secs()))?;
    let output = output.map_err(|error| error.to_string())?;
    let printed = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(format!("it ended with {}; what it said is on stderr", output.status));
    }
    if printed.len() > BYTES_MAX {
        return Err(format!("it printed {} bytes", printed.len()));
    }
    Ok(printed)
}
