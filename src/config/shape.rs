//! The tree of a file against the table of options: unknown and missing keys, values of the wrong kind,
//! substitutions, defaults. What comes out is complete and of the right kinds throughout.

use std::collections::BTreeMap;

use serde_yaml::{Mapping, Value};

use super::backups;
use super::error::{ConfigError, Place};
use super::options::{self, Kind, Opt, Scalar};
use super::secret::Secret;
use super::security;
use super::substitute::{Env, substitute};
use super::topics::{Rename, anchored};
use super::units;
use super::yaml::{self, Entry, Node, NodeKind, join};

pub(super) struct Shaped {
    /// Complete, with defaults and with substitutions made.
    pub(super) value: Value,
    /// Complete, with substitutions as they are written and secrets struck out: for showing.
    pub(super) shown: Value,
    /// By key path, such as `mirrors[0].rename`; defaults have none.
    pub(super) places: BTreeMap<String, Place>,
    pub(super) errors: Vec<ConfigError>,
}

pub(super) fn shape(root: &Node, env: &dyn Env, errors: Vec<ConfigError>) -> Shaped {
    let mut walk = Walk { env, places: BTreeMap::new(), errors };
    let (value, shown) = walk.section(&At::root(), root);
    Shaped { value, shown, places: walk.places, errors: walk.errors }
}

/// Where the walk stands: the key path in this file, and its pattern in the table.
#[derive(Clone)]
struct At {
    path: String,
    pattern: String,
}

impl At {
    fn root() -> Self {
        Self { path: String::new(), pattern: String::new() }
    }

    fn key(&self, key: &str) -> Self {
        Self { path: join(&self.path, key), pattern: join(&self.pattern, key) }
    }

    fn named(&self, name: &str) -> Self {
        Self { path: join(&self.path, name), pattern: join(&self.pattern, "*") }
    }

    fn item(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), pattern: format!("{}[]", self.pattern) }
    }
}

struct Walk<'a> {
    env: &'a dyn Env,
    places: BTreeMap<String, Place>,
    errors: Vec<ConfigError>,
}

/// The value and what may be shown of it.
type Both = (Value, Value);

fn same(value: Value) -> Both {
    (value.clone(), value)
}

impl Walk<'_> {
    fn error(&mut self, place: Place, at: &At, message: impl Into<String>) {
        self.errors.push(ConfigError { place: Some(place), key: at.path.clone(), message: message.into() });
    }

    fn section(&mut self, at: &At, node: &Node) -> Both {
        let mut both = (Mapping::new(), Mapping::new());
        let entries = match &node.kind {
            NodeKind::Map(entries) => entries.as_slice(),
            NodeKind::Null => &[],
            other => {
                self.error(node.place, at, format!("takes a mapping of keys to values, not {}", other.describe()));
                return same(Value::Null);
            }
        };
        for entry in entries {
            self.entry(at, entry, &mut both);
        }
        for (key, option) in options::children(&at.pattern) {
            if entries.iter().any(|entry| entry.key == key) {
                continue;
            }
            // A slip of the keys is told once.
            if entries.iter().any(|entry| meant(&entry.key, &at.pattern) == Some(key)) {
                continue;
            }
            if option.required {
                self.error(node.place, &at.key(key), format!("is missing ({})", option.kind.describe()));
            } else if let Some(default) = option.default {
                self.default(&at.key(key), option, default, &mut both);
            }
        }
        (Value::Mapping(both.0), Value::Mapping(both.1))
    }

    fn entry(&mut self, at: &At, entry: &Entry, both: &mut (Mapping, Mapping)) {
        let here = at.key(&entry.key);
        let Some((_, option)) = options::children(&at.pattern).find(|(key, _)| *key == entry.key) else {
            let message = match meant(&entry.key, &at.pattern) {
                Some(key) => format!("unknown key; did you mean {key}?"),
                None => {
                    let known: Vec<&str> = options::children(&at.pattern).map(|(key, _)| key).collect();
                    format!("unknown key; known here: {}", known.join(", "))
                }
            };
            self.error(entry.key_place, &here, message);
            return;
        };
        let (value, shown) = self.value(&here, option, &entry.value);
        both.0.insert(Value::from(entry.key.as_str()), value);
        both.1.insert(Value::from(entry.key.as_str()), shown);
    }

    /// Puts the default in as if it were written.
    fn default(&mut self, at: &At, option: &Opt, text: &str, both: &mut (Mapping, Mapping)) {
        let Ok(node) = yaml::parse(text, &mut self.errors) else { return };
        let key = at.path.rsplit_once('.').map_or(at.path.as_str(), |(_, key)| key).to_owned();
        let (value, shown) = self.value(at, option, &node);
        both.0.insert(Value::from(key.as_str()), value);
        both.1.insert(Value::from(key), shown);
    }

    fn value(&mut self, at: &At, option: &Opt, node: &Node) -> Both {
        self.places.insert(at.path.clone(), node.place);
        match (option.kind, &node.kind) {
            (Kind::Section, _) => self.section(at, node),
            (Kind::Named, NodeKind::Map(entries)) if !entries.is_empty() => self.named(at, entries),
            (Kind::Sections, NodeKind::List(items)) if !items.is_empty() => self.sections(at, items),
            (Kind::Pairs, NodeKind::Map(entries)) => {
                let (value, shown) = self.pairs(at, entries);
                (value, if option.secret { struck_out(shown) } else { shown })
            }
            (Kind::Pairs, NodeKind::Null) => same(Value::Mapping(Mapping::new())),
            (Kind::One(scalar), NodeKind::Scalar(text)) => {
                let (value, shown) = self.scalar(at, scalar, node, text);
                (value, if option.secret { Value::from("<secret>") } else { shown })
            }
            (Kind::Many(scalar), NodeKind::List(items)) if !(option.required && items.is_empty()) => {
                self.many(at, scalar, items)
            }
            (kind, given) => {
                let given = match given {
                    NodeKind::List(items) if items.is_empty() => "an empty list",
                    NodeKind::Map(entries) if entries.is_empty() => "an empty mapping",
                    other => other.describe(),
                };
                self.error(node.place, at, format!("takes {}, not {given}", kind.describe()));
                same(Value::Null)
            }
        }
    }

    fn named(&mut self, at: &At, entries: &[Entry]) -> Both {
        let mut both = (Mapping::new(), Mapping::new());
        for entry in entries {
            let here = at.named(&entry.key);
            if !units::is_name(&entry.key) {
                self.error(entry.key_place, &here, format!("is not {}", Scalar::Name.describe()));
            }
            self.places.insert(here.path.clone(), entry.key_place);
            let (value, shown) = self.section(&here, &entry.value);
            both.0.insert(Value::from(entry.key.as_str()), value);
            both.1.insert(Value::from(entry.key.as_str()), shown);
        }
        (Value::Mapping(both.0), Value::Mapping(both.1))
    }

    fn sections(&mut self, at: &At, items: &[Node]) -> Both {
        let mut one = |(index, item): (usize, &Node)| {
            let here = at.item(index);
            self.places.insert(here.path.clone(), item.place);
            self.section(&here, item)
        };
        let both: (Vec<_>, Vec<_>) = items.iter().enumerate().map(&mut one).unzip();
        (Value::Sequence(both.0), Value::Sequence(both.1))
    }

    fn many(&mut self, at: &At, scalar: Scalar, items: &[Node]) -> Both {
        let both: (Vec<_>, Vec<_>) = items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let here = at.item(index);
                if let NodeKind::Scalar(text) = &item.kind {
                    return self.scalar(&here, scalar, item, text);
                }
                self.error(item.place, &here, format!("takes {}, not {}", scalar.describe(), item.kind.describe()));
                same(Value::Null)
            })
            .unzip();
        (Value::Sequence(both.0), Value::Sequence(both.1))
    }

    fn pairs(&mut self, at: &At, entries: &[Entry]) -> Both {
        let mut both = (Mapping::new(), Mapping::new());
        for entry in entries {
            let here = At { path: join(&at.path, &entry.key), pattern: String::new() };
            let (value, shown) = match &entry.value.kind {
                NodeKind::Scalar(text) => self.scalar(&here, Scalar::Verbatim, &entry.value, text),
                other => {
                    self.error(
                        entry.value.place,
                        &here,
                        format!("takes {}, not {}", Scalar::Verbatim.describe(), other.describe()),
                    );
                    same(Value::Null)
                }
            };
            both.0.insert(Value::from(entry.key.as_str()), value);
            both.1.insert(Value::from(entry.key.as_str()), shown);
        }
        (Value::Mapping(both.0), Value::Mapping(both.1))
    }

    fn scalar(&mut self, at: &At, scalar: Scalar, node: &Node, written: &str) -> Both {
        let place = node.place;
        self.places.insert(at.path.clone(), place);
        if scalar == Scalar::Secret {
            // Passed on as it is written: it is read anew for each connection.
            return match Secret::check(written, self.env) {
                Ok(()) => (Value::from(written), Value::from("<secret>")),
                Err(message) => {
                    self.error(place, at, message);
                    same(Value::Null)
                }
            };
        }
        let (text, substituted) = match substitute(written, self.env) {
            Ok(done) => done,
            Err(message) => {
                self.error(place, at, message);
                return same(Value::Null);
            }
        };
        match check(scalar, &text) {
            Ok(value) if text != written => (value, Value::from(written)),
            Ok(value) => same(value),
            Err(fault) => {
                let inside = fault.at.zip(node.lead).filter(|_| text == written).map_or(0, |(at, lead)| at + lead);
                let place = Place { column: place.column + inside, ..place };
                self.error(place, at, fault.message(written, substituted));
                same(Value::Null)
            }
        }
    }
}

/// The names of a mapping without its values.
fn struck_out(shown: Value) -> Value {
    let Value::Mapping(pairs) = shown else { return shown };
    Value::Mapping(pairs.into_iter().map(|(name, _)| (name, Value::from("<secret>"))).collect())
}

/// Why a single value is refused. The detail may quote the value, so it is shown only where the value stands in the file.
struct Fault {
    problem: String,
    detail: Option<String>,
    /// Characters of the value before the place that is wrong.
    at: Option<usize>,
    /// The value may hold a password, so that it is not quoted even where it stands in the file.
    hidden: bool,
}

impl From<String> for Fault {
    fn from(problem: String) -> Self {
        Self { problem, detail: None, at: None, hidden: false }
    }
}

impl Fault {
    fn message(self, written: &str, substituted: bool) -> String {
        match self.detail {
            _ if self.hidden => self.problem,
            Some(detail) if !substituted => format!("{} {}: {detail}", quote(written), self.problem),
            _ => format!("{} {}", quote(written), self.problem),
        }
    }
}

fn check(scalar: Scalar, text: &str) -> Result<Value, Fault> {
    let is = |good: bool| if good { Ok(()) } else { Err(Fault::from(format!("is not {}", scalar.describe()))) };
    match scalar {
        Scalar::Verbatim | Scalar::Secret => {}
        Scalar::Text => is(!text.is_empty())?,
        Scalar::Name | Scalar::Cluster => is(units::is_name(text))?,
        Scalar::HostPort => drop(units::parse_host_port(text)?),
        Scalar::Listen => drop(units::parse_listen(text)?),
        Scalar::Pattern => drop(anchored(text).map_err(|error| Fault {
            problem: "is not a regular expression".to_owned(),
            detail: Some(error.to_string()),
            at: error.at,
            hidden: false,
        })?),
        Scalar::Template => drop(Rename::new(text, "", "").map_err(|error| Fault {
            problem: "cannot name topics".to_owned(),
            detail: Some(error.to_string()),
            at: None,
            hidden: false,
        })?),
        Scalar::Start => drop(units::parse_start(text)?),
        Scalar::Destination => drop(
            backups::parse_destination(text)
                .map_err(|problem| Fault { hidden: text.contains(['@', '?', '#']), ..Fault::from(problem) })?,
        ),
        Scalar::Mechanism => security::check_mechanism(text)?,
        // An address would pass for a user and a password here.
        Scalar::Endpoint => security::check_endpoint(text)
            .map_err(|problem| Fault { hidden: text.contains('@'), ..Fault::from(problem) })?,
        Scalar::ServerName => is(rustls::pki_types::ServerName::try_from(text).is_ok())?,
        Scalar::Variable => is(backups::is_variable(text))?,
        Scalar::Duration => drop(units::parse_duration(text)?),
        Scalar::Size(min) => is(units::parse_size(text)? >= min)?,
        Scalar::Choice(words) => {
            if !words.contains(&text) {
                return Err(format!("is none of {}", words.join(", ")).into());
            }
        }
        Scalar::Flag => {
            is(matches!(text, "true" | "false"))?;
            return Ok(Value::from(text == "true"));
        }
        Scalar::Integer(min, max) => {
            let number = text.parse::<i64>().ok().filter(|number| (min..=max).contains(number));
            is(number.is_some())?;
            return Ok(number.map_or(Value::Null, Value::from));
        }
    }
    Ok(Value::from(text))
}

/// The key that was probably meant.
fn meant(given: &str, section: &str) -> Option<&'static str> {
    let nearest = options::children(section).map(|(key, _)| (distance(given, key), key)).min();
    nearest.filter(|(edits, key)| *edits <= 1 + key.len() / 4).map(|(_, key)| key)
}

/// A value as messages show it: short, and without anything that could upset a terminal.
fn quote(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(80)
        .flat_map(|c| {
            let plain = (!c.is_control()).then_some(c);
            plain.into_iter().chain(c.is_control().then(|| c.escape_default()).into_iter().flatten())
        })
        .collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// Edits that turn one word into the other, a swap of neighbours being one (optimal string alignment).
pub(super) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let edit = [row[j + 1] + 1, next[j] + 1, row[j] + usize::from(x != y)];
            let mut least = edit.into_iter().min().unwrap_or(0);
            if i > 0 && j > 0 && a[i - 1] == *y && b[j - 1] == *x {
                let two_back: &Vec<usize> = &before;
                least = least.min(two_back[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}
