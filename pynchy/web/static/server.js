// What the page asks of its server. Answers are the control socket's, see docs/control.md.

export class Failure extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export async function post(path, body = {}) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  let found = {};
  try {
    found = await answer.json();
  } catch {
    // no words: the status says enough
  }
  if (!answer.ok) throw new Failure(answer.status, found.code ?? "", found.error ?? `it failed (${answer.status})`);
  return found;
}

/** The result of an op. */
export function ask(op, args = {}) {
  return post(`/ask/${op}`, args);
}

/** Events of a stream as they come. Returns what ends it. */
export function listen(path, heard, lost) {
  const source = new EventSource(path);
  source.onmessage = (event) => heard(JSON.parse(event.data));
  source.onerror = () => lost(source.readyState === EventSource.CLOSED);
  return () => source.close();
}

/** A message's own name: sending it again under that is harmless. */
export function freshId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
