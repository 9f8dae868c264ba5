// The sheet in which a store is shared: who has access, and the links that invite further ones.
//
// Every list is read from the server when the sheet opens and after every change, so it says what holds, not what was
// asked for. The link of an invitation is known when it is made and never again.

import { createInvitation, listGrants, listInvitations, putGrant, removeGrant, removeInvitation } from "./accounts.js";
import { counted, dateAndTime } from "./format.js";
import { GrantFields, countOf } from "./grant-form.js";
import { sentenceOf } from "./grant-text.js";
import { address } from "./http.js";
import { Complaint, adder, armedButton, button, element, form, input, labelled } from "./parts.js";
import { openSheet, select, shownOnce, submitButton } from "./parts.js";
import { copy, say } from "./say.js";
import { Section } from "./section.js";

const GRANTEES = [
  ["user", "a user"],
  ["group", "a group"],
  ["everyone", "everyone, also who has not logged in"],
];

export async function openSharing(store, session) {
  const access = new Access(store, session);
  openSheet(`Share ${store}`, access.node);
  if (!(await access.read())) return;
  const invitations = new Invitations(store);
  access.node.after(invitations.node);
  invitations.read();
}

class Access extends Section {
  #store;
  #session;
  #kind;
  #name;
  #where;
  #wherever;
  #fields;
  #opener;

  constructor(store, session) {
    const { node, error } = form("stack", () => this.#submit());
    const opener = adder("Give access", node);
    super("Who has access", "Nobody but administrators.", opener);
    this.#store = store;
    this.#session = session;
    this.#opener = opener;
    this.#kind = select(GRANTEES, "user");
    this.#name = input({ maxLength: 256, placeholder: "name" });
    this.#where = input({ className: "field mono", value: store, maxLength: 65 });
    this.#fields = new GrantFields(() => this.#whom(), "Ends");
    const fields = element("div", "fields");
    const name = labelled("Name", this.#name);
    this.#wherever = labelled("Store", this.#where, "with * at its end: all stores that begin so");
    fields.append(labelled("To", this.#kind), name, this.#wherever);
    this.#showWhere(store);
    this.#kind.addEventListener("input", () => (name.hidden = this.#kind.value === "everyone"));
    fields.addEventListener("input", () => this.#fields.show());
    node.append(fields, this.#fields.node, error, submitButton("Give access"));
  }

  read() {
    return this.fill(
      () => listGrants(this.#store),
      (grant) => this.#entry(grant),
    );
  }

  #showWhere(store) {
    this.#where.value = store;
    this.#wherever.hidden = !this.#session.isAdmin && store === this.#store;
  }

  #whom() {
    const isNamed = this.#kind.value !== "everyone";
    const name = this.#name.value.trim();
    if (isNamed && !name) return null;
    return { to: isNamed ? `${this.#kind.value}:${name}` : "everyone", store: this.#where.value.trim() };
  }

  async #submit() {
    const whom = this.#whom();
    if (!whom) throw new Complaint(this.#kind.value === "group" ? "A group has a name." : "A user has a name.");
    await putGrant({ ...whom, ...this.#fields.read() });
    say("Access given");
    this.#opener.open = false;
    this.#name.value = "";
    this.#showWhere(this.#store);
    this.#fields.write({ role: "reader" });
    await this.read();
  }

  #entry(grant) {
    const entry = element("li", "entry");
    const text = element("p", "entry-text", sentenceOf(grant));
    if (grant.by) text.append(" ", element("span", "hint", `Granted by ${grant.by}.`));
    entry.append(text);
    // One for other stores too is an affair of whom those belong to.
    if (!grant.isOurs) {
      text.append(" ", element("span", "hint", "An administrator can change it."));
      return entry;
    }
    const actions = element("p", "entry-actions");
    actions.append(
      button("Change", "quiet", () => this.#change(grant)),
      armedButton("Remove", "Really remove?", "quiet", () => this.act(() => removeGrant(grant.id))),
    );
    entry.append(actions);
    return entry;
  }

  /** A new grant to the same one for the same store takes the place of the old one. */
  #change(grant) {
    const [kind, ...name] = grant.to.split(":");
    this.#kind.value = kind;
    this.#kind.dispatchEvent(new Event("input"));
    this.#name.value = name.join(":");
    this.#showWhere(grant.store);
    this.#fields.write(grant);
    this.#opener.open = true;
    this.#opener.scrollIntoView({ block: "nearest" });
    this.#opener.querySelector("select").focus();
  }
}

class Invitations extends Section {
  #store;
  #uses = input({ type: "number", min: 1, step: 1, placeholder: "no limit" });
  #made = element("div");
  #fields;

  constructor(store) {
    const { node, error } = form("stack", () => this.#submit());
    super("Invitation links", "No link is open.", adder("Make a link", node));
    this.#store = store;
    this.#fields = new GrantFields(() => ({ to: null, store }), "The link ends");
    this.node.append(this.#made);
    node.append(this.#fields.node, labelled("Good for so many people", this.#uses), error, submitButton("Make a link"));
  }

  read() {
    return this.fill(
      () => listInvitations(this.#store),
      (invitation) => this.#entry(invitation),
    );
  }

  async #submit() {
    const uses = countOf("uses_max", this.#uses, "Good for so many people");
    const answer = await createInvitation({ store: this.#store, ...this.#fields.read(), ...uses });
    this.#show(`${address(".")}#invite=${answer.code}`);
    await this.read();
  }

  /** The address of the page, with the code where no server and no log sees it: after the #. */
  #show(link) {
    const text = "Whoever has this link can join. It is shown this once.";
    const made = shownOnce(text, link, "Link", () => copy(link, "Link copied"));
    this.#made.replaceChildren(made);
    made.focusSecret();
  }

  #entry(invitation) {
    const { id, uses = 0, uses_max: max, expires_ms: expiresMs, by } = invitation;
    const entry = element("li", "entry");
    const facts = [max ? `used ${uses} of ${counted(max, "time")}` : `used ${counted(uses, "time")}`];
    if (by) facts.push(`made by ${by}`);
    if (expiresMs) facts.push(`ends ${dateAndTime(expiresMs)}`);
    const text = element("p", "entry-text", sentenceOf({ ...invitation, to: null }));
    text.append(" ", element("span", "hint", `${facts.join(", ")}.`));
    const actions = element("p", "entry-actions");
    const remove = () => this.act(() => removeInvitation(id));
    actions.append(armedButton("Remove", "Really remove?", "quiet", remove));
    entry.append(text, actions);
    return entry;
  }
}
