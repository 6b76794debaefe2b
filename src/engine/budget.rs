//! One byte budget for the whole process (`limits.memory`): bytes are leased before they are asked for and given
//! back when the last slice of the response that holds them is gone. The buffers of responses are used again: memory fresh
//! from the system costs a fault a page, and what was in use last is still in the cache.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::client::Buffer;

/// The unit that the budget counts in, bytes: a tokio semaphore holds fewer permits than a large budget has bytes.
const UNIT_BYTES: usize = 1024;

/// A budget becomes smaller by so much at a time.
const PIECE_UNITS: usize = 64;

/// A free buffer is given back to the system when so many others were taken since: an idle process takes one a long poll.
const IDLE_TAKES: u64 = 1024;

/// The budget.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    /// What it is to come to; where it became smaller, what is leased beyond is taken out as it comes back.
    total_bytes: watch::Sender<usize>,
    pool: Arc<Mutex<Pool>>,
    sharers: Arc<AtomicUsize>,
}

/// Leased bytes; they return when it drops.
#[derive(Debug)]
pub struct Lease {
    permit: Mutex<OwnedSemaphorePermit>,
    budget: Budget,
}

/// One who leases again and again, as long as this lives.
#[derive(Debug)]
pub struct Sharer(Arc<AtomicUsize>);

impl Drop for Sharer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Free buffers, the one that was used last at the end.
#[derive(Debug, Default)]
struct Pool {
    /// Each with the take after which it was put here.
    free: VecDeque<(u64, Buffer)>,
    free_bytes: usize,
    takes: u64,
}

impl Pool {
    /// One that is not much larger than what is asked for, or else a new one.
    fn take(&mut self, bytes: usize) -> Buffer {
        self.takes += 1;
        let found = self.free.iter().rposition(|(_, buffer)| buffer.fits(bytes));
        let buffer = found.and_then(|at| self.free.remove(at)).map(|(_, buffer)| buffer);
        self.free_bytes -= buffer.as_ref().map_or(0, Buffer::capacity);
        while self.free.front().is_some_and(|(put, _)| put + IDLE_TAKES < self.takes) {
            self.drop_oldest();
        }
        buffer.unwrap_or_else(|| Buffer::new(bytes))
    }

    /// Keeps it, if need be in place of those that were not used for longest.
    fn put(&mut self, buffer: Buffer, free_bytes_max: usize) {
        if !buffer.fits(buffer.capacity()) || buffer.capacity() > free_bytes_max {
            return;
        }
        self.free_bytes += buffer.capacity();
        self.free.push_back((self.takes, buffer));
        self.shrink_to(free_bytes_max);
    }

    fn shrink_to(&mut self, free_bytes_max: usize) {
        while self.free_bytes > free_bytes_max {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        self.free_bytes -= self.free.pop_front().map_or(0, |(_, buffer)| buffer.capacity());
    }
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(total_bytes: usize) -> Self {
        Self {
            units: Arc::new(Semaphore::new(total_bytes / UNIT_BYTES)),
            total_bytes: watch::Sender::new(total_bytes),
            pool: Arc::default(),
            sharers: Arc::default(),
        }
    }

    /// Size of the budget, bytes.
    pub fn total_bytes(&self) -> usize {
        *self.total_bytes.borrow()
    }

    /// Makes it larger or smaller. Where it becomes smaller this takes until so much has come back; others lease in between. Not to be
    /// called while an earlier call goes on.
    pub async fn resize(&self, total_bytes: usize) {
        let before = self.total_bytes.send_replace(total_bytes) / UNIT_BYTES;
        let after = total_bytes / UNIT_BYTES;
        self.units.add_permits(after.saturating_sub(before));
        let mut surplus = before.saturating_sub(after);
        while surplus > 0 {
            // A piece at a time: whoever waits behind one does not wait for all of them.
            let piece = surplus.min(PIECE_UNITS);
            let Ok(permit) = self.units.acquire_many(u32::try_from(piece).unwrap_or(u32::MAX)).await else { return };
            permit.forget();
            surplus -= piece;
        }
        self.pool().shrink_to(total_bytes);
    }

    /// Bytes not leased at the moment.
    pub fn free_bytes(&self) -> usize {
        self.units.available_permits() * UNIT_BYTES
    }

    /// Counts one more who leases.
    pub fn share(&self) -> Sharer {
        self.sharers.fetch_add(1, Ordering::Relaxed);
        Sharer(Arc::clone(&self.sharers))
    }

    /// What each of them may lease at a time, bytes: all together half of it, so that what is on its way to targets holds up no
    /// fetch that waits for news. They are those of all mirrors.
    pub fn share_bytes(&self) -> usize {
        self.total_bytes() / (2 * self.sharers.load(Ordering::Relaxed).max(1))
    }

    /// Waits until `bytes` (at most the whole budget) are free and leases them.
    pub async fn lease(&self, bytes: usize) -> Option<Lease> {
        let mut total = self.total_bytes.subscribe();
        loop {
            let total_bytes = *total.borrow_and_update();
            let units = bytes.min(total_bytes).div_ceil(UNIT_BYTES).min(total_bytes / UNIT_BYTES);
            let acquired = Arc::clone(&self.units).acquire_many_owned(u32::try_from(units).ok()?);
            tokio::select! {
                permit = acquired => return Some(Lease { permit: Mutex::new(permit.ok()?), budget: self.clone() }),
                // There may never be so many again.
                _ = total.wait_for(|total_bytes| total_bytes / UNIT_BYTES < units) => {}
            }
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Gives back what is above `bytes`: a response is usually smaller than what was asked for. A response may also
    /// be larger, by one batch (KIP-74); that much the budget is overdrawn, and it shows as soon as it is freed.
    fn shrink_to(&self, bytes: usize) {
        let mut permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = bytes.div_ceil(UNIT_BYTES);
        let surplus = permit.num_permits().saturating_sub(keep);
        drop(permit.split(surplus));
    }

    /// A buffer for so many bytes; what is leased beyond it goes back.
    pub(crate) fn buffer(&self, bytes: usize) -> Buffer {
        let buffer = self.budget.pool().take(bytes);
        self.shrink_to(buffer.capacity());
        buffer
    }

    /// Takes a buffer back. Free buffers and leased bytes together are no more than the budget.
    pub(crate) fn give_back(&self, buffer: Buffer) {
        let free_bytes_max = self.budget.free_bytes() + buffer.capacity();
        self.budget.pool().put(buffer, free_bytes_max.min(self.budget.total_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_returns_at_once_what_the_answer_leaves_and_the_rest_when_it_drops() {
        let budget = Budget::new(64 * UNIT_BYTES);
        let lease = budget.lease(48 * UNIT_BYTES).await.expect("budget is open");
        lease.shrink_to(8 * UNIT_BYTES);
        assert_eq!(budget.free_bytes(), 56 * UNIT_BYTES);
        drop(lease);
        assert_eq!(budget.free_bytes(), 64 * UNIT_BYTES);
    }

    #[test]
    fn those_of_all_mirrors_share_half_of_it() {
        let budget = Budget::new(64 * UNIT_BYTES);
        let first = budget.share();
        assert_eq!(budget.share_bytes(), 32 * UNIT_BYTES);
        let second = budget.clone().share();
        assert_eq!(budget.share_bytes(), 16 * UNIT_BYTES);
        drop((first, second));
        assert_eq!(budget.share_bytes(), 32 * UNIT_BYTES);
    }

    #[tokio::test]
    async fn free_buffers_take_no_more_than_what_is_not_leased() {
        const MIB: usize = 1 << 20;
        let budget = Budget::new(4 * MIB);
        let leases =
            [budget.lease(MIB).await.unwrap(), budget.lease(MIB).await.unwrap(), budget.lease(2 * MIB).await.unwrap()];
        for lease in leases {
            lease.give_back(lease.buffer(MIB));
            assert!(budget.pool().free_bytes + lease.permit.lock().unwrap().num_permits() * UNIT_BYTES <= 4 * MIB);
        }
        assert_eq!((budget.free_bytes(), budget.pool().free_bytes), (4 * MIB, MIB), "the one was used thrice");
    }

    #[tokio::test]
    async fn it_becomes_smaller_as_leases_come_back_and_nobody_waits_for_what_will_never_be_there() {
        let budget = Budget::new(256 * UNIT_BYTES);
        let lease = budget.lease(200 * UNIT_BYTES).await.expect("budget is open");
        let (all, smaller) = (budget.clone(), budget.clone());
        let waiting = tokio::spawn(async move { all.lease(usize::MAX).await });
        tokio::task::yield_now().await;
        let resizing = tokio::spawn(async move { smaller.resize(32 * UNIT_BYTES).await });
        tokio::task::yield_now().await;
        drop(lease);
        resizing.await.unwrap();
        let lease = waiting.await.unwrap().expect("what there is");
        assert_eq!((budget.total_bytes(), budget.free_bytes()), (32 * UNIT_BYTES, 0));
        drop(lease);
        assert_eq!(budget.free_bytes(), 32 * UNIT_BYTES);
        budget.resize(64 * UNIT_BYTES).await;
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

    #[test]
    fn a_buffer_is_used_again_where_it_fits_and_free_ones_are_bounded() {
        const KIB: usize = 1024;
        let place = |buffer: &Buffer| match buffer {
            Buffer::Mapped(map) => map.as_ptr(),
            Buffer::Heap(_) => std::ptr::null(),
        };
        let mut pool = Pool::default();
        let first = pool.take(500 * KIB);
        assert_eq!(first.capacity(), 512 * KIB);
        let at = place(&first);
        pool.put(first, 1024 * KIB);
        let again = pool.take(510 * KIB);
        assert!(place(&again) == at && pool.free_bytes == 0);
        pool.put(again, 1024 * KIB);
        assert_ne!(place(&pool.take(300 * KIB)), at, "too large: small answers would pin much memory");
        for number in 1..=20 {
            pool.put(Buffer::new(number * 64 * KIB), 1024 * KIB);
        }
        let kept: Vec<usize> = pool.free.iter().map(|(_, buffer)| buffer.capacity() / KIB).collect();
        assert_eq!(
            (kept, pool.free_bytes),
            (vec![1024], 1024 * KIB),
            "what is larger than all of the pool does not stay"
        );
        for _ in 0..IDLE_TAKES {
            assert!(matches!(pool.take(KIB), Buffer::Heap(_)) && pool.free.len() == 1);
        }
        pool.take(KIB);
        assert_eq!((pool.free.len(), pool.free_bytes), (0, 0), "nobody has had a use for it for long");
    }
}
