//! An S3 for the tests: the crates s3s and s3s-fs, on a loopback port of this process. It checks signatures, keeps objects
//! in a folder, and can be made to fail. It needs no Java, so it is there in every tier.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::error_handling::HandleError;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use s3s::HttpError;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

/// The bucket that is there from the start.
pub(crate) const BUCKET: &str = "backups";
const ACCESS_KEY: &str = "kmirror-tests";
const SECRET_KEY: &str = "a-secret-of-the-tests";

/// A server of its own for each test; it starts within milliseconds, and goes with its value.
pub(crate) struct S3 {
    endpoint: String,
    gate: Arc<Gate>,
    runtime: Option<Runtime>,
    folder: TempDir,
}

/// What happens to requests on their way to the server.
#[derive(Default)]
struct Gate {
    /// s3s-fs looks whether an object is there and then writes it: of two who create at once, both would win. What S3 promises
    /// is kept by letting one in at a time.
    creates: Mutex<()>,
    refuse: AtomicU32,
    lose_answers: AtomicU32,
    /// Sizes of parts of uploads, in the order in which they came.
    parts: std::sync::Mutex<Vec<u64>>,
    /// Writes below this are refused for good.
    forbidden: std::sync::Mutex<Option<String>>,
    begun_uploads: AtomicU32,
    ended_uploads: AtomicU32,
}

impl S3 {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let gate = Arc::new(Gate::default());
        let service = HandleError::new(builder.build(), async |error: HttpError| {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}"))
        });
        let router = Router::new().fallback_service(service).layer(from_fn_with_state(Arc::clone(&gate), pass));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let serving = async move { axum::serve(TcpListener::from_std(listener).unwrap(), router).await };
        runtime.spawn(serving);
        Self { endpoint, gate, runtime: Some(runtime), folder }
    }

    /// A place in its bucket, as it stands under `to`, with credentials that it knows.
    pub(crate) fn destination(&self, prefix: &str) -> String {
        destination(&self.endpoint, BUCKET, prefix, SECRET_KEY)
    }

    /// The same with credentials that it does not know.
    pub(crate) fn refused(&self, prefix: &str) -> String {
        destination(&self.endpoint, BUCKET, prefix, "another-secret")
    }

    /// The next requests are answered with 503 and not carried out.
    pub(crate) fn refuse(&self, requests: u32) {
        self.gate.refuse.store(requests, Ordering::SeqCst);
    }

    /// The next requests are carried out and answered with 500.
    pub(crate) fn lose_answers(&self, requests: u32) {
        self.gate.lose_answers.store(requests, Ordering::SeqCst);
    }

    /// Bytes of the parts of multipart uploads that have come.
    pub(crate) fn parts(&self) -> Vec<u64> {
        self.gate.parts.lock().unwrap().clone()
    }

    /// Writes of objects whose path holds this are refused for good.
    pub(crate) fn forbid(&self, path: &str) {
        *self.gate.forbidden.lock().unwrap() = Some(path.to_owned());
    }

    /// Multipart uploads that were begun, and that were completed or aborted.
    pub(crate) fn uploads(&self) -> (u32, u32) {
        (self.gate.begun_uploads.load(Ordering::SeqCst), self.gate.ended_uploads.load(Ordering::SeqCst))
    }

    /// Where its objects are files, in a folder for each bucket: for damage.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // Not its own drop, which must not happen within another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A place in a bucket of whatever speaks S3 there.
fn destination(endpoint: &str, bucket: &str, prefix: &str, secret: &str) -> String {
    format!(
        "{{ url: \"s3://{bucket}/{prefix}\", options: {{ aws_endpoint: \"{endpoint}\", aws_allow_http: \"true\", \
         aws_region: us-east-1, aws_access_key_id: {ACCESS_KEY}, aws_secret_access_key: {secret} }} }}"
    )
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    if take_one(&gate.refuse) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let is_forbidden = request.method() == axum::http::Method::PUT
        && gate.forbidden.lock().unwrap().as_ref().is_some_and(|path| request.uri().path().contains(path));
    if is_forbidden {
        return StatusCode::FORBIDDEN.into_response();
    }
    let query = request.uri().query().unwrap_or_default();
    if query.contains("partNumber=") {
        let length = request.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
        gate.parts.lock().unwrap().push(length.unwrap_or(0));
    } else if query.contains("uploadId=") {
        gate.ended_uploads.fetch_add(1, Ordering::SeqCst);
    } else if query.split('&').any(|word| word.trim_end_matches('=') == "uploads") {
        gate.begun_uploads.fetch_add(1, Ordering::SeqCst);
    }
    let loses = take_one(&gate.lose_answers);
    let creates = request.headers().contains_key("if-none-match");
    let _one_at_a_time = if creates { Some(gate.creates.lock().await) } else { None };
    let response = next.run(request).await;
    if loses { StatusCode::INTERNAL_SERVER_ERROR.into_response() } else { response }
}

fn take_one(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}
