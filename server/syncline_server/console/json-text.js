// JSON as text. A value is shown as it was written, because a round trip through JSON.parse would turn
// 9007199254740993 into ...992 and 2.50 into 2.5. So this module never makes a value: it finds where the text of one
// begins and ends, and walks its tokens to lay it out. What it reads came from the server and is valid JSON;
// text that is not raises SyntaxError.

const [QUOTE, COMMA, COLON, BACKSLASH] = ['"', ",", ":", "\\"].map(codeOf);
const [OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE] = ["[", "]", "{", "}"].map(codeOf);

/** Read a server's frame: a plain object, in which the `value` of each change is a string of JSON text. */
export function readFrame(text) {
  const message = Object.create(null);
  eachMember(text, skipSpace(text, 0), (name, from, to) => {
    message[name] = name === "changes" ? readChanges(text, from) : JSON.parse(text.slice(from, to));
  });
  return message;
}

function readChanges(text, at) {
  const changes = [];
  eachItem(text, at, (from) => {
    const change = Object.create(null);
    const end = eachMember(text, from, (name, start, stop) => {
      const raw = text.slice(start, stop);
      change[name] = name === "value" ? raw : JSON.parse(raw);
    });
    changes.push(change);
    return end;
  });
  return changes;
}

/** Call `found(name, from, to)` for each member of the object at `at`; return where the object ends. */
function eachMember(text, at, found) {
  expect(text, at, OPEN_BRACE);
  at = skipSpace(text, at + 1);
  if (text.charCodeAt(at) === CLOSE_BRACE) return at + 1;
  for (;;) {
    expect(text, at, QUOTE);
    const nameEnd = endOfString(text, at);
    const colon = skipSpace(text, nameEnd);
    expect(text, colon, COLON);
    const from = skipSpace(text, colon + 1);
    const to = endOfValue(text, from);
    found(JSON.parse(text.slice(at, nameEnd)), from, to);
    at = skipSpace(text, to);
    if (text.charCodeAt(at) === CLOSE_BRACE) return at + 1;
    expect(text, at, COMMA);
    at = skipSpace(text, at + 1);
  }
}

/** Call `found(from)`, which returns where the item ends, for each item of the array at `at`. */
function eachItem(text, at, found) {
  expect(text, at, OPEN_BRACKET);
  at = skipSpace(text, at + 1);
  if (text.charCodeAt(at) === CLOSE_BRACKET) return;
  for (;;) {
    at = skipSpace(text, found(at));
    if (text.charCodeAt(at) === CLOSE_BRACKET) return;
    expect(text, at, COMMA);
    at = skipSpace(text, at + 1);
  }
}

/** Return where the value that begins at `at` ends. */
function endOfValue(text, at) {
  const first = text.charCodeAt(at);
  if (first === QUOTE) return endOfString(text, at);
  if (first !== OPEN_BRACE && first !== OPEN_BRACKET) return endOfWord(text, at);
  for (let depth = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) at = endOfString(text, at) - 1;
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) depth += 1;
    else if ((code === CLOSE_BRACE || code === CLOSE_BRACKET) && (depth -= 1) === 0) return at + 1;
  }
  throw new SyntaxError("the text ends inside a value");
}

function endOfString(text, at) {
  for (let end = text.indexOf('"', at + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes += 1;
    if (backslashes % 2 === 0) return end + 1;
  }
  throw new SyntaxError("the text ends inside a string");
}

/** Numbers, true, false, null: everything up to the next mark of punctuation or space. */
function endOfWord(text, at) {
  let end = at;
  while (end < text.length && !isBoundary(text.charCodeAt(end))) end += 1;
  if (end === at) throw new SyntaxError(`no value at ${at}`);
  return end;
}

function isBoundary(code) {
  return code <= 32 || code === COMMA || code === COLON || code === CLOSE_BRACE || code === CLOSE_BRACKET;
}

function skipSpace(text, at) {
  while (text.charCodeAt(at) <= 32) at += 1;
  return at;
}

function codeOf(mark) {
  return mark.charCodeAt(0);
}

function expect(text, at, code) {
  if (text.charCodeAt(at) !== code) throw new SyntaxError(`${String.fromCharCode(code)} expected at ${at}`);
}

/**
 * Lay a value out over lines, every number and string as it was written. Yields `[kind, text]` with the kinds
 * `name`, `string`, `number`, `word` and `mark` (punctuation, line breaks, indentation).
 */
export function* layOut(text) {
  const margin = (depth) => "\n" + "  ".repeat(depth);
  for (let at = skipSpace(text, 0), depth = 0; at < text.length; at = skipSpace(text, at)) {
    const mark = text[at];
    if (mark === '"') {
      const end = endOfString(text, at);
      const isName = text.charCodeAt(skipSpace(text, end)) === COLON;
      yield [isName ? "name" : "string", text.slice(at, end)];
      at = end;
    } else if (mark === "{" || mark === "[") {
      const next = skipSpace(text, at + 1);
      if (text[next] === "}" || text[next] === "]") {
        yield ["mark", mark + text[next]];
        at = next + 1;
      } else {
        depth += 1;
        yield ["mark", mark + margin(depth)];
        at += 1;
      }
    } else if (mark === "}" || mark === "]") {
      depth -= 1;
      yield ["mark", margin(depth) + mark];
      at += 1;
    } else if (mark === ",") {
      yield ["mark", "," + margin(depth)];
      at += 1;
    } else if (mark === ":") {
      yield ["mark", ": "];
      at += 1;
    } else {
      const end = endOfWord(text, at);
      yield [/[-0-9]/.test(mark) ? "number" : "word", text.slice(at, end)];
      at = end;
    }
  }
}
