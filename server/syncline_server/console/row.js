// One row of the tail: the elements of one change. Data only ever becomes text nodes.

import { age, moment, size } from "./format.js";
import { layOut } from "./json-text.js";
import { armedButton, button, element } from "./parts.js";

const LINE_CHARS_MAX = 400;
const OPEN_CHARS_MAX = 20_000;

/** What all rows have in common; cloning it is much cheaper than making its elements one by one. */
const blank = element("li", "row");
{
  const line = element("button", "line");
  line.type = "button";
  line.tabIndex = -1;
  line.setAttribute("aria-expanded", "false");
  const cells = ["op", "seq", "age", "by", "key", "value"];
  for (const cell of cells) line.append(element(cell === "age" ? "time" : "span", cell));
  blank.append(line);
}

/**
 * Make the row of a change. `act(what, row)` is called for `delete`, `copy-key` and `copy-value`.
 *
 * A row is `{seq, op, key, value, time, by, node, isDead}`; `value` is JSON text, and undefined for a DELETE; `by` is who
 * made the change, and undefined if nobody had logged in or this reader may not know.
 */
export class Row {
  constructor(change, nowMs, act) {
    const { seq, op, key, value, time, by } = change;
    Object.assign(this, { seq, op, key, value, time, by: by ?? undefined });
    this.isDead = false;
    this.#act = act;
    this.node = blank.cloneNode(true);
    if (this.op === "DELETE") this.node.classList.add("is-delete");
    this.node.row = this;
    this.#line = this.node.firstChild;
    this.#age = this.#line.children[2];
    const texts = [op, seq, age(time, nowMs), by ?? "", key, value === undefined ? "" : value.slice(0, LINE_CHARS_MAX)];
    for (const [index, text] of texts.entries()) this.#line.children[index].textContent = text;
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
      (this.by !== undefined && this.by.toLowerCase().includes(wanted)) ||
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
    if (this.by !== undefined) facts.append(` · by ${this.by}`);
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
        pre.append("…\n", button("Show all of it", "quiet", () => pre.replaceWith(this.#pretty(Infinity))));
        break;
      }
      chars += text.length;
      pre.append(kind === "mark" ? text : element("span", `json-${kind}`, text));
    }
    return pre;
  }

  #action(what, label) {
    return button(label, "quiet", () => this.#act(what, this));
  }

  #deleteButton() {
    return armedButton("Delete record", "Really delete?", "quiet delete", () => this.#act("delete", this));
  }

  /** The pointer is on the row: tell the exact moment, and put a delete button at its end. */
  enter() {
    this.#age.title = moment(this.time);
    this.#line.querySelector(".key").title = this.key;
    if (this.by !== undefined) this.#line.querySelector(".by").title = `by ${this.by}`;
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
