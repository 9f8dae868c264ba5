"""The one exception of this package: what somebody asked of the accounts and does not get.

ProtocolError
└── AccountError    a rule of the accounts is in the way; told to the client as it is
"""

from syncline_protocol.errors import ProtocolError

__all__ = ["AccountError"]


class AccountError(ProtocolError):
    """A refusal. `code` is a key of ERROR_CODES; `hint` says what the reader can do about it."""
