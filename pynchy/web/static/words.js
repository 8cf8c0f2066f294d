// What a run does, in a person's words.

/** The last few steps in a person's words; the same one twice in a row is said once. */
export function together(steps) {
  const lines = [];
  for (const { what } of steps) {
    const words = spelled(what);
    if (words === null) continue;
    const last = lines.at(-1);
    if (last?.words === words) last.times += 1;
    else lines.push({ words, times: 1 });
  }
  return lines.slice(-6).map(({ words, times }) => (times > 1 ? `${words} ×${times}` : words));
}

const WORDS = {
  text: "writes",
  streaming: "writes",
  "tool result": "reads what came of it",
  script: "runs its script",
  session: null,
  init: null,
  status: null,
};

export function spelled(what) {
  if (Object.hasOwn(WORDS, what)) return WORDS[what];
  const own = what.match(/^mcp__[^_]+__(.+)$/);
  if (own) return own[1].replaceAll("_", " ");
  return /^[A-Z]/.test(what) ? `uses ${what}` : what.replaceAll("_", " ");
}
