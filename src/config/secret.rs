//! A secret as it is written: where it comes from is kept, and read anew whenever it is needed, so that it can change while
//! the program runs.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::substitute::{self, Env, Piece, SystemEnv, without_newline};

/// A value that is never shown, and may come from `${env:NAME}`, `${file:PATH}` and `${command:COMMAND}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    pieces: Vec<Piece>,
    folder: PathBuf,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// As it is written; relative paths start from `folder`.
    ///
    /// # Errors
    /// A substitution that is not closed.
    pub fn new(text: &str, folder: PathBuf) -> Result<Self, String> {
        Ok(Self { pieces: substitute::pieces(text)?, folder })
    }

    /// Whether all of it can be read now; commands are not run.
    pub(super) fn check(text: &str, env: &dyn Env) -> Result<(), String> {
        let (mut any, mut command) = (false, false);
        for piece in substitute::pieces(text)? {
            match piece {
                Piece::Text(text) => any |= !text.is_empty(),
                Piece::From { word, name } if word == "command" && !name.trim().is_empty() => command = true,
                Piece::From { word, name } => any |= !substitute::fetch(&word, &name, env)?.is_empty(),
            }
        }
        if any || command { Ok(()) } else { Err("is empty".to_owned()) }
    }

    /// What it is at this moment. `run` gives what a command prints.
    ///
    /// # Errors
    /// A variable, a file or a command that gives nothing; the message holds no part of the secret.
    pub async fn read(
        &self,
        run: impl AsyncFn(&str) -> Result<Zeroizing<Vec<u8>>, String>,
    ) -> Result<SecretString, String> {
        let env = SystemEnv { folder: self.folder.clone() };
        let mut out = Zeroizing::new(String::new());
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::From { word, name } if word == "command" => {
                    let printed = run(name).await.map_err(|detail| format!("the command gives nothing: {detail}"))?;
                    let text = std::str::from_utf8(&printed).map_err(|_| "the command prints what is not UTF-8")?;
                    out.push_str(without_newline(text));
                }
                Piece::From { word, name } => out.push_str(&Zeroizing::new(substitute::fetch(word, name, &env)?)),
            }
        }
        if out.is_empty() { Err("it is empty".to_owned()) } else { Ok(SecretString::from(out.as_str())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[tokio::test]
    async fn a_secret_is_read_anew_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let secret = Secret::new("a${file:pw}-${command:print it}", folder.path().to_owned()).unwrap();
        let run = async |command: &str| Ok(Zeroizing::new(format!("<{command}>\n").into_bytes()));
        for now in ["one", "two"] {
            std::fs::write(folder.path().join("pw"), format!("{now}\n")).unwrap();
            let read = secret.read(run).await.unwrap();
            assert_eq!(read.expose_secret(), format!("a{now}-<print it>"));
        }
        std::fs::remove_file(folder.path().join("pw")).unwrap();
        assert!(secret.read(run).await.unwrap_err().contains("file pw cannot be read"));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
