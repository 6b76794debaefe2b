//! Fault injection: a hook sees every request of one API and decides what becomes of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use tokio::sync::Notify;

use super::messages::{RequestKind, ResponseKind};

/// A request as a hook sees it, before anything was applied.
#[derive(Debug)]
pub struct RequestContext<'a> {
    /// Node that received it.
    pub node: i32,
    /// Connection it came on: counts up over the life of the cluster.
    pub connection: u64,
    /// Which API.
    pub api_key: ApiKey,
    /// Version of the request.
    pub api_version: i16,
    /// Client id from the header; empty when there is none.
    pub client_id: &'a str,
    /// The decoded request.
    pub request: &'a RequestKind,
}

/// Changes a response in place.
pub type EditResponse = Box<dyn FnOnce(&mut ResponseKind) + Send>;
/// Makes of the frame of an answer (its length in front) what is sent in its stead, each piece after a pause: any bytes at all.
pub type Forge = Box<dyn FnOnce(Bytes) -> Vec<(Duration, Bytes)> + Send>;

/// What becomes of a request.
pub enum Action {
    /// Handle it as if there were no hook.
    Pass,
    /// Answer with this error in every place that has one; nothing is applied.
    Error(ResponseError),
    /// Apply it, then answer with this error: what a client sees of a request that timed out after it was written.
    ErrorAfter(ResponseError),
    /// Close the connection; nothing is applied.
    DropBefore,
    /// Apply it, then close the connection without an answer: the outcome is unknown to the client.
    DropAfter,
    /// Wait, then handle it.
    Delay(Duration),
    /// Handle it, then wait before the answer is sent.
    DelayAnswer(Duration),
    /// Handle it once this is notified (`notify_one` also works before the request comes).
    HoldUntil(Arc<Notify>),
    /// Handle it, and send the answer once this is notified.
    HoldAnswerUntil(Arc<Notify>),
    /// Send this instead; nothing is applied.
    Respond(Box<ResponseKind>),
    /// Handle it, then change the answer.
    Edit(EditResponse),
    /// Handle it, then send what no broker would.
    Forge(Forge),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Pass => "Pass",
            Self::Error(_) => "Error",
            Self::ErrorAfter(_) => "ErrorAfter",
            Self::DropBefore => "DropBefore",
            Self::DropAfter => "DropAfter",
            Self::Delay(_) => "Delay",
            Self::DelayAnswer(_) => "DelayAnswer",
            Self::HoldUntil(_) => "HoldUntil",
            Self::HoldAnswerUntil(_) => "HoldAnswerUntil",
            Self::Respond(_) => "Respond",
            Self::Edit(_) => "Edit",
            Self::Forge(_) => "Forge",
        };
        f.write_str(name)
    }
}

type Hook = Arc<dyn Fn(&RequestContext<'_>) -> Action + Send + Sync>;

struct Entry {
    id: u64,
    api_key: ApiKey,
    times_left: Option<usize>,
    hits: Arc<AtomicU64>,
    hook: Hook,
}

/// A hook that was set; see [`super::Cluster::intercept`].
#[derive(Debug, Clone)]
pub struct Intercept {
    pub(super) id: u64,
    hits: Arc<AtomicU64>,
}

impl Intercept {
    /// How often the hook answered anything but [`Action::Pass`].
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }
}

/// All hooks of a cluster, in the order in which they were set; the first that does not pass decides.
#[derive(Default)]
pub(super) struct Intercepts {
    entries: Mutex<Vec<Entry>>,
    next_id: AtomicU64,
}

impl fmt::Debug for Intercepts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intercepts").finish_non_exhaustive()
    }
}

impl Intercepts {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(
        &self,
        api_key: ApiKey,
        times: Option<usize>,
        hook: impl Fn(&RequestContext<'_>) -> Action + Send + Sync + 'static,
    ) -> Intercept {
        let id = self.next_id.fetch_add(1, Ordering::SeqCst);
        let hits = Arc::new(AtomicU64::new(0));
        self.lock().push(Entry { id, api_key, times_left: times, hits: hits.clone(), hook: Arc::new(hook) });
        Intercept { id, hits }
    }

    pub(super) fn remove(&self, id: u64) {
        self.lock().retain(|entry| entry.id != id);
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// What the hooks say to this request. A hook runs without the lock, so that it may set others.
    pub(super) fn decide(&self, context: &RequestContext<'_>) -> Action {
        let hooks: Vec<(u64, Hook)> = self
            .lock()
            .iter()
            .filter(|entry| entry.api_key == context.api_key)
            .map(|entry| (entry.id, entry.hook.clone()))
            .collect();
        for (id, hook) in hooks {
            let action = hook(context);
            if !matches!(action, Action::Pass) && self.take(id) {
                return action;
            }
        }
        Action::Pass
    }

    /// Counts a hit; false when the hook was used up by another connection meanwhile.
    fn take(&self, id: u64) -> bool {
        let mut entries = self.lock();
        let Some(at) = entries.iter().position(|entry| entry.id == id) else { return false };
        let Some(entry) = entries.get_mut(at) else { return false };
        entry.hits.fetch_add(1, Ordering::SeqCst);
        if let Some(left) = &mut entry.times_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                entries.remove(at);
            }
        }
        true
    }
}
