//! Which topics and groups a mirror takes, and what topics are called on the target.

use std::fmt;

use regex::{Regex, RegexSet};

/// The topics a mirror takes: some `include` pattern matches the whole name and no `exclude` pattern does. Kafka's own
/// internal topics and kmirror's state topics are never taken, whatever the patterns say.
#[derive(Debug, Clone)]
pub struct TopicFilter {
    include: RegexSet,
    exclude: RegexSet,
    include_written: Vec<String>,
    exclude_written: Vec<String>,
    /// Its topics bear the names that this gives them.
    renamed: Option<Rename>,
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}{}", .at.map(|at| format!(" (at character {})", at + 1)).unwrap_or_default())]
pub struct PatternError {
    /// What the regex parser says.
    pub detail: String,
    /// Where in the pattern, in characters from 0, if the parser tells it.
    pub at: Option<usize>,
}

/// A pattern as written, checked alone and anchored at both ends.
///
/// # Errors
/// The pattern is no regex, is too large once compiled, or cannot be anchored.
pub(super) fn anchored(pattern: &str) -> Result<String, PatternError> {
    // The pattern is compiled alone first: `a)(b` would pass once it stands in a group.
    Regex::new(pattern).map_err(|error| pattern_error(&error))?;
    let whole = format!("^(?:{pattern})$");
    // In verbose mode a comment at the end swallows the closing of the group.
    Regex::new(&whole).map_err(|_| PatternError {
        detail: "cannot be anchored; leave out the comment at its end".to_owned(),
        at: None,
    })?;
    Ok(whole)
}

fn pattern_error(error: &regex::Error) -> PatternError {
    let drawn = error.to_string();
    // The parser draws a caret under the place, indented by four columns.
    let at = drawn.lines().find_map(|line| {
        let column = line.find('^')?;
        line.trim().chars().all(|c| c == '^').then(|| column.checked_sub(4)).flatten()
    });
    let said = drawn.lines().find_map(|line| line.strip_prefix("error: ")).map(str::to_owned);
    PatternError { detail: said.unwrap_or(drawn), at }
}

impl TopicFilter {
    /// Every topic.
    #[must_use]
    pub fn all() -> Self {
        Self {
            include: every(),
            exclude: RegexSet::empty(),
            include_written: vec![".*".to_owned()],
            exclude_written: Vec::new(),
            renamed: None,
        }
    }

    /// Compiles patterns; each must match a whole topic name.
    ///
    /// # Errors
    /// The first pattern that cannot be used.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, PatternError> {
        Ok(Self {
            include: compile(include)?,
            exclude: compile(exclude)?,
            include_written: include.to_vec(),
            exclude_written: exclude.to_vec(),
            renamed: None,
        })
    }

    /// Whether the mirror takes this topic of the source.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let Some(renamed) = &self.renamed else { return self.takes(topic) };
        !never_mirrored(topic) && renamed.invert(topic).is_some_and(|before| self.takes(&before))
    }

    fn takes(&self, topic: &str) -> bool {
        !never_mirrored(topic) && self.include.is_match(topic) && !self.exclude.is_match(topic)
    }

    /// Those that this filter takes, by the names that `rename` gives them: what the way home takes.
    #[must_use]
    pub fn renamed(&self, rename: &Rename) -> Self {
        Self { renamed: Some(rename.clone()), ..self.clone() }
    }

    /// What its topics are renamed by, on the way home.
    pub(super) fn renaming(&self) -> Option<&Rename> {
        self.renamed.as_ref()
    }

    /// The `include` patterns as written.
    #[must_use]
    pub fn include(&self) -> &[String] {
        &self.include_written
    }

    /// The `exclude` patterns as written, or the default ones.
    #[must_use]
    pub fn exclude(&self) -> &[String] {
        &self.exclude_written
    }
}

/// The consumer groups whose offsets a mirror keeps, by the same rules.
#[derive(Debug, Clone)]
pub struct GroupFilter {
    include: RegexSet,
    exclude: RegexSet,
    include_written: Vec<String>,
    exclude_written: Vec<String>,
}

impl GroupFilter {
    /// Every group.
    #[must_use]
    pub fn all() -> Self {
        Self {
            include: every(),
            exclude: RegexSet::empty(),
            include_written: vec![".*".to_owned()],
            exclude_written: Vec::new(),
        }
    }

    /// Compiles patterns; each must match a whole group id.
    ///
    /// # Errors
    /// The first pattern that cannot be used.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, PatternError> {
        Ok(Self {
            include: compile(include)?,
            exclude: compile(exclude)?,
            include_written: include.to_vec(),
            exclude_written: exclude.to_vec(),
        })
    }

    /// The `include` patterns as written.
    #[must_use]
    pub fn include(&self) -> &[String] {
        &self.include_written
    }

    /// The `exclude` patterns as written.
    #[must_use]
    pub fn exclude(&self) -> &[String] {
        &self.exclude_written
    }

    /// Whether the mirror keeps this group's offsets.
    #[must_use]
    pub fn matches(&self, group: &str) -> bool {
        !group.is_empty()
            && !group.starts_with(STATE_TOPIC_PREFIX)
            && self.include.is_match(group)
            && !self.exclude.is_match(group)
    }
}

/// An empty pattern matches everywhere.
fn every() -> RegexSet {
    RegexSet::new([""]).unwrap_or_else(|_| RegexSet::empty())
}

fn compile(patterns: &[String]) -> Result<RegexSet, PatternError> {
    let whole = patterns.iter().map(|pattern| anchored(pattern)).collect::<Result<Vec<_>, _>>()?;
    RegexSet::new(whole).map_err(|error| pattern_error(&error))
}

/// What the names of state topics, and of kmirror's own groups, begin with; the mirror's name follows.
pub const STATE_TOPIC_PREFIX: &str = "__kmirror.";

/// Whether a topic is never mirrored: Kafka's internal topics (`Topic.INTERNAL_TOPICS`, the metadata log and the tiered
/// storage metadata), which describe the cluster they are on, and kmirror's own state topics.
#[must_use]
pub fn never_mirrored(topic: &str) -> bool {
    topic.starts_with(STATE_TOPIC_PREFIX)
        || matches!(
            topic,
            "__consumer_offsets"
                | "__transaction_state"
                | "__share_group_state"
                | "__cluster_metadata"
                | "__remote_log_metadata"
                | "__kmirror-replays"
        )
}

/// Longest topic name that Kafka takes, in characters (`Topic.MAX_NAME_LENGTH`).
pub const TOPIC_NAME_CHARS_MAX: usize = 249;

/// Whether Kafka takes this as a topic name (`Topic.validate`): 1 to 249 of `[a-zA-Z0-9._-]`, neither `.` nor `..`.
#[must_use]
pub fn is_topic_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= TOPIC_NAME_CHARS_MAX
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// What a topic of the source is called on the target: fixed text before and after the source's name. One name of the
/// source makes one name of the target and the other way round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    prefix: String,
    suffix: String,
    /// The way home: takes the text away instead.
    strips: bool,
}

/// Why a rename template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenameError {
    /// Without the topic every topic would get the same name.
    #[error("lacks {{topic}}: all topics would get the same name on the target")]
    NoTopic,
    /// The topic may stand in it once.
    #[error("has {{topic}} more than once")]
    TopicTwice,
    /// A placeholder other than the three.
    #[error("has the unknown placeholder {{{0}}}; known are {{source}}, {{target}} and {{topic}}")]
    Unknown(String),
    /// A brace that is no part of a placeholder.
    #[error("has a brace without its partner")]
    Brace,
    /// A character that a topic name cannot have.
    #[error("has the character {0:?}, which no topic name can have; allowed are letters, digits, '.', '_' and '-'")]
    Character(char),
    /// The names would be those of kmirror's own topics.
    #[error("begins with __kmirror., which is kept for state topics")]
    Reserved,
    /// Nothing is left for the topic.
    #[error("adds {0} characters, and a topic name has at most {TOPIC_NAME_CHARS_MAX}")]
    TooLong(usize),
}

impl Rename {
    /// Parses a template such as `{source}.{topic}`, with the names of the two clusters put in.
    ///
    /// # Errors
    /// A template that does not have `{topic}` once, or that could not make a topic name.
    pub fn new(template: &str, source: &str, target: &str) -> Result<Self, RenameError> {
        let (mut prefix, mut suffix) = (String::new(), None::<String>);
        let mut rest = template;
        while let Some(c) = rest.chars().next() {
            let mut part = c.to_string();
            let mut used = c.len_utf8();
            if c == '}' {
                return Err(RenameError::Brace);
            }
            if c == '{' {
                let (name, _) = rest.strip_prefix('{').and_then(|r| r.split_once('}')).ok_or(RenameError::Brace)?;
                used = name.len() + 2;
                part = match name {
                    "source" => source.to_owned(),
                    "target" => target.to_owned(),
                    "topic" if suffix.is_some() => return Err(RenameError::TopicTwice),
                    "topic" => {
                        suffix = Some(String::new());
                        String::new()
                    }
                    other => return Err(RenameError::Unknown(other.to_owned())),
                };
            }
            suffix.as_mut().unwrap_or(&mut prefix).push_str(&part);
            rest = rest.get(used..).unwrap_or_default();
        }
        Self::from_parts(prefix, suffix.ok_or(RenameError::NoTopic)?)
    }

    /// Names stay as they are.
    #[must_use]
    pub fn same() -> Self {
        Self { prefix: String::new(), suffix: String::new(), strips: false }
    }

    fn from_parts(prefix: String, suffix: String) -> Result<Self, RenameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(c) = prefix.chars().chain(suffix.chars()).find(|c| !allowed(*c)) {
            return Err(RenameError::Character(c));
        }
        if prefix.starts_with(STATE_TOPIC_PREFIX) {
            return Err(RenameError::Reserved);
        }
        let added = prefix.len() + suffix.len();
        if added >= TOPIC_NAME_CHARS_MAX {
            return Err(RenameError::TooLong(added));
        }
        Ok(Self { prefix, suffix, strips: false })
    }

    /// The renaming of the opposite direction: a name that this one makes becomes what it was made from.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { strips: !self.strips, ..self.clone() }
    }

    /// The name on the target, whether Kafka takes it or not: see [`Rename::checked`].
    #[must_use]
    pub fn apply(&self, topic: &str) -> String {
        // One that was not made by the opposite renaming is not taken by its filter either.
        if self.strips { self.without(topic).unwrap_or(topic).to_owned() } else { self.with(topic) }
    }

    fn with(&self, topic: &str) -> String {
        format!("{}{topic}{}", self.prefix, self.suffix)
    }

    fn without<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&self.prefix)?.strip_suffix(&self.suffix).filter(|topic| !topic.is_empty())
    }

    /// What the names of topics that begin so begin with on the target; and what else does, where something does.
    pub(super) fn beginning(&self, beginning: &str) -> (String, Option<String>) {
        if !self.strips {
            let more = (!self.suffix.is_empty()).then(|| format!("whether it ends in {} or not", self.suffix));
            return (format!("{}{beginning}", self.prefix), more);
        }
        // Shorter than what is taken away, it says nothing of what is left.
        (beginning.strip_prefix(&self.prefix).unwrap_or_default().to_owned(), None)
    }

    /// The name on the target; `None` where it would be no topic name (too long) or that of a topic which is never written
    /// to (`__consumer_offsets` and the like).
    #[must_use]
    pub fn checked(&self, topic: &str) -> Option<String> {
        Some(self.apply(topic)).filter(|name| is_topic_name(name) && !never_mirrored(name))
    }

    /// What the names that begin so begin with on the target, and no others do; `None` where no prefix says that.
    #[must_use]
    pub fn of_prefix(&self, prefix: &str) -> Option<String> {
        if !self.suffix.is_empty() {
            return None;
        }
        let stripped = || prefix.strip_prefix(&self.prefix).map(str::to_owned);
        if self.strips { stripped() } else { Some(format!("{}{prefix}", self.prefix)) }
    }

    /// The topic of the source that gets this name on the target, if one could.
    #[must_use]
    pub fn invert(&self, target_topic: &str) -> Option<String> {
        if self.strips { Some(self.with(target_topic)) } else { self.without(target_topic).map(str::to_owned) }
    }

    /// Whether names stay as they are.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.prefix.is_empty() && self.suffix.is_empty()
    }
}

impl fmt::Display for Rename {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, suffix) = (&self.prefix, &self.suffix);
        if self.strips {
            write!(f, "{{topic}} of {prefix}{{topic}}{suffix}")
        } else {
            write!(f, "{prefix}{{topic}}{suffix}")
        }
    }
}
