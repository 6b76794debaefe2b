//! Trying again: one loop for every admin call.

use std::time::Duration;

use tokio::time::Instant;

use super::error::{ClientError, Verdict};
use super::{Cluster, Topics};

/// How long an admin call is tried altogether.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const SHORT_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Pauses between tries until a deadline.
#[derive(Debug)]
pub(crate) struct Tries {
    until: Instant,
    pause: Duration,
    pause_max: Duration,
}

impl Tries {
    pub(crate) fn new() -> Self {
        Self::within(DEADLINE)
    }

    pub(crate) fn within(deadline: Duration) -> Self {
        Self { until: Instant::now() + deadline, pause: PAUSE, pause_max: PAUSE_MAX }
    }

    /// For what one caller waits for and many others after it: pauses that have grown long would be added to their start.
    pub(crate) fn at_short_pauses(deadline: Duration) -> Self {
        Self { pause_max: SHORT_PAUSE_MAX, ..Self::within(deadline) }
    }

    /// Waits before the next try, refreshing metadata of `topics` where the error asks for it; gives the error back
    /// when it is final or time is up.
    pub(crate) async fn again(
        &mut self,
        cluster: &Cluster,
        error: ClientError,
        topics: &[&str],
    ) -> Result<(), ClientError> {
        let verdict = error.verdict();
        if verdict == Verdict::Fatal || Instant::now() + self.pause > self.until {
            return Err(error);
        }
        tracing::debug!(cluster = cluster.name(), %error, "trying again");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.pause_max);
        if verdict == Verdict::Refresh {
            // A refresh that fails shows in the next try.
            let _ = cluster.refresh(Topics::Named(topics)).await;
        }
        Ok(())
    }
}

/// Those that failed, and why.
type Failed<'a, T> = Result<Vec<(&'a T, ClientError)>, ClientError>;

/// Does something for all of these, so many at once, and again for those that the cluster only puts off. `once` gives those that failed;
/// what comes back are those that the cluster refuses, and why.
pub(super) async fn in_portions<'a, T: Clone, F: Future<Output = Failed<'a, T>>>(
    cluster: &Cluster,
    items: &'a [T],
    at_once: usize,
    once: impl Fn(Vec<&'a T>) -> F,
) -> Result<Vec<(T, ClientError)>, ClientError> {
    let mut refused = Vec::new();
    for portion in items.chunks(at_once) {
        let mut left: Vec<&T> = portion.iter().collect();
        let mut tries = Tries::new();
        while !left.is_empty() {
            let error = match once(left.clone()).await {
                Ok(errors) => {
                    let (retriable, fatal): (Vec<_>, Vec<_>) =
                        errors.into_iter().partition(|(_, error)| error.is_retriable());
                    refused.extend(fatal.into_iter().map(|(item, error)| (item.clone(), error)));
                    left = retriable.iter().map(|(item, _)| *item).collect();
                    let Some((_, error)) = retriable.into_iter().next() else { break };
                    error
                }
                Err(error) => error,
            };
            tries.again(cluster, error, &[]).await?;
        }
    }
    Ok(refused)
}
