"""Where the server is, from one URL."""

import pytest

from syncline import AddressInvalid
from syncline.address import parse_address


@pytest.mark.parametrize(
    ("url", "http", "socket"),
    [
        ("http://127.0.0.1:7171", "http://127.0.0.1:7171", "ws://127.0.0.1:7171/v1/ws"),
        ("ws://127.0.0.1:7171/", "http://127.0.0.1:7171", "ws://127.0.0.1:7171/v1/ws"),
        ("https://example.org/sync/", "https://example.org/sync", "wss://example.org/sync/v1/ws"),
        ("wss://example.org:8443/a/b", "https://example.org:8443/a/b", "wss://example.org:8443/a/b/v1/ws"),
        ("http://[::1]:7171", "http://[::1]:7171", "ws://[::1]:7171/v1/ws"),
    ],
)
def test_http_and_ws_mean_the_same_and_a_path_is_a_prefix(url: str, http: str, socket: str) -> None:
    address = parse_address(url)
    assert (address.url, address.socket_url) == (http, socket)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("[::1]", True),
        ("localhost", True),
        ("a.localhost", True),
        ("10.0.0.1", False),
        ("example.org", False),
        ("127.example.org", False),
    ],
)
def test_no_proxy_is_asked_for_this_machine(host: str, is_loopback: bool) -> None:
    assert parse_address(f"http://{host}:1").is_loopback == is_loopback


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:7171",
        "ftp://example.org",
        "http://",
        "http://:7171",
        "http://h:99999",
        "http://[::1",
        "http://h/#x",
    ],
)
def test_what_is_no_address_of_a_server_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(AddressInvalid, match="give one like") as raised:
        parse_address(url)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("url", ["http://user:secret@host", "http://host?token=secret"])
def test_a_secret_in_the_url_is_refused(url: str) -> None:
    with pytest.raises(AddressInvalid, match="do not belong there"):
        parse_address(url)


def test_every_part_of_a_path_is_percent_encoded_slashes_too() -> None:
    path = parse_address("http://h/p").path("stores", "notes", "records", "a/b ?ü#%")
    assert path == "http://h/p/v1/stores/notes/records/a%2Fb%20%3F%C3%BC%23%25"
