// What stands before the stores: the forms to log in, to make the first administrator, and to take an invitation.
//
// One form with three purposes. It owns what is typed and what is said about it; `session.js` decides which purpose is
// due, and what becomes of the page when the form has done its work. A password is never kept beyond its request.

import { acceptInvitation, logIn, readMe, setUp } from "./accounts.js";
import { address } from "./http.js";
import { PASSWORD_RULE, textOf } from "./parts.js";

const INVITE_KEPT = "syncline.invite";

const $ = (id) => document.getElementById(id);

const PURPOSES = {
  login: { title: "Log in", submit: "Log in", text: "", autocomplete: "current-password" },
  setup: {
    title: "Make the first administrator",
    submit: "Make the account",
    text: "This server has no administrator yet. The account that you make here may do everything, and let others in.",
    autocomplete: "new-password",
  },
  another: {
    title: "Make another administrator",
    submit: "Make the account",
    text: "This server has an administrator already. The account that you make here may do everything too.",
    autocomplete: "new-password",
  },
  join: {
    title: "You are invited to a store",
    submit: "Log in and join",
    text: "The link that you followed gives access to a store. Make an account to join, or log in with yours.",
    autocomplete: "current-password",
  },
};

export class Gate {
  #me = null;
  #purpose = "login";
  #code = "";
  #titleBefore = "";
  #onDone;

  /** `onDone({store})` is called when somebody is logged in; `store` is the one that an invitation led to. */
  constructor(onDone) {
    this.#onDone = onDone;
    $("gate-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    $("gate-form").addEventListener("input", () => this.#complain(""));
    $("gate-mode").addEventListener("change", () => this.#showMode());
    $("gate-show").addEventListener("click", () => this.#showPassword($("gate-password").type === "password"));
    $("gate-oidc").addEventListener("click", () => this.#keepInvitation());
  }

  /** The code of an invitation that somebody left this page with to log in elsewhere; it is handed out once. */
  static takeKeptInvitation() {
    const code = sessionStorage.getItem(INVITE_KEPT);
    sessionStorage.removeItem(INVITE_KEPT);
    return code;
  }

  /**
   * Show the form for `login`, `setup` or `join`. A code for setup also comes from a server that has administrators,
   * when none of them can log in any more.
   *
   * `code` is that of the setup or the invitation; `notice` says why this form stands here; `onCancel` lets go of it.
   */
  show(purpose, me, { code = "", notice = "", user = "", onCancel = null } = {}) {
    this.#purpose = purpose;
    this.#me = me;
    this.#code = code;
    const { title, text } = this.#texts;
    $("gate-title").textContent = title;
    $("gate-text").textContent = this.#joinsAtOnce
      ? `The link that you followed gives access to a store. You are logged in as ${me.user}.`
      : text;
    $("gate-notice").textContent = notice;
    $("gate-mode").hidden = purpose !== "join" || this.#joinsAtOnce;
    $("gate-fields").hidden = this.#joinsAtOnce;
    $("gate-oidc").hidden = !me.oidc || purpose === "setup" || this.#joinsAtOnce;
    $("gate-oidc").href = address("v1/oidc/login?next=/");
    $("gate-cancel").hidden = !onCancel;
    $("gate-cancel").onclick = onCancel;
    $("gate-form").reset();
    $("gate-user").value = user;
    this.#complain("");
    this.#showPassword(false);
    this.#showMode();
    if ($("gate").hidden) this.#titleBefore = document.title;
    document.title = `${title} · Syncline`;
    document.body.dataset.gate = purpose;
    $("gate").hidden = false;
    this.#focus();
  }

  hide() {
    $("gate-form").reset();
    document.title = this.#titleBefore;
    $("gate").hidden = true;
    delete document.body.dataset.gate;
  }

  get #texts() {
    return PURPOSES[this.#purpose === "setup" && !this.#me.setup ? "another" : this.#purpose];
  }

  get #joinsAtOnce() {
    return this.#purpose === "join" && isLoggedIn(this.#me);
  }

  get #makesAccount() {
    if (this.#purpose !== "join" || this.#joinsAtOnce) return false;
    return document.querySelector("#gate-mode :checked").value === "account";
  }

  #showMode() {
    const { submit, autocomplete } = this.#texts;
    let label = submit;
    if (this.#makesAccount) label = "Make an account and join";
    if (this.#joinsAtOnce) label = "Join the store";
    $("gate-submit").textContent = label;
    $("gate-password").autocomplete = this.#makesAccount ? "new-password" : autocomplete;
    $("gate-rule").textContent = $("gate-password").autocomplete === "new-password" ? PASSWORD_RULE : "";
  }

  #showPassword(is) {
    $("gate-password").type = is ? "text" : "password";
    $("gate-show").setAttribute("aria-pressed", String(is));
    $("gate-show").textContent = is ? "Hide" : "Show";
  }

  #focus() {
    if (this.#joinsAtOnce) $("gate-submit").focus();
    else if ($("gate-user").value) $("gate-password").focus();
    else $("gate-user").focus();
  }

  #keepInvitation() {
    if (this.#purpose === "join") sessionStorage.setItem(INVITE_KEPT, this.#code);
  }

  async #submit() {
    const user = $("gate-user").value.trim();
    const password = $("gate-password").value;
    if (!this.#joinsAtOnce && !user) return this.#complain("An account has a name.", $("gate-user"));
    if (!this.#joinsAtOnce && !password) return this.#complain("An account has a password.", $("gate-password"));
    $("gate-submit").disabled = true;
    try {
      const store = await this.#send(user, password);
      this.#onDone({ store });
    } catch (problem) {
      this.#complain(textOf(problem), $("gate-password"));
    } finally {
      $("gate-submit").disabled = false;
    }
  }

  /** Do what the form is for; return the store that was joined, if one was. */
  async #send(user, password) {
    if (this.#purpose === "login") return void (await logIn(user, password));
    if (this.#purpose === "setup") return void (await setUp(this.#code, user, password));
    if (this.#makesAccount) return (await acceptInvitation(this.#code, { user, password, cookie: true })).grant.store;
    if (!this.#joinsAtOnce) {
      await logIn(user, password);
      // Should the invitation not hold, he is logged in all the same.
      this.show("join", await readMe(), { code: this.#code, onCancel: () => this.#onDone({}) });
    }
    return (await acceptInvitation(this.#code)).grant.store;
  }

  #complain(text, field = null) {
    $("gate-error").textContent = text;
    for (const id of ["gate-user", "gate-password"]) $(id).toggleAttribute("aria-invalid", text !== "" && $(id) === field);
    if (field && !$("gate-fields").hidden) field.select();
  }
}

/** Whether somebody is logged in: not nobody, and not on a server where nobody has to. */
export const isLoggedIn = (me) => me.kind !== "anonymous" && me.kind !== "open";
