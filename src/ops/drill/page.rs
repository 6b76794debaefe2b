//! The report of a drill as a page that stands for itself: to be kept, printed, shown to an auditor.

use maud::{DOCTYPE, Markup, PreEscaped, html as markup};

use super::{DrillReport, GroupDrill};
use crate::plan::{Check, Verdict};

const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 62em; padding: 0 1em; color: #1b1f24 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .35em .7em; border-bottom: 1px solid #d7dce2; \
vertical-align: top } th { color: #59636e; font-weight: 600 } td.n, th.n { text-align: right }
.pass { color: #1a7f37 } .WARN { color: #9a6700 } .FAIL { color: #cf222e; font-weight: 600 }
ul { margin: .3em 0; padding-left: 1.2em } li { font-family: ui-monospace, monospace; font-size: .88em }";

/// Seconds, or a dash where they are not known.
pub fn seconds(seconds: f64) -> String {
    if seconds < 0.0 { "-".to_owned() } else { format!("{seconds:.1} s") }
}

/// What a verdict is called.
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Warn => "WARN",
        Verdict::Fail => "FAIL",
    }
}

/// The page.
pub(super) fn html(report: &DrillReport) -> String {
    let result = if report.passed { "pass" } else { "FAIL" };
    let page = markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Drill of mirror " (report.mirror) ", " (report.started_at) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Drill of mirror " (report.mirror) ": " span class=(result) { @if report.passed { "passed" } @else { "failed" } } }
                (facts(report))
                h2 { "Checks" }
                table {
                    tr { th { "Check" } th { "Result" } th { "What was found" } }
                    @for check in &report.checks { (row(check)) }
                }
                @if !report.groups.is_empty() {
                    h2 { "Consumer groups" }
                    table {
                        tr { th { "Group" } th.n { "Offsets" } th.n { "Compared" } th.n { "Same record" } th { "Left out" } }
                        @for group in &report.groups { (group_row(group)) }
                    }
                }
            }
        }
    };
    page.into_string()
}

fn facts(report: &DrillReport) -> Markup {
    let [source, source_id] = &report.source;
    let [target, target_id] = &report.target;
    markup! {
        table {
            tr { th { "Source" } td { (source) " (cluster id " (source_id) ")" } }
            tr { th { "Target" } td { (target) " (cluster id " (target_id) ")" } }
            tr { th { "Started" } td { (report.started_at) ", took " (seconds(report.took_seconds)) } }
            tr { th { "RPO" } td {
                @if report.rpo_records < 0 { "unknown" } @else { (report.rpo_records) " records, " (seconds(report.rpo_seconds)) }
            } }
            tr { th { "RTO, estimated" } td { (seconds(report.rto_seconds_estimate)) } }
            tr { th { "kmirror" } td { (report.kmirror) } }
        }
    }
}

fn row(check: &Check) -> Markup {
    markup! {
        tr {
            td { (check.check) }
            td class=(word(check.verdict)) { (word(check.verdict)) }
            td {
                (check.summary)
                @if !check.findings.is_empty() {
                    ul {
                        @for finding in &check.findings { li { (finding) } }
                        @if check.more_findings > 0 { li { "and " (check.more_findings) " more" } }
                    }
                }
            }
        }
    }
}

fn group_row(group: &GroupDrill) -> Markup {
    markup! {
        tr {
            td { (group.group) }
            td.n { (group.partitions) }
            td.n { (group.compared) }
            td.n { (group.same) }
            td { @if let Some(why) = &group.skipped { (why) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_the_clusters_is_text_and_no_markup() {
        let group = GroupDrill {
            group: "<script>alert(1)</script>".to_owned(),
            partitions: 1,
            compared: 1,
            same: 1,
            skipped: None,
        };
        let check = Check::new("positions", Verdict::Fail, "a & b".to_owned(), vec!["x < y".to_owned()]);
        let report = DrillReport {
            schema_version: 1,
            mirror: "dr".to_owned(),
            source: ["a".to_owned(), "A".to_owned()],
            target: ["b".to_owned(), "B".to_owned()],
            kmirror: "0".to_owned(),
            started_at: "2026-01-01T00:00:00.000Z".to_owned(),
            took_seconds: 1.0,
            passed: false,
            rpo_records: -1,
            rpo_seconds: -1.0,
            rto_seconds_estimate: 2.0,
            checks: vec![check],
            groups: vec![group],
        };
        let page = html(&report);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"), "{page}");
        assert!(page.contains("a &amp; b") && page.contains("x &lt; y") && page.contains("unknown"), "{page}");
    }
}
