//! Brokers that are known by names, and names whose addresses change.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use super::case::{Case, Pair};
use super::{Rig, Scenario, preloadable, run};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::{Cluster, ClusterSpec, Version, wait_until};

pub(crate) const NAMES: &[Scenario<Named>] = &[
    Scenario::new("source_name_moves", |rig| moves(rig, "source_name_moves", SOURCE)),
    Scenario::new("target_name_moves", |rig| moves(rig, "target_name_moves", TARGET)),
    Scenario::new("names_with_dead_addresses", names_with_dead_addresses),
];

const SOURCE: &str = "kafka-source.test";
const TARGET: &str = "kafka-target.test";
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Nobody listens there.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Somebody does, who is no broker.
const MUTE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);

/// A source and a target that name themselves to clients, and the file that says where those names lead.
pub(crate) struct Named {
    pair: Pair,
    folder: tempfile::TempDir,
}

impl Rig for Named {
    fn start() -> Self {
        let start = |name| Cluster::start(ClusterSpec::new(Version::V4_3_1).named(name));
        let rig =
            Self { pair: Pair { source: start(SOURCE), target: start(TARGET) }, folder: tempfile::tempdir().unwrap() };
        preloadable("names.c", &rig.folder.path().join("names.so"));
        rig.lead(&[HERE], &[HERE]);
        rig
    }

    fn heal(&mut self) {
        self.pair.heal();
        self.lead(&[HERE], &[HERE]);
        for name in [SOURCE, TARGET] {
            self.move_to(name, HERE);
        }
    }
}

impl Named {
    /// Where the names lead from now on.
    fn lead(&self, source: &[Ipv4Addr], target: &[Ipv4Addr]) {
        let line = |name: &str, addresses: &[Ipv4Addr]| {
            let words: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("{name} {}\n", words.join(" "))
        };
        let (file, new) = (self.folder.path().join("names"), self.folder.path().join("new"));
        std::fs::write(&new, line(SOURCE, source) + &line(TARGET, target)).unwrap();
        // At once, for who reads it meanwhile.
        std::fs::rename(new, file).unwrap();
    }

    fn cluster(&self, name: &str) -> &Cluster {
        if name == SOURCE { &self.pair.source } else { &self.pair.target }
    }

    fn move_to(&self, name: &str, at: Ipv4Addr) {
        self.cluster(name).proxies().into_iter().for_each(|proxy| proxy.move_to(at));
    }

    fn flowing(&self, topic: &str) -> Case {
        let mut case = Case::new(topic, &self.pair.source, &self.pair.target, 1, "");
        case.mirror.env = vec![
            ("LD_PRELOAD", self.folder.path().join("names.so").into()),
            ("NAMES", self.folder.path().join("names").into()),
        ];
        case.mirror.start();
        case.write();
        case.await_more(&self.pair.target, 200);
        case
    }
}

/// The broker goes to another address, and then its name does.
fn moves(rig: &mut Named, topic: &str, name: &str) {
    let mut case = rig.flowing(topic);
    rig.move_to(name, THERE);
    case.await_stall(&rig.pair.target);
    if name == SOURCE {
        rig.lead(&[THERE], &[HERE]);
    } else {
        rig.lead(&[HERE], &[THERE]);
    }
    case.await_more(&rig.pair.target, 400);
    case.assert_whole(&rig.pair.source, &rig.pair.target);
}

/// Accepts what comes to the ports of both clusters, and ends it without a word, until it is dropped.
struct Mute {
    over: Arc<AtomicBool>,
    met: Arc<AtomicBool>,
}

impl Mute {
    fn listen(rig: &Named) -> Self {
        let mute = Self { over: Arc::default(), met: Arc::default() };
        for proxy in [SOURCE, TARGET].into_iter().flat_map(|name| rig.cluster(name).proxies()) {
            let listener = TcpListener::bind((MUTE, proxy.port())).unwrap();
            listener.set_nonblocking(true).unwrap();
            let (over, met) = (Arc::clone(&mute.over), Arc::clone(&mute.met));
            std::thread::spawn(move || {
                while !over.load(SeqCst) {
                    match listener.accept() {
                        Ok(_) => met.store(true, SeqCst),
                        Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
                    }
                }
            });
        }
        mute
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}

/// Several addresses to a name, of which only the last is a broker's, for a mirror that runs and for one that starts.
fn names_with_dead_addresses(rig: &mut Named) {
    let mut case = rig.flowing("names_with_dead_addresses");
    let mute = Mute::listen(rig);
    let all = [NOWHERE, MUTE, THERE];
    rig.lead(&all, &all);
    [SOURCE, TARGET].into_iter().for_each(|name| rig.move_to(name, THERE));
    case.await_more(&rig.pair.target, 400);
    wait_until(
        "the mute one to be met",
        LIMIT,
        || if mute.met.load(SeqCst) { Ok(()) } else { Err("not yet".to_owned()) },
    );
    case.mirror.kill();
    case.mirror.start();
    case.await_more(&rig.pair.target, 400);
    case.assert_whole(&rig.pair.source, &rig.pair.target);
}

#[test]
fn names_whose_addresses_change_cost_nothing() {
    run("names_whose_addresses_change_cost_nothing", NAMES);
}
