"""What settings of accounts do when a server is made and starts: some cannot work, some are warned of or noted."""

import json
from pathlib import Path

import msgspec
import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from syncline_server.app import create_app, lifespan_of, office_of
from syncline_server.settings import Settings, SettingsError


def made(keys: str) -> Starlette:
    """Make a server that takes the JWTs of an issuer with these keys."""
    return create_app(Settings(store="memory:", jwt_issuer="https://id", jwt_audience="here", jwt_keys=keys))


def test_keys_that_are_not_there_or_are_no_keys_stop_the_start(tmp_path: Path) -> None:
    absent = tmp_path / "absent.json"
    with pytest.raises(SettingsError, match=f"jwt: cannot read the key set.*{absent}"):
        made(str(absent))
    file = tmp_path / "keys.json"
    for text in ("", "{}", json.dumps({"keys": []}), json.dumps({"keys": [{"kty": "oct", "k": "AAAA"}]})):
        file.write_text(text)
        with pytest.raises(SettingsError, match="is not a JWKS that can be used"):
            made(str(file))


def test_keys_that_are_elsewhere_may_be_there_later() -> None:
    made("https://id.example/keys.json")


def test_a_secret_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret")
    settings = Settings(
        store="memory:", oidc_issuer="https://id", oidc_client_id="here", oidc_client_secret_file=str(file)
    )
    for mode, is_warned in ((0o644, True), (0o640, False), (0o600, False)):
        file.chmod(mode)
        with capture_logs() as logged:
            create_app(settings)
        warnings = [entry for entry in logged if entry["event"] == "secret_file_readable"]
        assert [entry["path"] for entry in warnings] == ([str(file)] if is_warned else [])
        assert "s3cret" not in str(logged)


@pytest.mark.parametrize(("rescue", "detail"), [(False, {}), (True, {"rescue": "true"})])
async def test_a_start_that_lets_another_administrator_in_is_noted_as_one(rescue: bool, detail: dict[str, str]) -> None:
    app = create_app(Settings(store="memory:", rescue=rescue))
    async with lifespan_of(app):
        office = office_of(app)
        assert office is not None
        entry = msgspec.json.decode((await office.accounts.audit.entries())[0])
    assert (entry["action"], entry["detail"]) == ("server.start", detail)
