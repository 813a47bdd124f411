// The queue of copies: what waits for each zone, and why single copies wait.

import { read } from "./actions.js";
import { at, h, icon, Keyed, reshape, show, text } from "./dom.js";
import { bytes, count, digest, seconds } from "./format.js";

/** The time between two looks at single copies. */
const EVERY = 5000;

/** The most copies of each state that are shown. */
const JOBS_MAX = 20;

function zoneRow() {
  const mark = icon("good");
  const [name, state, moving, error] = [h("strong"), h("span"), h("span", { className: "soft" }), h("p", { className: "why" })];
  const element = h("li", {}, h("div", { className: "named" }, mark, name, state, moving), error);
  return {
    element,
    update(zone) {
      const level = zone.parked > 0 || zone.unusable ? "critical" : zone.failing > 0 ? "warning" : "good";
      reshape(mark, level);
      text(name, zone.zone);
      const parts = [
        zone.waiting > 0 ? `${count(zone.waiting)} waiting, ${bytes(zone.waiting_bytes)}` : "nothing waits",
        zone.failing > 0 ? `${count(zone.failing)} failing` : "",
        zone.parked > 0 ? `${count(zone.parked)} parked` : "",
      ];
      text(state, parts.filter(Boolean).join(", "));
      const end = zone.eta_seconds == null ? "no end in sight" : `done in about ${seconds(zone.eta_seconds)}`;
      text(moving, zone.waiting > 0 ? `${bytes(zone.bytes_per_second)}/s, ${end}` : "");
      const why = zone.unusable ?? (zone.failing > 0 || zone.parked > 0 ? zone.last_error : null);
      text(error, why ?? "");
      show(error, Boolean(why));
    },
  };
}

function jobRow(actions) {
  const mark = icon("warning");
  const [name, zone, state, why] = [h("code"), h("strong"), h("span"), h("p", { className: "why" })];
  const button = h("button", { type: "button" }, "Try again");
  let job;
  button.addEventListener("click", () => actions.retry(job));
  const element = h("li", { className: "job" }, h("div", {}, h("div", { className: "named" }, mark, name, "to", zone, state), why), button);
  return {
    element,
    update(of) {
      job = of.job;
      reshape(mark, job.state === "parked" ? "critical" : "warning");
      text(name, digest(job.digest));
      name.title = job.digest;
      text(zone, job.zone);
      const due = job.state === "parked" ? "parked" : job.due_seconds == null ? "due now" : `next try in ${seconds(job.due_seconds)}`;
      const tries = job.attempts === 1 ? "1 failed try" : `${count(job.attempts)} failed tries`;
      text(state, `${tries}, ${due}`);
      text(why, job.error ?? "no reason is known");
      button.setAttribute("aria-label", `Try again the copy of ${digest(job.digest)} to ${job.zone}`);
      show(button, of.commands !== "none");
    },
  };
}

export class QueuePanel {
  #zones = h("ul", { className: "lanes" });
  #jobs = h("ul", { className: "jobs", tabIndex: 0, "aria-label": "Copies that fail" });
  #title = h("h3", {}, "Copies that fail");
  #commands = "none";
  #trouble = false;

  constructor(actions) {
    at("queue").append(this.#zones, this.#title, this.#jobs);
    this.zones = new Keyed(this.#zones, (zone) => zone.zone, zoneRow);
    this.jobs = new Keyed(this.#jobs, ({ job }) => `${job.zone} ${job.digest}`, () => jobRow(actions));
    show(this.#title, false);
    setInterval(() => this.#look(), EVERY);
  }

  update({ queue, gateway }) {
    this.#commands = gateway.commands;
    const waiting = queue?.reduce((sum, zone) => sum + zone.waiting, 0);
    text(at("queue-note"), queue === null ? "the journal cannot be read" : waiting > 0 ? `${count(waiting)} waiting` : "nothing waits");
    this.zones.update(queue ?? []);
    const before = this.#trouble;
    this.#trouble = (queue ?? []).some((zone) => zone.failing > 0 || zone.parked > 0);
    if (this.#trouble !== before) this.#look();
  }

  async #look() {
    if (document.hidden) return;
    const states = this.#trouble ? ["parked", "failing"] : [];
    const found = await Promise.all(states.map((state) => read(`/queue/jobs?state=${state}&limit=${JOBS_MAX}`)));
    if (found.includes(null)) return;
    const jobs = found.flatMap((jobs) => jobs);
    this.jobs.update(jobs.map((job) => ({ job, commands: this.#commands })));
    show(this.#title, jobs.length > 0);
  }
}
