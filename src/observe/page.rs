//! The dashboard: some files that are part of the program. They load nothing from elsewhere, which the browser is told to hold them to.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// Nothing from elsewhere, nothing inline, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Every file: where it is served, what it is, and what it holds. uPlot is served as its authors built it.
const FILES: [(&str, &str, &str); 13] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/app.js", SCRIPT, include_str!("page/app.js")),
    ("/actions.js", SCRIPT, include_str!("page/actions.js")),
    ("/api.js", SCRIPT, include_str!("page/api.js")),
    ("/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/plot.js", SCRIPT, include_str!("page/plot.js")),
    ("/studies.js", SCRIPT, include_str!("page/studies.js")),
    ("/views.js", SCRIPT, include_str!("page/views.js")),
    ("/style.css", STYLE, include_str!("page/style.css")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/uplot/uPlot.iife.min.js", SCRIPT, include_str!("page/uplot/uPlot.iife.min.js")),
    ("/uplot/uPlot.min.css", STYLE, include_str!("page/uplot/uPlot.min.css")),
    ("/uplot/LICENSE", TEXT, include_str!("page/uplot/LICENSE")),
];

/// The page, its scripts and its styles.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |all, (path, kind, text)| all.route(path, get(|| async { file(kind, text) })))
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}
