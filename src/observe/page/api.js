// The server: questions, news, and what is told to it. The token is kept in this variable and nowhere else.

let token = null;

export const hasToken = () => token !== null;

export function useToken(text) {
  token = text || null;
}

const ROOT = "/api/v1";

export const of = (mirror, rest = "") => `/mirrors/${encodeURIComponent(mirror)}${rest}`;

export class Problem extends Error {
  constructor(problem) {
    super(problem.detail || problem.title || "no answer");
    this.kind = (problem.type || "").split(":").pop();
    this.title = problem.title;
  }
}

function headers(more = {}) {
  return { ...more, ...(token === null ? {} : { authorization: `Bearer ${token}` }) };
}

async function answered(response) {
  const body = await response.json().catch(() => ({ title: response.statusText }));
  if (!response.ok) throw new Problem(body);
  return body;
}

export const ask = async (path) => answered(await fetch(ROOT + path, { headers: headers({ accept: "application/json" }) }));

export async function act(path, body, method = "POST") {
  const request = { method, headers: headers({ "content-type": "application/json" }), body: JSON.stringify(body) };
  return answered(await fetch(ROOT + path, request));
}

// Server-sent events, read off a plain request: one can carry the token, which an EventSource cannot.
async function follow(heard) {
  const response = await fetch(`${ROOT}/events`, { headers: headers({ accept: "text/event-stream" }) });
  if (!response.ok) await answered(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim());
      if (data.length > 0) heard(JSON.parse(data.join("\n")));
    }
  }
}

// For ever: what ends is taken up again.
export async function live(heard, lost) {
  for (;;) {
    try {
      await follow(heard);
      lost(null);
    } catch (problem) {
      lost(problem);
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

// Samples of the last hour: only those are asked for that are not here yet.
const KEPT = 720;
const histories = new Map();

export async function history(mirror) {
  const known = histories.get(mirror) || [];
  const since = known.length > 0 ? known[known.length - 1].at_ms : 0;
  const { samples } = await ask(of(mirror, `/history?since=${since}`));
  const all = known.concat(samples).slice(-KEPT);
  histories.set(mirror, all);
  return all;
}
