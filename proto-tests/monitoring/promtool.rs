//! Whether what `/metrics` showed makes an alert fire: Prometheus' own tool evaluates the rules over it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{metric_of, rules_file};
use kmirror::observe::catalog::Kind;

/// `promtool`, where there is one: on the path, or where `.ci/run` puts it.
pub(crate) fn find() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/promtool/promtool");
    let is_there = |path: &PathBuf| Command::new(path).arg("--version").output().is_ok();
    let found = [PathBuf::from("promtool"), own].into_iter().find(is_there);
    if found.is_none() {
        eprintln!(
            "\n*** promtool is not here: NO ALERT RULE WAS EVALUATED. Debian's package prometheus has it; .ci/run installs it \
             into target/promtool. ***\n"
        );
    }
    found
}

/// What `/metrics` showed, so many seconds after the fault was first seen.
#[derive(Debug, Clone)]
pub(crate) struct Scrape {
    pub(crate) at_s: f64,
    pub(crate) text: String,
}

type Series = BTreeMap<String, f64>;

impl Scrape {
    fn series(&self) -> Series {
        let lines = self.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let value = |text: &str| text.replace("inf", "Inf").parse::<f64>().unwrap_or_else(|_| panic!("{text}"));
        lines.filter_map(|line| line.rsplit_once(' ')).map(|(name, text)| (name.to_owned(), value(text))).collect()
    }
}

/// Steps before the fault, and after it.
const BEFORE: usize = 5;
const AFTER: usize = 80;

/// Evaluates the rules over a healthy time and a fault that goes on as it did between two scrapes: ages grow with time, counters at
/// their rate, and everything else stays. Panics unless nothing fires before and each of these alerts does afterwards.
pub(crate) fn expect(name: &str, healthy: Option<&Scrape>, faulty: [&Scrape; 2], step_s: u32, alerts: &[&str]) {
    for alert in alerts {
        assert!(super::alerts().contains(*alert), "{alert}");
    }
    let Some(promtool) = find() else { return };
    let mut tests = Vec::new();
    if let Some(healthy) = healthy {
        let series = healthy.series();
        let still = series.iter().map(|(name, value)| (name.clone(), vec![*value; BEFORE + AFTER])).collect();
        let none = [("ALERTS{alertstate=\"firing\"}".to_owned(), None)];
        tests.push(test(still, step_s, &none));
    }
    let expected: Vec<_> = alerts
        .iter()
        .map(|alert| (format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}"), Some((*alert).to_owned())))
        .collect();
    tests.push(test(course(healthy, faulty, step_s), step_s, &expected));
    let file = serde_json::json!({
        "rule_files": [rules_file()],
        "evaluation_interval": format!("{step_s}s"),
        "tests": tests,
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fires.yaml");
    std::fs::write(&path, file.to_string()).unwrap();
    let output = Command::new(promtool).args(["test", "rules"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{name}: {output:?}\n{}", faulty[1].text);
}

/// Each series from before the fault on.
fn course(healthy: Option<&Scrape>, faulty: [&Scrape; 2], step_s: u32) -> BTreeMap<String, Vec<f64>> {
    let before = healthy.map(Scrape::series).unwrap_or_default();
    let [first, second] = faulty.map(Scrape::series);
    let seconds = faulty[1].at_s - faulty[0].at_s;
    let mut all = BTreeMap::new();
    for (name, value) in second {
        let speed = speed(&name, first.get(&name).copied(), value, seconds);
        let was = before.get(&name).copied().unwrap_or(if healthy.is_some() { 0.0 } else { value });
        let after = (0..AFTER).map(|step| value + speed * step as f64 * f64::from(step_s));
        all.insert(name, std::iter::repeat_n(was, BEFORE).chain(after).collect());
    }
    all
}

/// How fast a series moves: an age by a second a second or not at all, a counter as it did, and what else there is stays.
fn speed(series: &str, first: Option<f64>, second: f64, seconds: f64) -> f64 {
    let name = series.split('{').next().unwrap_or_default();
    let moved = first.map_or(0.0, |first| (second - first) / seconds);
    match metric_of(name).map(|metric| metric.kind) {
        Some(Kind::Gauge) if name.ends_with("_seconds") && (moved.abs() - 1.0).abs() < 0.2 => moved.signum(),
        Some(Kind::Counter | Kind::Histogram) if moved.is_finite() => moved.max(0.0),
        _ => 0.0,
    }
}

fn test(series: BTreeMap<String, Vec<f64>>, step_s: u32, expected: &[(String, Option<String>)]) -> serde_json::Value {
    let length_s = u64::from(step_s) * (BEFORE + AFTER - 1) as u64;
    let input: Vec<_> = series
        .into_iter()
        .map(|(name, values)| {
            let values: Vec<String> = values.iter().map(|value| value.to_string().replace("inf", "Inf")).collect();
            serde_json::json!({ "series": name, "values": values.join(" ") })
        })
        .collect();
    let questions: Vec<_> = expected
        .iter()
        .map(|(alerts, name)| {
            let samples = name
                .iter()
                .map(|name| serde_json::json!({ "labels": format!("{{alertname=\"{name}\"}}"), "value": 1 }));
            serde_json::json!({
                "expr": format!("group by (alertname) (max_over_time({alerts}[{length_s}s]))"),
                "eval_time": format!("{length_s}s"),
                "exp_samples": samples.collect::<Vec<_>>(),
            })
        })
        .collect();
    serde_json::json!({ "interval": format!("{step_s}s"), "input_series": input, "promql_expr_test": questions })
}
