//! One scenario's mirror, its workload, and the checker at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Rig;
use crate::e2e::Mirror;
use crate::e2e::crash::assert_map_is_exact;
use crate::e2e::mirror::{LIMIT, end_offsets};
use crate::kafka::harness::dump::{Digest, TopicPartition};
use crate::kafka::harness::proxy::Fault;
use crate::kafka::harness::{Cluster, ClusterSpec, Dump, Produce, TopicSpec, Version, compare, driver, wait_until};

pub(crate) const PARTITIONS: i32 = 4;
const CODECS: [&str; 5] = ["none", "lz4", "zstd", "snappy", "gzip"];
/// Between two rounds.
const PACE: Duration = Duration::from_millis(50);
/// Records of one round of the workload.
const ROUND: u64 = 200;

/// How often a broker looks for transactions whose time is up, ms.
const TIMED_OUT_EVERY: &str = "transaction.abort.timed.out.transaction.cleanup.interval.ms";

/// A source and a target of one node each, both behind proxies.
pub(crate) struct Pair {
    pub(crate) source: Cluster,
    pub(crate) target: Cluster,
}

impl Rig for Pair {
    fn start() -> Self {
        let start = || Cluster::start(ClusterSpec::new(Version::V4_3_1).proxied().set(TIMED_OUT_EVERY, "500"));
        std::thread::scope(|scope| {
            let source = scope.spawn(start);
            let target = start();
            Self { source: source.join().unwrap(), target }
        })
    }

    fn heal(&mut self) {
        revive(&mut self.source, 1);
        revive(&mut self.target, 1);
    }
}

/// Three nodes, and one; all behind proxies.
pub(crate) struct Three {
    pub(crate) three: Cluster,
    pub(crate) one: Cluster,
}

impl Rig for Three {
    fn start() -> Self {
        let start = |nodes| Cluster::start(ClusterSpec::new(Version::V4_3_1).nodes(nodes).proxied());
        Self { three: start(3), one: start(1) }
    }

    fn heal(&mut self) {
        (1..=3).for_each(|node| revive(&mut self.three, node));
        revive(&mut self.one, 1);
    }
}

fn revive(cluster: &mut Cluster, node: u16) {
    cluster.disturb(Fault::None);
    cluster.continue_node(node);
    if !cluster.is_up(node) {
        cluster.restart_node(node);
    }
}

/// Records written round by round, each another kind of batch, until told to stop.
pub(crate) struct Workload {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Workload {
    fn start(bootstrap: &str, topic: &str, first: u64) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
        let (until, count) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            for seed in first.. {
                if until.load(Ordering::SeqCst) {
                    return;
                }
                driver().produce(&bootstrap, &round(&topic, seed));
                count.fetch_add(ROUND, Ordering::SeqCst);
                // Kept slow, so that a scenario's length does not blow up what is compared in the end.
                std::thread::sleep(PACE);
            }
        });
        Self { stop, written, thread: Some(thread) }
    }

    /// Records acknowledged so far.
    fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().expect("it is finished once");
        thread.join().expect("the workload was acknowledged");
        self.written()
    }
}

/// That of a scenario that failed must not go on under the others.
impl Drop for Workload {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn round(topic: &str, seed: u64) -> Produce {
    let codec = CODECS[seed as usize % CODECS.len()];
    let odd = Produce { timestamp: 0, ..Produce::odd(topic, ROUND) };
    Produce { seed, codec, partitions: PARTITIONS, batch_size: 4_000, ..odd }
}

/// A mirror of one topic between two clusters, with a workload while it lasts.
pub(crate) struct Case {
    pub(crate) topic: String,
    pub(crate) mirror: Mirror,
    from: String,
    /// The addresses that the mirror is configured with, source and target.
    addresses: (String, String),
    more: String,
    workload: Option<Workload>,
    /// Records written before the present workload.
    before: u64,
    /// Records written by others.
    besides: u64,
}

impl Case {
    /// A new topic and the configuration of its mirror, through the proxies; nothing runs yet. `more` are further lines
    /// of the mirror, indented by four.
    pub(crate) fn new(topic: &str, source: &Cluster, target: &Cluster, replication: i16, more: &str) -> Self {
        Self::of(&TopicSpec::new(topic, PARTITIONS).replication(replication), source, target, more)
    }

    /// The same with a topic of any kind.
    pub(crate) fn of(spec: &TopicSpec, source: &Cluster, target: &Cluster, more: &str) -> Self {
        let (from, topic) = (source.bootstrap(), spec.name());
        driver().create_topic(&from, spec);
        let addresses = (source.proxied_bootstrap(), target.proxied_bootstrap());
        let mirror = Mirror::between(topic, &addresses.0, &addresses.1, &[topic], more);
        Self {
            topic: topic.to_owned(),
            mirror,
            from,
            addresses,
            more: more.to_owned(),
            workload: None,
            before: 0,
            besides: 0,
        }
    }

    /// The same mirror once more, as somebody starts it by mistake.
    pub(crate) fn twin(&self) -> Mirror {
        Mirror::between(&self.topic, &self.addresses.0, &self.addresses.1, &[&self.topic], &self.more)
    }

    /// Mirror and workload, until the first records have arrived.
    pub(crate) fn flowing(topic: &str, pair: &Pair) -> Self {
        let mut case = Self::new(topic, &pair.source, &pair.target, 1, "");
        case.mirror.start();
        case.write();
        case.await_more(&pair.target, ROUND as i64);
        case
    }

    /// Puts a twin in the mirror's place, not started yet; gives the one before.
    pub(crate) fn hand_over(&mut self) -> Mirror {
        let twin = self.twin();
        std::mem::replace(&mut self.mirror, twin)
    }

    /// Starts the workload.
    pub(crate) fn write(&mut self) {
        assert!(self.workload.is_none(), "it writes already");
        // Seeds go on where they were: no content comes twice.
        self.workload = Some(Workload::start(&self.from, &self.topic, self.before / ROUND));
    }

    /// Ends the workload.
    pub(crate) fn pause_writing(&mut self) {
        self.before += self.workload.take().map_or(0, Workload::finish);
    }

    /// Records acknowledged so far.
    pub(crate) fn written(&self) -> u64 {
        self.before + self.besides + self.workload.as_ref().map_or(0, Workload::written)
    }

    /// Waits until the source has taken so many records more.
    pub(crate) fn await_written(&self, more: u64) {
        let goal = self.written() + more;
        wait_until("the workload", LIMIT, || {
            if self.written() >= goal { Ok(()) } else { Err(self.written().to_string()) }
        });
    }

    /// Offsets used on the target so far.
    pub(crate) fn mirrored(&self, target: &Cluster) -> i64 {
        end_offsets(target, &self.topic).unwrap_or(0)
    }

    /// Waits until the target's log has grown by so much from now on.
    pub(crate) fn await_more(&self, target: &Cluster, more: i64) {
        let goal = self.mirrored(target) + more;
        let what = format!("{} to reach {goal} on the target", self.topic);
        wait_until(&what, LIMIT, || match self.mirrored(target) {
            there if there >= goal => Ok(()),
            there => Err(format!("{there} there, {} written", self.written())),
        });
    }

    /// Waits until the mirror stands still although the source grows.
    pub(crate) fn await_stall(&self, target: &Cluster) {
        wait_until("the mirror to stand still", LIMIT, || {
            let before = self.mirrored(target);
            self.await_written(2 * ROUND);
            match self.mirrored(target) {
                after if after == before => Ok(()),
                after => Err(format!("it went on from {before} to {after}")),
            }
        });
    }

    /// Ends of the partitions of the target.
    pub(crate) fn ends(&self, target: &Cluster) -> Vec<i64> {
        driver().offsets(&target.bootstrap(), &[&self.topic]).iter().map(|row| row.end).collect()
    }

    /// All records of the topic on one side.
    pub(crate) fn dump(&self, cluster: &Cluster) -> Dump {
        driver().dump(&cluster.bootstrap(), &[&self.topic])
    }

    /// Waits until a cluster has forgotten the topic.
    pub(crate) fn await_gone(&self, cluster: &Cluster) {
        wait_until("the topic to be gone", LIMIT, || {
            let all = driver().list_topics(&cluster.bootstrap());
            if all.contains(&self.topic) { Err(format!("{all:?}")) } else { Ok(()) }
        });
    }

    /// Waits until a partition has halted for this reason; the command that its halt names.
    pub(crate) fn await_halt(&self, partition: i32, reason: &str) -> Vec<String> {
        let row = self.mirror.await_state(&self.topic, partition, "halted");
        let text = |field: &str| row[field].as_str().expect("text");
        assert!(text("reason").starts_with(reason), "{row}");
        let (_, command) = text("way_out").split_once("kmirror ").expect("a command");
        command.split(' ').map(str::to_owned).collect()
    }

    /// Counts records that were written besides the workload.
    pub(crate) fn counts(&mut self, records: u64) {
        self.besides += records;
    }

    /// Waits until retention has taken all there is.
    pub(crate) fn await_emptied(&self, cluster: &Cluster) {
        wait_until("retention", LIMIT, || {
            let rows = driver().offsets(&cluster.bootstrap(), &[&self.topic]);
            if rows.iter().all(|row| row.start == row.end) { Ok(()) } else { Err(format!("{rows:?}")) }
        });
    }

    /// Nothing is deleted any more, and the broker knows it.
    pub(crate) fn end_retention(&self, cluster: &Cluster) {
        driver().alter_configs(&cluster.bootstrap(), &self.topic, &[("retention.ms", "-1")]);
        wait_until("the end of retention", LIMIT, || {
            let configs = driver().topic_configs(&cluster.bootstrap(), &self.topic);
            if configs.get("retention.ms").is_some_and(|ms| ms == "-1") { Ok(()) } else { Err(format!("{configs:?}")) }
        });
    }

    /// Runs the command that a halt has named.
    pub(crate) fn obey(&self, command: &[String]) {
        let args: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = self.mirror.output(&args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }

    /// Ends the workload, lets the mirror catch up, stops it, and compares: every record once, in order, unchanged, and
    /// every offset mapped exactly.
    pub(crate) fn assert_whole(&mut self, source: &Cluster, target: &Cluster) {
        self.pause_writing();
        self.mirror.await_caught_up(PARTITIONS as usize);
        self.mirror.stop();
        self.assert_equal(source, target);
    }

    /// The comparison alone, of a mirror that was stopped cleanly.
    pub(crate) fn assert_equal(&self, source: &Cluster, target: &Cluster) {
        let (here, there) = (self.dump(source), self.dump(target));
        self.assert_same(target, &here, &there, self.written() as usize);
    }

    /// These records, in this number, are the same here and there, and mapped to one another.
    pub(crate) fn assert_same(&self, target: &Cluster, here: &Dump, there: &Dump, count: usize) {
        compare(here, there).assert_exactly(count);
        assert_map_is_exact(&self.mirror.name, target, here, there);
    }
}

/// The records of the first, partition by partition, and behind them those of the second that count.
pub(crate) fn joined(first: &Dump, second: &Dump, counts: impl Fn(&TopicPartition, &Digest) -> bool) -> Dump {
    let mut all = first.clone();
    for (at, records) in &second.partitions {
        let more = records.iter().filter(|record| counts(at, record)).copied();
        all.partitions.entry(at.clone()).or_default().extend(more);
    }
    all
}
