// A chat, as it goes on; in the console's chats one can speak.

import { badge, h, moment, nothing, put, show } from "./dom.js";
import { ask, freshId } from "./server.js";
import { bubble } from "./icons.js";
import { together } from "./words.js";

export const title = "Chat";
export const icon = bubble;
export const follows = true;

const SHOWN = 80; // messages
const drafts = new Map(); // chat -> what is typed and not sent
let parts = null; // what stays on the screen while messages come
let page = null;

export function enter(place, given) {
  page = given;
  parts = null;
}

function chosen() {
  const [, chat] = location.hash.match(/^#\/chat\/(.+)$/) ?? [];
  return chat ? decodeURIComponent(chat) : "console:main";
}

export async function load(status) {
  const chats = status.groups.flatMap((group) => group.chats.map((chat) => ({ chat, group: group.folder, name: group.name })));
  const chat = chats.some((each) => each.chat === chosen()) ? chosen() : chats[0]?.chat;
  const group = chats.find((each) => each.chat === chat)?.group;
  return {
    chats,
    chat,
    group,
    assistant: status.assistant,
    busy: status.runs.some((run) => run.folder === group && run.turns.length),
    said: chat ? await ask("history", { chat, limit: SHOWN }) : [],
  };
}

export function draw(place, data) {
  if (parts?.chat !== data.chat || parts.chats !== JSON.stringify(data.chats)) begin(place, data);
  const { list, doing } = parts;
  const low = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  show(list, data.said.length ? data.said.map((entry) => message(entry, data)) : nothing("Nothing was said here yet."));
  const last = together(page.steps(data.group, null)).at(-1);
  doing.textContent = data.busy ? `${data.assistant} is at work${last ? `: ${last}` : ""} …` : "";
  parts.stop.hidden = !data.busy;
  if (low || parts.fresh) list.scrollTop = list.scrollHeight;
  parts.fresh = false;
}

function begin(place, data) {
  const speaks = data.chat?.startsWith("console:");
  const list = h("div", { class: "messages", role: "log", "aria-label": "Messages", tabindex: "0" });
  const doing = h("p", { class: "doing quiet", role: "status" });
  const stop = h("button", { class: "danger", hidden: true, onclick: () => page.act("groups.stop", { folder: data.group }) }, "Stop");
  const choice = h(
    "select",
    { id: "which", "aria-label": "Which chat", onchange: (event) => (location.hash = `#/chat/${encodeURIComponent(event.target.value)}`) },
    data.chats.map((each) =>
      h("option", { value: each.chat, selected: each.chat === data.chat }, each.chat === `console:${each.group}` ? each.name : `${each.name} (${each.chat})`),
    ),
  );
  parts = { chat: data.chat, chats: JSON.stringify(data.chats), list, doing, stop, fresh: true };
  put(
    place,
    h(
      "div",
      { class: "chat" },
      h("div", { class: "row bar" }, choice, stop),
      list,
      doing,
      speaks ? composer(data.chat) : h("p", { class: "nothing" }, "Its people write from their phones."),
    ),
  );
}

function message(entry, data) {
  const theirs = entry.from === null;
  return h(
    "article",
    { class: `bubble ${theirs ? "theirs" : "mine"}`, "data-key": entry.message_id },
    h("header", { class: "quiet small" }, h("bdi", {}, theirs ? data.assistant : entry.name), " ", moment(entry.at)),
    h("p", { class: "said" }, entry.kind === "reaction" ? `reacted ${entry.text}` : entry.text),
    entry.kind === "file" && badge(`file ${(entry.path ?? "").split("/").at(-1)}`),
  );
}

function composer(chat) {
  const coarse = matchMedia("(pointer: coarse)").matches;
  const field = h("textarea", {
    id: "words",
    rows: "1",
    "aria-label": "Message",
    placeholder: "Message",
    title: coarse ? null : "Enter sends, Shift+Enter begins a line",
    enterkeyhint: "send",
    value: drafts.get(chat) ?? "",
  });
  const grow = () => {
    field.style.height = "auto";
    field.style.height = `${Math.min(field.scrollHeight + 2, 200)}px`;
  };
  let waiting = null; // the id of what is on its way: the same words once more are the same message
  const send = async () => {
    const text = field.value;
    if (!text.trim()) return;
    waiting = waiting?.text === text ? waiting : { text, id: freshId() };
    const sent = waiting;
    try {
      await ask("send", { chat, text, message_id: sent.id });
      waiting = null;
      if (field.value === text) field.value = "";
      drafts.delete(chat);
      grow();
      parts.fresh = true;
      page.redraw();
    } catch (error) {
      page.alert(error);
    }
    field.focus();
  };
  field.addEventListener("input", () => {
    drafts.set(chat, field.value);
    grow();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !coarse) {
      event.preventDefault();
      send();
    }
  });
  return h(
    "form",
    {
      class: "row composer",
      onsubmit: (event) => {
        event.preventDefault();
        send();
      },
    },
    field,
    h("button", { class: "main" }, "Send"),
  );
}
