// Decisions about security: who was refused what, who changed what.

import { badge, h, moment, nothing, show } from "./dom.js";
import { ask } from "./server.js";
import { shield } from "./icons.js";

export const title = "Audit";
export const icon = shield;

export async function load() {
  return ask("audit", { limit: 200 });
}

export function draw(place, rows) {
  if (!rows.length) {
    show(place, nothing("Nothing to tell."));
    return;
  }
  show(
    place,
    h(
      "div",
      { class: "scroll card", tabindex: "0", role: "region", "aria-label": "Audit" },
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, ["When", "Who", "What", "Group", "More"].map((name) => h("th", { scope: "col" }, name)))),
        h(
          "tbody",
          {},
          rows.map((row) =>
            h(
              "tr",
              {},
              h("td", { class: "num" }, moment(row.at)),
              h("td", {}, row.actor),
              h("td", {}, badge(row.action, /refus|denied|blocked/.test(row.action) ? "bad" : "")),
              h("td", {}, row.folder ?? ""),
              h("td", { class: "said cut" }, spelled(row.detail)),
            ),
          ),
        ),
      ),
    ),
  );
}

function spelled(detail) {
  return Object.entries(detail ?? {})
    .map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(", ");
}
