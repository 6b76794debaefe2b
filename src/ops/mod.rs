//! What an operator asks for beside `run`: status, translate, check, pause and resume, bandwidth, rebuilding the state,
//! failover and failback. Each reads the clusters; none needs a running kmirror.

mod check;
mod command;
pub mod failback;
mod failover;
mod rebuild;
mod records;
mod state;
mod status;
mod time;
mod translate;

pub use check::{CheckReport, Finding, Severity, check};
pub use command::{Command, bandwidth, send_command};
pub use failover::{
    Failover, FailoverError, FailoverOptions, FailoverReport, LossManifest, LossRange, StepReport, UnseenRange,
    Verification,
};
pub use rebuild::{Outcome, RebuildReport, RebuiltPartition, Walked, rebuild};
pub use state::MirrorState;
pub use status::{GapView, MirrorStatus, PartitionStatus, StatusReport, status};
pub use translate::{TranslateAnswer, TranslateError, TranslateQuestion, translate};
