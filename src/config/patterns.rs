//! What a regular expression of `topics` or `groups` selects, as resource patterns of ACLs (KIP-290): literal names, prefixes, or
//! all names. Never less than the expression; where it is more, the pattern says so.

use regex_syntax::hir::{Class, Hir, HirKind};

use crate::plan::rights::Pattern;

use super::topics::{GroupFilter, Rename, TopicFilter};

/// Words of one expression; beyond that a common beginning has to do.
const WORDS_MAX: usize = 64;
/// Characters of a class that are spelled out.
const SPELLED_MAX: usize = 16;

/// How a word goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// It ends here.
    Closed,
    /// With anything.
    Anything,
    /// With something that only the expression tells.
    Something,
}

type Words = Vec<(String, Tail)>;

/// The patterns of several expressions, the widest only.
fn patterns(written: &[String]) -> Vec<Pattern> {
    let mut found: Vec<Pattern> = Vec::new();
    for expression in written {
        // One that does not parse has been refused before.
        let words = regex_syntax::parse(expression).map_or_else(|_| unknown(), |hir| words(&hir));
        for (word, tail) in words {
            let pattern = match tail {
                Tail::Closed if word.is_empty() => continue,
                Tail::Closed => Pattern::literal(word),
                Tail::Anything => Pattern::prefix(word),
                Tail::Something => {
                    let wider = Some(format!("wider than the expression {expression}"));
                    Pattern { wider, ..Pattern::prefix(word) }
                }
            };
            if !found.contains(&pattern) {
                found.push(pattern);
            }
        }
    }
    found
}

fn unknown() -> Words {
    vec![(String::new(), Tail::Something)]
}

fn words(hir: &Hir) -> Words {
    let found = match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![(String::new(), Tail::Closed)],
        HirKind::Literal(literal) => vec![(String::from_utf8_lossy(&literal.0).into_owned(), Tail::Closed)],
        HirKind::Class(class) => spelled(class).unwrap_or_else(unknown),
        HirKind::Capture(group) => words(&group.sub),
        HirKind::Alternation(branches) => branches.iter().flat_map(words).collect(),
        HirKind::Concat(parts) => parts.iter().fold(vec![(String::new(), Tail::Closed)], |heads, part| {
            let tails = words(part);
            let is_empty = tails.iter().all(|tail| tail == &(String::new(), Tail::Closed));
            if is_empty { heads } else { joined(&heads, &tails) }
        }),
        HirKind::Repetition(part) => match (part.min, part.max) {
            (0, Some(0)) => vec![(String::new(), Tail::Closed)],
            (0, Some(1)) => [vec![(String::new(), Tail::Closed)], words(&part.sub)].concat(),
            (1, Some(1)) => words(&part.sub),
            (0, None) if is_anything(&part.sub) => vec![(String::new(), Tail::Anything)],
            (0, _) => unknown(),
            _ => words(&part.sub).into_iter().map(|(word, _)| (word, Tail::Something)).collect(),
        },
    };
    if found.len() <= WORDS_MAX { found } else { unknown() }
}

/// Each head with each tail behind it.
fn joined(heads: &Words, tails: &Words) -> Words {
    if heads.len() * tails.len() > WORDS_MAX {
        return heads.iter().map(|(head, _)| (head.clone(), Tail::Something)).collect();
    }
    let join = |(head, end): &(String, Tail)| -> Words {
        match end {
            Tail::Closed => tails.iter().map(|(tail, end)| (format!("{head}{tail}"), *end)).collect(),
            // What follows is somewhere behind what is not known.
            Tail::Anything | Tail::Something => vec![(head.clone(), Tail::Something)],
        }
    };
    heads.iter().flat_map(join).collect()
}

/// A class of few characters, one word each.
fn spelled(class: &Class) -> Option<Words> {
    let characters: Vec<char> = match class {
        Class::Unicode(class) => {
            class.ranges().iter().flat_map(|range| range.start()..=range.end()).take(SPELLED_MAX + 1).collect()
        }
        Class::Bytes(class) => {
            let bytes = class.ranges().iter().flat_map(|range| range.start()..=range.end());
            bytes.map(char::from).take(SPELLED_MAX + 1).collect()
        }
    };
    let words = || characters.iter().map(|c| (c.to_string(), Tail::Closed)).collect();
    (characters.len() <= SPELLED_MAX).then(words)
}

/// Whether it is the dot, or as good as it: every character that a name may have.
fn is_anything(hir: &Hir) -> bool {
    let HirKind::Class(Class::Unicode(class)) = hir.kind() else { return false };
    let has = |c: char| class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&c));
    (' '..='~').all(has)
}

/// Says of patterns of many names that some of them are left out by the mirror, and not by the ACL.
fn less(patterns: Vec<Pattern>, exclude: &[String], usual: &[&str]) -> Vec<Pattern> {
    let excluded: Vec<&str> = exclude.iter().map(String::as_str).filter(|written| !usual.contains(written)).collect();
    if excluded.is_empty() {
        return patterns;
    }
    let excluded = format!("covers what is excluded as well ({})", excluded.join(", "));
    let note = |pattern: Pattern| match pattern {
        one if one.is_one() => one,
        many => {
            let wider = many.wider.as_ref().map_or_else(|| excluded.clone(), |wider| format!("{wider}; {excluded}"));
            Pattern { wider: Some(wider), ..many }
        }
    };
    patterns.into_iter().map(note).collect()
}

/// What `topics.exclude` says by itself.
const USUAL: [&str; 2] = ["__.*", ".*[.-]internal"];

impl TopicFilter {
    /// What it takes, as resource patterns of ACLs.
    #[must_use]
    pub fn patterns(&self) -> Vec<Pattern> {
        let patterns = less(patterns(self.include()), self.exclude(), &USUAL);
        match self.renaming() {
            Some(rename) => rename.patterns(&patterns),
            None => patterns,
        }
    }
}

impl GroupFilter {
    /// What it takes, as resource patterns of ACLs.
    #[must_use]
    pub fn patterns(&self) -> Vec<Pattern> {
        less(patterns(self.include()), self.exclude(), &[])
    }
}

impl Rename {
    /// What topics of these names are called on the target.
    #[must_use]
    pub fn patterns(&self, names: &[Pattern]) -> Vec<Pattern> {
        names.iter().map(|pattern| self.pattern(pattern)).collect()
    }

    fn pattern(&self, pattern: &Pattern) -> Pattern {
        if self.is_identity() {
            return pattern.clone();
        }
        if pattern.is_one() {
            return Pattern { name: self.apply(&pattern.name), ..pattern.clone() };
        }
        let beginning = if pattern.is_prefix { pattern.name.as_str() } else { "" };
        let (beginning, more) = self.beginning(beginning);
        let wider = match (&pattern.wider, more) {
            (wider, None) => wider.clone(),
            (None, Some(more)) => Some(more),
            (Some(wider), Some(more)) => Some(format!("{wider}; {more}")),
        };
        Pattern { wider, ..Pattern::prefix(beginning) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `~` marks a prefix, `!` that it is wider.
    fn of(expressions: &[&str]) -> Vec<String> {
        let written: Vec<String> = expressions.iter().map(|e| (*e).to_owned()).collect();
        shown(&TopicFilter::new(&written, &[]).unwrap().patterns())
    }

    fn shown(patterns: &[Pattern]) -> Vec<String> {
        let show = |p: &Pattern| {
            let (kind, wider) = (if p.is_prefix { "~" } else { "" }, if p.wider.is_some() { "!" } else { "" });
            format!("{}{kind}{wider}", p.name)
        };
        patterns.iter().map(show).collect()
    }

    #[test]
    fn names_and_alternations_are_literal() {
        assert_eq!(
            of(&["orders", "a|b-c|d", "(x|y)[.-]z?"]),
            ["orders", "a", "b-c", "d", "x-", "x-z", "x.", "x.z", "y-", "y-z", "y.", "y.z"]
        );
        assert_eq!(of(&["^orders$", r"kmirror\.heartbeats\.dr"]), ["orders", "kmirror.heartbeats.dr"]);
    }

    #[test]
    fn a_beginning_is_a_prefix_and_what_is_wider_says_so() {
        assert_eq!(of(&["orders.*", r"orders\..*"]), ["orders~", "orders.~"]);
        assert_eq!(
            of(&["orders-[0-9]+", r"(eu|us)-.*\.v2"]),
            [
                "orders-0~!",
                "orders-1~!",
                "orders-2~!",
                "orders-3~!",
                "orders-4~!",
                "orders-5~!",
                "orders-6~!",
                "orders-7~!",
                "orders-8~!",
                "orders-9~!",
                "eu-~!",
                "us-~!"
            ]
        );
        assert_eq!(of(&["a[a-z]*", "b.+", "c.{2,}"]), ["a~!", "b~!", "c~!"]);
    }

    #[test]
    fn without_a_beginning_it_is_every_name() {
        assert_eq!(of(&[".*"]), ["*"]);
        assert_eq!(of(&[".*-orders"]), ["*!"]);
        assert_eq!(of(&["[a-z]+"]), ["*!"]);
        assert_eq!(shown(&GroupFilter::all().patterns()), ["*"]);
        assert_eq!(shown(&TopicFilter::all().patterns()), ["*"]);
    }

    #[test]
    fn what_is_excluded_is_said_of_what_covers_it() {
        let filter = TopicFilter::new(&["a.*".into(), "b".into()], &["a-tmp.*".into()]).unwrap();
        let patterns = filter.patterns();
        assert_eq!(shown(&patterns), ["a~!", "b"]);
        assert_eq!(patterns[0].wider.as_deref(), Some("covers what is excluded as well (a-tmp.*)"));
    }

    #[test]
    fn names_on_the_target_follow_there_and_back() {
        let rename = Rename::new("dr.{topic}", "a", "b").unwrap();
        let here = TopicFilter::new(&["orders.*".into(), "x".into(), ".*".into()], &[]).unwrap();
        let there = rename.patterns(&here.patterns());
        assert_eq!(shown(&there), ["dr.orders~", "dr.x", "dr.~"]);
        assert_eq!(shown(&here.renamed(&rename).patterns()), shown(&there));
        assert_eq!(shown(&rename.reversed().patterns(&there)), ["orders~", "x", "*"]);
        let behind = Rename::new("{topic}.copy", "a", "b").unwrap();
        assert_eq!(shown(&behind.patterns(&here.patterns())), ["orders~!", "x.copy", "*!"]);
    }

    /// Whatever the filter takes, an ACL of its patterns lets through.
    #[test]
    fn no_name_that_is_taken_is_left_out() {
        let names = ["orders", "orders-1", "orders.eu", "eu-1.v2", "a", "ab", "x.z", "", "payments", "b-cc"];
        for expression in [
            "orders.*",
            "(orders|payments)",
            "[a-z]+",
            "orders(-[0-9])?",
            "a|ab?",
            ".*",
            "x[.-]z",
            "b-c{2}",
            "(?i)ORDERS",
            "(eu|us)-.*",
        ] {
            let filter = TopicFilter::new(&[expression.to_owned()], &[]).unwrap();
            let patterns = filter.patterns();
            for name in names.iter().filter(|name| filter.matches(name)) {
                let taken = patterns
                    .iter()
                    .any(|p| p.is_any() || p.name == *name || (p.is_prefix && name.starts_with(&p.name)));
                assert!(taken, "{expression}: {name} in {patterns:?}");
            }
        }
    }
}
