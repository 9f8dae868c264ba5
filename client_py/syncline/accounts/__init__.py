"""Who may do what on a server: users, groups, tokens, grants, invitations; over HTTP.

`accounts` is what `client.accounts` is, `people`, `keys` and `sharing` have the lists below it, `values` what all of
them return. None of it needs the socket, so the command line uses it without one.
"""

from .accounts import Accounts
from .keys import Tokens
from .people import Groups, Users
from .sharing import Grants, Invitations
from .values import (
    Accepted,
    Grant,
    GrantLimits,
    Group,
    Invitation,
    Login,
    Me,
    NewInvitation,
    NewToken,
    ReadWhere,
    Role,
    Scope,
    Ticket,
    Token,
    User,
)

__all__ = [
    "Accepted",
    "Accounts",
    "Grant",
    "GrantLimits",
    "Grants",
    "Group",
    "Groups",
    "Invitation",
    "Invitations",
    "Login",
    "Me",
    "NewInvitation",
    "NewToken",
    "ReadWhere",
    "Role",
    "Scope",
    "Ticket",
    "Token",
    "Tokens",
    "User",
    "Users",
]
