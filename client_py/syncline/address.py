"""Where the server is: one URL in, the URLs of the socket and of HTTP out.

http and ws mean the same, https and wss too. A path is the prefix below which the server is mounted. A token in the
URL is refused: URLs end up in logs.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from .errors import AddressInvalid

__all__ = ["DEFAULT_URL", "URL_VARIABLE", "Address", "parse_address"]

DEFAULT_URL = "http://127.0.0.1:7171"
URL_VARIABLE = "SYNCLINE_URL"

_SECURE = {"http": False, "ws": False, "https": True, "wss": True}


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a server.

    `url` is the http(s) form without a slash at the end, `socket_url` that of the WebSocket. `is_loopback`: it is on
    this machine, so that no proxy is asked.
    """

    url: str
    socket_url: str
    is_loopback: bool

    @property
    def is_secure(self) -> bool:
        """Whether TLS is used."""
        return self.url.startswith("https://")

    def path(self, *parts: str) -> str:
        """Return the URL of `/v1/…`; each part is percent-encoded, slashes too."""
        return "/".join((self.url, "v1", *(quote(part, safe="") for part in parts)))


def parse_address(url: str) -> Address:
    """Read the URL of a server.

    Raises:
        AddressInvalid: it has another scheme, no host, or parts that do not belong there.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise AddressInvalid(url, str(error)) from error
    secure = _SECURE.get(parts.scheme)
    if secure is None:
        raise AddressInvalid(url, "it does not begin with http://, https://, ws:// or wss://")
    if not host:
        raise AddressInvalid(url, "it names no host")
    if parts.username is not None or parts.query or parts.fragment:
        raise AddressInvalid(url.partition("?")[0], "credentials, a query or a fragment do not belong there")
    rest = parts.netloc + parts.path.rstrip("/")
    return Address(
        url=("https://" if secure else "http://") + rest,
        socket_url=("wss://" if secure else "ws://") + rest + "/v1/ws",
        is_loopback=_is_loopback(host),
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
