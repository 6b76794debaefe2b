//! Keys from where they are kept: a file, a variable, a command.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use super::seal::SealError;
use crate::client::{COMMAND_BYTES_MAX as BYTES_MAX, run_command};
use crate::config::KeySource;

const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// How long a file may take: a pipe that nobody writes to has no end.
const FILE_LIMIT: Duration = Duration::from_secs(30);

/// Reads a key of 32 bytes: as they are, as hex, or as base64.
pub(super) async fn read(source: &KeySource) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let (from, text) = match source {
        KeySource::File(path) => {
            let from = format!("file {}", path.display());
            let text = read_file(path, FILE_LIMIT).await.map_err(|detail| wrong(&from, detail))?;
            warn_if_open(path);
            (from, text)
        }
        KeySource::Env(name) => {
            let from = format!("the variable {name}");
            let value = std::env::var(name).map_err(|_| wrong(&from, "it is not set".to_owned()))?;
            (from, Zeroizing::new(value.into_bytes()))
        }
        KeySource::Command(command) => {
            let from = "the command".to_owned();
            let printed = run(command, COMMAND_LIMIT).await.map_err(|detail| wrong(&from, detail))?;
            (from, printed)
        }
    };
    let key = parse(&text).ok_or_else(|| {
        let detail = format!("{} bytes that are not 32, nor 64 hex digits, nor 44 characters of base64", text.len());
        wrong(&from, detail)
    })?;
    // A file of zeros is what a script makes that went wrong.
    if key.iter().all(|byte| *byte == 0) {
        let detail = "it is all zeros, which is no secret; draw a key with openssl rand -hex 32";
        return Err(wrong(&from, detail.to_owned()));
    }
    Ok(key)
}

/// A thread of its own reads it: a pipe that nobody writes to would hold up the end of the program.
async fn read_file(path: &std::path::Path, limit: Duration) -> Result<Zeroizing<Vec<u8>>, String> {
    let path = path.to_owned();
    let (done, read) = tokio::sync::oneshot::channel();
    let reading = move || {
        let read = std::fs::File::open(path).and_then(|file| {
            let mut bytes = room();
            std::io::Read::read_to_end(&mut std::io::Read::take(file, BYTES_MAX as u64 + 1), &mut bytes)?;
            Ok(bytes)
        });
        // Nobody listens where it took too long.
        let _ = done.send(read);
    };
    std::thread::Builder::new().spawn(reading).map_err(|error| error.to_string())?;
    let read = tokio::time::timeout(limit, read).await;
    let read = read.map_err(|_| format!("it has not come to its end within {} s", limit.as_secs()))?;
    bounded(read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?)
}

/// The whole room at once: a vector that grows leaves copies of the key behind.
fn room() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(BYTES_MAX + 1))
}

fn bounded(bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, String> {
    match bytes.len() {
        0 => Err("it gives nothing".to_owned()),
        len if len > BYTES_MAX => Err(format!("it gives more than {BYTES_MAX} bytes, and a key has 32")),
        _ => Ok(bytes),
    }
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
async fn run(command: &str, limit: Duration) -> Result<Zeroizing<Vec<u8>>, String> {
    run_command(command, limit, bounded).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn said(outcome: Result<Zeroizing<[u8; 32]>, SealError>) -> String {
        outcome.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_key_is_read_in_every_form() {
        let folder = tempfile::tempdir().unwrap();
        let raw: Vec<u8> = (0..32).collect();
        let forms: [(&str, Vec<u8>); 3] =
            [("hex", HEX.into()), ("base64", format!("{}\n", STANDARD.encode(&raw)).into()), ("raw", raw.clone())];
        for (name, text) in forms {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&KeySource::File(file)).await.unwrap()[..], raw[..], "{name}");
        }
        let command = KeySource::Command(format!("echo {HEX}"));
        assert_eq!(read(&command).await.unwrap()[..], raw[..]);
    }

    #[tokio::test]
    async fn what_has_no_end_is_not_read_to_its_end() {
        let file = said(read(&KeySource::File("/dev/zero".into())).await);
        assert!(file.contains("/dev/zero: it gives more than 65536 bytes"), "{file}");
        let command = said(read(&KeySource::Command("cat /dev/zero".to_owned())).await);
        assert!(command.contains("more than 65536 bytes"), "{command}");
        let slow = run("exec sleep 600", Duration::from_millis(50)).await.unwrap_err();
        assert!(slow.contains("has not ended"), "{slow}");
        let waiting = run(&format!("echo {HEX}; exec sleep 600"), Duration::from_millis(50)).await.unwrap_err();
        assert!(waiting.contains("has not ended"), "{waiting}");
    }

    #[tokio::test]
    async fn what_is_no_key_is_refused_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        for text in ["", "hunter2", &"0".repeat(64), &format!("{HEX}00")] {
            std::fs::write(&file, text).unwrap();
            let said = said(read(&KeySource::File(file.clone())).await);
            assert!(said.contains("file ") && (text.is_empty() || !said.contains(text)), "{said}");
        }
        let failed = said(read(&KeySource::Command("exit 3".to_owned())).await);
        assert!(failed.contains("exit status: 3"), "{failed}");
    }
}
