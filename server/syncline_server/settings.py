"""Every setting of the server, once: default, unit, help.

The command line, the environment, the TOML file and the reference are made from `Settings`. The order, the later
winning: default, file, environment, flag. An unknown name in the file or among the `SYNCLINE_*` variables stops the
start, because it is a mistyped wish.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from .origin import parse_origins

__all__ = [
    "CLIENT_VARIABLES",
    "ENV_PREFIX",
    "Settings",
    "SettingsError",
    "env_name",
    "flag_name",
    "is_loopback",
    "load_settings",
]

ENV_PREFIX = "SYNCLINE_"

#: Variables of this prefix that belong to the client and the command line, not to the server.
CLIENT_VARIABLES = frozenset({"SYNCLINE_TOKEN", "SYNCLINE_URL"})


class SettingsError(Exception):
    """A setting is unknown or has a value that it cannot have; the text names it, its place and what it may be."""


def _setting(default: Any, help_text: str, *, may_be_zero: bool = False) -> Any:
    return field(default=default, metadata={"help": help_text, "may_be_zero": may_be_zero})


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server is made from. Names that end in `_s`, `_ms` or `_bytes` give the unit."""

    store: str = _setting(
        "sqlite:///data/syncline.db",
        "Where stores are kept: sqlite:///PATH (relative; four slashes: absolute) or memory:",
    )
    auth: str = _setting(
        "accounts", "accounts: everybody has to log in; none: nobody has to, on an address of this machine only"
    )
    rescue: bool = _setting(
        False, "Print a link with which another administrator is made, once, for who has lost the password of the last"
    )
    host: str = _setting("127.0.0.1", "Address to listen on; another than loopback needs --proxies or --insecure")
    port: int = _setting(7171, "Port to listen on; 0 takes a free one")
    insecure: bool = _setting(
        False, "Allow an address that others can reach although no proxy is named: passwords travel without TLS then"
    )
    proxies: str = _setting(
        "", "Addresses of proxies with TLS in front of the server, whose X-Forwarded headers count, comma-separated"
    )
    log_level: str = _setting("info", "Lowest level that is logged: debug, info, warning or error")
    log_format: str = _setting("auto", "json, text, or auto: text on a terminal, JSON elsewhere")
    demo: bool = _setting(False, "Keep a store `demo` that fills live with recorded earthquakes")
    backup_dir: str = _setting(
        "", "Directory for backups that the server makes; by default `backups` beside the store file"
    )
    backup_every_s: float = _setting(
        0.0, "How often a backup is made by itself, in seconds; 0: only when it is asked for", may_be_zero=True
    )
    backup_keep: int = _setting(7, "So many of the backups that were made by themselves are kept")
    compact_every_s: float = _setting(
        3600.0, "How often each store is looked at, whether to clean it up, in seconds; 0: never", may_be_zero=True
    )
    history_s: float = _setting(
        7 * 24 * 3600.0, "Clean-up keeps the value of a deleted record for so many seconds", may_be_zero=True
    )
    tombstones_s: float = _setting(
        90 * 24 * 3600.0, "Clean-up keeps a DELETE for so long; who was away longer reconciles", may_be_zero=True
    )
    compact_ratio: float = _setting(
        0.25, "Clean-up acts once this part of all values is of deleted records, 0 to 1 ...", may_be_zero=True
    )
    compact_bytes: int = _setting(64 * 1024 * 1024, "... or once these have so many bytes", may_be_zero=True)
    tail_bytes: int = _setting(16 * 1024 * 1024, "Recent changes kept in memory, of all stores together, in bytes")
    stall_timeout_s: float = _setting(30.0, "A client that reads nothing for so long while data waits is closed")
    drain_timeout_s: float = _setting(8.0, "On SIGTERM, time until the last connection is dropped")
    drain_after_ms: int = _setting(500, "On SIGTERM, clients are asked to come back after this, at the earliest")
    drain_jitter_ms: int = _setting(4000, "On SIGTERM, clients spread their return over this time")
    origins: str = _setting(
        "", "Further origins whose pages may use this server, as https://example.com, comma-separated"
    )
    connections_max: int = _setting(
        15000, "Sockets and streams at once; a further one is closed with 4001 or refused with 503"
    )
    connections_per_address_max: int = _setting(1000, "The same for one address, where one has to log in")
    connections_per_user_max: int = _setting(200, "The same for one user")
    pending_max: int = _setting(1500, "Sockets that have not said yet who they are")
    pending_per_address_max: int = _setting(100, "The same for one address")
    messages_per_s: float = _setting(5000.0, "Messages of one connection a second, on average, where one has to log in")
    message_bytes_per_s: float = _setting(4 * 1024 * 1024.0, "Their bytes")
    requests_per_s: float = _setting(200.0, "HTTP requests of one user, or of one address without a login, a second")
    open_metrics: bool = _setting(False, "Let anybody read /metrics, not administrators only")
    store_creators: str = _setting("users", "Who may create stores: users or admins")
    session_days: float = _setting(30.0, "How long a login lasts")
    jwt_issuer: str = _setting("", "Issuer whose JWTs are taken: what their `iss` must be")
    jwt_audience: str = _setting("", "What the `aud` of a JWT must be or contain")
    jwt_algorithms: str = _setting("RS256,ES256", "What JWTs may be signed with, comma-separated")
    jwt_keys: str = _setting("", "The issuer's key set (JWKS): a URL, or the path of a file")
    jwt_user_claim: str = _setting("sub", "The claim of a JWT that names the user")
    jwt_groups_claim: str = _setting("groups", "The claim of a JWT with the user's groups")
    oidc_issuer: str = _setting("", "OpenID provider at which users can log in: its URL")
    oidc_client_id: str = _setting("", "What this server is called at the provider")
    oidc_client_secret_file: str = _setting("", "File with the secret that the provider gave; none for a public client")
    oidc_scopes: str = _setting("openid profile email", "What the provider is asked for")

    def __post_init__(self) -> None:
        _check(self)


_CHOICES = {
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("auto", "json", "text"),
    "auth": ("accounts", "none"),
    "store_creators": ("users", "admins"),
}


def _check(settings: Settings) -> None:
    for name, choices in _CHOICES.items():
        if getattr(settings, name) not in choices:
            raise SettingsError(f"{name} is {getattr(settings, name)!r}; it may be {', '.join(choices)}")
    if not 0 <= settings.port <= 65535:
        raise SettingsError(f"port is {settings.port}; it may be 0 to 65535")
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if setting.name == "port" or isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if setting.metadata["may_be_zero"] and value < 0:
            raise SettingsError(f"{setting.name} is {value}; it has to be 0 or above")
        if not setting.metadata["may_be_zero"] and value <= 0:
            raise SettingsError(f"{setting.name} is {value}; it has to be above 0")
    if settings.compact_ratio > 1:
        raise SettingsError(f"compact_ratio is {settings.compact_ratio}; it may be 0 to 1")
    try:
        parse_origins(settings.origins)
    except ValueError as error:
        raise SettingsError(f"origins: {error}") from error
    _check_proxies(settings.proxies)
    _check_reach(settings)
    _check_issuers(settings)


def _check_proxies(proxies: str) -> None:
    """Refuse what uvicorn would take for the name of a proxy and never meet, as it compares addresses."""
    if proxies.strip() == "*":
        return
    for proxy in filter(None, map(str.strip, proxies.split(","))):
        try:
            ip_network(proxy) if "/" in proxy else ip_address(proxy)
        except ValueError as error:
            raise SettingsError(
                f"proxies: {proxy!r} is no IP address, and no network as 10.0.0.0/8; names of hosts do not count"
            ) from error


def _check_reach(settings: Settings) -> None:
    if is_loopback(settings.host):
        return
    if settings.auth == "none":
        raise SettingsError(
            f"host is {settings.host!r}, which others can reach, and with auth none nobody has to log in; "
            "listen on 127.0.0.1, or use --auth accounts"
        )
    if not settings.proxies and not settings.insecure:
        raise SettingsError(
            f"host is {settings.host!r}, which others can reach, and passwords would travel without TLS; "
            "name the --proxies that do TLS, or say --insecure"
        )


def _check_issuers(settings: Settings) -> None:
    if settings.auth == "none" and settings.rescue:
        raise SettingsError("rescue makes an administrator, but with auth none there are none; use --auth accounts")
    if settings.auth == "none" and (settings.jwt_issuer or settings.oidc_issuer):
        raise SettingsError("an issuer is named, but with auth none nobody logs in; use --auth accounts")
    if settings.jwt_issuer and not (settings.jwt_audience and settings.jwt_keys):
        raise SettingsError("jwt_issuer needs jwt_audience and jwt_keys")
    if settings.oidc_issuer and not settings.oidc_client_id:
        raise SettingsError("oidc_issuer needs oidc_client_id")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def env_name(name: str) -> str:
    """Return the environment variable of a setting."""
    return ENV_PREFIX + name.upper()


def flag_name(name: str) -> str:
    """Return the command line flag of a setting."""
    return "--" + name.replace("_", "-")


def load_settings(
    *, flags: Mapping[str, object], environ: Mapping[str, str] = os.environ, file: Path | None = None
) -> Settings:
    """Put the settings together from all their sources.

    Args:
        flags: settings that were given on the command line, already of their type.
        environ: the environment.
        file: a TOML file whose top-level keys are settings; `SYNCLINE_CONFIG` names one otherwise.

    Raises:
        SettingsError: with the name, its source and what is wrong.
    """
    config_variable = ENV_PREFIX + "CONFIG"
    if file is None and config_variable in environ:
        file = Path(environ[config_variable])
    by_name = {setting.name: setting for setting in fields(Settings)}
    values: dict[str, object] = {}
    if file is not None:
        values |= _from_file(file, by_name)
    values |= _from_environment(environ, by_name, ignored={config_variable, *CLIENT_VARIABLES})
    values |= flags
    return Settings(**values)  # type: ignore[arg-type]


def _from_file(file: Path, by_name: Mapping[str, "Field[Any]"]) -> dict[str, object]:
    try:
        table = tomllib.loads(file.read_text())
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {file} is not TOML: {error}") from error
    values: dict[str, object] = {}
    for name, value in table.items():
        if name not in by_name:
            raise SettingsError(f"{file}: there is no setting {name!r}")
        kind = _kind(by_name[name])
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise SettingsError(f"{file}: {name} is {value!r}; it has to be of type {kind.__name__}")
        values[name] = value
    return values


def _from_environment(
    environ: Mapping[str, str], by_name: Mapping[str, "Field[Any]"], *, ignored: set[str]
) -> dict[str, object]:
    values: dict[str, object] = {}
    for variable, text in environ.items():
        if not variable.startswith(ENV_PREFIX) or variable in ignored or variable.startswith(f"{ENV_PREFIX}TEST_"):
            continue
        setting = by_name.get(variable.removeprefix(ENV_PREFIX).lower())
        if setting is None:
            raise SettingsError(f"there is no setting for the environment variable {variable}")
        values[setting.name] = _parse(variable, text, _kind(setting))
    return values


def _kind(setting: "Field[Any]") -> type:
    assert setting.default is not MISSING
    return type(setting.default)


def _parse(variable: str, text: str, kind: type) -> object:
    if kind is bool:
        if text.lower() not in ("1", "true", "yes", "0", "false", "no"):
            raise SettingsError(f"{variable} is {text!r}; it may be true or false")
        return text.lower() in ("1", "true", "yes")
    try:
        value: object = kind(text)
    except ValueError as error:
        raise SettingsError(f"{variable} is {text!r}; it has to be of type {kind.__name__}") from error
    return value
