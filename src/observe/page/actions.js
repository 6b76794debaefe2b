// What changes something. It is there once a token was entered, asks before it acts, and says what came of it.

import { act, ask, hasToken, of, useToken } from "./api.js";
import { el } from "./dom.js";

const $ = (id) => document.getElementById(id);

// What was said last, beside the view: that is written anew all the time.
function say(words, bad = false) {
  $("said").textContent = words;
  $("said").className = bad ? "bad" : "";
}

function confirmed(question, yes) {
  const dialog = $("sure");
  $("question").textContent = question;
  $("yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function attempt(words, done, work) {
  say(`${words} …`);
  try {
    say(done(await work()));
  } catch (problem) {
    say(problem.message, true);
  }
  changed();
}

let changed = () => {};

function button(words, question, yes, doing, done, work) {
  const node = el("button", { type: "button" }, words);
  node.addEventListener("click", async () => {
    if (await confirmed(question, yes)) attempt(doing, done, work);
  });
  return node;
}

function bar(label, ...children) {
  return hasToken() ? el("section", { class: "acts", "aria-label": label }, children) : null;
}

const pauseButton = (mirror, what, partitions) => button("Pause", `Stop moving the data of ${what}? It lasts over restarts, until somebody resumes it.`, "Pause it",
  `Pausing ${what}`, () => `Paused ${what}: it stops within seconds.`, () => act(of(mirror, "/pause"), { partitions }));

const resumeButton = (mirror, what, partitions) => button("Resume", `Let ${what} go on?`, "Resume it",
  `Resuming ${what}`, () => `Resumed ${what}: it goes on within seconds.`, () => act(of(mirror, "/resume"), { partitions }));

function bandwidthForm(mirror) {
  const rate = el("input", { name: "rate", required: "", size: "12", placeholder: "10MiB" });
  const form = el("form", {}, el("label", {}, "Bandwidth a second (or unlimited, or file)", rate), el("button", {}, "Set"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt("Setting the bandwidth", (answer) => {
      const limit = answer.bandwidth_bytes_per_s;
      return `The bandwidth of ${mirror} is ${limit === undefined ? "unlimited" : `${limit.toLocaleString("en")} bytes a second`}.`;
    }, () => act(of(mirror, "/bandwidth"), { rate: rate.value.trim() }));
    rate.blur();
  });
  return form;
}

export function mirrorActions(mirror) {
  return bar("Actions", pauseButton(mirror.name, `mirror ${mirror.name}`, []), resumeButton(mirror.name, `mirror ${mirror.name}`, []), bandwidthForm(mirror.name));
}

export function partitionActions(mirror, p) {
  const what = `${p.topic}:${p.partition}`;
  const partitions = [{ topic: p.topic, partition: p.partition }];
  const named = /--accept-loss (\d+)\.\.(\d+)/.exec(p.way_out || "");
  const accept = named && button("Accept the loss", `Give up source offsets ${named[1]} to ${named[2]} of ${what}? They will never be on the target.`, "Give them up",
    `Resuming ${what}`, () => `Resumed ${what} behind offset ${named[2]}.`,
    () => act(of(mirror, "/resume"), { partitions, accept_loss: { from: Number(named[1]), to: Number(named[2]) } }));
  return bar("Actions", pauseButton(mirror, what, partitions), resumeButton(mirror, what, partitions), accept);
}

export function drillAction(mirror) {
  return bar("Actions", button("Drill now", `Rehearse a failover of mirror ${mirror}? It disturbs nothing.`, "Rehearse", "Rehearsing",
    (report) => `The drill ${report.passed ? "passed" : "failed"}: ${report.checks.filter((check) => check.verdict !== "pass").map((check) => `${check.check}: ${check.summary}`).join("; ") || "every check passed"}.`,
    () => act(of(mirror, "/drill"), {})));
}

function showKeys() {
  $("keys-words").textContent = hasToken() ? "Actions: on" : "Actions: off";
  $("forget").hidden = !hasToken();
}

// `then` writes the view anew.
export function start(then) {
  changed = then;
  showKeys();
  $("token-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const field = $("token");
    useToken(field.value);
    field.value = "";
    try {
      await ask("/token");
      say("The token is right. It is kept as long as this page is open, and nowhere.");
      $("keys").open = false;
    } catch (problem) {
      useToken(null);
      say(problem.message, true);
    }
    field.blur();
    showKeys();
    changed();
  });
  $("forget").addEventListener("click", () => {
    useToken(null);
    say("The token is forgotten.");
    showKeys();
    changed();
  });
}

// Where nothing at all is answered without it.
export function wantToken() {
  $("keys").open = true;
}
