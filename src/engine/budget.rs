//! One byte budget for the whole process (`limits.memory`): bytes are leased before they are asked for and given
//! back when the last slice of the response that holds them is gone.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit that the budget counts in, bytes: a tokio semaphore holds fewer permits than a large budget has bytes.
const UNIT_BYTES: usize = 1024;

/// The budget.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    total_bytes: usize,
}

/// Leased bytes. Cheap to clone; the bytes return when the last clone drops.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Mutex<OwnedSemaphorePermit>>);

impl Budget {
    /// A budget of this many bytes.
    pub fn new(total_bytes: usize) -> Self {
        Self { units: Arc::new(Semaphore::new(total_bytes / UNIT_BYTES)), total_bytes }
    }

    /// Size of the budget, bytes.
    pub fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// Bytes not leased at the moment.
    pub fn free_bytes(&self) -> usize {
        self.units.available_permits() * UNIT_BYTES
    }

    /// Waits until `bytes` (at most the whole budget) are free and leases them.
    pub async fn lease(&self, bytes: usize) -> Option<Lease> {
        let units = bytes.min(self.total_bytes).div_ceil(UNIT_BYTES).min(self.total_bytes / UNIT_BYTES);
        let permit = Arc::clone(&self.units).acquire_many_owned(u32::try_from(units).ok()?).await.ok()?;
        Some(Lease(Arc::new(Mutex::new(permit))))
    }
}

impl Lease {
    /// Gives back what is above `bytes`: a response is usually smaller than what was asked for. A response may also
    /// be larger, by one batch (KIP-74); that much the budget is overdrawn, and it shows as soon as it is freed.
    pub fn shrink_to(&self, bytes: usize) {
        let mut permit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = bytes.div_ceil(UNIT_BYTES);
        let surplus = permit.num_permits().saturating_sub(keep);
        drop(permit.split(surplus));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn leases_return_when_the_last_clone_drops() {
        let budget = Budget::new(64 * UNIT_BYTES);
        let lease = budget.lease(48 * UNIT_BYTES).await.expect("budget is open");
        let clone = lease.clone();
        lease.shrink_to(8 * UNIT_BYTES);
        assert_eq!(budget.free_bytes(), 56 * UNIT_BYTES);
        drop(lease);
        assert_eq!(budget.free_bytes(), 56 * UNIT_BYTES);
        drop(clone);
        assert_eq!(budget.free_bytes(), 64 * UNIT_BYTES);
    }

    #[tokio::test]
    async fn more_than_everything_is_everything() {
        let budget = Budget::new(8 * UNIT_BYTES);
        let lease = budget.lease(usize::MAX).await.expect("budget is open");
        assert_eq!(budget.free_bytes(), 0);
        drop(lease);
        assert_eq!(budget.free_bytes(), 8 * UNIT_BYTES);
    }
}
