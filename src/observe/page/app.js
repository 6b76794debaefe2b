"use strict";
// What is shown is always what the server said last. Text goes into the page as text only, never as markup.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const LEVELS = { safe: "✓ Safe", watch: "! Look at it", unsafe: "✗ Not safe", unknown: "? Not known", promoted: "⇄ Promoted" };

let overview = null;
let heard = 0;

function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "rect", "title"].includes(tag);
  const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const count = (n) => (n === null || n === undefined || n < 0 ? "not known" : n.toLocaleString("en"));

function span(seconds) {
  if (seconds === null || seconds === undefined || seconds < 0) return "not known";
  if (seconds < 1) return seconds === 0 ? "0 s" : "under 1 s";
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  let left = Math.round(seconds);
  const words = [];
  for (const [size, unit] of parts) {
    const whole = Math.floor(left / size);
    left -= whole * size;
    if (whole > 0) words.push(`${whole} ${unit}`);
  }
  return words.slice(0, 2).join(" ");
}

async function ask(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error || response.statusText);
  return body;
}

const figure = (name, value, bad = false) => [el("dt", {}, name), el("dd", bad ? { class: "bad" } : {}, value)];

const figures = (...rows) => el("dl", { class: "figures" }, rows.map((row) => el("div", {}, row)));

function verdict(of) {
  return [
    el("p", { class: "verdict" }, LEVELS[of.level]),
    el("ul", { class: "reasons" }, of.reasons.map((reason) => el("li", {}, reason))),
  ];
}

// Lag over the last hour. The last value is told in words as well.
function spark(samples) {
  if (samples.length < 2) return null;
  const [from, to] = [samples[0].at_ms, samples[samples.length - 1].at_ms];
  const most = Math.max(1, ...samples.map((sample) => sample.lag_records));
  const x = (sample) => ((sample.at_ms - from) / Math.max(1, to - from)) * 600;
  const y = (sample) => 60 - (sample.lag_records / most) * 56;
  const line = samples.map((sample, at) => `${at === 0 ? "M" : "L"}${x(sample).toFixed(1)} ${y(sample).toFixed(1)}`).join("");
  const words = `Lag of the last ${span((to - from) / 1000)}: at most ${count(most)} records, now ${count(samples[samples.length - 1].lag_records)}`;
  return el("figure", { class: "plot" },
    el("svg", { class: "spark", viewBox: "0 0 600 62", preserveAspectRatio: "none", role: "img", "aria-label": words },
      el("path", { class: "area", d: `${line}L600 60L0 60Z` }), el("path", { d: line })),
    el("figcaption", { class: "way" }, words));
}

function troubles(title, rows) {
  if (rows.length === 0) return null;
  return [
    el("h3", {}, title),
    el("ul", { class: "reasons" }, rows.map((row) => el("li", {}, `${row.topic}:${row.partition}: ${row.reason}`, row.way_out ? el("div", {}, el("code", {}, row.way_out)) : null))),
  ];
}

const mirrorLink = (name, rest = "") => `#/mirrors/${encodeURIComponent(name)}${rest}`;

function groupsWords(groups) {
  if (!groups) return "none selected";
  return groups.age_seconds < 0 ? "not yet in step" : `in step ${span(groups.age_seconds)} ago`;
}

function drillWords(drill) {
  if (!drill) return "none scheduled";
  const when = drill.at_ms ? `${span((Date.now() - drill.at_ms) / 1000)} ago` : "never done";
  return `${drill.passed ? "passed" : "failed"}, ${when}`;
}

function card(mirror, samples) {
  return el("li", { class: `card ${mirror.verdict.level}` },
    el("h2", {}, el("a", { href: mirrorLink(mirror.name) }, mirror.name)),
    el("p", { class: "way" }, `${mirror.source} → ${mirror.target}`),
    verdict(mirror.verdict),
    figures(
      figure("Would lose now", span(mirror.rpo_seconds)),
      figure("Lag, records", count(mirror.lag_records)),
      figure("Partitions", count(mirror.partitions)),
      figure("Halted", count(mirror.halted.length === 20 ? "20 or more" : mirror.halted.length), mirror.halted.length > 0),
      figure("Groups", groupsWords(mirror.groups)),
      figure("Last drill", drillWords(mirror.drill), mirror.drill && !mirror.drill.passed),
    ),
    spark(samples),
    troubles("Halted", mirror.halted),
    troubles("Short of time", mirror.short));
}

// A backup is no better than its last complete pass; how old that may be only its owner knows.
function backupCard(backup) {
  const words = { unknown: "? Not read yet", never: "! Never complete", complete: "Complete" }[backup.state];
  const level = { unknown: "unknown", never: "watch", complete: "promoted" }[backup.state];
  return el("li", { class: `card ${level}` },
    el("h2", {}, `Backup ${backup.name}`),
    el("p", { class: "verdict" }, words),
    figures(
      figure("Last complete", backup.complete_at_ms ? `${span((Date.now() - backup.complete_at_ms) / 1000)} ago` : "never"),
      figure("Behind, records", count(backup.lag_records)),
    ));
}

async function showOverview() {
  if (!overview) return null;
  const histories = await Promise.all(overview.mirrors.map((mirror) =>
    ask(`/api/v1/mirrors/${encodeURIComponent(mirror.name)}/history`).then((body) => body.samples, () => [])));
  const cards = overview.mirrors.map((mirror, at) => card(mirror, histories[at])).concat(overview.backups.map(backupCard));
  return [el("h1", {}, "Are we safe right now?"), el("ul", { class: "cards" }, cards)];
}

function table(caption, header, rows) {
  const numeric = (at) => (header[at].startsWith("#") ? { class: "n" } : {});
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", {}, caption),
      el("thead", {}, el("tr", {}, header.map((name, at) => el("th", { scope: "col", ...numeric(at) }, name.replace("#", ""))))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, at) => el("td", numeric(at), cell)))))));
}

const isLoss = (gap) => ["retention", "corrupt", "accepted", "divergence", "recreated", "unknown"].includes(gap.reason);

async function showMirror(name) {
  const { mirror } = await ask(`/api/v1/mirrors/${encodeURIComponent(name)}`);
  const { samples } = await ask(`/api/v1/mirrors/${encodeURIComponent(name)}/history`);
  const head = [
    el("h1", {}, `Mirror ${name}`),
    el("section", { class: `card ${mirror.verdict.level}`, "aria-label": "Verdict" },
      el("p", { class: "way" }, `${mirror.source} → ${mirror.target}`), verdict(mirror.verdict), spark(samples)),
  ];
  if (!mirror.status) return head;
  const partitions = mirror.status.partitions.slice().sort((a, b) =>
    (b.state === "halted") - (a.state === "halted") || b.lag_records - a.lag_records ||
    a.topic.localeCompare(b.topic) || a.partition - b.partition);
  const shown = partitions.slice(0, 500);
  const rows = shown.map((p) => [
    el("a", { href: mirrorLink(name, `/${encodeURIComponent(p.topic)}/${p.partition}`) }, `${p.topic}:${p.partition}`),
    p.state === "halted" ? el("span", { class: "bad" }, p.state) : p.state,
    count(p.source_end), count(p.mirrored_to), count(p.lag_records), span(p.lag_seconds),
    p.retention_headroom_seconds === null ? "nothing to lose" : span(p.retention_headroom_seconds),
    count(p.target_end), String(p.gaps.length),
  ]);
  const words = shown.length < partitions.length
    ? `The ${shown.length} of ${partitions.length} partitions that are halted or furthest behind`
    : `All ${partitions.length} partitions, those that are halted or furthest behind first`;
  return [...head, el("h2", {}, "Partitions"),
    table(words, ["Partition", "State", "#Source end", "#Mirrored to", "#Lag", "#Lag, time", "#Headroom", "#Target end", "#Gaps"], rows)];
}

// The source's offsets from the first to the last, with what is mirrored, what is not yet, and what is missing.
function axis(p) {
  const end = Math.max(1, p.source_end, p.mirrored_to);
  const x = (offset) => (Math.min(Math.max(offset, 0), end) / end) * 1000;
  const bar = (kind, from, to, title) => el("rect", { class: kind, x: x(from), y: 4, height: 24, width: Math.max(1.5, x(to) - x(from)) }, el("title", {}, title));
  const words = `Offsets 0 to ${count(end)}: mirrored up to ${count(p.mirrored_to)}, ${p.gaps.length} gaps`;
  return el("svg", { class: "axis", viewBox: "0 0 1000 32", preserveAspectRatio: "none", role: "img", "aria-label": words },
    bar("todo", 0, end, "not mirrored yet"),
    p.mirrored_to > 0 ? bar("done", 0, p.mirrored_to, `mirrored up to ${count(p.mirrored_to)}`) : null,
    p.gaps.slice(-2000).map((gap) => bar(isLoss(gap) ? "loss" : "gap", gap.from, gap.to, `${gap.reason} ${count(gap.from)} to ${count(gap.to)}`)));
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
      const found = await ask(`/api/v1/mirrors/${encodeURIComponent(name)}/translate?${query}`);
      answer.textContent = `${found.topic}:${found.partition} offset ${count(found.offset)}, ${found.exact ? "exactly that record" : `not exact: ${found.reason}`}`;
    } catch (error) {
      answer.textContent = error.message;
    }
  });
  return [form, answer];
}

async function showPartition(name, topic, partition) {
  const { mirror } = await ask(`/api/v1/mirrors/${encodeURIComponent(name)}`);
  const p = mirror.status && mirror.status.partitions.find((row) => row.topic === topic && row.partition === Number(partition));
  if (!p) throw new Error(`${topic}:${partition} is not there, or the clusters could not be asked`);
  const gaps = p.gaps.slice(-500).map((gap) => [gap.reason, isLoss(gap) ? "records are missing" : "nothing to read there", count(gap.from), count(gap.to), count(gap.to - gap.from)]);
  return [
    el("h1", {}, `${topic}:${partition}`),
    p.reason ? el("p", { class: "bad" }, p.reason) : null,
    p.way_out ? el("p", {}, el("code", {}, p.way_out)) : null,
    figures(figure("State", p.state, p.state === "halted"), figure("On the target", p.target_topic), figure("Source end", count(p.source_end)),
      figure("Mirrored to", count(p.mirrored_to)), figure("Lag, records", count(p.lag_records)), figure("Lag, time", span(p.lag_seconds)), figure("Target end", count(p.target_end))),
    el("h2", {}, "Offsets of the source"), axis(p),
    gaps.length > 0 ? table(`Gaps: ranges of the source without a counterpart (the last ${gaps.length})`, ["Reason", "Meaning", "#From", "#To", "#Offsets"], gaps)
      : el("p", {}, "No gaps: every offset has its counterpart."),
    el("h2", {}, "Translate an offset"), translateForm(name, p),
  ];
}

function where() {
  const [, kind, name, topic, partition] = location.hash.split("/").map(decodeURIComponent);
  return kind === "mirrors" && name ? { name, topic, partition } : {};
}

let shownAt = "";

async function show() {
  const { name, topic, partition } = where();
  const at = location.hash;
  let content;
  try {
    content = topic ? await showPartition(name, topic, partition) : name ? await showMirror(name) : await showOverview();
  } catch (error) {
    content = [el("h1", {}, "Not there"), el("p", { class: "bad" }, error.message)];
  }
  // Who has gone on meanwhile does not want the answer; who is writing does not want it taken from under the hands.
  const writes = document.activeElement && document.activeElement.closest("form");
  if (!content || at !== location.hash || (writes && at === shownAt)) return;
  const places = [["All mirrors", "#/"], ...(name ? [[name, mirrorLink(name)]] : []), ...(topic ? [[`${topic}:${partition}`, at]] : [])];
  $("path").replaceChildren(...places.flatMap(([words, href], n) => [n > 0 ? " / " : "", el("a", { href }, words)]));
  const focused = document.activeElement && document.activeElement.getAttribute("href");
  $("main").replaceChildren(...content.flat(2).filter(Boolean));
  if (at !== shownAt) {
    document.title = name ? `${name} – kmirror` : "kmirror";
    if (shownAt !== "") $("main").focus();
    shownAt = at;
  } else if (focused) {
    const again = document.querySelector(`main a[href="${CSS.escape(focused)}"]`);
    if (again) again.focus();
  }
}

function live() {
  const events = new EventSource("/api/v1/events");
  events.addEventListener("mirrors", (event) => {
    overview = JSON.parse(event.data);
    heard = Date.now();
    show();
  });
}

// The browser takes the stream up again by itself; that it is old is told meanwhile.
function tell() {
  const age = (Date.now() - heard) / 1000;
  const lost = heard > 0 && age > 20;
  $("live").className = lost ? "lost" : "";
  $("live").textContent = heard === 0 ? "connecting" : lost ? `no news for ${span(age)}: what is shown is old` : "live";
}

addEventListener("hashchange", show);
setInterval(tell, 1000);
live();
