// Makes and updates elements. Text of the gateway is set as text and never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Finds an element of the page by its id. */
export const at = (id) => document.getElementById(id);

/** Makes an element. Properties with a dash are set as attributes. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") Object.assign(element.dataset, value);
    else if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Makes an SVG element. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  set(element, attributes);
  element.append(...children);
  return element;
}

/** Sets attributes, if they change. */
export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  }
}

/** Sets the text of an element, if it changes: a screen reader must not hear it again. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** Fills a bar to a part from 0 to 1. */
export function fill(element, part) {
  element.style.width = `${Math.min(1, Math.max(0, part ?? 0)) * 100}%`;
}

/** Shows an element, or not. */
export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/**
 * Keeps the children of a container in step with items. A child that stays is updated and not made again, so that it
 * keeps the focus. `make` returns `{ element, update(item) }`.
 */
export class Keyed {
  #parts = new Map();

  constructor(container, key, make) {
    Object.assign(this, { container, key, make });
  }

  update(items) {
    const keys = new Set(items.map(this.key));
    for (const [key, part] of this.#parts) {
      if (!keys.has(key)) {
        part.element.remove();
        this.#parts.delete(key);
      }
    }
    items.forEach((item, index) => {
      const key = this.key(item);
      let part = this.#parts.get(key);
      if (!part) this.#parts.set(key, (part = this.make(item)));
      part.update(item);
      const there = this.container.children[index];
      if (there !== part.element) this.container.insertBefore(part.element, there ?? null);
    });
  }
}

/** The shapes of states. Each state has its own, so that nobody needs to see colours. */
const SHAPES = {
  good: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Zm3.3 4.9L7.3 11 4.7 8.5l1-1.1 1.5 1.5 3-3.5Z",
  warning: "M8 1.4 15.3 14.4H.7ZM7.2 6v4.2h1.6V6Zm0 5.3v1.6h1.6v-1.6Z",
  critical: "M5.2 1.3h5.6l3.9 3.9v5.6l-3.9 3.9H5.2L1.3 10.8V5.2Zm-.3 4.7L6.9 8l-2 2 1.1 1.1 2-2 2 2L11.1 10l-2-2 2-2L10 4.9l-2 2-2-2Z",
  info: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13ZM7.2 7h1.6v4.5H7.2Zm0-2.5h1.6v1.6H7.2Z",
  drained: "M2.5 2h11A1.5 1.5 0 0 1 15 3.5v9a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 1 12.5v-9A1.5 1.5 0 0 1 2.5 2ZM5 5v6h2V5Zm4 0v6h2V5Z",
};

/** An icon that says how good something is. The text beside it says so too, so that screen readers leave it out. */
export function icon(shape) {
  const path = s("path", { d: SHAPES[shape] ?? SHAPES.info, "fill-rule": "evenodd" });
  return s("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true", "data-level": shape }, path);
}

/** Changes the shape of an icon. */
export function reshape(element, shape) {
  set(element, { "data-level": shape });
  set(element.firstChild, { d: SHAPES[shape] ?? SHAPES.info });
}
