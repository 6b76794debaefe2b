//! A real Kafka cluster: combined KRaft nodes as child processes on loopback ports.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::jars;
use super::process::{Process, wait_ready};
use super::proxy::{Fault, Proxy};
use super::zookeeper::ZooKeeper;

/// Starting a JVM on a busy two-core machine takes its time; this only bounds a hang.
pub(super) const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// A release of Apache Kafka that the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    /// The release that the suite runs on throughout.
    V4_3_1,
    /// The last 3.x line, as source and as target.
    V3_9_1,
    /// The oldest that kmirror speaks to, and the one on ZooKeeper.
    V2_8_2,
}

impl Version {
    /// As Maven names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4_3_1 => "4.3.1",
            Self::V3_9_1 => "3.9.1",
            Self::V2_8_2 => "2.8.2",
        }
    }

    fn is_on_zookeeper(self) -> bool {
        self == Self::V2_8_2
    }
}

const LOOPBACK: &str = "127.0.0.1";

/// What a cluster shall be like.
#[derive(Debug, Clone)]
pub(crate) struct ClusterSpec {
    version: Version,
    nodes: u16,
    heap_mb: u32,
    quick: bool,
    proxied: bool,
    /// What clients are told to dial, at the proxies.
    host: String,
    /// Further listeners: name and security protocol.
    listeners: Vec<(String, String)>,
    overrides: Vec<(String, String)>,
}

impl ClusterSpec {
    /// One node with settings for tests.
    pub(crate) fn new(version: Version) -> Self {
        Self {
            version,
            nodes: 1,
            heap_mb: 384,
            quick: true,
            proxied: false,
            host: LOOPBACK.to_owned(),
            listeners: Vec::new(),
            overrides: Vec::new(),
        }
    }

    /// Several nodes; each is broker and controller.
    pub(crate) fn nodes(mut self, nodes: u16) -> Self {
        self.nodes = nodes;
        self
    }

    /// With a second listener, whose advertised addresses are those of proxies; see [`Cluster::proxied_bootstrap`].
    pub(crate) fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// As [`Self::proxied`], and clients are told a name instead of an address.
    pub(crate) fn named(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self.proxied()
    }

    /// With one more listener; see [`Cluster::listener`].
    pub(crate) fn listener(mut self, name: &str, protocol: &str) -> Self {
        self.listeners.push((name.to_owned(), protocol.to_owned()));
        self
    }

    /// One more line of server.properties, in place of one of the same key.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.overrides.push((key.to_owned(), value.to_owned()));
        self
    }

    /// As a production broker runs: all compilers, more heap. For measurements, where start-up is no matter.
    #[allow(dead_code, reason = "proto-tests/bench uses it")]
    pub(crate) fn for_bench(mut self) -> Self {
        self.heap_mb = 512;
        self.quick = false;
        self
    }

    /// The largest heap of each node.
    #[allow(dead_code, reason = "proto-tests/bench uses it")]
    pub(crate) fn heap_mb(mut self, heap_mb: u32) -> Self {
        self.heap_mb = heap_mb;
        self
    }
}

/// A running cluster. Dropping it kills its nodes and removes their data.
#[derive(Debug)]
pub(crate) struct Cluster {
    spec: ClusterSpec,
    nodes: Vec<Node>,
    /// Where the metadata is, as server.properties says it.
    metadata: String,
    _zookeeper: Option<ZooKeeper>,
    folder: PathBuf,
}

/// One node: its ports stay the same over restarts, unless it moves.
#[derive(Debug)]
pub(crate) struct Node {
    id: u16,
    version: Version,
    port: u16,
    controller_port: u16,
    front: Option<Front>,
    /// Of the further listeners, in their order.
    listener_ports: Vec<u16>,
    folder: PathBuf,
    process: Option<Process>,
}

/// The listener behind a proxy.
#[derive(Debug)]
struct Front {
    /// Where the broker listens.
    port: u16,
    /// What clients are told instead.
    proxy: Proxy,
}

impl Front {
    fn new() -> Self {
        let port = free_port();
        Self { port, proxy: Proxy::start(free_port(), port) }
    }
}

impl Cluster {
    /// Formats, starts, and waits until every node serves requests and knows the others.
    pub(crate) fn start(spec: ClusterSpec) -> Self {
        let folder = run_folder(spec.version.name());
        let ports: Vec<(u16, u16)> = (0..spec.nodes).map(|_| (free_port(), free_port())).collect();
        let voters: Vec<String> =
            ports.iter().enumerate().map(|(at, (_, port))| format!("{}@127.0.0.1:{port}", at + 1)).collect();
        let zookeeper = spec.version.is_on_zookeeper().then(|| ZooKeeper::start(spec.version, &folder));
        let metadata = match &zookeeper {
            Some(zookeeper) => format!("zookeeper.connect={}", zookeeper.address()),
            None => format!("controller.quorum.voters={}", voters.join(",")),
        };
        let mut cluster = Self { nodes: Vec::new(), metadata, _zookeeper: zookeeper, spec, folder };
        for (at, (port, controller_port)) in ports.into_iter().enumerate() {
            let id = at as u16 + 1;
            let folder = cluster.folder.join(format!("node-{id}"));
            fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("cannot create {}: {error}", folder.display()));
            let front = cluster.spec.proxied.then(Front::new);
            let listener_ports = cluster.spec.listeners.iter().map(|_| free_port()).collect();
            let version = cluster.spec.version;
            cluster.nodes.push(Node {
                id,
                version,
                port,
                controller_port,
                front,
                listener_ports,
                folder,
                process: None,
            });
            cluster.configure(at);
        }
        if !cluster.spec.version.is_on_zookeeper() {
            cluster.format();
        }
        for at in 0..cluster.nodes.len() {
            cluster.launch(at);
        }
        cluster.wait_ready();
        cluster
    }

    /// The first addresses, as clients want them.
    pub(crate) fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        addresses.join(",")
    }

    /// The address of a further listener of the first node.
    pub(crate) fn listener(&self, name: &str) -> String {
        let at = self.spec.listeners.iter().position(|(there, _)| there == name).expect("a listener of this name");
        format!("127.0.0.1:{}", self.nodes[0].listener_ports[at])
    }

    /// The same through the proxies; all that clients who begin here ever hear of are proxies.
    pub(crate) fn proxied_bootstrap(&self) -> String {
        let host = &self.spec.host;
        let addresses: Vec<String> = self.proxies().iter().map(|proxy| format!("{host}:{}", proxy.port())).collect();
        assert!(!addresses.is_empty(), "a cluster without proxies");
        addresses.join(",")
    }

    /// The proxies of all nodes, in the order of their ids.
    pub(crate) fn proxies(&self) -> Vec<&Proxy> {
        self.nodes.iter().filter_map(|node| Some(&node.front.as_ref()?.proxy)).collect()
    }

    /// Puts a fault into force at every node's proxy.
    pub(crate) fn disturb(&self, fault: Fault) {
        self.proxies().into_iter().for_each(|proxy| proxy.set(fault));
    }

    /// How often faults did something to a connection so far, at all nodes.
    pub(crate) fn disturbed(&self) -> u64 {
        self.proxies().into_iter().map(Proxy::disturbed).sum()
    }

    /// The release it runs.
    pub(crate) fn version(&self) -> Version {
        self.spec.version
    }

    /// kill -9 of one node (ids count from 1).
    pub(crate) fn kill_node(&mut self, id: u16) {
        if let Some(mut process) = self.node(id).process.take() {
            process.kill();
        }
    }

    /// SIGTERM: the controlled shutdown of one node, waited for.
    pub(crate) fn shut_down_node(&mut self, id: u16) {
        if let Some(mut process) = self.node(id).process.take() {
            process.signal("TERM");
            process.wait_exit(BOOT_LIMIT);
        }
    }

    /// SIGSTOP: the node hangs with its connections open.
    pub(crate) fn pause_node(&mut self, id: u16) {
        self.signal_node(id, "STOP");
    }

    /// SIGCONT: it goes on.
    pub(crate) fn continue_node(&mut self, id: u16) {
        self.signal_node(id, "CONT");
    }

    /// Whether a node's process runs; a paused one does.
    pub(crate) fn is_up(&mut self, id: u16) -> bool {
        self.node(id).process.as_mut().is_some_and(Process::is_running)
    }

    /// Gives a node that is down other addresses for clients, to be known from its next start on. Nobody listens on the
    /// old ones any more.
    pub(crate) fn move_node(&mut self, id: u16) {
        let node = self.node(id);
        assert!(node.process.is_none(), "node {id} runs");
        node.port = free_port();
        node.front = node.front.take().map(|_| Front::new());
        self.configure(usize::from(id) - 1);
    }

    /// The folder of a partition's log on a node.
    pub(crate) fn log_folder(&self, id: u16, topic: &str, partition: i32) -> PathBuf {
        self.nodes[usize::from(id) - 1].folder.join("data").join(format!("{topic}-{partition}"))
    }

    /// Starts a node again on its old ports and data, and waits until it serves.
    pub(crate) fn restart_node(&mut self, id: u16) {
        self.node(id);
        self.launch(usize::from(id) - 1);
        self.wait_ready();
    }

    /// Shuts a node down and starts it as another release, on its data: one step of a rolling upgrade.
    pub(crate) fn upgrade_node(&mut self, id: u16, version: Version) {
        self.shut_down_node(id);
        self.node(id).version = version;
        self.restart_node(id);
    }

    /// CPU seconds used by all nodes so far.
    #[allow(dead_code, reason = "proto-tests/bench uses it")]
    pub(crate) fn cpu_s(&self) -> f64 {
        self.nodes.iter().filter_map(|node| node.process.as_ref()?.cpu_s()).sum()
    }

    fn node(&mut self, id: u16) -> &mut Node {
        let known = self.nodes.len();
        self.nodes
            .iter_mut()
            .find(|node| node.id == id)
            .unwrap_or_else(|| panic!("no node {id}: the cluster has {known}, counted from 1"))
    }

    fn signal_node(&mut self, id: u16, name: &str) {
        if let Some(process) = &mut self.node(id).process {
            process.signal(name);
        }
    }

    fn configure(&self, at: usize) {
        let node = &self.nodes[at];
        let file = node.folder.join("server.properties");
        let text = properties(&self.spec, node, &self.metadata);
        fs::write(&file, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    }

    fn java(&self) -> Command {
        java(self.spec.version, self.spec.heap_mb, self.spec.quick)
    }

    fn format(&self) {
        let id = jars::run(self.java().args(["kafka.tools.StorageTool", "random-uuid"]));
        for node in &self.nodes {
            let file = node.folder.join("server.properties");
            jars::run(self.java().args(["kafka.tools.StorageTool", "format", "-t", id.trim(), "-c"]).arg(file));
        }
    }

    fn launch(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let mut command = java(node.version, self.spec.heap_mb, self.spec.quick);
        let log = node.folder.join("broker.log");
        command.arg("kafka.Kafka").arg(node.folder.join("server.properties"));
        node.process = Some(Process::start(&command, &log, &log, Some(&node.folder.join("data"))));
    }

    fn wait_ready(&mut self) {
        let running = self.nodes.iter().filter(|node| node.process.is_some()).count();
        for node in &mut self.nodes {
            let Some(process) = &mut node.process else { continue };
            let what = format!("Kafka {} node {} on port {}", self.spec.version.name(), node.id, node.port);
            wait_ready(&what, process, BOOT_LIMIT, || {
                let brokers = brokers_known(node.port).map_err(|error| error.to_string())?;
                // Fewer while a broker is not yet registered and unfenced; topics could not be created.
                if brokers < running as i32 { Err(format!("{brokers} of {running} brokers")) } else { Ok(()) }
            });
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.process = None;
            let _ = fs::remove_dir_all(node.folder.join("data"));
        }
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// The 4.3.1 cluster that tests share as the source. Topics must have names of their own.
pub(crate) fn source() -> &'static Cluster {
    static SOURCE: OnceLock<Cluster> = OnceLock::new();
    SOURCE.get_or_init(|| Cluster::start(ClusterSpec::new(Version::V4_3_1)))
}

/// The 4.3.1 cluster that tests share as the target.
pub(crate) fn target() -> &'static Cluster {
    static TARGET: OnceLock<Cluster> = OnceLock::new();
    TARGET.get_or_init(|| Cluster::start(ClusterSpec::new(Version::V4_3_1)))
}

/// The 3.9.1 cluster that tests share.
pub(crate) fn older() -> &'static Cluster {
    static OLDER: OnceLock<Cluster> = OnceLock::new();
    OLDER.get_or_init(|| Cluster::start(ClusterSpec::new(Version::V3_9_1)))
}

/// Kafka 2.8.2, on ZooKeeper, that tests share.
pub(crate) fn oldest() -> &'static Cluster {
    static OLDEST: OnceLock<Cluster> = OnceLock::new();
    OLDEST.get_or_init(|| Cluster::start(ClusterSpec::new(Version::V2_8_2)))
}

pub(super) fn java(version: Version, heap_mb: u32, quick: bool) -> Command {
    let mut command = Command::new("java");
    command.args([&format!("-Xmx{heap_mb}m"), "-Xms64m", "-XX:+UseSerialGC", "-XX:-UsePerfData"]);
    if quick {
        // Tests are mostly start-up: the second compiler would work for code that soon stops running.
        command.arg("-XX:TieredStopAtLevel=1");
    }
    command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]);
    command.arg("-cp").arg(jars::class_path(version));
    command
}

/// Retention is off unless a topic asks for it: tests write records with old timestamps, and a broker that looks every
/// second would delete them under the test's hands.
fn properties(spec: &ClusterSpec, node: &Node, metadata: &str) -> String {
    let copies = spec.nodes.min(3);
    let in_sync = copies.min(2);
    let Node { id, port, controller_port, .. } = node;
    let (mut listeners, mut advertised) = (String::new(), String::new());
    if let Some(front) = &node.front {
        listeners = format!(",PROXIED://127.0.0.1:{}", front.port);
        advertised = format!(",PROXIED://{}:{}", spec.host, front.proxy.port());
    }
    let mut protocols = String::new();
    for ((name, protocol), port) in spec.listeners.iter().zip(&node.listener_ports) {
        let _ = write!(listeners, ",{name}://127.0.0.1:{port}");
        let _ = write!(advertised, ",{name}://127.0.0.1:{port}");
        let _ = write!(protocols, ",{name}:{protocol}");
    }
    let data = node.folder.join("data");
    let role = if spec.version.is_on_zookeeper() {
        format!("broker.id={id}")
    } else {
        let _ = write!(listeners, ",CONTROLLER://127.0.0.1:{controller_port}");
        format!("process.roles=broker,controller\nnode.id={id}\ncontroller.listener.names=CONTROLLER")
    };
    let mut text = format!(
        "{role}
{metadata}
listeners=PLAINTEXT://127.0.0.1:{port}{listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT{protocols}
log.dirs={}
auto.create.topics.enable=false
log.retention.ms=-1
default.replication.factor={copies}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=4
log.index.size.max.bytes=1048576
log.cleaner.backoff.ms=200
log.cleaner.dedupe.buffer.size=8388608
log.initial.task.delay.ms=500
log.retention.check.interval.ms=1000
log.segment.delete.delay.ms=1000
",
        data.display()
    );
    for (key, value) in &spec.overrides {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

/// A folder for this run under `target/kafka/run`, after removing those of runs that are over.
pub(crate) fn run_folder(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let all = jars::home().join("run");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    if number == 1 {
        remove_stale(&all);
    }
    let folder = all.join(format!("{}-{number}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("cannot create {}: {error}", folder.display()));
    folder
}

fn remove_stale(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.split('-').next().unwrap_or_default().to_owned();
        if !Path::new("/proc").join(owner).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A loopback port that nobody listens on. Taken from below the range that the system gives to outgoing connections, so
/// that a node that is down can come back on it.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 15_000;
    const RANGE: u32 = 17_000;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = (FIRST + (std::process::id() * 61 + step) % RANGE) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// How many brokers the node names in Metadata v1 (asked for no topics).
fn brokers_known(port: u16) -> std::io::Result<i32> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // Length, api key 3, version 1, correlation id 7, client id null, no topics.
    stream.write_all(&[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0])?;
    // Length, correlation id, brokers.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(i32::from_be_bytes([answer[8], answer[9], answer[10], answer[11]]))
}
