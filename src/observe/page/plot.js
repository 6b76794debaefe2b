// Lag over time, by uPlot. A plot stays while the page is written anew around it, so that it does not flicker.

import { count, el, span } from "./dom.js";

const plots = new Map();

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

function words(samples) {
  const [first, last] = [samples[0], samples[samples.length - 1]];
  const most = samples.reduce((most, sample) => Math.max(most, sample.lag_records), 0);
  return `Lag of the last ${span((last.at_ms - first.at_ms) / 1000)}: at most ${count(most)} records, now ${count(last.lag_records)}`;
}

function options(plot, big) {
  const ink = () => getComputedStyle(plot.canvas).color;
  const soft = () => getComputedStyle(plot.caption).color;
  const line = () => getComputedStyle(plot.canvas).borderTopColor;
  const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, show: big };
  return {
    height: big ? 220 : 60,
    legend: { show: false },
    cursor: { show: big, drag: { x: false, y: false } },
    scales: { y: { range: (_, __, most) => [0, Math.max(1, most)] } },
    axes: [
      { ...axis, space: 90, values: (_, splits) => splits.map(clock) },
      { ...axis, size: 70, values: (_, splits) => splits.map((n) => (n % 1 === 0 ? count(n) : "")) },
    ],
    series: [{}, { stroke: ink, width: 2, fill: () => ink().replace("rgb(", "rgba(").replace(")", ", 0.14)"), points: { show: false } }],
    padding: big ? [8, 16, 0, 0] : [2, 0, 2, 0],
    hooks: {
      setCursor: [(shown) => {
        const at = shown.cursor.idx;
        const there = at !== null && at !== undefined && shown.data[0].length > at;
        plot.caption.textContent = there ? `${clock(shown.data[0][at])}: ${count(shown.data[1][at])} records` : plot.words;
      }],
    },
  };
}

function made(key, big) {
  const plot = { big, words: "" };
  plot.canvas = el("div", { class: `plot ${big ? "big" : "spark"}`, role: "img" });
  plot.caption = el("figcaption", { class: "way" });
  plot.node = el("figure", {}, plot.canvas, plot.caption);
  plots.set(key, plot);
  // It has a width, and colours, only once it is in the page.
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width === 0) return;
    if (!plot.drawn) {
      plot.drawn = new uPlot({ ...options(plot, big), width }, plot.data, plot.canvas);
      return;
    }
    if (width !== plot.drawn.width) plot.drawn.setSize({ width, height: plot.drawn.height });
    plot.drawn.setData(plot.data);
  }).observe(plot.canvas);
  return plot;
}

// null where there is nothing to draw yet.
export function lag(key, samples, big = false) {
  if (samples.length < 2) return null;
  const plot = plots.get(key) || made(key, big);
  const data = [samples.map((sample) => sample.at_ms / 1000), samples.map((sample) => sample.lag_records)];
  plot.words = words(samples);
  plot.canvas.setAttribute("aria-label", plot.words);
  plot.caption.textContent = plot.words;
  plot.data = data;
  if (plot.drawn && plot.canvas.isConnected) plot.drawn.setData(data);
  return plot.node;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const plot of plots.values()) if (plot.drawn) plot.drawn.redraw();
});
