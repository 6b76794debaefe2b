//! Leader epochs of one partition and where each began (Kafka's `LeaderEpochFileCache`, KIP-101 and KIP-320).

/// The epochs, oldest first; both epochs and start offsets ascend strictly.
#[derive(Debug, Clone, Default)]
pub(super) struct Epochs {
    entries: Vec<(i32, i64)>,
}

impl Epochs {
    /// A leader of this epoch starts at this offset; entries that contradict it go.
    pub(super) fn assign(&mut self, epoch: i32, start_offset: i64) {
        self.entries.retain(|&(known, start)| known < epoch && start < start_offset);
        self.entries.push((epoch, start_offset));
    }

    /// The log was cut back to this end.
    pub(super) fn truncate_from(&mut self, end_offset: i64) {
        self.entries.retain(|&(_, start)| start < end_offset);
    }

    /// The log starts here now: the epoch that covers it keeps its place, but begins here.
    pub(super) fn truncate_before(&mut self, start_offset: i64) {
        let covering = self.entries.iter().rposition(|&(_, start)| start <= start_offset);
        if let Some(at) = covering {
            self.entries.drain(..at);
            if let Some(first) = self.entries.first_mut() {
                first.1 = start_offset;
            }
        }
    }

    /// The epoch that wrote this offset.
    pub(super) fn epoch_at(&self, offset: i64) -> Option<i32> {
        self.entries.iter().rev().find(|&&(_, start)| start <= offset).map(|&(epoch, _)| epoch)
    }

    /// The newest epoch.
    pub(super) fn latest(&self) -> Option<i32> {
        self.entries.last().map(|&(epoch, _)| epoch)
    }

    /// Largest epoch at or below `epoch`, and where it ended; `None` when the log cannot tell.
    pub(super) fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> Option<(i32, i64)> {
        if epoch < 0 {
            return None;
        }
        if self.latest() == Some(epoch) {
            return Some((epoch, log_end_offset));
        }
        let above = self.entries.iter().find(|&&(known, _)| known > epoch)?;
        let floor = self.entries.iter().rev().find(|&&(known, _)| known <= epoch);
        Some((floor.map_or(epoch, |&(known, _)| known), above.1))
    }
}

#[cfg(test)]
mod tests {
    use super::Epochs;

    fn epochs(list: &[(i32, i64)]) -> Epochs {
        let mut epochs = Epochs::default();
        for &(epoch, start) in list {
            epochs.assign(epoch, start);
        }
        epochs
    }

    #[test]
    fn end_offset_is_the_next_epochs_start() {
        let epochs = epochs(&[(0, 0), (2, 10), (5, 20)]);
        assert_eq!(epochs.end_offset_for(5, 33), Some((5, 33)));
        assert_eq!(epochs.end_offset_for(2, 33), Some((2, 20)));
        assert_eq!(epochs.end_offset_for(1, 33), Some((0, 10)));
        assert_eq!(epochs.end_offset_for(6, 33), None);
        assert_eq!(epochs.end_offset_for(-1, 33), None);
    }

    #[test]
    fn an_epoch_that_wrote_nothing_is_replaced() {
        let epochs = epochs(&[(0, 0), (1, 10), (2, 10)]);
        assert_eq!(epochs.end_offset_for(1, 12), Some((0, 10)));
        assert_eq!(epochs.epoch_at(10), Some(2));
    }

    #[test]
    fn the_front_goes_with_the_log_start() {
        let mut epochs = epochs(&[(0, 0), (2, 10), (5, 20)]);
        epochs.truncate_before(15);
        assert_eq!(epochs.epoch_at(15), Some(2));
        assert_eq!(epochs.epoch_at(14), None);
        assert_eq!(epochs.end_offset_for(1, 33), Some((1, 15)));
    }
}
