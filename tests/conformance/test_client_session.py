"""The cases for clients against the pure client session."""

import json
from typing import Any

import pytest

from syncline_protocol.client import ClientSession
from syncline_protocol.codec import encode
from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_protocol.messages import Find, Hello, Subscribe, Welcome

from .patterns import Variables, explain, fill, loads
from .runner import Case, cases


class _Run:
    """One client session and what it has sent."""

    def __init__(self) -> None:
        self.now = 0.0
        self.client = ClientSession(Hello(), now=self.now)
        self.sent: list[bytes] = []
        self.variables: Variables = {}

    def step(self, step: dict[str, Any]) -> None:
        ((name, argument),) = step.items()
        match name:
            case "welcome":
                self.client.receive(encode(Welcome("s1", "test/1", DEFAULT_LIMITS, 15000, ())), self.now)
            case "subscribe":
                request_id = self.variables["id"] = self.client.next_id()
                self.client.subscribe(Subscribe(request_id, argument))
                self.client.data_to_send()
            case "find":
                request_id = self.variables["id"] = self.client.next_id()
                self.client.send(Find(request_id, argument))
                self.client.data_to_send()
            case "receive":
                self.client.receive(json.dumps(fill(argument, self.variables)), self.now)
            case "receive_text":
                self.client.receive(argument, self.now)
            case "advance":
                self.now += argument
                self.client.tick(self.now)
            case "expect_sent":
                self.sent += self.client.data_to_send()
                assert self.sent, "nothing was sent"
                wrong = explain(argument, loads(self.sent.pop(0)), self.variables)
                assert wrong is None, wrong
            case "expect_open":
                assert self.client.close_code is None, self.client.close_reason
            case "expect_close":
                assert self.client.close_code == argument, self.client.close_reason
            case _:
                pytest.fail(f"there is no step {name}")


@pytest.mark.parametrize("case", cases("client"), ids=lambda case: case.id)
def test_the_client_session_conforms(case: Case) -> None:
    running = _Run()
    for step in case.steps:
        running.step(step)
