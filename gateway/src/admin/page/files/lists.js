// Short lists: certificates, instances of the registry, limits.

import { at, fill, h, icon, Keyed, reshape, show, text } from "./dom.js";
import { DAYS } from "./figures.js";
import { breaker, count, counted, level } from "./format.js";

/** An item with an icon, a name, words beside it, and a line below it. */
function item() {
  const mark = icon("good");
  const [name, words, note] = [h("strong"), h("span"), h("p", { className: "soft" })];
  const element = h("li", {}, h("div", { className: "named" }, mark, name, words), note);
  const update = (of) => {
    reshape(mark, of.level);
    text(name, of.name);
    text(words, of.words);
    text(note, of.note);
    show(note, of.note !== "");
  };
  return { element, update };
}

function certificate({ name, days_left: days, not_after: end, file }) {
  const ended = days < 0;
  return {
    name,
    level: days <= DAYS.critical ? "critical" : days <= DAYS.warning ? "warning" : "good",
    words: ended ? "expired" : `${counted(days, "day", "days")} left`,
    note: `until ${end.replace("T", " ").replace("Z", " UTC")}, ${file}`,
    key: file,
  };
}

function instance({ name, zone, state, why, uploads, errors }) {
  const pushes = uploads === state ? "" : `, new uploads: ${breaker(uploads)}`;
  const notes = [`prefers ${zone}`, counted(errors, "error", "errors")];
  if (why !== null && state !== "closed") notes.push(why);
  return { name, level: level(state), words: breaker(state) + pushes, note: notes.join(", "), key: name };
}

function limitItem() {
  const [name, words, part] = [h("code"), h("span", { className: "number" }), h("span", { className: "fill" })];
  const element = h("li", { className: "limit" }, name, h("span", { className: "bar" }, part), words);
  const update = ({ key, slots, used, waiting, refused }) => {
    text(name, key.replace(/^limits\./, ""));
    const more = [waiting > 0 ? `${count(waiting)} wait` : "", refused > 0 ? `${count(refused)} refused` : ""];
    text(words, [`${count(used)} of ${count(slots)}`, ...more.filter(Boolean)].join(", "));
    fill(part, slots > 0 ? used / slots : 0);
    element.dataset.level = refused > 0 || waiting > 0 ? "warning" : "good";
  };
  return { element, update };
}

export class Lists {
  #certificates = new Keyed(at("certificates"), (one) => one.key, item);
  #registry = new Keyed(at("registry"), (one) => one.key, item);
  #limits = new Keyed(at("limits"), (limit) => limit.key, limitItem);

  update({ certificates, registry, limits }) {
    this.#certificates.update(certificates.certificates.map(certificate));
    this.#registry.update(registry.map(instance));
    this.#limits.update(limits);
  }
}
