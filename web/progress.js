// @ts-check
/** How far a run is: the buttons and the bar on its node and in the panel. */

import { cancelRows } from "./actions.js";
import { element } from "./dom.js";
import { number, text } from "./text.js";

/** @typedef {import("./run.js").Run} Run */

/**
 * @param {() => void} queue what the first button does
 * @param {...HTMLElement} more buttons
 */
export function makeProgress(queue, ...more) {
  /** @type {Run | undefined} */
  let run;
  const start = element("button", { type: "button", className: "pm-primary", onclick: queue }, text("queue_all"));
  const cancel = element("button", { type: "button", onclick: () => cancelRows(run) }, text("cancel"));
  const bar = element("div", { className: "pm-bar" });
  const words = element("div", { className: "pm-words" });
  const root = element("div", { className: "pm-progress" }, element("div", { className: "pm-buttons" }, start, cancel, ...more), bar, words);

  const show = () => {
    start.disabled = Boolean(run?.queueing);
    cancel.disabled = !run?.isBusy;
    bar.replaceChildren(...(run ? parts(run) : []));
    words.textContent = run ? describe(run) : "";
  };
  show();
  return {
    root,
    /** @param {Run | undefined} other */
    follow(other) {
      run?.removeEventListener("change", show);
      run = other;
      run?.addEventListener("change", show);
      show();
    },
  };
}

/** @param {Run} run */
function parts(run) {
  const { counts } = run;
  return /** @type {const} */ (["done", "failed", "running", "queued"]).map((state) =>
    element("span", { className: `pm-${state}`, style: /** @type {any} */ (`flex-grow: ${counts[state]}`) }),
  ).concat(element("span", { style: /** @type {any} */ (`flex-grow: ${counts.todo}`) }));
}

/** @param {Run} run */
function describe(run) {
  const { done, failed, queued, running } = run.counts;
  const left = queued + running;
  const words = [text("count_done", { done: number(done), all: number(run.jobs.length) })];
  if (failed) words.push(text("count_failed", { count: number(failed) }));
  if (run.queueing) words.push(text("queued_of", { done: number(run.queueing.done), total: number(run.queueing.total) }));
  else if (left) words.push(text("count_left", { count: number(left) }));
  if (left && run.rate) {
    const minutes = (left + (run.queueing ? run.queueing.total - run.queueing.done : 0)) / run.rate;
    words.push(text("rate", { rate: run.rate.toFixed(1) }));
    words.push(minutes < 1 ? text("under_a_minute") : text("minutes_left", { minutes: number(Math.round(minutes)) }));
  }
  return words.join(" · ");
}
