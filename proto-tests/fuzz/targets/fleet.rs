//! What comes out of a fleet's group: what its members say, what they are told, and a coordinator's answers in any order.

use std::collections::{BTreeMap, BTreeSet};

use kmirror::client::{DescribedFleet, FleetMember, GroupState};
use kmirror::ops::fuzzing::fleet_shown;
use kmirror::plan::fleet::{
    Answer, Ask, Assignment, Joined, Member, Membership, Next, PROTOCOL_TYPE, SHARDS_MAX, Subscription, Terms, Told,
    assign,
};

use super::Input;

/// More would only take time.
const SHARDS: u32 = 48;
const MEMBERS: usize = 12;

/// Members with what each says, or with what each says and was told, or answers in turn.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 3 {
        0 => shared_out(&mut input),
        1 => shown(&mut input),
        _ => answered(&mut input),
    }
}

fn said(bytes: &[u8]) -> Option<Subscription> {
    let said = Subscription::from_bytes(bytes).ok()?;
    assert!(said.shard_count <= SHARDS_MAX);
    assert_eq!(Subscription::from_bytes(&said.to_bytes()).as_ref(), Ok(&said));
    Some(said)
}

fn shared_out(input: &mut Input<'_>) {
    let count = u32::from(input.u8()) % SHARDS;
    let mut members = Vec::new();
    while !input.is_empty() && members.len() < MEMBERS {
        if let Some(said) = said(input.piece()) {
            members.push(Member { id: format!("m{}", members.len()), said });
        }
    }
    let remembered = BTreeMap::from([(0, u64::MAX), (1, 7)]);
    let targets = assign(count, &members, &remembered);
    assert_eq!(targets.len(), members.len());
    let mut given: Vec<u32> = targets.values().flat_map(|target| target.shards.keys().copied()).collect();
    given.sort_unstable();
    let all: Vec<u32> = if members.is_empty() { Vec::new() } else { (0..count).collect() };
    assert_eq!(given, all, "each shard to one member");
    assert_eq!(targets.values().filter(|target| target.elected).count(), usize::from(!members.is_empty()));
    members.reverse();
    assert_eq!(assign(count, &members, &remembered), targets, "in whatever order members are named");
    for target in targets.values() {
        let told = Assignment { shards: target.shards.clone(), elected: target.elected, slot: count.checked_sub(1) };
        assert_eq!(Assignment::from_bytes(&told.to_bytes()), Ok(told));
    }
}

fn shown(input: &mut Input<'_>) {
    let mut members = Vec::new();
    while !input.is_empty() && members.len() < MEMBERS {
        let (subscription, assignment) = (input.piece().to_vec(), input.piece().to_vec());
        let id = members.len().to_string();
        let (client_id, client_host) = (String::new(), String::new());
        members.push(FleetMember { id, instance_id: None, client_id, client_host, subscription, assignment });
    }
    let count = members.len();
    let protocol_type = PROTOCOL_TYPE.to_owned();
    let view = fleet_shown(DescribedFleet { state: GroupState::Stable, protocol_type, members }).unwrap();
    assert_eq!(view.members.len(), count);
    assert!(view.shard_count <= SHARDS_MAX && view.unassigned.len() <= SHARDS_MAX as usize);
    let given: BTreeSet<u32> = view.members.iter().flat_map(|member| member.shards.iter().copied()).collect();
    assert!(view.unassigned.iter().all(|shard| !given.contains(shard) && *shard < view.shard_count));
}

fn answered(input: &mut Input<'_>) {
    let instance_id = (input.u8() & 1 == 1).then(|| "a".to_owned());
    let terms = Terms { session_timeout_ms: 10_000, heartbeat_ms: 3_000, instance_id, survey_ms: 60_000 };
    let (mut machine, mut now_ms) = (Membership::new(terms), 0);
    while !input.is_empty() {
        now_ms += u64::from(input.u8()) * 100;
        let asked_sync = match machine.next(now_ms) {
            Next::Ended(_) => return,
            Next::Wait { until_ms } => {
                assert!(until_ms > now_ms, "a wait that is over already would never end");
                continue;
            }
            Next::Ask(ask) => matches!(ask, Ask::Sync { .. }),
        };
        let answer = an_answer(input);
        let synced = matches!(answer, Answer::Synced(_));
        match machine.answered(now_ms, answer) {
            Some(Told::Given { assignment, .. }) => {
                assert!(synced && asked_sync, "what was not asked for is given to nobody");
                let _ = Assignment::from_bytes(&assignment);
                assert!(machine.generation().is_some());
            }
            Some(Told::Out | Told::Obstacle(_)) | None => {}
        }
    }
}

fn an_answer(input: &mut Input<'_>) -> Answer {
    let word = |input: &mut Input<'_>| ["", "a", "b"][usize::from(input.u8() % 3)].to_owned();
    match input.u8() % 6 {
        0 | 1 => Answer::Joined(Joined {
            member: word(input),
            generation: i32::from(input.u8()) - 1,
            leader: word(input),
            members: Vec::new(),
            skip_assignment: input.u8() & 1 == 1,
        }),
        2 => Answer::Synced(input.piece().to_vec()),
        3 => Answer::Done,
        4 => Answer::Refused(i16::from(input.u8()), word(input)),
        _ => Answer::Silent,
    }
}
