// What goes on: slots, runs and what they do, who waits, the groups, what is to be said.

import { badge, count, h, moment, nothing, section, show, since } from "./dom.js";
import { ask } from "./server.js";
import { pulse } from "./icons.js";
import { together } from "./words.js";

export const title = "Live";
export const icon = pulse;
export const follows = true; // drawn anew when a run does something

export async function load(status) {
  const outbox = await ask("outbox", { limit: 30 });
  return { ...status, uptime: null, started: Date.now() - status.uptime * 1000, entries: outbox, approvals: await ask("approvals") };
}

export function draw(place, data, page) {
  show(
    place,
    ...data.warnings.map((warning) => h("p", { class: "warning" }, warning)),
    tiles(data),
    waiting(data, page),
    section("Running", data.runs.length ? h("div", { class: "grid" }, data.runs.map((run) => card(run, page))) : nothing("Nobody is at work.")),
    data.retries.length > 0 &&
      section("Tried again", h("div", { class: "grid" }, data.retries.map((retry) => retryCard(retry, page)))),
    data.queue.length > 0 &&
      section("Waiting for a slot", h("ol", { class: "plain" }, data.queue.map((folder) => h("li", {}, folder)))),
    section("Groups", h("div", { class: "grid" }, data.groups.map((group) => groupCard(group, data, page)))),
    section("Outbox", outbox(data.entries)),
    footer(data, page),
  );
}

function tiles(data) {
  const open = data.outbox.pending + data.outbox.sending + data.outbox.uncertain;
  return h(
    "div",
    { class: "tiles" },
    tile("Slots", `${data.runs.length} of ${data.containers}`, h("meter", { min: 0, max: data.containers, value: data.runs.length, "aria-label": "slots in use" })),
    tile("Queue", data.queue.length ? count(data.queue.length, "group") : "empty"),
    tile("Outbox", open ? `${open} to send` : "empty"),
    tile("Tried again", data.retrying ? count(data.retrying, "turn") : "none"),
  );
}

function tile(name, value, more = null) {
  return h("div", { class: "tile" }, h("span", { class: "label" }, name), h("strong", {}, value), more);
}

function waiting(data, page) {
  if (!data.approvals.length) return null;
  return section(
    "Waiting for your word",
    h(
      "div",
      { class: "grid" },
      data.approvals.map((each) =>
        h(
          "article",
          { class: "card attention", "data-key": each.code },
          h("header", { class: "row" }, h("h3", {}, each.folder), badge(each.code, "warn")),
          h("p", { class: "said" }, each.text),
          h("p", { class: "quiet" }, "until ", moment(each.expires_at)),
          h(
            "div",
            { class: "row" },
            h("button", { class: "main", "data-key": `yes ${each.code}`, onclick: () => page.act("approve", { code: each.code, sha256: each.sha256 }) }, "Allow"),
            h("button", { "data-key": `no ${each.code}`, onclick: () => page.act("deny", { code: each.code }) }, "Deny"),
          ),
        ),
      ),
    ),
  );
}

function card(run, page) {
  const busy = run.turns.length > 0;
  const helper = run.kind === "delegate";
  const done = page.steps(run.folder, helper ? String(run.turns[0] ?? "") : null);
  return h(
    "article",
    { class: `card ${busy ? "busy" : ""}`, "data-key": run.run },
    h(
      "header",
      { class: "row" },
      h("h3", {}, run.folder),
      badge(busy ? "working" : "idle", busy ? "accent" : ""),
      run.kind !== "session" && badge(helper ? "helper" : run.kind),
    ),
    h("p", { class: "quiet" }, "up for ", since(Date.now() - run.seconds * 1000), busy && `, ${count(run.turns.length, "turn")}`),
    busy && h("ol", { class: "steps", "aria-label": "What it does" }, together(done).map((step) => h("li", {}, step))),
    busy &&
      h(
        "div",
        { class: "row" },
        h("button", { class: "danger", "data-key": `stop ${run.run}`, onclick: () => page.act("groups.stop", { folder: run.folder }) }, "Stop"),
      ),
  );
}

/** A turn that failed and waits: why, until when, and a way to be rid of it. */
function retryCard(retry, page) {
  return h(
    "article",
    { class: "card", "data-key": `retry ${retry.turn}` },
    h("header", { class: "row" }, h("h3", {}, retry.folder), badge(`try ${retry.attempt + 1}`, "warn")),
    retry.at - Date.now() * 1000 < 2 * 86400e6 && h("p", { class: "quiet" }, "at ", moment(retry.at)),
    retry.until && h("p", { class: "quiet" }, "given up at ", moment(retry.until)),
    h("p", { class: "said clip small" }, retry.error),
    h(
      "div",
      { class: "row" },
      h("button", { class: "danger", "data-key": `give up ${retry.turn}`, onclick: () => page.act("groups.stop", { folder: retry.folder }) }, "Stop"),
    ),
  );
}

function groupCard(group, data, page) {
  const run = data.runs.find((each) => each.folder === group.folder && each.turns.length);
  const waits = data.queue.includes(group.folder) || data.unanswered.some((each) => each === group.folder || each?.folder === group.folder);
  const [word, kind] = group.paused ? ["paused", "warn"] : run ? ["working", "accent"] : waits ? ["waits", "warn"] : ["quiet", ""];
  const own = group.chats.find((chat) => chat.startsWith("console:"));
  return h(
    "article",
    { class: "card", "data-key": group.folder },
    h("header", { class: "row" }, h("h3", {}, h("bdi", {}, group.name)), badge(word, kind)),
    h("p", { class: "quiet" }, group.answers === "all" ? "answers everything" : `answers @${group.trigger}${group.answers === "name" ? "" : `, by ${group.answers}`}`, group.name.toLowerCase() !== group.folder && `, folder ${group.folder}`),
    h("p", { class: "quiet small" }, group.chats.join(", ") || "no chat"),
    h(
      "div",
      { class: "row" },
      own && h("a", { class: "button", "data-key": `chat ${own}`, href: `#/chat/${own}` }, "Chat"),
      h(
        "button",
        { "data-key": `pause ${group.folder}`, onclick: () => page.act(group.paused ? "groups.resume" : "groups.pause", { folder: group.folder }) },
        group.paused ? "Resume" : "Pause",
      ),
    ),
  );
}

const KINDS = { sent: "good", failed: "bad", uncertain: "warn", pending: "accent", sending: "accent" };

function outbox(entries) {
  if (!entries.length) return nothing("Nothing was said yet.");
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Outbox" },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, ["When", "Chat", "State", "What"].map((name) => h("th", { scope: "col" }, name)))),
      h(
        "tbody",
        {},
        entries.map((entry) =>
          h(
            "tr",
            { "data-key": entry.id },
            h("td", { class: "num" }, moment(entry.sent_at ?? entry.failed_at ?? entry.created_at)),
            h("td", {}, entry.chat),
            h("td", {}, badge(entry.state, KINDS[entry.state]), entry.attempt > 1 && ` try ${entry.attempt}`),
            h("td", { class: "said cut" }, entry.error && h("em", {}, entry.error, " "), entry.text || entry.kind),
          ),
        ),
      ),
    ),
  );
}

function footer(data, page) {
  const channels = Object.entries(data.channels).map(([name, state]) => `${name} ${state}`);
  return h(
    "footer",
    { class: "foot quiet" },
    h("p", {}, `version ${data.version}, ${data.runtime}, model ${data.model}, up for `, since(data.started - (data.started % 1000))),
    h("p", {}, channels.join(", "), `; home ${data.home}`),
    h("button", { class: "quiet", "data-key": "logout", onclick: page.logout }, "Log out"),
  );
}
