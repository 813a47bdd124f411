// Numbers and names as people read them. Pure.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const grouped = new Intl.NumberFormat("en");

/** Three digits, or all digits before the point. */
const three = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

/** Bytes. `null` is a dash. */
export function bytes(value) {
  if (value == null) return "–";
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value) : three(value)} ${UNITS[unit]}`;
}

/** A count. `null` is a dash. */
export const count = (value) => (value == null ? "–" : grouped.format(value));

/** `1 copy`, `2 copies`. */
export const counted = (value, one, many) => `${count(value)} ${value === 1 ? one : many}`;

/** A rate: one digit after the point if it is small. */
export const rate = (value) => (value == null ? "–" : value < 10 ? value.toFixed(1) : count(Math.round(value)));

/** Milliseconds. `null` is a dash. */
export function ms(value) {
  if (value == null) return "–";
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  return `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

/** How long a request took, which is known in whole milliseconds. */
export const took = (value) => (value < 1 ? "< 1 ms" : value < 10_000 ? `${value} ms` : `${(value / 1000).toFixed(1)} s`);

/** Seconds. `null` is a dash. */
export function seconds(value) {
  if (value == null) return "–";
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  if (value < 172_800) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86_400)} d`;
}

/** A share from 0 to 1. `null` is a dash. */
export function percent(value) {
  if (value == null || Number.isNaN(value)) return "–";
  const hundredths = value * 100;
  return `${hundredths === 0 || hundredths === 100 ? hundredths : hundredths.toFixed(1)} %`;
}

/** A part of a whole, from 0 to 1. `null` if there is no whole. */
export const share = (part, other) => (part + other > 0 ? part / (part + other) : null);

/** The time of day of milliseconds since 1970. */
export const clock = (milliseconds) =>
  new Date(milliseconds).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** The beginning of a digest, which is enough to tell blobs apart. */
export const digest = (value) => value.replace(/^sha256(:|%3A)/i, "").slice(0, 12);

/** What a path asks for: the repository, and what of it. */
export function asked(path) {
  const found = /^\/v2\/(.+)\/(blobs|manifests|tags|referrers)\/(.*)$/.exec(path);
  if (!found) return { repository: path, what: "" };
  const [, repository, kind, rest] = found;
  if (rest.startsWith("uploads")) return { repository, what: "upload" };
  const name = /^sha256(:|%3A)/i.test(rest) ? digest(rest) : rest;
  return { repository, what: kind === "tags" ? "tags" : `${kind.replace(/s$/, "")} ${name}` };
}

const LEVELS = {
  healthy: "good",
  suspect: "warning",
  throttled: "warning",
  probation: "warning",
  drained: "drained",
  "never read": "drained",
  closed: "good",
  "half-open": "warning",
};

/** How good the state of a zone or of an instance is; the name of its icon. */
export const level = (state) => LEVELS[state] ?? "critical";

/** The words for the breaker of an instance. */
export const breaker = (state) => ({ closed: "in use", open: "out of use", "half-open": "on probation" })[state] ?? state;
