// The list of stores: their numbers, which one is chosen, and the form that makes a new one.
//
// The list is read again every few seconds while the page is seen; for the followed store, `update` brings its
// numbers sooner. A store whose seq has moved since the last reading counts as active.

import { number } from "./format.js";
import { createStore, listStores } from "./http.js";
import { element } from "./parts.js";

const POLL_MS = 3_000;

export class Stores {
  #list;
  #errorText;
  #form;
  #items = new Map();
  #known = null;
  #chosen = null;
  #timer = 0;
  #isOpen = false;
  #onList;

  /** `onList(names)` is called after every reading; `names` is null as long as none has succeeded. */
  constructor({ list, error, form, opener }, { onList }) {
    this.#list = list;
    this.#errorText = error;
    this.#onList = onList;
    this.#form = new CreateForm(form, opener, (info) => {
      this.#show([...(this.#known ?? []).filter((store) => store.name !== info.name), info]);
      location.hash = info.name;
    });
    list.addEventListener("keydown", (event) => this.#onKey(event));
    document.addEventListener("visibilitychange", () => !document.hidden && this.#isOpen && this.read());
  }

  /** The last reading, or null. */
  get known() {
    return this.#known;
  }

  find(name) {
    return this.#known?.find((store) => store.name === name) ?? null;
  }

  openForm() {
    this.#form.open();
  }

  create(name) {
    return this.#form.create(name);
  }

  /** Read nothing more and forget what was read. */
  close() {
    this.#isOpen = false;
    clearTimeout(this.#timer);
    this.#known = this.#chosen = null;
    this.#items.clear();
    this.#list.replaceChildren();
    this.#errorText.textContent = "";
    this.#form.close();
  }

  /** Read the list now, and from now on. */
  async read() {
    this.#isOpen = true;
    clearTimeout(this.#timer);
    try {
      const listed = await listStores();
      if (!this.#isOpen) return;
      this.#show(listed);
      this.#errorText.textContent = "";
    } catch (problem) {
      if (!this.#isOpen) return;
      this.#errorText.textContent = problem.status ? `The list could not be read: ${problem.text}` : "";
      this.#onList(this.#known);
    }
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.read(), POLL_MS);
  }

  /** Newer numbers of one store, from its feed. */
  update(name, numbers) {
    const store = this.find(name);
    if (!store || numbers.seq < store.seq) return;
    Object.assign(store, numbers);
    this.#items.get(name)?.show(store);
  }

  choose(name) {
    this.#chosen = name;
    for (const item of this.#items.values()) item.isChosen = item.name === name;
    this.#items.get(name)?.node.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  #show(stores) {
    this.#known = stores.map((store) => this.#newer(store));
    this.#known.sort((one, other) => one.name.localeCompare(other.name, "en"));
    const names = new Set(this.#known.map((store) => store.name));
    for (const [name, item] of this.#items) {
      if (names.has(name)) continue;
      item.node.remove();
      this.#items.delete(name);
    }
    for (const [index, store] of this.#known.entries()) {
      let item = this.#items.get(store.name);
      if (!item) {
        item = new Item(store.name);
        item.isChosen = store.name === this.#chosen;
        this.#items.set(store.name, item);
      }
      const there = this.#list.children[index] ?? null;
      if (there !== item.node) this.#list.insertBefore(item.node, there);
      item.read(store);
    }
    this.#onList(this.#known);
  }

  /** A reading, or what the feed told of the same store, if that is ahead of it. */
  #newer(store) {
    const before = this.find(store.name);
    if (before?.store_id === store.store_id && before.seq > store.seq) return before;
    return { ...store, digestSeq: store.seq };
  }

  #onKey(event) {
    const links = [...this.#list.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const to = step ? at + step : { Home: 0, End: links.length - 1 }[event.key];
    if (to === undefined || at === -1) return;
    event.preventDefault();
    links[Math.max(0, Math.min(to, links.length - 1))].focus();
  }
}

class Item {
  #link = element("a");
  #numbers = element("span", "numbers");
  #pace = element("span", "store-pace");
  #readAt = 0;
  #readSeq = null;

  constructor(name) {
    this.name = name;
    this.node = element("li");
    this.#link.href = `#${encodeURIComponent(name)}`;
    const title = element("span", "name", name);
    title.title = name;
    this.#link.append(element("span", "pulse"), title, this.#pace, this.#numbers);
    this.node.append(this.#link);
  }

  set isChosen(is) {
    if (is) this.#link.setAttribute("aria-current", "true");
    else this.#link.removeAttribute("aria-current");
  }

  /** Take a reading of the list; two of them make a rate. */
  read(store) {
    const now = performance.now();
    if (this.#readSeq !== null && now - this.#readAt > 500) {
      const rate = Math.max(0, store.seq - this.#readSeq) / ((now - this.#readAt) / 1000);
      this.#link.classList.toggle("is-active", rate > 0);
      this.#pace.textContent = rate >= 0.95 ? `${number(Math.round(rate))}/s` : "";
    }
    this.#readAt = now;
    this.#readSeq = store.seq;
    this.show(store);
  }

  show(store) {
    this.#numbers.textContent = `${number(store.count)} live · seq ${number(store.seq)}`;
  }
}

class CreateForm {
  #form;
  #opener;
  #name;
  #error;
  #onCreated;

  constructor(form, opener, onCreated) {
    this.#form = form;
    this.#opener = opener;
    this.#name = form.elements.name;
    this.#error = form.querySelector(".error");
    this.#onCreated = onCreated;
    opener.addEventListener("click", () => (form.hidden ? this.open() : this.close()));
    form.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
    this.#name.addEventListener("input", () => this.#say(""));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const name = this.#name.value.trim();
      if (!name) return this.#say("A store needs a name.");
      try {
        await this.create(name);
        this.close();
      } catch (problem) {
        this.#say(problem.text);
        this.#name.select();
      }
    });
  }

  async create(name) {
    const made = await createStore(name);
    this.#onCreated({ name, seq: 0, count: 0, ...made });
  }

  open() {
    this.#form.hidden = false;
    this.#opener.setAttribute("aria-expanded", "true");
    this.#opener.textContent = "Cancel";
    this.#name.focus();
  }

  close() {
    const hadFocus = this.#form.contains(document.activeElement);
    this.#form.hidden = true;
    this.#form.reset();
    this.#say("");
    this.#opener.setAttribute("aria-expanded", "false");
    this.#opener.textContent = "New store";
    if (hadFocus) this.#opener.focus();
  }

  #say(text) {
    this.#error.textContent = text;
    this.#name.toggleAttribute("aria-invalid", text !== "");
  }
}
