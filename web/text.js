// @ts-check
/** The texts of the canvas in the user's language: "promptmill" in locales/<language>/main.json. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

/** @type {Record<string, {promptmill?: Record<string, string>}>} */
const locales = /** @type {any} */ (await api.getCustomNodesI18n());

/**
 * The text called `name`, its `{places}` filled.
 *
 * @param {string} name
 * @param {Record<string, string | number>} [values]
 */
export function text(name, values = {}) {
  const locale = app.extensionManager.setting.get("Comfy.Locale") ?? "en";
  const found = locales[String(locale)]?.promptmill?.[name] ?? locales.en?.promptmill?.[name] ?? name;
  return found.replace(/\{(\w+)\}/g, (_, place) => String(values[place]));
}

/** @param {number} count */
export const number = (count) => count.toLocaleString();
