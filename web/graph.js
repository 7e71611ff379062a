// @ts-check
/** The graph as it would be queued, and the nodes in it that make a table's images. */

import { app } from "../../scripts/app.js";
import { text } from "./text.js";

/** @typedef {import("../../scripts/app.js").LGraphNode} Node */
/** @typedef {Awaited<ReturnType<typeof app.graphToPrompt>>} Prompt */
/** @typedef {import("./table.js").TableInputs} TableInputs */

/**
 * A node that makes images of a Prompt Table. `id` is its execution id: those of the subgraphs around it, then its own.
 *
 * @typedef {{id: string, type: string, title: string, inputs: Record<string, unknown>, table: TableInputs}} Maker
 */

export const TABLE = "PromptmillPromptTable";
export const ROW = "PromptmillTableRow";
export const BATCH = "PromptmillEncodeRows";
export const WHOLE = "PromptmillSampleTable";
export const MAKERS = [ROW, BATCH, WHOLE];

/**
 * The nodes that make images, with the inputs of their tables. Links were followed by the frontend: through subgraphs,
 * reroutes and bypassed nodes.
 *
 * @param {Prompt} prompt
 * @returns {Maker[]}
 */
export function makersIn(prompt) {
  return Object.entries(prompt.output).flatMap(([id, { class_type: type, inputs, _meta: { title } }]) => {
    const link = inputs.table;
    const table = MAKERS.includes(type) && Array.isArray(link) && prompt.output[String(link[0])];
    return table && table.class_type === TABLE ? [{ id, type, title, inputs, table: table.inputs }] : [];
  });
}

/**
 * The graph with only what is behind a node, and what that needs: other outputs do not run with each row.
 *
 * @param {Prompt} prompt
 * @param {string} id
 * @returns {Prompt}
 */
export function behind(prompt, id) {
  const nodes = Object.entries(prompt.output);
  /** @param {any} node */
  const origins = (node) => Object.values(node.inputs).flatMap((value) => (Array.isArray(value) ? [String(value[0])] : []));
  const wanted = new Set([id]);
  for (let size = 0; size < wanted.size; ) {
    size = wanted.size;
    for (const [each, node] of nodes) if (origins(node).some((origin) => wanted.has(origin))) wanted.add(each);
  }
  for (const each of wanted) if (prompt.output[each]) origins(prompt.output[each]).forEach((origin) => wanted.add(origin));
  return { ...prompt, output: Object.fromEntries(nodes.filter(([each]) => wanted.has(each))) };
}

/**
 * Whether the graph has a node of these types.
 *
 * @param {string[]} types
 */
export function isThere(types) {
  /** @type {Node[]} */
  const nodes = [app.graph, ...app.graph.subgraphs.values()].flatMap((each) => each.nodes);
  return nodes.some((node) => types.includes(node.type));
}

/**
 * The node on the canvas, and whether it still is what the execution id names.
 *
 * @param {string} id
 * @returns {Node | undefined}
 */
export function nodeOf(id) {
  /** @type {Node | null | undefined} */
  let node;
  let graph = app.graph;
  for (const step of id.split(":")) {
    node = graph?.getNodeById(/** @type {any} */ (step));
    graph = /** @type {any} */ (node)?.subgraph;
  }
  return node ?? undefined;
}

/**
 * Put values into a node's inputs, both in what is executed and in the workflow that images carry.
 *
 * @param {Prompt} prompt changed in place
 * @param {string} id execution id
 * @param {Record<string, number>} values
 * @throws {Error} an input gets its value from another node
 */
export function setInputs(prompt, id, values) {
  const { inputs } = prompt.output[id];
  const saved = savedNode(prompt.workflow, id);
  for (const [name, value] of Object.entries(values)) {
    if (Array.isArray(inputs[name])) throw new Error(text("input_is_connected", { name }));
    inputs[name] = value;
    const place = Object.keys(saved?.widgets_values_named ?? {}).indexOf(name);
    if (place < 0) continue;
    saved.widgets_values_named[name] = value;
    saved.widgets_values[place] = value;
  }
}

/**
 * @param {any} workflow
 * @param {string} id
 */
function savedNode(workflow, id) {
  let graph = workflow;
  /** @type {any} */
  let node;
  for (const step of id.split(":")) {
    node = graph?.nodes.find((/** @type {any} */ each) => String(each.id) === step);
    graph = workflow.definitions?.subgraphs?.find((/** @type {any} */ each) => each.id === node?.type);
  }
  return node;
}
