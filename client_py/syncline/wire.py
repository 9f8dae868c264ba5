"""The socket: opens a WebSocket to the server, and says in plain words why that failed.

Thin on purpose. `Wire.send_frames` is all that is added to the connection of `websockets`: many frames in one write to
the socket, since at high rates the system calls are most of the cost. Pings of the WebSocket are off; the
heartbeats of the protocol do their work, and they work in browsers too.
"""

import errno
import socket
import ssl
from collections.abc import Iterable

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    NegotiationError,
    WebSocketException,
)
from websockets.typing import Subprotocol

from syncline_protocol import DEFAULT_LIMITS, SUBPROTOCOL, CloseCode

from .address import Address
from .credentials import UNAUTHORIZED
from .errors import AuthRequired, ConnectionFailed, ConnectionForbidden

__all__ = ["Wire", "close_code_of", "open_wire"]

_CLOSE_TIMEOUT_S = 2.0

_PROXY_HINT = "check the proxy variables of the environment"

#: Statuses of 400 to 499 that ask to come back.
_STATUSES_LATER = frozenset({408, 425, 429})


class Wire(ClientConnection):
    """A WebSocket connection that writes many frames at once."""

    async def send_frames(self, frames: Iterable[bytes]) -> None:
        """Send text frames, in order; wait while the socket is full.

        Raises:
            ConnectionClosed: the connection is over.
        """
        async with self.send_context():
            for frame in frames:
                self.protocol.send_text(frame)
            self.transport.write(b"".join(self.protocol.data_to_send()))

    def accept_frames(self, bytes_max: int) -> None:
        """Take frames of this size from now on, if it is more than before."""
        before = self.protocol.max_message_size
        if before is not None and bytes_max > before:
            self.protocol.max_message_size = bytes_max


async def open_wire(address: Address, *, token: str | None, user_agent: str, timeout_s: float) -> Wire:
    """Open a connection.

    Raises:
        ConnectionFailed: it may work later.
        ConnectionForbidden: something answered, and not as a server that one may use.
        AuthRequired: it does not let this token in, or nobody without one.
    """
    try:
        wire = await open_websocket(
            address.socket_url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            user_agent_header=user_agent,
            proxy=None if address.is_loopback else True,
            open_timeout=timeout_s,
            ping_interval=None,
            close_timeout=_CLOSE_TIMEOUT_S,
            max_size=DEFAULT_LIMITS.batch_bytes_max,
            create_connection=Wire,
        )
    except InvalidStatus as error:
        raise _explain_status(address.url, error.response.status_code, has_token=bool(token)) from error
    except (OSError, TimeoutError, WebSocketException) as error:
        raise _explain(address.url, error, timeout_s) from error
    except ImportError as error:
        # A SOCKS proxy of the environment takes a package that is not one of ours.
        raise ConnectionForbidden(address.url, str(error), hint=_PROXY_HINT) from error
    assert isinstance(wire, Wire)
    if wire.subprotocol is None:
        wire.transport.abort()
        raise _speaks_otherwise(address.url)
    return wire


def close_code_of(error: ConnectionClosed) -> tuple[int, str]:
    """Return the code and reason with which a connection ended: the peer's, or ours if it had none."""
    for frame in (error.rcvd, error.sent):
        if frame is not None:
            return int(frame.code), frame.reason
    return 1006, "the connection was lost"


def _explain(url: str, error: Exception, timeout_s: float) -> ConnectionFailed:
    if isinstance(error, TimeoutError):
        return ConnectionFailed(url, f"no answer within {timeout_s:g} s", hint="check host, port and firewall")
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "install the certificate's authority, or set SSL_CERT_FILE"
        return ConnectionForbidden(url, f"its certificate is not trusted: {error.verify_message}", hint=hint)
    if isinstance(error, ssl.SSLError):
        return ConnectionForbidden(url, f"no TLS: {error.reason}", hint="if the server has no TLS, use http://")
    if isinstance(error, socket.gaierror):
        return ConnectionFailed(url, "the host name is not known", hint="check the URL")
    if isinstance(error, OSError):
        return _explain_os_error(url, error)
    if isinstance(error, InvalidProxy):
        return ConnectionForbidden(url, str(error), hint=_PROXY_HINT)
    if isinstance(error, NegotiationError):
        return _speaks_otherwise(url)
    if isinstance(error, InvalidHandshake):
        hint = "is another program listening there?"
        return ConnectionFailed(url, f"the answer is not a WebSocket's: {error}", hint=hint)
    return ConnectionFailed(url, str(error))


def _speaks_otherwise(url: str) -> ConnectionForbidden:
    """PROTOCOL 2.1.1: a server of this version chooses our subprotocol. Another one is left as after its code 4500."""
    reason = f"it does not speak {SUBPROTOCOL}"
    return ConnectionForbidden(url, reason, close_code=CloseCode.VERSION_UNSUPPORTED, hint="update the older side")


def _explain_status(url: str, status: int, *, has_token: bool) -> ConnectionFailed:
    reason = f"it answers HTTP {status}"
    if status == UNAUTHORIZED:
        reason += ", it does not accept the token" if has_token else ", it wants a token"
        return AuthRequired(reason, url=url, hint="check the token")
    if status >= 500 or status in _STATUSES_LATER:
        return ConnectionFailed(url, reason)
    hint = "check the URL; is the server mounted below a prefix?" if status == 404 else "check the credentials"
    return ConnectionForbidden(url, reason, hint=hint if status in (403, 404) else "check the URL")


def _explain_os_error(url: str, error: OSError) -> ConnectionFailed:
    # Several addresses of one host that all fail come as one OSError that has their texts, but no errno.
    if error.errno == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return ConnectionFailed(url, "nothing listens there", hint="start the server with `syncline serve`")
    return ConnectionFailed(url, error.strerror or str(error))
