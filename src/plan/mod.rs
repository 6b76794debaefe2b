//! Diffs that become actions. Pure: what is there goes in, what should be done comes out; `engine/` and `ops/` act.

mod topics;

pub use topics::{TargetConfigs, TopicAction, TopicShape, target_configs, topic_action};
