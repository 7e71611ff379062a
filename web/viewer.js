// @ts-check
/** One image, large. */

import { element } from "./dom.js";
import { imageUrl, loadWorkflow } from "./images.js";
import { text } from "./text.js";

/**
 * @param {import("./run.js").Run} run
 * @param {import("./run.js").Job} job
 */
export function showImage(run, job) {
  const load = element("button", { type: "button", className: "pm-primary" }, text("load_workflow"));
  const close = element("button", { type: "button" }, text("close"));
  const dialog = element(
    "dialog",
    { className: "pm-viewer", onclose: () => dialog.remove() },
    element("img", { src: imageUrl(run, job), alt: job.file }),
    element("div", { className: "pm-buttons" }, element("span", { className: "pm-words" }, job.file), load, close),
  );
  load.onclick = () => {
    dialog.close();
    loadWorkflow(run, job);
  };
  close.onclick = () => dialog.close();
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  document.body.append(dialog);
  dialog.showModal();
}
