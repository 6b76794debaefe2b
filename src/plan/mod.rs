//! Diffs that become actions. Pure: what is there goes in, what should be done comes out; `engine/` and `ops/` act.

mod acl_restore;
mod acls;
mod drill;
mod failover;
pub mod fleet;
mod held;
mod ownership;
mod quota_restore;
pub mod rights;
mod settings;
mod sync;
mod time;
mod topics;

pub use acl_restore::{AclBinding, AclNumbers, AclRestorePlan, AclScope, LeftOutAcl, plan_acl_restore};
pub use acls::{Acl, AclDifference, AclNames, AclResource, Acls, AclsOutlook, Grant, compare_acls};
pub use drill::{
    Check, Expected, Verdict, Witness, acls_check, blockers_check, gaps_check, partitions_check, rpo_check, rto_check,
    settings_check, spread, witness,
};
pub use failover::{
    FailoverFacts, FailoverPlan, GroupsFacts, LostRange, NOT_MIRRORED, PartitionOutlook, PlannedStep, Rpo, Wish,
    failover_plan, rpo,
};
pub use held::{Assignment, Held, ShardHeld, ShardStage};
pub use ownership::{Verdict as Ownership, verdict as ownership};
pub use quota_restore::{
    MissingUser, Quota, QuotaDifference, QuotaEntity, QuotaRestorePlan, ScramCredential, missing_users,
    plan_quota_restore,
};
pub use settings::{SettingChange, SettingFacts, TopicSettings, mirroring_settings, promotion_settings};
pub use sync::{
    AclSyncScope, DeletionTerms, GoneTopic, SyncAction, SyncPlan, SyncRow, TopicConfigs, Weighing, acl_of, entity_of,
    held_back_acls, plan_acl_sync, plan_deletions, plan_partitions, plan_quota_sync, plan_topic_configs,
    plan_user_sync,
};
pub use time::rfc3339;
pub use topics::{TargetConfigs, TopicAction, TopicShape, set_for_mirroring, target_configs, topic_action};
