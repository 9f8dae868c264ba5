// The tail: the newest changes of one store, as rows.
//
// Owns the rows, their number and size, the filter, pause and follow. What arrives waits in a list and becomes rows once
// per frame of the screen or less, so the rate of changes does not set the rate of work. Invariant: rows are the newest
// changes without a gap; what waits is bounded like the rows, so if it overflows, every row older than it goes too.

import { counted, number } from "./format.js";
import { element } from "./parts.js";
import { Row } from "./row.js";

const ROWS_MAX = 2_000;
const CHARS_MAX = 16_000_000;
const NEAR_END_PX = 24;
const QUIET_ROWS_MAX = 20;
const QUIET_MS = 400;
// Making rows may take a quarter of the time, so that a flood leaves the page its clicks and keys.
const REST_PER_WORK = 3;
const REST_MAX_MS = 250;
const AGES_EVERY_MS = 1_000;
const OLD_MS = 60_000;

export class Tail {
  #scroller;
  #list;
  #edge;
  #onChange;
  #act;
  #rows = [];
  #chars = 0;
  #arrived = [];
  #arrivedChars = 0;
  #addRows = new Map();
  #isScheduled = false;
  #restUntilMs = 0;
  #wanted = "";
  #matching = 0;
  #tabStop = null;
  #ticks = 0;
  #flushedAt = 0;

  isPaused = false;
  isFollowing = true;
  /** How many changes came since the tail was paused. */
  held = 0;
  /** How many rows came while the end was out of sight. */
  unseen = 0;
  /** How many changes of this view are not kept any more. */
  dropped = 0;

  /** `onChange()` is called when anything that is shown about the tail has changed. */
  constructor({ scroller, list, edge }, { onChange, act }) {
    this.#scroller = scroller;
    this.#list = list;
    this.#edge = edge;
    this.#onChange = onChange;
    this.#act = act;
    scroller.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    list.addEventListener("click", (event) => this.#onClick(event));
    list.addEventListener("keydown", (event) => this.#onKey(event));
    list.addEventListener("pointerover", (event) => event.target.closest("li")?.row?.enter());
    list.addEventListener("pointerout", (event) => {
      const node = event.target.closest("li");
      if (node && !node.contains(event.relatedTarget)) node.row?.leave();
    });
    new ResizeObserver(() => this.isFollowing && this.#toEnd()).observe(scroller);
    setInterval(() => this.#tickAges(), AGES_EVERY_MS);
  }

  get length() {
    return this.#rows.length;
  }

  get matching() {
    return this.#wanted ? this.#matching : this.#rows.length;
  }

  get filter() {
    return this.#wanted;
  }

  // --- what comes in ---

  push(changes) {
    for (const change of changes) {
      this.#arrived.push(change);
      this.#arrivedChars += charsOf(change);
    }
    if (this.isPaused) this.held += changes.length;
    if (this.#arrived.length > 2 * ROWS_MAX || this.#arrivedChars > 2 * CHARS_MAX) this.#shedArrived();
    this.#schedule();
  }

  /** A line between rows, about the log itself. */
  remark(text) {
    this.#flush();
    this.#list.append(element("li", "remark", text));
  }

  /** Drop what never happened, in the history that the server has now. */
  rewind(keepTo) {
    this.#flush();
    while (this.#rows.length && this.#rows.at(-1).seq > keepTo) this.#forget(this.#rows.pop());
    this.#countMatching();
    this.#onChange();
  }

  clear() {
    this.#rows = [];
    this.#arrived = [];
    this.#addRows.clear();
    this.#chars = this.#arrivedChars = this.#matching = 0;
    this.held = this.unseen = this.dropped = 0;
    this.#tabStop = null;
    this.#list.replaceChildren();
    this.#scroller.classList.remove("has-authors");
    this.isFollowing = true;
    this.#showEdge();
    this.#onChange();
  }

  // --- what the user sets ---

  set paused(is) {
    this.isPaused = is;
    this.held = 0;
    this.#schedule();
    this.#onChange();
  }

  set following(is) {
    this.isFollowing = is;
    if (is) this.#toEnd();
    this.#onChange();
  }

  set filter(text) {
    this.#wanted = text.trim().toLowerCase();
    for (const row of this.#rows) row.node.hidden = !this.#isShown(row);
    this.#countMatching();
    if (this.isFollowing) this.#toEnd();
    this.#onChange();
  }

  // --- rows ---

  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const render = () => {
      this.#isScheduled = false;
      const startedMs = performance.now();
      if (!this.isPaused) this.#flush();
      this.#onChange();
      const endedMs = performance.now();
      this.#restUntilMs = endedMs + Math.min(REST_MAX_MS, REST_PER_WORK * (endedMs - startedMs));
    };
    const restMs = this.#restUntilMs - performance.now();
    if (restMs <= 16) requestAnimationFrame(render);
    else setTimeout(() => requestAnimationFrame(render), restMs);
  }

  #flush() {
    if (!this.#arrived.length) return;
    this.#shedArrived();
    const nowMs = Date.now();
    // A new row lights up, unless so many come that all would be alight.
    const isQuiet = this.#arrived.length <= QUIET_ROWS_MAX && nowMs - this.#flushedAt >= QUIET_MS;
    this.#flushedAt = nowMs;
    const nodes = document.createDocumentFragment();
    for (const change of this.#arrived) {
      const row = new Row(change, nowMs, this.#act);
      if (isQuiet) row.node.classList.add("is-new");
      this.#keep(row);
      if (row.by !== undefined) this.#scroller.classList.add("has-authors");
      nodes.append(row.node);
      if (!this.isFollowing && !row.node.hidden) this.unseen += 1;
    }
    this.#arrived = [];
    this.#arrivedChars = 0;
    this.#trim();
    this.#list.append(nodes);
    this.#giveTabStop();
    this.#showEdge();
    if (this.isFollowing) this.#toEnd();
  }

  #keep(row) {
    this.#rows.push(row);
    this.#chars += row.chars;
    if (row.op === "ADD") {
      this.#addRows.set(row.key, row);
    } else {
      const added = this.#addRows.get(row.key);
      this.#addRows.delete(row.key);
      if (added) {
        added.die();
        row.explain(added.seq);
      }
    }
    const isShown = this.#isShown(row);
    row.node.hidden = !isShown;
    if (this.#wanted && isShown) this.#matching += 1;
  }

  #trim() {
    let count = 0;
    while (this.#rows.length - count > ROWS_MAX || (this.#chars > CHARS_MAX && this.#rows.length - count > 1)) {
      this.#forget(this.#rows[count]);
      count += 1;
    }
    if (count) this.#rows.splice(0, count);
    this.dropped += count;
  }

  #forget(row) {
    this.#chars -= row.chars;
    if (this.#addRows.get(row.key) === row) this.#addRows.delete(row.key);
    if (this.#wanted && !row.node.hidden) this.#matching -= 1;
    if (this.#tabStop === row) this.#tabStop = null;
    while (row.node.previousSibling && !row.node.previousSibling.row) row.node.previousSibling.remove();
    row.node.remove();
  }

  /** Drop what waits and would be trimmed at once. */
  #shedArrived() {
    let excess = Math.max(0, this.#arrived.length - ROWS_MAX);
    for (let index = 0; index < excess; index += 1) this.#arrivedChars -= charsOf(this.#arrived[index]);
    while (this.#arrivedChars > CHARS_MAX && excess < this.#arrived.length - 1) {
      this.#arrivedChars -= charsOf(this.#arrived[excess]);
      excess += 1;
    }
    this.#arrived.splice(0, excess);
    this.dropped += excess;
  }

  #isShown(row) {
    return !this.#wanted || row.matches(this.#wanted);
  }

  #countMatching() {
    this.#matching = this.#rows.reduce((count, row) => count + !row.node.hidden, 0);
  }

  #showEdge() {
    this.#edge.hidden = this.dropped === 0;
    if (this.dropped) {
      const kept = this.#rows.length === ROWS_MAX ? `the newest ${number(ROWS_MAX)}` : "the newest";
      this.#edge.textContent = `This page keeps ${kept}; ${counted(this.dropped, "earlier change")} went by.`;
    }
  }

  #tickAges() {
    if (document.hidden) return;
    const nowMs = Date.now();
    const all = this.#ticks++ % 30 === 0;
    for (let index = this.#rows.length - 1; index >= 0; index -= 1) {
      const row = this.#rows[index];
      if (!all && nowMs - row.time > OLD_MS + 2 * AGES_EVERY_MS) break;
      row.tick(nowMs);
    }
  }

  // --- scrolling, pointer, keys ---

  #toEnd() {
    this.unseen = 0;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  #onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const isAtEnd = scrollHeight - scrollTop - clientHeight <= NEAR_END_PX;
    if (isAtEnd) this.unseen = 0;
    if (isAtEnd === this.isFollowing) return;
    this.isFollowing = isAtEnd;
    this.#onChange();
  }

  #onClick(event) {
    const line = event.target.closest(".line");
    if (!line) return;
    const { row } = line.parentNode;
    this.#moveTabStop(row);
    // Someone who opens a row wants to read it; the tail must not carry it away.
    const isOpen = row.toggle();
    const overflows = this.#scroller.scrollHeight > this.#scroller.clientHeight;
    if (isOpen && overflows && row !== this.#rows.at(-1)) this.following = false;
    if (this.isFollowing) return this.#toEnd();
    const isTall = row.node.offsetHeight > this.#scroller.clientHeight;
    if (isOpen) row.node.scrollIntoView({ block: isTall ? "start" : "nearest" });
  }

  #onKey(event) {
    if (!event.target.classList.contains("line") || event.altKey || event.ctrlKey || event.metaKey) return;
    const shown = (row) => row && !row.node.hidden;
    const from = this.#rows.indexOf(event.target.parentNode.row);
    const step = { ArrowUp: -1, ArrowDown: 1, Home: 1, End: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    let index = { Home: 0, End: this.#rows.length - 1 }[event.key] ?? from + step;
    while (this.#rows[index] && !shown(this.#rows[index])) index += step;
    const row = this.#rows[index];
    if (!row) return;
    this.#moveTabStop(row);
    row.focus();
  }

  #moveTabStop(row) {
    if (this.#tabStop) this.#tabStop.isTabStop = false;
    this.#tabStop = row;
    if (row) row.isTabStop = true;
  }

  /** One row of the list can be reached with Tab, the arrow keys lead to the others. */
  #giveTabStop() {
    if (!this.#tabStop) this.#moveTabStop(this.#rows.at(-1) ?? null);
  }
}

const charsOf = (change) => change.key.length + (change.value?.length ?? 0);
