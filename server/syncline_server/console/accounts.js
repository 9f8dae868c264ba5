// The routes of accounts and access, as this page uses them: who is logged in, users, groups, tokens, grants,
// invitations and the audit log.

import { request } from "./http.js";

/** Who this page acts for. It is answered to everybody. */
export const readMe = () => request("GET", "v1/me");
export const logIn = (user, password) => send("POST", "v1/login", { user, password, cookie: true });
export const logOut = () => send("POST", "v1/logout", {});
export const setUp = (code, user, password) => send("POST", "v1/setup", { code, user, password, cookie: true });
export const changePassword = (password, newPassword) =>
  send("POST", "v1/password", { password, new_password: newPassword });

export const listUsers = async () => (await request("GET", "v1/users")).users;
export const putUser = (user, changes) => send("PUT", path("users", user), changes);
export const removeUser = (user) => request("DELETE", path("users", user));

export const listGroups = async () => (await request("GET", "v1/groups")).groups;
export const putGroup = (group) => send("PUT", path("groups", group), {});
export const removeGroup = (group) => request("DELETE", path("groups", group));
export const addMember = (group, user) => request("PUT", path("groups", group, "members", user));
export const removeMember = (group, user) => request("DELETE", path("groups", group, "members", user));

export const listTokens = async (user) => (await request("GET", `v1/tokens${query({ user })}`)).tokens;
export const createToken = (wanted) => send("POST", "v1/tokens", wanted);
export const revokeToken = (id) => request("DELETE", path("tokens", id));

/** All grants that open this store, also those for every store whose name begins so. `isOurs`: we can take it back. */
export async function listGrants(store) {
  const [found, ours] = await Promise.all([`v1/grants${query({ store })}`, "v1/grants"].map((at) => request("GET", at)));
  const ids = new Set(ours.grants.map(({ id }) => id));
  return found.grants.map((grant) => ({ ...grant, isOurs: ids.has(grant.id) }));
}

export const putGrant = (grant) => send("POST", "v1/grants", grant);
export const removeGrant = (id) => request("DELETE", path("grants", id));

export const listInvitations = async (store) =>
  (await request("GET", `v1/invitations${query({ store })}`)).invitations;
export const createInvitation = (wanted) => send("POST", "v1/invitations", wanted);
export const removeInvitation = (id) => request("DELETE", path("invitations", id));
export const acceptInvitation = (code, account) => send("POST", "v1/invitations/accept", { code, ...account });

/** A page of the audit log: at most `limit` entries after entry `after`, and where the log ends. */
export const readAudit = (after, limit) => request("GET", `v1/audit${query({ after, limit })}`);

const send = (method, route, body) => request(method, route, JSON.stringify(body));
const path = (...parts) => ["v1", ...parts.map(encodeURIComponent)].join("/");

function query(wanted) {
  const given = Object.entries(wanted).filter(([, value]) => value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}
