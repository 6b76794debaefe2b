//! What can be seen of a run from outside: probes, metrics, an API and a dashboard over HTTP. All of it reads, but for what stands
//! behind a token ([`actions`]); who is answered is said by [`guard`].
//!
//! `/healthz` answers as long as the process does; `/readyz` when every mirror has attached its partitions and published
//! lately; `/metrics` is Prometheus text ([`catalog`] is the table of metrics). Figures of partitions are read off the
//! mirrors' boards when somebody asks; what happens seldom is counted where it happens. `/api/v1` ([`api`]) and the page at `/` ask the clusters themselves, as `kmirror status` does, and
//! only while somebody looks.

pub mod actions;
pub mod api;
mod guard;
pub mod history;
mod listener;
pub mod log_level;
pub mod lookout;
mod openapi;
mod page;
pub mod problem;
pub mod studies;
pub mod summary;
pub mod topics;
pub mod verdict;

mod backups;
pub mod catalog;
pub mod clusters;
pub mod config_board;
mod exposition;
mod live;

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::config::HttpConfig;
use crate::engine::{Board, Budget, Lacks};

pub use live::Served;

pub use backups::{BackupBoard, BackupPass, BackupView, Complete};

use api::Api;
use clusters::ClusterBoard;
use config_board::{ConfigBoard, ReloadHandle};
use guard::{Guard, by_its_own_name, with_token};
use listener::Connections;
use live::Live;
use log_level::LogControl;
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
    /// The configuration in force, of a process that reads it again when it changes.
    pub config: Option<ConfigBoard>,
    /// Where to ask for that.
    pub reload: Option<ReloadHandle>,
}

#[derive(Debug, Clone)]
struct App {
    shown: Shown,
    metrics: Option<PrometheusHandle>,
}

/// Listens and serves until told to stop. `log`: where the level of the log can be changed.
///
/// # Errors
/// An address cannot be bound, or the files of TLS are not to be had.
pub async fn serve(
    http: &HttpConfig,
    shown: Shown,
    lookout: Lookout,
    log: Option<LogControl>,
    stopped: watch::Receiver<bool>,
) -> std::io::Result<Served> {
    let tls = http.tls.as_ref().map(listener::acceptor).transpose()?;
    let listener = bind("http.listen", http.listen).await?;
    let address = listener.local_addr()?;
    let metrics = exposition::install();
    if let Some(handle) = metrics.clone() {
        tokio::spawn(exposition::upkeep(handle, stopped.clone()));
    }
    let live = Live::new(Api::new(&shown, lookout, log), App { shown, metrics });
    tokio::spawn(history::keep(live.clone(), stopped.clone()));
    let guard = Guard::new(http, address);
    if let Some(probes) = http.probes {
        let listener = bind("http.probes.listen", probes).await?;
        let address = listener.local_addr()?;
        let only_probes = probe_routes().merge(metric_routes()).with_state(live.clone());
        answer(listener, None, only_probes, stopped.clone())?;
        tracing::info!(%address, "HTTP: /healthz /readyz /metrics");
    }
    let is_tls = tls.is_some();
    answer(listener, tls, routes(&live, &guard), stopped)?;
    tracing::info!(%address, tls = is_tls, "HTTP: / (dashboard) /api/v1 /healthz /readyz /metrics");
    Ok(Served { address, live, guard })
}

async fn bind(key: &str, listen: SocketAddr) -> std::io::Result<TcpListener> {
    let named =
        |error: std::io::Error| std::io::Error::new(error.kind(), format!("{key}: cannot listen on {listen}: {error}"));
    TcpListener::bind(listen).await.map_err(named)
}

/// Probes say nothing that would be worth a secret, and are asked by what has none.
fn routes(live: &Live, guard: &Guard) -> Router {
    let token = || from_fn_with_state(guard.clone(), with_token);
    let reads = api::routes().merge(log_level::routes()).merge(config_board::routes());
    let mut reads = reads.with_state(live.clone());
    let mut metrics = metric_routes().with_state(live.clone());
    if guard.is_closed() {
        reads = reads.route_layer(token());
        metrics = metrics.route_layer(token());
    }
    let acts = actions::routes().with_state(live.clone()).route_layer(token());
    let seen = reads.merge(acts).merge(page::routes()).layer(from_fn_with_state(guard.clone(), by_its_own_name));
    probe_routes().with_state(live.clone()).merge(metrics).merge(seen)
}

fn probe_routes() -> Router<Live> {
    Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready))
}

fn metric_routes() -> Router<Live> {
    Router::new().route("/metrics", get(render))
}

fn answer(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: Router,
    mut stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let connections = Connections::of(listener, tls)?;
    tokio::spawn(async move {
        let until = async move {
            // A sender that is gone means the same.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(error) = axum::serve(connections, app).with_graceful_shutdown(until).await {
            tracing::error!(%error, "the HTTP listener ended");
        }
    });
    Ok(())
}

async fn ready(State(app): State<App>) -> impl IntoResponse {
    let now_ms = now_ms();
    for board in &app.shown.boards {
        let (at_ms, parts) = board.read();
        // Its work is done; the others' is not.
        if board.is_promoted() {
            continue;
        }
        if let Some(want) = board.want(Lacks::Mirror) {
            return (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("mirror {}: a right is missing: {}\n", board.mirror(), want.why),
            );
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
