"""Users and groups: for administrators."""

import msgspec

from syncline.errors import RequestRefused
from syncline.http import HttpApi

from .values import Group, User

__all__ = ["Groups", "Users"]


class _UserList(msgspec.Struct):
    users: tuple[User, ...]


class _GroupList(msgspec.Struct):
    groups: tuple[Group, ...]


class Users:
    """The accounts: `client.accounts.users`. A name that was deleted is never given again."""

    def __init__(self, http: HttpApi) -> None:
        self._http = http

    async def list(self) -> list[User]:
        """Return every account."""
        return list((await self._http.request("GET", "users", kind=_UserList)).users)

    async def get(self, user: str) -> User:
        """Return an account. Raises `RequestRefused` with the code `account_unknown` if there is none."""
        return await self._http.request("GET", "users", user, kind=User)

    async def add(
        self, user: str, password: str | None = None, *, admin: bool = False, service: bool = False, title: str = ""
    ) -> User:
        """Make an account.

        Args:
            user: lower-case letters, digits and `._@+-`, up to 64.
            password: without one nobody can log in with it; a program can, with a token.
            admin: everything is allowed to it.
            service: it is a program's.
            title: what people call it.

        Raises:
            RequestRefused: the name is taken (`name_taken`), or something breaks the rules (`account_invalid`).
        """
        if await self._has(user):
            raise RequestRefused(409, "name_taken", f"there is a user {user!r} already", hint="`set` changes it")
        body: dict[str, object] = {"admin": admin, "service": service, "title": title}
        if password is not None:
            body["password"] = password
        return await self._http.request("PUT", "users", user, kind=User, body=body)

    async def set(
        self,
        user: str,
        *,
        password: str | None = None,
        admin: bool | None = None,
        disabled: bool | None = None,
        title: str | None = None,
    ) -> User:
        """Change an account; what is None stays. One that is disabled cannot log in, and its sessions end.

        Raises:
            RequestRefused: there is no such account (`account_unknown`), or a field breaks the rules.
        """
        await self.get(user)
        given = {"password": password, "admin": admin, "disabled": disabled, "title": title}
        body = {name: value for name, value in given.items() if value is not None}
        return await self._http.request("PUT", "users", user, kind=User, body=body)

    async def remove(self, user: str) -> User:
        """Delete an account, with its tokens, its grants and its memberships. Its records stay. Returns what it was."""
        return await self._http.request("DELETE", "users", user, kind=User)

    async def _has(self, user: str) -> bool:
        try:
            await self.get(user)
        except RequestRefused as error:
            if error.code == "account_unknown":
                return False
            raise
        return True


class Groups:
    """The groups: `client.accounts.groups`. What is granted to a group is granted to its members."""

    def __init__(self, http: HttpApi) -> None:
        self._http = http

    async def list(self) -> list[Group]:
        """Return every group."""
        return list((await self._http.request("GET", "groups", kind=_GroupList)).groups)

    async def add(self, group: str, *members: str) -> Group:
        """Make a group. One that is there already gets exactly these members."""
        return await self._http.request("PUT", "groups", group, kind=Group, body={"members": members})

    async def remove(self, group: str) -> Group:
        """Delete a group. Returns what it was."""
        return await self._http.request("DELETE", "groups", group, kind=Group)

    async def join(self, group: str, user: str) -> Group:
        """Put a user into a group. Returns the group."""
        return await self._http.request("PUT", "groups", group, "members", user, kind=Group)

    async def leave(self, group: str, user: str) -> Group:
        """Take a user out of a group. Returns the group."""
        return await self._http.request("DELETE", "groups", group, "members", user, kind=Group)
