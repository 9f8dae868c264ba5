"""Logging in and out, and who we are: `client.accounts`."""

from collections.abc import Callable

from syncline.clock import Clock
from syncline.http import HttpApi

from .keys import Tokens
from .people import Groups, Users
from .sharing import Grants, Invitations
from .values import Login, Me, Ticket

__all__ = ["Accounts"]


class Accounts:
    """The accounts of a server, and our own among them. All of it goes over HTTP.

    Like all requests over HTTP these raise `ConnectionFailed` without a server, `RequestRefused` if the server refuses,
    and of these `Forbidden` if it is not allowed, and `RateLimited` if it was tried too often.

    Attributes:
        users, groups: the accounts; for administrators.
        tokens: what programs log in with.
        grants: what is granted to whom.
        invitations: what somebody may accept who has the code.

    Args:
        take_token: told which token to show from now on; None for none.
    """

    def __init__(self, http: HttpApi, clock: Clock, take_token: Callable[[str | None], None]) -> None:
        self.users = Users(http)
        self.groups = Groups(http)
        self.tokens = Tokens(http, clock)
        self.grants = Grants(http, clock)
        self.invitations = Invitations(http, clock, take_token)
        self._http = http
        self._take_token = take_token

    async def me(self) -> Me:
        """Return who the server takes us for. It answers also if nobody is logged in."""
        return await self._http.request("GET", "me", kind=Me)

    async def login(self, user: str, password: str) -> Login:
        """Log in, and be this user from now on, on the socket too.

        Raises:
            LoginFailed: there is no such user with this password.
            RateLimited: it was tried too often.
        """
        return await self._begin("login", {"user": user, "password": password})

    async def logout(self) -> None:
        """End the session, and be nobody from now on."""
        await self._http.request("POST", "logout", kind=dict, body={})
        self._take_token(None)

    async def change_password(self, password: str, new_password: str) -> Login:
        """Give our account another password. All its other sessions end; this one goes on, maybe with another token.

        Raises:
            LoginFailed: `password` is not the one that it has.
        """
        body = {"password": password, "new_password": new_password}
        login = await self._http.request("POST", "password", kind=Login, body=body)
        return self._taken(login)

    async def setup(self, code: str, user: str, password: str) -> Login:
        """Make the first administrator of a new server, with the code that it printed, and be that user.

        Raises:
            Forbidden: the code is not the right one, or there is an administrator already.
        """
        return await self._begin("setup", {"code": code, "user": user, "password": password})

    async def ticket(self) -> Ticket:
        """Return what lets in once, in the next half minute, where no header can be sent."""
        return await self._http.request("POST", "tickets", kind=Ticket, body={})

    async def _begin(self, route: str, body: dict[str, str]) -> Login:
        return self._taken(await self._http.request("POST", route, kind=Login, body=body, as_nobody=True))

    def _taken(self, login: Login) -> Login:
        if login.token is not None:
            self._take_token(login.token)
        return login
