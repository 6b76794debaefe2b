//! What an operator asks for beside `run`: status, translate, check, pause and resume, bandwidth, consumer groups, rebuilding the
//! state, verifying, drills, failover and failback. Each reads the clusters; none needs a running kmirror. (And what keeps groups in step beside one.)

mod acls;
mod check;
mod command;
pub mod drill;
pub mod failback;
mod failover;
mod fleet;
#[doc(hidden)]
pub mod fuzzing;
pub mod groups;
mod heartbeats;
mod map_view;
mod rebuild;
mod records;
pub(crate) mod replaying;
pub mod rights;
mod state;
mod status;
pub mod sync;
pub(crate) mod time;
mod translate;
mod verify;

pub use check::{CheckReport, Finding, Looked, Severity, check};
pub use command::{AcceptError, Command, bandwidth, check_accepted_range, parse_rate, send_command};
pub use failover::{
    Failover, FailoverError, FailoverOptions, FailoverReport, LossManifest, LossRange, PromotedGroups, Sampled,
    StepReport, UnseenRange, Verification,
};
pub use fleet::{FleetInstance, FleetView, fleet_view};
pub use heartbeats::keep_beating;
pub use map_view::{MapView, SegmentView, map_of};
pub use rebuild::{Outcome, RebuildReport, RebuiltPartition, Walked, rebuild};
pub use replaying::{ORIGIN, REPLAY, ReplayError};
pub use state::MirrorState;
pub use status::{GapView, GroupsStatus, MirrorStatus, PartitionStatus, StatusReport, status};
pub use sync::keep_in_sync;
pub use translate::{TranslateAnswer, TranslateError, TranslateQuestion, translate};
pub use verify::{Found, VerifiedPartition, VerifyOptions, VerifyReport, verify};
