//! The one table of options: what exists, of which kind, with which default, and how a change of it takes
//! effect while kmirror runs. Parsing, error messages, `kmirror config schema`, `configs/REFERENCE.md` and the reload all read it.

/// One key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// Where it stands: `clusters.*.bootstrap` for every named cluster, `mirrors[].name` for every mirror.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The value used where the key is absent, as it would be written; `None`: there is none.
    pub default: Option<&'static str>,
    /// Whether its section is incomplete without it.
    pub required: bool,
    /// What it does, for the reference and the schema.
    pub doc: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
    /// How another value takes effect while kmirror runs.
    pub takes: Takes,
}

/// How a changed key takes effect in a running process. The larger one costs more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Takes {
    /// In place.
    Live,
    /// What works beside the mirrors begins anew with it: a backup, drills, the groups or the heartbeats of a mirror.
    Task,
    /// Its mirror, or those of its cluster, stop cleanly and start anew.
    Mirror,
    /// With the next start of the process.
    Process,
    /// Never: what stands on the target under the mirror's name would be another one's.
    Never,
}

impl Takes {
    /// Its word in the reference, in answers and in the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Task => "task",
            Self::Mirror => "mirror",
            Self::Process => "process",
            Self::Never => "never",
        }
    }
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A mapping with known keys.
    Section,
    /// A mapping of free names to sections; their keys are at `path.*.key`.
    Named,
    /// A list of sections; their keys are at `path[].key`.
    Sections,
    /// A mapping of free names to text.
    Pairs,
    /// One value.
    One(Scalar),
    /// A list of values.
    Many(Scalar),
}

/// What a single value takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// Any text but the empty one.
    Text,
    /// Any text.
    Verbatim,
    /// `[a-zA-Z0-9._-]{1,100}`.
    Name,
    /// A name under `clusters`.
    Cluster,
    /// `host:port`.
    HostPort,
    /// An IP address and port, or `localhost:port`, to listen on.
    Listen,
    /// A regular expression for whole topic names.
    Pattern,
    /// A template for topic names.
    Template,
    /// `earliest`, `latest` or an RFC 3339 time.
    Start,
    /// The URL of a folder or bucket.
    Destination,
    /// The name of an environment variable.
    Variable,
    /// A secret, read anew whenever it is needed.
    Secret,
    /// A host name or address.
    ServerName,
    /// A SASL mechanism.
    Mechanism,
    /// The https URL of a token endpoint.
    Endpoint,
    /// A number of bytes in words, at least this many.
    Size(u64),
    /// A time span in words.
    Duration,
    /// A whole number between these two.
    Integer(i64, i64),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl Scalar {
    /// What it takes, in words, units included.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Verbatim => "a single value (\"\" for an empty one)".to_owned(),
            Self::Name => "a name: 1 to 100 of a-z, A-Z, 0-9, '.', '_', '-'".to_owned(),
            Self::Cluster => "a name under clusters".to_owned(),
            Self::HostPort => "host:port".to_owned(),
            Self::Listen => "address:port".to_owned(),
            Self::Pattern => "a regular expression for the whole name".to_owned(),
            Self::Template => "a template with {topic}, and {source} or {target} at will".to_owned(),
            Self::Start => "earliest, latest or an RFC 3339 time".to_owned(),
            Self::Destination => "a URL, such as file:///folder or s3://bucket/prefix".to_owned(),
            Self::Variable => "the name of an environment variable".to_owned(),
            Self::Secret => "a secret: `${file:PATH}`, `${env:NAME}` or `${command:COMMAND}`".to_owned(),
            Self::ServerName => "a host name or address".to_owned(),
            Self::Mechanism => "PLAIN | SCRAM-SHA-256 | SCRAM-SHA-512 | OAUTHBEARER".to_owned(),
            Self::Endpoint => "a URL that begins with https://".to_owned(),
            Self::Size(0 | 1) => "a size in bytes, such as 10MiB".to_owned(),
            Self::Size(min) => format!("a size in bytes, such as 10MiB, at least {}", super::units::bytes(min)),
            Self::Duration => "a time span, such as 30s or 5m".to_owned(),
            Self::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Self::Flag => "true or false".to_owned(),
            Self::Choice(words) => words.join(" | "),
        }
    }
}

impl Kind {
    /// What it takes, in words.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Section => "a section".to_owned(),
            Self::Named => "sections by name".to_owned(),
            Self::Sections => "a list of sections".to_owned(),
            Self::Pairs => "a mapping of names to values".to_owned(),
            Self::One(scalar) => scalar.describe(),
            Self::Many(scalar) => format!("a list, each {}", scalar.describe()),
        }
    }
}

const fn opt(path: &'static str, takes: Takes, kind: Kind, doc: &'static str) -> Opt {
    Opt { path, kind, default: None, required: false, doc, secret: false, takes }
}

impl Opt {
    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

const LIVE: Takes = Takes::Live;
const TASK: Takes = Takes::Task;
const MIRROR: Takes = Takes::Mirror;
const PROCESS: Takes = Takes::Process;
const FIXED: Takes = Takes::Never;
const POLICY: Kind = Kind::One(Scalar::Choice(&["halt", "continue"]));
const TEXT: Kind = Kind::One(Scalar::Text);
const SECRET: Kind = Kind::One(Scalar::Secret);
const FLAG: Kind = Kind::One(Scalar::Flag);
const PATTERNS: Kind = Kind::Many(Scalar::Pattern);

/// Every key, sections before what they hold.
#[rustfmt::skip] // A table is read by its rows.
pub const OPTIONS: &[Opt] = &[
    opt("clusters", LIVE, Kind::Named, "The Kafka clusters, each under the name that mirrors use for it.").required(),
    opt("clusters.*.bootstrap", MIRROR, Kind::Many(Scalar::HostPort), "Where the first connection goes; the other brokers are learnt from the cluster.").required(),
    opt("clusters.*.client_id", MIRROR, TEXT, "The `client.id` of requests to this cluster, in place of `kmirror.<mirror>`."),
    opt("clusters.*.tls", MIRROR, Kind::Section, "TLS 1.2 or 1.3 to the brokers; `tls: {}` trusts the system's authorities. The files are read for each new connection, so that they can be replaced while kmirror runs; paths are relative to the configuration file."),
    opt("clusters.*.tls.ca", LIVE, TEXT, "PEM file with the authorities to trust, in place of the system's."),
    opt("clusters.*.tls.cert", LIVE, TEXT, "PEM file with the client's certificate and those between it and its authority, for mutual TLS."),
    opt("clusters.*.tls.key", LIVE, TEXT, "PEM file with the client's private key (PKCS#8, PKCS#1 or SEC1), not encrypted."),
    opt("clusters.*.tls.server_name", LIVE, Kind::One(Scalar::ServerName), "The name to verify, and to send as SNI, in place of each broker's host name."),
    opt("clusters.*.sasl", MIRROR, Kind::Section, "SASL authentication."),
    opt("clusters.*.sasl.mechanism", LIVE, Kind::One(Scalar::Mechanism), "How kmirror shows who it is. PLAIN sends the password as it is: only over TLS.").required(),
    opt("clusters.*.sasl.username", LIVE, TEXT, "The user, for PLAIN and SCRAM."),
    opt("clusters.*.sasl.password", LIVE, SECRET, "The password, for PLAIN and SCRAM.").secret(),
    opt("clusters.*.sasl.token", LIVE, SECRET, "The bearer token, for OAUTHBEARER.").secret(),
    opt("clusters.*.sasl.oauth", LIVE, Kind::Section, "Where bearer tokens are asked for by client credentials (RFC 6749, 4.4), for OAUTHBEARER."),
    opt("clusters.*.sasl.oauth.token_endpoint", LIVE, Kind::One(Scalar::Endpoint), "The token endpoint; its certificate must be one that the system trusts.").required(),
    opt("clusters.*.sasl.oauth.client_id", LIVE, TEXT, "The client.").required(),
    opt("clusters.*.sasl.oauth.client_secret", LIVE, SECRET, "Its secret, sent by HTTP Basic.").secret().required(),
    opt("clusters.*.sasl.oauth.scope", LIVE, TEXT, "The scope to ask for."),
    opt("clusters.*.sasl.msk_iam", LIVE, Kind::Section, "Signs tokens for Amazon MSK with AWS credentials, for OAUTHBEARER; a build with the cargo feature `msk-iam` can. The credentials are those of the environment, of a web identity, of the container or of the instance: the first that is there, as for `s3://`."),
    opt("clusters.*.sasl.msk_iam.region", LIVE, Kind::One(Scalar::Name), "The AWS region of the cluster, such as `eu-central-1`.").required(),
    opt("mirrors", LIVE, Kind::Sections, "The mirrors, each one directed flow from a source to a target. May be absent where there are backups."),
    opt("mirrors[].name", LIVE, Kind::One(Scalar::Name), "Unique; names the state topic `__kmirror.<name>` on the target. Another name is another mirror, which starts anew.").required(),
    opt("mirrors[].source", FIXED, Kind::One(Scalar::Cluster), "The cluster to read from.").required(),
    opt("mirrors[].target", FIXED, Kind::One(Scalar::Cluster), "The cluster to write to.").required(),
    opt("mirrors[].topics", LIVE, Kind::Section, "Which topics are mirrored.").required(),
    opt("mirrors[].topics.include", LIVE, PATTERNS, "Topics whose whole name matches one of these are mirrored, those created later too.").required(),
    opt("mirrors[].topics.exclude", LIVE, PATTERNS, "Topics whose whole name matches one of these are not. A list of your own replaces the default, as in MirrorMaker 2; Kafka's internal topics and `__kmirror.*` are never mirrored, whatever it says.").default(r#"["__.*", ".*[.-]internal"]"#),
    opt("mirrors[].rename", FIXED, Kind::One(Scalar::Template), "What a topic is called on the target.").default("\"{topic}\""),
    opt("mirrors[].start", LIVE, Kind::One(Scalar::Start), "Where a partition begins that exists when the mirror first starts; what appears later begins at earliest. Without effect where the mirror has been.").default("earliest"),
    opt("mirrors[].isolation", MIRROR, Kind::One(Scalar::Choice(&["read_committed", "read_uncommitted"])), "Whether records of open and aborted transactions stay out.").default("read_committed"),
    opt("mirrors[].target_topics", LIVE, Kind::Section, "How topics are created on the target.").default("{}"),
    opt("mirrors[].target_topics.replication_factor", LIVE, Kind::One(Scalar::Integer(1, 32767)), "Replicas of each partition; absent: the target's `default.replication.factor`."),
    opt("mirrors[].target_topics.configs", LIVE, Kind::Pairs, "Topic configs that win over those copied from the source. `message.timestamp.type` stays CreateTime.").default("{}"),
    opt("mirrors[].groups", TASK, Kind::Section, "Consumer groups whose committed offsets are translated and kept on the target; absent: none."),
    opt("mirrors[].groups.include", TASK, PATTERNS, "Groups whose whole id matches one of these are kept, those that appear later too.").required(),
    opt("mirrors[].groups.exclude", TASK, PATTERNS, "Groups whose whole id matches one of these are not. kmirror's own, `__kmirror.*`, never are.").default("[]"),
    opt("mirrors[].groups.interval", TASK, Kind::One(Scalar::Duration), "Time between two translations, at least 1s.").default("5s"),
    opt("mirrors[].sync", LIVE, Kind::Section, "What else follows the source. What was set on the target by hand stays as it is; `kmirror sync --dry-run` shows all of it.").default("{}"),
    opt("mirrors[].sync.topic_configs", LIVE, FLAG, "Topic configs that are not the source's defaults.").default("true"),
    opt("mirrors[].sync.partitions", LIVE, FLAG, "The partition count, when it grows.").default("true"),
    opt("mirrors[].sync.acls", TASK, FLAG, "ACLs, staged: rights to write are held back until the target is promoted.").default("false"),
    opt("mirrors[].sync.quotas", TASK, FLAG, "Client quotas.").default("false"),
    opt("mirrors[].sync.scram_users", TASK, FLAG, "Users with SCRAM credentials: those that the target lacks are named. No cluster tells their secrets.").default("false"),
    opt("mirrors[].sync.deletions", TASK, FLAG, "Deletion of topics, of those that the mirror has made.").default("false"),
    opt("mirrors[].sync.deletions_grace", TASK, Kind::One(Scalar::Duration), "How long a topic must be gone from the source before it is deleted on the target.").default("24h"),
    opt("mirrors[].sync.interval", TASK, Kind::One(Scalar::Duration), "Time between two looks at all of this, at least 1s; partition counts are looked at every 3s.").default("1m"),
    opt("mirrors[].on", LIVE, Kind::Section, "What to do where going on would cost records or certainty: halt the partition, or note a gap and continue.").default("{}"),
    opt("mirrors[].on.retention_loss", LIVE, POLICY, "The source deleted records before they were mirrored.").default("halt"),
    opt("mirrors[].on.source_recreated", LIVE, POLICY, "The source's topic was deleted and made again.").default("halt"),
    opt("mirrors[].on.truncation", LIVE, POLICY, "The source lost records that were mirrored (unclean leader election).").default("halt"),
    opt("mirrors[].on.foreign_records", LIVE, POLICY, "A target partition holds records that this mirror did not write.").default("halt"),
    opt("mirrors[].on.corrupt_batch", LIVE, POLICY, "A batch has a wrong checksum or structure.").default("halt"),
    opt("mirrors[].heartbeats", LIVE, Kind::Section, "Writes heartbeats to a topic of the source and mirrors it, so that the way is measured end to end; absent: none."),
    opt("mirrors[].heartbeats.topic", LIVE, TEXT, "The topic, on the source; `kmirror.heartbeats.<mirror>` where it is not set. It is made with one partition where it is not there, and mirrored whatever `topics.include` says. kmirror needs WRITE on it, and CREATE to make it."),
    opt("mirrors[].heartbeats.interval", TASK, Kind::One(Scalar::Duration), "Time between two heartbeats, at least 100ms.").default("1s"),
    opt("mirrors[].limits", LIVE, Kind::Section, "Bounds of this mirror.").default("{}"),
    opt("mirrors[].limits.bandwidth", LIVE, Kind::One(Scalar::Size(super::BANDWIDTH_BYTES_MIN)), "Bytes of records a second, from the source and to the target alike; unlimited where it is not set. `kmirror bandwidth` wins over it."),
    opt("mirrors[].limits.coalesced_batch", LIVE, Kind::One(Scalar::Size(0)), "Batches below 4 KiB that wait together are sent as one of at most this size; 0: every batch stays as it was produced.").default("64KiB"),
    opt("limits", LIVE, Kind::Section, "Bounds of the whole process.").default("{}"),
    opt("limits.memory", LIVE, Kind::One(Scalar::Size(super::MEMORY_BYTES_MIN)), "Records in flight between sources and targets, all mirrors together.").default("32MiB"),
    opt("fleet", PROCESS, Kind::Section, "Shares the shards of each mirror with the other instances that run this file; absent: this process does it all. `fleet: {}` will do."),
    opt("fleet.instance_id", PROCESS, Kind::One(Scalar::Name), "Makes this instance a static member (`group.instance.id`): restarted within the session timeout it gets its shards back, and nothing is moved. Each instance has its own, such as `${env:HOSTNAME}`."),
    opt("fleet.session_timeout", PROCESS, Kind::One(Scalar::Duration), "An instance that is not heard of for so long loses its shards to the others (`session.timeout.ms`). Brokers take 6s to 30m unless they are set otherwise.").default("10s"),
    opt("fleet.suspect_after", PROCESS, Kind::One(Scalar::Duration), "An instance that gives no sign of life for so long, in the eyes of another one, is put out of the fleet by that one, long before its session ends: at least 500ms, and less than `session_timeout`. Not set: the session decides alone. Choose it above the longest pause of a machine that is well: each mistake is a take-over, which leaves a marker in every partition taken."),
    opt("fleet.weight", PROCESS, Kind::One(Scalar::Integer(1, 1_000)), "How much of the work this instance is to have, next to others with a weight of their own.").default("100"),
    opt("http", PROCESS, Kind::Section, "The HTTP listener; absent: none."),
    opt("http.listen", PROCESS, Kind::One(Scalar::Listen), "Where it listens. Another address than a loopback one takes `http.token` and `http.tls`.").required(),
    opt("http.metrics", LIVE, Kind::Section, "What `/metrics` shows.").default("{}"),
    opt("http.metrics.max_series", LIVE, Kind::One(Scalar::Integer(0, 1_000_000)), "Series of one metric at most. Where there are more partitions than that, over all mirrors, figures of partitions are shown by topic, and where there are more topics, by mirror; 0: always by mirror.").default("2000"),
    opt("http.tls", PROCESS, Kind::Section, "TLS of the listener; absent: plain HTTP."),
    opt("http.tls.cert", PROCESS, TEXT, "PEM file with the certificate chain, the server's own first.").required(),
    opt("http.tls.key", PROCESS, TEXT, "PEM file with the private key.").required(),
    opt("http.token", LIVE, TEXT, "The bearer token of requests that change something, and of all that a listener answers that is not on loopback: 16 to 1024 visible ASCII characters; write `${env:NAME}` or `${file:PATH}`. Absent: nothing can be changed over HTTP.").secret(),
    opt("http.probes", PROCESS, Kind::Section, "A second listener for `/healthz`, `/readyz` and `/metrics`, without token and without TLS."),
    opt("http.probes.listen", PROCESS, Kind::One(Scalar::Listen), "Where it listens, on any address.").required(),
    opt("backups", TASK, Kind::Sections, "Backups to object storage."),
    opt("backups[].name", TASK, Kind::One(Scalar::Name), "Unique; the folder of the archive at each destination.").required(),
    opt("backups[].cluster", TASK, Kind::One(Scalar::Cluster), "The cluster to back up.").required(),
    opt("backups[].topics", TASK, Kind::Section, "Which topics are backed up.").required(),
    opt("backups[].topics.include", TASK, PATTERNS, "Topics whose whole name matches one of these are backed up, those created later too.").required(),
    opt("backups[].topics.exclude", TASK, PATTERNS, "Topics whose whole name matches one of these are not. A list of your own replaces the default; Kafka's internal topics and `__kmirror.*` are never backed up, whatever it says.").default(r#"["__.*", ".*[.-]internal"]"#),
    opt("backups[].groups", TASK, Kind::Section, "Consumer groups whose committed offsets in these topics are captured.").default("{}"),
    opt("backups[].groups.include", TASK, PATTERNS, "Groups whose whole id matches one of these are captured.").default(r#"[".*"]"#),
    opt("backups[].groups.exclude", TASK, PATTERNS, "Groups whose whole id matches one of these are not. kmirror's own, `__kmirror.*`, never are.").default("[]"),
    opt("backups[].to", TASK, Kind::Sections, "Where to; every destination gets a whole copy.").required(),
    opt("backups[].to[].url", TASK, Kind::One(Scalar::Destination), "The folder or bucket, and what stands before the archive's own names in it. No credentials: they go under `options`.").required(),
    opt("backups[].to[].options", TASK, Kind::Pairs, "Settings of the object store by its own names, such as `aws_endpoint` or `aws_access_key_id`; for a secret write `${env:NAME}` or `${file:PATH}`.").secret().default("{}"),
    opt("backups[].isolation", TASK, Kind::One(Scalar::Choice(&["read_committed", "read_uncommitted"])), "Whether what is behind the first open transaction waits until that has ended. What was aborted is kept and marked.").default("read_committed"),
    opt("backups[].interval", TASK, Kind::One(Scalar::Duration), "Time from one unit to the next where the backup runs continuously, at least 1s.").default("5m"),
    opt("backups[].full_every", TASK, Kind::One(Scalar::Duration), "Age at which a chain ends and a new one begins with a full unit, at least 1s.").default("7d"),
    opt("backups[].keep", TASK, Kind::One(Scalar::Integer(1, 100_000)), "Chains that are kept; older ones are deleted, each as a whole.").default("4"),
    opt("backups[].compression", TASK, Kind::One(Scalar::Choice(&["none", "zstd"])), "What is done in the archive to batches that their producer did not compress; restored they are as they were.").default("zstd"),
    opt("backups[].encryption", TASK, Kind::Section, "Seals records with a key of your own; absent: they are not sealed."),
    opt("backups[].encryption.key", TASK, Kind::Section, "The key that new segments are sealed under: one of `file`, `env` and `command`.").required(),
    opt("backups[].encryption.key.file", TASK, TEXT, "A file that holds the key."),
    opt("backups[].encryption.key.env", TASK, Kind::One(Scalar::Variable), "The name of an environment variable that holds the key."),
    opt("backups[].encryption.key.command", TASK, TEXT, "A command of the shell that prints the key, such as the client of a key management service."),
    opt("backups[].encryption.old_keys", TASK, Kind::Sections, "Keys of before, under which older segments are still read."),
    opt("backups[].encryption.old_keys[].file", TASK, TEXT, "A file that holds the key."),
    opt("backups[].encryption.old_keys[].env", TASK, Kind::One(Scalar::Variable), "The name of an environment variable that holds the key."),
    opt("backups[].encryption.old_keys[].command", TASK, TEXT, "A command of the shell that prints the key."),
    opt("backups[].encryption.accept_unsealed", TASK, FLAG, "Also segments are read that are not sealed: those of a chain that is older than its encryption. Otherwise they are refused."),
    opt("backups[].signing", TASK, Kind::Section, "Signs manifests, so that what somebody else wrote shows; absent: they are not signed."),
    opt("backups[].signing.key", TASK, Kind::Section, "The private key (ed25519): one of `file`, `env` and `command`.").required(),
    opt("backups[].signing.key.file", TASK, TEXT, "A file that holds the key."),
    opt("backups[].signing.key.env", TASK, Kind::One(Scalar::Variable), "The name of an environment variable that holds the key."),
    opt("backups[].signing.key.command", TASK, TEXT, "A command of the shell that prints the key."),
    opt("backups[].segment_bytes", TASK, Kind::One(Scalar::Size(super::SEGMENT_BYTES_MIN)), "Size at which a segment ends and the next one begins.").default("64MiB"),
    opt("backups[].parallel", TASK, Kind::One(Scalar::Integer(1, 64)), "Partitions that are read at a time.").default("4"),
    opt("backups[].synchronous", TASK, PATTERNS, "Topics, by patterns for the whole name, of which nothing counts as backed up before it is durable at every destination. Others go on while a destination but the first is away, which is caught up later.").default("[]"),
    opt("backups[].limits", TASK, Kind::Section, "Bounds of this backup.").default("{}"),
    opt("backups[].limits.bandwidth", TASK, Kind::One(Scalar::Size(super::BANDWIDTH_BYTES_MIN)), "Bytes of records a second from the cluster; unlimited where it is not set."),
    opt("drills", TASK, Kind::Sections, "Failover drills that `kmirror run` does on a schedule."),
    opt("drills[].mirror", TASK, Kind::One(Scalar::Name), "Which mirror is rehearsed.").required(),
    opt("drills[].reports", TASK, TEXT, "Folder in which each report is kept, as JSON and as HTML.").required(),
    opt("drills[].every", TASK, Kind::One(Scalar::Duration), "Time from one drill to the next, at least 1m; counted from the last report that is kept.").default("1d"),
    opt("drills[].max_rpo", TASK, Kind::One(Scalar::Duration), "What a failover may lose at most.").default("60s"),
    opt("drills[].max_rto", TASK, Kind::One(Scalar::Duration), "How long a failover may take at most.").default("5m"),
    opt("drills[].sample", TASK, Kind::One(Scalar::Integer(1, 100_000)), "Committed offsets of each group whose records are compared, at most.").default("20"),
    opt("drills[].isolated", TASK, FLAG, "Consume with copies of the groups.").default("false"),
    opt("log", LIVE, Kind::Section, "The log on stderr.").default("{}"),
    opt("log.level", LIVE, Kind::One(Scalar::Choice(&["error", "warn", "info", "debug", "trace"])), "The least severe level shown; `--log-level` and `RUST_LOG` win over it.").default("info"),
    opt("log.format", PROCESS, Kind::One(Scalar::Choice(&["text", "json"])), "Lines for people or for machines.").default("text"),
];

/// The option at a path of the table.
#[must_use]
pub fn find(path: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| option.path == path)
}

/// The options directly within a section, by their path; `""` is the file. `section` is `clusters.*` or `mirrors[]` for
/// what a cluster or a mirror holds.
pub fn children(section: &str) -> impl Iterator<Item = (&'static str, &'static Opt)> {
    OPTIONS.iter().filter_map(move |option| {
        let key = match section {
            "" => option.path,
            _ => option.path.strip_prefix(section)?.strip_prefix('.')?,
        };
        (!key.contains(['.', '['])).then_some((key, option))
    })
}
