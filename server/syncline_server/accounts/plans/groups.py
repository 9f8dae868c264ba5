"""Groups: made, filled, emptied, deleted. Members are users who exist."""

from collections.abc import Iterable

import msgspec

from syncline_server.accounts.account_name import check_account_name
from syncline_server.accounts.entry import Group
from syncline_server.accounts.error import AccountError
from syncline_server.accounts.plan import Edit, Plan, drop, fitting, put
from syncline_server.accounts.registry import Registry

__all__ = ["MEMBERS_MAX", "add_member", "delete_group", "put_group", "remove_member", "require_group", "without_member"]

#: The names of so many members fit into one value.
MEMBERS_MAX = 5000


def require_group(registry: Registry, name: str) -> Group:
    """Return a group. Raises AccountError: there is none of this name."""
    group = registry.groups.get(name)
    if group is None:
        raise AccountError("account_unknown", "there is no such group")
    return group


def put_group(registry: Registry, name: str, members: Iterable[str] | None, now_ms: int) -> Plan[tuple[Group, bool]]:
    """Make a group, or replace its members; without `members` they stay. The result says whether it is new."""
    old = registry.groups.get(name)
    group = old or Group(check_account_name(name, "group"), now_ms)
    if members is not None:
        group = _with_members(registry, group, members)
    return Plan((put(group),) if group != old else (), (group, old is None))


def add_member(registry: Registry, name: str, user: str) -> Plan[Group]:
    """Take a user into a group, unless he is in it."""
    old = require_group(registry, name)
    group = _with_members(registry, old, {*old.members, user})
    return Plan((put(group),) if group != old else (), group)


def remove_member(registry: Registry, name: str, user: str) -> Plan[Group]:
    """Take a user out of a group, if he is in it."""
    old = require_group(registry, name)
    edit = without_member(old, user)
    assert isinstance(edit.entry, Group)
    return Plan((edit,) if edit.entry != old else (), edit.entry)


def delete_group(registry: Registry, name: str) -> Plan[Group]:
    """Delete a group and what is granted to it.

    If that does not fit into a transaction, the first one takes all members out of it, and the last one deletes it.
    """
    group = require_group(registry, name)
    ends = [drop(grant) for grant in registry.grants_to(f"group:{name}")]
    whole = (drop(group), *ends)
    if len(fitting(registry, whole)) == len(whole):
        return Plan(whole, group)
    first = [put(msgspec.structs.replace(group, members=()))] if group.members else []
    return Plan(fitting(registry, [*first, *ends]), group, done=False)


def without_member(group: Group, user: str) -> Edit:
    """Return the edit that takes a user out of a group."""
    return put(msgspec.structs.replace(group, members=tuple(name for name in group.members if name != user)))


def _with_members(registry: Registry, group: Group, members: Iterable[str]) -> Group:
    names = tuple(sorted(set(members)))
    if any(name not in registry.users for name in names):
        raise AccountError("account_unknown", "there is no such user", hint="members of a group are users who exist")
    if len(names) > MEMBERS_MAX:
        raise AccountError("account_invalid", f"a group has at most {MEMBERS_MAX} members")
    return msgspec.structs.replace(group, members=names)
