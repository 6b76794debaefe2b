//! The log on stderr: results alone go to stdout.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Starts the log of the process; a second call is without effect. The level is `--log-level`, else `RUST_LOG`, else the
/// file's.
pub(super) fn start(flag: Option<LogLevel>, config: LogConfig) {
    let from_env = || std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let directives = match flag {
        Some(level) => level.as_str().to_owned(),
        None => from_env().unwrap_or_else(|| config.level.as_str().to_owned()),
    };
    let filter = EnvFilter::new(directives);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && config.format == LogFormat::Text);
    // Fails only where a log is running already, which is what a second call wants.
    let _ = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
