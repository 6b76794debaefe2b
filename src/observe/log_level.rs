//! The level of the log, while the process runs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::LogLevel;

use super::api::Api;
use super::live::Live;
use super::problem::{Body, Kind, Problem, read};

type Set = dyn Fn(LogLevel) -> Result<(), String> + Send + Sync;

/// Sets the level of the log. Cheap to clone.
#[derive(Clone)]
pub struct LogControl {
    set: Arc<Set>,
    /// What was said last: a level, or the directives that the process started with.
    now: Arc<Mutex<String>>,
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl").field("now", &self.now).finish_non_exhaustive()
    }
}

impl LogControl {
    /// With what the log was started with, and what changes it.
    pub fn new(directives: &str, set: impl Fn(LogLevel) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { set: Arc::new(set), now: Arc::new(Mutex::new(directives.to_owned())) }
    }

    fn now(&self) -> String {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on what is as severe as this is shown.
    ///
    /// # Errors
    /// It cannot be changed.
    pub fn set(&self, level: LogLevel) -> Result<(), String> {
        (self.set)(level)?;
        level.as_str().clone_into(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}

/// The level to be set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevelBody {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: LogLevel,
}

/// What is logged.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LogLevelAnswer {
    /// Version of this shape.
    pub schema_version: u32,
    /// The level, or the directives of `RUST_LOG` that the process was started with.
    pub level: String,
}

/// Reading.
pub(super) fn routes() -> Router<Live> {
    Router::new().route("/api/v1/log/level", get(level))
}

/// Changing, to stand behind the token.
pub(super) fn actions() -> Router<Live> {
    Router::new().route("/api/v1/log/level", axum::routing::put(set_level))
}

fn control(api: &Api) -> Result<&LogControl, Problem> {
    api.log.as_ref().ok_or_else(|| Kind::Refused.because("the log of this process cannot be changed while it runs"))
}

async fn level(State(api): State<Api>) -> Result<Json<LogLevelAnswer>, Problem> {
    Ok(Json(LogLevelAnswer { schema_version: 1, level: control(&api)?.now() }))
}

async fn set_level(State(api): State<Api>, body: Body) -> Result<Json<LogLevelAnswer>, Problem> {
    let LogLevelBody { level } = read(body)?;
    let control = control(&api)?;
    control.set(level).map_err(|why| Kind::Refused.because(why))?;
    tracing::warn!(level = level.as_str(), "the level of the log was changed over HTTP");
    Ok(Json(LogLevelAnswer { schema_version: 1, level: control.now() }))
}
