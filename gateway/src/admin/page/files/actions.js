// Commands: drain, undrain and retry, each after a confirmation.

import { at, show, text } from "./dom.js";

const API = "/api/v1";

/** Reads from the admin API. `null` if it cannot be read now. */
export async function read(path) {
  try {
    const answer = await fetch(API + path, { headers: { accept: "application/json" } });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/** Why a command was refused, as the gateway says it. */
async function refusal(answer) {
  const body = await answer.text();
  try {
    return JSON.parse(body).detail ?? body;
  } catch {
    return body.trim() || `the gateway answers ${answer.status}`;
  }
}

export class Actions {
  #dialog = at("dialog");
  #needsToken = false;
  /** In memory only. It is asked for once. */
  #token = null;
  #command = null;

  constructor() {
    at("dialog-cancel").addEventListener("click", () => this.#dialog.close());
    at("dialog-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#dialog.addEventListener("close", () => {
      at("token").value = "";
      this.#command = null;
    });
  }

  /** What commands need: `token`, `loopback` or `none`. */
  needs(commands) {
    this.#needsToken = commands === "token";
  }

  drain(zone) {
    const undrain = zone.drained_by_command;
    const name = zone.name;
    this.#ask({
      title: `${undrain ? "Undrain" : "Drain"} ${name}?`,
      words: undrain
        ? `Reads go to ${name} again, in the order of its latency.`
        : `No reads go to ${name} until it is undrained, also after a restart. Copies still arrive there.`,
      button: `${undrain ? "Undrain" : "Drain"} ${name}`,
      path: `/zones/${encodeURIComponent(name)}/${undrain ? "undrain" : "drain"}`,
      body: null,
    });
  }

  retry(job) {
    this.#ask({
      title: "Try this copy again?",
      words: `The copy of ${job.digest} to ${job.zone} becomes due now.`,
      button: "Try again",
      path: "/queue/retry",
      body: { zone: job.zone, digests: [job.digest], state: null },
    });
  }

  #ask(command) {
    this.#command = command;
    text(at("dialog-title"), command.title);
    text(at("dialog-text"), command.words);
    text(at("dialog-do"), command.button);
    text(at("dialog-problem"), "");
    show(at("dialog-token"), this.#needsToken && this.#token === null);
    this.#dialog.showModal();
  }

  async #send() {
    const command = this.#command;
    const token = this.#token ?? at("token").value;
    const headers = { "quay-gateway-command": "1" };
    if (this.#needsToken) headers.authorization = `Bearer ${token}`;
    if (command.body !== null) headers["content-type"] = "application/json";
    const body = command.body === null ? undefined : JSON.stringify(command.body);
    at("dialog-do").disabled = true;
    try {
      const answer = await fetch(API + command.path, { method: "POST", headers, body });
      if (answer.ok) {
        if (this.#needsToken) this.#token = token;
        this.#dialog.close();
        text(at("told"), `${command.button}: done`);
        return;
      }
      if (answer.status === 401) {
        this.#token = null;
        show(at("dialog-token"), true);
        at("token").focus();
      }
      text(at("dialog-problem"), await refusal(answer));
    } catch {
      text(at("dialog-problem"), "the gateway does not answer");
    } finally {
      at("dialog-do").disabled = false;
    }
  }
}
