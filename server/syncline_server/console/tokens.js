// The page of tokens: what programs log in with, and the sessions of browsers. A secret is shown when its token is made
// and never again, because the server does not know it any more.

import { createToken, listTokens, revokeToken } from "./accounts.js";
import { dateAndTime } from "./format.js";
import { momentOf } from "./grant-form.js";
import { Complaint, adder, armedButton, check, element, form, input, labelled } from "./parts.js";
import { shownOnce, submitButton } from "./parts.js";
import { copy } from "./say.js";
import { Section } from "./section.js";
import { programOf } from "./user-agent.js";

const SCOPES = ["read", "write", "share", "admin"];

export class Tokens extends Section {
  #session;
  #whose;
  #title = input({ maxLength: 256, placeholder: "what it is for" });
  #stores = input({ className: "field mono", placeholder: "all that the user may use" });
  #expires = input({ type: "datetime-local" });
  #scopes = new Map();
  #made = element("div");

  constructor(session) {
    const { node, error } = form("stack", () => this.#create());
    super("", "There are no tokens.", adder("Make a token", node));
    this.#session = session;
    this.#whose = session.user;
    if (session.isAdmin) this.node.prepend(this.#chooser());
    const fields = element("div", "fields");
    fields.append(
      labelled("Title", this.#title),
      labelled("Stores", this.#stores, "names with commas between; * at the end for all that begin so"),
      labelled("Ends", this.#expires, "empty: never"),
    );
    const checks = element("fieldset", "checks");
    checks.append(element("legend", "label", "May be used to"));
    for (const scope of SCOPES.filter((each) => each !== "admin" || session.isAdmin)) {
      const { node: scopeNode, box } = check(scope, scope === "read" || scope === "write");
      this.#scopes.set(scope, box);
      checks.append(scopeNode);
    }
    node.append(fields, checks, error, submitButton("Make the token"));
    this.node.append(this.#made);
  }

  /** For administrators: whose tokens are shown and made. */
  #chooser() {
    const name = input({ maxLength: 256, value: this.#whose });
    name.setAttribute("aria-label", "User whose tokens are shown and made");
    const { node, error } = form("line-of chooser", async () => {
      this.#whose = name.value.trim() || this.#session.user;
      this.#made.replaceChildren();
      await this.read();
    });
    const show = submitButton("Show");
    show.classList.remove("primary");
    node.append(element("span", "label", "Tokens of"), name, show, error);
    return node;
  }

  read() {
    return this.fill(
      () => listTokens(this.#whose),
      (token) => this.#entry(token),
    );
  }

  async #create() {
    const title = this.#title.value.trim();
    if (!title) throw new Complaint("A title tells later what the token was for.");
    const scopes = SCOPES.filter((scope) => this.#scopes.get(scope)?.checked);
    if (!scopes.length) throw new Complaint("A token is for something.");
    const wanted = { title, scopes };
    if (this.#whose !== this.#session.user) wanted.user = this.#whose;
    const stores = this.#stores.value.split(",").map((name) => name.trim());
    if (stores.some(Boolean)) wanted.stores = stores.filter(Boolean);
    const expiresMs = momentOf(this.#expires);
    if (expiresMs) wanted.expires_ms = expiresMs;
    const { secret } = await createToken(wanted);
    this.#title.value = "";
    const text = "Copy the secret of the token now. It is shown this once, and nobody can look it up.";
    const made = shownOnce(text, secret, "Secret", () => copy(secret, "Secret copied"));
    this.#made.replaceChildren(made);
    made.focusSecret();
    await this.read();
  }

  #entry(token) {
    const { id, user, title, kind, scopes = [], stores, expires_ms: expiresMs, used_ms: usedMs } = token;
    const entry = element("li", "entry");
    const text = element("p", "entry-text");
    const name = element("strong", "", kind === "session" ? programOf(title) : title || id);
    if (kind === "session") name.title = title;
    text.append(name);
    if (user !== this.#session.user) text.append(` of ${user}`);
    if (kind === "session") text.append(" ", element("span", "badge", "session"));
    else for (const scope of scopes) text.append(" ", element("span", "badge", scope));
    const facts = [usedMs ? `used ${dateAndTime(usedMs)}` : "never used"];
    if (stores) facts.push(`for ${stores.join(", ")}`);
    facts.push(expiresMs ? `ends ${dateAndTime(expiresMs)}` : "never ends", id);
    text.append(element("span", "hint below", facts.join(" · ")));
    const actions = element("p", "entry-actions");
    const label = kind === "session" ? "Log out" : "Revoke";
    actions.append(armedButton(label, "Really?", "quiet", () => this.act(() => revokeToken(id))));
    entry.append(text, actions);
    return entry;
  }
}
