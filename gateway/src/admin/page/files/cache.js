// The cache: how full it is, how often it had a blob, and which blobs stand out.

import { read } from "./actions.js";
import { at, fill, h, Keyed, show, text } from "./dom.js";
import { bytes, count, counted, digest, percent, share } from "./format.js";

/** The time between two looks at single blobs, which the gateway must search for. */
const EVERY = 10_000;

/** A meter with its words. */
class Meter {
  #value = h("span", { className: "value" });
  #fill = h("span", { className: "fill" });
  #note = h("p", { className: "soft" });

  constructor(name) {
    const head = h("p", { className: "meter-head" }, h("span", {}, name), this.#value);
    this.element = h("div", { className: "meter" }, head, h("span", { className: "bar" }, this.#fill), this.#note);
  }

  update(part, note) {
    text(this.#value, percent(part));
    fill(this.#fill, part);
    text(this.#note, note);
  }
}

/** A list of blobs. */
class Blobs {
  #empty = h("p", { className: "soft" });

  constructor(title, empty, shown) {
    const list = h("ol", { className: "blobs" });
    text(this.#empty, empty);
    this.element = h("div", {}, h("h3", {}, title), list, this.#empty);
    this.keyed = new Keyed(list, (blob) => blob.digest, () => {
      const [name, value, note] = [h("code"), h("span", { className: "number" }), h("span", { className: "soft number" })];
      const element = h("li", {}, name, value, note);
      const update = (blob) => {
        const [first, second] = shown(blob);
        text(name, digest(blob.digest));
        name.title = blob.digest;
        text(value, first);
        text(note, second);
      };
      return { element, update };
    });
  }

  update(blobs) {
    this.keyed.update(blobs);
    show(this.#empty, blobs.length === 0);
  }
}

export class CachePanel {
  #full = new Meter("Full");
  #byBytes = new Meter("Hits, bytes");
  #byRequests = new Meter("Hits, requests");
  #largest = new Blobs("Largest", "The cache is empty.", (blob) => [bytes(blob.size), counted(blob.uses, "use", "uses")]);
  #hottest = new Blobs("Hottest", "No blob was used again.", (blob) => [counted(blob.uses, "use", "uses"), bytes(blob.size)]);

  constructor() {
    const meters = h("div", { className: "meters" }, this.#full.element, this.#byBytes.element, this.#byRequests.element);
    at("cache").append(meters, h("div", { className: "pair" }, this.#largest.element, this.#hottest.element));
    this.#look();
    setInterval(() => this.#look(), EVERY);
  }

  update({ cache }) {
    text(at("cache-note"), `${counted(cache.blobs, "blob", "blobs")}, ${counted(cache.fills, "fill", "fills")} in progress`);
    const part = cache.capacity > 0 ? cache.bytes / cache.capacity : null;
    this.#full.update(part, `${bytes(cache.bytes)} of ${bytes(cache.capacity)}`);
    const both = (one, other) => `${one} from the cache, ${other} from elsewhere`;
    this.#byBytes.update(share(cache.hit_bytes, cache.miss_bytes), both(bytes(cache.hit_bytes), bytes(cache.miss_bytes)));
    this.#byRequests.update(share(cache.hits, cache.misses), both(count(cache.hits), count(cache.misses)));
  }

  async #look() {
    if (document.hidden) return;
    const blobs = await read("/cache/blobs");
    if (blobs === null) return;
    this.#largest.update(blobs.largest);
    this.#hottest.update(blobs.hottest);
  }
}
