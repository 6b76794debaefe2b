//! What no single value shows: names that refer to something, mirrors that disturb one another. Turns the file's shape
//! into the types the engine reads.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::error::{ConfigError, Place};
use super::raw;
use super::routes;
use super::topics::{GroupFilter, Rename, TopicFilter, is_topic_name};
use super::types::{
    ClusterConfig, Config, DrillConfig, GroupSync, Heartbeats, Limits, LogConfig, MirrorConfig, MirrorLimits, Policies,
    Sync, TargetTopics,
};
use super::units;

pub(super) struct Validator<'a> {
    pub(super) places: &'a BTreeMap<String, Place>,
    pub(super) errors: Vec<ConfigError>,
    /// Where relative paths start from.
    pub(super) folder: PathBuf,
}

impl Validator<'_> {
    fn place(&self, key: &str) -> Place {
        self.places.get(key).copied().unwrap_or(Place { line: 1, column: 1 })
    }

    pub(super) fn error(&mut self, key: &str, message: impl Into<String>) {
        let place = Some(self.place(key));
        self.errors.push(ConfigError { place, key: key.to_owned(), message: message.into() });
    }

    /// A value that the shape has checked already; a fault here is noted all the same.
    pub(super) fn take<T, E: ToString>(&mut self, key: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.error(key, error.to_string())).ok()
    }

    /// `None` where there are errors.
    pub(super) fn config(&mut self, file: raw::File) -> Option<Config> {
        let clusters = self.clusters(file.clusters);
        if file.mirrors.is_none() && file.backups.is_none() {
            self.error("mirrors", "is missing (a list of sections), and so is backups: the file asks for nothing");
        }
        let mirrors: Vec<_> = file
            .mirrors
            .unwrap_or_default()
            .into_iter()
            .enumerate()
            .filter_map(|(index, mirror)| self.mirror(&format!("mirrors[{index}]"), mirror, &clusters))
            .collect();
        if self.errors.is_empty() {
            let examples: Vec<_> = mirrors.iter().map(routes::examples).collect();
            self.names(&mirrors);
            self.conflicts(&mirrors, &examples);
            self.circles(&mirrors, &examples);
        }
        let backups = self.backups(file.backups.unwrap_or_default(), &clusters);
        let memory = self.take("limits.memory", units::parse_size(&file.limits.memory));
        let http = match file.http {
            Some(http) => self.http(http),
            None => None,
        };
        let fleet = match file.fleet {
            Some(fleet) => self.fleet(fleet),
            None => None,
        };
        let drills = file.drills.unwrap_or_default().into_iter().enumerate();
        let drills: Vec<_> = drills.filter_map(|(index, drill)| self.drill(index, drill, &mirrors)).collect();
        let limits = Limits { memory_bytes: memory? };
        let log = LogConfig { level: file.log.level, format: file.log.format };
        self.errors.is_empty().then_some(Config { clusters, mirrors, backups, limits, fleet, http, drills, log })
    }

    fn clusters(&mut self, clusters: BTreeMap<String, raw::Cluster>) -> BTreeMap<String, ClusterConfig> {
        let mut done = BTreeMap::<String, ClusterConfig>::new();
        for (name, cluster) in clusters {
            let mut bootstrap = Vec::new();
            for (index, text) in cluster.bootstrap.iter().enumerate() {
                let key = format!("clusters.{name}.bootstrap[{index}]");
                let Some(address) = self.take(&key, units::parse_host_port(text)) else { continue };
                if let Some(other) = done.values().find(|other| other.bootstrap.contains(&address)) {
                    let message =
                        format!("is also a bootstrap address of cluster {}: one address is one cluster", other.name);
                    self.error(&key, message);
                }
                bootstrap.push(address);
            }
            let tls = cluster.tls.map(|tls| self.tls(&format!("clusters.{name}.tls"), tls));
            let sasl = cluster.sasl.and_then(|sasl| self.sasl(&format!("clusters.{name}.sasl"), sasl));
            done.insert(name.clone(), ClusterConfig { name, bootstrap, client_id: cluster.client_id, tls, sasl });
        }
        done
    }

    pub(super) fn known_cluster(&mut self, key: &str, cluster: &str, clusters: &BTreeMap<String, ClusterConfig>) {
        if !clusters.contains_key(cluster) {
            let known: Vec<&str> = clusters.keys().map(String::as_str).collect();
            self.error(key, format!("no cluster has this name; clusters are: {}", known.join(", ")));
        }
    }

    fn mirror(
        &mut self,
        at: &str,
        mirror: raw::Mirror,
        clusters: &BTreeMap<String, ClusterConfig>,
    ) -> Option<MirrorConfig> {
        for (key, cluster) in [("source", &mirror.source), ("target", &mirror.target)] {
            self.known_cluster(&format!("{at}.{key}"), cluster, clusters);
        }
        if mirror.source == mirror.target {
            self.error(&format!("{at}.target"), "is the source: a mirror leads from one cluster to another");
        }
        for (name, value) in &mirror.target_topics.configs {
            if name == "message.timestamp.type" && value != "CreateTime" {
                let message =
                    "must be CreateTime: the target keeps the records' own timestamps while it is mirrored to";
                self.error(&format!("{at}.target_topics.configs.{name}"), message);
            }
        }
        let heartbeats = match &mirror.heartbeats {
            Some(heartbeats) => Some(self.heartbeats(&format!("{at}.heartbeats"), &mirror.name, heartbeats)?),
            None => None,
        };
        let mut include = mirror.topics.include.clone();
        include.extend(heartbeats.iter().map(|heartbeats| regex::escape(&heartbeats.topic)));
        let topics = TopicFilter::new(&include, &mirror.topics.exclude);
        let rename = Rename::new(&mirror.rename, &mirror.source, &mirror.target);
        let topics = self.take(&format!("{at}.topics"), topics);
        if let (Some(heartbeats), Some(topics)) = (&heartbeats, &topics)
            && !topics.matches(&heartbeats.topic)
        {
            let message = format!("{} is not mirrored: topics.exclude takes it out", heartbeats.topic);
            self.error(&format!("{at}.heartbeats.topic"), message);
        }
        let rename = self.take(&format!("{at}.rename"), rename);
        let start = self.take(&format!("{at}.start"), units::parse_start(&mirror.start));
        let bandwidth = match &mirror.limits.bandwidth {
            Some(text) => Some(self.take(&format!("{at}.limits.bandwidth"), units::parse_size(text))?),
            None => None,
        };
        let coalesced =
            self.take(&format!("{at}.limits.coalesced_batch"), units::parse_size(&mirror.limits.coalesced_batch));
        let sync = self.sync(&format!("{at}.sync"), &mirror.sync);
        let groups = match &mirror.groups {
            Some(groups) => Some(self.groups(&format!("{at}.groups"), groups)?),
            None => None,
        };
        Some(MirrorConfig {
            name: mirror.name,
            source: mirror.source,
            target: mirror.target,
            topics: topics?,
            rename: rename?,
            start: start?,
            isolation: mirror.isolation,
            target_topics: TargetTopics {
                replication_factor: mirror.target_topics.replication_factor,
                configs: mirror.target_topics.configs,
            },
            groups,
            heartbeats,
            sync: sync?,
            on: Policies {
                retention_loss: mirror.on.retention_loss,
                source_recreated: mirror.on.source_recreated,
                truncation: mirror.on.truncation,
                foreign_records: mirror.on.foreign_records,
                corrupt_batch: mirror.on.corrupt_batch,
            },
            limits: MirrorLimits {
                bandwidth_bytes_per_s: bandwidth,
                coalesced_batch_bytes: usize::try_from(coalesced?).unwrap_or(usize::MAX),
            },
            source_gaps: BTreeMap::new(),
        })
    }

    fn heartbeats(&mut self, at: &str, mirror: &str, heartbeats: &raw::Heartbeats) -> Option<Heartbeats> {
        let key = format!("{at}.interval");
        let interval = self.take(&key, units::parse_duration(&heartbeats.interval))?;
        if interval < super::HEARTBEATS_INTERVAL_MIN {
            self.error(&key, "is too short: write 100ms or more");
        }
        let topic = heartbeats.topic.clone().unwrap_or_else(|| format!("kmirror.heartbeats.{mirror}"));
        if !is_topic_name(&topic) {
            self.error(&format!("{at}.topic"), "is no name of a topic: 1 to 249 of a-z, A-Z, 0-9, '.', '_', '-'");
        }
        Some(Heartbeats { topic, interval })
    }

    fn sync(&mut self, at: &str, sync: &raw::Sync) -> Option<Sync> {
        let key = format!("{at}.interval");
        let interval = self.take(&key, units::parse_duration(&sync.interval))?;
        if interval < super::SYNC_INTERVAL_MIN {
            self.error(&key, "is too short: both clusters are asked about every topic each time; write 1s or more");
        }
        let grace = self.take(&format!("{at}.deletions_grace"), units::parse_duration(&sync.deletions_grace))?;
        Some(Sync {
            topic_configs: sync.topic_configs,
            partitions: sync.partitions,
            acls: sync.acls,
            quotas: sync.quotas,
            scram_users: sync.scram_users,
            deletions: sync.deletions.then_some(grace),
            interval,
        })
    }

    fn groups(&mut self, at: &str, groups: &raw::Groups) -> Option<GroupSync> {
        let filter = self.take(at, GroupFilter::new(&groups.include, &groups.exclude));
        let key = format!("{at}.interval");
        let interval = self.take(&key, units::parse_duration(&groups.interval))?;
        if interval < super::GROUPS_INTERVAL_MIN {
            self.error(&key, "is too short: every group is asked about each time; write 1s or more");
        }
        Some(GroupSync { filter: filter?, interval })
    }

    fn drill(&mut self, index: usize, drill: raw::Drill, mirrors: &[MirrorConfig]) -> Option<DrillConfig> {
        let key = |name: &str| format!("drills[{index}].{name}");
        // A mirror with a fault of its own is not among them.
        if self.errors.is_empty() && !mirrors.iter().any(|mirror| mirror.name == drill.mirror) {
            let known: Vec<&str> = mirrors.iter().map(|mirror| mirror.name.as_str()).collect();
            self.error(&key("mirror"), format!("no mirror has this name; mirrors are: {}", known.join(", ")));
        }
        let every = self.take(&key("every"), units::parse_duration(&drill.every))?;
        if every < super::DRILLS_EVERY_MIN {
            self.error(&key("every"), "is too short: a drill asks both clusters about everything; write 1m or more");
        }
        Some(DrillConfig {
            mirror: drill.mirror,
            reports: drill.reports.into(),
            every,
            max_rpo: self.take(&key("max_rpo"), units::parse_duration(&drill.max_rpo))?,
            max_rto: self.take(&key("max_rto"), units::parse_duration(&drill.max_rto))?,
            sample: drill.sample,
            isolated: drill.isolated,
        })
    }

    fn names(&mut self, mirrors: &[MirrorConfig]) {
        let mut seen = HashMap::<String, usize>::new();
        for (index, mirror) in mirrors.iter().enumerate() {
            // Kafka refuses a topic whose name differs from another's only by '.' for '_' (Topic.hasCollision), and the
            // state topics are named after the mirrors.
            let Some(first) = seen.insert(mirror.name.replace('.', "_"), index) else { continue };
            let other = mirrors.get(first).map_or("", |other| other.name.as_str());
            let message = if other == mirror.name {
                format!("mirrors[{first}] has this name already")
            } else {
                format!("differs from {other} only in '.' and '_': Kafka takes only one of their state topics")
            };
            self.error(&format!("mirrors[{index}].name"), message);
        }
    }

    fn conflicts(&mut self, mirrors: &[MirrorConfig], examples: &[Vec<String>]) {
        let all = || mirrors.iter().zip(examples.iter().map(Vec::as_slice));
        for (index, mirror) in all().enumerate() {
            for earlier in all().take(index) {
                let Some(conflict) = routes::static_conflict(earlier, mirror) else { continue };
                let claims: Vec<String> =
                    conflict.claims.iter().map(|(mirror, topic)| format!("{topic} of mirror {mirror}")).collect();
                let message = format!(
                    "two sources for one target topic: {} would both be written to {} on {}; \
                     set them apart with rename (such as \"{{source}}.{{topic}}\") or with topics",
                    claims.join(" and "),
                    conflict.target_topic,
                    conflict.target
                );
                self.error(&format!("mirrors[{index}].topics"), message);
            }
        }
    }

    fn circles(&mut self, mirrors: &[MirrorConfig], examples: &[Vec<String>]) {
        let mut told = Vec::<String>::new();
        for (index, (mirror, examples)) in mirrors.iter().zip(examples).enumerate() {
            if told.contains(&mirror.name) {
                continue;
            }
            let Some(way) = routes::static_circle(mirrors, mirror, examples) else { continue };
            let hops: Vec<String> = way.iter().map(|(mirror, topic)| format!("{topic} (mirror {mirror})")).collect();
            told.extend(way.iter().map(|(mirror, _)| mirror.clone()));
            let message = format!(
                "records would run in a circle: {}; let each mirror exclude what the other one writes",
                hops.join(" → ")
            );
            self.error(&format!("mirrors[{index}].topics"), message);
        }
    }
}
