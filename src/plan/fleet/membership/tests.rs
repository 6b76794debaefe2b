use super::*;

fn terms(instance_id: Option<&str>) -> Terms {
    Terms {
        session_timeout_ms: 10_000,
        heartbeat_ms: 1_000,
        instance_id: instance_id.map(str::to_owned),
        survey_ms: 60_000,
    }
}

fn asked(membership: &mut Membership, now_ms: u64) -> Ask {
    match membership.next(now_ms) {
        Next::Ask(ask) => ask,
        other => panic!("at {now_ms}: {other:?}"),
    }
}

fn joined(member: &str, generation: i32, leader: &str) -> Answer {
    Answer::Joined(Joined {
        member: member.to_owned(),
        generation,
        leader: leader.to_owned(),
        members: Vec::new(),
        skip_assignment: false,
    })
}

fn refused(code: i16) -> Answer {
    Answer::Refused(code, String::new())
}

/// A member `a` of generation 1.
fn member(leader: &str) -> Membership {
    let mut membership = Membership::new(terms(None));
    assert_eq!(asked(&mut membership, 0), Ask::Join { member: String::new() });
    assert_eq!(membership.answered(0, Answer::Refused(MEMBER_ID_REQUIRED, "a".to_owned())), None);
    assert_eq!(asked(&mut membership, 0), Ask::Join { member: "a".to_owned() });
    assert_eq!(membership.answered(0, joined("a", 1, leader)), None);
    let assigns = leader == "a";
    assert_eq!(asked(&mut membership, 0), Ask::Sync { member: "a".to_owned(), generation: 1, assigns });
    let told = membership.answered(0, Answer::Synced(b"x".to_vec()));
    assert_eq!(told, Some(Told::Given { generation: 1, assignment: b"x".to_vec() }));
    membership
}

#[test]
fn a_member_joins_syncs_and_is_heard_of() {
    let mut membership = member("b");
    assert_eq!(membership.next(10), Next::Wait { until_ms: 1_000 });
    assert_eq!(asked(&mut membership, 1_000), Ask::Heartbeat { member: "a".to_owned(), generation: 1 });
    assert_eq!(membership.answered(1_010, Answer::Done), None);
    assert_eq!(membership.next(1_020), Next::Wait { until_ms: 2_010 });
}

#[test]
fn who_hurries_asks_at_once_and_then_waits_again() {
    let mut membership = member("b");
    membership.hurry();
    assert_eq!(asked(&mut membership, 10), Ask::Heartbeat { member: "a".to_owned(), generation: 1 });
    assert_eq!(membership.answered(20, Answer::Done), None);
    assert_eq!(membership.next(20), Next::Wait { until_ms: 1_020 });
    assert_eq!(membership.member(), "a");
    // Where nobody answers it does not ask without pause.
    membership.hurry();
    assert_eq!(membership.answered(30, Answer::Silent), None);
    assert_eq!(membership.next(30), Next::Wait { until_ms: 30 + PAUSE_MS });
}

#[test]
fn a_rebalance_is_joined_under_the_same_id_and_takes_nothing_away() {
    let mut membership = member("b");
    assert_eq!(membership.answered(1_000, refused(REBALANCE_IN_PROGRESS)), None);
    assert_eq!(asked(&mut membership, 1_000), Ask::Join { member: "a".to_owned() });
}

#[test]
fn who_is_put_out_joins_as_somebody_new_and_says_so_once() {
    let mut membership = member("b");
    assert_eq!(membership.answered(1_000, refused(UNKNOWN_MEMBER_ID)), Some(Told::Out));
    assert_eq!(asked(&mut membership, 1_000), Ask::Join { member: String::new() });
    assert_eq!(membership.answered(1_000, refused(UNKNOWN_MEMBER_ID)), None);
}

#[test]
fn silence_for_a_session_counts_as_being_put_out() {
    let mut membership = member("b");
    assert_eq!(membership.answered(1_000, Answer::Silent), None);
    let Next::Wait { until_ms } = membership.next(1_000) else { panic!("no pause") };
    assert!(until_ms > 1_000);
    assert!(matches!(asked(&mut membership, until_ms), Ask::Heartbeat { .. }));
    assert_eq!(membership.answered(10_001, Answer::Silent), Some(Told::Out));
    assert_eq!(membership.answered(20_000, Answer::Silent), None);
}

#[test]
fn a_coordinator_that_moves_is_asked_again_after_a_pause() {
    for code in [COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR] {
        let mut membership = member("b");
        assert_eq!(membership.answered(1_000, refused(code)), None);
        assert_eq!(membership.next(1_000), Next::Wait { until_ms: 1_000 + PAUSE_MS });
        assert!(matches!(asked(&mut membership, 1_000 + PAUSE_MS), Ask::Heartbeat { .. }));
    }
}

#[test]
fn a_sync_that_fails_is_joined_anew() {
    for answer in [Answer::Silent, refused(REBALANCE_IN_PROGRESS), refused(ILLEGAL_GENERATION)] {
        let mut membership = member("b");
        membership.answered(1_000, refused(REBALANCE_IN_PROGRESS));
        membership.answered(1_000, joined("a", 2, "b"));
        membership.answered(1_000, answer);
        assert_eq!(asked(&mut membership, 10_000), Ask::Join { member: "a".to_owned() });
    }
}

#[test]
fn who_was_replaced_ends() {
    let mut membership = member("b");
    assert_eq!(membership.answered(1_000, refused(FENCED_INSTANCE_ID)), Some(Told::Out));
    assert_eq!(membership.next(1_000), Next::Ended(End::Replaced));
    membership.leave();
    assert_eq!(membership.next(1_000), Next::Ended(End::Replaced));
}

#[test]
fn what_cannot_be_put_right_by_waiting_ends_it_and_what_can_does_not() {
    let mut membership = Membership::new(terms(None));
    assert_eq!(membership.answered(0, refused(30)), None);
    assert_eq!(membership.next(0), Next::Ended(End::Refused(30)));
    let mut membership = Membership::new(terms(None));
    let told = membership.answered(0, refused(INCONSISTENT_GROUP_PROTOCOL));
    assert_eq!(told, Some(Told::Obstacle(INCONSISTENT_GROUP_PROTOCOL)));
    assert_eq!(membership.next(0), Next::Wait { until_ms: REFUSED_PAUSE_MS });
}

#[test]
fn the_leader_surveys_and_others_do_not() {
    let mut leader = member("a");
    leader.answered(59_999, Answer::Done);
    assert_eq!(asked(&mut leader, 60_000), Ask::Join { member: "a".to_owned() });
    let mut other = member("b");
    other.answered(59_999, Answer::Done);
    assert_eq!(other.next(60_000), Next::Wait { until_ms: 60_999 });
    other.rejoin();
    assert_eq!(asked(&mut other, 60_000), Ask::Join { member: "a".to_owned() });
}

/// Kafka tells a static leader that came back who the members are, and that they have their assignments (KIP-814).
#[test]
fn a_static_leader_that_comes_back_leads_without_assigning() {
    let mut membership = Membership::new(terms(Some("one")));
    let Answer::Joined(joined) = joined("a", 4, "a") else { unreachable!() };
    membership.answered(0, Answer::Joined(Joined { skip_assignment: true, ..joined }));
    assert_eq!(asked(&mut membership, 0), Ask::Sync { member: "a".to_owned(), generation: 4, assigns: false });
    membership.answered(0, Answer::Synced(Vec::new()));
    assert!(membership.leads());
}

#[test]
fn a_dynamic_member_leaves_and_a_static_one_is_expected_back() {
    let mut membership = member("b");
    membership.leave();
    assert_eq!(asked(&mut membership, 5), Ask::Leave { member: "a".to_owned() });
    assert_eq!(membership.answered(5, Answer::Silent), None);
    assert_eq!(membership.next(5), Next::Ended(End::Left));
    let mut membership = Membership::new(terms(Some("one")));
    membership.answered(0, joined("a", 1, "a"));
    membership.leave();
    assert_eq!(membership.next(0), Next::Ended(End::Left));
}
