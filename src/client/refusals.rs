//! A cluster that does not let us in is not asked by a dozen connections at a time: that locks users out, and fills its log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::ClientError;

const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long whoever asks meanwhile waits for the same answer.
const TURN: Duration = Duration::from_millis(500);

/// The last refusal of a cluster.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Option<Refusal>>);

#[derive(Debug)]
struct Refusal {
    error: ClientError,
    pause: Duration,
    until: Instant,
}

impl Refusals {
    /// The refusal that stands, after a short wait; `None` for who may try: one after each pause.
    pub(super) async fn standing(&self) -> Option<ClientError> {
        let error = self.taken(Instant::now())?;
        tokio::time::sleep(TURN).await;
        Some(error)
    }

    fn taken(&self, now: Instant) -> Option<ClientError> {
        let mut refusal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = refusal.as_mut()?;
        if now < refusal.until {
            return Some(refusal.error.clone());
        }
        // The others wait for what this one is told.
        refusal.until = now + refusal.pause;
        None
    }

    pub(super) fn note(&self, error: &ClientError) {
        self.note_at(error, Instant::now());
    }

    fn note_at(&self, error: &ClientError, now: Instant) {
        if !matches!(error, ClientError::Authentication { .. }) {
            return;
        }
        let mut refusal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = refusal.as_ref().map_or(PAUSE, |last| (last.pause * 2).min(PAUSE_MAX));
        *refusal = Some(Refusal { error: error.clone(), pause, until: now + pause });
    }

    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tries_after_each_pause_and_pauses_grow() {
        let refusals = Refusals::default();
        let words = |text: &str| text.to_owned();
        let error = ClientError::Authentication {
            cluster: words("c"),
            address: words("h:1"),
            who: words("user a"),
            detail: words("no"),
        };
        let began = Instant::now();
        assert_eq!(refusals.taken(began), None);
        refusals.note_at(&error, began);
        let mut tries = Vec::new();
        for second in 0..30 {
            let now = began + Duration::from_secs(second);
            // A dozen connections at a time.
            let let_through = (0..12).filter(|_| refusals.taken(now).is_none()).count();
            assert!(let_through <= 1);
            if let_through == 1 {
                tries.push(second);
                refusals.note_at(&error, now);
            }
        }
        assert_eq!(tries, [1, 3, 7, 15, 25]);
        refusals.clear();
        assert_eq!(refusals.taken(began), None);
    }
}
