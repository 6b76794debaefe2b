//! Which configuration is in force, what became of the last one that was read, and the word to read it again.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::config::Change;
use crate::engine::now_ms;

use super::api::Api;
use super::live::Live;
use super::problem::{Body, Kind, Problem, read};

/// What came of reading it; labels of `kmirror_config_reloads_total`.
pub const OUTCOMES: [&str; 2] = ["applied", "refused"];

/// The configuration of a process that reads it again when it changes.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct ConfigView {
    /// Tells configurations apart: the same where two instances go by the same one. Secrets, and what is read from variables and other
    /// files, are not in it.
    pub fingerprint: String,
    /// Since when it is in force, ms since the epoch.
    pub since_ms: i64,
    /// When the file was last read and found to be in force, or taken up, ms since the epoch.
    pub agreed_ms: i64,
    /// Why the file as it is now is not in force; `null` where it is.
    pub refused: Option<Refusal>,
    /// Keys that differ from those that the process was started with, and take effect with its next start.
    pub pending_restart: Vec<String>,
}

/// A file that was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Refusal {
    /// Since when, ms since the epoch.
    pub since_ms: i64,
    /// What is wrong with it, a fault a line, each with its place in the file where it has one.
    pub why: String,
}

/// The same, shared. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ConfigBoard(Arc<Mutex<ConfigView>>);

impl ConfigBoard {
    /// Of a process that begins with this one.
    pub fn new(fingerprint: String) -> Self {
        let now = now_ms();
        let view = ConfigView { fingerprint, since_ms: now, agreed_ms: now, ..ConfigView::default() };
        Self(Arc::new(Mutex::new(view)))
    }

    /// As it is now.
    pub fn read(&self) -> ConfigView {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file is in force; `changed`: it was not before.
    pub fn agreed(&self, fingerprint: String, pending_restart: Vec<String>, changed: bool) {
        let mut view = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now_ms();
        let since_ms = if changed { now } else { view.since_ms };
        *view = ConfigView { fingerprint, since_ms, agreed_ms: now, refused: None, pending_restart };
        drop(view);
        if changed {
            count("applied");
        }
    }

    /// The file is refused. Gives whether that is news.
    pub fn refused(&self, why: &str) -> bool {
        let mut view = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if view.refused.as_ref().is_some_and(|refusal| refusal.why == why) {
            return false;
        }
        let since_ms = view.refused.as_ref().map_or_else(now_ms, |refusal| refusal.since_ms);
        view.refused = Some(Refusal { since_ms, why: why.to_owned() });
        drop(view);
        count("refused");
        true
    }

    pub(super) fn publish(&self) {
        let view = self.read();
        metrics::gauge!("kmirror_config_info", "fingerprint" => view.fingerprint).set(1.0);
        let is_in_force = f64::from(u8::from(view.refused.is_none()));
        metrics::gauge!("kmirror_config_last_reload_successful").set(is_in_force);
        metrics::gauge!("kmirror_config_last_reload_success_timestamp_seconds").set(view.agreed_ms as f64 / 1000.0);
        metrics::gauge!("kmirror_config_pending_restart_keys").set(view.pending_restart.len() as f64);
        // There before anything happens, and they stay.
        for outcome in OUTCOMES {
            metrics::counter!("kmirror_config_reloads_total", "outcome" => outcome).increment(0);
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("kmirror_config_reloads_total", "outcome" => outcome).increment(1);
}

/// Somebody wants the file to be read again.
#[derive(Debug)]
pub struct ReloadAsk {
    /// Only to be told what it would change.
    pub dry_run: bool,
    /// Where the answer goes: what was changed, or why the file is refused.
    pub answer: oneshot::Sender<Result<ReloadAnswer, String>>,
}

/// Where to ask for it. Bounded: whoever asks waits for those who asked before.
pub type ReloadHandle = mpsc::Sender<ReloadAsk>;

/// How to read it again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadBody {
    /// Change nothing.
    pub dry_run: bool,
}

/// What reading the file again has changed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReloadAnswer {
    /// Version of this shape.
    pub schema_version: u32,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Of the file.
    pub fingerprint: String,
    /// What differs from what was in force before; none where the file is in force already.
    pub changes: Vec<Change>,
    /// Keys that take effect with the next start of the process.
    pub pending_restart: Vec<String>,
}

/// Of `/api/v1/config`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConfigAnswer {
    /// Version of this shape.
    pub schema_version: u32,
    /// The configuration in force; `null` where this process does not read it again.
    pub config: Option<ConfigView>,
}

/// Reading.
pub(super) fn routes() -> Router<Live> {
    Router::new().route("/api/v1/config", get(config))
}

/// Changing, to stand behind the token.
pub(super) fn actions() -> Router<Live> {
    Router::new().route("/api/v1/reload", post(reload))
}

async fn config(State(api): State<Api>) -> Json<ConfigAnswer> {
    Json(ConfigAnswer { schema_version: 1, config: api.config.as_ref().map(ConfigBoard::read) })
}

async fn reload(State(api): State<Api>, body: Body) -> Result<Json<ReloadAnswer>, Problem> {
    let ReloadBody { dry_run } = read(body)?;
    let handle = api.reload.ok_or_else(|| {
        Kind::Refused.because("this process goes by the file that it was started with: only kmirror run reads it again")
    })?;
    let (answer, told) = oneshot::channel();
    let gone = || Kind::Refused.because("the process is about to end");
    handle.send(ReloadAsk { dry_run, answer }).await.map_err(|_| gone())?;
    told.await.map_err(|_| gone())?.map(Json).map_err(|why| Kind::Refused.because(why))
}
