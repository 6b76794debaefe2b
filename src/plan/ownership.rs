//! What to do about a value that follows the source: the mirror changes and takes away what it has set itself, and leaves alone
//! what somebody has set on the target by hand.

use crate::mirror::Owned;

/// What is to be done about one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be, or none of the mirror's business.
    Nothing,
    /// What was on its way is there.
    Settled,
    /// It is not the mirror's any more, and the source has none.
    Forget,
    /// Set it.
    Set,
    /// Take it away.
    Remove,
    /// Leave it alone: somebody has set it by hand.
    ByHand,
    /// Leave it alone: somebody has taken it away by hand.
    TakenAway,
}

/// What is to be done where the source has `wanted`, and the target `found`. `owned` is what the mirror has set. `take_over`:
/// what was set by hand becomes the mirror's; what the source does not have stays the target's own even then.
#[must_use]
pub fn verdict(owned: Option<&Owned>, wanted: Option<&str>, found: Option<&str>, take_over: bool) -> Verdict {
    let is_ours = owned.map_or(found.is_none(), |owned| owned.is(found));
    match (owned, wanted) {
        (Some(_), None) if found.is_none() || !is_ours => Verdict::Forget,
        (Some(_), None) => Verdict::Remove,
        (None, None) => Verdict::Nothing,
        (Some(owned), Some(_)) if wanted == found => {
            let is_settled = owned.value.as_deref() == found && owned.before == owned.value;
            if is_settled { Verdict::Nothing } else { settled_or_taken(is_ours || take_over) }
        }
        (None, Some(_)) if wanted == found => {
            if take_over {
                Verdict::Settled
            } else {
                Verdict::Nothing
            }
        }
        (_, Some(_)) if is_ours || take_over => Verdict::Set,
        (_, Some(_)) if found.is_none() => Verdict::TakenAway,
        (_, Some(_)) => Verdict::ByHand,
    }
}

fn settled_or_taken(is_ours: bool) -> Verdict {
    if is_ours { Verdict::Settled } else { Verdict::Nothing }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn under_way(value: Option<&str>, before: Option<&str>) -> Owned {
        Owned { value: value.map(Into::into), before: before.map(Into::into) }
    }

    #[test]
    fn what_is_set_by_hand_stays_and_what_is_the_mirrors_follows() {
        let ours = Owned::settled("5");
        let of = |owned: Option<&Owned>, wanted, found| verdict(owned, wanted, found, false);
        for (owned, wanted, found, expected) in [
            (None, Some("5"), None, Verdict::Set),
            (None, Some("5"), Some("5"), Verdict::Nothing),
            (None, Some("5"), Some("7"), Verdict::ByHand),
            (None, None, Some("7"), Verdict::Nothing),
            (Some(&ours), Some("5"), Some("5"), Verdict::Nothing),
            (Some(&ours), Some("9"), Some("5"), Verdict::Set),
            (Some(&ours), Some("9"), Some("7"), Verdict::ByHand),
            (Some(&ours), Some("9"), None, Verdict::TakenAway),
            (Some(&ours), None, Some("5"), Verdict::Remove),
            (Some(&ours), None, Some("7"), Verdict::Forget),
            (Some(&ours), None, None, Verdict::Forget),
        ] {
            assert_eq!(of(owned, wanted, found), expected, "{owned:?} {wanted:?} {found:?}");
        }
        assert_eq!(verdict(None, Some("5"), Some("7"), true), Verdict::Set);
        assert_eq!(verdict(None, None, Some("7"), true), Verdict::Nothing);
    }

    #[test]
    fn without_an_answer_either_value_is_the_mirrors() {
        let owned = under_way(Some("9"), Some("5"));
        for (wanted, found, expected) in [
            (Some("9"), Some("5"), Verdict::Set),
            (Some("9"), Some("9"), Verdict::Settled),
            (Some("9"), Some("7"), Verdict::ByHand),
            (Some("3"), Some("9"), Verdict::Set),
            (None, Some("5"), Verdict::Remove),
        ] {
            assert_eq!(verdict(Some(&owned), wanted, found, false), expected, "{wanted:?} {found:?}");
        }
        // The first time, nothing stood there.
        let first = under_way(Some("9"), None);
        assert_eq!(verdict(Some(&first), Some("9"), None, false), Verdict::Set);
        assert_eq!(verdict(Some(&first), None, None, false), Verdict::Forget);
    }

    proptest! {
        /// However values change on both sides, and whatever answers are lost: what was set by hand is never changed.
        #[test]
        fn no_order_of_events_overwrites_what_was_set_by_hand(events in prop::collection::vec((0..4_u8, 0..3_u8), 1..60)) {
            let value = |number: u8| (number > 0).then(|| number.to_string());
            let (mut source, mut target, mut by_hand) = (None::<String>, None::<String>, false);
            let mut owned: Option<Owned> = None;
            for (event, number) in events {
                match event {
                    0 => source = value(number),
                    // Somebody's own value, which no source ever has.
                    1 => (target, by_hand) = (Some(format!("hand{number}")), true),
                    _ => {
                        let before = target.clone();
                        match verdict(owned.as_ref(), source.as_deref(), target.as_deref(), false) {
                            Verdict::Set | Verdict::Remove => {
                                owned = Some(Owned { value: source.clone(), before: target.clone() });
                                if event == 2 {
                                    target = source.clone();
                                    owned = source.clone().map(Owned::settled);
                                }
                            }
                            Verdict::Settled => owned = target.clone().map(Owned::settled),
                            Verdict::Forget => owned = None,
                            Verdict::Nothing | Verdict::ByHand | Verdict::TakenAway => {}
                        }
                        prop_assert!(!by_hand || before == target, "{before:?} became {target:?}");
                    }
                }
            }
            // And where nobody meddled, it follows.
            if !by_hand {
                for _ in 0..2 {
                    match verdict(owned.as_ref(), source.as_deref(), target.as_deref(), false) {
                        Verdict::Set | Verdict::Remove => target = source.clone(),
                        _ => {}
                    }
                }
                prop_assert_eq!(source, target);
            }
        }
    }
}
