//! What a cluster says of itself: brokers, topics, leaders.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use uuid::Uuid;

use super::TopicPartition;

/// Which topics to ask for.
#[derive(Debug, Clone, Copy)]
pub enum Topics<'a> {
    /// All that the principal may see.
    All,
    /// The same; and of these, where they are not among them, what is wrong: a cluster does not tell of topics that the
    /// principal may not see, unless it is asked by name.
    AllAnd(&'a [&'a str]),
    /// These; what is not there any more is forgotten.
    Named(&'a [&'a str]),
}

/// A cluster at one moment. A refresh makes a new one.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// Broker id → host:port.
    pub brokers: BTreeMap<i32, String>,
    /// Broker id of the controller, as far as clients need it (any broker forwards under KRaft).
    pub controller: Option<i32>,
    /// Brokers that hold replicas of what was asked about last, and that the cluster does not name.
    pub lost_brokers: BTreeSet<i32>,
    /// Topic name → topic.
    pub topics: HashMap<String, TopicMeta>,
}

/// A topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicMeta {
    /// Topic id (KIP-516); nil before Kafka 2.8.
    pub id: Uuid,
    /// Topic name.
    pub name: String,
    /// Whether Kafka keeps it for itself (`__consumer_offsets`).
    pub internal: bool,
    /// Error code; 0 where all is well.
    pub error: i16,
    /// Partitions by number.
    pub partitions: Vec<PartitionMeta>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMeta {
    /// Leader's broker id; `None` while there is none.
    pub leader: Option<i32>,
    /// Leader epoch (KIP-320); −1 where not told.
    pub leader_epoch: i32,
    /// Replicas, leader or not.
    pub replicas: usize,
    /// Those of them that are in sync.
    pub in_sync: usize,
    /// Error code: why there is no leader; 0 where all is well.
    pub error: i16,
}

impl PartitionMeta {
    /// One of which nothing is known.
    pub(crate) const UNKNOWN: Self = Self { leader: None, leader_epoch: -1, replicas: 0, in_sync: 0, error: 0 };
}

impl TopicMeta {
    /// Its partitions, as they are asked for.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = TopicPartition> + use<> {
        let tp = TopicPartition { topic: self.name.clone(), topic_id: self.id, partition: 0 };
        (0..).take(self.partitions.len()).map(move |partition| TopicPartition { partition, ..tp.clone() })
    }
}

impl Metadata {
    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<&TopicMeta> {
        self.topics.get(name)
    }

    /// Why a partition has no leader to ask, as an error code.
    pub(crate) fn obstacle(&self, topic: &str, partition: i32) -> i16 {
        let told = |code: i16, otherwise| if code == 0 { otherwise } else { code };
        match (self.partition(topic, partition), self.topic(topic)) {
            (Some(known), _) => told(known.error, LEADER_NOT_AVAILABLE),
            (None, Some(topic)) => told(topic.error, UNKNOWN_TOPIC_OR_PARTITION),
            (None, None) => UNKNOWN_TOPIC_OR_PARTITION,
        }
    }

    /// A partition by topic name and number.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionMeta> {
        self.topic(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    /// The metadata after a response to `asked`.
    pub(crate) fn merged(&self, asked: Topics<'_>, response: MetadataResponse) -> Self {
        let brokers: BTreeMap<i32, String> =
            response.brokers.iter().map(|b| (b.node_id.0, format!("{}:{}", host(&b.host), b.port))).collect();
        let replicas = response.topics.iter().flat_map(|topic| &topic.partitions).flat_map(|p| &p.replica_nodes);
        let lost_brokers = replicas.map(|id| id.0).filter(|id| !brokers.contains_key(id)).collect();
        let mut topics = match asked {
            Topics::All | Topics::AllAnd(_) => HashMap::with_capacity(response.topics.len()),
            Topics::Named(names) => {
                let mut kept = self.topics.clone();
                for name in names {
                    kept.remove(*name);
                }
                kept
            }
        };
        for topic in response.topics {
            let Some(name) = topic.name.as_ref().map(|n| n.to_string()) else { continue };
            if topic.error_code == UNKNOWN_TOPIC_OR_PARTITION {
                continue;
            }
            let fresh = topic_meta(name.clone(), &topic);
            let fresh = match self.topics.get(&name) {
                // An error says nothing of the leaders: those known are asked, and tell each partition what is wrong.
                Some(known) if fresh.error != 0 && fresh.partitions.is_empty() => {
                    TopicMeta { error: fresh.error, ..known.clone() }
                }
                Some(known) if known.id == fresh.id => newer_leaders(known, fresh),
                _ => fresh,
            };
            topics.insert(name, fresh);
        }
        let controller = Some(response.controller_id.0).filter(|id| *id >= 0);
        Self { brokers, controller, lost_brokers, topics }
    }
}

pub(super) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;

/// IPv6 addresses in brackets, so that a port can follow.
fn host(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn topic_meta(name: String, topic: &MetadataResponseTopic) -> TopicMeta {
    let mut partitions: Vec<&MetadataResponsePartition> = topic.partitions.iter().collect();
    partitions.sort_by_key(|p| p.partition_index);
    // Numbered from 0 without holes: what comes behind a hole is not usable yet.
    let partitions = partitions
        .into_iter()
        .zip(0..)
        .take_while(|(p, number)| p.partition_index == *number)
        .map(|(p, _)| PartitionMeta {
            leader: Some(p.leader_id.0).filter(|id| *id >= 0),
            leader_epoch: p.leader_epoch,
            replicas: p.replica_nodes.len(),
            in_sync: p.isr_nodes.len(),
            error: p.error_code,
        })
        .collect();
    TopicMeta { id: topic.topic_id, name, internal: topic.is_internal, error: topic.error_code, partitions }
}

/// A broker that lags may name a leader of the past: the higher leader epoch stands (KIP-320).
fn newer_leaders(known: &TopicMeta, mut fresh: TopicMeta) -> TopicMeta {
    for (fresh, known) in fresh.partitions.iter_mut().zip(&known.partitions) {
        if fresh.leader_epoch < known.leader_epoch && fresh.leader_epoch >= 0 {
            *fresh = known.clone();
        }
    }
    fresh
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{BrokerId, TopicName};
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn response(topic: &str, id: u128, leaders: &[(i32, i32, i32)]) -> MetadataResponse {
        let partitions = leaders
            .iter()
            .map(|(index, leader, epoch)| {
                MetadataResponsePartition::default()
                    .with_partition_index(*index)
                    .with_leader_id(BrokerId(*leader))
                    .with_leader_epoch(*epoch)
            })
            .collect();
        let topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_string(topic.to_owned()))))
            .with_topic_id(Uuid::from_u128(id))
            .with_partitions(partitions);
        MetadataResponse::default().with_topics(vec![topic])
    }

    #[test]
    fn a_broker_that_lags_does_not_bring_an_old_leader_back() {
        let at_first = Metadata::default().merged(Topics::All, response("t", 1, &[(0, 1, 5)]));
        let later = at_first.merged(Topics::All, response("t", 1, &[(0, 2, 4)]));
        assert_eq!(later.partition("t", 0).unwrap().leader, Some(1));
        let later = later.merged(Topics::All, response("t", 1, &[(0, 2, 6)]));
        assert_eq!(later.partition("t", 0).unwrap().leader, Some(2));
        let recreated = later.merged(Topics::All, response("t", 2, &[(0, 3, 0)]));
        assert_eq!(recreated.partition("t", 0).unwrap().leader, Some(3));
    }

    #[test]
    fn named_topics_that_are_gone_are_forgotten_and_others_stay() {
        let both = Metadata::default()
            .merged(Topics::Named(&["a"]), response("a", 1, &[(0, 1, 0)]))
            .merged(Topics::Named(&["b"]), response("b", 2, &[(1, 1, 0), (0, -1, 0)]));
        assert_eq!(both.topics.len(), 2);
        assert_eq!(both.partition("b", 0).unwrap().leader, None);
        let less = both.merged(Topics::Named(&["a"]), MetadataResponse::default());
        assert!(less.topic("a").is_none() && less.topic("b").is_some());
    }

    #[test]
    fn an_error_of_a_topic_keeps_the_leaders_that_are_known() {
        const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
        let known = Metadata::default().merged(Topics::All, response("t", 1, &[(0, 1, 5)]));
        let mut refused = response("t", 0, &[]);
        refused.topics[0].error_code = TOPIC_AUTHORIZATION_FAILED;
        let kept = known.merged(Topics::Named(&["t"]), refused.clone());
        assert_eq!(kept.partition("t", 0).unwrap().leader, Some(1));
        assert_eq!((kept.topic("t").unwrap().id, kept.topic("t").unwrap().error), (Uuid::from_u128(1), 29));
        let back = kept.merged(Topics::All, response("t", 1, &[(0, 2, 6)]));
        assert_eq!((back.partition("t", 0).unwrap().leader, back.topic("t").unwrap().error), (Some(2), 0));
        assert!(Metadata::default().merged(Topics::All, refused).partition("t", 0).is_none());
    }

    #[test]
    fn what_keeps_a_partition_from_being_asked_is_told() {
        const LISTENER_NOT_FOUND: i16 = 72;
        let mut answer = response("t", 1, &[(0, -1, 0), (1, -1, 0), (2, 1, 0)]);
        answer.topics[0].partitions[1].error_code = LISTENER_NOT_FOUND;
        let metadata = Metadata::default().merged(Topics::All, answer);
        let obstacles = [0, 1, 3].map(|partition| metadata.obstacle("t", partition));
        assert_eq!(obstacles, [LEADER_NOT_AVAILABLE, LISTENER_NOT_FOUND, UNKNOWN_TOPIC_OR_PARTITION]);
        assert_eq!(metadata.obstacle("u", 0), UNKNOWN_TOPIC_OR_PARTITION);
        let mut refused = response("u", 0, &[]);
        refused.topics[0].error_code = 29;
        assert_eq!(metadata.merged(Topics::Named(&["u"]), refused).obstacle("u", 0), 29);
    }

    #[test]
    fn partitions_behind_a_hole_wait() {
        let metadata = Metadata::default().merged(Topics::All, response("t", 1, &[(0, 1, 0), (2, 1, 0)]));
        assert_eq!(metadata.topic("t").unwrap().partitions.len(), 1);
    }
}
