//! A transaction on the source that holds back the last stable offset, and with it all that was written behind it.

use std::fmt;

/// How long a transaction may be open before anybody hears of it, ms: Kafka's default `transaction.timeout.ms`. Whoever has
/// one open for longer has asked for that, or hangs.
const TOLD_AFTER_MS: i64 = 60_000;

/// A transaction as the partition's leader knows it (DescribeProducers, KIP-664).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i32,
    /// Offset of its first record in the partition.
    pub start: i64,
}

/// The open transaction that began first. A start below 0 means that the producer has none.
pub fn oldest_open(producers: impl IntoIterator<Item = OpenTransaction>) -> Option<OpenTransaction> {
    producers.into_iter().filter(|producer| producer.start >= 0).min_by_key(|producer| producer.start)
}

/// Who holds the partition back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// It is too early to ask.
    NotAsked,
    /// This producer.
    Producer {
        /// Producer id.
        id: i64,
        /// Its epoch.
        epoch: i32,
    },
    /// The source does not tell, for this reason.
    Unknown(String),
}

/// A last stable offset that lies behind the high watermark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The last stable offset: the first record of the oldest open transaction.
    pub offset: i64,
    /// When that record was written, by its timestamp or by what was seen of it, ms.
    pub since_ms: i64,
    /// Whose it is.
    pub holder: Holder,
}

impl Hold {
    /// For how long, ms.
    pub fn age_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.since_ms).max(0)
    }

    /// Whether it lasts for long enough to be told.
    pub fn is_long(&self, now_ms: i64) -> bool {
        self.age_ms(now_ms) >= TOLD_AFTER_MS
    }

    /// With what the leader says of its producers; `None` where none of them holds anything back at that offset any more.
    #[must_use]
    pub fn asked(self, answer: Result<Vec<OpenTransaction>, String>) -> Option<Self> {
        let holder = match answer {
            Ok(producers) => {
                let open = oldest_open(producers).filter(|open| open.start <= self.offset)?;
                Holder::Producer { id: open.producer_id, epoch: open.producer_epoch }
            }
            Err(why) => Holder::Unknown(why),
        };
        Some(Self { holder, ..self })
    }

    /// What it is and how it ends, for `status`.
    pub fn words(&self, topic: &str, partition: i32, now_ms: i64) -> String {
        let (offset, seconds) = (self.offset, self.age_ms(now_ms) / 1000);
        format!(
            "held by an open transaction of {} since offset {offset}, open for {seconds} s; if its producer is gone for \
             good, this ends it: kafka-transactions.sh --bootstrap-server SOURCE abort --topic {topic} --partition \
             {partition} --start-offset {offset}",
            self.holder
        )
    }
}

impl Holder {
    /// Producer id and epoch, where they are known.
    pub fn producer(&self) -> Option<(i64, i32)> {
        match self {
            Self::Producer { id, epoch } => Some((*id, *epoch)),
            Self::NotAsked | Self::Unknown(_) => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Producer { id, epoch } => write!(f, "producer {id} (epoch {epoch})"),
            Self::Unknown(why) => write!(f, "a producer that the source does not name ({why})"),
            Self::NotAsked => f.write_str("a producer not asked for yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000_000;

    fn open(producer_id: i64, start: i64) -> OpenTransaction {
        OpenTransaction { producer_id, producer_epoch: 3, start }
    }

    fn hold(age_ms: i64) -> Hold {
        Hold { offset: 1234, since_ms: NOW - age_ms, holder: Holder::NotAsked }
    }

    #[test]
    fn the_oldest_open_transaction_holds() {
        assert_eq!(oldest_open([open(1, -1), open(2, 1300), open(3, 1234), open(4, -1)]), Some(open(3, 1234)));
        assert_eq!(oldest_open([open(1, -1)]), None);
    }

    #[test]
    fn it_is_told_after_a_minute() {
        assert!(!hold(59_999).is_long(NOW));
        assert!(hold(60_000).is_long(NOW));
        assert!(!hold(-5).is_long(NOW), "a clock that differs");
        assert_eq!(hold(-5).age_ms(NOW), 0);
    }

    #[test]
    fn what_ended_meanwhile_holds_nothing() {
        assert_eq!(hold(1).asked(Ok(vec![open(1, -1)])), None);
        assert_eq!(hold(1).asked(Ok(vec![open(1, 1235)])), None, "another one, behind it");
        let named = hold(1).asked(Ok(vec![open(1, 1235), open(2, 1234)])).unwrap();
        assert_eq!(named.holder, Holder::Producer { id: 2, epoch: 3 });
    }

    #[test]
    fn the_words_say_what_is_known_and_the_way_out() {
        let named = hold(312_400).asked(Ok(vec![open(4711, 1234)])).unwrap();
        assert_eq!(
            named.words("orders", 3, NOW),
            "held by an open transaction of producer 4711 (epoch 3) since offset 1234, open for 312 s; if its producer is \
             gone for good, this ends it: kafka-transactions.sh --bootstrap-server SOURCE abort --topic orders --partition \
             3 --start-offset 1234"
        );
        let unnamed = hold(312_400).asked(Err("TOPIC_AUTHORIZATION_FAILED".to_owned())).unwrap();
        let words = unnamed.words("orders", 3, NOW);
        assert!(
            words.contains("does not name (TOPIC_AUTHORIZATION_FAILED) since offset 1234, open for 312 s"),
            "{words}"
        );
    }
}
