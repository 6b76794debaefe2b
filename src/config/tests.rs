//! Whole files through the parser.

use std::collections::HashMap;
use std::io;

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

#[test]
fn the_smallest_useful_file() {
    let config = parse_plain(ISSUE).unwrap();
    let mirror = &config.mirrors[0];
    assert_eq!(config.limits.memory_bytes, 32 << 20);
    assert_eq!(mirror.start, Start::Earliest);
    assert_eq!(mirror.isolation, Isolation::ReadCommitted);
    assert_eq!(mirror.on.truncation, Policy::Halt);
    assert!(mirror.sync.partitions && mirror.sync.topic_configs);
    assert!(mirror.topics.matches("orders.eu") && mirror.topics.matches("orders"));
    assert!(!mirror.topics.matches("orders.tmp.x") && !mirror.topics.matches("my-orders"));
    assert_eq!(mirror.rename.apply("orders.eu"), "orders.eu");
    assert_eq!(config.source(mirror).unwrap().bootstrap[0].to_string(), "127.0.0.1:19092");
    assert_eq!(config.http.unwrap().listen.port(), 9644);
}
