//! Heartbeats of a mirror, and what `/metrics` may show.

use std::time::Duration;

use super::*;

fn with(mirror: &str) -> String {
    ISSUE.replace("    start: earliest\n", &format!("    start: earliest\n{mirror}"))
}

#[test]
fn heartbeats_have_a_topic_of_their_own_which_is_mirrored() {
    let config = parse_plain(&with("    heartbeats: {}\n")).unwrap();
    let [mirror] = &config.mirrors[..] else { panic!("{:?}", config.mirrors) };
    let heartbeats = mirror.heartbeats.clone().unwrap();
    assert_eq!((heartbeats.topic.as_str(), heartbeats.interval), ("kmirror.heartbeats.dr", Duration::from_secs(1)));
    let taken = ["kmirror.heartbeats.dr", "kmirror-heartbeats.dr", "orders", "others"];
    assert_eq!(taken.map(|topic| mirror.topics.matches(topic)), [true, false, true, false]);
    // On the way home nobody writes to the standby.
    assert_eq!(mirror.reversed().heartbeats, None);
    assert_eq!(parse_plain(ISSUE).unwrap().mirrors[0].heartbeats, None);
}

#[test]
fn heartbeats_that_cannot_arrive_are_refused() {
    let found = |lines: &str| faults(&with(lines)).concat();
    let excluded = found("    heartbeats: { topic: orders.tmp.beats }\n");
    assert!(excluded.contains("mirrors[0].heartbeats.topic orders.tmp.beats is not mirrored"), "{excluded}");
    let short = found("    heartbeats: { interval: 10ms }\n");
    assert!(short.contains("mirrors[0].heartbeats.interval is too short: write 100ms or more"), "{short}");
    let named = found("    heartbeats: { topic: 'a b' }\n");
    assert!(named.contains("mirrors[0].heartbeats.topic is no name of a topic"), "{named}");
}

#[test]
fn series_are_bounded() {
    let max = |text: &str| parse_plain(text).unwrap().http.unwrap().max_series;
    assert_eq!(max(ISSUE), 2_000);
    assert_eq!(max(&ISSUE.replace("9644\" }", "9644\", metrics: { max_series: 0 } }")), 0);
}
