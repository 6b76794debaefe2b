//! Waiting for a condition, with a deadline that says what was waited for.

use std::time::{Duration, Instant};

/// Asks again and again until `probe` gives a value; panics with `what` and the last complaint after `limit`.
/// The pause between two questions grows to 200 ms, so that a slow machine is not slowed further.
pub(crate) fn wait_until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        match probe() {
            Ok(value) => return value,
            Err(complaint) => {
                assert!(started.elapsed() < limit, "waited {limit:?} for {what}; the last answer: {complaint}");
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
