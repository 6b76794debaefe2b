//! Whether a mirror is safe, in words: what its status means to whoever is asked at night.

use schemars::JsonSchema;
use serde::Serialize;

use crate::ops::{MirrorStatus, PartitionStatus};

/// An RPO above this is worth a look, seconds.
const RPO_WATCH_S: f64 = 60.0;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A failover now would lose next to nothing.
    Safe,
    /// The target was promoted: there is nothing to keep in step any more.
    Promoted,
    /// Somebody should look at it in working hours.
    Watch,
    /// Somebody should look at it now.
    Unsafe,
    /// It could not be looked at.
    Unknown,
}

/// The answer to "are we safe right now?".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Verdict {
    /// How bad it is.
    pub level: Level,
    /// One sentence a reason; the worst first. Never empty.
    pub reasons: Vec<String>,
}

impl Verdict {
    /// Of a mirror that could not be looked at.
    pub fn unknown(error: &str) -> Self {
        Self { level: Level::Unknown, reasons: vec![format!("It cannot be looked at: {error}")] }
    }

    /// Of what was found.
    pub fn of(status: &MirrorStatus) -> Self {
        if status.state == "promoted" {
            let words =
                "The target was promoted: consumers and producers belong there, and nothing is copied any more.";
            return Self { level: Level::Promoted, reasons: vec![words.to_owned()] };
        }
        let mut found = [halted(status), short(status), silent(status), paused(status), behind(status), lost(status)]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        found.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
        let level = found.first().map_or(Level::Safe, |(level, _)| *level);
        if level < Level::Watch {
            found.insert(0, (Level::Safe, safe(status)));
        }
        Self { level, reasons: found.into_iter().map(|(_, words)| words).collect() }
    }
}

type Reason = Option<(Level, String)>;

fn count(status: &MirrorStatus, is: impl Fn(&PartitionStatus) -> bool) -> usize {
    status.partitions.iter().filter(|partition| is(partition)).count()
}

fn of_all(some: usize, status: &MirrorStatus) -> String {
    let all = status.partitions.len();
    format!("{some} of {all} {}", if all == 1 { "partition" } else { "partitions" })
}

fn halted(status: &MirrorStatus) -> Reason {
    let halted = count(status, |p| p.state == "halted");
    let words =
        || format!("Halted: {}. What is written there is not copied until somebody decides.", of_all(halted, status));
    (halted > 0).then(|| (Level::Unsafe, words()))
}

fn short(status: &MirrorStatus) -> Reason {
    let short = count(status, |p| p.headroom_is_short);
    let words = || {
        format!(
            "Short of time: retention on the source will soon take records of {} that are not mirrored.",
            of_all(short, status)
        )
    };
    (short > 0).then(|| (Level::Unsafe, words()))
}

fn silent(status: &MirrorStatus) -> Reason {
    let silent = count(status, |p| p.lag_records < 0);
    (silent > 0).then(|| (Level::Unsafe, format!("Not known how far: {} could not be asked.", of_all(silent, status))))
}

fn paused(status: &MirrorStatus) -> Reason {
    let paused = count(status, |p| p.state == "paused");
    (paused > 0).then(|| (Level::Watch, format!("Paused by command: {}.", of_all(paused, status))))
}

fn behind(status: &MirrorStatus) -> Reason {
    if status.partitions.is_empty() {
        return Some((Level::Watch, "No topic of the source matches: nothing is mirrored.".to_owned()));
    }
    let starting = count(status, |p| p.state == "starting");
    if starting > 0 {
        let why = status.reason.as_ref().map(|why| format!(" {why}")).unwrap_or_default();
        return Some((Level::Watch, format!("Not begun yet: {}.{why}", of_all(starting, status))));
    }
    let words = || format!("Behind: a failover now would lose the last {}.", span(status.rpo_seconds));
    (status.rpo_seconds > RPO_WATCH_S).then(|| (Level::Watch, words()))
}

/// What is gone for good does not make what comes unsafe.
fn lost(status: &MirrorStatus) -> Reason {
    let records = lost_records(status);
    let words = || {
        format!(
            "Of earlier times up to {records} records are missing on the target; each range and its reason is in the partition's view."
        )
    };
    (records > 0).then(|| (Level::Safe, words()))
}

/// Source offsets that readers could see there and that have no counterpart on the target.
pub(super) fn lost_records(status: &MirrorStatus) -> i64 {
    let gaps = status.partitions.iter().flat_map(|p| &p.gaps).filter(|gap| gap.is_loss);
    gaps.map(|gap| gap.to - gap.from).sum()
}

/// The worst of the states of partitions.
pub(super) fn worst_state(states: impl Iterator<Item = &'static str>) -> &'static str {
    const WORST_FIRST: [&str; 5] = ["halted", "paused", "starting", "mirroring", "promoted"];
    let rank = |state: &&'static str| WORST_FIRST.iter().position(|known| known == state);
    states.min_by_key(rank).unwrap_or("starting")
}

fn safe(status: &MirrorStatus) -> String {
    let lag: i64 = status.partitions.iter().map(|p| p.lag_records.max(0)).sum();
    match lag {
        0 => "In step: a failover now would lose nothing.".to_owned(),
        _ => {
            format!("In step: a failover now would lose at most the last {}, {lag} records.", span(status.rpo_seconds))
        }
    }
}

fn span(seconds: f64) -> String {
    let whole = std::time::Duration::from_secs(seconds.max(0.0).ceil() as u64);
    humantime::format_duration(whole).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::{Gap, GapReason};
    use crate::ops::GapView;

    fn partition(state: &'static str) -> PartitionStatus {
        PartitionStatus {
            topic: "orders".to_owned(),
            target_topic: "orders".to_owned(),
            partition: 0,
            state,
            reason: None,
            way_out: None,
            source_end: 10,
            mirrored_to: 10,
            target_end: 10,
            lag_records: 0,
            lag_seconds: 0.0,
            retention_headroom_seconds: None,
            headroom_is_short: false,
            gaps: Vec::new(),
        }
    }

    fn status(partitions: Vec<PartitionStatus>, rpo_seconds: f64) -> MirrorStatus {
        MirrorStatus {
            name: "dr".to_owned(),
            state: "mirroring",
            reason: None,
            rpo_seconds,
            bandwidth_bytes_per_s: None,
            bandwidth_from: "file",
            groups: None,
            fleet: None,
            sync: None,
            partitions,
        }
    }

    fn judged(partitions: Vec<PartitionStatus>, rpo_seconds: f64) -> (Level, String) {
        let verdict = Verdict::of(&status(partitions, rpo_seconds));
        (verdict.level, verdict.reasons.join(" "))
    }

    #[test]
    fn what_is_in_step_is_safe_and_says_what_a_failover_would_cost() {
        let (level, words) = judged(vec![partition("mirroring")], 0.0);
        assert_eq!((level, words.as_str()), (Level::Safe, "In step: a failover now would lose nothing."));
        let behind = PartitionStatus { lag_records: 7, lag_seconds: 2.4, ..partition("mirroring") };
        let (level, words) = judged(vec![behind], 2.4);
        assert_eq!(level, Level::Safe);
        assert!(words.contains("last 3s, 7 records"), "{words}");
    }

    #[test]
    fn the_worst_comes_first_and_nothing_is_kept_back() {
        let short = PartitionStatus { headroom_is_short: true, lag_records: 9, ..partition("mirroring") };
        let (level, words) = judged(vec![partition("halted"), partition("paused"), short], 900.0);
        assert_eq!(level, Level::Unsafe);
        let at = |word: &str| words.find(word).unwrap_or_else(|| panic!("{word}: {words}"));
        assert!(at("Halted: 1 of 3") < at("Paused") && at("Short of time") < at("Behind"), "{words}");
        assert!(words.contains("15m"), "{words}");
    }

    #[test]
    fn what_nobody_could_ask_is_not_called_safe() {
        let silent = PartitionStatus { lag_records: -1, lag_seconds: -1.0, ..partition("mirroring") };
        assert_eq!(judged(vec![silent, partition("mirroring")], -1.0).0, Level::Unsafe);
        assert_eq!(judged(Vec::new(), 0.0).0, Level::Watch);
        assert_eq!(judged(vec![partition("starting")], 0.0).0, Level::Watch);
        assert_eq!(Verdict::unknown("no route").level, Level::Unknown);
    }

    #[test]
    fn what_is_lost_is_told_although_the_rest_is_safe() {
        let gaps = vec![
            GapView::from(Gap { reason: GapReason::Retention, from: 0, to: 40 }),
            GapView::from(Gap { reason: GapReason::Compaction, from: 50, to: 60 }),
        ];
        let (level, words) = judged(vec![PartitionStatus { gaps, ..partition("mirroring") }], 0.0);
        assert_eq!(level, Level::Safe);
        assert!(words.contains("up to 40 records are missing"), "{words}");
    }

    #[test]
    fn a_promoted_target_needs_no_mirror() {
        let status = MirrorStatus { state: "promoted", ..status(vec![partition("promoted")], 5_000.0) };
        assert_eq!(Verdict::of(&status).level, Level::Promoted);
    }
}
