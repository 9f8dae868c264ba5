// The beginning of this page: who uses it, and what he gets to see first.
//
// Owns who is logged in. A change of that begins the page anew: `leave` takes everything away and loads the page again,
// because nothing that one user has seen can stay behind in a page that has just been loaded. Codes that came in the
// address are taken out of it, and of the history, before anything else happens.

import { changePassword, logOut, readMe } from "./accounts.js";
import { close, open } from "./console.js";
import { dateAndTime } from "./format.js";
import { Gate, isLoggedIn } from "./gate.js";
import { listStores, whenUnauthenticated } from "./http.js";
import { PASSWORD_RULE, closeSheets, form, input, labelled, openSheet, submitButton } from "./parts.js";
import { say } from "./say.js";

const AGAIN_MS = 2_000;
/** Who has to leave twice within this time is not helped by another load of the page. */
const LEFT_LATELY_MS = 5_000;
const REFUSED = "The login at the provider was refused. Try again, or log in with a password.";

const $ = (id) => document.getElementById(id);

let me = null;
let isOpen = false;
let isLeaving = false;

/** Tabs of one browser share the cookie; each tells the others when somebody else is logged in. */
const otherTabs = new BroadcastChannel("syncline");
const gate = new Gate(({ store }) => {
  if (store && !store.endsWith("*")) history.replaceState(null, "", `#${encodeURIComponent(store)}`);
  begin();
});

// --- the beginning ---

async function start() {
  let asked = takeCode();
  const invitation = Gate.takeKeptInvitation();
  // Who left with an invitation to log in elsewhere still has it, also when he was refused there.
  if (invitation && !asked?.code) asked = { ...asked, purpose: "join", code: invitation };
  const { notice = "" } = history.state ?? {};
  history.replaceState(history.state && { left: history.state.left }, "", location.href);
  me = await untilAnswered(readMe);
  showWho();
  if (me.auth === "none") return openStores();
  if (asked?.code) return show(asked.purpose, { ...asked, onCancel: begin });
  const isNothingToSee = !isLoggedIn(me) && !(await isAnythingPublic());
  if (asked) return show("login", { ...asked, onCancel: isNothingToSee ? null : begin });
  if (isNothingToSee) return show("login", { notice: notice || setupNotice() });
  openStores();
  if (notice) say(notice);
}

/** Take `#setup=CODE`, `#invite=CODE` or `#login-refused` out of the address; return the form that it asks for. */
function takeCode() {
  const [, kind, code] = /^#(?:(setup|invite)=(.*)|login-refused)$/.exec(location.hash) ?? [null, null];
  if (kind === null) return null;
  history.replaceState(null, "", location.pathname + location.search);
  if (kind === undefined) return { purpose: "login", notice: REFUSED };
  return { purpose: kind === "setup" ? "setup" : "join", code };
}

async function untilAnswered(ask) {
  for (;;) {
    try {
      return await ask();
    } catch (problem) {
      if (problem.status === undefined) throw problem;
      $("loading-text").textContent = `${problem.text}. Trying again…`;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

async function isAnythingPublic() {
  const listed = await untilAnswered(() =>
    listStores().catch((problem) => {
      if (problem.status === 401 || problem.status === 403) return [];
      throw problem;
    }),
  );
  return listed.length > 0;
}

function setupNotice() {
  return me.setup ? "No administrator exists yet. The server printed a link for that when it was started." : "";
}

function show(purpose, options) {
  $("loading").hidden = true;
  gate.show(purpose, me, options);
}

function openStores() {
  isOpen = true;
  $("log-in").hidden = me.kind !== "anonymous";
  open({
    user: me.user ?? null,
    isOpen: me.auth === "none",
    isAdmin: isLoggedIn(me) && me.admin === true,
    canShare: isLoggedIn(me),
    onExpiring: showEnding,
    onUnauthenticated: (reason) => me.auth !== "none" && leave(`You are logged out: ${reason}.`),
  });
}

// --- the end ---

/** Load the page anew, for whoever is logged in now. */
function begin() {
  otherTabs.postMessage("changed");
  history.replaceState(null, "", location.href);
  location.reload();
}

/** Take everything away, and begin anew when the server answers. */
async function leave(notice) {
  if (isLeaving) return;
  isLeaving = true;
  closeSheets();
  close();
  $("who").hidden = $("log-in").hidden = true;
  const left = history.state?.left ?? 0;
  me = await untilAnswered(readMe);
  if (Date.now() - left < LEFT_LATELY_MS) return show("login", { notice });
  history.replaceState({ left: Date.now(), notice }, "", location.href);
  location.reload();
}

async function end() {
  try {
    await logOut();
  } catch (problem) {
    // Without a session there is nothing to end; without a server the cookie would stay.
    if (problem.status !== 401) return say(`You are still logged in: ${problem.text}`, true);
  }
  history.replaceState(null, "", location.pathname);
  otherTabs.postMessage("changed");
  leave("You are logged out.");
}

whenUnauthenticated((problem) => {
  if (isOpen && isLoggedIn(me)) leave(`You are logged out: ${problem.message}.`);
});

otherTabs.addEventListener("message", async () => {
  const now = await untilAnswered(readMe);
  if (me && (now.user ?? null) !== (me.user ?? null)) leave("");
});

// A page that the browser had put away comes back as it was, whoever is logged in by now.
window.addEventListener("pageshow", (event) => event.persisted && location.reload());

window.addEventListener("hashchange", () => {
  const asked = takeCode();
  if (asked && me && me.auth !== "none") show(asked.purpose, { ...asked, onCancel: begin });
});

// --- the account of who is logged in ---

function showWho() {
  $("who").hidden = !isLoggedIn(me);
  $("who-name").textContent = me.user ?? "";
  $("who-admin").hidden = !me.admin;
  $("who-password").hidden = me.kind !== "user";
  const facts = [];
  if (me.admin) facts.push("administrator");
  if (me.groups?.length) facts.push(`in ${me.groups.join(", ")}`);
  if (me.expires_ms) facts.push(`session until ${dateAndTime(me.expires_ms)}`);
  $("who-facts").textContent = facts.join(" · ");
}

function showEnding(expiresMs) {
  $("ending").hidden = false;
  $("ending-text").textContent = `Your session ends ${dateAndTime(expiresMs)}. Log in again to stay.`;
}

function askToLogIn(user) {
  show("login", { user, onCancel: () => gate.hide() });
}

function openMenu(is) {
  $("who-menu").hidden = !is;
  $("who-open").setAttribute("aria-expanded", String(is));
}

function openPasswordSheet() {
  const old = input({ type: "password", autocomplete: "current-password" });
  const wanted = input({ type: "password", autocomplete: "new-password", maxLength: 1024 });
  const name = input({ type: "text", autocomplete: "username", value: me.user, hidden: true });
  const { node, error } = form("stack", async () => {
    await changePassword(old.value, wanted.value);
    sheet.close();
    begin();
  });
  const hint = `${PASSWORD_RULE}; every other session of yours ends`;
  node.append(name, labelled("Password now", old), labelled("New password", wanted, hint), error, submitButton("Change it"));
  const sheet = openSheet("Change password", node);
}

$("log-in").addEventListener("click", () => askToLogIn(""));
$("ending-log-in").addEventListener("click", () => askToLogIn(me.user));
$("log-out").addEventListener("click", end);
$("who-password").addEventListener("click", openPasswordSheet);
$("who-open").addEventListener("click", () => openMenu($("who-menu").hidden));
$("who-menu").addEventListener("click", () => openMenu(false));
document.addEventListener("click", (event) => $("who").contains(event.target) || openMenu(false));
$("who").addEventListener("focusout", (event) => {
  if (event.relatedTarget && !$("who").contains(event.relatedTarget)) openMenu(false);
});
$("who").addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || $("who-menu").hidden) return;
  openMenu(false);
  $("who-open").focus();
});

start();
