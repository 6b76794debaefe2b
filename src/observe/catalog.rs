//! The one table of metrics: what each is called, what it counts and by which labels. The help text of `/metrics`, the README's
//! table, the alert rules and the dashboard are held against it.

/// What kind of figure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It grows from the start of the process on.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Observations by size: `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its whole name.
    pub name: &'static str,
    /// What kind of figure it is.
    pub kind: Kind,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

/// Of those with these labels there are as many series as `http.metrics.max_series` lets be.
pub const PLACE: &[&str] = &["mirror", "topic", "partition"];
const MIRROR: &[&str] = &["mirror"];
const CLUSTER: &[&str] = &["cluster"];
const BACKUP: &[&str] = &["backup"];

/// Upper bounds of the buckets of every histogram, seconds.
pub const BUCKETS_S: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0];

/// Every metric.
#[rustfmt::skip] // A table is read by its rows.
pub const METRICS: &[Metric] = &[
    gauge("kmirror_rpo_seconds", MIRROR, "a failover now would lose at most what was written in this time: the largest lag, or since when the source is silent; NaN while it is not known of every partition"),
    gauge("kmirror_lag_records", PLACE, "source offsets between what is mirrored and the source's end"),
    gauge("kmirror_lag_seconds", PLACE, "for how long the first record that is not mirrored has waited, by its timestamp; 0 where none does"),
    gauge("kmirror_retention_headroom_seconds", PLACE, "how long until retention on the source may take the first record that is not mirrored; +Inf where nothing can be lost, NaN where unknown"),
    gauge("kmirror_open_transaction_age_seconds", PLACE, "for how long one open transaction has held the partition back, once that is more than a minute; else 0"),
    counter("kmirror_records_total", PLACE, "records appended to the target"),
    counter("kmirror_bytes_total", &["mirror", "topic", "partition", "direction"], "bytes of records: `in`, what answers of the source held, and `out`, what the target took"),
    gauge("kmirror_partitions", &["mirror", "state"], "partitions by state: `starting`, `mirroring`, `paused`, `halted`, `promoted`"),
    gauge("kmirror_halted_partitions", MIRROR, "partitions halted now"),
    gauge("kmirror_missing_rights", &["mirror", "what"], "what stands still for want of a right: `mirror`, which cannot begin; `topics`, which may not be seen or made; `partitions`, which are halted; `groups`; `heartbeats`. The log names the right"),
    gauge("kmirror_report_age_seconds", MIRROR, "since the mirror last reported, which it does every second while it runs; +Inf before it ever did"),
    counter("kmirror_batches_total", &["mirror", "path"], "batches appended by path: `raw`, as they came; `coalesced`, small ones joined; `reencoded`, those that the target would not have taken as they were"),
    counter("kmirror_slow_batches_total", &["mirror", "reason"], "of these, those that were not passed through, by reason: `small` (joined), `holes` (compacted), `log_append_time`, `partial` (the mirror began in the middle), `out_of_step`"),
    counter("kmirror_gaps_total", &["mirror", "reason"], "ranges of source offsets without a counterpart, as they were noted in the offset map, by reason ([Gaps](#gaps)); one noted again after a take-over counts again"),
    counter("kmirror_errors_total", &["mirror", "class"], "what went wrong since the start: halts by their reason ([Halts](#halts)), and what is tried again: `fetch`, `produce_not_sent`, `produce_lost`, `produce_refused`, `discovery`, `restart`, and in a fleet `shard_lost`, another instance has taken a shard, and `instance_silent`, this one has put another one out"),
    counter("kmirror_leader_changes_total", &["mirror", "side"], "partitions whose leader moved, on the `source` or the `target`"),
    gauge("kmirror_connections", &["mirror", "side"], "open connections of the data path to the `source` and to the `target`"),
    histogram("kmirror_end_to_end_latency_seconds", MIRROR, "from a record's timestamp to its acknowledgement by the target; one observation a produce request: its slowest batch, by its newest record"),
    histogram("kmirror_produce_latency_seconds", MIRROR, "how long the target took for a produce request"),
    histogram("kmirror_fetch_latency_seconds", MIRROR, "how long the source took for a fetch that brought records, the wait for them included (half a second at most)"),
    gauge("kmirror_heartbeat_age_seconds", MIRROR, "age of the newest heartbeat that is on the target; +Inf while there is none; only with `heartbeats`"),
    histogram("kmirror_heartbeat_latency_seconds", MIRROR, "from the writing of a heartbeat on the source to its reading on the target, by one clock; only with `heartbeats`"),
    gauge("kmirror_group_sync_age_seconds", MIRROR, "since when not every selected group is in step or knowingly left alone; only with `groups`"),
    gauge("kmirror_groups_in_step", MIRROR, "groups whose committed offsets are translated and in step on the target; only with `groups`"),
    gauge("kmirror_sync_age_seconds", MIRROR, "since what follows the source beside records (`sync`) was last looked at; +Inf while it never was"),
    gauge("kmirror_sync_things", &["mirror", "state"], "of that, by state: `held_back` until a promotion, `left_alone` as it was set on the target by hand, `left_out` as it cannot follow, `pending`, topics that are gone from the source and will be deleted, `failed`, what could not be looked at or set"),
    gauge("kmirror_drill_passed", MIRROR, "1 if the last drill of `drills` passed, 0 if it failed or could not be done"),
    gauge("kmirror_drill_age_seconds", MIRROR, "since when that drill, the last one that could be done, began; NaN where none could so far"),
    gauge("kmirror_cluster_up", CLUSTER, "1 if the cluster answered when it was last asked about its health, every 15 seconds; else 0"),
    gauge("kmirror_cluster_brokers", CLUSTER, "brokers that the cluster names"),
    gauge("kmirror_cluster_lost_brokers", CLUSTER, "brokers that hold replicas and that the cluster does not name any more"),
    gauge("kmirror_cluster_controller", CLUSTER, "broker that the cluster names as controller, -1 for none (under KRaft any broker: requests are forwarded)"),
    gauge("kmirror_cluster_offline_partitions", CLUSTER, "partitions without a leader, of the topics that kmirror may see"),
    gauge("kmirror_cluster_under_replicated_partitions", CLUSTER, "partitions with replicas that are not in sync, of the topics that kmirror may see"),
    gauge("kmirror_backup_age_seconds", BACKUP, "since the end of the last pass that read every partition to its end, whoever did it; +Inf where none ever did, NaN where the archive could not be read yet"),
    gauge("kmirror_backup_verified_age_seconds", BACKUP, "since everything in the archive was last found whole, as `archive verify --note` has noted there; +Inf where that was never noted, NaN where it is not known yet"),
    gauge("kmirror_backup_lag_records", BACKUP, "source offsets that the archive lacked when the last pass ended; NaN where it failed or some partition does not tell"),
    counter("kmirror_backup_passes_total", &["backup", "outcome"], "passes since the start: `complete`, every partition read to its end; `partial`, some not; `failed`, nothing written"),
    counter("kmirror_backup_records_total", BACKUP, "records that manifests name, since the start"),
    counter("kmirror_backup_bytes_total", BACKUP, "bytes of their segments, in each copy"),
    gauge("kmirror_memory_budget_bytes", &["state"], "the memory budget: `free` and `leased`"),
    gauge("kmirror_config_info", &["fingerprint"], "1, and the fingerprint of the configuration in force: the same for all instances that go by the same one; of `kmirror run`, as those below"),
    gauge("kmirror_config_last_reload_successful", &[], "1 where the file as it is now is in force, 0 where it was refused and the one before goes on"),
    gauge("kmirror_config_last_reload_success_timestamp_seconds", &[], "when the file was last read and is in force since, seconds since the epoch"),
    gauge("kmirror_config_pending_restart_keys", &[], "keys of the file that take effect with the next start of the process"),
    counter("kmirror_config_reloads_total", &["outcome"], "changed configurations that were read: `applied`, or `refused` as a whole"),
    gauge("kmirror_build_info", &["version"], "1, and the version that runs"),
];

/// The README's table.
pub fn readme() -> String {
    let mut text = String::from("| Metric | | Labels | |\n|---|---|---|---|\n");
    for Metric { name, kind, labels, help } in METRICS {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        text += &format!("| `{name}` | {} | {} | {help} |\n", kind.name(), labels.join(", "));
    }
    text
}

/// Tells the recorder what each is.
pub(super) fn describe() {
    for Metric { name, kind, help, .. } in METRICS {
        // Links and code marks are for the README.
        let help = help.replace('`', "").replace(" ([Gaps](#gaps))", "").replace(" ([Halts](#halts))", "");
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, help),
            Kind::Gauge => metrics::describe_gauge!(*name, help),
            Kind::Histogram => metrics::describe_histogram!(*name, help),
        }
    }
}
