//! The rights that a run of the mirror needs, looked for on both sides.

use crate::client::Cluster;
use crate::engine::EngineError;
use crate::engine::topology::Matching;
use crate::plan::rights::Side;

use super::super::rights::probe::MissingRight;
use super::super::rights::probe_run;
use super::{CheckReport, Finding, Looked, Severity};

pub(super) async fn check_rights(
    report: &mut CheckReport,
    looked: Looked<'_>,
    found: &Matching,
    source: &Cluster,
    target: &Cluster,
) -> Result<(), EngineError> {
    for (side, probed) in
        probe_run((looked.mirror, looked.is_shared), looked.principals, found, (source, target)).await?
    {
        let cluster = if side == Side::Source { source.name() } else { target.name() };
        if probed.missing.is_empty() {
            let detail = format!("{} rights of {} that a run needs are there", probed.there, side.word());
            report.add(Severity::Ok, "rights", cluster, detail);
        }
        if !probed.not_told.is_empty() {
            let detail = format!("the brokers do not tell of these: {}", probed.not_told.join(", "));
            report.add(Severity::Ok, "rights", cluster, detail);
        }
        for failed in probed.failed {
            report.add(Severity::Warning, "rights", cluster, failed);
        }
        report.findings.extend(probed.missing.into_iter().map(|right| finding(cluster, right)));
    }
    Ok(())
}

fn finding(cluster: &str, right: MissingRight) -> Finding {
    Finding {
        severity: if right.is_needed { Severity::Problem } else { Severity::Warning },
        check: "rights",
        subject: cluster.to_owned(),
        detail: format!("{}. Grant it: {}", right.words, right.command),
        right: Some(right),
    }
}
