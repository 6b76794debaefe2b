//! Questions that take the clusters some work: groups, the plan of a failover, reports of drills. One is worked on at a time, and its
//! answer is given again for some seconds, however many ask.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::engine::{connect_source, connect_target};
use crate::groups::Overwrite;
use crate::ops::drill::{DrillReport, kept};
use crate::ops::groups::{Gathering, gather, plan};
use crate::ops::{Failover, FailoverOptions};
use crate::plan::Wish;

use super::api::{Api, fresh};
use super::live::Live;
use super::problem::{Kind, Problem};

/// How long an answer is given again.
const FRESH: Duration = Duration::from_secs(5);
/// How long somebody waits for one.
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers that are kept.
const KEPT_MAX: usize = 64;
/// As the command has them.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(15);
const QUIET: Duration = Duration::from_secs(3);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);
/// Reports of drills that are listed, the newest.
const REPORTS_MAX: usize = 200;

/// Answers of lately, by what was asked.
#[derive(Debug, Default)]
pub(super) struct Studies(Mutex<BTreeMap<String, (Instant, Bytes)>>);

impl Studies {
    async fn answer(
        &self,
        question: String,
        work: impl Future<Output = Result<Bytes, Problem>>,
    ) -> Result<Response, Problem> {
        let studied = async {
            let mut known = self.0.lock().await;
            known.retain(|_, (at, _)| at.elapsed() < FRESH);
            if let Some((_, body)) = known.get(&question) {
                return Ok::<_, Problem>(body.clone());
            }
            let body = work.await?;
            if known.len() < KEPT_MAX {
                known.insert(question, (Instant::now(), body.clone()));
            }
            Ok(body)
        };
        let body = tokio::time::timeout(PATIENCE, studied).await;
        let body = body.map_err(|_| Kind::TooSlow.because(format!("no answer within {} s", PATIENCE.as_secs())))??;
        Ok(fresh(([(header::CONTENT_TYPE, "application/json")], body).into_response()))
    }

    /// What was said of a mirror is not true any more.
    pub(super) async fn forget(&self) {
        self.0.lock().await.clear();
    }
}

fn written(answer: &impl Serialize) -> Result<Bytes, Problem> {
    serde_json::to_vec(answer).map(Bytes::from).map_err(|error| Kind::Refused.because(error.to_string()))
}

pub(super) fn routes() -> Router<Live> {
    Router::new()
        .route("/api/v1/mirrors/{mirror}/groups", get(groups))
        .route("/api/v1/mirrors/{mirror}/drills", get(drills))
        .route("/api/v1/mirrors/{mirror}/failover-plan", get(failover_plan))
}

async fn groups(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, Problem> {
    let mirror = api.mirror(&name)?;
    let Some(selected) = &mirror.groups else {
        let why = format!("mirror {name} selects no groups; add `groups: {{ include: [\".*\"] }}` to it in the file");
        return Err(Kind::NoGroups.because(why));
    };
    let work = async {
        let config = api.lookout.config();
        let target = connect_target(config, mirror).await?;
        let source = connect_source(config, mirror).await.map_err(|error| error.to_string());
        let how = Gathering::new(&selected.filter);
        let world = gather(mirror, source.as_ref().map_err(Clone::clone), &target, &how).await?;
        let views = world.views();
        let plans = plan(&world, &views, Overwrite::Unused, |group| selected.filter.matches(group));
        written(&world.report(&name, &plans))
    };
    api.studies.answer(format!("groups {name}"), work).await
}

/// Of `/api/v1/mirrors/{mirror}/drills`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DrillsAnswer {
    /// Version of this shape.
    pub schema_version: u32,
    /// The folder that reports are kept in (`drills[].reports`); `null` where the file has no drills of this mirror.
    pub folder: Option<PathBuf>,
    /// Reports, oldest first; the last two hundred.
    pub reports: Vec<DrillReport>,
}

async fn drills(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, Problem> {
    let mirror = api.mirror(&name)?.name.clone();
    let terms = api.lookout.config().drills.iter().find(|terms| terms.mirror == mirror);
    let folder = terms.map(|terms| terms.reports.clone());
    let question = format!("drills {mirror}");
    let work = async move {
        let mut reports = match folder.clone() {
            // Before the first drill there is none.
            Some(folder) if folder.exists() => {
                let read = tokio::task::spawn_blocking(move || kept(&folder, &mirror)).await;
                let read = read.map_err(|error| Kind::Refused.because(error.to_string()))?;
                read.map_err(|error| Kind::Refused.because(format!("drills[].reports: {error}")))?
            }
            _ => Vec::new(),
        };
        reports.drain(..reports.len().saturating_sub(REPORTS_MAX));
        written(&DrillsAnswer { schema_version: 1, folder, reports })
    };
    api.studies.answer(question, work).await
}

/// Which failover.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Either,
    Planned,
    Unplanned,
}

/// What is asked of a plan.
#[derive(Debug, Deserialize)]
struct PlanQuestion {
    #[serde(default)]
    mode: Mode,
}

async fn failover_plan(
    State(api): State<Api>,
    Path(name): Path<String>,
    question: Result<Query<PlanQuestion>, QueryRejection>,
) -> Result<Response, Problem> {
    let mirror = api.mirror(&name)?;
    let Query(PlanQuestion { mode }) = question?;
    let options = FailoverOptions {
        wish: match mode {
            Mode::Either => Wish::Either,
            Mode::Planned => Wish::Planned,
            Mode::Unplanned => Wish::Unplanned,
        },
        fence_source: false,
        quiet: QUIET,
        drain_timeout: DRAIN_TIMEOUT,
        source_timeout: SOURCE_TIMEOUT,
        allow_halted: false,
        apply_settings: true,
        overwrite_groups: None,
        groups_snapshot: None,
        is_alone: false,
        pause_after: None,
    };
    // It looks, and changes nothing, until it is told to run.
    let work = async { written(&Failover::prepare(api.lookout.config(), mirror, options).await?.plan) };
    api.studies.answer(format!("plan {mode:?} {name}"), work).await
}
