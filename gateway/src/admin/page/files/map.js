// Zones around the gateway, the nearer the quicker.

import { at, Keyed, reshape, s, set, text, icon } from "./dom.js";
import { level, ms, percent } from "./format.js";

const [WIDTH, HEIGHT] = [440, 336];
const [X, Y] = [WIDTH / 2, HEIGHT / 2];

/** The radius of the nearest and of the farthest zone. */
const [NEAR, FAR] = [52, 124];

/** The angle of the first zone, and how much flatter than a circle the map is. */
const [FIRST, FLAT] = [-2.45, 0.96];

/** The longest name that is written whole. */
const NAME_MAX = 18;

/** Latencies of rings, in milliseconds, and the least ratio of the outermost and the innermost. */
const [LEAST, MOST, SPAN] = [0.1, 100_000, 100];

/** The latency that a zone is drawn at: of probes, or else of reads, or else the configured one. */
export function distance(zone) {
  const small = zone.classes.find((one) => one.class === "small");
  return zone.probe ?? small?.p50 ?? zone.latency_hint;
}

/** The scale of these latencies: whole decades. */
function scale(latencies) {
  const least = Math.max(LEAST, Math.min(...latencies));
  const most = Math.min(MOST, Math.max(...latencies, least));
  let [low, high] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))];
  while (10 ** high / 10 ** low < SPAN) high += 1;
  const radius = (latency) => {
    const place = (Math.log10(Math.min(Math.max(latency, LEAST), MOST)) - low) / (high - low);
    return NEAR + Math.min(Math.max(place, 0), 1) * (FAR - NEAR);
  };
  const rings = Array.from({ length: high - low + 1 }, (_, decade) => 10 ** (low + decade));
  return { radius, rings };
}

/** How much wider than high the map is. */
const WIDE = 1.32;

/** How near to the edge the middle of a label may be. */
const EDGE = 64;

const place = (angle, radius) => [X + Math.cos(angle) * radius * WIDE, Y + Math.sin(angle) * radius * FLAT];

const short = (name) => (name.length > NAME_MAX ? `${name.slice(0, NAME_MAX - 1)}…` : name);

function node() {
  const line = s("line", { class: "way", x1: X, y1: Y });
  const flow = s("line", { class: "flow", x1: X, y1: Y });
  const disc = s("circle", { class: "disc", r: 15 });
  const mark = icon("good");
  set(mark, { width: 18, height: 18 });
  const name = s("text", { class: "name" });
  const note = s("text", { class: "note" });
  const element = s("g", { class: "zone" }, line, flow, disc, mark, name, note);
  return {
    element,
    update({ zone, angle, radius, share, preferred, home }) {
      const [x, y] = place(angle, radius);
      set(element, { "data-level": level(zone.state), "data-preferred": preferred });
      const width = 1.5 + (share ?? 0) * 6;
      set(line, { x2: x, y2: y, "stroke-width": width });
      set(flow, { x2: X + (x - X) * 0.999, y2: y, "stroke-width": Math.max(1.5, width * 0.5), "data-flows": (share ?? 0) > 0 });
      set(disc, { cx: x, cy: y });
      set(mark, { x: x - 9, y: y - 9 });
      reshape(mark, level(zone.state));
      // On the side of the disc where no line passes.
      const above = Math.sin(angle) < 0;
      const middle = { "text-anchor": "middle", x: Math.min(Math.max(x, EDGE), WIDTH - EDGE) };
      set(name, { ...middle, y: above ? y - 37 : y + 31 });
      set(note, { ...middle, y: above ? y - 22 : y + 46 });
      text(name, short(zone.name) + (home ? " (home)" : ""));
      const words = zone.state === "healthy" ? ms(distance(zone)) : zone.state;
      text(note, share == null || share === 0 ? words : `${words}, ${percent(share)}`);
    },
  };
}

export class ZoneMap {
  #rings = s("g", { class: "rings" });
  #nodes = s("g");
  #keyed = new Keyed(this.#nodes, ({ zone }) => zone.name, node);
  #drawn = "";

  constructor() {
    const self = s(
      "g",
      { class: "self" },
      s("circle", { cx: X, cy: Y, r: 23 }),
      s("path", { d: `M${X - 9} ${Y - 4}h18M${X - 9} ${Y + 4}h18M${X + 5} ${Y - 8}l4 4-4 4M${X - 5} ${Y}l-4 4 4 4` }),
    );
    this.picture = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, this.#rings, this.#nodes, self);
    at("map").append(this.picture);
  }

  update({ zones, trends }) {
    const known = zones.map(distance).filter((latency) => latency != null);
    const { radius, rings } = scale(known.length > 0 ? known : [1]);
    const turn = (2 * Math.PI) / Math.max(zones.length, 1);
    this.#draw(rings, radius, FIRST - turn / 2);
    const preferred = zones.find((zone) => zone.classes.some((one) => one.class === "small" && one.place === 1));
    this.#keyed.update(
      zones.map((zone, index) => ({
        zone,
        angle: FIRST + index * turn,
        radius: distance(zone) == null ? FAR : radius(distance(zone)),
        share: trends[zone.name]?.share_of_reads,
        preferred: zone === preferred,
        home: index === 0,
      })),
    );
    const words = zones.map((zone) => `${zone.name} ${zone.state}, ${ms(distance(zone))} away`);
    set(this.picture, { "aria-label": `The gateway and its zones: ${words.join("; ")}` });
  }

  /** The words of the rings are at this angle, between two zones. */
  #draw(rings, radius, angle) {
    const drawn = [...rings, angle].join();
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    this.#rings.replaceChildren(
      ...rings.flatMap((latency) => {
        const r = radius(latency);
        const [x, y] = place(angle, r);
        const words = s("text", { x, y: y + 4, "text-anchor": "middle" });
        words.textContent = latency >= 1000 ? `${latency / 1000} s` : `${latency} ms`;
        return [s("ellipse", { cx: X, cy: Y, rx: r * WIDE, ry: r * FLAT }), words];
      }),
    );
  }
}
