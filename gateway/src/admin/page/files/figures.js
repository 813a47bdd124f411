// The figures above everything else.

import { at, h, icon, reshape, text } from "./dom.js";
import { bytes, count, counted, percent, rate, seconds, share } from "./format.js";

/** Rates are those of so many snapshots, which come each second. */
const RATE_SNAPSHOTS = 10;

/** Days before the end of a certificate at which it is worth a look, and at which it is urgent. */
export const DAYS = { warning: 30, critical: 7 };

const TILES = ["Requests", "To clients", "Hits by bytes", "Hits by requests", "Copies waiting", "Bytes at risk", "Certificate"];

export class Figures {
  #past = [];
  #tiles = new Map();

  constructor() {
    for (const name of TILES) {
      const value = h("p", { className: "value" });
      const note = h("p", { className: "soft" });
      const mark = icon("good");
      this.#tiles.set(name, { value, note, mark });
      at("figures").append(h("div", { className: "figure" }, h("h2", {}, mark, name), value, note));
    }
  }

  #tell(name, value, note, level = "none") {
    const tile = this.#tiles.get(name);
    text(tile.value, value);
    text(tile.note, note);
    reshape(tile.mark, level);
  }

  update({ at: now, traffic, cache, queue, certificates }) {
    const sent = traffic.sources.reduce((sum, source) => sum + source.bytes, 0);
    this.#past.push({ now, requests: traffic.requests, sent });
    if (this.#past.length > RATE_SNAPSHOTS + 1) this.#past.shift();
    const first = this.#past[0];
    const passed = (now - first.now) / 1000;
    const second = (total, before) => (passed > 0 ? Math.max(0, total - before) / passed : null);
    const requests = second(traffic.requests, first.requests);
    this.#tell("Requests", requests == null ? "–" : `${rate(requests)} /s`, `${count(traffic.requests)} since the start`);
    const speed = second(sent, first.sent);
    this.#tell("To clients", speed == null ? "–" : `${bytes(speed)}/s`, `${bytes(sent)} of blobs since the start`);
    this.#tell("Hits by bytes", percent(share(cache.hit_bytes, cache.miss_bytes)), `${bytes(cache.hit_bytes)} from the cache`);
    this.#tell("Hits by requests", percent(share(cache.hits, cache.misses)), `${counted(cache.hits, "blob", "blobs")} from the cache`);
    this.#queue(queue);
    const next = certificates.certificates.reduce(
      (least, one) => (least === null || one.days_left < least.days_left ? one : least),
      null,
    );
    if (next === null) return this.#tell("Certificate", "–", "none is served", "critical");
    const level = next.days_left <= DAYS.critical ? "critical" : next.days_left <= DAYS.warning ? "warning" : "good";
    this.#tell("Certificate", counted(next.days_left, "day", "days"), `left, of ${next.name}`, level);
  }

  #queue(queue) {
    if (queue === null) {
      this.#tell("Copies waiting", "–", "the journal cannot be read", "critical");
      return this.#tell("Bytes at risk", "–", "the journal cannot be read", "critical");
    }
    const sum = (of) => queue.reduce((all, zone) => all + (of(zone) ?? 0), 0);
    const oldest = Math.max(0, ...queue.map((zone) => zone.oldest_seconds ?? 0));
    const [waiting, failing, parked] = [sum((zone) => zone.waiting), sum((zone) => zone.failing), sum((zone) => zone.parked)];
    const level = parked > 0 ? "critical" : failing > 0 ? "warning" : "good";
    const trouble = [failing > 0 ? `${count(failing)} fail` : "", parked > 0 ? `${count(parked)} parked` : ""].filter(Boolean);
    const note = trouble.length > 0 ? trouble.join(", ") : waiting > 0 ? `the oldest for ${seconds(oldest)}` : "every zone has every blob";
    this.#tell("Copies waiting", count(waiting), note, level);
    const worst = queue.reduce((most, zone) => ((zone.at_risk_bytes ?? 0) > (most?.at_risk_bytes ?? 0) ? zone : most), null);
    const risk = worst?.at_risk_bytes ?? 0;
    this.#tell("Bytes at risk", bytes(risk), risk > 0 ? `only in ${worst.zone}` : "no blob is in one zone only", risk > 0 ? "warning" : "good");
  }
}
