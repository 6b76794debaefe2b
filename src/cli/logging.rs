//! The log on stderr: results alone go to stdout.

use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry, reload};

#[cfg(feature = "otel")]
use super::otlp::layer as exported;
use crate::config::{LogConfig, LogFormat, LogLevel};
use crate::observe::log_level::LogControl;

/// What changes the level of the log of this process, once it has one.
static CONTROL: OnceLock<LogControl> = OnceLock::new();
/// Whether the level is the file's.
static IS_OF_FILE: OnceLock<bool> = OnceLock::new();

/// Starts the log of the process; a second call is without effect. The level is `--log-level`, else `RUST_LOG`, else the
/// file's.
pub(super) fn start(flag: Option<LogLevel>, config: LogConfig) {
    let from_env = || std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let directives = match flag {
        Some(level) => level.as_str().to_owned(),
        None => from_env().unwrap_or_else(|| config.level.as_str().to_owned()),
    };
    let (filter, handle) = reload::Layer::new(EnvFilter::new(&directives));
    let lines =
        fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal() && config.format == LogFormat::Text);
    let started = match config.format {
        LogFormat::Text => registry().with(filter).with(exported()).with(lines).try_init(),
        LogFormat::Json => registry().with(filter).with(exported()).with(lines.json().flatten_event(true)).try_init(),
    };
    // It fails only where a log is running already, which is what a second call wants.
    if started.is_ok() {
        let set = move |level: LogLevel| handle.reload(EnvFilter::new(level.as_str())).map_err(|e| e.to_string());
        // There is but one that was started.
        let _ = CONTROL.set(LogControl::new(&directives, set));
        let _ = IS_OF_FILE.set(flag.is_none() && from_env().is_none());
    }
}

/// Without the feature `otel` the log goes nowhere else.
#[cfg(not(feature = "otel"))]
fn exported() -> Option<tracing_subscriber::layer::Identity> {
    None
}

/// The process ends: what is on its way elsewhere gets there.
pub(super) fn finish() {
    #[cfg(feature = "otel")]
    super::otlp::finish();
}

/// The file has another level now; what wins over it does so still.
pub(super) fn change(level: LogLevel) {
    let Some(control) = CONTROL.get() else { return };
    if IS_OF_FILE.get() != Some(&true) {
        tracing::info!("log.level has changed, but --log-level or RUST_LOG wins over it");
    } else if let Err(error) = control.set(level) {
        tracing::error!(error, "the level of the log could not be changed");
    }
}

/// What changes the level of the running log.
pub(super) fn control() -> Option<LogControl> {
    CONTROL.get().cloned()
}
