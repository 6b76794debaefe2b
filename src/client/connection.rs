//! One connection to a broker: requests go out in the order they are submitted, answers come back in that order.
//!
//! A connection that fails poisons every request that waits on it with the one cause. Whoever waits on a broker that
//! says nothing is released by a deadline per request; the connection is then given up, since a late answer could not
//! be told from the next one.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use kafka_protocol::messages::api_versions_request::ApiVersionsRequest;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};
use kafka_protocol::protocol::{HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::api_name::api_name;
use super::buffer::Buffer;
use super::error::ClientError;
use super::frame::{Chunks, OutFrame, split_response};
use super::shape::{self, Shaped};

/// A response larger than this is refused: no broker is configured for messages like that.
pub(crate) const FRAME_LIMIT_BYTES: usize = 512 << 20;
/// How long a broker may take over what its request allows it.
const ANSWER_GRACE: Duration = Duration::from_secs(30);
/// How a TLS listener answers what is not TLS (RFC 8446, 6: alert, then the legacy version). Read as a length it would be one
/// within the limit, and the reader would wait for its end.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];
const NOT_PLAIN: &str = "; is this a plaintext Kafka listener? TLS and SASL are not yet supported";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What each of a name's addresses but the last may take.
const TURN: Duration = Duration::from_secs(5);
const WATCH_EVERY: Duration = Duration::from_secs(1);
const UNSUPPORTED_VERSION: i16 = 35;

/// Kept until the last slice of a response is gone (a lease of the memory budget), and where its buffer comes from.
pub trait Hold: Send + Sync {
    /// A buffer for so many bytes.
    fn buffer(&self, bytes: usize) -> Buffer;
    /// Takes a buffer back that nobody reads any more.
    fn give_back(&self, buffer: Buffer);
}

/// A connection; cheap to clone, closed when the last clone and the last pending request are gone.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    outgoing: mpsc::UnboundedSender<Chunks>,
    versions: HashMap<i16, (i16, i16)>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.shared.fail(&self.shared.disconnected("closed by kmirror"));
    }
}

#[derive(Debug)]
struct Shared {
    cluster: String,
    address: String,
    client_id: String,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next_correlation_id: i32,
    waiting: VecDeque<Waiting>,
    dead: Option<ClientError>,
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

/// A response and what is held with it.
struct Held {
    frame: Frame,
    hold: Option<Arc<dyn Hold>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let buffer = std::mem::replace(&mut self.frame.buffer, Buffer::heap(0));
        if let Some(hold) = &self.hold {
            hold.give_back(buffer);
        }
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        match &self.frame.buffer {
            Buffer::Heap(bytes) => bytes,
            Buffer::Mapped(map) => map.get(..self.frame.length).unwrap_or_default(),
        }
    }
}

impl Shared {
    fn disconnected(&self, detail: &str) -> ClientError {
        ClientError::Disconnected {
            cluster: self.cluster.clone(),
            address: self.address.clone(),
            detail: detail.to_owned(),
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer for the next response, from whoever waits for it.
    fn buffer(&self, bytes: usize) -> Buffer {
        let hold = self.queue().waiting.front().and_then(|waiter| waiter.hold.clone());
        hold.map_or_else(|| Buffer::heap(bytes), |hold| hold.buffer(bytes))
    }

    /// Every waiter gets the first cause.
    fn fail(&self, cause: &ClientError) {
        let mut queue = self.queue();
        let cause = queue.dead.get_or_insert_with(|| cause.clone()).clone();
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        for waiter in waiting {
            // Nobody may be waiting any more.
            let _ = waiter.answer.send(Err(cause.clone()));
        }
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

    fn protocol(&self, api: &'static str, detail: &dyn ToString) -> ClientError {
        ClientError::Protocol {
            cluster: self.cluster.clone(),
            address: self.address.clone(),
            api,
            detail: detail.to_string(),
        }
    }

    fn decode<R: Shaped>(&self, version: i16, body: Bytes) -> Result<R::Response, ClientError> {
        shape::decode::<R>(version, body).map_err(|detail| self.protocol(api_name(R::KEY), &detail))
    }
}

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    pub(crate) cluster: String,
    pub(crate) address: String,
    pub(crate) client_id: String,
}

impl Dial {
    fn unreachable(&self, detail: String) -> ClientError {
        ClientError::Unreachable { cluster: self.cluster.clone(), address: self.address.clone(), detail }
    }
}

impl Connection {
    /// Connects and learns which api versions the broker speaks. The name is looked up anew each time, for what it names may
    /// move; of several addresses the first at which a broker answers is taken.
    pub(crate) async fn dial(dial: Dial) -> Result<Self, ClientError> {
        let found = match tokio::time::timeout(CONNECT_TIMEOUT, lookup_host(&dial.address)).await {
            Err(_) => return Err(dial.unreachable("its name could not be looked up in time".to_owned())),
            Ok(Err(error)) => return Err(dial.unreachable(error.to_string())),
            Ok(Ok(found)) => found.collect::<Vec<_>>(),
        };
        let mut failed: Option<ClientError> = None;
        let mut rest = found.iter();
        while let Some(at) = rest.next() {
            let attempt = Self::dial_at(&dial, *at);
            // One that only hangs must leave the others their turn.
            let outcome = if rest.len() == 0 {
                attempt.await
            } else {
                let late = |_| dial.unreachable(format!("{at}: no answer within {} s", TURN.as_secs()));
                tokio::time::timeout(TURN, attempt).await.map_err(late).flatten()
            };
            match outcome {
                Ok(connection) => return Ok(connection),
                // What a broker has said tells more than that another does not answer.
                Err(error) if failed.as_ref().is_none_or(ClientError::is_unreachable) => failed = Some(error),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(|| dial.unreachable("its name has no address".to_owned())))
    }

    async fn dial_at(dial: &Dial, at: SocketAddr) -> Result<Self, ClientError> {
        let literal = at.to_string() == dial.address;
        let unreachable = |detail: String| dial.unreachable(if literal { detail } else { format!("{at}: {detail}") });
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(at)).await {
            Err(_) => return Err(unreachable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Ok(Ok(stream)) => stream,
        };
        stream.set_nodelay(true).map_err(|e| unreachable(e.to_string()))?;
        let mut inner = Self::start(stream, dial.clone());
        inner.versions = api_versions(&inner).await?;
        Ok(Self(Arc::new(inner)))
    }

    fn start(stream: TcpStream, dial: Dial) -> Inner {
        let (reader, writer) = stream.into_split();
        let shared = Arc::new(Shared {
            cluster: dial.cluster,
            address: dial.address,
            client_id: dial.client_id,
            queue: Mutex::default(),
        });
        // Bounded by what callers keep under way: a lane's depth, one fetch, one admin call each.
        let (outgoing, frames) = mpsc::unbounded_channel();
        let tasks = [
            tokio::spawn(write_frames(writer, frames, Arc::clone(&shared))),
            tokio::spawn(read_frames(reader, Arc::clone(&shared))),
        ];
        Inner { shared, outgoing, versions: HashMap::new(), tasks }
    }

    /// Sends a request; what is submitted first goes out first. `hold` is dropped with the last slice of the answer.
    pub fn submit(&self, frame: OutFrame, hold: Option<Arc<dyn Hold>>) -> Pending {
        self.0.submit(frame, hold)
    }

    /// Whether the connection still works, as far as is known.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.shared.queue().dead.is_none()
    }

    /// The highest version that both sides speak, at most `cap`.
    pub(crate) fn version(&self, api: ApiKey, min: i16, cap: i16) -> Result<i16, ClientError> {
        let theirs = self.0.versions.get(&(api as i16));
        match theirs {
            Some((low, high)) if (*low).max(min) <= (*high).min(cap) => Ok((*high).min(cap)),
            _ => Err(ClientError::UnsupportedApi {
                cluster: self.0.shared.cluster.clone(),
                address: self.0.shared.address.clone(),
                api: api_name(api as i16),
                min,
                max: cap,
                theirs: theirs.map_or_else(|| "not at all".to_owned(), |(low, high)| format!("v{low} to v{high}")),
            }),
        }
    }

    /// Api key → lowest and highest version that the broker speaks.
    pub fn versions(&self) -> &HashMap<i16, (i16, i16)> {
        &self.0.versions
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.0.shared.address
    }

    /// The version that [`Self::call`] asks in, for requests that look different from version to version.
    pub(super) fn version_of<R: Shaped>(&self) -> Result<i16, ClientError> {
        let api = ApiKey::try_from(R::KEY).map_err(|()| self.0.shared.protocol("request", &"unknown api key"))?;
        let (first, last) = R::LAYOUT.versions;
        self.version(api, first, last)
    }

    /// One request, in the highest common version.
    pub(super) async fn call<R: Shaped>(&self, request: R, max_wait_ms: u64) -> Result<R::Response, ClientError> {
        let version = self.version_of::<R>()?;
        let frame = encode(&self.0.shared.cluster, &request, version, max_wait_ms)?;
        let body = self.submit(frame, None).await?;
        self.0.shared.decode::<R>(version, body)
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
    fn submit(&self, frame: OutFrame, hold: Option<Arc<dyn Hold>>) -> Pending {
        let (answer, receiver) = oneshot::channel();
        let pending = Pending(receiver, Arc::clone(&self.shared));
        let mut queue = self.shared.queue();
        if let Some(cause) = &queue.dead {
            // The receiver is in our hands.
            let _ = answer.send(Err(cause.clone()));
            return pending;
        }
        let correlation_id = queue.next_correlation_id;
        queue.next_correlation_id = correlation_id.wrapping_add(1);
        let now = Instant::now();
        queue.waiting.push_back(Waiting {
            correlation_id,
            api: api_name(frame.api as i16),
            flexible: frame.flexible_response,
            since: now,
            deadline: now + ANSWER_GRACE + Duration::from_millis(frame.max_wait_ms),
            hold,
            answer,
        });
        // Under the lock, so that the order on the wire is the order of the queue. A writer that has ended has
        // failed the queue, or is about to.
        let _ = self.outgoing.send(frame.into_wire(correlation_id, &self.shared.client_id));
        pending
    }
}

async fn api_versions(inner: &Inner) -> Result<HashMap<i16, (i16, i16)>, ClientError> {
    let mut response = ask_versions(inner, 3).await?;
    if response.error_code == UNSUPPORTED_VERSION {
        // An older broker answers in v0 whatever was asked (KIP-511).
        response = ask_versions(inner, 0).await?;
    }
    if response.error_code != 0 {
        let subject = inner.shared.address.clone();
        return Err(ClientError::api(&inner.shared.cluster, "ApiVersions", response.error_code, &subject, None));
    }
    Ok(response.api_keys.into_iter().map(|a| (a.api_key, (a.min_version, a.max_version))).collect())
}

async fn ask_versions(inner: &Inner, version: i16) -> Result<ApiVersionsResponse, ClientError> {
    let mut request = ApiVersionsRequest::default();
    if version >= 3 {
        request.client_software_name = StrBytes::from_static_str("kmirror");
        request.client_software_version = StrBytes::from_static_str(env!("CARGO_PKG_VERSION"));
    }
    let mut frame = encode(&inner.shared.cluster, &request, version, 0)?;
    frame.flexible_response = false;
    let body = inner.submit(frame, None).await?;
    let answered_in_v0 = body.get(..2) == Some(&UNSUPPORTED_VERSION.to_be_bytes());
    let version = if answered_in_v0 { 0 } else { version };
    inner.shared.decode::<ApiVersionsRequest>(version, body)
}

async fn write_frames(mut writer: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<Chunks>, shared: Arc<Shared>) {
    while let Some(mut frame) = frames.recv().await {
        if let Err(error) = writer.write_all_buf(&mut frame).await {
            shared.fail(&shared.disconnected(&error.to_string()));
            return;
        }
    }
}

async fn read_frames(reader: OwnedReadHalf, shared: Arc<Shared>) {
    let reading = async {
        let mut reader = BufReader::with_capacity(8 << 10, reader);
        let mut answered = false;
        loop {
            match read_frame(&mut reader, |length| shared.buffer(length)).await {
                Ok(frame) => deliver(&shared, frame)?,
                Err(FrameError::Io(error)) => {
                    let hint = if answered { "" } else { NOT_PLAIN };
                    return Err::<(), _>(shared.disconnected(&format!("{error}{hint}")));
                }
                Err(FrameError::Tls) => return Err(shared.protocol("response", &format!("it is TLS{NOT_PLAIN}"))),
                Err(FrameError::Length(length)) => {
                    let detail = format!("a response of {length} bytes, more than {FRAME_LIMIT_BYTES} or less than 4");
                    return Err(shared.protocol("response", &detail));
                }
            }
            answered = true;
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

#[derive(Debug)]
enum FrameError {
    Io(std::io::Error),
    Tls,
    Length(i32),
}

impl From<std::io::Error> for FrameError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// A response as it came.
#[derive(Debug)]
struct Frame {
    buffer: Buffer,
    length: usize,
    /// When its first byte was there.
    began: Instant,
}

/// The next frame.
async fn read_frame<R: AsyncRead + Unpin>(
    reader: &mut R,
    buffer: impl FnOnce(usize) -> Buffer,
) -> Result<Frame, FrameError> {
    let size = reader.read_i32().await?;
    let began = Instant::now();
    if size.to_be_bytes().starts_with(&TLS_ALERT) {
        return Err(FrameError::Tls);
    }
    let length = usize::try_from(size).ok().filter(|l| (4..=FRAME_LIMIT_BYTES).contains(l));
    let length = length.ok_or(FrameError::Length(size))?;
    let mut buffer = buffer(length);
    match &mut buffer {
        Buffer::Mapped(map) => {
            let room = map.get_mut(..length).ok_or(FrameError::Length(size))?;
            reader.read_exact(room).await?;
        }
        Buffer::Heap(bytes) => read_growing(reader, bytes, length).await?,
    }
    Ok(Frame { buffer, length, began })
}

async fn read_growing<R: AsyncRead + Unpin>(reader: &mut R, bytes: &mut Vec<u8>, length: usize) -> std::io::Result<()> {
    while bytes.len() < length {
        let missing = length - bytes.len();
        if bytes.capacity() == bytes.len() {
            bytes.reserve_exact(missing.min(bytes.len().max(1)));
        }
        let mut room = (&mut *bytes).limit(missing);
        if reader.read_buf(&mut room).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tls_alert_is_not_taken_for_a_length() {
        let alert = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x50];
        assert!(matches!(read_frame(&mut &alert[..], Buffer::heap).await, Err(FrameError::Tls)));
        let plain = [0, 0, 0, 4, 0, 0, 0, 7];
        let read = async |buffer: fn(usize) -> Buffer| {
            let frame = read_frame(&mut &plain[..], buffer).await.unwrap();
            Bytes::from_owner(Held { frame, hold: None })
        };
        assert_eq!(read(Buffer::heap).await, &[0, 0, 0, 7][..]);
        assert_eq!(
            read(|bytes| Buffer::new(bytes.max(1 << 20))).await,
            &[0, 0, 0, 7][..],
            "what is mapped and not read is not of it"
        );
    }
}
