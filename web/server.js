// @ts-check
/** ComfyUI's queue, as far as we need it. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

/** @typedef {import("./graph.js").Prompt} Prompt */
/** @typedef {{id: string, status: string, execution_error?: {exception_message: string}}} ServerJob */

/**
 * Queue a prompt under an id of ours, which `api.queuePrompt` cannot.
 *
 * @param {string} id
 * @param {Prompt} prompt
 * @throws {Error} the server refused it, or some of its outputs
 */
export async function queuePrompt(id, { output, workflow }) {
  const preview = app.extensionManager.setting.get("Comfy.Execution.PreviewMethod");
  const reply = await postJson("/prompt", {
    prompt_id: id,
    client_id: api.clientId,
    prompt: output,
    extra_data: {
      extra_pnginfo: { workflow },
      ...(preview && preview !== "default" ? { preview_method: preview } : {}),
    },
  });
  const { error, node_errors: refused } = await reply.json();
  const [first] = Object.entries(refused ?? {}).flatMap(([node, { class_type, errors }]) =>
    errors.map((/** @type {any} */ each) => `${output[node]?._meta.title ?? class_type}: ${each.message}: ${each.details}`),
  );
  if (first || error) throw new Error(first ?? `${error.message}: ${error.details}`);
}

/**
 * What the server knows of prompts in any of these states.
 *
 * @param {string} states pending, in_progress, failed, comma-separated
 * @returns {Promise<ServerJob[]>}
 */
export async function listJobs(states) {
  const reply = await api.fetchApi(`/jobs?status=${states}`, { cache: "no-store" });
  if (!reply.ok) throw new Error(`${reply.status} ${reply.statusText}`);
  return (await reply.json()).jobs;
}

/**
 * Take prompts out of the queue, and interrupt the one that runs, where it is among them.
 *
 * @param {(id: string) => boolean} isOurs
 */
export async function cancelJobs(isOurs) {
  const pending = (await listJobs("pending")).filter((job) => isOurs(job.id));
  if (pending.length) await postJson("/queue", { delete: pending.map((job) => job.id) });
  for (const { id } of await listJobs("in_progress")) if (isOurs(id)) await api.interrupt(id);
}

/**
 * @param {string} route
 * @param {unknown} body
 */
function postJson(route, body) {
  return api.fetchApi(route, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}
