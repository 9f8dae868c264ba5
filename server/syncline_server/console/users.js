// The page of users: who has an account, what he may do with it, and accounts that are made, closed and removed.

import { listUsers, putUser, removeUser } from "./accounts.js";
import { dateAndTime } from "./format.js";
import { Complaint, PASSWORD_RULE, adder, button, check, element, form, input, labelled } from "./parts.js";
import { openSheet, submitButton } from "./parts.js";
import { say } from "./say.js";
import { Section } from "./section.js";

export class Users extends Section {
  #name = input({ maxLength: 64 });
  #title = input({ maxLength: 256, placeholder: "optional" });
  #password = input({ type: "password", autocomplete: "new-password", maxLength: 1024 });
  #admin = check("administrator");
  #service = check("a service, not a person");

  constructor() {
    const { node, error } = form("stack", () => this.#create());
    super("", "There are no users.", adder("Add a user", node));
    const fields = element("div", "fields");
    fields.append(
      labelled("Name", this.#name, "small letters, digits and . _ @ + -"),
      labelled("Title", this.#title),
      labelled("Password", this.#password, `${PASSWORD_RULE}; empty: logs in by OpenID or tokens only`),
    );
    const checks = element("div", "checks");
    checks.append(this.#admin.node, this.#service.node);
    node.append(fields, checks, error, submitButton("Add"));
  }

  read() {
    return this.fill(listUsers, (user) => this.#entry(user));
  }

  async #create() {
    const name = this.#name.value.trim();
    if (!name) throw new Complaint("A user has a name.");
    const wanted = {};
    if (this.#password.value) wanted.password = this.#password.value;
    if (this.#title.value.trim()) wanted.title = this.#title.value.trim();
    if (this.#admin.box.checked) wanted.admin = true;
    if (this.#service.box.checked) wanted.service = true;
    await putUser(name, wanted);
    say(`${name} was added`);
    this.#name.value = this.#title.value = this.#password.value = "";
    this.#admin.box.checked = this.#service.box.checked = false;
    await this.read();
  }

  #entry(user) {
    const { user: name, title, kind, admin, disabled, login_ms: loginMs, created_ms: createdMs, oidc } = user;
    const entry = element("li", "entry");
    if (disabled) entry.classList.add("is-off");
    const text = element("p", "entry-text");
    text.append(element("strong", "", name));
    if (title) text.append(` ${title}`);
    for (const [is, badge] of [[kind === "service", "service"], [admin, "administrator"], [oidc, "OpenID"]]) {
      if (is) text.append(" ", element("span", "badge", badge));
    }
    if (disabled) text.append(" ", element("span", "badge is-bad", "disabled"));
    const seen = loginMs ? `logged in ${dateAndTime(loginMs)}` : "never logged in";
    text.append(element("span", "hint below", createdMs ? `${seen} · made ${dateAndTime(createdMs)}` : seen));
    const actions = element("p", "entry-actions");
    const change = (changes) => this.act(() => putUser(name, changes));
    actions.append(
      button(disabled ? "Enable" : "Disable", "quiet", () => change({ disabled: !disabled })),
      button(admin ? "No longer administrator" : "Make administrator", "quiet", () => change({ admin: !admin })),
    );
    if (kind !== "service") actions.append(button("Set password", "quiet", () => openPasswordSheet(name)));
    actions.append(button("Remove", "quiet", () => this.#openRemoval(name)));
    entry.append(text, actions);
    return entry;
  }

  /** A removal cannot be undone, and the name is never given again: it has to be typed. */
  #openRemoval(name) {
    const typed = input({});
    const { node, error } = form("stack", async () => {
      if (typed.value.trim() !== name) throw new Complaint("This is not the name of the user.");
      await removeUser(name);
      sheet.close();
      await this.read();
    });
    const warning = "Tokens, grants and sessions of this user end. Records stay. The name is never given to anybody again.";
    const remove = submitButton("Remove");
    remove.classList.add("danger");
    node.append(element("p", "", warning), labelled(`Type ${name} to remove this user`, typed), error, remove);
    const sheet = openSheet(`Remove ${name}`, node);
  }
}

function openPasswordSheet(name) {
  const password = input({ type: "password", autocomplete: "new-password", maxLength: 1024 });
  const { node, error } = form("stack", async () => {
    await putUser(name, { password: password.value });
    sheet.close();
    say("Password set");
  });
  const hint = `${PASSWORD_RULE}; every session of this user ends`;
  node.append(labelled("New password", password, hint), error, submitButton("Set it"));
  const sheet = openSheet(`Password of ${name}`, node);
}
