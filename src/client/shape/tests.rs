//! The layouts against `kafka-protocol` and against bytes of Kafka's own. Bytes are made by the layouts, and count only where
//! the crate reads them and writes the same again.

use bytes::{BufMut, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message};

use super::super::api_name::api_name;
use super::super::goldens;
use super::*;

struct Api {
    name: &'static str,
    layout: Layout,
    /// Of the crate: of the request and of the response.
    versions: [(i16, i16); 2],
    flexible: fn(i16) -> bool,
    /// The response without anything in it.
    empty: fn(i16) -> Bytes,
    /// What the crate makes of a body, written anew, and what it left of it.
    again: fn(&Layout, i16, Bytes) -> Option<(Bytes, usize)>,
    /// The layout with everything nullable, and tags in every version: what it refuses, the crate would refuse after it had asked for the memory.
    lenient: Layout,
    decode: fn(i16, Bytes) -> Result<(), String>,
}

struct Apis(Vec<Api>);

impl Visitor for Apis {
    fn visit<R: Shaped>(&mut self)
    where
        R::Response: Default,
    {
        self.0.push(Api {
            name: api_name(R::KEY),
            layout: R::LAYOUT,
            lenient: Layout { fields: lenient(R::LAYOUT.fields), ..R::LAYOUT },
            versions: [R::VERSIONS, R::Response::VERSIONS].map(|range| (range.min, range.max)),
            flexible: |version| R::Response::header_version(version) >= 1,
            empty: |version| encoded(&R::Response::default(), version),
            again: |lenient, version, mut body| {
                walk(lenient, version, body.clone()).ok()?;
                let response = R::Response::decode(&mut body, version).ok()?;
                Some((encoded(&response, version), body.len()))
            },
            decode: |version, body| decode::<R>(version, body).map(|_| ()),
        });
    }
}

fn lenient(fields: &'static [Field]) -> &'static [Field] {
    let each = |field: &Field| {
        let kind = match field.kind {
            Kind::Struct(fields) => Kind::Struct(lenient(fields)),
            Kind::Array(fields) => Kind::Array(lenient(fields)),
            kind => kind,
        };
        let since = if field.tag.is_some() { 0 } else { field.since };
        Field { kind, since, nullable: 0, ..*field }
    };
    fields.iter().map(each).collect::<Vec<_>>().leak()
}

fn encoded(message: &impl Encodable, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

fn apis() -> Vec<Api> {
    let mut apis = Apis(Vec::new());
    each(&mut apis);
    apis.0
}

fn each_version(mut check: impl FnMut(&Api, i16)) {
    for api in apis() {
        for version in api.layout.versions.0..=api.layout.versions.1 {
            check(&api, version);
        }
    }
}

/// Where a length or count stands, and of what.
#[derive(Clone)]
struct Place {
    field: Field,
    path: String,
    at: usize,
    /// Bytes of the length itself.
    width: usize,
}

/// What is to be written of a response.
#[derive(Clone, Copy)]
struct Plan {
    /// Elements of each array.
    elements: usize,
    nulls: bool,
    /// Known tags and unknown ones.
    tags: bool,
    /// The tagged field of this name as well where it is of another version.
    foreign: Option<&'static str>,
    /// This length is null, counted from the first, whatever its field allows.
    null_at: Option<usize>,
}

const FULL: Plan = Plan { elements: 2, nulls: false, tags: true, foreign: None, null_at: None };
/// Written where the layout has no field of that tag, with something that is none of the types in use: were it known to the
/// crate, the crate would not write the same again.
const TAGS: [u32; 9] = [0, 1, 2, 3, 4, 5, 6, 7, 300];

struct Writer {
    version: i16,
    flexible: bool,
    plan: Plan,
    /// Whether a tag of another version was written.
    foreign: bool,
    out: Vec<u8>,
    path: Vec<&'static str>,
    places: Vec<Place>,
}

fn written(api: &Api, version: i16, plan: Plan) -> (Bytes, Vec<Place>) {
    let writer = writer(api, version, plan);
    (writer.out.into(), writer.places)
}

fn writer(api: &Api, version: i16, plan: Plan) -> Writer {
    let flexible = version >= api.layout.flexible;
    let (out, path, places) = (Vec::new(), Vec::new(), Vec::new());
    let mut writer = Writer { version, flexible, plan, foreign: false, out, path, places };
    writer.structure(api.layout.fields);
    writer
}

fn varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A length as it stands on the wire; −1 is null.
fn length(flexible: bool, field: &Field, value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    match field.kind {
        _ if flexible => varint(&mut out, (value + 1) as u32),
        Kind::Text => out.put_i16(value as i16),
        _ => out.put_i32(value as i32),
    }
    out
}

impl Writer {
    fn structure(&mut self, fields: &'static [Field]) {
        in_order(fields, self.version).for_each(|field| self.field(field));
        if self.flexible {
            self.tags(fields);
        }
    }

    fn tags(&mut self, fields: &'static [Field]) {
        if !self.plan.tags {
            return self.out.push(0);
        }
        let known = |tag: u32| fields.iter().find(|field| field.tag == Some(tag));
        let all: Vec<(u32, Option<&'static Field>)> = TAGS.map(|tag| (tag, known(tag))).into();
        let is_written = |field: &Field| field.is_in(self.version) || self.plan.foreign == Some(field.name);
        let written: Vec<_> = all.into_iter().filter(|(_, field)| field.is_none_or(is_written)).collect();
        self.foreign |= written.iter().any(|(_, field)| field.is_some_and(|field| !field.is_in(self.version)));
        varint(&mut self.out, written.len() as u32);
        for (tag, field) in written {
            varint(&mut self.out, tag);
            let Some(field) = field else {
                self.out.extend(b"\x03\xff\xff\xff");
                continue;
            };
            // The size goes in front of what it measures: written twice, as it moves what is behind.
            let (start, places) = (self.out.len(), self.places.clone());
            self.field(field);
            let size = self.out.len() - start;
            self.out.truncate(start);
            self.places = places;
            varint(&mut self.out, size as u32);
            self.field(field);
        }
    }

    fn field(&mut self, field: &'static Field) {
        self.path.push(field.name);
        match field.kind {
            Kind::Fixed(width) => self.out.extend(std::iter::repeat_n(1, width)),
            Kind::Struct(fields) => self.structure(fields),
            _ => self.variable(field),
        }
        self.path.pop();
    }

    fn variable(&mut self, field: &'static Field) {
        let null = self.plan.null_at == Some(self.places.len()) || self.plan.nulls && field.nullable <= self.version;
        let elements = match field.kind {
            Kind::Text | Kind::Bytes => 3,
            _ => self.plan.elements,
        };
        let value = length(self.flexible, field, if null { -1 } else { elements as i64 });
        let place = Place { field: *field, path: self.path.join("."), at: self.out.len(), width: value.len() };
        self.places.push(place);
        self.out.extend(value);
        if null {
            return;
        }
        match field.kind {
            Kind::Numbers(width) => self.out.extend(std::iter::repeat_n(1, elements * width)),
            Kind::Array(fields) => (0..elements).for_each(|_| self.structure(fields)),
            Kind::Texts => (0..elements).for_each(|_| self.field(&ELEMENT)),
            _ => self.out.extend(std::iter::repeat_n(b't', elements)),
        }
    }
}

fn walked(api: &Api, version: i16, body: &Bytes) -> Result<usize, String> {
    walk(&api.layout, version, body.clone())
}

#[test]
fn versions_are_those_of_the_messages() {
    for api in apis() {
        let (first, last) = api.layout.versions;
        assert_ne!(api.name, "request", "a name in `api_name`");
        let [(min, max), (answer_min, answer_max)] = api.versions;
        assert!(answer_min <= min && max <= answer_max, "{}", api.name);
        assert_eq!(first, min, "{}", api.name);
        let capped = ["Fetch", "ApiVersions", "AddPartitionsToTxn", "EndTxn"].contains(&api.name);
        assert!(if capped { last < max } else { last == max }, "{}: v{last} of v{max}", api.name);
        assert!(walked(&api, first - 1, &Bytes::new()).unwrap_err().starts_with("an answer in v"), "{}", api.name);
        assert!(walked(&api, last + 1, &Bytes::new()).unwrap_err().starts_with("an answer in v"), "{}", api.name);
    }
    each_version(|api, version| {
        // Its header never is (KIP-511).
        if api.name != "ApiVersions" {
            assert_eq!((api.flexible)(version), version >= api.layout.flexible, "{} v{version}", api.name);
        }
    });
}

fn tagged(fields: &'static [Field]) -> Vec<&'static str> {
    let inner = fields.iter().flat_map(|field| match field.kind {
        Kind::Struct(fields) | Kind::Array(fields) => tagged(fields),
        _ => Vec::new(),
    });
    fields.iter().filter(|field| field.tag.is_some()).map(|field| field.name).chain(inner).collect()
}

/// In what the layout and the crate differ.
fn difference(api: &Api, version: i16) -> Result<(), String> {
    let of = |what: String| Err(format!("{} v{version}: {what}", api.name));
    for (elements, nulls, tags) in [(2, false, true), (2, true, true), (1, false, false), (0, true, false)] {
        let (body, _) = written(api, version, Plan { elements, nulls, tags, ..FULL });
        let again = (api.again)(&api.lenient, version, body.clone());
        if again != Some((body.clone(), 0)) {
            return of(format!("{elements} elements, nulls {nulls}, tags {tags}: {body:?} became {again:?}"));
        }
        let walked = walked(api, version, &body);
        if walked != Ok(body.len()) {
            return of(format!("{walked:?} of {} bytes", body.len()));
        }
    }
    for name in tagged(api.layout.fields) {
        let foreign = writer(api, version, Plan { foreign: Some(name), ..FULL });
        if foreign.foreign && (api.again)(&api.lenient, version, foreign.out.into()).is_some() {
            return of(format!("{name} is decoded, though of another version"));
        }
    }
    for (index, place) in written(api, version, FULL).1.into_iter().enumerate() {
        let (body, _) = written(api, version, Plan { null_at: Some(index), ..FULL });
        // May be null from a version on, which the crate does not tell apart.
        let later =
            [("Metadata", "topics.name", 12), ("DeleteTopics", "responses.name", 6), ("JoinGroup", "protocol_name", 7)];
        let too_early = later
            .iter()
            .any(|(name, path, first)| (*name, *path) == (api.name, place.path.as_str()) && version < *first);
        let nullable = (api.again)(&api.lenient, version, body.clone()).is_some() && !too_early;
        if walked(api, version, &body).is_ok() != nullable {
            return of(format!("{}: nullable is {nullable}", place.path));
        }
    }
    Ok(())
}

#[test]
fn a_layout_and_the_crate_agree() {
    let mut versions = 0;
    each_version(|api, version| {
        let empty = (api.empty)(version);
        assert_eq!(walked(api, version, &empty), Ok(empty.len()), "{} v{version}, empty", api.name);
        assert_eq!(difference(api, version), Ok(()));
        assert_eq!((api.decode)(version, written(api, version, FULL).0), Ok(()), "{} v{version}", api.name);
        versions += 1;
    });
    eprintln!("{versions} versions");
}

/// All that a field could be in place of what it is.
fn misread(field: Field, versions: (i16, i16)) -> Vec<(&'static str, Option<Field>)> {
    let mut all = vec![("left out", None)];
    let mut add = |what, field| all.push((what, Some(field)));
    if field.is_in(versions.0) || field.is_in(versions.1) {
        add("later", Field { since: field.since.max(versions.0) + 1, ..field });
    }
    if field.since > versions.0 && field.tag.is_none() {
        add("earlier", Field { since: field.since - 1, ..field });
    }
    if field.until < i16::MAX {
        add("longer", Field { until: field.until + 1, ..field });
        add("shorter", Field { until: field.until - 1, ..field });
    }
    match field.kind {
        Kind::Fixed(width) => add("wider", Field { kind: Kind::Fixed(width + 1), ..field }),
        Kind::Numbers(width) => add("wider", Field { kind: Kind::Numbers(width + 1), ..field }),
        Kind::Struct(_) => {}
        _ if field.nullable == i16::MAX => add("nullable", Field { nullable: 0, ..field }),
        _ => add("never null", Field { nullable: i16::MAX, ..field }),
    }
    if let Some(tag) = field.tag {
        add("another tag", Field { tag: Some(tag + 4), ..field });
        add("no tag", Field { tag: None, ..field });
    }
    all
}

/// The fields with one mistake each, anywhere in them.
fn mistaken(fields: &'static [Field], (first, last): (i16, i16), flexible: i16) -> Vec<(String, &'static [Field])> {
    let mut all = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        // No version without tags has a tagged field, and none without an array has what is in it.
        let first = if field.tag.is_some() { first.max(flexible) } else { first };
        let mut add = |what: String, field: Option<Field>| {
            let (before, behind) = (&fields[..at], &fields[at + 1..]);
            all.push((what, &*[before, field.as_slice(), behind].concat().leak()));
        };
        for (what, wrong) in misread(*field, (first, last)) {
            add(format!("{} {what}", field.name), wrong);
        }
        let (inner, kind): (_, fn(&'static [Field]) -> Kind) = match field.kind {
            Kind::Struct(inner) => (inner, Kind::Struct),
            Kind::Array(inner) => (inner, Kind::Array),
            _ => continue,
        };
        for (what, wrong) in mistaken(inner, (first.max(field.since), last), flexible) {
            add(format!("{}.{what}", field.name), Some(Field { kind: kind(wrong), ..*field }));
        }
    }
    all
}

/// Fields of other versions than those that are asked for do nothing but refuse their tag.
const OUT_OF_RANGE: &str = "node_endpoints";

#[test]
fn no_mistake_in_a_layout_goes_unnoticed() {
    let (mut made, mut missed) = (0, Vec::new());
    for mut api in apis() {
        let (versions, right) = (api.layout.versions, api.layout.fields);
        for (what, wrong) in mistaken(right, versions, api.layout.flexible) {
            api.layout.fields = wrong;
            made += 1;
            if (versions.0..=versions.1).all(|version| difference(&api, version).is_ok()) {
                missed.push(format!("{}: {what}", api.name));
            }
        }
        api.layout.fields = right;
        let first = api.layout.flexible;
        for flexible in [first - 1, first + 1] {
            api.layout.flexible = flexible;
            made += 1;
            // Where no version in use changes sides it makes no difference.
            let differs = (versions.0..=versions.1).any(|version| (version >= flexible) != (version >= first));
            if differs && (versions.0..=versions.1).all(|version| difference(&api, version).is_ok()) {
                missed.push(format!("{}: flexible from v{flexible}", api.name));
            }
        }
    }
    missed.retain(|what| !what.contains(OUT_OF_RANGE));
    eprintln!("{made} mistakes");
    assert!(missed.is_empty(), "of {made}: {missed:#?}");
}

#[test]
fn what_kafka_writes_is_walked_to_its_end() {
    let goldens = [
        ("ApiVersions", 3, "api_versions"),
        ("Metadata", 13, "metadata"),
        ("Metadata", 13, "metadata_alpha"),
        ("ListOffsets", 10, "list_offsets_start"),
        ("ListOffsets", 10, "list_offsets_end"),
        ("ListOffsets", 10, "list_offsets_time"),
        ("DeleteRecords", 2, "delete_records"),
        ("DeleteTopics", 6, "delete_topics"),
        ("FindCoordinator", 6, "find_coordinator"),
        ("FindCoordinator", 6, "find_group_coordinators"),
        ("ListGroups", 5, "list_groups"),
        ("JoinGroup", 9, "join_group"),
        ("JoinGroup", 9, "join_group_refused"),
        ("Heartbeat", 4, "heartbeat"),
        ("LeaveGroup", 5, "leave_group"),
        ("SyncGroup", 5, "sync_group"),
        ("DescribeGroups", 6, "describe_groups"),
        ("ConsumerGroupDescribe", 1, "consumer_group_describe"),
        ("OffsetFetch", 9, "offset_fetch"),
        ("OffsetFetch", 7, "offset_fetch_single"),
        ("OffsetCommit", 9, "offset_commit"),
        ("OffsetDelete", 0, "offset_delete"),
        ("InitProducerId", 5, "init_producer_id"),
        ("InitProducerId", 5, "init_producer_id_current"),
        ("AddPartitionsToTxn", 3, "add_partitions"),
        ("EndTxn", 4, "end_txn"),
        ("DescribeProducers", 0, "describe_producers"),
        ("WriteTxnMarkers", 1, "write_txn_markers"),
        ("CreateTopics", 7, "create_topics"),
        ("CreatePartitions", 3, "create_partitions"),
        ("DescribeConfigs", 4, "describe_configs"),
        ("IncrementalAlterConfigs", 1, "alter_configs"),
        ("CreateAcls", 3, "create_acls"),
        ("DeleteAcls", 3, "delete_acls"),
        ("DescribeAcls", 3, "describe_topic_acls"),
        ("DescribeAcls", 3, "describe_all_acls"),
        ("DescribeClientQuotas", 1, "describe_quotas"),
        ("AlterClientQuotas", 1, "alter_quotas"),
        ("DescribeUserScramCredentials", 0, "describe_scram"),
        ("SaslHandshake", 1, "sasl_handshake"),
        ("SaslAuthenticate", 2, "sasl_authenticate"),
    ];
    let goldens = goldens.map(|(api, version, name)| (api, version, format!("{name}_response")));
    let fetches = (7..=12).map(|version| ("Fetch", version, format!("fetch_response_v{version}")));
    let all: Vec<(&str, i16, String)> = goldens.into_iter().chain(fetches).collect();
    for api in apis() {
        let mut seen = 0;
        for (_, version, name) in all.iter().filter(|(golden, ..)| *golden == api.name) {
            let body = goldens::body(name, (api.flexible)(*version));
            assert_eq!(walked(&api, *version, &body), Ok(body.len()), "{name}");
            seen += 1;
        }
        assert!(seen > 0, "{}: no golden", api.name);
    }
}

/// The body with something else in place of a length.
fn with(body: &Bytes, place: &Place, value: &[u8]) -> Bytes {
    [&body[..place.at], value, &body[place.at + place.width..]].concat().into()
}

#[test]
fn no_length_reaches_beyond_the_response() {
    let mut refused = 0;
    each_version(|api, version| {
        let flexible = version >= api.layout.flexible;
        let (body, places) = written(api, version, FULL);
        for place in &places {
            let left = body.len() - place.at;
            let most = if flexible || !matches!(place.field.kind, Kind::Text) { i32::MAX } else { i32::from(i16::MAX) };
            for value in [i64::from(most), i64::from(most) - 1, left as i64] {
                let hostile = with(&body, place, &length(flexible, &place.field, value));
                let why = walked(api, version, &hostile).unwrap_err();
                let expected = format!("{}: length beyond the response at byte ", place.path);
                assert!(why.starts_with(&expected), "{} v{version}, {} of {value}: {why}", api.name, place.path);
                assert_eq!((api.decode)(version, hostile), Err(why));
                refused += 1;
            }
            let (negative, words) = match (flexible, place.field.kind) {
                (true, _) => (vec![0xff, 0xff, 0xff, 0xff, 0x0f], "length beyond the response"),
                (false, Kind::Text) => (vec![0xff, 0xfe], "negative length"),
                (false, _) => (vec![0xff, 0xff, 0xff, 0xfe], "negative length"),
            };
            let why = walked(api, version, &with(&body, place, &negative)).unwrap_err();
            assert!(why.starts_with(&format!("{}: {words}", place.path)), "{} v{version}: {why}", api.name);
        }
    });
    eprintln!("{refused} refused");
}

#[test]
fn a_response_that_ends_too_early_is_refused() {
    each_version(|api, version| {
        let (body, _) = written(api, version, FULL);
        for end in 0..body.len() {
            assert!(walked(api, version, &body.slice(..end)).is_err(), "{} v{version} cut at {end}", api.name);
        }
    });
}

fn api(name: &str) -> Api {
    apis().into_iter().find(|api| api.name == name).unwrap()
}

#[test]
fn a_tagged_field_is_as_long_as_it_says() {
    let api = api("ApiVersions");
    let with_tag = |tag: &[u8]| Bytes::from([&[0, 0, 1, 0, 0, 0, 0, 1][..], tag].concat());
    assert_eq!(walked(&api, 3, &with_tag(&[3, 1, 1])), Ok(11));
    let why = walked(&api, 3, &with_tag(&[3, 2, 1, 1])).unwrap_err();
    assert_eq!(why, "tagged field longer than its type at byte 11");
    let why = walked(&api, 3, &with_tag(&[1, 2, 1, 1, 1, 1, 1, 1, 1, 1])).unwrap_err();
    assert_eq!(why, "finalized_features_epoch: response ends too early at byte 10");
    // A tag of v16, which the decoder refuses in v12 as well.
    let fetch = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 1, 1]);
    assert_eq!(walked(&self::api("Fetch"), 12, &fetch).unwrap_err(), "tagged field of another version at byte 14");
}

#[test]
fn text_is_utf_8() {
    let why = walked(&api("FindCoordinator"), 3, &Bytes::from_static(&[0, 0, 0, 0, 0, 0, 3, 0xff, b'a'])).unwrap_err();
    assert_eq!(why, "error_message: string is not UTF-8 at byte 7");
}

#[test]
fn a_long_response_does_not_unfold_without_end() {
    let body = |topics: usize| {
        let mut body = vec![2];
        body.put_i64(7);
        varint(&mut body, u32::try_from(topics).unwrap() + 1);
        body.extend(std::iter::repeat_n([1, 1, 0], topics).flatten());
        body.extend([0, 0]);
        Bytes::from(body)
    };
    let api = api("WriteTxnMarkers");
    // The message itself and the marker are two of them.
    let most = body(ELEMENTS_MAX - 2);
    assert_eq!(walked(&api, 1, &most), Ok(most.len()));
    let why = walked(&api, 1, &body(ELEMENTS_MAX - 1)).unwrap_err();
    assert!(why.starts_with("markers.topics: more elements than any answer has"), "{why}");
    // An unknown tagged field is held, too.
    let mut tags = vec![1];
    varint(&mut tags, u32::try_from(UNKNOWN_TAGS_MAX + 1).unwrap());
    tags.extend(std::iter::repeat_n([9, 0], UNKNOWN_TAGS_MAX + 1).flatten());
    let why = walked(&api, 1, &tags.into()).unwrap_err();
    assert!(why.starts_with("more unknown tagged fields than any answer has"), "{why}");
}

#[test]
fn what_stands_behind_a_response_is_passed_over() {
    let (body, _) = written(&api("EndTxn"), 4, FULL);
    let longer = Bytes::from([&body[..], b"more"].concat());
    assert_eq!(walked(&api("EndTxn"), 4, &longer), Ok(body.len()));
}
