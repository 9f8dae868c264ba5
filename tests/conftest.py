"""Fixtures that tests of several folders use."""

pytest_plugins = ["tests.support.live_server"]
