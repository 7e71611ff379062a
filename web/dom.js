// @ts-check
/** Elements, and where they sit in a node. */

/** @typedef {import("../../scripts/app.js").FrontendNode} FrontendNode */
/** @typedef {import("../../scripts/app.js").LGraphNode} Node */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} [properties]
 * @param {...(Element | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const MARGIN = 10;

/**
 * Add an element to a node, below its inputs; nothing of it is saved or sent.
 *
 * @param {Node} node
 * @param {string} name
 * @param {HTMLElement} content
 * @param {number} minHeight pixels
 * @param {number} [maxHeight] pixels
 */
export function addElement(node, name, content, minHeight, maxHeight) {
  const widget = /** @type {FrontendNode} */ (node).addDOMWidget(name, name, content, {
    serialize: false,
    hideOnZoom: false,
    margin: MARGIN,
    getMinHeight: () => minHeight + 2 * MARGIN,
    getMaxHeight: () => (maxHeight ?? Infinity) + 2 * MARGIN,
  });
  widget.serialize = false;
  content.style.minHeight = `${minHeight}px`;
  fit(node);
  return widget;
}

/**
 * Make a node as high as what is in it.
 *
 * @param {Node} node
 */
export function fit(node) {
  const [width, height] = node.size;
  node.setSize([width, Math.max(height, node.computeSize()[1])]);
  node.setDirtyCanvas(true, true);
}

/** Load the style sheet. */
export function addStyle() {
  document.head.append(
    element("link", { rel: "stylesheet", href: new URL("promptmill.css", import.meta.url).href }),
  );
}
