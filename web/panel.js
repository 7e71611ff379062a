// @ts-check
/** The sidebar: a run's images, their state and what they look like. */

import { app } from "../../scripts/app.js";
import { openRuns, opened, queueAllRows } from "./actions.js";
import { element } from "./dom.js";
import { nodeOf } from "./graph.js";
import { imageUrl, loadWorkflow } from "./images.js";
import { makeProgress } from "./progress.js";
import { text } from "./text.js";
import { showImage } from "./viewer.js";

/** @typedef {import("./run.js").Job} Job */
/** @typedef {import("./run.js").Run} Run */

const LINE = 60;
const SPARE = 4;
const DOUBLE_MS = 250;

export function registerPanel() {
  /** @type {() => void} */
  let leave = () => {};
  app.extensionManager.registerSidebarTab({
    id: "promptmill",
    icon: "pi pi-table",
    title: "promptmill",
    tooltip: text("panel_tooltip"),
    type: "custom",
    render: (container) => {
      leave = fill(container);
    },
    destroy: () => leave(),
  });
}

/**
 * @param {HTMLElement} container
 * @returns {() => void} what to do when the panel closes
 */
function fill(container) {
  /** @type {Run[]} */
  let runs = [];
  /** @type {Run | undefined} */
  let run;

  const refreshButton = element("button", { type: "button" }, text("refresh"));
  const progress = makeProgress(() => queueAllRows(run && nodeOf(run.maker.id)), refreshButton);
  const choice = element("select", { className: "pm-choice" });
  const note = element("p", { className: "pm-note" });
  const space = element("div", { className: "pm-space" });
  const list = element("div", { className: "pm-list" }, space);
  container.style.height = "100%";
  container.replaceChildren(
    element("div", { className: "pm-panel" }, element("h3", {}, "promptmill"), choice, progress.root, note, list),
  );

  /** @type {Map<number, ReturnType<typeof makeLine>>} */
  const lines = new Map();
  const draw = () => {
    const jobs = run?.jobs ?? [];
    space.style.height = `${jobs.length * LINE}px`;
    const first = Math.max(0, Math.floor(list.scrollTop / LINE) - SPARE);
    const last = Math.min(jobs.length, Math.ceil((list.scrollTop + list.clientHeight) / LINE) + SPARE);
    for (const [place, line] of lines) {
      if (place >= first && place < last) continue;
      line.root.remove();
      lines.delete(place);
    }
    for (let place = first; place < last; place++) {
      const line = lines.get(place) ?? makeLine(place);
      if (!lines.has(place)) space.append(line.root);
      lines.set(place, line);
      line.show(/** @type {Run} */ (run), jobs[place]);
    }
  };
  /** @param {Run | undefined} other */
  const follow = (other) => {
    run?.removeEventListener("change", draw);
    run = other;
    run?.addEventListener("change", draw);
    progress.follow(run);
    choice.replaceChildren(...runs.map((each) => element("option", { selected: each === run }, nameOf(each))));
    choice.hidden = runs.length < 2;
    list.scrollTop = 0;
    draw();
  };
  let asked = 0;
  const refresh = async () => {
    const now = ++asked;
    note.textContent = "";
    /** @type {Run[]} */
    let found = [];
    let problem = "";
    try {
      found = await openRuns();
    } catch (error) {
      problem = /** @type {Error} */ (error).message;
    }
    if (now !== asked) return;
    runs = found;
    note.textContent = problem || (runs.length ? "" : text("panel_empty"));
    follow(runs.find((each) => each === run) ?? runs[0]);
  };
  /** @param {Event} event */
  const isOpened = (event) => {
    const { run: other } = /** @type {CustomEvent<{run: Run}>} */ (event).detail;
    if (!runs.includes(other)) {
      runs = [...runs.filter((each) => each.maker.id !== other.maker.id), other];
      note.textContent = "";
      follow(other);
    }
  };

  refreshButton.onclick = refresh;
  choice.onchange = () => follow(runs[choice.selectedIndex]);
  list.addEventListener("scroll", draw);
  const resized = new ResizeObserver(draw);
  resized.observe(list);
  opened.addEventListener("run", isOpened);
  opened.addEventListener("graph", refresh);
  refresh();
  return () => {
    opened.removeEventListener("run", isOpened);
    opened.removeEventListener("graph", refresh);
    resized.disconnect();
    runs = [];
    follow(undefined);
  };
}

/** @param {Run} run */
const nameOf = (run) => `${run.maker.title} (${run.maker.id}): ${run.folder}`;

/** @param {number} place */
function makeLine(place) {
  /** @type {Run} */
  let run;
  /** @type {Job} */
  let job;
  let clicked = 0;
  const picture = element("img", { alt: "", loading: "lazy", draggable: false });
  picture.onerror = () => picture.removeAttribute("src");
  const name = element("div", { className: "pm-name" });
  const state = element("div", { className: "pm-state" });
  const root = element("div", { className: "pm-line" }, element("div", { className: "pm-picture" }, picture), element("div", { className: "pm-text" }, name, state));
  root.style.top = `${place * LINE}px`;
  root.onclick = () => {
    clearTimeout(clicked);
    if (job.state === "done") clicked = setTimeout(() => showImage(run, job), DOUBLE_MS);
  };
  root.ondblclick = () => {
    clearTimeout(clicked);
    if (job.state === "done") loadWorkflow(run, job);
  };
  return {
    root,
    /**
     * @param {Run} itsRun
     * @param {Job} itsJob
     */
    show(itsRun, itsJob) {
      [run, job] = [itsRun, itsJob];
      root.className = `pm-line pm-is-${job.state}`;
      root.title = job.state === "done" ? text("line_tooltip") : job.error;
      name.textContent = job.file;
      state.textContent = `${text("row", { row: job.row })} · ${job.error || text(`state_${job.state}`)}`;
      const source = job.state === "done" ? imageUrl(run, job) : "";
      if (picture.dataset.source === source) return;
      picture.dataset.source = source;
      if (source) picture.src = source;
      else picture.removeAttribute("src");
    },
  };
}
