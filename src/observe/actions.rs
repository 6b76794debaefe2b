//! What changes something: pause, resume, bandwidth and drill, as the commands of these names do it. All of it stands behind the token
//! ([`super::guard`]), and takes a JSON body, which no form of a page elsewhere sends.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{DrillConfig, parse_rfc3339_ms};
use crate::engine::{Drilled, connect_target};
use crate::mirror::{Bandwidth, Scope};
use crate::ops::drill::{DrillOptions, DrillReport, drill, keep};
use crate::ops::{Command, check_accepted_range, parse_rate, send_command};
use crate::plan::Expected;

use super::api::Api;
use super::live::Live;
use super::problem::{Body, Kind, Problem, read};
use super::{config_board, log_level};

/// Some thousands of partitions by name.
const BODY_MAX: usize = 256 << 10;
/// As the command has it.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(15);
const SAMPLE: usize = 20;
const SAMPLE_MAX: usize = 100_000;
const MAX_RPO: Duration = Duration::from_secs(60);
const MAX_RTO: Duration = Duration::from_secs(300);

/// A partition, by its name on the source.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
}

/// Source offsets, half-open.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The first.
    pub from: i64,
    /// Behind the last.
    pub to: i64,
}

/// What to pause.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PauseBody {
    /// Only these; none: the whole mirror.
    pub partitions: Vec<At>,
    /// Change nothing.
    pub dry_run: bool,
}

/// What to resume.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResumeBody {
    /// Only these; none: the whole mirror.
    pub partitions: Vec<At>,
    /// Accept that these source offsets of the one partition are not mirrored: the range that its halt names, and no other.
    pub accept_loss: Option<Range>,
    /// Change nothing.
    pub dry_run: bool,
}

/// The limit to be set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BandwidthBody {
    /// Bytes of records a second, such as `10MiB`; `unlimited`; or `file`: what the file says.
    pub rate: String,
    /// Change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// How to rehearse; what is absent is as `drills` of the file has it, or as `kmirror drill` has it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrillBody {
    /// What a failover may lose at most, such as `60s`.
    pub max_rpo: Option<String>,
    /// How long it may take at most, such as `5m`.
    pub max_rto: Option<String>,
    /// Committed offsets of each group whose records are compared, at most.
    pub sample: Option<usize>,
    /// Consume with copies of the groups on the target.
    pub isolated: Option<bool>,
}

/// What was done, as the command of the name says it with `--json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ActionAnswer {
    /// Version of this shape.
    pub schema_version: u32,
    /// `pause`, `resume` or `bandwidth`.
    pub action: &'static str,
    /// Mirror name.
    pub mirror: String,
    /// Of pause and resume: these partitions; none: the whole mirror.
    pub partitions: Vec<At>,
    /// Of bandwidth: the limit in force; `null`: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_bytes_per_s: Option<u64>,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// The paths, each of which takes the token.
pub(super) fn routes() -> Router<Live> {
    Router::new()
        .route("/api/v1/token", get(token))
        .route("/api/v1/mirrors/{mirror}/pause", post(pause))
        .route("/api/v1/mirrors/{mirror}/resume", post(resume))
        .route("/api/v1/mirrors/{mirror}/bandwidth", post(set_bandwidth))
        .route("/api/v1/mirrors/{mirror}/drill", post(rehearse))
        .merge(log_level::actions())
        .merge(config_board::actions())
        .layer(DefaultBodyLimit::max(BODY_MAX))
}

/// That a token is the right one.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TokenAnswer {
    /// Version of this shape.
    pub schema_version: u32,
    /// Whoever sent another one has no answer.
    pub is_right: bool,
}

/// The guard has seen it.
async fn token() -> Json<TokenAnswer> {
    Json(TokenAnswer { schema_version: 1, is_right: true })
}

async fn pause(State(api): State<Api>, Path(mirror): Path<String>, body: Body) -> Result<Json<ActionAnswer>, Problem> {
    let PauseBody { partitions, dry_run } = read(body)?;
    let commands = scopes(&partitions).into_iter().map(Command::Pause).collect();
    send(&api, &mirror, commands, dry_run).await?;
    Ok(done("pause", mirror, partitions, dry_run))
}

async fn resume(State(api): State<Api>, Path(name): Path<String>, body: Body) -> Result<Json<ActionAnswer>, Problem> {
    let ResumeBody { partitions, accept_loss, dry_run } = read(body)?;
    let accept_loss = accept_loss.map(|range| (range.from, range.to));
    if let Some(range) = accept_loss {
        let [at] = partitions.as_slice() else {
            return Err(Kind::BadQuestion.because("accept_loss is for one of partitions at a time"));
        };
        let target = connect_target(api.lookout.config(), api.mirror(&name)?).await?;
        check_accepted_range(&name, &target, (&at.topic, at.partition), range).await?;
    }
    let resume = |scope| Command::Resume { scope, accept_loss };
    send(&api, &name, scopes(&partitions).into_iter().map(resume).collect(), dry_run).await?;
    Ok(done("resume", name, partitions, dry_run))
}

async fn set_bandwidth(
    State(api): State<Api>,
    Path(mirror): Path<String>,
    body: Body,
) -> Result<Json<ActionAnswer>, Problem> {
    let BandwidthBody { rate, dry_run } = read(body)?;
    let wanted = match rate.as_str() {
        "file" => Bandwidth::File,
        rate => parse_rate(rate).map_err(|why| Kind::BadQuestion.because(format!("rate: {why}; or file")))?,
    };
    let limit = wanted.limit_bytes_per_s(api.mirror(&mirror)?.limits.bandwidth_bytes_per_s);
    send(&api, &mirror, vec![Command::Bandwidth(wanted)], dry_run).await?;
    let Json(answer) = done("bandwidth", mirror, Vec::new(), dry_run);
    Ok(Json(ActionAnswer { bandwidth_bytes_per_s: limit, ..answer }))
}

/// The whole mirror, or each of these partitions.
fn scopes(partitions: &[At]) -> Vec<Scope> {
    if partitions.is_empty() {
        return vec![Scope::All];
    }
    partitions.iter().map(|p| Scope::Partition { topic: p.topic.clone(), partition: p.partition }).collect()
}

async fn send(api: &Api, mirror: &str, commands: Vec<Command>, dry_run: bool) -> Result<(), Problem> {
    let mirror = api.mirror(mirror)?;
    if dry_run {
        return Ok(());
    }
    let target = connect_target(api.lookout.config(), mirror).await?;
    for command in commands {
        tracing::info!(mirror = %mirror.name, ?command, "told over HTTP");
        send_command(&mirror.name, &target, command).await?;
    }
    api.lookout.forget().await;
    Ok(())
}

fn done(action: &'static str, mirror: String, partitions: Vec<At>, dry_run: bool) -> Json<ActionAnswer> {
    let answer = ActionAnswer { schema_version: 1, action, mirror, partitions, bandwidth_bytes_per_s: None, dry_run };
    Json(answer)
}

async fn rehearse(State(api): State<Api>, Path(name): Path<String>, body: Body) -> Result<Json<DrillReport>, Problem> {
    let body: DrillBody = read(body)?;
    let mirror = api.mirror(&name)?.clone();
    let config = Arc::clone(api.lookout.config());
    let terms = config.drills.iter().find(|terms| terms.mirror == name).cloned();
    let options = options(&body, terms.as_ref())?;
    let Ok(turn) = Arc::clone(&api.drilling).try_acquire_owned() else {
        return Err(Kind::Busy.because("a drill is being done: ask again when it is over"));
    };
    tracing::info!(mirror = %name, isolated = options.isolated, "a drill was asked for over HTTP");
    // To its end, though who asked for it may go: what it made on the target it takes away.
    let work = tokio::spawn(async move {
        let _turn = turn;
        let report = drill(&config, &mirror, &options).await?;
        if let Some(terms) = terms {
            keep(&terms.reports, &report).map_err(|error| {
                Kind::Refused.because(format!("the report cannot be kept: drills[].reports: {error}"))
            })?;
        }
        Ok::<_, Problem>(report)
    });
    let report = work.await.map_err(|error| Kind::Refused.because(error.to_string()))??;
    if let Some(board) = api.board(&name) {
        board.drilled(Drilled { at_ms: parse_rfc3339_ms(&report.started_at), passed: report.passed });
    }
    api.studies.forget().await;
    Ok(Json(report))
}

fn options(body: &DrillBody, terms: Option<&DrillConfig>) -> Result<DrillOptions, Problem> {
    let span = |key: &str, text: &Option<String>, default: Duration| match text {
        None => Ok(default),
        Some(text) => humantime::parse_duration(text)
            .map_err(|error| Kind::BadQuestion.because(format!("{key} {text:?}: {error}"))),
    };
    let max_rpo = span("max_rpo", &body.max_rpo, terms.map_or(MAX_RPO, |terms| terms.max_rpo))?;
    let max_rto = span("max_rto", &body.max_rto, terms.map_or(MAX_RTO, |terms| terms.max_rto))?;
    Ok(DrillOptions {
        expected: Expected { rpo_seconds_max: max_rpo.as_secs_f64(), rto_seconds_max: max_rto.as_secs_f64() },
        sample: body.sample.unwrap_or_else(|| terms.map_or(SAMPLE, |terms| terms.sample)).clamp(1, SAMPLE_MAX),
        isolated: body.isolated.unwrap_or_else(|| terms.is_some_and(|terms| terms.isolated)),
        source_timeout: SOURCE_TIMEOUT,
    })
}
