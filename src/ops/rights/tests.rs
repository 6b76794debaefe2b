use super::*;
use crate::config::SystemEnv;

const FILE: &str = "\
clusters:
  home: { bootstrap: [\"h1:9092\", \"h2:9092\"], sasl: { mechanism: SCRAM-SHA-256, username: reader, password: x } }
  away: { bootstrap: [\"a:9092\"] }
mirrors:
  - name: dr
    source: home
    target: away
    topics: { include: [\"orders.*\", payments] }
    rename: \"dr.{topic}\"
    groups: { include: [\"billing|audit\"], exclude: [] }
    heartbeats: { interval: 1s }
backups:
  - { name: nightly, cluster: home, topics: { include: [\"orders.*\"] }, groups: { include: [audit] }, to: [{ url: \"memory://\" }] }
";

fn config() -> Config {
    parsed(FILE)
}

fn parsed(file: &str) -> Config {
    Config::parse(file, "k.yaml", &SystemEnv { folder: std::path::PathBuf::new() }).unwrap_or_else(|e| panic!("{e}"))
}

fn plan(commands: &[Command]) -> AclPlan {
    let config = config();
    let wish = Wish {
        mirrors: config.mirrors.iter().collect(),
        backups: config.backups.iter().collect(),
        commands: commands.to_vec(),
        principals: BTreeMap::new(),
    };
    acl_plan(&config, &wish)
}

fn acls(plan: &AclPlan, cluster: &str) -> Vec<String> {
    let found = plan.clusters.iter().find(|c| c.cluster == cluster).expect("the cluster");
    let short = |acl: &AclBinding| {
        let prefix = if acl.pattern == "PREFIXED" { "~" } else { "" };
        format!("{} {} {}{prefix}", acl.operation, acl.resource, acl.name)
    };
    found.acls.iter().map(|needed| short(&needed.acl)).collect()
}

#[test]
fn a_run_writes_nothing_on_the_source_but_heartbeats() {
    let plan = plan(&[]);
    let home = acls(&plan, "home");
    let writes: Vec<&String> =
        home.iter().filter(|acl| !acl.starts_with("READ") && !acl.starts_with("DESCRIBE")).collect();
    assert_eq!(writes, ["WRITE TOPIC kmirror.heartbeats.dr", "CREATE TOPIC kmirror.heartbeats.dr"]);
    for acl in ["READ TOPIC orders~", "READ TOPIC payments", "DESCRIBE GROUP audit", "DESCRIBE CLUSTER kafka-cluster"] {
        assert!(home.iter().any(|there| there == acl), "{acl}: {home:?}");
    }
    let away = acls(&plan, "away");
    for acl in [
        "WRITE TOPIC dr.orders~",
        "CREATE TOPIC dr.payments",
        "WRITE TOPIC dr.kmirror.heartbeats.dr",
        "READ TOPIC __kmirror.dr",
        "DELETE TOPIC __kmirror.dr",
        "READ GROUP billing",
        "READ GROUP __kmirror.dr",
        "READ GROUP __kmirror.dr/~",
        "WRITE TRANSACTIONAL_ID kmirror.dr.~",
        "DESCRIBE_CONFIGS CLUSTER kafka-cluster",
    ] {
        assert!(away.iter().any(|there| there == acl), "{acl}: {away:?}");
    }
    assert!(!away.iter().any(|acl| acl.starts_with("ALTER") && acl.contains("CLUSTER")), "{away:?}");
    let who = |name: &str| {
        let cluster = plan.clusters.iter().find(|c| c.cluster == name).unwrap();
        (cluster.principal.clone(), cluster.principal_from, cluster.bootstrap.clone())
    };
    assert_eq!(who("home"), ("User:reader".to_owned(), "sasl.username", "h1:9092,h2:9092".to_owned()));
    assert_eq!(who("away"), ("User:kmirror".to_owned(), "placeholder", "a:9092".to_owned()));
}

/// What a check asks about is what a run of this file needs.
#[test]
fn the_fleets_group_is_asked_about_where_the_file_has_a_fleet() {
    let asked = |file: &str| {
        let config = parsed(file);
        let needed = needed_by_run(&config.mirrors[0], config.fleet.is_some());
        let of = |side: Side| needed[&side].iter().map(ToString::to_string).collect::<Vec<String>>();
        (of(Side::Source), of(Side::Target))
    };
    let (alone, shared) = (asked(FILE), asked(&format!("{FILE}fleet: {{}}\n")));
    assert_eq!(alone.0, shared.0, "nothing on the source");
    let more: Vec<&str> = shared.1.iter().filter(|right| !alone.1.contains(right)).map(String::as_str).collect();
    assert_eq!((more, shared.1.len()), (vec!["READ on Group kmirror.dr"], alone.1.len() + 1));
}

#[test]
fn operations_on_one_name_are_one_line() {
    let plan = plan(&[]);
    let away = plan.clusters.iter().find(|c| c.cluster == "away").unwrap();
    let line = "kafka-acls.sh --bootstrap-server a:9092 --command-config admin.properties --add --allow-principal \
                User:kmirror --operation Read --operation Write --operation Create --operation Alter --operation AlterConfigs --topic dr.orders \
                --resource-pattern-type prefixed";
    assert!(away.commands.iter().any(|there| there == line), "{:#?}", away.commands);
    let one = |acl: &NeededAcl| (acl.acl.resource.clone(), acl.acl.name.clone(), acl.acl.pattern.clone());
    let names: BTreeSet<_> = away.acls.iter().map(one).collect();
    assert_eq!(names.len(), away.commands.len());
}

#[test]
fn the_way_home_turns_the_sides_round() {
    let plan = plan(&[Command::Failback]);
    let home = acls(&plan, "home");
    for acl in [
        "WRITE TOPIC orders~",
        "ALTER_CONFIGS TOPIC payments",
        "WRITE TRANSACTIONAL_ID kmirror.dr.failback.~",
        "READ TOPIC __kmirror.dr.failback",
    ] {
        assert!(home.iter().any(|there| there == acl), "{acl}: {home:?}");
    }
    let away = acls(&plan, "away");
    for acl in ["READ TOPIC dr.orders~", "WRITE TOPIC __kmirror.dr"] {
        assert!(away.iter().any(|there| there == acl), "{acl}: {away:?}");
    }
}

#[test]
fn a_restore_is_about_the_clusters_that_it_may_go_to() {
    let plan = plan(&[Command::Restore]);
    assert_eq!(plan.clusters.len(), 1);
    let away = acls(&plan, "away");
    for acl in
        ["CREATE TOPIC orders~", "WRITE TRANSACTIONAL_ID kmirror.restore.nightly.away.~", "ALTER CLUSTER kafka-cluster"]
    {
        assert!(away.iter().any(|there| there == acl), "{acl}: {away:?}");
    }
}

#[test]
fn each_command_needs_something_by_a_file_that_has_all() {
    for command in Command::ALL {
        let all = plan(&[command]);
        assert!(all.clusters.iter().any(|c| !c.acls.is_empty()), "{command:?}");
    }
}
