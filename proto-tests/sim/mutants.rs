//! Every mutation is caught, each by a run of its own.

use super::failures;
use super::mutation::Mutation;

/// A mutation must show within this many seeds.
const SEEDS_TO_CATCH: u64 = 20_000;

fn assert_caught(mutation: Mutation) {
    let caught = failures(SEEDS_TO_CATCH, Some(mutation), 1);
    let Some((seed, wrong)) = caught.first() else { panic!("{mutation:?} goes unnoticed in {SEEDS_TO_CATCH} seeds") };
    eprintln!("{mutation:?}: seed {seed}: {wrong}");
}

macro_rules! caught {
    ($($name:ident: $mutation:ident,)*) => {
        $(#[test]
        fn $name() {
            assert_caught(Mutation::$mutation);
        })*

        #[test]
        fn each_has_its_test() {
            assert_eq!([$(Mutation::$mutation),*], Mutation::ALL);
        }
    };
}

caught! {
    batches_before_their_breaks: SkipWriteAhead,
    base_offsets_ignored: IgnoreBaseOffset,
    sequences_used_twice: ReuseSequence,
    expired_batches_sent_again: ResendExpired,
    origins_not_written: DropOrigin,
    markers_not_waited_for: SkipMarkerWait,
    ends_settled_before_the_marker: SettleBeforeMarker,
    state_read_without_a_marker: SkipStateMarker,
    divergence_ignored: IgnoreDivergence,
    aborted_records_mirrored: MirrorAborted,
    gap_reasons_mistaken: MistakeGapReason,
    gaps_lost: LoseGap,
    positions_one_back: PositionOneBack,
    unclean_partitions_released: ReleaseUnclean,
    releases_used_twice: ResumeUnrecorded,
    released_logs_that_grew: IgnoreReleasedEnd,
    stale_fetches_taken: TakeStaleFetch,
    scans_forgotten: ForgetScans,
    breaks_behind_the_end_of_their_flow: KeepBreaksOfEndedFlow,
}
