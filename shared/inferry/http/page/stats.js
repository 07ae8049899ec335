// What a model did since its process started, with small charts.

import { json, modelPath } from "./api.js";
import { h, plural, svg, time } from "./dom.js";

const PHASES = { queue: "waiting", compute_input: "reading", compute_infer: "running", compute_output: "writing" };
const POINTS = 60;
const SECONDS = 2;

/** A panel that asks while it is open. */
export function statistics(model, say) {
  const body = h("div");
  const points = [];
  let timer = null;
  let before = null;

  async function look() {
    try {
      const { model_stats: all } = await json(`${modelPath(model.name, model.version)}/stats`);
      const stats = all[0];
      const count = stats.inference_stats.success.count;
      if (before !== null) points.push(Math.max(0, count - before) / SECONDS);
      before = count;
      body.replaceChildren(...shown(stats, points.slice(-POINTS)));
    } catch (error) {
      stop();
      say(error);
    }
  }

  function stop() {
    clearInterval(timer);
    timer = null;
  }

  const panel = h("details", {
    class: "panel",
    ontoggle: () => {
      stop();
      if (!panel.open) return;
      look();
      timer = setInterval(() => (panel.isConnected ? look() : stop()), 1000 * SECONDS);
    },
  }, h("summary", {}, "Statistics"), body);
  return panel;
}

function shown(stats, points) {
  const { success, fail } = stats.inference_stats;
  const mean = success.count ? time(success.ns / success.count / 1e6) : "none yet";
  const parts = Object.entries(PHASES).map(([name, said]) => [said, stats.inference_stats[name]?.ns || 0]);
  const whole = parts.reduce((sum, [, ns]) => sum + ns, 0);
  return [
    h("p", {}, `Version ${stats.version}, in the process that answered: ${plural(success.count, "request")} answered, ${fail.count} failed, ` +
      `${plural(stats.inference_count, "inference")} in ${plural(stats.execution_count, "run")}; mean time ${mean}.`),
    whole > 0 && chart("Where the time goes", parts.map(([said, ns]) => [`${said} ${time(ns / success.count / 1e6)}`, ns / whole])),
    stats.batch_stats.length > 1 && chart("Runs by size", share(stats.batch_stats.map(({ batch_size: size, compute_infer: { count } }) => [`of ${size}: ${count}`, count]))),
    points.length > 1 && line(`Answers a second: ${points.at(-1)}`, points),
  ].filter(Boolean);
}

const share = (rows) => {
  const most = Math.max(...rows.map(([, count]) => count), 1);
  return rows.map(([said, count]) => [said, count / most]);
};

function chart(title, rows) {
  const said = `${title}: ${rows.map(([name]) => name).join(", ")}`;
  return h("figure", {}, h("figcaption", {}, title), svg("svg", { viewBox: `0 0 300 ${rows.length * 18}`, role: "img", "aria-label": said, class: "chart" },
    rows.flatMap(([name, part], i) => [
      svg("rect", { x: 130, y: i * 18 + 3, width: Math.max(1, 168 * part), height: 12, rx: 2 }),
      svg("text", { x: 126, y: i * 18 + 13, "text-anchor": "end", "font-size": 11 }, name),
    ])));
}

function line(title, points) {
  const most = Math.max(...points, 1);
  const path = points.map((value, i) => `${(300 * i) / Math.max(points.length - 1, 1)},${38 - (36 * value) / most}`).join(" ");
  return h("figure", {}, h("figcaption", {}, title), svg("svg", { viewBox: "0 0 300 40", role: "img", "aria-label": `${title}, ${most} at most`, class: "chart" }, svg("polyline", { points: path })));
}
