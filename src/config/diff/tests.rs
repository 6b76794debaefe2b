//! Two files in, what differs out.

use std::collections::HashMap;
use std::io;

use super::super::options::OPTIONS;
use super::super::{Env, Loaded, parse};
use super::*;

#[derive(Default)]
struct Files(HashMap<&'static str, &'static str>);

impl Env for Files {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }

    fn file(&self, path: &str) -> io::Result<String> {
        self.0.get(path).map(ToString::to_string).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn loaded_with(text: &str, files: &[(&'static str, &'static str)]) -> Loaded {
    parse(text, "k.yaml", &Files(files.iter().copied().collect())).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn loaded(text: &str) -> Loaded {
    loaded_with(text, &[])
}

const CLUSTERS: &str = "clusters:\n  a: { bootstrap: [a:1] }\n  b: { bootstrap: [b:1] }\n  c: { bootstrap: [c:1] }\n";

fn mirror(name: &str, target: &str, more: &str) -> String {
    format!("  - {{ name: {name}, source: a, target: {target}, topics: {{ include: [{name}] }}{more} }}\n")
}

fn file(mirrors: &[String], more: &str) -> String {
    format!("{CLUSTERS}mirrors:\n{}{more}", mirrors.concat())
}

/// Every difference as `KEY WHAT TAKES`.
fn differs(old: &str, new: &str) -> Vec<String> {
    let diff = Diff::between(&loaded(old).written, &loaded(new).written);
    diff.0.iter().map(|change| format!("{} {} {}", change.key, change.what.word(), change.takes)).collect()
}

#[test]
fn what_means_the_same_differs_in_nothing() {
    let one = file(&[mirror("m", "b", ", limits: { bandwidth: 1MiB }"), mirror("n", "c", "")], "");
    let other = format!(
        "# moved\nmirrors:\n{}  - name: m\n    limits: {{ coalesced_batch: 64KiB, bandwidth: \"1MiB\" }}\n    start: earliest\n    \
         target: b\n    source: a\n    topics:\n      include: [m]\n{CLUSTERS}",
        mirror("n", "c", "")
    );
    assert_eq!(differs(&one, &other), Vec::<String>::new());
    assert_eq!(
        loaded(&one).written.fingerprint(),
        loaded(&file(&[mirror("m", "b", ", limits: { bandwidth: 1MiB }"), mirror("n", "c", "")], "log: {}\n"))
            .written
            .fingerprint()
    );
    assert_ne!(loaded(&one).written.fingerprint(), loaded(&file(&[mirror("m", "b", "")], "")).written.fingerprint());
}

#[test]
fn each_key_takes_effect_as_the_table_says() {
    let old = file(&[mirror("m", "b", ""), mirror("n", "c", "")], "http: { listen: '127.0.0.1:1' }\n");
    let new = file(
        &[
            mirror("m", "b", ", limits: { bandwidth: 1MiB }, on: { truncation: continue }, groups: { include: [g] }"),
            mirror("n", "c", ", isolation: read_uncommitted"),
        ],
        "http: { listen: '127.0.0.1:2' }\nlog: { level: debug }\nlimits: { memory: 8MiB }\n",
    );
    assert_eq!(
        differs(&old, &new),
        [
            "mirrors.m.groups added task",
            "mirrors.m.on.truncation changed live",
            "mirrors.m.limits.bandwidth added live",
            "mirrors.n.isolation changed mirror",
            "limits.memory changed live",
            "http.listen changed process",
            "log.level changed live",
        ]
    );
    let (old, new) = (loaded(&old), loaded(&new));
    let diff = Diff::between(&old.written, &new.written);
    let of = |index: usize| diff.of_mirror(&old.config.mirrors[index]);
    assert_eq!((of(0), of(1)), (Some(Takes::Task), Some(Takes::Mirror)));
    let values: Vec<_> =
        diff.taking(Takes::Process).map(|change| (change.from.as_deref(), change.to.as_deref())).collect();
    assert_eq!(values, [(Some("\"127.0.0.1:1\""), Some("\"127.0.0.1:2\""))]);
}

#[test]
fn mirrors_are_told_by_their_names_and_clusters_concern_those_that_use_them() {
    let old = file(&[mirror("m", "b", ""), mirror("n", "c", "")], "");
    let new = file(&[mirror("n", "c", ""), mirror("o", "b", "")], "").replace("[c:1]", "[c:1, c:2]");
    assert_eq!(
        differs(&old, &new),
        ["clusters.c.bootstrap changed mirror", "mirrors.m removed live", "mirrors.o added live"]
    );
    let (old, new) = (loaded(&old), loaded(&new));
    let diff = Diff::between(&old.written, &new.written);
    assert_eq!(diff.of_mirror(&old.config.mirrors[1]), Some(Takes::Mirror), "n writes to c");
    assert_eq!(diff.of_mirror(&new.config.mirrors[1]), Some(Takes::Live));
    assert!(diff.has_cluster("c") && !diff.has_cluster("b"));
    let home = old.config.mirrors[1].reversed();
    assert_eq!(diff.of_mirror(&home), Some(Takes::Mirror), "the way home goes by its mirror");
}

#[test]
fn another_cluster_under_a_mirrors_name_is_never_taken() {
    let old = file(&[mirror("m", "b", "")], "");
    for (new, key) in [
        (file(&[mirror("m", "c", "")], ""), "mirrors.m.target changed never"),
        (old.replace("source: a", "source: c"), "mirrors.m.source changed never"),
        (file(&[mirror("m", "b", ", rename: 'x.{topic}'")], ""), "mirrors.m.rename changed never"),
    ] {
        assert_eq!(differs(&old, &new), [key]);
    }
}

#[test]
fn secrets_are_told_apart_and_not_shown() {
    let with = |how: &str| {
        file(&[mirror("m", "b", "")], "").replace(
            "[b:1] }",
            &format!(
                "[b:1], client_id: '{how}', sasl: {{ mechanism: PLAIN, username: u, password: hunter-{} }} }}",
                how.len()
            ),
        )
    };
    let (old, new) = (with("${file:id}"), with("${file:id2}"));
    let (was, is) = (loaded_with(&old, &[("id", "one")]), loaded_with(&old, &[("id", "two")]));
    let diff = Diff::between(&was.written, &is.written);
    let change = &diff.0[0];
    assert_eq!((diff.0.len(), change.key.as_str(), &change.from), (1, "clusters.b.client_id", &None), "{diff:?}");
    assert_eq!(was.written.fingerprint(), is.written.fingerprint(), "it says nothing of what is read from elsewhere");
    let diff = Diff::between(&was.written, &loaded_with(&new, &[("id2", "one")]).written);
    let text = format!("{diff:?} {}", serde_json::to_string(&diff.0).unwrap());
    assert!(diff.0.iter().any(|change| change.key == "clusters.b.sasl.password"), "{text}");
    assert!(!text.contains("hunter") && !format!("{:?}", was.written).contains("hunter"), "{text}");
}

#[test]
fn drills_of_a_mirror_and_backups_are_things_of_their_own() {
    let mirrors = [mirror("m", "b", ""), mirror("n", "c", "")];
    let old = file(
        &mirrors,
        "drills:\n  - { mirror: m, reports: r }\n  - { mirror: m, reports: s }\nbackups:\n  - { name: x, cluster: a, topics: { include: [t] }, to: [{ url: 'file:///x' }] }\n",
    );
    let new = file(
        &mirrors,
        "drills:\n  - { mirror: n, reports: r }\n  - { mirror: m, reports: r }\nbackups:\n  - { name: x, cluster: a, topics: { include: [t] }, keep: 2, to: [{ url: 'file:///y' }] }\n",
    );
    assert_eq!(
        differs(&old, &new),
        ["backups.x.to changed task", "backups.x.keep changed task", "drills.m changed task", "drills.n added task"]
    );
}

/// What is added to the table says how it takes effect, and what is within a section costs no more than the section as a whole.
#[test]
fn every_option_has_a_class_that_agrees_with_its_section() {
    for option in OPTIONS {
        let within =
            option.path.rsplit_once('.').map(|(section, _)| section.trim_end_matches(".*").trim_end_matches("[]"));
        let Some(section) = within.and_then(options::find) else { continue };
        let is_listed = matches!(section.kind, Kind::Named | Kind::Sections);
        if !is_listed && section.takes == Takes::Task {
            assert_eq!(option.takes, Takes::Task, "{}", option.path);
        }
    }
    let of = |path: &str| options::find(path).map(|option| option.takes);
    assert_eq!(of("mirrors[].topics.include"), Some(Takes::Live));
    assert_eq!(of("clusters.*.sasl.password"), Some(Takes::Live));
    assert_eq!(of("mirrors[].source"), Some(Takes::Never));
}
