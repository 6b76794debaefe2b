//! What all nodes of the cluster share: nodes, topics, partitions, transactions. One lock guards it; nothing awaits
//! while holding it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::ResponseError;
use tokio::sync::Notify;
use uuid::Uuid;

use super::configs;
use super::fetch_session::Sessions;
use super::groups::Group;
use super::intercept::Intercepts;
use super::log::Log;
use super::options::ClusterOptions;
use super::txn::Txn;

/// Milliseconds since 1970, by the machine's clock.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// A broker of the cluster.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it listens, or listened last.
    pub(super) addr: SocketAddr,
    /// Whether it runs.
    pub(super) up: bool,
    /// Its fetch sessions; lost at a stop.
    pub(super) sessions: Sessions,
}

/// A partition: who leads it, and its log.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// The leader; `None` while every replica is down.
    pub(super) leader: Option<i32>,
    /// Counts elections.
    pub(super) leader_epoch: i32,
    /// Log end when the present leader was elected.
    pub(super) epoch_start_offset: i64,
    /// Nodes that hold it, the preferred leader first.
    pub(super) replicas: Vec<i32>,
    /// The log.
    pub(super) log: Log,
}

impl Partition {
    /// Makes `leader` the leader under the next epoch.
    pub(super) fn elect(&mut self, leader: Option<i32>) {
        self.leader = leader;
        self.leader_epoch += 1;
        if leader.is_some() {
            self.epoch_start_offset = self.log.end_offset;
            self.log.epochs.assign(self.leader_epoch, self.log.end_offset);
        }
    }

    /// KIP-320: a request may name the leader epoch it believes in; −1 means it does not care.
    pub(super) fn fence(&self, current_leader_epoch: i32) -> Result<(), ResponseError> {
        match current_leader_epoch {
            epoch if epoch < 0 || epoch == self.leader_epoch => Ok(()),
            epoch if epoch < self.leader_epoch => Err(ResponseError::FencedLeaderEpoch),
            _ => Err(ResponseError::UnknownLeaderEpoch),
        }
    }
}

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    /// Its id: new at every creation.
    pub(super) id: Uuid,
    /// Configs set on it.
    pub(super) configs: BTreeMap<String, String>,
    /// Its partitions, by index.
    pub(super) partitions: Vec<Partition>,
}

/// The shared state.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Nodes by id.
    pub(super) nodes: BTreeMap<i32, Node>,
    /// Topics by name.
    pub(super) topics: BTreeMap<String, Topic>,
    /// Names by topic id.
    pub(super) names: HashMap<Uuid, String>,
    /// Transactional ids.
    pub(super) txns: BTreeMap<String, Txn>,
    /// ACLs.
    pub(super) acls: Vec<super::acls::Binding>,
    /// Client quotas.
    pub(super) quotas: BTreeMap<super::describe_client_quotas::Entity, BTreeMap<String, f64>>,
    /// SCRAM credentials by user.
    pub(super) scram_users: BTreeMap<String, super::describe_user_scram::Mechanisms>,
    /// Groups by id.
    pub(super) groups: BTreeMap<String, Group>,
    /// Next producer id to hand out.
    pub(super) next_producer_id: i64,
    /// Throttle time put into every Produce and Fetch answer, ms.
    pub(super) throttle_ms: i32,
    /// Configs of the brokers.
    pub(super) broker_configs: BTreeMap<String, String>,
    /// Rotates the first replica of new partitions.
    placed: usize,
}

/// State and what surrounds it.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something changed that a waiting request may wait for.
    pub(super) changed: Notify,
    /// As the cluster was started.
    pub(super) options: ClusterOptions,
    /// Fault hooks.
    pub(super) intercepts: Intercepts,
}

impl Shared {
    pub(super) fn new(options: ClusterOptions) -> Self {
        let state =
            State { broker_configs: options.broker_configs.clone(), next_producer_id: 1000, ..State::default() };
        Self { state: Mutex::new(state), changed: Notify::new(), options, intercepts: Intercepts::default() }
    }

    /// The state; a panic under the lock in one test thread must not take the others' state away.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes long polls and waiting produces.
    pub(super) fn wake(&self) {
        self.changed.notify_waiters();
    }
}

impl State {
    /// A partition, by name and index.
    pub(super) fn partition(&self, topic: &str, index: i32) -> Result<&Partition, ResponseError> {
        let found = self.topics.get(topic).and_then(|topic| topic.partitions.get(usize::try_from(index).ok()?));
        found.ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// A partition, by name and index.
    pub(super) fn partition_mut(&mut self, topic: &str, index: i32) -> Result<&mut Partition, ResponseError> {
        let found = self.topics.get_mut(topic).and_then(|topic| topic.partitions.get_mut(usize::try_from(index).ok()?));
        found.ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// A partition that this node must lead.
    pub(super) fn led(&self, node: i32, topic: &str, index: i32) -> Result<&Partition, ResponseError> {
        let partition = self.partition(topic, index)?;
        if partition.leader == Some(node) { Ok(partition) } else { Err(ResponseError::NotLeaderOrFollower) }
    }

    /// A partition that this node must lead.
    pub(super) fn led_mut(&mut self, node: i32, topic: &str, index: i32) -> Result<&mut Partition, ResponseError> {
        let partition = self.partition_mut(topic, index)?;
        if partition.leader == Some(node) { Ok(partition) } else { Err(ResponseError::NotLeaderOrFollower) }
    }

    /// Effective value of a topic config; empty for an unknown topic or name.
    pub(super) fn topic_config(&self, topic: &str, name: &str) -> String {
        let (Some(topic), Some(known)) = (self.topics.get(topic), configs::topic_config(name)) else {
            return String::new();
        };
        configs::resolve(known, &topic.configs, &self.broker_configs).0.into_owned()
    }

    /// Effective value of a numeric topic config.
    pub(super) fn topic_config_number(&self, topic: &str, name: &str) -> i64 {
        self.topic_config(topic, name).parse().unwrap_or(-1)
    }

    /// Whether the topic is compacted.
    pub(super) fn is_compacted(&self, topic: &str) -> bool {
        self.topic_config(topic, "cleanup.policy").split(',').any(|part| part.trim() == "compact")
    }

    /// Effective value of a broker config.
    pub(super) fn broker_config_number(&self, name: &str) -> i64 {
        let known = configs::BROKER.iter().find(|known| known.name == name);
        let value = self.broker_configs.get(name).map(String::as_str).or(known.map(|known| known.default));
        value.and_then(|value| value.parse().ok()).unwrap_or(-1)
    }

    /// Creates a topic; the caller has checked name, counts and configs.
    pub(super) fn create_topic(
        &mut self,
        name: &str,
        partitions: usize,
        replicas: usize,
        configs: BTreeMap<String, String>,
    ) -> Uuid {
        let id = new_uuid();
        self.insert_topic(name, id, configs, Vec::new());
        self.add_partitions(name, partitions, replicas);
        id
    }

    /// Puts a topic in its place under this id.
    pub(super) fn insert_topic(
        &mut self,
        name: &str,
        id: Uuid,
        configs: BTreeMap<String, String>,
        partitions: Vec<Partition>,
    ) {
        self.names.insert(id, name.to_owned());
        self.topics.insert(name.to_owned(), Topic { id, configs, partitions });
    }

    /// Adds partitions to a topic, placed round-robin.
    pub(super) fn add_partitions(&mut self, name: &str, count: usize, replicas: usize) {
        let nodes: Vec<i32> = self.nodes.keys().copied().collect();
        for _ in 0..count {
            let order = (0..nodes.len().min(replicas)).filter_map(|at| nodes.get((self.placed + at) % nodes.len()));
            let replicas: Vec<i32> = order.copied().collect();
            self.placed += 1;
            let leader = self.first_up(&replicas);
            let mut partition = Partition { leader_epoch: -1, replicas, ..Partition::default() };
            partition.elect(leader);
            if let Some(topic) = self.topics.get_mut(name) {
                topic.partitions.push(partition);
            }
        }
    }

    /// Deletes a topic; false when there is none.
    pub(super) fn delete_topic(&mut self, name: &str) -> bool {
        let Some(topic) = self.topics.remove(name) else { return false };
        self.names.remove(&topic.id);
        self.forget_offsets_of(name);
        true
    }

    fn first_up(&self, replicas: &[i32]) -> Option<i32> {
        replicas.iter().copied().find(|id| self.nodes.get(id).is_some_and(|node| node.up))
    }

    /// A node came or went: partitions whose leader is gone get another, those without one get one back.
    pub(super) fn reelect(&mut self) {
        let up: Vec<i32> = self.nodes.iter().filter(|(_, node)| node.up).map(|(id, _)| *id).collect();
        for partition in self.topics.values_mut().flat_map(|topic| topic.partitions.iter_mut()) {
            let alive = partition.leader.is_some_and(|leader| up.contains(&leader));
            let candidate = partition.replicas.iter().copied().find(|id| up.contains(id));
            if !alive && (partition.leader.is_some() || candidate.is_some()) {
                partition.elect(candidate);
            }
        }
    }

    /// Forgets producers whose newest record is older than `producer.id.expiration.ms`.
    pub(super) fn sweep_producers(&mut self, now_ms: i64) {
        let before_ms = now_ms - self.broker_config_number("producer.id.expiration.ms");
        for partition in self.topics.values_mut().flat_map(|topic| topic.partitions.iter_mut()) {
            partition.log.expire_producers(before_ms);
        }
    }

    /// The controller, which is also who answers for new producer ids: the lowest node that runs.
    pub(super) fn controller(&self) -> Option<i32> {
        self.nodes.iter().find(|(_, node)| node.up).map(|(id, _)| *id)
    }

    /// The coordinator of a group or transactional id: fixed by the key while the same nodes run.
    pub(super) fn coordinator(&self, key: &str) -> Option<i32> {
        let up: Vec<i32> = self.nodes.iter().filter(|(_, node)| node.up).map(|(id, _)| *id).collect();
        let sum = key.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        up.get(sum.checked_rem(up.len())?).copied()
    }
}

/// A random id without a random-number crate: the standard library seeds its hasher from the system.
fn new_uuid() -> Uuid {
    let high = RandomState::new().build_hasher().finish();
    let low = RandomState::new().build_hasher().finish();
    Uuid::from_u64_pair(high, low)
}
