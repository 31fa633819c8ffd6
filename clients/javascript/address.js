const LIVE_PATH = "/ws/stt";
const WEBSOCKET_SCHEMES = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" };

/** The live door of a server, whose address may be `http`, `https`, `ws`, `wss` or relative to the page. */
export function liveUrl(base) {
  const url = new URL(base, globalThis.location?.href);
  const scheme = WEBSOCKET_SCHEMES[url.protocol];
  if (scheme === undefined) throw new TypeError(`${base} is no server address`);
  const path = url.pathname.replace(/\/+$/, "");
  return `${scheme}//${url.host}${path.endsWith(LIVE_PATH) ? path : path + LIVE_PATH}${url.search}`;
}

/** A path of a server's HTTP doors. */
export function httpUrl(base, path) {
  const url = new URL(base, globalThis.location?.href);
  if (url.protocol === "ws:") url.protocol = "http:";
  if (url.protocol === "wss:") url.protocol = "https:";
  const folder = url.pathname.replace(/\/+$/, "");
  url.pathname = folder.endsWith(path) ? folder : folder + path;
  return url.href;
}
