//! Whole files through the parser: what is accepted, what is refused, and where the message points.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use proptest::prelude::*;

mod backups;
mod fleet;
mod heartbeats;
mod security;

use super::options::{Kind, OPTIONS, Scalar};
use super::*;

#[derive(Default)]
struct TestEnv {
    vars: HashMap<&'static str, &'static str>,
    files: HashMap<&'static str, &'static str>,
}

impl Env for TestEnv {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).map(ToString::to_string)
    }

    fn file(&self, path: &str) -> io::Result<String> {
        self.files.get(path).map(ToString::to_string).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn parse_plain(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, "k.yaml", &TestEnv::default())
}

/// Every fault as `LINE:COLUMN KEY MESSAGE`.
fn faults(text: &str) -> Vec<String> {
    faults_in(text, &TestEnv::default())
}

fn faults_in(text: &str, env: &TestEnv) -> Vec<String> {
    let errors = Config::parse(text, "k.yaml", env).expect_err("this file has faults").errors;
    let place = |error: &ConfigError| error.place.map_or("-".to_owned(), |at| format!("{}:{}", at.line, at.column));
    errors.iter().map(|error| format!("{} {} {}", place(error), error.key, error.message)).collect()
}

const ISSUE: &str = r#"clusters:
  primary: { bootstrap: ["127.0.0.1:19092"] }
  standby: { bootstrap: ["127.0.0.1:29092"] }
mirrors:
  - name: dr
    source: primary
    target: standby
    topics: { include: ["orders.*"], exclude: ["orders.tmp.*"] }
    rename: "{topic}"
    start: earliest
limits: { memory: 32MiB }
http: { listen: "127.0.0.1:9644" }
"#;

const CLUSTERS: &str = "clusters: { a: { bootstrap: [h:1] }, b: { bootstrap: [h:2] }, c: { bootstrap: [h:3] } }\n";

/// A file with the mirrors `NAME SOURCE TARGET INCLUDE RENAME`.
fn mirrors(all: &[(&str, &str, &str, &str, &str)]) -> String {
    let mut text = format!("{CLUSTERS}mirrors:\n");
    for (name, source, target, include, rename) in all {
        text += &format!(
            "- {{ name: {name}, source: {source}, target: {target}, topics: {{ include: ['{include}'] }}, \
             rename: '{rename}' }}\n"
        );
    }
    text
}

/// A file with one mirror and these lines in it.
fn one_mirror(lines: &str) -> String {
    format!("{CLUSTERS}mirrors:\n- name: m\n  source: a\n  target: b\n{lines}")
}

#[test]
fn the_way_home_takes_what_was_mirrored_and_gives_it_its_name_back() {
    let text = mirrors(&[("m", "a", "b", "orders.*", "{source}.{topic}")]);
    let mirror = &parse_plain(&text).unwrap().mirrors[0];
    let home = mirror.reversed();
    assert_eq!((home.name.as_str(), home.source.as_str(), home.target.as_str()), ("m.failback", "b", "a"));
    let takes = ["a.orders", "a.orders.eu", "orders", "b.orders", "a.payments"].map(|name| home.topics.matches(name));
    assert_eq!(takes, [true, true, false, false, false]);
    assert_eq!(home.target_topic("a.orders.eu"), "orders.eu");
    assert_eq!(home.rename.invert("orders.eu"), Some("a.orders.eu".to_owned()));
    assert_eq!(home.rename.reversed(), mirror.rename);
}

#[test]
fn the_smallest_useful_file() {
    let config = parse_plain(ISSUE).unwrap();
    let mirror = &config.mirrors[0];
    assert_eq!(config.limits.memory_bytes, 32 << 20);
    assert_eq!(mirror.start, Start::Earliest);
    assert_eq!(mirror.isolation, Isolation::ReadCommitted);
    assert_eq!(mirror.on.truncation, Policy::Halt);
    assert!(mirror.sync.partitions && mirror.sync.topic_configs);
    assert_eq!(mirror.target_topics, TargetTopics::default());
    assert!(mirror.topics.matches("orders.eu") && mirror.topics.matches("orders"));
    assert!(!mirror.topics.matches("orders.tmp.x") && !mirror.topics.matches("my-orders"));
    assert_eq!(mirror.rename.apply("orders.eu"), "orders.eu");
    assert_eq!(config.source(mirror).unwrap().bootstrap[0].to_string(), "127.0.0.1:19092");
    assert_eq!(config.target(mirror).unwrap().client_id_for("dr"), "kmirror.dr");
    assert_eq!(config.http.unwrap().listen.port(), 9644);
    assert_eq!(config.log, LogConfig { level: LogLevel::Info, format: LogFormat::Text });
}

#[test]
fn everything_that_is_built_is_read() {
    let lines = "  topics: { include: [x] }\n  start: 2026-01-31T06:00:00+01:00\n  isolation: read_uncommitted\n  \
                 target_topics: { replication_factor: 2, configs: { retention.ms: 60000, a: '' } }\n  \
                 sync: { topic_configs: false, partitions: false }\n  on: { retention_loss: continue, \
                 source_recreated: continue, truncation: continue, foreign_records: continue, corrupt_batch: continue }\n\
                 log: { level: debug, format: json }\nlimits: { memory: 4MiB }\n";
    let config = parse_plain(&one_mirror(lines)).unwrap();
    let mirror = &config.mirrors[0];
    assert_eq!(mirror.start, Start::Timestamp(1_769_835_600_000));
    assert_eq!(mirror.isolation, Isolation::ReadUncommitted);
    assert_eq!(mirror.target_topics.replication_factor, Some(2));
    let configs = [("a", ""), ("retention.ms", "60000")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(mirror.target_topics.configs, BTreeMap::from(configs));
    assert_eq!(mirror.sync, Sync { topic_configs: false, partitions: false, ..Sync::of_topics() });
    let on = mirror.on;
    let all = [on.retention_loss, on.source_recreated, on.truncation, on.foreign_records, on.corrupt_batch];
    assert_eq!(all, [Policy::Continue; 5]);
    assert_eq!(config.log, LogConfig { level: LogLevel::Debug, format: LogFormat::Json });
    assert_eq!(config.limits.memory_bytes, MEMORY_BYTES_MIN);
    assert!(config.http.is_none());
}

#[test]
fn faults_come_together_each_with_its_place() {
    let text = "clusters:\n  a: { bootstrap: [nohost] }\n  b: { bootsrap: [h:2] }\nmirrors:\n  - name: m\n    name: n\n    \
                source: a\n    topics: { include: [\"a(b\", 'z'] }\n    isolation: commited\nlimits: { memory: 1MiB }\n";
    let all = faults(text);
    let expected = [
        "2:20 clusters.a.bootstrap[0] \"nohost\" lacks the port",
        "3:8 clusters.b.bootsrap unknown key; did you mean bootstrap?",
        "5:5 mirrors[0].target is missing",
        "6:5 mirrors[0].name repeated; it stands already in line 5",
        // The column is that of the open bracket within the pattern.
        "8:27 mirrors[0].topics.include[0] \"a(b\" is not a regular expression: unclosed group (at character 2)",
        "9:16 mirrors[0].isolation \"commited\" is none of read_committed, read_uncommitted",
        "10:19 limits.memory \"1MiB\" is not a size in bytes, such as 10MiB, at least 4MiB",
    ];
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    for (fault, expected) in all.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{fault:?} does not begin with {expected:?}");
    }
    let shown = parse_plain(text).unwrap_err().to_string();
    assert!(shown.starts_with("k.yaml:2:20: clusters.a.bootstrap[0]: "), "{shown}");
}

#[test]
fn what_follows_the_source_beside_records() {
    let of = |sync: &str| one_mirror(&format!("  topics: {{ include: [x] }}\n  sync: {sync}\n"));
    let sync = |text: &str| parse_plain(&of(text)).unwrap().mirrors[0].sync;
    let seconds = std::time::Duration::from_secs;
    assert_eq!(sync("{}"), Sync::of_topics());
    let all = sync("{ acls: true, quotas: true, scram_users: true, deletions: true, interval: 5s }");
    assert!(all.acls && all.quotas && all.scram_users && all.interval == seconds(5));
    assert_eq!(all.deletions, Some(seconds(24 * 3600)));
    assert_eq!(sync("{ deletions: true, deletions_grace: 7d }").deletions, Some(seconds(7 * 24 * 3600)));
    assert_eq!(sync("{ deletions_grace: 7d }").deletions, None);
    // On the way home no topic of the old source is deleted.
    let home = parse_plain(&of("{ acls: true, deletions: true }")).unwrap().mirrors[0].reversed();
    assert!(home.sync.acls && home.sync.deletions.is_none());
    let fault = faults(&of("{ interval: 500ms }"));
    assert!(fault.len() == 1 && fault[0].starts_with("7:21 mirrors[0].sync.interval is too short"), "{fault:?}");
}

#[test]
fn groups_are_chosen_by_their_whole_id() {
    let of = |groups: &str| one_mirror(&format!("  topics: {{ include: [x] }}\n  groups: {groups}\n"));
    let config = parse_plain(&of("{ include: ['billing.*', audit], exclude: ['.*-test'], interval: 30s }")).unwrap();
    let groups = config.mirrors[0].groups.clone().unwrap();
    assert_eq!(groups.interval, std::time::Duration::from_secs(30));
    let taken =
        ["billing", "billing-7", "audit", "audits", "billing-test", "my-billing"].map(|id| groups.filter.matches(id));
    assert_eq!(taken, [true, true, true, false, false, false]);
    let all = parse_plain(&of("{ include: ['.*'] }")).unwrap().mirrors[0].groups.clone().unwrap();
    assert_eq!(all.interval, std::time::Duration::from_secs(5));
    // kmirror's own, here and on the clusters of a chain.
    let taken = ["anything", "", "__kmirror.dr", "__kmirror.dr/billing"].map(|id| all.filter.matches(id));
    assert_eq!(taken, [true, false, false, false]);
    assert!(parse_plain(&one_mirror("  topics: { include: [x] }\n")).unwrap().mirrors[0].groups.is_none());
    for (groups, fault) in [
        ("{ exclude: [x] }", "7:11 mirrors[0].groups.include is missing"),
        ("{ include: ['('] }", "7:24 mirrors[0].groups.include[0] \"(\" is not a regular expression"),
        ("{ include: [x], interval: 500ms }", "7:37 mirrors[0].groups.interval is too short"),
    ] {
        let all = faults(&of(groups));
        assert!(all.len() == 1 && all[0].starts_with(fault), "{groups}: {all:#?}");
    }
}

#[test]
fn substitutions_are_text_and_never_yaml() {
    let env = TestEnv {
        vars: HashMap::from([("RF", "3"), ("PORT", "9092"), ("EVIL", "x]\ninjected: true"), ("SIZE", "64MiB")]),
        files: HashMap::from([("id.txt", "from a file\n"), ("sync", "false")]),
    };
    let text = one_mirror(
        "  topics: { include: [\"a$\", \"x${1}\", \"$${env:RF}\"] }\n  \
         target_topics: { replication_factor: \"${env:RF}\", configs: { k: \"${env:EVIL}\" } }\n  \
         sync: { partitions: \"${file:sync}\" }\nlimits: { memory: \"${env:SIZE}\" }\n",
    )
    .replace("a: { bootstrap: [h:1] }", "a: { bootstrap: [\"h:${env:PORT}\"], client_id: \"<${file:id.txt}>\" }")
    .replace(", \"x${1}\", \"$${env:RF}\"", "");
    let config = Config::parse(&text, "k.yaml", &env).unwrap();
    assert_eq!(config.clusters["a"].bootstrap[0].port, 9092);
    assert_eq!(config.clusters["a"].client_id.as_deref(), Some("<from a file>"));
    assert_eq!(config.mirrors[0].target_topics.replication_factor, Some(3));
    assert_eq!(config.mirrors[0].target_topics.configs["k"], "x]\ninjected: true");
    assert!(!config.mirrors[0].sync.partitions);
    assert_eq!(config.limits.memory_bytes, 64 << 20);
}

#[test]
fn what_a_substitution_brings_in_is_in_no_message() {
    let env = TestEnv { vars: HashMap::from([("S", "hunter2(")]), files: HashMap::from([("f", "hunter2{")]) };
    for (key, kind) in OPTIONS.iter().map(|o| (o.path, o.kind)) {
        let (Kind::One(scalar) | Kind::Many(scalar)) = kind else { continue };
        if matches!(scalar, Scalar::Text | Scalar::Verbatim | Scalar::Secret) {
            continue;
        }
        for value in ["${env:S}", "${file:f}"] {
            let text = written_at(key, kind, value);
            let all = faults_in(&text, &env);
            assert!(all.iter().any(|fault| fault.contains(value)), "{key}: {all:#?}\n{text}");
            assert!(!all.iter().any(|fault| fault.contains("hunter2")), "{key}: {all:#?}");
        }
    }
}

/// A file in which this key has this value.
fn written_at(key: &str, kind: Kind, value: &str) -> String {
    let item = if matches!(kind, Kind::Many(_)) { format!("['{value}']") } else { format!("'{value}'") };
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap();
    let mut text = format!("{{ {last}: {item} }}");
    for part in parts.iter().rev() {
        text = match (part.strip_suffix("[]"), *part) {
            (Some(list), _) => format!("{{ {list}: [{text}] }}"),
            (None, "*") => format!("{{ a: {text} }}"),
            (None, section) => format!("{{ {section}: {text} }}"),
        };
    }
    text
}

#[test]
fn substitutions_that_fail_name_what_is_missing() {
    let fault = |value: &str| {
        let text = one_mirror("  topics: { include: [x] }\n").replace("[h:1]", &format!("[h:1], client_id: '{value}'"));
        faults(&text).concat()
    };
    assert_eq!(
        fault("${env:NOPE}"),
        "1:47 clusters.a.client_id the environment variable NOPE is not set (or is not UTF-8)"
    );
    assert!(fault("a${file:no/pe}").contains("the file no/pe cannot be read"));
    assert!(fault("${vault:x}").contains("known are ${env:NAME} and ${file:PATH}"));
    assert!(fault("${env:X").contains("is not closed"));
    assert!(fault("${env:}").contains("lacks a name"));
}

#[test]
fn two_sources_for_one_target_topic_are_refused() {
    let same = mirrors(&[("x", "a", "c", "orders.*", "{topic}"), ("y", "b", "c", "(?:orders|bills)", "{topic}")]);
    let all = faults(&same);
    assert!(
        all[0].contains("mirrors[1].topics two sources for one target topic: orders of mirror x and orders of"),
        "{all:?}"
    );
    let by_suffix = mirrors(&[("x", "a", "c", "eu.orders", "{topic}"), ("y", "b", "c", "orders", "eu.{topic}")]);
    assert!(faults(&by_suffix)[0].contains("eu.orders of mirror x and orders of mirror y"), "{:?}", faults(&by_suffix));
    for apart in [
        [("x", "a", "c", "orders.*", "{source}.{topic}"), ("y", "b", "c", "orders.*", "{source}.{topic}")],
        [("x", "a", "c", "orders", "{topic}"), ("y", "b", "c", "bills", "{topic}")],
        [("x", "a", "b", "orders", "{topic}"), ("y", "a", "c", "orders", "{topic}")],
    ] {
        parse_plain(&mirrors(&apart)).unwrap();
    }
}

#[test]
fn conflicts_among_real_topics_are_found() {
    let config =
        parse_plain(&mirrors(&[("x", "a", "c", "t[0-4]", "{topic}"), ("y", "b", "c", "[a-t][1-9]", "{topic}")]))
            .unwrap();
    let (x, y) = (&config.mirrors[0], &config.mirrors[1]);
    assert_eq!(conflicts(&[(x, "t1"), (x, "t4"), (y, "t5")]), []);
    let found = conflicts(&[(x, "t1"), (x, "t4"), (x, "t4"), (y, "t4"), (y, "t5")]);
    let claims = vec![("x".to_owned(), "t4".to_owned()), ("y".to_owned(), "t4".to_owned())];
    assert_eq!(found, [Conflict { target: "c".to_owned(), target_topic: "t4".to_owned(), claims }]);
}

#[test]
fn records_never_run_in_circles() {
    for circle in [
        vec![("x", "a", "b", ".*", "{topic}"), ("y", "b", "a", "orders", "{topic}")],
        // Names that grow with each round.
        vec![("x", "a", "b", ".*", "{source}.{topic}"), ("y", "b", "a", ".*", "{source}.{topic}")],
        vec![("x", "a", "b", "u*t", "{topic}"), ("y", "b", "c", "u*t", "u{topic}"), ("z", "c", "a", "u*t", "{topic}")],
    ] {
        let all = faults(&mirrors(&circle));
        assert!(all[0].contains("].topics records would run in a circle"), "{all:?}");
    }
    // ut comes back to a, but x takes t alone.
    let line = [("x", "a", "b", "t", "{topic}"), ("y", "b", "c", "t", "u{topic}"), ("z", "c", "a", "u+t", "{topic}")];
    parse_plain(&mirrors(&line)).unwrap();
}

#[test]
fn two_ways_between_two_clusters_are_fine_when_kept_apart() {
    let text = format!(
        "{CLUSTERS}mirrors:\n\
         - {{ name: x, source: a, target: b, topics: {{ include: ['.*'], exclude: ['b\\..*'] }}, rename: '{{source}}.{{topic}}' }}\n\
         - {{ name: y, source: b, target: a, topics: {{ include: ['.*'], exclude: ['a\\..*'] }}, rename: '{{source}}.{{topic}}' }}\n"
    );
    let config = parse_plain(&text).unwrap();
    assert_eq!(config.circle(&config.mirrors[0], "orders"), None);
    let line = mirrors(&[("x", "a", "b", "t[0-4]", "{topic}"), ("y", "b", "a", "[a-t][3-7]", "{topic}")]);
    let config = parse_plain(&line).unwrap();
    assert_eq!(config.circle(&config.mirrors[0], "t1"), None);
    let hops = ["x", "y", "x"].map(|mirror| (mirror.to_owned(), "t4".to_owned()));
    assert_eq!(config.circle(&config.mirrors[0], "t4"), Some(hops.to_vec()));
}

#[test]
fn names_that_refer_to_nothing_or_twice() {
    let fault = |text: &str| faults(text).concat();
    let unknown = mirrors(&[("x", "a", "nope", "t", "{topic}")]);
    assert!(fault(&unknown).contains("mirrors[0].target no cluster has this name; clusters are: a, b, c"));
    assert!(fault(&mirrors(&[("x", "a", "a", "t", "{topic}")])).contains("mirrors[0].target is the source"));
    let twice = [("x", "a", "b", "t", "{topic}"), ("x", "a", "c", "t", "{topic}")];
    assert!(fault(&mirrors(&twice)).contains("mirrors[1].name mirrors[0] has this name already"));
    let alike = [("x.y", "a", "b", "t", "{topic}"), ("x_y", "a", "c", "t", "{topic}")];
    assert!(fault(&mirrors(&alike)).contains("differs from x.y only in '.' and '_'"));
    assert!(fault(&mirrors(&[("x y", "a", "b", "t", "{topic}")])).contains("mirrors[0].name \"x y\" is not a name"));
    let shared = "clusters: { a: { bootstrap: [h:1] }, b: { bootstrap: [g:1, h:1] } }\nmirrors:\n- { name: x, source: a, \
                  target: b, topics: { include: [t] } }\n";
    assert!(fault(shared).contains("clusters.b.bootstrap[1] is also a bootstrap address of cluster a"));
    let late = one_mirror(
        "  topics: { include: [t] }\n  target_topics: { configs: { message.timestamp.type: LogAppendTime } }\n",
    );
    assert!(fault(&late).contains("7:55 mirrors[0].target_topics.configs.message.timestamp.type must be CreateTime"));
}

#[test]
fn text_that_is_no_configuration() {
    for (text, expected) in [
        ("", "1:1 clusters is missing"),
        ("[1, 2]", "1:1  takes a mapping of keys to values, not a list"),
        ("a: b: c", "not YAML"),
        ("a: [", "not YAML"),
        ("---\na: 1\n---\nb: 1\n", "a second YAML document"),
        ("a: !tag x", "YAML tags"),
        ("? [a]\n: b", "a key must be plain text"),
        ("a: &x [*x]", "an alias to a value that is not complete yet"),
        ("clusters: {}\nmirrors: []", "takes sections by name, not an empty mapping"),
        ("limits: [1]", "limits takes a mapping of keys to values, not a list"),
        ("limits: { memory: }", "limits.memory takes a size in bytes, such as 10MiB, at least 4MiB, not nothing"),
        ("limits.memory: 1", "1:1 limits.memory unknown key"),
        ("mirrors: [{ topics: { include: [] } }]", "mirrors[0].topics.include takes a list, each a regular"),
    ] {
        let all = faults(text);
        assert!(all.iter().any(|fault| fault.contains(expected)), "{text:?}: {all:#?}");
    }
}

#[test]
fn aliases_are_followed_and_bounded() {
    let config =
        parse_plain(&one_mirror("  topics: &t { include: [x] }\n- name: n\n  source: a\n  target: c\n  topics: *t\n"));
    assert!(config.unwrap().mirrors[1].topics.matches("x"));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..9 {
        let before = vec![format!("*a{}", i - 1); 9].join(", ");
        bomb += &format!("a{i}: &a{i} [{before}]\n");
    }
    assert!(faults(&bomb).iter().any(|fault| fault.contains("aliases written out")));
    let deep = format!("a: {}{}", "[".repeat(200), "]".repeat(200));
    assert!(faults(&deep).iter().any(|fault| fault.contains("nested more than") || fault.contains("not YAML")));
}

#[test]
fn what_is_shown_is_complete_and_reads_as_the_same() {
    let Loaded { config, written } = parse(ISSUE, "k.yaml", &TestEnv::default()).unwrap();
    let shown = written.shown;
    let text = serde_yaml::to_string(&shown).unwrap();
    assert!(text.contains("isolation: read_committed") && text.contains("retention_loss: halt"), "{text}");
    let Loaded { config: again, written } = parse(&text, "shown.yaml", &TestEnv::default()).unwrap();
    assert_eq!(shown, written.shown);
    assert_eq!(format!("{config:?}"), format!("{again:?}"));

    let env = TestEnv { vars: HashMap::from([("ID", "hunter2")]), ..TestEnv::default() };
    let secret = ISSUE.replace("19092\"]", "19092\"], client_id: \"${env:ID}\"");
    let shown = parse(&secret, "k.yaml", &env).unwrap().written.shown;
    let text = serde_yaml::to_string(&shown).unwrap();
    assert!(text.contains("client_id: ${env:ID}") && !text.contains("hunter2"), "{text}");
}

#[test]
fn the_table_holds_together() {
    let paths: BTreeSet<&str> = OPTIONS.iter().map(|option| option.path).collect();
    assert_eq!(paths.len(), OPTIONS.len(), "a path stands twice");
    for option in OPTIONS {
        assert!(option.doc.ends_with('.'), "{}: {}", option.path, option.doc);
        assert!(!(option.required && option.default.is_some()), "{}", option.path);
        if let Some((section, _)) = option.path.rsplit_once('.') {
            let section = section.trim_end_matches(".*").trim_end_matches("[]");
            assert!(options::find(section).is_some(), "{} has no section", option.path);
        }
    }
}

/// The keys of the schema as paths of the table.
fn schema_paths(schema: &serde_json::Value, at: &str, into: &mut BTreeSet<String>) {
    let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) else { return };
    assert_eq!(schema["additionalProperties"], serde_json::json!(false), "{at} takes unknown keys");
    for (key, property) in properties {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        schema_paths(property, &path, into);
        schema_paths(&property["items"], &format!("{path}[]"), into);
        if let Some(named) = property.get("additionalProperties") {
            schema_paths(named, &format!("{path}.*"), into);
        }
        assert!(property["description"].is_string(), "{path} has no description");
        into.insert(path);
    }
}

#[test]
fn schema_and_table_know_the_same_keys() {
    let mut in_schema = BTreeSet::new();
    schema_paths(&json_schema(), "", &mut in_schema);
    let in_table: BTreeSet<String> = OPTIONS.iter().map(|option| option.path.to_owned()).collect();
    assert_eq!(in_schema, in_table);
}

#[test]
fn the_schema_carries_defaults_and_bounds() {
    let schema = json_schema();
    assert_eq!(schema["required"], serde_json::json!(["clusters"]));
    assert_eq!(schema["anyOf"][1]["required"], serde_json::json!(["backups"]));
    let mirror = &schema["properties"]["mirrors"]["items"];
    assert_eq!(mirror["required"], serde_json::json!(["name", "source", "target", "topics"]));
    assert_eq!(mirror["properties"]["topics"]["properties"]["exclude"]["default"][0], "__.*");
    assert_eq!(schema["properties"]["limits"]["properties"]["memory"]["default"], "32MiB");
    assert!(schema["properties"]["limits"].get("required").is_none());
}

fn project_file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn the_written_reference_is_current() {
    let current = project_file("configs/REFERENCE.md") == reference_markdown();
    assert!(current, "write it anew: cargo run -- config reference > configs/REFERENCE.md");
}

#[test]
fn every_example_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let env = TestEnv {
                vars: HashMap::from([
                    ("KMIRROR_SOURCE", "127.0.0.1:19092"),
                    ("KMIRROR_TARGET", "127.0.0.1:29092"),
                    ("BACKUP_ACCESS_KEY_ID", "id"),
                    ("BACKUP_SECRET_ACCESS_KEY", "secret"),
                ]),
                files: HashMap::from([("/run/secrets/standby-password", "secret")]),
            };
            let text = std::fs::read_to_string(&path).unwrap();
            let config = Config::parse(&text, &path.display().to_string(), &env).unwrap_or_else(|e| panic!("{e}"));
            assert!(!config.mirrors.is_empty() || !config.backups.is_empty());
            seen += 1;
        }
    }
    assert!(seen >= 8, "only {seen} examples");
}

/// Text that is near enough to a configuration to get past the first check.
fn near_yaml() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "clusters",
        "mirrors",
        "topics",
        "include",
        "limits",
        "memory",
        "a",
        ": ",
        ":\n  ",
        "\n",
        "\n- ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "\"",
        "'",
        "&x ",
        "*x",
        "!t",
        "|\n ",
        ">-\n  ",
        "#",
        "---\n",
        "...\n",
        "\t",
        "?",
        "${env:",
        "${",
        "}",
        "$$",
        "é",
        "\u{0}",
        "\u{feff}",
        "1e99PiB",
        "-1",
        "(",
        "(?x)",
        "{topic}",
        "2026-01-31T06:00:00Z",
        "h:1",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

/// The issue's file with a piece cut out and another put in.
fn mutated() -> impl Strategy<Value = String> {
    (0..ISSUE.len(), 0..12usize, near_yaml()).prop_map(|(at, cut, put)| {
        let bytes =
            [&ISSUE.as_bytes()[..at], put.as_bytes(), ISSUE.as_bytes().get(at + cut..).unwrap_or_default()].concat();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in prop_oneof![any::<String>(), near_yaml(), mutated()]) {
        match parse_plain(&text) {
            Ok(config) => prop_assert!(!config.mirrors.is_empty() || !config.backups.is_empty()),
            Err(errors) => {
                prop_assert!(!errors.errors.is_empty());
                let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
                prop_assert!(errors.errors.iter().all(|e| e.place.is_some_and(|p| p.line <= lines && p.column > 0)), "{errors:?}");
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_value_panics(value in any::<String>()) {
        let quoted = serde_json::to_string(&value).unwrap_or_default();
        for (key, kind) in OPTIONS.iter().map(|o| (o.path, o.kind)) {
            if matches!(kind, Kind::One(_) | Kind::Many(_)) {
                let text = written_at(key, kind, "VALUE").replace("'VALUE'", &quoted);
                prop_assert!(parse_plain(&text).is_err());
            }
        }
    }
}
