"""Every way in which somebody loses what he had in a store, and what he is told then."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from syncline_server.access.grant import GrantLimits
from syncline_server.accounts.plans.users import UserChange

from .guarded import Guarded

__all__ = ["LOSSES", "Loss", "Subject", "subject_of"]

#: What is left to him: nothing of the store, a part of it, all of it to read, no connection at all, no store at all.
Kind = Literal["lost", "narrowed", "reader", "closed", "dropped"]

#: What expires does so after this time.
EXPIRES_S = 5.0


@dataclass
class Subject:
    """Who loses something: `sam`, who may write to `notes`."""

    world: Guarded
    token: str | None
    token_id: str
    grant: str


@dataclass(frozen=True)
class Loss:
    """`close` is the code with which his connection is closed, `reason` that with which his subscription ends."""

    kind: Kind
    act: Callable[[Subject], Awaitable[object]]
    close: int | None = None
    reason: str | None = None
    grantee: str | None = "user:sam"
    pattern: str = "notes"
    is_anonymous: bool = False
    grant_expires: bool = False
    token_expires: bool = False


async def _grant_removed(subject: Subject) -> None:
    await subject.world.directory.remove_grant(subject.grant)


async def _grant_narrowed(subject: Subject) -> None:
    await subject.world.directory.add_grant(
        "user:sam", "notes", "writer", by=None, limits=GrantLimits(read_prefix="k/a/")
    )


async def _role_changed(subject: Subject) -> None:
    limits = subject.world.directory.registry.grants[subject.grant].limits
    await subject.world.directory.add_grant("user:sam", "notes", "reader", by=None, limits=limits)


async def _time_passes(subject: Subject) -> None:
    subject.world.tick(EXPIRES_S)


async def _token_revoked(subject: Subject) -> None:
    await subject.world.directory.revoke_token(subject.token_id)


async def _logged_out(subject: Subject) -> None:
    await subject.world.directory.revoke_sessions("sam")


async def _disabled(subject: Subject) -> None:
    await subject.world.directory.change_user("sam", UserChange(is_disabled=True))


async def _deleted(subject: Subject) -> None:
    await subject.world.directory.delete_user("sam")


async def _password_changed(subject: Subject) -> None:
    await subject.world.directory.change_password("sam", "h", "h2", keep_session=None)


async def _no_administrator(subject: Subject) -> None:
    await subject.world.directory.change_user("sam", UserChange(is_admin=False))


async def _out_of_the_group(subject: Subject) -> None:
    await subject.world.directory.remove_member("team", "sam")


async def _group_deleted(subject: Subject) -> None:
    await subject.world.directory.delete_group("team")


async def _dropped(subject: Subject) -> None:
    await subject.world.hub.drop("notes")
    await subject.world.directory.remove_store_grants("notes")


LOSSES: dict[str, Loss] = {
    "grant removed": Loss("lost", _grant_removed, reason="forbidden"),
    "grant narrowed": Loss("narrowed", _grant_narrowed, reason="view_changed"),
    "role changed": Loss("reader", _role_changed),
    "grant expired": Loss("lost", _time_passes, reason="forbidden", grant_expires=True),
    "token revoked": Loss("closed", _token_revoked, close=4503),
    "token expired": Loss("closed", _time_passes, close=4007, token_expires=True),
    "logged out": Loss("closed", _logged_out, close=4503),
    "disabled": Loss("closed", _disabled, close=4503),
    "deleted": Loss("closed", _deleted, close=4503),
    "password changed": Loss("closed", _password_changed, close=4503),
    "out of the group": Loss("lost", _out_of_the_group, reason="forbidden", grantee="group:team"),
    "group deleted": Loss("lost", _group_deleted, reason="forbidden", grantee="group:team"),
    "group's grant removed": Loss("lost", _grant_removed, reason="forbidden", grantee="group:team"),
    "group's grant expired": Loss("lost", _time_passes, reason="forbidden", grantee="group:team", grant_expires=True),
    "prefix taken back": Loss("lost", _grant_removed, reason="forbidden", pattern="no*"),
    "everyone's grant removed": Loss("lost", _grant_removed, reason="forbidden", grantee="everyone"),
    "nobody's grant removed": Loss("closed", _grant_removed, close=4503, grantee="everyone", is_anonymous=True),
    "nobody's grant expired": Loss(
        "lost", _time_passes, reason="forbidden", grantee="everyone", is_anonymous=True, grant_expires=True
    ),
    "administrator no more": Loss("lost", _no_administrator, reason="forbidden", grantee=None),
    "store dropped": Loss("dropped", _dropped, reason="store_dropped"),
}


async def subject_of(world: Guarded, loss: Loss, prefix: str | None) -> Subject:
    """Make `sam`, with what he will lose."""
    ends_ms = world.hub.now_ms() + int(EXPIRES_S * 1000)
    is_admin = loss.grantee is None
    token = await world.user("sam", expires_ms=ends_ms if loss.token_expires else None, is_admin=is_admin)
    (made,) = world.directory.registry.tokens_of("sam")
    await world.directory.put_group("team", ["sam"])
    expires_ms = ends_ms if loss.grant_expires else None
    grant = ""
    if loss.grantee is not None:
        grant = await world.grant(loss.grantee, loss.pattern, expires_ms=expires_ms, read_prefix=prefix)
    return Subject(world, None if loss.is_anonymous else token, made.id, grant)
