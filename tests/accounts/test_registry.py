"""The fold of the log against a model that keeps a plain list of live records and answers every question by a walk."""

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from syncline_protocol.codec import encode_change
from syncline_protocol.cursor import Seq
from syncline_server.access.concern import NOTHING, Concern
from syncline_server.access.grant import Grant, covers
from syncline_server.accounts.entry import (
    Entry,
    Group,
    Guard,
    Invitation,
    Token,
    User,
    encode_entry,
    id_of,
    key_of,
    kind_of,
)
from syncline_server.accounts.registry import Registry
from syncline_server.storage.base import Row

NAMES = ["ada", "bob", "cleo"]
STORES = ["notes", "team.a", "team.*", "*"]
_names = st.sampled_from(NAMES)
_ends = st.sampled_from([None, 50, 100])
_ids = st.sampled_from(["1", "2", "3"])
_entries: st.SearchStrategy[Entry] = st.one_of(
    st.builds(
        User,
        _names,
        st.just("user"),
        st.just(1),
        is_admin=st.booleans(),
        is_disabled=st.booleans(),
        login_ms=st.sampled_from([None, 7]),
        oidc=_names.map(lambda name: ("issuer", name)),
    ),
    st.builds(Group, st.sampled_from(["staff", "guests"]), st.just(1), st.lists(_names, unique=True).map(tuple)),
    st.builds(
        Token,
        _ids,
        _names,
        st.just(""),
        st.just("session"),
        _ids.map("hash{}".format),
        st.just(("read",)),
        st.integers(1, 3),
        expires_ms=_ends,
        used_ms=st.sampled_from([None, 7]),
    ),
    st.builds(
        Grant,
        _ids,
        st.sampled_from(["user:ada", "user:bob", "group:staff", "everyone"]),
        st.sampled_from(STORES),
        st.just("reader"),
        st.none(),
        st.integers(1, 3),
        expires_ms=_ends,
    ),
    st.builds(Invitation, _ids, st.just("notes"), st.just("reader"), _ids.map("code{}".format), st.none(), st.just(1)),
    st.just(Guard("admins")),
)
_junk = st.sampled_from(
    [
        ("role/x/0", b"1"),
        ("user/ada", b"{}"),
        ("user/ada/x", b"{}"),
        ("user/other/0", encode_entry(User("ada", "user", 1, is_admin=True))),
        ("user/other/1", b'{"name":"other","kind":"robot","created_ms":1}'),
        ("grant/9/0", b'{"id":"9","to":"everyone","store":"*","role":"king","by":null,"created_ms":1}'),
        ("grant/8/0", b'{"id":"8","to":"everyone","store":"*","role":"reader","by":null,"created_ms":1,'
                      b'"limits":{"weekdays_only":true}}'),
        ("token/7/0", b"[]"),
    ]
)  # fmt: skip


class Model:
    """The live records, by kind and ID, and the log that made them."""

    def __init__(self) -> None:
        self.live: dict[tuple[str, str], tuple[int, Entry]] = {}
        self.versions: dict[tuple[str, str], int] = {}
        self.rows: list[Row] = []
        self.junk = 0

    def put(self, entry: Entry) -> list[Row]:
        """Make or replace; hashes and identities that another one has are taken from nobody."""
        place = (kind_of(entry), id_of(entry))
        rows = self.drop(entry)
        version = self.versions.get(place, -1) + 1
        self.versions[place] = version
        self.live[place] = (version, entry)
        return [*rows, self._row(key_of(entry, version), encode_entry(entry))]

    def drop(self, entry: Entry) -> list[Row]:
        """End an entity, if it is there."""
        version, old = self.live.pop((kind_of(entry), id_of(entry)), (0, None))
        return [] if old is None else [self._row(key_of(old, version), None)]

    def add_junk(self, key: str, value: bytes) -> list[Row]:
        """Add a record that means nothing."""
        self.junk += 1
        return [self._row(key, value)]

    def _row(self, key: str, value: bytes | None) -> Row:
        seq = Seq(len(self.rows) + 1)
        self.rows.append(Row(seq, seq, encode_change(seq, key, value, 1)))
        return self.rows[-1]

    def of(self, kind: type[msgspec.Struct]) -> list[Entry]:
        """Return the live entities of a kind."""
        return [entry for _, entry in self.live.values() if isinstance(entry, kind)]


def grants_by_hand(model: Model, name: str | None, groups: list[str], store: str, now_ms: int) -> list[Entry]:
    """Walk over all grants."""
    grantees = {"everyone", f"user:{name}", *(f"group:{group}" for group in groups)}
    found = [
        grant
        for grant in model.of(Grant)
        if isinstance(grant, Grant)
        and grant.to in grantees
        and covers(grant.store, store)
        and (grant.expires_ms is None or grant.expires_ms > now_ms)
    ]
    return sorted(found, key=lambda grant: (grant.created_ms, grant.id))  # type: ignore[union-attr]


def compare(registry: Registry, model: Model) -> None:
    """Ask both everything."""
    users = {user.name: user for user in model.of(User) if isinstance(user, User)}
    assert registry.users == users
    assert registry.groups == {id_of(entry): entry for entry in model.of(Group)}
    assert registry.tokens == {id_of(entry): entry for entry in model.of(Token)}
    assert registry.grants == {id_of(entry): entry for entry in model.of(Grant)}
    assert registry.invitations == {id_of(entry): entry for entry in model.of(Invitation)}
    admins = {user.name for user in users.values() if user.is_admin and not user.is_disabled}
    assert registry.has_admin == bool(admins)
    for name in NAMES:
        active = name in users and not users[name].is_disabled
        assert (registry.active_user(name) is not None) == active
        assert registry.is_last_admin(name) == (admins == {name})
        groups = {id_of(group) for group in model.of(Group) if isinstance(group, Group) and name in group.members}
        assert registry.groups_of(name) == (groups if active else set())
        tokens = [token for token in model.of(Token) if isinstance(token, Token) and token.user == name]
        assert registry.tokens_of(name) == sorted(tokens, key=lambda token: (token.created_ms, token.id))
        for store in ("notes", "team.a", "team.b"):
            for now_ms in (1, 50, 100):
                found = registry.grants_for(name, ["staff"], store, now_ms)
                assert found == grants_by_hand(model, name, ["staff"], store, now_ms)
    for pattern in STORES:
        same = [grant for grant in model.of(Grant) if isinstance(grant, Grant) and grant.store == pattern]
        assert registry.grants_on(pattern) == sorted(same, key=lambda grant: (grant.created_ms, grant.id))
    for version, entry in model.live.values():
        assert registry.version_of(entry) == version
    for token in model.of(Token):
        assert isinstance(token, Token)
        found_token = registry.token_by_hash(token.secret_hash)
        assert found_token is not None
        assert found_token.secret_hash == token.secret_hash


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), _entries), st.tuples(st.just("drop"), _entries), st.tuples(st.just("junk"), _junk)
    ),
    max_size=30,
)


def unique(entry: Entry, model: Model) -> bool:
    """Return whether no other entity has the hash or identity that this one would have: the plans see to that."""
    return not any(
        isinstance(other, type(entry))
        and id_of(other) != id_of(entry)
        and (
            (isinstance(other, Token) and isinstance(entry, Token) and other.secret_hash == entry.secret_hash)
            or (isinstance(other, Invitation) and isinstance(entry, Invitation) and other.code_hash == entry.code_hash)
            or (isinstance(other, User) and isinstance(entry, User) and other.oidc == entry.oidc)
        )
        for _, other in model.live.values()
    )


@settings(max_examples=300, deadline=None)
@given(_steps, st.data())
def test_the_fold_says_what_a_walk_over_all_records_says(steps: list[tuple[str, object]], data: st.DataObject) -> None:
    model, registry = Model(), Registry()
    waiting: list[Row] = []
    for step, subject in steps:
        if step == "junk":
            waiting += model.add_junk(*subject)  # type: ignore[misc]
        elif step == "drop":
            waiting += model.drop(subject)  # type: ignore[arg-type]
        elif unique(subject, model):  # type: ignore[arg-type]
            waiting += model.put(subject)  # type: ignore[arg-type]
        if data.draw(st.booleans()):
            registry.apply(waiting)
            waiting = []
            compare(registry, model)
    registry.apply(waiting)
    compare(registry, model)
    assert registry.ignored == model.junk
    again = Registry()
    live = {key_of(entry, version) for version, entry in model.live.values()}
    again.apply(row for row in model.rows if json.loads(row.text)["key"] in live and b'"ADD"' in row.text)
    compare(again, model)


def test_the_version_grows_with_what_alters_rights_and_with_nothing_else() -> None:
    model, registry = Model(), Registry(41)
    user = User("ada", "user", 1)
    token = Token("t_1", "ada", "", "session", "hash", ("read",), 1)
    assert registry.apply([*model.put(user), *model.put(token)])
    assert registry.version == 42
    for entry in (
        msgspec.structs.replace(user, login_ms=5, title="Ada", password_hash="new"),
        msgspec.structs.replace(token, used_ms=5),
        Guard("admins"),
        Invitation("i_1", "notes", "reader", "code", None, 1),
    ):
        assert not registry.apply(model.put(entry))
    assert not registry.apply([])
    assert registry.version == 42
    assert registry.apply(model.put(msgspec.structs.replace(user, is_disabled=True)))
    assert registry.apply(model.drop(token))
    assert registry.version == 44


def test_an_end_that_passes_is_a_change_once() -> None:
    model, registry = Model(), Registry()
    registry.apply(model.put(Grant("g_1", "everyone", "notes", "reader", None, 1, expires_ms=100)))
    registry.apply(model.put(Token("t_1", "ada", "", "session", "hash", ("read",), 1, expires_ms=200)))
    version = registry.version
    assert [registry.expire(now_ms) for now_ms in (99, 100, 101, 199, 500, 501)] == [
        None,
        Concern.of_grant("everyone", "notes"),
        None,
        None,
        Concern.of_users(["ada"]),
        None,
    ]
    assert registry.version == version + 2


def test_a_change_says_whom_it_is_about() -> None:
    model, registry = Model(), Registry()
    token = Token("t_1", "ada", "", "session", "hash", ("read",), 1)
    grant = Grant("g_1", "group:poets", "notes", "reader", None, 1)
    assert registry.apply(model.put(User("ada", "user", 1))) == Concern.of_users(["ada"])
    assert registry.apply(model.put(token)) == NOTHING, "nobody has come with it yet"
    assert registry.apply(model.put(msgspec.structs.replace(token, stores=("notes",)))) == Concern.of_users(["ada"])
    assert registry.apply(model.put(Group("poets", 1, ("ada", "bob")))) == Concern.of_users(["ada", "bob"])
    assert registry.apply(model.put(Group("poets", 1, ("bob", "cy")))) == Concern.of_users(["ada", "cy"])
    assert registry.apply(model.put(grant)) == Concern.of_grant("group:poets", "notes")
    assert registry.apply([*model.drop(grant), *model.drop(token)]) == Concern(
        frozenset({"ada"}), frozenset({"poets"}), stores=None
    )


def test_a_record_with_members_of_a_later_version_is_understood_without_them() -> None:
    registry = Registry()
    text = encode_change(Seq(1), "user/ada/0", b'{"name":"ada","kind":"user","created_ms":1,"shoe_size":38}', 1)
    registry.apply([Row(Seq(1), Seq(1), text)])
    assert registry.users == {"ada": User("ada", "user", 1)}


def test_a_user_who_becomes_something_unknown_is_nobody() -> None:
    model, registry = Model(), Registry()
    registry.apply(model.put(User("ada", "user", 1, is_admin=True)))
    rows = model.drop(User("ada", "user", 1))
    text = encode_change(Seq(3), "user/ada/1", b'{"name":"ada","kind":"robot","created_ms":1}', 1)
    assert registry.apply([*rows, Row(Seq(3), Seq(3), text)])
    assert not registry.users
    assert not registry.has_admin
    assert registry.ignored == 1


def test_ends_of_what_is_no_more_do_not_gather() -> None:
    model, registry = Model(), Registry()
    registry.apply(model.put(Grant("g_1", "everyone", "notes", "reader", None, 1, expires_ms=9000)))
    for number in range(5000):
        token = Token(f"t_{number}", "ada", "", "session", f"h{number}", ("read",), 1, expires_ms=10_000 + number)
        registry.apply(model.put(token))
        if number != 4321:
            registry.apply(model.drop(token))
    assert len(registry._expiries) < 1100
    assert registry.expire(8999) is None
    assert registry.expire(9000) == Concern.of_grant("everyone", "notes")
    assert registry.expire(14_321) == Concern.of_users(["ada"])
