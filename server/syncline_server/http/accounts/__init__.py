"""Accounts over HTTP: who one is, logging in and out, users, groups, tokens, grants, invitations, the audit log.

`acting` says who may do what here and what is written down of it, `bodies` has the JSON objects, and each of the
others a part of the table of operations.
"""

from .audit import AUDIT
from .grants import GRANTS
from .groups import GROUPS
from .invitations import INVITATIONS
from .login import LOGIN
from .me import ME
from .oidc import OIDC
from .tokens import TOKENS
from .users import USERS

__all__ = ["ACCOUNTS"]

#: Every operation on accounts.
ACCOUNTS = (*ME, *LOGIN, *OIDC, *USERS, *GROUPS, *TOKENS, *GRANTS, *INVITATIONS, *AUDIT)
