// What this page says in a word or two, in the corner and to screen readers, and what it puts into the clipboard.

const SAID_FOR_MS = 2_000;

let timer = 0;

export function say(text, isError = false) {
  const said = document.getElementById("said");
  said.textContent = text;
  said.className = isError ? "said is-error" : "said";
  clearTimeout(timer);
  timer = setTimeout(() => {
    said.className = "aside";
    said.textContent = "";
  }, isError ? 3 * SAID_FOR_MS : SAID_FOR_MS);
}

export async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages that came over plain HTTP from another machine have no clipboard API.
    if (!copyByHand(text)) return say("The browser does not let this page copy", true);
  }
  say(done);
}

function copyByHand(text) {
  const field = document.createElement("textarea");
  field.value = text;
  // What is outside of an open dialog cannot be selected.
  const place = document.querySelector("dialog[open]") ?? document.body;
  place.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  return isCopied;
}
