// What takes the clusters some work: it is asked for once, and again when somebody wants to look again.

import { drillAction } from "./actions.js";
import { ask, of } from "./api.js";
import { ago, bytes, count, el, figure, figures, span, state, table } from "./dom.js";
import { tabs } from "./views.js";

const SHOWN = 500;

const BASES = {
  same_record: "the same record", caught_up: "caught up", in_gap: "in a gap: the next record", before_start: "before the start: the first record",
  expired: "expired there: the first record left", not_mirrored_yet: "ahead of the mirror: its end",
};

function resumesAt(line) {
  const { outcome } = line;
  const to = outcome.to ? `${count(outcome.to.offset)} (${BASES[outcome.to.basis] || outcome.to.basis})` : "nowhere";
  switch (outcome.action) {
    case "left_alone": return [count(outcome.found), `left alone: somebody else's; it would be ${to}`];
    case "untranslatable": return ["none", outcome.why.reason.replaceAll("_", " ")];
    case "unchanged": return [to, "in place"];
    default: return [to, `to be written: ${outcome.why}`];
  }
}

export async function groups(_, name) {
  const head = [el("h1", {}, `Consumer groups of ${name}`), tabs(name, "groups")];
  const report = await ask(of(name, "/groups")).catch((problem) => {
    if (problem.kind === "no-groups") return null;
    throw problem;
  });
  if (!report) return [...head, el("p", {}, "The mirror selects no groups: consumers would have to find their way by themselves.")];
  const lines = report.groups.flatMap((group) => (group.lines || []).map((line) => ({ group: group.group, line })));
  const rows = lines.slice(0, SHOWN).map(({ group, line }) => {
    const [to, what] = resumesAt(line);
    return [group, `${line.topic}:${line.partition}`, count(line.committed.offset), to, what, line.outcome.to ? count(line.outcome.to.missing) : "0"];
  });
  const skipped = report.groups.filter((group) => group.why).map((group) => [group.group, group.why.reason.replaceAll("_", " ")]);
  const failed = report.failed.map((group) => [group.group, group.error]);
  return [
    ...head,
    report.source_unreachable ? el("p", { class: "bad" }, `The source does not answer: groups stay where they were last kept in step. ${report.source_unreachable}`) : null,
    report.last_sync ? el("p", {}, `Last in step ${span(report.last_sync.age_seconds)} ago.`) : null,
    figures(figure("Groups", count(report.totals.groups)), figure("Offsets in place", count(report.totals.unchanged)), figure("To be written", count(report.totals.commits)),
      figure("Left alone", count(report.totals.left_alone)), figure("Without counterpart", count(report.totals.untranslatable), report.totals.untranslatable > 0)),
    rows.length > 0 ? table(`Where each group would go on (${rows.length} of ${lines.length} offsets)`, ["Group", "Partition", "#Committed", "Would resume at", "What is done", "#Missing"], rows)
      : el("p", {}, "No selected group has an offset in a mirrored topic."),
    skipped.length > 0 ? table("Groups that are left out", ["Group", "Why"], skipped) : null,
    failed.length > 0 ? table("Groups that could not be read", ["Group", "Why"], failed) : null,
  ];
}

const verdictWord = { pass: "pass", warn: "warn", fail: "fail" };

function drillReport(report) {
  const rows = report.checks.map((check) => [
    check.check, el("span", { class: check.verdict === "fail" ? "bad" : "" }, verdictWord[check.verdict]), check.summary,
  ]);
  return table(`The last drill, ${report.started_at}`, ["Check", "Result", "What was found"], rows);
}

export async function drills(_, name) {
  const { reports, folder } = await ask(of(name, "/drills"));
  const rows = reports.slice().reverse().map((report) => [
    report.started_at, el("span", { class: report.passed ? "" : "bad" }, report.passed ? "passed" : "failed"),
    span(report.rpo_seconds), span(report.rto_seconds_estimate), count(report.groups.length),
    report.checks.filter((check) => check.verdict === "fail").map((check) => check.check).join(", ") || "none",
  ]);
  return [
    el("h1", {}, `Drills of ${name}`), tabs(name, "drills"), drillAction(name),
    folder === null ? el("p", {}, "The file has no drills of this mirror: reports are not kept.") : null,
    reports.length > 0 ? drillReport(reports[reports.length - 1]) : el("p", {}, "No report is kept yet."),
    reports.length > 0 ? table(`${reports.length} reports, the newest first`, ["Began", "Result", "#Would lose", "#Would take", "#Groups", "Failed checks"], rows) : null,
  ];
}

export async function failover(_, name) {
  const plan = await ask(of(name, "/failover-plan"));
  const rows = plan.partitions.slice().sort((a, b) => b.lag_records - a.lag_records).slice(0, SHOWN).map((p) => [
    `${p.topic}:${p.partition}`, state(p.state), count(p.source_end), count(p.mirrored_to), count(p.target_end), count(p.lag_records), span(p.lag_seconds),
    count(p.lost.reduce((sum, lost) => sum + lost.to - lost.from, 0)),
  ]);
  const steps = plan.steps.map((step) => el("li", {}, el("strong", {}, step.step), `: ${step.action}${step.is_done ? " (through)" : ""}`));
  const list = (words, items, bad) => (items.length === 0 ? null : [
    el("h2", {}, words), el("ul", { class: "reasons" }, items.map((item) => el("li", { class: bad ? "bad" : "" }, item))),
  ]);
  return [
    el("h1", {}, `Failover plan of ${name}`), tabs(name, "failover"),
    el("p", {}, "What a failover would do now. Nothing is changed by looking at it; ",
      el("code", {}, `kmirror failover --mirror ${name}`), " does it."),
    plan.source_trouble ? el("p", { class: "bad" }, `The source does not answer: ${plan.source_trouble}`) : null,
    figures(figure("Kind", plan.mode), figure("Not mirrored now", `${count(plan.rpo.records)} records`), figure("Age of the oldest", span(plan.rpo.seconds)),
      figure("Partitions", count(plan.partitions.length)), figure("Stands against it", count(plan.blockers.length), plan.blockers.length > 0)),
    list("Stands against it", plan.blockers, true), list("To be known", plan.warnings, false),
    el("h2", {}, "Steps"), el("ol", {}, steps),
    el("h2", {}, "Partitions"),
    table(`${rows.length} of ${plan.partitions.length} partitions, those furthest behind first`,
      ["Partition", "State", "#Source end", "#Mirrored to", "#Target end", "#Lag", "#Lag, time", "#Not on the target"], rows),
  ];
}

export async function backups() {
  const answer = await ask("/backups");
  const section = (backup) => {
    const rows = backup.passes.slice().reverse().map((pass) => [
      ago(pass.at_ms), el("span", { class: pass.outcome === "complete" ? "" : "bad" }, pass.outcome), span(pass.took_seconds),
      count(pass.records), bytes(pass.stored_bytes), pass.problem || "none",
    ]);
    return [
      el("h2", {}, `Backup ${backup.name}`),
      figures(figure("Last complete", backup.complete_at_ms ? ago(backup.complete_at_ms) : { unknown: "not known", never: "never" }[backup.state]),
        figure("Behind, records", count(backup.lag_records))),
      rows.length > 0 ? table(`Passes of ${backup.name} since this process began`, ["Ended", "Result", "#Took", "#Records", "#Bytes", "Problem"], rows)
        : el("p", {}, "No pass has ended since this process began."),
    ];
  };
  return [el("h1", {}, "Backups"), answer.backups.map(section), answer.backups.length === 0 ? el("p", {}, "This process keeps no backups.") : null];
}
