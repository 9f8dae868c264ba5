// One connection to the server and at most one feed on it: the protocol's client side, for a page that watches.
//
// Owns the socket, the cursor, heartbeats and when to come back. Leaves to its listener what is shown. Invariants:
// batches reach the listener in order and without a gap, for a batch that does not begin at the cursor ends the
// connection; a new SUBSCRIBE is sent only after the old feed has ENDED; after a lost connection the feed goes on
// from the cursor, with the lineage of its last SUBSCRIBED. HELLO carries no token: the browser sends the cookie of
// the console's session along with the upgrade. (PROTOCOL 2.4, 4, 5, 8, 10.)

import { readFrame } from "./json-text.js";

const SUBPROTOCOL = "syncline.v1.json";
const WELCOME_TIMEOUT_MS = 5_000;
const SILENT_PERIODS_MAX = 3;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 20_000;
const RESUBSCRIBE_MS = 500;

export const CLOSE_REASONS = new Map([
  [1000, "the server closed the connection"],
  [1001, "the server is going away"],
  [1002, "the WebSocket framing was broken"],
  [1003, "the server takes text frames only"],
  [1005, "the connection was closed"],
  [1006, "the connection was lost"],
  [1007, "a frame was not UTF-8"],
  [1008, "the server or a proxy refuses this client"],
  [1009, "a frame was larger than the server's limit"],
  [1011, "the server failed"],
  [1012, "the server restarts"],
  [1013, "the server has no room"],
  [1014, "a proxy could not reach the server"],
  [1015, "the TLS handshake failed"],
  [4000, "the server shuts down"],
  [4001, "the server has no room for another connection"],
  [4002, "this page did not read for too long"],
  [4003, "nothing was heard for too long"],
  [4004, "the server did not answer in time"],
  [4005, "the server failed while it served this page"],
  [4006, "the feed had a gap"],
  [4007, "the session has expired"],
  [4008, "too many messages were sent in a short time"],
  [4500, "the server does not speak this page's version of the protocol"],
  [4501, "the protocol was broken"],
  [4502, "too many frames were no messages"],
  [4503, "the server does not know who this is any more"],
]);
const CREDENTIALS_ENDED = new Set([4007, 4503]);
const CLOSED_FOR_GOOD = new Set([1002, 1003, 1007, 1008, 1009, 1015]);

/** Whether a client may connect again after this close code, known to it or not (PROTOCOL 10.2). */
export function mayReconnect(code) {
  return !CLOSED_FOR_GOOD.has(code) && !(code >= 4500 && code <= 4999);
}

/** A cursor without the token of the view in which it was got (PROTOCOL 5.7.2). */
const positionOf = (cursor) => cursor.split("~")[0];

/**
 * The listener has `onState(state)`, `onWelcome(message)`, `onSubscribed(message)`, `onChanges(changes, isLive)`,
 * `onCaughtUp(message)`, `onHeads(heads)`, `onRefused(code, message)`, `onViewChanged()`, `onExpiring(expiresMs)` and
 * `onUnauthenticated(reason)`, which comes after a close that says that the credentials have ended.
 *
 * A state is `{name, reason, retryAt}`: `connecting`, `connected` (no feed), `catching_up`, `live`, `offline`, `closed`.
 */
export class Connection {
  #url;
  #listener;
  #socket = null;
  #isReady = false;
  #follow = null;
  #request = null;
  #feed = null;
  #nextId = 1;
  #attempts = 0;
  #comeBack = null;
  #closeReason = "";
  #timers = { retry: 0, pulse: 0, subscribe: 0 };
  #heardAt = 0;
  #periodMs = WELCOME_TIMEOUT_MS;

  constructor(url, listener) {
    this.#url = url;
    this.#listener = listener;
  }

  /** The position up to which the feed was received, or null. */
  get cursor() {
    return this.#follow?.cursor ?? null;
  }

  /** Connect now, also when the next attempt is not due yet. */
  open() {
    if (this.#socket) return;
    clearTimeout(this.#timers.retry);
    this.#setState("connecting");
    this.#isReady = false;
    this.#comeBack = null;
    this.#closeReason = "";
    const socket = new WebSocket(this.#url, [SUBPROTOCOL]);
    this.#socket = socket;
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      if (socket.protocol !== SUBPROTOCOL) return this.#end(4500, CLOSE_REASONS.get(4500));
      this.#send({ type: "HELLO", client: { name: "syncline-console" } });
    };
    socket.onmessage = (event) => socket === this.#socket && this.#receive(event.data);
    socket.onclose = (event) => socket === this.#socket && this.#onClose(event.code, event.reason);
    this.#startPulse(WELCOME_TIMEOUT_MS);
  }

  /** Close for good. */
  close() {
    const socket = this.#socket;
    this.#follow = this.#socket = this.#request = this.#feed = null;
    this.#isReady = false;
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    socket?.close();
  }

  /** Follow this store from `after` (`start`, `now` or a cursor) and nothing else; null follows nothing. */
  follow(store, after) {
    this.#follow = store === null ? null : { store, after, cursor: null, known: null, isAnew: false, isRefused: false };
    clearTimeout(this.#timers.subscribe);
    this.#subscribe();
  }

  // --- what comes in ---

  #receive(text) {
    this.#heardAt = performance.now();
    try {
      const message = readFrame(text);
      this.#handlers[message.type]?.(message);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      this.#end(4501, "the server sent a frame that is no message");
    }
  }

  #handlers = {
    WELCOME: (message) => {
      this.#isReady = true;
      this.#startPulse(message.heartbeat_ms);
      this.#setState("connected");
      this.#listener.onWelcome(message);
      this.#subscribe();
    },
    SUBSCRIBED: (message) => {
      if (message.id !== this.#request?.id) return;
      const follow = this.#request.follow;
      this.#request = null;
      this.#feed = { id: message.id, name: message.feed, follow, isLive: false, isEnding: false, periodsBehind: 0 };
      follow.cursor = message.at;
      follow.known = message.lineage;
      if (follow !== this.#follow) return this.#subscribe();
      this.#setState("catching_up");
      this.#listener.onSubscribed(follow.isAnew ? { ...message, how: "snapshot" } : message);
      follow.isAnew = false;
    },
    BATCH: (message) => {
      const feed = this.#openFeed(message);
      if (!feed) return;
      if (message.from !== feed.follow.cursor) return this.#end(4006, CLOSE_REASONS.get(4006));
      feed.follow.cursor = message.to;
      feed.periodsBehind = 0;
      this.#attempts = 0;
      this.#listener.onChanges(message.changes, feed.isLive);
    },
    CAUGHT_UP: (message) => {
      const feed = this.#openFeed(message);
      if (!feed) return;
      if (message.at !== feed.follow.cursor) return this.#end(4006, CLOSE_REASONS.get(4006));
      feed.isLive = true;
      this.#attempts = 0;
      this.#setState("live");
      this.#listener.onCaughtUp(message);
    },
    BEHIND: (message) => {
      if (this.#openFeed(message)) this.#setState("catching_up", "changes come faster than this page reads");
    },
    HEARTBEAT: (message) => {
      this.#attempts = 0;
      const feed = this.#feed;
      const head = feed && message.heads[feed.follow.store];
      if (head && !feed.isEnding) {
        feed.periodsBehind = positionOf(head) === positionOf(feed.follow.cursor) ? 0 : feed.periodsBehind + 1;
        const isStuck = feed.periodsBehind >= SILENT_PERIODS_MAX;
        if (isStuck) return this.#end(4006, "the store moves on, the feed stands still");
      }
      this.#listener.onHeads(message.heads);
    },
    ENDED: (message) => {
      if (message.id !== this.#feed?.id) return;
      const { follow, isEnding } = this.#feed;
      this.#feed = null;
      if (this.#isReady) this.#setState("connected");
      if (isEnding || follow !== this.#follow) return this.#subscribe();
      if (message.reason === "view_changed") return this.#listener.onViewChanged();
      if (message.reason === "resubscribe") return this.#subscribeLater(RESUBSCRIBE_MS);
      follow.isRefused = true;
      this.#listener.onRefused(message.reason, `the feed has ended: ${message.reason.replaceAll("_", " ")}`);
    },
    ERROR: (message) => {
      if (this.#feed?.isEnding && message.id === this.#feed.id) {
        this.#feed = null;
        return this.#subscribe();
      }
      if (!this.#request || message.id !== this.#request.id) return;
      const { follow } = this.#request;
      this.#request = null;
      if (follow !== this.#follow) return this.#subscribe();
      if (message.retry) return this.#subscribeLater(message.after_ms ?? this.#backoffMs());
      if (follow.cursor !== null && message.code.startsWith("cursor_")) {
        Object.assign(follow, { after: "start", cursor: null, known: null, isAnew: true });
        return this.#subscribeLater(RESUBSCRIBE_MS);
      }
      follow.isRefused = true;
      this.#listener.onRefused(message.code, message.message);
    },
    EXPIRING: (message) => this.#listener.onExpiring(message.expires_ms),
    BYE: (message) => {
      this.#comeBack = message.after_ms + Math.random() * message.jitter_ms;
      this.#closeReason = message.code === "drain" ? CLOSE_REASONS.get(4000) : `the server says ${message.code}`;
    },
  };

  #openFeed(message) {
    const feed = this.#feed;
    return feed && feed.name === message.feed && !feed.isEnding && feed.follow === this.#follow ? feed : null;
  }

  // --- what goes out ---

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  /** Bring the feed in line with what is to be followed: one step, the next when the server has answered. */
  #subscribe() {
    if (!this.#isReady || this.#request) return;
    if (this.#feed) {
      if (this.#feed.follow === this.#follow || this.#feed.isEnding) return;
      this.#feed.isEnding = true;
      return this.#send({ type: "UNSUBSCRIBE", id: this.#feed.id });
    }
    const follow = this.#follow;
    if (!follow || follow.isRefused) return;
    this.#request = { id: this.#nextId++, follow };
    const { store, cursor, after } = follow;
    const message = { type: "SUBSCRIBE", id: this.#request.id, store, after: cursor ?? after };
    if (follow.known) message.known = follow.known;
    this.#send(message);
  }

  #subscribeLater(delayMs) {
    clearTimeout(this.#timers.subscribe);
    this.#timers.subscribe = setTimeout(() => this.#subscribe(), delayMs * (0.5 + Math.random()));
  }

  // --- time ---

  #startPulse(periodMs) {
    clearInterval(this.#timers.pulse);
    this.#periodMs = periodMs;
    this.#heardAt = performance.now();
    this.#timers.pulse = setInterval(() => this.#pulse(), periodMs);
  }

  #pulse() {
    if (!this.#isReady) return this.#end(4004, CLOSE_REASONS.get(4004));
    const silentMs = performance.now() - this.#heardAt;
    if (silentMs >= this.#periodMs * SILENT_PERIODS_MAX) return this.#end(4003, CLOSE_REASONS.get(4003));
    this.#send({ type: "HEARTBEAT" });
  }

  /** Full jitter: anything up to a bound that doubles with every attempt that led nowhere. */
  #backoffMs() {
    const boundMs = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** this.#attempts);
    this.#attempts += 1;
    return Math.random() * boundMs;
  }

  // --- the end ---

  /** Close from this side. The peer of a dead connection never answers a close, so this does not wait for it. */
  #end(code, reason) {
    const socket = this.#socket;
    this.#closeReason = reason;
    this.#onClose(code, "");
    if (socket.readyState < WebSocket.CLOSING) socket.close(code, reason);
  }

  #onClose(code, serverReason) {
    clearInterval(this.#timers.pulse);
    clearTimeout(this.#timers.subscribe);
    const wasReady = this.#isReady;
    this.#socket = this.#request = this.#feed = null;
    this.#isReady = false;
    const known = code === 1006 && !wasReady ? "the server cannot be reached" : CLOSE_REASONS.get(code);
    const reason = this.#closeReason || serverReason || known || `the connection was closed with code ${code}`;
    if (mayReconnect(code)) {
      const delayMs = this.#comeBack ?? this.#backoffMs();
      this.#setState("offline", reason, Date.now() + delayMs);
      this.#timers.retry = setTimeout(() => this.open(), delayMs);
    } else {
      this.#setState("closed", reason);
    }
    if (CREDENTIALS_ENDED.has(code)) this.#listener.onUnauthenticated(reason);
  }

  #setState(name, reason = "", retryAt = 0) {
    this.#listener.onState({ name, reason, retryAt });
  }
}
