// @ts-check
/**
 * The ids of our prompts say which rows they make, so that after a reload, or in another tab, the server's own queue tells
 * what is queued; nothing is remembered in the browser.
 *
 * 32 hexadecimal digits: 8 of the output folder, 4 of the table's inputs, 8 the unit's number, 3 its variant, 9 by chance.
 */

/**
 * FNV-1a of a text's UTF-16 units, as 8 hexadecimal digits.
 *
 * @param {string} content
 */
function hash(content) {
  let value = 0x811c9dc5;
  for (let i = 0; i < content.length; i++) value = Math.imul(value ^ content.charCodeAt(i), 0x01000193);
  return (value >>> 0).toString(16).padStart(8, "0");
}

/**
 * What the ids of a run start with. What they start with up to the first `-` is common to all runs into the folder.
 *
 * @param {string} folder
 * @param {unknown} inputs
 */
export function runPrefix(folder, inputs) {
  return `${hash(folder)}-${hash(JSON.stringify(inputs)).slice(4)}`;
}

/**
 * @param {string} prefix
 * @param {number} number below 2^32
 * @param {number} variant below 4096
 */
export function newPromptId(prefix, number, variant) {
  const chance = [...crypto.getRandomValues(new Uint8Array(5))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
  const digits = number.toString(16).padStart(8, "0");
  return `${prefix}-${digits.slice(0, 4)}-${digits.slice(4)}-${variant.toString(16).padStart(3, "0")}${chance.slice(1)}`;
}

/** @param {string} id */
export function readPromptId(id) {
  return {
    prefix: id.slice(0, 13),
    number: parseInt(id.slice(14, 18) + id.slice(19, 23), 16),
    variant: parseInt(id.slice(24, 27), 16),
  };
}
