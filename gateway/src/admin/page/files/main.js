// The live stream, and who shows what of it.

import { Actions } from "./actions.js";
import { CachePanel } from "./cache.js";
import { EventsPanel } from "./events.js";
import { Figures } from "./figures.js";
import { Lists } from "./lists.js";
import { ZoneMap } from "./map.js";
import { QueuePanel } from "./queue.js";
import { RequestsPanel } from "./requests.js";
import { Zones } from "./zones.js";
import { at, text } from "./dom.js";

const STREAM = "/api/v1/live";

/** The pause before another try, if the gateway refuses the stream. A broken connection comes again by itself. */
const REFUSED_PAUSE = 5000;

/** Snapshots come each second. After this time without one, what is shown may be wrong. */
const STALE_AFTER = 5000;

const actions = new Actions();
const requests = new RequestsPanel();
const events = new EventsPanel();
const panels = [
  new Figures(),
  new ZoneMap(),
  new Zones(actions),
  new CachePanel(),
  new QueuePanel(actions),
  new Lists(),
  requests,
];
let stale;

function link(state, words) {
  at("link").dataset.state = state;
  text(at("link"), words);
  document.body.classList.toggle("stale", state !== "live");
}

/** The verdict over everything, in one sentence. */
function verdict({ zones, all_ejected: allEjected, queue, registry }) {
  const names = (states) => zones.filter((zone) => states.includes(zone.state)).map((zone) => zone.name);
  const gone = names(["ejected", "misconfigured", "unusable"]);
  const weak = names(["suspect", "throttled", "probation"]);
  const drained = names(["drained"]);
  const out = registry.filter((instance) => instance.state === "open").map((instance) => instance.name);
  if (allEjected) return ["critical", "Every zone is out of use"];
  if (out.length === registry.length && out.length > 0) return ["critical", "No instance of the registry is in use"];
  if (gone.length > 0) return ["critical", `Out of use: ${gone.join(", ")}`];
  if (queue === null) return ["critical", "The journal cannot be read"];
  if (out.length > 0) return ["warning", `Instance out of use: ${out.join(", ")}`];
  if (weak.length > 0) return ["warning", `Not well: ${weak.join(", ")}`];
  if (drained.length > 0) return ["drained", `Drained: ${drained.join(", ")}`];
  return ["good", "All zones are healthy"];
}

function shown(snapshot) {
  const { gateway } = snapshot;
  text(at("gateway"), `${gateway.hostname} · ${gateway.version}`);
  document.title = `${gateway.hostname} – quay-gateway`;
  const [level, words] = verdict(snapshot);
  at("verdict").dataset.level = level;
  text(at("verdict"), words);
  actions.needs(gateway.commands);
  for (const panel of panels) panel.update(snapshot);
  link("live", "live");
  clearTimeout(stale);
  stale = setTimeout(() => link("stale", "no news, trying again"), STALE_AFTER);
}

function listen() {
  const stream = new EventSource(STREAM);
  const on = (name, take) => stream.addEventListener(name, (message) => take(JSON.parse(message.data)));
  on("snapshot", shown);
  on("request", (request) => requests.add(request));
  on("event", (event) => events.add(event));
  on("missed", ({ frames }) => requests.missed(frames));
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) {
      link("refused", "refused, trying again");
      setTimeout(listen, REFUSED_PAUSE);
    } else {
      link("stale", "connection lost, trying again");
    }
  });
}

const THEMES = ["system", "light", "dark"];

/** The colours: those of the system, or those that were chosen here. */
function theme(chosen) {
  document.documentElement.dataset.theme = chosen;
  text(at("theme"), `Theme: ${chosen}`);
}

theme(THEMES.find((known) => known === localStorage.getItem("theme")) ?? "system");
at("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  localStorage.setItem("theme", next);
  theme(next);
});
listen();
