//! What `run` does where a mirror is shared with other instances: the mirror with its membership, and jobs that are done once a
//! mirror, by the elected instance.

use std::sync::Arc;

use tokio::sync::watch;

use crate::engine::{Board, Budget, EngineError, Membership, Seat, Settings, Workload, run_member};
use crate::plan::Assignment;

/// What the memberships of a process share.
#[derive(Debug)]
pub(super) struct Fleet {
    /// The fingerprint of what this process goes by.
    config_hash: watch::Sender<String>,
    workload: Workload,
}

/// Whether this instance does a mirror's jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct Elected(Option<watch::Receiver<Assignment>>);

impl Fleet {
    /// Of a process that goes by this configuration.
    pub(super) fn of(fingerprint: String) -> Self {
        Self { config_hash: watch::Sender::new(fingerprint), workload: Workload::default() }
    }

    /// From now on the others are told this.
    pub(super) fn goes_by(&self, fingerprint: String) {
        self.config_hash.send_replace(fingerprint);
    }

    /// A mirror's run, shared with others where the file says so.
    pub(super) fn run(
        &self,
        settings: watch::Receiver<Settings>,
        budget: Budget,
        board: Board,
        stop: watch::Receiver<bool>,
    ) -> (impl Future<Output = Result<(), EngineError>> + Send + 'static, Elected) {
        let Settings { all: config, mirror } = settings.borrow().clone();
        let (desk, seat) = Seat::member();
        let elected = desk.assign.subscribe();
        let membership =
            Membership::new(&config, Arc::clone(&mirror), self.config_hash.subscribe(), desk, self.workload.clone());
        let elected = Elected(membership.is_some().then_some(elected));
        let run = async move {
            let Some(membership) = membership else {
                return run_member(settings, budget, board, Seat::alone(), stop).await;
            };
            let (release, released) = watch::channel(false);
            // With the mirror on one thread: what it costs is nothing beside the data.
            let membership = tokio::spawn(membership.keep(config, stop, release));
            let outcome = run_member(settings, budget, board, seat, released).await;
            match (outcome, membership.await) {
                (Ok(()), Ok(membership)) => membership,
                (outcome, _) => outcome,
            }
        };
        (run, elected)
    }
}

impl Elected {
    /// Does a job for as long as this instance is elected, anew each time; without a fleet it always is. The job heeds the
    /// stop that it is given.
    pub(super) async fn keep<F>(self, mut stop: watch::Receiver<bool>, job: impl Fn(watch::Receiver<bool>) -> F)
    where
        F: Future<Output = ()>,
    {
        let Some(mut assigned) = self.0 else { return job(stop).await };
        loop {
            tokio::select! {
                elected = assigned.wait_for(|assigned| assigned.elected) => if elected.is_err() { return },
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let (end, ended) = watch::channel(false);
            let doing = job(ended);
            tokio::pin!(doing);
            tokio::select! {
                () = &mut doing => return,
                _ = assigned.wait_for(|assigned| !assigned.elected) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            end.send_replace(true);
            doing.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_is_done_while_its_instance_is_elected() {
        let (assign, assigned) = watch::channel(Assignment::default());
        let (stop, stopped) = watch::channel(false);
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let job = move |mut stop: watch::Receiver<bool>| {
            let said = said.clone();
            async move {
                said.send("begins").unwrap();
                stop.wait_for(|stop| *stop).await.unwrap();
                said.send("ends").unwrap();
            }
        };
        let keeping = tokio::spawn(Elected(Some(assigned)).keep(stopped, job));
        for _ in 0..2 {
            assign.send_modify(|assigned| assigned.elected = true);
            assert_eq!(heard.recv().await, Some("begins"));
            assign.send_modify(|assigned| assigned.elected = false);
            assert_eq!(heard.recv().await, Some("ends"));
        }
        stop.send_replace(true);
        keeping.await.unwrap();
        assert_eq!(heard.recv().await, None);
    }
}
