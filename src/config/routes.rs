//! Where topics go across mirrors: two sources for one target topic, and records that run in circles. A faulty pair of
//! patterns cannot always be told from the patterns alone, so the checks here come twice: over names made up from the
//! patterns when the file is read, and over the real names when topics are discovered.

use std::collections::{BTreeMap, HashSet};

use regex_syntax::hir::{Class, Hir, HirKind};

use super::topics::is_topic_name;
use super::types::{Config, MirrorConfig};

/// One topic of a target that more than one source topic would be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The target cluster's name.
    pub target: String,
    /// The topic there.
    pub target_topic: String,
    /// Who claims it, as (mirror, source topic), in the order given; at least two.
    pub claims: Vec<(String, String)>,
}

/// What a topic of the mirror's source is called on its target.
#[must_use]
pub fn target_topic(mirror: &MirrorConfig, topic: &str) -> String {
    mirror.rename.apply(topic)
}

/// The target topics that more than one of these (mirror, source topic) pairs would write to. Pairs whose topic the
/// mirror does not take are the caller's to leave out.
#[must_use]
pub fn conflicts(pairs: &[(&MirrorConfig, &str)]) -> Vec<Conflict> {
    let mut claims = BTreeMap::<(&str, String), Vec<(String, String)>>::new();
    for (mirror, topic) in pairs {
        let claim = (mirror.name.clone(), (*topic).to_owned());
        let claimed = claims.entry((mirror.target.as_str(), target_topic(mirror, topic))).or_default();
        if !claimed.contains(&claim) {
            claimed.push(claim);
        }
    }
    claims
        .into_iter()
        .filter(|(_, claims)| claims.len() > 1)
        .map(|((target, target_topic), claims)| Conflict { target: target.to_owned(), target_topic, claims })
        .collect()
}

impl Config {
    /// The way of a topic that comes back to the mirror it started with, as (mirror, topic on that mirror's source) per
    /// hop; the last hop is the first mirror again. `None`: it does not come back.
    #[must_use]
    pub fn circle(&self, mirror: &MirrorConfig, topic: &str) -> Option<Vec<(String, String)>> {
        circle(&self.mirrors, mirror, topic)
    }
}

/// Hops looked at for one topic: bounds the search where many mirrors lead everywhere.
const HOPS_MAX: usize = 10_000;

fn circle(mirrors: &[MirrorConfig], first: &MirrorConfig, topic: &str) -> Option<Vec<(String, String)>> {
    let mut ways = vec![vec![(first, topic.to_owned())]];
    let mut hops = 0;
    while let Some(way) = ways.pop() {
        let Some((mirror, last)) = way.last() else { continue };
        let name = target_topic(mirror, last);
        for next in mirrors.iter().filter(|next| next.source == mirror.target && next.topics.matches(&name)) {
            hops += 1;
            let mut longer = way.clone();
            longer.push((next, name.clone()));
            if next.name == first.name || hops > HOPS_MAX {
                let told = |(mirror, topic): (&MirrorConfig, String)| (mirror.name.clone(), topic);
                return (next.name == first.name).then(|| longer.into_iter().map(told).collect());
            }
            // Whoever runs in a circle without coming back here is found from a mirror of that circle.
            if !way.iter().any(|(mirror, _)| mirror.name == next.name) {
                ways.push(longer);
            }
        }
    }
    None
}

/// A pair of mirrors that would write two source topics to one target topic, with names that prove it. Each mirror comes
/// with its [`examples`].
pub(super) fn static_conflict(a: (&MirrorConfig, &[String]), b: (&MirrorConfig, &[String])) -> Option<Conflict> {
    if a.0.target != b.0.target {
        return None;
    }
    let found = |x: (&MirrorConfig, &[String]), y: &MirrorConfig| {
        x.1.iter().find_map(|topic| {
            let name = target_topic(x.0, topic);
            let other = y.rename.invert(&name).filter(|other| y.topics.matches(other))?;
            Some((name, topic.clone(), other))
        })
    };
    let (target_topic, a_topic, b_topic) =
        found(a, b.0).or_else(|| found(b, a.0).map(|(name, b_topic, a_topic)| (name, a_topic, b_topic)))?;
    let claims = vec![(a.0.name.clone(), a_topic), (b.0.name.clone(), b_topic)];
    Some(Conflict { target: a.0.target.clone(), target_topic, claims })
}

/// A circle that one of the mirror's [`examples`] would run in.
pub(super) fn static_circle(
    mirrors: &[MirrorConfig],
    first: &MirrorConfig,
    examples: &[String],
) -> Option<Vec<(String, String)>> {
    examples.iter().find_map(|topic| circle(mirrors, first, topic))
}

/// Examples of one mirror, at most.
const EXAMPLES_MAX: usize = 64;

/// Topic names made up from the mirror's patterns that it takes. A few of many: what follows from them is proven, what
/// does not is not refuted.
pub(super) fn examples(mirror: &MirrorConfig) -> Vec<String> {
    let mut names = Vec::new();
    for pattern in mirror.topics.include() {
        // The pattern has been compiled before; one that does not parse here has no examples.
        let Ok(hir) = regex_syntax::parse(pattern) else { continue };
        for (filler, repeats) in [('a', 1), ('0', 1), ('a', 0)] {
            names.extend(words(&hir, filler, repeats));
        }
    }
    names.retain(|name| is_topic_name(name) && mirror.topics.matches(name));
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names.truncate(EXAMPLES_MAX);
    names
}

/// Some words of a pattern: `filler` stands where a class allows it, and what may be repeated is, `repeats` times.
fn words(hir: &Hir, filler: char, repeats: u32) -> Vec<String> {
    let mut found = match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![String::new()],
        HirKind::Literal(literal) => vec![String::from_utf8_lossy(&literal.0).into_owned()],
        HirKind::Class(class) => letter(class, filler).map(String::from).into_iter().collect(),
        HirKind::Repetition(part) => {
            let times = part.max.map_or(repeats, |max| max.min(repeats)).max(part.min).min(NAME_MAX);
            words(&part.sub, filler, repeats).iter().map(|word| word.repeat(times as usize)).collect()
        }
        HirKind::Capture(group) => words(&group.sub, filler, repeats),
        HirKind::Alternation(branches) => branches.iter().flat_map(|branch| words(branch, filler, repeats)).collect(),
        HirKind::Concat(parts) => parts.iter().fold(vec![String::new()], |heads, part| {
            let tails = words(part, filler, repeats);
            let joined = heads.iter().flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}")));
            joined.take(EXAMPLES_MAX).collect()
        }),
    };
    found.retain(|word| word.len() <= NAME_MAX as usize);
    found.truncate(EXAMPLES_MAX);
    found
}

/// Longest topic name (Kafka's `Topic.MAX_NAME_LENGTH`).
const NAME_MAX: u32 = 249;

/// The filler where the class has it, else the first of its characters that a topic name may have.
fn letter(class: &Class, filler: char) -> Option<char> {
    let has = |c: char| match class {
        Class::Unicode(class) => class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&c)),
        Class::Bytes(class) => class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&(c as u8))),
    };
    std::iter::once(filler).chain(' '..='~').find(|c| has(*c) && is_topic_name(&format!("x{c}")))
}
