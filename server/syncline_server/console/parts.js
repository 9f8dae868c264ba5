// The small parts that lists, forms and sheets are made of. Text that came from anywhere only ever becomes text nodes.

const ARMED_MS = 4_000;
/** What the server asks of a new password, said before it has to refuse one. */
export const PASSWORD_RULE = "at least 10 characters";

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function button(label, className, act) {
  const made = element("button", `button ${className}`.trim(), label);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

/** A button that asks once: the first click arms it for a moment, the second acts. */
export function armedButton(label, armedLabel, className, act) {
  let timer = 0;
  const made = button(label, className, () => {
    const isArmed = made.classList.contains("is-armed");
    disarm();
    if (isArmed) return act();
    made.classList.add("is-armed");
    made.textContent = armedLabel;
    timer = setTimeout(disarm, ARMED_MS);
  });
  function disarm() {
    clearTimeout(timer);
    made.classList.remove("is-armed");
    made.textContent = label;
  }
  made.addEventListener("blur", disarm);
  return made;
}

/** A control under its label, with what is to be known about it below. */
export function labelled(label, control, hint = "") {
  const made = element("label", "labelled");
  made.append(element("span", "label", label), control);
  if (hint) made.append(element("span", "hint", hint));
  return made;
}

export function input(attributes) {
  const made = element("input", "field");
  Object.assign(made, { autocomplete: "off", spellcheck: false, autocapitalize: "off", ...attributes });
  return made;
}

export function check(label, isChecked = false) {
  const made = element("label", "check");
  const box = element("input");
  box.type = "checkbox";
  box.checked = isChecked;
  made.append(box, ` ${label}`);
  return { node: made, box };
}

/** Options are pairs of a value and what people read. */
export function select(options, chosen) {
  const made = element("select", "field");
  for (const [value, text] of options) {
    const option = element("option", "", text);
    option.value = value;
    made.append(option);
  }
  made.value = chosen;
  return made;
}

/** Make a form act once per submit, and say below it why the server refused, or why a field is not right. */
export function form(className, submit) {
  const made = element("form", className);
  made.noValidate = true;
  const error = element("p", "error");
  error.setAttribute("role", "alert");
  made.addEventListener("input", () => (error.textContent = ""));
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    const buttons = [...made.querySelectorAll("button")].filter((each) => !each.disabled);
    for (const each of buttons) each.disabled = true;
    error.textContent = "";
    try {
      await submit(made);
    } catch (problem) {
      error.textContent = textOf(problem);
    } finally {
      for (const each of buttons) each.disabled = false;
    }
  });
  return { node: made, error };
}

/** A form that is folded away until somebody wants to add something. */
export function adder(title, ...content) {
  const made = element("details", "adder");
  made.append(element("summary", "", title), ...content);
  return made;
}

/** What is shown once and never again, with a button that copies it. */
export function shownOnce(text, secret, label, onCopy) {
  const field = input({ className: "field mono", value: secret, readOnly: true });
  field.setAttribute("aria-label", label);
  const line = element("div", "line-of");
  line.append(field, button(`Copy ${label.toLowerCase()}`, "primary", onCopy));
  const made = element("div", "made");
  made.append(element("p", "", text), line);
  made.focusSecret = () => {
    field.focus();
    field.select();
  };
  return made;
}

export function submitButton(label) {
  const made = element("button", "button primary", label);
  made.type = "submit";
  return made;
}

/** What a person did not fill in right, before anything was sent. */
export class Complaint extends Error {
  get text() {
    return this.message;
  }
}

/** What people read about a `Problem` or a `Complaint`; anything else is a mistake of ours and goes on. */
export function textOf(problem) {
  if (problem.text === undefined) throw problem;
  return problem.text;
}

const sheets = new Set();

/** A modal dialog with a title. It leaves the document when it is closed, so nothing of it stays behind. */
export function openSheet(title, ...content) {
  const dialog = element("dialog", "sheet");
  const head = element("div", "sheet-head");
  const heading = element("h2", "", title);
  heading.id = "sheet-title";
  dialog.setAttribute("aria-labelledby", heading.id);
  head.append(heading, button("Close", "quiet", () => dialog.close()));
  const body = element("div", "sheet-body");
  body.append(...content);
  dialog.append(head, body);
  dialog.addEventListener("close", () => {
    sheets.delete(dialog);
    dialog.remove();
  });
  document.body.append(dialog);
  sheets.add(dialog);
  dialog.showModal();
  // A sheet that is a form begins at its first field; another one at its button to close.
  body.querySelector(":scope > form .field:not([hidden])")?.focus();
  return dialog;
}

export function closeSheets() {
  for (const dialog of sheets) dialog.close();
}
