// The form that adds one record. The text of the value is sent as it was typed, so its numbers arrive unharmed.

import { number } from "./format.js";
import { addRecord } from "./http.js";

const LINES_MAX = 10;

export class Composer {
  #key;
  #value;
  #answer;
  #button;
  #isSending = false;
  store = "";

  constructor({ form, key, value, answer }) {
    this.#key = key;
    this.#value = value;
    this.#answer = answer;
    this.#button = form.querySelector("button");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    value.addEventListener("input", () => {
      this.#grow();
      this.#say("");
    });
    key.addEventListener("input", () => this.#say(""));
    value.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
  }

  async #submit() {
    if (this.#isSending) return;
    const text = this.#value.value.trim();
    const complaint = complaintAbout(text);
    if (complaint) {
      this.#say(complaint, "error");
      this.#value.focus();
      return;
    }
    this.#isSending = this.#button.disabled = true;
    const store = this.store;
    try {
      const answer = await addRecord(store, this.#key.value.trim(), text);
      this.#say(
        answer.status === "dup"
          ? `Already there, unchanged: ${answer.key} is seq ${number(answer.seq)}.`
          : `Stored as seq ${number(answer.seq)}, key ${answer.key}.`,
      );
      this.#key.value = this.#value.value = "";
      this.#grow();
      this.#value.focus();
    } catch (problem) {
      this.#say(problem.text, "error");
    } finally {
      this.#isSending = this.#button.disabled = false;
    }
  }

  reset() {
    this.#say("");
  }

  /** Forget what was typed. */
  clear() {
    this.store = this.#key.value = this.#value.value = "";
    this.#grow();
    this.reset();
  }

  #grow() {
    this.#value.rows = Math.min(LINES_MAX, this.#value.value.split("\n").length);
  }

  #say(text, kind = "") {
    this.#answer.textContent = text;
    this.#answer.classList.toggle("error", kind === "error");
    this.#value.toggleAttribute("aria-invalid", kind === "error");
  }
}

function complaintAbout(text) {
  if (!text) return 'A record needs a value: any JSON, such as "text", 12 or {"a": 1}.';
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return `This is not JSON: ${error.message.replace(/^JSON\.parse: /, "")}.`;
  }
}
