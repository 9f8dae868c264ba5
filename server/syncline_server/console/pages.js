// The pages about accounts, which take the place of the store: users, groups, tokens and the audit log.
//
// `#/users` and its like in the address choose one. Tokens are for everybody who is logged in, the others for
// administrators; the server says so too, this only spares the reader doors that do not open.

import { Audit } from "./audit.js";
import { Groups } from "./groups.js";
import { element } from "./parts.js";
import { Tokens } from "./tokens.js";
import { Users } from "./users.js";

const PAGES = [
  { name: "users", title: "Users", make: () => new Users(), isForAdmin: true },
  { name: "groups", title: "Groups", make: () => new Groups(), isForAdmin: true },
  { name: "tokens", title: "Tokens", make: (session) => new Tokens(session), isForAdmin: false },
  { name: "audit", title: "Audit log", make: () => new Audit(), isForAdmin: true },
];

/** Show the page of this name in `place`. */
export function showPageOf(name, place, session) {
  const pages = PAGES.filter((page) => session.isAdmin || (session.user && !page.isForAdmin));
  const page = pages.find((each) => each.name === name);
  const head = element("div", "pages-head");
  const title = element("h1", "", page ? page.title : "There is no such page");
  title.id = "pages-title";
  head.append(title);
  document.title = `${title.textContent} · Syncline`;
  if (pages.length > 1) head.append(tabs(pages, name));
  place.replaceChildren(head);
  if (!page) return;
  const made = page.make(session);
  place.append(made.node);
  made.read();
}

function tabs(pages, name) {
  const made = element("nav", "tabs");
  made.setAttribute("aria-label", "Administration");
  for (const page of pages) {
    const link = element("a", "", page.title);
    link.href = `#/${page.name}`;
    if (page.name === name) link.setAttribute("aria-current", "page");
    made.append(link);
  }
  return made;
}
