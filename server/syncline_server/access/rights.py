"""What a principal may do in one store, worked out from his grants.

Grants are alternatives: what any of them allows is allowed, the views of all of them together are seen, and of bounds
the widest counts. `Rights.guard` is what every write goes through: it marks the ops that no grant allows, so that a
batch is judged op by op, and hands to the log what only the log can decide (whose record it is, how much he keeps).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from syncline_protocol.index import encode_term
from syncline_protocol.messages import OpResult
from syncline_protocol.transaction import Op, Quota, Transaction

from .grant import Grant, GrantLimits, Role, covers
from .principal import Principal
from .view import FULL, View, Where

__all__ = ["NO_RIGHTS", "OPEN_RIGHTS", "Rights", "rights_of"]

N = TypeVar("N", int, float)

#: Prefixes that are longer together are not told: each op of a batch has an answer.
_TOLD_CHARS_MAX = 100


@dataclass(slots=True)
class Rights:
    """What may be done. `view` is None if nothing may be seen; without one nothing may be written either.

    Attributes:
        by: who is noted as the author.
        writes: the limits of each grant that allows to write; none of them: nothing may be written.
        is_stale: grants have changed since; ask for them again.
    """

    view: View | None
    by: str | None = None
    writes: tuple[GrantLimits, ...] = ()
    quota: Quota | None = None
    writes_per_s: float | None = None
    is_owner: bool = False
    is_stale: bool = field(default=False, compare=False)

    @property
    def role(self) -> Role | msgspec.UnsetType:
        """What he is in this store; nothing where nobody has to log in."""
        if self is OPEN_RIGHTS or self.view is None:
            return msgspec.UNSET
        return "owner" if self.is_owner else "writer" if self.may_write else "reader"

    @property
    def may_write(self) -> bool:
        """Whether some change is allowed."""
        return bool(self.writes)

    def guard(self, transaction: Transaction) -> Transaction:
        """Return the transaction as it goes to the log, with the ops that are not allowed marked as denied."""
        if self is OPEN_RIGHTS:
            return transaction
        ops = transaction.ops
        if _UNLIMITED not in self.writes:
            ops = tuple([op if op.fault is not None else self._guard(op) for op in ops])
        return msgspec.structs.replace(transaction, ops=ops, by=self.by, quota=self.quota)

    def _guard(self, op: Op) -> Op:
        only_by: str | None = None
        reason: str | None = None
        for limits in self.writes:
            if not _begins(op.key, limits.key_prefix):
                continue
            if op.value is not None:
                return op
            if limits.add_only or not _begins(op.key, limits.read_prefix):
                reason = "adding only" if limits.add_only else "deleting only what it shows"
                continue
            if not limits.own_only:
                return op
            only_by = self.by
        if only_by is not None:
            return msgspec.structs.replace(op, only_by=only_by)
        # What is told depends on the key and the grants alone, and so is the same whether the record is there or not.
        return msgspec.structs.replace(op, fault=_denied(reason or _allowed_keys(self.writes)))


def _denied(allowed: str | None) -> OpResult:
    message = "no grant allows this change" if allowed is None else f"the grant allows {allowed}"
    return OpResult("denied", code="forbidden", message=message)


def _allowed_keys(writes: Sequence[GrantLimits]) -> str | None:
    """Return in words which keys may be written, if some may."""
    told = " or ".join(sorted({f"'{limits.key_prefix}'" for limits in writes}))
    if not told:
        return None
    return f"keys that begin with {told} only" if len(told) <= _TOLD_CHARS_MAX else "keys with other beginnings only"


def _begins(key: str, prefix: str | None) -> bool:
    return prefix is None or key.startswith(prefix)


#: A grant without limits on what may be written; quotas are the log's affair.
_UNLIMITED = GrantLimits()

#: Nobody has to log in.
OPEN_RIGHTS = Rights(FULL, writes=(_UNLIMITED,), is_owner=True)

#: Nothing is allowed.
NO_RIGHTS = Rights(None)


def rights_of(principal: Principal, store: str, grants: Sequence[Grant]) -> Rights:
    """Return what a principal may do in a store.

    Args:
        grants: those that concern him in this store and have not expired.
    """
    if principal.kind == "open":
        return OPEN_RIGHTS
    if principal.stores is not None and not any(covers(pattern, store) for pattern in principal.stores):
        return NO_RIGHTS
    if "read" not in principal.scopes:
        # Who sees nothing gets no answer from which he could learn what is there, so he writes nothing either.
        return NO_RIGHTS
    if principal.is_admin:
        writes = (_UNLIMITED,) if "write" in principal.scopes else ()
        return Rights(FULL, principal.name, writes, is_owner="share" in principal.scopes)
    if not grants:
        return NO_RIGHTS
    writing = [grant.limits for grant in grants if _may_write(principal, grant)]
    return Rights(
        View.of(
            [grant.limits.read_prefix or "" for grant in grants if grant.limits.read_where is None],
            shows_authors=any(grant.authors for grant in grants),
            wheres=[
                Where(grant.limits.read_prefix or "", where.index, encode_term(where.eq))
                for grant in grants
                if (where := grant.limits.read_where) is not None
            ],
        ),
        principal.name,
        tuple([_without_bounds(limits) for limits in writing]),
        _quota_of(writing),
        _widest([limits.writes_per_s for limits in writing]),
        "share" in principal.scopes and any(grant.role == "owner" for grant in grants),
    )


def _may_write(principal: Principal, grant: Grant) -> bool:
    if grant.role == "reader" or "write" not in principal.scopes:
        return False
    limits = grant.limits
    if limits.read_where is not None:
        # The answers to writes tell what is there, also of records that the index does not find so.
        return False
    counts = limits.own_only or limits.records_max is not None or limits.bytes_max is not None
    # What counts by author has no meaning for those without a name, and must not be got rid of by logging out.
    return principal.name is not None or not counts


def _without_bounds(limits: GrantLimits) -> GrantLimits:
    """Keep what decides on single ops: where, and what may be deleted.

    Who sees a part only writes to that part only, as the answers tell what is there; unless he is granted another part
    to write to, as for a mailbox. What he does not see he never deletes.
    """
    where = limits.read_prefix if limits.key_prefix is None else limits.key_prefix
    return GrantLimits(where, limits.read_prefix, limits.add_only, limits.own_only)


def _quota_of(writing: Sequence[GrantLimits]) -> Quota | None:
    quota = Quota(
        _widest([limits.records_max for limits in writing]), _widest([limits.bytes_max for limits in writing])
    )
    return None if quota == Quota() else quota


def _widest(bounds: Sequence[N | None]) -> N | None:
    """Return the widest of these bounds; None is no bound, and wider than any."""
    known = [bound for bound in bounds if bound is not None]
    return max(known) if known and len(known) == len(bounds) else None
