//! One run of one peer on one load.

use std::thread;
use std::time::Duration;

use crate::backlog::scaled;
use crate::figures::{Better, Figure, Outcome};
use crate::gauge::{Spent, Window, rss_mb};
use crate::hands::{self, Pace, Paced, Route, Seen};
use crate::load::{Filled, Load, Stage, latency_pace};
use crate::peer::{Peer, Running, prefix};
use crate::plain;

/// How often the target's end offsets are looked at: the grain of the times that are measured.
const POLL: Duration = Duration::from_millis(25);
/// The same in `start`, where one look asks for ten thousand partitions.
const POLL_MANY: Duration = Duration::from_millis(250);
/// Records before those that count, so that compilers and caches of all who take part are warm.
const WARM_UP_S: u64 = 5;
/// What a peer may still do at its start, before its idleness is measured.
const SETTLE_S: u64 = 10;
/// How long idleness is measured.
const IDLE_S: u64 = 30;

/// Runs it, and leaves both clusters as it found them.
pub(crate) fn run(load: Load, peer: Peer, stage: &Stage, filled: &Filled, limit: Duration) -> Outcome {
    let number = stage.next_run();
    let prefix = prefix(number);
    let poll = if load == Load::Start { POLL_MANY } else { POLL };
    if load == Load::Start {
        let topics: Vec<String> = filled.topics.iter().map(|topic| format!("{prefix}{topic}")).collect();
        hands::create_topics(&stage.to, &topics, filled.partitions);
    }
    stage.settle();
    hands::watch(stage, filled, &prefix, poll);
    let window = Window::open(stage);
    let mut running = Running::start(peer, number, stage, &filled.pattern);
    let outcome = hands::await_copied(stage, &mut running, limit).map(|seen| {
        let copied = Copied { seen, began_ms: running.began_ms(), cpu_s: running.cpu_s(), spent: window.close() };
        match load {
            Load::Mixed | Load::Tiny => backlog(&copied, &running, filled),
            Load::Latency => latency(stage, filled, &running),
            Load::Idle => idle(stage, &running),
            Load::Start => start(&copied, &running),
        }
    });
    running.stop();
    let outcome = match load {
        Load::Mixed => outcome.map(|figures| beside_a_relay(figures, filled)),
        _ => outcome,
    };
    if load == Load::Latency {
        // What this run has written would be a backlog to the next one.
        stage.clear();
        load.fill(stage);
    } else {
        stage.clear_run(filled);
    }
    outcome
}

/// How the copying of what stood on the source went.
#[derive(Debug, Clone, Copy)]
struct Copied {
    seen: Seen,
    began_ms: f64,
    /// Of the peer, since its start.
    cpu_s: f64,
    spent: Spent,
}

impl Copied {
    /// Seconds from the start of the process to the last record.
    fn seconds(&self) -> f64 {
        (self.seen.done_ms - self.began_ms) / 1e3
    }

    /// Seconds from the start of the process to the first record.
    fn first_s(&self) -> f64 {
        (self.seen.first_ms - self.began_ms) / 1e3
    }

    /// Records a second from the first look that found one to the last; none where one look found all.
    fn flowing_rate(&self) -> Option<f64> {
        let seconds = (self.seen.done_ms - self.seen.first_ms) / 1e3;
        let records = self.seen.expected - self.seen.first_count;
        (seconds > 0.0).then(|| records as f64 / seconds)
    }

    fn brokers(&self) -> Vec<Figure> {
        let mut figures = vec![
            Figure::new("source_cpu_s", "source broker, CPU", "CPU s", Better::Lower, self.spent.source_s),
            Figure::new("target_cpu_s", "target broker, CPU", "CPU s", Better::Lower, self.spent.target_s),
        ];
        figures.extend(shares(self.spent, self.cpu_s));
        figures
    }
}

/// Who had the machine, beside a peer that used `cpu_s`.
fn shares(spent: Spent, cpu_s: f64) -> Vec<Figure> {
    let share = |key, label, value| Figure::new(key, label, "%", Better::Neither, value);
    vec![
        share("target_busy", "target broker, share of machine", spent.target_percent),
        share("machine_idle", "machine idle", spent.idle_percent),
        share("others_busy", "all but peer and brokers, share of machine", spent.others_percent(cpu_s)),
    ]
}

fn backlog(copied: &Copied, running: &Running, filled: &Filled) -> Vec<Figure> {
    let records = copied.seen.expected as f64;
    let mut figures = vec![
        Figure::new("rate", "throughput from process start", "records/s", Better::Higher, records / copied.seconds()),
        Figure::new("to_first", "start to first record", "s", Better::Lower, copied.first_s()),
        Figure::new("cpu_per_gb", "CPU per GB on the wire", "CPU s/GB", Better::Lower, copied.cpu_s / filled.wire_gb()),
        Figure::new("cpu_per_batch", "CPU per source batch", "CPU µs", Better::Lower, {
            copied.cpu_s * 1e6 / filled.batches as f64
        }),
        Figure::new("peak", "peak memory", "MB", Better::Lower, running.peak_mb()),
    ];
    if let Some(rate) = copied.flowing_rate() {
        let label = "throughput from first record";
        figures.insert(1, Figure::new("flowing_rate", label, "records/s", Better::Higher, rate));
    }
    figures.extend(copied.brokers());
    figures
}

/// What no replicator can undercut, in the same minute: a plain relay of as many bytes, on the same machine.
fn beside_a_relay(mut figures: Vec<Figure>, filled: &Filled) -> Vec<Figure> {
    let relayed = plain::BUFFERS.map(|buffer| {
        let reading = plain::measure(filled.wire_bytes, buffer).unwrap_or_else(|error| panic!("the relay: {error:#}"));
        reading.cpu_per_gb()
    });
    let relay = relayed.into_iter().fold(f64::INFINITY, f64::min);
    let own = figures.iter().find(|figure| figure.key == "cpu_per_gb").map_or(f64::NAN, |figure| figure.value);
    let label = "a plain relay of as many bytes, right after";
    figures.push(Figure::new("relay_cpu_per_gb", label, "CPU s/GB", Better::Neither, relay));
    figures.push(Figure::new("times_relay", "CPU, times that relay's", "", Better::Lower, own / relay));
    figures
}

fn latency(stage: &Stage, filled: &Filled, running: &Running) -> Vec<Figure> {
    let pace = latency_pace(stage.factor);
    let (topic, pid) = (&filled.topics[0], running.process().pid());
    let target_topic = format!("{}{topic}", running.prefix());
    let (from, to, partitions) = (&stage.from, &stage.to, filled.partitions);
    let route = Route { from, topic, to, target_topic: &target_topic, partitions };
    hands::pace(route, Pace { seconds: WARM_UP_S, ..pace }, pid);
    let window = Window::open(stage);
    let Paced { source, target, added, cpu_s, paced_s, late_max_ms } = hands::pace(route, pace, pid);
    let spent = window.close();
    let ms = |key, label, value| Figure::new(key, label, "ms", Better::Lower, value);
    let mut figures = vec![
        ms("target_p50", "on the target, p50", target.p50_ms),
        ms("target_p99", "on the target, p99", target.p99_ms),
        ms("target_max", "on the target, max", target.max_ms),
        ms("added_p50", "added by the replicator, p50", added.p50_ms),
        ms("added_p99", "added by the replicator, p99", added.p99_ms),
        ms("added_max", "added by the replicator, max", added.max_ms),
        Figure { better: Better::Neither, ..ms("source_p50", "on the source, p50", source.p50_ms) },
        Figure { better: Better::Neither, ..ms("source_p99", "on the source, p99", source.p99_ms) },
        Figure { better: Better::Neither, ..ms("source_max", "on the source, max", source.max_ms) },
        Figure::new("cpu", "CPU", "% of a core", Better::Lower, cpu_s / paced_s * 100.0),
        Figure::new("peak", "peak memory", "MB", Better::Lower, running.peak_mb()),
        Figure { better: Better::Neither, ..ms("late_max", "producer behind its pace, max", late_max_ms) },
    ];
    figures.extend(shares(spent, cpu_s));
    figures
}

fn idle(stage: &Stage, running: &Running) -> Vec<Figure> {
    thread::sleep(Duration::from_secs(scaled(SETTLE_S, stage.factor, 5)));
    let (window, before) = (Window::open(stage), running.cpu_s());
    thread::sleep(Duration::from_secs(scaled(IDLE_S, stage.factor, 10)));
    let used_s = running.cpu_s() - before;
    let spent = window.close();
    let share =
        |key, label, cpu_s| Figure::new(key, label, "% of a core", Better::Lower, cpu_s / spent.seconds * 100.0);
    let mut figures = vec![
        share("cpu", "CPU", used_s),
        Figure::new("rss", "memory", "MB", Better::Lower, rss_mb(running.process().pid())),
        Figure::new("peak", "peak memory", "MB", Better::Lower, running.peak_mb()),
        share("source_cpu", "source broker, CPU", spent.source_s),
        share("target_cpu", "target broker, CPU", spent.target_s),
    ];
    figures.extend(shares(spent, used_s));
    figures
}

fn start(copied: &Copied, running: &Running) -> Vec<Figure> {
    let mut figures = vec![
        Figure::new("to_all", "start to every partition copied", "s", Better::Lower, copied.seconds()),
        Figure::new("to_first", "start to first record", "s", Better::Lower, copied.first_s()),
        Figure::new("peak", "peak memory", "MB", Better::Lower, running.peak_mb()),
        Figure::new("cpu_s", "CPU", "CPU s", Better::Lower, copied.cpu_s),
    ];
    figures.extend(copied.brokers());
    figures
}
