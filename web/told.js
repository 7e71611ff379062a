// @ts-check
/** What a node tells of its work, as text on it. Nothing is saved: a page that was loaded anew asks the server what it remembers. */

import { api } from "../../scripts/api.js";
import { addElement, element } from "./dom.js";
import { isThere, nodeOf } from "./graph.js";
import { text } from "./text.js";

/** @typedef {import("./graph.js").Node} Node */
/** @typedef {{text?: string[]} | null} Output */

export const TELLERS = ["PromptmillLoadModel", "PromptmillLoadCheckpoint", "PromptmillCalibrateModel"];

/** The frontend puts a node's progress text into the widget of this name, and adds one where there is none. */
const NAME = "$$node-text-preview";
const MIN_HEIGHT = 200;
/** The frontend's own list of past jobs has as many. */
const PROMPTS = 64;

/** @param {Node} created */
export function addTold(created) {
  const node = /** @type {import("./dom.js").FrontendNode} */ (created);
  const words = element("textarea", { className: "pm-told", placeholder: text("told_after_run"), readOnly: true });
  words.dataset.captureWheel = "true";
  Object.assign(addElement(node, NAME, words, MIN_HEIGHT).options, {
    getValue: () => words.value,
    setValue: (/** @type {string} */ value) => (words.value = value),
  });
  const { onExecuted } = node;
  node.onExecuted = function (output) {
    onExecuted?.call(this, output);
    remembered = undefined;
    show(node, output);
  };
}

/**
 * A tab was opened again: the frontend has kept what its nodes gave.
 *
 * @param {Record<string, Output>} outputs by the node's id
 */
export function showAgain(outputs) {
  for (const [id, output] of Object.entries(outputs)) show(nodeOf(id), output);
}

/** @typedef {{prompt: [number, string, Record<string, {class_type: string, inputs: Record<string, unknown>}>], outputs: Record<string, Output>}} Prompt */

/** @type {Promise<Prompt[]> | undefined} kept from graph to graph, for undoing loads one, until a node tells something new */
let remembered;

/** @returns {Promise<Prompt[]>} what the server remembers, the newest first */
async function history() {
  const reply = await api.fetchApi(`/history?max_items=${PROMPTS}`);
  return reply.ok ? Object.values(await reply.json()).reverse() : [];
}

/** A graph was loaded: what the server last did for these nodes, as they are now. */
export async function recall() {
  if (!isThere(TELLERS)) return;
  remembered ??= history();
  for (const { prompt, outputs } of await remembered)
    for (const [id, output] of Object.entries(outputs)) {
      const node = nodeOf(id);
      if (node && isAsQueued(node, prompt[2][id]) && !toldOn(node)?.value) show(node, output);
    }
}

/**
 * @param {Node} node
 * @param {{class_type: string, inputs: Record<string, unknown>} | undefined} queued what it was in that prompt
 */
function isAsQueued({ type, widgets = [] }, queued) {
  if (queued?.class_type !== type) return false;
  const { inputs } = queued;
  return widgets.every(({ name, value }) => !(name in inputs) || Array.isArray(inputs[name]) || inputs[name] === value);
}

/**
 * @param {Node | undefined} node
 * @param {Output} output
 */
function show(node, output) {
  const told = node && toldOn(node);
  if (told && output?.text) told.value = output.text.join("\n");
}

/** @param {Node} node */
function toldOn({ type, widgets }) {
  return TELLERS.includes(type) ? widgets?.find(({ name }) => name === NAME) : undefined;
}
