// @ts-check
/** What the buttons, the menus and the commands do, and what the user is told. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { behind, isThere, MAKERS, makersIn, nodeOf } from "./graph.js";
import { knownRuns, openRun, runOf } from "./run.js";
import { listJobs } from "./server.js";
import { number, text } from "./text.js";

/** @typedef {import("./graph.js").Node} Node */
/** @typedef {import("./graph.js").Maker} Maker */
/** @typedef {import("./run.js").Run} Run */

const TOAST_MS = 8000;

/** Events: "run", whenever a node on the canvas got a run, with both as detail; "graph", when there is another graph. */
export const opened = new EventTarget();

/**
 * @param {"success" | "info" | "warn" | "error"} severity
 * @param {string} detail
 */
export function tell(severity, detail) {
  const life = severity === "error" ? undefined : TOAST_MS;
  app.extensionManager.toast.add({ severity, summary: "promptmill", detail, life });
}

/**
 * Open the runs of the graph as it is now.
 *
 * @returns {Promise<Run[]>}
 */
export async function openRuns() {
  const makers = makersIn(await app.graphToPrompt());
  await Promise.all(makers.map(open));
  return makers.flatMap(({ id }) => shown.get(id)?.run ?? []);
}

/**
 * Queue all rows of a node, or of the only one there is.
 *
 * @param {Node} [node]
 */
export async function queueAllRows(node) {
  try {
    const prompt = await app.graphToPrompt();
    const makers = makersIn(prompt);
    const maker = node ? makers.find(({ id }) => nodeOf(id) === node) : chosen(makers);
    if (!maker) return tell("warn", text(node || !makers.length ? "no_table" : "choose_node"));
    const run = await open(maker);
    if (run.queueing) return;
    const queued = await run.queueAll(behind(prompt, maker.id));
    if (!queued && !run.isBusy) tell("info", text("nothing_to_do", { count: number(run.jobs.length) }));
  } catch (error) {
    tell("error", String(/** @type {Error} */ (error).message));
  }
}

/** @param {Run} [run] all of them, where it is left out */
export async function cancelRows(run) {
  try {
    for (const each of run ? [run] : knownRuns()) await each.cancel();
  } catch (error) {
    tell("error", String(/** @type {Error} */ (error).message));
  }
}

/** Hear what the server says of our prompts; after a page was loaded anew, of those from before. */
export function listen() {
  api.addEventListener("execution_start", ({ detail }) => runOf(detail.prompt_id)?.started(detail.prompt_id));
  api.addEventListener("execution_success", ({ detail }) => end(detail.prompt_id, "done"));
  api.addEventListener("execution_interrupted", ({ detail }) => end(detail.prompt_id, "todo"));
  api.addEventListener("execution_error", ({ detail }) => end(detail.prompt_id, "failed", detail.exception_message));
  api.addEventListener("status", ({ detail }) => {
    const remaining = detail?.exec_info?.queue_remaining;
    if (remaining !== undefined) for (const run of knownRuns()) run.remaining(remaining).catch(offline);
  });
  api.addEventListener("reconnected", () => knownRuns().forEach((run) => run.sync().catch(offline)));
}

/** The frontend says so itself, and "reconnected" follows. */
function offline() {}

/** Take up runs that the server is still busy with. */
export async function takeUp() {
  opened.dispatchEvent(new Event("graph"));
  if (isThere(MAKERS) && (await listJobs("pending,in_progress")).length) await openRuns().catch(() => {});
}

/** A table or the graph was changed, or run by the frontend's own button: show how far the images are. A fault is shown by its node. */
export async function follow() {
  if (isThere(MAKERS)) await openRuns().catch(() => {});
}

/** @param {Maker[]} makers */
function chosen(makers) {
  const selected = Object.values(app.canvas.selected_nodes);
  return makers.length > 1 ? makers.find(({ id }) => selected.includes(/** @type {Node} */ (nodeOf(id)))) : makers[0];
}

/** @type {Map<string, {question: number, run: Run}>} by the node's id: the answer to the latest question that was answered */
const shown = new Map();
let questions = 0;

/** @param {Maker} maker */
async function open(maker) {
  const question = ++questions;
  const node = nodeOf(maker.id);
  const run = await openRun(maker);
  if (!told.has(run)) {
    told.add(run);
    run.addEventListener("finished", (event) => finished(run, /** @type {CustomEvent} */ (event).detail));
  }
  if (nodeOf(maker.id) !== node) void follow();
  else if (question > (shown.get(maker.id)?.question ?? 0)) {
    shown.set(maker.id, { question, run });
    opened.dispatchEvent(new CustomEvent("run", { detail: { run, node } }));
  }
  return run;
}

/** @type {WeakSet<Run>} */
const told = new WeakSet();

/**
 * @param {Run} run
 * @param {boolean} noFile whether something ran that gave no file
 */
function finished(run, noFile) {
  const { done, failed } = run.counts;
  const all = run.jobs.length;
  const severity = failed ? "warn" : done < all ? "info" : "success";
  tell(severity, text("finished", { done: number(done), all: number(all), failed: number(failed) }));
  if (noFile) tell("warn", text("no_file", { title: run.maker.title }));
}

/**
 * @param {string} promptId
 * @param {import("./run.js").State} state
 * @param {string} [error]
 */
function end(promptId, state, error) {
  const run = runOf(promptId);
  if (!run) return void follow();
  if (state === "failed" && !run.counts.failed) tell("error", error ?? "");
  run.ended(promptId, state, error);
}
