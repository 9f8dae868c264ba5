"""What comes from a peer and gets into a log stays one line of it, and commands no terminal."""

import json
import subprocess
import sys

import pytest

_EVIL = "a\n2026-01-01 [info] forged\r\x1b[2J\x1b]0;title\x07\x00\x7f\x9b31m\u2028b"

_PROGRAM = """
import logging, sys
from syncline_server.log import configure_logging, get_log
evil = sys.argv[2]
configure_logging(sys.argv[1], "info")
log = get_log()
log.info("token_refused", reason=evil, address=evil, origin=evil)
log.warning("login_failed", **{"user": evil, "key": evil})
logging.getLogger("uvicorn.error").warning("odd request %s", evil.replace("\\n", ""))
try:
    raise LookupError(evil)
except LookupError:
    log.exception("request_failed", session="s1")
"""


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_control_characters_of_a_peer_are_escaped(log_format: str) -> None:
    command = [sys.executable, "-c", _PROGRAM, log_format, _EVIL.replace("\x00", "")]
    logged = subprocess.run(command, capture_output=True, check=True).stderr.decode()
    assert "token_refused" in logged
    controls = [character for character in logged if character != "\n" and not character.isprintable()]
    assert controls == []
    before = logged[: logged.index("request_failed")]
    assert before.count("\n") == 3, "a line for each event"


def test_json_lines_are_json() -> None:
    command = [sys.executable, "-c", _PROGRAM, "json", _EVIL.replace("\x00", "")]
    lines = subprocess.run(command, capture_output=True, check=True).stderr.decode().splitlines()
    assert [json.loads(line)["event"].split(" ")[0] for line in lines] == [
        "token_refused",
        "login_failed",
        "odd",
        "request_failed",
    ]
