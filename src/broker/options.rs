//! How a cluster is started.

use std::collections::BTreeMap;
use std::time::Duration;

/// Options of an embedded cluster.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Brokers; their ids are `1..=nodes`.
    pub nodes: i32,
    /// Cluster id as Metadata tells it.
    pub cluster_id: String,
    /// Partitions of a topic that is created without saying how many (`num.partitions`).
    pub default_partitions: i32,
    /// Replicas of a topic that is created without saying how many (`default.replication.factor`).
    pub default_replication_factor: i16,
    /// Whether Metadata with `allow_auto_topic_creation` creates topics, as Kafka does by default.
    pub auto_create_topics: bool,
    /// Broker configs, by Kafka's names; they show up in DescribeConfigs and stand in for topic configs.
    pub broker_configs: BTreeMap<String, String>,
    /// Between the answer to EndTxn and the markers; zero writes them before the answer.
    pub txn_marker_delay: Duration,
    /// Larger requests close the connection (`socket.request.max.bytes`).
    pub max_frame_bytes: usize,
    /// Bytes that a partition may hold, on top of `retention.bytes`: bounds the memory. `None`: no bound.
    pub partition_bytes_max: Option<u64>,
    /// Fetch sessions per node (`max.incremental.fetch.session.cache.slots`).
    pub fetch_sessions_max: usize,
    /// How often producers are expired by record time (`producer.id.expiration.ms`); `None`: only when a test asks.
    pub producer_sweep_interval: Option<Duration>,
    /// The client id that every request must bear; any other closes the connection without an answer. Keeps others on the
    /// machine from reading what is not for them: make it long and random, and do not log it.
    pub client_id_required: Option<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            cluster_id: "kmirror-embedded-cluster".to_owned(),
            default_partitions: 1,
            default_replication_factor: 1,
            auto_create_topics: true,
            broker_configs: BTreeMap::new(),
            txn_marker_delay: Duration::from_millis(1),
            max_frame_bytes: 100 * 1024 * 1024,
            partition_bytes_max: None,
            fetch_sessions_max: 1000,
            producer_sweep_interval: None,
            client_id_required: None,
        }
    }
}
