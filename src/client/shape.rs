//! The shape of a response is checked before `kafka-protocol` decodes it: that crate allocates arrays by the count on the
//! wire, and a count of 2^31 in a frame of twenty bytes would end the process.
//!
//! [`layouts`] says how the responses are laid out, as Kafka's own message definitions do. The walk reads lengths, counts
//! and tagged fields and steps over all else; whatever it lets through holds as many elements as it says. What is
//! read by hand (`fetch_session`, `produce`) needs no layout: its [`Cursor`] allocates nothing by a length.

mod layouts;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Request};

pub(super) use layouts::{Visitor, each};

use super::frame::{Cursor, Malformed};

/// Structs in one response. One of three bytes takes eighty once it is decoded: a long frame alone would do what a count does.
/// No cluster has as many partitions.
const ELEMENTS_MAX: usize = 1 << 20;
/// Tagged fields that are not known, in one response. One of two bytes takes four hundred once it is decoded.
const UNKNOWN_TAGS_MAX: usize = 64 << 10;

/// A request whose response has a layout; another one cannot be asked ([`super::Connection::call`]).
pub(super) trait Shaped: Request {
    const LAYOUT: Layout;
}

/// The response to `R`; its shape is checked first. The one place where responses are decoded.
pub(super) fn decode<R: Shaped>(version: i16, mut body: Bytes) -> Result<R::Response, String> {
    walk(&R::LAYOUT, version, body.clone())?;
    R::Response::decode(&mut body, version).map_err(|e| e.to_string())
}

/// A response message, in the versions that kmirror asks for.
#[derive(Debug)]
pub(super) struct Layout {
    /// The first and the last version.
    pub(super) versions: (i16, i16),
    /// From here on lengths are compact, and structs end in tagged fields (KIP-482).
    flexible: i16,
    fields: &'static [Field],
}

#[derive(Debug, Clone, Copy)]
struct Field {
    name: &'static str,
    kind: Kind,
    since: i16,
    until: i16,
    /// The first version in which it may be null.
    nullable: i16,
    tag: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// So many bytes.
    Fixed(usize),
    Text,
    Bytes,
    Struct(&'static [Field]),
    /// An array of structs.
    Array(&'static [Field]),
    /// An array of elements of so many bytes.
    Numbers(usize),
    /// An array of strings.
    Texts,
}

/// What an array of strings holds.
static ELEMENT: Field = Field::new("element", Kind::Text);

impl Field {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, since: 0, until: i16::MAX, nullable: i16::MAX, tag: None }
    }

    const fn since(self, since: i16) -> Self {
        Self { since, ..self }
    }

    const fn until(self, until: i16) -> Self {
        Self { until, ..self }
    }

    /// May be null from this version on.
    const fn nullable(self, nullable: i16) -> Self {
        Self { nullable, ..self }
    }

    const fn tagged(self, tag: u32) -> Self {
        Self { tag: Some(tag), ..self }
    }

    const fn is_in(&self, version: i16) -> bool {
        self.since <= version && version <= self.until
    }
}

/// The number of bytes that the layout covers; what stands behind them is passed over, as Kafka's own clients do.
fn walk(layout: &Layout, version: i16, body: Bytes) -> Result<usize, String> {
    let (first, last) = layout.versions;
    if version < first || version > last {
        return Err(format!("an answer in v{version}, known are v{first} to v{last}"));
    }
    let len = body.len();
    let flexible = version >= layout.flexible;
    let mut cursor = Cursor::new(body, flexible);
    let mut walk = Walk { version, flexible, path: Vec::new(), elements: 0, unknown_tags: 0 };
    match walk.structure(layout.fields, &mut cursor) {
        Ok(()) => Ok(len - cursor.remaining()),
        Err(malformed) if walk.path.is_empty() => Err(malformed.to_string()),
        Err(malformed) => Err(format!("{}: {malformed}", walk.path.join("."))),
    }
}

struct Walk {
    version: i16,
    flexible: bool,
    /// The field that is read, and those that hold it; stays where a walk fails.
    path: Vec<&'static str>,
    elements: usize,
    unknown_tags: usize,
}

type Step = Result<(), Malformed>;

impl Walk {
    fn structure(&mut self, fields: &'static [Field], cursor: &mut Cursor) -> Step {
        self.count(cursor)?;
        for field in in_order(fields, self.version) {
            self.field(field, cursor)?;
        }
        cursor.tags(|tag, content| self.tagged(fields, tag, content))
    }

    fn count(&mut self, cursor: &Cursor) -> Step {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX { cursor.fail("more elements than any answer has") } else { Ok(()) }
    }

    fn field(&mut self, field: &'static Field, cursor: &mut Cursor) -> Step {
        self.path.push(field.name);
        let is_null = match field.kind {
            Kind::Fixed(width) => cursor.skip(width).map(|()| false),
            Kind::Struct(fields) => self.structure(fields, cursor).map(|()| false),
            Kind::Text => cursor.skip_string().map(|len| len.is_none()),
            Kind::Bytes => cursor.bytes().map(|bytes| bytes.is_none()),
            Kind::Numbers(width) => self.array(width, cursor, |_, count, cursor| cursor.skip(count * width)),
            Kind::Texts => self.array(if self.flexible { 1 } else { 2 }, cursor, |walk, count, cursor| {
                (0..count).try_for_each(|_| walk.count(cursor).and_then(|()| walk.field(&ELEMENT, cursor)))
            }),
            Kind::Array(fields) => self.array(self.least(fields), cursor, |walk, count, cursor| {
                (0..count).try_for_each(|_| walk.structure(fields, cursor))
            }),
        }?;
        if is_null && self.version < field.nullable {
            return cursor.fail("null, which it may not be");
        }
        self.path.pop();
        Ok(())
    }

    /// Whether it is null. An element takes `least` bytes or more, so what is left bounds their number.
    fn array(
        &mut self,
        least: usize,
        cursor: &mut Cursor,
        elements: impl FnOnce(&mut Self, usize, &mut Cursor) -> Step,
    ) -> Result<bool, Malformed> {
        let Some(count) = cursor.array_len()? else { return Ok(true) };
        if count > cursor.remaining() / least {
            return cursor.fail("length beyond the response");
        }
        elements(self, count, cursor).map(|()| false)
    }

    /// The decoder goes by the type of a field whose tag it knows, not by the size in front: they must agree.
    fn tagged(&mut self, fields: &'static [Field], tag: u32, content: &mut Cursor) -> Step {
        let Some(field) = fields.iter().find(|field| field.tag == Some(tag)) else {
            self.unknown_tags += 1;
            let is_much = self.unknown_tags > UNKNOWN_TAGS_MAX;
            return if is_much { content.fail("more unknown tagged fields than any answer has") } else { Ok(()) };
        };
        if !field.is_in(self.version) {
            return content.fail("tagged field of another version");
        }
        self.field(field, content)?;
        if content.remaining() > 0 { content.fail("tagged field longer than its type") } else { Ok(()) }
    }

    /// Bytes that a struct takes at least.
    fn least(&self, fields: &'static [Field]) -> usize {
        let least = |field: &'static Field| match field.kind {
            Kind::Fixed(width) => width,
            Kind::Struct(fields) => self.least(fields),
            _ if self.flexible => 1,
            Kind::Text => 2,
            Kind::Bytes | Kind::Array(_) | Kind::Numbers(_) | Kind::Texts => 4,
        };
        (in_order(fields, self.version).map(least).sum::<usize>() + usize::from(self.flexible)).max(1)
    }
}

/// The fields that a struct begins with; those with a tag come behind them.
fn in_order(fields: &'static [Field], version: i16) -> impl Iterator<Item = &'static Field> {
    fields.iter().filter(move |field| field.tag.is_none() && field.is_in(version))
}

/// Bytes that the layout covers, and bytes that the decoder takes; `Err` where the walk refuses. For the fuzz target.
pub(super) fn both<R: Shaped>(version: i16, mut body: Bytes) -> Result<(usize, Option<usize>), String> {
    let walked = walk(&R::LAYOUT, version, body.clone())?;
    let len = body.len();
    let decoded = R::Response::decode(&mut body, version).is_ok();
    Ok((walked, decoded.then_some(len - body.len())))
}
