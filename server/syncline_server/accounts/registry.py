"""All accounts and grants as they follow from the log of `_accounts`: a fold of its rows, with indexes. Pure.

What a deleted or disabled user had gives nothing, whatever records are left of it. Kinds that are not known and
records that cannot be understood are left out and counted. Rows are applied in the order of the log, each once, and
an `apply` ends with a transaction: nobody sees a state that the log did not have.
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

import msgspec

from syncline_protocol.codec import decode_change
from syncline_server.access.concern import NOTHING, Concern
from syncline_server.access.grant import EVERYONE, Grant, covers
from syncline_server.storage.base import Row

from .entry import Entry, Group, Invitation, Token, User, decode_entry, id_of, kind_of, parse_key

__all__ = ["Registry"]

#: So many ends of what is no more may be remembered besides.
_EXPIRIES_SPARE = 1000


class Registry:
    """Args:
    version: where to begin to count, so that a registry that replaces another is never taken for it.

    `version` grows with each change that may alter what somebody may do. `ignored` counts records that mean nothing
    to this version of the program. The dictionaries are read, never changed, from outside.
    """

    def __init__(self, version: int = 0) -> None:
        self.version = version
        self.ignored = 0
        self.users: dict[str, User] = {}
        self.groups: dict[str, Group] = {}
        self.tokens: dict[str, Token] = {}
        self.grants: dict[str, Grant] = {}
        self.invitations: dict[str, Invitation] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self._entries: dict[tuple[str, str], Entry] = {}
        self._admins: set[str] = set()
        self._oidc: dict[tuple[str, str], str] = {}
        self._token_hashes: dict[str, str] = {}
        self._invitation_hashes: dict[str, str] = {}
        self._tokens_of: dict[str, set[str]] = {}
        self._groups_of: dict[str, set[str]] = {}
        #: Grantee -> store -> ids; prefixes have a table of their own, so that a lookup need not walk over all stores.
        self._grants_to: dict[str, dict[str, set[str]]] = {}
        self._prefixes_to: dict[str, dict[str, set[str]]] = {}
        self._grants_on: dict[str, set[str]] = {}
        #: When a grant ends, to whom and in which store; or when a token does, of which user, and no store.
        self._expiries: list[tuple[int, str, str]] = []

    # --- the fold ---

    def apply(self, rows: Iterable[Row]) -> Concern | None:
        """Take the next rows of the log. Returns whom it is about if they may alter what somebody may do."""
        before: dict[tuple[str, str], Entry | None] = {}
        for row in rows:
            change = decode_change(row.text)
            parsed = parse_key(change.key)
            if parsed is None:
                self.ignored += 1
                continue
            kind, entry_id, version = parsed
            place = (kind, entry_id)
            before.setdefault(place, self._entries.get(place))
            if isinstance(change.value, msgspec.Raw):
                self._add(place, version, bytes(change.value))
            elif self._versions.get(place) == version:
                self._put(place, None)
        concern: Concern | None = None
        for place, old in before.items():
            new = self._entries.get(place)
            if _bare(old) != _bare(new):
                concern = (concern or NOTHING) | _concern_of(old, new)
        self.version += concern is not None
        return concern

    def expire(self, now_ms: int) -> Concern | None:
        """Take note of the time. Returns whose grants and tokens have come to their end since this was last asked."""
        concern: Concern | None = None
        while self._expiries and self._expiries[0][0] <= now_ms:
            _, whom, store = heappop(self._expiries)
            ended = Concern.of_grant(whom, store) if store else Concern.of_users([whom])
            concern = (concern or NOTHING) | ended
        self.version += concern is not None
        return concern

    def _add(self, place: tuple[str, str], version: int, value: bytes) -> None:
        entry = decode_entry(place[0], value)
        if entry is None or id_of(entry) != place[1]:
            self.ignored += 1
        elif version >= self._versions.get(place, 0):
            self._put(place, entry)
            self._versions[place] = version

    def _put(self, place: tuple[str, str], entry: Entry | None) -> None:
        """Replace an entity, or end it."""
        old = self._entries.pop(place, None)
        if old is not None:
            self._unindex(old)
            del self._versions[place]
        if entry is not None:
            self._entries[place] = entry
            self._index(entry)

    def version_of(self, entry: Entry) -> int | None:
        """Return the version under which the entity of this kind and ID lives, or None."""
        return self._versions.get((kind_of(entry), id_of(entry)))

    # --- questions ---

    @property
    def has_admin(self) -> bool:
        """Whether there is an administrator who can log in."""
        return bool(self._admins)

    def is_last_admin(self, name: str) -> bool:
        """Return whether nobody would be administrator without this user."""
        return self._admins == {name}

    def active_user(self, name: str) -> User | None:
        """Return a user who is there and not disabled."""
        user = self.users.get(name)
        return None if user is None or user.is_disabled else user

    def user_by_oidc(self, issuer: str, subject: str) -> User | None:
        """Return the user whom this issuer calls so."""
        name = self._oidc.get((issuer, subject))
        return None if name is None else self.users[name]

    def groups_of(self, name: str) -> frozenset[str]:
        """Return the groups of which somebody is a member; none if he is deleted or disabled."""
        return self.member_of(name) if self.active_user(name) else frozenset()

    def member_of(self, name: str) -> frozenset[str]:
        """Return the groups that name somebody as a member, whatever that gives him."""
        return frozenset(self._groups_of.get(name, ()))

    def token_by_hash(self, secret_hash: str) -> Token | None:
        """Return the token whose text has this hash."""
        return self.tokens.get(self._token_hashes.get(secret_hash, ""))

    def tokens_of(self, name: str) -> list[Token]:
        """Return the tokens of a user, oldest first."""
        return sorted((self.tokens[key] for key in self._tokens_of.get(name, ())), key=lambda t: (t.created_ms, t.id))

    def invitation_by_hash(self, code_hash: str) -> Invitation | None:
        """Return the invitation whose code has this hash."""
        return self.invitations.get(self._invitation_hashes.get(code_hash, ""))

    def grants_to(self, to: str) -> list[Grant]:
        """Return all grants to a grantee, oldest first, also ended ones."""
        tables = (self._grants_to.get(to, {}), self._prefixes_to.get(to, {}))
        return self._grants(key for table in tables for keys in table.values() for key in keys)

    @property
    def grants_everyone(self) -> bool:
        """Whether something is granted to everyone, so that who has not logged in may come in."""
        return bool(self._grants_to.get(EVERYONE) or self._prefixes_to.get(EVERYONE))

    def grants_on(self, pattern: str) -> list[Grant]:
        """Return all grants for exactly this store or prefix, oldest first, also ended ones."""
        return self._grants(self._grants_on.get(pattern, ()))

    def grants_covering(self, pattern: str) -> list[Grant]:
        """Return all grants for this store or prefix, and for prefixes that cover it; oldest first, also ended ones."""
        stem = pattern.removesuffix("*")
        covering = {pattern, *(f"{stem[:length]}*" for length in range(len(stem) + 1))}
        return self._grants([key for known in covering for key in self._grants_on.get(known, ())])

    def grants_for(self, name: str | None, groups: Iterable[str], store: str, now_ms: int) -> list[Grant]:
        """Return the grants that concern somebody in a store now.

        Args:
            name: his name, or None for who has not logged in.
            groups: the groups that he is in.
            store: the name of a store.
            now_ms: grants that have ended by then are left out.
        """
        grantees = [EVERYONE, *(f"group:{group}" for group in groups)]
        if name is not None:
            grantees.append(f"user:{name}")
        found: list[str] = []
        for to in grantees:
            found += self._grants_to.get(to, {}).get(store, ())
            for pattern, keys in self._prefixes_to.get(to, {}).items():
                if covers(pattern, store):
                    found += keys
        return [grant for grant in self._grants(found) if grant.expires_ms is None or grant.expires_ms > now_ms]

    def _grants(self, keys: Iterable[str]) -> list[Grant]:
        return sorted((self.grants[key] for key in keys), key=lambda grant: (grant.created_ms, grant.id))

    # --- indexes ---

    def _index(self, entry: Entry) -> None:
        match entry:
            case User():
                self.users[entry.name] = entry
                if entry.is_admin and not entry.is_disabled:
                    self._admins.add(entry.name)
                if entry.oidc is not None:
                    self._oidc.setdefault(entry.oidc, entry.name)
            case Group():
                self.groups[entry.name] = entry
                for name in entry.members:
                    self._groups_of.setdefault(name, set()).add(entry.name)
            case Token():
                self.tokens[entry.id] = entry
                self._token_hashes[entry.secret_hash] = entry.id
                self._tokens_of.setdefault(entry.user, set()).add(entry.id)
                self._note_expiry(entry.expires_ms, entry.user)
            case Grant():
                self.grants[entry.id] = entry
                self._table_of(entry).setdefault(entry.to, {}).setdefault(entry.store, set()).add(entry.id)
                self._grants_on.setdefault(entry.store, set()).add(entry.id)
                self._note_expiry(entry.expires_ms, entry.to, entry.store)
            case Invitation():
                self.invitations[entry.id] = entry
                self._invitation_hashes[entry.code_hash] = entry.id

    def _unindex(self, entry: Entry) -> None:
        match entry:
            case User():
                del self.users[entry.name]
                self._admins.discard(entry.name)
                if entry.oidc is not None and self._oidc.get(entry.oidc) == entry.name:
                    del self._oidc[entry.oidc]
            case Group():
                del self.groups[entry.name]
                for name in entry.members:
                    _discard(self._groups_of, name, entry.name)
            case Token():
                del self.tokens[entry.id]
                self._token_hashes.pop(entry.secret_hash, None)
                _discard(self._tokens_of, entry.user, entry.id)
            case Grant():
                del self.grants[entry.id]
                table = self._table_of(entry)
                _discard(table[entry.to], entry.store, entry.id)
                if not table[entry.to]:
                    del table[entry.to]
                _discard(self._grants_on, entry.store, entry.id)
            case Invitation():
                del self.invitations[entry.id]
                self._invitation_hashes.pop(entry.code_hash, None)

    def _table_of(self, grant: Grant) -> dict[str, dict[str, set[str]]]:
        return self._prefixes_to if grant.store.endswith("*") else self._grants_to

    def _note_expiry(self, expires_ms: int | None, whom: str, store: str = "") -> None:
        if expires_ms is None:
            return
        heappush(self._expiries, (expires_ms, whom, store))
        if len(self._expiries) > _EXPIRIES_SPARE + 2 * (len(self.tokens) + len(self.grants)):
            # Most are of what has ended before its time, which may be far away: each login leaves one behind.
            self._expiries = [(token.expires_ms, token.user, "") for token in self.tokens.values() if token.expires_ms]
            self._expiries += [(it.expires_ms, it.to, it.store) for it in self.grants.values() if it.expires_ms]
            heapify(self._expiries)


def _discard(index: dict[str, set[str]], key: str, item: str) -> None:
    """Take an item out of an index, and the key with the last one."""
    items = index.get(key)
    if items is not None:
        items.discard(item)
        if not items:
            del index[key]


def _bare(entry: Entry | None) -> Entry | None:
    """Return what of an entity has a say in what somebody may do."""
    match entry:
        case User():
            return msgspec.structs.replace(entry, login_ms=None, password_hash=None, title="")
        case Token():
            return msgspec.structs.replace(entry, used_ms=None, title="")
        case Group() | Grant():
            return entry
        case _:
            return None


def _concern_of(old: Entry | None, new: Entry | None) -> Concern:
    """Return whom it is about that an entity has become another, has begun or has ended."""
    if old is None and isinstance(new, Token):
        # Nobody has come with it yet. So a login, the most frequent change by far, costs those who are there nothing.
        return NOTHING
    if isinstance(old, Group) and isinstance(new, Group):
        # Who stays in has what he had, however many others there are.
        return Concern.of_users(set(old.members) ^ set(new.members))
    return _concern_with(old) | _concern_with(new)


def _concern_with(entry: Entry | None) -> Concern:
    """Return who has something of an entity."""
    match entry:
        case User():
            return Concern.of_users([entry.name])
        case Group():
            return Concern.of_users(entry.members)
        case Token():
            return Concern.of_users([entry.user])
        case Grant():
            return Concern.of_grant(entry.to, entry.store)
        case _:
            return NOTHING
