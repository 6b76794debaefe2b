//! A cluster: its metadata, the connections to its brokers, and calls to them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::connection::Connection;
use super::coordinators::KeyType;
use super::dial::Dial;
use super::error::ClientError;
use super::log_reader::TopicPartition;
use super::metadata::{Metadata, Topics, UNKNOWN_TOPIC_OR_PARTITION};
use super::refusals::Refusals;
use super::shape::Shaped;
use super::transport::Security;
use crate::config::ClusterConfig;

/// Where a cluster is, and as whom to speak to it.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// Name in the configuration, for errors and metrics.
    pub name: String,
    /// host:port of some brokers.
    pub bootstrap: Vec<String>,
    /// Client id sent with every request.
    pub client_id: String,
    /// Who kmirror is there, as far as the configuration tells.
    principal: Option<String>,
    security: Security,
    /// How the configuration has it, where it comes from there.
    written: Option<ClusterConfig>,
}

impl ClusterSpec {
    /// A cluster without encryption and authentication.
    pub fn new(name: &str, bootstrap: Vec<String>, client_id: String) -> Self {
        Self {
            name: name.to_owned(),
            bootstrap,
            client_id,
            principal: None,
            security: Security::default(),
            written: None,
        }
    }

    /// A cluster of the configuration.
    pub fn of(config: &ClusterConfig, client_id: String) -> Self {
        let bootstrap = config.bootstrap.iter().map(ToString::to_string).collect();
        let security = Security::new(config.tls.as_ref(), config.sasl.as_ref());
        if let Some(what) = security.exposed() {
            tracing::warn!(
                cluster = config.name,
                "sasl without tls: the {what} goes over the network for everybody to read; add `tls: {{}}`"
            );
        }
        let written = Some(config.clone());
        Self { security, principal: config.principal(), written, ..Self::new(&config.name, bootstrap, client_id) }
    }
}

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// This broker.
    Id(i32),
    /// Any broker that answers.
    Any,
    /// The controller, or a broker that forwards to it (KIP-590).
    Controller,
}

/// A cluster that was connected to; cheap to clone, all clones share connections and metadata.
#[derive(Debug, Clone)]
pub struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    spec: RwLock<Arc<Era>>,
    cluster_id: Mutex<String>,
    metadata: RwLock<Arc<Metadata>>,
    slots: Mutex<HashMap<(i32, u16), SharedSlot>>,
    coordinators: Mutex<HashMap<(KeyType, String), i32>>,
    turn: AtomicU16,
    refusals: Refusals,
}

/// How the cluster is spoken to, for as long as the configuration has it so.
#[derive(Debug)]
struct Era {
    number: u64,
    spec: ClusterSpec,
}

type SharedSlot = Arc<tokio::sync::Mutex<Slot>>;

/// A place for one connection: one dials while others wait for it.
#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    /// The era that it was made in.
    era: u64,
    /// Connections of earlier eras that answers are still due on.
    retired: Vec<Connection>,
    failures: u32,
    not_before: Option<Instant>,
}

/// Lane of admin calls; nothing on it waits on purpose.
const ADMIN_LANE: u16 = 0;
/// Lanes of calls that may wait for data at the broker, so that they hold up each other at most.
const READ_LANES: std::ops::Range<u16> = 900..904;
/// Lane of reads that wait long, for news of the control partition: a broker answers a connection's requests in order, and
/// nothing else may stand behind one of them.
const FOLLOW_LANE: u16 = 904;
/// Lane of changes that a broker may take its time over: new topics and partitions, DeleteRecords.
const CHANGE_LANE: u16 = 905;
/// Lanes of what group coordinators are asked. A broker answers a commit once it is replicated, and a connection's next
/// request waits for that: thousands of groups need several.
const GROUP_LANES: std::ops::Range<u16> = 906..914;
/// Lane of a member of a group: JoinGroup waits until all members have joined.
const MEMBER_LANE: u16 = 914;
/// Lane of its signs of life, which wait for nothing.
const SIGN_LANE: u16 = 915;
const LONG_WAIT_MS: u64 = 500;
const DIAL_PAUSE: Duration = Duration::from_millis(50);
const DIAL_PAUSE_MAX: Duration = Duration::from_secs(2);
const CONNECT_TRIES: u32 = 3;

impl Slot {
    /// A connection of an earlier era serves nobody any more; it closes when nothing is due on it.
    fn enter(&mut self, era: u64) {
        self.retired.retain(Connection::is_busy);
        if self.era == era {
            return;
        }
        self.era = era;
        (self.failures, self.not_before) = (0, None);
        self.retired.extend(self.connection.take().filter(Connection::is_busy));
    }
}

impl Cluster {
    /// Reaches a broker and learns the cluster's id and brokers.
    pub async fn connect(spec: ClusterSpec) -> Result<Self, ClientError> {
        let cluster = Self(Arc::new(Inner {
            name: spec.name.clone(),
            spec: RwLock::new(Arc::new(Era { number: 0, spec })),
            cluster_id: Mutex::default(),
            metadata: RwLock::default(),
            slots: Mutex::default(),
            coordinators: Mutex::default(),
            turn: AtomicU16::new(0),
            refusals: Refusals::default(),
        }));
        let mut tries = 1;
        loop {
            match cluster.refresh(Topics::Named(&[])).await {
                Ok(_) => return Ok(cluster),
                // Tried again at once, a wrong password may lock the user out.
                Err(error @ ClientError::Authentication { .. }) => return Err(error),
                Err(error) if error.is_retriable() && tries < CONNECT_TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Name in the configuration.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    fn era(&self) -> Arc<Era> {
        Arc::clone(&self.0.spec.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Grows with every change of how the cluster is spoken to. Requests whose order matters go on one connection as long as it stays.
    pub fn era_number(&self) -> u64 {
        self.era().number
    }

    /// From now on connections are made as this says. On those that there are nothing more is sent; what is under way on them is
    /// answered.
    pub fn follow(&self, config: &ClusterConfig, client_id: String) {
        {
            let mut era = self.0.spec.write().unwrap_or_else(PoisonError::into_inner);
            if era.spec.written.as_ref() == Some(config) && era.spec.client_id == client_id {
                return;
            }
            *era = Arc::new(Era { number: era.number + 1, spec: ClusterSpec::of(config, client_id) });
        }
        self.0.refusals.clear();
        tracing::info!(cluster = self.name(), "new connections are made as the configuration says now");
        let slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.values() {
            // One that is just being used is seen to by whoever uses it.
            let Ok(mut slot) = slot.try_lock() else { continue };
            slot.connection.take_if(|connection| !connection.is_busy());
        }
    }

    /// Who kmirror is there, as far as the configuration tells.
    pub(crate) fn principal(&self) -> Option<String> {
        self.era().spec.principal.clone()
    }

    /// As `--bootstrap-server` has it.
    pub(crate) fn bootstrap_line(&self) -> String {
        self.era().spec.bootstrap.join(",")
    }

    /// Cluster id; empty where the cluster does not tell (before Kafka 0.10.1).
    pub fn cluster_id(&self) -> String {
        self.0.cluster_id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The metadata of the last refresh.
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.0.metadata.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks for metadata anew, of any broker that answers.
    pub async fn refresh(&self, topics: Topics<'_>) -> Result<Arc<Metadata>, ClientError> {
        let response = match topics {
            Topics::Named(names) => self.ask_metadata(Node::Any, Some(names)).await?,
            Topics::All => self.ask_metadata(Node::Any, None).await?,
            Topics::AllAnd(names) => {
                let mut response = self.ask_metadata(Node::Any, None).await?;
                let there: HashSet<&str> =
                    response.topics.iter().filter_map(|t| Some(t.name.as_ref()?.as_str())).collect();
                let hidden: Vec<&str> = names.iter().copied().filter(|name| !there.contains(name)).collect();
                if !hidden.is_empty() {
                    response.topics.extend(self.ask_metadata(Node::Any, Some(&hidden)).await?.topics);
                }
                response
            }
        };
        if let Some(id) = &response.cluster_id {
            *self.0.cluster_id.lock().unwrap_or_else(PoisonError::into_inner) = id.to_string();
        }
        let mut metadata = self.0.metadata.write().unwrap_or_else(PoisonError::into_inner);
        *metadata = Arc::new(metadata.merged(topics, response));
        Ok(Arc::clone(&metadata))
    }

    /// Whether a topic still bears its id, by the word of a partition's leader: another broker may not have heard yet of one
    /// that was made again under its name.
    pub async fn is_same_topic(&self, tp: &TopicPartition) -> Result<bool, ClientError> {
        let leader = self.leader_of(&tp.topic, tp.partition)?;
        let response = self.ask_metadata(Node::Id(leader), Some(&[tp.topic.as_str()])).await?;
        match response.topics.first() {
            None => Ok(false),
            Some(topic) if topic.error_code == UNKNOWN_TOPIC_OR_PARTITION => Ok(false),
            Some(topic) if topic.error_code == 0 => Ok(topic.topic_id == tp.topic_id),
            Some(topic) => Err(self.api_error("Metadata", topic.error_code, &tp.topic)),
        }
    }

    async fn ask_metadata(&self, node: Node, names: Option<&[&str]>) -> Result<MetadataResponse, ClientError> {
        const BROKER_NOT_AVAILABLE: i16 = 8;
        const REBOOTSTRAP_REQUIRED: i16 = 129;
        let topics = names.map(|names| names.iter().map(|name| metadata_topic(name)).collect());
        let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
        let response = self.call(node, request).await?;
        match response.error_code {
            // Below v13 a request that failed as a whole says so by naming nobody.
            0 if response.brokers.is_empty() => {
                Err(self.api_error("Metadata", BROKER_NOT_AVAILABLE, "the cluster, which names no broker"))
            }
            0 => Ok(response),
            code => {
                if code == REBOOTSTRAP_REQUIRED {
                    self.begin_anew();
                }
                Err(self.api_error("Metadata", code, "the cluster"))
            }
        }
    }

    /// Forgets where brokers are: the next call begins at the bootstrap addresses (KIP-1102).
    fn begin_anew(&self) {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.0.coordinators.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut metadata = self.0.metadata.write().unwrap_or_else(PoisonError::into_inner);
        let known = Metadata::clone(&metadata);
        *metadata = Arc::new(Metadata { brokers: BTreeMap::new(), controller: None, ..known });
    }

    /// One request, one try. Requests that may wait at the broker go on lanes of their own.
    pub(super) async fn call<R: Shaped>(&self, node: Node, request: R) -> Result<R::Response, ClientError> {
        self.call_waiting(node, request, 0).await
    }

    /// As [`Self::call`], for a request that lets the broker wait up to `max_wait_ms`.
    pub(super) async fn call_waiting<R: Shaped>(
        &self,
        node: Node,
        request: R,
        max_wait_ms: u64,
    ) -> Result<R::Response, ClientError> {
        let lane = self.lane(R::KEY == ApiKey::Fetch as i16, max_wait_ms);
        self.connection_on(node, lane).await?.call(request, max_wait_ms).await
    }

    /// The connection of admin calls, for a request that looks different from version to version.
    pub(super) async fn connection_to(&self, node: Node) -> Result<Connection, ClientError> {
        self.connection_on(node, ADMIN_LANE).await
    }

    /// A connection to a group coordinator: they take turns.
    pub(super) async fn group_connection(&self, node: i32) -> Result<Connection, ClientError> {
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        self.connection(node, GROUP_LANES.start + turn % (GROUP_LANES.end - GROUP_LANES.start)).await
    }

    /// A member's own connection to its group coordinator.
    pub(super) async fn member_connection(&self, node: i32) -> Result<Connection, ClientError> {
        self.connection(node, MEMBER_LANE).await
    }

    /// Another one, for its signs of life.
    pub(super) async fn member_sign_connection(&self, node: i32) -> Result<Connection, ClientError> {
        self.connection(node, SIGN_LANE).await
    }

    async fn connection_on(&self, node: Node, lane: u16) -> Result<Connection, ClientError> {
        match node {
            Node::Id(id) => self.connection(id, lane).await,
            Node::Controller => match self.metadata().controller {
                Some(id) => self.connection(id, lane).await,
                None => self.any_connection(lane).await,
            },
            Node::Any => self.any_connection(lane).await,
        }
    }

    fn lane(&self, reads: bool, max_wait_ms: u64) -> u16 {
        match (reads, max_wait_ms) {
            (true, LONG_WAIT_MS..) => FOLLOW_LANE,
            (true, _) => {
                let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
                READ_LANES.start + turn % (READ_LANES.end - READ_LANES.start)
            }
            (false, 0) => ADMIN_LANE,
            (false, _) => CHANGE_LANE,
        }
    }

    /// The first broker that can be connected to: those in use, those known, then the bootstrap addresses.
    async fn any_connection(&self, lane: u16) -> Result<Connection, ClientError> {
        let known: Vec<i32> = self.metadata().brokers.keys().copied().collect();
        let bootstrap = (0..self.era().spec.bootstrap.len()).filter_map(|i| i32::try_from(i).ok()).map(|i| -1 - i);
        let mut last = None;
        for node in known.into_iter().chain(bootstrap) {
            match self.connection(node, lane).await {
                Ok(connection) => return Ok(connection),
                // Every broker knows the same users.
                Err(error @ ClientError::Authentication { .. }) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::Unreachable {
            cluster: self.name().to_owned(),
            address: "(no bootstrap address)".to_owned(),
            detail: "nothing to connect to".to_owned(),
        }))
    }

    pub(super) fn address(&self, node: i32) -> Option<String> {
        if node < 0 {
            let index = usize::try_from(-1 - i64::from(node)).ok()?;
            return self.era().spec.bootstrap.get(index).cloned();
        }
        self.metadata().brokers.get(&node).cloned()
    }

    /// The connection to a broker on a lane; made where there is none. After a failed try the next one waits a little,
    /// so that a dead broker is not hammered.
    pub async fn connection(&self, node: i32, lane: u16) -> Result<Connection, ClientError> {
        let address = self.address(node).ok_or_else(|| ClientError::Unreachable {
            cluster: self.name().to_owned(),
            address: format!("broker {node}"),
            detail: "the cluster's metadata does not name it (any more)".to_owned(),
        })?;
        let slot = {
            let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry((node, lane)).or_default())
        };
        let mut slot = slot.lock().await;
        let era = self.era();
        slot.enter(era.number);
        if let Some(connection) = slot.connection.as_ref().filter(|c| c.is_alive() && c.address() == address) {
            return Ok(connection.clone());
        }
        slot.connection = None;
        if let Some(at) = slot.not_before.take() {
            tokio::time::sleep_until(at).await;
        }
        if let Some(error) = self.0.refusals.standing().await {
            return Err(error);
        }
        let spec = &era.spec;
        let (cluster, client_id, security) = (spec.name.clone(), spec.client_id.clone(), spec.security.clone());
        match (Dial { cluster, address, client_id, security }).connect().await {
            Ok(connection) => {
                self.0.refusals.clear();
                slot.failures = 0;
                slot.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                self.0.refusals.note(&error);
                let pause = DIAL_PAUSE.saturating_mul(1 << slot.failures.min(10)).min(DIAL_PAUSE_MAX);
                slot.failures = slot.failures.saturating_add(1);
                slot.not_before = Some(Instant::now() + pause);
                Err(error)
            }
        }
    }

    /// Connections that are open. One that is being made does not count.
    pub fn open_connections(&self) -> usize {
        let slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_open = |slot: &&SharedSlot| {
            slot.try_lock().is_ok_and(|slot| slot.connection.as_ref().is_some_and(Connection::is_alive))
        };
        slots.values().filter(is_open).count()
    }

    /// Which api versions a broker speaks: api key → lowest and highest.
    pub async fn api_versions(&self, node: i32) -> Result<HashMap<i16, (i16, i16)>, ClientError> {
        Ok(self.connection(node, ADMIN_LANE).await?.versions().clone())
    }

    /// The leader of a partition by the last metadata.
    pub fn leader_of(&self, topic: &str, partition: i32) -> Result<i32, ClientError> {
        let metadata = self.metadata();
        let leader = metadata.partition(topic, partition).and_then(|meta| meta.leader);
        leader.ok_or_else(|| {
            self.api_error("Metadata", metadata.obstacle(topic, partition), &format!("{topic}:{partition}"))
        })
    }

    /// An error code of this cluster as an error.
    pub fn api_error(&self, api: &'static str, code: i16, subject: &str) -> ClientError {
        self.api_error_with(api, code, subject, None)
    }

    /// An error code together with the broker's own words.
    pub(crate) fn api_error_with(
        &self,
        api: &'static str,
        code: i16,
        subject: &str,
        words: Option<&str>,
    ) -> ClientError {
        let error = ClientError::api(self.name(), api, code, subject, words);
        let spec = &self.era().spec;
        error.with_right(spec.principal.as_deref(), &spec.bootstrap)
    }

    pub(super) fn known_coordinator(&self, kind: KeyType, key: &str) -> Option<i32> {
        let coordinators = self.0.coordinators.lock().unwrap_or_else(PoisonError::into_inner);
        coordinators.get(&(kind, key.to_owned())).copied()
    }

    pub(super) fn note_coordinator(&self, kind: KeyType, key: &str, node: Option<i32>) {
        let mut coordinators = self.0.coordinators.lock().unwrap_or_else(PoisonError::into_inner);
        match node {
            Some(node) => coordinators.insert((kind, key.to_owned()), node),
            None => coordinators.remove(&(kind, key.to_owned())),
        };
    }
}

fn metadata_topic(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
}
