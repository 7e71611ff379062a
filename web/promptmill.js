// @ts-check
/** promptmill on the canvas. */

import { app } from "../../scripts/app.js";
import { cancelRows, listen, opened, queueAllRows, takeUp } from "./actions.js";
import { addElement, addStyle } from "./dom.js";
import { acceptDrops, chooseFile, takeDrops } from "./files.js";
import { MAKERS, TABLE, WHOLE } from "./graph.js";
import { registerPanel } from "./panel.js";
import { addPreview } from "./preview.js";
import { makeProgress } from "./progress.js";
import { text } from "./text.js";
import { addTold, recall, showAgain, TELLERS } from "./told.js";

/** @typedef {import("./graph.js").Node} Node */

const PROGRESS_HEIGHT = 64;

addStyle();
app.registerExtension({
  name: "promptmill",
  commands: [
    { id: "Promptmill.QueueAllRows", label: text("queue_all"), icon: "pi pi-play", function: () => queueAllRows() },
    { id: "Promptmill.Cancel", label: text("cancel_all"), icon: "pi pi-times", function: () => cancelRows() },
  ],
  menuCommands: [{ path: ["promptmill"], commands: ["Promptmill.QueueAllRows", "Promptmill.Cancel"] }],
  setup() {
    listen();
    takeDrops();
    registerPanel();
  },
  nodeCreated(node) {
    const type = node.comfyClass ?? "";
    if (type === TABLE) {
      addPreview(node);
      acceptDrops(node);
    } else if (MAKERS.includes(type)) addProgress(node);
    else if (TELLERS.includes(type)) addTold(node);
  },
  async afterConfigureGraph() {
    void recall().catch(() => {});
    await takeUp();
  },
  onNodeOutputsUpdated: showAgain,
  getNodeMenuItems(node) {
    if (node.type === TABLE) return [{ content: text("choose_file"), callback: () => chooseFile(node) }];
    if (!MAKERS.includes(node.type)) return [];
    return [
      { content: text("queue_all"), callback: () => void queueAllRows(node) },
      { content: text("cancel_all"), callback: () => void cancelRows() },
    ];
  },
});

/** @type {WeakMap<Node, ReturnType<typeof makeProgress>>} */
const progresses = new WeakMap();
opened.addEventListener("run", (event) => {
  const { run, node } = /** @type {CustomEvent} */ (event).detail;
  progresses.get(node)?.follow(run);
});

/** @param {Node} node */
function addProgress(node) {
  const progress = makeProgress(() => queueAllRows(node));
  progresses.set(node, progress);
  addElement(node, "promptmill_progress", progress.root, PROGRESS_HEIGHT, PROGRESS_HEIGHT);
  const { onRemoved } = node;
  node.onRemoved = function () {
    onRemoved?.call(this);
    progress.follow(undefined);
  };
}
