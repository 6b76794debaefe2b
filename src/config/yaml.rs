//! YAML text → a tree whose every node knows its place. Values stay text here: what a scalar means is decided by the
//! option it is given to, so that `client_id: 12` and `${env:PORT}` are read the same way.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::error::{ConfigError, Place};

/// Nesting that no valid file comes near; bounds the recursion.
const DEPTH_MAX: usize = 32;
/// Nodes of one file with its aliases written out; bounds what `*alias` can blow up to.
const NODES_MAX: usize = 200_000;

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    /// For a single value that stands in the file letter by letter: columns before its first letter (1 for a quote).
    pub(super) lead: Option<usize>,
    pub(super) kind: NodeKind,
}

#[derive(Debug, Clone)]
pub(super) enum NodeKind {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) value: Node,
}

impl NodeKind {
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar(_) => "a single value",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// The one document of a text. Repeated keys are noted in `errors` and dropped; any other fault ends the parse.
pub(super) fn parse(text: &str, errors: &mut Vec<ConfigError>) -> Result<Node, ConfigError> {
    let mut builder = Builder {
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        errors,
        last: Place { line: 1, column: 1 },
        last_chars: 0,
    };
    builder.document()
}

struct Builder<'a, 'e> {
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    errors: &'e mut Vec<ConfigError>,
    last: Place,
    last_chars: usize,
}

fn fault(place: Place, message: &str) -> ConfigError {
    ConfigError { place: Some(place), key: String::new(), message: message.to_owned() }
}

fn place(span: Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

fn scan_fault(error: &ScanError) -> ConfigError {
    let marker = error.marker();
    fault(Place { line: marker.line(), column: marker.col() + 1 }, &format!("not YAML: {}", error.info()))
}

impl<'a> Builder<'a, '_> {
    fn next(&mut self) -> Result<(Event<'a>, Place), ConfigError> {
        match self.events.next_event() {
            Some(Ok((event, span))) => {
                self.last = place(span);
                self.last_chars = span.end.index().saturating_sub(span.start.index());
                Ok((event, self.last))
            }
            Some(Err(error)) => Err(scan_fault(&error)),
            None => Ok((Event::StreamEnd, self.last)),
        }
    }

    fn document(&mut self) -> Result<Node, ConfigError> {
        let mut root = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(fault(place, "a second YAML document; a configuration is one document"));
                }
                Event::DocumentStart(_) => {
                    let (event, place) = self.next()?;
                    root = Some(self.node(event, place, 0, "")?);
                }
                _ => return Err(fault(place, "not YAML: content outside of a document")),
            }
        }
        Ok(root.unwrap_or(Node { place: Place { line: 1, column: 1 }, lead: None, kind: NodeKind::Null }))
    }

    fn lead(&self, kind: &NodeKind) -> Option<usize> {
        let NodeKind::Scalar(text) = kind else { return None };
        match self.last_chars.checked_sub(text.chars().count())? {
            0 => Some(0),
            2 => Some(1),
            _ => None,
        }
    }

    fn count(&mut self, more: usize, place: Place) -> Result<(), ConfigError> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > NODES_MAX {
            return Err(fault(place, &format!("more than {NODES_MAX} values, aliases written out")));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, place: Place, depth: usize, path: &str) -> Result<Node, ConfigError> {
        if depth > DEPTH_MAX {
            return Err(fault(place, &format!("nested more than {DEPTH_MAX} deep")));
        }
        self.count(1, place)?;
        let nodes_before = self.nodes;
        let (kind, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, place, depth),
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                return Err(fault(place, "YAML tags (\"!…\") are not supported: remove the tag, quote text"));
            }
            Event::Scalar(text, style, anchor, None) => {
                let null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                (if null { NodeKind::Null } else { NodeKind::Scalar(text.into_owned()) }, anchor)
            }
            Event::SequenceStart(anchor, None) => (NodeKind::List(self.list(depth, path)?), anchor),
            Event::MappingStart(anchor, None) => (NodeKind::Map(self.map(depth, path)?), anchor),
            _ => return Err(fault(place, "not YAML: a value is missing")),
        };
        let node = Node { place, lead: self.lead(&kind), kind };
        if anchor > 0 {
            let size = self.nodes - nodes_before + 1;
            self.count(size, place)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, place: Place, depth: usize) -> Result<Node, ConfigError> {
        let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
            return Err(fault(place, "an alias to a value that is not complete yet"));
        };
        self.count(size, place)?;
        if depth + nesting(&node) > DEPTH_MAX {
            return Err(fault(place, &format!("nested more than {DEPTH_MAX} deep, aliases written out")));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize, path: &str) -> Result<Vec<Node>, ConfigError> {
        let mut items = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(items);
            }
            let item = format!("{path}[{}]", items.len());
            items.push(self.node(event, place, depth + 1, &item)?);
        }
    }

    fn map(&mut self, depth: usize, path: &str) -> Result<Vec<Entry>, ConfigError> {
        let mut entries = Vec::<Entry>::new();
        let mut seen = HashMap::<String, Place>::new();
        loop {
            let (event, key_place) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, _, _, None) => text.into_owned(),
                _ => return Err(fault(key_place, "a key must be plain text")),
            };
            let (event, place) = self.next()?;
            let here = join(path, &key);
            let value = self.node(event, place, depth + 1, &here)?;
            if let Some(first) = seen.get(&key) {
                let message = format!("repeated; it stands already in line {}", first.line);
                self.errors.push(ConfigError { place: Some(key_place), key: here, message });
                continue;
            }
            seen.insert(key.clone(), key_place);
            entries.push(Entry { key, key_place, value });
        }
    }
}

/// A key path and one key more.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn nesting(node: &Node) -> usize {
    match &node.kind {
        NodeKind::Null | NodeKind::Scalar(_) => 0,
        NodeKind::List(items) => 1 + items.iter().map(nesting).max().unwrap_or(0),
        NodeKind::Map(entries) => 1 + entries.iter().map(|entry| nesting(&entry.value)).max().unwrap_or(0),
    }
}
