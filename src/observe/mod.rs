//! What can be seen of a run from outside: probes, metrics, an API and a dashboard over HTTP. All of it reads.
//!
//! `/healthz` answers as long as the process does; `/readyz` when every mirror has attached its partitions and published
//! lately; `/metrics` is Prometheus text ([`catalog`] is the table of metrics). Figures of partitions are read off the
//! mirrors' boards when somebody asks; what happens seldom is counted where it happens. `/api/v1` ([`api`]) and the page at `/` ask the clusters themselves, as `kmirror status` does, and
//! only while somebody looks.

pub mod api;
pub mod history;
pub mod lookout;
mod openapi;
mod page;
pub mod verdict;

mod backups;
pub mod catalog;
pub mod clusters;
mod exposition;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::engine::{Board, Budget};

pub use backups::{BackupBoard, BackupView, Complete};

use api::Api;
use clusters::ClusterBoard;
use history::History;
use lookout::Lookout;

/// A board older than this says nothing any more, ms.
const STALE_MS: u64 = 10_000;

/// What is shown.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Mirrors that run in this process.
    pub boards: Vec<Board>,
    /// Backups that it keeps.
    pub backups: Vec<BackupBoard>,
    /// What its mirrors share; `None` where it has none.
    pub budget: Option<Budget>,
    /// The clusters between which it mirrors.
    pub clusters: ClusterBoard,
    /// Series of one metric at most.
    pub max_series: usize,
}

#[derive(Debug, Clone)]
struct App {
    shown: Shown,
    metrics: Option<PrometheusHandle>,
}

/// Listens and serves until told to stop.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(
    listen: SocketAddr,
    shown: Shown,
    lookout: Lookout,
    mut stopped: watch::Receiver<bool>,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let metrics = exposition::install();
    if let Some(handle) = metrics.clone() {
        tokio::spawn(exposition::upkeep(handle, stopped.clone()));
    }
    let boards: Vec<_> = shown.boards.iter().map(|board| (board.clone(), History::default())).collect();
    tokio::spawn(history::keep(boards.clone(), stopped.clone()));
    let api = Api { lookout: Arc::new(lookout), boards, backups: shown.backups.clone() };
    let seen = api::routes().with_state(api).merge(page::routes()).layer(from_fn(by_its_own_name));
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(App { shown, metrics })
        .merge(seen);
    tokio::spawn(async move {
        let until = async move {
            // A sender that is gone means the same.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(until).await {
            tracing::error!(%error, "the HTTP listener ended");
        }
    });
    tracing::info!(%address, "HTTP: / (dashboard) /api/v1 /healthz /readyz /metrics");
    Ok(address)
}

/// Refuses what names this address by another name than its own. It is a loopback address and asks for no token; a page of
/// elsewhere whose name was made to lead here (DNS rebinding) must not read it in somebody's browser.
async fn by_its_own_name(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if is_loopback || name.eq_ignore_ascii_case("localhost") {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "ask for it as localhost: it listens on loopback, and answers to no other name\n")
        .into_response()
}

async fn ready(State(app): State<App>) -> impl IntoResponse {
    let now_ms = now_ms();
    for board in &app.shown.boards {
        let (at_ms, parts) = board.read();
        // Its work is done; the others' is not.
        if board.is_promoted() {
            continue;
        }
        if at_ms + STALE_MS < now_ms {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("mirror {}: not running yet\n", board.mirror()));
        }
        let starting = parts.iter().filter(|p| p.state == "starting").count();
        if starting > 0 {
            let words = format!("mirror {}: {starting} of {} partitions are starting\n", board.mirror(), parts.len());
            return (StatusCode::SERVICE_UNAVAILABLE, words);
        }
    }
    (StatusCode::OK, "ready\n".to_owned())
}

async fn render(State(app): State<App>) -> impl IntoResponse {
    exposition::publish(&app.shown, i64::try_from(now_ms()).unwrap_or(i64::MAX));
    let text = app.metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
