//! What a command of the shell prints: a key, a password, a token.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

/// What gives much more than a key or a token is something else.
pub(crate) const BYTES_MAX: usize = 64 << 10;
const LIMIT: Duration = Duration::from_secs(30);

type Printed = Result<Zeroizing<Vec<u8>>, String>;

/// What it prints, for a password or a token.
pub(crate) async fn printed(command: &str) -> Printed {
    let check = |bytes: Zeroizing<Vec<u8>>| match bytes.len() {
        0 => Err("it prints nothing".to_owned()),
        len if len > BYTES_MAX => Err(format!("it prints more than {BYTES_MAX} bytes")),
        _ => Ok(bytes),
    };
    run(command, LIMIT, check).await
}

/// What it prints, if `check` has nothing against it. It is ended where it prints too much, or takes too long.
pub(crate) async fn run(command: &str, limit: Duration, check: impl FnOnce(Zeroizing<Vec<u8>>) -> Printed) -> Printed {
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = shell.spawn().map_err(|error| error.to_string())?;
    let out = child.stdout.take();
    let output = async {
        // The whole room at once: a vector that grows leaves copies of the secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX + 1));
        if let Some(out) = out {
            out.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
        }
        if bytes.len() > BYTES_MAX {
            return check(bytes);
        }
        let status = child.wait().await.map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("it ended with {status}; what it said is on stderr"));
        }
        check(bytes)
    };
    let output = tokio::time::timeout(limit, output).await;
    output.unwrap_or_else(|_| Err(format!("it has not ended within {} s", limit.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_that_prints_nothing_of_use_is_told() {
        assert_eq!(printed("printf x").await.unwrap()[..], b"x"[..]);
        for (command, fault) in
            [("exit 3", "exit status: 3"), ("true", "prints nothing"), ("cat /dev/zero", "more than 65536 bytes")]
        {
            assert!(printed(command).await.unwrap_err().contains(fault), "{command}");
        }
    }
}
