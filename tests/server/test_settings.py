"""Where settings come from, which wins, and what is refused."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from syncline_server.cli import serve
from syncline_server.settings import Settings, SettingsError, load_settings


def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "syncline.toml"
    file.write_text('port = 1001\nlog_level = "error"\nstall_timeout_s = 5\n')
    settings = load_settings(
        flags={"port": 1003}, environ={"SYNCLINE_PORT": "1002", "SYNCLINE_LOG_LEVEL": "warning"}, file=file
    )
    assert (settings.port, settings.log_level, settings.stall_timeout_s) == (1003, "warning", 5.0)
    assert settings.host == Settings().host


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "syncline.toml"
    file.write_text("demo = true\n")
    assert load_settings(flags={}, environ={"SYNCLINE_CONFIG": str(file)}).demo


def test_the_clients_variable_is_left_alone() -> None:
    assert load_settings(flags={}, environ={"SYNCLINE_URL": "http://127.0.0.1:1"}) == Settings()


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"SYNCLINE_PROT": "1"}, "SYNCLINE_PROT"),
        ({"SYNCLINE_PORT": "many"}, "SYNCLINE_PORT"),
        ({"SYNCLINE_DEMO": "maybe"}, "SYNCLINE_DEMO"),
        ({"SYNCLINE_PORT": "70000"}, "port"),
        ({"SYNCLINE_LOG_FORMAT": "xml"}, "log_format"),
        ({"SYNCLINE_TAIL_BYTES": "0"}, "tail_bytes"),
        ({"SYNCLINE_AUTH": "none", "SYNCLINE_RESCUE": "true"}, "rescue"),
        ({"SYNCLINE_PROXIES": "127.0.0.1, proxy.example.com"}, "'proxy.example.com' is no IP address"),
        ({"SYNCLINE_PROXIES": "10.0.0.1/8"}, "10.0.0.1/8"),
        ({"SYNCLINE_CONFIG": "/nowhere/syncline.toml"}, "/nowhere/syncline.toml"),
    ],
)
def test_a_wrong_variable_stops_the_start_and_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load_settings(flags={}, environ=environ)


@pytest.mark.parametrize("text", ["prot = 1\n", 'port = "1"\n', "port = \n", "demo = 1\n"])
def test_a_wrong_file_stops_the_start_and_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "syncline.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"syncline\.toml"):
        load_settings(flags={}, environ={}, file=file)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_needs_no_flag(host: str) -> None:
    assert load_settings(flags={"host": host}, environ={}).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "127.example.com", "localhost.test"])
def test_an_address_that_others_reach_is_refused_unless_it_is_said_to_be_meant(host: str) -> None:
    with pytest.raises(SettingsError, match="--insecure"):
        load_settings(flags={"host": host}, environ={})
    assert load_settings(flags={"host": host, "insecure": True}, environ={}).host == host


def test_proxies_are_addresses_and_networks() -> None:
    for proxies in ("", "*", "127.0.0.1", "10.0.0.0/8, ::1,fd00::/8"):
        assert Settings(proxies=proxies).proxies == proxies


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b"])
def test_a_host_that_nobody_knows_is_said_to_be_the_fault(host: str) -> None:
    result = CliRunner().invoke(serve, ["--host", host, "--insecure", "--store", "memory:"])
    assert result.exit_code == 4
    assert f"cannot listen on '{host}'" in result.output
    assert "--host" in result.output
    assert "--port" not in result.output


def test_an_address_that_this_machine_does_not_have_is_said_to_be_the_fault() -> None:
    result = CliRunner().invoke(serve, ["--host", "192.0.2.1", "--insecure", "--store", "memory:"])
    assert (result.exit_code, "choose another --host" in result.output) == (4, True)
