// @ts-check
/** Tables into ComfyUI's input folder: by drop and by button. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { tell } from "./actions.js";
import { element } from "./dom.js";
import { TABLE } from "./graph.js";
import { text } from "./text.js";

/** @typedef {import("./graph.js").Node} Node */

const FOLDER = "promptmill";
const ON_CANVAS = /\.(csv|tsv|xlsx|jsonl|ndjson|parquet)$/i;
const ON_NODE = /\.(csv|tsv|xlsx|jsonl|ndjson|parquet|txt)$/i;
const CHOICE = ".csv,.tsv,.xlsx,.jsonl,.ndjson,.parquet,.txt,.json";
const STEP = 40;

/**
 * Let the user choose a file for a Prompt Table.
 *
 * @param {Node} node
 */
export function chooseFile(node) {
  const input = element("input", { type: "file", accept: CHOICE });
  input.onchange = () => input.files?.[0] && setFile(node, input.files[0]);
  input.click();
}

/** Take tables that are dropped on the canvas, before ComfyUI refuses them. */
export function takeDrops() {
  document.addEventListener(
    "drop",
    (event) => {
      const files = [...(event.dataTransfer?.files ?? [])];
      const node = nodeAt(event);
      const wanted = node ? ON_NODE : ON_CANVAS;
      if (!files.length || !files.every((file) => wanted.test(file.name))) return;
      event.preventDefault();
      event.stopPropagation();
      app.dragOverNode = null;
      const [x, y] = app.clientPosToCanvasPos([event.clientX, event.clientY]);
      if (node) setFile(node, files[0]);
      else addTables(files, x, y);
    },
    { capture: true },
  );
}

/**
 * Let ComfyUI mark the node while a file is held over it, and take files that are dropped on it in app mode.
 *
 * @param {Node} node
 */
export function acceptDrops(node) {
  Object.assign(node, {
    onDragOver: (/** @type {DragEvent} */ { dataTransfer }) => Boolean(dataTransfer?.types.includes("Files")),
    onDragDrop(/** @type {DragEvent} */ { dataTransfer }) {
      const file = dataTransfer?.files[0];
      if (!file || !ON_NODE.test(file.name)) return false;
      setFile(node, file);
      return true;
    },
  });
}

/**
 * @param {DragEvent} event
 * @returns {Node | undefined} the Prompt Table under the pointer
 */
function nodeAt(event) {
  const graph = app.canvas.graph;
  const target = event.target instanceof Element ? event.target.closest("[data-node-id]") : null;
  const [x, y] = app.clientPosToCanvasPos([event.clientX, event.clientY]);
  const id = /** @type {any} */ (target?.getAttribute("data-node-id"));
  const node = target ? graph?.getNodeById(id) : graph?.getNodeOnPos(x, y);
  return node?.type === TABLE ? node : undefined;
}

/**
 * @param {File[]} files
 * @param {number} x
 * @param {number} y
 */
async function addTables(files, x, y) {
  for (const [i, file] of files.entries()) {
    const name = await upload(file);
    if (name) addTable(name, x + i * STEP, y + i * STEP);
  }
}

/**
 * @param {string} name in the input folder
 * @param {number} x
 * @param {number} y
 */
function addTable(name, x, y) {
  const node = /** @type {any} */ (globalThis).LiteGraph.createNode(TABLE);
  node.pos = [x, y];
  app.canvas.graph?.add(node);
  choose(node, name);
}

/**
 * @param {Node} node
 * @param {File} file
 */
async function setFile(node, file) {
  const name = await upload(file);
  if (name) choose(node, name);
}

/**
 * @param {Node} node
 * @param {string} name
 */
function choose(node, name) {
  const widget = /** @type {any} */ (
    node.widgets?.find((each) => each.name === "file")
  );
  const values = /** @type {string[]} */ (widget.options.values);
  if (!values.includes(name)) widget.options.values = [name, ...values];
  widget.value = name;
  widget.callback?.(name);
  app.canvas.setDirty(true, true);
  app.extensionManager.workflow.activeWorkflow?.changeTracker?.captureCanvasState();
}

/**
 * @param {File} file
 * @returns {Promise<string | undefined>} its name in the input folder; none where it is not there, and the user was told why
 */
async function upload(file) {
  try {
    if ((await isOther(file)) && !(await mayReplace(file))) return undefined;
    const body = new FormData();
    body.append("image", file);
    body.append("type", "input");
    body.append("subfolder", FOLDER);
    body.append("overwrite", "true");
    const reply = await api.fetchApi("/upload/image", { method: "POST", body });
    if (!reply.ok) throw new Error(`${reply.status} ${reply.statusText}`);
    const { name, subfolder } = await reply.json();
    return `${subfolder}/${name}`;
  } catch (error) {
    tell("error", text("not_uploaded", { file: file.name, reason: /** @type {Error} */ (error).message }));
    return undefined;
  }
}

/**
 * Whether the input folder has another file of this name.
 *
 * @param {File} file
 */
async function isOther(file) {
  const info = await (await api.fetchApi(`/object_info/${TABLE}`)).json();
  if (!info[TABLE].input.required.file[1].options.includes(`${FOLDER}/${file.name}`)) return false;
  const place = new URLSearchParams({ filename: file.name, subfolder: FOLDER, type: "input" });
  const reply = await api.fetchApi(`/view?${place}`, { cache: "no-store" });
  const [there, ours] = (await Promise.all([reply.arrayBuffer(), file.arrayBuffer()])).map((data) => new Uint8Array(data));
  return there.length !== ours.length || there.some((byte, i) => byte !== ours[i]);
}

/** @param {File} file */
function mayReplace(file) {
  return app.extensionManager.dialog.confirm({
    title: text("replace_title", { file: file.name }),
    message: text("replace_question"),
    type: "overwrite",
  });
}
