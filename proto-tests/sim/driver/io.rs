//! The hands of a simulated process: requests go into an outbox, answers come out of an inbox, and time is what the
//! world says. A future that waits is simply polled again; nothing here wakes anything.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use kmirror::batch::{Batches, RawBatch};
use kmirror::client::{Verdict, classify};
use kmirror::mirror::Bounds;

use super::{Event, Job, Settings};
use crate::sim::broker::LogId;
use crate::sim::broker::log::Slice;
use crate::sim::mutation::Mutation;

const INVALID_PRODUCER_EPOCH: i16 = 47;
const PRODUCER_FENCED: i16 = 90;
const RETRY_MS: u64 = 20;
const DEADLINE_MS: u64 = 30_000;

/// What a process asks of a cluster.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Init(Option<(i64, i16)>),
    AddPartitions((i64, i16), Vec<LogId>),
    EndTxn((i64, i16)),
    Bounds(LogId),
    Read { log: LogId, offset: i64 },
    Produce { log: LogId, bytes: Bytes },
    DeleteRecords { log: LogId, before: i64 },
    SourceFetch { part: usize, topic: u128, offset: i64, last_epoch: i32 },
    SourceBounds { part: usize, topic: u128, committed: bool },
    SourceRead { part: usize, topic: u128, offset: i64 },
}

#[derive(Debug, Clone)]
pub(crate) enum Response {
    Producer((i64, i16)),
    Done,
    Bounds(Bounds),
    Slice(Slice),
    Offset(i64),
    Error(i16),
}

/// The connection was lost before an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost;

/// A connection of the process: requests on one keep their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Lane {
    Shard,
    Fetch(usize),
    Produce(usize),
}

#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) call: u64,
    pub(crate) lane: Lane,
    pub(crate) request: Request,
}

/// Why a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Stopped,
    Fenced(String),
    /// Start it again.
    Failed(String),
    /// What kmirror wrote it cannot read, or it broke an assumption: never right.
    Broken(String),
}

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) now_ms: Cell<u64>,
    next_call: Cell<u64>,
    pub(crate) outbox: RefCell<Vec<Sent>>,
    pub(crate) inbox: RefCell<BTreeMap<u64, Result<Response, Lost>>>,
    pub(crate) jobs: RefCell<VecDeque<Job>>,
    pub(crate) events: RefCell<VecDeque<Event>>,
}

#[derive(Clone)]
pub(crate) struct Io(pub(crate) Rc<Shared>);

impl Io {
    pub(crate) fn new(settings: Settings, first_call: u64) -> Self {
        Self(Rc::new(Shared {
            settings,
            now_ms: Cell::new(0),
            next_call: Cell::new(first_call),
            outbox: RefCell::default(),
            inbox: RefCell::default(),
            jobs: RefCell::default(),
            events: RefCell::default(),
        }))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Whether the engine is broken in this way on purpose.
    pub(crate) fn broken(&self, mutation: Mutation) -> bool {
        self.0.settings.mutation == Some(mutation)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.0.now_ms.get()
    }

    /// Sends a request; its answer comes to the inbox under the number given back.
    pub(crate) fn send(&self, lane: Lane, request: Request) -> u64 {
        let call = self.0.next_call.get();
        self.0.next_call.set(call + 1);
        self.0.outbox.borrow_mut().push(Sent { call, lane, request });
        call
    }

    pub(crate) async fn pause(&self, ms: u64) {
        let until = self.now_ms() + ms;
        poll_fn(|_| if self.now_ms() >= until { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    pub(crate) async fn next_job(&self) -> Job {
        poll_fn(|_| self.0.jobs.borrow_mut().pop_front().map_or(Poll::Pending, Poll::Ready)).await
    }

    async fn call(&self, request: Request) -> Result<Response, Lost> {
        let call = self.send(Lane::Shard, request);
        poll_fn(|_| self.0.inbox.borrow_mut().remove(&call).map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Asks until there is an answer that asking again cannot change (`client::retry`). State is written without a
    /// deadline, as in `engine::shard`.
    pub(crate) async fn ask(&self, request: Request) -> Result<Response, End> {
        let began = self.now_ms();
        loop {
            let late = self.now_ms() > began + DEADLINE_MS;
            if late && !matches!(request, Request::Produce { .. }) {
                return Err(End::Failed(format!("{request:?}: no answer in time")));
            }
            match self.call(request.clone()).await {
                Ok(Response::Error(INVALID_PRODUCER_EPOCH | PRODUCER_FENCED)) => {
                    return Err(End::Fenced(format!("{request:?}")));
                }
                Ok(Response::Error(code)) if classify(code) == Verdict::Fatal => {
                    return Err(End::Failed(format!("{request:?}: {code}")));
                }
                Ok(Response::Error(_)) | Err(Lost) => self.pause(RETRY_MS).await,
                Ok(response) => return Ok(response),
            }
        }
    }

    pub(crate) async fn bounds(&self, log: LogId) -> Result<Bounds, End> {
        match self.ask(Request::Bounds(log)).await? {
            Response::Bounds(bounds) => Ok(bounds),
            other => Err(unexpected(&other)),
        }
    }

    /// Batches from `offset` on, as far as they are replicated; `None` where the log has no such offset.
    pub(crate) async fn read(&self, request: Request) -> Result<Option<Vec<RawBatch>>, End> {
        match self.ask(request).await? {
            Response::Slice(slice) if slice.error != 0 => Ok(None),
            Response::Slice(slice) => Ok(Some(Batches::new(slice.bytes).map(Result::unwrap).collect())),
            other => Err(unexpected(&other)),
        }
    }
}

pub(crate) fn unexpected(response: &Response) -> End {
    End::Broken(format!("unexpected answer {response:?}"))
}
