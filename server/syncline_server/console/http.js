// The server's HTTP routes, as this page uses them. Every address is relative to the page, so that the console works
// wherever the server is mounted.

const HEARD_WITHIN_MS = 10_000;

/** The server said no, or could not be reached (`status` 0). `detail` and `hint` are for people. */
export class Problem extends Error {
  constructor(status, { code = "", title = "", detail = "", hint = "" }) {
    super(detail || title || code || `the server answered ${status}`);
    this.status = status;
    this.code = code;
    this.hint = hint;
  }

  get text() {
    return this.hint ? `${this.message}; ${this.hint}` : this.message;
  }
}

/** The absolute address of a route. */
export function address(path) {
  return new URL(path, document.baseURI).href;
}

export function socketAddress() {
  return address("v1/ws").replace(/^http/, "ws");
}

export function storePath(store, ...rest) {
  return ["v1/stores", ...[store, ...rest].map(encodeURIComponent)].join("/");
}

export const listStores = async () => (await request("GET", "v1/stores")).stores;
export const createStore = (store) => request("PUT", storePath(store));
export const deleteRecord = (store, key) => request("DELETE", recordPath(store, key));

/** Add a record: `text` is sent as it is. Without a key the server makes one. */
export function addRecord(store, key, text) {
  return key ? request("PUT", recordPath(store, key), text) : request("POST", `${storePath(store)}/records`, text);
}

export function recordPath(store, key) {
  return `${storePath(store)}/records/${encodeURIComponent(key)}`;
}

let onUnauthenticated = () => {};

/** Call `listener(problem)` whenever the server no longer knows who asks. */
export function whenUnauthenticated(listener) {
  onUnauthenticated = listener;
}

/** Send a request, and return the answer's JSON. Throws a `Problem`. */
export async function request(method, path, body) {
  let response;
  try {
    response = await fetch(address(path), {
      method,
      body,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      cache: "no-store",
      signal: AbortSignal.timeout(HEARD_WITHIN_MS),
    });
  } catch (error) {
    const detail = error.name === "TimeoutError" ? "the server did not answer in time" : "the server cannot be reached";
    throw new Problem(0, { detail });
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const problem = new Problem(response.status, answer);
  if (problem.code === "unauthenticated" || problem.code === "token_expired") onUnauthenticated(problem);
  throw problem;
}
