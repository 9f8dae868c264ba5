// The stores of this page: puts the parts together, and owns what is shown about the connection and the chosen store.
//
// The name after # in the address is the chosen store; every choice goes through it. What begins with a slash is no
// store but one of the pages of `pages.js`. `session.js` decides when this begins and for whom, and `close` leaves no
// data behind. `connection.js` speaks the protocol, `tail.js` holds the rows, `stores.js` the list, `composer.js` the
// form, `pace.js` the drawing.

import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { counted, number } from "./format.js";
import { address, deleteRecord, socketAddress, storePath } from "./http.js";
import { Pace } from "./pace.js";
import { closeSheets } from "./parts.js";
import { copy, say } from "./say.js";
import { Stores } from "./stores.js";
import { Tail } from "./tail.js";

/** Above this many live records a store is followed from now on, unless its reader asks for the start. */
const FROM_START_MAX = 20_000;
/** Where the command line looks for a server when it is not told. */
const DEFAULT_URL = "http://127.0.0.1:7171";

const $ = (id) => document.getElementById(id);
const STATES = {
  connecting: "Connecting",
  connected: "Connected",
  catching_up: "Catching up",
  live: "Live",
  offline: "Offline",
  closed: "Closed",
};

let chosen = null;
let after = "start";
let connectionState = { name: "connecting", reason: "", retryAt: 0 };
let caughtUp = 0;
let received = 0;
let shownPage = "";
/** Who this page acts for: `{user, isOpen, canShare, isAdmin, onExpiring, onUnauthenticated}`. Null: nothing is shown. */
let session = null;

const tail = new Tail({ scroller: $("tail"), list: $("rows"), edge: $("edge") }, { onChange: showTail, act: actOnRow });
const pace = new Pace({ drawing: $("sparkline"), label: $("pace-now") });
const composer = new Composer({ form: $("add"), key: $("add-key"), value: $("add-value"), answer: $("add-answer") });
const connection = new Connection(socketAddress(), {
  onState: showState,
  onWelcome: (message) => showVersion(message.server),
  onSubscribed,
  onChanges,
  onCaughtUp,
  onHeads: (heads) => {
    for (const [store, cursor] of Object.entries(heads)) stores.update(store, { seq: seqOf(cursor) });
  },
  onRefused: (code, message) => showMissing(chosen, code, message),
  onViewChanged: () => beginAnew("What you may see of this store has changed. The tail begins anew."),
  onExpiring: (expiresMs) => session?.onExpiring(expiresMs),
  onUnauthenticated: (reason) => session?.onUnauthenticated(reason),
});
const stores = new Stores(
  { list: $("store-list"), error: $("stores-error"), form: $("create"), opener: $("create-open") },
  { onList: onStores },
);

/** Show the stores to this session. */
export function open(opened) {
  session = opened;
  $("empty-commands").textContent = shellCommands(session);
  $("create-open").hidden = !mayCreate();
  showView("loading");
  stores.read();
  connection.open();
}

const mayCreate = () => session.isOpen || Boolean(session.user);

/** Close the connection and take everything from the page that came from a store. */
export function close() {
  session = null;
  connection.close();
  stores.close();
  chosen = null;
  tail.clear();
  clearFilter();
  pace.clear();
  composer.clear();
  document.title = "Syncline";
  for (const id of ["store-name", "fact-count", "fact-seq", "fact-digest", "unknown-title", "unknown-text"]) {
    $(id).textContent = "";
  }
  $("banner").hidden = $("ending").hidden = true;
  showView("loading");
}

// --- the chosen store ---

function hashName() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return location.hash.slice(1);
  }
}

/** Follow the address: choose the store it names, or show why there is nothing to follow. */
function onStores(known) {
  if (session === null) return;
  const name = hashName();
  if (name.startsWith("/")) return showPage(name.slice(1));
  if (known === null) return;
  if (!name && known.length) {
    history.replaceState(null, "", `#${encodeURIComponent(known[0].name)}`);
    return onStores(known);
  }
  if (!known.length && !name) return showView("empty");
  if (!stores.find(name)) return showMissing(name, "store_unknown", "");
  if (name !== chosen || !$("unknown").hidden) return choose(name);
  if ($("store").hidden) {
    showView("store");
    stores.choose(name);
  }
  showRole();
  showFacts();
}

/** Offer what the session may do in the chosen store. Where nobody has to log in there are no roles. */
function showRole() {
  const { role } = stores.find(chosen);
  $("share").hidden = !session.canShare || role !== "owner";
  $("composer").hidden = role === "reader";
  showWaiting();
}

/** One of the pages about accounts. Its code is fetched when it is asked for. */
async function showPage(name) {
  if (shownPage === name && !$("pages").hidden) return;
  shownPage = name;
  stores.choose(null);
  showView("pages");
  try {
    const { showPageOf } = await import("./pages.js");
    if (shownPage === name && session) showPageOf(name, $("pages"), session);
  } catch (error) {
    // A module that did not come leaves a TypeError; another visit asks for it again.
    if (!(error instanceof TypeError)) throw error;
    shownPage = "";
    say("This page could not be read", true);
  }
}

async function share() {
  const store = chosen;
  const { openSharing } = await import("./sharing.js");
  if (store === chosen && session) openSharing(store, session);
}

function choose(name) {
  const { count } = stores.find(name);
  chosen = name;
  document.title = `${name} · Syncline`;
  $("store-name").textContent = name;
  stores.choose(name);
  composer.store = name;
  composer.reset();
  showRole();
  $("fact-digest").textContent = "–";
  pace.clear();
  showView("store");
  showFacts();
  begin(count > FROM_START_MAX ? "now" : "start");
}

function begin(where) {
  after = where;
  received = 0;
  caughtUp = 0;
  for (const radio of document.getElementsByName("after")) radio.checked = radio.value === where;
  tail.clear();
  connection.follow(chosen, after);
}

/** What was shown may not be seen any more, or is of another view: begin as if nothing had come. */
function beginAnew(remark) {
  begin(after);
  tail.remark(remark);
}

/** Say that a store cannot be shown. To whoever may not see one, it is as one that is not there. */
function showMissing(name, code, message) {
  if (chosen !== null) connection.follow(null);
  chosen = null;
  tail.clear();
  stores.choose(null);
  document.title = "Syncline";
  const isUnknown = ["store_unknown", "store_dropped", "forbidden"].includes(code);
  const [title, text] = isUnknown ? absence(name) : [`“${name}” cannot be followed`, `The server says: ${message || code}.`];
  // The list is read every few seconds; what was said about an attempt to create the store stays meanwhile.
  if ($("unknown").hidden || $("unknown-title").textContent !== title) $("unknown-error").textContent = "";
  $("unknown-title").textContent = title;
  $("unknown-text").textContent = text;
  $("unknown-create").textContent = isUnknown ? "Create it" : "Try again";
  $("unknown-create").hidden = isUnknown && !mayCreate();
  $("unknown-create").onclick = async () => {
    try {
      if (isUnknown) await stores.create(name);
      await stores.read();
    } catch (problem) {
      $("unknown-error").textContent = problem.text;
    }
  };
  showView("unknown");
}

function absence(name) {
  const title = `There is no store “${name}” here`;
  if (session.isOpen) return [`${title}.`, "It may have been dropped, or never made. Choose another one, or create it."];
  const ways = mayCreate() ? "Ask its owner to share it, or create it." : "Log in, or ask its owner to share it.";
  return [`${title}, or nobody has shared it with you.`, ways];
}

function showView(view) {
  for (const name of ["loading", "empty", "unknown", "store", "pages"]) $(name).hidden = name !== view;
  if (view === "pages") return;
  // What such a page has shown once, as the secret of a token, does not come back with it.
  shownPage = "";
  $("pages").replaceChildren();
}

function showFacts() {
  const store = stores.find(chosen);
  if (!store) return;
  $("fact-count").textContent = number(store.count);
  $("fact-seq").textContent = number(store.seq);
  if (store.digest) setText($("fact-digest"), store.digest);
  $("fact-digest").classList.toggle("is-old", store.digestSeq !== store.seq);
}

// --- the feed ---

function onSubscribed(message) {
  if (message.how === "reconcile") return beginAnew("What you may see of this store has changed. The tail begins anew.");
  if (message.how === "snapshot") {
    tail.clear();
    if (received) tail.remark("The server has another history of this store now. The tail begins anew.");
  } else if (message.how === "rewind") {
    const keepTo = Math.min(message.keep_to ?? 0, seqOf(message.at));
    tail.rewind(Number.isNaN(keepTo) ? 0 : keepTo);
    tail.remark(`The server went back to seq ${number(message.keep_to)}; what came after it was lost.`);
  }
  showTail();
}

function onChanges(changes, isLive) {
  received += changes.length;
  tail.push(changes);
  if (changes.length) noteHead(changes.at(-1).seq, changes, isLive);
}

function noteHead(seq, changes, isLive) {
  const store = stores.find(chosen);
  if (!isLive || !store) return;
  pace.count(changes.length);
  // The list may know of these changes already, from its own reading.
  let count = store.count;
  for (const change of changes) if (change.seq > store.seq) count += change.op === "ADD" ? 1 : -1;
  stores.update(chosen, { seq, count });
  showFacts();
}

function onCaughtUp(message) {
  caughtUp += 1;
  const seq = seqOf(message.at);
  stores.update(chosen, { seq, count: message.count, digest: message.digest, digestSeq: seq });
  showFacts();
  showTail();
}

/** The seq that a cursor names; for people only, the protocol's logic takes a cursor whole. */
function seqOf(cursor) {
  return Number.parseInt(cursor.split(":")[1], 10);
}

function showTail() {
  $("pause").setAttribute("aria-pressed", String(tail.isPaused));
  $("pause").textContent = !tail.isPaused ? "Pause" : tail.held ? `Resume · ${number(tail.held)}` : "Resume";
  $("follow").setAttribute("aria-pressed", String(tail.isFollowing));
  $("filter-count").textContent = tail.filter ? `${number(tail.matching)} of ${number(tail.length)}` : "";
  const isAway = !tail.isFollowing && tail.length > 0;
  $("jump").hidden = !isAway;
  $("jump").textContent = tail.unseen ? `${counted(tail.unseen, "new change")} below` : "To the newest";
  showWaiting();
}

/** What stands where rows would be, if there are none. */
function showWaiting() {
  let text = "";
  let action = null;
  if (tail.length === 0) {
    if (tail.isPaused && tail.held) text = "Paused. What comes is held back.";
    else if (!caughtUp) text = isDown(connectionState) ? "Not connected." : "Reading…";
    else if (after === "now" || received) {
      text = received && after !== "now" ? "Cleared. The next change appears here." : "Waiting for the next change.";
      action = ["Read from the start", () => begin("start")];
    } else if ($("composer").hidden) text = "This store is empty. You may read it: what others add appears here.";
    else text = "This store is empty. What you add below, or from any client, appears here.";
  } else if (tail.filter && tail.matching === 0) {
    text = `None of the ${counted(tail.length, "row")} has “${$("filter").value.trim()}” in it.`;
    action = ["Show all", clearFilter];
  }
  $("waiting").hidden = !text;
  if ($("waiting-text").textContent !== text) $("waiting-text").textContent = text;
  $("waiting-action").hidden = !action;
  if (action) {
    $("waiting-action").textContent = action[0];
    $("waiting-action").onclick = action[1];
  }
}

async function actOnRow(what, row) {
  if (what === "copy-key") return copy(row.key, "Key copied");
  if (what === "copy-value") return copy(row.value, "Value copied");
  try {
    await deleteRecord(chosen, row.key);
  } catch (problem) {
    say(`${row.key} was not deleted: ${problem.text}`, true);
  }
}

// --- the connection ---

function showState(state) {
  connectionState = state;
  const isPausedLive = state.name === "live" && tail.isPaused;
  $("pill").dataset.state = state.name;
  setText($("pill-text"), isPausedLive ? "Live, paused" : STATES[state.name]);
  $("pill").title = state.reason;
  const down = isDown(state);
  // While an attempt is under way the banner stays, or it would blink with every one.
  if (down || state.name !== "connecting") $("banner").hidden = !down;
  $("banner").dataset.state = state.name;
  if (down) {
    $("banner-title").textContent = state.name === "closed" ? "The connection is closed." : "Not connected.";
    $("banner-reason").textContent = sentence(state.reason);
    $("banner-retry").textContent = state.name === "closed" ? "Connect again" : "Try now";
  }
  announce(state);
  showCountdown();
  showWaiting();
}

let wasDown = false;

/** Tell a screen reader that the connection went or came back; not every attempt in between. */
function announce(state) {
  if (isDown(state) && !wasDown) $("status").textContent = `Not connected. ${sentence(state.reason)}`;
  if (state.name === "live" && wasDown) $("status").textContent = "Connected again.";
  wasDown = isDown(state) || (wasDown && state.name !== "live");
}

function showCountdown() {
  const seconds = Math.ceil((connectionState.retryAt - Date.now()) / 1000);
  let text = "";
  if (connectionState.name === "offline") text = `Next attempt in ${seconds > 1 ? `${seconds} s` : "a moment"}.`;
  if (connectionState.name === "connecting") text = "Connecting…";
  setText($("banner-countdown"), text);
}

/** WELCOME names the server as `syncline/0.1.0`. */
function showVersion(server) {
  $("version").textContent = server.split("/")[1] ?? server;
  $("version").title = server;
}

const isDown = (state) => state.name === "offline" || state.name === "closed";
const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".") : "");

// --- tools and keys ---

function clearFilter() {
  $("filter").value = "";
  tail.filter = "";
}

function togglePause() {
  tail.paused = !tail.isPaused;
  showState(connectionState);
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function quoted(text) {
  if (/^[\w.@+-]+$/.test(text)) return text;
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function curlCommand() {
  const url = `${address(`${storePath(chosen)}/changes`)}?after=${encodeURIComponent(connection.cursor ?? after)}`;
  const token = session?.isOpen ? "" : ' -H "Authorization: Bearer $SYNCLINE_TOKEN"';
  return `curl -N -H 'Accept: text/event-stream'${token} ${quoted(url)}`;
}

/** How a store is made and followed from a shell. */
function shellCommands({ isOpen, user }) {
  const here = address(".").replace(/\/$/, "");
  return [
    ...(here === DEFAULT_URL ? [] : [`export SYNCLINE_URL=${here}`]),
    ...(isOpen ? [] : [user ? `syncline login --user ${quoted(user)}` : "syncline login"]),
    "syncline stores create notes",
    `syncline add notes '{"hello": "world"}'`,
    "syncline tail notes",
  ].join("\n");
}

$("empty-copy").addEventListener("click", () => copy($("empty-commands").textContent, "Commands copied"));
$("empty-create").addEventListener("click", () => stores.openForm());
$("filter").addEventListener("input", () => (tail.filter = $("filter").value));
$("pause").addEventListener("click", togglePause);
$("follow").addEventListener("click", () => (tail.following = !tail.isFollowing));
$("jump").addEventListener("click", () => (tail.following = true));
$("clear").addEventListener("click", () => tail.clear());
$("copy-cursor").addEventListener("click", () => {
  if (connection.cursor) copy(connection.cursor, `Cursor copied: ${connection.cursor}`);
  else say("There is no cursor yet", true);
});
$("share").addEventListener("click", share);
$("copy-curl").addEventListener("click", () => copy(curlCommand(), "Command copied"));
$("after").addEventListener("change", (event) => begin(event.target.value));
$("banner-retry").addEventListener("click", () => connection.open());
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("tail").focus();
});

document.addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && event.target.type !== "radio";
  if (event.key === "Escape" && isTyping) {
    if (event.target === $("filter")) clearFilter();
    event.target.blur();
  }
  if (isTyping || event.altKey || event.ctrlKey || event.metaKey) return;
  if ($("store").hidden || document.querySelector("dialog[open]")) return;
  if (event.key === "p") togglePause();
  else if (event.key === "f") tail.following = !tail.isFollowing;
  else if (event.key === "/") {
    event.preventDefault();
    $("filter").focus();
    $("filter").select();
  } else if (event.key === "Escape") clearFilter();
});

window.addEventListener("hashchange", () => {
  if (session === null) return;
  closeSheets();
  const name = hashName();
  if (name.startsWith("/") || stores.find(name)) onStores(stores.known);
  else stores.read();
});
// Both are hints that an attempt may succeed now; neither is taken for the truth.
window.addEventListener("online", openIfOffline);
document.addEventListener("visibilitychange", () => !document.hidden && openIfOffline());

if (matchMedia("(max-width: 720px)").matches) $("composer").open = false;

function openIfOffline() {
  if (session && connectionState.name === "offline") connection.open();
}

setInterval(showCountdown, 500);
