"""The clock of `syncline.testing`, under the name that the tests of the client know it by."""

from syncline.testing import VirtualClock as FakeClock

__all__ = ["FakeClock"]
