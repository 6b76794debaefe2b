//! Kafka's own Java clients, in one JVM that all tests share (`proto-tests/java/Driver.java`).

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::cluster::run_folder;
use super::dump::Dump;
use super::jars;
use super::process::tail;

/// Longer than any time limit inside the driver, so that its own, better error comes first.
const ANSWER_LIMIT: Duration = Duration::from_secs(400);

/// The driver of this test run, started at the first call.
pub(crate) fn driver() -> &'static Driver {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    DRIVER.get_or_init(Driver::start)
}

/// A topic to create.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TopicSpec {
    topic: String,
    partitions: i32,
    replication: i16,
    configs: HashMap<String, String>,
}

impl TopicSpec {
    /// One replica, the broker's defaults for the rest.
    pub(crate) fn new(topic: &str, partitions: i32) -> Self {
        Self { topic: topic.to_owned(), partitions, replication: 1, configs: HashMap::new() }
    }

    /// What the topic is called.
    pub(crate) fn name(&self) -> &str {
        &self.topic
    }

    /// Replicas of each partition.
    pub(crate) fn replication(mut self, replication: i16) -> Self {
        self.replication = replication;
        self
    }

    /// A topic config.
    pub(crate) fn set<T: ToString + Copy>(mut self, key: &str, value: T) -> Self {
        self.configs.insert(key.to_owned(), value.to_string());
        self
    }
}

/// What a producer writes. The records are a function of `seed` alone: the same spec writes the same bytes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Produce {
    /// The topic.
    pub(crate) topic: String,
    /// Records to write.
    pub(crate) count: u64,
    /// Chooses the content.
    pub(crate) seed: u64,
    /// Records go round over this many partitions (with bursts: burst by burst) …
    pub(crate) partitions: i32,
    /// … or all to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partition: Option<i32>,
    /// What values look like: `text`, or `json` as services send it.
    pub(crate) kind: &'static str,
    /// none, gzip, snappy, lz4 or zstd.
    pub(crate) codec: &'static str,
    /// `batch.size` in bytes.
    pub(crate) batch_size: usize,
    /// `linger.ms`.
    pub(crate) linger_ms: u32,
    /// Whether the producer is idempotent (always, in a transaction).
    pub(crate) idempotent: bool,
    /// Smallest value, bytes.
    pub(crate) value_min: usize,
    /// Largest value, bytes.
    pub(crate) value_max: usize,
    /// Different keys.
    pub(crate) keys: u32,
    /// Share of records without a key.
    pub(crate) null_keys: f64,
    /// Share of records without a value.
    pub(crate) null_values: f64,
    /// Each record has 0 to this many headers: three names, so duplicates are common; null and empty values.
    pub(crate) headers_max: u32,
    /// Timestamp of the first record, ms; 0 leaves timestamps to the producer's clock.
    pub(crate) timestamp: i64,
    /// Milliseconds from record to record.
    pub(crate) timestamp_step: i64,
    /// With `burst_max` > 0 the producer is flushed after a random number of records in this range: with a long linger
    /// and a large batch size a burst is one batch.
    pub(crate) burst_min: u32,
    /// See `burst_min`.
    pub(crate) burst_max: u32,
}

impl Produce {
    /// `count` records of 100 bytes for partition 0, uncompressed.
    pub(crate) fn new(topic: &str, count: u64) -> Self {
        Self {
            topic: topic.to_owned(),
            count,
            seed: 1,
            partitions: 1,
            partition: None,
            kind: "text",
            codec: "none",
            batch_size: 16_384,
            linger_ms: 5,
            idempotent: true,
            value_min: 100,
            value_max: 100,
            keys: 1_000,
            null_keys: 0.0,
            null_values: 0.0,
            headers_max: 0,
            timestamp: 0,
            timestamp_step: 1,
            burst_min: 0,
            burst_max: 0,
        }
    }

    /// All the oddities a record may have: null keys and values, headers, sizes from empty to 2 KB.
    pub(crate) fn odd(topic: &str, count: u64) -> Self {
        Self {
            value_min: 0,
            value_max: 2_000,
            null_keys: 0.2,
            null_values: 0.1,
            headers_max: 5,
            timestamp: 1_700_000_000_000,
            timestamp_step: 7,
            ..Self::new(topic, count)
        }
    }
}

/// What transactional producers write: the records of `produce`, dealt out in turns to several producers, each of which
/// ends its transaction after `records_per_transaction`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Transact {
    /// The records.
    #[serde(flatten)]
    pub(crate) produce: Produce,
    /// Producers side by side: their transactions interleave in every partition.
    pub(crate) producers: u32,
    /// Records before each commit or abort.
    pub(crate) records_per_transaction: u32,
    /// Every n-th transaction of a producer is aborted; 0 for none.
    pub(crate) abort_every: u32,
    /// Leaves the last transactions open for the broker to time out.
    pub(crate) leave_open: bool,
    /// `transaction.timeout.ms`.
    pub(crate) transaction_timeout_ms: u32,
}

impl Transact {
    /// One producer, ten records a transaction, every third aborted.
    pub(crate) fn new(produce: Produce) -> Self {
        Self {
            produce,
            producers: 1,
            records_per_transaction: 10,
            abort_every: 3,
            leave_open: false,
            transaction_timeout_ms: 60_000,
        }
    }
}

/// What became of the records of a [`Transact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Transacted {
    /// Records in committed transactions.
    pub(crate) committed: u64,
    /// Records in aborted ones.
    pub(crate) aborted: u64,
    /// Records in those left open.
    pub(crate) left_open: u64,
}

/// A partition's offsets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct PartitionOffsets {
    /// The topic.
    pub(crate) topic: String,
    /// The partition.
    pub(crate) partition: i32,
    /// Log start.
    pub(crate) start: i64,
    /// High watermark.
    pub(crate) end: i64,
    /// Last stable offset.
    pub(crate) stable_end: i64,
}

/// A producer as `describeProducers` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ProducerState {
    /// Its id.
    pub(crate) producer_id: i64,
    /// Its epoch.
    pub(crate) producer_epoch: i32,
    /// Sequence of its last record; −1 where its epoch has written none.
    pub(crate) last_sequence: i32,
    /// Of its last batch, ms.
    pub(crate) last_timestamp: i64,
    /// First offset of its open transaction; −1 for none.
    pub(crate) transaction_start: i64,
}

/// A partition as `describeTopics` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct PartitionInfo {
    /// The partition.
    pub(crate) partition: i32,
    /// Leader's node id, −1 for none.
    pub(crate) leader: i32,
    /// Node ids.
    pub(crate) replicas: Vec<i32>,
    /// Node ids in sync.
    pub(crate) isr: Vec<i32>,
}

/// A record, read by the Java consumer. Key and values of headers and record are base64, as they came.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct FullRecord {
    /// The topic.
    pub(crate) topic: String,
    /// The partition.
    pub(crate) partition: i32,
    /// The offset.
    pub(crate) offset: i64,
    /// Milliseconds.
    pub(crate) timestamp: i64,
    /// 0 CreateTime, 1 LogAppendTime.
    pub(crate) timestamp_type: i8,
    /// Base64 or null.
    pub(crate) key: Option<String>,
    /// Base64 or null.
    pub(crate) value: Option<String>,
    /// Name and base64 or null, in their order.
    pub(crate) headers: Vec<(String, Option<String>)>,
}

type Waiting = Arc<Mutex<HashMap<u64, Sender<Value>>>>;

/// The JVM and who waits for its answers.
#[derive(Debug)]
pub(crate) struct Driver {
    _jvm: Child,
    input: Mutex<ChildStdin>,
    waiting: Waiting,
    next_id: AtomicU64,
    folder: std::path::PathBuf,
}

impl Driver {
    fn start() -> Self {
        let folder = run_folder("driver");
        let log = std::fs::File::create(folder.join("driver.log")).expect("the driver's log can be created");
        let mut jvm = Command::new("java")
            .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:-UsePerfData"])
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", &jars::driver_class_path(), "Driver"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("java runs");
        let input = Mutex::new(jvm.stdin.take().expect("piped"));
        let output = jvm.stdout.take().expect("piped");
        let waiting = Waiting::default();
        let dispatcher = Arc::clone(&waiting);
        std::thread::spawn(move || dispatch(output, &dispatcher));
        Self { _jvm: jvm, input, waiting, next_id: AtomicU64::new(1), folder }
    }

    /// Sends one command and waits for its answer; other tests' commands run at the same time.
    fn call(&self, command: &str, bootstrap: &str, args: Value) -> Map<String, Value> {
        self.try_call(command, bootstrap, args).unwrap_or_else(|error| panic!("driver: {command}: {error}"))
    }

    /// The same, for commands that may fail; the error is Java's stack trace.
    pub(crate) fn try_call(&self, command: &str, bootstrap: &str, args: Value) -> Result<Map<String, Value>, String> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let Value::Object(mut request) = args else { panic!("arguments of {command} are no object") };
        request.insert("id".to_owned(), json!(id));
        request.insert("cmd".to_owned(), json!(command));
        request.insert("bootstrap".to_owned(), json!(bootstrap));
        let answer = self.ask(id, &Value::Object(request))?;
        let Value::Object(answer) = answer else { return Err(format!("no object: {answer}")) };
        if answer.get("ok") == Some(&Value::Bool(true)) {
            return Ok(answer);
        }
        Err(answer.get("error").and_then(Value::as_str).unwrap_or("no reason given").to_owned())
    }

    fn ask(&self, id: u64, request: &Value) -> Result<Value, String> {
        let (sender, receiver): (Sender<Value>, Receiver<Value>) = channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        {
            let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(input, "{request}").and_then(|()| input.flush()).map_err(|error| self.lost(&error.to_string()))?;
        }
        receiver.recv_timeout(ANSWER_LIMIT).map_err(|error| self.lost(&error.to_string()))
    }

    fn lost(&self, cause: &str) -> String {
        format!("{cause}; the driver's log ends:\n{}", tail(&self.folder.join("driver.log")))
    }

    /// Creates a topic; gives its id in Kafka's base64.
    pub(crate) fn create_topic(&self, bootstrap: &str, spec: &TopicSpec) -> String {
        let answer = self.call("create_topic", bootstrap, json!(spec));
        parsed(&answer, "topic_id")
    }

    /// The node that leads the quorum of controllers.
    pub(crate) fn controller(&self, bootstrap: &str) -> u16 {
        parsed(&self.call("cluster", bootstrap, json!({})), "controller")
    }

    /// Sets a quota of a client id, or removes it.
    pub(crate) fn set_quota(&self, bootstrap: &str, client: &str, quota: &str, bytes_per_s: Option<u32>) {
        let args = json!({ "client": client, "quota": quota, "value": bytes_per_s });
        self.call("set_quota", bootstrap, args);
    }

    /// Gives a user a SCRAM credential.
    pub(crate) fn set_scram(&self, bootstrap: &str, user: &str, mechanism: &str, iterations: u32, password: &str) {
        let args = json!({ "user": user, "mechanism": mechanism, "iterations": iterations, "password": password });
        self.call("set_scram", bootstrap, args);
    }

    /// Adds an ACL that allows; `resource` is its type, name and pattern by Kafka's words.
    pub(crate) fn allow(&self, bootstrap: &str, resource: [&str; 3], principal: &str, operation: &str) {
        let [resource, name, pattern] = resource;
        let args = json!({
            "resource": resource, "name": name, "pattern": pattern, "principal": principal, "operation": operation,
        });
        self.call("allow", bootstrap, args);
    }

    /// Denies operations on a topic to whoever comes from an address, in place of what was denied before.
    pub(crate) fn deny(&self, bootstrap: &str, topic: &str, host: &str, operations: &[&str]) {
        self.call("deny", bootstrap, json!({ "topic": topic, "host": host, "operations": operations }));
    }

    /// Transactional ids that the cluster remembers.
    pub(crate) fn transactional_ids(&self, bootstrap: &str) -> Vec<String> {
        parsed(&self.call("transactions", bootstrap, json!({})), "ids")
    }

    /// High watermarks of these partitions of a topic, in their order; no other is asked about.
    pub(crate) fn ends_of(&self, bootstrap: &str, topic: &str, partitions: &[i32]) -> Vec<i64> {
        parsed(&self.call("ends_of", bootstrap, json!({ "topic": topic, "partitions": partitions })), "ends")
    }

    /// Deletes a topic.
    pub(crate) fn delete_topic(&self, bootstrap: &str, topic: &str) {
        self.call("delete_topic", bootstrap, json!({ "topic": topic }));
    }

    /// Grows a topic to this many partitions.
    pub(crate) fn add_partitions(&self, bootstrap: &str, topic: &str, partitions: i32) {
        self.call("add_partitions", bootstrap, json!({ "topic": topic, "partitions": partitions }));
    }

    /// Sets topic configs.
    pub(crate) fn alter_configs(&self, bootstrap: &str, topic: &str, configs: &[(&str, &str)]) {
        let configs: HashMap<_, _> = configs.iter().copied().collect();
        self.call("alter_configs", bootstrap, json!({ "topic": topic, "configs": configs }));
    }

    /// The configs set on the topic itself.
    pub(crate) fn topic_configs(&self, bootstrap: &str, topic: &str) -> HashMap<String, String> {
        parsed(&self.call("topic_configs", bootstrap, json!({ "topic": topic })), "configs")
    }

    /// All topics, internal ones left out.
    pub(crate) fn list_topics(&self, bootstrap: &str) -> Vec<String> {
        parsed(&self.call("list_topics", bootstrap, json!({})), "topics")
    }

    /// Leaders and replicas by partition.
    pub(crate) fn describe_topic(&self, bootstrap: &str, topic: &str) -> Vec<PartitionInfo> {
        parsed(&self.call("describe_topic", bootstrap, json!({ "topic": topic })), "partitions")
    }

    /// DeleteRecords below `before`; gives the log start after it.
    pub(crate) fn delete_records(&self, bootstrap: &str, topic: &str, partition: i32, before: i64) -> i64 {
        let args = json!({ "topic": topic, "partition": partition, "before": before });
        parsed(&self.call("delete_records", bootstrap, args), "low_watermark")
    }

    /// Start, high watermark and last stable offset of all partitions, by topic and partition.
    pub(crate) fn offsets(&self, bootstrap: &str, topics: &[&str]) -> Vec<PartitionOffsets> {
        let answer = self.call("offsets", bootstrap, json!({ "topics": topics }));
        let mut rows: Vec<PartitionOffsets> = parsed(&answer, "partitions");
        rows.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        rows
    }

    /// The producers that a partition's leader remembers.
    pub(crate) fn producers(&self, bootstrap: &str, topic: &str, partition: i32) -> Vec<ProducerState> {
        let args = json!({ "topic": topic, "partition": partition });
        parsed(&self.call("describe_producers", bootstrap, args), "producers")
    }

    /// Makes a replica the leader (preferred replica first, then an election).
    pub(crate) fn move_leader(&self, bootstrap: &str, topic: &str, partition: i32, leader: i32) {
        self.call("move_leader", bootstrap, json!({ "topic": topic, "partition": partition, "leader": leader }));
    }

    /// Bytes that the logs of a topic take on disk, over all replicas.
    pub(crate) fn log_bytes(&self, bootstrap: &str, topic: &str) -> u64 {
        parsed(&self.call("log_bytes", bootstrap, json!({ "topic": topic })), "bytes")
    }

    /// Writes, and checks that every record was acknowledged.
    pub(crate) fn produce(&self, bootstrap: &str, spec: &Produce) {
        let acknowledged: u64 = parsed(&self.call("produce", bootstrap, json!(spec)), "acknowledged");
        assert_eq!(acknowledged, spec.count, "records acknowledged of {spec:?}");
    }

    /// Writes in transactions.
    pub(crate) fn transact(&self, bootstrap: &str, spec: &Transact) -> Transacted {
        let answer = self.call("transact", bootstrap, json!(spec));
        let done: Transacted = serde_json::from_value(Value::Object(answer)).expect("counts of a transact");
        assert_eq!(done.committed + done.aborted + done.left_open, spec.produce.count, "records of {spec:?}");
        done
    }

    /// Writes rolling records until compaction has left at least `min_holes` holes in every partition of a topic with
    /// `cleanup.policy=compact` and a small `segment.ms`.
    pub(crate) fn compact(&self, bootstrap: &str, topic: &str, min_holes: u32) {
        self.call("compact", bootstrap, json!({ "topic": topic, "min_holes": min_holes }));
    }

    /// Digests of all records, read with read_committed from start to end. Made for millions.
    pub(crate) fn dump(&self, bootstrap: &str, topics: &[&str]) -> Dump {
        let file = tempfile::NamedTempFile::new_in(&self.folder).expect("a file for the dump");
        let args = json!({ "topics": topics, "file": path_text(file.path()) });
        let count: u64 = parsed(&self.call("dump", bootstrap, args), "count");
        let bytes = std::fs::read(file.path()).expect("the dump can be read");
        let dump = Dump::parse(&bytes).unwrap_or_else(|error| panic!("the driver's dump: {error}"));
        assert_eq!(dump.len() as u64, count, "records in the dump");
        dump
    }

    /// Makes a consumer join a group by the protocol `classic` or `consumer` (KIP-848), whereupon it has its assignment, or
    /// `share` (KIP-932). It stays until [`Self::leave_group`], and commits nothing.
    pub(crate) fn join_group(&self, bootstrap: &str, group: &str, topic: &str, protocol: &str) {
        self.call("join_group", bootstrap, json!({ "group": group, "topics": [topic], "protocol": protocol }));
    }

    /// Ends the consumer that [`Self::join_group`] made.
    pub(crate) fn leave_group(&self, bootstrap: &str, group: &str) {
        self.call("leave_group", bootstrap, json!({ "group": group }));
    }

    /// Reads on as the only member of a group: at most `max` records, or all that there are; commits behind the last one of each
    /// partition, and leaves. `protocol` is `classic` or `consumer`.
    pub(crate) fn read_on(
        &self,
        bootstrap: &str,
        group: &str,
        topic: &str,
        protocol: &str,
        max: Option<u64>,
    ) -> Vec<FullRecord> {
        let mut args = json!({ "group": group, "topic": topic, "protocol": protocol });
        if let Some(max) = max {
            args["max"] = json!(max);
        }
        parsed(&self.call("read_on", bootstrap, args), "records")
    }

    /// All records in full; for small topics. `isolation` is `read_committed` or `read_uncommitted`.
    pub(crate) fn records(&self, bootstrap: &str, topic: &str, isolation: &str) -> Vec<FullRecord> {
        let args = json!({ "topics": [topic], "isolation": isolation });
        let mut records: Vec<FullRecord> = parsed(&self.call("records", bootstrap, args), "records");
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }
}

fn dispatch(output: ChildStdout, waiting: &Waiting) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { break };
        let Ok(answer) = serde_json::from_str::<Value>(&line) else { continue };
        let id = answer.get("id").and_then(Value::as_u64).unwrap_or(0);
        if let Some(sender) = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) {
            let _ = sender.send(answer);
        }
    }
    // The JVM is gone: senders dropped wake all who wait.
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

fn parsed<T: for<'a> Deserialize<'a>>(answer: &Map<String, Value>, field: &str) -> T {
    let value = answer.get(field).cloned().unwrap_or(Value::Null);
    serde_json::from_value(value).unwrap_or_else(|error| panic!("driver: {field} of {answer:?}: {error}"))
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("the path of the build folder is UTF-8")
}
