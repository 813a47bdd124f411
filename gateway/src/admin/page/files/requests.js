// Requests as they end, with the way that their bytes took.

import { at, h, icon, show, text } from "./dom.js";
import { asked, bytes, clock, count, took } from "./format.js";

/** The most requests that are kept, and that are shown. */
const [KEPT, SHOWN] = [400, 80];

const FILTERS = {
  all: () => true,
  blobs: (request) => request.route === "blob",
  turns: (request) => request.turns.length > 0,
  errors: (request) => request.status >= 400 || request.end !== "whole",
};

const TURNS = {
  hedged: (zone) => ["warning", `hedge to ${zone}`],
  "hedge-won": (zone) => ["good", `hedge to ${zone} won`],
  replaced: (zone) => ["warning", `overdue, replaced by ${zone}`],
  failed: (zone) => ["critical", `${zone} failed`],
  resumed: (zone) => ["warning", `resumed in ${zone}`],
};

/** The steps of the way, each with the name of an icon. */
function way({ source, collapsed, stored, not_stored: notStored, turns, route }) {
  if (source === "hit") return [["good", "cache"]];
  const won = turns.find(({ turn }) => turn === "hedge-won");
  const told = turns.filter(({ turn, zone }) => turn !== "hedged" || zone !== won?.zone);
  const named = ({ turn, zone }) => TURNS[turn]?.(zone) ?? ["info", `${turn} ${zone}`];
  const steps = told.filter(({ turn }) => turn !== "resumed").map(named);
  if (source !== null) steps.push(["none", source.replace(/^zone=/, "").replace("registry-redirect", "registry's store")]);
  else if (route !== "blob") steps.push(["none", "registry"]);
  steps.push(...told.filter(({ turn }) => turn === "resumed").map(named));
  if (collapsed) steps.push(["none", "joined a fill"]);
  if (stored) steps.push(["none", "kept"]);
  if (notStored) steps.push(["none", `not kept: ${notStored}`]);
  return steps;
}

function row(request) {
  const { repository, what } = asked(request.path);
  const bad = request.status >= 400 || request.end !== "whole";
  const steps = way(request).map(([level, words]) =>
    h("li", { data: { level } }, level === "none" ? null : icon(level), words),
  );
  const cell = (label, ...children) => h("td", { role: "cell", data: { label } }, ...children);
  return h(
    "tr",
    { role: "row", data: { bad: String(bad), id: request.id } },
    cell("Time", h("time", {}, clock(request.at))),
    cell(
      "Request",
      h("span", { className: "method" }, request.method),
      h("span", { className: "path", title: request.path }, h("strong", {}, repository), what ? ` ${what}` : ""),
    ),
    cell("Way", h("ol", { className: "way" }, ...steps)),
    cell("Status", bad ? icon(request.status >= 500 || request.end === "broke off" ? "critical" : "warning") : null, `${request.status}`,
      request.end === "whole" ? null : h("span", { className: "soft" }, ` ${request.end}`)),
    cell("Bytes", bytes(Math.max(request.sent, request.received))),
    cell("Took", took(request.ms)),
    cell("Client", request.client),
  );
}

export class RequestsPanel {
  #kept = [];
  #rows = new Map();
  #drawing = false;
  #missed = 0;
  #untold = 0;
  #paused = false;
  #filter = FILTERS.all;

  constructor() {
    this.body = at("requests");
    at("requests-filter").addEventListener("change", (event) => {
      this.#filter = FILTERS[event.target.value];
      this.#draw();
    });
    at("pause").addEventListener("click", () => {
      this.#paused = !this.#paused;
      at("pause").setAttribute("aria-pressed", String(this.#paused));
      text(at("pause"), this.#paused ? "Go on" : "Pause");
      this.#draw();
    });
  }

  add(request) {
    this.#kept.unshift(request);
    for (const gone of this.#kept.splice(KEPT)) this.#rows.delete(gone);
    if (this.#drawing || this.#paused) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      if (!this.#paused) this.#draw();
    });
  }

  missed(frames) {
    this.#missed += frames;
  }

  update({ untold_requests: untold }) {
    this.#untold = untold;
    this.#note();
  }

  #note() {
    const left = this.#missed + this.#untold;
    const words = left > 0 ? `, ${count(left)} more were too many to show` : "";
    text(at("requests-note"), `the latest ${count(Math.min(this.#kept.length, KEPT))}${words}`);
  }

  #draw() {
    const shown = this.#kept.filter(this.#filter).slice(0, SHOWN);
    const made = (request) => {
      if (!this.#rows.has(request)) this.#rows.set(request, row(request));
      return this.#rows.get(request);
    };
    this.body.replaceChildren(...shown.map(made));
    show(at("requests-empty"), shown.length === 0);
    const none = this.#kept.length === 0 ? "No request has ended since you opened this page." : "No request is of this kind.";
    text(at("requests-empty"), none);
    this.#note();
  }
}
