"""The console's client of the protocol, in the browser, against a socket that the test plays.

`Script` puts a stand-in in the place of WebSocket, so that a test decides what the server says and when.
"""

import json
from typing import Any

import pytest

from syncline_protocol.errors import CLOSE_CODES, may_reconnect

from .chromium import Page
from .fake_accounts import FakeServer

#: `socket` is the newest stand-in; `events` what the listener was told.
_SETUP = """
(async () => {
  const module = await import(new URL("console/connection.js", document.baseURI));
  const { CLOSE_REASONS: closeReasons, Connection, mayReconnect } = module;
  const played = (globalThis.played = { sent: [], closed: [], events: [], sockets: 0, closeReasons, mayReconnect });
  globalThis.WebSocket = class {
    static CLOSING = 2;
    readyState = 1;
    constructor(url, [protocol]) {
      Object.assign(this, { protocol });
      played.socket = this;
      played.sockets += 1;
      Promise.resolve().then(() => this.onopen());
    }
    send(text) { played.sent.push(JSON.parse(text)); }
    close(code) { this.readyState = 2; played.closed.push(code); }
  };
  const note = (name) => (...args) => played.events.push([name, ...args]);
  const names = ["onState", "onWelcome", "onSubscribed", "onChanges", "onCaughtUp", "onHeads", "onRefused",
    "onViewChanged", "onExpiring", "onUnauthenticated"];
  played.connection = new Connection("ws://played", Object.fromEntries(names.map((name) => [name, note(name)])));
})()
"""

WELCOME = {"type": "WELCOME", "session": "s", "server": "syncline/0", "limits": {}, "heartbeat_ms": 15000}


class Script:
    """What the played server does, and what the console's connection did."""

    def __init__(self, page: Page) -> None:
        self._page = page
        page.evaluate(_SETUP)

    def do(self, code: str) -> Any:
        """Run code with `c`, the connection, and `p`, what was played so far; return its value."""
        return self._page.evaluate(f"(() => {{ const p = played, c = p.connection; return {code}; }})()")

    def wait_for(self, condition: str) -> None:
        """Wait until code, as for `do`, gives something truthy."""
        self._page.wait_for(f"(() => {{ const p = played; return {condition}; }})()")

    def say(self, **message: object) -> None:
        """Let the server send one frame."""
        self.do(f"p.socket.onmessage({{ data: {json.dumps(json.dumps(message))} }})")

    def open(self) -> None:
        """Let the connection open and be welcomed."""
        self.do("c.open()")
        self.wait_for("p.sent.at(-1)?.type === 'HELLO'")
        self.say(**WELCOME)

    def subscribed(self, at: str, lineage: str, how: str = "resume") -> None:
        """Answer the newest SUBSCRIBE."""
        number = self.sent()["id"]
        self.say(type="SUBSCRIBED", id=number, feed="f1", how=how, at=at, head=at, store_id="x", lineage=lineage)

    def sent(self) -> dict[str, Any]:
        """Return the last message that the console sent."""
        last: dict[str, Any] = self.do("p.sent.at(-1)")
        return last

    def state(self) -> dict[str, Any]:
        """Return the last state that the console was told."""
        last: dict[str, Any] = self.do("p.events.filter(([name]) => name === 'onState').at(-1)[1]")
        return last


@pytest.fixture
def script(page: Page, fake: FakeServer) -> Script:
    # The tests bring their own modules to life; the page, which waits at its door, is only where they come from.
    page.open(f"{fake.url}/")
    page.wait_for("document.body.dataset.gate === 'login'")
    return Script(page)


def batch(start: str, to: str, *seqs: int) -> dict[str, object]:
    changes = [{"seq": seq, "op": "ADD", "key": f"k{seq}", "value": seq, "time": 1} for seq in seqs]
    return {"type": "BATCH", "feed": "f1", "from": start, "to": to, "changes": changes}


def test_close_codes_are_those_of_the_protocol(script: Script) -> None:
    known = script.do("[...Array(5000).keys()].filter((code) => code >= 1000 && !p.mayReconnect(code))")
    assert known == [code for code in range(1000, 5000) if not may_reconnect(code)]
    assert set(script.do("[...p.closeReasons.keys()]")) == set(map(int, CLOSE_CODES))


def test_a_batch_that_leaves_a_gap_ends_the_connection_and_the_feed_resumes_before_it(script: Script) -> None:
    script.do("c.follow('s', 'start')")
    script.open()
    assert script.sent() == {"type": "SUBSCRIBE", "id": 1, "store": "s", "after": "start"}
    script.subscribed("i:0", "i@0")
    script.say(**batch("i:0", "i:2", 1, 2))
    script.say(**batch("i:3", "i:4", 4))
    assert script.do("p.closed") == [4006]
    assert script.state()["name"] == "offline"
    assert script.do("p.events.filter(([name]) => name === 'onChanges').length") == 1
    script.open()
    assert script.sent() == {"type": "SUBSCRIBE", "id": 2, "store": "s", "after": "i:2", "known": "i@0"}


def test_a_cursor_that_is_lost_is_given_up_for_the_start_and_shown_as_another_history(script: Script) -> None:
    script.do("c.follow('s', 'start')")
    script.open()
    script.subscribed("i:0", "i@0")
    script.do("p.socket.onclose({ code: 1006, reason: '' })")
    script.open()
    script.say(type="ERROR", id=2, code="cursor_lost", message="gone", retry=False)
    script.wait_for("p.sent.at(-1).id === 3")
    assert script.sent() == {"type": "SUBSCRIBE", "id": 3, "store": "s", "after": "start"}
    script.subscribed("j:0", "j@0")
    assert script.do("p.events.at(-1)[1].how") == "snapshot"


def test_another_store_is_asked_for_when_the_feed_before_has_ended(script: Script) -> None:
    script.do("c.follow('s', 'start')")
    script.open()
    script.subscribed("i:0", "i@0")
    script.do("c.follow('t', 'now')")
    assert script.sent() == {"type": "UNSUBSCRIBE", "id": 1}
    script.say(**batch("i:0", "i:1", 1))
    assert script.do("p.events.filter(([name]) => name === 'onChanges').length") == 0
    script.say(type="ENDED", id=1, feed="f1", reason="unsubscribed", at="i:1")
    assert script.sent() == {"type": "SUBSCRIBE", "id": 2, "store": "t", "after": "now"}


def test_bye_decides_when_the_console_comes_back(script: Script) -> None:
    script.open()
    script.say(type="BYE", code="drain", after_ms=60000, jitter_ms=1000)
    started = script.do("Date.now()")
    script.do("p.socket.onclose({ code: 4000, reason: '' })")
    state = script.state()
    assert state["name"] == "offline"
    assert 59_000 <= state["retryAt"] - started <= 62_000


def test_a_refusal_for_good_is_not_followed_by_another_attempt(script: Script) -> None:
    script.open()
    script.do("p.socket.onclose({ code: 4500, reason: 'go away' })")
    assert script.state() == {"name": "closed", "reason": "go away", "retryAt": 0}


@pytest.mark.parametrize("code", [4007, 4503])
def test_a_close_that_says_that_the_credentials_ended_is_told_last(script: Script, code: int) -> None:
    script.open()
    script.do(f"p.socket.onclose({{ code: {code}, reason: 'over' }})")
    assert script.do("p.events.at(-1)") == ["onUnauthenticated", "over"]


def test_a_connection_that_was_closed_for_good_says_and_does_nothing_more(script: Script) -> None:
    script.do("c.follow('s', 'start')")
    script.open()
    script.do("p.socket.onclose({ code: 4007, reason: 'over' })")
    told = script.do("p.events.length")
    script.do("c.close()")
    script.do("new Promise((resolve) => setTimeout(resolve, 1200))")
    assert script.do("[p.sockets, p.events.length]") == [1, told]
    assert script.do("c.cursor") is None


def test_a_changed_view_is_told_and_the_old_cursor_is_left_to_the_listener(script: Script) -> None:
    script.do("c.follow('s', 'start')")
    script.open()
    script.subscribed("i:0", "i@0")
    script.say(type="ENDED", id=1, feed="f1", reason="view_changed", at="i:0")
    assert script.do("p.events.at(-1)") == ["onViewChanged"]
    script.do("c.follow('s', 'start')")
    assert script.sent() == {"type": "SUBSCRIBE", "id": 2, "store": "s", "after": "start"}


def test_a_head_is_compared_with_the_cursor_of_a_view_by_its_position(script: Script) -> None:
    script.do("c.follow('s', 'start')")
    script.open()
    script.subscribed("i:0~v1", "i@0")
    for _ in range(4):
        script.say(type="HEARTBEAT", heads={"s": "i:0"})
    assert script.do("p.closed") == []


def test_the_end_of_the_session_is_announced(script: Script) -> None:
    script.open()
    script.say(type="EXPIRING", expires_ms=1234)
    assert script.do("p.events.at(-1)") == ["onExpiring", 1234]


def test_a_frame_that_is_no_message_ends_the_connection_for_good(script: Script) -> None:
    script.open()
    script.do('p.socket.onmessage({ data: \'{"type":"BATCH"\' })')
    assert script.do("p.closed") == [4501]
    assert script.state()["name"] == "closed"
