//! A token bucket: so many bytes a second, a short burst above that, and what went beyond is owed and waited for.

/// The burst is this part of a second at the full rate.
const BURSTS_PER_S: u64 = 4;
/// The least burst, bytes: a request must hold something worth its while.
pub const BURST_BYTES_MIN: u64 = 64 << 10;

/// Bytes that may pass. Over any time `t`: no more than rate × `t` and one burst, plus what the last charge took on debt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    rate_bytes_per_s: u64,
    /// What may pass at `at_ms`; below zero it is owed. In thousandths of a byte, so that a millisecond is never rounded.
    level_millibytes: i128,
    at_ms: u64,
}

impl Bucket {
    /// A full bucket. A rate of nothing would never end: it is taken as one byte a second.
    pub fn new(rate_bytes_per_s: u64, now_ms: u64) -> Self {
        let mut bucket = Self { rate_bytes_per_s: rate_bytes_per_s.max(1), level_millibytes: 0, at_ms: now_ms };
        bucket.level_millibytes = i128::from(bucket.burst_bytes()) * 1000;
        bucket
    }

    /// What it can hold.
    pub fn burst_bytes(&self) -> u64 {
        (self.rate_bytes_per_s / BURSTS_PER_S).max(BURST_BYTES_MIN)
    }

    /// Another rate from now on; what is owed stays owed.
    pub fn set_rate(&mut self, rate_bytes_per_s: u64, now_ms: u64) {
        self.advance(now_ms);
        self.rate_bytes_per_s = rate_bytes_per_s.max(1);
        self.level_millibytes = self.level_millibytes.min(i128::from(self.burst_bytes()) * 1000);
    }

    /// Bytes that may pass now; `None` while something is owed.
    pub fn there_bytes(&self, now_ms: u64) -> Option<u64> {
        u64::try_from(self.level_at(now_ms).div_euclid(1000)).ok()
    }

    /// Takes bytes out, also such as are not there.
    pub fn charge(&mut self, bytes: u64, now_ms: u64) {
        self.advance(now_ms);
        self.level_millibytes -= i128::from(bytes) * 1000;
    }

    /// From when on so many bytes, at most a burst, are there, ms.
    pub fn ready_at_ms(&self, bytes: u64) -> u64 {
        let lacking = i128::from(bytes.min(self.burst_bytes())) * 1000 - self.level_millibytes;
        let rate = i128::from(self.rate_bytes_per_s);
        let wait_ms = if lacking <= 0 { 0 } else { (lacking + rate - 1) / rate };
        self.at_ms.saturating_add(u64::try_from(wait_ms).unwrap_or(u64::MAX))
    }

    fn level_at(&self, now_ms: u64) -> i128 {
        let passed_ms = i128::from(now_ms.saturating_sub(self.at_ms));
        let full = i128::from(self.burst_bytes()) * 1000;
        (self.level_millibytes + passed_ms * i128::from(self.rate_bytes_per_s)).min(full)
    }

    fn advance(&mut self, now_ms: u64) {
        self.level_millibytes = self.level_at(now_ms);
        self.at_ms = self.at_ms.max(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_burst_is_a_quarter_of_a_second_and_at_least_64_kib() {
        let burst = |rate| Bucket::new(rate, 0).there_bytes(0);
        assert_eq!(burst(4 * MIB), Some(MIB));
        assert_eq!(burst(16 << 10), Some(BURST_BYTES_MIN));
    }

    #[test]
    fn what_is_beyond_is_owed_and_waited_for() {
        let mut bucket = Bucket::new(MIB, 1_000);
        bucket.charge(MIB / 4 + MIB, 1_000);
        assert_eq!((bucket.there_bytes(1_999), bucket.there_bytes(2_000)), (None, Some(0)));
        assert_eq!((bucket.ready_at_ms(0), bucket.ready_at_ms(MIB / 4)), (2_000, 2_250));
        assert_eq!(bucket.there_bytes(60_000), Some(MIB / 4), "no more than a burst, however long nothing passed");
    }

    #[test]
    fn another_rate_counts_from_when_it_was_set() {
        let mut bucket = Bucket::new(MIB, 0);
        bucket.charge(MIB / 4 + 2 * MIB, 0);
        bucket.set_rate(2 * MIB, 1_000);
        assert_eq!(bucket.ready_at_ms(0), 1_500);
        bucket.set_rate(16 << 10, 60_000);
        assert_eq!(bucket.there_bytes(60_000), Some(BURST_BYTES_MIN), "and the burst is the new one's");
    }

    #[test]
    fn a_rate_of_nothing_and_one_without_end_are_no_trouble() {
        for rate in [0, u64::MAX] {
            let mut bucket = Bucket::new(rate, 5);
            bucket.charge(u64::MAX, 5);
            assert!(bucket.ready_at_ms(u64::MAX) >= 5);
            assert_eq!(bucket.there_bytes(0), bucket.there_bytes(5), "time that goes back is time that stands");
        }
    }

    /// Who takes `wish` bytes at each moment, but no more than are there: times and bytes of what passed.
    fn pass(bucket: &mut Bucket, wishes: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut now_ms = 0;
        let mut passed = Vec::new();
        for (pause_ms, wish) in wishes {
            now_ms += pause_ms;
            let Some(there) = bucket.there_bytes(now_ms) else { continue };
            let bytes = there.min(*wish);
            bucket.charge(bytes, now_ms);
            passed.push((now_ms, bytes));
        }
        passed
    }

    /// The most that any window lets pass above its share, bytes.
    fn excess(rate: u64, passed: &[(u64, u64)]) -> i128 {
        let over = |from: usize| {
            let mut sum = 0_i128;
            let of_window = passed.iter().skip(from).map(move |(at, bytes)| {
                sum += i128::from(*bytes);
                let since_ms = i128::from(at - passed.get(from).map_or(0, |first| first.0));
                sum - since_ms * i128::from(rate) / 1000
            });
            of_window.max().unwrap_or(0)
        };
        (0..passed.len()).map(over).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_its_share_and_a_burst(
            rate in 1_u64..1 << 32,
            wishes in prop::collection::vec((0_u64..400, 0_u64..1 << 26), 1..80),
        ) {
            let mut bucket = Bucket::new(rate, 0);
            let burst = i128::from(bucket.burst_bytes());
            let passed = pass(&mut bucket, &wishes);
            prop_assert!(excess(rate, &passed) <= burst);
        }

        /// As the engine does it: whatever comes is charged, once nothing is owed.
        #[test]
        fn debt_adds_no_more_than_one_charge(
            rate in 1_u64..1 << 30,
            wishes in prop::collection::vec((0_u64..400, 0_u64..1 << 22), 1..80),
        ) {
            let mut bucket = Bucket::new(rate, 0);
            let burst = i128::from(bucket.burst_bytes());
            let mut now_ms = 0;
            let mut passed = Vec::new();
            for (pause_ms, bytes) in wishes {
                now_ms += pause_ms;
                if bucket.there_bytes(now_ms).is_some() {
                    bucket.charge(bytes, now_ms);
                    passed.push((now_ms, bytes));
                }
            }
            let largest = i128::from(passed.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0));
            prop_assert!(excess(rate, &passed) <= burst + largest);
        }

        /// Nobody waits while nothing is owed: who always takes what is there, and comes when told, gets all of the rate.
        #[test]
        fn it_is_never_idle_while_nothing_is_owed(
            rate in 1_000_u64..1 << 32,
            debts in prop::collection::vec(0_u64..1 << 24, 1..40),
        ) {
            let mut bucket = Bucket::new(rate, 0);
            let burst = bucket.burst_bytes();
            let (mut now_ms, mut sum) = (0, 0_u128);
            for debt in debts {
                now_ms = bucket.ready_at_ms(0).max(now_ms);
                let there = bucket.there_bytes(now_ms);
                prop_assert!(there.is_some(), "it may pass when it was told to");
                prop_assert!(now_ms == 0 || bucket.there_bytes(now_ms - 1).is_none(), "and not before");
                let bytes = there.unwrap_or(0) + 1 + debt;
                bucket.charge(bytes, now_ms);
                sum += u128::from(bytes);
            }
            let end_ms = bucket.ready_at_ms(0);
            let fair = u128::from(rate) * u128::from(end_ms) / 1000 + u128::from(burst);
            prop_assert!(sum <= fair);
            prop_assert!(sum + u128::from(rate) / 1000 + 1 >= fair);
        }

        #[test]
        fn what_is_said_to_be_ready_is_ready_then_and_no_millisecond_earlier(
            rate in 1_u64..1 << 32, charged in 0_u64..1 << 26, wish in 0_u64..1 << 31,
        ) {
            let mut bucket = Bucket::new(rate, 7);
            bucket.charge(charged, 7);
            let wish = wish.min(bucket.burst_bytes());
            let at_ms = bucket.ready_at_ms(wish);
            prop_assert!(bucket.there_bytes(at_ms).is_some_and(|there| there >= wish));
            prop_assert!(at_ms == 7 || bucket.there_bytes(at_ms - 1).is_none_or(|there| there < wish));
        }
    }
}
