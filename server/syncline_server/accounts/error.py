"""The one exception of this package: what somebody asked of the accounts and does not get.

AccountError    carries `code` (a key of ERROR_CODES), `message` and `hint`, as the refusals of the protocol do
"""

__all__ = ["AccountError"]


class AccountError(Exception):
    """A refusal. `code` is a key of ERROR_CODES; `hint` says what the reader can do about it."""

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.code})" + (f"; {self.hint}" if self.hint else "")
