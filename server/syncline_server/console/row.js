// One row of the tail: the elements of one change. Data only ever becomes text nodes.

import { age, moment, size } from "./format.js";
import { layOut } from "./json-text.js";

const LINE_CHARS_MAX = 400;
const OPEN_CHARS_MAX = 20_000;
const ARMED_MS = 4_000;

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** What all rows have in common; cloning it is much cheaper than making its elements one by one. */
const blank = element("li", "row");
{
  const line = element("button", "line");
  line.type = "button";
  line.tabIndex = -1;
  line.setAttribute("aria-expanded", "false");
  const cells = ["op", "seq", "age", "key", "value"];
  for (const cell of cells) line.append(element(cell === "age" ? "time" : "span", cell));
  blank.append(line);
}

/**
 * Make the row of a change. `act(what, row)` is called for `delete`, `copy-key` and `copy-value`.
 *
 * A row is `{seq, op, key, value, time, node, isDead}`; `value` is JSON text, and undefined for a DELETE.
 */
export class Row {
  constructor(change, nowMs, act) {
    Object.assign(this, { seq: change.seq, op: change.op, key: change.key, value: change.value, time: change.time });
    this.isDead = false;
    this.#act = act;
    this.node = blank.cloneNode(true);
    if (this.op === "DELETE") this.node.classList.add("is-delete");
    this.node.row = this;
    this.#line = this.node.firstChild;
    const [op, seq, time, key, value] = this.#line.children;
    this.#age = time;
    op.textContent = this.op;
    seq.textContent = this.seq;
    time.textContent = age(this.time, nowMs);
    key.textContent = this.key;
    value.textContent = this.value === undefined ? "" : this.value.slice(0, LINE_CHARS_MAX);
  }

  #act;
  #line;
  #age;

  get isOpen() {
    return this.#line.getAttribute("aria-expanded") === "true";
  }

  get chars() {
    return this.key.length + (this.value?.length ?? 0);
  }

  focus() {
    this.#line.focus({ preventScroll: false });
  }

  set isTabStop(is) {
    this.#line.tabIndex = is ? 0 : -1;
  }

  tick(nowMs) {
    const text = age(this.time, nowMs);
    if (this.#age.textContent !== text) this.#age.textContent = text;
  }

  matches(wanted) {
    return (
      this.key.toLowerCase().includes(wanted) ||
      (this.value !== undefined && this.value.toLowerCase().includes(wanted)) ||
      String(this.seq) === wanted ||
      this.op.toLowerCase() === wanted
    );
  }

  /** For a DELETE: say which row it took away. */
  explain(addSeq) {
    this.#line.lastChild.textContent = `takes away the record of seq ${addSeq}`;
  }

  /** The record of this ADD was deleted. */
  die() {
    this.isDead = true;
    this.node.classList.add("is-dead");
    this.node.querySelector(".delete")?.remove();
  }

  toggle() {
    const opens = !this.isOpen;
    this.#line.setAttribute("aria-expanded", String(opens));
    this.node.classList.toggle("is-open", opens);
    if (opens) this.node.append(this.#details());
    else this.node.querySelector(".details").remove();
    return opens;
  }

  #details() {
    const details = element("div", "details");
    const facts = element("p", "details-facts");
    facts.append(element("span", "mono", this.key), ` · ${moment(this.time)}`);
    details.append(facts);
    if (this.value !== undefined) {
      if (this.value.length > LINE_CHARS_MAX) facts.append(` · ${size(this.value.length)}`);
      details.append(this.#pretty(OPEN_CHARS_MAX));
    }
    const actions = element("p", "details-actions");
    actions.append(this.#action("copy-key", "Copy key"));
    if (this.value !== undefined) actions.append(this.#action("copy-value", "Copy value"));
    if (this.op === "ADD" && !this.isDead) actions.append(this.#deleteButton());
    details.append(actions);
    return details;
  }

  #pretty(charsMax) {
    const pre = element("pre", "pretty");
    pre.tabIndex = 0;
    pre.setAttribute("aria-label", `Value of ${this.key}`);
    let chars = 0;
    for (const [kind, text] of layOut(this.value)) {
      if (chars > charsMax) {
        const more = element("button", "button quiet", "Show all of it");
        more.type = "button";
        more.addEventListener("click", () => pre.replaceWith(this.#pretty(Infinity)));
        pre.append("…\n", more);
        break;
      }
      chars += text.length;
      pre.append(kind === "mark" ? text : element("span", `json-${kind}`, text));
    }
    return pre;
  }

  #action(what, label) {
    const button = element("button", "button quiet", label);
    button.type = "button";
    button.addEventListener("click", () => this.#act(what, this));
    return button;
  }

  /** Asks once: the first click arms it for a moment, the second deletes. */
  #deleteButton() {
    const button = element("button", "button quiet delete", "Delete record");
    button.type = "button";
    let timer = 0;
    const disarm = () => {
      clearTimeout(timer);
      button.classList.remove("is-armed");
      button.textContent = "Delete record";
    };
    button.addEventListener("blur", disarm);
    button.addEventListener("click", () => {
      if (button.classList.contains("is-armed")) {
        disarm();
        this.#act("delete", this);
        return;
      }
      button.classList.add("is-armed");
      button.textContent = "Really delete?";
      timer = setTimeout(disarm, ARMED_MS);
    });
    return button;
  }

  /** The pointer is on the row: tell the exact moment, and put a delete button at its end. */
  enter() {
    this.#age.title = moment(this.time);
    this.#age.nextSibling.title = this.key;
    // The keyboard has the button among the details.
    if (this.op !== "ADD" || this.isDead || this.node.querySelector(":scope > .delete")) return;
    const button = this.#deleteButton();
    button.tabIndex = -1;
    button.setAttribute("aria-label", `Delete record ${this.key}`);
    this.#line.after(button);
  }

  leave() {
    const button = this.node.querySelector(":scope > .delete");
    if (button && !button.classList.contains("is-armed")) button.remove();
  }
}
