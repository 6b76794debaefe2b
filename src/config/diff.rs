//! What differs between two files, key by key, and how each difference takes effect in a process that runs the first of them. The
//! table of options says how ([`Takes`]); nothing here knows a single key but those that name things.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ring::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::Serialize;
use serde_yaml::{Mapping, Value};

use super::options::{self, Kind, Opt, Takes};
use super::types::MirrorConfig;

/// Longest value that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 160;
/// Bytes of the digest that tell files apart.
const FINGERPRINT_BYTES: usize = 6;

/// A file with its defaults filled in: as it is meant, secrets included, and as it may be shown.
#[derive(Clone)]
pub struct Written {
    pub(super) value: Value,
    pub(super) shown: Value,
}

/// Secrets are in it.
impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Written({})", self.fingerprint())
    }
}

impl Written {
    /// Tells files apart whose keys differ; the same for two that mean the same, however they are laid out. It is of what may be
    /// shown: secrets, and what stands in variables and other files, is not in it, for it could be guessed from a digest.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let text = serde_json::to_string(&sorted(&self.shown)).unwrap_or_default();
        let hash = digest(&SHA256, text.as_bytes());
        hash.as_ref().iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Keys in one order, whatever order they were written in.
fn sorted(value: &Value) -> serde_json::Value {
    match value {
        Value::Mapping(map) => {
            let entries = map.iter().filter_map(|(key, value)| Some((key.as_str()?.to_owned(), sorted(value))));
            serde_json::Value::Object(entries.collect::<BTreeMap<_, _>>().into_iter().collect())
        }
        Value::Sequence(items) => items.iter().map(sorted).collect(),
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}

/// What a difference is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The process as a whole.
    Process,
    /// This cluster.
    Cluster(String),
    /// This mirror.
    Mirror(String),
    /// This backup.
    Backup(String),
    /// Drills of this mirror.
    Drill(String),
}

/// What happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has another value.
    Changed,
}

impl What {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Change {
    /// The key, such as `mirrors.dr.topics.include`: what has a name stands by its name.
    pub key: String,
    /// What it is about.
    pub part: Part,
    /// What happened to it.
    pub what: What,
    /// How it takes effect: `live`, `task`, `mirror`, `process` or `never`.
    pub takes: &'static str,
    /// The value before, secrets struck out; `null` where there was none, or where only what a variable or a file holds has changed.
    pub from: Option<String>,
    /// The value now.
    pub to: Option<String>,
    #[serde(skip)]
    effect: Takes,
}

impl Change {
    /// How it takes effect.
    #[must_use]
    pub fn effect(&self) -> Takes {
        self.effect
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.key, self.what.word(), self.takes)
    }
}

/// All differences between two files, in the order of the table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff(pub Vec<Change>);

impl Diff {
    /// What differs in `new`.
    #[must_use]
    pub fn between(old: &Written, new: &Written) -> Self {
        let mut walk = Walk(Vec::new());
        walk.section("", "", &Part::Process, Side::of(old), Side::of(new));
        Self(walk.0)
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What takes effect in this way.
    pub fn taking(&self, effect: Takes) -> impl Iterator<Item = &Change> {
        self.0.iter().filter(move |change| change.effect == effect)
    }

    /// What differs in this part.
    pub fn of<'a>(&'a self, part: &'a Part) -> impl Iterator<Item = &'a Change> {
        self.0.iter().filter(move |change| change.part == *part)
    }

    /// How a mirror that runs comes to its new configuration, what differs in its clusters included; `None`: nothing of it differs.
    #[must_use]
    pub fn of_mirror(&self, mirror: &MirrorConfig) -> Option<Takes> {
        let name = mirror.forward_name();
        let is_its = |change: &&Change| match &change.part {
            Part::Mirror(of) => of == name || *of == mirror.name,
            Part::Cluster(cluster) => *cluster == mirror.source || *cluster == mirror.target,
            _ => false,
        };
        self.0.iter().filter(is_its).map(Change::effect).max()
    }

    /// Whether anything of a cluster differs.
    #[must_use]
    pub fn has_cluster(&self, cluster: &str) -> bool {
        self.of(&Part::Cluster(cluster.to_owned())).next().is_some()
    }
}

/// A place in one of the files.
#[derive(Clone, Copy)]
struct Side<'a> {
    value: Option<&'a Value>,
    shown: Option<&'a Value>,
}

impl<'a> Side<'a> {
    fn of(written: &'a Written) -> Self {
        Self { value: Some(&written.value), shown: Some(&written.shown) }
    }

    fn get(self, key: &str) -> Self {
        let of = |map: &'a Value| map.as_mapping().and_then(|map| map.get(key));
        Self { value: self.value.and_then(of), shown: self.shown.and_then(of) }
    }

    fn is_there(self) -> bool {
        self.value.is_some()
    }

    fn map(self) -> Option<&'a Mapping> {
        self.value.and_then(Value::as_mapping)
    }

    /// Items of a list by the text that they hold under a key, in order.
    fn items(self, key: &str) -> Vec<(&'a str, Self)> {
        let list = |value: Option<&'a Value>| value.and_then(Value::as_sequence).map_or(&[][..], Vec::as_slice);
        let both = list(self.value).iter().zip(list(self.shown));
        let named = both.filter_map(|(value, shown)| {
            let name = value.as_mapping()?.get(key)?.as_str()?;
            Some((name, Self { value: Some(value), shown: Some(shown) }))
        });
        named.collect()
    }

    fn text(self) -> Option<String> {
        let text = serde_json::to_string(&sorted(self.shown?)).ok()?;
        let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
            shown.push('…');
        }
        Some(shown)
    }
}

const NONE: Side<'static> = Side { value: None, shown: None };

struct Walk(Vec<Change>);

impl Walk {
    fn section(&mut self, pattern: &str, path: &str, part: &Part, old: Side<'_>, new: Side<'_>) {
        for (key, option) in options::children(pattern) {
            let (old, new) = (old.get(key), new.get(key));
            if old.value == new.value {
                continue;
            }
            let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            match option.kind {
                Kind::Section if old.is_there() && new.is_there() => self.section(option.path, &path, part, old, new),
                Kind::Named => self.named(option, &path, old, new),
                Kind::Sections if matches!(option.path, "mirrors" | "backups") => self.listed(option, &path, old, new),
                Kind::Sections if option.path == "drills" => self.drills(option, &path, old, new),
                _ => self.push(path, part.clone(), option.takes, old, new),
            }
        }
    }

    fn named(&mut self, option: &Opt, path: &str, old: Side<'_>, new: Side<'_>) {
        let names = |side: Side<'_>| -> BTreeSet<String> {
            side.map().into_iter().flat_map(Mapping::keys).filter_map(|key| Some(key.as_str()?.to_owned())).collect()
        };
        for name in names(old).union(&names(new)) {
            let of = |side: Side<'_>| side.get(name).is_there();
            let (path, part) = (format!("{path}.{name}"), Part::Cluster(name.clone()));
            if of(old) && of(new) {
                self.section(&format!("{}.*", option.path), &path, &part, old.get(name), new.get(name));
            } else {
                self.push(path, part, option.takes, old.get(name), new.get(name));
            }
        }
    }

    /// Mirrors and backups: which is which is told by their names, not by their order.
    fn listed(&mut self, option: &Opt, path: &str, old: Side<'_>, new: Side<'_>) {
        let part = |name: &str| match option.path {
            "mirrors" => Part::Mirror(name.to_owned()),
            _ => Part::Backup(name.to_owned()),
        };
        let (old, new) = (old.items("name"), new.items("name"));
        for (name, was) in &old {
            let path = format!("{path}.{name}");
            match new.iter().find(|(there, _)| there == name) {
                Some((_, is)) => self.section(&format!("{}[]", option.path), &path, &part(name), *was, *is),
                None => self.push(path, part(name), Takes::Live, *was, NONE),
            }
        }
        for (name, is) in new.iter().filter(|(name, _)| old.iter().all(|(there, _)| there != name)) {
            self.push(format!("{path}.{name}"), part(name), Takes::Live, NONE, *is);
        }
    }

    /// Drills have no names: all those of one mirror are one thing.
    fn drills(&mut self, option: &Opt, path: &str, old: Side<'_>, new: Side<'_>) {
        let (old, new) = (old.items("mirror"), new.items("mirror"));
        let mirrors: BTreeSet<&str> = old.iter().chain(&new).map(|(mirror, _)| *mirror).collect();
        for mirror in mirrors {
            let of = |all: &[(&str, Side<'_>)]| -> Vec<Value> {
                let its = all.iter().filter(|(name, _)| *name == mirror);
                its.filter_map(|(_, side)| side.value.cloned()).collect()
            };
            let (was, is) = (Value::Sequence(of(&old)), Value::Sequence(of(&new)));
            if was == is {
                continue;
            }
            let side = |value: &'_ Value| value.as_sequence().is_some_and(|all| !all.is_empty());
            let sides = [&was, &is].map(|value| if side(value) { Some(value) } else { None });
            // Nothing of a drill is secret, and what is read from elsewhere may be.
            let [was, is] = sides.map(|value| Side { value, shown: None });
            self.push(format!("{path}.{mirror}"), Part::Drill(mirror.to_owned()), option.takes, was, is);
        }
    }

    fn push(&mut self, key: String, part: Part, effect: Takes, old: Side<'_>, new: Side<'_>) {
        let what = match (old.is_there(), new.is_there()) {
            (false, _) => What::Added,
            (_, false) => What::Removed,
            _ => What::Changed,
        };
        // A whole mirror or cluster would be a page.
        let is_value = |side: Side<'_>| side.value.is_some_and(|value| !value.is_mapping());
        let text = |side: Side<'_>| if is_value(side) { side.text() } else { None };
        let (from, to) = if old.shown == new.shown { (None, None) } else { (text(old), text(new)) };
        self.0.push(Change { key, part, what, takes: effect.word(), from, to, effect });
    }
}

#[cfg(test)]
mod tests;
