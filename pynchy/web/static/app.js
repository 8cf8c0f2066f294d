// The frame around the views: the link, the news, what is shown, and when it is asked for anew.
//
// A view is a module with `title`, `icon`, `load(status)`, which asks, and `draw(place, data, page)`. When
// the daemon says that something changed, the view on the screen is asked for once more, never two at a time.

import { h, put, show, tick } from "./dom.js";
import { ask, Failure, listen, post } from "./server.js";
import * as live from "./live.js";
import * as chat from "./chat.js";
import * as tasks from "./tasks.js";
import * as usage from "./usage.js";
import * as log from "./log.js";
import * as audit from "./audit.js";

const views = { live, chat, tasks, usage, log, audit };
const place = document.getElementById("main");
const steps = new Map(); // "group/helper" -> what that run did last
const KEPT = 20;

let name = "live";
let shown = null; // what is on the screen, as text: the same again is not drawn again
let asking = false;
let again = false;
let status = null;
let leave = null; // ends the news
let shut = false; // locked: what is still being asked is nobody's business any more

const page = {
  steps: (group, helper) => steps.get(`${group}/${helper ?? ""}`) ?? [],
  refresh,
  redraw() {
    shown = null;
    return refresh();
  },
  /** Do what a person asked for, and say so if it fails. */
  async act(op, args = {}) {
    try {
      const result = await ask(op, args);
      await page.redraw();
      return result;
    } catch (error) {
      alertOf(error);
      return null;
    }
  },
  alert: alertOf,
  logout() {
    shut = true;
    post("/logout").finally(() => locked("You have logged out."));
  },
};

function alertOf(error) {
  const text = error instanceof Failure ? error.message : `it failed: ${error.message}`;
  const line = h("p", {}, text, " ", h("button", { class: "quiet", onclick: () => line.remove() }, "Close"));
  document.getElementById("alerts").append(line);
  setTimeout(() => line.remove(), 10000);
}

function state(text, kind) {
  const line = document.getElementById("state");
  if (line.textContent !== text) line.textContent = text;
  line.className = `state ${kind}`;
}

// --- what is shown ---

function route() {
  const [, wanted] = location.hash.match(/^#\/([a-z]+)/) ?? [];
  const next = wanted in views ? wanted : "live";
  if (next !== name) views[name].leave?.();
  name = next;
  shown = null;
  document.title = `${views[name].title} · Pynchy`;
  document.body.dataset.view = name;
  navigation();
  put(place, h("p", { class: "nothing" }, "…"));
  views[name].enter?.(place, page);
  refresh();
}

function navigation() {
  show(
    document.getElementById("nav"),
    ...Object.entries(views).map(([each, view]) =>
      h(
        "a",
        { href: `#/${each}`, "data-key": each, "aria-current": each === name ? "page" : null },
        view.icon(),
        h("span", {}, view.title),
      ),
    ),
  );
}

async function refresh() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  try {
    do {
      again = false;
      await once(name);
    } while (again);
  } finally {
    asking = false;
  }
}

async function once(mine) {
  const view = views[mine];
  try {
    status = await ask("status");
    running();
  } catch (error) {
    if (shut) return;
    if (error.status === 401) return locked();
    status = null;
    state(error instanceof Failure ? "not running" : "the page's server is gone", "bad");
  }
  try {
    const data = status || view.offline ? await view.load(status) : null;
    if (shut) return;
    if (mine !== name) {
      again = true;
      return;
    }
    const text = JSON.stringify([data, view.follows ? [...steps] : null]);
    if (text === shown) return;
    shown = text;
    if (data === null) put(place, down());
    else view.draw(place, data, page);
  } catch (error) {
    if (shut) return;
    if (error.status === 401) locked();
    else if (error.status !== 503) alertOf(error);
  }
}

function running() {
  document.getElementById("name").textContent = status.assistant;
  const busy = status.runs.filter((run) => run.turns.length).length;
  state(busy ? `working on ${busy}` : "running", busy ? "busy" : "good");
  for (const key of steps.keys()) {
    if (!status.runs.some((run) => run.turns.length && key.startsWith(`${run.folder}/`))) steps.delete(key);
  }
}

function down() {
  return h(
    "div",
    { class: "card centre" },
    h("h2", {}, "It is not running"),
    h("p", {}, "Start it with ", h("code", {}, "pynchy run"), ". This page notices by itself. The ", h("a", { href: "#/log" }, "log"), " says how it ended."),
  );
}

// --- the news ---

function heard(event) {
  if (event.event === "up") steps.clear();
  for (const step of event.steps ?? []) {
    const key = `${step.group}/${step.helper ?? ""}`;
    steps.set(key, [...(steps.get(key) ?? []), step].slice(-KEPT));
  }
  if (event.event !== "hello") refresh();
}

function news() {
  leave?.();
  leave = listen("/news", heard, (forGood) => {
    state("the page's server is gone", "bad");
    if (forGood) refresh(); // refused: it says why
  });
}

// --- the link ---

async function enter(token) {
  await post("/login", { token });
  history.replaceState(null, "", "#/live");
  open();
}

function locked(text = "Open the link that pynchy web shows. Each link opens one browser.") {
  shut = true;
  leave?.();
  leave = null;
  state("locked", "bad");
  shown = null;
  document.getElementById("nav").replaceChildren();
  const field = h("input", { id: "link", type: "text", autocomplete: "off", spellcheck: "false", required: true });
  const form = h(
    "form",
    {
      class: "card centre",
      onsubmit: (event) => {
        event.preventDefault();
        enter(field.value.trim().replace(/^.*#token=/, "")).catch(alertOf);
      },
    },
    h("h2", {}, "Locked"),
    h("p", {}, text),
    h("label", { for: "link" }, "The link"),
    h("div", { class: "row" }, field, h("button", { class: "main" }, "Open")),
  );
  put(place, form);
}

function open() {
  shut = false;
  news();
  route();
}

addEventListener("hashchange", () => leave && location.hash !== "#main" && route());
setInterval(tick, 1000);

const [, token] = location.hash.match(/^#token=(.+)$/) ?? [];
if (token) {
  history.replaceState(null, "", "#/live"); // out of the address, whatever comes of it
  enter(token).catch((error) => locked(error.message));
} else {
  open();
}
