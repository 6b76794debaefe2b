//! The log to an OpenTelemetry collector (OTLP over HTTP, protobuf), beside the one on stderr: where the variables of OpenTelemetry's
//! specification name one, `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT`. Headers, time-outs and attributes of the
//! resource come from its other variables. Metrics are for a collector to scrape at `/metrics`.

use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{ExporterBuildError, LogExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// What is left in the end has so long to go out: a collector that is away holds up no exit.
const LAST: Duration = Duration::from_secs(2);

/// Of this process, once it exports.
static PROVIDER: OnceLock<SdkLoggerProvider> = OnceLock::new();

/// What exports, where a collector is named.
pub(super) fn layer<S>() -> Option<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    ENDPOINTS.iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))?;
    match provider(None) {
        Ok(provider) => Some(bridge(PROVIDER.get_or_init(|| provider))),
        Err(error) => {
            // There is no log yet to say it in.
            eprintln!("kmirror: the log is not exported by OTLP: {error}");
            None
        }
    }
}

/// Sends what has not gone out yet.
pub(super) fn finish() {
    if let Some(provider) = PROVIDER.get() {
        // Nobody is left to be told that a collector is away.
        let _ = provider.shutdown_with_timeout(LAST);
    }
}

/// To this address, or to where the variables say.
fn provider(endpoint: Option<String>) -> Result<SdkLoggerProvider, ExporterBuildError> {
    // What is installed already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut exporter = LogExporter::builder().with_http();
    if let Some(endpoint) = endpoint {
        exporter = exporter.with_endpoint(endpoint);
    }
    let exporter = exporter.build()?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("kmirror");
    }
    Ok(SdkLoggerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build())
}

/// Only what kmirror says: what carries the export would else be exported as well, and so on for ever.
fn bridge<S>(provider: &SdkLoggerProvider) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let ours = filter_fn(|event| event.target().split("::").next() == Some("kmirror"));
    Box::new(OpenTelemetryTracingBridge::new(provider).with_filter(ours))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use axum::Router;
    use axum::body::Bytes;
    use axum::routing::post;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// A collector that hands over what it was sent.
    fn collector() -> (String, mpsc::Receiver<Bytes>) {
        let (sender, sent) = mpsc::channel();
        let (address, known) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                address.send(listener.local_addr().unwrap()).unwrap();
                let taken = move |body: Bytes| {
                    let sender = sender.clone();
                    async move { drop(sender.send(body)) }
                };
                axum::serve(listener, Router::new().route("/v1/logs", post(taken))).await.unwrap();
            });
        });
        (format!("http://{}/v1/logs", known.recv().unwrap()), sent)
    }

    #[test]
    fn what_is_logged_reaches_a_collector_with_its_fields() {
        let (endpoint, sent) = collector();
        let provider = provider(Some(endpoint)).unwrap();
        let subscriber = tracing_subscriber::registry().with(bridge(&provider));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(mirror = "dr", partition = 7, "halted for the test");
            tracing::warn!(target: "hyper::client", "of somebody else");
        });
        provider.force_flush().unwrap();
        let body = sent.recv_timeout(Duration::from_secs(60)).unwrap();
        let has = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(has("halted for the test") && has("mirror") && has("dr") && has("WARN"), "{body:?}");
        assert!(!has("of somebody else"), "{body:?}");
    }
}
