"""The accounts of a server: `client.accounts`, and the lists below it."""

from collections.abc import Iterable

from syncline import accounts
from syncline.accounts.expiry import Expiry
from syncline.accounts.values import (
    Accepted,
    Grant,
    GrantLimits,
    Group,
    Invitation,
    Login,
    Me,
    NewInvitation,
    NewToken,
    Role,
    Scope,
    Ticket,
    Token,
    User,
)

from .loop_thread import LoopThread

__all__ = ["Accounts", "Grants", "Groups", "Invitations", "Tokens", "Users"]

_NO_LIMITS = GrantLimits()


class Accounts:
    """The accounts of a server, and our own among them. Like all requests over HTTP these need a server.

    Attributes:
        users, groups: the accounts; for administrators.
        tokens: what programs log in with.
        grants: what is granted to whom.
        invitations: what somebody may accept who has the code.
    """

    def __init__(self, thread: LoopThread, inner: accounts.Accounts) -> None:
        self.users = Users(thread, inner.users)
        self.groups = Groups(thread, inner.groups)
        self.tokens = Tokens(thread, inner.tokens)
        self.grants = Grants(thread, inner.grants)
        self.invitations = Invitations(thread, inner.invitations)
        self._thread = thread
        self._inner = inner

    def me(self) -> Me:
        """Return who the server takes us for. It answers also if nobody is logged in."""
        return self._thread.run(self._inner.me())

    def login(self, user: str, password: str) -> Login:
        """Log in, and be this user from now on, on the socket too.

        Raises:
            LoginFailed: there is no such user with this password.
            RateLimited: it was tried too often.
        """
        return self._thread.run(self._inner.login(user, password))

    def logout(self) -> None:
        """End the session, and be nobody from now on."""
        self._thread.run(self._inner.logout())

    def change_password(self, password: str, new_password: str) -> Login:
        """Give our account another password. All its other sessions end; this one goes on, maybe with another token.

        Raises:
            LoginFailed: `password` is not the one that it has.
        """
        return self._thread.run(self._inner.change_password(password, new_password))

    def setup(self, code: str, user: str, password: str) -> Login:
        """Make the first administrator of a new server, with the code that it printed, and be that user.

        Raises:
            Forbidden: the code is not the right one, or there is an administrator already.
        """
        return self._thread.run(self._inner.setup(code, user, password))

    def ticket(self) -> Ticket:
        """Return what lets in once, in the next half minute, where no header can be sent."""
        return self._thread.run(self._inner.ticket())


class Users:
    """The accounts: `client.accounts.users`."""

    def __init__(self, thread: LoopThread, inner: accounts.Users) -> None:
        self._thread = thread
        self._inner = inner

    def list(self) -> list[User]:
        """Return every account."""
        return self._thread.run(self._inner.list())

    def get(self, user: str) -> User:
        """Return an account. Raises `RequestRefused` with the code `account_unknown` if there is none."""
        return self._thread.run(self._inner.get(user))

    def add(
        self, user: str, password: str | None = None, *, admin: bool = False, service: bool = False, title: str = ""
    ) -> User:
        """Make an account. Arguments and errors are those of `syncline.Users.add`."""
        return self._thread.run(self._inner.add(user, password, admin=admin, service=service, title=title))

    def set(
        self,
        user: str,
        *,
        password: str | None = None,
        admin: bool | None = None,
        disabled: bool | None = None,
        title: str | None = None,
    ) -> User:
        """Change an account; what is None stays. One that is disabled cannot log in, and its sessions end."""
        return self._thread.run(self._inner.set(user, password=password, admin=admin, disabled=disabled, title=title))

    def remove(self, user: str) -> User:
        """Delete an account, with its tokens, its grants and its memberships. Its records stay. Returns what it was."""
        return self._thread.run(self._inner.remove(user))


class Groups:
    """The groups: `client.accounts.groups`. What is granted to a group is granted to its members."""

    def __init__(self, thread: LoopThread, inner: accounts.Groups) -> None:
        self._thread = thread
        self._inner = inner

    def list(self) -> list[Group]:
        """Return every group."""
        return self._thread.run(self._inner.list())

    def add(self, group: str, *members: str) -> Group:
        """Make a group. One that is there already gets exactly these members."""
        return self._thread.run(self._inner.add(group, *members))

    def remove(self, group: str) -> Group:
        """Delete a group. Returns what it was."""
        return self._thread.run(self._inner.remove(group))

    def join(self, group: str, user: str) -> Group:
        """Put a user into a group. Returns the group."""
        return self._thread.run(self._inner.join(group, user))

    def leave(self, group: str, user: str) -> Group:
        """Take a user out of a group. Returns the group."""
        return self._thread.run(self._inner.leave(group, user))


class Tokens:
    """The tokens: `client.accounts.tokens`. Everybody has his own; an administrator has everybody's."""

    def __init__(self, thread: LoopThread, inner: accounts.Tokens) -> None:
        self._thread = thread
        self._inner = inner

    def list(self, user: str | None = None) -> "list[Token]":
        """Return the personal tokens and the sessions of a user; our own without a name."""
        return self._thread.run(self._inner.list(user))

    def create(
        self,
        title: str,
        *,
        user: str | None = None,
        scopes: Iterable[Scope] | None = None,
        stores: Iterable[str] | None = None,
        expires: Expiry = None,
    ) -> NewToken:
        """Make a token. Its text is in the result, and is not shown again.

        Arguments are those of `syncline.Tokens.create`.
        """
        return self._thread.run(self._inner.create(title, user=user, scopes=scopes, stores=stores, expires=expires))

    def revoke(self, token_id: str) -> Token:
        """End a token or a session, by its id. Whoever is connected with it is disconnected. Returns what it was."""
        return self._thread.run(self._inner.revoke(token_id))


class Grants:
    """What is granted: `client.accounts.grants`."""

    def __init__(self, thread: LoopThread, inner: accounts.Grants) -> None:
        self._thread = thread
        self._inner = inner

    def list(self, store: str | None = None, *, to: str | None = None) -> list[Grant]:
        """Return the grants for a store, or to somebody, or all that we may see."""
        return self._thread.run(self._inner.list(store, to=to))

    def add(
        self,
        to: str,
        store: str,
        role: Role,
        *,
        limits: GrantLimits = _NO_LIMITS,
        authors: bool = True,
        expires: Expiry = None,
    ) -> Grant:
        """Grant something. It takes the place of what was granted to the same for the same store.

        Arguments are those of `syncline.Grants.add`.
        """
        return self._thread.run(self._inner.add(to, store, role, limits=limits, authors=authors, expires=expires))

    def remove(self, grant_id: str) -> Grant:
        """Take a grant back, by its id. Returns what it was."""
        return self._thread.run(self._inner.remove(grant_id))


class Invitations:
    """Invitations: `client.accounts.invitations`. Whoever has the code of one gets what it grants."""

    def __init__(self, thread: LoopThread, inner: accounts.Invitations) -> None:
        self._thread = thread
        self._inner = inner

    def list(self, store: str | None = None) -> "list[Invitation]":
        """Return the invitations that can still be accepted, to a store, or all that we may see."""
        return self._thread.run(self._inner.list(store))

    def create(
        self,
        store: str,
        role: Role,
        *,
        limits: GrantLimits = _NO_LIMITS,
        authors: bool = True,
        expires: Expiry = None,
        uses_max: int | None = None,
    ) -> NewInvitation:
        """Make an invitation. Its code is in the result, and is not shown again.

        Arguments are those of `syncline.Invitations.create`.
        """
        return self._thread.run(
            self._inner.create(store, role, limits=limits, authors=authors, expires=expires, uses_max=uses_max)
        )

    def remove(self, invitation_id: str) -> Invitation:
        """Withdraw an invitation, by its id. What was granted by it stays. Returns what it was."""
        return self._thread.run(self._inner.remove(invitation_id))

    def accept(self, code: str, *, user: str | None = None, password: str | None = None) -> Accepted:
        """Accept an invitation; with a name and a password make an account, and be that user from now on.

        Raises:
            RequestRefused: it is used up, withdrawn or out of date (`invitation_invalid`), or the name is taken.
        """
        return self._thread.run(self._inner.accept(code, user=user, password=password))
