// Which view is shown, and when it is written anew. What is shown is always what the server said last.

import * as actions from "./actions.js";
import { live } from "./api.js";
import { el, link, span, ways } from "./dom.js";
import * as studies from "./studies.js";
import * as views from "./views.js";

const $ = (id) => document.getElementById(id);

let overview = null;
let heard = 0;
let shownAt = null;

// The view of an address: what it is called, where it stands, and whether it follows the news.
function where() {
  const [, kind, name, page, topic, partition] = location.hash.split("/").map(decodeURIComponent);
  if (kind === "backups") return { view: studies.backups, places: [["Backups", "#/backups"]], follows: true };
  if (kind !== "mirrors" || !name) return { view: views.all, places: [], follows: true };
  const places = [[name, ways.mirror(name)]];
  const study = { groups: studies.groups, drills: studies.drills, failover: studies.failover }[page];
  if (study) return { view: study, name, places: [...places, [page, ways.of(name, page)]], follows: false };
  if (page !== "topics" || !topic) return { view: views.mirror, name, places, follows: true };
  places.push([topic, ways.topic(name, topic)]);
  if (partition === undefined) return { view: views.topic, name, topic, places, follows: true };
  return { view: views.partition, name, topic, partition, places: [...places, [`${topic}:${partition}`, ways.partition(name, topic, partition)]], follows: true };
}

function again() {
  const button = el("button", { type: "button", class: "again" }, "Look again");
  button.addEventListener("click", () => show(true));
  return el("p", {}, button);
}

async function content(at) {
  try {
    const found = await at.view(overview, at.name, at.topic, at.partition);
    return at.follows ? found : [...found, again()];
  } catch (problem) {
    return [el("h1", {}, "Not there"), el("p", { class: "bad" }, problem.message), again()];
  }
}

// What somebody who has changed the configuration wants to know, whatever is looked at.
function notices() {
  const config = overview.config;
  if (!config) return [];
  const refused = config.refused && el("p", { class: "bad" }, `The configuration file as it is now was refused as a whole; the one before goes on. ${config.refused.why}`);
  const waits = config.pending_restart.length > 0 && el("p", {}, `With the next start of the process only: ${config.pending_restart.join(", ")}.`);
  return [refused, waits].filter(Boolean);
}

let turn = 0;

async function show(anew = false) {
  const at = where();
  const hash = location.hash;
  if (overview === null || (!anew && !at.follows && hash === shownAt)) return;
  turn += 1;
  const mine = turn;
  const found = await content(at);
  // Who has gone on meanwhile does not want the answer; who is writing does not want it taken from under the hands.
  const writes = document.activeElement && document.activeElement.closest("main form");
  if (mine !== turn || (writes && hash === shownAt)) return;
  const places = [["All mirrors", "#/"], ...at.places];
  $("path").replaceChildren(...places.flatMap(([words, href], n) => [n > 0 ? " / " : "", link(href, words, { "aria-current": n === places.length - 1 ? "page" : null })]));
  put([...notices(), ...found], hash);
  document.title = at.name ? `${at.name} – kmirror` : "kmirror";
}

// The same view again keeps the focus and how far somebody has scrolled; another one gets the focus itself.
function put(found, hash) {
  const main = $("main");
  const focused = document.activeElement && main.contains(document.activeElement) ? document.activeElement : null;
  const name = focused && (focused.getAttribute("href") || focused.getAttribute("aria-label") || focused.textContent);
  const scrolled = new Map([...main.querySelectorAll(".scroll")].map((region) => [region.getAttribute("aria-label"), region.scrollLeft]));
  main.replaceChildren(...found.flat(3).filter(Boolean));
  if (hash !== shownAt) {
    if (shownAt !== null) main.focus();
    shownAt = hash;
    return;
  }
  for (const region of main.querySelectorAll(".scroll")) region.scrollLeft = scrolled.get(region.getAttribute("aria-label")) || 0;
  if (!focused || main.contains(document.activeElement)) return;
  const alike = (node) => (node.getAttribute("href") || node.getAttribute("aria-label") || node.textContent) === name;
  const there = [...main.querySelectorAll("a, button, .scroll")].find(alike);
  if (there) there.focus();
}

// The stream is taken up again by itself; that what is shown is old is told meanwhile.
let trouble = null;

function tell() {
  const age = (Date.now() - heard) / 1000;
  const lost = heard > 0 && age > 20;
  $("live").className = lost || trouble ? "lost" : "";
  const words = heard === 0 ? "connecting" : lost ? `no news for ${span(age)}: what is shown is old` : "live";
  const said = trouble && (heard === 0 || lost) ? `${words} (${trouble})` : words;
  // A screen reader is told of changes alone.
  if ($("live").textContent !== said) $("live").textContent = said;
}

actions.start(() => show(true));
addEventListener("hashchange", () => show());
// What stands behind # is a view; this leads to the content of the one that is shown.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("main").focus();
});
setInterval(tell, 1000);
live((news) => {
  overview = news;
  heard = Date.now();
  trouble = null;
  tell();
  show();
}, (problem) => {
  trouble = problem && problem.kind ? problem.message : null;
  if (problem && problem.kind === "token-missing") {
    actions.wantToken();
    if (overview === null) $("main").replaceChildren(el("h1", {}, "The token is needed"), el("p", {}, "Enter it above: on this address nothing is told without it."));
  }
  tell();
});
