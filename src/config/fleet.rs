//! The fleet: how this instance is a member of it.

use std::time::Duration;

use super::raw;
use super::units;
use super::validate::Validator;

/// Heartbeats go out ten times in a session.
const SESSION_MIN: Duration = Duration::from_secs(1);
const SESSION_MAX: Duration = Duration::from_secs(30 * 60);
/// Five signs of life go out in this time, and are answered.
const SUSPECT_MIN: Duration = Duration::from_millis(500);

/// Membership of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetConfig {
    /// Of a static member.
    pub instance_id: Option<String>,
    /// Who is not heard of for so long is out.
    pub session_timeout: Duration,
    /// Who gives no sign of life for so long is put out by the others; `None`: by the coordinator alone, when its session ends.
    pub suspect_after: Option<Duration>,
    /// Share of the work, next to those of others.
    pub weight: u32,
}

impl Validator<'_> {
    pub(super) fn fleet(&mut self, fleet: raw::Fleet) -> Option<FleetConfig> {
        let key = "fleet.session_timeout";
        let session_timeout = self.take(key, units::parse_duration(&fleet.session_timeout))?;
        if !(SESSION_MIN..=SESSION_MAX).contains(&session_timeout) {
            self.error(key, "is not between 1s and 30m");
        }
        let suspect_after = match &fleet.suspect_after {
            None => None,
            Some(written) => Some(self.suspect_after(written, session_timeout)?),
        };
        Some(FleetConfig { instance_id: fleet.instance_id, session_timeout, suspect_after, weight: fleet.weight })
    }

    fn suspect_after(&mut self, written: &str, session_timeout: Duration) -> Option<Duration> {
        let key = "fleet.suspect_after";
        let after = self.take(key, units::parse_duration(written))?;
        if after < SUSPECT_MIN {
            self.error(key, "is less than 500ms");
        }
        if after >= session_timeout {
            self.error(key, "is not less than fleet.session_timeout: the session would end before");
        }
        Some(after)
    }
}
