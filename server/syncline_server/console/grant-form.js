// The fields of a grant: role, limits, end. Grants and invitations have the same; a sentence below says what they mean.

import { scalarOf, sentenceOf, textOfScalar } from "./grant-text.js";
import { Complaint, check, element, input, labelled, select } from "./parts.js";

const ROLES = [
  ["reader", "Reader – reads"],
  ["writer", "Writer – adds and deletes too"],
  ["owner", "Owner – shares and drops too"],
];

export class GrantFields {
  #role = select(ROLES, "reader");
  #readPrefix = input({ className: "field mono", placeholder: "all keys" });
  #readIndex = input({ className: "field mono", placeholder: "no index" });
  #readTerm = input({ className: "field mono" });
  #keyPrefix = input({ className: "field mono", placeholder: "all keys" });
  #deleting = select([["all", "all records"], ["own", "only their own"], ["none", "none"]], "all");
  #records = input({ type: "number", min: 0, step: 1, placeholder: "no limit" });
  #bytes = input({ type: "number", min: 0, step: 1, placeholder: "no limit" });
  #writes = input({ type: "number", min: 0, step: "any", placeholder: "no limit" });
  #expires = input({ type: "datetime-local" });
  #reading = labelled("Reads keys that begin with", this.#readPrefix);
  #finding = [
    labelled("Reads what the index", this.#readIndex, "for readers only"),
    labelled("finds by", this.#readTerm, "a value of JSON, or else a text"),
  ];
  #authors = check("sees who made each change", true);
  #writing = element("div", "fields");
  #limits = element("details", "limits");
  #sentence = element("p", "sentence");
  #whom;

  /**
   * `whom()` returns the `to` and `store` that the sentence is about, or null while they are not known; `ends` is what
   * the field for the end is called.
   */
  constructor(whom, ends) {
    this.#whom = whom;
    const always = element("div", "fields");
    always.append(labelled(ends, this.#expires, "empty: never"), this.#reading, ...this.#finding);
    this.#writing.append(
      labelled("Writes keys that begin with", this.#keyPrefix),
      labelled("Deletes", this.#deleting),
      labelled("Records at most", this.#records),
      labelled("Bytes at most", this.#bytes),
      labelled("Writes per second at most", this.#writes),
    );
    this.#limits.append(element("summary", "", "Limits"), always, this.#writing, this.#authors.node);
    this.node = element("div", "stack");
    this.node.append(labelled("Role", this.#role), this.#limits, this.#sentence);
    this.node.addEventListener("input", () => this.show());
    this.show();
  }

  /** Say in a sentence what is filled in. */
  show() {
    // An owner has no limits, since he could grant himself the same without them.
    for (const field of [this.#reading, ...this.#finding]) field.hidden = this.#role.value === "owner";
    this.#writing.hidden = this.#role.value !== "writer";
    let text = "";
    try {
      const whom = this.#whom();
      if (whom) text = sentenceOf({ ...whom, ...this.read() });
    } catch (complaint) {
      text = complaint.text;
    }
    this.#sentence.textContent = text;
  }

  /** Fill in what a grant says. */
  write({ role, limits = {}, authors = true, expires_ms: expiresMs }) {
    this.#role.value = role;
    this.#readPrefix.value = limits.read_prefix ?? "";
    this.#readIndex.value = limits.read_where?.index ?? "";
    this.#readTerm.value = limits.read_where ? textOfScalar(limits.read_where.eq) : "";
    this.#keyPrefix.value = limits.key_prefix ?? "";
    this.#deleting.value = limits.add_only ? "none" : limits.own_only ? "own" : "all";
    this.#records.value = limits.records_max ?? "";
    this.#bytes.value = limits.bytes_max ?? "";
    this.#writes.value = limits.writes_per_s ?? "";
    this.#expires.value = expiresMs ? localMinute(expiresMs) : "";
    this.#authors.box.checked = authors;
    this.#limits.open = Object.keys(limits).length > 0 || !authors || Boolean(expiresMs);
    this.show();
  }

  /** Return what is filled in, as a grant says it. Throws a `Complaint`. */
  read() {
    const role = this.#role.value;
    const limits = role === "owner" ? {} : textOf("read_prefix", this.#readPrefix);
    if (role !== "owner") Object.assign(limits, this.#readWhere());
    if (role === "writer") {
      if (limits.read_where) throw new Complaint("A writer sees by keys: what an index finds is for readers only.");
      Object.assign(limits, textOf("key_prefix", this.#keyPrefix));
      if (this.#deleting.value === "own") limits.own_only = true;
      if (this.#deleting.value === "none") limits.add_only = true;
      Object.assign(limits, countOf("records_max", this.#records, "Records at most"));
      Object.assign(limits, countOf("bytes_max", this.#bytes, "Bytes at most"));
      Object.assign(limits, rateOf("writes_per_s", this.#writes));
    }
    const grant = { role, limits };
    if (!this.#authors.box.checked) grant.authors = false;
    const expiresMs = momentOf(this.#expires);
    if (expiresMs) grant.expires_ms = expiresMs;
    return grant;
  }

  #readWhere() {
    const [index, text] = [this.#readIndex.value, this.#readTerm.value];
    if (index === "" && text !== "") throw new Complaint("What is read is found by an index: say which.");
    if (index === "") return {};
    const eq = scalarOf(text);
    // A number that JavaScript has rounded would show other records than those that were meant.
    if (Number.isInteger(eq) && !Number.isSafeInteger(eq)) throw new Complaint("The number is too large for this page.");
    return { read_where: { index, eq } };
  }
}

/** The moment that a field for date and time has, in ms since 1970, or null. Throws a `Complaint`. */
export function momentOf(field) {
  if (field.validity.badInput) throw new Complaint("The end has both a date and a time.");
  if (!field.value) return null;
  const ms = new Date(field.value).getTime();
  if (ms <= Date.now()) throw new Complaint("The end lies in the past.");
  return ms;
}

/** A count of one or more, or nothing. Throws a `Complaint`. */
export function countOf(name, field, label) {
  if (!field.value && !field.validity.badInput) return {};
  const value = Number(field.value);
  if (field.validity.badInput || !Number.isSafeInteger(value) || value < Number(field.min)) {
    throw new Complaint(`“${label}” is a whole number from ${field.min}.`);
  }
  return { [name]: value };
}

function rateOf(name, field) {
  if (!field.value && !field.validity.badInput) return {};
  const value = Number(field.value);
  if (field.validity.badInput || !(value > 0)) throw new Complaint("“Writes per second at most” is a number above 0.");
  return { [name]: value };
}

const textOf = (name, field) => (field.value === "" ? {} : { [name]: field.value });

/** As a field of type datetime-local wants it. */
function localMinute(ms) {
  const date = new Date(ms);
  return new Date(ms - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
