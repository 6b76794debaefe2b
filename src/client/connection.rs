//! One connection to a broker: requests go out in the order they are submitted, answers come back in that order.
//!
//! A connection that fails poisons every request that waits on it with the one cause. Whoever waits on a broker that
//! says nothing is released by a deadline per request; the connection is then given up, since a late answer could not
//! be told from the next one.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{HeaderVersion, Request};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::api_name::api_name;
use super::buffer::Buffer;
use super::dial::Dial;
use super::error::ClientError;
use super::frame::{Chunks, OutFrame, split_response};
use super::renewal;
use super::shape::{self, Shaped};
use super::transport::low_water::{LowWater, Patience};
use super::transport::reader::{Frame, FrameError, Held, read_frame};
use super::transport::sasl::{Sasl, SaslVersion};
use super::transport::{Halves, explain};

/// A response with records that is larger than this is refused: no broker is configured for messages like that.
pub(crate) const FRAME_LIMIT_BYTES: usize = 512 << 20;
/// The same of any other response: that about a million partitions is smaller.
const PLAIN_FRAME_LIMIT_BYTES: usize = 64 << 20;
/// How long a broker may take over what its request allows it.
const ANSWER_GRACE: Duration = Duration::from_secs(30);
/// The same until the broker has let us in: what it says before that is short.
const FIRST_FRAMES_LIMIT_BYTES: usize = 1 << 20;
/// How long the reader may take to find out why a connection broke under the writer.
const LAST_WORDS: Duration = Duration::from_millis(300);
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Kept until the last slice of a response is gone (a lease of the memory budget), and where its buffer comes from.
pub trait Hold: Send + Sync {
    /// A buffer for so many bytes.
    fn buffer(&self, bytes: usize) -> Buffer;
    /// Takes a buffer back that nobody reads any more.
    fn give_back(&self, buffer: Buffer);
    /// How it is to be read.
    fn pieces(&self) -> Pieces;
}

/// How a large response is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pieces {
    /// Whatever is there, at once.
    AsTheyCome,
    /// Its reader sleeps until more is there, for that costs less; from a broker that is near.
    Few,
}

/// A connection; cheap to clone, closed when the last clone and the last pending request are gone.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) line: Line,
    pub(super) versions: HashMap<i16, (i16, i16)>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.line.shared.fail(&self.line.shared.disconnected("closed by kmirror"));
    }
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) shared: Arc<Shared>,
    outgoing: mpsc::UnboundedSender<Chunks>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cluster: String,
    pub(super) address: String,
    client_id: String,
    /// Whether the broker has let us in.
    ready: AtomicBool,
    is_tls: bool,
    is_sasl: bool,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next_correlation_id: i32,
    waiting: VecDeque<Waiting>,
    dead: Option<ClientError>,
    /// What was submitted while the connection authenticates anew, when nothing else may be sent.
    aside: Option<VecDeque<Submitted>>,
}

/// A request, before it has its place on the wire.
struct Submitted {
    frame: OutFrame,
    since: Instant,
    hold: Option<Arc<dyn Hold>>,
    answer: oneshot::Sender<Result<Arrived, ClientError>>,
}

impl std::fmt::Debug for Submitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submitted").field("api", &self.frame.api).finish()
    }
}

struct Waiting {
    correlation_id: i32,
    api: &'static str,
    flexible: bool,
    since: Instant,
    deadline: Instant,
    hold: Option<Arc<dyn Hold>>,
    answer: oneshot::Sender<Result<Arrived, ClientError>>,
}

/// An answer, and what its time went to.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// The body of the response.
    pub(crate) body: Bytes,
    /// From the submission of the request to the first byte of the response: the way there and back, and the broker.
    pub(crate) waited: Duration,
    /// From its first byte to its last.
    pub(crate) reading: Duration,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("api", &self.api).field("correlation_id", &self.correlation_id).finish()
    }
}

/// The answer to come: the body of the response.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Arrived, ClientError>>, Arc<Shared>);

impl Pending {
    /// The answer with its times.
    pub(crate) async fn arrived(self) -> Result<Arrived, ClientError> {
        let Self(receiver, shared) = self;
        receiver.await.unwrap_or_else(|_| Err(shared.disconnected("closed by kmirror")))
    }
}

impl Future for Pending {
    type Output = Result<Bytes, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self(receiver, shared) = &mut *self;
        Pin::new(receiver)
            .poll(cx)
            .map(|outcome| outcome.unwrap_or_else(|_| Err(shared.disconnected("closed by kmirror"))))
            .map_ok(|arrived| arrived.body)
    }
}

impl Shared {
    pub(super) fn disconnected(&self, detail: &str) -> ClientError {
        ClientError::Disconnected {
            cluster: self.cluster.clone(),
            address: self.address.clone(),
            detail: detail.to_owned(),
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer for the next response, from whoever waits for it, and how it is to be filled.
    fn buffer(&self, bytes: usize) -> (Buffer, Pieces) {
        let hold = self.queue().waiting.front().and_then(|waiter| waiter.hold.clone());
        match hold {
            Some(hold) => (hold.buffer(bytes), hold.pieces()),
            None => (Buffer::heap(bytes), Pieces::AsTheyCome),
        }
    }

    /// Every waiter gets the first cause.
    pub(super) fn fail(&self, cause: &ClientError) {
        let mut queue = self.queue();
        let cause = queue.dead.get_or_insert_with(|| cause.clone()).clone();
        let waiting = std::mem::take(&mut queue.waiting).into_iter().map(|waiter| waiter.answer);
        let aside = queue.aside.take().into_iter().flatten().map(|submitted| submitted.answer);
        drop(queue);
        for answer in waiting.chain(aside) {
            // Nobody may be waiting any more.
            let _ = answer.send(Err(cause.clone()));
        }
    }

    /// What a connection that ends so early may be about.
    fn hint(&self, answers: u32) -> &'static str {
        match (answers, self.is_tls, self.is_sasl) {
            (0, false, _) => "; is this a plaintext Kafka listener? For one of TLS set tls",
            (0, true, _) => {
                "; does this listener want a certificate of the client (tls.cert, tls.key), or another one than it got?"
            }
            // It knows ApiVersions from everybody.
            (1, _, false) => "; does this listener ask for SASL? Then set sasl",
            _ => "",
        }
    }

    /// How large the next response may be.
    fn limit_bytes(&self) -> usize {
        if !self.ready.load(Ordering::Relaxed) {
            return FIRST_FRAMES_LIMIT_BYTES;
        }
        let brings_records =
            self.queue().waiting.front().is_some_and(|waiter| waiter.api == api_name(ApiKey::Fetch as i16));
        if brings_records { FRAME_LIMIT_BYTES } else { PLAIN_FRAME_LIMIT_BYTES }
    }

    fn overdue(&self) -> Option<ClientError> {
        let now = Instant::now();
        let queue = self.queue();
        let front = queue.waiting.front().filter(|w| w.deadline <= now)?;
        Some(ClientError::Timeout {
            cluster: self.cluster.clone(),
            address: self.address.clone(),
            api: front.api,
            waited_ms: u64::try_from((now - front.since).as_millis()).unwrap_or(u64::MAX),
        })
    }

    pub(super) fn protocol(&self, api: &'static str, detail: &dyn ToString) -> ClientError {
        ClientError::Protocol {
            cluster: self.cluster.clone(),
            address: self.address.clone(),
            api,
            detail: detail.to_string(),
        }
    }

    pub(super) fn decode<R: Shaped>(&self, version: i16, body: Bytes) -> Result<R::Response, ClientError> {
        shape::decode::<R>(version, body).map_err(|detail| self.protocol(api_name(R::KEY), &detail))
    }
}

impl Connection {
    pub(super) fn start(halves: Halves, dial: &Dial) -> Inner {
        let shared = Arc::new(Shared {
            cluster: dial.cluster.clone(),
            address: dial.address.clone(),
            client_id: dial.client_id.clone(),
            ready: AtomicBool::new(false),
            is_tls: dial.security.tls.is_some(),
            is_sasl: dial.security.sasl.is_some(),
            queue: Mutex::default(),
        });
        // Bounded by what callers keep under way: a lane's depth, one fetch, one admin call each.
        let (outgoing, frames) = mpsc::unbounded_channel();
        let line = Line { shared: Arc::clone(&shared), outgoing };
        let writing = Arc::clone(&shared);
        let tasks = match halves {
            Halves::Plain(reader, writer) => {
                [tokio::spawn(write_frames(writer, frames, writing)), tokio::spawn(read_frames(reader, shared))]
            }
            Halves::Tls(reader, writer) => {
                [tokio::spawn(write_frames(writer, frames, writing)), tokio::spawn(read_frames(reader, shared))]
            }
        };
        Inner { line, versions: HashMap::new(), tasks: tasks.into() }
    }

    /// Sends a request; what is submitted first goes out first. `hold` is dropped with the last slice of the answer.
    pub fn submit(&self, frame: OutFrame, hold: Option<Arc<dyn Hold>>) -> Pending {
        self.0.line.submit(frame, hold)
    }

    /// Whether the connection still works, as far as is known.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.line.shared.queue().dead.is_none()
    }

    /// Whether answers are still due on it.
    pub(crate) fn is_busy(&self) -> bool {
        let queue = self.0.line.shared.queue();
        queue.dead.is_none() && (!queue.waiting.is_empty() || queue.aside.is_some())
    }

    /// The highest version that both sides speak, at most `cap`.
    pub(crate) fn version(&self, api: ApiKey, min: i16, cap: i16) -> Result<i16, ClientError> {
        self.0.version(api, min, cap)
    }

    /// Api key → lowest and highest version that the broker speaks.
    pub fn versions(&self) -> &HashMap<i16, (i16, i16)> {
        &self.0.versions
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.0.line.shared.address
    }

    /// The version that [`Self::call`] asks in, for requests that look different from version to version.
    pub(super) fn version_of<R: Shaped>(&self) -> Result<i16, ClientError> {
        let api = ApiKey::try_from(R::KEY).map_err(|()| self.0.line.shared.protocol("request", &"unknown api key"))?;
        let (first, last) = R::LAYOUT.versions;
        self.version(api, first, last)
    }

    /// One request, in the highest common version.
    pub(super) async fn call<R: Shaped>(&self, request: R, max_wait_ms: u64) -> Result<R::Response, ClientError> {
        let version = self.version_of::<R>()?;
        self.exchange(request, version, max_wait_ms).await
    }

    /// One request in at most this version, for what later ones do not say any more.
    pub(super) async fn call_in<R: Shaped>(&self, request: R, at_most: i16) -> Result<R::Response, ClientError> {
        let version = self.version_of::<R>()?.min(at_most);
        self.exchange(request, version, 0).await
    }

    async fn exchange<R: Shaped>(
        &self,
        request: R,
        version: i16,
        max_wait_ms: u64,
    ) -> Result<R::Response, ClientError> {
        let frame = encode(&self.0.line.shared.cluster, &request, version, max_wait_ms)?;
        let body = self.submit(frame, None).await?;
        self.0.line.shared.decode::<R>(version, body)
    }
}

/// A request as a frame.
pub(crate) fn encode<R: Request>(
    cluster: &str,
    request: &R,
    version: i16,
    max_wait_ms: u64,
) -> Result<OutFrame, ClientError> {
    let failed =
        |detail: String| ClientError::Encode { cluster: cluster.to_owned(), api: api_name(R::KEY), version, detail };
    let api = ApiKey::try_from(R::KEY).map_err(|()| failed("unknown api key".to_owned()))?;
    let mut body = Vec::new();
    request.encode(&mut body, version).map_err(|e| failed(e.to_string()))?;
    Ok(OutFrame {
        api,
        version,
        flexible_request: R::header_version(version) >= 2,
        flexible_response: R::Response::header_version(version) >= 1,
        chunks: [Bytes::from(body)].into(),
        max_wait_ms,
    })
}

impl Inner {
    /// The highest version that both sides speak, at most `cap`.
    pub(super) fn version(&self, api: ApiKey, min: i16, cap: i16) -> Result<i16, ClientError> {
        let theirs = self.versions.get(&(api as i16));
        match theirs {
            Some((low, high)) if (*low).max(min) <= (*high).min(cap) => Ok((*high).min(cap)),
            _ => Err(ClientError::UnsupportedApi {
                cluster: self.line.shared.cluster.clone(),
                address: self.line.shared.address.clone(),
                api: api_name(api as i16),
                min,
                max: cap,
                theirs: theirs.map_or_else(|| "not at all".to_owned(), |(low, high)| format!("v{low} to v{high}")),
            }),
        }
    }

    /// Authenticates anew before a session of this length ends.
    pub(super) fn renew(&mut self, sasl: &Arc<Sasl>, version: SaslVersion, lifetime: Duration) {
        let task = renewal::renew(self.line.clone(), Arc::clone(sasl), version, lifetime);
        self.tasks.push(tokio::spawn(task));
    }

    /// The broker has let us in.
    pub(super) fn ready(self) -> Connection {
        self.line.shared.ready.store(true, Ordering::Relaxed);
        Connection(Arc::new(self))
    }
}

impl Line {
    fn submit(&self, frame: OutFrame, hold: Option<Arc<dyn Hold>>) -> Pending {
        let (submitted, pending) = self.submitted(frame, hold);
        let mut queue = self.shared.queue();
        match &mut queue.aside {
            Some(aside) => aside.push_back(submitted),
            None => self.send(&mut queue, submitted),
        }
        pending
    }

    /// As a part of authenticating, which nothing is put aside for.
    pub(super) fn submit_now(&self, frame: OutFrame) -> Pending {
        let (submitted, pending) = self.submitted(frame, None);
        self.send(&mut self.shared.queue(), submitted);
        pending
    }

    /// One request of those.
    pub(super) async fn ask<R: Shaped>(&self, request: &R, version: i16) -> Result<R::Response, ClientError> {
        let frame = encode(&self.shared.cluster, request, version, 0)?;
        let body = self.submit_now(frame).await?;
        self.shared.decode::<R>(version, body)
    }

    /// From here on requests wait.
    pub(super) fn put_aside(&self) {
        let mut queue = self.shared.queue();
        if queue.dead.is_none() {
            queue.aside.get_or_insert_default();
        }
    }

    /// Those that wait go out, in their order, and so do all after them.
    pub(super) fn go_on(&self) {
        let mut queue = self.shared.queue();
        for submitted in queue.aside.take().into_iter().flatten() {
            self.send(&mut queue, submitted);
        }
    }

    fn submitted(&self, frame: OutFrame, hold: Option<Arc<dyn Hold>>) -> (Submitted, Pending) {
        let (answer, receiver) = oneshot::channel();
        (Submitted { frame, since: Instant::now(), hold, answer }, Pending(receiver, Arc::clone(&self.shared)))
    }

    fn send(&self, queue: &mut Queue, submitted: Submitted) {
        let Submitted { frame, since, hold, answer } = submitted;
        if let Some(cause) = &queue.dead {
            // The receiver may have gone.
            let _ = answer.send(Err(cause.clone()));
            return;
        }
        let correlation_id = queue.next_correlation_id;
        queue.next_correlation_id = correlation_id.wrapping_add(1);
        queue.waiting.push_back(Waiting {
            correlation_id,
            api: api_name(frame.api as i16),
            flexible: frame.flexible_response,
            since,
            deadline: Instant::now() + ANSWER_GRACE + Duration::from_millis(frame.max_wait_ms),
            hold,
            answer,
        });
        // Under the lock, so that the order on the wire is the order of the queue. A writer that has ended has
        // failed the queue, or is about to.
        let _ = self.outgoing.send(frame.into_wire(correlation_id, &self.shared.client_id));
    }
}

async fn write_frames<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut frames: mpsc::UnboundedReceiver<Chunks>,
    shared: Arc<Shared>,
) {
    while let Some(mut frame) = frames.recv().await {
        let mut outcome = writer.write_all_buf(&mut frame).await;
        // TLS keeps what the socket did not take at once.
        if shared.is_tls && outcome.is_ok() {
            outcome = writer.flush().await;
        }
        if let Err(error) = outcome {
            // Why the other side closed it may be about to be read.
            if shared.is_tls {
                tokio::time::sleep(LAST_WORDS).await;
            }
            shared.fail(&shared.disconnected(&error.to_string()));
            return;
        }
    }
}

async fn read_frames<R: AsyncRead + LowWater + Unpin>(reader: R, shared: Arc<Shared>) {
    let reading = async {
        let mut reader = BufReader::with_capacity(8 << 10, reader);
        let mut patience = Patience::default();
        let mut answers = 0_u32;
        loop {
            match read_frame(&mut reader, &mut patience, || shared.limit_bytes(), |length| shared.buffer(length)).await
            {
                Ok(frame) => deliver(&shared, frame)?,
                Err(FrameError::Io(error)) => {
                    let detail = explain(&error).unwrap_or_else(|| format!("{error}{}", shared.hint(answers)));
                    return Err::<(), _>(shared.disconnected(&detail));
                }
                Err(FrameError::Tls) => {
                    return Err(shared.disconnected(&format!("it answers in TLS{}", shared.hint(0))));
                }
                Err(FrameError::Length(length)) => {
                    let limit = shared.limit_bytes();
                    let detail = format!("a response of {length} bytes, more than {limit} or less than 4");
                    return Err(shared.protocol("response", &detail));
                }
            }
            answers = answers.saturating_add(1);
        }
    };
    let watching = async {
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            if let Some(overdue) = shared.overdue() {
                return overdue;
            }
        }
    };
    let cause = tokio::select! {
        outcome = reading => match outcome { Ok(()) => return, Err(cause) => cause },
        overdue = watching => overdue,
    };
    shared.fail(&cause);
}

fn deliver(shared: &Shared, frame: Frame) -> Result<(), ClientError> {
    let Some(mut waiter) = shared.queue().waiting.pop_front() else {
        return Err(shared.protocol("response", &"a response that nothing asked for"));
    };
    let began = frame.began;
    let frame = match (frame, waiter.hold.take()) {
        (Frame { buffer: Buffer::Heap(bytes), .. }, None) => Bytes::from(bytes),
        (frame, hold) => Bytes::from_owner(Held { frame, hold }),
    };
    let outcome = match split_response(frame, waiter.flexible) {
        Ok((id, body)) if id == waiter.correlation_id => {
            Ok(Arrived { body, waited: began - waiter.since, reading: began.elapsed() })
        }
        Ok((id, _)) => {
            Err(shared.protocol(waiter.api, &format!("correlation id {id}, expected {}", waiter.correlation_id)))
        }
        Err(error) => Err(shared.protocol(waiter.api, &error)),
    };
    let failed = outcome.as_ref().err().cloned();
    // Whoever asked may have gone.
    let _ = waiter.answer.send(outcome);
    failed.map_or(Ok(()), Err)
}
