// What views are made of. Text goes into the page as text only, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const OF_SVG = ["svg", "path", "rect", "title"];

export function el(tag, attributes = {}, ...children) {
  const node = OF_SVG.includes(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const count = (n) => (n === null || n === undefined || n < 0 ? "not known" : n.toLocaleString("en"));

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

export function span(seconds) {
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

export const ago = (ms) => `${span(Math.max(0, Date.now() - ms) / 1000)} ago`;

export function bytes(n) {
  if (n === null || n === undefined) return "unlimited";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) {
    n /= 1024;
    at += 1;
  }
  return `${n % 1 === 0 ? n : n.toFixed(1)} ${units[at]}`;
}

export const figure = (name, value, bad = false) => [el("dt", {}, name), el("dd", bad ? { class: "bad" } : {}, value)];

export const figures = (...rows) => el("dl", { class: "figures" }, rows.map((row) => el("div", {}, row)));

// A column whose name begins with # holds numbers.
export function table(caption, header, rows) {
  const numeric = (at) => (header[at].startsWith("#") ? { class: "n" } : {});
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", {}, caption),
      el("thead", {}, el("tr", {}, header.map((name, at) => el("th", { scope: "col", ...numeric(at) }, name.replace("#", ""))))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, at) => el("td", numeric(at), cell)))))));
}

export const link = (href, words, attributes = {}) => el("a", { href, ...attributes }, words);

const part = encodeURIComponent;

export const ways = {
  mirror: (name) => `#/mirrors/${part(name)}`,
  of: (name, what) => `#/mirrors/${part(name)}/${what}`,
  topic: (name, topic) => `#/mirrors/${part(name)}/topics/${part(topic)}`,
  partition: (name, topic, partition) => `#/mirrors/${part(name)}/topics/${part(topic)}/${partition}`,
};

export const state = (word) => el("span", { class: word === "halted" ? "bad" : "" }, word);
