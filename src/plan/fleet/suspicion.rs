//! Earlier suspicion: who of the group has fallen silent, long before its session ends, as a machine without sockets and clocks.
//!
//! Every member gives a *sign of life* every so often: it commits an offset for a place of its own, in its own name, to the fleet's
//! group. Then it reads the signs of all. Both are asked of the group's coordinator, who would have to take a member's leave, too.
//!
//! A member is suspected when nothing new of it stood there in so many rounds of *my own*, each of which I have read back and which
//! span `suspect_after` by my clock alone. So nobody is suspected because it was I who slept, or because the coordinator or the network
//! was away: then there are no rounds, and everybody must be heard of again before it can be suspected, as in every new generation. Who
//! never gives a sign (it runs an older version, or was told not to) is never suspected.
//!
//! Two cannot suspect each other at once: each of them would need rounds that the other's signs must not fall between, and the
//! coordinator has one order for all of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Target;

/// Signs within the time after which a silent member is suspected.
pub const SIGNS_PER_SUSPICION: u32 = 5;
/// Rounds of one's own without news of somebody before it is suspected, at least; and intervals of its own that it may miss.
const ROUNDS_MIN: u32 = 3;

/// How often to give a sign where a silent member is suspected after this time, ms.
pub fn sign_every_ms(suspect_after_ms: u64) -> u64 {
    suspect_after_ms.div_ceil(u64::from(SIGNS_PER_SUSPICION))
}

/// A number for each member, those that own something first. A place is a partition of the state topic, one more than there are
/// shards: whoever is left over owns nothing that would stand still.
pub fn slots(targets: &BTreeMap<String, Target>, shard_count: u32) -> BTreeMap<&str, u32> {
    let (own, rest): (Vec<_>, Vec<_>) = targets.iter().partition(|(_, target)| !target.shards.is_empty());
    own.into_iter().chain(rest).zip(0..=shard_count).map(|((member, _), slot)| (member.as_str(), slot)).collect()
}

/// Where a member gives its signs, in which generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Member id.
    pub member: String,
    /// Generation.
    pub generation: i32,
    /// A number that no other member of the generation has.
    pub slot: u32,
}

/// A sign of life: metadata of a committed offset, in JSON. The offset itself counts them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sign {
    /// Whose it is.
    pub member: String,
    /// The generation that it is a member of.
    pub generation: i32,
    /// Host and process, for people.
    #[serde(default)]
    pub host: String,
    /// The next one is due within this time, ms.
    pub every_ms: u64,
    /// There are to be no more, and that is no reason to suspect anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_last: bool,
}

impl Sign {
    /// As a commit's metadata.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From a commit's metadata; what is no sign is passed over.
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// A sign as it was read, and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The sign.
    pub sign: Sign,
    /// The offset: it grows from sign to sign of a member.
    pub count: i64,
}

/// One round of one's own: a sign was given, then all were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round<'a> {
    /// Before the sign was given, ms.
    pub begun_ms: u64,
    /// When the signs had been read, ms.
    pub ended_ms: u64,
    /// The number of one's own sign.
    pub count: i64,
    /// All that stood there.
    pub seen: &'a [Seen],
}

/// A member that has fallen silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Member id.
    pub member: String,
    /// Host and process.
    pub host: String,
    /// For how long, at least, ms.
    pub silent_ms: u64,
}

#[derive(Debug, Clone)]
struct Heard {
    count: i64,
    /// When its newest sign had been read, ms.
    at_ms: u64,
    /// Rounds since then.
    rounds: u32,
    /// It has given a sign since the first round, and since they last broke off.
    is_live: bool,
}

/// What one member knows of the others' signs.
#[derive(Debug, Clone)]
pub struct Watch {
    suspect_after_ms: u64,
    post: Option<Post>,
    /// When the last round ended, ms, where none has failed since.
    last_ms: Option<u64>,
    heard: BTreeMap<String, Heard>,
}

impl Watch {
    /// Suspects after this time.
    pub fn new(suspect_after_ms: u64) -> Self {
        Self { suspect_after_ms, post: None, last_ms: None, heard: BTreeMap::new() }
    }

    /// How often to give a sign, ms.
    pub fn every_ms(&self) -> u64 {
        sign_every_ms(self.suspect_after_ms)
    }

    /// How long to wait for the answers of a round, ms. Whoever has lost one tries again at once, and is heard of in time.
    pub fn patience_ms(&self) -> u64 {
        self.suspect_after_ms / 3
    }

    /// How long a round, and the time between two, may take, ms; longer, and it was perhaps I who was away.
    fn gap_max_ms(&self) -> u64 {
        self.suspect_after_ms / 2
    }

    /// A round begins, at this post. In another generation nobody was heard of yet.
    pub fn begin(&mut self, post: &Post) {
        if self.post.as_ref() != Some(post) {
            *self = Self { post: Some(post.clone()), ..Self::new(self.suspect_after_ms) };
        }
    }

    /// A round has failed. Whoever is to be suspected must be heard of again first.
    pub fn broken(&mut self) {
        self.last_ms = None;
        self.heard.values_mut().for_each(|heard| heard.is_live = false);
    }

    /// Takes the round that was begun last. Gives those who are suspected.
    pub fn ended(&mut self, round: Round<'_>) -> Vec<Suspect> {
        let Some(post) = self.post.clone() else { return Vec::new() };
        let gap_max_ms = self.gap_max_ms();
        let slow = round.ended_ms.saturating_sub(round.begun_ms) > gap_max_ms;
        let late = self.last_ms.is_some_and(|last| round.begun_ms.saturating_sub(last) > gap_max_ms);
        let mine = |seen: &Seen| seen.sign.member == post.member && seen.count == round.count;
        if slow || late || !round.seen.iter().any(mine) {
            self.broken();
        }
        let others = |seen: &&Seen| seen.sign.generation == post.generation && seen.sign.member != post.member;
        let suspects = round.seen.iter().filter(others).filter_map(|seen| self.hear(seen, round)).collect();
        self.last_ms = Some(round.ended_ms);
        suspects
    }

    /// It was put out: no more of it, unless it is heard of again.
    pub fn forget(&mut self, member: &str) {
        if let Some(heard) = self.heard.get_mut(member) {
            heard.is_live = false;
        }
    }

    fn hear(&mut self, seen: &Seen, round: Round<'_>) -> Option<Suspect> {
        let Sign { member, host, every_ms, is_last, .. } = &seen.sign;
        let known = self.heard.get_mut(member);
        let Some(heard) = known.filter(|heard| heard.count >= seen.count) else {
            // What the first round shows may be old, and what one shows for the first time as well.
            let is_live = self.last_ms.is_some() && self.heard.contains_key(member);
            let heard = Heard { count: seen.count, at_ms: round.ended_ms, rounds: 0, is_live };
            self.heard.insert(member.clone(), heard);
            return None;
        };
        heard.rounds = heard.rounds.saturating_add(1);
        // What was read by then may have been written just before: silence is proven from there to the beginning of this round.
        let silent_ms = round.begun_ms.saturating_sub(heard.at_ms);
        let patience_ms = self.suspect_after_ms.max(every_ms.saturating_mul(u64::from(ROUNDS_MIN)));
        let is_suspect = heard.is_live && !is_last && heard.rounds >= ROUNDS_MIN && silent_ms >= patience_ms;
        is_suspect.then(|| Suspect { member: member.clone(), host: host.clone(), silent_ms })
    }
}

#[cfg(test)]
mod tests;
