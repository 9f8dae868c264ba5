"""Which web pages may use this server while nobody has to log in.

A browser lets every page send requests to every address, so the address alone protects nothing: a page of another
origin could write (CSRF, and WebSockets know no same-origin rule), and one whose name is made to point to loopback
could read too (DNS rebinding). Programs that are no browsers send no `Origin` and are not concerned. Pure functions;
HTTP routes and the WebSocket ask the same one.
"""

from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address

__all__ = ["host_allowed", "origin_allowed", "parse_origins"]

_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


def parse_origins(text: str) -> frozenset[str]:
    """Read a comma-separated list of origins, each as `https://example.com` or with a port.

    Raises:
        ValueError: with the item that is no origin.
    """
    origins = [item.strip().rstrip("/").lower() for item in text.split(",") if item.strip()]
    for origin in origins:
        scheme, separator, authority = origin.partition("://")
        if scheme not in ("http", "https") or not separator or not authority or "/" in authority or "*" in authority:
            raise ValueError(f"{origin!r} is not an origin such as https://example.com")
    return frozenset(_canonical(origin) for origin in origins)


def origin_allowed(origin: str | None, host: str | None, allowed: Collection[str] = frozenset()) -> bool:
    """Return whether a request with this `Origin` may be carried out.

    Args:
        origin: the header of the request; None if it has none, as every client that is not a browser.
        host: the `Host` header of the same request.
        allowed: further origins, from `parse_origins`.
    """
    if origin is None:
        return True
    origin = _canonical(origin.lower())
    if origin in allowed:
        return True
    scheme, separator, authority = origin.partition("://")
    if not separator or not authority or scheme not in _DEFAULT_PORTS or host is None:
        return False
    return authority == _canonical(f"{scheme}://{host.lower()}").partition("://")[2]


def host_allowed(host: str | None, local_address: str | None, allowed: Collection[str] = frozenset()) -> bool:
    """Return whether a request that came in at `local_address` may name this `Host`.

    Who connects to loopback says a loopback name, unless a page's name was made to point there. An IP address
    cannot be made to point elsewhere.
    """
    if host is None or local_address is None or not _is_loopback(local_address):
        return True
    name = _without_port(host.lower())
    if name == "localhost" or name.endswith(".localhost") or _is_address(name):
        return True
    return any(_without_port(origin.partition("://")[2]) == name for origin in allowed)


def _canonical(origin: str) -> str:
    """Leave out a port that the scheme implies."""
    port = _DEFAULT_PORTS.get(origin.partition("://")[0])
    return origin if port is None else origin.removesuffix(f":{port}")


def _without_port(authority: str) -> str:
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


@lru_cache(maxsize=256)
def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=256)
def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
