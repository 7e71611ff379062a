// @ts-check
/** What a Prompt Table holds, shown in the node. */

import { follow } from "./actions.js";
import { addElement, element, fit } from "./dom.js";
import { chooseFile } from "./files.js";
import { look } from "./table.js";
import { number, text } from "./text.js";

/** @typedef {import("./graph.js").Node} Node */
/** @typedef {import("./table.js").Look} Look */

const NAME = "promptmill_preview";
const PASTED = "(pasted text)";
const PAUSE_MS = 400;
const MIN_HEIGHT = 180;

/** @param {Node} node */
export function addPreview(node) {
  const words = element("span", { className: "pm-words" });
  const choose = element("button", { type: "button", onclick: () => chooseFile(node) }, text("choose_file"));
  const body = element("div", { className: "pm-rows" });
  body.dataset.captureWheel = "true";
  body.addEventListener("wheel", (event) => event.stopPropagation());
  const root = element("div", { className: "pm-preview" }, element("div", { className: "pm-buttons" }, choose, words), body);
  addElement(node, NAME, root, MIN_HEIGHT);

  const inputs = (node.widgets ?? []).filter((widget) => widget.name !== NAME);
  let asked = 0;
  let timer = 0;
  const refresh = async () => {
    showText(node);
    const now = ++asked;
    /** @type {[string, ...Element[]]} */
    let shown;
    try {
      const found = await look(Object.fromEntries(inputs.map(({ name, value }) => [name, value])));
      shown = [summary(found), rows(found)];
    } catch (error) {
      shown = ["", problem(/** @type {Error} */ (error))];
    }
    if (now !== asked) return;
    words.textContent = words.title = shown[0];
    body.replaceChildren(...shown.slice(1));
  };
  /** @param {boolean} changed */
  const refreshSoon = (changed) => {
    clearTimeout(timer);
    timer = setTimeout(() => refresh().then(changed ? follow : undefined), PAUSE_MS);
  };
  for (const widget of inputs) {
    const { callback } = widget;
    widget.callback = function (...values) {
      callback?.apply(this, values);
      refreshSoon(true);
    };
  }
  showText(node);
  refreshSoon(false);
}

/**
 * The pasted text takes room only where it is used.
 *
 * @param {Node} node
 */
function showText(node) {
  const [file, pasted] = ["file", "text"].map((name) => node.widgets?.find((widget) => widget.name === name));
  if (!file || !pasted) return;
  const hidden = file.value !== PASTED;
  if (pasted.hidden === hidden) return;
  pasted.hidden = pasted.options.hidden = hidden;
  // Nodes 2.0 sees it only when the list of widgets changes.
  node.widgets?.push(/** @type {any} */ (node.widgets.pop()));
  fit(node);
}

/** @param {Look} found */
function summary({ count, encoding, notes }) {
  return [text("images", { count: number(count) }), ...(notes.length ? notes : encoding ? [encoding] : [])].join(" · ");
}

/** @param {Look} found */
function rows({ columns, first }) {
  const head = element("tr", {}, ...columns.map((column) => element("th", {}, column)));
  const lines = first.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", { title: cell }, cell))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
}

/** @param {Error} error */
function problem({ message }) {
  return element("pre", { className: "pm-error" }, message);
}
