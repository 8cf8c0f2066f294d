// What is scheduled, and what became of each time it was due.

import { badge, h, moment, nothing, show } from "./dom.js";
import { ask } from "./server.js";
import { clock } from "./icons.js";

export const title = "Tasks";
export const icon = clock;

let ended = false; // whether those that are over are shown
const open = new Set(); // tasks whose ledger is shown

export async function load() {
  const list = await ask("tasks.list", { ended });
  const ledgers = {};
  for (const task of list) if (open.has(task.id)) ledgers[task.id] = (await ask("tasks.show", { task: task.id })).slots;
  return { list, ledgers };
}

export function draw(place, { list, ledgers }, page) {
  show(
    place,
    h(
      "label",
      { class: "row check" },
      h("input", {
        type: "checkbox",
        "data-key": "ended",
        checked: ended,
        onchange: (event) => {
          ended = event.target.checked;
          page.redraw();
        },
      }),
      "those that are over, too",
    ),
    list.length
      ? h("div", { class: "grid wide" }, list.map((task) => card(task, ledgers[task.id], page)))
      : nothing("Nothing is scheduled. Ask for it in a chat: “every weekday at eight, tell me the weather”."),
  );
}

const KINDS = { active: "good", paused: "warn" };

function card(task, ledger, page) {
  const act = (op, name, kind = "") =>
    h("button", { class: kind, "data-key": `${name === "Run now" ? "run" : "pause"} ${task.id}`, onclick: () => page.act(op, { task: task.id }) }, name);
  return h(
    "article",
    { class: "card", "data-key": task.id },
    h("header", { class: "row" }, h("h3", {}, task.name || task.prompt.slice(0, 60)), badge(task.state, KINDS[task.state])),
    h("p", { class: "quiet" }, `${task.group}: ${spelled(task)}`, task.context === "isolated" && ", a fresh conversation each time"),
    h("p", {}, task.next_run ? ["next ", moment(task.next_run)] : "not again", task.failures > 0 && badge(`${task.failures} failed`, "bad")),
    task.reason && h("p", { class: "warning" }, task.reason),
    h("p", { class: "said clip" }, task.prompt),
    h(
      "div",
      { class: "row" },
      task.state === "active" && act("tasks.pause", "Pause"),
      task.state === "paused" && act("tasks.resume", "Resume", "main"),
      task.state === "active" && act("tasks.run", "Run now"),
    ),
    h(
      "details",
      {
        "data-key": `ledger ${task.id}`,
        open: open.has(task.id),
        ontoggle: (event) => {
          if (event.target.open === open.has(task.id)) return;
          if (event.target.open) open.add(task.id);
          else open.delete(task.id);
          page.redraw();
        },
      },
      h("summary", { "data-key": `summary ${task.id}` }, "Ledger"),
      ledger && (ledger.length ? h("ul", { class: "plain ledger" }, ledger.map(slot)) : nothing("It was not due yet.")),
    ),
  );
}

const SLOTS = { ran: "good", late: "warn", failed: "bad", skipped: "warn", waiting: "accent" };

function slot(row) {
  return h(
    "li",
    {},
    h("span", { class: "num" }, moment(row.due_at)),
    " ",
    badge(row.state, SLOTS[row.state] ?? ""),
    row.missed > 0 && ` ${row.missed} missed before`,
    row.reason && h("span", { class: "quiet" }, ` ${row.reason}`),
  );
}

function spelled(task) {
  if (task.kind === "interval") {
    const seconds = Number(task.value);
    const [size, unit] = seconds % 3600 === 0 ? [3600, "h"] : seconds % 60 === 0 ? [60, "min"] : [1, "s"];
    return `every ${seconds / size} ${unit}`;
  }
  return task.kind === "cron" ? `cron ${task.value} (${task.timezone})` : `once, ${task.value}`;
}
