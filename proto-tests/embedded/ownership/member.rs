//! A member of a fleet in this process: on a thread of its own, so that it can die or stand still as a process does.

use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;

use kmirror::config::Config;
use kmirror::engine::{Board, Budget, Desk, EngineError, Seat, Settings, run_member};
use kmirror::plan::{Assignment, Held, ShardStage};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::e2e::Mirror;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// How it ended; nothing where it was killed.
type End = Option<Result<(), EngineError>>;

pub(super) struct Member {
    pub(super) name: &'static str,
    desk: Desk,
    epoch: u64,
    handle: Handle,
    stop: watch::Sender<bool>,
    die: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<End>>,
}

impl Member {
    /// Runs, and holds nothing before it is assigned something.
    pub(super) fn start(name: &'static str, mirror: &Mirror) -> Self {
        let config = Arc::new(Config::load(&mirror.config).unwrap());
        let (desk, seat) = Seat::member();
        let board = Board::new(&mirror.name);
        let (stop, stopped) = watch::channel(false);
        let (die, dead) = oneshot::channel();
        let (told, handle) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            told.send(runtime.handle().clone()).unwrap();
            let terms = Arc::new(config.mirrors[0].clone());
            let (_same, settings) = watch::channel(Settings { all: config, mirror: terms });
            let run = run_member(settings, Budget::new(8 << 20), board, seat, stopped);
            runtime.block_on(async {
                tokio::select! {
                    outcome = run => Some(outcome),
                    _ = dead => None,
                }
            })
        });
        let handle = handle.recv().unwrap();
        Self { name, desk, epoch: 0, handle, stop, die: Some(die), thread: Some(thread) }
    }

    /// Its next assignment; the shards among them that others were told to release.
    pub(super) fn assign(&mut self, shards: impl IntoIterator<Item = u32>, handed_over: &[u32], elected: bool) {
        self.epoch += 1;
        let (shards, handed_over) = (shards.into_iter().collect(), handed_over.iter().copied().collect());
        self.desk.assign.send_replace(Assignment { epoch: self.epoch, shards, handed_over, elected });
    }

    pub(super) fn held(&self) -> Held {
        self.desk.held.borrow().clone()
    }

    pub(super) fn stage(&self, shard: u32) -> Option<ShardStage> {
        self.held().shards.get(shard as usize).map(|held| held.stage)
    }

    /// Waits until it holds what it was assigned, and nothing else.
    pub(super) fn await_settled(&self) {
        wait_until(&format!("{} to hold what it was assigned", self.name), LIMIT, || {
            let (held, assigned) = (self.held(), self.desk.assign.borrow().clone());
            if !held.shards.is_empty() && held.is_settled(&assigned) { Ok(()) } else { Err(format!("{held:?}")) }
        });
    }

    /// Stands still, with all that it is at, until the other end is met.
    pub(super) fn freeze(&self) -> Arc<Barrier> {
        let wake = Arc::new(Barrier::new(2));
        let (frozen, is_frozen) = mpsc::channel();
        let until = wake.clone();
        self.handle.spawn(async move {
            frozen.send(()).unwrap();
            until.wait();
        });
        is_frozen.recv_timeout(LIMIT).unwrap();
        wake
    }

    /// kill -9.
    pub(super) fn kill(mut self) {
        drop(self.die.take());
        assert!(self.thread.take().expect("it runs").join().unwrap().is_none(), "it had ended before");
    }

    /// Stops cleanly.
    pub(super) fn stop(mut self) {
        self.stop.send_replace(true);
        let end = self.thread.take().expect("it runs").join().unwrap();
        assert!(matches!(end, Some(Ok(()))), "{end:?}");
        assert!(self.held().held().is_empty(), "{:?}", self.held());
    }
}
