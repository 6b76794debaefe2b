//! Warnings of what happens on the source, before it costs anything.

use crate::mirror::{HaltKind, Headroom, Hold, Holder, Isolation, Turn};

use super::super::ahead::Retentions;
use super::super::events::{Event, PartId};
use super::super::part::Stage;
use super::super::watched::{Looked, look};
use super::Runner;

/// How often the source is asked about partitions that wait, ms. What waits for less than that is not asked about.
const LOOK_EVERY_MS: u64 = 5_000;
/// How often it is seen whether there is something to say: time alone makes headroom short.
const TELL_EVERY_MS: u64 = 1_000;

/// When to look, and what was learnt for the next look.
#[derive(Debug, Default)]
pub(super) struct Watching {
    looking: bool,
    next_look_ms: u64,
    next_tell_ms: u64,
    retentions: Retentions,
}

impl Runner {
    /// Looks at the source every so often.
    pub(super) fn watch_source(&mut self, now_ms: u64) {
        if now_ms >= self.watching.next_tell_ms {
            self.watching.next_tell_ms = now_ms + TELL_EVERY_MS;
            self.parts.ids().into_iter().for_each(|id| self.tell(id, now_ms));
        }
        if self.watching.looking || now_ms < self.watching.next_look_ms || self.stopping {
            return;
        }
        self.watching.next_look_ms = now_ms + LOOK_EVERY_MS;
        let isolation = self.shared.config.isolation;
        let committed = isolation == Isolation::ReadCommitted;
        let parts = self.parts.iter_mut().filter(|(_, part)| part.selected);
        let questions: Vec<_> = parts.filter_map(|(id, part)| part.question(id, committed, now_ms)).collect();
        if questions.is_empty() {
            return;
        }
        self.watching.looking = true;
        let retentions = std::mem::take(&mut self.watching.retentions);
        let source = self.shared.source.clone();
        self.spawn(async move {
            let looked = look(source, isolation, retentions, questions, signed(now_ms)).await;
            Some(Event::Looked(Box::new(looked)))
        });
    }

    pub(super) fn on_looked(&mut self, looked: Looked) {
        self.watching.looking = false;
        self.watching.retentions = looked.retentions;
        let now_ms = self.now_ms();
        for found in looked.found {
            let id = found.id();
            if let Some(part) = self.parts.get_mut(id) {
                part.found(found);
            }
            self.tell(id, now_ms);
        }
    }

    /// Says what has changed: once that something is the matter, and once that it is over.
    fn tell(&mut self, id: PartId, now_ms: u64) {
        let now_ms = signed(now_ms);
        let Some(part) = self.parts.get_mut(id).filter(|part| part.selected) else { return };
        let ended = part.ends_hold();
        let (tp, watch) = (&part.pair.source, &mut part.watch);
        let (mirror, topic, partition) = (&self.shared.config.name, &tp.topic, tp.partition);
        if ended {
            tracing::info!(mirror, topic, partition, "the transaction that held the partition back has ended");
        }
        if let Some(hold @ Hold { holder: Holder::Producer { .. } | Holder::Unknown(_), offset, .. }) = &watch.hold
            && watch.told != Some(*offset)
        {
            watch.told = Some(*offset);
            let (producer_id, producer_epoch) = hold.holder.producer().unzip();
            tracing::warn!(
                mirror,
                topic,
                partition,
                producer_id,
                producer_epoch,
                last_stable_offset = offset,
                high_watermark = part.source_high,
                open_s = hold.age_ms(now_ms) / 1000,
                detail = hold.words(topic, partition, now_ms),
                "held by an open transaction"
            );
        }
        if matches!(&part.stage, Stage::Halted { halt, .. } if halt.kind == HaltKind::RetentionLoss) {
            // The loss itself was told.
            return;
        }
        let turn = watch.alarm.turn(watch.headroom, now_ms);
        let left_s = watch.headroom.left_ms(now_ms).map(|left| left / 1000);
        match (turn, watch.headroom) {
            (Some(Turn::Short), Headroom::Until { lifetime_ms, .. }) => tracing::warn!(
                mirror,
                topic,
                partition,
                headroom_s = left_s,
                lifetime_s = lifetime_ms / 1000,
                "retention on the source comes close to records that are not mirrored yet"
            ),
            (Some(Turn::Well), _) => {
                tracing::info!(mirror, topic, partition, headroom_s = left_s, "retention headroom is well again");
            }
            _ => {}
        }
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
