//! Alert rules, dashboard and runbook speak of what there is: metrics of the catalog, with their labels, and of each other.

pub(crate) mod promtool;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kmirror::observe::catalog::{Kind, METRICS, Metric};
use regex::Regex;
use serde_yaml::Value;

/// The rules that are shipped.
pub(crate) fn rules_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/prometheus/alerts.yaml")
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn rules() -> Vec<Value> {
    let file: Value = serde_yaml::from_str(&read("configs/prometheus/alerts.yaml")).unwrap();
    let groups = file["groups"].as_sequence().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_sequence().unwrap().clone()).collect()
}

/// Names of all alerts.
pub(crate) fn alerts() -> BTreeSet<String> {
    rules().iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect()
}

fn dashboard() -> serde_json::Value {
    serde_json::from_str(&read("configs/grafana/kmirror.json")).unwrap()
}

fn dashboard_expressions() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let queries = variables.filter_map(|variable| variable["query"]["query"].as_str().map(str::to_owned));
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).chain(queries).collect()
}

/// The metric behind the name of a series.
pub(crate) fn metric_of(series: &str) -> Option<&'static Metric> {
    let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end));
    METRICS.iter().find(|metric| match metric.kind {
        Kind::Histogram => Some(metric.name) == of_histogram,
        Kind::Counter | Kind::Gauge => metric.name == series,
    })
}

/// Checks every name and every label that an expression selects by; gives the names.
fn checked(place: &str, expression: &str) -> BTreeSet<&'static str> {
    let selector = Regex::new(r"(kmirror_[a-z_]+)(?:\{([^}]*)\})?").unwrap();
    let label = Regex::new(r"([a-z_]+)\s*(?:=~|!~|!=|=)").unwrap();
    let mut names = BTreeSet::new();
    for found in selector.captures_iter(expression) {
        let metric = metric_of(&found[1]).unwrap_or_else(|| panic!("{place}: there is no {}", &found[1]));
        for found in label.captures_iter(found.get(2).map_or("", |labels| labels.as_str())) {
            assert!(metric.labels.contains(&&found[1]), "{place}: {} has no label {}", metric.name, &found[1]);
        }
        let is_rate = ["rate(", "increase("].iter().any(|of| expression.contains(&format!("{of}{}", &found[1])));
        assert!(is_rate == (metric.kind != Kind::Gauge), "{place}: {} is no {:?}", metric.name, metric.kind);
        names.insert(metric.name);
    }
    names
}

#[test]
fn rules_name_metrics_that_exist_and_lead_to_their_runbook() {
    let runbook = read("docs/runbooks/alerts.md");
    let sections: BTreeSet<String> =
        runbook.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    let rules = rules();
    assert_eq!(alerts(), sections, "docs/runbooks/alerts.md");
    assert_eq!(alerts().len(), rules.len(), "each name once");
    for rule in &rules {
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{rule:?}")).to_owned();
        let name = text(&rule["alert"]);
        assert!(!checked(&name, &text(&rule["expr"])).is_empty(), "{name}");
        assert!(["page", "ticket"].contains(&text(&rule["labels"]["severity"]).as_str()), "{name}");
        let notes = &rule["annotations"];
        assert!(text(&notes["summary"]).len() > 10 && text(&notes["description"]).len() > 20, "{name}");
        assert_eq!(text(&notes["runbook"]), format!("docs/runbooks/alerts.md#{}", name.to_lowercase()));
    }
}

#[test]
fn the_dashboard_shows_every_metric_and_nothing_else() {
    let mut shown = BTreeSet::new();
    for expression in dashboard_expressions() {
        shown.extend(checked("the dashboard", &expression));
    }
    let missing: Vec<&str> = METRICS.iter().map(|metric| metric.name).filter(|name| !shown.contains(name)).collect();
    assert_eq!(missing, ["kmirror_cluster_controller", "kmirror_backup_bytes_total", "kmirror_build_info"]);
}

#[test]
fn panels_of_the_dashboard_do_not_overlap() {
    let dashboard = dashboard();
    let mut taken: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let at = |field: &str| panel["gridPos"][field].as_u64().unwrap_or_else(|| panic!("{title}: {field}"));
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(x < 24, "{title}");
                assert_eq!(taken.insert((x, y), title.to_owned()), None, "{title}");
            }
        }
    }
}

#[test]
fn promtool_takes_the_rules() {
    let Some(promtool) = promtool::find() else { return };
    let output = std::process::Command::new(promtool).args(["check", "rules"]).arg(rules_file()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(&format!("{} rules found", alerts().len())), "{said}");
}
