// The daemon's log as it is written, and the runs with the log of each. The log is there with the daemon down.

import { badge, h, moment, nothing, put, section, show } from "./dom.js";
import { ask, listen, post } from "./server.js";
import { lines as linesIcon } from "./icons.js";

export const title = "Log";
export const icon = linesIcon;
export const offline = true;

const KEPT = 1000; // lines
const found = [];
let parts = null;
let stop = null;

export function enter(place, page) {
  found.length = 0;
  const filter = h("input", { type: "search", id: "filter", placeholder: "Only lines with …", "aria-label": "Only lines with", oninput: () => fill() });
  const list = h("div", { class: "log", role: "log", "aria-label": "Log", "aria-live": "off", tabindex: "0" });
  const runs = h("div", {});
  parts = { filter, list, runs, place };
  put(place, section("Log", filter, list), section("Runs", runs));
  stop = listen("/log", (event) => event.event === "lines" && add(event.lines), () => {});
  parts.page = page;
}

export function leave() {
  stop?.();
  stop = null;
}

export async function load(status) {
  return { runs: status ? await ask("runs", { limit: 40 }) : [] };
}

export function draw(place, { runs }, page) {
  if (!place.contains(parts.list)) enter(place, page);
  show(parts.runs, runs.length ? h("ul", { class: "plain" }, runs.map((run) => row(run, page))) : nothing("Nothing has run yet."));
}

function row(run, page) {
  return h(
    "li",
    { class: "row" },
    h("span", { class: "num" }, moment(run.started_at)),
    h("strong", {}, run.group),
    run.kind !== "session" && badge(run.kind),
    badge(run.ended_at ? (run.reason ?? "ended") : run.state, run.ended_at ? "" : "accent"),
    run.ended_at && h("button", { class: "quiet", "data-key": run.id, onclick: () => openLog(run, page) }, "Log"),
  );
}

async function openLog(run, page) {
  try {
    const { text } = await post("/runlog", { run: run.id });
    const close = h("button", { onclick: () => dialog.close() }, "Close");
    const dialog = h(
      "dialog",
      { class: "card", "aria-label": `Log of a run of ${run.group}`, onclose: () => dialog.remove() },
      h("header", { class: "row" }, h("h2", {}, run.group), close),
      h("pre", { tabindex: "0" }, text),
    );
    document.body.append(dialog);
    dialog.showModal();
  } catch (error) {
    page.alert(error);
  }
}

function add(lines) {
  found.push(...lines.slice(-KEPT));
  if (found.length > KEPT) found.splice(0, found.length - KEPT);
  fill();
}

function fill() {
  const { list, filter } = parts;
  const low = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  const words = filter.value.toLowerCase();
  const some = words ? found.filter((line) => line.toLowerCase().includes(words)) : found;
  show(list, some.length ? some.map((line) => h("div", { class: level(line) }, line)) : nothing(words ? "No such line." : "Nothing is written yet."));
  if (low) list.scrollTop = list.scrollHeight;
}

function level(line) {
  const [, word] = line.match(/^(?:\S+ \S+ |\{.*"level": ?")(DEBUG|INFO|WARNING|ERROR|CRITICAL)/i) ?? [];
  return `line ${(word ?? "more").toLowerCase()}`;
}
