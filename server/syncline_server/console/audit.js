// The page of the audit log: what was done to accounts and access, newest first, a page at a time.
//
// The server counts entries from 0 and gives those after a number in ascending order, so the pages are asked for from
// the head downwards. That nobody has changed the log is checked by the command line, from a copy that it keeps.

import { readAudit } from "./accounts.js";
import { moment } from "./format.js";
import { button, element, textOf } from "./parts.js";

const PAGE = 50;

export class Audit {
  node = element("section", "section");
  #list = element("ol", "entries audit");
  #error = element("p", "error");
  #more = button("Older", "", () => this.#older());
  /** The number of the oldest entry that is shown. */
  #first = null;

  constructor() {
    this.#error.setAttribute("role", "alert");
    this.#list.setAttribute("aria-label", "Entries, newest first");
    this.#more.hidden = true;
    const hint = element("p", "hint", "The command “syncline audit verify” checks that no entry was changed or left out.");
    this.node.append(hint, this.#list, this.#error, this.#more);
  }

  async read() {
    try {
      const { head } = await readAudit(-1, 1);
      this.#first = head.n + 1;
      this.#list.replaceChildren();
      await this.#older();
    } catch (problem) {
      this.#error.textContent = textOf(problem);
    }
  }

  async #older() {
    const first = Math.max(0, this.#first - PAGE);
    const count = this.#first - first;
    try {
      const { entries = [] } = count ? await readAudit(first - 1, count) : {};
      this.#list.append(...entries.reverse().map(entryOf));
      this.#first = first;
      this.#error.textContent = "";
      this.#more.hidden = first === 0;
    } catch (problem) {
      this.#error.textContent = textOf(problem);
    }
  }
}

function entryOf({ n, time, action, actor, subject, outcome, address, detail = {} }) {
  const entry = element("li", "entry");
  const text = element("p", "entry-text");
  text.append(element("span", "mono n", String(n)), " ", element("strong", "", action));
  if (subject) text.append(" ", element("span", "mono", subject));
  if (actor) text.append(` by ${actor}`);
  if (outcome !== "ok") text.append(" ", element("span", outcome === "begun" ? "badge" : "badge is-bad", outcome));
  const facts = [moment(time), ...(address ? [address] : [])];
  for (const [name, value] of Object.entries(detail)) facts.push(`${name} ${value}`);
  text.append(element("span", "hint below", facts.join(" · ")));
  entry.append(text);
  return entry;
}
