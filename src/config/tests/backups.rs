//! The `backups:` section.

use std::time::Duration;

use super::*;

/// A file with one backup and these lines in it.
fn one_backup(lines: &str) -> String {
    format!(
        "clusters: {{ a: {{ bootstrap: [h:1] }} }}\nbackups:\n- name: b\n  cluster: a\n  topics: {{ include: [orders.*] \
         }}\n{lines}"
    )
}

fn to(url: &str) -> String {
    one_backup(&format!("  to: [{{ url: '{url}' }}]\n"))
}

const TO: &str = "  to: [{ url: memory:// }]\n";

#[test]
fn a_file_of_backups_needs_no_mirrors() {
    let config = parse_plain(&one_backup(TO)).unwrap();
    assert!(config.mirrors.is_empty());
    let [backup] = &config.backups[..] else { panic!("{:?}", config.backups) };
    assert_eq!((backup.name.as_str(), backup.cluster.as_str()), ("b", "a"));
    let taken = ["orders", "orders.eu", "my-orders", "orders.internal", "__consumer_offsets"];
    assert_eq!(taken.map(|topic| backup.topics.matches(topic)), [true, true, false, false, false]);
    let taken = ["any", "__kmirror.dr", ""];
    assert_eq!(taken.map(|group| backup.groups.matches(group)), [true, false, false]);
    assert!(!backup.synchronous.matches("orders"));
    assert_eq!(backup.isolation, Isolation::ReadCommitted);
    assert_eq!((backup.interval, backup.full_every), (Duration::from_secs(300), Duration::from_secs(7 * 24 * 3600)));
    assert_eq!((backup.keep, backup.parallel, backup.segment_bytes), (4, 4, 64 << 20));
    assert_eq!((backup.compression, &backup.encryption, &backup.signing), (Compression::Zstd, &None, &None));
    assert_eq!(backup.limits.bandwidth_bytes_per_s, None);

    let neither = faults("clusters: { a: { bootstrap: [h:1] } }\n").concat();
    assert!(neither.contains("mirrors is missing (a list of sections), and so is backups"), "{neither}");
}

#[test]
fn everything_of_a_backup_is_read() {
    let lines = "  groups: { include: [g.*], exclude: [g.tmp] }\n  \
                 to: [{ url: 'file:///v/k', options: {} }, { url: 's3://b/p', options: { aws_allow_http: true } }]\n  \
                 isolation: read_uncommitted\n  interval: 1s\n  full_every: 1h\n  keep: 1\n  compression: none\n  \
                 encryption: { key: { command: print key }, old_keys: [{ env: OLD }, { file: /k }] }\n  \
                 signing: { key: { env: _SIGN_1 } }\n  segment_bytes: 1MiB\n  parallel: 64\n  synchronous: [orders.eu]\n  \
                 limits: { bandwidth: 1MiB }\n";
    let config = parse_plain(&one_backup(lines)).unwrap();
    let backup = &config.backups[0];
    assert_eq!(["g1", "g.tmp", "h"].map(|group| backup.groups.matches(group)), [true, false, false]);
    let destination = |url: &str, options: &[(&str, &str)]| DestinationConfig {
        url: url.to_owned(),
        options: options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    assert_eq!(backup.to, [destination("file:///v/k", &[]), destination("s3://b/p", &[("aws_allow_http", "true")])]);
    assert_eq!(backup.isolation, Isolation::ReadUncommitted);
    assert_eq!((backup.interval, backup.full_every), (Duration::from_secs(1), Duration::from_secs(3600)));
    assert_eq!((backup.keep, backup.parallel, backup.segment_bytes), (1, 64, SEGMENT_BYTES_MIN));
    assert_eq!(backup.compression, Compression::None);
    let encryption = backup.encryption.clone().unwrap();
    assert_eq!(encryption.key, KeySource::Command("print key".to_owned()));
    assert_eq!(encryption.old_keys, [KeySource::Env("OLD".to_owned()), KeySource::File("/k".into())]);
    assert_eq!(backup.signing.clone().unwrap().key, KeySource::Env("_SIGN_1".to_owned()));
    assert_eq!(["orders.eu", "orders"].map(|topic| backup.synchronous.matches(topic)), [true, false]);
    assert_eq!(backup.limits.bandwidth_bytes_per_s, Some(1 << 20));
}

#[test]
fn faults_of_a_backup_have_their_place() {
    for (lines, expected) in [
        ("", "3:3 backups[0].to is missing"),
        ("  to: []\n", "6:7 backups[0].to takes a list of sections, not an empty list"),
        ("  to: [{ options: {} }]\n", "6:8 backups[0].to[0].url is missing"),
        (
            "  to: [{ url: memory://, options: [a] }]\n",
            "6:35 backups[0].to[0].options takes a mapping of names to values",
        ),
        ("  keep: 0\n", "6:9 backups[0].keep \"0\" is not a whole number from 1"),
        ("  parallel: 65\n", "6:13 backups[0].parallel \"65\" is not a whole number from 1 to 64"),
        ("  interval: 999ms\n", "6:13 backups[0].interval is too short"),
        ("  full_every: 0s\n", "6:15 backups[0].full_every is too short"),
        ("  segment_bytes: 1023KiB\n", "6:18 backups[0].segment_bytes \"1023KiB\" is not a size"),
        ("  compression: lz4\n", "6:16 backups[0].compression \"lz4\" is none of none, zstd"),
        ("  limits: { bandwidth: 1KiB }\n", "6:24 backups[0].limits.bandwidth \"1KiB\" is not a size"),
        ("  synchronous: ['a(b']\n", "6:19 backups[0].synchronous[0] \"a(b\" is not a regular expression"),
        ("  groups: { include: [')'] }\n", "6:24 backups[0].groups.include[0] \")\" is not a regular expression"),
        ("  cluster: x\n", "6:3 backups[0].cluster repeated; it stands already in line 4"),
        ("  encryption: {}\n", "6:15 backups[0].encryption.key is missing"),
        ("  signing: { key: { env: 'A-B' } }\n", "6:26 backups[0].signing.key.env \"A-B\" is not the name of an"),
        (
            "  encryption: { key: {} }\n",
            "6:22 backups[0].encryption.key takes exactly one of file, env and command, not none",
        ),
        (
            "  encryption:\n    key: { env: A }\n    old_keys:\n    - { env: A }\n    - { file: f, command: c }\n",
            "10:7 backups[0].encryption.old_keys[1] takes exactly one of file, env and command, not file and command",
        ),
    ] {
        let destination = if lines.is_empty() || lines.contains("  to:") { "" } else { TO };
        let all = faults(&one_backup(&format!("{lines}{destination}")));
        assert!(all.len() == 1 && all[0].starts_with(expected), "{lines:?}: {all:#?}");
    }
}

#[test]
fn names_and_clusters_of_backups_are_checked() {
    let first = one_backup(TO);
    let again = format!("{first}- {{ name: b, cluster: a, topics: {{ include: [x] }}, to: [{{ url: memory:// }}] }}\n");
    assert_eq!(faults(&again), ["7:11 backups[1].name backups[0] has this name already"]);
    let unknown = first.replace("cluster: a", "cluster: x");
    assert_eq!(faults(&unknown), ["4:12 backups[0].cluster no cluster has this name; clusters are: a"]);
    let folder = first.replace("name: b", "name: ..");
    assert!(
        faults(&folder)[0].starts_with("3:9 backups[0].name cannot be the name of a folder"),
        "{:?}",
        faults(&folder)
    );
}

#[test]
fn destinations_are_urls_of_known_stores() {
    for good in [
        "file:///var/backups/kafka",
        "s3://bucket",
        "s3://bucket/prefix/deep",
        "gs://bucket/p",
        "az://container/p",
        "abfss://container@account.dfs.core.windows.net/p",
        "memory://",
        "memory:///p",
        "hdfs://namenode:9000/backups",
        "hdfs:///backups",
    ] {
        assert_eq!(parse_plain(&to(good)).unwrap_or_else(|e| panic!("{good}: {e}")).backups[0].to[0].url, good);
    }
    for (bad, problem) in [
        ("/var/backups", "\"/var/backups\" is not a URL"),
        ("file:/var/backups", "\"file:/var/backups\" is not a URL"),
        ("file:///a b", "\"file:///a b\" is not a URL"),
        ("file://var/backups", "\"file://var/backups\" has a relative path"),
        ("file:///", "\"file:///\" names no folder"),
        (
            "https://host/x",
            "\"https://host/x\" has a scheme that is none of file, s3, gs, az, abfs, abfss, memory, hdfs",
        ),
        ("s3:///prefix", "\"s3:///prefix\" lacks the bucket or container: write s3://NAME/prefix"),
        // What may be a password is in no message.
        ("s3://me:hunter2@bucket/p", "holds a user or a password"),
        ("s3://hunter2@bucket/p", "holds a user or a password"),
        ("abfss://container:hunter2@account/p", "holds a user or a password"),
        ("az://container/p?sig=hunter2", "holds a query or a fragment"),
        ("s3://bucket/p#hunter2", "holds a query or a fragment"),
        ("s3://me:hunter2 @bucket", "is not a URL"),
    ] {
        let all = faults(&to(bad));
        let expected = format!("6:15 backups[0].to[0].url {problem}");
        assert!(all.len() == 1 && all[0].starts_with(&expected), "{bad}: {all:#?}");
        assert!(!all[0].contains("hunter2"), "{all:?}");
    }
    let twice = one_backup("  to: [{ url: 's3://b/p' }, { url: 'gs://b/p' }, { url: 's3://b/p/' }]\n");
    assert_eq!(faults(&twice), ["6:57 backups[0].to[2].url is also to[0]: two copies at one place are one"]);
}

#[test]
fn secrets_of_backups_are_shown_nowhere() {
    let env = TestEnv { vars: HashMap::from([("S", "hunter2")]), ..TestEnv::default() };
    let text = one_backup(
        "  to: [{ url: memory://, options: { aws_access_key_id: '${env:S}', aws_secret_access_key: hunter2 } }]\n  \
         encryption: { key: { command: 'vault --token hunter2' } }\n",
    );
    let Loaded { config, written } = parse(&text, "k.yaml", &env).unwrap();
    let shown = written.shown;
    assert_eq!(config.backups[0].to[0].options["aws_access_key_id"], "hunter2");
    let debug = format!("{config:?}");
    assert!(debug.contains("aws_secret_access_key") && !debug.contains("hunter2"), "{debug}");
    let options = serde_yaml::to_string(&shown["backups"][0]["to"]).unwrap();
    assert!(options.contains("aws_secret_access_key: <secret>") && !options.contains("hunter2"), "{options}");
    let wrong = text.replace("memory://,", "memory:,");
    let all = faults_in(&wrong, &env);
    assert!(!all.is_empty() && !all.concat().contains("hunter2"), "{all:?}");
}
