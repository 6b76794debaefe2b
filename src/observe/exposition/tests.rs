use std::collections::BTreeMap;
use std::time::Instant;

use metrics_exporter_prometheus::PrometheusRecorder;

use super::super::BackupBoard;
use super::super::catalog::{Kind, METRICS, PLACE};
use super::super::clusters::{ClusterBoard, ClusterHealth};
use super::super::config_board::ConfigBoard;
use super::*;
use crate::engine::{Budget, Drilled, SyncCounts};
use crate::mirror::Halt;

const NOW_MS: i64 = 1_700_000_000_000;

fn part(topic: &str, partition: i32) -> PartView {
    PartView {
        topic: topic.to_owned(),
        target_topic: topic.to_owned(),
        partition,
        state: "mirroring",
        halt: None,
        source_end: 110,
        source_start: 0,
        mirrored_to: None,
        target_end: 100,
        headroom: Headroom::Unlimited,
        hold: None,
        queued_bytes: 0,
        position: Some(100),
        waits_since_ms: Some(NOW_MS - 4_000),
        silent_since_ms: None,
        totals: Totals { records: 100, in_bytes: 2_000, out_bytes: 1_000 },
    }
}

fn board(mirror: &str, parts: Vec<PartView>) -> Board {
    let board = Board::new(mirror);
    board.publish(NOW_MS.unsigned_abs(), parts.into_iter());
    board
}

fn shown(boards: Vec<Board>, max_series: usize) -> Shown {
    Shown { boards, max_series, ..Shown::default() }
}

fn recorder(forgotten_after: Duration) -> PrometheusRecorder {
    let recorder = builder(forgotten_after).build_recorder();
    metrics::with_local_recorder(&recorder, catalog::describe);
    recorder
}

fn scraped(recorder: &PrometheusRecorder, shown: &Shown, now_ms: i64) -> String {
    metrics::with_local_recorder(recorder, || publish(shown, now_ms));
    recorder.handle().render()
}

/// Values by series, as they are written.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.replace("inf", "Inf").parse().unwrap())
        })
        .collect()
}

fn everything() -> Shown {
    let mirror = board("dr", vec![part("orders", 0), PartView { state: "halted", ..part("orders", 1) }]);
    mirror.groups_in_step(NOW_MS);
    mirror.groups_synced(4);
    mirror.synced(SyncCounts { at_ms: NOW_MS, pending: 2, ..SyncCounts::default() });
    mirror.heartbeat(NOW_MS - 2_000);
    mirror.drilled(Drilled { at_ms: Some(NOW_MS), passed: true });
    let clusters = ClusterBoard::default();
    let health = ClusterHealth {
        brokers: 3,
        lost_brokers: 1,
        controller: None,
        offline_partitions: 2,
        under_replicated_partitions: 5,
    };
    clusters.note("primary", Some(health));
    clusters.note("standby", None);
    let backups = vec![BackupBoard::new("nightly")];
    Shown {
        boards: vec![mirror],
        backups,
        budget: Some(Budget::new(4 << 20)),
        clusters,
        max_series: 10,
        config: Some(ConfigBoard::new("0123".to_owned())),
        reload: None,
    }
}

#[test]
fn what_is_shown_is_the_catalog_and_nothing_else() {
    let recorder = recorder(FORGOTTEN_AFTER);
    metrics::with_local_recorder(&recorder, || {
        for name in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram).map(|metric| metric.name) {
            metrics::histogram!(name, "mirror" => "dr").record(0.002);
        }
    });
    let text = scraped(&recorder, &everything(), NOW_MS);
    let of_histogram = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        METRICS.iter().find(|metric| metric.kind == Kind::Histogram && Some(metric.name) == base)
    };
    let mut seen = BTreeSet::new();
    for series in series(&text).into_keys() {
        let (name, labels) = series.split_once('{').unwrap_or((&series, ""));
        let metric = METRICS.iter().find(|metric| metric.name == name).or_else(|| of_histogram(name));
        let metric = metric.unwrap_or_else(|| panic!("{series} is not in the catalog"));
        let names: Vec<&str> = labels.split('"').step_by(2).map(|at| at.trim_matches(['{', '}', ',', '='])).collect();
        let names: Vec<&str> = names.into_iter().filter(|name| !["", "le"].contains(name)).collect();
        assert_eq!(names, metric.labels, "{series}");
        seen.insert(metric.name);
    }
    assert_eq!(seen, METRICS.iter().map(|metric| metric.name).collect());
    for metric in METRICS {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{}: {text}", metric.name);
        assert!(text.contains(&format!("# HELP {} ", metric.name)), "{}", metric.name);
    }
    assert!(text.contains("kmirror_produce_latency_seconds_bucket{mirror=\"dr\",le=\"0.0025\"} 1\n"), "{text}");
}

#[test]
fn figures_are_those_of_the_boards() {
    let shown = everything();
    let found = series(&scraped(&recorder(FORGOTTEN_AFTER), &shown, NOW_MS + 1_000));
    for (series, expected) in [
        ("kmirror_lag_records{mirror=\"dr\",topic=\"orders\",partition=\"1\"}", 10.0),
        ("kmirror_lag_seconds{mirror=\"dr\",topic=\"orders\",partition=\"1\"}", 5.0),
        ("kmirror_bytes_total{mirror=\"dr\",topic=\"orders\",partition=\"0\",direction=\"in\"}", 2_000.0),
        ("kmirror_rpo_seconds{mirror=\"dr\"}", 5.0),
        ("kmirror_partitions{mirror=\"dr\",state=\"halted\"}", 1.0),
        ("kmirror_halted_partitions{mirror=\"dr\"}", 1.0),
        ("kmirror_heartbeat_age_seconds{mirror=\"dr\"}", 3.0),
        ("kmirror_gaps_total{mirror=\"dr\",reason=\"retention\"}", 0.0),
        ("kmirror_errors_total{mirror=\"dr\",class=\"foreign_records\"}", 0.0),
        ("kmirror_cluster_up{cluster=\"standby\"}", 0.0),
        ("kmirror_cluster_controller{cluster=\"primary\"}", -1.0),
        ("kmirror_cluster_offline_partitions{cluster=\"primary\"}", 2.0),
        ("kmirror_backup_passes_total{backup=\"nightly\",outcome=\"failed\"}", 0.0),
    ] {
        assert_eq!(found.get(series), Some(&expected), "{series}");
    }
    assert!(!found.contains_key("kmirror_cluster_brokers{cluster=\"standby\"}"), "what is not known is not shown");
    // Nobody reports any more: what is not known grows.
    let late = series(&scraped(&recorder(FORGOTTEN_AFTER), &shown, NOW_MS + 60_000));
    assert_eq!(late["kmirror_rpo_seconds{mirror=\"dr\"}"], 64.0);
    assert_eq!(late["kmirror_report_age_seconds{mirror=\"dr\"}"], 60.0);
}

#[test]
fn a_silent_source_may_have_been_written_to() {
    let rpo = |parts: Vec<PartView>| rpo_s(&parts, NOW_MS.unsigned_abs(), NOW_MS);
    let in_step = || PartView { source_end: 100, waits_since_ms: None, ..part("orders", 0) };
    assert_eq!(rpo(vec![in_step()]), 0.0);
    assert_eq!(rpo(vec![in_step(), PartView { silent_since_ms: Some(NOW_MS - 7_500), ..in_step() }]), 7.5);
    assert!(rpo(vec![in_step(), PartView { silent_since_ms: Some(0), ..in_step() }]).is_nan());
    assert!(rpo(vec![in_step(), PartView { position: None, ..in_step() }]).is_nan());
    assert!(rpo_s(&[], 0, NOW_MS).is_nan());
}

#[test]
fn where_there_are_many_partitions_figures_are_put_together() {
    let boards = || {
        let headroom = Headroom::Until { due_ms: NOW_MS + 9_000, lifetime_ms: 60_000 };
        vec![
            board("one", vec![part("a", 0), PartView { headroom, ..part("a", 1) }, part("b", 0)]),
            board("two", vec![PartView { waits_since_ms: Some(NOW_MS - 50_000), ..part("a", 0) }]),
        ]
    };
    let places = |max_series: usize| {
        let found = series(&scraped(&recorder(FORGOTTEN_AFTER), &shown(boards(), max_series), NOW_MS));
        let of = |name: &str, value: f64| (name.to_owned(), value);
        let lag = |(name, value): (String, f64)| Some((name.strip_prefix("kmirror_lag_records")?.to_owned(), value));
        let lags: Vec<(String, f64)> = found.clone().into_iter().filter_map(lag).collect();
        (found, lags, of)
    };
    let (_, lags, _) = places(4);
    assert_eq!(lags.len(), 4);
    let (found, lags, of) = places(3);
    let expected = [
        of("{mirror=\"one\",topic=\"a\"}", 20.0),
        of("{mirror=\"one\",topic=\"b\"}", 10.0),
        of("{mirror=\"two\",topic=\"a\"}", 10.0),
    ];
    assert_eq!(lags, expected);
    assert_eq!(found["kmirror_retention_headroom_seconds{mirror=\"one\",topic=\"a\"}"], 9.0);
    assert_eq!(found["kmirror_bytes_total{mirror=\"one\",topic=\"a\",direction=\"out\"}"], 2_000.0);
    let (found, lags, of) = places(0);
    assert_eq!(lags, [of("{mirror=\"one\"}", 30.0), of("{mirror=\"two\"}", 10.0)]);
    assert_eq!(found["kmirror_lag_seconds{mirror=\"two\"}"], 50.0);
}

#[test]
fn what_is_gone_is_forgotten_and_counters_that_stand_still_are_not() {
    let recorder = recorder(Duration::from_millis(1));
    let mirror = board("dr", vec![part("orders", 0), part("gone", 0)]);
    let shown = shown(vec![mirror.clone()], 10);
    metrics::with_local_recorder(&recorder, || {
        let labels = [("mirror", "dr"), ("class", "fetch")];
        metrics::counter!("kmirror_errors_total", &labels).increment(3);
    });
    assert!(scraped(&recorder, &shown, NOW_MS).contains("gone"));
    mirror.publish(NOW_MS.unsigned_abs(), [part("orders", 0)].into_iter());
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(5));
        scraped(&recorder, &shown, NOW_MS);
    }
    let text = scraped(&recorder, &shown, NOW_MS);
    assert!(!text.contains("gone"), "{text}");
    assert!(text.contains("kmirror_errors_total{mirror=\"dr\",class=\"fetch\"} 3\n"), "{text}");
    assert!(text.contains("kmirror_records_total{mirror=\"dr\",topic=\"orders\",partition=\"0\"} 100\n"), "{text}");
}

#[test]
fn a_promoted_mirror_has_no_lag_to_speak_of() {
    let mirror = board("dr", vec![part("orders", 0)]);
    mirror.promote();
    mirror.publish(NOW_MS.unsigned_abs(), [part("orders", 0)].into_iter());
    let text = scraped(&recorder(FORGOTTEN_AFTER), &shown(vec![mirror], 10), NOW_MS + 3_600_000);
    assert!(text.contains("kmirror_partitions{mirror=\"dr\",state=\"promoted\"} 1\n"), "{text}");
    for name in PLACE_METRICS.iter().chain(&["kmirror_rpo_seconds", "kmirror_report_age_seconds"]) {
        assert!(!text.contains(name), "{name}: {text}");
    }
}

const PLACE_METRICS: &[&str] = &["kmirror_lag_records", "kmirror_lag_seconds", "kmirror_retention_headroom_seconds"];

#[test]
fn a_thousand_partitions_are_shown_within_50_ms() {
    let halt = Halt::new(HaltKind::Unexpected, "evidence");
    let parts = (0..1_000)
        .map(|n| PartView { halt: (n % 10 == 0).then(|| halt.clone()), ..part(&format!("topic-{}", n / 10), n % 10) });
    let (recorder, shown) = (recorder(FORGOTTEN_AFTER), shown(vec![board("dr", parts.collect())], 2_000));
    let times = (0..20).map(|_| {
        let began = Instant::now();
        let text = scraped(&recorder, &shown, NOW_MS);
        (began.elapsed(), series(&text).len(), text.len())
    });
    let (best, count, bytes) = times.min().unwrap();
    eprintln!("{count} series, {bytes} bytes in {best:?}");
    assert!(count > 1_000 * PLACE.len());
    // Whatever else the machine does, it is not busy twenty times in a row.
    assert!(best < Duration::from_millis(50), "{best:?}");
}
