// Loaded into each node of an agent: lets node's own fetch, and its http and https, use the proxy of the environment.
// From 22.21 and 24 on node does that by itself (NODE_USE_ENV_PROXY); there this does nothing.
"use strict";

const [major, minor] = process.versions.node.split(".").map(Number);
const byItself = major >= 24 || (major === 22 && minor >= 21) || process.versions.bun !== undefined;
const named = process.env.HTTPS_PROXY || process.env.https_proxy;
if (!byItself && major >= 18 && named) install(new URL(named));

function install(proxy) {
  const excepted = (process.env.NO_PROXY || process.env.no_proxy || "").split(",").map((name) => name.trim());
  const own = { host: proxy.hostname, port: proxy.port || 80 };
  const password = decodeURIComponent(proxy.username) + ":" + decodeURIComponent(proxy.password);
  const known = proxy.username ? { "proxy-authorization": "Basic " + Buffer.from(password).toString("base64") } : {};
  const isDirect = (host) => excepted.includes(String(host).replace(/^\[|\]$/g, ""));

  const http = require("http");
  const https = require("https");

  const addRequest = http.globalAgent.addRequest;
  http.globalAgent.addRequest = function (request, options, ...rest) {
    const { host, port } = options;
    if (isDirect(host) || options.socketPath || request._header) return addRequest.call(this, request, options, ...rest);
    request.path = `http://${host}${Number(port) === 80 ? "" : ":" + port}${request.path}`;
    for (const [name, value] of Object.entries(known)) request.setHeader(name, value);
    return addRequest.call(this, request, { ...options, ...own }, ...rest);
  };

  const direct = https.globalAgent.createConnection;
  https.globalAgent.createConnection = function (options, done) {
    const { host, port } = options;
    if (isDirect(host) || options.socketPath) return direct.call(this, options, done);
    const headers = { host: `${host}:${port}`, ...known };
    const asked = http.request({ ...own, agent: false, method: "CONNECT", path: `${host}:${port}`, headers });
    asked.once("error", done);
    asked.once("connect", (answer, socket) => {
      if (answer.statusCode === 200) {
        done(null, require("tls").connect({ ...options, socket, host: undefined, port: undefined, path: undefined }));
        return;
      }
      socket.destroy();
      done(new Error(`no connection to ${host}:${port}: ${answer.statusCode} ${answer.statusMessage}`));
    });
    asked.end();
  };

  // Where node's fetch looks for what carries its requests: asked for at the first fetch, and not before.
  const place = Symbol.for("undici.globalDispatcher.1");
  let dispatcher = { dispatch, close: async () => {}, destroy: async () => {}, on() {}, once() {}, off() {} };
  Object.defineProperty(globalThis, place, {
    configurable: true,
    get: () => dispatcher,
    set: (other) => { dispatcher = other; },
  });

  function dispatch(options, handler) {
    const url = new URL(options.path, options.origin);
    const library = url.protocol === "https:" ? https : http;
    let over = false;
    const fail = (error) => {
      if (!over) handler.onError(error);
      over = true;
    };
    const request = library.request(url, { method: options.method, headers: options.headers });
    handler.onConnect((reason) => {
      request.destroy();
      fail(reason || new Error("aborted"));
    });
    if (over) return true;
    request.on("error", fail);
    request.on("response", (answer) => {
      const headers = answer.rawHeaders.map((each) => Buffer.from(each, "latin1"));
      answer.on("error", fail);
      answer.on("end", () => {
        if (!over) handler.onComplete([]);
        over = true;
      });
      const goesOn = handler.onHeaders(answer.statusCode, headers, () => answer.resume(), answer.statusMessage);
      answer.on("data", (chunk) => { if (!over && handler.onData(chunk) === false) answer.pause(); });
      if (goesOn === false) answer.pause();
    });
    send(options.body, request).catch((error) => {
      request.destroy();
      fail(error);
    });
    return true;
  }

  async function send(body, request) {
    if (typeof body === "string" || body instanceof Uint8Array) request.write(body);
    else if (body) for await (const piece of body) {
      if (!request.write(piece)) await new Promise((resume) => request.once("drain", resume).once("close", resume));
    }
    request.end();
  }
}
