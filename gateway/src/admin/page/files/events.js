// Events: what has changed.

import { at, h, icon, show, text } from "./dom.js";
import { clock } from "./format.js";

/** The most events that are shown. The gateway keeps as many. */
const SHOWN = 200;

/** An event that is older was told by an earlier page, and a screen reader need not hear it. */
const NEWS = 10_000;

export class EventsPanel {
  add(event) {
    // After a new connection, the gateway sends again what it has kept.
    const name = `${event.id}/${event.at}`;
    const list = at("events");
    if ([...list.children].some((item) => item.dataset.event === name)) return;
    list.prepend(
      h(
        "li",
        { data: { level: event.level, kind: event.kind, event: name } },
        icon(event.level),
        h("time", {}, clock(event.at)),
        h("span", {}, event.text),
      ),
    );
    while (list.children.length > SHOWN) list.lastElementChild.remove();
    show(at("events-empty"), false);
    if (Date.now() - event.at < NEWS) text(at("told"), event.text);
  }
}
