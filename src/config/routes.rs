//! Where topics go across mirrors: two sources for one target topic, and records that run in circles. A faulty pair of
//! patterns cannot always be told from the patterns alone, so the checks here come twice: over names made up from the
//! patterns when the file is read, and over the real names when topics are discovered.

use std::collections::{BTreeMap, HashSet};

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
            let other = y.rename.invert(&name).filter(|other| y.topics.matches(other))?.to_owned();
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
        for filler in ["a", "0", ""] {
            names.extend(alternatives(pattern).take(EXAMPLES_MAX).map(|branch| example(branch, filler)));
        }
    }
    names.retain(|name| is_topic_name(name) && mirror.topics.matches(name));
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names.truncate(EXAMPLES_MAX);
    names
}

/// The branches of `a|b` and `(a|b)`, without regard to nesting: whoever is wrong is sorted out by the filter.
fn alternatives(pattern: &str) -> impl Iterator<Item = &str> {
    let inner = pattern.strip_prefix('(').and_then(|p| p.strip_suffix(')')).unwrap_or(pattern);
    let inner = inner.strip_prefix("?:").unwrap_or(inner);
    std::iter::once(pattern).chain(inner.split('|'))
}

/// The pattern with its repeated parts replaced by the filler and its escapes undone.
fn example(pattern: &str, filler: &str) -> String {
    let mut name = pattern.to_owned();
    for repeated in [".*", ".+", "[^.]*", "[^.]+", "[a-z]*", "[a-z]+", "[a-z0-9]+", r"\d+", "[0-9]+", r"\w+", r"\w*"] {
        name = name.replace(repeated, filler);
    }
    name.trim_start_matches('^').trim_end_matches('$').replace('\\', "")
}
