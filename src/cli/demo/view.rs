//! What is seen of the story: a line for each step, and on a terminal, below them, both clusters, the mirror and the groups as
//! they are now.

use std::io::{self, IsTerminal as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tokio::task::JoinHandle;

use super::super::output;
use super::MIRROR;
use super::groups;
use super::side::Side;

const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Which way records are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the source to the standby.
    Forth,
    /// And back.
    Home,
}

/// A step that was taken.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    /// Since the beginning.
    at_seconds: f64,
    step: &'static str,
    /// What one would type.
    command: Option<String>,
    /// What came of it.
    fact: String,
}

/// What the clusters do not tell themselves.
#[derive(Debug)]
struct Now {
    doing: String,
    since: Instant,
    way: Way,
    /// The mirror's process.
    mirror: Option<u32>,
    /// Records that the source has alone, for good.
    divergent: u64,
    /// Whether applications use the standby.
    on_standby: bool,
    /// What the archive holds, where the story is of one.
    archive: Option<String>,
}

/// Both clusters, and what is going on.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) source: Side,
    pub(super) standby: Side,
    now: Mutex<Now>,
}

impl Scene {
    pub(super) fn new(source: Side, standby: Side) -> Arc<Self> {
        let now = Now {
            doing: String::new(),
            since: Instant::now(),
            way: Way::Forth,
            mirror: None,
            divergent: 0,
            on_standby: false,
            archive: None,
        };
        Arc::new(Self { source, standby, now: Mutex::new(now) })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is done from now on.
    pub(super) fn doing(&self, words: &str) {
        let mut now = self.now();
        (now.doing, now.since) = (words.to_owned(), Instant::now());
    }

    /// What is done, and for how long already.
    fn doing_for(&self, colours: bool) -> String {
        let now = self.now();
        format!("{}  {:.1}s", paint(colours, "36", &now.doing), now.since.elapsed().as_secs_f64())
    }

    pub(super) fn mirrored_by(&self, process: Option<u32>, way: Way) {
        let mut now = self.now();
        (now.mirror, now.way) = (process, way);
    }

    pub(super) fn diverged_by(&self, records: u64) {
        self.now().divergent = records;
    }

    /// What the archive holds.
    pub(super) fn archived(&self, words: &str) {
        self.now().archive = Some(words.to_owned());
    }

    /// Where applications are.
    pub(super) fn moved(&self, on_standby: bool) {
        self.now().on_standby = on_standby;
    }

    /// Records that the one side has and the other is to get.
    fn lag(&self, source: u64, standby: u64) -> u64 {
        let now = self.now();
        let (here, there) = match now.way {
            Way::Forth => (source.saturating_sub(now.divergent), standby),
            Way::Home => (standby, source.saturating_sub(now.divergent)),
        };
        here.saturating_sub(there)
    }
}

/// Text in a colour, where there are colours.
fn paint(colours: bool, code: &str, text: &str) -> String {
    if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Where the story is told.
#[derive(Debug)]
pub(super) struct View {
    began: Instant,
    json: bool,
    colours: bool,
    pace: Duration,
    live: Option<Live>,
    scene: Arc<Scene>,
    pub(super) steps: Vec<Step>,
}

impl View {
    pub(super) fn new(scene: &Arc<Scene>, json: bool, pace: Duration) -> Self {
        let is_seen = !json && io::stdout().is_terminal() && io::stderr().is_terminal();
        let colours = is_seen && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let live = is_seen.then(|| Live::new(scene, colours));
        let pace = if live.is_some() { pace } else { Duration::ZERO };
        Self { began: Instant::now(), json, colours, pace, live, scene: Arc::clone(scene), steps: Vec::new() }
    }

    pub(super) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// How long it stays at each step.
    pub(super) fn pace(&self) -> Duration {
        self.pace
    }

    /// Does not stay at a step, until [`View::take_time`]; gives for how long it did.
    pub(super) fn hurry(&mut self) -> Duration {
        std::mem::take(&mut self.pace)
    }

    pub(super) fn take_time(&mut self, pace: Duration) {
        self.pace = pace;
    }

    /// Tells a step that was taken, and stays there for a while where somebody looks on.
    pub(super) async fn step(&mut self, step: &'static str, command: Option<&str>, fact: String) -> anyhow::Result<()> {
        let at_seconds = self.seconds();
        let line = self.line(at_seconds, step, command, &fact);
        self.steps.push(Step { at_seconds, step, command: command.map(str::to_owned), fact });
        if self.json {
            return Ok(());
        }
        match &self.live {
            Some(live) => live.bar.suspend(|| output::print(&line))?,
            None => output::print(&line)?,
        }
        if !self.pace.is_zero() {
            self.scene.doing("on in a moment");
            tokio::time::sleep(self.pace).await;
        }
        Ok(())
    }

    fn line(&self, at_seconds: f64, step: &str, command: Option<&str>, fact: &str) -> String {
        let paint = |code, text: &str| paint(self.colours, code, text);
        let tick = if self.live.is_some() { paint("32", "✓ ") } else { String::new() };
        let time = paint("2", &format!("{at_seconds:6.2}s"));
        let mut line = format!("{tick}{time}  {}  {fact}\n", paint("1", &format!("{step:<9}")));
        if let Some(command) = command {
            let indent = if self.live.is_some() { 22 } else { 20 };
            line.push_str(&format!("{:indent$}{}\n", "", paint("36", &format!("$ {command}"))));
        }
        line
    }

    /// Takes the live lines away.
    pub(super) fn end(&mut self) {
        if let Some(live) = self.live.take() {
            live.end();
        }
    }
}

/// The lines at the bottom of a terminal.
#[derive(Debug)]
struct Live {
    bar: ProgressBar,
    ticker: JoinHandle<()>,
}

impl Live {
    fn new(scene: &Arc<Scene>, colours: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg}\n{spinner} {prefix}") {
            bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        }
        let ticker = tokio::spawn(draw(Arc::clone(scene), bar.clone(), colours));
        Self { bar, ticker }
    }

    fn end(&self) {
        self.ticker.abort();
        self.bar.finish_and_clear();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end();
    }
}

/// Records a second, smoothed over a second or so.
#[derive(Debug, Default)]
struct Rate {
    last: u64,
    per_second: f64,
}

impl Rate {
    fn next(&mut self, count: u64) -> f64 {
        let now = count.saturating_sub(self.last) as f64 / DRAW_EVERY.as_secs_f64();
        self.last = count;
        self.per_second = self.per_second * 0.8 + now * 0.2;
        self.per_second
    }
}

async fn draw(scene: Arc<Scene>, bar: ProgressBar, colours: bool) {
    let mut rates = [Rate::default(), Rate::default()];
    let mut interval = tokio::time::interval(DRAW_EVERY);
    loop {
        interval.tick().await;
        bar.set_message(clusters(&scene, &mut rates, colours));
        bar.set_prefix(scene.doing_for(colours));
        bar.tick();
    }
}

/// Both clusters, the mirror, the groups.
fn clusters(scene: &Scene, rates: &mut [Rate; 2], colours: bool) -> String {
    let bold = |text: &str| paint(colours, "1", text);
    let (source, standby) = (scene.source.count(), scene.standby.count());
    let [source_rate, standby_rate] = rates;
    let clusters = [(&scene.source, source, source_rate), (&scene.standby, standby, standby_rate)];
    let [of_source, of_standby] = clusters.map(|(side, records, rate)| {
        let state = if side.is_up() { paint(colours, "32", "up  ") } else { paint(colours, "1;31", "LOST") };
        let rate = output::count(rate.next(records) as i64);
        let records = format!("{:>11}", output::count(records.cast_signed()));
        format!(
            "{} {state}  {:<16} {} records  {rate:>9}/s",
            bold(&format!("{:<9}", side.name)),
            side.address(),
            bold(&records)
        )
    });
    let lag = output::count(scene.lag(source, standby).cast_signed());
    let now = scene.now();
    let way = match now.way {
        Way::Forth => format!("{MIRROR} →"),
        Way::Home => format!("← {MIRROR}.failback"),
    };
    let process = now.mirror.map_or_else(|| "does not run".to_owned(), |pid| format!("process {pid}"));
    let between = match &now.archive {
        Some(words) => format!("{} {words}", bold("archive  ")),
        None => format!("{} {way:<16} {process:<14} lag {} records", bold("mirror   "), bold(&lag)),
    };
    let (applications, name) = if now.on_standby { (&scene.standby, "standby") } else { (&scene.source, "source") };
    let to_read = groups::to_read(applications).into_iter();
    let to_read: Vec<String> = to_read.map(|(group, left)| format!("{group} {}", output::count(left))).collect();
    let to_read = if to_read.is_empty() { "none yet".to_owned() } else { to_read.join(", ") };
    let groups = format!("{} to read on the {name}: {to_read}", bold("groups   "));
    let rule = paint(colours, "2", &"─".repeat(78));
    [rule, of_source, of_standby, between, groups].join("\n")
}
