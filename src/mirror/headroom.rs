//! How long the source keeps what is not mirrored yet.
//!
//! A lower bound for how Kafka deletes (`UnifiedLog.deleteOldSegments`): whole segments from the head. By time, once the
//! *largest* timestamp of a segment is older than `retention.ms`: never before the record itself is. By size, as long as
//! what is left is at least `retention.bytes`: a log at its limit spans between `retention.bytes` and one segment more, so
//! of the time since its first record was written, `retention.bytes / (retention.bytes + segment.bytes)` is what a record
//! has at least, if writing goes on at the pace that it had. A log whose start never moved has not reached its limit, as far
//! as can be seen from here.

/// A tenth of its life: what a record that is not mirrored by then should be warned about …
const SHORT_SHARE: i64 = 10;
/// … but no earlier than an hour before, ms: time enough for somebody to act.
const SHORT_MAX_MS: i64 = 3_600_000;
/// So many times what counts as short it takes to be well again: what hovers there is told once.
const WELL_TIMES: i64 = 2;

/// What a topic's configuration says about deletion. `local.retention.*` is left out: a tiered log's start is that of its
/// remote part, which `retention.*` governs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// `retention.ms`, where it is limited.
    pub ms: Option<i64>,
    /// `retention.bytes`, where it is limited, and `segment.bytes`.
    pub bytes: Option<(i64, i64)>,
}

/// The first record of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStart {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, ms.
    pub timestamp: i64,
}

impl Retention {
    /// The topic configs that it takes.
    pub const KEYS: [&str; 4] = ["cleanup.policy", "retention.ms", "retention.bytes", "segment.bytes"];

    /// From configs by name; `None` where they do not tell.
    pub fn of(value: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let [policy, ms, bytes, segment] = Self::KEYS.map(value);
        // Compaction alone leaves the newest record of every key.
        if !policy?.split(',').any(|word| word.trim() == "delete") {
            return Some(Self::default());
        }
        let number = |text: Option<String>| text?.parse::<i64>().ok();
        let (ms, bytes) = (number(ms)?, number(bytes)?);
        let bytes = if bytes < 0 { None } else { Some((bytes, number(segment)?)) };
        Some(Self { ms: Some(ms).filter(|ms| *ms >= 0), bytes })
    }

    /// How long a record stays at least, ms; `None`: as long as nobody deletes it.
    pub fn lifetime_ms(&self, start: Option<LogStart>, now_ms: i64) -> Option<i64> {
        let by_size = || {
            let (bytes, segment) = self.bytes?;
            let start = start.filter(|start| start.offset > 0 && start.timestamp >= 0)?;
            let spans = i128::from(now_ms.saturating_sub(start.timestamp).max(0));
            let share = spans * i128::from(bytes) / (i128::from(bytes) + i128::from(segment)).max(1);
            i64::try_from(share).ok()
        };
        [self.ms, by_size()].into_iter().flatten().min()
    }
}

/// How long until retention may take the first record that is not mirrored yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Headroom {
    /// Nobody can tell.
    #[default]
    Unknown,
    /// Nothing can be lost: all is mirrored, or nothing is ever deleted.
    Unlimited,
    /// Until then.
    Until {
        /// Milliseconds since the epoch.
        due_ms: i64,
        /// Of which a record has this much in all.
        lifetime_ms: i64,
    },
}

impl Headroom {
    /// Of a first record with this timestamp. One without a timestamp goes by the age of its segment's file.
    pub fn of(timestamp: i64, lifetime_ms: Option<i64>) -> Self {
        match lifetime_ms {
            None => Self::Unlimited,
            Some(_) if timestamp < 0 => Self::Unknown,
            Some(lifetime_ms) => Self::Until { due_ms: timestamp.saturating_add(lifetime_ms), lifetime_ms },
        }
    }

    /// Milliseconds left, where they are counted; never less than none.
    pub fn left_ms(self, now_ms: i64) -> Option<i64> {
        match self {
            Self::Until { due_ms, .. } => Some(due_ms.saturating_sub(now_ms).max(0)),
            Self::Unknown | Self::Unlimited => None,
        }
    }

    /// Whether somebody should act.
    pub fn is_short(self, now_ms: i64) -> bool {
        self.left_ms(now_ms).is_some_and(|left| left <= self.short_ms())
    }

    fn short_ms(self) -> i64 {
        match self {
            Self::Until { lifetime_ms, .. } => (lifetime_ms / SHORT_SHARE).min(SHORT_MAX_MS),
            Self::Unknown | Self::Unlimited => 0,
        }
    }

    fn is_well(self, now_ms: i64) -> bool {
        match self {
            Self::Unknown => false,
            Self::Unlimited => true,
            Self::Until { .. } => self.left_ms(now_ms).is_some_and(|left| left > self.short_ms() * WELL_TIMES),
        }
    }
}

/// Says once that headroom is short, and once that it is well again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alarm {
    sounds: bool,
}

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Headroom has become short.
    Short,
    /// It is well again.
    Well,
}

impl Alarm {
    /// Looks at the headroom; what is not known changes nothing.
    pub fn turn(&mut self, headroom: Headroom, now_ms: i64) -> Option<Turn> {
        let turn = match self.sounds {
            false if headroom.is_short(now_ms) => Turn::Short,
            true if headroom.is_well(now_ms) => Turn::Well,
            _ => return None,
        };
        self.sounds = turn == Turn::Short;
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;
    const NOW: i64 = 1_790_000_000_000;

    fn retention(policy: &str, ms: i64, bytes: i64) -> Option<Retention> {
        Retention::of(|key| {
            Some(match key {
                "cleanup.policy" => policy.to_owned(),
                "retention.ms" => ms.to_string(),
                "retention.bytes" => bytes.to_string(),
                _ => 1_000.to_string(),
            })
        })
    }

    #[test]
    fn it_is_what_the_configuration_limits() {
        let limited = |ms, bytes: Option<i64>| Some(Retention { ms, bytes: bytes.map(|bytes| (bytes, 1_000)) });
        assert_eq!(retention("delete", DAY_MS, -1), limited(Some(DAY_MS), None));
        assert_eq!(retention("delete", -1, 5_000), limited(None, Some(5_000)));
        assert_eq!(retention("compact, delete", 0, -1), limited(Some(0), None));
        assert_eq!(retention("compact", DAY_MS, 5_000), limited(None, None));
        assert_eq!(retention("", DAY_MS, 5_000), limited(None, None));
        assert_eq!(Retention::of(|_| None), None, "no right to see them");
        assert_eq!(Retention::of(|key| (key == "cleanup.policy").then(|| "delete".to_owned())), None);
    }

    #[test]
    fn by_time_a_record_lives_for_as_long_as_retention_says() {
        let retention = retention("delete", DAY_MS, -1).unwrap();
        let lifetime = retention.lifetime_ms(None, NOW);
        assert_eq!(lifetime, Some(DAY_MS));
        let headroom = Headroom::of(NOW - DAY_MS / 4, lifetime);
        assert_eq!(headroom.left_ms(NOW), Some(DAY_MS / 4 * 3));
        assert_eq!(headroom.left_ms(NOW + DAY_MS), Some(0), "it has no debts");
        assert_eq!(Headroom::of(NOW, None), Headroom::Unlimited);
        assert_eq!(Headroom::of(-1, lifetime), Headroom::Unknown, "a record without a timestamp");
    }

    #[test]
    fn by_size_it_lives_for_what_the_log_spans_less_a_segment() {
        let sized = retention("delete", -1, 4_000).unwrap();
        let start = |offset, age_ms| Some(LogStart { offset, timestamp: NOW - age_ms });
        assert_eq!(sized.lifetime_ms(start(70, 10 * DAY_MS), NOW), Some(8 * DAY_MS));
        assert_eq!(sized.lifetime_ms(start(0, 10 * DAY_MS), NOW), None, "the limit was never reached");
        assert_eq!(sized.lifetime_ms(None, NOW), None, "an empty log");
        assert_eq!(sized.lifetime_ms(start(70, -5), NOW), Some(0), "of the future");
        let both = retention("delete", 2 * DAY_MS, 4_000).unwrap();
        assert_eq!(both.lifetime_ms(start(70, 10 * DAY_MS), NOW), Some(2 * DAY_MS));
        assert_eq!(both.lifetime_ms(start(70, DAY_MS), NOW), Some(DAY_MS / 5 * 4), "the smaller of the two");
    }

    #[test]
    fn short_is_a_tenth_of_its_life_or_an_hour() {
        let left = |lifetime_ms, left_ms: i64| Headroom::Until { due_ms: NOW + left_ms, lifetime_ms };
        assert!(left(600_000, 60_000).is_short(NOW));
        assert!(!left(600_000, 60_001).is_short(NOW));
        assert!(left(7 * DAY_MS, 3_600_000).is_short(NOW));
        assert!(!left(7 * DAY_MS, 3_600_001).is_short(NOW));
        assert!(left(0, -1).is_short(NOW), "retention.ms=0");
        assert!(!Headroom::Unlimited.is_short(NOW) && !Headroom::Unknown.is_short(NOW));
    }

    #[test]
    fn it_is_told_once_and_once_that_it_is_over() {
        let mut alarm = Alarm::default();
        let left = |left_ms: i64| Headroom::Until { due_ms: NOW + left_ms, lifetime_ms: 600_000 };
        let mut turn = |headroom| alarm.turn(headroom, NOW);
        assert_eq!(turn(left(90_000)), None);
        assert_eq!(turn(left(50_000)), Some(Turn::Short));
        for hovers in [40_000, 61_000, 59_000, 120_000, 0] {
            assert_eq!(turn(left(hovers)), None, "{hovers}");
        }
        assert_eq!(turn(Headroom::Unknown), None, "the source does not answer: nothing is well");
        assert_eq!(turn(left(120_001)), Some(Turn::Well));
        assert_eq!(turn(left(120_001)), None);
        assert_eq!(turn(left(0)), Some(Turn::Short));
        assert_eq!(turn(Headroom::Unlimited), Some(Turn::Well));
        assert_eq!(turn(Headroom::Unlimited), None);
    }

    #[test]
    fn time_alone_makes_it_short() {
        let (mut alarm, headroom) = (Alarm::default(), Headroom::Until { due_ms: NOW + 90_000, lifetime_ms: 600_000 });
        assert_eq!(alarm.turn(headroom, NOW), None);
        assert_eq!(alarm.turn(headroom, NOW + 30_000), Some(Turn::Short));
    }
}
