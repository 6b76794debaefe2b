//! What both clusters say, as the plans take it.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::client::{ClientError, Cluster, Metadata, ScramUser, TopicMeta, Topics};
use crate::config::{Config, MirrorConfig};
use crate::engine::topology::{known_topic_configs, matching_topics};
use crate::engine::{EngineError, now_ms};
use crate::mirror::PartitionState;
use crate::plan::{
    AclSyncScope, DeletionTerms, GoneTopic, Quota, ScramCredential, SyncPlan, TopicConfigs, TopicShape, Weighing,
    plan_acl_sync, plan_deletions, plan_partitions, plan_quota_sync, plan_topic_configs, plan_user_sync,
};

use super::super::MirrorState;

/// Whom to ask, and what for.
pub(super) struct Facts<'a> {
    pub(super) config: &'a Config,
    pub(super) mirror: &'a MirrorConfig,
    pub(super) source: &'a Cluster,
    pub(super) target: &'a Cluster,
    pub(super) state: &'a MirrorState,
}

/// Mirrored topics: as the source has them, and their names on the target.
type Pairs = Vec<(TopicMeta, String)>;

impl Facts<'_> {
    pub(super) async fn plan(&self, how: &Weighing<'_>) -> Result<SyncPlan, EngineError> {
        let on_record: BTreeSet<&str> = self.on_record().map(|p| p.declared.source_topic.as_str()).collect();
        let names: Vec<&str> = on_record.iter().copied().collect();
        let found = matching_topics(self.mirror, self.source, &names).await?;
        let there = self.target.refresh(Topics::All).await?;
        let mirrored = found.topics.into_iter().filter(|topic| on_record.contains(topic.name.as_str()));
        let pairs: Pairs = mirrored.map(|topic| (topic.clone(), self.mirror.target_topic(&topic.name))).collect();
        let sync = &self.mirror.sync;
        let mut plan = SyncPlan::default();
        if sync.topic_configs {
            plan.add(self.part("topic configs", self.topic_configs(&pairs, how).await)?);
        }
        if sync.partitions {
            plan.add(partitions(&pairs, &there));
        }
        if sync.acls {
            plan.add(self.part("ACLs", self.acls(&there, how).await)?);
        }
        if sync.quotas {
            plan.add(self.part("client quotas", self.quotas(how).await)?);
        }
        if sync.scram_users {
            plan.add(self.part("SCRAM users", self.users().await)?);
        }
        plan.add(self.deletions(&found.gone, &there, how).await?);
        Ok(plan)
    }

    /// Partitions of topics that the mirror still takes; of one made again, the last.
    fn on_record(&self) -> impl Iterator<Item = &PartitionState> {
        self.state.partitions().filter(|p| self.mirror.topics.matches(&p.declared.source_topic))
    }

    /// What one part cannot be told keeps no other from being planned.
    fn part(&self, what: &str, plan: Result<SyncPlan, EngineError>) -> Result<SyncPlan, EngineError> {
        match plan {
            Err(error) if error.client().is_none_or(ClientError::is_unreachable) => Err(error),
            Err(error) => Ok(SyncPlan::unavailable(format!("{what}: {error}"))),
            Ok(plan) => Ok(plan),
        }
    }

    async fn topic_configs(&self, pairs: &Pairs, how: &Weighing<'_>) -> Result<SyncPlan, EngineError> {
        let (here, there): (Vec<&str>, Vec<&str>) =
            pairs.iter().map(|(topic, name)| (topic.name.as_str(), name.as_str())).unzip();
        if here.is_empty() {
            return Ok(SyncPlan::default());
        }
        let known = known_topic_configs(self.mirror, self.target).await?;
        let source = self.source.overrides_of_topics(&here).await?;
        let target = self.target.overrides_of_topics(&there).await?;
        let told: Vec<TopicConfigs<'_>> = (here.iter().zip(&there))
            .filter_map(|(here, topic)| {
                Some(TopicConfigs { topic, source: source.get(*here)?, target: target.get(*topic)? })
            })
            .collect();
        let mut plan = plan_topic_configs(&told, &self.mirror.target_topics.configs, &known, how);
        if told.len() < here.len() {
            let untold = here.len() - told.len();
            plan.unavailable
                .push(format!("topic configs: {untold} topics are not told of (DESCRIBE_CONFIGS on both sides?)"));
        }
        Ok(plan)
    }

    async fn acls(&self, there: &Metadata, how: &Weighing<'_>) -> Result<SyncPlan, EngineError> {
        let needs = "; reading them needs DESCRIBE on the cluster";
        let (here, target) = tokio::join!(self.source.acl_bindings(), self.target.acl_bindings());
        let (here, target) = match (here, target) {
            (Ok(Some(here)), Ok(Some(target))) => (here, target),
            (Ok(None), Ok(_)) => return Ok(SyncPlan::unavailable("ACLs: the source has no authorizer")),
            (Ok(_), Ok(None)) => return Ok(SyncPlan::unavailable("ACLs: the target has no authorizer")),
            (Err(error), _) | (_, Err(error)) if error.is_unreachable() => return Err(error.into()),
            (Err(error), _) | (_, Err(error)) => return Ok(SyncPlan::unavailable(format!("ACLs: {error}{needs}"))),
        };
        // By what is on record: a topic that the source only hides for now keeps its ACLs.
        let declared = self.on_record().map(|p| &p.declared).filter(|p| there.topic(&p.target_topic).is_some());
        let mirrored: BTreeMap<String, String> =
            declared.map(|p| (p.source_topic.clone(), p.target_topic.clone())).collect();
        let ours: BTreeSet<&str> = mirrored.values().map(String::as_str).collect();
        let is_other = |topic: &&TopicMeta| {
            !topic.internal && !topic.name.starts_with("__") && !ours.contains(topic.name.as_str())
        };
        let others = there.topics.values().filter(is_other).map(|topic| topic.name.clone()).collect();
        let own = self.config.clusters.get(&self.mirror.target).and_then(|cluster| cluster.sasl.as_ref()?.user());
        let own = own.map(|user| format!("User:{user}"));
        let scope = AclSyncScope {
            topic: &|topic| self.mirror.topics.matches(topic).then(|| self.mirror.target_topic(topic)),
            prefix: &|prefix| self.mirror.rename.of_prefix(prefix),
            mirrored: &mirrored,
            others: &others,
            fenced: self.state.control.source_fenced(),
            own_principal: own.as_deref(),
        };
        Ok(plan_acl_sync(&here, &target, scope, how))
    }

    async fn quotas(&self, how: &Weighing<'_>) -> Result<SyncPlan, EngineError> {
        let (here, there) = (self.source.client_quotas().await?, self.target.client_quotas().await?);
        let [here, there] = [here, there].map(|quotas| quotas.into_iter().map(Quota::from).collect::<Vec<_>>());
        Ok(plan_quota_sync(&here, &there, how))
    }

    async fn users(&self) -> Result<SyncPlan, EngineError> {
        let (here, there) = (self.source.scram_users().await?, self.target.scram_users().await?);
        let [here, there] =
            [here, there].map(|users| users.iter().flat_map(ScramUser::credentials).collect::<Vec<ScramCredential>>());
        let bootstrap = self.config.clusters.get(&self.mirror.target).map(|cluster| &cluster.bootstrap);
        let bootstrap: Vec<String> = bootstrap.into_iter().flatten().map(ToString::to_string).collect();
        Ok(plan_user_sync(&here, &there, &bootstrap.join(",")))
    }

    /// Where there is nothing to delete it is not asked whether anything should be.
    async fn deletions(&self, gone: &[String], there: &Metadata, how: &Weighing<'_>) -> Result<SyncPlan, EngineError> {
        let mut topics = Vec::new();
        for source_topic in gone {
            if !self.mirror.topics.matches(source_topic) {
                continue;
            }
            let found = there.topic(&self.mirror.target_topic(source_topic)).map(|topic| topic.id);
            let Some((topic, topic_id)) = self.written_to(source_topic, found) else { continue };
            let doubt = match found {
                None => None,
                Some(id) if id.is_nil() => Some("the target tells no topic ids (Kafka 2.8 and later do)".to_owned()),
                Some(_) => match self.halted(source_topic) {
                    Some(halted) => Some(halted),
                    None => self.source.doubt_of_absence(source_topic).await?,
                },
            };
            topics.push(GoneTopic {
                source_topic: source_topic.clone(),
                topic,
                topic_id: topic_id.to_string(),
                found_id: found.map(|id| id.to_string()),
                doubt,
            });
        }
        let grace = self.mirror.sync.deletions;
        let terms = DeletionTerms {
            is_enabled: grace.is_some(),
            grace_ms: grace.map_or(0, |grace| i64::try_from(grace.as_millis()).unwrap_or(i64::MAX)),
            now_ms: now_ms(),
            topics_there: self
                .source
                .metadata()
                .topics
                .values()
                .filter(|topic| !topic.internal && topic.error == 0)
                .count(),
        };
        Ok(plan_deletions(&topics, terms, how))
    }

    /// The target topic of a source topic, and its id as it was written to; of one that was made again, the one that is there.
    fn written_to(&self, source_topic: &str, found: Option<Uuid>) -> Option<(String, Uuid)> {
        let of = || self.on_record().map(|p| &p.declared).filter(|declared| declared.source_topic == source_topic);
        let there = of().find(|declared| Some(declared.target_topic_id) == found);
        let declared = there.or_else(|| of().last())?;
        Some((declared.target_topic.clone(), declared.target_topic_id))
    }

    /// What somebody has yet to decide on may be data that is nowhere else.
    fn halted(&self, topic: &str) -> Option<String> {
        let partitions = self.on_record().filter(|p| p.declared.source_topic == topic).map(|p| p.declared.partition);
        let mut halts = partitions.filter_map(|partition| Some((partition, self.state.halt(topic, partition)?)));
        halts.next().map(|(partition, halt)| format!("partition {partition} is halted ({})", halt.kind))
    }
}

fn partitions(pairs: &Pairs, there: &Metadata) -> SyncPlan {
    let shape = |topic: &TopicMeta, name: &str| TopicShape {
        name: name.to_owned(),
        partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
    };
    let both = pairs.iter().filter_map(|(topic, name)| {
        let mirror = there.topic(name).filter(|mirror| !mirror.partitions.is_empty())?;
        Some((shape(topic, name), shape(mirror, name)))
    });
    plan_partitions(&both.collect::<Vec<_>>())
}
