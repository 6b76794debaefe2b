//! One node: its listener and its connections. Frames in, frames out; Kafka's `SocketServer` with one request in flight
//! per connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::dispatch::{self, Call};
use super::intercept::{Action, RequestContext};
use super::messages::{self, RequestKind, ResponseKind};
use super::state::Shared;
use super::{api_versions, errors};

static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// What makes connections end: a counter that goes up to kill those that are open, and `stop` for all and for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signal {
    /// Goes up by one for each kill.
    pub(super) kills: u64,
    /// The node stops.
    pub(super) stop: bool,
}

/// Accepts until the node stops; returns when all its connections are closed.
pub(super) async fn serve(shared: Arc<Shared>, node: i32, listener: TcpListener, mut signal: watch::Receiver<Signal>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(shared.clone(), node, stream, signal.clone()));
                }
                Err(error) => tracing::warn!(node, %error, "accept failed"),
            },
            changed = signal.changed() => {
                if changed.is_err() || signal.borrow_and_update().stop {
                    break;
                }
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(shared: Arc<Shared>, node: i32, stream: TcpStream, mut signal: watch::Receiver<Signal>) {
    let id = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    // A connection that was accepted before a kill but starts after it must still see it.
    let born = *signal.borrow_and_update();
    tokio::select! {
        result = converse(&shared, node, id, stream) => {
            if let Err(reason) = result {
                tracing::debug!(node, connection = id, reason, "connection closed");
            }
        }
        _ = signal.wait_for(|now| now.stop || now.kills != born.kills) => {}
    }
}

/// Handles requests until the client goes (`Ok`) or the connection must be closed, with the reason.
async fn converse(shared: &Arc<Shared>, node: i32, id: u64, mut stream: TcpStream) -> Result<(), &'static str> {
    stream.set_nodelay(true).map_err(|_| "nodelay")?;
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    while let Some(frame) = read_frame(&mut stream, &mut buffer, shared.options.max_frame_bytes).await? {
        let request = decode(frame, shared.options.client_id_required.as_deref())?;
        let throttles = matches!(&request.body, Body::Known(body) if matches!(**body, RequestKind::Produce(_) | RequestKind::Fetch(_)));
        for (pause, piece) in answer(shared, node, id, request).await? {
            tokio::time::sleep(pause).await;
            stream.write_all(&piece).await.map_err(|_| "write failed")?;
        }
        let throttle_ms = shared.lock().throttle_ms;
        if throttles && throttle_ms > 0 {
            // KIP-219: the answer goes out at once and says how long the channel stays muted.
            tokio::time::sleep(Duration::from_millis(u64::from(throttle_ms.unsigned_abs()))).await;
        }
    }
    Ok(())
}

async fn read_frame(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    max_bytes: usize,
) -> Result<Option<Bytes>, &'static str> {
    while buffer.len() < 4 {
        if stream.read_buf(buffer).await.map_err(|_| "read failed")? == 0 {
            return Ok(None);
        }
    }
    let length = usize::try_from(buffer.get_i32()).map_err(|_| "negative frame length")?;
    if length > max_bytes {
        return Err("frame too large");
    }
    while buffer.len() < length {
        // Grow as bytes come, not by what the length promises.
        if stream.read_buf(buffer).await.map_err(|_| "read failed")? == 0 {
            return Err("closed inside a frame");
        }
    }
    Ok(Some(buffer.split_to(length).freeze()))
}

enum Body {
    Known(Box<RequestKind>),
    /// ApiVersions in a version from the future: answered in version 0 with UNSUPPORTED_VERSION (KIP-511).
    FutureApiVersions,
}

struct Request {
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: String,
    body: Body,
}

/// For demo and tests alone: `kafka-protocol` allocates arrays by the count on the wire, and the cap on a frame's length
/// does not bound that. What comes from brokers is checked (`client`).
fn decode(mut frame: Bytes, client_id_required: Option<&str>) -> Result<Request, &'static str> {
    if frame.len() < 8 {
        return Err("frame shorter than a request header");
    }
    let mut start = frame.clone();
    let api_key = ApiKey::try_from(start.get_i16()).map_err(|_| "unknown API key")?;
    let version = start.get_i16();
    let correlation_id = start.get_i32();
    if !messages::offers(api_key, version) {
        // From the future comes nobody who was told the client id.
        if api_key == ApiKey::ApiVersions && client_id_required.is_none() {
            let body = Body::FutureApiVersions;
            return Ok(Request { api_key, version: 0, correlation_id, client_id: String::new(), body });
        }
        return Err("unsupported API version");
    }
    let header = RequestHeader::decode(&mut frame, api_key.request_header_version(version)).map_err(|_| "header")?;
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    if client_id_required.is_some_and(|required| required != client_id) {
        return Err("a stranger");
    }
    let body = RequestKind::decode(api_key, &mut frame, version).map_err(|_| "request body")?;
    Ok(Request { api_key, version, correlation_id, client_id, body: Body::Known(Box::new(body)) })
}

/// What is sent, piece by piece, with the pause in front of each.
type Pieces = Vec<(Duration, Bytes)>;

fn whole(frame: Bytes) -> Pieces {
    vec![(Duration::ZERO, frame)]
}

async fn answer(shared: &Arc<Shared>, node: i32, id: u64, request: Request) -> Result<Pieces, &'static str> {
    let Request { api_key, version, correlation_id, client_id, body } = request;
    let body = match body {
        Body::Known(body) => *body,
        Body::FutureApiVersions => {
            let response = ResponseKind::ApiVersions(api_versions::unsupported());
            return encode(api_key, version, correlation_id, &response).map(whole);
        }
    };
    let context =
        RequestContext { node, connection: id, api_key, api_version: version, client_id: &client_id, request: &body };
    let (action, forge) = match shared.intercepts.decide(&context) {
        Action::Forge(forge) => (Action::Pass, Some(forge)),
        action => (action, None),
    };
    let call = Call { shared: shared.clone(), node, version, client_id: client_id.as_str().into() };
    let Some(response) = act(&call, action, body).await? else { return Ok(Vec::new()) };
    let frame = encode(api_key, version, correlation_id, &response)?;
    Ok(match forge {
        Some(forge) => forge(frame),
        None => whole(frame),
    })
}

/// Carries out what the hook decided.
async fn act(call: &Call, action: Action, body: RequestKind) -> Result<Option<ResponseKind>, &'static str> {
    match action {
        Action::Pass | Action::Forge(_) => {}
        Action::Error(error) => return Ok(errors::response(call, &body, error)),
        Action::ErrorAfter(error) => {
            let response = errors::response(call, &body, error);
            // A fetch changes nothing but its session, and the error has told that one already.
            if !matches!(body, RequestKind::Fetch(_)) {
                dispatch::handle(call, body).await;
            }
            return Ok(response);
        }
        Action::DropBefore => return Err("dropped by a hook"),
        Action::DropAfter => {
            dispatch::handle(call, body).await;
            return Err("dropped by a hook after handling");
        }
        Action::Delay(delay) => tokio::time::sleep(delay).await,
        Action::HoldUntil(notify) => notify.notified().await,
        Action::Respond(response) => return Ok(Some(*response)),
        Action::DelayAnswer(delay) => {
            let response = dispatch::handle(call, body).await;
            tokio::time::sleep(delay).await;
            return Ok(response);
        }
        Action::HoldAnswerUntil(notify) => {
            let response = dispatch::handle(call, body).await;
            notify.notified().await;
            return Ok(response);
        }
        Action::Edit(edit) => {
            let mut response = dispatch::handle(call, body).await;
            if let Some(response) = &mut response {
                edit(response);
            }
            return Ok(response);
        }
    }
    Ok(dispatch::handle(call, body).await)
}

fn encode(api_key: ApiKey, version: i16, correlation_id: i32, response: &ResponseKind) -> Result<Bytes, &'static str> {
    let mut out = BytesMut::new();
    out.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    let encoded = header
        .encode(&mut out, api_key.response_header_version(version))
        .and_then(|()| response.encode(&mut out, version));
    if let Err(error) = encoded {
        tracing::error!(?api_key, version, %error, "the response does not fit the version");
        return Err("response does not fit the version");
    }
    let length = i32::try_from(out.len() - 4).map_err(|_| "response too large")?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out.freeze())
}
