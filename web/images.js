// @ts-check
/** A job's image on the server. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { tell } from "./actions.js";
import { text } from "./text.js";

/** @typedef {import("./run.js").Job} Job */
/** @typedef {import("./run.js").Run} Run */

/**
 * @param {Run} run
 * @param {Job} job
 */
export function imageUrl({ folder }, { file, version }) {
  const cut = file.lastIndexOf("/");
  const subfolder = cut < 0 ? folder : `${folder}/${file.slice(0, cut)}`;
  const place = { filename: file.slice(cut + 1), subfolder, type: "output", version: String(version) };
  return api.apiURL(`/view?${new URLSearchParams(place)}`);
}

/**
 * @param {Run} run
 * @param {Job} job
 */
export async function loadWorkflow(run, job) {
  const reply = await fetch(imageUrl(run, job));
  if (!reply.ok) return tell("error", text("no_image", { file: job.file }));
  const name = job.file.slice(job.file.lastIndexOf("/") + 1);
  await app.handleFile(new File([await reply.blob()], name, { type: "image/png" }));
}
