// What was used of the models: a bar for each day, in parts by group or by model, and the figures.

import { dollars, figure, h, nothing, s, show } from "./dom.js";
import { ask } from "./server.js";
import { bars } from "./icons.js";

export const title = "Usage";
export const icon = bars;

const MEASURES = {
  cost: { name: "Dollars", of: (line) => line.cost, spell: dollars },
  tokens: { name: "Tokens", of: (line) => line.input + line.output + line.cache_read + line.cache_write, spell: figure },
  calls: { name: "Calls", of: (line) => line.calls, spell: figure },
};
const COLOURS = 8;
const wanted = { measure: null, by: "group", days: 30 };
let drawn = null; // for the window's size to change

addEventListener("resize", () => drawn?.());

export function leave() {
  drawn = null;
}

export async function load() {
  const [lines, status] = await Promise.all([ask("usage", { days: wanted.days }), ask("status")]);
  return { lines, bills: status.bills ?? [], ...wanted };
}

export function draw(place, data, page) {
  const free = data.lines.every((line) => line.cost === 0);
  const measure = MEASURES[wanted.measure ?? (free ? "tokens" : "cost")];
  drawn = () => {
    const figure = place.querySelector(".plot");
    if (figure) show(figure, plot(figure.clientWidth, data.lines, measure));
  };
  show(
    place,
    h(
      "div",
      { class: "row controls" },
      choice("measure", "Measure", Object.entries(MEASURES).map(([key, each]) => [key, each.name]), measure === MEASURES.cost ? "cost" : measure === MEASURES.calls ? "calls" : "tokens", page),
      choice("by", "By", [["group", "group"], ["model", "model"]], wanted.by, page),
      choice("days", "Days", [["7", "7"], ["30", "30"], ["90", "90"]], String(wanted.days), page),
    ),
    bills(data.bills),
    data.lines.length
      ? [h("figure", { class: "card plot" }), legend(data.lines, measure), table(data.lines, measure)]
      : nothing("Nothing was used yet."),
  );
  drawn();
}

/** What each group pays: its model, what it may spend today and has, and about what a message costs now. */
function bills(found) {
  if (!found.length) return null;
  return h(
    "section",
    { class: "card scroll", tabindex: "0", role: "region", "aria-label": "Today's budgets" },
    h("p", { class: "quiet" }, `All groups today: ${found[0].words.of_all}`),
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, ["Group", "Model", "Today", "A message now costs"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, found.map((bill) => h("tr", {}, [bill.group, bill.words.model, bill.words.today, bill.words.message].map((cell) => h("td", {}, cell))))),
    ),
  );
}

function choice(key, name, options, value, page) {
  return h(
    "label",
    {},
    name,
    " ",
    h(
      "select",
      {
        "data-key": key,
        onchange: (event) => {
          wanted[key] = key === "days" ? Number(event.target.value) : event.target.value;
          page.redraw();
        },
      },
      options.map(([each, text]) => h("option", { value: each, selected: each === value }, text)),
    ),
  );
}

/** The names of the parts, the largest first; after the seventh they share a colour. */
function parts(lines, measure) {
  const sums = new Map();
  for (const line of lines) sums.set(line[wanted.by], (sums.get(line[wanted.by]) ?? 0) + measure.of(line));
  return [...sums].sort((one, other) => other[1] - one[1]);
}

function colour(index) {
  return `c${Math.min(index, COLOURS - 1)}`;
}

function days() {
  const found = [];
  for (let back = wanted.days - 1; back >= 0; back -= 1) {
    const day = new Date();
    day.setDate(day.getDate() - back);
    found.push(`${day.getFullYear()}-${String(day.getMonth() + 1).padStart(2, "0")}-${String(day.getDate()).padStart(2, "0")}`);
  }
  return found;
}

function plot(width, lines, measure) {
  const [left, top, height, foot] = [52, 12, 190, 24];
  const shown = [...new Set([...days(), ...lines.map((line) => line.day)])].sort().slice(-wanted.days - 1);
  const order = parts(lines, measure).map(([name]) => name);
  const stacks = shown.map((day) =>
    order.map((name) => lines.filter((line) => line.day === day && line[wanted.by] === name).reduce((sum, line) => sum + measure.of(line), 0)),
  );
  const most = nice(Math.max(...stacks.map((stack) => stack.reduce((sum, each) => sum + each, 0)), 0));
  const each = (width - left - 4) / shown.length;
  const y = (value) => top + height - (most ? (value / most) * height : 0);
  const svg = s("svg", { viewBox: `0 0 ${width} ${top + height + foot}`, width, height: top + height + foot, role: "img" });
  svg.setAttribute("aria-label", `${measure.name} per day by ${wanted.by}, at most ${measure.spell(most)}; the table has the figures`);
  for (const part of [0, 0.5, 1]) {
    svg.append(
      s("line", { class: "rule", x1: left, x2: width, y1: y(most * part), y2: y(most * part) }),
      s("text", { class: "tick", x: left - 6, y: y(most * part) + 4, "text-anchor": "end" }, measure.spell(most * part)),
    );
  }
  stacks.forEach((stack, index) => {
    let low = 0;
    const x = left + index * each + each * 0.1;
    const bar = s("g", {});
    bar.append(s("title", {}, `${shown[index]}: ${measure.spell(stack.reduce((sum, value) => sum + value, 0))}`));
    stack.forEach((value, part) => {
      if (!value) return;
      bar.append(s("rect", { class: colour(part), x, width: Math.max(1, each * 0.8), y: y(low + value), height: Math.max(0.5, y(low) - y(low + value)) }));
      low += value;
    });
    svg.append(bar);
    const every = Math.ceil(shown.length / Math.max(2, Math.floor((width - left) / 64)));
    if ((shown.length - 1 - index) % every === 0) {
      const last = index === shown.length - 1;
      const at = last ? width - 2 : left + index * each + each / 2;
      const day = new Date(`${shown[index]}T12:00`).toLocaleDateString([], { day: "numeric", month: "short" });
      svg.append(s("text", { class: "tick", x: at, y: top + height + 17, "text-anchor": last ? "end" : "middle" }, day));
    }
  });
  return svg;
}

/** The next round figure. */
function nice(value) {
  if (value <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * size).find((round) => round >= value);
}

function legend(lines, measure) {
  return h(
    "ul",
    { class: "legend" },
    parts(lines, measure).map(([name, sum], index) =>
      h("li", {}, s("svg", { viewBox: "0 0 10 10", class: "key", "aria-hidden": "true" }, s("rect", { class: colour(index), width: 10, height: 10, rx: 2 })), h("bdi", {}, name), " ", h("strong", { class: "num" }, measure.spell(sum))),
    ),
  );
}

function table(lines) {
  const all = lines.reduce((sum, line) => sum + line.cost, 0);
  const estimated = lines.reduce((sum, line) => sum + line.estimated, 0);
  const apart = estimated ? `, of which ${dollars(estimated)} is an upper bound` : "";
  return h(
    "details",
    { class: "card", "data-key": "figures" },
    h("summary", { "data-key": "figures summary" }, `Figures: ${dollars(all)} in all${apart}`),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Usage by day, group and model" },
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, ["Day", "Group", "Model", "Calls", "In", "Out", "Dollars"].map((name) => h("th", { scope: "col" }, name)))),
        h(
          "tbody",
          {},
          lines.map((line) =>
            h(
              "tr",
              {},
              [line.day, line.group, line.model].map((cell) => h("td", {}, cell)),
              [figure(line.calls), figure(line.input + line.cache_read + line.cache_write), figure(line.output), dollars(line.cost)].map((cell) => h("td", { class: "num" }, cell)),
            ),
          ),
        ),
      ),
    ),
  );
}
