//! What may happen in a run. Every seed draws its own mixture, so that rare faults also meet quiet surroundings (swarm
//! testing): a run in which everything fails all the time never gets far.

use fastrand::Rng;
use kmirror::mirror::Isolation;

use super::driver::{Policy, Settings};
use super::mutation::Mutation;

const DAY_MS: u64 = 86_400_000;

#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) settings: Settings,
    /// Things that happen before the faults end.
    pub(crate) steps: usize,
    /// Records are this much older than the time at which they are written.
    pub(crate) age_ms: i64,
    pub(crate) transactions: bool,
    pub(crate) compaction: bool,
    pub(crate) lost_connections: bool,
    pub(crate) stalls: bool,
    pub(crate) crashes: bool,
    pub(crate) zombies: bool,
    pub(crate) stops: bool,
    pub(crate) leaders: bool,
    pub(crate) sweeps: bool,
    pub(crate) retention: bool,
    pub(crate) truncation: bool,
    pub(crate) recreation: bool,
    pub(crate) foreigners: bool,
    pub(crate) time_jumps: bool,
    pub(crate) wrong_clocks: bool,
    pub(crate) forgotten_ids: bool,
    pub(crate) resumes: bool,
}

impl Profile {
    pub(crate) fn draw(rng: &mut Rng, mutation: Option<Mutation>) -> Self {
        let policy = |rng: &mut Rng| if rng.bool() { Policy::Continue } else { Policy::Halt };
        let settings = Settings {
            parts: rng.usize(1..=2),
            isolation: if rng.u8(..4) == 0 { Isolation::ReadUncommitted } else { Isolation::ReadCommitted },
            starts_latest: rng.u8(..4) == 0,
            retention_loss: policy(rng),
            truncation: policy(rng),
            foreign_records: policy(rng),
            source_recreated: policy(rng),
            expiration_ms: DAY_MS,
            // Less is under way where batches are joined: mutants show without.
            coalesced_batch_bytes: if mutation.is_none() && rng.bool() { 64 << 10 } else { 0 },
            mutation,
        };
        let seldom = |rng: &mut Rng| rng.u8(..6) == 0;
        Self {
            settings,
            steps: rng.usize(200..1800),
            age_ms: if rng.u8(..3) == 0 { 2 * DAY_MS as i64 } else { 0 },
            transactions: rng.bool(),
            compaction: rng.bool(),
            lost_connections: rng.bool(),
            stalls: rng.bool(),
            crashes: rng.bool(),
            zombies: rng.u8(..3) == 0,
            stops: rng.bool(),
            leaders: rng.u8(..3) == 0,
            sweeps: rng.u8(..3) == 0,
            retention: rng.u8(..3) == 0,
            truncation: rng.u8(..4) == 0,
            recreation: seldom(rng),
            foreigners: seldom(rng),
            time_jumps: seldom(rng),
            wrong_clocks: seldom(rng),
            forgotten_ids: seldom(rng),
            resumes: rng.bool(),
        }
    }
}
