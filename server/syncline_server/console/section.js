// A part of a sheet or page: a heading, what the server lists, and a form that makes another one.
//
// The list is read again after every change, so that it shows what holds and not what was asked for.

import { element, textOf } from "./parts.js";

/** Whoever extends this has `read()`, which calls `fill`. */
export class Section {
  #list = element("ul", "entries");
  #error = element("p", "error");
  #form;
  #empty;

  constructor(title, empty, formNode) {
    this.#empty = empty;
    this.#form = formNode;
    this.#error.setAttribute("role", "alert");
    this.node = element("section", "section");
    this.node.append(element("h3", "", title), this.#list, this.#error, formNode);
  }

  /** Show one entry for each thing that `list()` brings; return whether it may be seen, and so be changed. */
  async fill(list, entryOf) {
    try {
      const entries = (await list()).map(entryOf);
      if (!entries.length) entries.push(element("li", "hint", this.#empty));
      const place = this.#controls.indexOf(document.activeElement);
      this.#list.replaceChildren(...entries);
      // Whoever works with the keyboard stays where he was in the list.
      if (place !== -1) (this.#controls[place] ?? this.#form.querySelector("summary"))?.focus();
      this.#error.textContent = "";
    } catch (problem) {
      this.#list.replaceChildren();
      this.#error.textContent = textOf(problem);
    }
    this.#form.hidden = this.#error.textContent !== "";
    return !this.#form.hidden;
  }

  get #controls() {
    return [...this.#list.querySelectorAll("button, input")];
  }

  /** Do something to an entry; say why it was refused. */
  async act(change) {
    try {
      await change();
    } catch (problem) {
      this.#error.textContent = textOf(problem);
      return;
    }
    await this.read();
  }
}
