"""How a replica stands, in one value: its connection, its feed, its file and its outbox taken together."""

from dataclasses import dataclass, replace

from syncline.status import ConnectionState, Status
from syncline_protocol.cursor import START

from .fold import Stage
from .keeper import Keeper

__all__ = ["ReplicaStatus", "closed", "status_of"]


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A replica at one moment.

    Attributes:
        state: LIVE: what is shown is what the server has, and follows it. LAGGING: connected, and not there yet. The
            others are those of the connection.
        reason: why it is so, in words.
        cursor: the position up to which changes are stored here, or `start`.
        is_caught_up: what is shown has been compared with the server's count and digest, and follows it since.
        pending: writes that the server has not acknowledged.
        rejected: writes that it refused.
        attempt: attempts to connect since the server last did something useful.
        retry_at: when the next attempt is made, in seconds since 1970; only in OFFLINE.
        last_error: what went wrong last.
        is_forbidden: nothing of the store may be seen any more: the records are gone from here, and what the server may
            not have is kept. It is tried again now and then.
    """

    state: ConnectionState
    reason: str
    cursor: str
    is_caught_up: bool
    pending: int
    rejected: int
    attempt: int = 0
    retry_at: float | None = None
    last_error: Exception | None = None
    is_forbidden: bool = False


_REASONS = {
    Stage.IDLE: "about to subscribe",
    Stage.LISTING: "history changed; learning what is still there",
    Stage.CATCHING_UP: "catching up",
    Stage.LIVE: "follows the server",
}


def status_of(keeper: Keeper, connection: Status) -> ReplicaStatus:
    """Put the status together."""
    state, reason, error = connection.state, connection.reason, connection.last_error
    if keeper.is_over:
        state, error = ConnectionState.CLOSED, keeper.error
        reason = str(error)
    elif keeper.error is not None:
        error, reason = keeper.error, str(keeper.error)
        state = ConnectionState.LAGGING if state is ConnectionState.LIVE else state
    elif state is ConnectionState.LIVE:
        stage = keeper.stage
        reason = _REASONS[stage]
        if stage is not Stage.LIVE:
            state = ConnectionState.LAGGING
        if stage is Stage.IDLE and keeper.feed.error is not None:
            error, reason = keeper.feed.error, str(keeper.feed.error)
    return ReplicaStatus(
        state,
        reason,
        keeper.place.cursor,
        keeper.stage is Stage.LIVE,
        keeper.outbox.pending,
        keeper.outbox.rejected,
        connection.attempt,
        connection.retry_at,
        error,
        keeper.feed.is_forbidden and keeper.place.cursor == START,
    )


def closed(status: ReplicaStatus) -> ReplicaStatus:
    """Return the status of a replica that was closed: nothing follows the server any more."""
    return replace(
        status, state=ConnectionState.CLOSED, reason="the replica is closed", is_caught_up=False, retry_at=None
    )
