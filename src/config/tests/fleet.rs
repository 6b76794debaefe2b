//! How an instance is a member of its fleet.

use std::time::Duration;

use super::*;

fn with(fleet: &str) -> String {
    format!("{ISSUE}\nfleet: {fleet}\n")
}

#[test]
fn nobody_is_suspected_where_that_is_not_asked_for() {
    let fleet = |text: &str| parse_plain(&with(text)).unwrap().fleet.unwrap();
    let plain = fleet("{}");
    assert_eq!((plain.session_timeout, plain.suspect_after), (Duration::from_secs(10), None));
    let watchful = fleet("{ suspect_after: 1500ms }");
    assert_eq!(watchful.suspect_after, Some(Duration::from_millis(1_500)));
    assert_eq!(parse_plain(ISSUE).unwrap().fleet, None);
}

#[test]
fn a_suspicion_that_comes_too_early_or_too_late_is_refused() {
    let found = |fleet: &str| faults(&with(fleet)).concat();
    let early = found("{ suspect_after: 100ms }");
    assert!(early.contains("fleet.suspect_after is less than 500ms"), "{early}");
    let late = found("{ session_timeout: 6s, suspect_after: 6s }");
    assert!(late.contains("fleet.suspect_after is not less than fleet.session_timeout"), "{late}");
    let no_time = found("{ suspect_after: soon }");
    assert!(no_time.contains("fleet.suspect_after"), "{no_time}");
}
