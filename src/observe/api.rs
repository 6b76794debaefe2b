//! `/api/v1`: what the dashboard shows, as JSON. These paths read; those that act are in [`super::actions`].
//!
//! | Path | |
//! |---|---|
//! | `/api/v1/mirrors` | a [`super::summary::Summary`] of each mirror, and a [`super::summary::BackupSummary`] of each backup that is kept |
//! | `/api/v1/mirrors/{mirror}` | the verdict and what `kmirror status --json` says of it |
//! | `/api/v1/mirrors/{mirror}/history[?since=MS]` | [`Sample`]s of the last hour |
//! | `/api/v1/mirrors/{mirror}/translate?topic=T&partition=P&offset=N[&reverse=true]` | what `kmirror translate --json` says |
//! | `/api/v1/mirrors/{mirror}/topics`, `…/topics/{topic}`, `…/topics/{topic}/partitions/{partition}` | [`super::topics`] |
//! | `/api/v1/mirrors/{mirror}/gaps[?loss=true]` | all gaps of all partitions |
//! | `/api/v1/mirrors/{mirror}/groups` | what `kmirror groups plan --json` says |
//! | `/api/v1/mirrors/{mirror}/drills` | reports of drills that are kept |
//! | `/api/v1/mirrors/{mirror}/failover-plan` | what `kmirror failover --dry-run --json` says |
//! | `/api/v1/config` | the configuration in force, and what became of the last one that was read: a [`super::config_board::ConfigView`] |
//! | `/api/v1/backups` | the backups alone |
//! | `/api/v1/events` | server-sent events: `mirrors`, as the first path has it, whenever it is found out anew |
//! | `/api/v1/openapi.json` | the OpenAPI document of these |
//!
//! What cannot be answered is a [`Problem`].

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures_util::{Stream, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::config::MirrorConfig;
use crate::engine::Board;
use crate::ops::{TranslateQuestion, translate};

use super::backups::BackupBoard;
use super::config_board::{ConfigBoard, ReloadHandle};
use super::history::{History, Sample};
use super::live::Live;
use super::log_level::LogControl;
use super::lookout::{Look, Lookout, MirrorLook};
use super::problem::{Kind, Problem};
use super::studies::Studies;
use super::summary::{BackupSummary, MirrorsAnswer, Summary};
use super::{Shown, studies, topics};

/// Between two events.
const EVENT_EVERY: Duration = Duration::from_secs(3);

/// What the paths answer from.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) lookout: Arc<Lookout>,
    pub(super) boards: Vec<(Board, History)>,
    pub(super) backups: Vec<BackupBoard>,
    pub(super) studies: Arc<Studies>,
    /// One drill at a time.
    pub(super) drilling: Arc<Semaphore>,
    /// Where the level of the log can be changed.
    pub(super) log: Option<LogControl>,
    /// Which configuration is in force, and where to ask for it to be read again; of a process that does.
    pub(super) config: Option<ConfigBoard>,
    pub(super) reload: Option<ReloadHandle>,
}

impl Api {
    pub(super) fn new(shown: &Shown, lookout: Lookout, log: Option<LogControl>) -> Self {
        Self {
            lookout: Arc::new(lookout),
            boards: shown.boards.iter().map(|board| (board.clone(), History::default())).collect(),
            backups: shown.backups.clone(),
            studies: Arc::default(),
            drilling: Arc::new(Semaphore::new(1)),
            log,
            config: shown.config.clone(),
            reload: shown.reload.clone(),
        }
    }

    /// The same about something else. What is remembered of mirrors that are there still stays.
    pub(super) fn showing(&self, shown: &Shown, lookout: Lookout) -> Self {
        let history = |board: &Board| {
            let known = self.boards.iter().find(|(known, _)| known.mirror() == board.mirror());
            known.map(|(_, history)| history.clone()).unwrap_or_default()
        };
        let boards = shown.boards.iter().map(|board| (board.clone(), history(board))).collect();
        let drilling = Arc::clone(&self.drilling);
        Self { boards, drilling, ..Self::new(shown, lookout, self.log.clone()) }
    }

    pub(super) fn mirror(&self, name: &str) -> Result<&MirrorConfig, Problem> {
        self.lookout.mirror(name).ok_or_else(|| Problem::no_mirror(name))
    }

    pub(super) fn board(&self, mirror: &str) -> Option<&Board> {
        self.boards.iter().map(|(board, _)| board).find(|board| board.mirror() == mirror)
    }
}

/// Of `/api/v1/mirrors/{mirror}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MirrorAnswer<'a> {
    /// Version of this shape.
    pub schema_version: u32,
    /// When the clusters were asked, RFC 3339.
    pub at: &'a str,
    /// The mirror.
    pub mirror: &'a MirrorLook,
}

/// Of `/api/v1/mirrors/{mirror}/history`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HistoryAnswer {
    /// Version of this shape.
    pub schema_version: u32,
    /// Oldest first, one every five seconds, an hour at most.
    pub samples: Vec<Sample>,
}

/// Of `/api/v1/backups`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BackupsAnswer {
    /// Version of this shape.
    pub schema_version: u32,
    /// Backups that this process keeps.
    pub backups: Vec<BackupSummary>,
}

/// The paths.
pub(super) fn routes() -> Router<Live> {
    Router::new()
        .route("/api/v1/mirrors", get(mirrors))
        .route("/api/v1/mirrors/{mirror}", get(mirror))
        .route("/api/v1/mirrors/{mirror}/history", get(history))
        .route("/api/v1/mirrors/{mirror}/translate", get(translated))
        .route("/api/v1/backups", get(backups))
        .route("/api/v1/events", get(events))
        .route("/api/v1/openapi.json", get(openapi))
        .route("/api/{*rest}", any(unknown))
        .merge(topics::routes())
        .merge(studies::routes())
}

fn summaries(api: &Api, look: &Look) -> MirrorsAnswer {
    let mirrors = look.mirrors.iter().map(|mirror| Summary::of(mirror, api.board(&mirror.name))).collect();
    MirrorsAnswer {
        schema_version: 1,
        at: look.at.clone(),
        mirrors,
        backups: kept(api),
        config: api.config.as_ref().map(ConfigBoard::read),
    }
}

fn kept(api: &Api) -> Vec<BackupSummary> {
    api.backups.iter().map(BackupSummary::of).collect()
}

async fn mirrors(State(api): State<Api>) -> Response {
    let look = api.lookout.look().await;
    fresh(Json(summaries(&api, &look)))
}

async fn mirror(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, Problem> {
    let look = api.lookout.look().await;
    let mirror = look.mirror(&name)?;
    Ok(fresh(Json(MirrorAnswer { schema_version: 1, at: &look.at, mirror })))
}

/// Which samples.
#[derive(Debug, Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

async fn history(
    State(api): State<Api>,
    Path(name): Path<String>,
    since: Result<Query<Since>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Since { since }) = since?;
    let found = api.boards.iter().find(|(board, _)| board.mirror() == name);
    let (_, history) = found.ok_or_else(|| Problem::no_mirror(&name))?;
    Ok(fresh(Json(HistoryAnswer { schema_version: 1, samples: history.samples_since(since) })))
}

async fn backups(State(api): State<Api>) -> Response {
    fresh(Json(BackupsAnswer { schema_version: 1, backups: kept(&api) }))
}

/// What is asked of `translate`.
#[derive(Debug, Deserialize)]
struct Question {
    topic: String,
    partition: i32,
    offset: i64,
    #[serde(default)]
    reverse: bool,
}

async fn translated(
    State(api): State<Api>,
    Path(name): Path<String>,
    question: Result<Query<Question>, QueryRejection>,
) -> Result<Response, Problem> {
    let mirror = api.mirror(&name)?;
    let Query(Question { topic, partition, offset, reverse }) = question?;
    let target = api.lookout.target(mirror).await.map_err(|error| Kind::Unreachable.because(error))?;
    let question = TranslateQuestion { topic, partition, offset, reverse };
    Ok(fresh(Json(translate(mirror, &target, &question).await?)))
}

async fn events(State(api): State<Api>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let next = |(api, first): (Api, bool)| async move {
        if !first {
            tokio::time::sleep(EVENT_EVERY).await;
        }
        let look = api.lookout.look().await;
        // What is made of plain values can be written.
        let data = serde_json::to_string(&summaries(&api, &look)).unwrap_or_default();
        Some((Ok(Event::default().event("mirrors").data(data)), (api, false)))
    };
    Sse::new(stream::unfold((api, true), next)).keep_alive(KeepAlive::default())
}

async fn openapi() -> Response {
    Json(super::openapi::document()).into_response()
}

async fn unknown() -> Problem {
    Kind::UnknownPath.because("/api/v1/openapi.json describes the paths that there are")
}

/// Of now, and not to be kept.
pub(super) fn fresh(body: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], body).into_response()
}
