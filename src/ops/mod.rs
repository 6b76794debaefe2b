//! What an operator asks for beside `run`: status, translate, check, pause and resume, bandwidth, comparing both sides, rebuilding the
//! state. Each reads the clusters; none needs a running kmirror.

mod check;
mod command;
pub mod failback;
mod rebuild;
mod records;
mod state;
mod status;
mod translate;
mod verify;

pub use check::{CheckReport, Finding, Severity, check};
pub use command::{Command, bandwidth, send_command};
pub use rebuild::{Outcome, RebuildReport, RebuiltPartition, Walked, rebuild};
pub use state::MirrorState;
pub use status::{GapView, MirrorStatus, PartitionStatus, StatusReport, status};
pub use translate::{TranslateAnswer, TranslateError, TranslateQuestion, translate};
pub use verify::{Found, VerifiedPartition, VerifyOptions, VerifyReport, verify};
