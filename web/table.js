// @ts-check
/** The one route of this pack: a look at a table. */

import { api } from "../../scripts/api.js";

/**
 * One image that the table asks for; `row` and `variant` count from 1, `file` is relative to the table's folder.
 *
 * @typedef {{row: number, variant: number, id: string, file: string, done: boolean}} TableJob
 */

/**
 * @typedef {object} Look
 * @property {string[]} columns
 * @property {string | null} encoding
 * @property {string[]} notes what was detected
 * @property {string[][]} first the cells of the first rows
 * @property {number} count images
 * @property {string} folder below ComfyUI's output folder
 * @property {TableJob[]} jobs
 * @property {number} asked rises from question to question
 */

let questions = 0;

/** What the next question's `asked` will be. */
export const nextQuestion = () => questions + 1;

/** @typedef {Record<string, unknown>} TableInputs the inputs of a Prompt Table */

/** What is wrong with a table, and what to do. */
export class TableError extends Error {
  /** @param {{text: string}} reply */
  constructor(reply) {
    super(reply.text);
  }
}

/**
 * @param {TableInputs} inputs
 * @returns {Promise<Look>}
 * @throws {TableError} the table cannot be used
 */
export async function look(inputs) {
  const asked = ++questions;
  const reply = await api.fetchApi("/promptmill/table", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(inputs),
  });
  if (!reply.ok) throw new Error(`${reply.status} ${reply.statusText}`);
  const found = await reply.json();
  if (found.error) throw new TableError(found);
  return { ...found, asked };
}
