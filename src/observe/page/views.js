// From all mirrors down to one partition. Each view gives its content; what it needs it asks for.

import { partitionActions, mirrorActions } from "./actions.js";
import { ask, history, of } from "./api.js";
import { ago, bytes, count, el, figure, figures, link, plural, span, state, table, ways } from "./dom.js";
import { lag } from "./plot.js";

const LEVELS = { safe: "✓ Safe", watch: "! Look at it", unsafe: "✗ Not safe", unknown: "? Not known", promoted: "⇄ Promoted" };
// Rows that a table shows.
const SHOWN = 500;

function verdict(found) {
  return [
    el("p", { class: "verdict" }, LEVELS[found.level]),
    el("ul", { class: "reasons" }, found.reasons.map((reason) => el("li", {}, reason))),
  ];
}

function troubles(mirror, title, rows, heading = "h3") {
  if (rows.length === 0) return null;
  const row = (p) => el("li", {},
    link(ways.partition(mirror, p.topic, p.partition), `${p.topic}:${p.partition}`), `: ${p.reason}`,
    p.way_out ? el("div", {}, el("code", {}, p.way_out)) : null);
  return [el(heading, {}, title), el("ul", { class: "reasons" }, rows.map(row))];
}

function groupsWords(groups) {
  if (!groups) return "none selected";
  return groups.age_seconds < 0 ? "not yet in step" : `in step ${span(groups.age_seconds)} ago`;
}

function drillWords(drill) {
  if (!drill) return "none yet";
  return `${drill.passed ? "passed" : "failed"}, ${drill.at_ms ? ago(drill.at_ms) : "never done"}`;
}

function mirrorFigures(mirror) {
  return figures(
    figure("Would lose now", span(mirror.rpo_seconds)),
    figure("Lag, records", count(mirror.lag_records)),
    figure("Partitions", count(mirror.partitions)),
    figure("Halted", mirror.halted.length === 20 ? "20 or more" : count(mirror.halted.length), mirror.halted.length > 0),
    figure("Groups", groupsWords(mirror.groups)),
    figure("Last drill", drillWords(mirror.drill), mirror.drill && !mirror.drill.passed));
}

function card(mirror, samples) {
  return el("li", { class: `card ${mirror.verdict.level}` },
    el("h2", {}, link(ways.mirror(mirror.name), mirror.name)),
    el("p", { class: "way" }, `${mirror.source} → ${mirror.target}`),
    verdict(mirror.verdict), mirrorFigures(mirror), lag(`spark ${mirror.name}`, samples),
    troubles(mirror.name, "Halted", mirror.halted), troubles(mirror.name, "Short of time", mirror.short));
}

// A backup is no better than its last complete pass; how old that may be only its owner knows.
function backupCard(backup) {
  const words = { unknown: "? Not read yet", never: "! Never complete", complete: "Complete" }[backup.state];
  const level = { unknown: "unknown", never: "watch", complete: "promoted" }[backup.state];
  return el("li", { class: `card ${level}` },
    el("h2", {}, link("#/backups", `Backup ${backup.name}`)),
    el("p", { class: "verdict" }, words),
    figures(
      figure("Last complete", backup.complete_at_ms ? ago(backup.complete_at_ms) : "never"),
      figure("Behind, records", count(backup.lag_records))));
}

export async function all(overview) {
  const histories = await Promise.all(overview.mirrors.map((mirror) => history(mirror.name).catch(() => [])));
  const cards = overview.mirrors.map((mirror, at) => card(mirror, histories[at])).concat(overview.backups.map(backupCard));
  return [el("h1", {}, "Are we safe right now?"), el("ul", { class: "cards" }, cards)];
}

export function tabs(name, current) {
  const pages = [["topics", "Topics", ways.mirror(name)], ["groups", "Groups"], ["drills", "Drills"], ["failover", "Failover plan"]];
  const tab = ([page, words, href]) =>
    el("li", {}, link(href || ways.of(name, page), words, { "aria-current": page === current ? "page" : null }));
  return el("nav", { class: "tabs", "aria-label": `Of mirror ${name}` }, el("ul", {}, pages.map(tab)));
}

export async function mirror(overview, name) {
  const found = overview.mirrors.find((mirror) => mirror.name === name);
  if (!found) throw new Error(`this process runs no mirror ${name}`);
  const samples = await history(name).catch(() => []);
  const limit = found.bandwidth_bytes_per_s === null ? "" : `, at most ${bytes(found.bandwidth_bytes_per_s)}/s`;
  const head = [
    el("h1", {}, `Mirror ${name}`),
    el("section", { class: `card ${found.verdict.level}`, "aria-label": "Verdict" },
      el("p", { class: "way" }, `${found.source} → ${found.target}${limit}`), verdict(found.verdict),
      mirrorFigures(found), lag(`big ${name}`, samples, true),
      troubles(name, "Halted", found.halted, "h2"), troubles(name, "Short of time", found.short, "h2")),
    mirrorActions(found), tabs(name, "topics"),
  ];
  if (found.state === null) return head;
  const { topics } = await ask(of(name, "/topics"));
  topics.sort((a, b) => b.halted - a.halted || b.lag_records - a.lag_records || a.topic.localeCompare(b.topic));
  const rows = topics.slice(0, SHOWN).map((t) => [
    link(ways.topic(name, t.topic), t.topic), state(t.state), count(t.partitions), t.halted > 0 ? el("span", { class: "bad" }, count(t.halted)) : "0",
    count(t.lag_records), span(t.lag_seconds), count(t.lost_records), t.target_topic,
  ]);
  const words = topics.length > SHOWN
    ? `The ${SHOWN} of ${topics.length} topics that are halted or furthest behind`
    : `${plural(topics.length, "topic")}, those that are halted or furthest behind first`;
  return [...head, el("h2", {}, "Topics"),
    table(words, ["Topic", "State", "#Partitions", "#Halted", "#Lag", "#Lag, time", "#Missing", "On the target"], rows)];
}

export async function topic(_, name, topic) {
  const answer = await ask(of(name, `/topics/${encodeURIComponent(topic)}`));
  const partitions = answer.partitions.sort((a, b) =>
    (b.state === "halted") - (a.state === "halted") || b.lag_records - a.lag_records || a.partition - b.partition);
  const rows = partitions.slice(0, SHOWN).map((p) => [
    link(ways.partition(name, p.topic, p.partition), `${p.topic}:${p.partition}`), state(p.state),
    count(p.source_end), count(p.mirrored_to), count(p.lag_records), span(p.lag_seconds),
    p.retention_headroom_seconds === null ? "nothing to lose" : span(p.retention_headroom_seconds),
    count(p.target_end), count(p.gaps.length),
  ]);
  const words = partitions.length > SHOWN
    ? `The ${SHOWN} of ${partitions.length} partitions that are halted or furthest behind`
    : `${plural(partitions.length, "partition")}, those that are halted or furthest behind first`;
  const t = answer.topic;
  return [
    el("h1", {}, `Topic ${topic}`),
    figures(figure("State", t.state, t.state === "halted"), figure("On the target", t.target_topic), figure("Lag, records", count(t.lag_records)),
      figure("Lag, time", span(t.lag_seconds)), figure("Missing for good", count(t.lost_records), t.lost_records > 0)),
    el("h2", {}, "Partitions"),
    table(words, ["Partition", "State", "#Source end", "#Mirrored to", "#Lag", "#Lag, time", "#Headroom", "#Target end", "#Gaps"], rows),
  ];
}

// The source's offsets from where the mirror began to the last: segments, what is not mirrored yet, and what is missing.
function axis(p, segments) {
  const isStart = (gap) => gap.reason === "start";
  const first = p.gaps.some(isStart) && segments.length > 0 ? segments[0].source_from : 0;
  const end = Math.max(first + 1, p.source_end, p.mirrored_to);
  const x = (offset) => ((Math.min(Math.max(offset, first), end) - first) / (end - first)) * 1000;
  const bar = (kind, from, to, title) =>
    el("rect", { class: kind, x: x(from), y: 4, height: 24, width: Math.max(1.5, x(to) - x(from)) }, el("title", {}, title));
  const gaps = p.gaps.filter((gap) => !isStart(gap)).slice(-2000);
  const words = `Offsets ${count(first)} to ${count(end)}: mirrored up to ${count(p.mirrored_to)}, ${plural(segments.length, "segment")}, ${plural(p.gaps.length, "gap")}`;
  return el("figure", {},
    el("svg", { class: "axis", viewBox: "0 0 1000 32", preserveAspectRatio: "none", role: "img", "aria-label": words },
      bar("todo", first, end, "not mirrored yet"),
      segments.map((s) => bar("done", s.source_from, s.source_to, `${count(s.source_from)} to ${count(s.source_to)} are ${count(s.target_from)} to ${count(s.target_to)} on the target`)),
      gaps.map((gap) => bar(gap.is_loss ? "loss" : "gap", gap.from, gap.to, `${gap.reason} ${count(gap.from)} to ${count(gap.to)}`))),
    el("div", { class: "ends way", "aria-hidden": "true" }, el("span", {}, count(first)), el("span", {}, count(end))),
    el("figcaption", { class: "legend way" },
      [["done", "mirrored"], ["todo", "not yet"], ["gap", "nothing to read there"], ["loss", "records are missing"]].map(([kind, meaning]) =>
        el("span", {}, el("span", { class: `key ${kind}`, "aria-hidden": "true" }), meaning))));
}

function mapTables(p, map) {
  const gaps = p.gaps.slice(-SHOWN).map((gap) => [gap.reason, gap.is_loss ? "records are missing" : "nothing to read there", count(gap.from), count(gap.to), count(gap.to - gap.from)]);
  const segments = (map ? map.segments : []).slice(-SHOWN);
  const rows = segments.map((s) => [count(s.source_from), count(s.source_to), count(s.target_from), count(s.target_to), count(s.leader_epoch)]);
  return [
    gaps.length > 0 ? table(`Gaps: ranges of the source without a counterpart (${p.gaps.length > gaps.length ? "the last " : ""}${gaps.length})`, ["Reason", "Meaning", "#From", "#To", "#Offsets"], gaps)
      : el("p", {}, "No gaps: every offset has its counterpart."),
    rows.length > 0 ? table(`Segments: both sides in step (${map.segments.length + map.more_segments}, ${rows.length} shown)`, ["#Source from", "#Source to", "#Target from", "#Target to", "#Leader epoch"], rows) : null,
  ];
}

function translateForm(name, p) {
  const answer = el("p", { role: "status" });
  const offset = el("input", { name: "offset", inputmode: "numeric", pattern: "[0-9]+", required: "", size: "14" });
  const side = el("select", { name: "side" }, el("option", { value: "false" }, "source to target"), el("option", { value: "true" }, "target to source"));
  const form = el("form", {}, el("label", {}, "Offset", offset), el("label", {}, "From", side), el("button", {}, "Translate"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const reverse = side.value;
    const topic = reverse === "true" ? p.target_topic : p.topic;
    const query = new URLSearchParams({ topic, partition: p.partition, offset: offset.value, reverse });
    try {
      const found = await ask(of(name, `/translate?${query}`));
      answer.textContent = `${found.topic}:${found.partition} offset ${count(found.offset)}, ${found.exact ? "exactly that record" : `not exact: ${found.reason}`}`;
    } catch (error) {
      answer.textContent = error.message;
    }
  });
  return [form, answer];
}

export async function partition(_, name, topic, number) {
  const { partition: p, map } = await ask(of(name, `/topics/${encodeURIComponent(topic)}/partitions/${number}`));
  return [
    el("h1", {}, `${topic}:${number}`),
    p.reason ? el("p", { class: "bad" }, p.reason) : null,
    p.way_out ? el("p", {}, el("code", {}, p.way_out)) : null,
    figures(figure("State", p.state, p.state === "halted"), figure("On the target", p.target_topic), figure("Source end", count(p.source_end)),
      figure("Mirrored to", count(p.mirrored_to)), figure("Lag, records", count(p.lag_records)), figure("Lag, time", span(p.lag_seconds)), figure("Target end", count(p.target_end))),
    partitionActions(name, p),
    el("h2", {}, "Offsets of the source"), axis(p, map ? map.segments : []), mapTables(p, map),
    el("h2", {}, "Translate an offset"), translateForm(name, p),
  ];
}
