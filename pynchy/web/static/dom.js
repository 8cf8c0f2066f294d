// Elements, times and figures. Text is only ever set as text: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("button", {class: "quiet", onclick: stop}, "Stop"). null and false are left out. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) hear(element, name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children.flat(9).filter((child) => child !== null && child !== undefined && child !== false);
}

// What an element does is kept beside it, so that it can be given something else to do.
const doing = new WeakMap();

function hear(element, kind, does) {
  const all = doing.get(element) ?? {};
  if (!(kind in all)) element.addEventListener(kind, (event) => doing.get(element)[kind](event));
  all[kind] = does;
  doing.set(element, all);
}

/** Put these in the place of what is there. */
export function put(place, ...children) {
  place.replaceChildren(...flat(children));
}

/**
 * Make what is there into these. An element that is there stays, with its focus, its scrolling and the finger
 * that is just on it; `data-key` tells siblings apart.
 */
export function show(place, ...children) {
  alter(place, flat(children));
}

function alter(parent, wanted) {
  let here = parent.firstChild;
  for (let next of wanted) {
    if (typeof next !== "object") next = document.createTextNode(next);
    let found = here;
    if (!alike(found, next) && keyOf(next)) {
      while (found && !alike(found, next)) found = found.nextSibling;
    }
    if (alike(found, next)) {
      if (found === here) here = here.nextSibling;
      else parent.insertBefore(found, here);
      become(found, next);
    } else {
      parent.insertBefore(next, here);
    }
  }
  while (here) {
    const after = here.nextSibling;
    here.remove();
    here = after;
  }
}

function keyOf(node) {
  return node.dataset?.key;
}

function alike(one, other) {
  return Boolean(one) && one.nodeName === other.nodeName && one.nodeName !== "svg" && keyOf(one) === keyOf(other);
}

function become(old, next) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  for (const { name, value } of next.attributes) if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (name !== "open" && !next.hasAttribute(name)) old.removeAttribute(name);
  for (const [kind, does] of Object.entries(doing.get(next) ?? {})) hear(old, kind, does);
  alter(old, [...next.childNodes]);
  if (old.nodeName === "SELECT" && old !== document.activeElement) old.value = next.value;
}

/** A moment as a person says it: today's without its day. Takes ISO texts and microseconds. */
export function moment(at) {
  const date = dated(at);
  const today = date.toDateString() === new Date().toDateString();
  const time = { hour: "2-digit", minute: "2-digit" };
  const text = today
    ? date.toLocaleTimeString([], time)
    : date.toLocaleString([], { day: "numeric", month: "short", ...time });
  return h("time", { datetime: date.toISOString(), title: date.toLocaleString() }, text);
}

export function dated(at) {
  return new Date(typeof at === "number" ? at / 1000 : at);
}

/** How long, in one unit. */
export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min`;
  return whole < 172800 ? `${Math.floor(whole / 3600)} h` : `${Math.floor(whole / 86400)} days`;
}

/** A span that goes on: the page's clock writes it anew each second. */
export function since(start) {
  return h("span", { "data-since": start, class: "num" }, span((Date.now() - start) / 1000));
}

export function tick() {
  for (const each of document.querySelectorAll("[data-since]")) {
    each.textContent = span((Date.now() - Number(each.dataset.since)) / 1000);
  }
}

/** A figure that fits: 1.2 k, 3.4 M. */
export function figure(value) {
  for (const [size, unit] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
    if (value >= size) return (value / size).toFixed(value < 10 * size ? 1 : 0) + unit;
  }
  return String(Math.round(value * 100) / 100);
}

export function dollars(value) {
  return `$${value.toFixed(value && value < 0.1 ? 4 : 2)}`;
}

export function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

export function badge(text, kind = "") {
  return h("span", { class: `badge ${kind}` }, text);
}

export function section(title, ...children) {
  return h("section", { class: "block" }, h("h2", {}, title), ...children);
}

export function nothing(text) {
  return h("p", { class: "nothing" }, text);
}
