//! Incremental fetch sessions (KIP-227; Kafka's `FetchSessionCache` and `FetchContext`). One table per node.
//!
//! Omitted: eviction of old sessions. When the table is full, new clients are served without a session.

use std::collections::HashMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// A partition as a session names it: by topic id (v13+) or by name, never both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Topic name; empty when the client uses ids.
    pub(super) name: TopicName,
    /// Topic id; nil when the client uses names.
    pub(super) id: Uuid,
    /// Partition index.
    pub(super) index: i32,
}

/// What a session keeps of one partition: the request, and what the client was told last.
#[derive(Debug, Clone)]
pub(super) struct Cached {
    /// Which.
    pub(super) key: Key,
    /// As asked last.
    pub(super) wanted: FetchPartition,
    told_high_watermark: i64,
    told_log_start: i64,
}

/// One session.
#[derive(Debug)]
struct Session {
    next_epoch: i32,
    uses_ids: bool,
    partitions: Vec<Cached>,
}

/// All sessions of a node.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: HashMap<i32, Session>,
    last_id: i32,
}

/// How one fetch is to be answered.
#[derive(Debug)]
pub(super) struct Plan {
    /// Session id of the answer; 0 for none.
    pub(super) session_id: i32,
    /// Only partitions with news are answered.
    pub(super) incremental: bool,
    /// What to read, in order.
    pub(super) partitions: Vec<Cached>,
}

impl Cached {
    fn new(key: Key, wanted: FetchPartition) -> Self {
        Self { key, wanted, told_high_watermark: -1, told_log_start: -1 }
    }

    /// Whether this answer is news to the client; notes that it was told (`CachedPartition.maybeUpdateResponseData`).
    fn is_news(&mut self, data: &PartitionData) -> bool {
        let mut news = data.records.as_ref().is_some_and(|records| !records.is_empty());
        if self.told_high_watermark != data.high_watermark {
            news = true;
            self.told_high_watermark = data.high_watermark;
        }
        if self.told_log_start != data.log_start_offset {
            news = true;
            self.told_log_start = data.log_start_offset;
        }
        if data.error_code != 0 {
            // The client is told again until it is well.
            self.told_high_watermark = -1;
            news = true;
        }
        news || data.diverging_epoch.epoch >= 0
    }
}

fn asked(request: &FetchRequest, version: i16) -> Vec<(Key, FetchPartition)> {
    let partitions = request.topics.iter().flat_map(|topic| {
        topic
            .partitions
            .iter()
            .map(|wanted| (key(&topic.topic, topic.topic_id, wanted.partition, version), wanted.clone()))
    });
    partitions.collect()
}

fn key(name: &TopicName, id: Uuid, index: i32, version: i16) -> Key {
    if version >= 13 {
        Key { name: TopicName(StrBytes::new()), id, index }
    } else {
        Key { name: name.clone(), id: Uuid::nil(), index }
    }
}

const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

impl Sessions {
    /// Applies the session part of a request.
    pub(super) fn plan(
        &mut self,
        request: &FetchRequest,
        version: i16,
        sessions_max: usize,
    ) -> Result<Plan, ResponseError> {
        if version < 7 {
            return Ok(full(0, asked(request, version)));
        }
        match request.session_epoch {
            FINAL_EPOCH => {
                self.sessions.remove(&request.session_id);
                Ok(full(0, asked(request, version)))
            }
            INITIAL_EPOCH => {
                self.sessions.remove(&request.session_id);
                let wanted = asked(request, version);
                if wanted.is_empty() || self.sessions.len() >= sessions_max {
                    return Ok(full(0, wanted));
                }
                Ok(self.open(wanted, version >= 13))
            }
            _ => self.resume(request, version),
        }
    }

    fn open(&mut self, wanted: Vec<(Key, FetchPartition)>, uses_ids: bool) -> Plan {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let plan = full(self.last_id, wanted);
        let session = Session { next_epoch: 1, uses_ids, partitions: plan.partitions.clone() };
        self.sessions.insert(self.last_id, session);
        plan
    }

    fn resume(&mut self, request: &FetchRequest, version: i16) -> Result<Plan, ResponseError> {
        let id = request.session_id;
        let session = self.sessions.get_mut(&id).ok_or(ResponseError::FetchSessionIdNotFound)?;
        if session.next_epoch != request.session_epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        if session.uses_ids != (version >= 13) {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        session.next_epoch = next_epoch(session.next_epoch);
        for (key, wanted) in asked(request, version) {
            match session.partitions.iter_mut().find(|cached| cached.key == key) {
                Some(cached) => cached.wanted = wanted,
                None => session.partitions.push(Cached::new(key, wanted)),
            }
        }
        for topic in &request.forgotten_topics_data {
            for index in &topic.partitions {
                let gone = key(&topic.topic, topic.topic_id, *index, version);
                session.partitions.retain(|cached| cached.key != gone);
            }
        }
        if session.partitions.is_empty() {
            self.sessions.remove(&id);
            return Ok(full(0, Vec::new()));
        }
        Ok(Plan { session_id: id, incremental: true, partitions: session.partitions.clone() })
    }

    /// Notes what is about to be told, drops what is no news from an incremental answer, and moves partitions that got
    /// records to the end of the session's order, so that none starves.
    pub(super) fn settle(&mut self, plan: &Plan, answers: Vec<(Key, PartitionData)>) -> Vec<(Key, PartitionData)> {
        let Some(session) = self.sessions.get_mut(&plan.session_id) else { return answers };
        let mut kept = Vec::with_capacity(answers.len());
        let mut served = Vec::new();
        let mut places: HashMap<Key, usize> = HashMap::with_capacity(session.partitions.len());
        for (at, cached) in session.partitions.iter().enumerate() {
            places.insert(cached.key.clone(), at);
        }
        for (key, data) in answers {
            let cached = places.get(&key).and_then(|at| session.partitions.get_mut(*at));
            let news = cached.is_none_or(|cached| cached.is_news(&data));
            if data.records.as_ref().is_some_and(|records| !records.is_empty()) {
                served.push(key.clone());
            }
            if news || !plan.incremental {
                kept.push((key, data));
            }
        }
        if !served.is_empty() {
            let (moved, stay): (Vec<_>, Vec<_>) =
                std::mem::take(&mut session.partitions).into_iter().partition(|cached| served.contains(&cached.key));
            session.partitions = stay.into_iter().chain(moved).collect();
        }
        kept
    }
}

fn full(session_id: i32, wanted: Vec<(Key, FetchPartition)>) -> Plan {
    let partitions = wanted.into_iter().map(|(key, wanted)| Cached::new(key, wanted)).collect();
    Plan { session_id, incremental: false, partitions }
}
