// The page of groups: their names and who is in them.

import { addMember, listGroups, putGroup, removeGroup, removeMember } from "./accounts.js";
import { Complaint, adder, armedButton, button, element, form, input, labelled, submitButton } from "./parts.js";
import { Section } from "./section.js";

export class Groups extends Section {
  #name = input({ maxLength: 64 });

  constructor() {
    const { node, error } = form("stack", () => this.#create());
    super("", "There are no groups.", adder("Make a group", node));
    node.append(labelled("Name", this.#name, "small letters, digits and . _ @ + -"), error, submitButton("Make"));
  }

  read() {
    return this.fill(listGroups, (group) => this.#entry(group));
  }

  async #create() {
    const name = this.#name.value.trim();
    if (!name) throw new Complaint("A group has a name.");
    await putGroup(name);
    this.#name.value = "";
    await this.read();
  }

  #entry({ group, members = [] }) {
    const entry = element("li", "entry");
    const text = element("div", "entry-text");
    text.append(element("strong", "", group));
    const list = element("ul", "members");
    list.setAttribute("aria-label", `Members of ${group}`);
    for (const member of members) {
      const item = element("li", "badge", member);
      const remove = button("×", "quiet", () => this.act(() => removeMember(group, member)));
      remove.setAttribute("aria-label", `Take ${member} out of ${group}`);
      item.append(remove);
      list.append(item);
    }
    if (!members.length) list.append(element("li", "hint", "nobody"));
    const name = input({ maxLength: 64, placeholder: "user" });
    name.setAttribute("aria-label", `User to add to ${group}`);
    const { node, error } = form("line-of", async () => {
      if (!name.value.trim()) throw new Complaint("A member has a name.");
      await addMember(group, name.value.trim());
      await this.read();
    });
    const add = submitButton("Add");
    add.classList.remove("primary");
    node.append(name, add);
    text.append(list, node, error);
    const actions = element("p", "entry-actions");
    const remove = () => this.act(() => removeGroup(group));
    actions.append(armedButton("Remove group", "Really remove?", "quiet", remove));
    entry.append(text, actions);
    return entry;
  }
}
