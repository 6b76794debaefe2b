//! `/api/v1`: what the dashboard shows, as JSON. It reads, and changes nothing.
//!
//! | Path | |
//! |---|---|
//! | `/api/v1/mirrors` | a [`Summary`] of each mirror, and a [`BackupSummary`] of each backup that is kept |
//! | `/api/v1/mirrors/{mirror}` | the verdict and what `kmirror status --json` says of it |
//! | `/api/v1/mirrors/{mirror}/history` | [`Sample`]s of the last hour |
//! | `/api/v1/mirrors/{mirror}/translate?topic=T&partition=P&offset=N[&reverse=true]` | what `kmirror translate --json` says |
//! | `/api/v1/events` | server-sent events: `mirrors`, as the first path has it, whenever it is found out anew |
//! | `/api/v1/openapi.json` | the OpenAPI document of these |
//!
//! Errors are `{"error": "…"}` with 404 (no such mirror, topic or partition), 400 (a question that cannot be understood) or 502 (the
//! clusters do not answer).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{Stream, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::Board;
use crate::ops::{GroupsStatus, MirrorStatus, PartitionStatus, TranslateError, TranslateQuestion, translate};

use super::backups::{BackupBoard, Complete};
use super::history::{History, Sample};
use super::lookout::{Look, Lookout, MirrorLook};
use super::verdict::{Verdict, lost_records};

/// Partitions that a summary names, of each kind.
const NAMED: usize = 20;
/// Between two events.
const EVENT_EVERY: Duration = Duration::from_secs(3);

/// What the paths answer from.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) lookout: Arc<Lookout>,
    pub(super) boards: Vec<(Board, History)>,
    pub(super) backups: Vec<BackupBoard>,
}

/// Of `/api/v1/mirrors`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MirrorsAnswer {
    /// Version of this shape.
    pub schema_version: u32,
    /// When the clusters were asked, RFC 3339.
    pub at: String,
    /// In the order of the file.
    pub mirrors: Vec<Summary>,
    /// Backups that this process keeps.
    pub backups: Vec<BackupSummary>,
}

/// A backup at a glance.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BackupSummary {
    /// Its name.
    pub name: String,
    /// `unknown`: its archive was not read yet; `never`: no pass read every partition to its end; `complete`: one did.
    pub state: &'static str,
    /// When the last such pass ended, ms since the epoch.
    pub complete_at_ms: Option<i64>,
    /// Source offsets that the archive lacked when the last pass ended; `null` where that is not known.
    pub lag_records: Option<i64>,
}

impl BackupSummary {
    fn of(board: &BackupBoard) -> Self {
        let view = board.read();
        let (state, complete_at_ms) = match view.complete {
            Complete::Unknown => ("unknown", None),
            Complete::Never => ("never", None),
            Complete::At(at_ms) => ("complete", Some(at_ms)),
        };
        Self { name: board.backup().to_owned(), state, complete_at_ms, lag_records: view.lag_records }
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

/// Why there is no answer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Failed {
    /// In words.
    pub error: String,
}

/// A mirror at a glance.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// Name of the source cluster.
    pub source: String,
    /// Name of the target cluster.
    pub target: String,
    /// Whether it is safe.
    pub verdict: Verdict,
    /// `starting`, `mirroring`, `paused`, `halted` or `promoted`; `null` where the clusters could not be asked, as all below.
    pub state: Option<&'static str>,
    /// What a failover now would lose, seconds; −1 where some partition does not tell.
    pub rpo_seconds: Option<f64>,
    /// Source offsets not mirrored, over all partitions that tell.
    pub lag_records: Option<i64>,
    /// Source offsets whose records are missing on the target for good.
    pub lost_records: Option<i64>,
    /// Partitions.
    pub partitions: Option<usize>,
    /// Those that are halted, and how to free them; twenty at most.
    pub halted: Vec<Trouble>,
    /// Those that retention threatens; twenty at most.
    pub short: Vec<Trouble>,
    /// The consumer groups, where any are kept in step.
    pub groups: Option<GroupsStatus>,
    /// The last drill of `drills`, where there was one.
    pub drill: Option<Drill>,
    /// The bandwidth limit; `null`: unlimited.
    pub bandwidth_bytes_per_s: Option<u64>,
}

/// A partition that wants somebody.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Trouble {
    /// Source topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Why.
    pub reason: String,
    /// The command that ends it, where there is one.
    pub way_out: Option<String>,
}

/// How a drill went.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Drill {
    /// When it began, ms since the epoch; `null` where none could be done so far.
    pub at_ms: Option<i64>,
    /// Whether it passed.
    pub passed: bool,
}

impl Summary {
    fn of(look: &MirrorLook, board: Option<&Board>) -> Self {
        let status = look.status.as_ref();
        let partitions = || status.map(|status| status.partitions.as_slice());
        let drill = board.and_then(Board::last_drill).map(|d| Drill { at_ms: d.at_ms, passed: d.passed });
        Self {
            name: look.name.clone(),
            source: look.source.clone(),
            target: look.target.clone(),
            verdict: look.verdict.clone(),
            state: status.map(|status| status.state),
            rpo_seconds: status.map(|status| status.rpo_seconds),
            lag_records: partitions().map(|all| all.iter().map(|p| p.lag_records.max(0)).sum()),
            lost_records: status.map(lost_records),
            partitions: partitions().map(<[_]>::len),
            halted: named(status, |p| p.state == "halted"),
            short: named(status, |p| p.headroom_is_short),
            groups: status.and_then(|status| status.groups),
            drill,
            bandwidth_bytes_per_s: status.and_then(|status| status.bandwidth_bytes_per_s),
        }
    }
}

fn named(status: Option<&MirrorStatus>, is: impl Fn(&PartitionStatus) -> bool) -> Vec<Trouble> {
    let trouble = |p: &PartitionStatus| Trouble {
        topic: p.topic.clone(),
        partition: p.partition,
        reason: p.reason.clone().unwrap_or_else(|| {
            let left = p.retention_headroom_seconds.unwrap_or(0.0).max(0.0).round();
            format!("retention on the source may take records that are not mirrored in {left} s")
        }),
        way_out: p.way_out.clone(),
    };
    let partitions = status.map_or(&[][..], |status| &status.partitions);
    partitions.iter().filter(|p| is(p)).take(NAMED).map(trouble).collect()
}

/// The paths.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/api/v1/mirrors", get(mirrors))
        .route("/api/v1/mirrors/{mirror}", get(mirror))
        .route("/api/v1/mirrors/{mirror}/history", get(history))
        .route("/api/v1/mirrors/{mirror}/translate", get(translated))
        .route("/api/v1/events", get(events))
        .route("/api/v1/openapi.json", get(openapi))
}

fn summaries(api: &Api, look: &Look) -> MirrorsAnswer {
    let board = |name: &str| api.boards.iter().map(|(board, _)| board).find(|board| board.mirror() == name);
    let mirrors = look.mirrors.iter().map(|mirror| Summary::of(mirror, board(&mirror.name))).collect();
    let backups = api.backups.iter().map(BackupSummary::of).collect();
    MirrorsAnswer { schema_version: 1, at: look.at.clone(), mirrors, backups }
}

async fn mirrors(State(api): State<Api>) -> Response {
    let look = api.lookout.look().await;
    fresh(Json(summaries(&api, &look)))
}

async fn mirror(State(api): State<Api>, Path(name): Path<String>) -> Response {
    let look = api.lookout.look().await;
    match look.mirrors.iter().find(|mirror| mirror.name == name) {
        Some(mirror) => fresh(Json(MirrorAnswer { schema_version: 1, at: &look.at, mirror })),
        None => no_mirror(&name),
    }
}

async fn history(State(api): State<Api>, Path(name): Path<String>) -> Response {
    match api.boards.iter().find(|(board, _)| board.mirror() == name) {
        Some((_, history)) => fresh(Json(HistoryAnswer { schema_version: 1, samples: history.samples() })),
        None => no_mirror(&name),
    }
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
    question: Result<Query<Question>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Some(mirror) = api.lookout.mirror(&name) else { return no_mirror(&name) };
    let Question { topic, partition, offset, reverse } = match question {
        Ok(Query(question)) => question,
        Err(error) => return failed(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let target = match api.lookout.target(mirror).await {
        Ok(target) => target,
        Err(error) => return failed(StatusCode::BAD_GATEWAY, &error),
    };
    let question = TranslateQuestion { topic, partition, offset, reverse };
    match translate(mirror, &target, &question).await {
        Ok(answer) => fresh(Json(answer)),
        Err(error @ TranslateError::Unknown { .. }) => failed(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error) => failed(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
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

fn no_mirror(name: &str) -> Response {
    failed(StatusCode::NOT_FOUND, &format!("this process runs no mirror {name:?}"))
}

fn failed(status: StatusCode, error: &str) -> Response {
    (status, Json(Failed { error: error.to_owned() })).into_response()
}

/// Of now, and not to be kept.
fn fresh(body: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], body).into_response()
}
