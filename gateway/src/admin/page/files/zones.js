// The table of zones.

import { at, fill, h, icon, Keyed, reshape, s, set, show, text } from "./dom.js";
import { bytes, count, counted, level, ms, percent, seconds } from "./format.js";
import { distance } from "./map.js";

const [WIDTH, HEIGHT] = [120, 28];

/** The points that the whole width has at least: the first line does not jump. */
const POINTS_LEAST = 12;

/** The sparkline of latencies. A gap is a time without an answer. */
class Sparkline {
  #area = s("path", { class: "area" });
  #line = s("path", { class: "line" });
  #end = s("circle", { class: "end", r: 2.2 });

  constructor() {
    const box = { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true", preserveAspectRatio: "none" };
    this.element = s("svg", box, this.#area, this.#line, this.#end);
  }

  update(points) {
    const known = points.filter((point) => point != null);
    const highest = Math.max(...known, 0.001);
    const most = Math.max(POINTS_LEAST, points.length);
    const x = (index) => ((WIDTH - 4) * (index + most - points.length)) / (most - 1);
    const y = (point) => HEIGHT - 3 - (point / highest) * (HEIGHT - 7);
    let [line, area, begun] = ["", "", null];
    points.forEach((point, index) => {
      if (point == null) {
        begun = null;
        return;
      }
      const to = `${x(index).toFixed(1)} ${y(point).toFixed(1)}`;
      line += begun === null ? `M${to}` : `L${to}`;
      area += begun === null ? `M${x(index).toFixed(1)} ${HEIGHT}L${to}` : `L${to}`;
      begun ??= index;
      if (index === points.length - 1 || points[index + 1] == null) area += `V${HEIGHT}Z`;
    });
    set(this.#line, { d: line || "M0 0" });
    set(this.#area, { d: area || "M0 0" });
    const last = points.at(-1);
    if (last != null) set(this.#end, { cx: x(points.length - 1), cy: y(last) });
    set(this.#end, { visibility: last == null ? "hidden" : "visible" });
  }
}

function cell(label, ...children) {
  return h("td", { role: "cell", data: { label } }, ...children);
}

function row(actions) {
  const mark = icon("good");
  const [name, state, reason, since] = [h("strong"), h("span", { className: "state" }), h("p", { className: "why" }), h("span", { className: "soft" })];
  const [latency, spark] = [h("span", { className: "number" }), new Sparkline()];
  const [part, bar, reads] = [h("span", { className: "number" }), h("span", { className: "fill" }), h("span", { className: "soft" })];
  const [waiting, lag, risk, blobs] = [h("span"), h("span", { className: "soft" }), h("span"), h("span", { className: "soft" })];
  const button = h("button", { type: "button" });
  let zone;
  button.addEventListener("click", () => actions.drain(zone));
  const element = h(
    "tr",
    { role: "row" },
    h("td", { role: "rowheader", className: "who" }, h("div", { className: "named" }, mark, name, state, since), reason),
    cell("Latency", h("div", { className: "trend" }, latency, spark.element)),
    cell("Reads", h("div", { className: "trend" }, part, h("span", { className: "bar" }, bar)), reads),
    cell("Copies waiting", waiting, lag),
    cell("At risk", risk, blobs),
    h("td", { role: "cell", className: "command" }, button),
  );
  return {
    element,
    update(of) {
      ({ zone } = of);
      const { trend, queue, commands } = of;
      element.dataset.level = level(zone.state);
      element.dataset.zone = zone.name;
      reshape(mark, level(zone.state));
      text(name, zone.name);
      text(state, zone.state);
      text(since, `for ${seconds(zone.since_seconds)}`);
      const by = zone.drained_by_command ? "drained by command: no reads until it is undrained, copies still arrive" : null;
      const why = zone.reason ?? by ?? (zone.state === "drained" ? "drained by the configuration" : null);
      text(reason, why ?? "");
      show(reason, why !== null);
      text(latency, ms(distance(zone)));
      spark.update(trend?.latency ?? []);
      text(part, percent(trend?.share_of_reads));
      fill(bar, trend?.share_of_reads);
      text(reads, trend?.bytes ? `${count(trend.reads)} · ${bytes(trend.bytes)}` : "none");
      text(waiting, queue ? count(queue.waiting) : "–");
      const late = zone.lag_seconds == null ? "" : `oldest ${seconds(zone.lag_seconds)}`;
      text(lag, queue?.waiting > 0 ? late : queue ? "none" : "no target of copies");
      text(risk, queue?.at_risk_bytes == null ? "–" : bytes(queue.at_risk_bytes));
      text(blobs, queue?.at_risk_blobs ? `${counted(queue.at_risk_blobs, "blob", "blobs")} only here` : "");
      const drained = zone.drained_by_command;
      text(button, drained ? "Undrain" : "Drain");
      button.setAttribute("aria-label", `${drained ? "Undrain" : "Drain"} ${zone.name}`);
      show(button, commands !== "none" && (drained || zone.state !== "drained") && zone.state !== "unusable");
    },
  };
}

export class Zones {
  constructor(actions) {
    this.rows = new Keyed(at("zones"), ({ zone }) => zone.name, () => row(actions));
  }

  update({ zones, trends, queue, gateway }) {
    this.rows.update(
      zones.map((zone) => ({
        zone,
        trend: trends[zone.name],
        queue: queue?.find((one) => one.zone === zone.name),
        commands: gateway.commands,
      })),
    );
    const healthy = zones.filter((zone) => zone.state === "healthy").length;
    text(at("zones-note"), `${healthy} of ${zones.length} healthy`);
  }
}
