// What a grant says, as a sentence. Pure: a grant in, text out.

import { bytes, counted, dateAndTime, number } from "./format.js";

/** Who a grant is to, in words. `to` is `user:NAME`, `group:NAME` or `everyone`. */
export function grantee(to) {
  const [kind, ...rest] = to.split(":");
  const name = rest.join(":");
  if (to === "everyone") return "everyone";
  return kind === "group" ? `the members of ${name}` : name;
}

/**
 * One sentence that says all of a grant: whom, what, within which limits, until when.
 *
 * Without a `to` it is what an invitation offers, whose own end is not that of the grant.
 */
export function sentenceOf({ to, store, role, limits = {}, authors = true, expires_ms: expiresMs }) {
  const who = to ? grantee(to) : "whoever follows the link";
  const where = store?.endsWith("*") ? `, in ${storesOf(store.slice(0, -1))}` : "";
  const rules = role === "reader" ? [reading(limits)] : [...acts(role, limits), ...bounds(limits)];
  const blind = authors ? "" : ", without seeing who made a change";
  const until = to && expiresMs ? `, until ${dateAndTime(expiresMs)}` : "";
  const text = `${who} may ${listed(rules)}${blind}${where}${until}.`;
  // The name of a user is written as it is, also at the beginning.
  return to?.startsWith("user:") ? text : capital(text);
}

const storesOf = (prefix) => (prefix ? `all stores that begin with “${prefix}”` : "all stores");

function reading({ read_prefix: prefix, read_where: where }) {
  const conditions = [];
  if (prefix) conditions.push(`whose keys begin with “${prefix}”`);
  if (where) conditions.push(`that have ${textOfScalar(where.eq)} in the index “${where.index}”`);
  return conditions.length ? `read records ${conditions.join(" and ")}` : "read all records";
}

/** A scalar as it is typed: as its JSON, or without the quotes where it can be nothing but this string. */
export function textOfScalar(scalar) {
  return typeof scalar !== "string" || scalarOf(scalar) !== scalar ? JSON.stringify(scalar) : scalar;
}

/** What is meant by a text: the scalar whose JSON it is, or else itself. */
export function scalarOf(text) {
  if (text !== text.trim()) return text;
  try {
    const scalar = JSON.parse(text);
    return scalar !== null && typeof scalar === "object" ? text : scalar;
  } catch {
    return text;
  }
}

function acts(role, limits) {
  const { key_prefix: prefix, add_only: addOnly, own_only: ownOnly } = limits;
  const records = prefix ? `records whose keys begin with “${prefix}”` : "records";
  const reads = reading(limits);
  const acts = [];
  if (addOnly) acts.push(reads, `add ${records}`, "delete none");
  else if (ownOnly) acts.push(reads, `add ${records}`, "delete only their own");
  else acts.push(reads, `add and delete ${records}`);
  if (role === "owner") acts.push("share and drop the store");
  return acts;
}

function bounds({ records_max: records, bytes_max: size, writes_per_s: writes }) {
  const bounds = [];
  if (records !== undefined) bounds.push(`keep at most ${counted(records, "record")}`);
  if (size !== undefined) bounds.push(`keep at most ${bytes(size)}`);
  if (writes !== undefined) bounds.push(`write at most ${number(writes)} times a second`);
  return bounds;
}

function listed(items) {
  if (items.length < 3) return items.join(" and ");
  return `${items.slice(0, -1).join(", ")}, and ${items.at(-1)}`;
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
