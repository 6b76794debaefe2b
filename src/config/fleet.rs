//! The fleet: how this instance is a member of it.

use std::time::Duration;

use super::raw;
use super::units;
use super::validate::Validator;

/// Heartbeats go out ten times in a session.
const SESSION_MIN: Duration = Duration::from_secs(1);
const SESSION_MAX: Duration = Duration::from_secs(30 * 60);

/// Membership of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetConfig {
    /// Of a static member.
    pub instance_id: Option<String>,
    /// Who is not heard of for so long is out.
    pub session_timeout: Duration,
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
        Some(FleetConfig { instance_id: fleet.instance_id, session_timeout, weight: fleet.weight })
    }
}
