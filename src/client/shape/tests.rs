//! The layouts against `kafka-protocol` and against bytes of Kafka's own. Bytes are made by the layouts, and count only where
//! the crate reads them and writes the same again.

use bytes::{BufMut, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message};

use super::super::connection::api_name;
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
    again: fn(i16, Bytes) -> Option<(Bytes, usize)>,
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
            versions: [R::VERSIONS, R::Response::VERSIONS].map(|range| (range.min, range.max)),
            flexible: |version| R::Response::header_version(version) >= 1,
            empty: |version| encoded(&R::Response::default(), version),
            again: |version, mut body| {
                let response = R::Response::decode(&mut body, version).ok()?;
                Some((encoded(&response, version), body.len()))
            },
            decode: |version, body| decode::<R>(version, body).map(|_| ()),
        });
    }
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
    /// This length is null, counted from the first, whatever its field allows.
    null_at: Option<usize>,
}

const FULL: Plan = Plan { elements: 2, nulls: false, tags: true, null_at: None };
const UNKNOWN_TAG: u32 = 300;

struct Writer {
    version: i16,
    flexible: bool,
    plan: Plan,
    out: Vec<u8>,
    path: Vec<&'static str>,
    places: Vec<Place>,
}

fn written(api: &Api, version: i16, plan: Plan) -> (Bytes, Vec<Place>) {
    let flexible = version >= api.layout.flexible;
    let mut writer = Writer { version, flexible, plan, out: Vec::new(), path: Vec::new(), places: Vec::new() };
    writer.structure(api.layout.fields);
    (writer.out.into(), writer.places)
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
        let present = |field: &&Field| field.is_in(self.version);
        let fields: Vec<&'static Field> = fields.iter().filter(present).collect();
        fields.iter().filter(|field| field.tag.is_none()).for_each(|field| self.field(field));
        if !self.flexible {
            return;
        }
        let mut tagged: Vec<&'static Field> = fields.into_iter().filter(|field| field.tag.is_some()).collect();
        if !self.plan.tags {
            return self.out.push(0);
        }
        tagged.sort_by_key(|field| field.tag);
        varint(&mut self.out, tagged.len() as u32 + 1);
        for field in tagged {
            varint(&mut self.out, field.tag.unwrap());
            // The size goes in front of what it measures: written twice, as it moves what is behind.
            let (start, places) = (self.out.len(), self.places.clone());
            self.field(field);
            let size = self.out.len() - start;
            self.out.truncate(start);
            self.places = places;
            varint(&mut self.out, size as u32);
            self.field(field);
        }
        varint(&mut self.out, UNKNOWN_TAG);
        varint(&mut self.out, 3);
        self.out.extend_from_slice(b"abc");
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
        let capped = ["Fetch", "FindCoordinator", "ApiVersions", "AddPartitionsToTxn", "EndTxn"].contains(&api.name);
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

#[test]
fn what_the_crate_writes_is_walked_to_its_end() {
    let mut bodies = 0;
    each_version(|api, version| {
        let empty = (api.empty)(version);
        assert_eq!(walked(api, version, &empty), Ok(empty.len()), "{} v{version}, empty", api.name);
        for (elements, nulls, tags) in [(2, false, true), (2, true, true), (1, false, false), (0, true, false)] {
            let (body, _) = written(api, version, Plan { elements, nulls, tags, null_at: None });
            let case = format!("{} v{version}, {elements} elements, nulls {nulls}, tags {tags}", api.name);
            assert_eq!((api.again)(version, body.clone()), Some((body.clone(), 0)), "{case}");
            assert_eq!(walked(api, version, &body), Ok(body.len()), "{case}");
            assert_eq!((api.decode)(version, body), Ok(()), "{case}");
            bodies += 1;
        }
    });
    eprintln!("{bodies} bodies");
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
        ("FindCoordinator", 3, "find_coordinator"),
        ("InitProducerId", 5, "init_producer_id"),
        ("InitProducerId", 5, "init_producer_id_current"),
        ("AddPartitionsToTxn", 3, "add_partitions"),
        ("EndTxn", 4, "end_txn"),
        ("DescribeProducers", 0, "describe_producers"),
        ("WriteTxnMarkers", 1, "write_txn_markers"),
        ("CreateTopics", 7, "create_topics"),
        ("CreatePartitions", 3, "create_partitions"),
        ("DescribeConfigs", 4, "describe_configs"),
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
fn null_is_what_the_crate_takes_for_null() {
    each_version(|api, version| {
        let (_, places) = written(api, version, FULL);
        for (index, place) in places.into_iter().enumerate() {
            let (body, _) = written(api, version, Plan { null_at: Some(index), ..FULL });
            let nullable = place.field.nullable <= version;
            let outcome = walked(api, version, &body);
            assert_eq!(outcome.is_ok(), nullable, "{} v{version} {}: {outcome:?}", api.name, place.path);
            // Nullable from v12 on, which the crate does not tell apart.
            if (api.name, place.path.as_str()) != ("Metadata", "topics.name") {
                let decoded = (api.again)(version, body).is_some();
                assert_eq!(decoded, nullable, "{} v{version} {}", api.name, place.path);
            }
        }
    });
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
    varint(&mut tags, u32::try_from(ELEMENTS_MAX).unwrap());
    tags.extend(std::iter::repeat_n([9, 0], ELEMENTS_MAX).flatten());
    let why = walked(&api, 1, &tags.into()).unwrap_err();
    assert!(why.starts_with("more elements than any answer has"), "{why}");
}

#[test]
fn what_stands_behind_a_response_is_passed_over() {
    let (body, _) = written(&api("EndTxn"), 4, FULL);
    let longer = Bytes::from([&body[..], b"more"].concat());
    assert_eq!(walked(&api("EndTxn"), 4, &longer), Ok(body.len()));
}
